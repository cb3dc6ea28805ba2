//! The two machines with docker, as the documents have people set them up: the edge on the VPS, the connectors at home.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use causeway_tests::child::output;
use causeway_tests::client::Entrance;
use causeway_tests::cluster::Namespace;
use causeway_tests::docker::{Docker, HARD};
use causeway_tests::pebble::Place;
use causeway_tests::wait;

use crate::cluster::{INSIDE, Sites};
use crate::ground::VPS;
use crate::visitor::{APPS, BLOG};

const EDGE: &str = "edge";
/// As the line that `tunnel create` prints names it.
pub(super) const FIRST: &str = "causeway-connector";
const SECOND: &str = "second";
const TUNNEL: &str = "home";
/// Of a log in a failure's report.
const LINES: usize = 60;
const SOON: Duration = Duration::from_secs(30);
/// How long a stop waits for a WebSocket that nobody ends; a person would leave the 30 s that are the default, and wait for them.
pub(super) const GRACE: Duration = Duration::from_secs(2);

/// An engine on a machine, with one of the images; `None` where there can be none.
pub(super) async fn engine(machine: &Namespace, image: &str) -> Option<Docker> {
    let docker = Docker::start_in(|| machine.clone()).await?;
    docker.build(&[image]).await?;
    Some(docker)
}

pub(super) struct Vps(Docker);

impl Vps {
    /// Runs the edge, which gets its certificates from the authority at `place`.
    pub(super) async fn set_up(docker: Docker, place: &Place) -> Result<Self> {
        let etc = docker.folder().join("etc");
        std::fs::create_dir(&etc)?;
        std::fs::copy(place.ca(), etc.join("authority.pem"))?;
        let acme = place.config("").replace(&place.ca().display().to_string(), "/etc/causeway/authority.pem");
        std::fs::write(etc.join("edge.yaml"), format!("{acme}grace: {}s\n", GRACE.as_secs()))?;
        let address = format!("{VPS}:443");
        let mount = format!("{}:/etc/causeway:ro", etc.display());
        let image = concat!("causeway-edge:", env!("CARGO_PKG_VERSION"));
        let run = ["run", "--detach", "--name", EDGE, "--restart", "unless-stopped", "--stop-timeout", "40"];
        let ports =
            ["-p", "80:80", "-p", "443:443", "-p", "443:443/udp", "-v", "edge:/var/lib/causeway-edge"];
        let rest = ["-v", &mount, image, "run", "--address", &address];
        docker.docker(&[&run[..], &HARD, &ports, &rest].concat()).await.ok();
        docker.healthy(EDGE).await;
        Ok(Self(docker))
    }

    /// A tunnel for all names; the line to paste at home.
    pub(super) async fn create_tunnel(&self) -> Result<String> {
        let created =
            ["exec", EDGE, "causeway-edge", "tunnel", "create", TUNNEL, "--hostname", "*.example.test"];
        let created = self.0.docker(&[&created[..], &["--output", "json"]].concat()).await.json();
        created["command"].as_str().map(str::to_owned).context("`tunnel create` prints a command")
    }

    /// Waits until both names have their certificates.
    pub(super) async fn has_certificates(&self) {
        let look = || async {
            let listed = self.0.docker(&["exec", EDGE, "causeway-edge", "cert", "list"]).await.ok();
            let is_valid = |name| listed.lines().any(|line| line.contains(name) && line.contains("VALID"));
            [BLOG, APPS].into_iter().all(is_valid).then_some(())
        };
        wait::until("certificates for both names", SOON, look).await;
    }

    /// Waits until so many connectors are connected, of which all are heard.
    pub(super) async fn has_connectors(&self, count: usize) {
        let look = || async {
            let shown = self.0.docker(&["exec", EDGE, "causeway-edge", "status", "--output", "json"]).await;
            let status: serde_json::Value = serde_json::from_str(&shown.stdout).ok()?;
            let tunnel = status["tunnels"].as_array()?.iter().find(|tunnel| tunnel["name"] == TUNNEL)?;
            let is_whole = tunnel["state"] == "HEALTHY" && tunnel["connectors"].as_array()?.len() == count;
            is_whole.then_some(())
        };
        wait::until(&format!("a healthy tunnel of {count} connectors"), 2 * SOON, look).await;
    }

    pub(super) async fn restart_edge(&self) {
        self.0.docker(&["restart", EDGE]).await.ok();
    }

    pub(super) async fn log(&self) -> String {
        log(&self.0, EDGE).await
    }
}

pub(super) struct Home {
    docker: Docker,
    folder: PathBuf,
}

impl Home {
    /// Writes the rules into the folder that the line to paste makes if it is not there.
    pub(super) fn new(docker: Docker, sites: &Sites) -> Result<Self> {
        let folder = docker.folder().join("home");
        std::fs::create_dir_all(folder.join("causeway"))?;
        std::fs::write(folder.join("causeway/config.yml"), rules(sites))?;
        Ok(Self { docker, folder })
    }

    /// Pastes the line.
    pub(super) async fn start(&self, line: &str) -> Result<()> {
        self.paste(line).await;
        self.docker.healthy(FIRST).await;
        let kept = self.docker.inspect(FIRST).await["HostConfig"].take();
        ensure!(kept["ReadonlyRootfs"] == true && kept["CapDrop"][0] == "ALL", "it is locked down: {kept}");
        ensure!(kept["PortBindings"].as_object().is_none_or(serde_json::Map::is_empty), "it opens no port");
        Ok(())
    }

    async fn paste(&self, line: &str) {
        let mut command = self.docker.command("bash");
        command.args(["-euc", line]).current_dir(&self.folder);
        output(command).await.ok();
    }

    /// The same line once more, for a container of another name.
    pub(super) async fn add_second(&self, line: &str) {
        self.paste(&line.replace(&format!("--name {FIRST}"), &format!("--name {SECOND}"))).await;
        self.docker.healthy(SECOND).await;
    }

    pub(super) async fn restart(&self, container: &str) {
        self.docker.docker(&["restart", container]).await.ok();
    }

    pub(super) async fn kill(&self, container: &str) {
        self.docker.docker(&["kill", container]).await.ok();
    }

    pub(super) async fn logs(&self) -> String {
        format!("{}{}", log(&self.docker, FIRST).await, log(&self.docker, SECOND).await)
    }
}

/// The end of a container's log, without its requests.
async fn log(docker: &Docker, container: &str) -> String {
    let whole = docker.docker(&["logs", container]).await.text();
    let lines: Vec<&str> = whole.lines().filter(|line| !line.contains(" access: ")).collect();
    lines[lines.len().saturating_sub(LINES)..].join("\n") + "\n"
}

/// Names to VIPs, the second with the Host that its ingress knows.
fn rules(sites: &Sites) -> String {
    format!(
        "gracePeriod: {}s\ningress:\n  - {{ hostname: {BLOG}, service: 'http://{}' }}\n  \
         - {{ hostname: {APPS}, service: 'http://{}', originRequest: {{ httpHostHeader: {INSIDE} }} }}\n  \
         - service: http_status:404\n",
        GRACE.as_secs(),
        sites.blog,
        sites.apps
    )
}
