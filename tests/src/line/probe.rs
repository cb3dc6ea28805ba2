//! What people notice beside a bulk transfer: small requests, a WebSocket's frames, the messages of a call.

use std::future::poll_fn;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use h2::RecvStream;
use http::Request;
use parking_lot::Mutex;
use tokio::task::JoinSet;
use tokio::time::{Interval, MissedTickBehavior, interval};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;

use super::wan::Door;
use crate::client::{Duplex, Http1, Http2, Http2Stream, over_http1, tls_connect};

/// A message's bytes: a game's or an editor's.
const MESSAGE_BYTES: usize = 128;

/// Asks for 1 KiB again and again on one connection, for so long but at least once; what each answer took.
///
/// # Errors
/// When one is not answered.
pub async fn requests(
    door: &Door,
    host: &str,
    pause: Duration,
    length: Duration,
) -> Result<Vec<Duration>, String> {
    let stream =
        tls_connect(door.https, &door.ca, host, &["http/1.1"]).await.map_err(|error| error.to_string())?;
    let mut client = Http1::over(stream);
    let url = format!("https://{host}/bytes/1024");
    let (since, mut took) = (Instant::now(), Vec::new());
    while took.is_empty() || since.elapsed() < length {
        let asked = Instant::now();
        let answer = client.fetch(Request::get(&url).body(Bytes::new()).expect("a valid URL")).await?;
        if answer.body.len() != 1024 {
            return Err(format!("status {}", answer.status));
        }
        took.push(asked.elapsed());
        tokio::time::sleep(pause).await;
    }
    Ok(took)
}

/// The value below which this share of the values lies.
///
/// # Panics
/// Without values.
pub fn percentile(values: &[Duration], share: f64) -> Duration {
    let mut values = values.to_vec();
    values.sort();
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share of a count")]
    let at = (values.len() as f64 * share) as usize;
    values[at.min(values.len() - 1)]
}

/// Messages that are sent at a steady pace and come back.
#[derive(Debug)]
pub struct Talk {
    record: Arc<Mutex<Record>>,
    _task: JoinSet<()>,
}

/// What came back.
#[derive(Clone, Debug, Default)]
pub struct Record {
    /// When each message was sent.
    sent: Vec<Instant>,
    /// When each came back, in order.
    back: Vec<Instant>,
    /// Why the talk ended.
    pub broken: Option<String>,
}

impl Talk {
    /// A WebSocket over HTTP/1.1 to the origin that echoes.
    ///
    /// # Panics
    /// When it is not opened.
    pub async fn websocket(door: &Door, host: &str, pace: Duration) -> Self {
        let stream =
            tls_connect(door.https, &door.ca, host, &["http/1.1"]).await.expect("TLS to the entrance");
        let socket = over_http1(Http1::over(stream), host, "/ws").await.expect("an upgrade");
        Self::of(|record| frames(socket, steady(pace), record))
    }

    /// A call with messages both ways in one HTTP/2 stream, as gRPC's.
    ///
    /// # Panics
    /// When it is not opened.
    pub async fn call(door: &Door, host: &str, pace: Duration) -> Self {
        let mut client = Http2::at(door.https, &door.ca, host).await.expect("HTTP/2 to the entrance");
        let request =
            Request::post(format!("https://{host}/echo")).header("content-type", "application/grpc");
        let request = request.header("te", "trailers").body(()).expect("a valid URL");
        let mut stream = client.open(request, false).await.expect("a stream");
        let body = stream.head().await.expect("an answer").into_body();
        Self::of(|record| messages(client, stream, body, steady(pace), record))
    }

    fn of<F: Future<Output = String> + Send + 'static>(talk: impl FnOnce(Arc<Mutex<Record>>) -> F) -> Self {
        let record = Arc::<Mutex<Record>>::default();
        let mut task = JoinSet::new();
        let (end, talk) = (record.clone(), talk(record.clone()));
        task.spawn(async move {
            let why = talk.await;
            end.lock().broken = Some(why);
        });
        Self { record, _task: task }
    }

    pub fn record(&self) -> Record {
        self.record.lock().clone()
    }
}

impl Record {
    /// What each message took that was sent since and has come back.
    pub fn round_trips(&self, since: Instant) -> Vec<Duration> {
        let pairs = self.sent.iter().zip(&self.back).filter(|(sent, _)| **sent >= since);
        pairs.map(|(sent, back)| *back - *sent).collect()
    }

    /// When the first message came back after this moment.
    pub fn first_after(&self, moment: Instant) -> Option<Duration> {
        self.back.iter().find(|back| **back > moment).map(|back| *back - moment)
    }

    /// Messages that have not come back.
    pub fn outstanding(&self) -> usize {
        self.sent.len() - self.back.len()
    }
}

fn steady(pace: Duration) -> Interval {
    let mut interval = interval(pace);
    interval.set_missed_tick_behavior(MissedTickBehavior::Skip);
    interval
}

/// Talks over a WebSocket until it breaks, and says why.
async fn frames(
    socket: WebSocketStream<Box<dyn Duplex>>,
    mut pace: Interval,
    record: Arc<Mutex<Record>>,
) -> String {
    let (mut send, mut receive) = socket.split();
    let sender = async {
        loop {
            pace.tick().await;
            record.lock().sent.push(Instant::now());
            let message = Message::Binary(Bytes::from_static(&[7; MESSAGE_BYTES]));
            if let Err(error) = send.send(message).await {
                return format!("cannot send: {error}");
            }
        }
    };
    let receiver = async {
        loop {
            match receive.next().await {
                Some(Ok(Message::Binary(_))) => record.lock().back.push(Instant::now()),
                Some(Ok(Message::Close(frame))) => return format!("closed: {frame:?}"),
                Some(Ok(_)) => {}
                Some(Err(error)) => return format!("broken: {error}"),
                None => return "ended".to_owned(),
            }
        }
    };
    tokio::select! { why = sender => why, why = receiver => why }
}

/// Talks over a stream of HTTP/2 until it breaks, and says why.
async fn messages(
    _connection: Http2,
    mut stream: Http2Stream,
    mut body: RecvStream,
    mut pace: Interval,
    record: Arc<Mutex<Record>>,
) -> String {
    let sender = async {
        loop {
            pace.tick().await;
            record.lock().sent.push(Instant::now());
            let mut message = Bytes::from_static(&[7; MESSAGE_BYTES]);
            while !message.is_empty() {
                stream.send.reserve_capacity(message.len());
                if stream.send.capacity() == 0 {
                    let Some(Ok(_)) = poll_fn(|cx| stream.send.poll_capacity(cx)).await else {
                        return "the stream is closed".to_owned();
                    };
                }
                let part = message.split_to(stream.send.capacity().min(message.len()));
                if let Err(error) = stream.send.send_data(part, false) {
                    return format!("cannot send: {error}");
                }
            }
        }
    };
    let receiver = async {
        let mut bytes = 0;
        loop {
            let Some(data) = body.data().await else { return "ended".to_owned() };
            let data = match data {
                Ok(data) => data,
                Err(error) => return format!("broken: {error}"),
            };
            let _ = body.flow_control().release_capacity(data.len());
            bytes += data.len();
            let mut record = record.lock();
            while record.back.len() < bytes / MESSAGE_BYTES {
                record.back.push(Instant::now());
            }
        }
    };
    tokio::select! { why = sender => why, why = receiver => why }
}
