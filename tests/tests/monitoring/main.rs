//! deploy/monitoring speaks of metrics that exist: each name and label in rules, dashboard and the table of operations.md is on a page
//! of a running program, and Prometheus's own tool reads the rules and plays them.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod pages;
mod promql;

use std::path::PathBuf;
use std::process::Command;

use causeway_tests::programs::here;
use causeway_tests::{needs, run};
use serde_json::Value;

use pages::Pages;

fn root() -> PathBuf {
    here().join("..")
}

fn read(file: &str) -> String {
    std::fs::read_to_string(root().join(file)).unwrap()
}

/// All strings under a key, at whatever depth.
fn strings_under<'a>(value: &'a Value, wanted: &str, found: &mut Vec<&'a str>) {
    match value {
        Value::Object(fields) => {
            for (key, value) in fields {
                if key == wanted {
                    found.extend(value.as_str());
                }
                strings_under(value, wanted, found);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| strings_under(item, wanted, found)),
        _ => {}
    }
}

#[test]
fn rules_and_dashboard_name_only_metrics_and_labels_that_the_programs_export() {
    let mut pages = Pages::default();
    run(async { pages = pages::of_edge_and_connector().await });
    pages.add_cluster();
    let mut wrong = Vec::new();

    let rules: Value =
        causeway_daemon::config::parse("rules.yml", &read("deploy/monitoring/rules.yml")).unwrap();
    let groups = rules["groups"].as_array().unwrap();
    let alerts: Vec<&Value> = groups.iter().flat_map(|group| group["rules"].as_array().unwrap()).collect();
    assert!(alerts.len() > 20, "the rules are read");
    for alert in alerts {
        let expression = promql::read(alert["expr"].as_str().unwrap());
        wrong.extend(pages.complaints(&expression));
        for text in alert["annotations"].as_object().unwrap().values() {
            let labels = promql::named_in(text.as_str().unwrap());
            wrong.extend(pages.unknown_labels(&expression, labels));
        }
    }

    let dashboard: Value = serde_json::from_str(&read("deploy/monitoring/dashboard.json")).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let targets: Vec<&Value> =
        panels.iter().filter_map(|panel| panel["targets"].as_array()).flatten().collect();
    assert!(targets.len() > 40, "the dashboard is read");
    for target in targets {
        let expression = promql::read(target["expr"].as_str().unwrap());
        wrong.extend(pages.complaints(&expression));
        wrong.extend(
            pages.unknown_labels(&expression, promql::named_in(target["legendFormat"].as_str().unwrap())),
        );
    }
    let mut queries = Vec::new();
    strings_under(&dashboard["templating"], "definition", &mut queries);
    for query in queries {
        wrong.extend(pages.complaints(&promql::read(query)));
    }
    assert_eq!(wrong, Vec::<String>::new());
}

/// Counted when something goes wrong that takes long to bring about; tests of their own see these.
const RARE: [&str; 5] = [
    "causeway_edge_request_retries_total",
    "causeway_edge_request_waits_total",
    "causeway_edge_sessions_given_up_total",
    "causeway_edge_readers_evicted_total",
    "causeway_connector_sessions_given_up_total",
];

#[test]
fn the_table_of_metrics_names_only_those_that_the_programs_export() {
    let mut pages = Pages::default();
    run(async { pages = pages::of_edge_and_connector().await });
    let page = read("docs/operations.md");
    let table = page.split("## Metrics").nth(1).unwrap().split("\n## ").next().unwrap();
    let rows: Vec<Vec<&str>> = table
        .lines()
        .filter(|line| line.starts_with("| `causeway_edge") || line.starts_with("| `causeway_connector"))
        .map(|line| line.trim_matches('|').split('|').map(str::trim).collect())
        .collect();
    assert!(rows.len() > 25, "the table is read");
    let mut wrong = Vec::new();
    for row in rows {
        let names = row[0].split('`').skip(1).step_by(2);
        let first = row[0].split('`').nth(1).unwrap();
        for name in names {
            // `…_open`: what stands before it is the first name's, as far as one of ours ends so.
            let known = match name.strip_prefix('…') {
                None => pages.knows(name) || RARE.contains(&name),
                Some(end) => {
                    pages.names().any(|known| known.ends_with(end) && known.starts_with(&first[..20]))
                }
            };
            if !known {
                wrong.push(format!("{name} is not exported"));
            }
        }
        // Labels are words before a bracket or a comma; those in brackets say what values they have.
        let labels = row[1].split(['(', ')']).step_by(2).flat_map(|text| text.split([',', ' ']));
        for label in labels.filter(|label| !label.is_empty() && *label != "or") {
            if pages.knows(first) && !pages.labels(first).contains(label) {
                wrong.push(format!("{first} has no label {label}: {:?}", pages.labels(first)));
            }
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
}

#[test]
fn prometheus_reads_the_rules_and_each_alert_fires_for_its_fault_alone() {
    let Some(promtool) = needs("promtool") else { return };
    for arguments in [
        ["check", "rules", "rules.yml"],
        ["test", "rules", "rules_test.yml"],
        ["check", "config", "prometheus.yml"],
    ] {
        let done =
            Command::new(&promtool).args(arguments).current_dir(root().join("deploy/monitoring")).output();
        let done = done.unwrap();
        let said = [done.stdout, done.stderr].concat();
        assert!(done.status.success(), "promtool {arguments:?}\n{}", String::from_utf8_lossy(&said));
    }
}
