//! Over a line as people have them: transfers fill it, nobody is hurt by them, and a pause breaks nothing. The exact figures
//! are `benches/wan`'s; here each promise holds by a wide margin, measured by the line and never by the clock alone.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod itself;

use std::time::Duration;

/// The share of a rate in Mbit/s that so many bytes in that time are.
fn share(bytes: u64, time: Duration, rate: f64) -> f64 {
    bytes as f64 * 8.0 / time.as_secs_f64() / 1e6 / rate
}
