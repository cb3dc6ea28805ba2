//! The connector's end: dials one address of an edge over a carrier and carries out the handshake.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use rustls::crypto::CryptoProvider;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::carrier::memory::Network;
use crate::carrier::{ALPN, Closed, Congestion, Connection, Dial, DialFailure, Transport, quic, tcp};
use crate::code::CloseCode;
use crate::control::{Control, ControlError};
use crate::flow::{Budget, Sizes};
use crate::handshake;
use crate::identity::{PinVerifier, SERVER_NAME};
use crate::limits::HANDSHAKE_TIMEOUT;
use crate::message::{Message, Refused, Retry};
use crate::proof::EXPORTER_LABEL;
use crate::session::{Role, Session, SessionId, SessionInfo};
use crate::token::{ConnectorId, Token};

/// Dials edges for one connector.
#[derive(Debug)]
pub struct Dialer {
    token: Token,
    connector: ConnectorId,
    host: String,
    dial: Dial,
    /// There when `dial` goes by UDP.
    by_tcp: Option<Dial>,
    budget: Budget,
}

/// A TCP connection that leads to an edge by way of somebody else, who has nothing more to say on it.
#[derive(Debug)]
pub struct Relayed {
    pub stream: TcpStream,
    /// What was read of it beyond the relay's own words.
    pub first: Bytes,
    /// To the edge and back, about.
    pub round_trip: Duration,
    /// The edge and its way, for people.
    pub to: String,
}

/// Why a dial brought no session. `address` is what was dialled, for people.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    #[error("cannot open a socket")]
    Socket(#[source] io::Error),
    #[error(
        "{address} does not answer: check that the edge runs and that {} to its tunnel port is not blocked",
        match .transport { Transport::Quic => "UDP", Transport::Tcp => "TCP" }
    )]
    Unreachable { address: String, transport: Transport },
    #[error(
        "the edge at {address} is not the one that this token was made by (its key does not match the token's pin)"
    )]
    WrongEdge { address: String },
    #[error("the edge at {address} refused this connector: {}", .refused.reason)]
    Refused { address: String, refused: Refused },
    #[error("the connection to {address} failed: {reason}")]
    Failed { address: String, reason: String },
}

impl DialError {
    /// Whether the same token can ever succeed without somebody changing something.
    pub fn retry(&self) -> Retry {
        match self {
            Self::Refused { refused, .. } => refused.retry,
            Self::WrongEdge { .. } => Retry::Permanent,
            _ => Retry::Temporary,
        }
    }
}

impl Dialer {
    /// `host` is this machine's name, for people.
    ///
    /// # Errors
    /// When the TLS provider cannot do TLS 1.3.
    pub fn new(
        token: Token,
        connector: ConnectorId,
        host: String,
        provider: Arc<CryptoProvider>,
    ) -> Result<Self, rustls::Error> {
        let verifier = PinVerifier { pin: token.pin, provider: Arc::clone(&provider) };
        let mut tls = rustls::ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_no_client_auth();
        tls.alpn_protocols = vec![ALPN.to_vec()];
        tls.enable_early_data = false;
        let by_tcp = Some(Dial::Tcp(tcp::Dial::new(tls.clone(), SERVER_NAME)?));
        let dial = Dial::Quic(quic::Dial::new(tls, SERVER_NAME)?);
        Ok(Self { token, connector, host, dial, by_tcp, budget: Budget::default() })
    }

    /// Dials inside this process, whatever the address says.
    pub fn within(network: Network, token: Token, connector: ConnectorId, host: String) -> Self {
        Self { token, connector, host, dial: Dial::Memory(network), by_tcp: None, budget: Budget::default() }
    }

    /// What its sessions' streams take their windows from, instead of a part of the machine's memory for this dialer alone.
    #[must_use]
    pub fn with_budget(self, budget: Budget) -> Self {
        self.dial.set_budget(budget.clone());
        Self { budget, ..self }
    }

    /// How its connections find out what the line takes.
    #[must_use]
    pub fn with_congestion(mut self, congestion: Congestion) -> Self {
        if let Dial::Quic(dial) = &mut self.dial {
            dial.set_congestion(congestion);
        }
        if let Some(Dial::Tcp(dial)) = &mut self.by_tcp {
            dial.set_congestion(congestion);
        }
        self
    }

    pub fn token(&self) -> &Token {
        &self.token
    }

    pub fn connector(&self) -> ConnectorId {
        self.connector
    }

    /// Dials once, over QUIC. Cancel safe: a dropped dial leaves nothing behind.
    ///
    /// # Errors
    /// See [`DialError`]; an address that does not answer is given up after a few seconds.
    pub async fn dial(&self, address: SocketAddr, role: Role) -> Result<(Session, Control), DialError> {
        self.dial_over(Transport::Quic, address, role).await
    }

