//! Who is alive: SWIM by foca, without I/O and clock, tuned for a LAN, with a second look before a death.
//!
//! ```text
//! every 100 ms one member is pinged; no answer in 40 ms → three others are asked to ping it
//! nothing by the end of the period → suspect; all hear it by gossip; the suspect may refute
//! suspect → Event::Suspect: the caller looks over a second path (TCP, and ARP for its VIPs)
//!   Verdict::Alive    the suspicion is prolonged, a few times
//!   Verdict::Refused  the host answers that no speaker runs: the wait ends early
//!   otherwise         after 200-350 ms (by the size of the cluster) → down, told to all
//! ```

mod codec;
mod identity;
pub(crate) mod seal;
pub(crate) mod wire;

use std::{
    collections::{BTreeMap, VecDeque},
    net::SocketAddr,
    num::{NonZeroU8, NonZeroUsize},
    time::{Duration, Instant},
};

use bytes::BufMut;
use foca::{
    Codec, Config, Foca, Header, Message, NoCustomBroadcast, Notification, PeriodicParams, Runtime, State,
    Timer,
};

use codec::SwimCodec;
pub(crate) use identity::Identity;

use crate::{chance::Chance, node_name::NodeName};

/// How often each member pings another. Ten datagrams of about 100 bytes a second.
const PROBE_PERIOD: Duration = Duration::from_millis(100);
/// A LAN answers within 1 ms; the rest is scheduling.
const PROBE_RTT: Duration = Duration::from_millis(40);
const GOSSIP_PERIOD: Duration = Duration::from_millis(50);
/// The least time that a suspect has to refute, even when its host refuses connections.
const MIN_SUSPICION: Duration = Duration::from_millis(80);
/// How much longer a suspect lives each time the second path finds it, and how long at most. A member that answers
/// there and nowhere else cannot take part; then the others' claims stand.
const SECOND_LOOK: Duration = Duration::from_millis(250);
const MAX_SUSPICION: Duration = Duration::from_millis(2500);
/// Below any MTU after sealing and headers.
pub(crate) const MAX_PACKET_BYTES: usize = 1200;

/// What the second path said about a suspect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The speaker itself answered.
    Alive,
    /// Its host answered that nothing listens there.
    Refused,
    /// No answer in time.
    Silent,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    Up(Identity),
    /// It has another address.
    Moved(Identity),
    Down(NodeName),
    Suspect(Identity),
    /// The others had declared this node down; it is a member again.
    Rejoined,
}

/// A member as last heard of.
#[derive(Clone, Debug)]
pub(crate) struct Member {
    pub(crate) identity: Identity,
    pub(crate) up: bool,
    /// Since when it is up (or down).
    pub(crate) since: Instant,
    /// It is down though the second path found it to the last: it runs, and cannot take part.
    pub(crate) found: bool,
    /// Its host said last that no speaker runs there.
    pub(crate) refused: bool,
}

#[derive(Debug)]
struct Suspicion {
    since: Instant,
    /// When the second path found it last.
    found: Option<Instant>,
    /// When it was last asked to look.
    looked: Instant,
}

/// The failure detector of one node.
pub(crate) struct Membership {
    foca: Foca<Identity, SwimCodec, Chance, NoCustomBroadcast>,
    outbox: Outbox,
    members: BTreeMap<NodeName, Member>,
    suspicions: BTreeMap<NodeName, Suspicion>,
    events: VecDeque<Event>,
    /// For which cluster size the timings were last chosen.
    sized_for: usize,
}

impl std::fmt::Debug for Membership {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Membership")
            .field("identity", self.foca.identity())
            .field("members", &self.members)
            .finish()
    }
}

impl Membership {
    pub(crate) fn new(identity: Identity, seed: u64) -> Self {
        Self {
            foca: Foca::new(identity, config(1), Chance::from_seed(seed), SwimCodec),
            outbox: Outbox::default(),
            members: BTreeMap::new(),
            suspicions: BTreeMap::new(),
            events: VecDeque::new(),
            sized_for: 1,
        }
    }

    pub(crate) fn identity(&self) -> &Identity {
        self.foca.identity()
    }

    pub(crate) fn member(&self, name: &NodeName) -> Option<&Member> {
        self.members.get(name)
    }

    pub(crate) fn members(&self) -> impl Iterator<Item = &Member> {
        self.members.values()
    }

    /// Members that nobody misses.
    pub(crate) fn heard(&self) -> impl Iterator<Item = &Member> {
        self.alive().filter(|member| !self.suspicions.contains_key(&member.identity.name))
    }

