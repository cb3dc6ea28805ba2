//! A running `causeway-edge`: started on port 0 with a data folder of its own, asked through its own command line.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;
use tokio::process::Command;

use crate::child::{Output, Program, Reader, output};
use crate::client::{self, Entrance};
use crate::files::Folder;
use crate::one_process;
use crate::programs::program;
use crate::wait;

/// How to start an edge.
#[derive(Debug, Default)]
pub struct EdgeOptions {
    /// Further lines of edge.yaml.
    pub config: String,
    /// The address that tokens carry; by default the bound tunnel address.
    pub address: Option<SocketAddr>,
    /// A fixed tunnel address, for an edge that comes back where it was.
    pub tunnel: Option<SocketAddr>,
    /// Where visitors come in; by default a free port of the loopback.
    pub https: Option<SocketAddr>,
    /// The same for plain HTTP.
    pub http: Option<SocketAddr>,
    /// The data folder; by default a new one.
    pub data: Option<Folder>,
    /// Where its store is, if not in the data folder.
    pub store: Option<String>,
    /// Without `--dev`: certificates come from `config`, and are ordered nowhere unless it says so.
    pub no_dev: bool,
    pub stderr: Reader,
}

/// A running edge. Dropping it kills it.
#[derive(Debug)]
pub struct Edge {
    pub program: Program,
    data: Folder,
    config: PathBuf,
    /// How it was started, and is started again beside itself.
    arguments: Vec<OsString>,
    store: Option<String>,
    pub https: SocketAddr,
    pub http: SocketAddr,
    pub tunnel: SocketAddr,
    pub admin: SocketAddr,
    trusted: Option<PathBuf>,
}

/// What `tunnel create` gave.
#[derive(Clone, Debug)]
pub struct Created {
    pub name: String,
    pub id: String,
    pub token: String,
}

impl Edge {
    pub async fn start() -> Self {
        Self::with(EdgeOptions::default()).await
    }

    /// Starts an edge and waits until it is ready.
    ///
    /// # Panics
    /// When it does not become ready.
    pub async fn with(options: EdgeOptions) -> Self {
        let data = options.data.unwrap_or_default();
        // Half of the tests look at the access log; JSON is what they can read.
        let mut config = options.config;
        if !config.contains("log:") {
            config.push_str("\nlog: { format: json, level: info }\n");
        }
        if options.no_dev && !config.contains("acme:") {
            config.push_str("\nacme: off\n");
        }
        let config = data.write("edge.yaml", &config);
        let loopback = || SocketAddr::from(([127, 0, 0, 1], 0)).to_string();
        let mut command = command();
        command.arg("run").arg("--config").arg(&config).arg("--data").arg(data.path());
        command.arg("--https").arg(options.https.map_or_else(loopback, |addr| addr.to_string()));
        command.arg("--http").arg(options.http.map_or_else(loopback, |addr| addr.to_string()));
        command.arg("--admin").arg(loopback());
        command.arg("--tunnel").arg(options.tunnel.map_or_else(loopback, |addr| addr.to_string()));
        if let Some(store) = &options.store {
            command.arg("--store").arg(store);
        }
        if let Some(address) = options.address {
            command.arg("--address").arg(address.to_string());
        }
        if !options.no_dev {
            command.arg("--dev");
        }
        let arguments = command.as_std().get_args().map(OsString::from).collect();
        let mut program = Program::start_with("edge", command, options.stderr);
        let look = || {
            let ended = !program.runs();
            let status = Self::ask(data.path(), None, &["status", "--output", "json"]);
            async move {
                assert!(!ended, "the edge ended while starting");
                let status = status.await;
                let value = serde_json::from_str::<Value>(&status.stdout).ok()?;
                Some(value["listening"].clone()).filter(Value::is_object)
            }
        };
        let (listening, _) = wait::until("the edge's status", Duration::from_secs(20), look).await;
        let address = |name: &str| {
            let value = &listening[name];
            let text = value.as_str().or_else(|| value[0].as_str());
            text.and_then(|text| text.parse().ok())
                .unwrap_or_else(|| panic!("no address {name} in {listening}"))
        };
        let (https, http) = (address("https"), address("http"));
        Self {
            https,
            http,
            tunnel: address("tunnel"),
            admin: address("admin"),
            program,
            data,
            config,
            arguments,
            store: options.store,
            trusted: None,
        }
    }

    /// Starts the next process of this edge, which takes over; gives the one before, which ends by itself.
    ///
    /// # Panics
    /// When it does not take over.
    pub async fn upgrade(&mut self) -> Program {
        let mut command = command();
        command.args(&self.arguments).arg("--take-over");
        let next = Program::start("edge", command);
        next.line("the edge is up", Duration::from_secs(20)).await;
        std::mem::replace(&mut self.program, next)
    }

    /// Runs `causeway-edge ARGS --data FOLDER`.
    pub async fn cli(&self, args: &[&str]) -> Output {
        Self::ask(self.data.path(), self.store.as_deref(), args).await
    }

    pub async fn status(&self) -> Value {
        self.cli(&["status", "--output", "json"]).await.json()
    }

    /// Creates a tunnel that may serve these names.
    ///
    /// # Panics
    /// When the command fails.
    pub async fn create(&self, name: &str, hostnames: &[&str]) -> Created {
        let mut args = vec!["tunnel", "create", name];
        for hostname in hostnames {
            args.extend(["--hostname", hostname]);
        }
        args.extend(["--output", "json"]);
        let made = self.cli(&args).await.json();
        let text = |key: &str| made[key].as_str().unwrap_or_else(|| panic!("no {key} in {made}")).to_owned();
        Created { name: name.to_owned(), id: text("id"), token: text("token") }
    }

