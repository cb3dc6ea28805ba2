//! deploy/kubernetes: the plain manifests and the chart are the same objects; values do what they say and wrong ones are
//! refused by name; a real API server takes both; the programs live with exactly their roles and network policies.

mod applied;
mod policies;
mod rendered;
mod roles;
mod values;

use anyhow::{Result, ensure};
use causeway_tests::cluster::scenarios;
use serde_json::{Value, json};

use rendered::{Objects, TOKEN, folder, kustomize, lint, overlay, template};

/// Whether the tools are here; what is missing is said, and in CI a failure.
fn has_tools() -> bool {
    causeway_tests::needs("helm").is_some() && has_kubernetes()
}

fn has_kubernetes() -> bool {
    let missing = scenarios::missing();
    if let Some(reason) = &missing {
        eprintln!("SKIPPED deploy_kubernetes: {reason}");
        assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "nothing is skipped in CI");
    }
    missing.is_none()
}

/// The plain manifests are what the chart makes of its default values, but for two things that one of both needs.
fn same(plain: &Objects, mut chart: Objects) -> Result<()> {
    let mut plain = plain.clone();
    // Helm makes the namespace of a release itself.
    plain.remove("Namespace/metallb-system");
    for (name, object) in chart.iter_mut().filter(|(name, _)| name.starts_with("CustomResourceDefinition/")) {
        let annotations = object["metadata"].as_object_mut().and_then(|all| all.remove("annotations"));
        ensure!(annotations == Some(json!({ "helm.sh/resource-policy": "keep" })), "{name}: {annotations:?}");
    }
    for (name, object) in &plain {
        ensure!(
            chart.get(name) == Some(object),
            "{name} is\n{object}\nand in the chart\n{:?}",
            chart.get(name)
        );
    }
    let more: Vec<_> = chart.keys().filter(|name| !plain.contains_key(*name)).collect();
    ensure!(more.is_empty(), "the chart alone has {more:?}");
    Ok(())
}

#[test]
fn the_plain_manifests_are_what_the_chart_makes_of_its_defaults() -> Result<()> {
    if !has_tools() {
        return Ok(());
    }
    let plain = kustomize(&folder())?;
    ensure!(plain.len() > 15, "{:?}", plain.keys());
    same(&plain, template(&[])?)?;
    // And what is written down is what is applied: kubectl apply -f and apply -k mean the same.
    let written = rendered::parse(&std::fs::read_to_string(folder().join("causeway.yaml"))?)?;
    ensure!(written == plain, "causeway.yaml differs from its kustomization");

    let components = overlay(&["connector", "discovery"])?;
    let chart =
        template(&["--set", "connector.enabled=true", "--set", TOKEN, "--set", "discovery.enabled=true"])?;
    same(&components, chart)?;
    same(&overlay(&["connector"])?, template(&["--set", "connector.enabled=true", "--set", TOKEN])?)?;
    same(&overlay(&["discovery"])?, template(&["--set", "discovery.enabled=true"])?)
}

#[test]
fn values_change_what_they_say_and_wrong_ones_are_refused_by_name() -> Result<()> {
    if !has_tools() {
        return Ok(());
    }
    values::facts()?;
    values::refusals()
}

#[test]
fn what_the_pods_are_told_is_known_to_the_programs() -> Result<()> {
    if !has_tools() {
        return Ok(());
    }
    values::known_to_the_programs()
}

#[test]
fn the_chart_is_clean_and_of_this_version() -> Result<()> {
    if !has_tools() {
        return Ok(());
    }
    lint(&[])?;
    lint(&["--set", "connector.enabled=true", "--set", TOKEN, "--set", "podMonitor.enabled=true"])?;
    let chart: Value = rendered::yaml(&std::fs::read_to_string(folder().join("chart/Chart.yaml"))?)?;
    let version = env!("CARGO_PKG_VERSION");
    ensure!(chart["version"] == version && chart["appVersion"] == version, "{chart}");
    // The kustomizations name the same image.
    for (file, image) in
        [("kustomization.yaml", "causeway-l2"), ("connector/kustomization.yaml", "causeway-connector")]
    {
        let kustomization = rendered::yaml(&std::fs::read_to_string(folder().join(file))?)?;
        let named = json!({ "name": image, "newTag": version });
        ensure!(kustomization["images"][0] == named, "{file}: {kustomization}");
    }
    Ok(())
}

#[test]
fn the_manual_has_every_value_with_its_default() -> Result<()> {
    values::documented()
}

#[test]
fn a_real_api_server_takes_the_manifests_and_the_chart() -> Result<()> {
    if !has_tools() {
        return Ok(());
    }
    applied::walk()
}

#[test]
fn the_programs_need_what_their_roles_and_policies_allow_and_nothing_is_refused() -> Result<()> {
    if !has_kubernetes() {
        return Ok(());
    }
    roles::walk()
}
