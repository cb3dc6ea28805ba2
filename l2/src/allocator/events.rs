//! Publishes events, one by one, without holding anybody up.

use causeway_daemon::drain::Drain;
use k8s_openapi::api::core::v1::{Event, EventSource};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use k8s_openapi::jiff::Timestamp;
use kube::api::PostParams;
use kube::{Api, Client};
use tokio::sync::mpsc;
use tracing::debug;

use super::index::Note;
use crate::call::{Call, CallError, Outages};

/// How many events may wait. When the API server is slow, older events are worth more than newer ones, and none of
/// them is worth memory without end.
const QUEUE: usize = 512;
/// The limit of the API server for a message.
const MAX_MESSAGE_BYTES: usize = 1024;
const CREATE: Call = Call::new("create", "events");
/// The component that tools for MetalLB look for.
const SOURCE: &str = "metallb-controller";

/// The way in; what does not fit is dropped and counted.
#[derive(Clone, Debug)]
pub(super) struct Publisher(mpsc::Sender<Note>);

impl Publisher {
    pub(super) fn start(client: Client, instance: String, outages: Outages, drain: &Drain) -> Self {
        let (sender, mut notes) = mpsc::channel::<Note>(QUEUE);
        let stop = drain.clone();
        drop(drain.spawn("events", async move {
            loop {
                let note = tokio::select! {
                    biased;
                    () = stop.forced() => return,
                    note = notes.recv() => note,
                };
                let Some(note) = note else { return };
                publish(&client, note, &instance, &outages).await;
            }
        }));
        Self(sender)
    }

    /// Whether the event was queued.
    pub(super) fn send(&self, note: Note) -> bool {
        self.0.try_send(note).is_ok()
    }
}

/// One that fails is not worth a second try: it would hold up those behind it.
async fn publish(client: &Client, note: Note, instance: &str, outages: &Outages) {
    let now = Timestamp::now();
    let namespace = note.object.namespace.clone().unwrap_or_else(|| "default".to_owned());
    let name = format!("{}.{:x}", note.object.name.as_deref().unwrap_or("unknown"), now.as_nanosecond());
    let mut message = note.message;
    if message.len() > MAX_MESSAGE_BYTES {
        let end = (0..=MAX_MESSAGE_BYTES).rev().find(|at| message.is_char_boundary(*at)).unwrap_or(0);
        message.truncate(end);
    }
    let event = Event {
        metadata: ObjectMeta {
            name: Some(name),
            namespace: Some(namespace.clone()),
            ..ObjectMeta::default()
        },
        involved_object: note.object,
        type_: Some(if note.warning { "Warning" } else { "Normal" }.to_owned()),
        reason: Some(note.reason.to_owned()),
        message: Some(message),
        source: Some(EventSource { component: Some(SOURCE.to_owned()), host: None }),
        reporting_component: Some("causeway-allocator".to_owned()),
        reporting_instance: Some(instance.to_owned()),
        first_timestamp: Some(Time(now)),
        last_timestamp: Some(Time(now)),
        count: Some(1),
        ..Event::default()
    };
    let events: Api<Event> = Api::namespaced(client.clone(), &namespace);
    let result = CREATE.run(events.create(&PostParams::default(), &event)).await;
    // A namespace that ends takes no events.
    let ends = |error: &CallError| {
        error.code() == Some(404)
            || (error.code() == Some(403) && error.to_string().contains("being terminated"))
    };
    if let Err(error) = outages.tell(CREATE, &note.reason, result, ends) {
        debug!(%error, reason = note.reason, "event not published");
    }
}
