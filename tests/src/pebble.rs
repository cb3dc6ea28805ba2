//! A certificate authority of the test's own: Let's Encrypt's pebble, with a DNS of its own beside it that leads every name to
//! one address, by default the loopback.
//!
//! Its address is known before it runs, so that an edge can be told of it first: an edge needs no authority to start.

mod gate;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::Command;

use crate::child::Program;
use crate::client::{Entrance, Http1};
use crate::edge::Edge;
use crate::files::{Certificate, Folder};
use crate::origin::closed_port;
use crate::{needs, wait};
pub use gate::{Gate, Order};

/// Where an authority will be.
#[derive(Debug)]
pub struct Place {
    addr: SocketAddr,
    management: SocketAddr,
    /// Where it asks for DNS.
    dns: SocketAddr,
    /// Its own DNS is asked there to know a record; none where another's is used.
    ask_dns: Option<SocketAddr>,
    /// What its own DNS says of every name.
    leads_to: Ipv4Addr,
    folder: Folder,
    programs: (PathBuf, PathBuf),
}

/// How it behaves.
#[derive(Clone, Debug)]
pub struct Manners {
    /// Seconds that certificates are valid for.
    pub validity: u64,
    /// Where it looks for HTTP-01 answers, and for TLS-ALPN-01.
    pub http: SocketAddr,
    pub https: SocketAddr,
    /// Accounts must be bound to [`EAB`]; then it also has a profile `other`, whose certificates last twice as long.
    pub wants_eab: bool,
}

/// A running authority. Dropping it kills it.
#[derive(Debug)]
pub struct Pebble {
    program: Program,
    _dns: Option<Program>,
    place: Place,
    root: PathBuf,
}

/// The one account in its shop: key id and key.
pub const EAB: (&str, &str) = ("kid-1", "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W");

const START: Duration = Duration::from_secs(20);

impl Place {
    /// None: pebble is not installed.
    pub fn choose() -> Option<Self> {
        Self::with([(); 4].map(|()| closed_port()), Ipv4Addr::LOCALHOST)
    }

    /// The same on a machine of its own, by whose DNS every name leads to `leads_to`.
    pub fn at(ip: Ipv4Addr, leads_to: Ipv4Addr) -> Option<Self> {
        Self::with([14000, 15000, 8053, 8055].map(|port| SocketAddr::from((ip, port))), leads_to)
    }

    fn with([addr, management, dns, ask_dns]: [SocketAddr; 4], leads_to: Ipv4Addr) -> Option<Self> {
        let programs = (needs("pebble")?, needs("pebble-challtestsrv")?);
        let folder = Folder::default();
        let own = Certificate::for_names(&["localhost", &addr.ip().to_string()]);
        folder.write("cert.pem", &own.cert_pem);
        folder.write("key.pem", &own.key_pem);
        Some(Self { addr, management, dns, ask_dns: Some(ask_dns), leads_to, folder, programs })
    }

    /// The same, but it asks the nameserver at `dns`.
    #[must_use]
    pub fn asking(self, dns: SocketAddr) -> Self {
        Self { dns, ask_dns: None, ..self }
    }

    /// Where it asks for DNS.
    pub fn dns(&self) -> SocketAddr {
        self.dns
    }

    /// The lines of edge.yaml that name it, with further keys of the section `acme`.
    pub fn config(&self, further: &str) -> String {
        // Nobody outside of the test is asked for a record.
        let dns = match further.contains("  dns:") {
            true => String::new(),
            false => format!("  dns: {{ resolvers: [\"{}\"] }}\n", self.dns),
        };
        format!("acme:\n  directory: {}\n{dns}{further}", self.directory(""))
    }

    /// As [`Place::config`], with a proxy on the way.
    pub fn config_by(&self, gate: &Gate) -> String {
        let (before, behind) = (self.addr.to_string(), gate.addr.to_string());
        self.config("").replace(&before, &behind)
    }

    /// Itself as an item of `directory`, with further fields.
    pub fn directory(&self, further: &str) -> String {
        let ca = self.folder.join("cert.pem");
        format!("{{ url: \"https://{}/dir\", caFile: {}{further} }}", self.addr, ca.display())
    }

