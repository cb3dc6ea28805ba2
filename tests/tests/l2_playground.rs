//! `tests/playground`: it starts, its commands work as they are printed, and nothing is left when it was ended or killed.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use causeway_tests::cluster::{SOON, eventually, scenarios};
use causeway_tests::programs::{built, here};

/// To start it, on a machine that does other things as well.
const START: Duration = Duration::from_secs(120);
/// The last line of what it prints when it stands.
const LAST: &str = "--down";

/// A playground in a folder of its own, beside one that somebody may have.
struct Playground {
    folder: tempfile::TempDir,
    child: Child,
    lines: Receiver<String>,
    printed: Vec<String>,
}

impl Playground {
    fn start() -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("causeway-plays-").tempdir()?;
        let mut child = script(&state(&folder)).stdout(Stdio::piped()).spawn()?;
        let out = child.stdout.take().context("stdout is piped")?;
        let (sender, lines) = sync_channel(100);
        std::thread::spawn(move || {
            for line in BufReader::new(out).lines().map_while(Result::ok) {
                let _ = sender.send(line);
            }
        });
        let mut playground = Self { folder, child, lines, printed: Vec::new() };
        while !playground.printed.last().is_some_and(|line| line.ends_with(LAST)) {
            let line = playground.lines.recv_timeout(START).context("it does not say that it stands")?;
            playground.printed.push(line);
        }
        Ok(playground)
    }

    /// The command printed after a line that begins so.
    fn printed_after(&self, what: &str) -> Result<String> {
        let at = self.printed.iter().position(|line| line.trim_start().starts_with(what));
        let at = at.with_context(|| format!("no line begins with \"{what}\""))?;
        Ok(self.printed[at + 1].trim().to_owned())
    }

    /// Types a line that it printed.
    fn type_in(&self, line: &str) -> Result<String> {
        let mut shell = Command::new("bash");
        shell.args(["-c", line]).env("CAUSEWAY_PLAYGROUND_DIR", state(&self.folder));
        output(&mut shell)
    }

    fn down(&self) -> Result<String> {
        output(script(&state(&self.folder)).arg("--down"))
    }

    /// What there is of it: namespaces, its folder for others, and the folder of its logs.
    fn traces(&self, logs: &Path) -> Result<Vec<String>> {
        let prefix = format!("cw{}-", self.child.id());
        let namespaces = output(Command::new("ip").args(["netns", "list"]))?;
        let mut found: Vec<String> =
            namespaces.lines().filter(|line| line.starts_with(&prefix)).map(str::to_owned).collect();
        let folders = [state(&self.folder), logs.to_owned()];
        found.extend(folders.iter().filter(|path| path.exists()).map(|path| path.display().to_string()));
        // Every program of it names the folder in its command line.
        let logs = logs.to_str().context("path")?;
        for entry in std::fs::read_dir("/proc")?.flatten() {
            let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
            let line = String::from_utf8_lossy(&line).replace('\0', " ");
            if line.contains(logs) {
                found.push(line);
            }
        }
        Ok(found)
    }

    fn logs(&self) -> Result<PathBuf> {
        Ok(std::fs::read_to_string(state(&self.folder).join("folder"))?.into())
    }
}

impl Drop for Playground {
    fn drop(&mut self) {
        let _ = self.down();
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn state(folder: &tempfile::TempDir) -> PathBuf {
    folder.path().join("state")
}

fn script(state: &Path) -> Command {
    let mut script = Command::new(here().join("playground"));
    script.env("CAUSEWAY_PLAYGROUND_DIR", state).env("CAUSEWAY_BIN_DIR", built(&["causeway-l2"]));
    script.env("CAUSEWAY_PLAYGROUND_PROGRAM", env!("CARGO_BIN_EXE_causeway-playground"));
    script.stdin(Stdio::null());
    script
}

/// What a command prints on both streams; a failure carries it.
fn output(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("cannot run {command:?}"))?;
    let printed = [output.stdout, output.stderr].concat();
    let printed = String::from_utf8_lossy(&printed).into_owned();
    ensure!(output.status.success(), "{command:?}: {}: {printed}", output.status);
    Ok(printed)
}

#[test]
fn a_playground_does_what_it_prints_and_leaves_nothing_behind() -> Result<()> {
    if let Some(reason) = scenarios::missing() {
        eprintln!("SKIPPED l2_playground: {reason}");
        assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "nothing is skipped in CI");
        return Ok(());
    }
    let mut one = Playground::start()?;
    let logs = one.logs()?;
    assert!(!one.traces(&logs)?.is_empty(), "it stands");
    let visit = one.printed_after("A visit, from the client")?;
    assert_eq!(one.type_in(&visit)?.trim(), "safe");

    let config = one.printed_after("The cluster: a real API server")?;
    let nodes = one.type_in(&format!("{config}\nkubectl get nodes"))?;
    assert!(nodes.contains("node3"), "{nodes}");

    let cut = one.printed_after("Pull its cable")?;
    one.type_in(&cut)?;
    eventually(SOON, "another node announces it", || {
        let printed = one.type_in(&visit)?;
        ensure!(printed.trim() == "safe", "{printed}");
        Ok(())
    })?;
    let second = output(&mut script(&state(&one.folder))).err().map(|error| format!("{error:#}"));
    assert!(second.as_ref().is_some_and(|why| why.contains("one stands already")), "{second:?}");

    one.down()?;
    assert!(one.child.wait()?.success(), "it ended as it was asked to");
    assert_eq!(one.traces(&logs)?, Vec::<String>::new(), "after --down");
    Ok(())
}

#[test]
fn down_clears_up_after_a_playground_that_was_killed() -> Result<()> {
    if scenarios::missing().is_some() {
        eprintln!("SKIPPED l2_playground: see the other test");
        assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "nothing is skipped in CI");
        return Ok(());
    }
    let mut one = Playground::start()?;
    let logs = one.logs()?;
    one.child.kill()?;
    one.child.wait()?;
    assert!(!one.traces(&logs)?.is_empty(), "a kill leaves namespaces and folders");
    one.down()?;
    assert_eq!(one.traces(&logs)?, Vec::<String>::new(), "after --down");
    let again = one.down()?;
    assert!(again.contains("No playground stands"), "{again}");
    Ok(())
}
