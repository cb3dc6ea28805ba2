//! The variables by which a machine's programs learn of its proxy: `HTTPS_PROXY`, `ALL_PROXY`, `NO_PROXY`, or in lower case. Of
//! two the upper case one counts, and `HTTPS_PROXY` before `ALL_PROXY`, as for cloudflared and curl's kin.

use std::net::IpAddr;
use std::sync::Arc;

use http::Uri;
use hyper_util::client::proxy::matcher::Matcher;

use super::{Address, Proxy};

/// What they say, read once.
#[derive(Debug, Default)]
pub(crate) struct Environment {
    proxy: Option<Arc<Proxy>>,
    /// hyper-util's reading of `NO_PROXY`: names with all below them, addresses, networks, `*`.
    except: Option<Matcher>,
    /// Why the variable that says something is not used. They are everybody's, so that a wrong one is no error of ours.
    pub(super) trouble: Option<String>,
}

impl Environment {
    pub(crate) fn of_process() -> Self {
        Self::read(|name| std::env::var(name).ok())
    }

    fn read(variable: impl Fn(&str) -> Option<String>) -> Self {
        // An empty one is as good as none.
        let first = |names: &[&'static str]| {
            names
                .iter()
                .find_map(|&name| Some((name, variable(name).filter(|text| !text.trim().is_empty())?)))
        };
        let Some((name, text)) = first(&["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"]) else {
            return Self::default();
        };
        match Address::parse(text.trim()) {
            Ok((address, credentials)) => {
                // What it would be asked for in our place is of no matter.
                let no = first(&["NO_PROXY", "no_proxy"]).map(|(_, no)| no).unwrap_or_default();
                let except = Matcher::builder().all("http://proxy").no(no).build();
                let proxy = Some(Arc::new(Proxy::new(address, credentials)));
                Self { proxy, except: Some(except), trouble: None }
            }
            Err(error) => {
                let trouble = format!("{name} is not used: {error}; {}", error.help());
                Self { trouble: Some(trouble), ..Self::default() }
            }
        }
    }

    /// Of an edge `host:port`. This machine itself is never reached through a proxy.
    pub(super) fn proxy(&self, edge: &str) -> Option<Arc<Proxy>> {
        let (proxy, except) = (self.proxy.as_ref()?, self.except.as_ref()?);
        let host = edge.rsplit_once(':').map_or(edge, |(host, _)| host);
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let is_here = bare.parse::<IpAddr>().map_or(bare == "localhost", |ip| ip.is_loopback());
        let to = Uri::builder().scheme("https").authority(edge).path_and_query("/").build().ok()?;
        (!is_here && except.intercept(&to).is_some()).then(|| Arc::clone(proxy))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(variables: &[(&str, &str)]) -> Environment {
        Environment::read(|name| {
            variables.iter().find(|(known, _)| *known == name).map(|(_, text)| (*text).to_owned())
        })
    }

    fn through(variables: &[(&str, &str)], edge: &str) -> Option<String> {
        of(variables).proxy(edge).map(|proxy| proxy.address.to_string())
    }

    #[test]
    fn the_usual_variables_name_the_proxy_and_whom_it_is_not_for() {
        let edge = "edge.example.dev:443";
        let told = |host: &str| Some(format!("http://{host}:3128"));
        assert_eq!(through(&[], edge), None);
        assert_eq!(through(&[("HTTP_PROXY", "http://h:3128")], edge), None, "the tunnel is TLS");
        assert_eq!(through(&[("all_proxy", "http://h:3128")], edge), told("h"));
        let both = [("ALL_PROXY", "http://all:3128"), ("https_proxy", "http://tls:3128")];
        assert_eq!(through(&both, edge), told("tls"));
        let empty = [("ALL_PROXY", "http://all:3128"), ("HTTPS_PROXY", "")];
        assert_eq!(through(&empty, edge), told("all"));
        for no in ["edge.example.dev", ".example.dev", "example.dev", "a.test, edge.example.dev", "*"] {
            assert_eq!(through(&[both[0], ("NO_PROXY", no)], edge), None, "{no}");
        }
        for no in ["ample.dev", "other.dev", "10.0.0.0/8"] {
            assert_eq!(through(&[both[0], ("no_proxy", no)], edge), told("all"), "{no}");
        }
        let network = [both[0], ("NO_PROXY", "10.0.0.0/8,fd00::/8")];
        assert_eq!(through(&network, "10.1.2.3:443"), None);
        assert_eq!(through(&network, "[fd00::1]:443"), None);
        assert_eq!(through(&network, "192.0.2.1:443"), told("all"));
        for here in ["localhost:443", "127.0.0.1:443", "[::1]:443"] {
            assert_eq!(through(&both, here), None, "{here}");
        }
    }

    #[test]
    fn a_wrong_variable_is_said_without_what_is_in_it() {
        let wrong = of(&[("HTTPS_PROXY", "https://me:s3cret@h:1")]);
        assert!(wrong.proxy("edge.example.dev:443").is_none());
        let trouble = wrong.trouble.unwrap();
        assert!(trouble.starts_with("HTTPS_PROXY is not used: TLS with the proxy"), "{trouble}");
        assert!(!trouble.contains("s3cret"), "{trouble}");
    }
}
