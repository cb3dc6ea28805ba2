//! MetalLB's own programs in our place, for the comparison side by side.
//!
//! Its detection of dead nodes is tuned, as far as its own file of settings goes, to about what ours has: a comparison
//! with settings for thousands of nodes would be cheap. `CAUSEWAY_MEMBERLIST=default` leaves it as it is shipped.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use super::control::{Control, cache, write_whole};
use super::lan::Host;
use super::objects::SYSTEM;
use super::process::Process;

const USER: &str = "admin";

/// What differs from memberlist's settings for a LAN: a probe every 200 ms instead of every second, an answer within
/// 100 ms instead of 500, and a suspect is dead after 0.6 s (1.2 s while nobody confirms it) instead of 4 to 24 s.
const TUNED: &[(&str, &str)] = &[
    ("ProbeInterval", "\"200ms\""),
    ("ProbeTimeout", "\"100ms\""),
    ("SuspicionMult", "3"),
    ("SuspicionMaxTimeoutMult", "2"),
    ("GossipInterval", "\"50ms\""),
];
/// The file has to name every setting; these are as memberlist has them.
const AS_SHIPPED: &[(&str, &str)] = &[
    ("TCPTimeout", "\"10s\""),
    ("IndirectChecks", "3"),
    ("RetransmitMult", "4"),
    ("PushPullInterval", "\"30s\""),
    ("DisableTcpPings", "false"),
    ("AwarenessMaxMultiplier", "8"),
    ("GossipNodes", "3"),
    ("GossipToTheDeadTime", "\"30s\""),
    ("GossipVerifyIncoming", "true"),
    ("GossipVerifyOutgoing", "true"),
    ("EnableCompression", "true"),
    ("HandoffQueueDepth", "1024"),
    ("UDPBufferSize", "1400"),
    ("QueueCheckInterval", "\"30s\""),
];
/// The speaker reads its settings from this path and no other.
const SETTINGS: &str = "/etc/metallb/memberlist/config.json";

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
    write_whole(&secret.join("secretkey"), "side by side")?;
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
    let speaker = find()?.join("speaker");
    let port = "--port=7472".to_owned();
    if std::env::var("CAUSEWAY_MEMBERLIST").as_deref() == Ok("default") {
        return Process::start(&node.namespace, folder, &name, &speaker, &[port], &env);
    }
    let settings = folder.join("memberlist.json");
    write_whole(&settings, tuned())?;
    // As the kubelet mounts a ConfigMap: the mount is seen by this process alone, `ip netns exec` gave it a view of its own.
    let script = format!(
        "mount -t tmpfs -o size=64k none /etc && mkdir -p {folder} && cp {settings} {SETTINGS} && exec \"$@\"",
        folder = Path::new(SETTINGS).parent().context("a folder")?.display(),
        settings = settings.display(),
    );
    let speaker = speaker.to_str().context("path")?.to_owned();
    let args = ["-c".to_owned(), script, "sh".to_owned(), speaker, port];
    Process::start(&node.namespace, folder, &name, Path::new("/bin/sh"), &args, &env)
}

/// The settings as JSON.
fn tuned() -> String {
    let mut text = String::new();
    for (key, value) in TUNED.iter().chain(AS_SHIPPED) {
        let comma = if text.is_empty() { "{" } else { "," };
        let _ = write!(text, "{comma}\n  \"{key}\": {value}");
    }
    text + "\n}\n"
}
