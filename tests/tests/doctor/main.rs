//! The two `doctor` commands find what keeps visitors from the origins, and name the mend: ten faults that were planted, and nothing
//! where nothing is wrong.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod ground;

use std::time::{Duration, SystemTime};

use causeway_tests::connector::Connector;
use causeway_tests::edge::{Edge, EdgeOptions};
use causeway_tests::files::{Certificate, Folder};
use causeway_tests::origin::scripted::Scripted;
use causeway_tests::origin::{closed_port, http, sample, sample_tls};
use causeway_tests::run;

use ground::{EDGE, Ground, VIP, doctor, doctor_with, says};

const START: Duration = Duration::from_secs(20);

/// Namespaces are root's.
fn may_run() -> bool {
    let may = rustix::process::geteuid().is_root();
    if !may {
        eprintln!("SKIPPED doctor: needs root");
        assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "nothing is skipped in CI");
    }
    may
}

fn hosts(names: &[&str]) -> String {
    names.iter().map(|name| format!("{EDGE} {name}.example.test\n")).collect()
}

/// Writes a certificate for these names that is good until this year, and the lines of edge.yaml that name it.
fn certificate(folder: &Folder, file: &str, names: &[&str], until: i32) -> String {
    let names: Vec<String> = names.iter().map(|name| format!("{name}.example.test")).collect();
    let mut wanted = rcgen::CertificateParams::new(names).unwrap();
    (wanted.not_before, wanted.not_after) =
        (rcgen::date_time_ymd(2020, 1, 1), rcgen::date_time_ymd(until, 1, 1));
    let key = rcgen::KeyPair::generate().unwrap();
    let cert = wanted.self_signed(&key).unwrap();
    let cert = folder.write(&format!("{file}.pem"), &cert.pem());
    let key = folder.write(&format!("{file}.key"), &key.serialize_pem());
    format!("- {{ cert: {}, key: {} }}\n", cert.display(), key.display())
}

async fn edge(ground: &Ground, config: String, http_port: u16) -> Edge {
    let at = |port| Some(format!("{EDGE}:{port}").parse().unwrap());
    let options = EdgeOptions {
        config,
        address: at(443),
        tunnel: at(443),
        https: at(443),
        http: at(http_port),
        no_dev: true,
        ..EdgeOptions::default()
    };
    ground.vps.within(Edge::with(options)).await
}

fn rule(name: &str, service: impl std::fmt::Display) -> String {
    format!("- {{ hostname: {name}.example.test, service: \"{service}\" }}\n")
}

/// A library that makes the kernel look like one with its usual limit on UDP buffers, to a program that is started with it: the
/// limit itself is the whole machine's, and no test's to change.
fn small_buffers(folder: &Folder) -> String {
    let code = folder.write(
        "small.c",
        "#define _GNU_SOURCE\n#include <sys/socket.h>\n#include <unistd.h>\n#include <sys/syscall.h>\n\
         int setsockopt(int fd, int level, int name, const void *value, socklen_t length) {\n\
             int limit = 212992;\n\
             if (level == SOL_SOCKET && (name == SO_RCVBUF || name == SO_SNDBUF) && *(const int *)value > limit) value = &limit;\n\
             return syscall(SYS_setsockopt, fd, level, name, value, length);\n\
         }\n",
    );
    let library = folder.join("small.so");
    let built =
        std::process::Command::new("cc").args(["-shared", "-fPIC", "-o"]).args([&library, &code]).status();
    assert!(built.unwrap().success());
    library.display().to_string()
}

