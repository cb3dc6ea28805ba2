//! Over a line as people have them: transfers fill it, nobody is hurt by them, and a pause breaks nothing. The exact figures
//! are `benches/wan`'s; here each promise holds by a wide margin, measured by the line and never by the clock alone.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod beside;
mod carriers;
mod faults;
mod itself;
mod order;
mod pauses;
mod transfers;
mod whole;

use std::time::Duration;

use causeway_tests::line::{Door, Origins, Ours, Shape, Wan, wan};

/// A site over a line of this shape; `None` where there can be none.
async fn site(shape: Shape) -> Option<(Wan, Origins, Ours, Door)> {
    let wan = wan(shape)?;
    let origins = wan.origins().await;
    let ours = wan.ours(&origins).await;
    let door = Door::from(&ours.edge);
    Some((wan, origins, ours, door))
}

/// The share of a rate in Mbit/s that so many bytes in that time are.
fn share(bytes: u64, time: Duration, rate: f64) -> f64 {
    bytes as f64 * 8.0 / time.as_secs_f64() / 1e6 / rate
}
