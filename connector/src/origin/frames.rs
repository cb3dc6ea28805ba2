//! What h2 gets to see of an origin's byte stream: every frame but the empty DATA frames that say nothing. h2 ends a
//! connection that has brought a hundred of them in its life, and with it the requests of everybody on it; to an origin
//! that flushes an empty buffer with each answer that happens soon.
//!
//! Empty frames with padding stay, since they use up windows: they are a flood, and h2 takes them for one.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A byte stream without them.
#[derive(Debug)]
pub(super) struct WithoutEmptyFrames<T> {
    inner: T,
    scanner: Scanner,
}

/// Follows the frames of one direction. Pure: bytes come in, and fewer go out.
#[derive(Debug, Default)]
struct Scanner {
    /// Of the current frame's payload: what has not passed yet.
    skip: usize,
    /// A frame's header that has not come whole, held back.
    header: [u8; HEADER_BYTES],
    held: usize,
    /// What of `header` was let pass and not handed out yet: its last so many bytes.
    owed: usize,
}

const HEADER_BYTES: usize = 9;
const DATA: u8 = 0;
const END_STREAM: u8 = 0x1;
const PADDED: u8 = 0x8;

impl<T> WithoutEmptyFrames<T> {
    pub(super) fn new(inner: T) -> Self {
        Self { inner, scanner: Scanner::default() }
    }
}

impl Scanner {
    /// Takes bytes that were read and moves those that stay to the front; returns how many they are. Nothing may be held
    /// from earlier.
    fn pass(&mut self, bytes: &mut [u8]) -> usize {
        let (mut read, mut kept) = (0, 0);
        while read < bytes.len() {
            if self.skip == 0 {
                let Some(header) = bytes[read..].first_chunk::<HEADER_BYTES>().copied() else {
                    self.held = bytes.len() - read;
                    self.header[..self.held].copy_from_slice(&bytes[read..]);
                    break;
                };
                if !self.begin(header) {
                    read += HEADER_BYTES;
                    continue;
                }
                // The header itself passes with its payload.
                self.skip += HEADER_BYTES;
            }
            let count = self.skip.min(bytes.len() - read);
            if kept != read {
                bytes.copy_within(read..read + count, kept);
            }
            (read, kept, self.skip) = (read + count, kept + count, self.skip - count);
        }
        kept
    }

    /// Whether the frame passes.
    fn begin(&mut self, header: [u8; HEADER_BYTES]) -> bool {
        let [a, b, c, kind, flags, id @ ..] = header;
        let length = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
        let says_nothing = kind == DATA && length == 0 && flags & (END_STREAM | PADDED) == 0 && id != [0; 4];
        self.skip = length;
        !says_nothing
    }

    /// Takes the next byte of a header that is held.
    fn complete(&mut self, byte: u8) {
        self.header[self.held] = byte;
        self.held += 1;
        if self.held == HEADER_BYTES {
            self.held = 0;
            if self.begin(self.header) {
                self.owed = HEADER_BYTES;
            }
        }
    }

