//! HTTP/2's parameters for both ends: what is said at first, and how little of the rest is taken.

use crate::limits::MAX_STREAMS;

/// The longest frame that is sent and taken.
pub(super) const FRAME_BYTES: u32 = 32 * 1024;
/// A stream's own window is never in the way: our credit bounds what an honest peer sends, the connection's window any other.
const STREAM_WINDOW_BYTES: u32 = 1 << 30;
/// Nobody has fewer (RFC 9113 §6.9.2): what a stranger may make us hold.
const FIRST_WINDOW_BYTES: u32 = 65_535;
/// The widest window of a connection.
pub(super) const MAX_WINDOW_BYTES: u32 = (1 << 31) - 1;
/// Heads are a method and a path of two letters.
const HEADER_BYTES: u32 = 1024;
/// What small frames of one turn may cost in the library beside their bytes: as many of the shortest as fit into what a turn reads.
const SMALL_FRAMES_BYTES: usize = 8 * 1024 * 1024;
/// Streams beside those for openings: the notes, the reserved one for the connector's, and the credit stream.
const OTHER_STREAMS: u32 = 4;
/// The edge may open so many before it has heard what it may.
const FIRST_STREAMS: usize = 2;
/// Streams that were reset and are not forgotten yet: either end resets by a record, and then ends both directions.
const RESET_STREAMS: usize = 64;

/// The edge's, which opens all streams.
pub(super) fn edge() -> h2::client::Builder {
    let mut builder = h2::client::Builder::new();
    builder
        .enable_push(false)
        .initial_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(FIRST_WINDOW_BYTES)
        .max_frame_size(FRAME_BYTES)
        .max_header_list_size(HEADER_BYTES)
        .max_concurrent_streams(0)
        .initial_max_send_streams(FIRST_STREAMS)
        .max_concurrent_reset_streams(RESET_STREAMS)
        .max_send_buffer_size(usize::try_from(MAX_WINDOW_BYTES).unwrap_or(usize::MAX))
        .data_frame_budget(SMALL_FRAMES_BYTES);
    builder
}

/// The connector's. Memory is used by the streams that there are, so that it allows all at once.
pub(super) fn connector() -> h2::server::Builder {
    let mut builder = h2::server::Builder::new();
    builder
        .initial_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(FIRST_WINDOW_BYTES)
        .max_frame_size(FRAME_BYTES)
        .max_header_list_size(HEADER_BYTES)
        .max_concurrent_streams(MAX_STREAMS + OTHER_STREAMS)
        .max_concurrent_reset_streams(RESET_STREAMS)
        .max_pending_accept_reset_streams(RESET_STREAMS)
        .max_send_buffer_size(usize::try_from(MAX_WINDOW_BYTES).unwrap_or(usize::MAX))
        .data_frame_budget(SMALL_FRAMES_BYTES);
    builder
}
