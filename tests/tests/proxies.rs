//! A network that nothing leads out of but a proxy: the site is served through it, over HTTP's CONNECT and over SOCKS5; and where
//! the proxy does not want to, people are told why.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use causeway_tests::child::output;
use causeway_tests::connector::{Connector, without_proxies};
use causeway_tests::edge::{Created, Edge, EdgeOptions};
use causeway_tests::files::Folder;
use causeway_tests::forward_proxy::{ForwardProxy, PASSWORD, USER};
use causeway_tests::line::{Door, requests};
use causeway_tests::netns::Namespace;
use causeway_tests::origin::{Origin, sample};
use causeway_tests::programs::program;
use causeway_tests::{needs, run, wait};
use serde_json::Value;

const EDGE: &str = "203.0.113.1";
const GATE: &str = "10.88.0.1";
/// The proxy alone knows it.
const NAME: &str = "edge.example.test:443";
const SITE: &str = "a.example.test";
const SOON: Duration = Duration::from_secs(20);

/// An edge; a home with an origin; and between them a gate that forwards nothing, where the proxy is.
struct Ground {
    edge: Edge,
    tunnel: Created,
    origin: Origin,
    home: Namespace,
    gate: Namespace,
    vps: Namespace,
    _names: Names,
}

/// `/etc/netns/NAME`: what programs of a namespace find under `/etc`. Gone with its value.
struct Names(PathBuf);

impl Names {
    fn of(namespace: &Namespace, hosts: &str) -> Self {
        let folder = PathBuf::from("/etc/netns").join(namespace.name());
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("hosts"), hosts).unwrap();
        Self(folder)
    }
}

impl Drop for Names {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

impl Ground {
    async fn new(test: &str) -> Option<Self> {
        for tool in ["tinyproxy", "microsocks", "ip"] {
            needs(tool)?;
        }
        if !rustix::process::geteuid().is_root() {
            eprintln!("SKIPPED proxies: network namespaces need root");
            assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "nothing is skipped in CI");
            return None;
        }
        let machine = |role| Namespace::new(test, role).unwrap();
        let (vps, gate, home) = (machine("vps"), machine("gate"), machine("home"));
        let [at_vps, at_home] = [&vps, &home].map(Namespace::name);
        gate.ip(&format!(
            "link add wan type veth peer name eth0 netns {at_vps}\nlink add lan type veth peer name eth0 netns {at_home}\n\
             addr add 203.0.113.2/24 dev wan\naddr add {GATE}/24 dev lan\nlink set wan up\nlink set lan up"
        ))
        .unwrap();
        vps.ip(&format!("addr add {EDGE}/24 dev eth0\nlink set eth0 up\nroute add default via 203.0.113.2"))
            .unwrap();
        home.ip(&format!("addr add 10.88.0.2/24 dev eth0\nlink set eth0 up\nroute add default via {GATE}"))
            .unwrap();
        gate.sysctl(&[("ipv4/ip_forward", "0")]).unwrap();
        let names = Names::of(&gate, &format!("127.0.0.1 localhost\n{EDGE} edge.example.test\n"));
        let at = |port| Some(format!("{EDGE}:{port}").parse().unwrap());
        let options =
            EdgeOptions { tunnel: at(443), https: at(443), address: at(443), ..EdgeOptions::default() };
        let edge = vps.within(Edge::with(options)).await;
        let tunnel = edge.create("home", &["*.example.test"]).await;
        let origin = home.within(sample()).await;
        Some(Self { edge, tunnel, origin, home, gate, vps, _names: names })
    }

    /// Lets packets through the gate.
    fn open(&self) {
        self.gate.sysctl(&[("ipv4/ip_forward", "1")]).unwrap();
    }

    fn rules(&self, lines: &str) -> String {
        let service = self.origin.addr();
        format!(
            "{lines}\ningress:\n- hostname: {SITE}\n  service: http://{service}\n- service: http_status:404\n"
        )
    }

    /// A connector whose edge is known by name, with further lines of its file; `{folder}` in them is its folder.
    async fn connector(&self, lines: &str, vars: &[(&str, &str)]) -> Connector {
        let folder = secrets(PASSWORD);
        let lines = lines.replace("{folder}", &folder.path().display().to_string());
        let rules = self.rules(&lines);
        let start = async { Connector::start_knowing(folder, &self.tunnel.token, &rules, vars) };
        self.home.within(start).await
    }

