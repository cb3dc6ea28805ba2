//! The certificates of names whose TLS ends at home: files that somebody put there, and those that are ordered for what the
//! rules announce and an edge has taken.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use arc_swap::ArcSwap;
use causeway_acme::{Challenge, Handle, IsAllowed, Manager, Shelf};
use causeway_daemon::drain::Drain;
use causeway_front::tls::{PemSources, Tls};
use causeway_tunnel::Pattern;
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};

use super::Home;
use super::state::StateFile;
use crate::config::AtHome;
use crate::rules::RuleSet;
use crate::status::Board;

/// Rules are followed at once; this is for what else changes: files, edges that come and go.
const LOOK_INTERVAL: Duration = Duration::from_secs(2);

/// The certificates from files.
///
/// # Errors
/// When one cannot be used: names it, and what is wrong with it.
pub(crate) fn from_files(config: &AtHome) -> Result<Arc<Tls>> {
    Ok(Arc::new(Tls::new(sources(config), None)?))
}

/// Reads other files. On error nothing changes.
///
/// # Errors
/// As [`from_files`].
pub(crate) fn reload(tls: &Tls, config: &AtHome) -> Result<()> {
    Ok(tls.reload(sources(config))?)
}

fn sources(config: &AtHome) -> PemSources {
    PemSources { pairs: Vec::new(), folders: config.certificate_folders.clone() }
}

/// Orders what is missing from now on, where the configuration has a folder to keep it in.
///
/// # Errors
/// When what was kept, or a key for DNS, cannot be read.
pub(crate) async fn order(
    config: &AtHome,
    home: &Home,
    rules: &Arc<ArcSwap<RuleSet>>,
    board: &Arc<Board>,
    reloaded: watch::Receiver<u64>,
    drain: &Drain,
) -> Result<Option<Handle>> {
    let Some(data) = config.data.as_ref().filter(|_| config.acme.enabled) else { return Ok(None) };
    let mut settings = config.acme.settings(|_| true);
    settings.dns = config.acme.solver().context("`acme.dns` cannot be used")?;
    let has_dns = settings.challenges.contains(&Challenge::Dns01) && settings.dns.is_some();
    let allowed = Arc::clone(rules);
    let is_allowed: IsAllowed = Arc::new(move |name| {
        Pattern::parse(name).is_ok_and(|name| allowed.load().names_at_home().contains(&name))
    });
    let shelf: Arc<dyn Shelf> = home.tls.issued();
    let storage = Arc::new(StateFile::open(data)?);
    let (manager, handle) =
        Manager::load(settings, storage, shelf, home.challenges.clone(), is_allowed).await?;
    drop(drain.spawn_service("certificate orders", manager.run()));
    let follow = follow(
        handle.clone(),
        Arc::clone(&home.tls),
        Arc::clone(rules),
        Arc::clone(board),
        reloaded,
        has_dns,
    );
    drop(drain.spawn_service("names to order for", follow));
    Ok(Some(handle))
}

/// Tells the manager which names are wanted, for ever.
async fn follow(
    handle: Handle,
    tls: Arc<Tls>,
    rules: Arc<ArcSwap<RuleSet>>,
    board: Arc<Board>,
    mut reloaded: watch::Receiver<u64>,
    has_dns: bool,
) {
    let mut ticks = interval(LOOK_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let names = rules.load().names_at_home();
        // Whose questions would not come here cannot be proved: an authority counts failures.
        let reached = names.into_iter().filter(|name| !tls.files_cover(name) && board.is_served(name));
        let orderable = |name: &Pattern| match name {
            Pattern::Any => false,
            Pattern::Wildcard(_) => has_dns,
            Pattern::Exact(_) => true,
        };
        handle.want(reached.filter(orderable).map(|name| name.to_string()).collect::<BTreeSet<_>>());
        tokio::select! {
            _ = ticks.tick() => {}
            changed = reloaded.changed() => if changed.is_err() {
                return;
            },
        }
    }
}
