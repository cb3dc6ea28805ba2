//! Content that both ends can make and check without storing it: a repeating pattern of any length, and its SHA-256.

use std::pin::Pin;
use std::task::{Context, Poll};

use aws_lc_rs::digest;
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

/// One chunk of the pattern. 64 KiB: large enough to be cheap, small enough to show back-pressure.
const CHUNK_BYTES: usize = 64 * 1024;

/// A body of `length` pattern bytes that never holds more than one chunk.
#[derive(Debug)]
pub struct Pattern {
    chunk: Bytes,
    left: u64,
    /// Whether the length is told to the HTTP layer (Content-Length) or not (chunked).
    announce: bool,
}

impl Pattern {
    pub fn sized(length: u64) -> Self {
        Self { chunk: chunk(), left: length, announce: true }
    }

    pub fn unsized_(length: u64) -> Self {
        Self { announce: false, ..Self::sized(length) }
    }

    /// The next bytes of the body, for a caller that writes them itself.
    pub fn take_chunk(&mut self) -> Option<Bytes> {
        if self.left == 0 {
            return None;
        }
        let take = usize::try_from(self.left).map_or(CHUNK_BYTES, |left| left.min(CHUNK_BYTES));
        self.left -= take as u64;
        Some(self.chunk.slice(..take))
    }
}

impl Body for Pattern {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        Poll::Ready(self.take_chunk().map(|chunk| Ok(Frame::data(chunk))))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        if self.announce { SizeHint::with_exact(self.left) } else { SizeHint::new() }
    }
}

/// The SHA-256 of `length` pattern bytes, as hexadecimal digits.
pub fn pattern_sum(length: u64) -> String {
    let mut pattern = Pattern::sized(length);
    let mut sum = Sum::default();
    while let Some(chunk) = pattern.take_chunk() {
        sum.update(&chunk);
    }
    sum.finish()
}

/// A running SHA-256.
pub struct Sum {
    context: digest::Context,
    bytes: u64,
}

impl std::fmt::Debug for Sum {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sum").field("bytes", &self.bytes).finish_non_exhaustive()
    }
}

impl Default for Sum {
    fn default() -> Self {
        Self { context: digest::Context::new(&digest::SHA256), bytes: 0 }
    }
}

impl Sum {
    pub fn update(&mut self, data: &[u8]) {
        self.bytes += data.len() as u64;
        self.context.update(data);
    }

    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    pub fn finish(self) -> String {
        self.context.finish().as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// The position-dependent bytes that every chunk repeats: a lost, doubled or swapped piece changes the sum.
fn chunk() -> Bytes {
    (0..CHUNK_BYTES).map(|i| (i.wrapping_mul(131) ^ (i >> 8)).to_le_bytes()[0]).collect::<Vec<_>>().into()
}
