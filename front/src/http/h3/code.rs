//! The numbers by which HTTP/3 says why something ended (RFC 9114 §8.1, RFC 9204 §6).

pub(super) const NO_ERROR: u32 = 0x100;
pub(super) const INTERNAL_ERROR: u32 = 0x102;
pub(super) const STREAM_CREATION_ERROR: u32 = 0x103;
pub(super) const CLOSED_CRITICAL_STREAM: u32 = 0x104;
pub(super) const FRAME_UNEXPECTED: u32 = 0x105;
pub(super) const FRAME_ERROR: u32 = 0x106;
pub const EXCESSIVE_LOAD: u32 = 0x107;
pub(super) const ID_ERROR: u32 = 0x108;
pub(super) const SETTINGS_ERROR: u32 = 0x109;
pub(super) const MISSING_SETTINGS: u32 = 0x10a;
pub(super) const REQUEST_REJECTED: u32 = 0x10b;
pub(super) const REQUEST_CANCELLED: u32 = 0x10c;
pub(super) const REQUEST_INCOMPLETE: u32 = 0x10d;
pub(super) const MESSAGE_ERROR: u32 = 0x10e;
pub(super) const DECOMPRESSION_FAILED: u32 = 0x200;
pub(super) const ENCODER_STREAM_ERROR: u32 = 0x201;
pub(super) const DECODER_STREAM_ERROR: u32 = 0x202;

/// What ends the whole connection, and why in words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct Fault {
    pub code: u32,
    pub reason: &'static str,
}

impl Fault {
    pub(super) const fn new(code: u32, reason: &'static str) -> Self {
        Self { code, reason }
    }
}
