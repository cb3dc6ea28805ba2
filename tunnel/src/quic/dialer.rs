//! The connector's end: dials one address of an edge and carries out the handshake.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use quinn::crypto::rustls::QuicClientConfig;
use quinn::{ConnectionError, Endpoint, EndpointConfig, TokioRuntime, VarInt};
use rustls::crypto::CryptoProvider;
use tokio::time::timeout;

use super::{Reuse, UdpReport, bind, transport};
use crate::code::CloseCode;
use crate::handshake;
use crate::identity::{PinVerifier, SERVER_NAME};
use crate::limits::HANDSHAKE_TIMEOUT;
use crate::message::{Control, ControlError, Message, Refused, Retry};
use crate::proof::EXPORTER_LABEL;
use crate::session::{Carrier, Closed, Role, Session, SessionId, SessionInfo, closed};
use crate::token::{ConnectorId, Token};

/// Dials edges for one connector. Each session gets a UDP port of its own, so that the kernel can spread the sessions
/// of one connector over the edge's shards.
#[derive(Debug)]
pub struct Dialer {
    token: Token,
    connector: ConnectorId,
    host: String,
    config: quinn::ClientConfig,
}

/// Why a dial brought no session.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    #[error("cannot open a UDP socket")]
    Socket(#[source] io::Error),
    #[error(
        "{address} does not answer: check that the edge runs and that UDP to its tunnel port is not blocked"
    )]
    Unreachable { address: SocketAddr },
    #[error(
        "the edge at {address} is not the one that this token was made by (its key does not match the token's pin)"
    )]
    WrongEdge { address: SocketAddr },
    #[error("the edge at {address} refused this connector: {}", .refused.reason)]
    Refused { address: SocketAddr, refused: Refused },
    #[error("the connection to {address} failed: {reason}")]
    Failed { address: SocketAddr, reason: String },
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
        tls.alpn_protocols = vec![transport::ALPN.to_vec()];
        tls.enable_early_data = false;
        let crypto = QuicClientConfig::try_from(tls).map_err(|e| rustls::Error::General(e.to_string()))?;
        let mut config = quinn::ClientConfig::new(Arc::new(crypto));
        config.transport_config(transport::connector());
        Ok(Self { token, connector, host, config })
    }

    pub fn token(&self) -> &Token {
        &self.token
    }

    pub fn connector(&self) -> ConnectorId {
        self.connector
    }

    /// Dials once. Cancel safe: a dropped dial leaves nothing behind.
    ///
    /// # Errors
    /// See [`DialError`]; an address that does not answer is given up after a few seconds.
    pub async fn dial(&self, address: SocketAddr, role: Role) -> Result<(Session, Control), DialError> {
        let (endpoint, _) = client_endpoint(address).map_err(DialError::Socket)?;
        match timeout(HANDSHAKE_TIMEOUT, self.greet(endpoint, address, role)).await {
            Ok(result) => result,
            Err(_) => Err(DialError::Unreachable { address }),
        }
    }

    async fn greet(
        &self,
        endpoint: Endpoint,
        address: SocketAddr,
        role: Role,
    ) -> Result<(Session, Control), DialError> {
        let failed = |reason: String| DialError::Failed { address, reason };
        let connecting = endpoint
            .connect_with(self.config.clone(), address, SERVER_NAME)
            .map_err(|e| failed(e.to_string()))?;
        let connection = connecting.await.map_err(|e| connect_error(&e, address))?;
        let mut exporter = [0; 32];
        connection
            .export_keying_material(&mut exporter, EXPORTER_LABEL, self.token.tunnel.0.as_bytes())
            .expect("32 bytes can be exported from a finished TLS 1.3 handshake");
        let (send, recv) = connection.open_bi().await.map_err(|e| connect_error(&e, address))?;
        let mut control = Control::new(send, recv);
        let hello = handshake::hello(&self.token, self.connector, role, &self.host, &exporter);
        let lost = |e: ControlError| failed(e.to_string());
        control.send(&Message::Hello(hello)).await.map_err(lost)?;
        let welcome = match control.recv().await.map_err(lost)? {
            Some(Message::Welcome(welcome)) => welcome,
            Some(Message::Refused(refused)) => {
                connection.close(VarInt::from_u32(CloseCode::Done.to_u32()), b"");
                endpoint.wait_idle().await;
                return Err(DialError::Refused { address, refused });
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
            remote: address,
            since: Instant::now(),
        };
        Ok((Session::new(info, Carrier::Quic { connection, _endpoint: Some(endpoint) }), control))
    }
}

fn client_endpoint(towards: SocketAddr) -> io::Result<(Endpoint, UdpReport)> {
    let any: IpAddr =
        if towards.is_ipv6() { Ipv6Addr::UNSPECIFIED.into() } else { Ipv4Addr::UNSPECIFIED.into() };
    let (socket, report) = bind(SocketAddr::new(any, 0), Reuse::Alone)?;
    Ok((Endpoint::new(EndpointConfig::default(), None, socket, Arc::new(TokioRuntime))?, report))
}

fn connect_error(error: &ConnectionError, address: SocketAddr) -> DialError {
    match closed(error) {
        Closed::Silent => DialError::Unreachable { address },
        _ if is_pin_mismatch(error) => DialError::WrongEdge { address },
        Closed::ByPeer(_, reason) => DialError::Failed { address, reason },
        other => DialError::Failed { address, reason: other.to_string() },
    }
}

/// Our verifier's refusal comes back as the TLS alert that it sends.
fn is_pin_mismatch(error: &ConnectionError) -> bool {
    matches!(error, ConnectionError::TransportError(e) if e.reason.contains("ApplicationVerificationFailure"))
}