    pub(crate) fn alive(&self) -> impl Iterator<Item = &Member> {
        self.members.values().filter(|member| member.up)
    }

    /// A datagram of the failure detector. Malformed ones and those for another identity change nothing.
    pub(crate) fn handle_data(&mut self, data: &[u8], now: Instant) {
        // Errors here are the peer's (malformed, old identity) or harmless races of probe cycles.
        let _ = self.foca.handle_data(data, self.outbox.at(now));
        self.absorb(now);
    }

    /// Someone was heard of by other means: ask to join it.
    pub(crate) fn handle_acquaintance(&mut self, identity: Identity, now: Instant) {
        if identity.name == self.identity().name {
            return;
        }
        let _ = self.foca.announce(identity, self.outbox.at(now));
        self.absorb(now);
    }

    /// The others know a later life of this node than this one (the wall clock went back): become its successor.
    pub(crate) fn handle_later_boot(&mut self, boot: u64, now: Instant) {
        if boot < self.identity().boot {
            return;
        }
        let identity = Identity { boot: boot + 1, bump: 0, ..self.identity().clone() };
        let _ = self.foca.change_identity(identity, self.outbox.at(now));
        self.absorb(now);
    }

    /// This node has another address: the same life under a renewed identity.
    pub(crate) fn handle_readdress(&mut self, addr: SocketAddr, now: Instant) {
        let identity = self.identity().clone();
        let next = Identity { addr, bump: identity.bump.wrapping_add(1), ..identity };
        let _ = self.foca.change_identity(next, self.outbox.at(now));
        self.absorb(now);
        self.revive(now);
    }

    pub(crate) fn handle_verdict(&mut self, name: &NodeName, verdict: Verdict, now: Instant) {
        let Some(suspicion) = self.suspicions.get_mut(name) else { return };
        match verdict {
            Verdict::Alive => {
                suspicion.found = Some(now);
                self.accuse(name);
            }
            Verdict::Refused => {
                if let Some(member) = self.members.get_mut(name) {
                    member.refused = true;
                }
                self.outbox.hasten(name, (suspicion.since + MIN_SUSPICION).max(now));
            }
            Verdict::Silent => {}
        }
    }

    /// This process did not run for `gap`: the others were not silent, we were deaf.
    pub(crate) fn handle_gap(&mut self, gap: Duration) {
        self.outbox.postpone(gap);
    }

