//! What a session may hold unsent and unacknowledged: as much as its path takes, and its part of the budget.

use super::budget::{Budget, Held};

/// The send window of one session.
#[derive(Debug)]
pub(crate) struct Sending {
    /// Before it was ever found too small.
    first: usize,
    /// What was added since.
    more: Held,
}

/// Enough for requests and their small bodies.
const FIRST_BYTES: usize = 256 * 1024;
/// Less would make a crawl of every session.
const LEAST_BYTES: usize = 16 * 1024;
/// Windows of the path: one is under way, one waits to be sent, so that the path is never idle for want of bytes, and what was
/// acknowledged behind a gap is kept until that is closed, a round trip later or two.
const WIDTH: usize = 4;
/// The widest of all streams.
const MOST_BYTES: usize = 16 * 1024 * 1024;
/// Of the budget, for the beginnings of all sessions: shared by how many there are, they come to no more than that, times a
/// logarithm.
const PART: usize = 8;

impl Sending {
    /// One of so many sessions.
    pub(crate) fn new(budget: &Budget, sessions: usize) -> Self {
        let first = (budget.bytes() / PART / sessions.max(1)).clamp(LEAST_BYTES, FIRST_BYTES);
        Self { first, more: budget.none() }
    }

    pub(crate) fn bytes(&self) -> usize {
        self.first + self.more.bytes()
    }

    /// Who writes had to wait, while the path had so much under way. What it is from now on, if that is another size.
    pub(crate) fn is_full(&mut self, under_way: u64) -> Option<usize> {
        let before = self.bytes();
        let under_way = usize::try_from(under_way).unwrap_or(MOST_BYTES);
        let wanted = under_way.saturating_mul(WIDTH).min(MOST_BYTES);
        if wanted > before || wanted < before / 4 {
            self.more.resize(wanted.saturating_sub(self.first));
        }
        (self.bytes() != before).then(|| self.bytes())
    }

    /// Nothing is sent any more. What it is from now on, if that is another size.
    pub(crate) fn is_idle(&mut self) -> Option<usize> {
        (self.more.bytes() > 0).then(|| {
            self.more.resize(0);
            self.first
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_follows_the_path_and_is_given_back() {
        let budget = Budget::new(64 << 20);
        let mut sending = Sending::new(&budget, 1);
        assert_eq!(sending.bytes(), FIRST_BYTES);
        assert_eq!(sending.is_full(1 << 20), Some(4 << 20));
        assert_eq!(sending.is_full(1 << 20), None);
        assert_eq!(sending.is_full(600_000), None, "a path that breathes is not followed at each breath");
        assert!(budget.held() > 1 << 20);
        assert_eq!(sending.is_idle(), Some(FIRST_BYTES));
        assert_eq!((sending.is_idle(), budget.held()), (None, 0));
    }

    #[test]
    fn a_thousand_sessions_that_all_send_stay_within_the_budget() {
        let budget = Budget::new(64 << 20);
        let mut all: Vec<_> = (1..=1000).map(|count| Sending::new(&budget, count)).collect();
        for _ in 0..3 {
            for sending in &mut all {
                sending.is_full(8 << 20);
            }
        }
        let sum: usize = all.iter().map(Sending::bytes).sum();
        assert!(sum <= 2 * budget.bytes(), "{sum}");
        assert!(budget.held() <= budget.bytes());
    }
}