    /// The state of one tunnel: HEALTHY, DEGRADED, DOWN, INACTIVE.
    pub async fn tunnel_state(&self, name: &str) -> String {
        let status = self.status().await;
        let tunnels = status["tunnels"].as_array().cloned().unwrap_or_default();
        let tunnel = tunnels.iter().find(|tunnel| tunnel["name"] == name);
        tunnel.and_then(|tunnel| tunnel["state"].as_str()).unwrap_or("UNKNOWN").to_owned()
    }

    /// Number of live sessions of all tunnels.
    pub async fn sessions(&self) -> usize {
        self.all_sessions().await.len()
    }

    /// Of them those that are not suspected.
    pub async fn heard_sessions(&self) -> usize {
        self.all_sessions().await.iter().filter(|session| session["suspected"] == false).count()
    }

    /// The live sessions of all tunnels, as `status` shows them.
    pub async fn all_sessions(&self) -> Vec<Value> {
        let status = self.status().await;
        let tunnels = status["tunnels"].as_array().cloned().unwrap_or_default();
        let connectors =
            tunnels.iter().flat_map(|tunnel| tunnel["connectors"].as_array().cloned().unwrap_or_default());
        connectors
            .flat_map(|connector| connector["sessions"].as_array().cloned().unwrap_or_default())
            .collect()
    }

    /// Waits until a tunnel is in this state.
    pub async fn wait_state(&self, name: &str, state: &str, within: Duration) -> Duration {
        let what = format!("tunnel {name} {state}");
        let look = || async { (self.tunnel_state(name).await == state).then_some(()) };
        wait::until(&what, within, look).await.1
    }

    /// The metrics page.
    pub async fn metrics(&self) -> String {
        client::get(self.admin, "/metrics").await
    }

    /// The sum of all samples of a metric whose labels contain each of `labels`.
    pub async fn metric(&self, name: &str, labels: &[&str]) -> f64 {
        sample(&self.metrics().await, name, labels)
    }

    /// The access log so far: one JSON object a request.
    pub fn access_log(&self) -> Vec<Value> {
        let lines = self.program.lines();
        let parsed = lines.iter().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        parsed.filter(|value| value["target"] == "access").map(flattened).collect()
    }

    /// Waits for the access log line of this path.
    pub async fn access_line(&self, path: &str) -> Value {
        let look = || {
            let found = self.access_log().into_iter().find(|line| line["path"] == path);
            std::future::ready(found)
        };
        wait::until(&format!("an access log line of {path}"), Duration::from_secs(5), look).await.0
    }

    pub fn data(&self) -> &Folder {
        &self.data
    }

    pub fn config(&self) -> &std::path::Path {
        &self.config
    }

    /// The certificate authority that visitors must trust.
    pub fn ca(&self) -> PathBuf {
        self.trusted.clone().unwrap_or_else(|| self.data.join("dev-ca.pem"))
    }

    /// Its visitors are shown the certificates of others.
    pub fn trust(&mut self, ca: PathBuf) {
        self.trusted = Some(ca);
    }

    /// Kills it at once and gives back the data folder, for an edge that starts again.
    pub async fn kill(mut self) -> Folder {
        self.program.kill().await;
        self.data
    }

    /// Asks it to stop (SIGTERM), waits for its end, and gives back the data folder.
    ///
    /// # Panics
    /// When it does not end by itself, or not well.
    pub async fn stop(mut self) -> Folder {
        self.program.terminate();
        let status = self.program.ended(Duration::from_secs(40)).await;
        assert!(status.success(), "{status}");
        self.data
    }

    /// Runs `causeway-edge ARGS --data FOLDER`, whether an edge runs there or not.
    pub async fn ask(data: &std::path::Path, store: Option<&str>, args: &[&str]) -> Output {
        let mut command = Command::new(program("causeway-edge"));
        command.args(args).arg("--data").arg(data);
        if let Some(store) = store {
            command.arg("--store").arg(store);
        }
        output(command).await
    }
}

/// The program that is an edge, or is one beside its connectors.
fn command() -> Command {
    if !one_process::is_wanted() {
        return Command::new(program("causeway-edge"));
    }
    let mut command = Command::new(one_process::program());
    command.arg(one_process::connectors());
    command
}

impl Entrance for Edge {
    fn https(&self) -> SocketAddr {
        self.https
    }

    fn http3(&self) -> SocketAddr {
        self.tunnel
    }

    fn ca(&self) -> PathBuf {
        self.ca()
    }
}

/// A log event with its fields at the top, whichever of the two forms the subscriber writes.
fn flattened(mut event: Value) -> Value {
    if let Value::Object(fields) = event["fields"].take() {
        let event = event.as_object_mut().expect("an event is an object");
        event.extend(fields);
    }
    event
}

/// The one sample of a metric without labels.
///
/// # Panics
/// When the page does not have it: a figure that is absent must not be taken for zero.
pub fn gauge(page: &str, name: &str) -> f64 {
    let line = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    let value = line.and_then(|value| value.trim().parse().ok());
    value.unwrap_or_else(|| panic!("no metric {name} on the page:\n{page}"))
}

/// The sum of all samples of `name` whose labels contain each of `labels`, on a metrics page.
pub fn sample(page: &str, name: &str, labels: &[&str]) -> f64 {
    let of_name = page.lines().filter(|line| {
        line.strip_prefix(name).is_some_and(|rest| rest.starts_with('{') || rest.starts_with(' '))
    });
    let wanted = of_name.filter(|line| labels.iter().all(|label| line.contains(label)));
    wanted.filter_map(|line| line.rsplit(' ').next().and_then(|value| value.parse::<f64>().ok())).sum()
}
