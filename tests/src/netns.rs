//! A network namespace of the test's own: made, entered by threads and child processes, and deleted with its value.

use std::fs::File;
use std::future::Future;
use std::io::Write;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::pin::Pin;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::task::{Context as Poller, Poll};
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
    /// None while the name stands: the cluster's commands go by it.
    kept: Option<File>,
}

impl Namespace {
    /// Makes the namespace `cw<pid>-<test>-<role>` with its loopback up.
    pub fn new(test: &str, role: &str) -> Result<Self> {
        let name = format!("{PREFIX}{}-{test}-{role}", std::process::id());
        run(Command::new("ip").args(["netns", "add", &name]))?;
        let namespace = Self { inner: Arc::new(Inner { name, kept: None }) };
        namespace.ip("link set lo up")?;
        Ok(namespace)
    }

    /// Makes a namespace without a name: it goes away with the last of its processes, sockets and clones, also when this
    /// process is killed.
    pub fn nameless(role: &str) -> Result<Self> {
        static MADE: AtomicUsize = AtomicUsize::new(0);
        let name = format!("{PREFIX}{}-{}-{role}", std::process::id(), MADE.fetch_add(1, Relaxed));
        run(Command::new("ip").args(["netns", "add", &name]))?;
        let kept = File::open(PathBuf::from("/run/netns").join(&name));
        run(Command::new("ip").args(["netns", "del", &name]))?;
        let namespace = Self { inner: Arc::new(Inner { name, kept: Some(kept?) }) };
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
        let mut command = Command::new("ip");
        command.args(["-batch", "-"]).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = self.enter(|| command.spawn()).context("cannot run ip")?;
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

    /// What a future makes, sockets and processes, it makes inside the namespace; what it spawns runs outside again.
    pub fn within<F: Future>(&self, future: F) -> Within<F> {
        Within { namespace: self.clone(), future: Box::pin(future) }
    }

    /// Moves the calling thread for good.
    pub fn move_here(&self) {
        if let Some(kept) = &self.inner.kept {
            return move_to(kept);
        }
        move_to(&File::open(self.path()).expect("the namespace lives as long as its value"));
    }
}

/// A future that is polled inside a namespace.
#[derive(Debug)]
pub struct Within<F> {
    namespace: Namespace,
    future: Pin<Box<F>>,
}

impl<F: Future> Future for Within<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Poller<'_>) -> Poll<F::Output> {
        let _back = Back(File::open("/proc/thread-self/ns/net").expect("a thread knows its namespace"));
        self.namespace.move_here();
        self.future.as_mut().poll(cx)
    }
}

/// Brings the thread back where it was, also when a poll panics.
struct Back(File);

impl Drop for Back {
    fn drop(&mut self) {
        move_to(&self.0);
    }
}

fn move_to(namespace: &File) {
    move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))
        .expect("tests that make namespaces run as root");
}

impl Drop for Inner {
    fn drop(&mut self) {
        if self.kept.is_some() {
            return;
        }
        let _ = Command::new("ip").args(["netns", "del", &self.name]).status();
    }
}

/// Deletes the namespaces that runs left behind which were killed: those whose process is gone.
pub fn sweep() {
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
