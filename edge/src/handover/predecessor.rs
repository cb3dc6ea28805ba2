//! The successor's half: finds the process before it, and takes from it.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use causeway_tunnel::TunnelId;
use causeway_tunnel::listen::{Elder, Inherited, Mark};
use tokio::time::timeout;

use super::wire::{Kind, Said, VERSION, Wire};
use crate::registry::Registry;

/// The process that has the sockets now.
#[derive(Debug)]
pub(crate) struct Predecessor {
    /// None: it has ended meanwhile, and all is ours.
    wire: Option<Wire>,
    /// Those that have sessions with it, by QUIC.
    tunnels: Vec<TunnelId>,
}

/// What it handed over: everything is shared with it until it lets go.
#[derive(Debug, Default)]
pub(crate) struct Legacy {
    pub(crate) lock: Option<File>,
    admin: Option<TcpListener>,
    tcp: Vec<(Kind, u16, TcpListener)>,
    udp: Vec<(u16, Inherited)>,
    /// Those of a process before have a socket each, no more and no fewer.
    pub(crate) shards: Option<u16>,
}

/// Connectors are told at once, and dial: a second is several round trips of the worst lines. Who is not there by then is waited for by
/// each request.
const SESSIONS_WITHIN: Duration = Duration::from_secs(1);

/// Finds the process that runs on this data folder. None: there is none.
///
/// # Errors
/// When it does not hand over, or what it says is not understood.
pub(crate) fn find(socket: &Path) -> Result<Option<(Predecessor, Legacy)>> {
    let stream = match UnixStream::connect(socket) {
        Ok(stream) => stream,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => {
            return Ok(None);
        }
        Err(error) => return Err(error).with_context(|| format!("cannot connect to {}", socket.display())),
    };
    let took = take(stream).context("the edge that runs on this data folder does not hand over")?;
    Ok(Some(took))
}

fn take(stream: UnixStream) -> Result<(Predecessor, Legacy)> {
    let mut wire = Wire::new(stream)?;
    let software = format!("causeway-edge/{}", env!("CARGO_PKG_VERSION"));
    wire.say(&Said::Hello { version: VERSION, software }, &[])?;
    let mut legacy = Legacy::default();
    loop {
        let (said, descriptors) = wire.hear()?;
        let mut descriptors = VecDeque::from(descriptors);
        let mut next = || descriptors.pop_front().context("it sent no descriptor");
        match said {
            Said::Refused { reason } => bail!("{reason}"),
            Said::Lock => legacy.lock = Some(File::from(next()?)),
            Said::Admin => legacy.admin = Some(listener(next()?)?),
            Said::Tcp { kind, shard } => legacy.tcp.push((kind, shard, listener(next()?)?)),
            Said::Udp { shard, marks } => {
                let socket = UdpSocket::from(next()?);
                let mut elders = Vec::new();
                for mark in marks {
                    elders.push(Elder { mark: Mark(mark), way: next()?.into() });
                }
                legacy.udp.push((shard, Inherited { socket, elders }));
            }
            Said::All { shards, tunnels } => {
                legacy.shards = Some(shards);
                return Ok((Predecessor { wire: Some(wire), tunnels }, legacy));
            }
            other => bail!("it said {other:?}"),
        }
    }
}

fn listener(descriptor: OwnedFd) -> io::Result<TcpListener> {
    let listener = TcpListener::from(descriptor);
    listener.set_nonblocking(true)?;
    Ok(listener)
}

impl Legacy {
    /// The listener of this address, where port 0 stands for any.
    pub(crate) fn tcp(&mut self, kind: Kind, shard: u16, wanted: SocketAddr) -> Option<TcpListener> {
        let is_it = |(of, at, listener): &(Kind, u16, TcpListener)| {
            *of == kind && *at == shard && serves(wanted, listener.local_addr())
        };
        let found = self.tcp.iter().position(is_it)?;
        Some(self.tcp.swap_remove(found).2)
    }

    /// The same over UDP.
    pub(crate) fn udp(&mut self, shard: u16, wanted: SocketAddr) -> Option<Inherited> {
        let is_it = |(at, udp): &(u16, Inherited)| *at == shard && serves(wanted, udp.socket.local_addr());
        let found = self.udp.iter().position(is_it)?;
        Some(self.udp.swap_remove(found).1)
    }

    pub(crate) fn admin(&mut self, wanted: SocketAddr) -> Option<TcpListener> {
        self.admin.take_if(|listener| serves(wanted, listener.local_addr()))
    }
}

/// Whether a socket at this address is what is wanted: all of IPv4 may stand for all of IPv6, on a machine without that.
fn serves(wanted: SocketAddr, has: io::Result<SocketAddr>) -> bool {
    let Ok(has) = has else { return false };
    let is_any = wanted.ip().is_unspecified() && wanted.is_ipv6() && has.ip().is_unspecified();
    (wanted.ip() == has.ip() || is_any) && (wanted.port() == has.port() || wanted.port() == 0)
}

impl Predecessor {
    /// From now on the UDP sockets are read here.
    ///
    /// # Errors
    /// When it does not let go of them.
    pub(crate) async fn take_sessions(&mut self) -> Result<()> {
        self.step(Said::TakeSessions, |said| matches!(said, Said::Given)).await
    }

    /// Waits until who had a session there has one here, or for a second.
    pub(crate) async fn await_sessions(&self, registry: &Registry) {
        let mut changes = registry.changes();
        let all = async {
            while !registry.all_served(&self.tunnels) {
                // It lives as long as the registry.
                let _ = changes.changed().await;
            }
        };
        if timeout(SESSIONS_WITHIN, all).await.is_err() {
            tracing::warn!("not every tunnel has come over yet: requests for the others wait for a moment");
        }
    }

    /// From now on it accepts nobody any more.
    ///
    /// # Errors
    /// When it does not understand.
    pub(crate) async fn take_visitors(&mut self) -> Result<()> {
        self.step(Said::TakeVisitors, |said| matches!(said, Said::Gone)).await
    }

    async fn step(&mut self, said: Said, is_done: fn(&Said) -> bool) -> Result<()> {
        let Some(mut wire) = self.wire.take() else { return Ok(()) };
        let asked = tokio::task::spawn_blocking(move || {
            let answer = wire.say(&said, &[]).and_then(|()| wire.hear());
            (wire, answer)
        });
        let (wire, answer) = asked.await?;
        match answer {
            Ok((said, _)) if is_done(&said) => self.wire = Some(wire),
            Ok((said, _)) => bail!("the edge before this one said {said:?}"),
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::UnexpectedEof | io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset
                ) =>
            {
                tracing::warn!("the edge before this one has ended: its connections are lost");
            }
            Err(error) => return Err(error).context("the edge before this one does not let go"),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_is_found_by_what_is_wanted() {
        let has = |text: &str| Ok(text.parse().unwrap());
        let serves = |wanted: &str, at| serves(wanted.parse().unwrap(), has(at));
        assert!(serves("127.0.0.1:443", "127.0.0.1:443"));
        assert!(serves("127.0.0.1:0", "127.0.0.1:443"), "any port");
        assert!(serves("[::]:443", "[::]:443") && serves("[::]:443", "0.0.0.0:443"));
        assert!(!serves("127.0.0.1:443", "127.0.0.1:444"));
        assert!(!serves("0.0.0.0:443", "[::]:443"), "more than what is wanted");
        assert!(!serves("127.0.0.2:443", "127.0.0.1:443"));
    }
}
