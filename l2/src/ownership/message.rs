//! Datagrams about ownership between speakers; the failure detector's own travel beside them (kind 0).

use std::net::IpAddr;

use bytes::{Buf, BufMut};
use ipnet::IpNet;

use super::claim::{BUCKETS, Claim, MAX_EPOCH, Owner, Tenure};
use crate::{
    mac::Mac,
    membership::{
        Identity, MAX_PACKET_BYTES,
        wire::{self, Cut},
    },
};

pub(super) const SWIM: u8 = 0;
const CLAIMS: u8 = 1;
const OFFERS: u8 = 2;
const DECLINES: u8 = 3;
const STATUS: u8 = 4;
const DIGEST: u8 = 5;
const LEAVING: u8 = 6;
const RECORDS: u8 = 7;

/// What one speaker tells another, with who says it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Message {
    pub(super) from: Identity,
    pub(super) body: Body,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Body {
    /// Owners, newest known.
    Claims(Vec<Claim>),
    /// Owners out of my reach that live: they wrote it down at the API server.
    Records(Vec<Claim>),
    /// "Take these from me": VIP and the epoch of my claim.
    Offers(Vec<(IpAddr, u64)>),
    /// "I cannot take these."
    Declines(Vec<IpAddr>),
    Status(Status),
    /// What I know, summed up. With `reply` false an answer is wanted that repeats the nonce.
    Digest {
        nonce: u64,
        reply: bool,
        buckets: [u64; BUCKETS],
        your_boot: u64,
    },
    /// I have handed over everything and stop.
    Leaving,
}

/// What a node says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Status {
    /// Raised with every change: an older one that arrives late is ignored.
    pub(super) version: u64,
    /// It knows the Services and takes part in the election.
    pub(super) ready: bool,
    pub(super) draining: bool,
    pub(super) macs: Vec<Mac>,
    pub(super) unable: Vec<IpAddr>,
    /// The networks that it is on; None from a speaker that does not say, or that is on more than can be said.
    pub(super) networks: Option<Vec<IpNet>>,
}

/// The most entries in one datagram; with the longest names and IPv6 a claim has 290 bytes, so size decides first.
const MAX_ENTRIES: usize = 64;
/// VIPs that a node may report as impossible for it, per datagram. Beyond that it is not a candidate at all.
const MAX_UNABLE: usize = 48;
const MAX_MACS: usize = 16;
/// Networks that a node may say; it does not say any where it is on more.
pub(super) const MAX_NETWORKS: usize = 8;

impl Message {
    /// One or more datagrams: lists are cut where a datagram is full.
    pub(super) fn encode(&self) -> Vec<Vec<u8>> {
        match &self.body {
            Body::Claims(claims) => self.chunks(CLAIMS, claims, put_claim),
            Body::Records(claims) => self.chunks(RECORDS, claims, put_claim),
            Body::Offers(offers) => self.chunks(OFFERS, offers, |out, (vip, epoch)| {
                wire::put_ip(out, *vip);
                out.put_u64(*epoch);
            }),
            Body::Declines(vips) => self.chunks(DECLINES, vips, |out, vip| wire::put_ip(out, *vip)),
            Body::Status(status) => vec![self.one(STATUS, |out| put_status(out, status))],
            Body::Digest { nonce, reply, buckets, your_boot } => vec![self.one(DIGEST, |out| {
                out.put_u64(*nonce);
                out.put_u8(u8::from(*reply));
                buckets.iter().for_each(|bucket| out.put_u64(*bucket));
                out.put_u64(*your_boot);
            })],
            Body::Leaving => vec![self.one(LEAVING, |_| ())],
        }
    }

    /// Reads a datagram whose kind is not [`SWIM`].
    pub(super) fn decode(mut data: &[u8]) -> Result<Self, Cut> {
        let buf = &mut data;
        let kind = wire::u8(buf)?;
        let from = wire::identity(buf)?;
        let body = match kind {
            CLAIMS => Body::Claims(list(buf, claim)?),
            RECORDS => Body::Records(list(buf, claim)?),
            OFFERS => Body::Offers(list(buf, |buf| Ok((wire::ip(buf)?, epoch(buf)?)))?),
            DECLINES => Body::Declines(list(buf, |buf| wire::ip(buf))?),
            STATUS => Body::Status(status(buf)?),
            DIGEST => {
                let nonce = wire::u64(buf)?;
                let reply = wire::u8(buf)? != 0;
                let mut buckets = [0; BUCKETS];
                for bucket in &mut buckets {
                    *bucket = wire::u64(buf)?;
                }
                Body::Digest { nonce, reply, buckets, your_boot: wire::u64(buf)? }
            }
            LEAVING => Body::Leaving,
            _ => return Err(Cut),
        };
        Ok(Self { from, body })
    }

