//! A blocking JSON client of the API server, for tests that read top to bottom; it lives in the control namespace.

use std::future::Future;
use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use http::HeaderValue;
use http::header::USER_AGENT;
use kube::{Client, Config};
use serde_json::Value;
use tokio::runtime::{Builder, Runtime};

use crate::netns::Namespace;

/// How often `eventually` looks again.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// Longer than the API server itself works on a request before it gives up and says so (60 s): on a busy machine a call
/// waits, it does not fail. What must be quick has a limit of its own, in `eventually`.
const PATIENCE: Duration = Duration::from_secs(90);

/// The user agent of the tests' own calls.
pub(super) const WHO: &str = "causeway-tests";

/// Cheap to clone.
#[derive(Clone)]
pub struct Api {
    /// One worker, and that one lives in the namespace: so do the sockets that it makes.
    runtime: Arc<Runtime>,
    client: Client,
}

impl std::fmt::Debug for Api {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Api")
    }
}

impl Api {
    pub fn new(namespace: &Namespace, server: &str, token: &str) -> Result<Self> {
        let inside = namespace.clone();
        let runtime = Arc::new(
            Builder::new_multi_thread()
                .worker_threads(1)
                .thread_name("api")
                .on_thread_start(move || inside.move_here())
                .enable_all()
                .build()?,
        );
        let mut config = Config::new(server.parse().context("the API server's address")?);
        config.auth_info.token = Some(token.to_owned().into());
        // The test talks to the server that it started a moment ago, in a namespace that nobody else is in.
        config.accept_invalid_certs = true;
        config.read_timeout = Some(PATIENCE);
        // In the audit log the programs under test, which say nothing of themselves, are told from the test.
        config.headers = vec![(USER_AGENT, HeaderValue::from_static(WHO))];
        let _guard = runtime.enter();
        let client = Client::try_from(config)?;
        drop(_guard);
        Ok(Self { runtime, client })
    }

    pub fn get(&self, path: &str) -> Result<Value> {
        self.call("GET", path, None, None)
    }

    /// The items of a list.
    pub fn list(&self, path: &str) -> Result<Vec<Value>> {
        let mut list = self.get(path)?;
        match list["items"].take() {
            Value::Array(items) => Ok(items),
            _ => Ok(Vec::new()),
        }
    }

    /// None when there is no such object.
    pub fn find(&self, path: &str) -> Result<Option<Value>> {
        match self.get(path) {
            Ok(value) => Ok(Some(value)),
            Err(error) if is_status(&error, 404) => Ok(None),
            Err(error) => Err(error),
        }
    }

    pub fn create(&self, path: &str, object: &Value) -> Result<Value> {
        self.call("POST", path, Some("application/json"), Some(object))
    }

    pub fn replace(&self, path: &str, object: &Value) -> Result<Value> {
        self.call("PUT", path, Some("application/json"), Some(object))
    }

    /// A JSON merge patch: null removes a key, lists are replaced whole.
    pub fn merge(&self, path: &str, patch: &Value) -> Result<Value> {
        self.call("PATCH", path, Some("application/merge-patch+json"), Some(patch))
    }

    /// Server-side apply under the name `test`.
    pub fn apply(&self, path: &str, object: &Value) -> Result<Value> {
        let path = format!("{path}?fieldManager=test&force=true");
        self.call("PATCH", &path, Some("application/apply-patch+yaml"), Some(object))
    }

    /// Deletes one object, or all of a collection; nothing to delete is fine.
    pub fn delete(&self, path: &str) -> Result<()> {
        match self.call("DELETE", path, None, None) {
            Err(error) if !is_status(&error, 404) => Err(error),
            _ => Ok(()),
        }
    }

    /// Plain text, as /readyz and /metrics give it.
    pub fn text(&self, path: &str) -> Result<String> {
        let request = http::Request::get(path).body(Vec::new())?;
        let client = self.client.clone();
        self.on_worker(async move { Ok(client.request_text(request).await?) })
    }

    fn call(&self, method: &str, path: &str, content: Option<&str>, body: Option<&Value>) -> Result<Value> {
        let mut request = http::Request::builder().method(method).uri(path);
        if let Some(content) = content {
            request = request.header("content-type", content);
        }
        let body = body.map(serde_json::to_vec).transpose()?.unwrap_or_default();
        let request = request.body(body)?;
        let client = self.client.clone();
        let what = format!("{method} {path}");
        self.on_worker(async move { client.request::<Value>(request).await.context(what) })
    }

    fn on_worker<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T>> + Send + 'static,
    ) -> Result<T> {
        let (answer, result) = sync_channel(1);
        self.runtime.spawn(async move {
            let _ = answer.send(work.await);
        });
        result.recv().map_err(|_| anyhow!("the API client's thread ended"))?
    }
}

/// Waits for time itself to pass; `park_timeout` alone may return at once.
pub fn pause(span: Duration) {
    let end = Instant::now() + span;
    while let Some(left) = end.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
        thread::park_timeout(left);
    }
}

/// Whether the API server refused with this HTTP status.
pub fn is_status(error: &anyhow::Error, code: u16) -> bool {
    matches!(error.downcast_ref::<kube::Error>(), Some(kube::Error::Api(status)) if status.code == code)
}

/// Looks until `probe` gives a value. The last answer of a probe that failed is part of the error.
///
/// # Errors
/// When `limit` has passed.
pub fn eventually<T>(limit: Duration, what: &str, mut probe: impl FnMut() -> Result<T>) -> Result<T> {
    let start = Instant::now();
    loop {
        let error = match probe() {
            Ok(value) => return Ok(value),
            Err(error) => error,
        };
        ensure!(start.elapsed() < limit, "not within {limit:?}: {what}: {error:#}");
        pause(LOOK_AGAIN);
    }
}

/// Looks for the whole of `span` and fails as soon as `probe` does: for things that must not happen.
pub fn throughout(span: Duration, what: &str, mut probe: impl FnMut() -> Result<()>) -> Result<()> {
    let start = Instant::now();
    while start.elapsed() < span {
        probe().with_context(|| format!("{what}, {:?} into {span:?}", start.elapsed()))?;
        pause(LOOK_AGAIN);
    }
    Ok(())
}
