//! A docker engine of the test's own, with a network, a mount and a process namespace of its own: whatever becomes of the test, no
//! daemon, container, network or mount outlives it.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};
use tokio::process::Command;

use crate::child::{Output, Program, output};
use crate::files::Folder;
use crate::netns::Namespace;
use crate::programs::here;
use crate::{needs, wait};

/// A running engine. Dropping it ends it and all that it runs.
#[derive(Debug)]
pub struct Docker {
    /// What containers take for their host.
    pub namespace: Namespace,
    engine: Program,
    /// The parent of the engine.
    pid: u32,
    client: PathBuf,
    folder: Folder,
}

/// What every container of Causeway's is run with.
pub const HARD: [&str; 5] = ["--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges"];

const START: Duration = Duration::from_secs(30);
/// For the kernel to end what is left of an engine.
const END: Timespec = Timespec { tv_sec: 10, tv_nsec: 0 };

impl Docker {
    /// Starts an engine; `None` where there can be none, which is said for the summary of `tests/run`.
    ///
    /// # Panics
    /// In CI (`CI=true`), where nothing is skipped, and when it does not come up.
    pub async fn start() -> Option<Self> {
        Self::start_in(|| Namespace::nameless("docker").expect("a namespace can be made")).await
    }

    /// The same as the engine of a machine whose network the test lays. It is asked for where there can be an engine.
    ///
    /// # Panics
    /// As [`Docker::start`].
    pub async fn start_in(network: impl FnOnce() -> Namespace) -> Option<Self> {
        let (program, client, _) = (needs("dockerd")?, needs("docker")?, needs("unshare")?);
        if !rustix::process::geteuid().is_root() {
            let test = std::thread::current().name().unwrap_or("a test").to_owned();
            assert!(std::env::var("CI").as_deref() != Ok("true"), "{test}: a docker engine needs root");
            eprintln!("SKIPPED {test}: a docker engine needs root");
            return None;
        }
        let namespace = network();
        let folder = Folder::default();
        // The engine is the first process of its namespace: with it the kernel ends containerd and all containers.
        let mut command = Command::new("setpriv");
        command.args([
            "--pdeathsig",
            "KILL",
            "unshare",
            "--mount",
            "--pid",
            "--fork",
            "--kill-child",
            "--mount-proc",
        ]);
        command
            .arg(program)
            .arg("--data-root")
            .arg(folder.join("data"))
            .arg("--exec-root")
            .arg(folder.join("exec"));
        command.arg("--pidfile").arg(folder.join("pid")).arg("--host").arg(socket(&folder));
        let engine = namespace.within(async { Program::start("dockerd", command) }).await;
        let pid = engine.pid();
        let mut docker = Self { namespace, engine, pid, client, folder };
        let look = || {
            assert!(docker.engine.runs(), "dockerd ended while starting");
            let asked = docker.docker(&["version"]);
            async move { (asked.await.code == 0).then_some(()) }
        };
        wait::until("a docker engine that answers", START, look).await;
        Some(docker)
    }

    /// Runs `docker ARGS`.
    pub fn docker(&self, args: &[&str]) -> impl Future<Output = Output> + use<> {
        let mut command = self.command(&self.client);
        command.args(args);
        output(command)
    }

    /// A command that finds this engine.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        command.env("DOCKER_HOST", socket(&self.folder)).env("DOCKER_CONFIG", self.folder.path());
        command
    }

    /// Makes images as people do, from the static programs in `CAUSEWAY_STATIC_DIR`; `None` where there are none.
    ///
    /// # Panics
    /// In CI (`CI=true`), where nothing is skipped, and when an image cannot be made.
    pub async fn build(&self, images: &[&str]) -> Option<()> {
        let Some(programs) = std::env::var_os("CAUSEWAY_STATIC_DIR") else {
            let reason =
                "CAUSEWAY_STATIC_DIR is not set: tests/run builds static programs (tests/static/build)";
            assert!(std::env::var("CI").as_deref() != Ok("true"), "{reason}");
            eprintln!("SKIPPED images: {reason}");
            return None;
        };
        let mut command = self.command(here().join("../deploy/docker/build"));
        command.arg("--programs").arg(programs).args(images);
        output(command).await.ok();
        Some(())
    }

    /// What `docker inspect` says of a container or an image.
    pub async fn inspect(&self, name: &str) -> serde_json::Value {
        self.docker(&["inspect", name]).await.json()[0].take()
    }

    /// Waits until a container's own health check passes.
    ///
    /// # Panics
    /// When it ends before, or is not healthy in time.
    pub async fn healthy(&self, container: &str) -> Duration {
        let look = || async {
            let state = self.inspect(container).await["State"].take();
            if state["Running"] != true {
                panic!("{container} ended: {state}\n{}", self.docker(&["logs", container]).await.text());
            }
            (state["Health"]["Status"] == "healthy").then_some(())
        };
        wait::until(&format!("a healthy {container}"), START, look).await.1
    }

    /// Stops a container; how long its program took to end, without what docker does afterwards, and its exit code.
    ///
    /// # Panics
    /// When it cannot be stopped.
    pub async fn stop(&self, container: &str) -> (Duration, i64) {
        let since = SystemTime::now();
        self.docker(&["stop", "-t", "20", container]).await.ok();
        let state = self.inspect(container).await["State"].take();
        let mut date = Command::new("date");
        date.args(["+%s%N", "--date", state["FinishedAt"].as_str().expect("it ended")]);
        let nanos = output(date).await.ok().trim().parse().expect("date prints a number");
        let ended = SystemTime::UNIX_EPOCH + Duration::from_nanos(nanos);
        (ended.duration_since(since).unwrap_or_default(), state["ExitCode"].as_i64().unwrap_or(-1))
    }

    /// A folder for what containers are shown.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// What a command prints, for where nothing can be awaited.
    fn now(&self, args: &[&str]) -> String {
        let mut command = std::process::Command::new(&self.client);
        command.env("DOCKER_HOST", socket(&self.folder)).env("DOCKER_CONFIG", self.folder.path()).args(args);
        let printed = command.output().map(|output| output.stdout).unwrap_or_default();
        String::from_utf8_lossy(&printed).into_owned()
    }
}

impl Drop for Docker {
    fn drop(&mut self) {
        // In good order first, so that their control groups go as well.
        let listed = self.now(&["ps", "--all", "--quiet"]);
        let containers: Vec<&str> = listed.split_whitespace().collect();
        if !containers.is_empty() {
            self.now(&[&["rm", "--force", "--volumes"][..], containers.as_slice()].concat());
        }
        let pid = self.pid;
        let children =
            std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
        let process = |pid: i32| Pid::from_raw(pid).and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok());
        let Some(engine) = children.trim().parse().ok().and_then(process) else { return };
        // With the parent the kernel ends the engine.
        if let Some(parent) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
            let _ = kill_process(parent, Signal::KILL);
        }
        // The folder can only be deleted when nobody writes into it.
        let _ = poll(&mut [PollFd::new(&engine, PollFlags::IN)], Some(&END));
    }
}

fn socket(folder: &Folder) -> String {
    format!("unix://{}", folder.join("sock").display())
}