    /// Hands out a header that was held, as far as there is room.
    fn give(&mut self, buf: &mut ReadBuf<'_>) {
        let count = self.owed.min(buf.remaining());
        let from = HEADER_BYTES - self.owed;
        buf.put_slice(&self.header[from..from + count]);
        self.owed -= count;
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for WithoutEmptyFrames<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Self { inner, scanner } = &mut *self;
        if buf.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        loop {
            if scanner.owed > 0 {
                scanner.give(buf);
                return Poll::Ready(Ok(()));
            }
            if scanner.held > 0 {
                // A header that lies across two reads is rare: its rest is read by itself.
                let mut rest = [0; HEADER_BYTES];
                let mut rest = ReadBuf::new(&mut rest[..HEADER_BYTES - scanner.held]);
                ready!(Pin::new(&mut *inner).poll_read(cx, &mut rest))?;
                if rest.filled().is_empty() {
                    return Poll::Ready(Ok(()));
                }
                rest.filled().iter().for_each(|byte| scanner.complete(*byte));
                continue;
            }
            let before = buf.filled().len();
            ready!(Pin::new(&mut *inner).poll_read(cx, buf))?;
            if buf.filled().len() == before {
                return Poll::Ready(Ok(()));
            }
            let kept = scanner.pass(&mut buf.filled_mut()[before..]);
            buf.set_filled(before + kept);
            // No bytes would look like the end.
            if kept > 0 {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for WithoutEmptyFrames<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{Just, Strategy, any, prop, prop_assert_eq, prop_oneof, proptest};
    use tokio::io::AsyncReadExt;

    use super::*;

    fn frame(kind: u8, flags: u8, id: u8, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        let mut frame = vec![length[1], length[2], length[3], kind, flags, 0, 0, 0, id];
        frame.extend_from_slice(payload);
        frame
    }

    /// Reads it all: `pieces` is how the origin writes, `room` how much the reader takes at once.
    fn read(wire: &[u8], pieces: &[usize], room: usize) -> Vec<u8> {
        let mut script = in_pieces(wire, pieces);
        let mut out = Vec::new();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let mut buffer = vec![0; room];
            loop {
                match script.read(&mut buffer).await.unwrap() {
                    0 => break,
                    count => out.extend_from_slice(&buffer[..count]),
                }
            }
        });
        out
    }

    /// A stream that hands out the wire in these pieces, over and over.
    fn in_pieces(wire: &[u8], pieces: &[usize]) -> WithoutEmptyFrames<Pieces> {
        let pieces = if pieces.is_empty() { vec![usize::MAX] } else { pieces.to_vec() };
        WithoutEmptyFrames::new(Pieces { wire: wire.to_vec(), at: 0, pieces, turn: 0 })
    }

    struct Pieces {
        wire: Vec<u8>,
        at: usize,
        pieces: Vec<usize>,
        turn: usize,
    }

    impl AsyncRead for Pieces {
        fn poll_read(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            buf: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            let size = self.pieces[self.turn % self.pieces.len()].max(1);
            let count = size.min(buf.remaining()).min(self.wire.len() - self.at);
            buf.put_slice(&self.wire[self.at..self.at + count]);
            (self.at, self.turn) = (self.at + count, self.turn + 1);
            Poll::Ready(Ok(()))
        }
    }

    #[test]
    fn only_empty_data_frames_that_say_nothing_are_dropped() {
        let kept = [
            frame(4, 0, 0, b""),
            frame(1, 4, 1, b"head"),
            frame(0, 0, 1, b"data"),
            frame(0, PADDED, 1, b"\0"),
            // An error that h2 has to see, and an end.
            frame(0, 0, 0, b""),
            frame(0, END_STREAM, 1, b""),
        ];
        let empty = frame(0, 0, 1, b"");
        let wire: Vec<u8> =
            kept.iter().flat_map(|frame| [&empty[..], &empty, frame]).flatten().copied().collect();
        assert_eq!(read(&wire, &[], 4096), kept.concat());
        assert_eq!(read(&empty.repeat(10_000), &[], 4096), b"");
    }

    fn frames() -> impl Strategy<Value = Vec<(bool, Vec<u8>)>> {
        let empty = Just((true, frame(0, 0, 3, b"")));
        let other = (any::<u8>(), any::<u8>(), 1_u8..9, prop::collection::vec(any::<u8>(), 1..40))
            .prop_map(|(kind, flags, id, payload)| (false, frame(kind, flags, id, &payload)));
        prop::collection::vec(prop_oneof![empty, other], 0..40)
    }

    proptest! {
        #[test]
        fn any_split_passes_the_same(
            frames in frames(),
            pieces in prop::collection::vec(1_usize..30, 0..8),
            room in 1_usize..40,
        ) {
            let wire: Vec<u8> = frames.iter().flat_map(|(_, bytes)| bytes.clone()).collect();
            let kept: Vec<u8> =
                frames.iter().filter(|(empty, _)| !empty).flat_map(|(_, bytes)| bytes.clone()).collect();
            prop_assert_eq!(read(&wire, &pieces, room), kept);
        }

        #[test]
        fn any_bytes_pass_without_a_panic(
            wire in prop::collection::vec(any::<u8>(), 0..400),
            pieces in prop::collection::vec(1_usize..30, 0..8),
            room in 1_usize..40,
        ) {
            read(&wire, &pieces, room);
        }
    }
}
