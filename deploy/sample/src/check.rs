//! The visitor: real requests of several kinds against a running edge, each answer checked and said in one line.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use http::{Request, Response};
use http_body::Body;
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::tungstenite::Message;

use crate::content::{Pattern, Sum, pattern_sum};

/// Size of the upload and of the download: what a hosted tunnel refuses to carry.
const BULK_BYTES: u64 = 100 * 1024 * 1024;
/// No single check may take longer.
const DEADLINE: Duration = Duration::from_secs(120);

/// Where the edge is, and which names it serves for the sample rules.
#[derive(Clone, Debug)]
pub struct Target {
    pub edge: SocketAddr,
    /// The certificate authority that signed the edge's certificate.
    pub ca: PathBuf,
    /// A name whose rule passes the Host through.
    pub host: String,
    /// A name whose rule rewrites the Host, and to what.
    pub rewritten: Option<(String, String)>,
}

/// Runs every check; prints one line each; returns how many failed.
///
/// # Errors
/// When the certificate authority cannot be read.
pub async fn run(target: &Target) -> anyhow::Result<usize> {
    let tls = TlsClient::new(target)?;
    let mut failed = 0;
    let mut report = |name: &str, since: Instant, outcome: anyhow::Result<String>| {
        let took = since.elapsed().as_millis();
        match outcome {
            Ok(seen) => println!("  ok      {name:<34} {took:>6} ms  {seen}"),
            Err(error) => {
                failed += 1;
                println!("  FAILED  {name:<34} {took:>6} ms  {error:#}");
            }
        }
    };
    macro_rules! check {
        ($name:expr, $future:expr) => {{
            let since = Instant::now();
            let outcome = tokio::time::timeout(DEADLINE, Box::pin($future)).await;
            report(
                $name,
                since,
                outcome.unwrap_or_else(|_| Err(anyhow::anyhow!("no end within {DEADLINE:?}"))),
            );
        }};
    }
    check!("HTTP/1.1 request", hello(&tls, Alpn::Http1));
    check!("HTTP/2 request", hello(&tls, Alpn::H2));
    if let Some((name, expected)) = &target.rewritten {
        check!("Host rewriting", rewriting(&tls, name, expected));
    }
    check!("WebSocket echo", websocket(&tls));
    check!("100 MiB download, HTTP/1.1", download(&tls, Alpn::Http1));
    check!("100 MiB download, HTTP/2", download(&tls, Alpn::H2));
    check!("100 MiB upload, HTTP/1.1", upload(&tls, Alpn::Http1));
    check!("100 MiB upload, HTTP/2", upload(&tls, Alpn::H2));
    Ok(failed)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Alpn {
    Http1,
    H2,
}

struct TlsClient<'a> {
    target: &'a Target,
    roots: Arc<rustls::RootCertStore>,
}

impl<'a> TlsClient<'a> {
    fn new(target: &'a Target) -> anyhow::Result<Self> {
        let mut roots = rustls::RootCertStore::empty();
        let ca = CertificateDer::from_pem_file(&target.ca)
            .with_context(|| format!("cannot read {}", target.ca.display()))?;
        roots.add(ca)?;
        Ok(Self { target, roots: Arc::new(roots) })
    }

    async fn connect(&self, name: &str, alpn: Alpn) -> anyhow::Result<TlsStream<TcpStream>> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(self.roots.clone())
            .with_no_client_auth();
        config.alpn_protocols = vec![if alpn == Alpn::H2 { b"h2".to_vec() } else { b"http/1.1".to_vec() }];
        let tcp = TcpStream::connect(self.target.edge).await.context("cannot connect to the edge")?;
        tcp.set_nodelay(true)?;
        let name = ServerName::try_from(name.to_owned())?;
        let stream = tokio_rustls::TlsConnector::from(Arc::new(config))
            .connect(name, tcp)
            .await
            .context("TLS failed")?;
        ensure!(stream.get_ref().1.alpn_protocol().is_some(), "the edge chose no protocol by ALPN");
        Ok(stream)
    }

    /// One request on a connection of its own. The returned set owns the connection's task.
    async fn send<B>(
        &self,
        name: &str,
        alpn: Alpn,
        path: &str,
        method: &str,
        body: B,
    ) -> anyhow::Result<(Response<Incoming>, JoinSet<()>)>
    where
        B: Body<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let io = TokioIo::new(self.connect(name, alpn).await?);
        let mut tasks = JoinSet::new();
        let request = Request::builder().method(method);
        let response = if alpn == Alpn::H2 {
            let mut builder = hyper::client::conn::http2::Builder::new(TokioExecutor::new());
            builder.initial_stream_window_size(1 << 20).initial_connection_window_size(1 << 20);
            let (mut client, connection) = builder.handshake(io).await?;
            tasks.spawn(async move { drop(connection.await) });
            client.send_request(request.uri(format!("https://{name}{path}")).body(body)?).await?
        } else {
            let (mut client, connection) = hyper::client::conn::http1::handshake(io).await?;
            tasks.spawn(async move { drop(connection.await) });
            client.send_request(request.uri(path).header("host", name).body(body)?).await?
        };
        Ok((response, tasks))
    }
}

