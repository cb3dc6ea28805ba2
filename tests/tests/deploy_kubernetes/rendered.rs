//! What Helm and kustomize make of the manifests: objects by kind and name.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use causeway_tests::cluster::Programs;
use causeway_tests::needs;
use causeway_tests::programs::here;
use serde_json::Value;

/// By `Kind/name`: each name is there once, in whatever namespace.
pub(super) type Objects = BTreeMap<String, Value>;

/// What the connector of the chart wants at least.
pub(super) const TOKEN: &str = "connector.tokenSecret.name=causeway-connector-token";
pub(super) const SYSTEM: &str = "metallb-system";

pub(super) fn folder() -> PathBuf {
    here().join("../deploy/kubernetes")
}

/// `helm template` in the namespace of the plain manifests.
pub(super) fn template(args: &[&str]) -> Result<Objects> {
    let all = [&["template", "causeway", "--namespace", SYSTEM][..], args].concat();
    parse(&helm(&all)?)
}

pub(super) fn lint(args: &[&str]) -> Result<()> {
    let printed = helm(&[&["lint", "--strict", "--namespace", SYSTEM][..], args].concat())?;
    ensure!(printed.contains("0 chart(s) failed"), "{printed}");
    Ok(())
}

/// Runs Helm with the chart as the last argument.
pub(super) fn helm(args: &[&str]) -> Result<String> {
    let home = tempfile::tempdir()?;
    let mut helm = Command::new(needs("helm").context("helm is missing")?);
    helm.args(args).arg(folder().join("chart"));
    for variable in ["HELM_CACHE_HOME", "HELM_CONFIG_HOME", "HELM_DATA_HOME"] {
        helm.env(variable, home.path());
    }
    printed(&mut helm)
}

/// `kubectl kustomize` of a folder.
pub(super) fn kustomize(folder: &Path) -> Result<Objects> {
    parse(&printed(Command::new(Programs::find()?.path("kubectl")).arg("kustomize").arg(folder))?)
}

/// A kustomization of one's own over the shipped one, with some of its components.
pub(super) fn overlay(components: &[&str]) -> Result<Objects> {
    let own = tempfile::tempdir()?;
    write_overlay(own.path(), components)?;
    kustomize(own.path())
}

pub(super) fn write_overlay(own: &Path, components: &[&str]) -> Result<()> {
    std::os::unix::fs::symlink(folder().canonicalize()?, own.join("causeway"))?;
    let components: String = components.iter().map(|name| format!("  - causeway/{name}\n")).collect();
    let lines = format!("resources: [causeway]\ncomponents:\n{components}");
    Ok(std::fs::write(own.join("kustomization.yaml"), lines)?)
}

/// What a command prints on standard output; a failure carries all that it said.
pub(super) fn printed(command: &mut Command) -> Result<String> {
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("cannot run {command:?}"))?;
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        bail!("{command:?}: {}: {stdout}{}", output.status, String::from_utf8_lossy(&output.stderr));
    }
    Ok(stdout)
}

pub(super) fn parse(text: &str) -> Result<Objects> {
    let documents: Vec<Value> = serde_saphyr::from_multiple(text).context("no YAML")?;
    let mut objects = Objects::new();
    for mut object in documents.into_iter().filter(|document| !document.is_null()) {
        plain_numbers(&mut object);
        let (kind, name) = (object["kind"].as_str(), object["metadata"]["name"].as_str());
        let name = format!("{}/{}", kind.context("no kind")?, name.context("no name")?);
        ensure!(objects.insert(name.clone(), object).is_none(), "{name} is there twice");
    }
    Ok(objects)
}

/// One bound is written `0.0` by the one, and `0` by the other.
fn plain_numbers(value: &mut Value) {
    match value {
        Value::Number(number) => {
            if let Ok(whole) = number.to_string().trim_end_matches(".0").parse::<i64>() {
                *value = whole.into();
            }
        }
        Value::Array(items) => items.iter_mut().for_each(plain_numbers),
        Value::Object(fields) => fields.values_mut().for_each(plain_numbers),
        _ => {}
    }
}

pub(super) fn yaml(text: &str) -> Result<Value> {
    serde_saphyr::from_str(text).context("no YAML")
}
