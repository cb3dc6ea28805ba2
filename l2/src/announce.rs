//! When what is said on the wire for each VIP: probes before the first use, announcements after a take-over,
//! the periodic reminder, and the answer to a foreign claim. Pure: the caller owns sockets and clock.
//!
//! ```text
//! probe(vip)  0, 200, 400 ms a probe; silence until 600 ms → Output::Free     a claim meanwhile → Verdict::Taken
//! start(vip)  0, 100, 300, 1000, 2000 ms an announcement, then every 60 s ± 10 %
//! a claim     first in 10 s → Verdict::Defend (announce once); again within 10 s → Persist or Yield (RFC 5227 2.4)
//! ```

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    time::{Duration, Instant},
};

use crate::chance::Chance;

/// After a take-over. Hosts miss single broadcasts (wireless, queues), switches relearn the port from each.
const BURST: [Duration; 5] = [
    Duration::ZERO,
    Duration::from_millis(100),
    Duration::from_millis(300),
    Duration::from_millis(1000),
    Duration::from_millis(2000),
];
/// Keeps forwarding entries (aged after 300 s as a rule) and hosts that ignored the burst alive.
const REMINDER: Duration = Duration::from_secs(60);
/// RFC 5227 probes for 4 to 7 s; a Service should not wait so long, and three unanswered frames on a LAN say enough.
const PROBES: u32 = 3;
const PROBE_SPACING: Duration = Duration::from_millis(200);
/// RFC 5227 DEFEND_INTERVAL.
const DEFEND_INTERVAL: Duration = Duration::from_secs(10);
/// Announcements a second, each of two small frames per interface: far below what any LAN notices.
const RATE: u32 = 1000;

/// What to do when a foreign host keeps claiming a VIP.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum OnConflict {
    /// RFC 5227 2.4 (c): keep answering; a rogue host must not be able to take a VIP out of service.
    #[default]
    Defend,
    /// RFC 5227 2.4 (b): the second claim within 10 s ends the announcement.
    Yield,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Output {
    /// Send one probe for the address.
    Probe(IpAddr),
    /// Nobody answered the probes.
    Free(IpAddr),
    /// Send one announcement.
    Announce(IpAddr),
}

/// What a foreign claim of an address means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Not ours, nothing to do.
    Indifferent,
    /// It was being probed and is in use: it must not be announced.
    Taken,
    /// An announcement goes out at once.
    Defend,
    /// Defended already within the interval: keep answering, say nothing.
    Persist,
    /// Stop announcing.
    Yield,
}

#[derive(Debug)]
struct Entry {
    phase: Phase,
    /// When the next output is due; always equal to this address's entry in the queue.
    due: Instant,
    defended: Option<Instant>,
}

#[derive(Clone, Copy, Debug)]
enum Phase {
    /// Probes sent so far.
    Probing(u32),
    /// Announcements sent so far since `since`.
    Announcing { since: Instant, sent: usize },
}

/// The schedule of all VIPs of this node.
#[derive(Debug)]
pub(crate) struct Announcer {
    entries: BTreeMap<IpAddr, Entry>,
    queue: BTreeSet<(Instant, IpAddr)>,
    on_conflict: OnConflict,
    chance: Chance,
    /// Announcements that may go out now, and when that was last refilled.
    tokens: u32,
    refilled: Instant,
}

impl Announcer {
    pub(crate) fn new(on_conflict: OnConflict, seed: u64, now: Instant) -> Self {
        Self {
            entries: BTreeMap::new(),
            queue: BTreeSet::new(),
            on_conflict,
            chance: Chance::from_seed(seed),
            tokens: RATE,
            refilled: now,
        }
    }

    /// Begins to probe an address that no peer owned.
    pub(crate) fn probe(&mut self, vip: IpAddr, now: Instant) {
        self.put(vip, Phase::Probing(0), now, None);
    }

    /// Begins to announce. Called again for an announced address, it starts the burst anew (link up, defence).
    pub(crate) fn start(&mut self, vip: IpAddr, now: Instant) {
        let defended = self.entries.get(&vip).and_then(|entry| entry.defended);
        self.put(vip, Phase::Announcing { since: now, sent: 0 }, now, defended);
    }

    pub(crate) fn stop(&mut self, vip: IpAddr) {
        if let Some(entry) = self.entries.remove(&vip) {
            self.queue.remove(&(entry.due, vip));
        }
    }

    /// Starts every announcement anew: a link came up or changed its address.
    pub(crate) fn refresh(&mut self, now: Instant) {
        let announced: Vec<_> = self.announced().collect();
        for vip in announced {
            self.start(vip, now);
        }
    }

