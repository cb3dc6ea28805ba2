//! A reader of a page: types its commands where the page says, with the real tools, and compares what is seen.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use causeway_tests::cluster::{Cluster, SOON, eventually};
use causeway_tests::needs;
use causeway_tests::page::Block;
use causeway_tests::programs::{built, here};

/// No command of a page takes longer on an idle machine than a second or two.
const PATIENCE: &str = "120";
/// What is typed where there is access to the cluster; all else is typed on another machine of the LAN.
const AT_HOME: &[&str] = &["kubectl", "helm", "mkdir", "causeway-allocator"];

/// Stands before the real kubectl: nothing in this cluster can run a command in a pod, so what the page does in the
/// allocator's is run beside it, under its account.
const KUBECTL: &str = r#"#!/bin/sh
case "$*" in
    "-n metallb-system exec deploy/causeway-allocator -- causeway-allocator "*)
        shift 6
        KUBECONFIG=$ALLOCATOR_KUBECONFIG exec causeway-allocator "$@" ;;
esac
exec REAL "$@"
"#;

pub(super) struct Reader {
    folder: tempfile::TempDir,
    environment: Vec<(&'static str, String)>,
}

impl Reader {
    pub(super) fn new(cluster: &Cluster) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("causeway-reader-").tempdir()?;
        // The commands name paths in the tree, and write files beside it.
        std::os::unix::fs::symlink(here().join("../deploy").canonicalize()?, folder.path().join("deploy"))?;
        let bin = folder.path().join("bin");
        std::fs::create_dir(&bin)?;
        let kubectl = cluster.control.programs.path("kubectl");
        let script = bin.join("kubectl");
        std::fs::write(&script, KUBECTL.replace("REAL", text(&kubectl)?))?;
        std::fs::set_permissions(&script, PermissionsExt::from_mode(0o755))?;
        let path = std::env::var("PATH").unwrap_or_default();
        // What `causeway-edge tunnel create` printed; here nobody dials with it.
        std::fs::write(folder.path().join("token"), "cw1.none")?;
        let helm = needs("helm").context("helm is missing")?;
        std::os::unix::fs::symlink(&helm, bin.join("helm"))?;
        let programs = built(&["causeway-l2"]);
        let allocator = "system:serviceaccount:metallb-system:causeway-allocator";
        let environment = vec![
            ("PATH", format!("{}:{}:{path}:/usr/sbin:/sbin", text(&bin)?, text(&programs)?)),
            ("HOME", text(folder.path())?.to_owned()),
            ("KUBECONFIG", text(&cluster.control.kubeconfig("admin")?)?.to_owned()),
            ("ALLOCATOR_KUBECONFIG", text(&cluster.control.kubeconfig(allocator)?)?.to_owned()),
        ];
        Ok(Self { folder, environment })
    }

    /// Puts a file into the folder that the reader is in.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(super) fn lay(&self, name: &str, text: &str) -> Result<()> {
        Ok(std::fs::write(self.folder.path().join(name), text)?)
    }

    /// Types a block and checks what is seen. A question is asked until the answer is what the page shows: the page
    /// does not say how long a reader waits.
    ///
    /// # Errors
    /// When a command fails, or shows something else.
    pub(super) fn follow(&self, cluster: &Cluster, block: &Block) -> Result<()> {
        let outcome = self.type_in(cluster, &block.commands);
        let question = block.question();
        let is_alone = question.is_some_and(|question| question == block.commands.trim_end());
        let first = match outcome {
            Ok(output) => block.expect(&output),
            // A visit that comes too early fails, and is made again; what makes or deletes something does not fail.
            Err(error) if is_alone && !block.seen.is_empty() => Err(error),
            Err(error) => return Err(error),
        };
        match (first, question) {
            (Err(_), Some(question)) => eventually(3 * SOON, &format!("\"{question}\" answers"), || {
                block.expect(&self.type_in(cluster, question)?)
            }),
            (first, _) => first,
        }
    }

    /// Runs commands in a shell; what they printed on both streams.
    ///
    /// # Errors
    /// When one of them fails.
    fn type_in(&self, cluster: &Cluster, commands: &str) -> Result<String> {
        let word = commands.split_whitespace().next().unwrap_or_default();
        let host = if AT_HOME.contains(&word) { &cluster.lan.control } else { &cluster.lan.client };
        let mut command: Command = host.namespace.command("timeout");
        command.args([PATIENCE, "bash", "-euo", "pipefail", "-c", &format!("exec 2>&1\n{commands}")]);
        command.current_dir(self.folder.path());
        command.envs(self.environment.iter().map(|(key, value)| (*key, value.as_str())));
        let output = command.stdin(Stdio::null()).output().context("cannot run a shell")?;
        let printed = String::from_utf8_lossy(&output.stdout).into_owned();
        ensure!(output.status.success(), "{}: {commands}{printed}", output.status);
        Ok(printed)
    }
}

fn text(path: &Path) -> Result<&str> {
    path.to_str().context("the path is not UTF-8")
}
