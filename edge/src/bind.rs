//! The listening sockets, bound before anything runs, so that a taken port is an error at start and not a log line later.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};

use causeway_tunnel::carrier::memory::Network;
use causeway_tunnel::carrier::{self, Reuse, UdpReport};
use causeway_tunnel::listen::Inherited;
use socket2::{Domain, Protocol, Socket, Type};

use crate::config::Listen;
use crate::front::Public;
use crate::handover::{Kind, Legacy};
use crate::status::Listening;

/// A queue for bursts; the kernel caps it at net.core.somaxconn.
const BACKLOG: i32 = 4096;
/// Ports that are tried for one that is free over UDP and TCP.
const FREE_TRIES: usize = 8;

/// What one shard listens on.
#[derive(Debug, Default)]
pub(crate) struct Sockets {
    pub(crate) public: Public,
    pub(crate) tunnel: Vec<Inherited>,
    /// Connectors of the same process.
    pub(crate) within: Option<Network>,
}

#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {protocol} {address} ({key}): {}", mend(.source))]
pub(crate) struct BindError {
    protocol: &'static str,
    address: SocketAddr,
    /// The setting, in the file and as a flag.
    key: &'static str,
    #[source]
    source: io::Error,
}

/// Binds every address once for each shard, but for those that a process before this one has.
///
/// # Errors
/// When one of them cannot be had: names it, the setting and the mend.
pub(crate) fn bind(
    listen: &Listen,
    shards: u16,
    legacy: &mut Legacy,
) -> Result<(Vec<Sockets>, Listening), BindError> {
    let mut all: Vec<Sockets> = (0..shards).map(|_| Sockets::default()).collect();
    let mut listening = Listening::default();
    let tcp = |kind,
               wanted: &[SocketAddr],
               key,
               bound: &mut Vec<SocketAddr>,
               of: fn(&mut Sockets) -> &mut Vec<TcpListener>,
               all: &mut [Sockets],
               legacy: &mut Legacy| {
        for &address in wanted {
            let fail = |source| BindError { protocol: "TCP", address, key, source };
            let mut address = address;
            for (index, sockets) in (0..shards).zip(all.iter_mut()) {
                let socket = match legacy.tcp(kind, index, address) {
                    Some(socket) => socket,
                    None => with_fallback(&mut address, |address| bind_tcp(address, sharing(shards, index)))
                        .map_err(fail)?,
                };
                address = socket.local_addr().map_err(fail)?;
                of(sockets).push(socket);
            }
            bound.push(address);
        }
        Ok(())
    };
    let Listening { https, http, .. } = &mut listening;
    tcp(
        Kind::Https,
        &listen.https,
        "listen.https, --https",
        https,
        |s| &mut s.public.https,
        &mut all,
        legacy,
    )?;
    tcp(Kind::Http, &listen.http, "listen.http, --http", http, |s| &mut s.public.http, &mut all, legacy)?;
    for &address in &listen.tunnel {
        let fail = |source| BindError { protocol: "UDP", address, key: "listen.tunnel, --tunnel", source };
        let mut address = address;
        for (index, sockets) in (0..shards).zip(all.iter_mut()) {
            if let Some(inherited) = legacy.udp(index, address) {
                address = inherited.socket.local_addr().map_err(fail)?;
                sockets.tunnel.push(inherited);
                continue;
            }
            if address.port() == 0 {
                address = free_for_both(address);
            }
            let (socket, report) =
                with_fallback(&mut address, |address| bind_udp(address, sharing(shards, index)))
                    .map_err(fail)?;
            address = socket.local_addr().map_err(fail)?;
            if let Some(advice) = report.advice().filter(|_| index == 0) {
                tracing::warn!(%address, "{advice}");
            }
            sockets.tunnel.push(socket.into());
        }
        listening.tunnel.push(address);
    }
    for &address in &listening.tunnel {
        if !listening.https.iter().any(|https| is_covered(address, *https)) {
            beside(address, shards, &mut all, legacy);
        }
    }
    Ok((all, listening))
}

/// For port 0: with a port that UDP and TCP may both have, if one is found.
fn free_for_both(address: SocketAddr) -> SocketAddr {
    let find = || {
        let tcp = bind_tcp(address, Sharing::Alone).ok()?;
        let found = SocketAddr::new(address.ip(), tcp.local_addr().ok()?.port());
        bind_udp(found, Sharing::Alone).ok().map(|_| found)
    };
    (0..FREE_TRIES).find_map(|_| find()).unwrap_or(address)
}

/// TCP on a tunnel's port, for connectors that UDP does not let through: they know this one number. Where somebody else has it
/// they come by UDP, or not at all.
fn beside(address: SocketAddr, shards: u16, all: &mut [Sockets], legacy: &mut Legacy) {
    for (index, sockets) in (0..shards).zip(all.iter_mut()) {
        let inherited = legacy.tcp(Kind::Tunnel, index, address);
        match inherited.map_or_else(|| bind_tcp(address, sharing(shards, index)), Ok) {
            Ok(socket) => sockets.public.tunnel.push(socket),
            Err(error) => {
                let mend = mend(&error);
                tracing::warn!(%address, "connectors reach this edge by UDP alone: TCP on the tunnel's port cannot be had: {mend}");
                return;
            }
        }
    }
}

