//! The ways that are compared: haproxy alone, haproxy in front of rathole, and ours, with TLS that ends at the edge or at home; each with its processes to weigh.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use causeway_tests::child::Program;
use causeway_tests::client::tls_connect;
use causeway_tests::connector::Connector;
use causeway_tests::edge::{Edge, EdgeOptions};
use causeway_tests::files::{Certificate, Folder};
use causeway_tests::origin::closed_port;
use causeway_tests::process::Usage;
use causeway_tests::site::to;
use causeway_tests::wait;
use tokio::process::Command;

/// The name that every contender serves: load generators send it as SNI and Host without being told to.
pub const HOST: &str = "localhost";

/// One way from visitor to origin.
#[derive(Debug)]
pub struct Contender {
    pub name: &'static str,
    pub https: SocketAddr,
    /// Between visitor and origin; the origin's own CPU does not count.
    programs: Vec<(&'static str, Program)>,
    /// Memory at rest, before any load: name and bytes.
    pub idle: Vec<(&'static str, u64)>,
    ca: PathBuf,
    _folder: Folder,
    edge: Option<Edge>,
}

impl Contender {
    /// Everything that runs between visitor and origin.
    pub fn usage(&self) -> Vec<(&'static str, Usage)> {
        let edge = self.edge.iter().map(|edge| ("causeway-edge", edge.program.usage()));
        edge.chain(self.programs.iter().map(|(name, program)| (*name, program.usage()))).collect()
    }

    /// Where it speaks HTTP/3, if it does.
    pub fn http3(&self) -> SocketAddr {
        self.edge.as_ref().map_or(self.https, |edge| edge.tunnel)
    }

    /// What visitors trust.
    pub fn ca(&self) -> &Path {
        &self.ca
    }

    /// Our edge, if this is ours.
    pub fn edge(&self) -> Option<&Edge> {
        self.edge.as_ref()
    }

    /// CPU time of all its programs so far.
    pub fn cpu(&self) -> Duration {
        self.usage().iter().map(|(_, usage)| usage.cpu).sum()
    }

    /// Waits until it answers over TLS, and weighs it at rest.
    async fn settled(mut self) -> Self {
        let look = || async { tls_connect(self.https, &self.ca, HOST, &["http/1.1"]).await.ok() };
        wait::until(self.name, Duration::from_secs(20), look).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        self.idle = self.usage().into_iter().map(|(name, usage)| (name, usage.resident_bytes)).collect();
        self
    }
}

/// Ours: the real edge and the real connector, full features, logs at their default.
pub async fn causeway(origin: SocketAddr) -> Contender {
    ours("causeway", Folder::default(), &to(format!("http://{origin}")), None).await
}

/// The same with TLS that ends in the connector.
pub async fn causeway_at_home(origin: SocketAddr) -> Contender {
    let folder = Folder::default();
    let certificate = Certificate::for_names(&[HOST]);
    let certificates = folder.join("certificates");
    std::fs::create_dir(&certificates).expect("a folder can be made in a temporary one");
    let ca = folder.write("certificates/cert.pem", &certificate.cert_pem);
    folder.write("certificates/key.pem", &certificate.key_pem);
    let rules = format!(
        "certificateFolders: ['{}']\ningress:\n  - {{ service: 'http://{origin}', tls: connector }}\n",
        certificates.display()
    );
    ours("causeway-at-home", folder, &rules, Some(ca)).await
}

/// `ca` is whom visitors trust, if it is not the edge's own authority.
async fn ours(name: &'static str, folder: Folder, rules: &str, ca: Option<PathBuf>) -> Contender {
    let config = "log: { format: text, level: info }\n";
    let edge = Edge::with(EdgeOptions { config: config.into(), ..Default::default() }).await;
    let created = edge.create("bench", &[HOST]).await;
    let mut connector = Connector::start_in(folder, &created.token, rules, &[]);
    connector.ready(Duration::from_secs(20)).await;
    let (program, folder) = connector.into_parts();
    let contender = Contender {
        name,
        https: edge.https,
        ca: ca.unwrap_or_else(|| edge.ca()),
        programs: vec![("causeway-connector", program)],
        idle: Vec::new(),
        _folder: folder,
        edge: Some(edge),
    };
    contender.settled().await
}

/// caddy, which speaks HTTP/3 too, goes straight to the origin: no tunnel at all.
pub async fn caddy(caddy: &Path, origin: SocketAddr) -> Contender {
    let folder = Folder::default();
    let https = closed_port();
    let certificate = Certificate::for_names(&[HOST]);
    let (cert, key) =
        (folder.write("cert.pem", &certificate.cert_pem), folder.write("key.pem", &certificate.key_pem));
    let config = folder.write(
        "Caddyfile",
        &format!(
            "{{\n admin off\n auto_https off\n}}\nhttps://{HOST}:{} {{\n bind 127.0.0.1\n tls {} {}\n reverse_proxy {origin}\n}}\n",
            https.port(),
            cert.display(),
            key.display()
        ),
    );
    let mut command = Command::new(caddy);
    command.args(["run", "--adapter", "caddyfile", "--config"]).arg(config);
    // One thread, as our one shard.
    command.env("GOMAXPROCS", "1").env("HOME", folder.path()).env("XDG_DATA_HOME", folder.path());
    let programs = vec![("caddy", Program::start("caddy", command))];
    let ca = cert;
    let contender =
        Contender { name: "caddy", https, ca, programs, idle: Vec::new(), _folder: folder, edge: None };
    contender.settled().await
}

/// haproxy ends TLS and goes straight to the origin: no tunnel at all.
pub async fn haproxy(haproxy: &Path, origin: SocketAddr) -> Contender {
    let folder = Folder::default();
    let (program, https, ca) = start_haproxy(haproxy, &folder, origin);
    let programs = vec![("haproxy", program)];
    let contender =
        Contender { name: "haproxy", https, ca, programs, idle: Vec::new(), _folder: folder, edge: None };
    contender.settled().await
}

/// How rathole's two halves talk to each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    Tcp,
    Tls,
}

/// What a self-hoster would run: haproxy ends TLS, rathole carries the bytes.
pub async fn haproxy_rathole(
    haproxy: &Path,
    rathole: &Path,
    transport: Transport,
    origin: SocketAddr,
) -> Option<Contender> {
    let folder = Folder::default();
    let (control, service) = (closed_port(), closed_port());
    let (server_tls, client_tls) = match transport {
        Transport::Tcp => ("type = \"tcp\"\n".to_owned(), "type = \"tcp\"\n".to_owned()),
        Transport::Tls => tls_transport(&folder).await?,
    };
    let server = folder.write(
        "server.toml",
        &format!(
            "[server]\nbind_addr = \"{control}\"\ndefault_token = \"bench\"\n[server.transport]\n{server_tls}\
             [server.services.web]\nbind_addr = \"{service}\"\n"
        ),
    );
    let client = folder.write(
        "client.toml",
        &format!(
            "[client]\nremote_addr = \"localhost:{}\"\ndefault_token = \"bench\"\n[client.transport]\n{client_tls}\
             [client.services.web]\nlocal_addr = \"{origin}\"\n",
            control.port()
        ),
    );
    let start = |name: &'static str, mode: &str, config: &Path| {
        let mut command = Command::new(rathole);
        command.arg(mode).arg(config);
        (name, Program::start(name, command))
    };
    let mut programs = vec![start("rathole-server", "--server", &server)];
    wait::until("rathole's server", Duration::from_secs(10), || async {
        tokio::net::TcpStream::connect(control).await.ok()
    })
    .await;
    programs.push(start("rathole-client", "--client", &client));
    wait::until("rathole's service", Duration::from_secs(20), || async {
        answers(service).await.then_some(())
    })
    .await;
    let (program, https, ca) = start_haproxy(haproxy, &folder, service);
    programs.insert(0, ("haproxy", program));
    let name = if transport == Transport::Tcp { "haproxy+rathole-tcp" } else { "haproxy+rathole-tls" };
    let contender = Contender { name, https, ca, programs, idle: Vec::new(), _folder: folder, edge: None };
    Some(contender.settled().await)
}

