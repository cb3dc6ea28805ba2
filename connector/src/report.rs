//! The account of what failed.

use crate::failure::{Blame, Failure};
use crate::origin::Origin;
use crate::rules::ActiveRule;
use crate::shard::Shard;

/// The one place where a failed request is logged and counted.
pub(crate) fn report(shard: &Shard, rule: &ActiveRule, origin: &Origin, failure: &Failure, id: &str) {
    rule.metrics.aborted(failure.code);
    if failure.blame == Blame::Visitor {
        tracing::debug!(request = id, rule = rule.label, code = %failure.code, cause = failure.cause, "request ended early");
        return;
    }
    shard.metrics.origin_errors.inc();
    match origin.may_complain() {
        Some(unsaid) => tracing::warn!(
            request = id, rule = rule.label, service = %origin.service(), code = %failure.code, unsaid, "{}", failure.cause
        ),
        None => tracing::debug!(
            request = id, rule = rule.label, service = %origin.service(), code = %failure.code, "{}", failure.cause
        ),
    }
}
