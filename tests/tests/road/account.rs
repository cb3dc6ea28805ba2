//! What a visitor has seen, and what of it falls into a span of time. Plain data.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// So many requests in a row have to be answered for a site to be served again: those of a second.
const IN_A_ROW: usize = 20;
/// A request may be under way for so long without anybody having to wonder.
const UNDER_WAY: Duration = Duration::from_millis(500);

/// One request.
#[derive(Clone, Debug)]
pub(super) struct Visit {
    sent: Instant,
    /// When it ended, and how.
    ended: Option<(Instant, Result<(), String>)>,
}

impl Visit {
    pub(super) fn begun() -> Self {
        Self { sent: Instant::now(), ended: None }
    }

    /// The moment to which it is charged: whatever a request has to wait for happens before its end.
    fn told(&self) -> Instant {
        self.ended.as_ref().map_or(self.sent, |(at, _)| *at)
    }

    fn answered(&self) -> Option<Instant> {
        self.ended.as_ref().and_then(|(at, outcome)| outcome.is_ok().then_some(*at))
    }

    fn failure(&self) -> Option<&str> {
        self.ended.as_ref().and_then(|(_, outcome)| outcome.as_ref().err()).map(String::as_str)
    }
}

#[derive(Debug, Default)]
pub(super) struct Account {
    sites: [Vec<Visit>; 2],
    echoes: Vec<Instant>,
    breaks: Vec<(Instant, String)>,
}

/// What it saw in a span of time.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen {
    pub(super) requests: usize,
    pub(super) failed: usize,
    /// The failures in words, and how often each.
    pub(super) failures: BTreeMap<String, usize>,
    /// From the first that failed to the last.
    pub(super) failing: Duration,
    /// The longest time in which one of the sites answered nothing.
    pub(super) gap: Duration,
    /// Of those that were answered.
    pub(super) slowest: Duration,
    /// How often the WebSocket had to be opened anew, and why.
    pub(super) breaks: Vec<String>,
    /// The longest time between two echoes.
    pub(super) silence: Duration,
}

impl Account {
    /// The number by which it is ended.
    pub(super) fn begin(&mut self, site: usize, visit: Visit) -> usize {
        self.sites[site].push(visit);
        self.sites[site].len() - 1
    }

    pub(super) fn end(&mut self, site: usize, number: usize, outcome: Result<(), String>) {
        self.sites[site][number].ended = Some((Instant::now(), outcome));
    }

    pub(super) fn echoed(&mut self) {
        self.echoes.push(Instant::now());
    }

    pub(super) fn broke(&mut self, why: String) {
        self.breaks.push((Instant::now(), why));
    }

    /// Whether nothing waits for an answer, each site has answered whatever was asked in a second after `since`, and so has the WebSocket.
    pub(super) fn is_served(&self, since: Instant, now: Instant) -> bool {
        let site_is = |visits: &Vec<Visit>| {
            let ripe = || visits.iter().rev().skip_while(|visit| visit.sent + UNDER_WAY > now);
            let row = ripe().take(IN_A_ROW).take_while(|visit| visit.sent > since);
            row.filter(|visit| visit.answered().is_some()).count() == IN_A_ROW
                && ripe().all(|visit| visit.ended.is_some())
        };
        let echoes = self.echoes.last().is_some_and(|at| *at + UNDER_WAY > now && *at > since);
        echoes && self.sites.iter().all(site_is)
    }

    /// What ended within the span: requests, pauses and WebSockets.
    pub(super) fn between(&self, from: Instant, to: Instant) -> Seen {
        let mut seen = Seen::default();
        let mut failed = Vec::new();
        for visits in &self.sites {
            for visit in visits.iter().filter(|visit| visit.told() >= from && visit.told() < to) {
                seen.requests += 1;
                match (visit.answered(), visit.failure()) {
                    (Some(at), _) => seen.slowest = seen.slowest.max(at - visit.sent),
                    (None, why) => {
                        failed.push(visit.sent);
                        *seen.failures.entry(why.unwrap_or("it never ended").to_owned()).or_default() += 1;
                    }
                }
            }
            let mut answers: Vec<Instant> = visits.iter().filter_map(Visit::answered).collect();
            answers.sort();
            seen.gap = seen.gap.max(longest(&answers, from, to));
        }
        seen.failed = failed.len();
        seen.failing = failed
            .iter()
            .max()
            .zip(failed.iter().min())
            .map(|(last, first)| *last - *first)
            .unwrap_or_default();
        let breaks = self.breaks.iter().filter(|(at, _)| *at >= from && *at < to);
        seen.breaks = breaks.map(|(_, why)| why.clone()).collect();
        seen.silence = longest(&self.echoes, from, to);
        seen
    }
}

/// The longest pause between two of these moments (sorted) that ended within the span; without any it was the span itself.
fn longest(moments: &[Instant], from: Instant, to: Instant) -> Duration {
    let pairs = moments.windows(2).filter(|pair| pair[1] >= from && pair[1] < to);
    pairs.map(|pair| pair[1] - pair[0]).max().unwrap_or(to - from)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// One every 50 ms from `from` on, answered a millisecond later unless it falls into the outage.
    fn account(from: Instant, outage: std::ops::Range<u32>) -> Account {
        let mut account = Account::default();
        for site in 0..2 {
            for number in 0..200 {
                let sent = from + 50 * number * MS;
                let outcome = if outage.contains(&number) { Err("away".to_owned()) } else { Ok(()) };
                account.sites[site].push(Visit { sent, ended: Some((sent + MS, outcome)) });
            }
        }
        account.echoes = (0..100).map(|number| from + 100 * number * MS).collect();
        account
    }

    #[test]
    fn an_outage_is_told_as_long_as_it_was() {
        let from = Instant::now();
        let seen = account(from, 20..60).between(from, from + 10_000 * MS);
        assert_eq!((seen.requests, seen.failed, seen.gap), (400, 80, 2050 * MS));
        assert_eq!((seen.failures["away"], seen.failing), (80, 1950 * MS));
        assert_eq!((seen.slowest, seen.silence), (MS, 100 * MS));
        // It is told once, where it ended.
        let account = account(from, 20..60);
        let later = account.between(from + 2500 * MS, from + 10_000 * MS);
        assert_eq!((later.failed, later.gap), (20, 2050 * MS));
        let before = account.between(from, from + 2500 * MS);
        assert_eq!((before.failed, before.gap), (60, 50 * MS));
    }

    #[test]
    fn a_site_is_served_again_after_a_second_of_answers_and_not_while_one_waits() {
        let from = Instant::now();
        let mut account = account(from, 20..60);
        let at = |ms: u32| from + ms * MS;
        for (now, is_served) in [(3500, false), (4000, false), (4600, true), (9000, true)] {
            assert_eq!(account.is_served(at(1000), at(now)), is_served, "after {now} ms");
        }
        assert!(!account.is_served(at(8700), at(9000)), "too soon after the event");
        account.sites[1][70].ended = None;
        assert!(!account.is_served(at(1000), at(9000)));
    }
}