    /// As [`Dialer::dial`], over this; inside this process it makes no difference.
    ///
    /// # Errors
    /// As [`Dialer::dial`].
    pub async fn dial_over(
        &self,
        transport: Transport,
        address: SocketAddr,
        role: Role,
    ) -> Result<(Session, Control), DialError> {
        let dial = match (transport, &self.by_tcp) {
            (Transport::Tcp, Some(by_tcp)) => by_tcp,
            _ => &self.dial,
        };
        let connection = Box::pin(dial.connect(address, role.keep_alive()));
        self.shake(connection, &address.to_string(), role, transport).await
    }

    /// As [`Dialer::dial_over`] TCP, by a connection that somebody else has made.
    ///
    /// # Errors
    /// As [`Dialer::dial`].
    pub async fn dial_relayed(&self, by: Relayed, role: Role) -> Result<(Session, Control), DialError> {
        let Relayed { stream, first, round_trip, to } = by;
        let connection = Box::pin(async {
            let dial = self.by_tcp.as_ref().unwrap_or(&self.dial);
            let connection = dial.over(stream, first, round_trip, role.keep_alive()).await;
            connection.unwrap_or_else(|| Err(DialFailure::Other("nothing is dialled here".to_owned())))
        });
        self.shake(connection, &to, role, Transport::Tcp).await
    }

    /// From the first packet to the edge's welcome.
    async fn shake(
        &self,
        connection: impl Future<Output = Result<Connection, DialFailure>>,
        address: &str,
        role: Role,
        transport: Transport,
    ) -> Result<(Session, Control), DialError> {
        let shaken = timeout(HANDSHAKE_TIMEOUT, async {
            let connection = connection.await.map_err(|failure| dial_error(failure, address, transport))?;
            self.greet(connection, address, role, transport).await
        });
        let silent = || Err(DialError::Unreachable { address: address.to_owned(), transport });
        shaken.await.unwrap_or_else(|_| silent())
    }

    async fn greet(
        &self,
        connection: Connection,
        address: &str,
        role: Role,
        transport: Transport,
    ) -> Result<(Session, Control), DialError> {
        let failed = |reason: String| DialError::Failed { address: address.to_owned(), reason };
        let exporter = connection.exporter(EXPORTER_LABEL, self.token.tunnel.0.as_bytes());
        let opened = connection.open().await;
        let (send, recv) =
            opened.map_err(|closed| dial_error(DialFailure::Closed(closed), address, transport))?;
        let mut control = Control::new(send, recv);
        let hello = handshake::hello(&self.token, self.connector, role, &self.host, &exporter);
        let lost = |e: ControlError| failed(e.to_string());
        control.send(&Message::Hello(hello)).await.map_err(lost)?;
        let welcome = match control.recv().await.map_err(lost)? {
            Some(Message::Welcome(welcome)) => welcome,
            Some(Message::Refused(refused)) => {
                connection.close(CloseCode::Done, "");
                connection.settled().await;
                return Err(DialError::Refused { address: address.to_owned(), refused });
            }
            _ => {
                return Err(failed(
                    "the edge's first message was neither a welcome nor a refusal".to_owned(),
                ));
            }
        };
        control.trust();
        let info = SessionInfo {
            id: SessionId(u64::from_str_radix(&welcome.session, 16).unwrap_or_default()),
            tunnel: self.token.tunnel,
            tunnel_name: welcome.tunnel_name,
            connector: self.connector,
            role,
            shard: welcome.shard,
            shards: welcome.shards.max(1),
            version: welcome.version,
            peer_software: welcome.software,
            peer_host: String::new(),
            remote: connection.remote(),
            granted: welcome.granted,
            since: Instant::now(),
        };
        let opened = Session::dialled(info, connection, self.budget.clone(), Sizes::default()).await;
        let (session, courier) = opened.map_err(|error| failed(error.to_string()))?;
        courier.spawn();
        Ok((session, control))
    }
}

fn dial_error(failure: DialFailure, address: &str, transport: Transport) -> DialError {
    let address = address.to_owned();
    match failure {
        DialFailure::Socket(error) => DialError::Socket(error),
        DialFailure::WrongPeer => DialError::WrongEdge { address },
        DialFailure::Closed(Closed::Silent | Closed::Forgotten) => {
            DialError::Unreachable { address, transport }
        }
        DialFailure::Closed(Closed::ByPeer(_, reason)) | DialFailure::Other(reason) => {
            DialError::Failed { address, reason }
        }
        DialFailure::Closed(closed) => DialError::Failed { address, reason: closed.to_string() },
    }
}
