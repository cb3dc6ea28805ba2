//! The programs under test: causeway-allocator beside the control plane, causeway-speaker on a node.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use anyhow::{Context, Result, ensure};

use super::control::Control;
use super::lan::Host;
use super::objects::SYSTEM;
use super::process::Process;

/// The folder of both programs: CAUSEWAY_BIN_DIR, else built in the `quick` profile.
pub(super) fn find() -> Result<PathBuf> {
    static FOLDER: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    FOLDER.get_or_init(|| build().map_err(|error| format!("{error:#}"))).clone().map_err(anyhow::Error::msg)
}

fn build() -> Result<PathBuf> {
    let folder = match std::env::var_os("CAUSEWAY_BIN_DIR") {
        Some(folder) => PathBuf::from(folder),
        None => {
            let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
            let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
            let mut build = Command::new(cargo);
            build.current_dir(&root).args([
                "build",
                "--quiet",
                "--locked",
                "--profile",
                "quick",
                "-p",
                "causeway-l2",
            ]);
            ensure!(build.status()?.success(), "the programs under test do not build");
            std::env::var_os("CARGO_TARGET_DIR")
                .map_or_else(|| root.join("target"), PathBuf::from)
                .join("quick")
        }
    };
    for name in ["causeway-allocator", "causeway-speaker"] {
        ensure!(folder.join(name).exists(), "{} does not exist", folder.join(name).display());
    }
    Ok(folder)
}

/// The manifests of our resources, as `causeway-allocator crds` prints them.
pub(super) fn crds() -> Result<String> {
    super::netns::run(Command::new(find()?.join("causeway-allocator")).arg("crds"))
}

/// What a pod of a Deployment or DaemonSet is told about itself by the downward API.
fn environment(control: &Control, pod: &str, node: &str, user: &str) -> Result<Vec<(&'static str, String)>> {
    Ok(vec![
        ("KUBECONFIG", control.kubeconfig(user)?.to_str().context("path")?.to_owned()),
        ("POD_NAME", pod.to_owned()),
        ("POD_NAMESPACE", SYSTEM.to_owned()),
        ("NODE_NAME", node.to_owned()),
    ])
}

/// One replica of the allocator.
pub(super) fn start_allocator(
    control: &Control,
    host: &Host,
    folder: &Path,
    replica: u8,
    args: &[&str],
) -> Result<Process> {
    let name = format!("controller-{replica}");
    let env = environment(control, &name, "control", "system:serviceaccount:metallb-system:controller")?;
    let mut all =
        vec!["run".to_owned(), "--admin".into(), format!("127.0.0.1:{}", 17470 + u16::from(replica))];
    all.extend(args.iter().map(|a| (*a).to_owned()));
    Process::start(&host.namespace, folder, &name, &find()?.join("causeway-allocator"), &all, &env)
}

/// The speaker of one node.
pub(super) fn start_speaker(control: &Control, node: &Host, folder: &Path, args: &[&str]) -> Result<Process> {
    let name = format!("speaker-{}", node.name);
    let env = environment(control, &name, &node.name, "system:serviceaccount:metallb-system:speaker")?;
    let mut all = vec!["run".to_owned()];
    all.extend(args.iter().map(|a| (*a).to_owned()));
    Process::start(&node.namespace, folder, &name, &find()?.join("causeway-speaker"), &all, &env)
}
