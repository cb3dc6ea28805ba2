//! SIGUSR2: starts the program anew as the successor of this process.
//!
//! By way of a process that ends at once, so that the successor is nobody's child but the system's: systemd supervises only its own
//! children well, and would kill another one instead of letting it end.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as StdStream;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use causeway_daemon::drain::Drain;
use tokio::io::AsyncReadExt;
use tokio::net::UnixStream;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// With it a process looks for one to take over from.
const TAKE_OVER: &str = "--take-over";
/// With it a process starts another one without it, and ends.
const DETACH: &str = "--detach";

/// The installed handler: from then on the signal no longer ends the process.
#[derive(Debug)]
pub(crate) struct Upgrade {
    signals: Signal,
    program: PathBuf,
}

impl Upgrade {
    /// To be called at the start: afterwards the program's file may be another.
    ///
    /// # Errors
    /// When the operating system refuses the handler, or does not know the program's file.
    pub(crate) fn install() -> io::Result<Self> {
        Ok(Self { signals: signal(SignalKind::user_defined2())?, program: std::env::current_exe()? })
    }

    /// Starts a successor at each signal, one at a time, until one has taken over.
    pub(crate) async fn run(mut self, drain: Drain) {
        while self.signals.recv().await.is_some() {
            let program = self.program.display().to_string();
            tracing::info!(program, "starting the next process of this edge");
            let mut successor = match self.start() {
                Ok(successor) => successor,
                Err(error) => {
                    tracing::error!(program, %error, "cannot start it: this process serves on");
                    continue;
                }
            };
            tokio::select! {
                biased;
                () = drain.draining() => return,
                // It says nothing: this is its end.
                _ = successor.read_u8() => {
                    tracing::error!("the next process has ended, and said above why: this one serves on");
                }
            }
        }
    }

    /// The successor's standard input is the other end of what is returned.
    fn start(&self) -> io::Result<UnixStream> {
        let (ours, theirs) = StdStream::pair()?;
        ours.set_nonblocking(true)?;
        let mut command = Command::new(&self.program);
        command.args(without(TAKE_OVER)).args([TAKE_OVER, DETACH]).stdin(Stdio::from(OwnedFd::from(theirs)));
        // It ends within milliseconds.
        let status = command.status()?;
        if !status.success() {
            return Err(io::Error::other(format!("{} ended with {status}", self.program.display())));
        }
        UnixStream::from_std(ours)
    }
}

/// Starts this program once more, as nobody's child.
///
/// # Errors
/// When it cannot be started.
pub(crate) fn detach() -> io::Result<()> {
    Command::new(std::env::current_exe()?).args(without(DETACH)).spawn().map(drop)
}

/// Our own arguments, but for this one.
fn without(argument: &str) -> impl Iterator<Item = OsString> {
    let argument = OsStr::new(argument).to_owned();
    std::env::args_os().skip(1).filter(move |one| *one != argument)
}
