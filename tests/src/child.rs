//! A child process that is owned: its output is kept, shown when the test fails, and it is killed and reaped at the end.

use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::{Child, ChildStderr, Command};
use tokio::task::JoinSet;

use crate::process::Usage;
use crate::wait;

/// Lines kept of one program; older ones go first, so that a soak cannot fill the memory.
const KEPT_LINES: usize = 20_000;
/// Lines shown of each program when a test fails.
const SHOWN_LINES: usize = 60;

/// A running program.
#[derive(Debug)]
pub struct Program {
    name: String,
    /// None: it is a part of another program, which is to be asked instead.
    child: Option<Child>,
    log: Arc<Mutex<Vec<String>>>,
    pumps: JoinSet<()>,
    /// Standard error that nobody reads yet.
    unread: Option<ChildStderr>,
}

/// Who reads a program's standard error.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reader {
    #[default]
    Reads,
    /// Nobody until [`Program::read_on`]: the pipe fills up.
    Stalls,
}

impl Program {
    /// Starts `command` with both outputs captured.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn start(name: &str, command: Command) -> Self {
        Self::start_with(name, command, Reader::Reads)
    }

    /// Starts `command` with standard output captured, and standard error as `reader` says.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn start_with(name: &str, mut command: Command, reader: Reader) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let mut child =
            command.spawn().unwrap_or_else(|error| panic!("cannot start {name} ({command:?}): {error}"));
        let log = Arc::default();
        let mut pumps = JoinSet::new();
        pumps.spawn(pump(child.stdout.take().expect("stdout is piped"), Arc::clone(&log)));
        let unread = child.stderr.take();
        let mut program = Self { name: name.to_owned(), child: Some(child), log, pumps, unread };
        if reader == Reader::Reads {
            program.read_on();
        }
        program
    }

    /// A part of another program.
    pub fn inside(name: &str) -> Self {
        let (log, pumps) = (Arc::default(), JoinSet::new());
        Self { name: name.to_owned(), child: None, log, pumps, unread: None }
    }

    /// From now on standard error is read, what waits in the pipe first.
    pub fn read_on(&mut self) {
        if let Some(stderr) = self.unread.take() {
            self.pumps.spawn(pump(stderr, Arc::clone(&self.log)));
        }
    }

    /// # Panics
    /// When the program has ended and was waited for.
    pub fn pid(&self) -> u32 {
        let id = self.child.as_ref().and_then(Child::id);
        id.unwrap_or_else(|| panic!("{} runs, as a process of its own", self.name))
    }

    pub fn usage(&self) -> Usage {
        Usage::of(self.pid())
    }

    pub fn lines(&self) -> Vec<String> {
        self.log.lock().clone()
    }

    pub fn log(&self) -> String {
        self.log.lock().join("\n")
    }

    pub fn log_contains(&self, needle: &str) -> bool {
        self.log.lock().iter().any(|line| line.contains(needle))
    }

    /// Waits for a line that contains `needle`.
    pub async fn line(&self, needle: &str, within: Duration) -> String {
        let what = format!("a line of {} with {needle:?}", self.name);
        let look = || std::future::ready(self.log.lock().iter().find(|line| line.contains(needle)).cloned());
        wait::until(&what, within, look).await.0
    }

    /// Sends SIGTERM.
    pub fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    /// Sends SIGHUP: reload.
    pub fn hang_up(&self) {
        self.signal(Signal::HUP);
    }

    /// Sends SIGSTOP: the process stays, and does nothing more.
    pub fn freeze(&self) {
        self.signal(Signal::STOP);
    }

    /// Sends SIGCONT.
    pub fn thaw(&self) {
        self.signal(Signal::CONT);
    }

    /// Sends SIGKILL and reaps.
    pub async fn kill(&mut self) {
        let _ = self.own().kill().await;
    }

    /// Waits for the end.
    ///
    /// # Panics
    /// When it does not end in time.
    pub async fn ended(&mut self, within: Duration) -> ExitStatus {
        let ended = tokio::time::timeout(within, self.own().wait()).await;
        let ended = ended.unwrap_or_else(|_| panic!("{} did not end within {within:?}", self.name));
        ended.expect("a child can be waited for")
    }

    /// Whether it still runs.
    pub fn runs(&mut self) -> bool {
        self.child.as_mut().is_none_or(|child| matches!(child.try_wait(), Ok(None)))
    }

    fn own(&mut self) -> &mut Child {
        self.child.as_mut().unwrap_or_else(|| panic!("{} is no process of its own", self.name))
    }

    fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.pid()).ok().and_then(Pid::from_raw).expect("a pid is positive");
        kill_process(pid, signal).unwrap_or_else(|error| panic!("cannot signal {}: {error}", self.name));
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        let lines = self.log.lock();
        let from = lines.len().saturating_sub(SHOWN_LINES);
        eprintln!("--- last {} of {} lines of {} ---", lines.len() - from, lines.len(), self.name);
        for line in &lines[from..] {
            eprintln!("{line}");
        }
    }
}

/// What a command that ran to its end printed.
#[derive(Clone, Debug)]
pub struct Output {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Output {
    /// Standard output and standard error together.
    pub fn text(&self) -> String {
        format!("{}{}", self.stdout, self.stderr)
    }

    /// Standard output, of a command that must have worked.
    ///
    /// # Panics
    /// When it failed.
    pub fn ok(self) -> String {
        assert_eq!(self.code, 0, "the command failed: {}", self.text());
        self.stdout
    }

    /// Standard output as JSON.
    ///
    /// # Panics
    /// When it is none.
    pub fn json(self) -> serde_json::Value {
        let text = self.ok();
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("not JSON ({error}): {text}"))
    }
}

/// Runs a command to its end, within a minute.
///
/// # Panics
/// When it cannot be started or does not end.
pub async fn output(mut command: Command) -> Output {
    command.stdin(Stdio::null()).kill_on_drop(true);
    let ended = tokio::time::timeout(Duration::from_secs(60), command.output()).await;
    let output = ended
        .unwrap_or_else(|_| panic!("{command:?} did not end"))
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    Output {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

async fn pump(from: impl AsyncRead + Unpin, log: Arc<Mutex<Vec<String>>>) {
    let mut lines = BufReader::new(from).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        let mut log = log.lock();
        if log.len() >= KEPT_LINES {
            log.drain(..KEPT_LINES / 4);
        }
        log.push(line);
    }
}
