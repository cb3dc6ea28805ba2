//! Limits of an HTTP/3 connection that no person needs to set.

use std::time::Duration;

use causeway_tunnel::guest::Terms;

/// Requests at once on one connection; of streams in one direction a visitor needs three and tests our patience with more.
pub const TERMS: Terms = Terms { streams: 100, one_way: 8 };
/// What a stream takes in while nobody wants it: so much and what was under way, the visitor's end of it is seen.
pub(super) const TAKEN_IN_BYTES: usize = 64 * 1024;
/// How long a request without a length, of a method that has no body, may take to say that it has none: the end often
/// comes in a packet of its own.
pub(super) const END_PATIENCE: Duration = Duration::from_millis(100);
/// Between two signs of life while a request runs: less than half of what the carrier takes for death.
pub(super) const SIGN_OF_LIFE: Duration = Duration::from_secs(10);
/// For the first GOAWAY to arrive, and what was asked before to come: several round trips of the worst lines.
pub(super) const LEAVING: Duration = Duration::from_secs(3);
/// What a visitor may go on having us hold that has everything and does not say so.
pub(super) const SETTLING: Duration = Duration::from_secs(10);
/// How often a connection with uploads looks which of them stand.
pub(super) const LOOK_EVERY: Duration = Duration::from_millis(250);
