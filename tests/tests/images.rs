//! The images in a real docker engine: what they hold, that requests go through them under the hardest flags, and how they stop.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use causeway_tests::child::output;
use causeway_tests::client::{Answer, Entrance, Protocol, visit};
use causeway_tests::docker::{Docker, HARD};
use causeway_tests::origin::{Origin, Speak};
use causeway_tests::programs::here;
use causeway_tests::{run, wait};

/// What an image may have at most, of programs as they are shipped (`tests/run --long`).
const LARGEST_BYTES: u64 = 25_000_000;
/// What an image may have beside its programs.
const BESIDE_BYTES: u64 = 500_000;
/// What a stop may take when there is nothing to wait for.
const AT_ONCE: Duration = Duration::from_secs(1);
const SOON: Duration = Duration::from_secs(20);
const NAME: &str = "app.example.test";
const EDGE: &str = "edge";
/// As the line that `tunnel create` prints names it.
const CONNECTOR: &str = "causeway-connector";
/// What containers know their host by: the address of docker's own bridge.
const HOST: &str = "172.17.0.1";

#[test]
fn an_image_is_small_and_holds_its_static_program_the_authorities_and_nothing_else() {
    run(async {
        let Some(docker) = Docker::start().await else { return };
        let Some(()) = docker.build(&["edge", "connector", "l2"]).await else { return };
        let held = |image: &str| {
            let mut files = vec!["etc/ssl/certs/ca-certificates.crt".to_owned()];
            match image {
                "l2" => files
                    .extend(["allocator", "speaker"].map(|name| format!("usr/local/bin/causeway-{name}"))),
                _ => files.extend([
                    format!("usr/local/bin/causeway-{image}"),
                    format!("var/lib/causeway-{image}/"),
                ]),
            }
            files
        };
        for image in ["edge", "connector", "l2"] {
            let name = format!("causeway-{image}:{}", env!("CARGO_PKG_VERSION"));
            let seen = docker.inspect(&name).await;
            let (size, programs) = (seen["Size"].as_u64().unwrap(), size_of_programs(&held(image)));
            assert!(size < programs + BESIDE_BYTES, "{name}: {size} bytes, {programs} of them programs");
            let is_shipped = std::env::var_os("CAUSEWAY_SHIPPED").is_some();
            assert!(!is_shipped || size <= LARGEST_BYTES, "{name}: {size} bytes");
            assert_eq!(seen["Config"]["User"], "65532:65532", "{name}");
            assert_eq!(
                seen["Config"]["Labels"]["org.opencontainers.image.version"],
                env!("CARGO_PKG_VERSION")
            );
            assert_eq!(files(&docker, &name).await, held(image), "{name}");
            for program in held(image).iter().filter_map(|file| file.strip_prefix("usr/local/bin/")) {
                let version =
                    [&["run", "--rm", "--entrypoint", program][..], &HARD, &[name.as_str(), "--version"]]
                        .concat();
                assert_eq!(
                    docker.docker(&version).await.ok().trim(),
                    format!("{program} {}", env!("CARGO_PKG_VERSION"))
                );
            }
        }
    });
}

/// What the programs among these files have, where they were taken from.
fn size_of_programs(files: &[String]) -> u64 {
    let folder = PathBuf::from(std::env::var_os("CAUSEWAY_STATIC_DIR").unwrap());
    let programs = files.iter().filter_map(|file| file.strip_prefix("usr/local/bin/"));
    programs.map(|name| std::fs::metadata(folder.join(name)).unwrap().len()).sum()
}

/// The files of an image, and the folders that are empty, without what docker puts beside them.
async fn files(docker: &Docker, image: &str) -> Vec<String> {
    let container = docker.docker(&["create", image, "none"]).await.ok();
    let archive = docker.folder().join("image.tar");
    docker.docker(&["export", "--output", archive.to_str().unwrap(), container.trim()]).await.ok();
    let mut command = docker.command("tar");
    command.arg("-tf").arg(&archive);
    let listed = output(command).await.ok();
    let dockers =
        ["dev/", "proc/", "sys/", ".dockerenv", "etc/hostname", "etc/hosts", "etc/mtab", "etc/resolv.conf"];
    let own = |entry: &&str| !dockers.iter().any(|of_docker| entry.starts_with(of_docker));
    let entries: Vec<&str> = listed.lines().filter(own).collect();
    let is_within = |other: &&str, entry: &str| other.len() > entry.len() && other.starts_with(entry);
    let mut files: Vec<String> = entries
        .iter()
        .filter(|entry| !(entry.ends_with('/') && entries.iter().any(|other| is_within(other, entry))))
        .map(ToString::to_string)
        .collect();
    files.sort();
    files
}

/// An edge and a connector in containers, and an origin on their host.
struct Road {
    docker: Docker,
    origin: Origin,
    ca: PathBuf,
}

impl Entrance for Road {
    fn https(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, 8443))
    }

    fn ca(&self) -> PathBuf {
        self.ca.clone()
    }
}

impl Road {
    async fn open(docker: Docker) -> Self {
        let anywhere = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
        let origin = docker.namespace.within(Origin::tcp(anywhere, Speak::Http1)).await.unwrap();
        docker.docker(&["network", "create", "road"]).await.ok();
        let ca = docker.folder().join("ca.pem");
        let road = Self { docker, origin, ca };
        road.start_edge().await;
        let copied = ["cp", "edge:/var/lib/causeway-edge/dev-ca.pem", road.ca.to_str().unwrap()];
        road.docker.docker(&copied).await.ok();
        let create = format!("exec edge causeway-edge tunnel create home --hostname {NAME} --output json");
        let created = road.docker.docker(&create.split(' ').collect::<Vec<_>>()).await.json();
        road.start_connector(created["command"].as_str().unwrap()).await;
        road
    }

