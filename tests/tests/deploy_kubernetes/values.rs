//! Tables of values: what follows from right ones, how wrong ones are refused, and where all of them are documented.

use std::collections::BTreeMap;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use causeway_tests::programs::{built, here, program};
use serde_json::Value;

use super::rendered::{TOKEN, folder, printed, template, yaml};

/// Arguments of `--set`, the object, where in it (a JSON pointer), and what is there (JSON; empty: nothing).
type Fact = (&'static [&'static str], &'static str, &'static str, &'static str);

const ALLOCATOR: &str = "Deployment/causeway-allocator";
const SPEAKER: &str = "DaemonSet/causeway-speaker";
const CONNECTOR: &str = "Deployment/causeway-connector";
const IMAGE: &str = "/spec/template/spec/containers/0/image";

/// Everything at once that does not get in each other's way: a call of Helm for each fact would take its time.
const CHANGED: &[&str] = &[
    "image.repository=lan:5000/l2",
    "image.tag=v9",
    "image.pullPolicy=Never",
    "imagePullSecrets[0].name=lan",
    "logLevel=info\\,causeway_l2=debug",
    "logFormat=json",
    "adminHost=0.0.0.0",
    "loadBalancerClass=lan",
    "crds.keep=false",
    "networkPolicy.apiServerPorts={16443}",
    "podMonitor.enabled=true",
    "podMonitor.labels.release=prom",
    "allocator.replicas=3",
    "allocator.coolDown=5m",
    "allocator.reserve={192.168.1.1,fd00::1}",
    "allocator.priorityClassName=",
    "allocator.tolerations=null",
    "allocator.resources.limits.memory=1Gi",
    "speaker.nodeSelector.lan=home",
    "speaker.tolerations[0].operator=Exists",
    "speaker.excludeInterfaces={^wg}",
    "speaker.exposeMetrics=true",
    "speaker.ignoreExcludeLabel=true",
    "connector.enabled=true",
    TOKEN,
    "connector.tokenSecret.key=t",
    "connector.rules.ingress[0].service=http://10.0.0.1",
    "connector.extraArgs={--shards,2}",
    "connector.image.tag=sha256:0a",
    "discovery.enabled=true",
];
const DEFAULT: &[&str] = &[];
/// What the connector is told first.
const ENVIRONMENT: &str = "/spec/template/spec/containers/0/env/0";
/// Discovery in one namespace.
const OF_ONE: &[&str] = &["discovery.enabled=true", "discovery.namespace=shop"];
const WITH_CONNECTOR: &[&str] = &["connector.enabled=true", TOKEN, "connector.rulesConfigMap=mine"];
const WITHOUT: &[&str] = &["networkPolicy.enabled=false", "crds.install=false"];

