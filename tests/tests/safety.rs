//! Neither side can be talked into what it was not told by its owner: hostile edge, hostile connector, wrong tokens (hazards 119 to 127).

#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "a test fails by panicking, and makes its own numbers"
)]

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use causeway_tests::child::Program;
use causeway_tests::client::{End, PROTOCOLS, Protocol, fetch, visit};
use causeway_tests::connector::Connector;
use causeway_tests::edge::Edge;
use causeway_tests::hostile::{HostileEdge, request};
use causeway_tests::origin::scripted::Scripted;
use causeway_tests::origin::{http, sample};
use causeway_tests::run;
use causeway_tests::site::{APP, NAMES, Site, to};
use causeway_tunnel::dial::Dialer;
use causeway_tunnel::{
    BodyKind, ConnectorId, Control, First, Message, Opening, ResponseEvent, ResponseHead, Role, Route,
    Session, Token, TunnelKey,
};
use http::{HeaderMap, Method};

const READY: Duration = Duration::from_secs(20);

#[test]
fn hazard_126_a_hostile_edge_that_asks_ten_thousand_times_reaches_nothing_but_the_rules() {
    run(async {
        // What must never be reached, and what may.
        let forbidden = Scripted::always("HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nsecret").await;
        let allowed = sample().await;
        let edge = HostileEdge::start();
        let rules = format!(
            "ingress:\n  - hostname: {APP}\n    service: {}\n  - service: http_status:404\n",
            http(&allowed)
        );
        let connector = Connector::start(&edge.token.expose(), &rules);
        let (session, _control, routes) =
            tokio::time::timeout(READY, edge.session()).await.expect("a session");
        let target = forbidden.addr();
        let names = [
            target.to_string(),
            format!("http://{target}"),
            format!("127.0.0.1:{}", target.port()),
            format!("localhost:{}", target.port()),
            "169.254.169.254".into(),
            "[::1]:22".into(),
            "0x7f000001".into(),
            "2130706433".into(),
            "kubernetes.default.svc".into(),
            format!("{APP}@{target}"),
            format!("{APP}:{}", target.port()),
            format!("{target}#{APP}"),
            "/etc/passwd".into(),
            String::new(),
        ];
        let paths = [
            format!("http://{target}/"),
            format!("//{target}/"),
            "/".into(),
            format!("/../../{target}"),
            format!("@{target}/"),
            "\\\\x".into(),
        ];
        let ids = routes.iter().map(|route| route.id).chain([0, 1, 2, 99, u32::MAX]).collect::<Vec<_>>();
        let mut answers = 0u32;
        for n in 0..10_000usize {
            let mut head =
                request(&names[n % names.len()], &paths[(n / 3) % paths.len()], ids[(n / 7) % ids.len()]);
            if n % 11 == 0 {
                head.headers.insert("host", http::HeaderValue::try_from(target.to_string()).unwrap());
                head.headers
                    .insert("x-forwarded-host", http::HeaderValue::try_from(target.to_string()).unwrap());
            }
            if n % 13 == 0 {
                head.upgrade = Some("websocket".into());
            }
            if n % 17 == 0 {
                head.method = Method::CONNECT;
            }
            let Ok((mut send, mut recv)) = session.open().await else {
                panic!("the session ended at request {n}")
            };
            // A head that the codec itself refuses to write is refused, too.
            if send.request(&head, First::More).await.is_err() {
                continue;
            }
            let _ = send.end().await;
            let answer = tokio::time::timeout(Duration::from_secs(10), recv.response())
                .await
                .expect("an answer or a reset");
            answers += u32::from(matches!(answer, Ok(ResponseEvent::Final(_))));
        }
        println!("{answers} of 10,000 were answered by the rules, the others reset");
        assert_eq!(forbidden.connections(), 0, "the forbidden address was reached: {:?}", forbidden.heads());
        // The session bore it all, and a proper request is still served.
        let id = routes.iter().find(|route| route.hostname == APP).expect("the rule's name is announced").id;
        let (mut send, mut recv) = session.open().await.unwrap();
        send.request(&request(APP, "/bytes/5", id), First::More).await.unwrap();
        send.end().await.unwrap();
        let Ok(ResponseEvent::Final(response)) = recv.response().await else { panic!("no answer") };
        assert_eq!(response.status, 200);
        drop(connector);
    });
}

/// Dials a real edge as a connector of our own making.
async fn dial(edge: &Edge, token: &str) -> (Session, Control) {
    let token = Token::parse(token).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let dialer = Dialer::new(token, ConnectorId::random(), "hostile".to_owned(), provider).unwrap();
    dialer.dial(edge.tunnel, Role::Primary).await.unwrap()
}

