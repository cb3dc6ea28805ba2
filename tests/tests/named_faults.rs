//! Faults that people meet, by name: each gives one clear message that says the mend, and none costs an unrelated request.

#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "a test fails by panicking, and makes its own numbers"
)]

use std::time::Duration;

use causeway_tests::child::{Output, output};
use causeway_tests::client::{Protocol, visit};
use causeway_tests::connector::Connector;
use causeway_tests::edge::{Edge, EdgeOptions};
use causeway_tests::files::Folder;
use causeway_tests::origin::{http, sample};
use causeway_tests::programs::program;
use causeway_tests::site::{APP, NAMES, Site, to};
use causeway_tests::{run, wait};
use tokio::process::Command;

const READY: Duration = Duration::from_secs(20);

/// Runs an edge that must not start.
async fn edge_fails(data: &Folder, config: &str, args: &[&str]) -> Output {
    let config = data.write("edge.yaml", config);
    let mut command = Command::new(program("causeway-edge"));
    command.arg("run").arg("--config").arg(config).arg("--data").arg(data.path());
    command.args(["--http", "127.0.0.1:0", "--tunnel", "127.0.0.1:0", "--admin", "127.0.0.1:0"]).args(args);
    let ended = tokio::time::timeout(Duration::from_secs(15), output(command))
        .await
        .expect("the edge gives up at once");
    assert_ne!(ended.code, 0, "{}", ended.text());
    ended
}

#[test]
fn port_in_use() {
    run(async {
        let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = taken.local_addr().unwrap().to_string();
        let seen = edge_fails(&Folder::default(), "", &["--dev", "--https", &addr]).await.text();
        assert!(seen.contains(&addr) && seen.to_lowercase().contains("in use"), "{seen}");
    });
}

#[test]
fn unreadable_certificate() {
    run(async {
        let folder = Folder::default();
        let bad = folder.write("bad.crt", "no certificate at all");
        for path in ["/nowhere/site.crt".to_owned(), bad.display().to_string()] {
            let config = format!("certificates: [{{ cert: {path}, key: {path} }}]\n");
            let seen = edge_fails(&folder, &config, &["--https", "127.0.0.1:0"]).await.text();
            assert!(seen.contains(&path), "{seen}");
        }
        // Half a pair.
        let (one, two) = (
            causeway_tests::files::Certificate::for_names(&["a.test"]),
            causeway_tests::files::Certificate::for_names(&["a.test"]),
        );
        let cert = folder.write("one.crt", &one.cert_pem).display().to_string();
        let key = folder.write("two.key", &two.key_pem).display().to_string();
        let seen = edge_fails(
            &folder,
            &format!("certificates: [{{ cert: {cert}, key: {key} }}]\n"),
            &["--https", "127.0.0.1:0"],
        )
        .await
        .text();
        assert!(seen.contains(&key) || seen.contains(&cert), "{seen}");
    });
}

#[test]
fn corrupt_database() {
    run(async {
        let edge = Edge::start().await;
        edge.create("site", &NAMES).await;
        let data = edge.kill().await;
        let databases: Vec<_> = std::fs::read_dir(data.path())
            .unwrap()
            .flatten()
            .filter(|entry| {
                std::fs::read(entry.path()).is_ok_and(|bytes| bytes.starts_with(b"SQLite format 3"))
            })
            .collect();
        assert_eq!(databases.len(), 1);
        let path = databases[0].path();
        for extra in ["-wal", "-shm"] {
            let _ = std::fs::remove_file(format!("{}{extra}", path.display()));
        }
        std::fs::write(&path, vec![0x5a; 8192]).unwrap();
        let seen = edge_fails(&data, "", &["--dev", "--https", "127.0.0.1:0"]).await.text();
        assert!(seen.contains(&path.display().to_string()), "the file is named: {seen}");
        assert_eq!(std::fs::read(&path).unwrap()[0], 0x5a, "and not overwritten");
    });
}

#[test]
fn hazard_166_full_disk() {
    run(async {
        // A tiny file system of our own; without the right to mount one, a file-size limit of zero is the same to the program.
        let origin = sample().await;
        let folder = Folder::default();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=2m", "causeway-test"])
            .arg(folder.path())
            .output()
            .await;
        if !mounted.is_ok_and(|output| output.status.success()) {
            assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "CI runs as root");
            eprintln!("SKIPPED hazard_166_full_disk: no right to mount a file system");
            return;
        }
        let path = folder.path().to_owned();
        let edge = Edge::with(EdgeOptions { data: Some(folder), ..Default::default() }).await;
        let created = edge.create("site", &NAMES).await;
        let mut connector = Connector::start(&created.token, &to(http(&origin)));
        connector.ready(READY).await;
        edge.wait_state("site", "HEALTHY", READY).await;
        let mut filler = std::fs::File::create(path.join("filler")).unwrap();
        while std::io::Write::write_all(&mut filler, &[0; 4096]).is_ok() {}
        let refused = edge.cli(&["tunnel", "create", "more", "--hostname", "more.test"]).await;
        let text = refused.text();
        assert!(
            refused.code != 0 && (text.contains("disk") || text.contains("full") || text.contains("space")),
            "{text}"
        );
        for _ in 0..5 {
            visit(&edge, Protocol::Http1, &format!("https://{APP}/bytes/10")).await.ok();
        }
        visit(&edge, Protocol::Http2, "https://new-name.example.test/bytes/10").await.ok();
        drop(filler);
        std::fs::remove_file(path.join("filler")).unwrap();
        edge.create("more", &["more.test"]).await;
        let folder = edge.kill().await;
        let _ = Command::new("umount").arg("-l").arg(folder.path()).output().await;
    });
}

