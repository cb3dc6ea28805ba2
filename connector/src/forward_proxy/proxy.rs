//! One proxy: asked for connections to edges.

use std::time::Duration;

use bytes::Bytes;
use causeway_tunnel::dial::Relayed;
use causeway_tunnel::limits::ANSWER_TIMEOUT;
use parking_lot::Mutex;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

use super::address::{Address, Credentials, Scheme};
use super::error::{Cause, ProxyError};
use super::{http, socks};

/// One proxy, with what it is to know us by.
#[derive(Debug)]
pub(crate) struct Proxy {
    pub(crate) address: Address,
    credentials: Option<Credentials>,
    /// When it last refused them. They are not shown to it again at once: it may lock the account.
    refused: Mutex<Option<(Instant, Cause)>>,
}

impl Proxy {
    pub(crate) fn new(address: Address, credentials: Option<Credentials>) -> Self {
        Self { address, credentials, refused: Mutex::default() }
    }

    /// A connection to an edge `host:port`, whose name the proxy resolves. Cancel safe.
    ///
    /// # Errors
    /// See [`ProxyError`]; a proxy that does not answer is given up after a few seconds.
    pub(crate) async fn open(&self, edge: &str) -> Result<Relayed, ProxyError> {
        let failed = |cause| ProxyError { proxy: self.address.to_string(), edge: edge.to_owned(), cause };
        if let Some((since, cause)) = &*self.refused.lock()
            && since.elapsed() < FORBEARANCE
        {
            return Err(failed(cause.clone()));
        }
        let (host, port) = (self.address.host.as_str(), self.address.port);
        let connected = timeout(ANSWER_TIMEOUT, TcpStream::connect((host, port))).await;
        let stream = match connected {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return Err(failed(Cause::Unreachable(error.to_string()))),
            Err(_) => return Err(failed(Cause::Unreachable("nobody answers".to_owned()))),
        };
        let since = Instant::now();
        let asked = timeout(PATIENCE, async {
            match self.address.scheme {
                Scheme::Http => http::connect(stream, edge, self.credentials.as_ref()).await,
                Scheme::Socks5 => {
                    let opened = socks::connect(stream, edge, self.credentials.as_ref()).await;
                    opened.map(|stream| (stream, Bytes::new()))
                }
            }
        });
        match asked.await.unwrap_or(Err(Cause::Silent(PATIENCE))) {
            Ok((stream, first)) => {
                *self.refused.lock() = None;
                let to = format!("{edge} through the proxy {}", self.address);
                Ok(Relayed { stream, first, round_trip: since.elapsed(), to })
            }
            Err(cause) => {
                if cause.is_of_credentials() {
                    *self.refused.lock() = Some((Instant::now(), cause.clone()));
                }
                Err(failed(cause))
            }
        }
    }
}

/// A proxy resolves the edge's name and connects to it before it answers.
const PATIENCE: Duration = Duration::from_secs(8);
/// Directories lock an account after some wrong passwords in some minutes, and there are two sessions that dial.
const FORBEARANCE: Duration = Duration::from_secs(300);

#[cfg(test)]
mod tests {
    use causeway_daemon::config::Secret;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    const EDGE: &str = "edge.example.dev:443";

