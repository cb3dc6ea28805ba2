//! What the running connector says of itself. Pure.

use causeway_acme::State;
use causeway_daemon::doctor::Finding;
use causeway_front::doctor::visit::SOON_DAYS;
use causeway_tunnel::Token;

use crate::status::{ClusterStatus, EdgeStatus, Status, unix_now};

pub(super) fn findings(running: Option<&Status>, token: Option<&Token>) -> Vec<Finding> {
    let Some(status) = running else {
        return vec![Finding::note(
            "running",
            "connector",
            "none runs here that answers: what it would meet is tried",
        )];
    };
    let mut found = Vec::new();
    if let Some(token) = token.filter(|token| token.tunnel.to_string() != status.tunnel) {
        let cause = format!(
            "the one that runs here has tunnel {}, and this token is of {}",
            status.tunnel, token.tunnel
        );
        found.push(Finding::note("running", "connector", cause));
    }
    if let Some(error) = &status.config.error {
        let mend = format!(
            "mend the file: the rules before it are in force (`causeway-connector check {}`)",
            status.config.file
        );
        found.push(Finding::warning("running", &status.config.file, error, mend));
    }
    found.extend(status.config.cluster.iter().flat_map(|cluster| of_cluster("running", cluster)));
    status.edges.iter().for_each(|edge| found.extend(of_edge(edge)));
    for certificate in &status.certificates {
        let (name, reason) =
            (&certificate.name, certificate.last_error.as_deref().unwrap_or("no reason is known"));
        let mend = "the authority's questions come through the edge: the name's DNS leads to it, and its ports 80 and 443 are open?";
        let days = certificate.days_left(unix_now());
        found.push(match certificate.state {
            State::Valid if days.is_none_or(|days| days >= SOON_DAYS) => Finding::ok(
                "certificate",
                name,
                format!("ordered at home, {} days left", days.unwrap_or_default()),
            ),
            State::Ordering => Finding::note("certificate", name, "the first certificate is under way"),
            State::Failing | State::Valid => Finding::warning("certificate", name, reason, mend),
            State::Failed | State::Expired => Finding::fault("certificate", name, reason, mend),
        });
    }
    found
}

/// What there is to say of a cluster and its Services, whoever has looked at it.
pub(super) fn of_cluster(check: &'static str, cluster: &ClusterStatus) -> Vec<Finding> {
    let mut found = vec![match &cluster.error {
        None => {
            Finding::ok(check, &cluster.place, format!("{} rules of the cluster's Services", cluster.rules))
        }
        Some(error) => Finding::warning(
            check,
            &cluster.place,
            format!("the cluster is not followed: {error}"),
            "the last known rules are in force; what is said above mends it",
        ),
    }];
    let mend = "`kubectl annotate --overwrite` writes it anew; docs/kubernetes.md has all annotations";
    let remarks = cluster.remarks.iter();
    found.extend(remarks.map(|remark| Finding::warning(check, &cluster.place, remark, mend)));
    found
}

fn of_edge(edge: &EdgeStatus) -> Vec<Finding> {
    let mut found = Vec::new();
    let heard = edge.sessions.iter().filter(|session| !session.suspected);
    let way = heard.clone().map(|session| session.rtt_ms).reduce(f64::min);
    match (way, edge.sessions.is_empty()) {
        (Some(way), _) => {
            let cause = format!("{} sessions, round trip {way:.1} ms", heard.count());
            found.push(Finding::ok("running", &edge.address, cause));
        }
        (None, false) => {
            let mend = "the line is cut, or the edge has gone: the trial below says more";
            found.push(Finding::fault("running", &edge.address, "nothing is heard on any session", mend));
        }
        (None, true) => {
            let reason = edge.trouble.as_deref().unwrap_or("no session yet");
            found.push(Finding::fault("running", &edge.address, reason, "the trial below says more"));
        }
    }
    for name in &edge.refused {
        let mend = "have the edge grant it (`causeway-edge tunnel create … --hostname`), or remove the rule";
        found.push(Finding::warning("running", &name.hostname, format!("not served: {}", name.reason), mend));
    }
    found
}
