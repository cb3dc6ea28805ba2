//! How it is measured, and what a measurement gives.

use std::path::PathBuf;
use std::time::Duration;

/// How it is measured.
#[derive(Clone, Debug)]
pub struct Measure {
    pub bytes: u64,
    pub length: Duration,
    pub seed: u64,
    pub haproxy: Option<PathBuf>,
    pub rathole: Option<PathBuf>,
    /// Further lines of ours: edge.yaml, and the connector's file.
    pub edge_config: String,
    pub connector_config: String,
}

/// A figure's name, value and unit.
pub(super) type Measured = (String, Result<f64, String>, &'static str);

/// Mbit/s of so many bytes in that time.
pub(super) fn mbit(bytes: u64, time: Duration) -> f64 {
    bytes as f64 * 8.0 / time.as_secs_f64() / 1e6
}

pub(super) fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}
