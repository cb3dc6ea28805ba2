//! Whether a process can take work: ready once every named hold is released, never again once it failed.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;

/// A cloneable handle on one process's readiness.
#[derive(Clone, Debug, Default)]
pub struct Readiness {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    /// Holds by their number; names may repeat.
    held: BTreeMap<u64, &'static str>,
    next: u64,
    /// Set by [`Readiness::fail`] and never cleared.
    failed: bool,
}

/// Keeps the process unready until it is released or dropped.
#[derive(Debug)]
#[must_use = "dropping the hold at once makes the process ready at once"]
pub struct Hold {
    readiness: Readiness,
    number: u64,
}

impl Readiness {
    pub fn new() -> Self {
        Self::default()
    }

    /// Not ready until the returned hold is gone. `name` is what `/ready` lists: say what is waited for.
    ///
    /// May be called at any time: a process that lost what it needs (its last session, say) is unready again.
    pub fn hold(&self, name: &'static str) -> Hold {
        let mut state = self.state.lock();
        let number = state.next;
        state.next += 1;
        state.held.insert(number, name);
        Hold { readiness: self.clone(), number }
    }

    /// Unready from now on; to be called when the drain starts, so that balancers look elsewhere.
    pub fn fail(&self) {
        self.state.lock().failed = true;
    }

    pub fn is_ready(&self) -> bool {
        let state = self.state.lock();
        state.held.is_empty() && !state.failed
    }

    /// What is waited for, in the order in which it was held; `draining` after [`Readiness::fail`].
    pub fn pending(&self) -> Vec<&'static str> {
        let state = self.state.lock();
        state.held.values().copied().chain(state.failed.then_some("draining")).collect()
    }
}

impl Hold {
    /// The same as dropping it, readable at the call.
    pub fn release(self) {}
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.readiness.state.lock().held.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::Readiness;

    #[test]
    fn ready_only_when_every_hold_is_gone() {
        let readiness = Readiness::new();
        assert!(readiness.is_ready());
        let (store, listener) = (readiness.hold("store"), readiness.hold("listener"));
        assert_eq!(readiness.pending(), ["store", "listener"]);
        store.release();
        assert_eq!(readiness.pending(), ["listener"]);
        assert!(!readiness.is_ready());
        drop(listener);
        assert!(readiness.is_ready());
    }

    #[test]
    fn a_name_may_be_held_twice() {
        let readiness = Readiness::new();
        let (one, _two) = (readiness.hold("session"), readiness.hold("session"));
        one.release();
        assert_eq!(readiness.pending(), ["session"]);
    }

    #[test]
    fn never_ready_again_once_failed() {
        let readiness = Readiness::new();
        readiness.fail();
        assert!(!readiness.is_ready());
        assert_eq!(readiness.pending(), ["draining"]);
        readiness.hold("late").release();
        assert!(!readiness.is_ready());
    }
}
