//! A running `causeway-connector` with a rule file and a token of its own.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;
use tokio::process::Command;

use crate::child::{Output, Program, Reader, output};
use crate::files::Folder;
use crate::one_process;
use crate::programs::program;
use crate::wait;

/// A running connector. Dropping it kills it.
#[derive(Debug)]
pub struct Connector {
    pub program: Program,
    folder: Folder,
}

impl Connector {
    /// Starts a connector; does not wait for its sessions.
    pub fn start(token: &str, rules: &str) -> Self {
        Self::start_in(Folder::default(), token, rules, &[])
    }

    /// Starts a connector in a folder that may hold further files, with further arguments.
    pub fn start_in(folder: Folder, token: &str, rules: &str, args: &[&str]) -> Self {
        Self::start_with(folder, token, rules, args, Reader::Reads)
    }

    /// The same with variables in its environment.
    pub fn start_knowing(folder: Folder, token: &str, rules: &str, vars: &[(&str, &str)]) -> Self {
        let command = Self::command(None);
        Self::launch(command, folder, token, rules, &[], vars, Reader::Reads)
    }

    /// Starts a connector that was built otherwise.
    pub fn start_of(built: &Path, token: &str, rules: &str) -> Self {
        let command = Self::command(Some(built));
        Self::launch(command, Folder::default(), token, rules, &[], &[], Reader::Reads)
    }

    /// The same, with standard error read or not.
    pub fn start_with(folder: Folder, token: &str, rules: &str, args: &[&str], stderr: Reader) -> Self {
        Self::launch(Self::command(None), folder, token, rules, args, &[], stderr)
    }

    fn command(built: Option<&Path>) -> Command {
        Command::new(built.map_or_else(|| program("causeway-connector"), Path::to_owned))
    }

    fn launch(
        mut command: Command,
        folder: Folder,
        token: &str,
        rules: &str,
        args: &[&str],
        vars: &[(&str, &str)],
        stderr: Reader,
    ) -> Self {
        let config = folder.write("config.yml", &over_carrier(rules));
        let token = folder.write("token", token);
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        std::fs::set_permissions(&token, mode).expect("the mode of an own file can be set");
        if one_process::is_wanted() {
            one_process::connect(folder.path());
            return Self { program: Program::inside("connector"), folder };
        }
        command.arg("run").arg("--config").arg(config).arg("--token-file").arg(token);
        command.arg("--metrics").arg("127.0.0.1:0").arg("--control").arg(folder.join("control.sock"));
        command.args(args);
        without_proxies(&mut command).envs(vars.iter().copied());
        Self { program: Program::start_with("connector", command, stderr), folder }
    }

    /// Waits until it is ready: connected and its names announced.
    ///
    /// # Panics
    /// When it ends before, or is not ready in time.
    pub async fn ready(&mut self, within: Duration) -> Duration {
        let control = self.control();
        let look = || {
            assert!(self.program.runs(), "the connector ended while starting");
            let control = control.clone();
            async move { (ask(&["healthcheck", "--control", &control]).await.code == 0).then_some(()) }
        };
        wait::until("a ready connector", within, look).await.1
    }

    pub async fn status(&self) -> Value {
        ask(&["status", "--control", &self.control(), "--output", "json"]).await.json()
    }

    /// What `healthcheck` ends with: 0 when it is ready.
    pub async fn health(&self) -> i32 {
        ask(&["healthcheck", "--control", &self.control()]).await.code
    }

    /// Replaces the rules, as an editor does: the folder's watch has to notice.
    pub fn rules(&self, rules: &str) {
        self.folder.write("config.yml", &over_carrier(rules));
    }

    /// The process and its folder, for an owner that keeps processes of several kinds.
    pub fn into_parts(self) -> (Program, Folder) {
        (self.program, self.folder)
    }

    pub fn folder(&self) -> &Folder {
        &self.folder
    }

    /// The metrics page, over the address that its status names.
    pub async fn metrics(&self) -> String {
        let status = self.status().await;
        let addr = status["metrics"].as_str().and_then(|text| text.parse().ok());
        let addr = addr.unwrap_or_else(|| panic!("no metrics address in {status}"));
        crate::client::get(addr, "/metrics").await
    }

    fn control(&self) -> String {
        self.folder.join("control.sock").display().to_string()
    }
}

/// These rules over the carrier of this run: the one that `CAUSEWAY_CARRIER` names (`quic` or `tcp`), so that the whole suite runs over
/// each; what the file says where it says something.
fn over_carrier(rules: &str) -> String {
    match std::env::var("CAUSEWAY_CARRIER") {
        Ok(carrier) if !rules.contains("protocol:") => format!("{rules}\nprotocol: {carrier}\n"),
        _ => rules.to_owned(),
    }
}

/// What this machine's programs are told of proxies is nothing to those under test.
pub fn without_proxies(command: &mut Command) -> &mut Command {
    for name in ["HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "https_proxy", "all_proxy", "no_proxy"] {
        command.env_remove(name);
    }
    command
}

/// Runs `causeway-connector ARGS`.
pub async fn ask(args: &[&str]) -> Output {
    let mut command = Command::new(program("causeway-connector"));
    command.args(args);
    output(command).await
}

/// Runs `causeway-connector check` on this text.
pub async fn check(rules: &str) -> Output {
    let folder = Folder::default();
    let path: PathBuf = folder.write("config.yml", rules);
    ask(&["check", &path.display().to_string()]).await
}
