//! The metrics pages of real programs, after everything has happened to them that makes a series appear.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use causeway_tests::client::{Http1, tls_connect};
use causeway_tests::cluster::{Cluster, Programs, SOON, TEST, eventually, path, service};
use causeway_tests::connector::Connector;
use causeway_tests::edge::{Edge, EdgeOptions};
use causeway_tests::files::{Certificate, Folder};
use causeway_tests::origin::{closed_port, http, sample};
use causeway_tests::relay::Relay;
use causeway_tests::wait;
use tokio::net::TcpStream;

use super::promql::Expression;

const START: Duration = Duration::from_secs(20);

/// What Prometheus adds to every series, and knows by itself.
const ADDED: [&str; 2] = ["instance", "job"];
const ITS_OWN: [&str; 1] = ["up"];

/// The names of all series with their labels.
#[derive(Debug, Default)]
pub(crate) struct Pages(BTreeMap<String, BTreeSet<String>>);

impl Pages {
    fn add(&mut self, page: &str) {
        let label = regex::Regex::new("([a-z_]+)=\"").unwrap();
        for line in page.lines().filter(|line| !line.starts_with('#')) {
            let (name, rest) = line.split_at(line.find(['{', ' ']).unwrap_or(line.len()));
            let labels =
                rest.strip_prefix('{').and_then(|rest| rest.rsplit_once("} ")).map_or("", |(l, _)| l);
            let names = label.captures_iter(labels).map(|label| label[1].to_owned());
            self.0.entry(name.to_owned()).or_default().extend(names);
        }
    }

    pub(crate) fn knows(&self, name: &str) -> bool {
        // A histogram has no series of its bare name.
        self.0.contains_key(name) || self.0.contains_key(&format!("{name}_bucket"))
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    pub(crate) fn labels(&self, name: &str) -> BTreeSet<&str> {
        let bucket = format!("{name}_bucket");
        let of = |name: &str| self.0.get(name).into_iter().flatten().map(String::as_str);
        of(name).chain(of(&bucket)).collect()
    }

    /// What an expression names that no program exports.
    pub(crate) fn complaints(&self, expression: &Expression) -> Vec<String> {
        let mut wrong = Vec::new();
        for (name, matched) in &expression.metrics {
            if ITS_OWN.contains(&name.as_str()) {
                continue;
            }
            if !self.0.contains_key(name) {
                wrong.push(format!("no program exports {name}"));
                continue;
            }
            let labels = self.labels(name);
            wrong.extend(
                matched
                    .iter()
                    .filter(|label| !labels.contains(label.as_str()))
                    .map(|label| format!("{name} has no label {label}")),
            );
        }
        wrong.extend(self.unknown_labels(expression, expression.labels.clone()));
        wrong
    }

    /// Those that no metric of the expression has.
    pub(crate) fn unknown_labels(&self, expression: &Expression, labels: Vec<String>) -> Vec<String> {
        let names: Vec<_> = expression.metrics.iter().map(|(name, _)| name.as_str()).collect();
        let has = |label: &str| {
            ADDED.contains(&label) || names.iter().any(|name| self.labels(name).contains(label))
        };
        let unknown = labels.into_iter().filter(|label| !has(label));
        unknown.map(|label| format!("none of {names:?} has a label {label}")).collect()
    }

    /// Adds what an allocator and a speaker export who have given and announced an address.
    pub(crate) fn add_cluster(&mut self) {
        if !rustix::process::geteuid().is_root() || Programs::find().is_err() {
            assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "nothing is skipped in CI");
            eprintln!("SKIPPED metrics of the cluster: needs root and tests/kubernetes/prepare");
            // What it would have found out is taken on trust.
            for name in CLUSTER {
                let labels = ["ip", "node", "pool", "service", "le"].map(str::to_owned);
                self.0.insert(name.to_owned(), labels.into());
            }
            return;
        }
        let cluster = Cluster::start("monitor", 1).unwrap();
        cluster.announce_pool("home", &["10.77.9.1-10.77.9.9"]).unwrap();
        cluster.create(&[&service("web")]).unwrap();
        let given = path("Service", TEST, "web");
        eventually(3 * SOON, "the Service has an address", || {
            let service = cluster.api.get(&given)?;
            anyhow::ensure!(service["status"]["loadBalancer"]["ingress"][0]["ip"].is_string());
            Ok(())
        })
        .unwrap();
        let speaker = eventually(3 * SOON, "the speaker announces it", || {
            let page = cluster.speaker_metrics(0)?;
            anyhow::ensure!(page.contains("metallb_speaker_announced{"), "{page}");
            Ok(page)
        });
        self.add(&speaker.unwrap());
        self.add(&cluster.allocator_metrics().unwrap());
    }
}

