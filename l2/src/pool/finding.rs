//! What is wrong with a pool, in words that name the field and the mend.

use std::sync::Arc;

use thiserror::Error;

use super::Use;
use crate::range::{IpRange, RangeError};
use crate::selector::SelectorError;

#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Finding {
    #[error("spec.addresses is empty: a pool needs at least one range")]
    Empty,
    #[error("spec.addresses[{0}]: {1}")]
    Range(usize, RangeError),
    #[error("{0}: {1}")]
    Selector(String, SelectorError),
    #[error("{0} overlaps with {2} of the older pool `{1}`: take it out of one of them")]
    Overlap(IpRange, Arc<str>, IpRange),
    #[error("{0}: `{1}` is there twice, once is enough")]
    Duplicate(String, String),
    #[error("{0} is {1} and is never given to a Service")]
    Reserved(IpRange, Use),
}

impl Finding {
    /// A fault keeps the pool from giving; the rest is advice.
    pub fn is_fault(&self) -> bool {
        match self {
            Self::Empty | Self::Range(..) | Self::Selector(..) | Self::Overlap(..) => true,
            Self::Duplicate(..) | Self::Reserved(..) => false,
        }
    }

    /// The condition's reason, one word.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Empty => "NoAddresses",
            Self::Range(..) => "InvalidRange",
            Self::Selector(..) => "InvalidSelector",
            Self::Overlap(..) => "PoolsOverlap",
            Self::Duplicate(..) => "Duplicate",
            Self::Reserved(_, what) => what.reason(),
        }
    }
}
