//! What breaks on the road, one after the other, and what of it a visitor may notice.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use causeway_tests::cluster::{eventually, pause, scenarios};

use crate::cluster::Sites;
use crate::ground::HOME;
use crate::machines::{FIRST, GRACE};
use crate::road::Road;
use crate::table::{Bound, Event, Failures, Socket};
use crate::visitor::Visitor;

/// Whatever breaks has healed after this at the latest.
const HEALED: Duration = Duration::from_secs(60);
const SECOND_LONG: Duration = Duration::from_secs(1);
const CUT: Duration = Duration::from_secs(5);
/// From the cable's return to an answer: half a second until the session is heard again, and up to one until the kernel asks once
/// more for its neighbours on the LAN, whom it forgot when the carrier went.
const BACK: Duration = Duration::from_millis(1500);

/// Nothing of it reaches a visitor.
const UNNOTICED: Bound = Bound { failures: Failures::None, gap: SECOND_LONG, socket: Socket::Held };

/// The events so far, each until the next one begins: no request is left out.
pub(super) struct Course<'a> {
    visitor: &'a Visitor,
    pub(super) events: Vec<Event>,
}

impl<'a> Course<'a> {
    /// Begins when the visitor is served.
    pub(super) fn begin(visitor: &'a Visitor) -> Result<Self> {
        let course = Self { visitor, events: Vec::new() };
        course.healed(Instant::now(), "the beginning")?;
        Ok(course)
    }

    fn healed(&self, since: Instant, after: &str) -> Result<()> {
        eventually(HEALED, &format!("both sites are served after: {after}"), || {
            ensure!(self.visitor.is_served(since), "not yet");
            Ok(())
        })
    }

    fn event(&mut self, name: String, bound: Bound, strike: impl FnOnce() -> Result<()>) -> Result<()> {
        let from = Instant::now();
        println!("{name} …");
        strike()?;
        self.healed(Instant::now(), &name)?;
        println!("  healed {:.2} s after it began", from.elapsed().as_secs_f64());
        if let Some(before) = self.events.last_mut() {
            before.to = from;
        }
        self.events.push(Event { name, bound, from, to: Instant::now() });
        Ok(())
    }

    /// Everything, in turn.
    pub(super) fn run(&mut self, road: &mut Road, line: &str) -> Result<()> {
        self.event("nothing".into(), UNNOTICED, || {
            pause(2 * SECOND_LONG);
            Ok(())
        })?;
        self.node_dies(road)?;
        self.connectors(road, line)?;
        self.edge_restarts(road)?;
        self.api_stops(road)?;
        self.link_is_cut(road)
    }

    /// Its cables are pulled and its speaker is killed, as when the power goes.
    fn node_dies(&mut self, road: &mut Road) -> Result<()> {
        let c = &mut road.cluster;
        let owner = c.node(&c.wait_owner(&road.sites.apps)?)?;
        let name = c.nodes[owner].name.clone();
        // What was under way to it is reset by the next owner; the connector asks again what may be asked again.
        let bound = Bound { failures: Failures::None, gap: 3 * SECOND_LONG, socket: Socket::Anew };
        self.event("the VIP's node dies".into(), bound, || {
            [0, 1].into_iter().try_for_each(|lan| c.lan.cut(&name, lan))?;
            c.kill_speaker(owner);
            Ok(())
        })?;
        self.event("the node comes back".into(), UNNOTICED, || {
            [0, 1].into_iter().try_for_each(|lan| c.lan.mend(&name, lan))?;
            c.start_speaker(owner)?;
            c.wait_member(owner)
        })
    }

    fn connectors(&mut self, road: &Road, line: &str) -> Result<()> {
        let (home, vps, runtime) = (&road.home, &road.vps, &road.runtime);
        let away = Bound { failures: Failures::InTheGap, gap: GRACE + 3 * SECOND_LONG, socket: Socket::Anew };
        self.event("the only connector is restarted (`docker restart`)".into(), away, || {
            runtime.block_on(home.restart(FIRST));
            Ok(())
        })?;
        self.event("a second connector is added".into(), UNNOTICED, || {
            runtime.block_on(async {
                home.add_second(line).await;
                vps.has_connectors(2).await;
            });
            Ok(())
        })?;
        let half = Bound { failures: Failures::None, gap: 2 * SECOND_LONG, socket: Socket::Anew };
        self.event("the first connector is killed (`docker kill`)".into(), half, || {
            runtime.block_on(home.kill(FIRST));
            Ok(())
        })
    }

    fn edge_restarts(&mut self, road: &Road) -> Result<()> {
        let away = Bound { failures: Failures::InTheGap, gap: GRACE + 4 * SECOND_LONG, socket: Socket::Anew };
        self.event("the edge is restarted (`docker restart`)".into(), away, || {
            road.runtime.block_on(async {
                road.vps.restart_edge().await;
                road.vps.has_connectors(1).await;
            });
            Ok(())
        })
    }

    fn api_stops(&mut self, road: &mut Road) -> Result<()> {
        let span = Duration::from_secs(if scenarios::is_long() { 60 } else { 20 });
        let c = &mut road.cluster;
        self.event(format!("the API server is away for {} s", span.as_secs()), UNNOTICED, || {
            c.control.kill_server();
            pause(span);
            c.control.start_server()?;
            Sites::give_another(c)
        })
    }

    fn link_is_cut(&mut self, road: &Road) -> Result<()> {
        let lan = &road.cluster.lan;
        let bound = Bound { gap: CUT + BACK, ..UNNOTICED };
        self.event(format!("the connector's LAN cable is out for {} s", CUT.as_secs()), bound, || {
            lan.cut(HOME, 0)?;
            pause(CUT);
            lan.mend(HOME, 0)
        })
    }
}
