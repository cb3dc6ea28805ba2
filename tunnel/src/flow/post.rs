//! Grants that wait to be sent: of each stream the last one only.

use std::collections::HashMap;
use std::task::{Context, Poll, Waker};

use bytes::BytesMut;
use parking_lot::Mutex;

use super::records::Record;

#[derive(Debug, Default)]
pub(super) struct Post(Mutex<Waiting>);

#[derive(Debug, Default)]
struct Waiting {
    limits: HashMap<u64, u64>,
    courier: Option<Waker>,
    is_over: bool,
}

impl Post {
    pub(super) fn put(&self, stream: u64, limit: u64) {
        let mut waiting = self.0.lock();
        waiting.limits.insert(stream, limit);
        let courier = waiting.courier.take();
        drop(waiting);
        courier.into_iter().for_each(Waker::wake);
    }

    /// Whether a grant for this stream waits still.
    pub(super) fn has(&self, stream: u64) -> bool {
        self.0.lock().limits.contains_key(&stream)
    }

    /// Nobody is left who could grant anything.
    pub(super) fn close(&self) {
        let mut waiting = self.0.lock();
        waiting.is_over = true;
        let courier = waiting.courier.take();
        drop(waiting);
        courier.into_iter().for_each(Waker::wake);
    }

    /// Adds what waits to `out`; false once it is over.
    pub(super) fn poll_take(&self, cx: &Context<'_>, out: &mut BytesMut) -> Poll<bool> {
        let mut waiting = self.0.lock();
        if waiting.is_over {
            return Poll::Ready(false);
        }
        if waiting.limits.is_empty() {
            waiting.courier = Some(cx.waker().clone());
            return Poll::Pending;
        }
        waiting.limits.drain().for_each(|(stream, limit)| Record { stream, limit }.encode(out));
        Poll::Ready(true)
    }
}
