//! What a frame from the wire leads to: an answer, a defence, a verdict on a suspect, or nothing.

use std::{net::IpAddr, time::Instant};

use tracing::warn;

use super::{Metrics, Wire};
use crate::{announce::Verdict as Claimed, arp, mac::Mac, membership::Verdict, ndp, ownership::WireClaim};

/// The parts of ARP and NDP that mean the same.
struct Heard {
    claim: Option<(IpAddr, Mac)>,
    question: Option<IpAddr>,
    probe: bool,
    /// Who asks.
    source: Mac,
    destination: Mac,
}

/// Either kind, as parsed.
enum Parsed {
    Arp(arp::Frame),
    Ndp(ndp::Frame),
}

impl Wire {
    pub(super) fn handle_frame(&mut self, index: u32, frame: &[u8]) {
        let Some(own) = self.ports.mac(index) else { return };
        let parsed = match frame.get(12..14) {
            Some([0x08, 0x06]) => arp::Frame::parse(frame).map(Parsed::Arp).ok(),
            _ => ndp::Frame::parse(frame).map(Parsed::Ndp).ok(),
        };
        let Some(parsed) = parsed else {
            self.inputs.metrics.malformed.inc();
            return;
        };
        let heard = parsed.heard();
        let for_us = heard.destination == own || heard.destination.is_group();
        if !for_us || self.ports.is_own(heard.source) {
            return;
        }
        if let Some((vip, mac)) = heard.claim
            && !self.ports.is_own(mac)
        {
            self.handle_claim(vip, mac);
        }
        let Some(vip) = heard.question else { return };
        if heard.probe && !self.ownership.owns(vip) {
            self.handle_rival(vip, heard.source);
        }
        if self.suitable.get(&vip).is_none_or(|on| !on.contains_key(&index)) {
            return;
        }
        self.answer(index, vip, &parsed, own);
    }

    fn answer(&mut self, index: u32, vip: IpAddr, question: &Parsed, own: Mac) {
        let now = Instant::now();
        if self.ownership.owns(vip) {
            Metrics::count(&self.inputs.metrics.requests, vip, 1);
        }
        if !self.ownership.may_answer(vip, now) {
            return;
        }
        if !self.ports.allow(index, now) {
            self.inputs.metrics.limited.inc();
            return;
        }
        let sent = match question {
            Parsed::Arp(question) => self.ports.send(index, &question.reply(own).encode()),
            Parsed::Ndp(question) => self.ports.send(index, &question.reply(own).encode()),
        };
        if sent {
            Metrics::count(&self.inputs.metrics.responses, vip, 1);
        }
    }

    /// Another station says that an address is its own.
    fn handle_claim(&mut self, vip: IpAddr, mac: Mac) {
        let now = Instant::now();
        if let Some((suspect, until)) = self.sought.get(&vip)
            && now <= *until
            && self.ownership.speaker_of(mac).as_ref() == Some(suspect)
        {
            let suspect = suspect.clone();
            self.ownership.handle_verdict(&suspect, Verdict::Alive, now);
        }
        self.sought.retain(|_, (_, until)| now <= *until);
        if !self.wanted.as_ref().is_some_and(|wanted| wanted.demands.contains_key(&vip)) {
            return;
        }
        match self.ownership.handle_wire_claim(vip, mac, now) {
            WireClaim::Settled => {}
            WireClaim::Defend => self.announce(vip),
            WireClaim::Foreign => self.handle_foreign(vip, mac, now),
        }
    }

    fn handle_foreign(&mut self, vip: IpAddr, mac: Mac, now: Instant) {
        let verdict = self.announcer.handle_claim(vip, now);
        match verdict {
            Claimed::Indifferent => return,
            Claimed::Persist => {}
            Claimed::Defend => self.announce(vip),
            Claimed::Taken | Claimed::Yield => self.ownership.handle_taken(vip, now),
        }
        self.inputs.metrics.conflicts.inc();
        if self.conflicts.insert(vip, mac) != Some(mac) {
            warn!(%vip, %mac, ?verdict, "another host uses this address");
        }
        self.stale = true;
    }

    /// Somebody else probes an address that we are probing: neither may have it (RFC 5227 2.1.1).
    fn handle_rival(&mut self, vip: IpAddr, mac: Mac) {
        let probing = self.ownership.is_probing(vip);
        if probing && self.ownership.speaker_of(mac).is_none() {
            self.handle_foreign(vip, mac, Instant::now());
        }
    }
}

impl Parsed {
    fn heard(&self) -> Heard {
        match self {
            Self::Arp(frame) => {
                let heard = frame.heard();
                Heard {
                    claim: heard.claim.map(|(ip, mac)| (IpAddr::V4(ip), mac)),
                    question: heard.question.map(IpAddr::V4),
                    probe: heard.probe,
                    source: frame.source,
                    destination: frame.destination,
                }
            }
            Self::Ndp(frame) => {
                let heard = frame.heard();
                Heard {
                    claim: heard.claim.map(|(ip, mac)| (IpAddr::V6(ip), mac)),
                    question: heard.question.map(IpAddr::V6),
                    probe: heard.probe,
                    source: frame.source,
                    destination: frame.destination,
                }
            }
        }
    }
}
