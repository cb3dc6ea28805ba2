//! Something happens to the owner of a VIP while a client visits it: how long until another owns it, and what the client lost.

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::json;

use super::api::eventually;
use super::objects::{service, with};
use super::visits::{Outage, Visits, outage, take_straddlers};
use super::wire::{Mac, Said};
use super::{Cluster, Host, SOON, UnderTest};

/// A claim by another node must come within this, and visits succeed so long after it, whoever is under test.
const LIMIT: Duration = Duration::from_secs(40);
/// A fault that never ended so often is known well enough: no further round costs its minute.
const ENOUGH: usize = 5;

/// What any fault may cost at most with ours, and what 95 of 100 may cost.
pub const FAULT_WORST: Duration = Duration::from_millis(1500);
pub const FAULT_P95: Duration = Duration::from_millis(700);

/// An announced address of the Service `web`, and the index of its owner.
#[derive(Clone, Copy, Debug)]
pub struct Vip {
    pub ip: IpAddr,
    pub owner: usize,
}

/// What may happen to the owner without a word to anybody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Its speaker is killed.
    Crash,
    /// Its cable is pulled.
    Cut,
    /// Its interface loses the IPv4 address and keeps the carrier.
    AddressLoss,
}

impl Fault {
    pub const ALL: [Self; 3] = [Self::Crash, Self::Cut, Self::AddressLoss];

    pub fn name(self) -> &'static str {
        match self {
            Self::Crash => "process killed",
            Self::Cut => "link cut",
            Self::AddressLoss => "address lost",
        }
    }
}

/// What a fault did, over and over.
#[derive(Clone, Debug)]
pub struct Struck {
    /// How long each took that ended.
    pub took: Vec<Duration>,
    /// How often the client did not get through again, or no other node claimed the VIP, before patience ended.
    pub never: usize,
}

impl Struck {
    /// Prints what it was; the 95th of a hundred and the worst.
    ///
    /// # Errors
    /// When it never ended at least once.
    pub fn report(self, what: &str) -> Result<(Duration, Duration)> {
        let never = self.never;
        let figures = (!self.took.is_empty()).then(|| report(what, self.took));
        if never > 0 {
            println!("    {what}: {never} times without an end within {LIMIT:?}");
        }
        figures.filter(|_| never == 0).with_context(|| format!("{what}: {never} times without an end"))
    }
}

/// What one event did.
#[derive(Clone, Copy, Debug)]
pub struct Moved {
    /// From the event to the first claim by another node.
    pub claimed: Duration,
    pub outage: Outage,
    /// Connections that were being opened in the instant of the move, and were reset; see [`take_straddlers`].
    pub straddlers: usize,
    /// The index of the new owner.
    pub owner: usize,
}

impl Moved {
    /// The worse of what the wire and the client saw. A client that has the old owner's MAC notices nothing of a
    /// process that dies: the kernel there forwards on; then the wire tells when the next one took over.
    pub fn took(&self) -> Duration {
        self.claimed.max(self.outage.lasted)
    }
}

impl Cluster {
    /// A Service `web` with an IPv4 address of its own that is announced and reached.
    pub fn vip(&mut self) -> Result<Vip> {
        let net = self.fresh();
        self.announce_pool("pool", &[&net.range4(10, 30)])?;
        // With policy Cluster connections go on to a dead node's pods until Kubernetes notices: the pod lives elsewhere.
        self.create(&[&with(service("web"), json!({ "spec": { "selector": { "app": "safe" } } }))])?;
        let ip = self.wait_ip("web")?;
        let owner = self.wait_owner(&ip)?;
        self.wait_reached(&ip, 80)?;
        Ok(Vip { ip: ip.parse()?, owner: self.node(&owner)? })
    }

    /// The MAC of a node's first interface.
    pub fn mac(&self, node: usize) -> Mac {
        self.nodes[node].host.host.mac
    }

    /// Visits the VIP while `event` strikes its owner, until another node has claimed it and visits succeed again.
    pub fn strike(&mut self, vip: Vip, event: impl FnOnce(&mut Self) -> Result<()>) -> Result<Moved> {
        let visits = Visits::start(&self.lan.client.namespace, vip.ip, 80);
        eventually(SOON, "visits succeed before the event", || {
            ensure!(visits.so_far().iter().filter(|v| v.outcome.is_ok()).count() > 5, "not yet");
            Ok(())
        })?;
        let old = self.mac(vip.owner);
        let at = Instant::now();
        event(self)?;
        let claim = self.wire.wait_claim(at, LIMIT, vip.ip, |m| m != old)?;
        let Said::Claims { mac: new, .. } = claim.said else { bail!("a claim is a claim") };
        eventually(LIMIT, "visits succeed after the event", || {
            let done =
                visits.so_far().into_iter().filter(|v| v.started > claim.at && v.outcome.is_ok()).count();
            ensure!(done > 10, "{done} since");
            Ok(())
        })?;
        let mut list = visits.finish();
        let straddlers = take_straddlers(&mut list, claim.at);
        Ok(Moved {
            claimed: claim.at - at,
            outage: outage(&list, at)?,
            straddlers,
            owner: self.node(&self.name_of(new))?,
        })
    }

