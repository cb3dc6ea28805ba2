//! The cluster's side: two Services of type LoadBalancer with a VIP each. Behind one is Debian's nginx; behind the other a proxy as
//! ingress-nginx is one, which answers by the Host that it knows and has an application behind it.
//!
//! The pods are on a node that announces nothing, so that a dead owner takes no pod along: how long Kubernetes goes on sending
//! connections to a dead pod is its own.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use anyhow::{Context, Result};
use causeway_tests::cluster::{
    Cluster, Namespace, Process, SOON, TEST, advertisement, eventually, pool, service, with,
};
use causeway_tests::needs;
use causeway_tests::origin::{Origin, Speak};
use serde_json::json;
use tokio::runtime::Runtime;

/// The one Host that the ingress proxy knows.
pub(super) const INSIDE: &str = "apps.internal";
/// The node of the pods, and those that may announce.
const PODS: usize = 2;
const ANNOUNCERS: [&str; 2] = ["node1", "node2"];
const ANOTHER: &str = "another";
const NGINX: u16 = 8081;
const INGRESS: u16 = 8082;
const APP: u16 = 9000;

/// What is served at home, and where.
pub(super) struct Sites {
    pub(super) blog: String,
    pub(super) apps: String,
    /// Where nginx puts what is uploaded.
    uploads: PathBuf,
    _nginx: Process,
    _app: Origin,
}

impl Sites {
    pub(super) fn open(c: &mut Cluster, runtime: &Runtime) -> Result<Self> {
        let net = c.fresh();
        let nodes = json!([{ "matchExpressions": [{ "key": "kubernetes.io/hostname", "operator": "In", "values": ANNOUNCERS }] }]);
        c.create(&[
            &pool("pool", &[&net.range4(10, 30)]),
            &advertisement("pool", json!({ "ipAddressPools": ["pool"], "nodeSelectors": nodes })),
        ])?;
        let pod = c.nodes[PODS].host.pod.clone();
        let at = SocketAddr::from((Ipv4Addr::LOCALHOST, APP));
        let app = runtime.block_on(pod.within(Origin::tcp(at, Speak::Http1)))?;
        let nginx = start_nginx(c, &pod)?;
        for (app, port) in [("blog", NGINX), ("apps", INGRESS)] {
            c.add_pod(app, PODS)?;
            let spec = json!({ "spec": { "selector": { "app": app },
                "ports": [{ "name": "http", "protocol": "TCP", "port": 80, "targetPort": port }] } });
            c.create(&[&with(service(app), spec)])?;
        }
        let (blog, apps) = (c.wait_ip("blog")?, c.wait_ip("apps")?);
        for vip in [&blog, &apps] {
            c.wait_owner(vip)?;
        }
        let uploads = c.folder().join("nginx/www/upload");
        Ok(Self { blog, apps, uploads, _nginx: nginx, _app: app })
    }

    pub(super) fn uploaded(&self) -> PathBuf {
        self.uploads.join("big")
    }

    /// A third Service gets a VIP that a node answers for: allocator and speakers are at work. Its endpoints are written by hand:
    /// Kubernetes' own controllers may stand back for a minute after the API server's return.
    pub(super) fn give_another(c: &Cluster) -> Result<()> {
        let pod = &c.nodes[PODS].host;
        let endpoints = json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
            "metadata": { "name": ANOTHER, "namespace": TEST, "labels": { "kubernetes.io/service-name": ANOTHER } },
            "endpoints": [{ "addresses": [pod.pod_v4], "nodeName": pod.host.name, "conditions": { "ready": true } }],
            "ports": [{ "name": "http", "protocol": "TCP", "port": NGINX }]
        });
        let no_selector = json!({ "spec": { "selector": null } });
        c.create(&[&endpoints, &with(service(ANOTHER), no_selector)])?;
        // A Lease has to run out, and watches have to be tried again.
        eventually(3 * SOON, "a new Service is served", || c.wait_owner(&c.wait_ip(ANOTHER)?)).map(drop)
    }
}

fn start_nginx(c: &Cluster, pod: &Namespace) -> Result<Process> {
    let at = c.folder().join("nginx");
    std::fs::create_dir_all(at.join("www/upload"))?;
    let file = at.join("nginx.conf");
    std::fs::write(&file, config(&at.display().to_string()))?;
    let nginx = needs("nginx").context("nginx is not installed")?;
    let args = ["-e", "stderr", "-p", at.to_str().context("path")?, "-c", file.to_str().context("path")?];
    let nginx = Process::start(pod, c.folder(), "nginx", &nginx, &args.map(str::to_owned), &[])?;
    let look =
        || pod.enter(|| std::net::TcpStream::connect((Ipv4Addr::LOCALHOST, INGRESS)).map_err(Into::into));
    eventually(SOON, "nginx listens", look)?;
    Ok(nginx)
}

fn config(at: &str) -> String {
    format!(
        "daemon off; master_process off; pid {at}/pid; error_log stderr warn;
events {{ worker_connections 4096; }}
http {{
    access_log off; client_max_body_size 0;
    client_body_temp_path {at}/body; proxy_temp_path {at}/proxy; fastcgi_temp_path {at}/fastcgi;
    uwsgi_temp_path {at}/uwsgi; scgi_temp_path {at}/scgi;
    map $http_upgrade $connection_upgrade {{ default upgrade; '' ''; }}
    server {{
        listen {NGINX};
        root {at}/www;
        location = / {{ default_type text/plain; return 200 \"hello from nginx\\n\"; }}
        location /upload/ {{ dav_methods PUT; }}
    }}
    server {{ listen {INGRESS} default_server; return 404; }}
    server {{
        listen {INGRESS};
        server_name {INSIDE};
        location / {{
            proxy_pass http://127.0.0.1:{APP};
            proxy_http_version 1.1;
            proxy_set_header Host $http_host;
            proxy_set_header Upgrade $http_upgrade;
            proxy_set_header Connection $connection_upgrade;
            proxy_set_header X-Forwarded-For $http_x_forwarded_for;
            proxy_buffering off; proxy_request_buffering off;
        }}
    }}
}}
"
    )
}
