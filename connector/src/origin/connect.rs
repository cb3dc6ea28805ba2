//! From a service to a connected byte stream: name lookup, Happy Eyeballs, where it may lead, TLS.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use causeway_tunnel::AbortCode;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use parking_lot::RwLock;
use rustls::CertificateError;
use rustls_pki_types::ServerName;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsConnector;

use super::io::{Io, Socket};
use super::mend::mend;
use super::server_name::WantedName;
use super::tls::TlsSetup;
use crate::config::OriginSettings;
use crate::service::{OriginAddress, OriginHost, Service};

/// Where a rule may lead, whatever its name resolves to.
#[derive(Debug, Default)]
pub(crate) struct Egress {
    /// This process's own admin server (hazard 134): its pages are not for the public.
    admin: RwLock<Option<SocketAddr>>,
}

/// Which HTTP versions TLS offers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Alpn {
    /// HTTP/1.1 only: an upgrade needs it.
    H1,
    /// HTTP/2 if the origin likes.
    H2OrH1,
}

/// Why no connection to an origin could be made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectError {
    #[error("the name `{0}` cannot be resolved")]
    Resolve(String, #[source] io::Error),
    #[error("the name `{0}` has no address")]
    NoAddress(String),
    #[error("cannot connect to {0}")]
    Refused(String, #[source] io::Error),
    #[error(
        "cannot connect to {0}: no local address and port is free for it (net.ipv4.ip_local_port_range has the ports; maxConnections has to stay below their number)"
    )]
    NoPort(String),
    #[error(
        "{0} has {1} connections open, which is the limit (maxConnections), and none became free within {2:?} (connectTimeout)"
    )]
    Busy(String, usize, Duration),
    /// Somebody else's attempt, whose outcome is shared.
    #[error(transparent)]
    Shared(Arc<Self>),
    #[error("{0} did not accept the connection within {1:?} (connectTimeout)")]
    ConnectTimeout(String, Duration),
    #[error("TLS with {0} failed: {mend}", mend = mend(.1))]
    Tls(String, #[source] io::Error),
    #[error("TLS with {0} took longer than {1:?} (tlsTimeout)")]
    TlsTimeout(String, Duration),
    #[error("`{0}` cannot be a server name in TLS: set originServerName")]
    ServerName(String),
    #[error("{0} is this connector's own admin address, which is not for the public")]
    OwnAdmin(SocketAddr),
    #[error(
        "the name `{0}` resolves to {1}, a link-local or reserved address: write the address itself into the rule if this is meant"
    )]
    Forbidden(String, IpAddr),
}

impl ConnectError {
    /// How the edge learns of it. In every case nothing was sent to the origin.
    pub(crate) fn code(&self) -> AbortCode {
        match self {
            Self::ConnectTimeout(..) | Self::TlsTimeout(..) => AbortCode::OriginTimeout,
            Self::Tls(..) | Self::ServerName(_) => AbortCode::OriginTls,
            Self::Busy(..) | Self::NoPort(_) => AbortCode::Refused,
            Self::Shared(error) => error.code(),
            _ => AbortCode::OriginUnreachable,
        }
    }
}

impl Egress {
    pub(crate) fn set_admin(&self, admin: SocketAddr) {
        *self.admin.write() = Some(admin);
    }

    fn check(&self, host: &OriginHost, address: SocketAddr) -> Result<(), ConnectError> {
        if let Some(admin) = *self.admin.read()
            && admin.port() == address.port()
            && (admin.ip() == address.ip() || (admin.ip().is_unspecified() && address.ip().is_loopback()))
        {
            return Err(ConnectError::OwnAdmin(address));
        }
        match host {
            // Who controls a name's DNS must not reach the metadata service of a cloud through it (hazard 126).
            OriginHost::Name(name) if is_reserved(address.ip()) && !is_container_host(name, address.ip()) => {
                Err(ConnectError::Forbidden(name.clone(), address.ip()))
            }
            _ => Ok(()),
        }
    }
}

