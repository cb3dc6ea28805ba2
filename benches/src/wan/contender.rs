//! Who is compared, spread over the places: the public side at the VPS, the other half at home.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use causeway_tests::child::Program;
use causeway_tests::client::tls_connect;
use causeway_tests::files::{Certificate, Folder};
use causeway_tests::line::{A, B, CALLS, Door, Origins, Ours, VPS, VPS_FAR, Wan};
use causeway_tests::origin::closed_port;
use causeway_tests::wait;
use tokio::process::Command;

use super::measure::Measure;
use crate::contender::tls_transport;

/// One of the compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Causeway,
    RatholeCubic,
    RatholeBbr,
}

impl Kind {
    pub const ALL: [Self; 3] = [Self::Causeway, Self::RatholeCubic, Self::RatholeBbr];

    pub fn name(self) -> &'static str {
        match self {
            Self::Causeway => "causeway",
            Self::RatholeCubic => "haproxy+rathole-cubic",
            Self::RatholeBbr => "haproxy+rathole-bbr",
        }
    }

    /// TCP's congestion control on the lines, where it is not cubic.
    pub(super) fn tcp(self) -> Option<&'static str> {
        (self == Self::RatholeBbr).then_some("bbr")
    }
}

/// A contender that answers.
#[derive(Debug)]
pub enum Running {
    Ours(Box<Ours>),
    Peer(Peer),
}

/// haproxy and rathole's server at the VPS, rathole's client at home.
#[derive(Debug)]
pub struct Peer {
    programs: Vec<Program>,
    https: SocketAddr,
    ca: PathBuf,
    _folder: Folder,
}

impl Running {
    pub(super) async fn start(
        kind: Kind,
        wan: &Wan,
        origins: &Origins,
        how: &Measure,
    ) -> anyhow::Result<Self> {
        if kind == Kind::Causeway {
            return Ok(Self::Ours(Box::new(wan.ours_with(&how.edge_config, origins).await)));
        }
        let haproxy = how.haproxy.as_ref().context("haproxy is not installed")?;
        let rathole = how.rathole.as_ref().context("rathole is not installed")?;
        let folder = Folder::default();
        let services = [A, B, CALLS].map(|name| (name, closed_port()));
        let (server_tls, client_tls) =
            tls_transport(&folder).await.context("openssl could not make rathole's key file")?;
        let control = SocketAddr::new(VPS.into(), closed_port().port());
        let mut programs =
            start_rathole(rathole, &folder, wan, origins, (control, services), (server_tls, client_tls));
        let (program, https, ca) = start_haproxy(haproxy, &folder, services);
        programs.push(program);
        let peer = Self::Peer(Peer { programs, https, ca, _folder: folder });
        let door = peer.door();
        for name in [A, B] {
            let look = || async { answers(&door, name).await.then_some(()) };
            wait::until("an answer through haproxy and rathole", Duration::from_secs(20), look).await;
        }
        Ok(peer)
    }

    pub(super) fn door(&self) -> Door {
        match self {
            Self::Ours(ours) => Door::from(&ours.edge),
            Self::Peer(peer) => Door::new(peer.https, &peer.ca),
        }
    }

    /// CPU time of all its programs so far.
    pub(super) fn cpu(&self) -> Duration {
        match self {
            Self::Ours(ours) => ours.edge.program.usage().cpu + ours.connector.program.usage().cpu,
            Self::Peer(peer) => peer.programs.iter().map(|program| program.usage().cpu).sum(),
        }
    }
}

async fn answers(door: &Door, name: &str) -> bool {
    let Ok(stream) = tls_connect(door.https, &door.ca, name, &["http/1.1"]).await else { return false };
    let mut client = causeway_tests::client::Http1::over(stream);
    client.send(format!("GET / HTTP/1.1\r\nhost: {name}\r\n\r\n").as_bytes()).await;
    client.answer("GET").await.is_ok_and(|answer| answer.status == 200)
}

type Services = [(&'static str, SocketAddr); 3];

fn start_rathole(
    rathole: &PathBuf,
    folder: &Folder,
    wan: &Wan,
    origins: &Origins,
    (control, services): (SocketAddr, Services),
    (server_tls, client_tls): (String, String),
) -> Vec<Program> {
    let mut server = format!(
        "[server]\nbind_addr = \"{control}\"\ndefault_token = \"bench\"\n[server.transport]\n{server_tls}"
    );
    let mut client = format!(
        "[client]\nremote_addr = \"{control}\"\ndefault_token = \"bench\"\n[client.transport]\n{client_tls}"
    );
    let locals = [&origins.a, &origins.b, &origins.calls].map(|origin| origin.addr());
    for (n, ((_, bind), local)) in services.iter().zip(locals).enumerate() {
        server += &format!("[server.services.s{n}]\nbind_addr = \"{bind}\"\n");
        client += &format!("[client.services.s{n}]\nlocal_addr = \"{local}\"\n");
    }
    let start = |name: &str, mode: &str, config: PathBuf| {
        let mut command = Command::new(rathole);
        command.arg(mode).arg(config);
        Program::start(name, command)
    };
    let (server, client) = (folder.write("server.toml", &server), folder.write("client.toml", &client));
    let runtime = tokio::runtime::Handle::current();
    vec![
        start("rathole-server", "--server", server),
        wan.home.enter(|| {
            let _runtime = runtime.enter();
            start("rathole-client", "--client", client)
        }),
    ]
}

fn start_haproxy(haproxy: &PathBuf, folder: &Folder, services: Services) -> (Program, SocketAddr, PathBuf) {
    let https = SocketAddr::new(VPS_FAR.into(), closed_port().port());
    let certificate = Certificate::for_names(&[A, B, CALLS]);
    let pem = folder.write("site.pem", &format!("{}{}", certificate.cert_pem, certificate.key_pem));
    let ca = folder.write("ca.pem", &certificate.cert_pem);
    let mut config = format!(
        "global\n nbthread 1\n maxconn 4000\n\
         defaults\n mode http\n timeout connect 30s\n timeout client 60s\n timeout server 60s\n timeout tunnel 1h\n\
         \x20option http-keep-alive\n http-reuse always\n\
         frontend tls\n bind {https} ssl crt {} alpn h2,http/1.1\n",
        pem.display()
    );
    for (n, (name, _)) in services.iter().enumerate() {
        config += &format!(" use_backend s{n} if {{ hdr(host) -i {name} }}\n");
    }
    for (n, (name, bind)) in services.iter().enumerate() {
        let proto = if *name == CALLS { " proto h2" } else { "" };
        config += &format!("backend s{n}\n server origin {bind} pool-max-conn 1000{proto}\n");
    }
    let mut command = Command::new(haproxy);
    command.arg("-db").arg("-f").arg(folder.write("haproxy.cfg", &config));
    (Program::start("haproxy", command), https, ca)
}
