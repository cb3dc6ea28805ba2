//! A visitor from another address than the attackers', on a thread of its own: the attack's tasks do not delay its clock.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::Request;

use crate::client::{Http1, tls_connect_from};
use crate::edge::Edge;
use crate::site::APP;

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

    /// Asks so many times, one after another; every answer must be whole. The slowest but one in a hundred.
    ///
    /// # Panics
    /// When one is not.
    pub async fn p99(&self, requests: usize) -> Duration {
        let (https, ca) = (self.https, self.ca.clone());
        let times = elsewhere(move || async move {
            let tls = tls_connect_from(Self::ADDRESS, https, &ca, APP, &["http/1.1"]).await;
            let mut client = Http1::over(tls.expect("the edge lets it in"));
            let mut times = Vec::new();
            for _ in 0..requests {
                let since = Instant::now();
                let request = Request::get(format!("https://{APP}/bytes/2000")).body(Bytes::new());
                let answer = client.fetch(request.expect("a request")).await.expect("an answer").ok();
                assert_eq!(answer.body.len(), 2000);
                times.push(since.elapsed());
            }
            times
        });
        let mut times = times.await;
        times.sort_unstable();
        times[requests * 99 / 100]
    }
}

/// Runs on a thread and a runtime of its own.
///
/// # Panics
/// When the work does.
pub async fn elsewhere<T: Send + 'static, F: Future<Output = T>>(
    work: impl FnOnce() -> F + Send + 'static,
) -> T {
    let work = move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.expect("a runtime can be built").block_on(work())
    };
    tokio::task::spawn_blocking(work).await.expect("the work does not panic")
}
