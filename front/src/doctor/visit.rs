//! A visit, as anybody could pay it: to a port, to what TLS shows there, to what HTTP says.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use causeway_daemon::doctor::Finding;
use http::header::{CONNECTION, DATE, HOST, USER_AGENT};
use http::{Request, StatusCode};
use http_body_util::Empty;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::{AlertDescription, Error};
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::PATIENCE;
use super::shown::{self, Shown, Verdict};
use crate::unix_now;

/// What the head of an answer said.
#[derive(Clone, Debug)]
pub struct Head {
    pub status: StatusCode,
    pub date: Option<SystemTime>,
}

/// Why TLS showed nothing.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("no connection: {0}")]
    Connect(io::Error),
    #[error("it has no certificate for the name")]
    NoCertificate,
    #[error("the handshake failed: {0}")]
    Failed(io::Error),
    #[error("`{0}` cannot be a name in TLS")]
    Name(String),
}

/// How long a TCP connection took.
///
/// # Errors
/// When there is none in time.
pub async fn tcp(address: SocketAddr) -> io::Result<Duration> {
    let since = Instant::now();
    connect(address).await.map(|_| since.elapsed())
}

/// Asks for `/` by plain HTTP.
///
/// # Errors
/// When there is no answer in time.
pub async fn http(address: SocketAddr, host: &str) -> io::Result<Head> {
    let stream = connect(address).await?;
    let asked = async {
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
        let request = Request::get("/")
            .header(HOST, host)
            .header(USER_AGENT, "causeway-doctor")
            .header(CONNECTION, "close")
            .body(Empty::<Bytes>::new())
            .map_err(io::Error::other)?;
        let mut answer = std::pin::pin!(sender.send_request(request));
        tokio::select! {
            answer = &mut answer => return answer.map_err(io::Error::other),
            // It is over, so that all there is to read has arrived.
            _ = connection => {}
        }
        answer.await.map_err(io::Error::other)
    };
    let answer = timeout(PATIENCE, asked).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))?;
    let date = answer.headers().get(DATE).and_then(|date| date.to_str().ok());
    Ok(Head { status: answer.status(), date: date.and_then(|date| httpdate::parse_http_date(date).ok()) })
}

/// Shakes hands for a name, and says nothing.
///
/// # Errors
/// When no certificate was shown.
pub async fn tls(address: SocketAddr, name: &str) -> Result<Shown, TlsError> {
    let server = ServerName::try_from(name.to_owned()).map_err(|_| TlsError::Name(name.to_owned()))?;
    let stream = connect(address).await.map_err(TlsError::Connect)?;
    let (config, look) = shown::client();
    let handshake = TlsConnector::from(Arc::new(config)).connect(server, stream);
    let done = timeout(PATIENCE, handshake).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
    let seen = look.seen.lock().take();
    match (seen, done) {
        (Some(seen), _) => Ok(seen),
        (None, Err(error)) if is_unknown_name(&error) => Err(TlsError::NoCertificate),
        (None, Err(error)) => Err(TlsError::Failed(error)),
        (None, Ok(_)) => Err(TlsError::Failed(io::Error::other("no certificate was shown"))),
    }
}

/// What a visitor of the name sees, as a finding. `renew`: how a certificate that has ended is mended.
pub fn judge(name: &str, seen: &Result<Shown, TlsError>, renew: &str) -> Finding {
    let check = "certificate";
    let shown = match seen {
        Ok(shown) => shown,
        Err(error @ TlsError::NoCertificate) => return Finding::fault(check, name, error.to_string(), renew),
        Err(error) => {
            let mend = "look at the edge's log; TLS that passes through ends at the rule's service";
            return Finding::fault(check, name, error.to_string(), mend);
        }
    };
    let days = (shown.not_after - unix_now()).div_euclid(86_400);
    match &shown.verdict {
        Verdict::Ended => {
            Finding::fault(check, name, format!("the certificate ended {} days ago", -days), renew)
        }
        Verdict::NotYetValid => {
            let mend = "set this machine's clock, or wait until it is";
            Finding::fault(check, name, "the certificate is not valid yet", mend)
        }
        Verdict::OtherName => Finding::fault(check, name, "the certificate is for other names", renew),
        Verdict::Other(error) => Finding::fault(check, name, error, renew),
        Verdict::Trusted | Verdict::Private if days < SOON_DAYS => {
            Finding::warning(check, name, format!("the certificate ends in {days} days"), renew)
        }
        Verdict::Trusted => Finding::ok(check, name, format!("good for {days} days more")),
        Verdict::Private => {
            let cause = format!("good for {days} days more, and signed by nobody whom this machine trusts");
            Finding::note(check, name, cause)
        }
    }
}

/// Renewal by itself happens well before.
pub const SOON_DAYS: i64 = 14;

async fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    timeout(PATIENCE, TcpStream::connect(address))
        .await
        .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

fn is_unknown_name(error: &io::Error) -> bool {
    let cause = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>());
    matches!(cause, Some(Error::AlertReceived(AlertDescription::UnrecognisedName)))
}
