//! The comparison: the same load on each way from a visitor to the same origin, several rounds interleaved.

pub mod contender;
pub mod load;
pub mod report;