    /// A proxy that says these words, each after it has heard something, and then keeps the connection; what it heard comes back.
    async fn says(
        scheme: Scheme,
        user: Option<&str>,
        words: &[&[u8]],
    ) -> (Result<Relayed, ProxyError>, Vec<u8>, Proxy) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let address = Address { scheme, host: "127.0.0.1".to_owned(), port };
        let password = Secret::new("s3cret");
        let credentials = user.map(|user| Credentials { user: user.to_owned(), password });
        let proxy = Proxy::new(address, credentials);
        let script = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let (mut heard, mut piece) = (Vec::new(), [0; 1024]);
            for word in words {
                let count = stream.read(&mut piece).await.unwrap();
                heard.extend_from_slice(&piece[..count]);
                stream.write_all(word).await.unwrap();
            }
            (heard, stream)
        };
        let (opened, (heard, _stream)) = tokio::join!(proxy.open(EDGE), script);
        (opened, heard, proxy)
    }

    async fn refused(scheme: Scheme, user: Option<&str>, words: &[&[u8]]) -> String {
        let (opened, _, proxy) = says(scheme, user, words).await;
        let error = opened.unwrap_err();
        assert!(!format!("{error} {error:?} {proxy:?}").contains("s3cret"), "{error:?} {proxy:?}");
        error.to_string().replace(&proxy.address.to_string(), "P")
    }

    #[tokio::test]
    async fn an_http_proxy_is_asked_by_connect_and_what_comes_behind_its_answer_is_kept() {
        let answer: &[u8] = b"HTTP/1.1 200 Connection established\r\nVia: 1.1 p\r\n\r\nearly";
        let (opened, heard, _) = says(Scheme::Http, Some("me"), &[answer]).await;
        let opened = opened.unwrap();
        assert_eq!(&opened.first[..], b"early");
        assert!(
            opened.to.starts_with("edge.example.dev:443 through the proxy http://127.0.0.1:"),
            "{}",
            opened.to
        );
        let heard = String::from_utf8(heard).unwrap();
        assert_eq!(
            heard.to_lowercase(),
            "connect edge.example.dev:443 http/1.1\r\nhost: edge.example.dev:443\r\nproxy-authorization: basic bwu6czncmv0\r\n\r\n"
                .replace("bwu6czncmv0", &base64_of("me:s3cret").to_lowercase()),
            "{heard}"
        );
    }

    fn base64_of(text: &str) -> String {
        use base64::Engine;
        base64::engine::general_purpose::STANDARD.encode(text)
    }

    #[tokio::test]
    async fn what_an_http_proxy_answers_instead_is_told_with_its_mend() {
        let http = Scheme::Http;
        for (user, answer, told) in [
            (
                None,
                &b"HTTP/1.1 407 Proxy Authentication Required\r\ncontent-length: 2\r\n\r\nno"[..],
                "the proxy P asks who comes (407 Proxy Authentication Required): write a user into `proxy`",
            ),
            (
                Some("me"),
                b"HTTP/1.0 407 Nope\r\n\r\n",
                "the proxy P does not take the user and password (407 ",
            ),
            (
                Some("me"),
                b"HTTP/1.0 401 Unauthorized\r\n\r\n",
                "the proxy P does not take the user and password (401 ",
            ),
            (
                None,
                b"HTTP/1.1 403 Filtered\r\n\r\n",
                "the proxy P lets nobody through to edge.example.dev:443 (403 Forbidden): have",
            ),
            (None, b"HTTP/1.1 503 Away\r\n\r\n", "the proxy P does not reach edge.example.dev:443 (503 "),
            (
                None,
                b"HTTP/1.1 500 Oh\r\n\r\n",
                "the proxy P opens no connection to edge.example.dev:443 (500 ",
            ),
            (None, b"SSH-2.0-OpenSSH_9.2\r\n", "what answers as the proxy P is none of that kind ("),
        ] {
            let error = refused(http, user, &[answer]).await;
            assert!(error.starts_with(told), "{told:?} in {error:?}");
        }
    }

    #[tokio::test]
    async fn an_answer_without_end_is_given_up() {
        static HEAD: &[u8] = b"HTTP/1.1 200 OK\r\nx: ";
        static ENDLESS: [u8; 64 << 10] = [b'x'; 64 << 10];
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = Address {
            scheme: Scheme::Http,
            host: "127.0.0.1".to_owned(),
            port: listener.local_addr().unwrap().port(),
        };
        let proxy = Proxy::new(address, None);
        let endless = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.write_all(HEAD).await.unwrap();
            while stream.write_all(&ENDLESS).await.is_ok() {}
        };
        let (opened, ()) = tokio::join!(proxy.open(EDGE), endless);
        assert!(matches!(opened.unwrap_err().cause, Cause::Foreign(_)));
    }

    #[tokio::test]
    async fn a_socks_proxy_is_given_the_name_and_the_user() {
        let granted: &[u8] = b"\x05\x00\x00\x01\x0a\x00\x00\x01\x00\x50";
        let (opened, heard, _) = says(Scheme::Socks5, Some("me"), &[b"\x05\x02", b"\x01\x00", granted]).await;
        opened.unwrap();
        let mut asked = b"\x05\x01\x02\x01\x02me\x06s3cret\x05\x01\x00\x03\x10edge.example.dev".to_vec();
        asked.extend(443_u16.to_be_bytes());
        assert_eq!(heard, asked);
        let (opened, ..) = says(Scheme::Socks5, None, &[b"\x05\x00", granted]).await;
        opened.unwrap();
    }

    #[tokio::test]
    async fn what_a_socks_proxy_answers_instead_is_told_with_its_mend() {
        let socks = Scheme::Socks5;
        let error = refused(socks, Some("me"), &[b"\x05\x02", b"\x01\x01"]).await;
        assert!(
            error.starts_with(
                "the proxy P does not take the user and password (credentials not accepted): check"
            ),
            "{error}"
        );
        let error = refused(socks, Some("me"), &[b"\x05\xff"]).await;
        assert!(error.starts_with("the proxy P does not take the user and password"), "{error}");
        let error = refused(socks, None, &[b"\x05\xff"]).await;
        assert!(
            error.starts_with("the proxy P asks who comes (no method is acceptable): write a user"),
            "{error}"
        );
        let error = refused(socks, None, &[b"\x05\x00", b"\x05\x02\x00\x01\0\0\0\0\0\0"]).await;
        assert!(
            error.starts_with(
                "the proxy P lets nobody through to edge.example.dev:443 (connection not allowed)"
            ),
            "{error}"
        );
        for (code, words) in [
            (b"\x05\x04\x00\x01\0\0\0\0\0\0", "host unreachable"),
            (b"\x05\x01\x00\x01\0\0\0\0\0\0", "general server failure"),
        ] {
            let error = refused(socks, None, &[b"\x05\x00", code]).await;
            assert!(
                error.starts_with(&format!("the proxy P does not reach edge.example.dev:443 ({words})")),
                "{error}"
            );
        }
        let error = refused(socks, None, &[b"HTTP/1.1 400 Bad Request\r\n\r\n"]).await;
        assert!(error.starts_with("what answers as the proxy P is none of that kind"), "{error}");
    }

    #[tokio::test]
    async fn a_password_that_was_refused_is_not_shown_again_at_once() {
        let (opened, _, proxy) = says(Scheme::Http, Some("me"), &[b"HTTP/1.1 407 No\r\n\r\n"]).await;
        // Nobody listens there any more: the answer is the one that is known.
        assert_eq!(proxy.open(EDGE).await.unwrap_err(), opened.unwrap_err());
        let (opened, _, proxy) = says(Scheme::Http, Some("me"), &[b"HTTP/1.1 503 Away\r\n\r\n"]).await;
        assert!(matches!(opened.unwrap_err().cause, Cause::EdgeAway(_)));
        assert!(matches!(proxy.open(EDGE).await.unwrap_err().cause, Cause::Unreachable(_)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_proxy_that_says_nothing_is_given_up() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        for scheme in [Scheme::Http, Scheme::Socks5] {
            let proxy = Proxy::new(Address { scheme, host: "127.0.0.1".to_owned(), port }, None);
            let error = proxy.open(EDGE).await.unwrap_err();
            assert!(error.to_string().contains("has no answer within 8 s"), "{error}");
        }
    }
}