/// Link-local (where cloud metadata lives), unspecified, multicast, broadcast.
pub(crate) fn is_reserved(ip: IpAddr) -> bool {
    let ip = ip.to_canonical();
    is_link_local(ip)
        || is_metadata(ip)
        || match ip {
            IpAddr::V4(ip) => ip.is_unspecified() || ip.is_multicast() || ip.is_broadcast(),
            IpAddr::V6(ip) => ip.is_unspecified() || ip.is_multicast(),
        }
}

fn is_link_local(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    }
}

/// Where clouds give out credentials: 169.254.169.0/24 and 169.254.170.0/24, and the same in IPv6.
fn is_metadata(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => matches!(ip.octets(), [169, 254, 169 | 170, _]),
        IpAddr::V6(ip) => matches!(ip.segments(), [0xfd00, 0xec2, ..] | [0xfe80, 0, 0, 0, 0, 0, 0xa9fe, _]),
    }
}

/// The machine around a container, which Podman 5.3 and later put at 169.254.1.2. The container's engine writes these
/// names into its `/etc/hosts`: nobody's DNS says where they lead.
fn is_container_host(name: &str, ip: IpAddr) -> bool {
    let ip = ip.to_canonical();
    CONTAINER_HOSTS.contains(&name) && is_link_local(ip) && !is_metadata(ip)
}

const CONTAINER_HOSTS: [&str; 3] =
    ["host.containers.internal", "host.docker.internal", "gateway.docker.internal"];

/// Connects, TLS included. `server_name` stands in for the service's host in TLS.
pub(crate) async fn connect(
    service: &Service,
    settings: &OriginSettings,
    tls: Option<&TlsSetup>,
    server_name: Option<&str>,
    alpn: Alpn,
    egress: &Egress,
) -> Result<Io, ConnectError> {
    let socket = socket(service, settings, egress).await?;
    let Some(tls) = tls else { return Ok(Io::plain(socket)) };
    let name = match (server_name, service) {
        (Some(name), _) => server_name_of(name)?,
        (None, Service::Https(OriginAddress { host: OriginHost::Ip(ip), .. })) => {
            ServerName::IpAddress((*ip).into()).into()
        }
        (None, Service::Https(OriginAddress { host: OriginHost::Name(name), .. })) => server_name_of(name)?,
        (None, _) => server_name_of("localhost")?,
    };
    let config = match alpn {
        Alpn::H1 => Arc::clone(&tls.h1),
        Alpn::H2OrH1 => Arc::clone(&tls.h2_or_h1),
    };
    let handshake = TlsConnector::from(config).connect(name.sent.clone(), socket);
    match timeout(or_for_ever(settings.tls_timeout), handshake).await {
        Ok(Ok(stream)) => {
            let shown = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
            if settings.no_tls_verify || name.is_carried_by(shown) {
                return Ok(Io::tls(stream));
            }
            let other_name = rustls::Error::InvalidCertificate(CertificateError::NotValidForName);
            Err(ConnectError::Tls(service.to_string(), io::Error::other(other_name)))
        }
        Ok(Err(error)) => Err(ConnectError::Tls(service.to_string(), error)),
        Err(_) => Err(ConnectError::TlsTimeout(service.to_string(), settings.tls_timeout)),
    }
}

/// Connects, and speaks no TLS of its own.
pub(super) async fn socket(
    service: &Service,
    settings: &OriginSettings,
    egress: &Egress,
) -> Result<Socket, ConnectError> {
    match service {
        Service::Http(origin) | Service::Https(origin) | Service::H2c(origin) | Service::Tcp(origin) => {
            let limit = or_for_ever(settings.connect_timeout);
            match timeout(limit, tcp(origin, settings, egress)).await {
                Ok(connected) => connected.map(Socket::Tcp),
                Err(_) => Err(ConnectError::ConnectTimeout(origin.to_string(), limit)),
            }
        }
        Service::Unix(path) | Service::UnixTls(path) => {
            match timeout(or_for_ever(settings.connect_timeout), UnixStream::connect(path)).await {
                Ok(Ok(unix)) => Ok(Socket::Unix(unix)),
                Ok(Err(error)) => Err(ConnectError::Refused(path.display().to_string(), error)),
                Err(_) => {
                    Err(ConnectError::ConnectTimeout(path.display().to_string(), settings.connect_timeout))
                }
            }
        }
        Service::Status(_) | Service::HelloWorld | Service::Unserved(_) => {
            Err(ConnectError::NoAddress(service.to_string()))
        }
    }
}

