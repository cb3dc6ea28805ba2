//! A socket that goes from one process of an edge to the next, while connections of both are alive on it.
//!
//! ```text
//!                       ┌─ this process's mark, or nobody's ──→ quinn
//!   UDP ─→ the newest ──┤
//!                       └─ an elder's mark ─→ Unix datagrams ─→ the elder, which sends by the UDP socket as before
//! ```
//! Each process marks the connection ids that it gives out. Who takes a socket over reads it from the moment the one before gave it
//! up, and passes on what belongs to those before; so no connection is lost, and none is moved.

use std::io::{self, IoSlice, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6, UdpSocket};
use std::os::unix::net::UnixDatagram;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};

use parking_lot::Mutex;
use quinn::udp::{EcnCodepoint, RecvMeta, Transmit};
use quinn::{AsyncUdpSocket, ConnectionId, Runtime, TokioRuntime, UdpPoller};
use socket2::SockRef;
use tokio::io::ReadBuf;

/// What the connection ids of one process begin with. By chance a stranger's first id, which it chooses itself, begins so once in
/// four thousand million.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark(pub [u8; MARK_BYTES]);

const MARK_BYTES: usize = 4;
/// Of an id of ours: a mark and four bytes of chance.
pub(super) const ID_BYTES: usize = 8;

/// A process before this one that still has connections on the socket.
#[derive(Debug)]
pub struct Elder {
    pub mark: Mark,
    /// Where its packets go.
    pub way: UnixDatagram,
}

/// A socket from [`crate::carrier::bind`], or one that another process gave up.
#[derive(Debug)]
pub struct Inherited {
    pub socket: UdpSocket,
    pub elders: Vec<Elder>,
}

/// The other end of our own [`Elder::way`], until the socket is given up.
#[derive(Debug)]
pub struct Given(UnixDatagram);

/// Of packets on their way to an elder: as much as a line of 100 Mbit/s brings in 100 ms.
const WAY_BYTES: usize = 1024 * 1024;

impl From<UdpSocket> for Inherited {
    fn from(socket: UdpSocket) -> Self {
        Self { socket, elders: Vec::new() }
    }
}

impl Mark {
    pub(super) fn random() -> Self {
        Self(rand::random())
    }

    pub(super) fn id(self) -> ConnectionId {
        let mut id = [0; ID_BYTES];
        id[..MARK_BYTES].copy_from_slice(&self.0);
        id[MARK_BYTES..].copy_from_slice(&rand::random::<[u8; ID_BYTES - MARK_BYTES]>());
        ConnectionId::new(&id)
    }

    /// Of a packet whose connection id was given out by a process of ours (RFC 9000 §17; RFC 8999 §5).
    fn of(packet: &[u8]) -> Option<Self> {
        let is_long = packet.first()? & 0x80 != 0;
        let id = if is_long {
            // Behind the version: the id's length and the id. A first packet's id is the sender's own choice, of the same length or not.
            let (&length, rest) = packet.get(5..)?.split_first()?;
            rest.get(..usize::from(length)).filter(|id| id.len() == ID_BYTES)?
        } else {
            packet.get(1..=ID_BYTES)?
        };
        id.first_chunk().copied().map(Self)
    }
}

/// The socket as quinn has it.
#[derive(Debug)]
pub(super) struct Shared {
    inner: Arc<dyn AsyncUdpSocket>,
    socket: UdpSocket,
    mark: Mark,
    elders: Mutex<Vec<Elder>>,
    reading: Mutex<Reading>,
}

/// Who reads the socket.
#[derive(Debug, Default)]
struct Reading {
    /// Another process does, and this is how our packets come.
    given: Option<Way>,
    /// Who waits for a packet here.
    reader: Option<Waker>,
}

#[derive(Debug)]
enum Way {
    /// Not yet watched: that is done in the runtime of who reads.
    New(UnixDatagram),
    Watched(tokio::net::UnixDatagram, Vec<u8>),
}

impl Shared {
    /// # Errors
    /// When the socket cannot be watched.
    pub(super) fn new(inherited: Inherited) -> io::Result<Arc<Self>> {
        let Inherited { socket, elders } = inherited;
        for elder in &elders {
            elder.way.set_nonblocking(true)?;
        }
        let inner = TokioRuntime.wrap_udp_socket(socket.try_clone()?)?;
        let (elders, reading) = (Mutex::new(elders), Mutex::default());
        Ok(Arc::new(Self { inner, socket, mark: Mark::random(), elders, reading }))
    }

    pub(super) fn mark(&self) -> Mark {
        self.mark
    }

