//! What `rules` shows: each rule in force, in the order in which they are tried, and where it comes from.

use std::fmt::Write;

use causeway_tunnel::TlsEnd;
use serde::{Deserialize, Serialize};

use crate::config::{Config, Source};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Listing {
    pub(crate) rules: Vec<Listed>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Listed {
    pub(crate) hostname: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) path: Option<String>,
    pub(crate) service: String,
    pub(crate) tls: TlsEnd,
    pub(crate) from: From,
}

/// Who said it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum From {
    /// A line of the rule file, or of what stands in for one.
    File { name: String, line: u64 },
    /// A Service of the cluster, as `namespace/name`.
    Service(String),
}

impl Listing {
    pub(crate) fn of(config: &Config) -> Self {
        let rules = config.rules.iter().map(|rule| Listed {
            hostname: rule.hostname.to_string(),
            path: rule.path.as_ref().map(ToString::to_string),
            service: rule.service.to_string(),
            tls: rule.tls,
            from: match &rule.found {
                Some(service) => From::Service(service.to_string()),
                None if config.source == Source::Written => {
                    From::File { name: config.file.clone(), line: rule.line }
                }
                None => From::File { name: config.file.clone(), line: 0 },
            },
        });
        Self { rules: rules.collect() }
    }

    /// For people.
    pub(crate) fn render(&self) -> String {
        let mut out = String::new();
        for (index, rule) in self.rules.iter().enumerate() {
            let path = rule.path.as_ref().map_or_else(String::new, |path| format!(" {path}"));
            let tls = if rule.tls.is_edge() { String::new() } else { format!("  tls {}", rule.tls.as_str()) };
            let from = match &rule.from {
                From::File { name, line: 0 } => name.clone(),
                From::File { name, line } => format!("{name}:{line}"),
                From::Service(service) => format!("Service {service}"),
            };
            writeln!(out, "{}  {}{path} -> {}{tls}  ({from})", index + 1, rule.hostname, rule.service)
                .expect("a String takes everything");
        }
        if self.rules.is_empty() {
            out.push_str("there are no rules yet: nothing is known of the cluster\n");
        }
        out
    }
}
