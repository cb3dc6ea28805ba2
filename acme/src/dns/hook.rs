//! A program of the operator's that writes records where no UPDATE reaches: `PROGRAM present|remove NAME VALUE`.
//!
//! The contract, which docs/certificates-dns.md tells users: no shell, nothing on standard input, the folder `/`, the variables
//! of [`PASSED`] and those that begin with [`PASSED_PREFIX`]; exit code 0 is done, all else is failed and what it wrote is told.
//! What it leaves running when it ends is ended too.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::Command;
use tokio::time::timeout;

use super::shown::Watch;
use super::{DnsError, DnsSolver, record_name};

/// The program, and how long to wait for what it did to be seen.
#[derive(Debug)]
pub struct Hook {
    program: PathBuf,
    deadline: Duration,
    watch: Watch,
}

/// Why the program did not do it.
#[derive(Debug, thiserror::Error)]
pub enum HookError {
    #[error("cannot start the DNS hook {}: {source}", program.display())]
    Start { program: PathBuf, source: io::Error },
    #[error("the DNS hook {} may be changed by any user of this machine: run chmod o-w on it", .0.display())]
    Open(PathBuf),
    #[error("the DNS hook {} failed to {action} {name}: {status}; it said: {output}", program.display())]
    Failed { program: PathBuf, action: &'static str, name: String, status: ExitStatus, output: String },
    #[error("the DNS hook {} did not {action} {name} within {} s and was ended; it said: {output}", program.display(), deadline.as_secs())]
    Late { program: PathBuf, action: &'static str, name: String, deadline: Duration, output: String },
}

impl Hook {
    pub(crate) fn new(program: PathBuf, deadline: Duration, watch: Watch) -> Self {
        Self { program, deadline, watch }
    }

    async fn run(&self, action: &'static str, name: &str, value: &str) -> Result<(), HookError> {
        let program = self.program.clone();
        let start = |source| HookError::Start { program: self.program.clone(), source };
        let mode = tokio::fs::metadata(&program).await.map_err(start)?.permissions().mode();
        if mode & OTHERS_WRITE != 0 {
            return Err(HookError::Open(program));
        }
        let mut child = command(&program, action, name, value).spawn().map_err(start)?;
        let group = Group::of(child.id());
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let ended = async {
            let status = async {
                let status = child.wait().await;
                // Whatever it left behind holds the pipes open.
                drop(group);
                status
            };
            futures_util::join!(status, keep_end(stdout, &mut out), keep_end(stderr, &mut err)).0
        };
        let ended = timeout(self.deadline, ended).await;
        let (output, name) = (readable(&out, &err), name.to_owned());
        match ended {
            Ok(Ok(status)) if status.success() => Ok(()),
            Ok(Ok(status)) => Err(HookError::Failed { program, action, name, status, output }),
            Ok(Err(source)) => Err(HookError::Start { program, source }),
            Err(_) => Err(HookError::Late { program, action, name, deadline: self.deadline, output }),
        }
    }
}

impl DnsSolver for Hook {
    fn present<'a>(&'a self, name: &'a str, value: &'a str) -> BoxFuture<'a, Result<(), DnsError>> {
        async move {
            let record = record_name(name)?;
            self.run("present", name, value).await?;
            self.watch.shown(&record, value).await?;
            Ok(())
        }
        .boxed()
    }

    fn remove<'a>(&'a self, name: &'a str, value: &'a str) -> BoxFuture<'a, Result<(), DnsError>> {
        async move {
            record_name(name)?;
            self.run("remove", name, value).await?;
            Ok(())
        }
        .boxed()
    }
}

fn command(program: &Path, action: &str, name: &str, value: &str) -> Command {
    let mut command = Command::new(program);
    command.args([action, name, value]).current_dir("/");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.env_clear().env("PATH", DEFAULT_PATH);
    command.envs(std::env::vars_os().filter(|(name, _)| {
        name.to_str().is_some_and(|name| PASSED.contains(&name) || name.starts_with(PASSED_PREFIX))
    }));
    command.process_group(0).kill_on_drop(true);
    command
}

/// The program and what it started; all of it is ended with this.
struct Group(Option<Pid>);

impl Group {
    /// The leader of a group has the group's number.
    fn of(leader: Option<u32>) -> Self {
        Self(leader.and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw))
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            // An error says that nobody is left.
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

/// Reads all, so that the program is never stuck in writing, and keeps the end.
async fn keep_end(pipe: Option<impl AsyncRead + Unpin>, kept: &mut Vec<u8>) {
    let Some(mut pipe) = pipe else { return };
    let mut piece = [0; 1024];
    while let Ok(length @ 1..) = pipe.read(&mut piece).await {
        kept.extend_from_slice(&piece[..length]);
        kept.drain(..kept.len().saturating_sub(MAX_OUTPUT));
    }
}

/// One line, whatever the program wrote.
fn readable(out: &[u8], err: &[u8]) -> String {
    let all = [err, out].map(|bytes| String::from_utf8_lossy(bytes).into_owned()).join("\n");
    let words: Vec<_> =
        all.split(|c: char| c.is_whitespace() || c.is_control()).filter(|word| !word.is_empty()).collect();
    if words.is_empty() { "nothing".to_owned() } else { words.join(" ") }
}

/// What scripts need to find programs, their configuration, and a place for files.
const PASSED: [&str; 6] = ["PATH", "HOME", "LANG", "TZ", "TMPDIR", "SSL_CERT_FILE"];
/// How operators hand a script its own settings, a provider's token for one.
const PASSED_PREFIX: &str = "HOOK_";
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Providers' interfaces answer within seconds, some scripts wait until the record is seen.
pub(crate) const DEADLINE: Duration = Duration::from_secs(120);
/// Enough for the message at the end of a trace.
const MAX_OUTPUT: usize = 2048;
const OTHERS_WRITE: u32 = 0o002;
