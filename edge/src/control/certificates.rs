//! What `cert …` asks of the running edge.
//!
//! | request | answer |
//! |---|---|
//! | `GET /certificates` | all names, as in `status` |
//! | `POST /certificates/{add\|renew\|remove}` | does that with the name in the body |
//! | `POST /certificates/persist` | adds it, and says what is to stand in DNS for it |

use bytes::Bytes;
use causeway_acme::Failure;
use causeway_acme::dns::persist::Persist;
use causeway_daemon::admin::{Admin, Reply, get, post};
use http::StatusCode;

use crate::issuing::Issuing;
use crate::route::Pattern;

#[derive(Clone, Copy, Debug)]
enum Command {
    Add,
    Renew,
    Remove,
    Persist,
}

const COMMANDS: [(&str, Command); 4] = [
    ("/certificates/add", Command::Add),
    ("/certificates/renew", Command::Renew),
    ("/certificates/remove", Command::Remove),
    ("/certificates/persist", Command::Persist),
];

/// For the socket alone: it changes something.
pub(crate) fn with_certificates(admin: Admin, issuing: &Issuing) -> Admin {
    let all = issuing.clone();
    let admin = admin.route("/certificates", get(async move || list(&all)));
    COMMANDS.into_iter().fold(admin, |admin, (path, command)| {
        let issuing = issuing.clone();
        admin.route(path, post(async move |body: Bytes| obey(&issuing, command, &body).await))
    })
}

fn list(issuing: &Issuing) -> Reply {
    let Some(handle) = issuing.handle() else { return off() };
    match serde_json::to_vec(&handle.overview().names) {
        Ok(json) => Reply::json(StatusCode::OK, json),
        Err(error) => Reply::plain(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
    }
}

async fn obey(issuing: &Issuing, command: Command, body: &Bytes) -> Reply {
    let Some(handle) = issuing.handle() else { return off() };
    let name = str::from_utf8(body).ok().and_then(|text| Pattern::parse(text.trim()).ok());
    let Some(name) = name.filter(|name| *name != Pattern::Any) else {
        return Reply::plain(StatusCode::BAD_REQUEST, "that is no host name, nor `*.` and one\n");
    };
    let name = name.to_string();
    let done = match command {
        Command::Add => handle.add(&name).await,
        Command::Persist => match handle.add(&name).await {
            Ok(()) => return record(handle.persist(&name).await),
            refused => refused,
        },
        Command::Renew => handle.renew(&name).await,
        Command::Remove => handle.remove(&name).await,
    };
    match done {
        Ok(()) => Reply::plain(StatusCode::OK, "ok\n"),
        Err(error) => Reply::plain(StatusCode::CONFLICT, format!("{error}\n")),
    }
}

fn record(found: Result<Persist, Failure>) -> Reply {
    match found {
        Ok(record) => {
            let (name, value) = (record.name(), record.to_string());
            let json = serde_json::json!({ "record": name, "value": value, "line": record.zone_line() });
            Reply::json(StatusCode::OK, json.to_string())
        }
        Err(failure) => Reply::plain(StatusCode::CONFLICT, format!("{failure}\n")),
    }
}

fn off() -> Reply {
    let text = "automatic certificates are off on this edge (`acme`, `dev` or `listen.https` in its configuration)\n";
    Reply::plain(StatusCode::CONFLICT, text)
}
