//! Somebody else writes what is ours: found out, told once, and answered at a pace that the API server can bear. Pure.
//!
//! ```text
//! peace ── ours is replaced ──► once: mended at once, as a slip of a hand
//! once  ── again within AGAIN ──► war: told; mended after a wait that doubles with each round
//! war   ── ours stands for PEACE ──► peace: the condition goes
//! ```
//! The allocator's decision stands meanwhile, and so does its annotation: the speakers go by it.

use std::time::{Duration, Instant};

use crate::chance::Chance;

/// Two replacements within this time are no slip of a hand.
const AGAIN: Duration = Duration::from_secs(30);
/// The wait before ours is written again, in the first round of a war and at most.
const SHORTEST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(60);
/// Above the longest wait by so much that a rival which answers each time is never taken for one that left.
const PEACE: Duration = Duration::from_secs(300);
/// A new leader goes on about where the old one was: with the wait of this round.
const INHERITED: u32 = 4;

/// One Service's rival.
#[derive(Debug)]
pub(super) struct Rival {
    /// When ours was replaced last.
    last: Instant,
    rounds: u32,
    /// What is told of the war; nothing after a first replacement.
    message: Option<Box<str>>,
}

/// When ours is to be written again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    AtOnce,
    After(Duration),
}

impl Rival {
    /// Ours was replaced. True besides the answer when this begins a war, which is then to be told.
    pub(super) fn replaced(
        known: &mut Option<Box<Self>>,
        now: Instant,
        chance: &mut Chance,
    ) -> (Answer, bool) {
        let recent = |rival: &&mut Box<Self>| rival.message.is_some() || now < rival.last + AGAIN;
        let Some(rival) = known.as_mut().filter(recent) else {
            *known = Some(Box::new(Self { last: now, rounds: 0, message: None }));
            return (Answer::AtOnce, false);
        };
        rival.last = now;
        let wait = SHORTEST.saturating_mul(1 << rival.rounds.min(6)).min(LONGEST);
        rival.rounds += 1;
        // A quarter more or less: the Services of one cluster have one rival and do not write in step.
        let percent = 75 + u32::try_from(chance.below(51)).unwrap_or(0);
        (Answer::After(wait * percent / 100), rival.message.is_none())
    }

    /// A war that a former leader told of.
    pub(super) fn inherited(message: &str, now: Instant) -> Self {
        Self { last: now, rounds: INHERITED, message: Some(message.into()) }
    }

    pub(super) fn tell(&mut self, message: String) {
        self.message = Some(message.into());
    }

    /// What the Service's condition says; none without a war.
    pub(super) fn message(&self) -> Option<&str> {
        self.message.as_deref()
    }

    /// When the war is over, should nothing happen until then.
    pub(super) fn peace_at(&self) -> Instant {
        self.last + PEACE
    }
}

/// Who writes, what, and the mend.
pub(super) fn describe(manager: Option<&str>, theirs: &[String], ours: &[String]) -> String {
    // A second allocator of ours, with a Lease in another namespace, has our own name there.
    let nameless = || "another causeway-allocator, or somebody who leaves no name,".to_owned();
    let who = manager.map_or_else(nameless, |manager| format!("`{manager}`"));
    let list = |ips: &[String]| if ips.is_empty() { "no address".to_owned() } else { ips.join(", ") };
    let known = match manager {
        Some(name) if name.contains("k3s") => {
            "this is the load balancer of k3s (servicelb): start k3s with `--disable servicelb`"
        }
        Some("controller") | Some("metallb-controller") => {
            "this is MetalLB's controller by its name: remove its Deployment `controller`"
        }
        Some(name) if name.contains("cloud-controller") => {
            "this is a cloud controller: switch its service controller off"
        }
        _ => "end it",
    };
    format!(
        "{who} also writes the address of this Service: it writes {}, the allocator {}; {known}, or give the Service a \
         spec.loadBalancerClass that only one of them serves",
        list(theirs),
        list(ours)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_replacement_is_mended_at_once_and_a_later_one_too() {
        let (mut known, mut now, mut chance) = (None, Instant::now(), Chance::from_seed(1));
        for _ in 0..3 {
            assert_eq!(Rival::replaced(&mut known, now, &mut chance), (Answer::AtOnce, false));
            now += AGAIN;
        }
    }

    #[test]
    fn a_war_is_told_once_and_fought_ever_slower() {
        let (mut known, mut now, mut chance) = (None, Instant::now(), Chance::from_seed(1));
        let (mut writes, mut told) = (0, 0);
        let start = now;
        while now < start + Duration::from_secs(3600) {
            let (answer, tell) = Rival::replaced(&mut known, now, &mut chance);
            writes += 1;
            told += u32::from(tell);
            if tell {
                known.as_mut().unwrap().tell("war".to_owned());
            }
            // The rival answers each write of ours within a millisecond.
            now += Duration::from_millis(1)
                + if let Answer::After(wait) = answer { wait } else { Duration::ZERO };
            assert!(known.as_ref().unwrap().peace_at() > now, "it is not over while it is fought");
        }
        assert_eq!(told, 1);
        assert!(writes < 90, "{writes} writes in an hour");
    }

    #[test]
    fn the_message_names_who_what_and_the_mend() {
        let text = describe(Some("k3s"), &["10.0.0.1".to_owned()], &["10.0.0.9".to_owned()]);
        for part in
            ["`k3s`", "writes 10.0.0.1", "allocator 10.0.0.9", "--disable servicelb", "loadBalancerClass"]
        {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert!(describe(Some("controller"), &[], &[]).contains("MetalLB's controller"));
        assert!(describe(None, &[], &[]).contains("no address"));
    }
}
