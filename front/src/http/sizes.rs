//! What a message may weigh in memory, whatever HTTP version it comes by.

/// Longest request target; longer ones get 414.
pub const MAX_TARGET_BYTES: usize = 8 * 1024;
/// Longest field line; with the next two it bounds what a head can cost us (hazard 29).
pub const MAX_FIELD_BYTES: usize = 16 * 1024;
pub const MAX_FIELDS: usize = 100;
/// HTTP/2 counts its heads otherwise, after they are decompressed: see `h2/limits.rs`.
pub const MAX_HEAD_BYTES: usize = 64 * 1024;
/// After so many requests a connection is replaced, so that none lives for ever (hazard 78).
pub const MAX_REQUESTS: u64 = 10_000;
/// Response bytes that wait for one slow reader (hazard 75).
pub const SEND_BUFFER_BYTES: usize = 64 * 1024;
