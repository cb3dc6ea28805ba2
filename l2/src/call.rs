//! What a call to the API server came to, in words that name the verb, the resource and the mend; and who tells it.

use std::collections::BTreeSet;
use std::fmt::Display;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use thiserror::Error;
use tracing::{debug, info, warn};

/// A call that takes longer has failed: what it did is seen by a watch, if it came through after all.
const DEADLINE: Duration = Duration::from_secs(10);

/// A verb and a resource, as a Role names them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Call {
    pub(crate) verb: &'static str,
    pub(crate) resource: &'static str,
}

/// Why a call failed.
#[derive(Debug, Error)]
pub(crate) enum CallError {
    #[error("this account may not `{}` the resource `{}`: its Role lacks that verb; apply deploy/kubernetes of this \
             version, or add it (the API server says: {cause})", .call.verb, .call.resource)]
    Forbidden { call: Call, cause: String },
    #[error("cannot {} {}: the API server answers {}: {cause}", .call.verb, .call.resource, .code)]
    Refused { call: Call, code: u16, cause: String },
    #[error("cannot {} {}: no answer within {DEADLINE:?}", .call.verb, .call.resource)]
    Timeout { call: Call },
    #[error("cannot {} {}: {cause}", .call.verb, .call.resource)]
    Lost { call: Call, cause: kube::Error },
}

impl Call {
    pub(crate) const fn new(verb: &'static str, resource: &'static str) -> Self {
        Self { verb, resource }
    }

    /// Waits for the answer, not for ever.
    ///
    /// # Errors
    /// When there is none, or a refusal.
    pub(crate) async fn run<T>(self, call: impl Future<Output = kube::Result<T>>) -> Result<T, CallError> {
        match tokio::time::timeout(DEADLINE, call).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(kube::Error::Api(status))) if status.code == 403 => {
                Err(CallError::Forbidden { call: self, cause: status.message.clone() })
            }
            Ok(Err(kube::Error::Api(status))) => {
                Err(CallError::Refused { call: self, code: status.code, cause: status.message.clone() })
            }
            Ok(Err(cause)) => Err(CallError::Lost { call: self, cause }),
            Err(_) => Err(CallError::Timeout { call: self }),
        }
    }
}

impl CallError {
    /// The HTTP status of a refusal.
    pub(crate) fn code(&self) -> Option<u16> {
        match self {
            Self::Forbidden { .. } => Some(403),
            Self::Refused { code, .. } => Some(*code),
            Self::Timeout { .. } | Self::Lost { .. } => None,
        }
    }

    fn call(&self) -> Call {
        match self {
            Self::Forbidden { call, .. }
            | Self::Refused { call, .. }
            | Self::Timeout { call }
            | Self::Lost { call, .. } => *call,
        }
    }
}

/// Tells of each kind of call once per outage, and of its end; what repeats is for those who debug. Clones are one.
#[derive(Clone, Debug, Default)]
pub(crate) struct Outages(Arc<Mutex<BTreeSet<Call>>>);

impl Outages {
    pub(crate) fn failed(&self, error: &CallError, what: &dyn Display) {
        if self.0.lock().insert(error.call()) {
            warn!(%what, "{error}; trying again");
        } else {
            debug!(%what, "{error}; trying again");
        }
    }

    pub(crate) fn worked(&self, call: Call) {
        if self.0.lock().remove(&call) {
            info!(verb = call.verb, resource = call.resource, "works again");
        }
    }

    /// Passes a result on, and tells of it. What `expected` accepts is an answer like any other.
    pub(crate) fn tell<T>(
        &self,
        call: Call,
        what: &dyn Display,
        result: Result<T, CallError>,
        expected: impl Fn(&CallError) -> bool,
    ) -> Result<T, CallError> {
        match &result {
            Err(error) if !expected(error) => self.failed(error, what),
            _ => self.worked(call),
        }
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_names_the_verb_and_the_resource_that_the_role_lacks() {
        let call = Call::new("list", "servicel2statuses");
        let text = CallError::Forbidden { call, cause: "forbidden".to_owned() }.to_string();
        assert!(text.contains("`list`") && text.contains("`servicel2statuses`"), "{text}");
        assert!(CallError::Timeout { call }.to_string().contains("no answer within 10s"));
    }
}
