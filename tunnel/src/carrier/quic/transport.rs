//! QUIC's parameters for both ends.

use std::sync::Arc;
use std::time::Duration;

use quinn::{IdleTimeout, TransportConfig, VarInt};

use super::congestion;
use crate::carrier::Congestion;
use crate::limits::{FIRST_STREAMS, IDLE_TIMEOUT, MAX_WINDOW_BYTES, STRANGER_WINDOW_BYTES};

/// Nobody would read them.
pub(super) const UNI_STREAMS: u32 = 0;
/// On the edge's port nobody knows yet who speaks another protocol: to visitors so many are promised (RFC 9114 §6.2). A
/// session ends with the first.
const GUEST_UNI_STREAMS: u32 = 3;

/// The edge takes one stream from a connector, the control stream; it opens all others itself.
pub(super) fn edge(congestion: Congestion) -> Arc<TransportConfig> {
    let mut config = common(congestion);
    config
        .max_concurrent_bidi_streams(VarInt::from_u32(1))
        .max_concurrent_uni_streams(VarInt::from_u32(GUEST_UNI_STREAMS));
    Arc::new(config)
}

/// It alone keeps the session alive: what the edge hears it answers.
pub(super) fn connector(congestion: Congestion, keep_alive: Duration) -> Arc<TransportConfig> {
    let mut config = common(congestion);
    config.keep_alive_interval(Some(keep_alive)).max_concurrent_bidi_streams(streams(FIRST_STREAMS));
    Arc::new(config)
}

pub(super) fn common(congestion: Congestion) -> TransportConfig {
    let mut config = TransportConfig::default();
    let idle = IdleTimeout::try_from(IDLE_TIMEOUT).expect("a few seconds fit");
    config
        .max_concurrent_uni_streams(VarInt::from_u32(UNI_STREAMS))
        .max_idle_timeout(Some(idle))
        // Never in the way of our own credit, whichever of the two is told first (quinn tells of its own after an eighth): who waits
        // for it would keep the turn of those who could write. The session's is widened once the peer is known.
        .stream_receive_window(VarInt::from_u64(MAX_WINDOW_BYTES / 4 * 5).expect("below 2^62"))
        .receive_window(VarInt::from_u32(STRANGER_WINDOW_BYTES))
        .send_window(STRANGER_WINDOW_BYTES.into())
        // Until a kind of stream has its datagrams read: what nobody takes would stay, each with the packet that brought it.
        .datagram_receive_buffer_size(None)
        // The first retransmission comes after three of these: a link that just came back is used at once.
        .congestion_controller_factory(congestion::factory(congestion))
        .initial_rtt(Duration::from_millis(100));
    config
}

/// So many for openings, and the credit stream.
pub(super) fn streams(count: u32) -> VarInt {
    VarInt::from_u32(count + 1)
}