    async fn is_served(&self) {
        let door = Door::from(&self.edge);
        self.vps.within(requests(&door, SITE, Duration::ZERO, Duration::ZERO)).await.unwrap();
    }

    /// `doctor` at home with this file, and its exit code.
    async fn doctor(&self, lines: &str) -> (i32, Vec<Value>) {
        let folder = secrets(PASSWORD);
        let lines = lines.replace("{folder}", &folder.path().display().to_string());
        let config = folder.write("config.yml", &self.rules(&lines));
        let token = folder.write("token", &self.tunnel.token);
        let mut command = self.home.command(program("causeway-connector").to_str().unwrap()).into();
        without_proxies(&mut command).args(["doctor", "--output", "json", "--config"]).arg(config);
        command.arg("--token-file").arg(token).arg("--control").arg(folder.join("nobody.sock"));
        let told = output(command).await;
        assert!(!told.text().contains(PASSWORD), "{}", told.text());
        let report: Value = serde_json::from_str(&told.stdout).unwrap_or_else(|_| panic!("{}", told.text()));
        (told.code, report["findings"].as_array().unwrap().clone())
    }
}

fn secrets(password: &str) -> Folder {
    let folder = Folder::default();
    let file = folder.write("password", &format!("{password}\n"));
    std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    folder
}

fn gate(port: u16) -> SocketAddr {
    format!("{GATE}:{port}").parse().unwrap()
}

fn of<'a>(findings: &'a [Value], check: &str) -> &'a Value {
    let found = findings.iter().find(|finding| finding["check"] == check);
    found.unwrap_or_else(|| panic!("nothing of {check} in {findings:#?}"))
}

/// What the connector's sessions go over.
async fn carriers(connector: &Connector) -> Vec<String> {
    let status = connector.status().await;
    let sessions = status["edges"][0]["sessions"].as_array().cloned().unwrap_or_default();
    sessions.iter().filter_map(|session| session["carrier"].as_str().map(str::to_owned)).collect()
}

fn http() -> String {
    format!("edges: ['{NAME}']\nproxy: http://{USER}@{GATE}:3128\nproxyPasswordFile: '{{folder}}/password'")
}

#[test]
fn where_only_an_http_proxy_leads_out_the_site_is_served_through_it() {
    run(async {
        let Some(ground) = Ground::new("http").await else { return };
        let proxy = ForwardProxy::tinyproxy(&ground.gate, gate(3128), 443).await;
        let since = Instant::now();
        let mut connector = ground.connector(&http(), &[]).await;
        connector.ready(SOON).await;
        println!("ready after {:?}", since.elapsed());
        ground.is_served().await;
        assert!(carriers(&connector).await.iter().all(|over| over == "tcp"));
        let status = connector.status().await;
        assert_eq!(status["edges"][0]["proxy"], format!("http://{GATE}:3128"), "{status:#}");
        connector.program.line("QUIC does not come through", SOON).await;
        let sessions = ground.edge.all_sessions().await;
        assert!(
            sessions.iter().all(|session| session["remote"].as_str().unwrap().starts_with("203.0.113.2:")),
            "{sessions:#?}"
        );

        // The proxy is started anew: so is the session.
        drop(proxy);
        let gone = || async { carriers(&connector).await.is_empty().then_some(()) };
        wait::until("no session", SOON, gone).await;
        let _proxy = ForwardProxy::tinyproxy(&ground.gate, gate(3128), 443).await;
        connector.ready(SOON).await;
        ground.is_served().await;
        assert!(!connector.program.log_contains(PASSWORD));
    });
}

#[test]
fn where_only_a_socks_proxy_leads_out_the_site_is_served_through_it() {
    run(async {
        let Some(ground) = Ground::new("socks").await else { return };
        let _proxy = ForwardProxy::microsocks(&ground.gate, gate(1080)).await;
        let lines = format!(
            "edges: ['{NAME}']\nprotocol: tcp\nproxy: socks5h://{USER}@{GATE}\nproxyPasswordFile: '{{folder}}/password'"
        );
        let mut connector = ground.connector(&lines, &[]).await;
        connector.ready(SOON).await;
        ground.is_served().await;
        assert_eq!(connector.status().await["edges"][0]["proxy"], format!("socks5://{GATE}:1080"));
    });
}

