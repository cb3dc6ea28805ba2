//! The programs under test: causeway-allocator beside the control plane, causeway-speaker on a node.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::Secret;

use super::SOON;
use super::api::eventually;
use super::control::{Control, write_whole};
use super::lan::Host;
use super::objects::{SYSTEM, path};
use super::process::Process;
use crate::programs::{built, here};

/// Where both programs serve /ready and /metrics; a second allocator takes the next port.
pub(super) const ADMIN: u16 = 17472;

/// Of the allocator, as its Deployment has them.
pub(super) const REPLICAS: u8 = 2;

const PROGRAMS: [&str; 2] = ["causeway-allocator", "causeway-speaker"];

/// The folder of both programs.
pub(super) fn find() -> Result<PathBuf> {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    let folder = FOLDER.get_or_init(|| built(&["causeway-l2"]));
    for name in PROGRAMS {
        ensure!(folder.join(name).exists(), "{} does not exist", folder.join(name).display());
    }
    Ok(folder.clone())
}

/// What causeway-allocator prints when it is run to its end with these arguments.
pub fn allocator(args: &[&str]) -> Result<String> {
    crate::netns::run(Command::new(find()?.join("causeway-allocator")).args(args))
}

/// What `causeway-allocator explain` says of a Service to whoever has an account of the manifests, as in
/// `kubectl exec deploy/causeway-allocator`.
pub(super) fn explain(control: &Control, host: &Host, account: &str, service: &str) -> Result<String> {
    let user = format!("system:serviceaccount:{SYSTEM}:{account}");
    let config = control.kubeconfig(&user)?;
    let program = find()?.join("causeway-allocator");
    let mut command = host.namespace.command(program.to_str().context("path")?);
    command.args(["explain", service, "--namespace", SYSTEM, "--kubeconfig"]).arg(config);
    crate::netns::run(&mut command)
}

/// The manifests that people apply, as kustomize puts them together: definitions, accounts and what they may do, and
/// the workloads, which nobody here starts but the harness.
pub(super) fn install(control: &Control) -> Result<()> {
    let folder = here().join("../deploy/kubernetes");
    let folder = folder.to_str().context("the path is not UTF-8")?;
    control.kubectl(&["apply", "--server-side", "-k", folder], "").map(drop)
}

/// What a pod of the Deployment or DaemonSet is told about itself by the downward API.
fn environment(
    control: &Control,
    pod: &str,
    node: &Host,
    account: &str,
) -> Result<Vec<(&'static str, String)>> {
    let user = format!("system:serviceaccount:{SYSTEM}:{account}");
    let mut env = vec![
        ("KUBECONFIG", control.kubeconfig(&user)?.to_str().context("path")?.to_owned()),
        ("CAUSEWAY_NAMESPACE", SYSTEM.to_owned()),
        ("CAUSEWAY_NODE_NAME", node.name.clone()),
        ("CAUSEWAY_NODE_IP", node.v4.to_string()),
        ("POD_NAME", pod.to_owned()),
    ];
    // A program may be started while the API server is away.
    if let Ok(pod) = control.api.get(&path("Pod", SYSTEM, pod)) {
        env.push(("POD_UID", pod["metadata"]["uid"].as_str().unwrap_or_default().to_owned()));
    }
    Ok(env)
}

/// One replica of the allocator, on a host of its own or else beside the control plane; there its admin server is on
/// loopback, port 17472 or 17473.
pub(super) fn start_allocator(
    control: &Control,
    (home, beside): (Option<&Host>, &Host),
    folder: &Path,
    replica: u8,
) -> Result<Process> {
    let name = format!("controller-{replica}");
    let (host, admin) = match home {
        // As its Deployment has it.
        Some(host) => (host, format!("[::]:{ADMIN}")),
        None => (beside, format!("127.0.0.1:{}", ADMIN + u16::from(replica))),
    };
    let env = environment(control, &name, host, "causeway-allocator")?;
    let args = ["run".to_owned(), format!("--admin={admin}")];
    let no_privileges = ["--bounding-set=-all", "--inh-caps=-all", "--no-new-privs"];
    let program = find()?.join("causeway-allocator");
    Process::start_confined(&host.namespace, folder, &name, &program, &args, &env, &no_privileges)
}

/// The speaker of one node, with NET_RAW and nothing else, as its DaemonSet gives it.
pub(super) fn start_speaker(control: &Control, node: &Host, folder: &Path) -> Result<Process> {
    let name = format!("speaker-{}", node.name);
    let mut env = environment(control, &name, node, "causeway-speaker")?;
    env.push(("CAUSEWAY_KEY_FILE", mount_key(control, folder)?.to_str().context("path")?.to_owned()));
    let args = ["run".to_owned()];
    let net_raw_only = ["--bounding-set=-all,+net_raw", "--inh-caps=-all", "--no-new-privs"];
    let program = find()?.join("causeway-speaker");
    Process::start_confined(&node.namespace, folder, &name, &program, &args, &env, &net_raw_only)
}

/// The speakers' shared key, which the allocator makes, as the kubelet mounts it: a pod waits until it is there.
fn mount_key(control: &Control, folder: &Path) -> Result<PathBuf> {
    let file = folder.join("memberlist/secretkey");
    if !file.exists() {
        let secret = eventually(SOON, "the allocator has made the speakers' key", || {
            control.api.get(&path("Secret", SYSTEM, "memberlist"))
        })?;
        let mut secret: Secret = serde_json::from_value(secret)?;
        let key = secret
            .data
            .as_mut()
            .and_then(|data| data.remove("secretkey"))
            .context("the Secret has no key")?
            .0;
        std::fs::create_dir_all(file.parent().context("a folder")?)?;
        write_whole(&file, key)?;
    }
    Ok(file)
}
