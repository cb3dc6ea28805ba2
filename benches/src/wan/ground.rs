//! What stands while one contender is measured in one row.

use std::time::Duration;

use causeway_tests::line::{Door, Origins, Wan};

use super::contender::Running;

/// The lines, who is compared over them, and the origins behind.
#[derive(Debug)]
pub struct Ground {
    pub wan: Wan,
    pub origins: Origins,
    pub running: Running,
    pub door: Door,
    pub bytes: u64,
    pub length: Duration,
}