#[test]
fn the_usual_variables_name_the_proxy_where_the_file_does_not() {
    run(async {
        let Some(ground) = Ground::new("vars").await else { return };
        let _proxy = ForwardProxy::tinyproxy(&ground.gate, gate(3128), 443).await;
        let url = format!("http://{USER}:s3cret%2Ep%2D1_@{GATE}:3128");
        let lines = format!("edges: ['{NAME}']");
        let mut connector = ground.connector(&lines, &[("https_proxy", &url)]).await;
        connector.ready(SOON).await;
        ground.is_served().await;
        drop(connector);

        // Whom it is not for is dialled directly, which leads nowhere here.
        let vars = [("HTTPS_PROXY", url.as_str()), ("NO_PROXY", "other.test, .example.test")];
        let connector = ground.connector(&format!("{lines}\nprotocol: tcp"), &vars).await;
        connector.program.line("the edge's name `edge.example.test:443` ", SOON).await;
        assert_eq!(connector.status().await["edges"][0]["proxy"], Value::Null);
        let connector = ground.connector(&format!("{lines}\nproxy: none"), &vars[..1]).await;
        connector.program.line("the connector is up", SOON).await;
        assert_eq!(connector.status().await["edges"][0]["proxy"], Value::Null);

        let connector = ground.connector(&lines, &[("ALL_PROXY", &url.replace("http:", "https:"))]).await;
        connector.program.line("ALL_PROXY is not used: TLS with the proxy itself is not spoken", SOON).await;
        assert!(!connector.program.log_contains("s3cret"));
    });
}

#[test]
fn what_a_proxy_does_not_want_is_named_in_the_log_and_in_the_status() {
    run(async {
        let Some(ground) = Ground::new("wrong").await else { return };
        let proxy = ForwardProxy::tinyproxy(&ground.gate, gate(3128), 443).await;
        let trouble = async |connector: &Connector, told: &str| {
            connector.program.line(told, SOON).await;
            let status = connector.status().await;
            let trouble = status["edges"][0]["trouble"].as_str().unwrap_or_default().to_owned();
            assert!(trouble.contains(told), "{trouble}");
            assert!(!connector.program.log_contains("s3cret"));
            trouble
        };
        let of_other = http().replace(USER, "other");
        let connector = ground.connector(&of_other, &[]).await;
        let told =
            format!("the proxy http://{GATE}:3128 does not take the user and password (401 Unauthorized)");
        let text = trouble(&connector, &told).await;
        assert!(text.contains("check the user in `proxy` and what is in `proxyPasswordFile`"), "{text}");
        // It is not asked again and again: an account may be locked for it.
        tokio::time::sleep(Duration::from_secs(5)).await;
        let asked = proxy.program.lines().iter().filter(|line| line.contains(": CONNECT ")).count();
        assert!((1..=4).contains(&asked), "asked {asked} times");
        drop(connector);

        let connector = ground
            .connector(&http().replace(&format!("{USER}@"), "").replace("proxyPasswordFile", "#"), &[])
            .await;
        trouble(&connector, &format!("the proxy http://{GATE}:3128 asks who comes (407 ")).await;
        drop((connector, proxy));

        let proxy = ForwardProxy::tinyproxy(&ground.gate, gate(3128), 8443).await;
        let connector = ground.connector(&http(), &[]).await;
        let told = format!("the proxy http://{GATE}:3128 lets nobody through to {NAME} (403 ");
        trouble(&connector, &told).await;
        drop((connector, proxy));

        let connector = ground.connector(&http(), &[]).await;
        trouble(&connector, &format!("the proxy http://{GATE}:3128 cannot be reached (")).await;
        drop(connector);

        let _proxy = ForwardProxy::microsocks(&ground.gate, gate(3128)).await;
        let connector = ground.connector(&of_other.replace("http:", "socks5:"), &[]).await;
        trouble(&connector, &format!("the proxy socks5://{GATE}:3128 does not take the user and password"))
            .await;
        drop(connector);
        let connector = ground.connector(&http(), &[]).await;
        trouble(&connector, &format!("what answers as the proxy http://{GATE}:3128 is none of that kind"))
            .await;
    });
}