    /// What another process needs to take the socket over; it must not read before [`Shared::give`].
    ///
    /// # Errors
    /// When descriptors ran out.
    pub(super) fn to_hand_over(&self) -> io::Result<(Inherited, Given)> {
        let (way, given) = UnixDatagram::pair()?;
        for end in [&way, &given] {
            // A wish: with less, more is lost when we are slow.
            let _ = SockRef::from(end).set_send_buffer_size(WAY_BYTES);
        }
        given.set_nonblocking(true)?;
        let mut elders = vec![Elder { mark: self.mark, way }];
        for elder in &*self.elders.lock() {
            elders.push(Elder { mark: elder.mark, way: elder.way.try_clone()? });
        }
        Ok((Inherited { socket: self.socket.try_clone()?, elders }, Given(given)))
    }

    /// Reads the socket no more.
    pub(super) fn give(&self, given: Given) {
        let mut reading = self.reading.lock();
        reading.given = Some(Way::New(given.0));
        reading.wake();
    }

    /// Reads it again: who had it is gone.
    pub(super) fn take_back(&self) {
        let mut reading = self.reading.lock();
        reading.given = None;
        reading.wake();
    }

    /// Passes on what is not ours; no more is left of it than a length of none.
    fn sort(&self, bufs: &mut [IoSliceMut<'_>], metas: &mut [RecvMeta]) {
        let mut elders = self.elders.lock();
        if elders.is_empty() {
            return;
        }
        for (buf, meta) in bufs.iter_mut().zip(metas) {
            meta.len = keep_ours(buf, *meta, &mut elders);
        }
    }
}

impl Reading {
    fn wake(&mut self) {
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
    }

    /// None: the socket is ours to read.
    fn poll_given(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut [u8],
        meta: &mut RecvMeta,
    ) -> Option<Poll<io::Result<usize>>> {
        if let Some(Way::New(_)) = &self.given
            && let Some(Way::New(way)) = self.given.take()
        {
            match tokio::net::UnixDatagram::from_std(way) {
                Ok(way) => self.given = Some(Way::Watched(way, vec![0; HEAD_BYTES + MAX_PIECE_BYTES])),
                Err(error) => return Some(Poll::Ready(Err(error))),
            }
        }
        let Some(Way::Watched(way, room)) = &mut self.given else {
            self.reader = Some(cx.waker().clone());
            return None;
        };
        let mut came = ReadBuf::new(room);
        Some(match way.poll_recv(cx, &mut came) {
            Poll::Pending => {
                self.reader = Some(cx.waker().clone());
                Poll::Pending
            }
            Poll::Ready(Ok(())) => {
                *meta = unpack(came.filled(), buf).unwrap_or_default();
                Poll::Ready(Ok(1))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
        })
    }
}

/// Passes on those packets of a piece that are an elder's, moves the others together, and says how many bytes these are.
fn keep_ours(buf: &mut [u8], meta: RecvMeta, elders: &mut Vec<Elder>) -> usize {
    let stride = meta.stride.max(1);
    let mut kept = 0;
    let mut at = 0;
    while at < meta.len {
        let end = meta.len.min(at + stride);
        let mark = Mark::of(&buf[at..end]);
        match mark.and_then(|mark| elders.iter().position(|elder| elder.mark == mark)) {
            Some(elder) => {
                // Of one piece all are as a rule, and one call is enough for them.
                let run = run_of(&buf[at..meta.len], stride, mark);
                let meta = RecvMeta { len: run, stride, ..meta };
                if is_gone(elders[elder].pass_on(meta, &buf[at..at + run])) {
                    // Whoever sends to it is told so, by a reset of ours.
                    elders.swap_remove(elder);
                    continue;
                }
                at += run;
            }
            None => {
                buf.copy_within(at..end, kept);
                kept += end - at;
                at = end;
            }
        }
    }
    kept
}

/// How many bytes of packets there are of this mark before the first of another.
fn run_of(piece: &[u8], stride: usize, mark: Option<Mark>) -> usize {
    piece.chunks(stride).take_while(|packet| Mark::of(packet) == mark).map(<[u8]>::len).sum()
}

impl Elder {
    fn pass_on(&self, meta: RecvMeta, packets: &[u8]) -> io::Result<usize> {
        let head = pack(meta);
        SockRef::from(&self.way).send_vectored(&[IoSlice::new(&head), IoSlice::new(packets)])
    }
}

/// A full way loses packets, as lines do; one whose end was closed leads nowhere.
fn is_gone(sent: io::Result<usize>) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionRefused, ConnectionReset, NotConnected};
    sent.is_err_and(|error| {
        matches!(error.kind(), BrokenPipe | ConnectionRefused | ConnectionReset | NotConnected)
    })
}

