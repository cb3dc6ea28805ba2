//! What a Welcome tells of the tunnel: what a connector could serve, and where else.

use serde::{Deserialize, Serialize};

/// What a connector is told of what its tunnel may serve. An edge may tell less than there is, or nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Granted {
    /// Patterns as the edge grants them, at most [`crate::limits::MAX_TOLD_GRANTS`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hostnames: Vec<String>,
    /// Where visitors reach the edge by HTTPS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub https_port: Option<u16>,
    /// Other edges that serve the tunnel, `host:port` each, with the key of this one: to be dialled as well.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fellows: Vec<String>,
}
