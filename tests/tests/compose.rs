//! The compose files as people use them: the commands at their heads, typed one by one, with a real docker engine.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command as Std;

use causeway_tests::child::output;
use causeway_tests::docker::Docker;
use causeway_tests::files::Certificate;
use causeway_tests::programs::here;
use causeway_tests::{needs, run};
use tokio::process::Command;

/// The engine's own bridge, which every container reaches.
const HOST: &str = "172.17.0.1:443";
/// The default listeners, with a certificate from a file: nothing is ordered from here.
const EDGE: &str =
    "acme: off\ncertificates: [{ cert: /etc/causeway/cert.pem, key: /etc/causeway/key.pem }]\n";
const NAME: &str = "hello.example.dev";
const RULES: &str =
    "ingress:\n  - { hostname: hello.example.dev, service: hello_world }\n  - service: http_status:404\n";

/// An engine with the images, and a copy of the compose files in its folder.
struct Ground {
    docker: Docker,
    compose: PathBuf,
}

impl Ground {
    async fn lay() -> Option<Self> {
        let compose = needs("docker-compose")?;
        let docker = Docker::start().await?;
        docker.build(&["edge", "connector"]).await?;
        let copied =
            Std::new("cp").arg("-r").arg(here().join("../deploy/compose")).arg(docker.folder()).status();
        assert!(copied.unwrap().success());
        Some(Self { docker, compose })
    }

    fn folder(&self, name: &str) -> PathBuf {
        self.docker.folder().join("compose").join(name)
    }

    /// Types a line into a shell on the engine's host, in the folder of a compose file.
    async fn types(&self, folder: &str, line: &str) -> String {
        // The plugin is `docker compose`, its forerunner of Debian `docker-compose`; both take these files.
        let line = line.replace("docker compose", self.compose.to_str().unwrap());
        let mut command: Command = self.docker.command("bash");
        command
            .args(["-euo", "pipefail", "-c", &line])
            .current_dir(self.folder(folder))
            .env("EDGE_ADDRESS", HOST);
        self.docker.namespace.within(output(command)).await.ok()
    }

    /// Waits until the container of a service is healthy.
    async fn healthy(&self, folder: &str, file: &str, service: &str) {
        let container = self.types(folder, &format!("docker compose -f {file} ps -q {service}")).await;
        self.docker.healthy(container.trim()).await;
    }

    async fn is_empty(&self) {
        let left = "docker ps --all --quiet; docker volume ls --quiet; docker network ls --quiet --filter type=custom";
        assert_eq!(self.types(".", left).await, "", "containers, volumes or networks are left");
    }
}

/// The commands in the comment at a file's head.
fn commands(file: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(file).unwrap();
    let head = text.lines().map_while(|line| line.strip_prefix('#'));
    let typed: Vec<&str> = head.filter_map(|line| line.strip_prefix("   ")).collect();
    // A line that ends in a pipe goes on in the next one.
    typed.join("\n").replace("|\n", "|").lines().map(str::to_owned).collect()
}

#[test]
fn the_try_out_answers_after_the_commands_at_its_head_and_leaves_nothing() {
    run(async {
        let Some(ground) = Ground::lay().await else { return };
        let commands = commands(&ground.folder("try/compose.yaml"));
        assert_eq!(commands.len(), 6, "{commands:?}");
        let mut said = Vec::new();
        for line in &commands {
            said.push(ground.types("try", line).await);
        }
        assert!(said[4].contains("Hello from Causeway"), "the page: {said:?}");
        ground.is_empty().await;
    });
}

#[test]
fn edge_and_connector_run_by_their_compose_files_and_the_state_of_one_network_serves_the_other() {
    run(async {
        let Some(ground) = Ground::lay().await else { return };
        let etc = ground.folder("edge/etc");
        std::fs::create_dir(&etc).unwrap();
        let certificate = Certificate::for_names(&[NAME]);
        for (name, text) in
            [("edge.yaml", EDGE), ("cert.pem", &certificate.cert_pem), ("key.pem", &certificate.key_pem)]
        {
            std::fs::write(etc.join(name), text).unwrap();
            std::os::unix::fs::chown(etc.join(name), Some(65532), Some(65532)).unwrap();
        }
        std::fs::write(ground.folder("connector/etc/config.yml"), RULES).unwrap();
        let ask = "curl --silent --show-error --cacert etc/cert.pem --resolve hello.example.dev:443:127.0.0.1 https://hello.example.dev/";

        ground.types("edge", "docker compose up -d").await;
        ground.healthy("edge", "compose.yaml", "edge").await;
        let create = "docker compose exec -T edge causeway-edge tunnel create home --hostname '*.example.dev' --output json";
        let created: serde_json::Value = serde_json::from_str(&ground.types("edge", create).await).unwrap();
        assert!(ground.types("edge", ask).await.contains("the way to the site"), "no connector is there yet");
        ground.types("edge", "docker compose down").await;

        // As host.yaml says to set it.
        ground.docker.namespace.sysctl(&[("ipv4/ip_unprivileged_port_start", "80")]).unwrap();
        ground.types("edge", "docker compose -f host.yaml up -d").await;
        ground.healthy("edge", "host.yaml", "edge").await;
        let token = ground.folder("connector/token");
        std::fs::write(&token, created["token"].as_str().unwrap()).unwrap();
        std::fs::set_permissions(&token, PermissionsExt::from_mode(0o400)).unwrap();
        std::os::unix::fs::chown(&token, Some(65532), Some(65532)).unwrap();
        ground.types("connector", "docker compose up -d").await;
        ground.healthy("connector", "compose.yaml", "connector").await;
        assert!(ground.types("edge", ask).await.contains("Hello from Causeway"));

        ground.types("connector", "docker compose down --volumes").await;
        ground.types("edge", "docker compose -f host.yaml down --volumes").await;
        ground.is_empty().await;
    });
}
