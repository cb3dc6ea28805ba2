//! The protocol's limits and clocks: both ends hold to the same figures.

use std::time::Duration;

/// A request or response head: 64 KiB of header fields (hazard 29, 141), 8 KiB of target, and room for the rest.
pub const MAX_HEAD_BYTES: usize = 80 * 1024;
/// Trailers of one message (hazard 17).
pub const MAX_TRAILER_BYTES: usize = 16 * 1024;
/// Fields of one head: 100 from a visitor, 200 from an origin (hazards 29, 141), and those that the edge adds.
pub const MAX_FIELDS: usize = 256;
/// Interim (1xx) answers before the final one; an endless series is an attack (hazard 145).
pub const MAX_INTERIM: usize = 16;
/// One DATA frame. Its payload is handed on as it arrives, so this bounds nothing but nonsense.
pub const MAX_DATA_BYTES: u64 = 1 << 30;
/// One control message: 4,096 hostnames of the longest kind.
pub const MAX_MESSAGE_BYTES: usize = 2 * 1024 * 1024;
/// The first message of a stranger, before it has proved anything.
pub const MAX_HELLO_BYTES: usize = 16 * 1024;
/// Hostnames that one connector may announce.
pub const MAX_ROUTES: usize = 4096;

/// Granted patterns that a Welcome names: for a person to choose from.
pub const MAX_TOLD_GRANTS: usize = 64;

/// From the first packet to Welcome or Refused.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// What dialling waits for the first packet of an answer: an address where nobody listens is given up after it.
pub const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);
/// How often the connector of an otherwise idle primary session has the edge answer: both ends hear of each other, and a
/// NAT keeps its mapping. The edge itself asks nothing.
pub const KEEP_ALIVE: Duration = Duration::from_secs(1);
/// The same of a standby, which nobody waits for.
pub const STANDBY_KEEP_ALIVE: Duration = Duration::from_secs(5);
/// Silence beyond a keep-alive after which a session is suspected: a primary's after 1.5 s in all. With it death is noticed
/// within 2 s, and others have served what it held within 3 s (hazard 152).
pub const SUSPECT_MARGIN: Duration = Duration::from_millis(500);
/// What the margin grows to on a line with a long round trip.
pub const MAX_SUSPECT_MARGIN: Duration = Duration::from_millis(1500);
/// How often a session that is suspected, or doubted, is asked whether it lives: a line that comes back is used as soon. The transport's own
/// probes come ever more rarely.
pub const PROBE_INTERVAL: Duration = Duration::from_millis(150);
/// What an old session may still say once another one of the same connector is up and it is silent: then it is given up.
pub const SUCCESSION: Duration = Duration::from_millis(1500);
/// Silence after which a session is given up: until then a line that comes back finds everything as it was.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(30);
/// How often a connector reports its figures.
pub const STATS_INTERVAL: Duration = Duration::from_secs(10);

/// What a stream may have under way of which nothing is known yet: a small message whole, and less than 20 Mbit/s at 30 ms of
/// round trip; from there windows follow the path ([`crate::flow`]).
pub const FIRST_WINDOW_BYTES: u64 = 64 * 1024;
/// The same when the budget is near its end.
pub const SMALL_WINDOW_BYTES: u64 = 16 * 1024;
/// What one stream may have under way at most: 320 Mbit/s at 100 ms of round trip, and as much again for each further stream.
/// quinn ends the whole session when 1,024 gaps are in what it has of one stream (hazard 208). Chance that takes one of two of the
/// 3,580 packets of 1,200 bytes that fit in here leaves 900. The carrier's own windows are a quarter wider for every stream, and stop only
/// a peer that keeps to no limit.
pub const MAX_WINDOW_BYTES: u64 = 4 * 1024 * 1024;
/// What a peer that has proved nothing yet may make us hold: two Hellos.
pub const STRANGER_WINDOW_BYTES: u32 = 32 * 1024;
/// Streams that a connector lets the edge open at first. quinn reserves memory for each: 50 kB at 256, 1.1 MB at 10,000.
pub const FIRST_STREAMS: u32 = 256;
/// What [`FIRST_STREAMS`] may grow to when they are in use: ten thousand visitors who take their time, and as many again for those
/// who do not.
pub const MAX_STREAMS: u32 = 32_768;
/// Datagrams of one session that wait to be sent, or to be taken: the oldest are dropped for newer ones.
pub const DATAGRAM_BUFFER_BYTES: usize = 64 * 1024;
/// UDP socket buffers: the usual 212 kB loses packets under load.
pub const UDP_BUFFER_BYTES: usize = 4 * 1024 * 1024;
/// Half-open handshakes above which the edge asks every stranger to prove its address first (hazard 82).
pub const RETRY_THRESHOLD: usize = 256;
/// Half-open handshakes above which strangers are turned away at once.
pub const MAX_HANDSHAKES: usize = 4096;

/// What a connection of another protocol on the tunnel's port may have open at once ([`crate::guest`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// Streams of both directions, opened by the guest.
    pub streams: u32,
    /// Streams that only the guest sends on.
    pub one_way: u32,
}
