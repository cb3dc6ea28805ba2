//! Where a site is to be had by HTTP/3 (Alt-Svc, RFC 7838): said to visitors who came otherwise, while it is true.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use causeway_tunnel::{Authority, Scheme};
use http::{HeaderMap, HeaderValue, Version, header};

/// Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Offer {
    /// The UDP ports that speak HTTP/3, each with what is said of it.
    ports: Arc<[(u16, HeaderValue)]>,
    is_withdrawn: Arc<AtomicBool>,
}

/// For how long a visitor may believe it: a day, as hazard 97 has it.
const MAX_AGE_SECONDS: u32 = 86_400;

impl Offer {
    pub fn of(ports: impl IntoIterator<Item = u16>) -> Self {
        let said = |port| HeaderValue::from_str(&format!("h3=\":{port}\"; ma={MAX_AGE_SECONDS}")).ok();
        let ports = ports.into_iter().filter_map(|port| said(port).map(|said| (port, said))).collect();
        Self { ports, is_withdrawn: Arc::default() }
    }

    /// A port does not answer any more: who believes that it does is told otherwise.
    pub fn withdraw(&self) {
        self.is_withdrawn.store(true, Ordering::Relaxed);
    }

    /// What is said to who asks so. Only the port that he came by is offered: what others lead to from where he is,
    /// nobody knows.
    pub fn to(&self, version: Version, scheme: Scheme, headers: &HeaderMap) -> Option<HeaderValue> {
        if self.ports.is_empty() || version == Version::HTTP_3 || scheme != Scheme::Https {
            return None;
        }
        let authority = Authority::parse(headers.get(header::HOST)?.as_bytes()).ok()?;
        let port = authority.port.unwrap_or(443);
        let (_, said) = self.ports.iter().find(|(known, _)| *known == port)?;
        // What was said before is to be forgotten.
        let clear = || HeaderValue::from_static("clear");
        Some(if self.is_withdrawn.load(Ordering::Relaxed) { clear() } else { said.clone() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hazard_097_only_the_port_that_answers_is_offered() {
        let offer = Offer::of([443, 8443]);
        let said = |version, scheme, host: &'static str| {
            let headers = HeaderMap::from_iter([(header::HOST, HeaderValue::from_static(host))]);
            offer.to(version, scheme, &headers).map(|said| said.to_str().unwrap().to_owned())
        };
        let (h1, h2) = (Version::HTTP_11, Version::HTTP_2);
        assert_eq!(said(h2, Scheme::Https, "a.example").as_deref(), Some("h3=\":443\"; ma=86400"));
        assert_eq!(said(h1, Scheme::Https, "a.example:8443").as_deref(), Some("h3=\":8443\"; ma=86400"));
        assert_eq!(said(h2, Scheme::Https, "a.example:444"), None);
        assert_eq!(said(h1, Scheme::Http, "a.example"), None);
        assert_eq!(said(Version::HTTP_3, Scheme::Https, "a.example"), None);
        offer.withdraw();
        assert_eq!(said(h2, Scheme::Https, "a.example").as_deref(), Some("clear"));
        assert_eq!(said(h2, Scheme::Https, "a.example:444"), None);
    }
}
