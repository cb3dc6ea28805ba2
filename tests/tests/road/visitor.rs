//! A visitor out on the Internet, who asks both sites twenty times a second each and holds a WebSocket, and keeps account of all of it.
//!
//! Of the first site each request is a new visitor's, with a connection and a handshake of its own; those of the second share an
//! HTTP/2 connection for as long as it takes more. Nothing is asked twice: what fails is told as failed.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use causeway_tests::client::{Answer, End, Entrance, Http1, Http2, tls_connect};
use causeway_tests::cluster::Namespace;
use futures_util::{SinkExt, StreamExt};
use http::Request;
use parking_lot::Mutex;
use tokio::sync::{Mutex as Turn, watch};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_tungstenite::tungstenite::Message;

use crate::account::{Account, Visit};
use crate::ground::VPS;

pub(super) const BLOG: &str = "blog.example.test";
pub(super) const APPS: &str = "apps.example.test";
const EVERY: Duration = Duration::from_millis(50);
const ECHO_EVERY: Duration = Duration::from_millis(100);
/// Whoever waits longer goes away; above the longest pause that is promised to be one.
const PATIENCE: Duration = Duration::from_secs(8);

/// Where the sites are for everybody outside.
#[derive(Clone, Debug)]
pub(super) struct Public(pub(super) PathBuf);

impl Entrance for Public {
    fn https(&self) -> SocketAddr {
        SocketAddr::from((VPS, 443))
    }

    fn ca(&self) -> PathBuf {
        self.0.clone()
    }
}

/// At work until it is finished or dropped.
pub(super) struct Visitor {
    account: Arc<Mutex<Account>>,
    stop: watch::Sender<bool>,
    thread: Option<JoinHandle<()>>,
}

impl Visitor {
    /// Starts it on its machine; it trusts the authority `ca` and no other.
    pub(super) fn start(machine: &Namespace, ca: &Path) -> Self {
        let account = Arc::<Mutex<Account>>::default();
        let (stop, stopped) = watch::channel(false);
        let at_work = AtWork { public: Public(ca.to_owned()), account: account.clone(), stopped };
        let thread = machine.thread("visitor", move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a test may have a runtime").block_on(at_work.all());
        });
        Self { account, stop, thread: Some(thread) }
    }

    /// See [`Account::is_served`].
    pub(super) fn is_served(&self, since: Instant) -> bool {
        self.account.lock().is_served(since, Instant::now())
    }

    /// What it has seen, when all that is under way has ended.
    pub(super) fn finish(mut self) -> Account {
        self.end();
        std::mem::take(&mut *self.account.lock())
    }

    fn end(&mut self) {
        self.stop.send_replace(true);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Drop for Visitor {
    fn drop(&mut self) {
        self.end();
    }
}

#[derive(Clone)]
struct AtWork {
    public: Public,
    account: Arc<Mutex<Account>>,
    stopped: watch::Receiver<bool>,
}

/// The connection that the requests of the second site share; one that takes no more lives on with the requests on it.
type Shared = Arc<Turn<Option<Arc<Turn<Http2>>>>>;

impl AtWork {
    async fn all(self) {
        let shared = Shared::default();
        let again = self.clone();
        tokio::join!(
            self.clone().visits(0, |public| async move { once(&public).await }),
            self.clone().visits(1, move |public| over(public, shared.clone())),
            again.echoes(),
        );
    }

    async fn visits<F, Fut>(self, site: usize, ask: F)
    where
        F: Fn(Public) -> Fut,
        Fut: Future<Output = Result<Answer, String>> + Send + 'static,
    {
        let mut ticks = interval(EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let mut under_way = JoinSet::new();
        while !*self.stopped.borrow() {
            ticks.tick().await;
            let number = self.account.lock().begin(site, Visit::begun());
            let (answer, account) = (ask(self.public.clone()), self.account.clone());
            under_way.spawn(async move {
                let answer = timeout(PATIENCE, answer).await.unwrap_or_else(|_| Err("no answer".to_owned()));
                account.lock().end(site, number, judge(answer));
            });
            while under_way.try_join_next().is_some() {}
        }
        while under_way.join_next().await.is_some() {}
    }

    /// A WebSocket for as long as it echoes; then a new one.
    async fn echoes(self) {
        let mut number = 0_u64;
        while !*self.stopped.borrow() {
            let why = match self.echo(&mut number).await {
                Ok(()) => continue,
                Err(why) => why,
            };
            self.account.lock().broke(why);
            tokio::time::sleep(ECHO_EVERY).await;
        }
    }

    async fn echo(&self, number: &mut u64) -> Result<(), String> {
        let stream = tls_connect(self.public.https(), &self.public.0, APPS, &["http/1.1"]);
        let stream = timeout(PATIENCE, stream).await.map_err(said)?.map_err(said)?;
        let upgraded = tokio_tungstenite::client_async(format!("wss://{APPS}/ws"), stream);
        let (mut socket, _) = timeout(PATIENCE, upgraded).await.map_err(said)?.map_err(said)?;
        while !*self.stopped.borrow() {
            *number += 1;
            let sent = Message::text(number.to_string());
            socket.send(sent.clone()).await.map_err(said)?;
            let echoed = timeout(PATIENCE, socket.next()).await.map_err(said)?;
            let echoed = echoed.ok_or("it ended")?.map_err(said)?;
            if echoed != sent {
                return Err(format!("{echoed:?} for {sent:?}"));
            }
            self.account.lock().echoed();
            tokio::time::sleep(ECHO_EVERY).await;
        }
        socket.close(None).await.map_err(said)
    }
}

fn request(host: &str, path: &str) -> Request<bytes::Bytes> {
    Request::get(format!("https://{host}{path}")).body(bytes::Bytes::new()).expect("a valid URL")
}

async fn once(public: &Public) -> Result<Answer, String> {
    let stream = tls_connect(public.https(), &public.0, BLOG, &["http/1.1"]).await.map_err(said)?;
    Http1::over(stream).fetch(request(BLOG, "/")).await
}

async fn over(public: Public, shared: Shared) -> Result<Answer, String> {
    let (connection, stream) = {
        let mut slot = shared.lock().await;
        if let Some(connection) = &*slot
            && !connection.lock().await.takes_more().await
        {
            *slot = None;
        }
        if slot.is_none() {
            let made = Http2::at(public.https(), &public.0, APPS).await.map_err(said)?;
            *slot = Some(Arc::new(Turn::new(made)));
        }
        let connection = slot.clone().ok_or("a connection was made")?;
        let (head, _) = request(APPS, "/bytes/1000").into_parts();
        let stream = connection.lock().await.open(Request::from_parts(head, ()), true).await?;
        (connection, stream)
    };
    let answer = stream.answer().await;
    if answer.is_err() {
        // The next one comes on a new connection, as browsers do.
        let mut slot = shared.lock().await;
        slot.take_if(|now| Arc::ptr_eq(now, &connection));
    }
    answer
}

fn judge(answer: Result<Answer, String>) -> Result<(), String> {
    let answer = answer?;
    match (answer.status, answer.end) {
        (200, End::Clean) => Ok(()),
        (status, end) => {
            let words = answer.text().split_whitespace().collect::<Vec<_>>().join(" ");
            Err(format!("{status} {end:?} {}", words.chars().take(60).collect::<String>()))
        }
    }
}

fn said(error: impl std::fmt::Display) -> String {
    error.to_string()
}
