//! What the machines decided, carried out: on the wire first, then in what others see.

use std::{net::IpAddr, time::Instant};

use tracing::{debug, info, warn};

use super::{Wire, since_1970};
use crate::{
    announce::Output,
    ownership::{Event, Gain},
    speaker::{address::Reach, metrics::Metrics, peers::SECOND_LOOK, state::Held},
};

impl Wire {
    /// Carries out what the machines decided.
    pub(super) fn flush(&mut self) {
        let now = Instant::now();
        while let Some(event) = self.ownership.poll_event() {
            self.handle_event(event, now);
        }
        self.put_out(now);
        while let Some(event) = self.ownership.poll_event() {
            self.handle_event(event, now);
        }
        // After the announcements: a new owner is heard on the wire before the old one learns that it may stop.
        while let Some((to, data)) = self.ownership.poll_transmit() {
            if self.reach == Reach::Connected {
                self.peers.send(to, &data);
            }
        }
        if std::mem::take(&mut self.regroup) {
            self.join_groups();
        }
    }

    /// Puts out what is due on the wire. Many addresses may be found free at once: ownership decides on them once.
    fn put_out(&mut self, now: Instant) {
        let mut free = Vec::new();
        while let Some(output) = self.announcer.poll(now) {
            match output {
                Output::Probe(vip) => {
                    if let Some(on) = self.suitable.get(&vip) {
                        self.ports.probe(vip, on);
                    }
                }
                Output::Free(vip) => free.push(vip),
                Output::Announce(vip) => self.announce(vip),
            }
        }
        if !free.is_empty() {
            self.ownership.handle_free(&free, now);
        }
    }

    fn handle_event(&mut self, event: Event, now: Instant) {
        self.stale = true;
        match event {
            Event::Probe(vip) => self.announcer.probe(vip, now),
            Event::Gained { vip, why } => self.gain(vip, why, now),
            Event::Lost { vip, why } => {
                info!(%vip, ?why, "no longer announced from here");
                self.announcer.stop(vip);
                self.held.remove(&vip);
                self.regroup = true;
            }
            Event::SecondLook { suspect, vips } => {
                debug!(suspect = %suspect.name, "no answer; looking over a second path");
                let look = self.peers.look(suspect.addr);
                let name = suspect.name.clone();
                self.looks.spawn(async move { (name, look.await) });
                for vip in vips {
                    if let Some(on) = self.suitable.get(&vip) {
                        self.ports.probe(vip, on);
                        self.sought.insert(vip, (suspect.name.clone(), now + SECOND_LOOK));
                    }
                }
            }
            Event::MemberUp(node) => info!(%node, "speaker up"),
            Event::MemberMoved(at) => {
                info!(node = %at.name, address = %at.addr, "speaker at another address")
            }
            Event::MemberDown(node) => warn!(%node, "speaker down"),
            Event::Fenced => {
                warn!("this process stood still or was cut off; asking the peers before answering");
                self.inputs.metrics.fences.inc();
            }
            Event::Unfenced => info!("in agreement with the peers"),
        }
        let alive = self.ownership.membership().alive().count() + 1;
        self.inputs.metrics.members.set(i64::try_from(alive).unwrap_or(i64::MAX));
    }

    fn gain(&mut self, vip: IpAddr, why: Gain, now: Instant) {
        // On the wire first; everything else can wait.
        self.announcer.start(vip, now);
        self.put_out(now);
        info!(%vip, ?why, "announced from here");
        if let Gain::TakeOver { silent: Some(silent), .. } = &why {
            self.inputs.metrics.take_over.observe(silent.as_secs_f64());
        }
        self.conflicts.remove(&vip);
        let on = self.suitable.get(&vip).cloned().unwrap_or_default();
        let since = i64::try_from(since_1970().as_millis()).unwrap_or(0);
        match self.held.get_mut(&vip) {
            Some(held) if matches!(why, Gain::Resumed) => held.on = on,
            _ => drop(self.held.insert(vip, Held { since, why, on })),
        }
        self.regroup = true;
    }

    pub(super) fn announce(&mut self, vip: IpAddr) {
        // A fenced node claims nothing on the wire either.
        if !self.ownership.may_answer(vip, Instant::now()) {
            return;
        }
        let Some(on) = self.suitable.get(&vip) else { return };
        let sent = self.ports.announce(vip, on);
        Metrics::count(&self.inputs.metrics.gratuitous, vip, sent);
    }
}