#[test]
fn hazard_123_a_hostile_connector_gets_no_name_beyond_its_grant() {
    run(async {
        let origin = sample().await;
        let site = Site::of(http(&origin)).await;
        let other = site.edge.create("other", &["mine.test"]).await;
        let (session, mut control) = dial(&site.edge, &other.token).await;
        let names = [
            APP,
            "*.example.test",
            "example.test",
            "APP.example.test",
            "app.example.test.",
            "*.test",
            "deep.mine.test",
            "mine.test",
            "x\0y",
            "",
            "*.*",
            "..",
            "mine.test:443",
            "mine.test/path",
        ];
        let routes = names.iter().zip(1..).map(|(name, id)| Route::of_requests(id, *name)).collect();
        control.send(&Message::Announce { generation: 1, routes }).await.unwrap();
        let (accepted, refused) = loop {
            match control.recv().await.unwrap() {
                Some(Message::Announced { accepted, refused, .. }) => break (accepted, refused),
                Some(_) => {}
                None => panic!("the edge closed"),
            }
        };
        assert_eq!(accepted, [8], "only the granted name: {refused:?}");
        assert_eq!(refused.len(), names.len() - 1);
        assert!(refused.iter().all(|route| !route.reason.is_empty()));
        for _ in 0..20 {
            let answer = visit(&site.edge, Protocol::Http2, &format!("https://{APP}/bytes/1")).await;
            assert_eq!(answer.ok().body.len(), 1, "the true owner still serves it");
        }
        // `*` means: every name that is granted, and no more.
        control
            .send(&Message::Announce { generation: 2, routes: vec![Route::of_requests(1, "*")] })
            .await
            .unwrap();
        let answer = visit(&site.edge, Protocol::Http1, &format!("https://{APP}/bytes/1")).await;
        assert_eq!(answer.ok().body.len(), 1);
        drop(session);
    });
}

#[test]
fn hazard_125_a_hostile_connector_can_spoil_only_its_own_streams() {
    run(async {
        let edge = Edge::start().await;
        let created = edge.create("site", &NAMES).await;
        let (session, mut control) = dial(&edge, &created.token).await;
        control
            .send(&Message::Announce { generation: 1, routes: vec![Route::of_requests(1, "*")] })
            .await
            .unwrap();
        while !matches!(control.recv().await.unwrap(), Some(Message::Announced { .. })) {}
        // Streams that the edge did not ask for, endless interim answers, an answer that stops, no answer at all.
        let unasked = tokio::time::timeout(Duration::from_millis(300), session.open()).await;
        drop(unasked);
        let serving = session.clone();
        let mut tasks = tokio::task::JoinSet::new();
        tasks.spawn(async move {
            while let Some((mut send, mut recv)) = serving.accept().await {
                let Ok(Opening::Request(request)) = recv.opening().await else { continue };
                let ok = |length| ResponseHead {
                    status: http::StatusCode::OK,
                    headers: HeaderMap::new(),
                    body: BodyKind::Known(length),
                };
                match request.path.as_str() {
                    "/endless-interim" => {
                        while send.interim(http::StatusCode::EARLY_HINTS, &HeaderMap::new()).await.is_ok() {
                            // Writes that never wait would starve the session's own tasks.
                            tokio::task::yield_now().await;
                        }
                    }
                    "/short" => {
                        let _ = send.response(&ok(1000), First::More).await;
                        let _ = send.data(Bytes::from_static(b"short")).await;
                        let _ = send.end().await;
                    }
                    "/long" => {
                        let _ = send.response(&ok(2), First::More).await;
                        let _ = send.data(Bytes::from_static(b"longer than it says")).await;
                        let _ = send.end().await;
                    }
                    "/nothing" => drop(send),
                    _ => drop(send.response(&ok(2), First::Only(Bytes::from_static(b"ok"))).await),
                }
            }
        });
        for protocol in PROTOCOLS {
            for path in ["/endless-interim", "/short", "/long", "/nothing"] {
                let request = http::Request::get(format!("https://{APP}{path}")).body(Bytes::new()).unwrap();
                // An error is a reset before any answer: right as well.
                if let Ok(answer) = fetch(&edge, protocol, request).await {
                    assert!(
                        answer.status >= 500 || answer.end == End::Cut,
                        "{protocol:?} {path}: {answer:?}"
                    );
                }
                let answer = visit(&edge, protocol, &format!("https://{APP}/honest")).await;
                assert_eq!(answer.ok().text(), "ok", "honest streams of the same session are served");
            }
        }
        assert!(session.is_alive());
    });
}