    fn head(&self, kind: u8) -> Vec<u8> {
        let mut out = Vec::with_capacity(256);
        out.put_u8(kind);
        wire::put_identity(&mut out, &self.from);
        out
    }

    fn one(&self, kind: u8, put: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
        let mut out = self.head(kind);
        put(&mut out);
        out
    }

    fn chunks<T>(&self, kind: u8, items: &[T], put: impl Fn(&mut Vec<u8>, &T)) -> Vec<Vec<u8>> {
        let mut datagrams = Vec::new();
        let (mut body, mut count) = (Vec::new(), 0u8);
        let head = self.head(kind);
        let flush = |body: &mut Vec<u8>, count: &mut u8, datagrams: &mut Vec<Vec<u8>>| {
            let mut out = head.clone();
            out.put_u8(*count);
            out.append(body);
            datagrams.push(out);
            *count = 0;
        };
        for item in items {
            let before = body.len();
            put(&mut body, item);
            let full = head.len() + 1 + body.len() > MAX_PACKET_BYTES || usize::from(count) == MAX_ENTRIES;
            if full && count > 0 {
                let last = body.split_off(before);
                flush(&mut body, &mut count, &mut datagrams);
                body = last;
            }
            count += 1;
        }
        if count > 0 {
            flush(&mut body, &mut count, &mut datagrams);
        }
        datagrams
    }
}

fn put_claim(out: &mut Vec<u8>, claim: &Claim) {
    wire::put_ip(out, claim.vip);
    out.put_u64(claim.epoch);
    let kind = match claim.tenure {
        Tenure::Free => 0,
        Tenure::Conflict => 1,
        Tenure::Probing(_) => 2,
        Tenure::Owned(_) => 3,
    };
    out.put_u8(kind);
    if let Some(owner) = claim.owner() {
        wire::put_name(out, &owner.name);
        out.put_u64(owner.boot);
    }
}

fn epoch(buf: &mut &[u8]) -> Result<u64, Cut> {
    let epoch = wire::u64(buf)?;
    if epoch > MAX_EPOCH { Err(Cut) } else { Ok(epoch) }
}

fn claim(buf: &mut &[u8]) -> Result<Claim, Cut> {
    let vip = wire::ip(buf)?;
    let epoch = epoch(buf)?;
    let kind = wire::u8(buf)?;
    let owner = |buf: &mut &[u8]| Ok(Owner { name: wire::name(buf)?, boot: wire::u64(buf)? });
    let tenure = match kind {
        0 => Tenure::Free,
        1 => Tenure::Conflict,
        2 => Tenure::Probing(owner(buf)?),
        3 => Tenure::Owned(owner(buf)?),
        _ => return Err(Cut),
    };
    Ok(Claim { vip, epoch, tenure })
}

fn put_status(out: &mut Vec<u8>, status: &Status) {
    // A list cut short would call the rest able: a node with so many impossible VIPs rather steps aside.
    let ready = status.ready && status.unable.len() <= MAX_UNABLE;
    out.put_u64(status.version);
    out.put_u8(u8::from(ready) | u8::from(status.draining) << 1);
    let macs = &status.macs[..status.macs.len().min(MAX_MACS)];
    out.put_u8(u8::try_from(macs.len()).expect("at most 16"));
    macs.iter().for_each(|mac| out.put_slice(&mac.0));
    let unable = &status.unable[..status.unable.len().min(MAX_UNABLE)];
    out.put_u8(u8::try_from(unable.len()).expect("at most 48"));
    unable.iter().for_each(|vip| wire::put_ip(out, *vip));
    // At the end, where speakers from before they were said do not look.
    let Some(networks) = status.networks.as_ref().filter(|list| list.len() <= MAX_NETWORKS) else { return };
    out.put_u8(u8::try_from(networks.len()).expect("at most 8"));
    for network in networks {
        wire::put_ip(out, network.network());
        out.put_u8(network.prefix_len());
    }
}

