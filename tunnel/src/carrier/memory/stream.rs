//! One direction of a stream: what its sender may still send, and what its receiver has of it.

use std::collections::BTreeMap;
use std::task::Waker;

use bytes::Bytes;

use crate::code::AbortCode;

/// The sender's end.
#[derive(Debug)]
pub(super) struct Sending {
    /// Bytes handed to the line so far.
    pub(super) sent: u64,
    /// What the receiver lets be sent in all.
    pub(super) allowed: u64,
    pub(super) stage: SendStage,
    pub(super) writer: Option<Waker>,
    /// Who waits to hear that nobody reads, or that everything is there.
    pub(super) watchers: Vec<Waker>,
    /// Its handle is gone.
    pub(super) is_let_go: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SendStage {
    Open,
    /// The end was sent.
    Finished,
    /// The receiver has everything.
    Received,
    /// The receiver wants no more.
    Stopped(AbortCode),
    /// We broke it off.
    Reset,
}

/// The receiver's end.
#[derive(Debug, Default)]
pub(super) struct Receiving {
    /// Pieces that have come, by their place in the stream.
    pieces: BTreeMap<u64, Bytes>,
    /// Handed out so far.
    read: u64,
    /// Where the stream ends, once that is known.
    end: Option<u64>,
    pub(super) reset: Option<AbortCode>,
    pub(super) stage: RecvStage,
    pub(super) reader: Option<Waker>,
    pub(super) is_let_go: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum RecvStage {
    #[default]
    Open,
    /// The end, or a reset, was handed out.
    Over,
    /// We want no more.
    Stopped,
}

impl Sending {
    pub(super) fn new(window: u64) -> Self {
        Self {
            sent: 0,
            allowed: window,
            stage: SendStage::Open,
            writer: None,
            watchers: Vec::new(),
            is_let_go: false,
        }
    }

    pub(super) fn wake(&mut self) {
        self.writer.take().into_iter().chain(self.watchers.drain(..)).for_each(Waker::wake);
    }

    /// Nothing more can come of it: it has ended and nobody holds it.
    pub(super) fn is_done(&self) -> bool {
        self.is_let_go && !matches!(self.stage, SendStage::Open | SendStage::Finished)
    }
}

impl Receiving {
    pub(super) fn arrived(&mut self, at: u64, bytes: Bytes) {
        if self.stage == RecvStage::Open && !bytes.is_empty() {
            self.pieces.insert(at, bytes);
        }
    }

    pub(super) fn ends_at(&mut self, end: u64) {
        self.end = Some(end);
    }

    /// Everything has come, whether it was handed out or not.
    pub(super) fn is_whole(&self) -> bool {
        let mut next = self.read;
        for (at, piece) in &self.pieces {
            if *at != next {
                return false;
            }
            next += piece.len() as u64;
        }
        self.end == Some(next)
    }

    /// The next piece in order.
    pub(super) fn next(&mut self) -> Option<Bytes> {
        let piece = self.pieces.remove(&self.read)?;
        self.read += piece.len() as u64;
        Some(piece)
    }

    pub(super) fn read(&self) -> u64 {
        self.read
    }

    pub(super) fn is_at_end(&self) -> bool {
        self.end == Some(self.read)
    }

    pub(super) fn forget(&mut self) {
        self.pieces.clear();
    }

    pub(super) fn wake(&mut self) {
        self.reader.take().into_iter().for_each(Waker::wake);
    }

    pub(super) fn is_done(&self) -> bool {
        self.is_let_go
            && (self.stage == RecvStage::Over
                || self.reset.is_some()
                || self.is_whole()
                || self.stage == RecvStage::Stopped)
    }
}
