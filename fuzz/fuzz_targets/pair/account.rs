//! One origin's script and what it saw of the current case, shared by all of its connections.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard};

use crate::tags::{self, Tag};

/// A request as the origin understood it.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Request line and fields, as text.
    pub head: String,
    /// All its bytes: head, body, trailers.
    pub bytes: Vec<u8>,
    /// It came whole, and the origin did not refuse it.
    pub executed: bool,
}

impl Seen {
    /// Who the head says it is from.
    pub fn tag(&self) -> Option<Tag> {
        tags::find(self.head.as_bytes()).next()
    }
}

/// Shared; what an origin does next is an `Act` of its protocol.
#[derive(Debug)]
pub struct Account<Act>(Arc<Mutex<Inner<Act>>>);

#[derive(Debug)]
struct Inner<Act> {
    script: VecDeque<Act>,
    seen: Vec<Seen>,
}

impl<Act> Default for Account<Act> {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(Inner { script: VecDeque::new(), seen: Vec::new() })))
    }
}

impl<Act> Clone for Account<Act> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<Act> Account<Act> {
    /// A new case.
    pub fn begin(&self, script: impl Iterator<Item = Act>) {
        let mut inner = self.lock();
        inner.script = script.collect();
        inner.seen.clear();
    }

    pub fn end(&self) -> Vec<Seen> {
        std::mem::take(&mut self.lock().seen)
    }

    pub fn next(&self) -> Option<Act> {
        self.lock().script.pop_front()
    }

    /// Notes a request before its body comes: what never comes whole was not executed, but its bytes count.
    pub fn note(&self, head: &str) -> usize {
        let seen = &mut self.lock().seen;
        seen.push(Seen { head: head.to_owned(), bytes: head.as_bytes().to_vec(), executed: false });
        seen.len() - 1
    }

    /// Adds bytes to what was noted.
    pub fn add(&self, at: usize, bytes: &[u8]) {
        if let Some(seen) = self.lock().seen.get_mut(at) {
            seen.bytes.extend_from_slice(bytes);
        }
    }

    /// It has come whole.
    pub fn executed(&self, at: usize) {
        if let Some(seen) = self.lock().seen.get_mut(at) {
            seen.executed = true;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner<Act>> {
        self.0.lock().expect("nobody panicked")
    }
}