    pub(crate) fn announced(&self) -> impl Iterator<Item = IpAddr> + '_ {
        self.entries.iter().filter(|(_, e)| matches!(e.phase, Phase::Announcing { .. })).map(|(vip, _)| *vip)
    }

    /// Someone who is no speaker of this cluster uses the address; or, for an address being probed, wants it.
    pub(crate) fn handle_claim(&mut self, vip: IpAddr, now: Instant) -> Verdict {
        let Some(entry) = self.entries.get_mut(&vip) else { return Verdict::Indifferent };
        if matches!(entry.phase, Phase::Probing(_)) {
            self.stop(vip);
            return Verdict::Taken;
        }
        if entry.defended.is_none_or(|last| now.duration_since(last) >= DEFEND_INTERVAL) {
            entry.defended = Some(now);
            return Verdict::Defend;
        }
        match self.on_conflict {
            OnConflict::Defend => Verdict::Persist,
            OnConflict::Yield => {
                self.stop(vip);
                Verdict::Yield
            }
        }
    }

    pub(crate) fn next_timeout(&self) -> Option<Instant> {
        self.queue
            .first()
            .map(|(due, _)| if self.tokens == 0 { (*due).max(self.refilled + TICK) } else { *due })
    }

    /// The next thing to send, if it is due and the rate allows.
    pub(crate) fn poll(&mut self, now: Instant) -> Option<Output> {
        let (due, vip) = *self.queue.first()?;
        if due > now {
            return None;
        }
        self.refill(now);
        self.tokens = self.tokens.checked_sub(1)?;
        let jitter = Duration::from_millis(u64::try_from(self.chance.below(12_000)).expect("small"));
        let entry = self.entries.get_mut(&vip).expect("the queue holds only addresses with an entry");
        let (output, next) = match &mut entry.phase {
            Phase::Probing(sent) if *sent == PROBES => {
                self.stop(vip);
                return Some(Output::Free(vip));
            }
            Phase::Probing(sent) => {
                *sent += 1;
                (Output::Probe(vip), now + PROBE_SPACING)
            }
            Phase::Announcing { since, sent } => {
                *sent += 1;
                let next = match BURST.get(*sent) {
                    Some(offset) => (*since + *offset).max(now),
                    None => now + REMINDER - REMINDER / 10 + jitter,
                };
                (Output::Announce(vip), next)
            }
        };
        self.queue.remove(&(due, vip));
        self.queue.insert((next, vip));
        entry.due = next;
        Some(output)
    }

    fn put(&mut self, vip: IpAddr, phase: Phase, due: Instant, defended: Option<Instant>) {
        self.stop(vip);
        self.entries.insert(vip, Entry { phase, due, defended });
        self.queue.insert((due, vip));
    }

    fn refill(&mut self, now: Instant) {
        let ticks = now.saturating_duration_since(self.refilled).as_millis() / TICK.as_millis();
        if ticks == 0 {
            return;
        }
        let per_tick = RATE / 100;
        let grown = per_tick.saturating_mul(u32::try_from(ticks).unwrap_or(u32::MAX));
        self.tokens = self.tokens.saturating_add(grown).min(RATE);
        self.refilled = now;
    }
}

/// Granularity of the rate limit.
const TICK: Duration = Duration::from_millis(10);

#[cfg(test)]
mod tests {
    use super::*;

    fn vip(n: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, n])
    }

    fn run(announcer: &mut Announcer, from: Instant, span: Duration) -> Vec<(u128, Output)> {
        let mut out = Vec::new();
        while let Some(due) = announcer.next_timeout().filter(|due| *due <= from + span) {
            while let Some(output) = announcer.poll(due) {
                out.push(((due - from).as_millis(), output));
            }
        }
        out
    }

    #[test]
    fn hazard_178_a_take_over_is_announced_five_times_and_then_each_minute() {
        let now = Instant::now();
        let mut announcer = Announcer::new(OnConflict::Defend, 7, now);
        announcer.start(vip(1), now);
        let times: Vec<_> =
            run(&mut announcer, now, Duration::from_secs(150)).into_iter().map(|(t, _)| t).collect();
        assert_eq!(times[..5], [0, 100, 300, 1000, 2000]);
        assert_eq!(times.len(), 7, "hazard_179: two reminders in 150 s");
        for pair in times[4..].windows(2) {
            assert!((54_000..=66_000).contains(&(pair[1] - pair[0])), "{times:?}");
        }
    }

    #[test]
    fn hazard_177_three_probes_precede_the_first_announcement() {
        let now = Instant::now();
        let mut announcer = Announcer::new(OnConflict::Defend, 7, now);
        announcer.probe(vip(1), now);
        let out = run(&mut announcer, now, Duration::from_secs(10));
        let probe = Output::Probe(vip(1));
        assert_eq!(out, [(0, probe), (200, probe), (400, probe), (600, Output::Free(vip(1)))]);

        announcer.probe(vip(1), now);
        assert_eq!(announcer.handle_claim(vip(1), now), Verdict::Taken);
        assert_eq!(run(&mut announcer, now, Duration::from_secs(10)), []);
    }

    #[test]
    fn hazard_180_a_foreign_claim_is_answered_once_in_ten_seconds() {
        let now = Instant::now();
        let mut announcer = Announcer::new(OnConflict::Defend, 7, now);
        announcer.start(vip(1), now);
        let verdicts: Vec<_> =
            (0..25).map(|s| announcer.handle_claim(vip(1), now + Duration::from_secs(s))).collect();
        assert_eq!(verdicts.iter().filter(|v| **v == Verdict::Defend).count(), 3);
        assert!(verdicts.iter().all(|v| matches!(v, Verdict::Defend | Verdict::Persist)));
    }

    #[test]
    fn told_to_yield_it_yields_to_the_second_claim() {
        let now = Instant::now();
        let mut announcer = Announcer::new(OnConflict::Yield, 7, now);
        announcer.start(vip(1), now);
        assert_eq!(announcer.handle_claim(vip(1), now), Verdict::Defend);
        assert_eq!(announcer.handle_claim(vip(1), now + Duration::from_secs(3)), Verdict::Yield);
        assert_eq!(announcer.handle_claim(vip(1), now + Duration::from_secs(4)), Verdict::Indifferent);
    }

    #[test]
    fn a_thousand_announcements_a_second_are_not_exceeded() {
        let now = Instant::now();
        let mut announcer = Announcer::new(OnConflict::Defend, 7, now);
        for n in 0..5000u32 {
            announcer.start(IpAddr::from((0x0a00_0000 + n).to_be_bytes()), now);
        }
        let out = run(&mut announcer, now, Duration::from_millis(3000));
        assert!(out.len() <= 4000 + 10, "{}", out.len());
        assert!(out.len() >= 3900, "{}", out.len());
    }
}