/// What the rules and the dashboard look at in a cluster.
const CLUSTER: [&str; 13] = [
    "causeway_speaker_conflicts",
    "causeway_speaker_members",
    "causeway_speaker_take_over_seconds_bucket",
    "causeway_speaker_take_over_seconds_count",
    "causeway_allocator_latency_seconds_bucket",
    "causeway_allocator_leader_bool",
    "causeway_allocator_services_contested",
    "causeway_allocator_services_pending",
    "metallb_allocator_addresses_in_use_total",
    "metallb_allocator_addresses_total",
    "metallb_k8s_client_config_loaded_bool",
    "metallb_k8s_client_config_stale_bool",
    "metallb_speaker_announced",
];

/// A request from a connection of its own, whose answer is waited for.
async fn ask(edge: &Edge, host: &str, target: &str) -> u16 {
    let mut visitor = Http1::plain(edge.http).await;
    visitor
        .send(format!("GET {target} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n").as_bytes())
        .await;
    visitor.answer("GET").await.map_or(0, |answer| answer.status)
}

/// More than one address may have: connections, and requests in flight.
async fn overdo(edge: &Edge) {
    let mut waiting = Vec::new();
    for _ in 0..12 {
        let mut visitor = Http1::plain(edge.http).await;
        visitor.send(b"GET /slow/60000 HTTP/1.1\r\nhost: app.example.test\r\n\r\n").await;
        waiting.push(visitor);
    }
    wait_for(edge, "causeway_edge_requests_refused_total{").await;
    let mut connections = Vec::new();
    for _ in 0..40 {
        connections.extend(TcpStream::connect(edge.http).await);
    }
    wait_for(edge, "causeway_edge_connections_refused_total{").await;
}

async fn wait_for(edge: &Edge, sample: &str) {
    let look = || async { edge.metrics().await.contains(sample).then_some(()) };
    wait::until(sample, START, look).await;
}

/// An edge and a connector to whom everything happens that the alerts are about.
pub(crate) async fn of_edge_and_connector() -> Pages {
    let mut pages = Pages::default();
    let origin = sample().await;
    let relay = Relay::start().await;
    let folder = Folder::default();
    let shown = Certificate::for_names(&["file.example.test", "home.example.test"]);
    for (file, text) in [("cert.pem", &shown.cert_pem), ("key.pem", &shown.key_pem)] {
        folder.write(file, text);
    }
    let (at, down) = (folder.path().display(), closed_port());
    // An authority that does not answer: what it is asked for fails.
    let authority = format!("acme: {{ directory: [\"https://{}/dir\"] }}\n", closed_port());
    let config = format!(
        "{authority}certificates: [{{ cert: {at}/cert.pem, key: {at}/key.pem }}]\n\
         limits: {{ connectionsPerIp: 30, requestsPerIp: 8 }}\n"
    );
    let options = EdgeOptions { config, address: Some(relay.addr()), no_dev: true, ..EdgeOptions::default() };
    let edge = Edge::with(options).await;
    relay.lead_to(edge.tunnel);
    let tunnel = edge.create("home", &["*.example.test"]).await;
    let rules = format!(
        "{authority}data: {at}/state\ncertificateFolders: [{at}]\ningress:\n\
         - {{ hostname: app.example.test, service: \"{0}\", http: serve }}\n\
         - {{ hostname: down.example.test, service: \"http://{down}\", http: serve }}\n\
         - {{ hostname: home.example.test, service: \"{0}\", tls: connector }}\n\
         - {{ hostname: order.example.test, service: \"{0}\", tls: connector }}\n\
         - service: http_status:404\n",
        http(&origin)
    );
    let mut connector = Connector::start(&tunnel.token, &rules);
    connector.ready(START).await;
    assert_eq!(ask(&edge, "app.example.test", "/bytes/9").await, 200);
    assert_eq!(ask(&edge, "down.example.test", "/").await, 502);
    ask(&edge, "nobody.invalid", "/").await;
    let ca = folder.join("cert.pem");
    let at_home = tls_connect(edge.https, &ca, "home.example.test", &["http/1.1"]).await.unwrap();
    let mut visitor = Http1::over(at_home);
    visitor.send(b"GET / HTTP/1.1\r\nhost: home.example.test\r\nconnection: close\r\n\r\n").await;
    visitor.answer("GET").await.unwrap();
    overdo(&edge).await;

    let gone = edge.create("gone", &["gone.test"]).await;
    edge.cli(&["tunnel", "revoke", "gone"]).await.ok();
    let _turned_away = Connector::start(&gone.token, "ingress: [{ service: hello_world }]");
    wait_for(&edge, "causeway_edge_handshakes_refused_total{").await;
    wait_for(&edge, "causeway_edge_certificate_failures{").await;
    let failed = || async {
        let page = connector.metrics().await;
        page.contains("causeway_connector_certificate_failures{").then_some(page)
    };
    wait::until("failed orders at home", START, failed).await;
    connector.rules("ingress: none");
    let refused = || async {
        connector.metrics().await.contains("causeway_connector_config_reloads_total{").then_some(())
    };
    wait::until("a change of the rules that is refused", START, refused).await;
    for page in [edge.metrics().await, connector.metrics().await] {
        pages.add(&page);
    }

    relay.cut();
    wait_for(&edge, "causeway_edge_sessions_suspected{").await;
    pages.add(&edge.metrics().await);
    pages
}
