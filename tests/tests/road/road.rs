//! All that the road is made of, from nothing; it is gone with its value.

use anyhow::Result;
use causeway_tests::cluster::{Cluster, Namespace};
use causeway_tests::pebble::{Manners, Pebble, Place};
use tokio::runtime::Runtime;

use crate::cluster::Sites;
use crate::ground::{AUTHORITY, Internet, NAME, VPS};
use crate::machines::{Home, Vps, engine};

/// Everything stands. Fields end in this order: what runs before what it runs in.
pub(super) struct Road {
    pub(super) home: Home,
    pub(super) vps: Vps,
    pub(super) sites: Sites,
    pub(super) cluster: Cluster,
    pub(super) authority: Pebble,
    pub(super) internet: Internet,
    pub(super) runtime: Runtime,
}

impl Road {
    /// Everything but the tunnel; `None`, which is said, where something is not installed.
    pub(super) fn lay(runtime: Runtime) -> Result<Option<Self>> {
        let internet = Internet::lay()?;
        let house = Namespace::new(NAME, "home")?;
        let Some(place) = Place::at(AUTHORITY, VPS) else { return Ok(None) };
        let (cluster, engines) = std::thread::scope(|scope| {
            let cluster = scope.spawn(|| Cluster::start(NAME, 3));
            let engines = async { tokio::join!(engine(&internet.vps, "edge"), engine(&house, "connector")) };
            let engines = runtime.block_on(engines);
            (cluster.join(), engines)
        });
        let mut cluster = cluster.expect("a cluster stands up, or says why not")?;
        let (Some(on_vps), Some(at_home)) = engines else { return Ok(None) };
        internet.connect(&cluster, house)?;
        let vps = runtime.block_on(Vps::set_up(on_vps, &place))?;
        let (http, https) = ((VPS, 80).into(), (VPS, 443).into());
        let manners = Manners { validity: 90 * 86_400, http, https, wants_eab: false };
        let authority = runtime.block_on(internet.authority.within(place.open(&manners)));
        let sites = Sites::open(&mut cluster, &runtime)?;
        Ok(Some(Self {
            home: Home::new(at_home, &sites)?,
            vps,
            sites,
            cluster,
            authority,
            internet,
            runtime,
        }))
    }

    /// What a failure's report needs.
    pub(super) fn tell(&mut self) {
        let (edge, connectors) =
            self.runtime.block_on(async { (self.vps.log().await, self.home.logs().await) });
        println!("--- edge\n{edge}\n--- connectors\n{connectors}\n--- cluster\n{}", self.cluster.tails(20));
        println!("logs of the cluster are in {}", self.cluster.keep_logs().display());
    }
}