#[test]
fn quic_goes_past_the_proxy_and_tcp_through_it() {
    run(async {
        let Some(ground) = Ground::new("past").await else { return };
        ground.open();
        let _proxy = ForwardProxy::tinyproxy(&ground.gate, gate(3128), 443).await;
        let with_address = http().replace(NAME, &format!("{EDGE}:443"));
        let mut connector = ground.connector(&with_address, &[]).await;
        connector.ready(SOON).await;
        assert!(carriers(&connector).await.iter().all(|over| over == "quic"));
        drop(connector);
        let mut connector = ground.connector(&format!("{with_address}\nprotocol: tcp"), &[]).await;
        connector.ready(SOON).await;
        assert!(carriers(&connector).await.iter().all(|over| over == "tcp"));
        let through = || async {
            let sessions = ground.edge.heard_sessions().await;
            (sessions > 0).then_some(())
        };
        wait::until("a session at the edge", SOON, through).await;
        let (code, findings) = ground.doctor(&with_address).await;
        assert_eq!(of(&findings, "udp")["severity"], "ok", "{findings:#?}");
        assert_eq!(of(&findings, "proxy")["severity"], "ok", "{findings:#?}");
        let carrier = of(&findings, "carrier")["cause"].as_str().unwrap();
        assert_eq!(
            carrier,
            format!("sessions go over QUIC, with TCP through the proxy http://{GATE}:3128 in reserve")
        );
        assert!(code <= 1, "{findings:#?}");
    });
}

#[test]
fn doctor_says_over_what_the_edge_is_reached_and_why_not() {
    run(async {
        let Some(ground) = Ground::new("doctor").await else { return };
        let with_address = http().replace(NAME, &format!("{EDGE}:443"));
        {
            let _proxy = ForwardProxy::tinyproxy(&ground.gate, gate(3128), 443).await;
            let (code, findings) = ground.doctor(&with_address).await;
            let udp = of(&findings, "udp");
            assert_eq!(udp["severity"], "warning", "{findings:#?}");
            let told =
                format!("UDP is not answered: sessions go over TCP through the proxy http://{GATE}:3128");
            assert!(udp["cause"].as_str().unwrap().contains(&told), "{udp:#}");
            assert!(udp["mend"].as_str().unwrap().contains("open UDP 443"), "{udp:#}");
            let carrier = of(&findings, "carrier")["cause"].as_str().unwrap();
            assert_eq!(carrier, format!("sessions go over TCP through the proxy http://{GATE}:3128"));
            assert_eq!(of(&findings, "token")["severity"], "ok", "{findings:#?}");
            assert_eq!(code, 1, "{findings:#?}");

            // Nobody at home knows the name, and nothing is tried that was not asked for.
            let (code, findings) = ground.doctor(&format!("{}\nprotocol: tcp", http())).await;
            assert_eq!(of(&findings, "edge")["severity"], "note", "{findings:#?}");
            assert_eq!(of(&findings, "token")["severity"], "ok", "{findings:#?}");
            assert!(findings.iter().all(|finding| finding["check"] != "udp"), "{findings:#?}");
            let worst = findings.iter().filter(|finding| finding["check"] != "buffers");
            assert!(worst.clone().all(|finding| finding["severity"] != "fault"), "{findings:#?}");
            assert!(code <= 1);

            let (code, findings) = ground.doctor(&with_address.replace(USER, "other")).await;
            let fault = of(&findings, "proxy");
            assert_eq!((code, &fault["severity"]), (2, &"fault".into()), "{findings:#?}");
            assert!(fault["mend"].as_str().unwrap().contains("proxyPasswordFile"), "{fault:#}");
            assert_eq!(of(&findings, "udp")["severity"], "fault", "{findings:#?}");
        }
        let (code, findings) = ground.doctor(&format!("edges: ['{EDGE}:443']")).await;
        let udp = of(&findings, "udp");
        assert_eq!((code, &udp["severity"]), (2, &"fault".into()), "{findings:#?}");
        assert!(udp["cause"].as_str().unwrap().contains("TCP leads nowhere either"), "{udp:#}");
    });
}
