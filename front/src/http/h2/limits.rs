//! Limits of an HTTP/2 connection that no person needs to set.

/// Requests at once on one connection; more are refused with REFUSED_STREAM, which is safe to repeat.
pub(super) const MAX_STREAMS: u32 = 100;
/// What one upload may have in flight until it is seen to be taken on quickly: 256 KiB is 100 Mbit/s at 20 ms.
pub(super) const STREAM_WINDOW_BYTES: usize = 256 * 1024;
pub(super) const CONNECTION_WINDOW_BYTES: usize = 1024 * 1024;
/// And at most: twice what a path of 600 Mbit/s and 100 ms holds.
pub(super) const MAX_STREAM_WINDOW_BYTES: usize = 16 * 1024 * 1024;
/// How far a connection's window makes room for uploads that stand still beside one that moves.
pub(super) const MAX_HELD_BYTES: usize = 4 * 1024 * 1024;
/// So much has to move before the path is measured: most requests are over before.
pub(super) const PROBE_BYTES: usize = 16 * 1024;
/// The sum of all fields of a request, counted while they are decompressed.
pub(super) const MAX_HEADER_LIST_BYTES: u32 = 64 * 1024;
/// Streams that were reset before we saw them (hazard 70).
pub(super) const MAX_PENDING_RESETS: usize = 20;
/// Resets that a visitor may provoke from us on one connection (hazard 71).
pub(super) const MAX_PROVOKED_RESETS: usize = 128;
/// What h2 may hold of small DATA frames that nobody has read yet: 256 less its length each, which is about the memory
/// that it takes. More than twice what one turn of reading ([`TURN_BYTES`]) can bring; streams take theirs in between
/// turns. Beyond it the connection ends.
pub(super) const SMALL_FRAMES_BUDGET: usize = 4 * 1024 * 1024;
/// How much of a connection is read before its streams get their turn: 6,500 of the smallest DATA frames.
pub(super) const TURN_BYTES: usize = 64 * 1024;
