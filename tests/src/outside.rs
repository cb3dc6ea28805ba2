//! Sites whose TLS ends at home, so that the whole suite of requests runs through that as well. With `CAUSEWAY_TLS=passthrough` an
//! edge and a connector of their own stand in front of each site's, and pass its visitors' connections on unread; with
//! `CAUSEWAY_TLS=connector` each site's own connector ends it.

use std::path::PathBuf;

use serde_json::Value;

use crate::connector::Connector;
use crate::edge::Edge;
use crate::files::{Certificate, Folder};
use crate::names::{NAMES, START};

/// What stands in front of a site.
#[derive(Debug)]
pub struct Outside {
    pub edge: Edge,
    pub connector: Connector,
}

/// The same rules with TLS that ends in the connector, and the certificate that it shows.
///
/// # Panics
/// When the rules are not some.
pub fn at_home(folder: &Folder, rules: &str) -> (String, PathBuf) {
    let certificate = Certificate::for_names(&NAMES);
    let certificates = folder.join("certificates");
    std::fs::create_dir(&certificates).expect("a folder can be made in a temporary one");
    let shown = folder.write("certificates/site.pem", &certificate.cert_pem);
    folder.write("certificates/key.pem", &certificate.key_pem);
    let mut file: Value = causeway_daemon::config::parse("config.yml", rules).expect("rules");
    for rule in file["ingress"].as_array_mut().expect("a list of rules") {
        rule["tls"] = "connector".into();
    }
    file["certificateFolders"] = vec![certificates.display().to_string()].into();
    (file.to_string(), shown)
}

impl Outside {
    /// Has the visitors of an edge come in by another one.
    pub async fn of(inner: &mut Edge) -> Self {
        let edge = Edge::start().await;
        let tunnel = edge.create("outside", &NAMES).await;
        let rules = format!(
            "ingress:\n  - {{ service: 'https://{}', tls: passthrough }}\n  - service: http_status:404\n",
            inner.https
        );
        let mut connector = Connector::start(&tunnel.token, &rules);
        connector.ready(START).await;
        edge.wait_state("outside", "HEALTHY", START).await;
        inner.https = edge.https;
        Self { edge, connector }
    }
}