/// What the kernel joins at most (GRO).
const MAX_PIECE_BYTES: usize = 64 * 1024;
/// ECN, stride, where it comes from (family, address, port, flow, scope) and where it went (family, address).
const HEAD_BYTES: usize = 1 + 2 + (1 + 16 + 2 + 4 + 4) + (1 + 16);

fn pack(meta: RecvMeta) -> [u8; HEAD_BYTES] {
    let mut head = [0; HEAD_BYTES];
    head[0] = meta.ecn.map_or(0, |ecn| ecn as u8);
    let stride = u16::try_from(meta.stride).unwrap_or(u16::MAX);
    head[1..3].copy_from_slice(&stride.to_be_bytes());
    pack_ip(Some(meta.addr.ip()), &mut head[3..20]);
    head[20..22].copy_from_slice(&meta.addr.port().to_be_bytes());
    if let SocketAddr::V6(addr) = meta.addr {
        head[22..26].copy_from_slice(&addr.flowinfo().to_be_bytes());
        head[26..30].copy_from_slice(&addr.scope_id().to_be_bytes());
    }
    pack_ip(meta.dst_ip, &mut head[30..47]);
    head
}

fn pack_ip(ip: Option<IpAddr>, into: &mut [u8]) {
    match ip {
        None => {}
        Some(IpAddr::V4(ip)) => {
            into[0] = 4;
            into[1..5].copy_from_slice(&ip.octets());
        }
        Some(IpAddr::V6(ip)) => {
            into[0] = 6;
            into[1..17].copy_from_slice(&ip.octets());
        }
    }
}

fn unpack_ip(from: &[u8]) -> Option<IpAddr> {
    match from.first()? {
        4 => from.get(1..)?.first_chunk().map(|ip: &[u8; 4]| Ipv4Addr::from(*ip).into()),
        6 => from.get(1..)?.first_chunk().map(|ip: &[u8; 16]| Ipv6Addr::from(*ip).into()),
        _ => None,
    }
}

/// The packets of a piece into `buf`, as many as find room whole. None: it is none of ours.
fn unpack(came: &[u8], buf: &mut [u8]) -> Option<RecvMeta> {
    let (head, packets) = came.split_first_chunk::<HEAD_BYTES>()?;
    let number = |at: usize| u32::from_be_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
    let stride = usize::from(u16::from_be_bytes([head[1], head[2]])).max(1);
    let port = u16::from_be_bytes([head[20], head[21]]);
    let addr = match unpack_ip(&head[3..20])? {
        IpAddr::V4(ip) => SocketAddr::from((ip, port)),
        IpAddr::V6(ip) => SocketAddrV6::new(ip, port, number(22), number(26)).into(),
    };
    let len = if packets.len() <= buf.len() { packets.len() } else { buf.len() / stride * stride };
    buf[..len].copy_from_slice(&packets[..len]);
    let (ecn, dst_ip) = (EcnCodepoint::from_bits(head[0]), unpack_ip(&head[30..47]));
    Some(RecvMeta { addr, len, stride, ecn, dst_ip })
}

