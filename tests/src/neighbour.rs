//! A visitor from another address than the attackers', on a thread of its own: the attack's tasks do not delay its clock.
//!
//! Visitors and attackers have machines of their own, where the processors of edge and connector do not matter to them. Here they share
//! them: a visitor comes first, so that no wait for a processor counts as the edge's, and an attack takes what the programs leave.

use std::fmt::Display;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::Request;
use rustix::thread::gettid;
use tokio::sync::oneshot;
use tokio::time::sleep;

use crate::client::{Http1, tls_connect_from};
use crate::edge::Edge;
use crate::site::APP;

/// Between an answer and the next request.
const PAUSE: Duration = Duration::from_millis(2);
/// The first requests of a connection meet a colder one: they are not counted.
const WARM: usize = 20;

/// See the module.
#[derive(Clone, Debug)]
pub struct Neighbour {
    pub https: SocketAddr,
    pub ca: PathBuf,
}

impl Neighbour {
    /// Where it comes from.
    pub const ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));

    pub fn of(edge: &Edge) -> Self {
        Self { https: edge.https, ca: edge.ca() }
    }

    /// Asks so many times, one after another, some 300 times a second: who asks as fast as he can is a load himself. Every answer must be
    /// whole. The slowest but one in a hundred.
    ///
    /// # Panics
    /// When one is not.
    pub async fn p99(&self, requests: usize) -> Duration {
        let (https, ca) = (self.https, self.ca.clone());
        let times = elsewhere(Turn::First, move || async move {
            let tls = tls_connect_from(Self::ADDRESS, https, &ca, APP, &["http/1.1"]).await;
            let mut client = Http1::over(tls.expect("the edge lets it in"));
            let mut times = Vec::new();
            for _ in 0..WARM + requests {
                let since = Instant::now();
                let request = Request::get(format!("https://{APP}/bytes/2000")).body(Bytes::new());
                let answer = client.fetch(request.expect("a request")).await.expect("an answer").ok();
                assert_eq!(answer.body.len(), 2000);
                times.push(since.elapsed());
                sleep(PAUSE).await;
            }
            times
        });
        let mut times = times.await;
        let times = &mut times[WARM..];
        times.sort_unstable();
        times[requests * 99 / 100]
    }
}

/// How soon a thread gets a processor that others want too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// As soon as it wants one, where the tests may say so (root).
    First,
    /// As all do.
    Ordinary,
    /// When nobody else wants it.
    Last,
}

impl Turn {
    /// The words of chrt(1) for it; nice(2) is not enough: who runs may go on for milliseconds.
    pub fn chrt(self) -> [&'static str; 2] {
        match self {
            Self::First => ["--rr", "1"],
            Self::Ordinary => ["--other", "0"],
            Self::Last => ["--idle", "0"],
        }
    }

    /// This process gets it, as far as it runs now: those who read what the programs write, too. Not what it has started.
    pub fn for_this_process(self) {
        self.take(&["--all-tasks"], std::process::id());
    }

    /// Where the tests may say so (root). Others share as all do.
    fn take(self, args: &[&str], whose: impl Display) {
        let [policy, priority] = self.chrt();
        let mut command = std::process::Command::new("chrt");
        command.args(args).args([policy, "--pid", priority, &whose.to_string()]);
        let _ = command.stderr(Stdio::null()).status();
    }
}

/// Which processors a program may use, where the tests may say so; what it starts from now on inherits it.
pub fn seat(pid: u32, processors: &str) {
    let mut command = std::process::Command::new("taskset");
    command.args(["--all-tasks", "--cpu-list", "--pid", processors, &pid.to_string()]);
    let _ = command.stdout(Stdio::null()).stderr(Stdio::null()).status();
}

/// Runs on a thread and a runtime of its own.
///
/// # Panics
/// When the work does.
pub async fn elsewhere<T: Send + 'static, F: Future<Output = T>>(
    turn: Turn,
    work: impl FnOnce() -> F + Send + 'static,
) -> T {
    let (done, result) = oneshot::channel();
    std::thread::spawn(move || {
        turn.take(&[], gettid().as_raw_nonzero());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let _ = done.send(runtime.expect("a runtime can be built").block_on(work()));
    });
    result.await.expect("the work does not panic")
}