    /// Runs every timer that is due.
    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        while let Some((due, timer)) = self.outbox.due(now) {
            if let Timer::ChangeSuspectToDown { member_id, incarnation, .. } = &timer
                && self.prolong(member_id, *incarnation, due, &timer, now)
            {
                continue;
            }
            let _ = self.foca.handle_timer(timer, self.outbox.at(now));
            self.absorb(now);
        }
    }

    /// With a new identity foca waits for a word from a member before it pings again. Two nodes that both got one would
    /// wait for each other, and one that is cut off in that moment for ever: make it look at the members that it has.
    /// Called often; does nothing while the pings go on.
    pub(crate) fn revive(&mut self, now: Instant) {
        if self.outbox.timers.values().any(|timer| matches!(timer, Timer::ProbeRandomMember(_))) {
            return;
        }
        let _ = self.foca.apply_many(std::iter::empty(), false, self.outbox.at(now));
    }

    /// Tells the others that this node leaves.
    pub(crate) fn handle_leave(&mut self, now: Instant) {
        let _ = self.foca.leave_cluster(self.outbox.at(now));
        self.absorb(now);
    }

    pub(crate) fn next_timeout(&self) -> Option<Instant> {
        self.outbox.timers.first_key_value().map(|((due, ..), _)| *due)
    }

    pub(crate) fn poll_transmit(&mut self) -> Option<(SocketAddr, Vec<u8>)> {
        self.outbox.sends.pop_front()
    }

    pub(crate) fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Tells a suspect to its face: gossip of the suspicion may all have been lost with what caused it, and only the
    /// suspect itself can refute.
    fn accuse(&mut self, name: &NodeName) {
        let suspected =
            |member: &&foca::Member<Identity>| member.state() == State::Suspect && member.id().name == *name;
        let Some(member) = self.foca.iter_members().find(suspected) else { return };
        let header = Header {
            src: self.foca.identity().clone(),
            src_incarnation: 0, // never newer than what it knows of us
            dst: member.id().clone(),
            message: Message::Gossip,
        };
        let mut data = Vec::with_capacity(256);
        let encoded = SwimCodec.encode_header(&header, &mut data).and_then(|()| {
            data.put_u16(1);
            SwimCodec.encode_member(member, &mut data)
        });
        if encoded.is_ok() {
            self.outbox.sends.push_back((member.id().addr, data));
        }
    }

    /// Whether the end of a suspicion is put off because the second path still finds the suspect.
    fn prolong(
        &mut self,
        suspect: &Identity,
        incarnation: u16,
        due: Instant,
        timer: &Timer<Identity>,
        now: Instant,
    ) -> bool {
        let same =
            |member: &&foca::Member<Identity>| member.id() == suspect && member.incarnation() == incarnation;
        if !self.foca.iter_members().find(same).is_some_and(|member| member.state() == State::Suspect) {
            self.suspicions.remove(&suspect.name); // refuted
            return false;
        }
        let Some(suspicion) = self.suspicions.get_mut(&suspect.name) else { return false };
        let lately = |at: Instant| now.saturating_duration_since(at) <= SECOND_LOOK + PROBE_PERIOD;
        let worn = now.saturating_duration_since(suspicion.since) >= MAX_SUSPICION;
        let found = suspicion.found.is_some_and(lately);
        if worn || !found {
            self.suspicions.remove(&suspect.name);
            if let Some(member) = self.members.get_mut(&suspect.name) {
                member.found = found;
            }
            return false;
        }
        // foca sets a timer at each report of the same suspicion; one of them is enough.
        if !self.outbox.timers.values().any(|other| other == timer) {
            self.outbox.schedule(due.max(now) + SECOND_LOOK, timer.clone());
        }
        if now.saturating_duration_since(suspicion.looked) >= SECOND_LOOK / 2 {
            suspicion.looked = now;
            self.events.push_back(Event::Suspect(suspect.clone()));
        }
        true
    }

    /// Turns what foca said into members and events.
    fn absorb(&mut self, now: Instant) {
        while let Some(note) = self.outbox.notes.pop_front() {
            match note {
                Note::Up(identity) => {
                    self.suspicions.remove(&identity.name);
                    let member = Member {
                        identity: identity.clone(),
                        up: true,
                        since: now,
                        found: false,
                        refused: false,
                    };
                    self.members.insert(identity.name.clone(), member);
                    self.events.push_back(Event::Up(identity));
                }
                Note::Down(identity) => {
                    self.suspicions.remove(&identity.name);
                    if let Some(member) = self.members.get_mut(&identity.name) {
                        (member.up, member.since) = (false, now);
                    }
                    self.events.push_back(Event::Down(identity.name));
                }
                Note::Renamed(identity) => {
                    // A new life of the same node; while it stays active no Up follows.
                    if let Some(member) = self.members.get_mut(&identity.name) {
                        let reborn = member.identity.boot != identity.boot;
                        let moved = member.identity.addr != identity.addr;
                        member.identity = identity.clone();
                        if member.up && reborn {
                            (member.since, member.found, member.refused) = (now, false, false);
                            self.events.push_back(Event::Up(identity));
                        } else if moved {
                            self.events.push_back(Event::Moved(identity));
                        }
                    }
                }
                Note::Suspected(identity) => {
                    if self.suspicions.contains_key(&identity.name) {
                        continue;
                    }
                    let fresh = Suspicion { since: now, found: None, looked: now };
                    if let Some(member) = self.members.get_mut(&identity.name) {
                        (member.found, member.refused) = (false, false);
                    }
                    self.suspicions.insert(identity.name.clone(), fresh);
                    self.events.push_back(Event::Suspect(identity));
                }
                Note::Rejoined => {
                    self.events.push_back(Event::Rejoined);
                    self.revive(now);
                }
                Note::Defunct => {
                    // The identity could not be renewed on the spot; take the next one.
                    let identity = self.identity().clone();
                    let next = Identity { bump: identity.bump.wrapping_add(1), ..identity };
                    let _ = self.foca.change_identity(next, self.outbox.at(now));
                    self.events.push_back(Event::Rejoined);
                }
            }
        }
        let size = self.foca.num_members() + 1;
        if size.abs_diff(self.sized_for) * 4 > self.sized_for {
            self.sized_for = size;
            let _ = self.foca.set_config(config(size));
        }
    }
}

