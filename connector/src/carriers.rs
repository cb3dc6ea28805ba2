//! Over which carrier an edge is dialled, which first, and when QUIC is tried again. Decisions alone: time and chance come in.

use std::time::Duration;

use causeway_tunnel::Transport;
use clap::ValueEnum;
use rand::Rng;

/// What sessions may go over (`protocol`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Protocol {
    /// QUIC, and TCP where that does not come through.
    #[default]
    Auto,
    Quic,
    /// cloudflared's other carrier is HTTP/2 too.
    #[value(alias = HTTP2)]
    Tcp,
}

/// What the file says of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Carriers {
    pub(crate) protocol: Protocol,
    /// `quicProbeInterval`: how often a session over TCP looks whether QUIC comes through again, about.
    pub(crate) probe_every: Duration,
}

/// Why an edge is dialled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Need {
    /// There is no session.
    First,
    /// There is one, of which nothing is heard.
    Silence,
}

/// What cloudflared calls it.
pub(crate) const HTTP2: &str = "http2";
/// QUIC's head start: a handshake over a slow line, with a packet lost.
const HEAD_START: Duration = Duration::from_millis(1500);
/// The same while visitors wait, and while it is QUIC that is silent, as a rule.
const SHORT_HEAD_START: Duration = Duration::from_millis(500);
/// A connection through a NAT is not worth a probe more often.
pub(crate) const PROBE_EVERY: Duration = Duration::from_secs(600);
/// By so much a probe is earlier or later, so that connectors which lost QUIC together do not come back together.
const JITTER: f64 = 0.2;

impl Default for Carriers {
    fn default() -> Self {
        Self { protocol: Protocol::default(), probe_every: PROBE_EVERY }
    }
}

impl Carriers {
    /// What to dial over, and after which time; whichever has a session first serves. `last`: what the last session went over.
    pub(crate) fn plan(self, last: Option<Transport>, need: Need) -> Vec<(Transport, Duration)> {
        let (quic, at_once) = ((Transport::Quic, Duration::ZERO), Duration::ZERO);
        match (self.protocol, last, need) {
            (Protocol::Quic, ..) => vec![quic],
            (Protocol::Tcp, ..) => vec![(Transport::Tcp, at_once)],
            (Protocol::Auto, Some(Transport::Tcp), _) => vec![quic, (Transport::Tcp, at_once)],
            (Protocol::Auto, _, Need::First) => vec![quic, (Transport::Tcp, HEAD_START)],
            (Protocol::Auto, _, Need::Silence) => vec![quic, (Transport::Tcp, SHORT_HEAD_START)],
        }
    }

    /// How long a session waits with its next look for QUIC; none looks that need not.
    pub(crate) fn next_probe(self, over: Option<Transport>, rng: &mut impl Rng) -> Option<Duration> {
        let looks = self.protocol == Protocol::Auto && over == Some(Transport::Tcp);
        looks.then(|| self.probe_every.mul_f64(rng.random_range(1.0 - JITTER..1.0 + JITTER)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUIC: (Transport, Duration) = (Transport::Quic, Duration::ZERO);

    fn carriers(protocol: Protocol) -> Carriers {
        Carriers { protocol, ..Carriers::default() }
    }

    #[test]
    fn quic_goes_first_and_tcp_at_once_where_it_was_what_worked() {
        let auto = carriers(Protocol::Auto);
        let later = |after| vec![QUIC, (Transport::Tcp, after)];
        assert_eq!(auto.plan(None, Need::First), later(HEAD_START));
        assert_eq!(auto.plan(Some(Transport::Quic), Need::First), later(HEAD_START));
        assert_eq!(auto.plan(Some(Transport::Quic), Need::Silence), later(SHORT_HEAD_START));
        assert_eq!(auto.plan(Some(Transport::Tcp), Need::First), later(Duration::ZERO));
        assert_eq!(carriers(Protocol::Quic).plan(Some(Transport::Tcp), Need::Silence), [QUIC]);
        let tcp = carriers(Protocol::Tcp).plan(None, Need::First);
        assert_eq!(tcp, [(Transport::Tcp, Duration::ZERO)]);
    }

    #[test]
    fn quic_is_looked_for_about_every_ten_minutes_and_only_from_tcp() {
        let mut rng = rand::rng();
        let auto = carriers(Protocol::Auto);
        for _ in 0..1000 {
            let next = auto.next_probe(Some(Transport::Tcp), &mut rng).unwrap().as_secs();
            assert!((480..720).contains(&next), "{next}");
        }
        assert_eq!(auto.next_probe(Some(Transport::Quic), &mut rng), None);
        assert_eq!(auto.next_probe(None, &mut rng), None);
        assert_eq!(carriers(Protocol::Tcp).next_probe(Some(Transport::Tcp), &mut rng), None);
    }
}