#[test]
fn where_nothing_is_wrong_both_doctors_say_so_whether_the_programs_run_or_not() {
    if !may_run() {
        return;
    }
    run(async {
        let ground = Ground::new("well", &hosts(&["app"]));
        let folder = Folder::default();
        let certificates = certificate(&folder, "good", &["app"], 2090);
        let edge = edge(&ground, format!("certificates:\n{certificates}"), 80).await;
        let tunnel = edge.create("home", &["app.example.test"]).await;
        let origin = ground.home.within(sample()).await;
        let rules = format!("ingress:\n{}- service: http_status:404\n", rule("app", http(&origin)));
        let at_home = Folder::default();
        let file = at_home.write("config.yml", &rules).display().to_string();
        let token = at_home.write("token", &tunnel.token).display().to_string();
        std::fs::set_permissions(&token, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        let socket = at_home.join("control.sock").display().to_string();
        let args = ["--config", &file, "--token-file", &token, "--control", &socket];

        let before = doctor(&ground.home, "causeway-connector", &args).await;
        // The tunnel grants one name, and the last rule takes all.
        assert!(before.complaints().is_empty(), "{:#?}", before.complaints());
        for (check, subject) in [
            ("udp", EDGE),
            ("token", EDGE),
            ("clock", EDGE),
            ("mtu", EDGE),
            ("latency", EDGE),
            ("origin", "app"),
        ] {
            before.is("ok", check, subject);
        }
        before.is("note", "running", "connector");

        let mut connector =
            ground.home.within(async { Connector::start_in(at_home, &tunnel.token, &rules, &[]) }).await;
        connector.ready(START).await;
        let beside = doctor(&ground.home, "causeway-connector", &args).await;
        beside.is("ok", "running", EDGE);
        // The catch-all's `*` is more than was granted.
        let refused = beside.complaints();
        assert!(refused.iter().all(|finding| finding["subject"] == "*"), "{refused:#?}");

        let (data, config) = (edge.data().path().display().to_string(), edge.config().display().to_string());
        let args = ["--data", &data, "--config", &config];
        let found = doctor(&ground.vps, "causeway-edge", &args).await;
        for (check, subject) in
            [("dns", "app"), ("port", "TCP"), ("port", "UDP"), ("latency", "home"), ("mtu", "home")]
        {
            found.is("ok", check, subject);
        }
        let refused = found.complaints();
        assert!(refused.iter().all(|finding| finding["subject"] == "*"), "{refused:#?}");

        // An edge that does not run: its ports are free for it, and that is the one fault.
        let data = edge.kill().await;
        let data = data.path().display().to_string();
        let found = doctor(&ground.vps, "causeway-edge", &["--data", &data, "--config", &config]).await;
        assert_eq!(found.code, 2);
        found.names("fault", "running", "control.sock", &["start it"]);
        assert_eq!(found.complaints().len(), 1, "{:#?}", found.complaints());
    });
}

#[test]
fn ten_planted_faults_are_found_and_the_mend_is_named() {
    if !may_run() {
        return;
    }
    run(async {
        let names = hosts(&["app", "down", "tls", "ingress", "vip", "old"]);
        let ground = Ground::new("ill", &format!("{names}198.51.100.9 lost.example.test\n"));
        let folder = Folder::default();
        let good = certificate(&folder, "good", &["app", "down", "tls", "ingress", "vip", "lost"], 2090);
        let ended = certificate(&folder, "ended", &["old"], 2024);
        // Port 80 is somebody's whose clock is a day off.
        let edge = edge(&ground, format!("certificates:\n{good}{ended}"), 8080).await;
        let yesterday = httpdate(SystemTime::now() - Duration::from_secs(86_400));
        let answer = format!(
            "HTTP/1.1 404 Not Found\r\ndate: {yesterday}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
        );
        let _clock = ground.vps.within(says(format!("{EDGE}:80").parse().unwrap(), answer)).await;
        let tunnel = edge.create("home", &["*.example.test"]).await;

        let private = Certificate::for_names(&["localhost"]);
        let (app, tls) = ground
            .home
            .within(async { (sample().await, sample_tls(private.server(&["http/1.1"])).await) })
            .await;
        // As an ingress controller: it knows one name, and has a page for all others.
        let ingress = Scripted::start(|mut connection| async move {
            let Some(head) = connection.head().await else { return };
            let status =
                if head.to_lowercase().contains("host: blog.lan\r\n") { "200 OK" } else { "404 Not Found" };
            let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 2\r\nconnection: close\r\n\r\nhi");
            connection.send(answer.as_bytes()).await;
        });
        let ingress = ground.home.within(ingress).await;
        let down = ground.home.within(async { closed_port() }).await;
        let rules = [
            rule("app", http(&app)),
            rule("down", format!("http://{down}")),
            rule("tls", format!("https://{}", tls.addr())),
            rule("ingress", ingress.service()),
            rule("vip", format!("http://{VIP}")),
            rule("old", "hello_world"),
            rule("lost", "hello_world"),
        ];
        let rules = format!("ingress:\n{}- service: http_status:404\n", rules.concat());
        let at_home = Folder::default();
        let file = at_home.write("config.yml", &rules).display().to_string();
        let token = at_home.write("token", &tunnel.token).display().to_string();
        std::fs::set_permissions(&token, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        let socket = at_home.join("control.sock").display().to_string();
        let args = ["--config", &file, "--token-file", &token, "--control", &socket];

        let library = small_buffers(&folder);
        let found = doctor_with(&ground.home, "causeway-connector", &args, &[("LD_PRELOAD", &library)]).await;
        assert_eq!(found.code, 2);
        found.names("warning", "buffers", "UDP", &["sysctl -w net.core.rmem_max="]);
        found.names("warning", "dns", "lost", &["change the record to 203.0.113.1"]);
        found.names("fault", "clock", EDGE, &["timedatectl"]);
        found.names("fault", "origin", "down", &["start what should listen there"]);
        found.names("fault", "tls", "tls", &["caPool"]);
        found.names("warning", "host", "ingress", &["httpHostHeader"]);
        found.names("fault", "vip", "vip", &["servicel2statuses"]);
        found.names("fault", "certificate", "old", &["cert renew"]);
        found.is("ok", "origin", "app");
        found.is("ok", "token", EDGE);

        // The edge sees names and certificates as well, once a connector has announced them.
        let mut connector =
            ground.home.within(async { Connector::start_in(at_home, &tunnel.token, &rules, &[]) }).await;
        connector.ready(START).await;
        let (data, config) = (edge.data().path().display().to_string(), edge.config().display().to_string());
        let at_edge = ["--data", &data, "--config", &config];
        let found = doctor(&ground.vps, "causeway-edge", &at_edge).await;
        assert_eq!(found.code, 2);
        found.names("fault", "dns", "lost", &["change the record to 203.0.113.1"]);
        found.names("fault", "certificate", "old", &["write a new one"]);
        found.is("note", "certificate", "app");

        ground
            .vps
            .nft("table inet doctor {\n chain in {\n type filter hook input priority 0;\n udp dport 443 drop\n }\n}")
            .unwrap();
        let found = doctor(&ground.home, "causeway-connector", &args).await;
        found.names("warning", "udp", EDGE, &["open UDP 443", "`protocol: tcp`"]);
        found.is("ok", "token", EDGE);
        let alone = [&args[..], &["--protocol", "quic"]].concat();
        let found = doctor(&ground.home, "causeway-connector", &alone).await;
        found.names("fault", "udp", EDGE, &["open UDP 443", "`protocol: auto`"]);
        let found = doctor(&ground.vps, "causeway-edge", &at_edge).await;
        found.names("fault", "port", "UDP", &["firewall"]);
        ground
            .vps
            .nft("table inet doctor {\n chain more {\n type filter hook input priority 0;\n tcp dport 443 drop\n }\n}")
            .unwrap();
        let found = doctor(&ground.home, "causeway-connector", &args).await;
        found.names("fault", "udp", EDGE, &["open UDP 443"]);
        found.names("fault", "tcp", EDGE, &["open TCP 443"]);
        ground.vps.nft("delete table inet doctor").unwrap();

        drop(connector);
        edge.cli(&["tunnel", "revoke", "home"]).await.ok();
        let again = Folder::default();
        let token = again.write("token", &tunnel.token).display().to_string();
        std::fs::set_permissions(&token, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        let found =
            doctor(&ground.home, "causeway-connector", &["--url", "hello_world", "--token-file", &token])
                .await;
        found.names("fault", "token", EDGE, &["causeway-edge tunnel create"]);
    });
}

/// RFC 9110 section 5.6.7.
fn httpdate(time: SystemTime) -> String {
    let output = std::process::Command::new("date")
        .args(["-u", "+%a, %d %b %Y %H:%M:%S GMT", "-d"])
        .arg(format!("@{}", time.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs()))
        .env("LC_ALL", "C")
        .output();
    String::from_utf8(output.unwrap().stdout).unwrap().trim().to_owned()
}
