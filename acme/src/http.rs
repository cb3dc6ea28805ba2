//! HTTPS requests to one authority: bounded in time and size, and what the answers say about waiting is remembered.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use causeway_daemon::tls::provider;
use http::header::RETRY_AFTER;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use parking_lot::Mutex;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use tokio::time::timeout;

use crate::settings::Directory;

#[derive(Debug)]
pub(crate) struct Http {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    /// What an answer told us last about coming later.
    later: Mutex<Later>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Later {
    /// With something of what we asked (429): of a name, of an account.
    limited: Option<SystemTime>,
    /// With anything at all (503).
    closed: Option<SystemTime>,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum HttpError {
    #[error("cannot read the roots in {0}")]
    Roots(String),
    #[error(
        "this machine has no root certificates to know the authority by: install ca-certificates, or name a `caFile`"
    )]
    NoRoots,
    #[error("{0}")]
    Failed(String),
    #[error("no answer within {} s", TIMEOUT.as_secs())]
    Timeout,
}

/// Authorities sign within seconds.
const TIMEOUT: Duration = Duration::from_secs(30);
/// A chain has a few kilobytes, and so has a directory.
const MAX_ANSWER_BYTES: usize = 256 << 10;

impl Http {
    /// # Errors
    /// When there are no roots to trust.
    pub(crate) fn new(directory: &Directory) -> Result<Self, HttpError> {
        let mut roots = RootCertStore::empty();
        match &directory.ca_file {
            Some(path) => {
                let unreadable =
                    |error: &dyn std::fmt::Display| HttpError::Roots(format!("{}: {error}", path.display()));
                for root in CertificateDer::pem_file_iter(path).map_err(|error| unreadable(&error))? {
                    let root = root.map_err(|error| unreadable(&error))?;
                    roots.add(root).map_err(|error| unreadable(&error))?;
                }
            }
            None => {
                let found = rustls_native_certs::load_native_certs();
                let _ = roots.add_parsable_certificates(found.certs);
            }
        }
        if roots.is_empty() {
            return Err(HttpError::NoRoots);
        }
        let config = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .expect("the provider has suites for both versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        let connector =
            HttpsConnectorBuilder::new().with_tls_config(config).https_only().enable_http1().build();
        let client = Client::builder(TokioExecutor::new()).build(connector);
        Ok(Self { client, later: Mutex::default() })
    }

    /// # Errors
    /// When there is no whole answer in time; any status is an answer.
    pub(crate) async fn send(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let sent = async {
            let response =
                self.client.request(request.map(Full::new)).await.map_err(|error| failed(&error))?;
            let (head, body) = response.into_parts();
            let body = Limited::new(body, MAX_ANSWER_BYTES).collect().await;
            let body = body.map_err(|error| HttpError::Failed(error.to_string()))?.to_bytes();
            Ok(Response::from_parts(head, body))
        };
        let response = timeout(TIMEOUT, sent).await.unwrap_or(Err(HttpError::Timeout))?;
        let later = || retry_after(response.headers(), SystemTime::now());
        match response.status() {
            StatusCode::TOO_MANY_REQUESTS => self.later.lock().limited = later(),
            StatusCode::SERVICE_UNAVAILABLE => self.later.lock().closed = later(),
            _ => {}
        }
        Ok(response)
    }

    /// How long the last rate limit lasts.
    pub(crate) fn limited(&self) -> Option<Duration> {
        from_now(self.later.lock().limited)
    }

    /// How long the authority wants to be left alone altogether.
    pub(crate) fn closed(&self) -> Option<Duration> {
        from_now(self.later.lock().closed)
    }
}

fn from_now(until: Option<SystemTime>) -> Option<Duration> {
    until?.duration_since(SystemTime::now()).ok().filter(|wait| !wait.is_zero())
}

/// The error and its causes in one line: the client's own says only "client error (Connect)".
fn failed(error: &dyn std::error::Error) -> HttpError {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    HttpError::Failed(text)
}

/// Seconds or a date (RFC 9110 section 10.2.3).
fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<SystemTime> {
    let value = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    match value.parse::<u32>() {
        Ok(seconds) => now.checked_add(Duration::from_secs(seconds.into())),
        Err(_) => httpdate::parse_http_date(value).ok(),
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn how_long_to_wait_is_read_in_both_forms_and_rubbish_is_none() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_700);
        let read = |value: &'static str| {
            let headers = HeaderMap::from_iter([(RETRY_AFTER, HeaderValue::from_static(value))]);
            retry_after(&headers, now).map(|at| at.duration_since(now).unwrap_or_default())
        };
        assert_eq!(read("120"), Some(Duration::from_secs(120)));
        assert_eq!(read("Sun, 06 Nov 1994 08:49:37 GMT"), Some(Duration::from_secs(77)));
        assert_eq!(read("99999999999999999999"), None);
        assert_eq!(read("soon"), None);
    }
}