#[test]
fn hazard_125_trailers_of_a_hostile_connector_cannot_say_what_belongs_in_the_head() {
    run(async {
        let edge = Edge::start().await;
        let created = edge.create("site", &NAMES).await;
        let (session, mut control) = dial(&edge, &created.token).await;
        control
            .send(&Message::Announce { generation: 1, routes: vec![Route::of_requests(1, "*")] })
            .await
            .unwrap();
        while !matches!(control.recv().await.unwrap(), Some(Message::Announced { .. })) {}
        let mut tasks = tokio::task::JoinSet::new();
        tasks.spawn(async move {
            while let Some((mut send, mut recv)) = session.accept().await {
                let Ok(_) = recv.opening().await else { continue };
                let headers = HeaderMap::new();
                let head = ResponseHead { status: http::StatusCode::OK, headers, body: BodyKind::Unknown };
                send.response(&head, First::More).await.unwrap();
                send.data(Bytes::from_static(b"ok")).await.unwrap();
                let fields = ["connection", "keep-alive", "content-length", "host", "set-cookie", "x-sum"];
                let trailers = fields.map(|name| (name.parse().unwrap(), "1".parse().unwrap()));
                send.trailers(&trailers.into_iter().collect()).await.unwrap();
                send.end().await.unwrap();
            }
        });
        let request = http::Request::get(format!("https://{APP}/")).body(Bytes::new()).unwrap();
        let answer = fetch(&edge, Protocol::Http2, request).await.unwrap();
        assert_eq!((answer.status, &answer.body[..]), (200, &b"ok"[..]));
        let names: Vec<&str> = answer.trailers.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["x-sum"]);
    });
}

/// A connector with this token, and the line that it must log.
async fn refused(token: &str, needle: &str) -> (Program, String) {
    let connector = Connector::start(token, &to("hello_world"));
    let line = connector.program.line(needle, Duration::from_secs(15)).await;
    assert!(!connector.program.log_contains(&token[8..]), "the token is not logged");
    (connector.program, line)
}

#[test]
fn tokens_that_are_foreign_damaged_or_wrong_are_told_apart() {
    run(async {
        let edge = Edge::start().await;
        let created = edge.create("site", &NAMES).await;
        let (mut program, _) =
            refused("eyJhIjoiYWNjb3VudCIsInQiOiJ1dWlkIiwicyI6InNlY3JldCJ9", "causeway-edge tunnel create")
                .await;
        assert_ne!(program.ended(Duration::from_secs(5)).await.code(), Some(0));
        let cut = &created.token[..created.token.len() - 5];
        let (mut program, line) = refused(cut, "damaged").await;
        assert!(line.contains("checksum") || line.contains("copy"), "{line}");
        assert_ne!(program.ended(Duration::from_secs(5)).await.code(), Some(0));
        // Well made, but of a tunnel that this edge does not know.
        let stranger = Edge::start().await;
        let mut token = Token::parse(&stranger.create("site", &NAMES).await.token).unwrap();
        let own = Token::parse(&created.token).unwrap();
        (token.pin, token.edges) = (own.pin, own.edges.clone());
        refused(&token.expose(), "no such tunnel").await;
        // Of this tunnel, with another's key: the same answer, so that ids cannot be guessed.
        let mut forged = own.clone();
        forged.key = TunnelKey::generate();
        refused(&forged.expose(), "no such tunnel").await;
        let metric = edge.metric("causeway_edge_handshakes_refused_total", &[]).await;
        assert!(metric >= 2.0, "{metric}");
    });
}

#[test]
fn hazard_127_an_edge_that_is_not_the_one_of_the_token_is_never_spoken_to() {
    run(async {
        let (edge, impostor) = (Edge::start().await, Edge::start().await);
        let created = edge.create("site", &NAMES).await;
        let mut token = Token::parse(&created.token).unwrap();
        token.edges = vec![impostor.tunnel.to_string()];
        let (_program, line) = refused(&token.expose(), "pin").await;
        assert!(line.contains(&impostor.tunnel.to_string()), "{line}");
        assert_eq!(
            impostor.metric("causeway_edge_handshakes_refused_total", &["unauthorized"]).await,
            0.0,
            "no proof was sent"
        );
    });
}

#[test]
fn an_edge_that_is_not_there_is_named_and_tried_for_ever() {
    run(async {
        let edge = Edge::start().await;
        let created = edge.create("site", &NAMES).await;
        let mut token = Token::parse(&created.token).unwrap();
        let nowhere = causeway_tests::origin::closed_port();
        token.edges = vec![nowhere.to_string()];
        let (mut program, line) = refused(&token.expose(), &nowhere.to_string()).await;
        assert!(line.contains("UDP"), "the likely cause is named: {line}");
        assert!(program.runs());
    });
}

#[test]
fn hazard_133_secrets_are_readable_by_their_owner_only() {
    run(async {
        let edge = Edge::start().await;
        edge.create("site", &NAMES).await;
        let mut open = Vec::new();
        for entry in std::fs::read_dir(edge.data().path()).unwrap().flatten() {
            let mode =
                std::os::unix::fs::PermissionsExt::mode(&entry.metadata().unwrap().permissions()) & 0o077;
            let name = entry.file_name().to_string_lossy().into_owned();
            // What the harness itself put there, the certificate that visitors are to trust, and an empty lock.
            if mode != 0 && !["edge.yaml", "dev-ca.pem", "lock"].contains(&name.as_str()) {
                open.push(format!("{name}: {mode:o}"));
            }
        }
        assert!(open.is_empty(), "{open:?}");
    });
}
