//! The course of lists and watches, against a server that answers from a list: what a real one does once in hours, such as to
//! forget where we were, it does at once.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::*;

/// One answer: what the request must contain, the status, the body, and whether the connection breaks before the body's end.
struct Answer(&'static str, u16, String, bool);

async fn serve(listener: TcpListener, answers: Vec<Answer>) {
    let mut answers = answers.into_iter();
    let mut next = answers.next();
    while next.is_some() {
        let (mut stream, _) = listener.accept().await.unwrap();
        while let Some(Answer(asked, status, body, breaks)) = next.take() {
            let Some(request) = head(&mut stream).await else {
                next = Some(Answer(asked, status, body, breaks));
                break;
            };
            assert!(request.contains(asked), "{request} is not about {asked}");
            let length = body.len() + usize::from(breaks);
            let head = format!("HTTP/1.1 {status} X\r\ncontent-length: {length}\r\n\r\n");
            stream.write_all(format!("{head}{body}").as_bytes()).await.unwrap();
            next = answers.next();
            if breaks {
                break;
            }
        }
    }
    std::future::pending::<()>().await;
}

async fn head(stream: &mut TcpStream) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    Some(String::from_utf8(head).unwrap())
}

fn service(name: &str, version: u32) -> String {
    format!(
        r#"{{"metadata":{{"namespace":"a","name":"{name}","resourceVersion":"{version}","annotations":{{"causeway.dev/hostname":"a.dev"}}}}}}"#
    )
}

fn event(kind: &str, object: &str) -> String {
    format!("{{\"type\":\"{kind}\",\"object\":{object}}}\n")
}

fn list(version: u32, next: &str, items: &[String]) -> String {
    format!(
        r#"{{"metadata":{{"resourceVersion":"{version}","continue":"{next}"}},"items":[{}]}}"#,
        items.join(",")
    )
}

/// Follows a server with these answers until it has nothing more to say; what came of it.
async fn followed(answers: Vec<Answer>, changes: usize) -> Vec<String> {
    let folder = tempfile::tempdir().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let file = folder.path().join("kubeconfig");
    let address = listener.local_addr().unwrap();
    let text = format!(
        "current-context: a\ncontexts: [{{name: a, context: {{cluster: a, user: a}}}}]\nusers: [{{name: a}}]\n\
         clusters: [{{name: a, cluster: {{server: 'http://{address}/prefix'}}}}]\n"
    );
    std::fs::write(&file, text).unwrap();
    let mut tasks = JoinSet::new();
    tasks.spawn(serve(listener, answers));
    let (tell, mut told) = mpsc::channel(1);
    tasks.spawn(Watcher::new(Source::Kubeconfig(file), Some("n".to_owned())).run(tell));
    let mut seen = Vec::new();
    while seen.len() < changes {
        let change = timeout(Duration::from_secs(20), told.recv()).await.expect("another change").unwrap();
        seen.push(match change {
            Change::All(all) => {
                format!("all {}", all.iter().map(|one| one.key().1).collect::<Vec<_>>().join(" "))
            }
            Change::Seen(service) => format!("seen {}", service.key().1),
            Change::Gone((_, name)) => format!("gone {name}"),
            Change::Lost(error) => format!("lost {error}"),
            Change::Reached => "reached".to_owned(),
        });
    }
    // A request that was not what was expected ended the server with a panic.
    while let Some(ended) = tasks.try_join_next() {
        ended.unwrap();
    }
    seen
}

#[tokio::test]
async fn a_watch_goes_on_where_the_one_before_ended_and_begins_anew_where_that_is_forgotten() {
    let bookmark = r#"{"metadata":{"resourceVersion":"9"}}"#;
    let gone = r#"{"code":410,"message":"too old resource version"}"#;
    let plain = r#"{"metadata":{"namespace":"a","name":"two","resourceVersion":"11"}}"#;
    let answers = vec![
        Answer(
            "GET /prefix/api/v1/namespaces/n/services?limit=100 ",
            200,
            list(1, "m=re", &[service("one", 1)]),
            false,
        ),
        Answer("limit=100&continue=m%3Dre", 200, list(2, "", &[service("two", 2)]), false),
        Answer(
            "resourceVersion=2 ",
            200,
            event("ADDED", &service("three", 5)) + &event("BOOKMARK", bookmark),
            false,
        ),
        Answer(
            "resourceVersion=9 ",
            200,
            event("DELETED", &service("one", 10)) + &event("MODIFIED", plain),
            true,
        ),
        Answer("resourceVersion=11 ", 200, event("ERROR", gone), false),
        Answer("limit=100 ", 200, list(20, "", &[service("four", 12)]), false),
        Answer("resourceVersion=20 ", 410, gone.to_owned(), false),
        Answer("limit=100 ", 200, list(30, "", &[]), false),
    ];
    let seen = followed(answers, 10).await;
    let told = ["all one two", "reached", "seen three", "reached", "gone one", "gone two"];
    assert_eq!(seen[..6], told, "a Service that lost its annotations is gone for us");
    assert!(seen[6].starts_with("lost the connection to http://127.0.0.1:"), "{seen:?}");
    assert_eq!(seen[7..], ["reached", "all four", "all "], "{seen:?}");
}

#[tokio::test]
async fn whatever_a_server_says_that_is_no_answer_is_told_and_tried_again() {
    let answers = vec![
        Answer("limit", 403, r#"{"message":"services is forbidden"}"#.to_owned(), false),
        Answer("limit", 401, "no JSON".to_owned(), false),
        Answer("limit", 500, r#"{"message":"etcd\u001b[31m is away"}"#.to_owned(), false),
        Answer("limit", 200, "<html>".to_owned(), false),
        Answer("limit", 200, list(1, "", &[]), false),
        Answer("watch", 200, "{\"type\":\"STRANGE\"}\n".to_owned(), false),
        Answer("limit", 200, list(2, "", &[]), false),
    ];
    let seen = followed(answers, 8).await;
    assert!(
        seen[0].contains("(403)") && seen[0].contains("in namespace n") && seen[0].contains("is forbidden")
    );
    assert!(seen[1].contains("(401)") && seen[1].contains("kubectl create token"));
    assert!(seen[2].contains("answers 500") && seen[2].contains("etcd[31m is away"), "{seen:?}");
    assert!(seen[3].contains("cannot be read"));
    assert_eq!(seen[4..6], ["all ", "reached"]);
    assert!(seen[6].contains("STRANGE"));
    assert_eq!(seen[7], "all ");
}
