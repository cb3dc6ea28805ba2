//! A socket whose packets are kept apart when much of them waits to be read.
//!
//! The kernel hands over many packets as one piece (GRO), and quinn keeps such a piece in one allocation: a packet that waits for
//! its reader keeps all of them. That is cheap as long as everything is read; with readers that stall it would hold many times
//! what they are charged. So from a part of the budget on each packet becomes a piece of its own, for a copy more.

use std::io::{self, IoSliceMut};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};

use quinn::udp::{RecvMeta, Transmit};
use quinn::{AsyncUdpSocket, UdpPoller};

use crate::flow::Budget;

/// Set once it is known.
pub(super) type Watched = Arc<OnceLock<Budget>>;

/// From this part of the budget on, and from so much on: less than that is the window of one bulk transfer.
const PART: usize = 16;
const BYTES: usize = 2 * 1024 * 1024;

#[derive(Debug)]
struct Apart {
    inner: Arc<dyn AsyncUdpSocket>,
    budget: Watched,
}

pub(super) fn socket(inner: Arc<dyn AsyncUdpSocket>, budget: Watched) -> Arc<dyn AsyncUdpSocket> {
    Arc::new(Apart { inner, budget })
}

impl AsyncUdpSocket for Apart {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Arc::clone(&self.inner).create_io_poller()
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        self.inner.try_send(transmit)
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        if self.budget.get().is_none_or(|budget| budget.held() <= (budget.bytes() / PART).min(BYTES)) {
            return self.inner.poll_recv(cx, bufs, meta);
        }
        match ready!(self.inner.poll_recv(cx, &mut bufs[..1], &mut meta[..1])) {
            Ok(1) => Poll::Ready(Ok(keep_apart(bufs, meta))),
            received => Poll::Ready(received),
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.inner.local_addr()
    }

    fn max_transmit_segments(&self) -> usize {
        self.inner.max_transmit_segments()
    }

    fn max_receive_segments(&self) -> usize {
        self.inner.max_receive_segments()
    }

    fn may_fragment(&self) -> bool {
        self.inner.may_fragment()
    }
}

/// Gives each packet of the first buffer one of its own; the last one keeps what is left over. How many there are then.
fn keep_apart(bufs: &mut [IoSliceMut<'_>], meta: &mut [RecvMeta]) -> usize {
    let whole = meta[0];
    let Some((first, others)) = bufs.split_first_mut() else { return 0 };
    if whole.stride == 0 || whole.len <= whole.stride {
        return 1;
    }
    meta[0].len = whole.stride;
    let (mut at, mut count) = (whole.stride, 1);
    let last = others.len().min(meta.len() - 1);
    for (buffer, meta) in others.iter_mut().zip(&mut meta[1..]) {
        if at == whole.len {
            break;
        }
        let end = if count == last { whole.len } else { whole.len.min(at + whole.stride) };
        buffer[..end - at].copy_from_slice(&first[at..end]);
        *meta = RecvMeta { len: end - at, ..whole };
        (at, count) = (end, count + 1);
    }
    count
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_are_the_same_apart_and_none_is_lost_when_there_are_more_than_buffers() {
        for (packets, slots) in [(1, 4), (3, 4), (4, 4), (9, 4)] {
            let bytes: Vec<u8> = (0..packets * 10 - 3).map(|at| u8::try_from(at).unwrap()).collect();
            let mut memory = vec![vec![0; 200]; slots];
            memory[0][..bytes.len()].copy_from_slice(&bytes);
            let mut bufs: Vec<_> = memory.iter_mut().map(|buffer| IoSliceMut::new(buffer)).collect();
            let whole = RecvMeta { len: bytes.len(), stride: 10, ..RecvMeta::default() };
            let mut meta = vec![RecvMeta::default(); slots];
            meta[0] = whole;
            let count = keep_apart(&mut bufs, &mut meta);
            assert_eq!(count, packets.min(slots));
            let all: Vec<u8> = (0..count).flat_map(|at| bufs[at][..meta[at].len].to_vec()).collect();
            assert_eq!(all, bytes);
            assert!(meta[..count - 1].iter().all(|meta| meta.len == 10 && meta.stride == 10));
        }
    }
}
