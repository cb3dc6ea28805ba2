//! An ear and a mouth on a LAN: hears every ARP and neighbour-discovery frame that reaches a host, with its time, and asks questions.

use std::collections::BTreeSet;
use std::io::Read;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use parking_lot::{Condvar, Mutex};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use super::api::pause;
use super::lan::Host;

pub type Mac = [u8; 6];

const BROADCAST: Mac = [0xff; 6];
/// `ETH_P_ALL`: frames of every protocol, the host's own among them.
const EVERY_PROTOCOL: i32 = 3;
const ARP: [u8; 2] = [0x08, 0x06];
const IPV6: [u8; 2] = [0x86, 0xdd];
const POLL: Duration = Duration::from_millis(50);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Said {
    /// "Who has `target`, tell `sender`."
    Asks { sender: IpAddr, target: IpAddr },
    /// "`address` is at `mac`": a reply, or a request that names itself (gratuitous).
    Claims { address: IpAddr, mac: Mac, kind: Kind },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Reply,
    Gratuitous,
}

#[derive(Clone, Copy, Debug)]
pub struct Heard {
    pub at: Instant,
    /// Of the frame: not always what it claims.
    pub from: Mac,
    pub to: Mac,
    pub said: Said,
}

#[derive(Debug)]
pub struct Wire {
    host: Host,
    socket: Socket,
    /// "The interface that this came from", as the kernel wrote it; frames are sent there.
    interface: SockAddr,
    heard: Arc<(Mutex<Vec<Heard>>, Condvar)>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Wire {
    /// Listens on the only interface of `host`.
    pub fn new(host: &Host) -> Result<Self> {
        let (ear, mouth) = host.namespace.enter(|| -> Result<_> {
            let raw = || {
                Socket::new(
                    Domain::PACKET,
                    Type::RAW,
                    Some(Protocol::from(EVERY_PROTOCOL.swap_bytes() >> 16)),
                )
            };
            Ok((raw()?, raw()?))
        })?;
        let interface = learn_interface(host, &mouth)?;
        let heard = Arc::new((Mutex::new(Vec::new()), Condvar::new()));
        let stop = Arc::new(AtomicBool::new(false));
        ear.set_read_timeout(Some(POLL))?;
        let thread = host.namespace.thread("wire", {
            let (heard, stop) = (heard.clone(), stop.clone());
            move || listen(&ear, &heard, &stop)
        });
        Ok(Self { host: host.clone(), socket: mouth, interface, heard, stop, thread: Some(thread) })
    }

    pub fn send(&self, frame: &[u8]) -> Result<()> {
        self.socket.send_to(frame, &self.interface).context("cannot send a frame")?;
        Ok(())
    }

    /// Everything heard since `start`.
    pub fn heard_since(&self, start: Instant) -> Vec<Heard> {
        self.heard.0.lock().iter().filter(|h| h.at >= start).copied().collect()
    }

    /// Every claim of `address` since `start`, by whom and when.
    pub fn claims_since(&self, start: Instant, address: IpAddr) -> Vec<Heard> {
        let ours = |h: &Heard| matches!(h.said, Said::Claims { address: a, .. } if a == address);
        self.heard_since(start).into_iter().filter(ours).collect()
    }

    /// The first claim of `address` since `start` that `accept` takes; waits for it.
    pub fn wait_claim(
        &self,
        start: Instant,
        limit: Duration,
        address: IpAddr,
        accept: impl Fn(Mac) -> bool,
    ) -> Result<Heard> {
        self.wait(
            start,
            limit,
            &format!("a claim of {address}"),
            |said| matches!(said, Said::Claims { address: a, mac, .. } if *a == address && accept(*mac)),
        )
    }

    /// The first answer about `address` to this host since `start`; waits for it.
    pub fn wait_answer(&self, start: Instant, limit: Duration, address: IpAddr) -> Result<Heard> {
        self.wait(
            start,
            limit,
            &format!("an answer about {address}"),
            |said| matches!(said, Said::Claims { address: a, kind: Kind::Reply, .. } if *a == address),
        )
    }

    /// The first question for `address` since `start`; waits for it.
    pub fn wait_question(&self, start: Instant, limit: Duration, address: IpAddr) -> Result<Heard> {
        self.wait(
            start,
            limit,
            &format!("a question for {address}"),
            |said| matches!(said, Said::Asks { target, .. } if *target == address),
        )
    }

    fn wait(
        &self,
        start: Instant,
        limit: Duration,
        what: &str,
        fits: impl Fn(&Said) -> bool,
    ) -> Result<Heard> {
        let deadline = Instant::now() + limit;
        let mut heard = self.heard.0.lock();
        loop {
            if let Some(found) = heard.iter().find(|h| h.at >= start && fits(&h.said)) {
                return Ok(*found);
            }
            if self.heard.1.wait_until(&mut heard, deadline).timed_out() {
                bail!("not heard within {limit:?}: {what}");
            }
        }
    }

    /// Asks who has `address` and gathers all that answer within `window`.
    pub fn ask(&self, address: IpAddr, window: Duration) -> Result<BTreeSet<Mac>> {
        let start = Instant::now();
        match address {
            IpAddr::V4(target) => self.send(&arp_request(self.host.mac, self.host.v4, target))?,
            IpAddr::V6(target) => self.send(&solicitation(self.host.mac, self.host.v6, target))?,
        }
        pause(window);
        let reply = |h: &Heard| match h.said {
            Said::Claims { mac, kind: Kind::Reply, .. } if h.to == self.host.mac => Some(mac),
            _ => None,
        };
        Ok(self.claims_since(start, address).iter().filter_map(reply).collect())
    }

    pub fn forget(&self) {
        self.heard.0.lock().clear();
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Makes the host ask for an address that nobody has: its own question comes past its own ear.
fn learn_interface(host: &Host, socket: &Socket) -> Result<SockAddr> {
    socket.set_read_timeout(Some(Duration::from_secs(2)))?;
    let [a, b, c, _] = host.v4.octets();
    let nobody = Ipv4Addr::new(a, b, c, 250);
    host.namespace.enter(|| -> Result<()> {
        let _ = UdpSocket::bind("0.0.0.0:0")?.send_to(b"?", (nobody, 9));
        Ok(())
    })?;
    for _ in 0..1000 {
        let from = socket.peek_sender()?;
        let mut frame = [0u8; 64];
        let length = (&mut &*socket).read(&mut frame)?;
        if length >= 14 && frame[12..14] == ARP {
            return Ok(from);
        }
    }
    bail!("{} did not ask for {nobody}", host.name)
}

fn listen(socket: &Socket, heard: &(Mutex<Vec<Heard>>, Condvar), stop: &AtomicBool) {
    let mut frame = [0u8; 2048];
    while !stop.load(Ordering::Relaxed) {
        let Ok(length) = (&mut &*socket).read(&mut frame) else { continue };
        let at = Instant::now();
        let Some((from, to, said)) = parse(&frame[..length]) else { continue };
        heard.0.lock().push(Heard { at, from, to, said });
        heard.1.notify_all();
    }
}

fn parse(frame: &[u8]) -> Option<(Mac, Mac, Said)> {
    let to: Mac = frame.get(0..6)?.try_into().ok()?;
    let from: Mac = frame.get(6..12)?.try_into().ok()?;
    let body = frame.get(14..)?;
    let said = match frame.get(12..14)? {
        kind if kind == ARP => parse_arp(body)?,
        kind if kind == IPV6 => parse_neighbour(body)?,
        _ => return None,
    };
    Some((from, to, said))
}

fn parse_arp(body: &[u8]) -> Option<Said> {
    let v4 = |at: usize| -> Option<IpAddr> {
        let octets: [u8; 4] = body.get(at..at + 4)?.try_into().ok()?;
        Some(Ipv4Addr::from(octets).into())
    };
    let (sender, target) = (v4(14)?, v4(24)?);
    let mac: Mac = body.get(8..14)?.try_into().ok()?;
    match body.get(7)? {
        1 if sender == target => Some(Said::Claims { address: sender, mac, kind: Kind::Gratuitous }),
        1 => Some(Said::Asks { sender, target }),
        2 if sender == target => Some(Said::Claims { address: sender, mac, kind: Kind::Gratuitous }),
        2 => Some(Said::Claims { address: sender, mac, kind: Kind::Reply }),
        _ => None,
    }
}

fn parse_neighbour(body: &[u8]) -> Option<Said> {
    const ICMP6: u8 = 58;
    if *body.get(6)? != ICMP6 {
        return None;
    }
    let v6 = |at: usize| -> Option<IpAddr> {
        let octets: [u8; 16] = body.get(at..at + 16)?.try_into().ok()?;
        Some(Ipv6Addr::from(octets).into())
    };
    let (sender, target) = (v6(8)?, v6(48)?);
    match body.get(40)? {
        135 => Some(Said::Asks { sender, target }),
        136 => {
            let flags = body.get(44)?;
            // The option "target link-layer address" is the only one that an advertisement carries.
            let mac: Mac = body.get(66..72)?.try_into().ok()?;
            let kind = if flags & 0x40 == 0 { Kind::Gratuitous } else { Kind::Reply };
            Some(Said::Claims { address: target, mac, kind })
        }
        _ => None,
    }
}

/// "Who has `target`, tell `sender`", broadcast.
pub fn arp_request(mac: Mac, sender: Ipv4Addr, target: Ipv4Addr) -> Vec<u8> {
    arp(BROADCAST, mac, 1, (mac, sender), ([0; 6], target))
}

/// "`address` is at `mac`", broadcast: what a host says that has taken an address.
pub fn arp_claim(mac: Mac, address: Ipv4Addr) -> Vec<u8> {
    arp(BROADCAST, mac, 2, (mac, address), (BROADCAST, address))
}

/// An ARP frame of any content.
pub fn arp(to: Mac, from: Mac, operation: u8, sender: (Mac, Ipv4Addr), target: (Mac, Ipv4Addr)) -> Vec<u8> {
    let mut frame = [to.as_slice(), &from, &ARP, &[0, 1, 8, 0, 6, 4, 0, operation]].concat();
    frame.extend(sender.0.iter().chain(&sender.1.octets()).chain(&target.0).chain(&target.1.octets()));
    frame
}

/// A multicast neighbour solicitation with the source link-layer option.
pub fn solicitation(mac: Mac, source: Ipv6Addr, target: Ipv6Addr) -> Vec<u8> {
    let [.., x, y, z] = target.octets();
    let group = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00 | u16::from(x), u16::from_be_bytes([y, z]));
    neighbour([0x33, 0x33, 0xff, x, y, z], mac, source, group, target, &[&[1, 1], mac.as_slice()].concat())
}

/// A neighbour solicitation to any address, with any options.
pub fn neighbour(
    to: Mac,
    from: Mac,
    source: Ipv6Addr,
    dest: Ipv6Addr,
    target: Ipv6Addr,
    options: &[u8],
) -> Vec<u8> {
    let mut message = [&[135u8, 0, 0, 0, 0, 0, 0, 0], target.octets().as_slice(), options].concat();
    let length = u16::try_from(message.len()).expect("a solicitation is short");
    let mut sum: u32 = u32::from(length) + 58;
    for part in [source.octets().as_slice(), &dest.octets(), &message] {
        sum +=
            part.chunks(2).map(|c| u32::from(c[0]) << 8 | c.get(1).map_or(0, |b| u32::from(*b))).sum::<u32>();
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    let sum = !u16::try_from(sum).expect("folded above");
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    let mut frame = [to.as_slice(), &from, &IPV6, &[0x60, 0, 0, 0]].concat();
    frame.extend(length.to_be_bytes());
    frame.extend([58, 255]);
    frame.extend(source.octets().iter().chain(&dest.octets()));
    frame.extend(message);
    frame
}
