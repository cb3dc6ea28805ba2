//! The dialling end over UDP. Each connection gets a port of its own, so that the kernel can spread the sessions of one
//! connector over an edge's shards.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use quinn::crypto::rustls::QuicClientConfig;
use quinn::{ConnectionError, EndpointConfig, Runtime, TokioRuntime};
use tokio::time::timeout;

use super::apart::{self, Watched};
use super::{Connection, Reuse, bind, closed, transport};
use crate::carrier::{Closed, Congestion, DialFailure};
use crate::flow::Budget;
use crate::limits::ANSWER_TIMEOUT;

#[derive(Debug)]
pub(crate) struct Dial {
    config: quinn::ClientConfig,
    /// What is asked for in the handshake; the peer is known by its key.
    server_name: &'static str,
    congestion: Congestion,
    budget: Watched,
}

impl Dial {
    /// # Errors
    /// When `tls` cannot do TLS 1.3.
    pub(crate) fn new(tls: rustls::ClientConfig, server_name: &'static str) -> Result<Self, rustls::Error> {
        let crypto = QuicClientConfig::try_from(tls).map_err(|e| rustls::Error::General(e.to_string()))?;
        let config = quinn::ClientConfig::new(Arc::new(crypto));
        Ok(Self { config, server_name, congestion: Congestion::default(), budget: Watched::default() })
    }

    /// As [`super::Endpoint::set_budget`].
    pub(crate) fn set_budget(&self, budget: Budget) {
        let _ = self.budget.set(budget);
    }

    pub(crate) fn set_congestion(&mut self, congestion: Congestion) {
        self.congestion = congestion;
    }

    pub(crate) async fn connect(
        &self,
        address: SocketAddr,
        keep_alive: Duration,
    ) -> Result<Connection, DialFailure> {
        let mut config = self.config.clone();
        config.transport_config(transport::connector(self.congestion, keep_alive));
        let endpoint = client_endpoint(address, &self.budget).map_err(DialFailure::Socket)?;
        let mut connecting = endpoint
            .connect_with(config, address, self.server_name)
            .map_err(|error| DialFailure::Other(error.to_string()))?;
        // What is wrong with the answer is said below.
        let answered = timeout(ANSWER_TIMEOUT, connecting.handshake_data()).await.is_ok();
        if !answered {
            return Err(DialFailure::Closed(Closed::Silent));
        }
        match connecting.await {
            Ok(connection) => Ok(Connection::new(connection, Some(endpoint))),
            Err(error) if is_pin_mismatch(&error) => Err(DialFailure::WrongPeer),
            Err(error) => Err(DialFailure::Closed(closed(&error))),
        }
    }
}

fn client_endpoint(towards: SocketAddr, budget: &Watched) -> io::Result<quinn::Endpoint> {
    let any: IpAddr =
        if towards.is_ipv6() { Ipv6Addr::UNSPECIFIED.into() } else { Ipv4Addr::UNSPECIFIED.into() };
    let (socket, _) = bind(SocketAddr::new(any, 0), Reuse::Alone)?;
    let (config, runtime) = (EndpointConfig::default(), Arc::new(TokioRuntime));
    let socket = apart::socket(runtime.wrap_udp_socket(socket)?, Arc::clone(budget));
    quinn::Endpoint::new_with_abstract_socket(config, None, socket, runtime)
}

/// Our verifier's refusal comes back as the TLS alert that it sends.
fn is_pin_mismatch(error: &ConnectionError) -> bool {
    matches!(error, ConnectionError::TransportError(e) if e.reason.contains("ApplicationVerificationFailure"))
}