/// Whether who dials this address over TCP comes to that one.
fn is_covered(address: SocketAddr, by: SocketAddr) -> bool {
    let is_any = address.ip().is_unspecified() || by.ip().is_unspecified();
    address.port() == by.port() && (is_any || address.ip() == by.ip())
}

/// How a socket stands to others on its port.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sharing {
    Alone,
    /// The first of several. Sharing a port would hide that another program has it: make sure that it is free.
    First,
    Next,
}

fn sharing(shards: u16, index: u16) -> Sharing {
    match index {
        _ if shards == 1 => Sharing::Alone,
        0 => Sharing::First,
        _ => Sharing::Next,
    }
}

fn bind_tcp(address: SocketAddr, sharing: Sharing) -> io::Result<TcpListener> {
    let open = |reuse: bool| {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        if address.is_ipv6() {
            socket.set_only_v6(false)?;
        }
        // A restarted edge need not wait for old connections to be forgotten.
        socket.set_reuse_address(true)?;
        socket.set_reuse_port(reuse)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        socket.set_nonblocking(true)?;
        io::Result::Ok(TcpListener::from(socket))
    };
    if sharing == Sharing::First {
        drop(open(false)?);
    }
    open(sharing != Sharing::Alone)
}

fn bind_udp(address: SocketAddr, sharing: Sharing) -> io::Result<(UdpSocket, UdpReport)> {
    if sharing == Sharing::First {
        drop(carrier::bind(address, Reuse::Alone)?);
    }
    carrier::bind(address, if sharing == Sharing::Alone { Reuse::Alone } else { Reuse::Port })
}

/// `[::]` on a machine without IPv6 means all of IPv4.
fn with_fallback<T>(address: &mut SocketAddr, bind: impl Fn(SocketAddr) -> io::Result<T>) -> io::Result<T> {
    let result = bind(*address);
    let has_no_ipv6 = |error: &io::Error| {
        // 97 is EAFNOSUPPORT, for which std has no kind.
        error.kind() == io::ErrorKind::AddrNotAvailable || error.raw_os_error() == Some(97)
    };
    match result {
        Err(error) if address.is_ipv6() && address.ip().is_unspecified() && has_no_ipv6(&error) => {
            *address = SocketAddr::from((Ipv4Addr::UNSPECIFIED, address.port()));
            bind(*address)
        }
        result => result,
    }
}

fn mend(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            "another program has this port: stop it (`ss -tulpn` names it), or choose another address"
                .to_owned()
        }
        io::ErrorKind::PermissionDenied => {
            "ports below 1024 need the capability CAP_NET_BIND_SERVICE: grant it, or \
             `sysctl net.ipv4.ip_unprivileged_port_start=80`, or choose another port"
                .to_owned()
        }
        io::ErrorKind::AddrNotAvailable => {
            "this machine does not have that address: choose another".to_owned()
        }
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listen(https: &str, tunnel: &str) -> Listen {
        Listen {
            https: vec![https.parse().unwrap()],
            http: Vec::new(),
            tunnel: vec![tunnel.parse().unwrap()],
        }
    }

    #[test]
    fn a_taken_port_is_named_with_its_setting_and_mend() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap();
        for shards in [1, 3] {
            let error = bind(&listen(&address.to_string(), "127.0.0.1:0"), shards, &mut Legacy::default())
                .unwrap_err()
                .to_string();
            for word in [&address.to_string(), "--https", "another program"] {
                assert!(error.contains(word), "{error}");
            }
        }
        let taken = UdpSocket::bind("127.0.0.1:0").unwrap();
        let error =
            bind(&listen("127.0.0.1:0", &taken.local_addr().unwrap().to_string()), 3, &mut Legacy::default())
                .unwrap_err()
                .to_string();
        assert!(error.contains("UDP") && error.contains("--tunnel"), "{error}");
    }

    #[test]
    fn each_shard_has_its_own_socket_on_the_same_port() {
        let (shards, listening) =
            bind(&listen("127.0.0.1:0", "127.0.0.1:0"), 3, &mut Legacy::default()).unwrap();
        assert_eq!(shards.len(), 3);
        for sockets in &shards {
            assert_eq!(sockets.public.https[0].local_addr().unwrap(), listening.https[0]);
            assert_eq!(sockets.tunnel[0].socket.local_addr().unwrap(), listening.tunnel[0]);
            assert_eq!(sockets.public.tunnel[0].local_addr().unwrap(), listening.tunnel[0]);
        }
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
        let (shards, _) = bind(&listen(&port, &port), 1, &mut Legacy::default()).unwrap();
        assert!(shards[0].public.tunnel.is_empty(), "visitors and connectors share one");
    }
}
