//! The dialling end over TCP.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rustls::pki_types::ServerName;
use rustls::{CertificateError, Error};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsConnector;

use super::socket::{Meter, Socket, set_options};
use super::{Connection, closed_by};
use crate::carrier::{Closed, Congestion, DialFailure};
use crate::limits::ANSWER_TIMEOUT;

#[derive(Debug)]
pub(crate) struct Dial {
    tls: Arc<rustls::ClientConfig>,
    /// What is asked for in the handshake; the peer is known by its key.
    server_name: ServerName<'static>,
    congestion: Congestion,
}

impl Dial {
    /// # Errors
    /// When the name is none.
    pub(crate) fn new(tls: rustls::ClientConfig, server_name: &'static str) -> Result<Self, Error> {
        let server_name =
            ServerName::try_from(server_name).map_err(|error| Error::General(error.to_string()))?;
        Ok(Self { tls: Arc::new(tls), server_name, congestion: Congestion::default() })
    }

    pub(crate) fn set_congestion(&mut self, congestion: Congestion) {
        self.congestion = congestion;
    }

    pub(crate) async fn connect(
        &self,
        address: SocketAddr,
        keep_alive: Duration,
    ) -> Result<Connection, DialFailure> {
        let since = Instant::now();
        let connected = timeout(ANSWER_TIMEOUT, TcpStream::connect(address)).await;
        let Ok(connected) = connected else { return Err(DialFailure::Closed(Closed::Silent)) };
        let stream = connected.map_err(|error| match error.kind() {
            io::ErrorKind::ConnectionRefused => DialFailure::Closed(Closed::Forgotten),
            _ => DialFailure::Socket(error),
        })?;
        self.over(stream, Bytes::new(), since.elapsed(), keep_alive).await
    }

    /// Over a connection that is there. `first` is what was read of it already.
    pub(crate) async fn over(
        &self,
        stream: TcpStream,
        first: Bytes,
        round_trip: Duration,
        keep_alive: Duration,
    ) -> Result<Connection, DialFailure> {
        let remote = stream.peer_addr().map_err(DialFailure::Socket)?;
        set_options(&stream, self.congestion).map_err(DialFailure::Socket)?;
        let meter = Meter::new();
        let socket = Socket::new(first, stream, Arc::clone(&meter));
        let connector = TlsConnector::from(Arc::clone(&self.tls));
        let tls = connector.connect(self.server_name.clone(), socket).await.map_err(|error| {
            if is_pin_mismatch(&error) {
                DialFailure::WrongPeer
            } else {
                DialFailure::Closed(closed_by(&error))
            }
        })?;
        Connection::of_connector(tls.into(), meter, remote, round_trip, keep_alive)
            .await
            .map_err(DialFailure::Closed)
    }
}

/// Our verifier's refusal.
fn is_pin_mismatch(error: &io::Error) -> bool {
    let refused = Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure);
    error.get_ref().and_then(|error| error.downcast_ref::<Error>()) == Some(&refused)
}
