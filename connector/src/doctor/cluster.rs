//! The cluster's Services, as one look at its API server shows them: the rules they make, and what keeps others from being some.

use causeway_daemon::doctor::Finding;

use super::running;
use crate::config::Config;
use crate::kubernetes::{AccessError, Discovery};
use crate::status::ClusterStatus;

/// The rules that would be in force, and what there is to say of those of Services.
pub(super) fn examine(base: Config, cluster: Result<Discovery, AccessError>) -> (Config, Vec<Finding>) {
    let cluster = match cluster {
        Ok(cluster) => cluster,
        Err(error) => {
            let mend = "docs/kubernetes.md has a kubeconfig for a connector outside of the cluster, and the account of one within";
            return (base, vec![Finding::fault("cluster", "kubeconfig", error.to_string(), mend)]);
        }
    };
    let config = cluster.over(&base);
    let seen = ClusterStatus::of(&cluster, &config);
    if let Some(error) = &seen.error {
        let mend = "`kubectl get services -A` from this machine, with the same kubeconfig, says whether it is the connector's matter";
        return (base, vec![Finding::fault("cluster", &seen.place, error, mend)]);
    }
    let findings = running::of_cluster("cluster", &seen);
    (config, findings)
}
