//! A machine to throw away (`tests/machine`): this one's files under an overlay, a real systemd, a network of its own.

use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};

use tokio::process::Command;

use crate::child::{Output, output};
use crate::needs;
use crate::programs::{here, program};

/// Gone with its value, and when this process is killed: its standard input ends then.
#[derive(Debug)]
pub struct Machine {
    keeper: Child,
    /// The process id of its systemd.
    init: String,
}

impl Machine {
    /// Boots one. `None`, said aloud, where a tool is missing.
    ///
    /// # Panics
    /// When it does not boot.
    pub fn boot() -> Option<Self> {
        for tool in ["systemctl", "systemd-analyze", "unshare", "nsenter", "ss", "dpkg-deb"] {
            needs(tool)?;
        }
        let folder = program("causeway-edge");
        let mut command = std::process::Command::new(here().join("machine"));
        command.arg("--serve").env("CAUSEWAY_BIN_DIR", folder.parent().expect("a program is in a folder"));
        let mut keeper = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("bash is there");
        let mut init = String::new();
        BufReader::new(keeper.stdout.take().expect("stdout is piped"))
            .read_line(&mut init)
            .expect("a pipe can be read");
        assert!(!init.is_empty(), "the machine did not boot; its log is above");
        Some(Self { keeper, init: init.trim().to_owned() })
    }

    /// Runs a shell command line in it, in the root of the tree, as root.
    pub async fn sh(&self, line: &str) -> Output {
        let mut command = Command::new("nsenter");
        command.args([
            "--target", &self.init, "--mount", "--pid", "--net", "--uts", "--ipc", "--cgroup", "--root",
        ]);
        command.args(["sh", "-c", &format!("cd '{}' || exit\n{line}", here().join("..").display())]);
        command
            .env("HOME", "/root")
            .env("CAUSEWAY_BIN_DIR", program("causeway-edge").parent().expect("a folder"));
        output(command).await
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        drop(self.keeper.stdin.take());
        let _ = self.keeper.wait();
    }
}
