//! Claims: which node owns which VIP, as far as this node has heard, and how two claims compare.
//!
//! A claim carries an epoch that every change of owner raises, so of two claims one is newer, on every node alike:
//! the higher epoch; then owned before probed before free; then the election's rank. Whoever hears a newer claim
//! than its own stops answering. Released addresses leave a stone for a while, so that late datagrams revive nothing.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    time::{Duration, Instant},
};

use crate::{chance::mix, elect::rank, node_name::NodeName};

/// How long a released address remembers its epoch: longer than any datagram lives and any digest round takes.
const STONE_LIFE: Duration = Duration::from_secs(120);
/// How long an address that a foreign host uses is left alone before it is probed again.
pub(crate) const CONFLICT_HOLD: Duration = Duration::from_secs(20);
/// The highest epoch that is believed, in a datagram or in a written claim. An owner changes at most a few times a
/// second, which takes a million years to get here: more than that was made up, and would leave no room for a newer one.
/// It is also exact in JSON, where numbers above 2^53 are not.
pub(crate) const MAX_EPOCH: u64 = 1 << 48;
/// Claims are compared in this many groups, so that one difference does not send all of 5,000 claims.
pub(crate) const BUCKETS: usize = 16;

/// One life of a node; see [`crate::membership::Identity::boot`].
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Owner {
    pub(crate) name: NodeName,
    pub(crate) boot: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Tenure {
    /// Answers for the address.
    Owned(Owner),
    /// Asks the wire whether the address is free, to own it then.
    Probing(Owner),
    /// Nobody's.
    Free,
    /// A host that is no speaker uses it.
    Conflict,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Claim {
    pub(crate) vip: IpAddr,
    pub(crate) epoch: u64,
    pub(crate) tenure: Tenure,
}

impl Claim {
    pub(crate) fn owner(&self) -> Option<&Owner> {
        match &self.tenure {
            Tenure::Owned(owner) | Tenure::Probing(owner) => Some(owner),
            Tenure::Free | Tenure::Conflict => None,
        }
    }

    pub(crate) fn is_owned(&self) -> bool {
        matches!(self.tenure, Tenure::Owned(_))
    }

    /// The total order of claims of one VIP.
    fn weight(&self) -> (u64, u8, u64, u64) {
        let kind = match self.tenure {
            Tenure::Owned(_) => 3,
            Tenure::Probing(_) => 2,
            Tenure::Conflict => 1,
            Tenure::Free => 0,
        };
        let (rank, boot) = self.owner().map_or((0, 0), |owner| (rank(self.vip, &owner.name), owner.boot));
        (self.epoch, kind, rank, boot)
    }

    pub(super) fn outweighs(&self, other: &Self) -> bool {
        self.weight() > other.weight()
    }

    fn fingerprint(&self) -> u64 {
        let owner = self.owner().map_or(0, |owner| rank(self.vip, &owner.name) ^ mix(owner.boot));
        mix(owner ^ mix(self.epoch) ^ seat_hash(self.vip).rotate_left(17))
    }
}

/// What became of a claim that was heard.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Heard {
    /// It was new; this is what it replaced.
    Newer(Option<Claim>),
    Same,
    /// Ours is newer: the sender should hear it.
    Older,
}

#[derive(Debug, Default)]
pub(crate) struct Table {
    entries: BTreeMap<IpAddr, Entry>,
    /// Of owned claims only: the others fade at different times on different nodes.
    digest: [u64; BUCKETS],
}

#[derive(Debug)]
struct Entry {
    claim: Claim,
    at: Instant,
}

impl Table {
    pub(crate) fn get(&self, vip: IpAddr) -> Option<&Claim> {
        self.entries.get(&vip).map(|entry| &entry.claim)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Claim> {
        self.entries.values().map(|entry| &entry.claim)
    }

    pub(crate) fn digest(&self) -> [u64; BUCKETS] {
        self.digest
    }

    /// The epoch that a change made here must carry.
    pub(crate) fn next_epoch(&self, vip: IpAddr) -> u64 {
        self.get(vip).map_or(1, |claim| claim.epoch + 1)
    }

    pub(crate) fn hear(&mut self, claim: Claim, now: Instant) -> Heard {
        match self.get(claim.vip) {
            Some(known) if *known == claim => Heard::Same,
            Some(known) if known.weight() >= claim.weight() => Heard::Older,
            _ => Heard::Newer(self.put(claim, now)),
        }
    }

    pub(crate) fn put(&mut self, claim: Claim, now: Instant) -> Option<Claim> {
        let bucket = bucket(claim.vip);
        if claim.is_owned() {
            self.digest[bucket] ^= claim.fingerprint();
        }
        let old = self.entries.insert(claim.vip, Entry { claim, at: now })?.claim;
        if old.is_owned() {
            self.digest[bucket] ^= old.fingerprint();
        }
        Some(old)
    }

    /// Until when a foreign host is taken to hold this address.
    pub(crate) fn conflict_until(&self, vip: IpAddr) -> Option<Instant> {
        let entry = self.entries.get(&vip)?;
        (entry.claim.tenure == Tenure::Conflict).then(|| entry.at + CONFLICT_HOLD)
    }

    pub(crate) fn remove(&mut self, vip: IpAddr) {
        if let Some(entry) = self.entries.remove(&vip)
            && entry.claim.is_owned()
        {
            self.digest[bucket(vip)] ^= entry.claim.fingerprint();
        }
    }

    /// How long this claim has been known here.
    pub(crate) fn age(&self, vip: IpAddr, now: Instant) -> Duration {
        self.entries.get(&vip).map_or(Duration::ZERO, |entry| now.saturating_duration_since(entry.at))
    }

    /// Owned claims of the groups in which two digests differ.
    pub(crate) fn differing(&self, theirs: &[u64; BUCKETS]) -> Vec<Claim> {
        if self.digest == *theirs {
            return Vec::new();
        }
        let differs = |vip: IpAddr| self.digest[bucket(vip)] != theirs[bucket(vip)];
        self.iter().filter(|claim| claim.is_owned() && differs(claim.vip)).cloned().collect()
    }

    /// Forgets stones that are old enough.
    pub(crate) fn fade(&mut self, now: Instant) {
        self.entries.retain(|_, entry| {
            entry.claim.is_owned() || now.saturating_duration_since(entry.at) < STONE_LIFE
        });
    }
}

fn bucket(vip: IpAddr) -> usize {
    usize::try_from(seat_hash(vip) % 16).expect("below 16")
}

fn seat_hash(vip: IpAddr) -> u64 {
    match vip {
        IpAddr::V4(v4) => mix(u64::from(v4.to_bits())),
        IpAddr::V6(v6) => {
            let [a, b, c, d, e, f, g, h] = v6.segments().map(u64::from);
            mix(mix(a << 48 | b << 32 | c << 16 | d) ^ (e << 48 | f << 32 | g << 16 | h))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owned(epoch: u64, name: &str) -> Claim {
        let tenure = Tenure::Owned(Owner { name: name.into(), boot: 1 });
        Claim { vip: [10, 0, 0, 1].into(), epoch, tenure }
    }

    #[test]
    fn of_two_claims_every_node_prefers_the_same() {
        let now = Instant::now();
        for (a, b) in [(owned(1, "a"), owned(2, "b")), (owned(2, "a"), owned(2, "b"))] {
            let mut one = Table::default();
            one.put(a.clone(), now);
            one.hear(b.clone(), now);
            let mut other = Table::default();
            other.put(b, now);
            other.hear(a, now);
            assert_eq!(one.get([10, 0, 0, 1].into()), other.get([10, 0, 0, 1].into()));
            assert_eq!(one.digest(), other.digest());
        }
    }

    #[test]
    fn a_released_address_is_not_revived_by_a_late_datagram() {
        let now = Instant::now();
        let mut table = Table::default();
        table.put(owned(4, "a"), now);
        table.put(Claim { epoch: 5, tenure: Tenure::Free, ..owned(0, "a") }, now);
        assert_eq!(table.hear(owned(4, "a"), now), Heard::Older);
        assert_eq!(table.digest(), [0; BUCKETS]);
    }
}
