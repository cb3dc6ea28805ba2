//! A real API server takes the manifests and the chart: tried first, then for real, changed and taken away again.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use causeway_tests::cluster::{
    Api, Cluster, Kubelet, SOON, TEST, eventually, is_status, path, pool, service,
};
use causeway_tests::needs;
use serde_json::{Value, json};

use super::rendered::{SYSTEM, folder, printed, template, write_overlay};

/// With all that is optional and needs nothing else in the cluster.
const ALL: &str = "--set connector.enabled=true --set connector.tokenSecret.name=causeway-connector-token \
                   --set discovery.enabled=true";

/// Somebody with a shell at the control plane: kubectl and helm as they are typed.
struct User<'a> {
    cluster: &'a Cluster,
    home: tempfile::TempDir,
}

impl<'a> User<'a> {
    fn new(cluster: &'a Cluster) -> Result<Self> {
        let home = tempfile::Builder::new().prefix("causeway-user-").tempdir()?;
        std::os::unix::fs::symlink(folder().canonicalize()?, home.path().join("kubernetes"))?;
        let own = home.path().join("own");
        std::fs::create_dir(&own)?;
        write_overlay(&own, &["connector", "discovery"])?;
        Ok(Self { cluster, home })
    }

    /// Runs a line in bash; what it printed.
    fn types(&self, line: &str) -> Result<String> {
        let programs = self.cluster.control.programs.folder();
        let helm = needs("helm").context("helm is missing")?;
        let tools = helm.parent().map(Path::display).context("a program is in a folder")?;
        let mut bash = self.cluster.lan.control.namespace.command("bash");
        bash.args(["-euo", "pipefail", "-c", line]).current_dir(self.home.path());
        bash.env("PATH", format!("{}:{tools}:/usr/sbin:/usr/bin:/sbin:/bin", programs.display()));
        bash.env("KUBECONFIG", self.cluster.control.kubeconfig("admin")?).env("HOME", self.home.path());
        printed(&mut bash)
    }

    fn replicas(&self) -> Result<Value> {
        let at = format!("/apis/apps/v1/namespaces/{SYSTEM}/deployments/causeway-allocator");
        Ok(self.cluster.api.get(&at)?["spec"]["replicas"].clone())
    }

    /// Which of all objects of the chart are there.
    fn there(&self) -> Result<Vec<String>> {
        let objects = template(&ALL.split(' ').collect::<Vec<_>>())?;
        let names: Vec<&str> = objects.keys().map(String::as_str).collect();
        let line = format!("kubectl -n {SYSTEM} get {} --ignore-not-found -o json", names.join(" "));
        let found = self.types(&line)?;
        let found: Value = if found.is_empty() { json!({}) } else { serde_json::from_str(&found)? };
        // One alone is no list.
        let alone = found["kind"].is_string() && found["kind"] != "List";
        let found = if alone { vec![found] } else { found["items"].as_array().cloned().unwrap_or_default() };
        let name =
            |one: &Value| Some(format!("{}/{}", one["kind"].as_str()?, one["metadata"]["name"].as_str()?));
        found.iter().map(|one| name(one).context("an object without a name")).collect()
    }
}

pub(super) fn walk() -> Result<()> {
    let mut cluster = Cluster::bare("applied", 1)?;
    // Who makes pods of Deployments and DaemonSets: what the API server thinks of those is part of it.
    cluster.control.start_manager(&format!("{},daemonset-controller", Kubelet::CONTROLLERS))?;
    let user = User::new(&cluster)?;
    tried(&user)?;
    with_kubectl(&user)?;
    pods_are_made(&user)?;
    with_helm(&user)?;
    discovery(&user)?;
    pod_security(&user)
}

/// `--dry-run=server`: everything passes its validation and admission, and nothing is there afterwards.
fn tried(user: &User<'_>) -> Result<()> {
    for line in [
        "kubectl apply --dry-run=server -k kubernetes",
        "kubectl apply --dry-run=server -k own",
        &format!(
            "helm template causeway kubernetes/chart -n {SYSTEM} {ALL} | kubectl apply --dry-run=server -f -"
        ),
    ] {
        let said = user.types(line)?;
        ensure!(said.contains("causeway-allocator created (server dry run)"), "{line}: {said}");
    }
    let there = user.there()?;
    ensure!(there.is_empty(), "a dry run left {there:?}");
    Ok(())
}

fn with_kubectl(user: &User<'_>) -> Result<()> {
    user.types("kubectl apply -k own")?;
    // What the server fills in is no difference: a second time changes nothing. (Of a PodDisruptionBudget kubectl says
    // "configured" each time, whoever wrote it: its selector is one to be replaced.)
    let again = user.types("kubectl apply -k own")?;
    let changed: Vec<_> = again
        .lines()
        .filter(|line| !line.ends_with(" unchanged") && !line.starts_with("poddisruptionbudget"))
        .collect();
    ensure!(changed.is_empty() && again.lines().count() > 20, "{again}");
    Ok(())
}

/// The controllers make the pods, as the namespace's PodSecurity and the priority classes let them.
fn pods_are_made(user: &User<'_>) -> Result<()> {
    // As a kubelet and a cloud would have it.
    user.cluster.label_node(0, "kubernetes.io/os", Some("linux"))?;
    let node = path("Node", "", &user.cluster.nodes[0].name);
    user.cluster.api.merge(&node, &json!({ "spec": { "taints": null } }))?;
    for (app, count) in [("causeway-allocator", 2), ("causeway-speaker", 1), ("causeway-connector", 2)] {
        let at = format!("/api/v1/namespaces/{SYSTEM}/pods?labelSelector=app.kubernetes.io/name={app}");
        eventually(2 * SOON, &format!("{count} pods of {app}"), || {
            let pods = user.cluster.api.list(&at)?;
            ensure!(pods.len() == count, "there are {}", pods.len());
            Ok(())
        })?;
    }
    Ok(())
}

