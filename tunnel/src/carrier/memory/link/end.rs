//! What one end of a link knows: its streams, what waits for it, and who waits.

use std::collections::{HashMap, VecDeque};
use std::task::Waker;

use bytes::Bytes;

use super::Party;
use crate::carrier::memory::stream::{Receiving, Sending};
use crate::carrier::{Closed, Traffic};

#[derive(Debug)]
pub(super) struct End {
    pub(super) closed: Option<Closed>,
    pub(super) sendings: HashMap<u64, Sending>,
    pub(super) receivings: HashMap<u64, Receiving>,
    /// Number of the next stream that this end opens.
    pub(super) next: u64,
    /// Number of the first stream of the other end that was not seen yet.
    unseen: u64,
    /// Streams that this end opened and that are not over.
    pub(super) opened_and_open: u32,
    pub(super) may_open: u32,
    /// Opened by the other end, not accepted yet.
    pub(super) incoming: VecDeque<u64>,
    pub(super) datagrams: VecDeque<Bytes>,
    pub(super) traffic: Traffic,
    pub(super) openers: Vec<Waker>,
    pub(super) acceptors: Vec<Waker>,
    pub(super) datagram_readers: Vec<Waker>,
    pub(super) mourners: Vec<Waker>,
}

impl End {
    pub(super) fn new(may_open: u32) -> Self {
        Self {
            closed: None,
            sendings: HashMap::new(),
            receivings: HashMap::new(),
            next: 0,
            unseen: 0,
            opened_and_open: 0,
            may_open,
            incoming: VecDeque::new(),
            datagrams: VecDeque::new(),
            traffic: Traffic::default(),
            openers: Vec::new(),
            acceptors: Vec::new(),
            datagram_readers: Vec::new(),
            mourners: Vec::new(),
        }
    }

    pub(super) fn add(&mut self, stream: u64, window: u64) {
        self.sendings.insert(stream, Sending::new(window));
        self.receivings.insert(stream, Receiving::default());
    }

    pub(super) fn sending(&mut self, stream: u64) -> &mut Sending {
        self.sendings.get_mut(&stream).expect("known for as long as its handle lives")
    }

    pub(super) fn receiving(&mut self, stream: u64) -> &mut Receiving {
        self.receivings.get_mut(&stream).expect("known for as long as its handle lives")
    }

    /// The stream that a packet to `me` is of, opened if it is new; `None` when it is over.
    pub(super) fn seen(&mut self, stream: u64, me: Party, window: u64) -> Option<&mut Receiving> {
        if stream % 2 != me as u64 {
            while self.unseen <= stream / 2 {
                let new = self.unseen * 2 + stream % 2;
                self.unseen += 1;
                self.add(new, window);
                self.incoming.push_back(new);
                self.acceptors.drain(..).for_each(Waker::wake);
            }
        }
        self.receivings.get_mut(&stream)
    }

    /// Forgets a stream whose two directions are over and whose handles are gone.
    pub(super) fn clear_away(&mut self, stream: u64, me: Party) {
        let is_done = self.sendings.get(&stream).is_some_and(Sending::is_done)
            && self.receivings.get(&stream).is_some_and(Receiving::is_done);
        if is_done {
            self.sendings.remove(&stream);
            self.receivings.remove(&stream);
            if stream % 2 == me as u64 {
                self.opened_and_open -= 1;
                self.openers.drain(..).for_each(Waker::wake);
            }
        }
    }

    /// The connection is over for this end.
    pub(super) fn close(&mut self, closed: Closed) {
        self.closed = Some(closed);
        let waiting =
            [&mut self.openers, &mut self.acceptors, &mut self.datagram_readers, &mut self.mourners];
        waiting.into_iter().flat_map(|wakers| wakers.drain(..)).for_each(Waker::wake);
        self.sendings.values_mut().for_each(Sending::wake);
        self.receivings.values_mut().for_each(Receiving::wake);
    }
}
