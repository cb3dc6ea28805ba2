//! What may happen, what of it a visitor may notice, and the table of both.

use std::fmt::Write;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use crate::account::{Account, Seen};

/// Whether requests may fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Failures {
    None,
    /// While there is nobody to answer, and for no longer than the gap may last.
    InTheGap,
}

/// Whether the WebSocket may have to be opened anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Socket {
    Held,
    Anew,
}

/// What a visitor may notice of an event.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bound {
    pub(super) failures: Failures,
    pub(super) gap: Duration,
    pub(super) socket: Socket,
}

#[derive(Debug)]
pub(super) struct Event {
    pub(super) name: String,
    pub(super) bound: Bound,
    pub(super) from: Instant,
    /// When both sites were served again as if nothing had been.
    pub(super) to: Instant,
}

/// The table, in Markdown; and what is beyond its bound, with all that the visitor was told.
pub(super) fn report(account: &Account, events: &[Event]) -> (String, Result<()>) {
    let mut table = String::from(
        "| event | requests | failed | longest gap | at most | slowest answer | WebSocket |\n|---|---|---|---|---|---|---|\n",
    );
    let mut beyond = String::new();
    for event in events {
        let seen = account.between(event.from, event.to);
        let socket = match seen.breaks.len() {
            0 => format!("held, {} at most", seconds(seen.silence)),
            _ => format!("anew after {}", seconds(seen.silence)),
        };
        let _ = writeln!(
            table,
            "| {} | {} | {} | {} | {} | {} | {socket} |",
            event.name,
            seen.requests,
            seen.failed,
            seconds(seen.gap),
            seconds(event.bound.gap),
            seconds(seen.slowest)
        );
        if let Err(error) = hold(event, &seen) {
            let _ = writeln!(
                beyond,
                "{}: {error}\n  requests: {:?}\n  WebSocket: {:?}",
                event.name, seen.failures, seen.breaks
            );
        }
    }
    let outcome = if beyond.is_empty() { Ok(()) } else { Err(anyhow::anyhow!("beyond its bound: {beyond}")) };
    (table, outcome)
}

fn hold(event: &Event, seen: &Seen) -> Result<()> {
    let bound = event.bound;
    ensure!(seen.requests > 0, "nobody asked");
    ensure!(seen.gap <= bound.gap, "a gap of {}", seconds(seen.gap));
    ensure!(seen.failing <= bound.gap, "requests failed for {}", seconds(seen.failing));
    ensure!(bound.failures == Failures::InTheGap || seen.failed == 0, "{} requests failed", seen.failed);
    ensure!(bound.socket == Socket::Anew || seen.breaks.is_empty(), "the WebSocket broke");
    Ok(())
}

fn seconds(span: Duration) -> String {
    format!("{:.2} s", span.as_secs_f64())
}
