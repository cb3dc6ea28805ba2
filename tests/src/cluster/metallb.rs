//! MetalLB's own programs in our place, for the comparison side by side.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use super::control::{Control, cache};
use super::lan::Host;
use super::objects::SYSTEM;
use super::process::Process;

const USER: &str = "admin";

/// The folder that `tests/kubernetes/prepare` filled.
pub fn find() -> Result<PathBuf> {
    let module = include_str!("../../kubernetes/metallb/go.mod");
    let version = module
        .lines()
        .find_map(|l| l.trim().trim_start_matches("require ").strip_prefix("go.universe.tf/metallb "))
        .and_then(|rest| rest.split_whitespace().next())
        .context("tests/kubernetes/metallb/go.mod names no release")?;
    let folder = cache()?.join("kubernetes").join(format!("metallb-{version}"));
    for name in ["controller", "speaker", "crds.yaml"] {
        ensure!(
            folder.join(name).exists(),
            "{} is missing: run tests/kubernetes/prepare",
            folder.join(name).display()
        );
    }
    Ok(folder)
}

pub(super) fn install(control: &Control) -> Result<()> {
    let crds = std::fs::read_to_string(find()?.join("crds.yaml"))?;
    control.kubectl(&["apply", "--server-side"], &crds).map(drop)
}

fn kubeconfig(control: &Control) -> Result<String> {
    Ok(control.kubeconfig(USER)?.to_str().context("path")?.to_owned())
}

pub(super) fn start_controller(control: &Control, host: &Host, folder: &Path) -> Result<Process> {
    let env = [
        ("KUBECONFIG", kubeconfig(control)?),
        ("METALLB_NAMESPACE", SYSTEM.into()),
        ("METALLB_POD_NAME", "controller-0".into()),
        ("METALLB_DEPLOYMENT", "controller".into()),
        ("METALLB_BGP_TYPE", "native".into()),
    ];
    let args = ["--port=7472", "--webhook-mode=disabled", "--disable-cert-rotation"].map(str::to_owned);
    Process::start(&host.namespace, folder, "controller-0", &find()?.join("controller"), &args, &env)
}

pub(super) fn start_speaker(control: &Control, node: &Host, folder: &Path) -> Result<Process> {
    let secret = folder.join("memberlist");
    std::fs::create_dir_all(&secret)?;
    std::fs::write(secret.join("secretkey"), "side by side")?;
    let name = format!("speaker-{}", node.name);
    let env = [
        ("KUBECONFIG", kubeconfig(control)?),
        ("METALLB_NAMESPACE", SYSTEM.into()),
        ("METALLB_NODE_NAME", node.name.clone()),
        ("METALLB_POD_NAME", name.clone()),
        ("METALLB_HOST", node.v4.to_string()),
        ("METALLB_ML_BIND_ADDR", node.v4.to_string()),
        ("METALLB_ML_BIND_PORT", "7946".into()),
        ("METALLB_ML_LABELS", "app=speaker".into()),
        ("METALLB_ML_SECRET_KEY_PATH", secret.to_str().context("path")?.to_owned()),
        ("METALLB_BGP_TYPE", "native".into()),
    ];
    Process::start(
        &node.namespace,
        folder,
        &name,
        &find()?.join("speaker"),
        &["--port=7472".to_owned()],
        &env,
    )
}
