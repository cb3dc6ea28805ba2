//! The first thing that a TLS client says, read and kept byte for byte, so that whoever the connection is for can read it
//! again; and the one word that turns a client away before a handshake.

use std::io;
use std::sync::Arc;

use causeway_tunnel::Host;
use rustls::ServerConfig;
use rustls::server::{Accepted, Acceptor};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio_rustls::StartHandshake;

/// What a connection began with.
#[derive(Debug)]
pub enum Spoken {
    Tls(TlsHello),
    /// Something that begins like a method, not like a TLS record; as much of it as was read.
    Text(Vec<u8>),
}

/// A whole ClientHello.
#[derive(Debug)]
pub struct TlsHello {
    /// Large, and in the way of the connection's task from then on.
    pub(super) accepted: Box<Accepted>,
    /// All that was read from the client.
    pub(super) bytes: Vec<u8>,
}

/// Fatal, and in clear: before our hello all is.
#[derive(Clone, Copy, Debug)]
#[repr(u8)]
pub enum Alert {
    InternalError = 80,
    UnrecognizedName = 112,
    NoApplicationProtocol = 120,
}

/// rustls takes no more at once; most hellos are half as long.
const READ_BYTES: usize = 4096;

impl Spoken {
    /// Waits for the client. Give it a deadline. Not cancel safe.
    ///
    /// # Errors
    /// When the client goes away, or says what is no ClientHello; then it has been told so.
    pub async fn read<T>(io: &mut T) -> io::Result<Self>
    where
        T: AsyncRead + AsyncWrite + Unpin,
    {
        let mut acceptor = Acceptor::default();
        let mut bytes = Vec::new();
        loop {
            let read_before = bytes.len();
            bytes.reserve(READ_BYTES);
            if (&mut *io).take(READ_BYTES as u64).read_buf(&mut bytes).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            if bytes[0].is_ascii_alphabetic() {
                return Ok(Self::Text(bytes));
            }
            let mut fresh = &bytes[read_before..];
            acceptor.read_tls(&mut fresh)?;
            if !fresh.is_empty() {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "a hello without an end"));
            }
            match acceptor.accept() {
                Ok(Some(accepted)) => {
                    let accepted = Box::new(accepted);
                    return Ok(Self::Tls(TlsHello { accepted, bytes }));
                }
                Ok(None) => {}
                Err((error, mut alert)) => {
                    let mut words = Vec::new();
                    alert.write_all(&mut words)?;
                    io.write_all(&words).await?;
                    return Err(io::Error::new(io::ErrorKind::InvalidData, error));
                }
            }
        }
    }
}

impl TlsHello {
    /// The name that the client came for; none also when it is none that we could have.
    pub fn name(&self) -> Option<Host> {
        Host::name(self.accepted.client_hello().server_name()?).ok()
    }

    /// Whether this is the application protocol that the client would like best.
    pub fn prefers(&self, protocol: &[u8]) -> bool {
        self.accepted.client_hello().alpn().and_then(|mut offered| offered.next()) == Some(protocol)
    }

    /// Whether this is the one application protocol that the client speaks.
    pub fn speaks_only(&self, protocol: &[u8]) -> bool {
        self.accepted.client_hello().alpn().is_some_and(|offered| offered.eq([protocol]))
    }

    /// Shakes hands by `config` and ends the connection. Give it a deadline: it waits for the client.
    ///
    /// # Errors
    /// When there is no handshake.
    pub async fn show<T>(self, config: Arc<ServerConfig>, io: T) -> io::Result<()>
    where
        T: AsyncRead + AsyncWrite + Unpin,
    {
        let mut stream = StartHandshake::from_parts(*self.accepted, io).into_stream(config).await?;
        stream.shutdown().await
    }

    /// What a server behind this one has to be given first.
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }
}

impl Alert {
    /// Ends the connection. If the alert does not arrive it ends all the same.
    pub async fn send<T: AsyncWrite + Unpin>(self, io: &mut T) {
        let _ = io.write_all(&self.record()).await;
        let _ = io.shutdown().await;
    }

    pub fn record(self) -> [u8; 7] {
        [21, 3, 3, 0, 2, 2, self as u8]
    }
}

#[cfg(test)]
pub(super) mod tests {
    use causeway_daemon::tls::provider;
    use rustls::{ClientConfig, ClientConnection, RootCertStore};

    use super::*;

    pub fn hello(name: &'static str, protocols: &[&[u8]]) -> Vec<u8> {
        let mut config = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(RootCertStore::empty())
            .with_no_client_auth();
        config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
        let mut client = ClientConnection::new(Arc::new(config), name.try_into().unwrap()).unwrap();
        let mut bytes = Vec::new();
        client.write_tls(&mut bytes).unwrap();
        bytes
    }

    #[tokio::test]
    async fn a_hello_in_many_pieces_is_kept_byte_for_byte() {
        let said = hello("a.example", &[b"h2", b"http/1.1"]);
        let (mut ours, mut theirs) = tokio::io::duplex(7);
        let (spoken, _) = tokio::join!(Spoken::read(&mut ours), theirs.write_all(&said));
        let Spoken::Tls(hello) = spoken.unwrap() else { panic!("it is TLS") };
        assert_eq!(hello.name(), Host::name("a.example").ok());
        assert!(hello.prefers(b"h2") && !hello.prefers(b"http/1.1"));
        assert_eq!(hello.into_bytes(), said);
    }

    #[tokio::test]
    async fn text_is_told_from_tls_by_its_first_byte_and_rubbish_is_answered_with_an_alert() {
        let (mut ours, mut theirs) = tokio::io::duplex(100);
        theirs.write_all(b"GET / HTTP/1.1\r\n").await.unwrap();
        let spoken = Spoken::read(&mut ours).await.unwrap();
        assert!(matches!(spoken, Spoken::Text(text) if text == b"GET / HTTP/1.1\r\n"));

        // A hello of one byte.
        theirs.write_all(&[22, 3, 1, 0, 5, 1, 0, 0, 1, 0]).await.unwrap();
        Spoken::read(&mut ours).await.unwrap_err();
        drop(ours);
        let mut alert = Vec::new();
        theirs.read_to_end(&mut alert).await.unwrap();
        assert_eq!((alert[0], alert[5]), (21, 2), "a fatal alert: {alert:?}");
    }
}