    /// Strikes the owner of a VIP with the same fault `rounds` times.
    ///
    /// # Errors
    /// When a step fails. A client that does not get through again is no error but part of what is told.
    pub fn strikes(&mut self, fault: Fault, rounds: usize) -> Result<Struck> {
        let mut vip = self.vip()?;
        let mut struck = Struck { took: Vec::new(), never: 0 };
        for round in 0..rounds {
            if struck.never == ENOUGH {
                break;
            }
            let name = self.nodes[vip.owner].name.clone();
            let moved = self.strike(vip, |c| match fault {
                Fault::Crash => {
                    c.kill_speaker(vip.owner);
                    Ok(())
                }
                Fault::Cut => c.lan.cut(&name, 0),
                Fault::AddressLoss => c.lan.take_address(&name),
            });
            match moved {
                Ok(moved) => struck.took.push(moved.took()),
                Err(error) => {
                    println!("    round {round}, {name}: {fault:?}: {error:#}");
                    struck.never += 1;
                }
            }
            match fault {
                Fault::Crash => self.start_speaker(vip.owner)?,
                Fault::Cut => self.lan.mend(&name, 0)?,
                Fault::AddressLoss => self.lan.give_address(&name)?,
            }
            self.settle(&mut vip)
                .map_err(|e| e.context(format!("after round {round}: {name}: {fault:?}")))?;
        }
        Ok(struck)
    }

    /// `rounds` planned hand-overs: how long each took, how many connections failed in all, and how many straddled a move.
    pub fn hand_overs(&mut self, rounds: usize) -> Result<(Vec<Duration>, usize, usize)> {
        let mut vip = self.vip()?;
        let (mut took, mut failed, mut straddlers) = (Vec::new(), 0, 0);
        for round in 0..rounds {
            let moved = self.strike(vip, |c| c.stop_speaker(vip.owner));
            let moved = moved.map_err(|e| e.context(format!("hand-over {round}")))?;
            failed += moved.outage.failed;
            straddlers += moved.straddlers;
            took.push(moved.claimed);
            self.start_speaker(vip.owner)?;
            self.settle(&mut vip)?;
        }
        Ok((took, failed, straddlers))
    }

    /// Waits until the node that was struck takes part again, and one node owns the VIP.
    fn settle(&mut self, vip: &mut Vip) -> Result<()> {
        if self.under_test == UnderTest::MetalLb {
            // A node that was cut off finds its peers again after minutes only; a new process joins at once.
            self.kill_speaker(vip.owner);
            self.start_speaker(vip.owner)?;
        }
        self.wait_member(vip.owner)?;
        // A kernel that asked for a neighbour while its link was down asks again a second later: what comes through it
        // until then waits. That would be a second fault.
        let node = &self.nodes[vip.owner].host.host;
        for host in [&self.lan.control, &self.lan.client] {
            eventually(SOON, &format!("{} reaches {}", node.name, host.name), || reaches(node, host))?;
        }
        let owner = self.wait_owner(&vip.ip.to_string())?;
        vip.owner = self.node(&owner)?;
        Ok(())
    }
}

/// Whether a host answers another one: nothing listens at that port, and it says so.
fn reaches(from: &Host, to: &Host) -> Result<()> {
    let at = SocketAddr::new(to.v4.into(), 9);
    let answer = from.namespace.enter(|| TcpStream::connect_timeout(&at, Duration::from_millis(200)));
    match answer {
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => Ok(()),
        other => bail!("{other:?}"),
    }
}

/// Prints p50, p95 and the maximum of `times`; returns the latter two.
///
/// # Panics
/// Without any time.
pub fn report(what: &str, mut times: Vec<Duration>) -> (Duration, Duration) {
    times.sort();
    let at = |percent: usize| times[(times.len() * percent).div_ceil(100).max(1) - 1];
    let ms = |percent: usize| at(percent).as_secs_f64() * 1000.0;
    let (p50, p95, max) = (ms(50), ms(95), ms(100));
    // Milliseconds below ten with a digit more: a hand-over takes about one.
    let digits = usize::from(max < 10.0);
    println!(
        "    {what}: {} times, p50 {p50:.digits$} ms, p95 {p95:.digits$} ms, max {max:.digits$} ms",
        times.len()
    );
    (at(95), at(100))
}
