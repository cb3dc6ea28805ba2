//! The connector's life: sessions lost and regained, rules reloaded, a planned stop, and a hostile edge.

#![allow(clippy::unwrap_used, clippy::cast_possible_truncation, reason = "a test fails where it panics")]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use causeway_connector::config;
use causeway_connector::reload::Source;
use causeway_daemon::drain::Finished;
use causeway_tunnel::{AbortCode, CloseCode, First, Message};
use http::Method;
use support::{Edge, Ended, Road, SOON, Wire, connector, origin, road, road_with, start};
use tokio::sync::Semaphore;
use tokio::time::timeout;

#[tokio::test]
async fn hazard_126_a_hostile_edge_reaches_nothing_that_no_rule_names() {
    let touched = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&touched);
    let secret = origin(move |_wire: Wire, _| {
        counter.fetch_add(1, Ordering::Relaxed);
        async {}
    })
    .await;
    let open = origin(|mut wire: Wire, _| async move {
        while wire.head().await.is_some() {
            wire.say("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
        }
    })
    .await;
    let rules = format!(
        "ingress:\n  - hostname: open.dev\n    service: http://{open}\n  - service: http_status:404\n"
    );
    let road = road_with(&rules).await;
    let route = |hostname: &str| road.up.routes.iter().find(|route| route.hostname == hostname).unwrap().id;
    let secret = secret.to_string();
    let hosts = [
        secret.as_str(),
        "169.254.169.254",
        "127.0.0.1:22",
        "localhost",
        "open.dev",
        "OPEN.dev.:80",
        "[::1]:80",
        "",
    ];
    let paths = ["/", "http://127.0.0.1:1/", "//169.254.169.254/latest", "/@evil", "*", "?", "/\u{0}"];
    let mut outcomes = [0_usize; 2];
    for n in 0..10_000_usize {
        let mut head =
            road.head(if n % 3 == 0 { Method::CONNECT } else { Method::GET }, paths[n % paths.len()]);
        head.authority = hosts[(n / 7) % hosts.len()].to_owned();
        head.route = match n % 4 {
            0 => route("open.dev"),
            1 => route("*"),
            2 => u32::try_from(n).unwrap() + 100,
            _ => 0,
        };
        head.upgrade = (n % 11 == 0).then(|| ["websocket", "h2c", &secret][n % 3].to_owned());
        let (mut send, mut recv) = road.open().await;
        send.request(&head, First::Only(Bytes::new())).await.unwrap();
        match timeout(SOON, support::collect(&mut recv)).await.unwrap() {
            Ok(_) => outcomes[0] += 1,
            Err(_) => outcomes[1] += 1,
        }
    }
    assert_eq!(touched.load(Ordering::Relaxed), 0);
    assert!(outcomes.iter().all(|count| *count > 100), "{outcomes:?}");
    let mut unknown = road.head(Method::GET, "/");
    unknown.route = 9999;
    let ended = road.exchange(unknown, First::Only(Bytes::new())).await.unwrap_err();
    assert_eq!(ended, Ended::BeforeHead(AbortCode::UnknownRoute));
}

#[tokio::test]
async fn hazard_134_the_own_admin_address_is_no_origin() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut edge = Edge::start();
    let rules = format!("metrics: {port}\ningress:\n  - service: http://localhost:{}\n", port.port());
    let mut config = config::parse("rules.yml", &rules).unwrap();
    config.metrics = Some(port);
    let app = causeway_connector::app::App::start(causeway_connector::app::Settings {
        config,
        file: None,
        token: edge.token.clone(),
        edges: Vec::new(),
        metrics: None,
        shards: None,
        control: None,
        levels: None,
        visits: Default::default(),
        within: None,
    })
    .await
    .unwrap();
    assert_eq!(app.admin_address(), Some(port));
    let up = edge.up().await;
    let road = Road { edge, app, up };
    assert_eq!(road.get("/metrics").await.unwrap_err(), Ended::BeforeHead(AbortCode::OriginUnreachable));
}

#[tokio::test]
async fn hazard_155_a_lost_session_is_replaced_within_a_second() {
    let mut road = road("http_status:204", "").await;
    for _ in 0..3 {
        road.up.session.close(CloseCode::Done, "on purpose");
        let begin = Instant::now();
        // An edge that drops sessions at once is not hammered: this one lived long enough.
        road.up = road.edge.up().await;
        assert!(begin.elapsed() < Duration::from_secs(1), "{:?}", begin.elapsed());
        assert_eq!(road.get("/").await.unwrap().status(), 204);
    }
    assert!(road.app.ready());
}

#[tokio::test]
async fn three_shards_keep_their_sessions_and_serve() {
    let mut edge = Edge::start();
    let config = config::parse("rules.yml", "shards: 3\ningress: [{service: hello_world}]").unwrap();
    let app = start(&edge, config, None).await;
    let up = edge.up().await;
    let road = Road { edge, app, up };
    for _ in 0..10 {
        assert_eq!(road.get("/").await.unwrap().status(), 200);
    }
    assert_eq!(road.app.stop(SOON).await, Finished::Clean);
}