#[test]
fn name_not_granted() {
    run(async {
        let edge = Edge::start().await;
        let created = edge.create("site", &["mine.test"]).await;
        let rules = "ingress:\n  - { hostname: mine.test, service: hello_world }\n  - { hostname: yours.test, service: hello_world }\n  - service: http_status:404\n";
        let mut connector = Connector::start(&created.token, rules);
        connector.ready(READY).await;
        let line = connector.program.line("yours.test", Duration::from_secs(5)).await;
        assert!(line.contains("grant"), "{line}");
        visit(&edge, Protocol::Http1, "https://mine.test/").await.ok();
        let status = edge.status().await.to_string();
        assert!(status.contains("yours.test"), "the status shows what was refused: {status}");
    });
}

#[test]
fn two_connectors_of_different_tunnels_announce_one_name() {
    run(async {
        let edge = Edge::start().await;
        let one = edge.create("one", &["*.example.test"]).await;
        let two = edge.create("two", &[APP]).await;
        let status = |code: u16| {
            format!(
                "ingress:\n  - {{ hostname: {APP}, service: 'http_status:{code}' }}\n  - service: http_status:404\n"
            )
        };
        let mut first = Connector::start(&one.token, &status(201));
        first.ready(READY).await;
        // The more specific grant owns the name, whoever came first; the other is told.
        let line = first.program.line(APP, Duration::from_secs(5)).await;
        assert!(line.contains("two") || line.contains("another tunnel"), "{line}");
        let mut second = Connector::start(&two.token, &status(202));
        second.ready(READY).await;
        for _ in 0..20 {
            assert_eq!(visit(&edge, Protocol::Http1, &format!("https://{APP}/")).await.status, 202);
        }
    });
}

#[test]
fn origin_slow() {
    run(async {
        let origin = sample().await;
        let config = "limits: { responseHeaderTimeout: 500ms }\n";
        let options = EdgeOptions { config: config.into(), ..Default::default() };
        let site = Site::with(options, Default::default(), &to(http(&origin))).await;
        let slow = visit(&site.edge, Protocol::Http1, &format!("https://{APP}/slow/5000")).await;
        assert_eq!(slow.status, 504);
        assert!(slow.text().contains("in time"), "{}", slow.text());
        visit(&site.edge, Protocol::Http1, &format!("https://{APP}/slow/100")).await.ok();
    });
}

#[test]
fn origin_down() {
    run(async {
        let origin = sample().await;
        let addr = origin.addr();
        let site = Site::of(http(&origin)).await;
        visit(&site.edge, Protocol::Http1, &format!("https://{APP}/bytes/1")).await.ok();
        drop(origin);
        let down = visit(&site.edge, Protocol::Http1, &format!("https://{APP}/bytes/1")).await;
        assert_eq!(down.status, 502, "{}", down.text());
        let line = site.connector.program.line(&addr.to_string(), Duration::from_secs(5)).await;
        assert!(line.to_lowercase().contains("refused"), "{line}");
        // It comes back by itself.
        let _again =
            causeway_tests::origin::Origin::tcp(addr, causeway_tests::origin::Speak::Http1).await.unwrap();
        let look = || async {
            (visit(&site.edge, Protocol::Http1, &format!("https://{APP}/bytes/1")).await.status == 200)
                .then_some(())
        };
        wait::until("the origin to serve again", Duration::from_secs(3), look).await;
    });
}

#[test]
fn missing_or_unreadable_token() {
    run(async {
        let folder = Folder::default();
        let config = folder.write("config.yml", &to("hello_world"));
        let run = |args: Vec<String>| {
            let mut command = Command::new(program("causeway-connector"));
            command.env_remove("CAUSEWAY_TOKEN").env_remove("CAUSEWAY_TOKEN_FILE");
            command.arg("run").arg("--config").arg(&config).args(args);
            output(command)
        };
        let none = run(vec![]).await;
        assert!(
            none.code != 0 && none.text().contains("--token-file") && none.text().contains("CAUSEWAY_TOKEN"),
            "{}",
            none.text()
        );
        let missing = run(vec!["--token-file".into(), "/nowhere/token".into()]).await;
        assert!(missing.code != 0 && missing.text().contains("/nowhere/token"), "{}", missing.text());
    });
}

#[test]
fn a_rule_file_that_is_not_there() {
    run(async {
        let mut command = Command::new(program("causeway-connector"));
        command.args(["run", "--config", "/nowhere/config.yml"]).env("CAUSEWAY_TOKEN", "cwt1_x");
        let seen = output(command).await;
        assert!(seen.code != 0 && seen.text().contains("/nowhere/config.yml"), "{}", seen.text());
    });
}

#[test]
fn http_on_the_https_port_is_told_so_in_words() {
    run(async {
        let edge = Edge::start().await;
        let mut client = causeway_tests::client::Http1::plain(edge.https).await;
        let host = format!("{APP}:{}", edge.https.port());
        client.send(format!("GET /x HTTP/1.1\r\nhost: {host}\r\n\r\n").as_bytes()).await;
        let answer = client.answer("GET").await.unwrap();
        assert_eq!(answer.status, 400);
        let text = answer.text();
        assert!(text.contains("speaks HTTPS") && text.contains(&format!("https://{host}/")), "{text}");
        let reason = ["reason=\"HTTP on the HTTPS port\""];
        assert_eq!(edge.metric("causeway_edge_connections_refused_total", &reason).await, 1.0);
    });
}
