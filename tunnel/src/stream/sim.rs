//! A simulated pair: two sessions in one thread over the memory carrier, by a seeded schedule of opens, writes, resets, stops,
//! cancellations and deaths. After the model of quinn-proto's own.
//!
//! ```text
//! schedule ─ seed ─→ Pair: tasks that are polled in a random order, and the link's time
//! visitor  ─→ what the opener of a stream does;   origin ─→ what the other end does with it
//! ledger   ─→ what was given to each direction, and what may be believed of what comes out
//! ```
//! What must hold for every schedule stands in [`ledger`]; what must hold at its end in [`Pair::end`].
//!
//! `CAUSEWAY_SIM_RUNS` says how many schedules, `CAUSEWAY_SIM_SEED` with which they begin.

mod body;
mod chance;
mod ledger;
mod origin;
mod over_quic;
mod pair;
mod visitor;

use chance::Chance;
use ledger::Ledger;
use pair::Pair;

use crate::session::Session;

/// What every task of an end holds.
#[derive(Clone)]
struct Ties {
    chance: Chance,
    ledger: Ledger,
    session: Session,
}

/// Schedules of a usual run.
const RUNS: u64 = 10_000;

#[test]
fn no_schedule_loses_doubles_or_shortens_anything() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse().ok());
    let first = number("CAUSEWAY_SIM_SEED").unwrap_or(0);
    let runs = number("CAUSEWAY_SIM_RUNS").unwrap_or(RUNS);
    let mut seen = ledger::Seen::default();
    for seed in first..first + runs {
        let mut pair = Pair::new(seed);
        pair.run();
        seen += pair.end();
    }
    println!("{seen:?}");
    // A simulation that never meets what it is for proves nothing.
    if runs >= RUNS {
        seen.check();
    }
}
