//! The client of the API server that both programs use: it notices a dead connection within seconds.

use std::{path::Path, time::Duration};

use anyhow::{Context, ensure};
use hyper_timeout::TimeoutConnector;
use hyper_util::{
    client::legacy::{Client as HttpClient, connect::HttpConnector},
    rt::TokioExecutor,
};
use kube::{
    Client, Config,
    client::{Body, ConfigExt},
    config::{KubeConfigOptions, Kubeconfig},
};
use tower::ServiceBuilder;

/// A read from the API server that hangs is given up: the next one finds the server or says that it is away.
const READ_TIMEOUT: Duration = Duration::from_secs(295);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// A connection whose other end, or whose own address, is gone: asked for after this without a word, given up after that
/// long without an answer. A watch would else stay silent, and a write hang, until the read is given up.
const KEEPALIVE: Duration = Duration::from_secs(10);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(3);
const UNANSWERED: Duration = Duration::from_secs(15);

/// A client from the kubeconfig, else from the pod's service account.
///
/// # Errors
/// When there is no usable configuration.
pub async fn connect(kubeconfig: Option<&Path>) -> anyhow::Result<Client> {
    let config = match kubeconfig {
        Some(path) => {
            let file =
                Kubeconfig::read_from(path).with_context(|| format!("cannot use {}", path.display()))?;
            Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await?
        }
        None => Config::infer().await.context(
            "neither a kubeconfig nor a service account was found: set --kubeconfig, or run in the cluster",
        )?,
    };
    ensure!(
        config.proxy_url.is_none(),
        "a proxy on the way to the API server is not supported: take `proxy-url` out of the kubeconfig, or HTTPS_PROXY out \
         of the environment"
    );
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_keepalive(Some(KEEPALIVE));
    tcp.set_keepalive_interval(Some(KEEPALIVE_INTERVAL));
    tcp.set_tcp_user_timeout(Some(UNANSWERED));
    let mut connector = TimeoutConnector::new(config.rustls_https_connector_with_connector(tcp)?);
    connector.set_connect_timeout(Some(CONNECT_TIMEOUT));
    connector.set_read_timeout(Some(READ_TIMEOUT));
    let http: HttpClient<_, Body> = HttpClient::builder(TokioExecutor::new()).build(connector);
    let service = ServiceBuilder::new()
        .layer(config.base_uri_layer())
        .option_layer(config.auth_layer()?)
        .layer(config.extra_headers_layer()?)
        .map_err(tower::BoxError::from)
        .service(http);
    Ok(Client::new(service, config.default_namespace))
}