const FACTS: &[Fact] = &[
    (DEFAULT, ALLOCATOR, IMAGE, r#""causeway-l2:0.1.0""#),
    (DEFAULT, "PodMonitor/causeway", "", ""),
    (DEFAULT, CONNECTOR, "", ""),
    (DEFAULT, "NetworkPolicy/causeway-connector", "", ""),
    (DEFAULT, "ServiceAccount/causeway-connector", "", ""),
    (CHANGED, ALLOCATOR, IMAGE, r#""lan:5000/l2:v9""#),
    (CHANGED, SPEAKER, IMAGE, r#""lan:5000/l2:v9""#),
    (CHANGED, SPEAKER, "/spec/template/spec/containers/0/imagePullPolicy", r#""Never""#),
    (CHANGED, SPEAKER, "/spec/template/spec/imagePullSecrets/0/name", r#""lan""#),
    (CHANGED, ALLOCATOR, "/spec/replicas", "3"),
    (CHANGED, ALLOCATOR, "/spec/template/spec/priorityClassName", ""),
    (CHANGED, ALLOCATOR, "/spec/template/spec/containers/0/resources/limits/memory", r#""1Gi""#),
    (CHANGED, ALLOCATOR, "/spec/template/spec/tolerations", ""),
    (CHANGED, SPEAKER, "/spec/template/spec/nodeSelector/lan", r#""home""#),
    (CHANGED, SPEAKER, "/spec/template/spec/tolerations", r#"[{"operator":"Exists"}]"#),
    (
        CHANGED,
        "ConfigMap/metallb-excludel2",
        "/data/excludel2.yaml",
        r#""announcedInterfacesToExclude: [\"^wg\"]\n""#,
    ),
    (CHANGED, SPEAKER, "/spec/template/spec/containers/0/ports/0/containerPort", "17472"),
    (CHANGED, "NetworkPolicy/causeway-speaker", "/spec/ingress/0/ports/2/port", "17472"),
    (
        CHANGED,
        "NetworkPolicy/causeway-allocator",
        "/spec/egress/0/ports",
        r#"[{"protocol":"TCP","port":16443}]"#,
    ),
    (CHANGED, "CustomResourceDefinition/ipaddresspools.metallb.io", "/metadata/annotations", ""),
    (CHANGED, "PodMonitor/causeway", "/metadata/labels/release", r#""prom""#),
    (
        CHANGED,
        "ClusterRole/causeway-connector",
        "/rules",
        r#"[{"apiGroups":[""],"resources":["services"],"verbs":["list","watch"]}]"#,
    ),
    (CHANGED, CONNECTOR, ENVIRONMENT, r#"{"name":"CAUSEWAY_KUBERNETES","value":"true"}"#),
    (
        WITH_CONNECTOR,
        CONNECTOR,
        ENVIRONMENT,
        r#"{"name":"CAUSEWAY_CONFIG","value":"/etc/causeway/rules/config.yml"}"#,
    ),
    (OF_ONE, "Role/causeway-connector", "/metadata/namespace", r#""shop""#),
    (OF_ONE, "RoleBinding/causeway-connector", "/roleRef/kind", r#""Role""#),
    (OF_ONE, "ClusterRole/causeway-connector", "", ""),
    (OF_ONE, "ClusterRoleBinding/causeway-connector", "", ""),
    (CHANGED, CONNECTOR, IMAGE, r#""causeway-connector@sha256:0a""#),
    (CHANGED, CONNECTOR, "/spec/template/spec/serviceAccountName", r#""causeway-connector""#),
    (CHANGED, CONNECTOR, "/spec/template/spec/containers/0/args", r#"["run","--shards","2"]"#),
    (CHANGED, CONNECTOR, "/spec/template/spec/volumes/2/secret/secretName", r#""causeway-connector-token""#),
    (
        CHANGED,
        "ConfigMap/causeway-connector",
        "/data/config.yml",
        r#""ingress:\n- service: http://10.0.0.1\n""#,
    ),
    (WITH_CONNECTOR, CONNECTOR, IMAGE, r#""causeway-connector:0.1.0""#),
    (WITH_CONNECTOR, CONNECTOR, "/spec/template/spec/automountServiceAccountToken", "false"),
    (WITH_CONNECTOR, CONNECTOR, "/spec/template/spec/volumes/0/configMap/name", r#""mine""#),
    (WITH_CONNECTOR, "ConfigMap/causeway-connector", "", ""),
    (WITHOUT, "NetworkPolicy/causeway-allocator", "", ""),
    (WITHOUT, "CustomResourceDefinition/ipaddresspools.metallb.io", "", ""),
    (WITHOUT, ALLOCATOR, "/spec/replicas", "2"),
];

/// What the programs are told by their environment when everything is changed.
const TOLD: &[(&str, &str)] = &[
    (ALLOCATOR, "CAUSEWAY_LOG_LEVEL=info,causeway_l2=debug"),
    (ALLOCATOR, "CAUSEWAY_LB_CLASS=lan"),
    (ALLOCATOR, "CAUSEWAY_ADMIN=0.0.0.0:17472"),
    (ALLOCATOR, "CAUSEWAY_COOL_DOWN=5m"),
    (ALLOCATOR, "CAUSEWAY_RESERVE=192.168.1.1,fd00::1"),
    (SPEAKER, "CAUSEWAY_LOG_FORMAT=json"),
    (SPEAKER, "CAUSEWAY_LB_CLASS=lan"),
    (SPEAKER, "CAUSEWAY_ADMIN=0.0.0.0:17472"),
    (SPEAKER, "CAUSEWAY_IGNORE_EXCLUDE_LB=true"),
    (CONNECTOR, "CAUSEWAY_LOG_LEVEL=info,causeway_l2=debug"),
    (CONNECTOR, "CAUSEWAY_METRICS=0.0.0.0:20241"),
    (CONNECTOR, "CAUSEWAY_TOKEN_FILE=/etc/causeway/token/t"),
];

const PLACEMENT: [&str; 4] = [".priorityClassName", ".nodeSelector", ".tolerations", ".resources"];

/// What is wrong, and the words of the refusal that name it.
const REFUSED: &[(&[&str], &[&str])] = &[
    (&["allocator.replica=3"], &["/allocator", "replica"]),
    (&["replicas=3"], &["replicas"]),
    (&["allocator.replicas=two"], &["/allocator/replicas", "integer"]),
    (&["image.pullPolicy=Sometimes"], &["/image/pullPolicy", "IfNotPresent"]),
    (&["image=causeway-l2:1"], &["/image", "object"]),
    (&["logFormat=xml"], &["/logFormat", "json"]),
    (&["networkPolicy.apiServerPorts={99999}"], &["/networkPolicy/apiServerPorts/0", "maximum"]),
    (&["speaker.resources.limits.memory=lots"], &["/speaker/resources/limits/memory"]),
    (
        &["speaker.tolerations[0].key=a", "speaker.tolerations[0].effects=b"],
        &["/speaker/tolerations/0", "effects"],
    ),
    (&["allocator.reserve={router}"], &["/allocator/reserve/0"]),
    (&["connector.enabled=true"], &["connector.tokenSecret.name", "create secret generic"]),
    (&["connector.enabled=yes please"], &["/connector/enabled", "boolean"]),
];

fn set(values: &[&str]) -> Result<super::Objects> {
    template(&values.iter().flat_map(|value| ["--set", *value]).collect::<Vec<_>>())
}

pub(super) fn facts() -> Result<()> {
    let mut made: BTreeMap<&[&str], super::Objects> = BTreeMap::new();
    for values in [DEFAULT, CHANGED, WITH_CONNECTOR, OF_ONE, WITHOUT] {
        made.insert(values, set(values)?);
    }
    for (values, object, pointer, expected) in FACTS {
        let objects = made.get(values).context("values that are not made")?;
        let found = objects.get(*object).and_then(|object| object.pointer(pointer));
        let expected: Option<Value> = serde_json::from_str(expected).ok();
        ensure!(found == expected.as_ref(), "{values:?}: {object}{pointer} is {found:?}");
    }
    for (object, told) in TOLD {
        let all = made.get(CHANGED).and_then(|objects| objects.get(*object));
        let all = environment(all.with_context(|| format!("no {object}"))?)?;
        ensure!(all.iter().any(|one| one == told), "{told} is not in {all:?}");
    }
    Ok(())
}

pub(super) fn refusals() -> Result<()> {
    for (values, words) in REFUSED {
        let error = set(values).err().with_context(|| format!("{values:?} is taken"))?;
        let text = format!("{error:#}");
        // What Helm says, without the command line that caused it.
        let said = text.split_once("Error:").map_or("", |(_, said)| said);
        ensure!(words.iter().all(|word| said.contains(word)), "{values:?} is refused by: {text}");
    }
    Ok(())
}

/// What the pods are told in their environment means something to the programs, and the connector takes the rules.
pub(super) fn known_to_the_programs() -> Result<()> {
    let objects = set(CHANGED)?;
    for (object, program) in [
        (ALLOCATOR, built(&["causeway-l2"]).join("causeway-allocator")),
        (SPEAKER, built(&["causeway-l2"]).join("causeway-speaker")),
        (CONNECTOR, program("causeway-connector")),
    ] {
        let help = printed(Command::new(&program).args(["run", "--help"]))?;
        let names = environment(objects.get(object).context("no such object")?)?;
        let names: Vec<_> = names.iter().filter_map(|one| one.split('=').next()).collect();
        ensure!(names.contains(&"CAUSEWAY_LOG_LEVEL"), "{object}: {names:?}");
        let strange: Vec<_> = names
            .iter()
            .filter(|name| name.starts_with("CAUSEWAY_") && !help.contains(&format!("[env: {name}=")))
            .collect();
        ensure!(strange.is_empty(), "{} does not know {strange:?}", program.display());
    }
    let rules = objects.get("ConfigMap/causeway-connector").context("no rules")?;
    let file = tempfile::Builder::new().suffix(".yml").tempfile()?;
    std::fs::write(file.path(), rules["data"]["config.yml"].as_str().context("no config.yml")?)?;
    printed(Command::new(program("causeway-connector")).arg("check").arg(file.path())).map(drop)
}

/// What the first container of a workload is told, as `NAME=value`.
fn environment(workload: &Value) -> Result<Vec<String>> {
    let env = workload.pointer("/spec/template/spec/containers/0/env").and_then(Value::as_array);
    let text = |one: &Value, key: &str| one[key].as_str().unwrap_or_default().to_owned();
    let env = env.context("no environment")?.iter();
    Ok(env.map(|one| format!("{}={}", text(one, "name"), text(one, "value"))).collect())
}

/// The table of docs/kubernetes.md has the chart's values, and each cell `default` is the default.
pub(super) fn documented() -> Result<()> {
    let values = yaml(&std::fs::read_to_string(folder().join("chart/values.yaml"))?)?;
    let page = std::fs::read_to_string(here().join("../docs/kubernetes.md"))?;
    let table =
        page.split("| value | default | meaning |").nth(1).context("the page has no table of values")?;
    let mut rows = BTreeMap::new();
    for row in table.lines().skip(2).take_while(|line| line.starts_with("| ")) {
        let cells: Vec<&str> = row.trim_matches('|').split(" | ").map(str::trim).collect();
        rows.insert(cells[0].trim_matches('`').to_owned(), cells[1].to_owned());
    }
    let mut missing = Vec::new();
    for (key, default) in leaves("", &values, &rows) {
        match rows.remove(&key) {
            // Long ones are told in words.
            Some(cell) if !cell.starts_with('`') => {}
            Some(cell) if yaml(cell.trim_matches('`'))? == default => {}
            cell => missing.push(format!("{key}: {default}, on the page {cell:?}")),
        }
    }
    // Where and as what the three run has a table of its own, in words.
    missing.retain(|one| !PLACEMENT.iter().any(|key| one.contains(key)));
    ensure!(missing.is_empty(), "{missing:#?}");
    ensure!(rows.is_empty(), "the chart has no {:?}", rows.keys());
    Ok(())
}

/// Every value by its dotted key, no deeper than the page goes.
fn leaves(key: &str, value: &Value, rows: &BTreeMap<String, String>) -> Vec<(String, Value)> {
    match value.as_object() {
        Some(inner) if !inner.is_empty() && !rows.contains_key(key) => inner
            .iter()
            .flat_map(|(name, value)| leaves(format!("{key}.{name}").trim_start_matches('.'), value, rows))
            .collect(),
        _ => vec![(key.to_owned(), value.clone())],
    }
}