/// Zero is no limit, as in cloudflared.
pub(super) fn or_for_ever(limit: Duration) -> Duration {
    if limit.is_zero() { FOR_EVER } else { limit }
}

fn server_name_of(name: &str) -> Result<WantedName, ConnectError> {
    WantedName::parse(name).ok_or_else(|| ConnectError::ServerName(name.to_owned()))
}

async fn tcp(
    origin: &OriginAddress,
    settings: &OriginSettings,
    egress: &Egress,
) -> Result<TcpStream, ConnectError> {
    let addresses = match &origin.host {
        OriginHost::Ip(ip) => vec![SocketAddr::new(*ip, origin.port)],
        OriginHost::Name(name) => {
            let found = tokio::net::lookup_host((name.as_str(), origin.port))
                .await
                .map_err(|error| ConnectError::Resolve(name.clone(), error))?;
            interleave(found.collect())
        }
    };
    let mut refused = None;
    let mut allowed = Vec::with_capacity(addresses.len());
    for address in addresses {
        match egress.check(&origin.host, address) {
            Ok(()) => allowed.push(address),
            Err(error) => refused = Some(error),
        }
    }
    if allowed.is_empty() {
        return Err(refused.unwrap_or_else(|| ConnectError::NoAddress(origin.to_string())));
    }
    let stream = race(&allowed, settings).await.map_err(|error| match error.kind() {
        io::ErrorKind::AddrNotAvailable => ConnectError::NoPort(origin.to_string()),
        _ => ConnectError::Refused(origin.to_string(), error),
    })?;
    // An error means that the option does not exist here: the connection works without.
    let _ = stream.set_nodelay(true);
    if !settings.tcp_keep_alive.is_zero() {
        let keep_alive =
            TcpKeepalive::new().with_time(settings.tcp_keep_alive).with_interval(settings.tcp_keep_alive);
        let _ = SockRef::from(&stream).set_tcp_keepalive(&keep_alive);
    }
    Ok(stream)
}

/// Happy Eyeballs (RFC 8305): the next address starts when the one before failed or has not answered soon.
async fn race(addresses: &[SocketAddr], settings: &OriginSettings) -> io::Result<TcpStream> {
    if let [only] = addresses {
        return TcpStream::connect(only).await;
    }
    let mut attempts = FuturesUnordered::new();
    let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for &address in addresses {
        attempts.push(TcpStream::connect(address));
        let patience = sleep(NEXT_ADDRESS_AFTER);
        tokio::pin!(patience);
        let mut waiting = true;
        while waiting {
            tokio::select! {
                biased;
                done = attempts.next() => match done {
                    Some(Ok(stream)) => return Ok(stream),
                    Some(Err(error)) => { last = more_telling(last, error); waiting = false; }
                    None => waiting = false,
                },
                () = &mut patience, if !settings.no_happy_eyeballs => waiting = false,
            }
        }
    }
    while let Some(done) = attempts.next().await {
        match done {
            Ok(stream) => return Ok(stream),
            Err(error) => last = more_telling(last, error),
        }
    }
    Err(last)
}

/// A machine without IPv6 has no address to connect from: of two families the other one's error says more.
fn more_telling(before: io::Error, error: io::Error) -> io::Error {
    if error.kind() == io::ErrorKind::AddrNotAvailable { before } else { error }
}