/// Timings for a cluster of this many speakers.
fn config(size: usize) -> Config {
    let periodic = |millis, members| {
        let num_members = NonZeroUsize::new(members).expect("a constant above zero");
        Some(PeriodicParams { frequency: Duration::from_millis(millis), num_members })
    };
    // A larger cluster needs longer until a refutation has reached everybody.
    let suspicion = match size {
        0..=10 => 200,
        11..=60 => 250,
        _ => 350,
    };
    let transmissions = match size {
        0..=10 => 6,
        11..=60 => 10,
        _ => 14,
    };
    Config {
        probe_period: PROBE_PERIOD,
        probe_rtt: PROBE_RTT,
        num_indirect_probes: NonZeroUsize::new(3).expect("3"),
        max_transmissions: NonZeroU8::new(transmissions).expect("above zero"),
        suspect_to_down_after: Duration::from_millis(suspicion),
        remove_down_after: Some(Duration::from_secs(3600)),
        max_packet_size: NonZeroUsize::new(MAX_PACKET_BYTES).expect("above zero"),
        notify_down_members: true,
        periodic_announce: periodic(5_000, 1),
        periodic_announce_to_down_members: periodic(500, 3),
        periodic_gossip: Some(PeriodicParams {
            frequency: GOSSIP_PERIOD,
            num_members: NonZeroUsize::new(3).expect("3"),
        }),
    }
}

#[derive(Debug)]
enum Note {
    Up(Identity),
    Down(Identity),
    Renamed(Identity),
    Suspected(Identity),
    Rejoined,
    Defunct,
}

/// What foca hands out, kept until it is polled.
#[derive(Debug, Default)]
struct Outbox {
    sends: VecDeque<(SocketAddr, Vec<u8>)>,
    /// By due time, then foca's order among equals, then age.
    timers: BTreeMap<(Instant, u8, u64), Timer<Identity>>,
    notes: VecDeque<Note>,
    sequence: u64,
}

impl Outbox {
    fn at(&mut self, now: Instant) -> Sink<'_> {
        Sink { outbox: self, now }
    }

    fn schedule(&mut self, due: Instant, timer: Timer<Identity>) {
        self.sequence += 1;
        self.timers.insert((due, order(&timer), self.sequence), timer);
    }

    fn due(&mut self, now: Instant) -> Option<(Instant, Timer<Identity>)> {
        let entry = self.timers.first_entry()?;
        let due = entry.key().0;
        (due <= now).then(|| (due, entry.remove()))
    }

    fn hasten(&mut self, name: &NodeName, due: Instant) {
        let concerns = |timer: &Timer<Identity>| matches!(timer, Timer::ChangeSuspectToDown { member_id, .. } if member_id.name == *name);
        let keys: Vec<_> =
            self.timers.iter().filter(|(key, t)| key.0 > due && concerns(t)).map(|(k, _)| *k).collect();
        for key in keys {
            let timer = self.timers.remove(&key).expect("the key was just read");
            self.timers.insert((due, key.1, key.2), timer);
        }
    }

    fn postpone(&mut self, gap: Duration) {
        let timers = std::mem::take(&mut self.timers);
        self.timers =
            timers.into_iter().map(|((due, order, age), timer)| ((due + gap, order, age), timer)).collect();
    }
}

/// foca wants an indirect probe handled before the next probe that is due at the same time.
fn order(timer: &Timer<Identity>) -> u8 {
    match timer {
        Timer::SendIndirectProbe { .. } => 0,
        Timer::ProbeRandomMember(_) => 1,
        _ => 2,
    }
}

struct Sink<'a> {
    outbox: &'a mut Outbox,
    now: Instant,
}

impl Runtime<Identity> for Sink<'_> {
    fn notify(&mut self, notification: Notification<'_, Identity>) {
        let note = match notification {
            Notification::MemberUp(identity) => Note::Up(identity.clone()),
            Notification::MemberDown(identity) => Note::Down(identity.clone()),
            Notification::Rename(_, after) => Note::Renamed(after.clone()),
            Notification::Rejoin(_) => Note::Rejoined,
            Notification::Defunct => Note::Defunct,
            Notification::Active | Notification::Idle => return,
        };
        self.outbox.notes.push_back(note);
    }

    fn send_to(&mut self, to: Identity, data: &[u8]) {
        self.outbox.sends.push_back((to.addr, data.to_vec()));
    }

    fn submit_after(&mut self, timer: Timer<Identity>, after: Duration) {
        if let Timer::ChangeSuspectToDown { member_id, .. } = &timer {
            self.outbox.notes.push_back(Note::Suspected(member_id.clone()));
        }
        self.outbox.schedule(self.now + after, timer);
    }
}
