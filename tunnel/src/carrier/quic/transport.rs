//! QUIC's parameters for both ends.

use std::sync::Arc;
use std::time::Duration;

use quinn::{IdleTimeout, TransportConfig, VarInt};

use crate::limits::{
    FIRST_STREAMS, IDLE_TIMEOUT, KEEP_ALIVE, MAX_STREAMS, SEND_WINDOW_BYTES, STREAM_WINDOW_BYTES,
};

/// The edge takes one stream from a connector, the control stream; it opens all others itself.
pub(super) fn edge() -> Arc<TransportConfig> {
    let mut config = common();
    config.max_concurrent_bidi_streams(VarInt::from_u32(1)).receive_window(session_window(MAX_STREAMS));
    Arc::new(config)
}

pub(super) fn connector() -> Arc<TransportConfig> {
    let mut config = common();
    config
        .max_concurrent_bidi_streams(VarInt::from_u32(FIRST_STREAMS))
        .receive_window(session_window(FIRST_STREAMS));
    Arc::new(config)
}

pub(super) fn common() -> TransportConfig {
    let mut config = TransportConfig::default();
    let idle = IdleTimeout::try_from(IDLE_TIMEOUT).expect("a few seconds fit");
    config
        .max_concurrent_uni_streams(VarInt::from_u32(4))
        .max_idle_timeout(Some(idle))
        .keep_alive_interval(Some(KEEP_ALIVE))
        .stream_receive_window(VarInt::from_u32(STREAM_WINDOW_BYTES))
        .send_window(SEND_WINDOW_BYTES)
        // Until a kind of stream has its datagrams read: what nobody takes would stay, each with the packet that brought it.
        .datagram_receive_buffer_size(None)
        // The first retransmission comes after three of these: a link that just came back is used at once.
        .initial_rtt(Duration::from_millis(100));
    config
}

/// A window for every stream, so that no stream can be starved by stalled neighbours.
pub(super) fn session_window(streams: u32) -> VarInt {
    VarInt::from_u64(u64::from(streams) * u64::from(STREAM_WINDOW_BYTES)).expect("below 2^62")
}