async fn hello(tls: &TlsClient<'_>, alpn: Alpn) -> anyhow::Result<String> {
    let (response, _connection) = tls.send(&tls.target.host, alpn, "/", "GET", Empty::new()).await?;
    let status = response.status();
    let body = response.into_body().collect().await?.to_bytes();
    ensure!(status == 200, "status {status}");
    ensure!(body.starts_with(b"Hello"), "unexpected body {:?}", String::from_utf8_lossy(&body));
    Ok(format!("{status}, {} bytes", body.len()))
}

async fn rewriting(tls: &TlsClient<'_>, name: &str, expected: &str) -> anyhow::Result<String> {
    let (response, _connection) = tls.send(name, Alpn::Http1, "/inspect", "GET", Empty::new()).await?;
    let seen: serde_json::Value = serde_json::from_slice(&response.into_body().collect().await?.to_bytes())?;
    let header = |wanted: &str| {
        let headers = seen["headers"].as_array().into_iter().flatten();
        headers
            .clone()
            .find(|pair| pair[0] == wanted)
            .and_then(|pair| pair[1].as_str())
            .unwrap_or("nothing")
            .to_owned()
    };
    ensure!(header("host") == expected, "the origin saw Host {}, expected {expected}", header("host"));
    ensure!(
        header("x-forwarded-host") == name,
        "the origin saw X-Forwarded-Host {}",
        header("x-forwarded-host")
    );
    Ok(format!("{name} reached the origin as {expected}"))
}

async fn websocket(tls: &TlsClient<'_>) -> anyhow::Result<String> {
    let stream = tls.connect(&tls.target.host, Alpn::Http1).await?;
    let url = format!("wss://{}/ws", tls.target.host);
    let (mut socket, _) = tokio_tungstenite::client_async(url, stream).await?;
    let messages =
        [Message::text("a causeway joins an island to the mainland"), Message::binary(vec![7; 70_000])];
    for message in &messages {
        socket.send(message.clone()).await?;
        match socket.next().await {
            Some(Ok(back)) if back == *message => {}
            other => bail!("the echo differs: {other:?}"),
        }
    }
    socket.close(None).await?;
    Ok("text and binary came back unchanged".to_owned())
}

async fn download(tls: &TlsClient<'_>, alpn: Alpn) -> anyhow::Result<String> {
    let path = format!("/bytes/{BULK_BYTES}");
    let (response, _connection) = tls.send(&tls.target.host, alpn, &path, "GET", Empty::new()).await?;
    ensure!(response.status() == 200, "status {}", response.status());
    let mut body = response.into_body();
    let mut sum = Sum::default();
    while let Some(frame) = body.frame().await {
        if let Ok(data) = frame?.into_data() {
            sum.update(&data);
        }
    }
    let (bytes, sum) = (sum.bytes(), sum.finish());
    ensure!(bytes == BULK_BYTES && sum == pattern_sum(BULK_BYTES), "{bytes} bytes with SHA-256 {sum}");
    Ok(format!("SHA-256 {}… is right", &sum[..16]))
}

async fn upload(tls: &TlsClient<'_>, alpn: Alpn) -> anyhow::Result<String> {
    let (response, _connection) =
        tls.send(&tls.target.host, alpn, "/sink", "POST", Pattern::sized(BULK_BYTES)).await?;
    ensure!(response.status() == 200, "status {}", response.status());
    let seen: serde_json::Value = serde_json::from_slice(&response.into_body().collect().await?.to_bytes())?;
    ensure!(
        seen["bytes"] == BULK_BYTES && seen["sha256"] == pattern_sum(BULK_BYTES),
        "the origin saw {seen}"
    );
    Ok(format!("SHA-256 {}… is right", &pattern_sum(BULK_BYTES)[..16]))
}
