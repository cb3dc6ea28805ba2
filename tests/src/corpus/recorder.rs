//! An origin that keeps what reached it: each request with its body, whether that came whole, and the very bytes.

use std::net::SocketAddr;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// A running recorder.
#[derive(Debug)]
pub struct Recorder {
    addr: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
    _tasks: JoinSet<()>,
}

/// One request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    pub method: String,
    pub target: String,
    /// Lower case, without port and trailing dot.
    pub host: String,
    pub body: Vec<u8>,
    /// All of the body came, as its framing says.
    pub whole: bool,
    pub raw: Vec<u8>,
}

impl Recorder {
    /// # Panics
    /// When the loopback has no free port.
    pub async fn start() -> Self {
        let listener = TcpListener::bind(crate::origin::ANY).await.expect("a free port");
        let addr = listener.local_addr().expect("a bound socket has an address");
        let seen = Arc::<Mutex<Vec<Seen>>>::default();
        let mut tasks = JoinSet::new();
        let shared = Arc::clone(&seen);
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(record(stream, Arc::clone(&shared)));
            }
        });
        Self { addr, seen, _tasks: tasks }
    }

    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The requests whose target has this word.
    pub fn of(&self, word: &str) -> Vec<Seen> {
        self.seen.lock().iter().filter(|seen| seen.target.contains(word)).cloned().collect()
    }

    pub fn forget(&self) {
        self.seen.lock().clear();
    }
}

/// One connection, to its end or to what cannot be read.
async fn record(mut stream: TcpStream, all: Arc<Mutex<Vec<Seen>>>) {
    let mut ahead = Vec::new();
    loop {
        let head_end = loop {
            if let Some(at) = ahead.windows(4).position(|window| window == b"\r\n\r\n") {
                break at + 4;
            }
            if !matches!(stream.read_buf(&mut ahead).await, Ok(count) if count > 0) {
                return;
            }
        };
        let head = String::from_utf8_lossy(&ahead[..head_end]).into_owned();
        let index = {
            let mut all = all.lock();
            all.push(Seen::of(&head));
            all.len() - 1
        };
        let update = |seen: Seen| {
            if let Some(entry) = all.lock().get_mut(index) {
                *entry = seen;
            }
        };
        if field(&head, "expect").is_some() {
            let _ = stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await;
        }
        let body = loop {
            match body(&head, &ahead[head_end..]) {
                Body::Whole(body, length) => break (body, length),
                Body::Open(body) => {
                    update(Seen { body, ..Seen::of(&head) });
                    if !matches!(stream.read_buf(&mut ahead).await, Ok(count) if count > 0) {
                        return;
                    }
                }
                Body::Broken => return,
            }
        };
        let rest = ahead.split_off(head_end + body.1);
        let raw = std::mem::replace(&mut ahead, rest);
        let seen = Seen { body: body.0, whole: true, raw, ..Seen::of(&head) };
        let is_head = seen.method == "HEAD";
        update(seen);
        let answer: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
        if stream.write_all(if is_head { &answer[..answer.len() - 2] } else { answer }).await.is_err() {
            return;
        }
    }
}

impl Seen {
    fn of(head: &str) -> Self {
        let mut words = head.lines().next().unwrap_or_default().split(' ').map(str::to_owned);
        let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let host = field(head, "host").unwrap_or_default().to_ascii_lowercase();
        let name = host.rsplit_once(':').map_or(host.as_str(), |(name, _)| name);
        let host = name.trim_end_matches('.').to_owned();
        // Absolute addresses say the same as a path beside the Host.
        let target = match target.strip_prefix("http://").and_then(|rest| rest.split_once('/')) {
            Some((_, path)) => format!("/{path}"),
            None => target,
        };
        Self { method, target, host, ..Self::default() }
    }
}

/// The first field of this name.
fn field<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().skip(1).find_map(|line| {
        let (key, value) = line.split_once(':')?;
        key.eq_ignore_ascii_case(name).then(|| value.trim())
    })
}

/// As far as it is here.
enum Body {
    /// And how many bytes it took.
    Whole(Vec<u8>, usize),
    Open(Vec<u8>),
    Broken,
}

fn body(head: &str, bytes: &[u8]) -> Body {
    if field(head, "transfer-encoding").is_some() {
        return chunks(bytes).unwrap_or(Body::Broken);
    }
    match field(head, "content-length").map(str::parse::<usize>) {
        None => Body::Whole(Vec::new(), 0),
        Some(Ok(length)) if bytes.len() >= length => Body::Whole(bytes[..length].to_vec(), length),
        Some(Ok(_)) => Body::Open(bytes.to_vec()),
        Some(Err(_)) => Body::Broken,
    }
}

/// Chunks as a program writes them. None: they are not.
fn chunks(bytes: &[u8]) -> Option<Body> {
    let (mut body, mut at) = (Vec::new(), 0);
    loop {
        let Some(length) = bytes[at..].windows(2).position(|two| two == b"\r\n") else {
            return Some(Body::Open(body));
        };
        let size = usize::from_str_radix(str::from_utf8(&bytes[at..at + length]).ok()?, 16).ok()?;
        at += length + 2;
        if size == 0 {
            // Trailers, then an empty line.
            let end = bytes[at - 2..].windows(4).position(|four| four == b"\r\n\r\n");
            return Some(match end {
                Some(end) => Body::Whole(body, at + end + 2),
                None => Body::Open(body),
            });
        }
        match bytes.get(at..at + size + 2) {
            None => return Some(Body::Open(body)),
            Some(chunk) => body.extend_from_slice(chunk.strip_suffix(b"\r\n")?),
        }
        at += size + 2;
    }
}
