//! The tunnels: whether connectors are there, what they complain of, and what the way to them is like. Pure.

use causeway_daemon::doctor::Finding;

use crate::status::{ConnectorStatus, HostnameState, State, TunnelStatus};
use crate::store::TunnelRecord;

pub(super) fn of_running(tunnel: &TunnelStatus) -> Vec<Finding> {
    let name = &tunnel.name;
    let mut found = vec![match tunnel.state {
        State::Healthy => {
            Finding::ok("tunnel", name, format!("HEALTHY, {} connectors", tunnel.connectors.len()))
        }
        // What is missing follows.
        State::Degraded => Finding::note("tunnel", name, "DEGRADED"),
        State::Inactive => Finding::note(
            "tunnel",
            name,
            "no connector ever came: `docker run` the one that `tunnel create` printed",
        ),
        State::Down => {
            let mend = "where the connector runs: `causeway-connector doctor`";
            Finding::fault("tunnel", name, "DOWN: no connector is heard", mend)
        }
    }];
    for hostname in &tunnel.hostnames {
        match hostname.state {
            HostnameState::NotAnnounced if hostname.granted => {
                let mend = "add a rule for it to the connector's file, or grant it no more";
                let cause = "granted, and no rule of a connector has it";
                found.push(Finding::note("tunnel", &hostname.hostname, format!("{cause}: {mend}")));
            }
            // The visit of the name says it, where there is a listener for one.
            HostnameState::NoCertificate if hostname.hostname.starts_with("*.") => {
                let mend = format!(
                    "unless `acme` is off, a name has its certificate once a rule writes it out; for all names at once: `causeway-edge cert add '{}' --persist`, \
                     `acme.dns`, or a file under `certificates`",
                    hostname.hostname
                );
                let cause = "no certificate for all of its names: HTTPS visitors of those that no rule writes out are turned away";
                found.push(Finding::warning("tunnel", &hostname.hostname, cause, mend));
            }
            HostnameState::NoCertificate => {
                let mend = format!(
                    "wait for the order (`causeway-edge cert show {}`), or add a file under `certificates`",
                    hostname.hostname
                );
                found.push(Finding::fault(
                    "tunnel",
                    &hostname.hostname,
                    "no certificate: HTTPS visitors are turned away",
                    mend,
                ));
            }
            _ => {}
        }
    }
    tunnel.connectors.iter().for_each(|connector| found.extend(of_connector(name, connector)));
    found
}

fn of_connector(tunnel: &str, connector: &ConnectorStatus) -> Vec<Finding> {
    let subject = format!("{tunnel} at {}", connector.host);
    let mut found = Vec::new();
    let heard: Vec<_> = connector.sessions.iter().filter(|session| !session.suspected).collect();
    match heard.iter().map(|session| session.rtt_milliseconds).reduce(f64::min) {
        Some(way) => {
            found.push(Finding::ok("latency", format!("edge → {subject}"), format!("round trip {way:.1} ms")))
        }
        None => {
            let mend =
                "the line is cut, or the connector was killed: where it runs, `causeway-connector doctor`";
            found.push(Finding::warning("tunnel", &subject, "nothing is heard on any session", mend));
        }
    }
    if let Some(mtu) = heard.iter().filter_map(|session| session.path_mtu).max() {
        found.push(Finding::ok(
            "mtu",
            format!("edge → {subject}"),
            format!("packets of {mtu} bytes get through"),
        ));
    }
    if let Some(error) = &connector.config_error {
        let mend = "where it runs: `causeway-connector check FILE`; the rules before it are in force";
        found.push(Finding::warning(
            "tunnel",
            &subject,
            format!("its changed rule file is wrong: {error}"),
            mend,
        ));
    }
    for name in &connector.refused {
        let mend = "grant it with a tunnel of its own, or remove the rule";
        found.push(Finding::warning("tunnel", &name.hostname, format!("not served: {}", name.reason), mend));
    }
    found
}

/// Tokens that end soon, and tunnels whose last one has.
pub(super) fn keys(records: &[TunnelRecord], now: i64) -> Vec<Finding> {
    let without = records.iter().filter(|record| !record.keys.iter().any(|key| key.is_valid(now)));
    let fault = |record: &TunnelRecord| {
        let mend = format!("`causeway-edge tunnel rotate {}` makes a new one", record.name);
        Finding::fault("token", &record.name, "no token of it is valid any more", mend)
    };
    without.map(fault).collect()
}

#[cfg(test)]
mod tests {
    use causeway_daemon::doctor::Severity;

    use super::*;
    use crate::status::HostnameStatus;
    use causeway_tunnel::TlsEnd;

    #[test]
    fn a_tunnel_that_was_up_and_is_not_is_a_fault_and_one_that_never_was_is_none() {
        let tunnel = |state| TunnelStatus {
            name: "home".to_owned(),
            id: String::new(),
            state,
            since: None,
            hostnames: vec![HostnameStatus {
                hostname: "a.example".to_owned(),
                state: HostnameState::Down,
                granted: true,
                tls: TlsEnd::Edge,
            }],
            connectors: Vec::new(),
            declared: None,
        };
        let severity = |state| of_running(&tunnel(state))[0].severity;
        assert_eq!(severity(State::Down), Severity::Fault);
        assert_eq!(severity(State::Inactive), Severity::Note);
        assert_eq!(severity(State::Healthy), Severity::Ok);
    }

    #[test]
    fn a_wildcard_without_a_certificate_is_told_what_gets_one() {
        let judged = |hostname: &str| {
            let hostname = HostnameStatus {
                hostname: hostname.to_owned(),
                state: HostnameState::NoCertificate,
                granted: true,
                tls: TlsEnd::Edge,
            };
            let tunnel = TunnelStatus {
                name: "home".to_owned(),
                id: String::new(),
                state: State::Degraded,
                since: None,
                hostnames: vec![hostname],
                connectors: Vec::new(),
                declared: None,
            };
            of_running(&tunnel).remove(1)
        };
        let (wildcard, name) = (judged("*.example.dev"), judged("a.example.dev"));
        assert_eq!((wildcard.severity, name.severity), (Severity::Warning, Severity::Fault));
        assert!(wildcard.mend.unwrap().contains("cert add '*.example.dev' --persist"));
        assert!(name.mend.unwrap().contains("cert show a.example.dev"));
    }
}