#[tokio::test]
async fn hazard_168_a_reload_takes_effect_announces_and_a_bad_file_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("rules.yml");
    let write = |text: &str| {
        // As editors and Kubernetes do it: a new file in place of the old one.
        let new = folder.path().join("new");
        std::fs::write(&new, text).unwrap();
        std::fs::rename(&new, &file).unwrap();
    };
    let one = "ingress:\n  - hostname: blog.example.dev\n    service: http_status:201\n  - service: http_status:404\n";
    write(one);
    let mut edge = Edge::start();
    let source = Source::open(file.clone()).await;
    let app = start(&edge, config::load(&file).unwrap(), Some(source)).await;
    let up = edge.up().await;
    let mut road = Road { edge, app, up };
    assert_eq!(road.get("/").await.unwrap().status(), 201);

    write(
        &one.replace("201", "202")
            .replace("  - service", "  - hostname: new.dev\n    service: http_status:203\n  - service"),
    );
    let Message::Announce { generation, routes } = road.edge.hears().await else { panic!("an announcement") };
    assert_eq!((generation, routes.len()), (2, 3));
    assert_eq!(road.get("/").await.unwrap().status(), 202);

    write("ingress:\n  - hostnme: x\n    service: http_status:200\n");
    let begin = Instant::now();
    let error = loop {
        match road.app.status().config.error {
            Some(error) => break error,
            None => assert!(begin.elapsed() < SOON),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    assert!(error.contains("rules.yml:2:5") && error.contains("hostname"), "{error}");
    assert_eq!(road.get("/").await.unwrap().status(), 202);

    write(one);
    let Message::Announce { generation, .. } = road.edge.hears().await else { panic!("an announcement") };
    assert_eq!(generation, 3);
    assert_eq!(road.get("/").await.unwrap().status(), 201);
    assert_eq!(road.app.status().config.error, None);
}

#[tokio::test]
async fn a_rule_file_that_changes_after_its_reading_and_before_the_start_is_seen() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("rules.yml");
    std::fs::write(&file, "ingress:\n  - service: http_status:201\n").unwrap();
    let source = Source::open(file.clone()).await;
    let read = config::load(&file).unwrap();
    std::fs::write(&file, "ingress:\n  - service: http_status:202\n").unwrap();
    let mut edge = Edge::start();
    let app = start(&edge, read, Some(source)).await;
    let up = edge.up().await;
    let road = Road { edge, app, up };
    let begin = Instant::now();
    while road.get("/").await.unwrap().status() != 202 {
        assert!(begin.elapsed() < SOON, "the change was not seen");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn hazard_153_a_planned_stop_finishes_what_is_in_flight_and_tells_the_edge() {
    let gate = Arc::new(Semaphore::new(0));
    let gated = Arc::clone(&gate);
    let address = origin(move |mut wire: Wire, _| {
        let gate = Arc::clone(&gated);
        async move {
            wire.head().await;
            wire.say("HTTP/1.1 200 OK\r\ncontent-length: 8\r\n\r\nhalf").await;
            gate.acquire().await.unwrap().forget();
            wire.say("half").await;
        }
    })
    .await;
    let mut road = road(&format!("http://{address}"), "").await;
    let (mut send, mut recv) = road.open().await;
    send.request(&road.head(Method::GET, "/"), First::Only(Bytes::new())).await.unwrap();
    recv.response().await.unwrap();
    let stopping = road.app.stop(Duration::from_secs(30));
    let visitor = async {
        assert!(matches!(road.edge.hears().await, Message::Drain { .. }));
        gate.add_permits(1);
        support::rest(&mut recv).await.unwrap().0
    };
    let (finished, body) = timeout(SOON, async { tokio::join!(stopping, visitor) }).await.unwrap();
    assert_eq!((finished, body.as_slice()), (Finished::Clean, &b"halfhalf"[..]));
}

#[tokio::test]
async fn an_idle_connector_leaves_at_once() {
    let road = road("hello_world", "").await;
    let begin = Instant::now();
    assert_eq!(road.app.stop(Duration::from_secs(30)).await, Finished::Clean);
    assert!(begin.elapsed() < Duration::from_secs(1), "{:?}", begin.elapsed());
}

#[tokio::test]
async fn hazard_127_an_edge_with_another_key_is_never_spoken_to() {
    let (edge, other) = (Edge::start(), Edge::start());
    let mut wrong = Edge::start();
    wrong.token = edge.token.clone();
    wrong.token.edges = vec![other.address.to_string()];
    let app = connector(&wrong, "ingress: [{service: hello_world}]").await;
    let begin = Instant::now();
    let trouble = loop {
        match app.status().edges[0].trouble.clone() {
            Some(trouble) => break trouble,
            None => assert!(begin.elapsed() < SOON),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    assert!(trouble.contains("pin"), "{trouble}");
    assert!(!app.ready());
}
