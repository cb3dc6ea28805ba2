//! Follows the Services at the API server for ever: a list, then a watch from there; and from where a watch ended the next one.
//!
//! ```text
//! list (pages) ──► watch ──► watch ──► …        the server ends each after some minutes
//!      ▲             │ 410, any other refusal
//!      └─────────────┘
//! ```
//! Whatever fails is tried again, ever more slowly; nothing is taken away meanwhile.

use std::time::Duration;

use bytes::{Buf, BytesMut};
use causeway_daemon::backoff::Backoff;
use http::StatusCode;
use hyper::body::Incoming;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};

use super::api::{ApiError, Line, Refusal};
use super::object::{Key, Service};
use super::source::Source;

/// What has come to be known.
pub(super) enum Change {
    /// All there are.
    All(Vec<Service>),
    Seen(Service),
    Gone(Key),
    /// Nothing comes for now, and why.
    Lost(ApiError),
    /// The API server answers.
    Reached,
}

pub(super) struct Watcher {
    source: Source,
    namespace: Option<String>,
    /// The version that we know all of. None: nothing, or it is too old.
    position: Option<String>,
}

/// What a list or an object says of versions.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Metadata {
    resource_version: String,
    #[serde(rename = "continue")]
    next: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct List {
    metadata: Metadata,
    items: Vec<Service>,
}

/// An event, at first without its object.
#[derive(Debug, Deserialize)]
struct Kind {
    r#type: String,
}

#[derive(Debug, Deserialize)]
struct Of<T> {
    object: T,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Bookmark {
    metadata: Metadata,
}

/// Objects of a page: it is in memory as a whole, with everything that is not kept.
const PAGE: usize = 100;
/// A watch asks to be ended after this, so that a new token, or another server behind the address, is taken up.
const WATCH_SECONDS: u64 = 290;
/// Longer than the server is silent: it sends a bookmark about once a minute.
const WATCH_SILENCE: Duration = Duration::from_secs(WATCH_SECONDS + 15);
/// One object and what is around it: etcd takes 1.5 MiB.
const MAX_EVENT_BYTES: usize = 4 << 20;
const SOONEST: Duration = Duration::from_millis(250);
const LATEST: Duration = Duration::from_secs(5);

impl Watcher {
    pub(super) fn new(source: Source, namespace: Option<String>) -> Self {
        Self { source, namespace, position: None }
    }

    /// Lists all Services; a watch goes on from there.
    pub(super) async fn list(&mut self) -> Result<Vec<Service>, ApiError> {
        let mut line = self.open().await?;
        let mut services = Vec::new();
        let mut next = String::new();
        loop {
            let page = line.page(&format!("{}?limit={PAGE}{next}", self.path())).await?;
            let List { metadata, items } = serde_json::from_slice(&page).map_err(|error| line.odd(error))?;
            services.extend(items.into_iter().filter_map(Service::reduced));
            match metadata.next.filter(|next| !next.is_empty()) {
                Some(more) => next = format!("&continue={}", percent_encoded(&more)),
                None => {
                    self.position = Some(metadata.resource_version);
                    return Ok(services);
                }
            }
        }
    }

    /// Follows for ever, or until nobody takes the changes.
    pub(super) async fn run(mut self, changes: mpsc::Sender<Change>) {
        let mut backoff = Backoff::new(SOONEST, LATEST);
        while !changes.is_closed() {
            let since = Instant::now();
            let ended = self.round(&changes).await;
            // One that lasted was no failure to be wary of; one that a server ends at once is, whatever it says.
            if since.elapsed() > LATEST {
                backoff.reset();
            }
            match ended {
                Ok(()) => {}
                Err(ApiError::Expired) => self.position = None,
                Err(error) => {
                    // After a break the next watch goes on where this one was; a refusal may be of that very place.
                    if !error.is_of_the_line() {
                        self.position = None;
                    }
                    let _ = changes.send(Change::Lost(error)).await;
                }
            }
            let pause = backoff.next(&mut rand::rng());
            sleep(pause).await;
        }
    }

    /// A list if there is no position, and a watch to its end.
    async fn round(&mut self, changes: &mpsc::Sender<Change>) -> Result<(), ApiError> {
        if self.position.is_none() {
            let all = self.list().await?;
            let _ = changes.send(Change::All(all)).await;
        }
        let mut line = self.open().await?;
        let position = self.position.clone().unwrap_or_default();
        let path = format!(
            "{}?watch=1&allowWatchBookmarks=true&timeoutSeconds={WATCH_SECONDS}&resourceVersion={}",
            self.path(),
            percent_encoded(&position)
        );
        let mut body = line.get(&path).await?.into_body();
        let _ = changes.send(Change::Reached).await;
        let mut events = BytesMut::new();
        while let Some(event) = next(&mut line, &mut body, &mut events).await? {
            if let Some(change) = self.take(&line, &event)? {
                let _ = changes.send(change).await;
            }
        }
        Ok(())
    }

    fn take(&mut self, line: &Line, event: &[u8]) -> Result<Option<Change>, ApiError> {
        let Kind { r#type } = read(line, event)?;
        match r#type.as_str() {
            "ADDED" | "MODIFIED" | "DELETED" => {
                let Of::<Service> { object } = read(line, event)?;
                let key = object.key();
                if let Some(version) = &object.metadata.resource_version {
                    self.position = Some(version.clone());
                }
                let kept = if r#type == "DELETED" { None } else { object.reduced() };
                Ok(Some(kept.map_or(Change::Gone(key), Change::Seen)))
            }
            "BOOKMARK" => {
                let Of::<Bookmark> { object } = read(line, event)?;
                self.position = Some(object.metadata.resource_version);
                Ok(None)
            }
            "ERROR" => {
                let Of::<Refusal> { object } = read(line, event)?;
                let status = StatusCode::from_u16(object.code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
                Err(line.refused(status, object.message))
            }
            other => Err(line.odd(format!("an event of type {other:?}"))),
        }
    }

    async fn open(&self) -> Result<Line, ApiError> {
        Line::open(self.source.read()?, self.namespace.clone()).await
    }

    fn path(&self) -> String {
        match &self.namespace {
            Some(namespace) => format!("/api/v1/namespaces/{}/services", percent_encoded(namespace)),
            None => "/api/v1/services".to_owned(),
        }
    }
}

/// The next line of a watch; none when the server has ended it.
async fn next(
    line: &mut Line,
    body: &mut Incoming,
    events: &mut BytesMut,
) -> Result<Option<BytesMut>, ApiError> {
    let mut looked = 0;
    loop {
        if let Some(end) = events[looked..].iter().position(|&byte| byte == b'\n') {
            let event = events.split_to(looked + end);
            events.advance(1);
            return Ok(Some(event));
        }
        looked = events.len();
        if looked > MAX_EVENT_BYTES {
            return Err(line.odd(format!("an event of more than {MAX_EVENT_BYTES} bytes")));
        }
        match timeout(WATCH_SILENCE, line.piece(body)).await {
            Ok(Ok(Some(piece))) => events.extend_from_slice(&piece),
            Ok(Ok(None)) => return Ok(None),
            Ok(Err(error)) => return Err(error),
            Err(_) => return Err(line.broken("it was silent for minutes")),
        }
    }
}

fn read<T: DeserializeOwned>(line: &Line, event: &[u8]) -> Result<T, ApiError> {
    serde_json::from_slice(event).map_err(|error| line.odd(error))
}

/// RFC 3986: what a query's value can have as it stands, and the rest encoded.
fn percent_encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

#[cfg(test)]
mod tests;
