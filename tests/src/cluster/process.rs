//! A child process of the test: started in a namespace, its output in a file, killed and reaped with its value.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use rustix::process::{Pid, Signal, kill_process};

use super::api::pause;
use crate::netns::Namespace;

/// Of a log line in a report.
const LINE: usize = 300;

#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

type Job = (Command, SyncSender<std::io::Result<Child>>);

impl Process {
    /// Starts `program` in `namespace`. Its output goes to `<folder>/<name>.log`, appended when it was started before.
    pub fn start(
        namespace: &Namespace,
        folder: &Path,
        name: &str,
        program: &Path,
        args: &[String],
        env: &[(&str, String)],
    ) -> Result<Self> {
        Self::start_confined(namespace, folder, name, program, args, env, &[])
    }

    /// The same, with options for `setpriv` that take privileges away first.
    pub fn start_confined(
        namespace: &Namespace,
        folder: &Path,
        name: &str,
        program: &Path,
        args: &[String],
        env: &[(&str, String)],
        confine: &[&str],
    ) -> Result<Self> {
        let log = folder.join(format!("{name}.log"));
        let out = File::options().create(true).append(true).open(&log)?;
        // The kernel ends the child when the test process dies without a word.
        let mut command = namespace.command("setpriv");
        command.args(["--pdeathsig", "KILL"]).args(confine).arg("--").arg(program).args(args);
        command.envs(env.iter().map(|(k, v)| (k, v.as_str())));
        command.stdin(Stdio::null()).stdout(out.try_clone()?).stderr(out);
        let child = spawn(command).with_context(|| format!("cannot start {}", program.display()))?;
        Ok(Self { name: name.to_owned(), child, log })
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn signal(&self, signal: Signal) -> Result<()> {
        let pid = i32::try_from(self.child.id()).context("process id")?;
        kill_process(Pid::from_raw(pid).expect("a child's id is not zero"), signal)?;
        Ok(())
    }

    /// Ends it at once, as a crash would, and reaps it.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Asks it to end (SIGTERM) and waits; killed when it has not ended by `grace`.
    pub fn stop(&mut self, grace: Duration) -> Result<ExitStatus> {
        self.signal(Signal::TERM)?;
        self.wait(grace)
    }

    /// Waits until it has ended; killed when it has not by `grace`.
    pub fn wait(&mut self, grace: Duration) -> Result<ExitStatus> {
        let deadline = Instant::now() + grace;
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            if Instant::now() > deadline {
                self.kill();
                bail!("{} was still running after {grace:?}\n{}", self.name, self.tail(20));
            }
            pause(Duration::from_millis(5));
        }
    }

    /// An error with the end of its log when it has ended by itself.
    pub fn check(&mut self) -> Result<()> {
        match self.child.try_wait()? {
            Some(status) => Err(anyhow!("{} ended with {status}\n{}", self.name, self.tail(30))),
            None => Ok(()),
        }
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    pub fn tail(&self, lines: usize) -> String {
        let log = self.log();
        let skip = log.lines().count().saturating_sub(lines);
        let cut = |line: &str| line.chars().take(LINE).collect::<String>();
        log.lines().skip(skip).map(|line| format!("  {} | {}\n", self.name, cut(line))).collect()
    }

    /// Resident memory in bytes (VmRSS).
    pub fn rss_bytes(&self) -> u64 {
        status_kib(self.pid(), "VmRSS:") * 1024
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

fn status_kib(pid: u32, key: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix(key)).unwrap_or("0");
    line.split_whitespace().next().and_then(|n| n.parse().ok()).unwrap_or(0)
}

/// Starts a child from one thread that lives as long as this process: the signal at a parent's death comes when the
/// *thread* dies that started the child.
fn spawn(command: Command) -> std::io::Result<Child> {
    static SPAWNER: OnceLock<SyncSender<Job>> = OnceLock::new();
    let spawner = SPAWNER.get_or_init(|| {
        let (jobs, queue) = sync_channel::<Job>(16);
        thread::Builder::new()
            .name("spawner".into())
            .spawn(move || {
                for (mut command, answer) in queue {
                    let _ = answer.send(command.spawn());
                }
            })
            .expect("a test may start threads");
        jobs
    });
    let (answer, child) = sync_channel(1);
    spawner.send((command, answer)).expect("the spawner never ends");
    child.recv().expect("the spawner answers every job")
}