impl AsyncUdpSocket for Shared {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Arc::clone(&self.inner).create_io_poller()
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        self.inner.try_send(transmit)
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        metas: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        // Held while the socket is read, so that nothing is read of it once it was given.
        let mut reading = self.reading.lock();
        if let Some(given) = reading.poll_given(cx, &mut bufs[0], &mut metas[0]) {
            return given;
        }
        let count = ready!(self.inner.poll_recv(cx, bufs, metas))?;
        drop(reading);
        self.sort(&mut bufs[..count], &mut metas[..count]);
        Poll::Ready(Ok(count))
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.inner.local_addr()
    }

    fn max_transmit_segments(&self) -> usize {
        self.inner.max_transmit_segments()
    }

    fn max_receive_segments(&self) -> usize {
        self.inner.max_receive_segments()
    }

    fn may_fragment(&self) -> bool {
        self.inner.may_fragment()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn addr() -> impl Strategy<Value = SocketAddr> {
        prop_oneof![
            (any::<[u8; 4]>(), any::<u16>()).prop_map(|(ip, port)| SocketAddr::from((ip, port))),
            (any::<[u8; 16]>(), any::<u16>(), any::<u32>(), any::<u32>())
                .prop_map(|(ip, port, flow, scope)| SocketAddrV6::new(ip.into(), port, flow, scope).into()),
        ]
    }

    fn meta() -> impl Strategy<Value = RecvMeta> {
        (addr(), 1..1500_usize, 0..4_u8, proptest::option::of(any::<IpAddr>())).prop_map(
            |(addr, stride, ecn, dst_ip)| {
                let ecn = EcnCodepoint::from_bits(ecn);
                RecvMeta { addr, len: 0, stride, ecn, dst_ip }
            },
        )
    }

    /// A packet of a connection whose id begins so.
    fn packet(mark: Mark, is_long: bool, fill: u8, len: usize) -> Vec<u8> {
        let mut packet = if is_long { vec![0xe0, 0, 0, 0, 1, 8] } else { vec![0x40] };
        packet.extend(mark.0);
        packet.resize(len, fill);
        packet
    }

    proptest! {
        #[test]
        fn packets_come_to_the_elder_as_they_came(meta in meta(), packets in proptest::collection::vec(any::<u8>(), 0..4000)) {
            let mut came = pack(meta).to_vec();
            came.extend(&packets);
            let mut buf = vec![0; 4000];
            let unpacked = unpack(&came, &mut buf).unwrap();
            prop_assert_eq!(&buf[..unpacked.len], &packets[..]);
            prop_assert_eq!((unpacked.addr, unpacked.stride, unpacked.ecn, unpacked.dst_ip), (meta.addr, meta.stride, meta.ecn, meta.dst_ip));
        }

        #[test]
        fn nothing_from_the_network_and_no_piece_breaks_it(bytes in proptest::collection::vec(any::<u8>(), 0..200), stride in 0..100_usize) {
            let _ = Mark::of(&bytes);
            let _ = unpack(&bytes, &mut [0; 20]);
            let (way, _end) = UnixDatagram::pair().unwrap();
            let mark = bytes.get(1..5).and_then(<[u8]>::first_chunk).copied().unwrap_or_default();
            let mut elders = vec![Elder { mark: Mark(mark), way }];
            let mut buf = bytes.clone();
            let meta = RecvMeta { len: bytes.len(), stride, ..RecvMeta::default() };
            prop_assert!(keep_ours(&mut buf, meta, &mut elders) <= bytes.len());
        }
    }

    #[test]
    fn each_process_gets_its_packets_whatever_the_kernel_joined() {
        let (ours, theirs) = (Mark(*b"ours"), Mark(*b"them"));
        let (way, end) = UnixDatagram::pair().unwrap();
        let mut elders = vec![Elder { mark: theirs, way }];
        let came = [
            packet(ours, false, 1, 100),
            packet(theirs, true, 2, 100),
            packet(theirs, false, 3, 100),
            packet(ours, true, 4, 100),
            packet(theirs, false, 5, 40),
        ];
        let mut buf = came.concat();
        let addr = SocketAddr::from(([192, 0, 2, 1], 443));
        let meta = RecvMeta { addr, len: buf.len(), stride: 100, ..RecvMeta::default() };
        let kept = keep_ours(&mut buf, meta, &mut elders);
        assert_eq!(buf[..kept], [&came[0][..], &came[3]].concat());
        let mut room = vec![0; HEAD_BYTES + 1000];
        let mut passed = || {
            let count = end.recv(&mut room).unwrap();
            let mut buf = vec![0; 1000];
            let meta = unpack(&room[..count], &mut buf).unwrap();
            assert_eq!((meta.addr, meta.stride), (addr, 100));
            buf.truncate(meta.len);
            buf
        };
        assert_eq!(passed(), [&came[1][..], &came[2]].concat());
        assert_eq!(passed(), came[4]);

        // Once it is gone its packets are nobody's: we are to answer them.
        drop(end);
        let mut buf = came.concat();
        assert_eq!(keep_ours(&mut buf, meta, &mut elders), meta.len);
        assert!(elders.is_empty() && buf == came.concat());
    }

    #[test]
    fn ids_of_ours_are_known_by_their_mark_and_a_strangers_first_is_not() {
        let mark = Mark::random();
        let id = mark.id();
        assert_eq!(id.len(), ID_BYTES);
        let mut short = vec![0x41];
        short.extend_from_slice(&id);
        assert_eq!(Mark::of(&short), Some(mark));
        let mut long = vec![0xc0, 0, 0, 0, 1, 20];
        long.extend([7; 40]);
        assert_eq!(Mark::of(&long), None, "twenty bytes are no id of ours");
        assert_ne!(mark.id(), id);
    }
}