/// Whether an HTTP request through a clear-text address is answered.
async fn answers(addr: SocketAddr) -> bool {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let Ok(mut stream) = tokio::net::TcpStream::connect(addr).await else { return false };
    let request = b"GET / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
    let mut byte = [0];
    let asked = stream.write_all(request).await.is_ok();
    let answered = tokio::time::timeout(Duration::from_millis(500), stream.read_exact(&mut byte)).await;
    asked && answered.is_ok_and(|read| read.is_ok())
}

fn start_haproxy(haproxy: &Path, folder: &Folder, backend: SocketAddr) -> (Program, SocketAddr, PathBuf) {
    let https = closed_port();
    let certificate = Certificate::for_names(&[HOST]);
    let pem = folder.write("site.pem", &format!("{}{}", certificate.cert_pem, certificate.key_pem));
    let ca = folder.write("ca.pem", &certificate.cert_pem);
    // One thread, as our one shard; connections to the backend are kept, as ours are.
    let config = folder.write(
        "haproxy.cfg",
        &format!(
            "global\n nbthread 1\n maxconn 4000\n\
             defaults\n mode http\n timeout connect 5s\n timeout client 60s\n timeout server 60s\n option http-keep-alive\n\
             \x20http-reuse always\n\
             frontend tls\n bind {https} ssl crt {} alpn h2,http/1.1\n default_backend origin\n\
             backend origin\n server origin {backend} pool-max-conn 1000\n",
            pem.display()
        ),
    );
    let mut command = Command::new(haproxy);
    command.arg("-db").arg("-f").arg(config);
    (Program::start("haproxy", command), https, ca)
}

/// rathole's TLS wants a PKCS#12 file on the server and the certificate on the client. `None` without the openssl program.
pub(crate) async fn tls_transport(folder: &Folder) -> Option<(String, String)> {
    let certificate = Certificate::for_names(&[HOST]);
    let (cert, key) =
        (folder.write("tunnel.crt", &certificate.cert_pem), folder.write("tunnel.key", &certificate.key_pem));
    let pkcs12 = folder.join("tunnel.pfx");
    let mut command = Command::new("openssl");
    command
        .args(["pkcs12", "-export", "-passout", "pass:bench", "-in"])
        .arg(&cert)
        .arg("-inkey")
        .arg(key)
        .arg("-out")
        .arg(&pkcs12);
    // The old encryption is what PKCS#12 readers without OpenSSL understand.
    command.args(["-keypbe", "PBE-SHA1-3DES", "-certpbe", "PBE-SHA1-3DES", "-macalg", "sha1"]);
    if !command.status().await.is_ok_and(|status| status.success()) {
        return None;
    }
    let server = format!(
        "type = \"tls\"\n[server.transport.tls]\npkcs12 = \"{}\"\npkcs12_password = \"bench\"\n",
        pkcs12.display()
    );
    let client = format!(
        "type = \"tls\"\n[client.transport.tls]\ntrusted_root = \"{}\"\nhostname = \"{HOST}\"\n",
        cert.display()
    );
    Some((server, client))
}