    /// Starts it, and waits until it answers.
    pub async fn open(self, manners: &Manners) -> Pebble {
        let names = self.ask_dns.map(|ask_dns| self.names(ask_dns));
        let config = self.folder.write("pebble.json", &self.manners(manners));
        let mut command = Command::new(&self.programs.0);
        command.arg("-strict").arg("-config").arg(config).arg("-dnsserver").arg(self.dns.to_string());
        command.env("PEBBLE_VA_NOSLEEP", "1");
        let program = Program::start("pebble", command);
        for addr in [Some(self.management), Some(self.addr), self.ask_dns].into_iter().flatten() {
            let look = || async move { TcpStream::connect(addr).await.ok() };
            wait::until("pebble to listen", START, look).await;
        }
        let root = self.ask("GET", "/roots/0", "").await;
        let root = self.folder.write("root.pem", &root);
        Pebble { program, _dns: names, place: self, root }
    }

    /// A DNS in which every name is at one address.
    fn names(&self, ask_dns: SocketAddr) -> Program {
        let mut command = Command::new(&self.programs.1);
        command.arg("-defaultIPv4").arg(self.leads_to.to_string());
        command.args(["-defaultIPv6", "", "-http01", "", "-https01", "", "-tlsalpn01", ""]);
        command.args(["-doh", "", "-dnsserver", &self.dns.to_string(), "-management", &ask_dns.to_string()]);
        Program::start("challtestsrv", command)
    }

    fn manners(&self, manners: &Manners) -> String {
        let mut pebble = json!({
            "listenAddress": self.addr.to_string(),
            "managementListenAddress": self.management.to_string(),
            "certificate": self.folder.join("cert.pem"),
            "privateKey": self.folder.join("key.pem"),
            "httpPort": manners.http.port(),
            "tlsPort": manners.https.port(),
            "retryAfter": { "authz": 1, "order": 1 },
            "keyAlgorithm": "ecdsa",
            // Of several it takes one by chance for who names none.
            "profiles": { "default": { "description": "for tests", "validityPeriod": manners.validity } },
        });
        if manners.wants_eab {
            pebble["externalAccountBindingRequired"] = json!(true);
            pebble["externalAccountMACKeys"] = json!({ EAB.0: EAB.1 });
            pebble["profiles"]["other"] =
                json!({ "description": "for tests", "validityPeriod": 2 * manners.validity });
        }
        json!({ "pebble": pebble }).to_string()
    }

    async fn ask(&self, method: &str, path: &str, body: &str) -> String {
        let mut client = Http1::tls(self, &self.management.ip().to_string()).await;
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: {}\r\nuser-agent: causeway-tests\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
            self.management,
            body.len()
        );
        client.send(head.as_bytes()).await;
        client.answer(method).await.expect("pebble answers").ok().text()
    }
}

/// Its management.
impl Entrance for Place {
    fn https(&self) -> SocketAddr {
        self.management
    }

    fn ca(&self) -> PathBuf {
        self.folder.join("cert.pem")
    }
}

impl Manners {
    /// Looks at this edge, and gives certificates for 90 days.
    pub fn of(edge: &Edge) -> Self {
        Self { validity: 90 * 86_400, http: edge.http, https: edge.https, wants_eab: false }
    }
}

impl Pebble {
    /// What visitors must trust.
    pub fn root(&self) -> PathBuf {
        self.root.clone()
    }

    /// Puts a TXT record into its DNS.
    pub async fn put_txt(&self, name: &str, value: &str) {
        let body = json!({ "host": format!("{name}."), "value": value }).to_string();
        let at = self.place.ask_dns.expect("its DNS is its own");
        let head = format!(
            "POST /set-txt HTTP/1.1\r\nhost: {at}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
            body.len()
        );
        let mut stream = TcpStream::connect(at).await.expect("its DNS can be asked");
        stream.write_all(head.as_bytes()).await.expect("it reads");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("it answers");
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }

    /// What it did so far.
    pub fn log(&self) -> String {
        self.program.log()
    }

    /// Has it advise this on the renewal of a certificate.
    pub async fn advise(&self, certificate: &str, start: &str, end: &str) {
        let advice = json!({ "suggestedWindow": { "start": start, "end": end } }).to_string();
        let body = json!({ "Certificate": certificate, "ARIResponse": advice }).to_string();
        self.place.ask("POST", "/set-renewal-info/", &body).await;
    }

    /// Ends it; it forgets all that it knew, and may come back at the same place.
    pub async fn close(mut self) -> Place {
        self.program.kill().await;
        self.place
    }
}
