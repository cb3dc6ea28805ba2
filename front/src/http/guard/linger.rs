//! The lingering close: our end was sent, and what still comes is thrown away for a while. Closing with unread input would
//! make the kernel send a reset, which can overtake our answer.

use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, ReadBuf};
use tokio::time::{Sleep, sleep};

/// How much of an unwanted body is thrown away before the connection is cut (hazards 31 and 146): what the sockets of both
/// ends may hold on its way, so that a visitor who stops when he sees the answer has not been cut before.
const MAX_DISCARD_BYTES: usize = 16 * 1024 * 1024;
const LINGER: Duration = Duration::from_secs(5);
const READ_BYTES: usize = 4 * 1024;

pub(super) struct Linger {
    until: Pin<Box<Sleep>>,
    discarded: usize,
}

impl Linger {
    pub(super) fn new() -> Self {
        Self { until: Box::pin(sleep(LINGER)), discarded: 0 }
    }

    /// Ready when the connection may be closed. `is_expected`: more is known to be on its way.
    pub(super) fn poll(
        &mut self,
        io: &mut (impl AsyncRead + Unpin),
        is_expected: bool,
        cx: &mut Context<'_>,
    ) -> Poll<()> {
        while self.discarded < MAX_DISCARD_BYTES {
            let mut space = [MaybeUninit::uninit(); READ_BYTES];
            let mut read = ReadBuf::uninit(&mut space);
            match Pin::new(&mut *io).poll_read(cx, &mut read) {
                Poll::Ready(Ok(())) if !read.filled().is_empty() => self.discarded += read.filled().len(),
                Poll::Ready(_) => return Poll::Ready(()),
                Poll::Pending if is_expected || self.discarded > 0 => {
                    ready!(self.until.as_mut().poll(cx));
                    return Poll::Ready(());
                }
                Poll::Pending => return Poll::Ready(()),
            }
        }
        Poll::Ready(())
    }
}