/// IPv6 and IPv4 in turn, beginning with the family that the resolver put first.
fn interleave(addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let first_is_v6 = addresses.first().is_some_and(SocketAddr::is_ipv6);
    let (one, other): (Vec<_>, Vec<_>) =
        addresses.into_iter().partition(|address| address.is_ipv6() == first_is_v6);
    let (mut one, mut other) = (one.into_iter(), other.into_iter());
    let mut out = Vec::new();
    loop {
        match (one.next(), other.next()) {
            (None, None) => return out,
            (a, b) => out.extend(a.into_iter().chain(b)),
        }
    }
}

const FOR_EVER: Duration = Duration::from_secs(24 * 3600);
/// RFC 8305's connection attempt delay.
const NEXT_ADDRESS_AFTER: Duration = Duration::from_millis(250);

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{Ipv4Addr, Ipv6Addr};

    fn address(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn families_take_turns() {
        let mixed = ["[::1]:1", "[::2]:1", "1.1.1.1:1", "[::3]:1", "2.2.2.2:1"].map(address).to_vec();
        assert_eq!(
            interleave(mixed),
            ["[::1]:1", "1.1.1.1:1", "[::2]:1", "2.2.2.2:1", "[::3]:1"].map(address)
        );
    }

    #[test]
    fn hazard_126_a_name_may_not_lead_to_link_local_addresses_but_a_literal_may() {
        let egress = Egress::default();
        let metadata = address("169.254.169.254:80");
        let by_name = egress.check(&OriginHost::Name("rebound.example".to_owned()), metadata);
        assert!(matches!(by_name, Err(ConnectError::Forbidden(..))));
        assert!(egress.check(&OriginHost::Ip(metadata.ip()), metadata).is_ok());
        assert!(is_reserved(Ipv4Addr::new(169, 254, 1, 1).to_ipv6_mapped().into()));
        assert!(is_reserved(Ipv6Addr::UNSPECIFIED.into()));
        assert!(!is_reserved(Ipv4Addr::LOCALHOST.into()));
    }

    #[test]
    fn the_machine_around_a_container_may_be_link_local_and_nothing_else_by_name() {
        let egress = Egress::default();
        let check =
            |name: &str, to: &str| egress.check(&OriginHost::Name(name.to_owned()), address(to)).is_ok();
        for name in CONTAINER_HOSTS {
            assert!(check(name, "169.254.1.2:8000"), "{name}");
            assert!(check(name, "[fe80::1]:8000") && check(name, "192.168.65.254:8000"), "{name}");
            for metadata in [
                "169.254.169.254:80",
                "169.254.170.2:80",
                "[::ffff:169.254.169.254]:80",
                "[fd00:ec2::254]:80",
            ] {
                assert!(!check(name, metadata), "{name} {metadata}");
            }
            assert!(!check(name, "0.0.0.0:80") && !check(name, "224.0.0.1:80"), "{name}");
        }
        for other in
            ["containers.internal", "x.host.containers.internal", "host.containers.internal.evil.test"]
        {
            assert!(!check(other, "169.254.1.2:8000"), "{other}");
        }
        assert!(!check("rebound.example", "[fd00:ec2::254]:80"));
        assert!(check("nas.lan", "[fd00::1]:80"));
    }

    #[test]
    fn hazard_134_the_own_admin_address_is_no_origin() {
        let egress = Egress::default();
        egress.set_admin(address("0.0.0.0:20241"));
        let host = OriginHost::Ip(Ipv4Addr::LOCALHOST.into());
        assert!(matches!(egress.check(&host, address("127.0.0.1:20241")), Err(ConnectError::OwnAdmin(_))));
        assert!(egress.check(&host, address("127.0.0.1:20242")).is_ok());
    }

    #[tokio::test]
    async fn hazard_163_a_dead_address_does_not_hold_up_a_live_one() {
        let live = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        // TEST-NET-1 answers nothing, or is refused at once where there is no route: both must lead on.
        let addresses = [address("192.0.2.1:9"), live.local_addr().unwrap()];
        let begin = std::time::Instant::now();
        race(&addresses, &OriginSettings::default()).await.unwrap();
        assert!(begin.elapsed() < Duration::from_secs(2));
    }
}
