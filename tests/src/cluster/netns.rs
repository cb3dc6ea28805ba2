//! A network namespace of the test's own: made, entered by threads and child processes, and deleted with its value.

use std::fs::File;
use std::io::Write;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::thread;

use anyhow::{Context, Result, ensure};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// What the names of all our namespaces begin with; the process id follows, so that leftovers of a killed run are told
/// from the namespaces of a run beside this one.
const PREFIX: &str = "cw";

/// Cheap to clone; the namespace goes away with the last clone.
#[derive(Clone, Debug)]
pub struct Namespace {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    name: String,
}

impl Namespace {
    /// Makes the namespace `cw<pid>-<test>-<role>` with its loopback up.
    pub fn new(test: &str, role: &str) -> Result<Self> {
        let name = format!("{PREFIX}{}-{test}-{role}", std::process::id());
        run(Command::new("ip").args(["netns", "add", &name]))?;
        let namespace = Self { inner: Arc::new(Inner { name }) };
        namespace.ip("link set lo up")?;
        Ok(namespace)
    }

    pub fn name(&self) -> &str {
        &self.inner.name
    }

    fn path(&self) -> PathBuf {
        PathBuf::from("/run/netns").join(&self.inner.name)
    }

    /// Runs `ip` commands, one a line, in this namespace; the first that fails ends it.
    pub fn ip(&self, commands: &str) -> Result<()> {
        let mut child = Command::new("ip")
            .args(["-n", &self.inner.name, "-batch", "-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .context("cannot run ip")?;
        child.stdin.take().expect("stdin is piped").write_all(commands.as_bytes())?;
        let output = child.wait_with_output()?;
        ensure!(
            output.status.success(),
            "ip failed in {}: {} (commands: {commands})",
            self.inner.name,
            String::from_utf8_lossy(&output.stderr).trim()
        );
        Ok(())
    }

    /// What a command prints that runs in this namespace.
    pub fn output(&self, program: &str, args: &[&str]) -> Result<String> {
        run(self.command(program).args(args))
    }

    /// Feeds a rule file to `nft` in this namespace.
    pub fn nft(&self, rules: &str) -> Result<()> {
        let mut child =
            self.command("nft").args(["-f", "-"]).stdin(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        child.stdin.take().expect("stdin is piped").write_all(rules.as_bytes())?;
        let output = child.wait_with_output()?;
        ensure!(output.status.success(), "nft: {}", String::from_utf8_lossy(&output.stderr).trim());
        Ok(())
    }

    /// A command that will run in this namespace, as the same process id that `spawn` reports.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.inner.name, program]);
        command
    }

    /// Sets `net.` sysctls, `key=value` with slashes.
    pub fn sysctl(&self, settings: &[(&str, &str)]) -> Result<()> {
        self.enter(|| {
            for (key, value) in settings {
                let path = format!("/proc/sys/net/{key}");
                std::fs::write(&path, value).with_context(|| format!("cannot write {value} to {path}"))?;
            }
            Ok(())
        })
    }

    /// Runs `work` on a thread inside the namespace. Sockets made there stay there, wherever they are used later.
    pub fn enter<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        thread::scope(|scope| {
            scope
                .spawn(|| {
                    self.move_here();
                    work()
                })
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Starts a thread that lives inside the namespace; threads that it starts do so too.
    pub fn thread(&self, name: &str, work: impl FnOnce() + Send + 'static) -> thread::JoinHandle<()> {
        let namespace = self.clone();
        thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || {
                namespace.move_here();
                work();
            })
            .expect("a test may start threads")
    }

    /// Moves the calling thread for good.
    pub(crate) fn move_here(&self) {
        let file = File::open(self.path()).expect("the namespace lives as long as its value");
        move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))
            .expect("tests of the cluster run as root");
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "del", &self.name]).status();
    }
}

/// Deletes the namespaces that runs left behind which were killed: those whose process is gone.
pub(super) fn sweep() {
    let Ok(entries) = std::fs::read_dir("/run/netns") else { return };
    for name in entries.flatten().filter_map(|e| e.file_name().into_string().ok()) {
        let Some(pid) = name.strip_prefix(PREFIX).and_then(|rest| rest.split('-').next()) else { continue };
        if pid.parse::<u32>().is_ok() && !PathBuf::from("/proc").join(pid).exists() {
            let _ = Command::new("ip").args(["netns", "del", &name]).status();
        }
    }
}

/// Runs a command to its end and returns what it printed; a failure carries what it complained about.
pub(crate) fn run(command: &mut Command) -> Result<String> {
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("cannot run {command:?}"))?;
    ensure!(
        output.status.success(),
        "{command:?} failed: {} {}",
        String::from_utf8_lossy(&output.stderr).trim(),
        String::from_utf8_lossy(&output.stdout).trim()
    );
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