/// From the plain manifests to a release, through its changes, and away; definitions and pools stay.
fn with_helm(user: &User<'_>) -> Result<()> {
    let api = &user.cluster.api;
    api.create(&path("IPAddressPool", SYSTEM, ""), &pool("home", &["192.168.1.240-192.168.1.250"]))?;
    let release = format!("causeway kubernetes/chart -n {SYSTEM} {ALL}");
    let refused = user.types(&format!("helm install {release}"));
    let refused = refused.err().map(|error| format!("{error:#}")).unwrap_or_default();
    ensure!(refused.contains("invalid ownership metadata"), "{refused}");
    // kubectl's word of each field stands beside Helm's from then on.
    user.types(&format!("helm install {release} --take-ownership --force-conflicts"))?;
    user.types(&format!("helm upgrade {release} --force-conflicts --set allocator.replicas=3"))?;
    ensure!(user.replicas()? == 3, "the upgrade did not arrive");
    user.types(&format!("helm rollback causeway 1 -n {SYSTEM} --force-conflicts"))?;
    ensure!(user.replicas()? == 2, "and was not taken back");
    removed(user)?;

    // The definitions that stayed belong to the release's name: it comes back without a word, and changes without one.
    user.types(&format!("helm install {release}"))?;
    user.types(&format!("helm upgrade {release} --set allocator.replicas=3 --set crds.install=false"))?;
    ensure!(user.replicas()? == 3, "the upgrade did not arrive");
    removed(user)
}

fn removed(user: &User<'_>) -> Result<()> {
    user.types(&format!("helm uninstall causeway -n {SYSTEM}"))?;
    let (kept, rest): (Vec<_>, Vec<_>) =
        user.there()?.into_iter().partition(|name| name.starts_with("CustomResourceDefinition/"));
    ensure!(rest.is_empty() && kept.len() == 4, "there are {kept:?} and {rest:?}");
    user.cluster
        .api
        .get(&path("IPAddressPool", SYSTEM, "home"))
        .context("the pool went with the release")
        .map(drop)
}

/// A connector outside of the cluster: the account's token opens Services to its eyes, and no more.
fn discovery(user: &User<'_>) -> Result<()> {
    let api = &user.cluster.api;
    api.create(&path("Service", TEST, ""), &service("web"))?;
    user.types(&format!("helm install causeway kubernetes/chart -n {SYSTEM} --set discovery.enabled=true"))?;
    let token =
        user.types(&format!("kubectl -n {SYSTEM} create token causeway-connector --duration=8760h"))?;
    let control = &user.cluster.lan.control;
    let guest = Api::new(&control.namespace, &format!("https://{}:6443", control.v4), token.trim())?;
    ensure!(guest.list("/api/v1/services")?.iter().any(|one| one["metadata"]["name"] == "web"));
    let web = path("Service", TEST, "web");
    let more = [
        guest.get("/api/v1/namespaces"),
        guest.get("/api/v1/secrets"),
        guest.get("/api/v1/nodes"),
        guest.get(&path("IPAddressPool", SYSTEM, "home")),
        guest.merge(&web, &json!({ "metadata": { "labels": { "evil": "yes" } } })),
        guest.merge(&format!("{web}/status"), &json!({ "status": { "conditions": [] } })),
    ];
    for answer in more {
        ensure!(answer.as_ref().is_err_and(|error| is_status(error, 403)), "{answer:?}");
    }
    Ok(())
}

/// Allocator and connector are fit for the strictest of the Pod Security Standards; of the speaker it is the host's
/// network, the probes on its loopback and NET_RAW that need `privileged`.
fn pod_security(user: &User<'_>) -> Result<()> {
    let api = &user.cluster.api;
    for level in ["baseline", "restricted"] {
        let labels = json!({ "pod-security.kubernetes.io/enforce": level });
        let namespace = json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": level, "labels": labels } });
        api.create(&path("Namespace", "", ""), &namespace)?;
    }
    let objects = template(&ALL.split(' ').collect::<Vec<_>>())?;
    let tried = |level: &str, workload: &str| -> Result<Value> {
        let template = &objects.get(workload).context("no such workload")?["spec"]["template"];
        let mut pod = json!({ "apiVersion": "v1", "kind": "Pod", "spec": template["spec"] });
        pod["metadata"] = json!({ "name": "tried", "labels": template["metadata"]["labels"] });
        api.create(&format!("/api/v1/namespaces/{level}/pods?dryRun=All"), &pod)
    };
    for workload in ["Deployment/causeway-allocator", "Deployment/causeway-connector"] {
        tried("restricted", workload)?;
    }
    let refused =
        tried("baseline", "DaemonSet/causeway-speaker").err().context("the speaker passed as baseline")?;
    let why = format!("{refused:#}");
    let reasons = why.split_once("\"baseline:latest\": ").context("another refusal")?.1;
    // The text is there more than once.
    let reasons = reasons.split(": Forbidden").next().unwrap_or_default();
    let known = ["must not include \"NET_RAW\"", "hostNetwork=true", "probe or lifecycle host \"127.0.0.1\""];
    // These, and nothing else of it, are above the line.
    ensure!(known.iter().all(|one| reasons.contains(one)) && reasons.matches("), ").count() == 2, "{why}");
    tried(SYSTEM, "DaemonSet/causeway-speaker").map(drop)
}
