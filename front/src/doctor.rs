//! What `doctor` of both programs tries from outside, as anybody could: where names lead, what a visitor is shown, what time
//! others have, and what the kernel grants.

pub mod clock;
pub mod kernel;
pub mod names;
pub mod quic;
pub mod shown;
pub mod visit;

use std::time::Duration;

/// Whoever answers at all answers within this; a lost packet or two included.
pub const PATIENCE: Duration = Duration::from_secs(4);

/// A time as people measure lines.
pub fn milliseconds(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1e3)
}
