//! The API server's audit log: what the programs asked for under the accounts of the manifests, and what was refused.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::Value;

use super::api::WHO;
use super::objects::SYSTEM;

/// The accounts of programs, and nobody else: what tests and controllers do is of no interest.
const POLICY: &str = r#"
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
  - level: Metadata
    users:
      - system:serviceaccount:metallb-system:causeway-allocator
      - system:serviceaccount:metallb-system:causeway-speaker
      - system:serviceaccount:metallb-system:causeway-connector
  - level: None
"#;

/// One kind of request, as a rule of a Role names it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Asked {
    pub verb: String,
    pub group: String,
    /// With the subresource, as in `services/status`.
    pub resource: String,
    /// Of the object; empty where there is none, as in a list.
    pub name: String,
    pub namespace: String,
    pub status: u64,
}

impl Asked {
    pub fn is_refused(&self) -> bool {
        self.status == 403
    }

    /// The same thing to a Role.
    fn is_like(&self, other: &Self) -> bool {
        (&self.verb, &self.group, &self.resource) == (&other.verb, &other.group, &other.resource)
    }
}

pub(super) fn configure(folder: &Path) -> Result<()> {
    std::fs::write(folder.join("audit.yaml"), POLICY).context("cannot write the audit policy")
}

pub(super) fn flags(folder: &Path) -> String {
    let folder = folder.display();
    format!("--audit-policy-file={folder}/audit.yaml --audit-log-path={folder}/audit.log")
}

/// What an account asked for: the program that has it, not a test that uses its token.
pub(super) fn read(folder: &Path, account: &str) -> Result<Vec<Asked>> {
    let user = format!("system:serviceaccount:{SYSTEM}:{account}");
    let log = std::fs::read_to_string(folder.join("audit.log")).context("there is no audit log")?;
    let whole = log.rsplit_once('\n').map_or("", |(whole, _)| whole);
    let mut all = Vec::new();
    for line in whole.lines() {
        let event: Value = serde_json::from_str(line).context("a line of the audit log")?;
        if event["user"]["username"] != user || event["userAgent"] == WHO || event["objectRef"].is_null() {
            continue;
        }
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let object = &event["objectRef"];
        let resource = [&object["resource"], &object["subresource"]].into_iter().filter_map(Value::as_str);
        all.push(Asked {
            verb: text(&event["verb"]),
            group: text(&object["apiGroup"]),
            resource: resource.collect::<Vec<_>>().join("/"),
            name: text(&object["name"]),
            namespace: text(&object["namespace"]),
            status: event["responseStatus"]["code"].as_u64().unwrap_or_default(),
        });
    }
    Ok(all)
}

/// What was refused and is not allowed at other times: an API server that has just started refuses for a moment what it
/// has not read the rules of yet.
pub(super) fn refused(asked: &[Asked]) -> BTreeSet<&Asked> {
    let allowed = |one: &Asked| asked.iter().any(|other| !other.is_refused() && one.is_like(other));
    asked.iter().filter(|one| one.is_refused() && !allowed(one)).collect()
}
