//! A BIND of our own on loopback: its zones, keys and log in a folder that goes with it.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

pub const ZONE: &str = "example.test";
pub const KEY: &str = "acme-key";

/// A running one. Dropping it kills it.
#[derive(Debug)]
pub struct Named {
    pub address: SocketAddr,
    /// What `tsig-keygen` printed.
    pub key_file: PathBuf,
    folder: TempDir,
    process: Child,
}

/// How one differs from the plain primary of [`ZONE`].
#[derive(Clone, Copy, Debug, Default)]
pub struct Difference<'a> {
    /// Lines of the zone beside SOA and NS.
    pub records: &'a str,
    /// Of whom it is a secondary.
    pub secondary_of: Option<SocketAddr>,
    /// Whom it tells of changes.
    pub tells: Option<SocketAddr>,
    pub port: Option<u16>,
}

impl Named {
    pub fn start(difference: Difference<'_>) -> Self {
        let mut last = String::new();
        // Between finding a free port and listening on it somebody else may take it.
        for _ in 0..5 {
            let port = difference.port.unwrap_or_else(free_port);
            match Self::start_at(port, difference) {
                Ok(named) => return named,
                Err(log) => last = log,
            }
        }
        panic!("named does not start; is bind9 installed (tests/prepare)?\n{last}");
    }

    fn start_at(port: u16, difference: Difference<'_>) -> Result<Self, String> {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let key_file = folder.path().join("tsig.key");
        let key =
            tool("tsig-keygen").args(["-a", "hmac-sha256", KEY]).output().expect("tsig-keygen (bind9-utils)");
        fs::write(&key_file, &key.stdout).expect("a file");
        let zone = format!(
            "$TTL 60\n@ SOA ns hostmaster 1 1h 1h 1w 60\n@ NS ns\nns A 127.0.0.1\n_acme-challenge TXT \"kept\"\n{}\n",
            difference.records
        );
        fs::write(folder.path().join("zone"), &zone).expect("a file");
        fs::write(folder.path().join("other"), zone).expect("a file");
        fs::write(folder.path().join("named.conf"), configuration(folder.path(), port, difference))
            .expect("a file");
        let mut command = tool("named");
        command.args(["-g", "-X", "none", "-n", "1", "-c"]).arg(folder.path().join("named.conf"));
        let spawned = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn();
        let mut process = spawned.map_err(|error| error.to_string())?;
        let log = BufReader::new(process.stderr.take().expect("standard error is piped"));
        let (sender, ready) = std::sync::mpsc::channel();
        // Reads on to the end: a full pipe would stop the server.
        std::thread::spawn(move || {
            for line in log.lines().map_while(Result::ok) {
                let _ = sender.send(line);
            }
        });
        let mut told = String::new();
        for line in ready {
            told += &line;
            told.push('\n');
            if line.contains("address in use") {
                break;
            }
            if line.ends_with(" running") {
                let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
                return Ok(Self { address, key_file, folder, process });
            }
        }
        let _ = process.kill();
        let _ = process.wait();
        Err(told)
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }
}

impl Drop for Named {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn configuration(folder: &Path, port: u16, difference: Difference<'_>) -> String {
    let folder = folder.display();
    let server = |address: SocketAddr| format!("{{ {} port {}; }};", address.ip(), address.port());
    let notify = difference
        .tells
        .map_or_else(|| "notify no;".to_owned(), |to| format!("notify explicit; also-notify {}", server(to)));
    let zone = match difference.secondary_of {
        Some(primary) => format!("type secondary; primaries {} file \"copy\";", server(primary)),
        None => format!(
            "type primary; file \"zone\"; update-policy {{ grant {KEY} name _acme-challenge.{ZONE} txt; \
             grant {KEY} name _acme-challenge.a.b.{ZONE} txt; grant {KEY} subdomain delegated.{ZONE} txt; }};"
        ),
    };
    format!(
        "options {{ directory \"{folder}\"; pid-file none; session-keyfile none; listen-on port {port} {{ 127.0.0.1; }}; \
         listen-on-v6 {{ none; }}; recursion no; dnssec-validation no; allow-transfer {{ any; }}; {notify} minimal-responses no; }};\n\
         controls {{ }};\ninclude \"{folder}/tsig.key\";\nzone \"{ZONE}\" {{ {zone} }};\n\
         zone \"other.test\" {{ type primary; file \"other\"; }};\n"
    )
}

fn tool(name: &str) -> Command {
    let mut command = Command::new(name);
    let path = std::env::var("PATH").unwrap_or_default();
    command.env("PATH", format!("{path}:/usr/sbin:/sbin"));
    command
}

/// One that is free for both UDP and TCP.
pub fn free_port() -> u16 {
    loop {
        let tcp = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let port = tcp.local_addr().expect("a bound socket has an address").port();
        if UdpSocket::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
}