fn status(buf: &mut &[u8]) -> Result<Status, Cut> {
    let version = wire::u64(buf)?;
    let flags = wire::u8(buf)?;
    let macs = list(buf, |buf| {
        let mut mac = [0; 6];
        buf.try_copy_to_slice(&mut mac).map_err(|_| Cut)?;
        Ok(Mac(mac))
    })?;
    let unable = list(buf, |buf| wire::ip(buf))?;
    let network = |buf: &mut &[u8]| IpNet::new(wire::ip(buf)?, wire::u8(buf)?).map_err(|_| Cut);
    let networks = if buf.is_empty() { None } else { Some(list(buf, network)?) };
    Ok(Status { version, ready: flags & 1 != 0, draining: flags & 2 != 0, macs, unable, networks })
}

fn list<T>(buf: &mut &[u8], item: impl Fn(&mut &[u8]) -> Result<T, Cut>) -> Result<Vec<T>, Cut> {
    let count = wire::u8(buf)?;
    (0..count).map(|_| item(buf)).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn from() -> Identity {
        Identity { name: "node1".into(), addr: "10.0.0.1:7946".parse().unwrap(), boot: 7, bump: 1 }
    }

    fn any_claim() -> impl Strategy<Value = Claim> {
        let ip =
            prop_oneof![any::<[u8; 4]>().prop_map(IpAddr::from), any::<[u8; 16]>().prop_map(IpAddr::from)];
        let owner = ("[a-z0-9.-]{1,60}", any::<u64>())
            .prop_map(|(name, boot)| Owner { name: name.as_str().into(), boot });
        let tenure = (0..4, owner).prop_map(|(kind, owner)| match kind {
            0 => Tenure::Free,
            1 => Tenure::Conflict,
            2 => Tenure::Probing(owner),
            _ => Tenure::Owned(owner),
        });
        (ip, 0..=MAX_EPOCH, tenure).prop_map(|(vip, epoch, tenure)| Claim { vip, epoch, tenure })
    }

    proptest! {
        #[test]
        fn claims_survive_a_round_trip_in_datagrams_that_fit(claims in proptest::collection::vec(any_claim(), 0..200)) {
            let datagrams = Message { from: from(), body: Body::Claims(claims.clone()) }.encode();
            let mut read = Vec::new();
            for datagram in datagrams {
                prop_assert!(datagram.len() <= MAX_PACKET_BYTES);
                let Body::Claims(some) = Message::decode(&datagram).unwrap().body else { panic!("another kind") };
                read.extend(some);
            }
            prop_assert_eq!(read, claims);
        }

        #[test]
        fn datagrams_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300), kind in 0u8..8) {
            let _ = Message::decode(&bytes);
            let mut shaped = Message { from: from(), body: Body::Leaving }.encode().remove(0);
            shaped[0] = kind;
            shaped.extend(bytes);
            let _ = Message::decode(&shaped);
        }
    }

    #[test]
    fn an_epoch_that_leaves_no_room_for_newer_ones_is_refused() {
        let vip = IpAddr::from([10, 0, 0, 1]);
        let claim = |epoch| Body::Claims(vec![Claim { vip, epoch, tenure: Tenure::Free }]);
        for (body, is_good) in [
            (claim(MAX_EPOCH), true),
            (claim(MAX_EPOCH + 1), false),
            (claim(u64::MAX), false),
            (Body::Offers(vec![(vip, MAX_EPOCH)]), true),
            (Body::Offers(vec![(vip, MAX_EPOCH + 1)]), false),
        ] {
            let message = Message { from: from(), body };
            assert_eq!(Message::decode(&message.encode()[0]).is_ok(), is_good, "{message:?}");
        }
    }

    #[test]
    fn the_other_kinds_survive_a_round_trip() {
        let status = Status {
            version: 3,
            ready: true,
            draining: true,
            macs: vec![Mac([2; 6])],
            unable: vec!["fd00::1".parse().unwrap()],
            networks: Some(vec!["10.0.0.0/24".parse().unwrap(), "fd00::/64".parse().unwrap()]),
        };
        for body in [
            Body::Status(Status { networks: None, ..status.clone() }),
            Body::Status(status),
            Body::Digest { nonce: 1, reply: true, buckets: [9; BUCKETS], your_boot: 4 },
            Body::Leaving,
            Body::Offers(vec![([10, 0, 0, 1].into(), 5)]),
            Body::Declines(vec![[10, 0, 0, 1].into()]),
            Body::Records(vec![Claim { vip: [10, 0, 0, 1].into(), epoch: 2, tenure: Tenure::Free }]),
        ] {
            let message = Message { from: from(), body };
            assert_eq!(Message::decode(&message.encode()[0]), Ok(message));
        }
    }
}
