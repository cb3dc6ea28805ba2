//! Origins: nginx, Node, a gRPC server, a server that does every wrong thing, and the sample origin.

pub mod grpc;
pub mod nginx;
pub mod node;
pub mod scripted;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use crate::child::Program;
use crate::programs::program;
pub use causeway_sample::content;
pub use causeway_sample::origin::{Origin, Speak};

/// Any free port on the loopback.
pub const ANY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// The sample origin over HTTP/1.1.
///
/// # Panics
/// When the loopback has no free port.
pub async fn sample() -> Origin {
    Origin::tcp(ANY, Speak::Http1).await.expect("a free port")
}

/// The sample origin in a process of its own, and its `http://` service: for thousands of requests at once, which a part of the
/// test would answer slower than what is tested carries them.
///
/// # Panics
/// When it cannot be started.
pub async fn sample_apart() -> (Program, String) {
    let mut command = tokio::process::Command::new(program("causeway-sample"));
    command.arg("origin");
    let origin = Program::start("origin", command);
    let address = origin.line("127.0.0.1:", Duration::from_secs(30)).await;
    (origin, format!("http://{address}"))
}

/// The sample origin over clear-text HTTP/2.
///
/// # Panics
/// When the loopback has no free port.
pub async fn sample_h2c() -> Origin {
    Origin::tcp(ANY, Speak::H2c).await.expect("a free port")
}

/// The sample origin over TLS.
///
/// # Panics
/// When the loopback has no free port.
pub async fn sample_tls(config: Arc<rustls::ServerConfig>) -> Origin {
    Origin::tls(ANY, config).await.expect("a free port")
}

/// The `http://` service of an origin.
pub fn http(origin: &Origin) -> String {
    format!("http://{}", origin.addr())
}

/// A port on which nothing listens at this moment.
///
/// # Panics
/// When the loopback has no free port.
pub fn closed_port() -> SocketAddr {
    let listener = std::net::TcpListener::bind(ANY).expect("a free port");
    listener.local_addr().expect("a bound socket has an address")
}

/// The same for TCP and UDP.
///
/// # Panics
/// As [`closed_port`].
pub fn tcp_and_udp_port() -> SocketAddr {
    loop {
        let addr = closed_port();
        if std::net::UdpSocket::bind(addr).is_ok() {
            return addr;
        }
    }
}