    /// Pastes the line that `tunnel create` printed, as it is, in an empty folder; then writes the rules beside the token.
    async fn start_connector(&self, line: &str) {
        let home = self.docker.folder().join("home");
        std::fs::create_dir(&home).unwrap();
        let service = format!("http://{HOST}:{}", self.origin.addr().port());
        let rule = format!(
            "{{ hostname: {NAME}, service: '{service}', originRequest: {{ httpHostHeader: inside.test }} }}"
        );
        let rules = format!("ingress:\n  - {rule}\n  - service: http_status:404\n");
        let mut command = self.docker.command("bash");
        command.args(["-euc", line]).current_dir(&home);
        output(command).await.ok();
        // Here the edge is known by its name within a network of docker's; elsewhere by its address.
        self.docker.docker(&["network", "connect", "road", CONNECTOR]).await.ok();
        assert_eq!(self.docker.inspect(CONNECTOR).await["HostConfig"]["ReadonlyRootfs"], true);
        // The hello page, until there are rules.
        self.is_open().await;
        std::fs::write(home.join("causeway/config.yml"), rules).unwrap();
        let look = || async { self.visit("/inspect").await.text().starts_with('{').then_some(()) };
        wait::until("the rules to be read", SOON, look).await;
    }

    /// Waits until visitors get through.
    async fn is_open(&self) {
        let look = || async { (self.visit("/").await.status == 200).then_some(()) };
        wait::until("a site that answers", SOON, look).await;
    }

    async fn start_edge(&self) {
        let image = concat!("causeway-edge:", env!("CARGO_PKG_VERSION"));
        let common = ["run", "--detach", "--name", EDGE, "--network", "road", "--health-interval", "300ms"];
        let outside = ["--publish", "127.0.0.1:8443:443", "--volume", "state:/var/lib/causeway-edge", image];
        let inside =
            "run --dev --https 0.0.0.0:443 --http 0.0.0.0:80 --tunnel 0.0.0.0:443 --address edge:443";
        let inside: Vec<&str> = inside.split(' ').collect();
        self.docker.docker(&[&common[..], &HARD, &outside, &inside].concat()).await.ok();
        self.docker.healthy(EDGE).await;
    }

    async fn visit(&self, path: &str) -> Answer {
        self.docker.namespace.within(visit(self, Protocol::Http2, &format!("https://{NAME}{path}"))).await
    }

    /// Stops a container while a request is under way; the exit code.
    async fn stop_under_way(&self, name: &str) -> i64 {
        let stop = async {
            wait::holds("a request at the origin", SOON, || self.origin.counters().running() > 0).await;
            self.docker.stop(name).await.1
        };
        let (answer, code) = tokio::join!(self.visit("/slow/2000"), stop);
        assert_eq!(answer.ok().text(), "slow\n");
        code
    }

    /// Starts a container that was stopped.
    async fn start_again(&self, name: &str) {
        self.docker.docker(&["start", name]).await.ok();
        self.docker.healthy(EDGE).await;
        self.is_open().await;
    }
}

#[test]
fn requests_go_from_container_to_container_and_a_stop_waits_for_them_alone() {
    run(async {
        let Some(docker) = Docker::start().await else { return };
        let Some(()) = docker.build(&["edge", "connector"]).await else { return };
        let road = Road::open(docker).await;

        let seen = road.visit("/inspect").await.ok().json();
        let host = seen["headers"].as_array().unwrap().iter().find(|header| header[0] == "host").unwrap();
        assert_eq!(host[1], "inside.test", "the Host that the rule names: {seen}");
        assert_eq!(road.visit("/bytes/20000000").await.ok().body.len(), 20_000_000);

        for name in [CONNECTOR, EDGE] {
            let (took, code) = road.docker.stop(name).await;
            assert!(took < AT_ONCE && code == 0, "an idle {name} ended after {took:?} with {code}");
            road.start_again(name).await;
        }
        for name in [CONNECTOR, EDGE] {
            assert_eq!(road.stop_under_way(name).await, 0, "{name} ends in good order");
            road.start_again(name).await;
        }

        // An upgrade: another container on the same volume knows the tunnel, and is known by its key.
        road.docker.stop(EDGE).await;
        road.docker.docker(&["rm", EDGE]).await.ok();
        road.start_edge().await;
        road.is_open().await;
        // Docker itself asks the connector as well.
        road.docker.healthy(CONNECTOR).await;
    });
}

#[test]
fn the_dockerfiles_build_with_the_toolchain_of_this_tree() {
    let root = here().join("..");
    let read = |name: &str| std::fs::read_to_string(root.join(name)).unwrap();
    let toolchain = read("rust-toolchain.toml");
    let version = toolchain.split('"').nth(1).unwrap();
    for image in ["edge", "connector", "l2"] {
        let dockerfile = read(&format!("deploy/docker/{image}.Dockerfile"));
        assert!(dockerfile.contains(&format!("FROM rust:{version}-slim-bookworm AS build\n")), "{image}");
        assert!(dockerfile.contains(&format!("ENV RUSTUP_TOOLCHAIN={version}\n")), "{image}");
    }
}
