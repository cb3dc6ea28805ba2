//! Three places with two lines between them, and a site that is spread over them.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};

use super::carry::{Line, Place};
use super::shape::Shape;
use crate::connector::Connector;
use crate::edge::{Created, Edge, EdgeOptions};
use crate::netns::Namespace;
use crate::origin::{ANY, Origin, Speak};
use crate::site::NAMES;

/// The edge's address on the line.
pub const VPS: Ipv4Addr = Ipv4Addr::new(10, 81, 0, 1);
pub const HOME: Ipv4Addr = Ipv4Addr::new(10, 81, 0, 2);
/// The edge's address for visitors.
pub const VPS_FAR: Ipv4Addr = Ipv4Addr::new(10, 81, 1, 1);
pub const FAR: Ipv4Addr = Ipv4Addr::new(10, 81, 1, 2);

/// A site's start may have to wait for several round trips on a loaded machine.
const START: Duration = Duration::from_secs(30);

/// The places. The calling thread is moved to the VPS: what is made without further words is made there.
#[derive(Debug)]
pub struct Wan {
    /// Between home (first) and VPS (second).
    pub line: Line,
    /// Between far visitors (first) and VPS (second).
    pub access: Line,
    pub home: Namespace,
    pub far: Namespace,
    vps: Namespace,
}

/// Origins at home, each with a name in front of it: `a` and `b` speak HTTP/1.1, `calls` HTTP/2 in clear text.
#[derive(Debug)]
pub struct Origins {
    pub a: Origin,
    pub b: Origin,
    pub calls: Origin,
    /// Further lines of the connector's rule file.
    pub config: String,
}

/// Ours over the line.
#[derive(Debug)]
pub struct Ours {
    pub edge: Edge,
    pub connector: Connector,
    pub tunnel: Created,
}

/// The names of the origins.
pub const A: &str = "a.example.test";
pub const B: &str = "b.example.test";
pub const CALLS: &str = "calls.example.test";

/// Why there can be no line here.
pub fn missing() -> Option<String> {
    if !rustix::process::geteuid().is_root() {
        return Some("network namespaces need root".into());
    }
    if let Err(error) = std::fs::File::options().read(true).write(true).open("/dev/net/tun") {
        return Some(format!("/dev/net/tun cannot be opened: {error}"));
    }
    None
}

/// The places with a line of this shape, far visitors with no delay; `None` where there can be none, which is said for the
/// summary of `tests/run`.
///
/// # Panics
/// In CI (`CI=true`), where nothing is skipped.
pub fn wan(shape: Shape) -> Option<Wan> {
    crate::needs("ip")?;
    if let Some(reason) = missing() {
        let test = std::thread::current().name().unwrap_or("a test").to_owned();
        assert!(std::env::var("CI").as_deref() != Ok("true"), "{test}: {reason}");
        eprintln!("SKIPPED {test}: {reason}");
        return None;
    }
    Some(Wan::lay(shape, Shape::new(0, 10_000.0), 1).expect("a line can be laid"))
}

impl Wan {
    /// Makes the places and lays the lines; TCP is cubic everywhere but on loopback, until [`Wan::tcp`] says otherwise.
    pub fn lay(line: Shape, access: Shape, seed: u64) -> Result<Self> {
        let [vps, home, far] = ["vps", "home", "far"].map(Namespace::nameless);
        let (vps, home, far) = (vps?, home?, far?);
        let place = |namespace, device, addr| Place { namespace, device, addr };
        let line = Line::between(place(&home, "wan", HOME), place(&vps, "wan", VPS), line, seed)?;
        let access =
            Line::between(place(&far, "access", FAR), place(&vps, "access", VPS_FAR), access, seed ^ 0xff)?;
        for namespace in [&vps, &home, &far] {
            // What one connection learnt of the path must not help the next one: each measures alone.
            namespace.sysctl(&[("ipv4/tcp_no_metrics_save", "1")])?;
        }
        vps.move_here();
        let wan = Self { line, access, home, far, vps };
        wan.tcp("cubic")?;
        Ok(wan)
    }

    /// Where the calling thread was moved to.
    pub fn vps(&self) -> &Namespace {
        &self.vps
    }

    /// Sets the congestion control of every TCP connection over the lines that begins from now on. By route, for a
    /// namespace's sysctl takes only what the machine allows to all.
    pub fn tcp(&self, control: &str) -> Result<()> {
        let ends = [
            (&self.home, VPS, "wan", HOME),
            (&self.vps, HOME, "wan", VPS),
            (&self.far, VPS_FAR, "access", FAR),
            (&self.vps, FAR, "access", VPS_FAR),
        ];
        for (namespace, peer, device, own) in ends {
            let route = format!("route replace {peer} dev {device} src {own} congctl {control}");
            namespace.ip(&route).with_context(|| format!("TCP {control} is not on this machine"))?;
        }
        Ok(())
    }

    /// # Panics
    /// When the loopback has no free port.
    pub async fn origins(&self) -> Origins {
        let start = async |speak| self.home.within(Origin::tcp(ANY, speak)).await.expect("a free port");
        Origins {
            a: start(Speak::Http1).await,
            b: start(Speak::Http1).await,
            calls: start(Speak::H2c).await,
            config: String::new(),
        }
    }

    /// Ours: an edge at the VPS, a connector at home.
    pub async fn ours(&self, origins: &Origins) -> Ours {
        self.ours_with("", origins).await
    }

    /// Ours, with further lines of edge.yaml.
    pub async fn ours_with(&self, config: &str, origins: &Origins) -> Ours {
        let (edge, tunnel) = self.edge(config).await;
        let connector = self.connector(&tunnel, origins).await;
        edge.wait_state("site", "HEALTHY", START).await;
        Ours { edge, connector, tunnel }
    }

    /// An edge at the VPS that no connector knows yet.
    pub async fn edge(&self, config: &str) -> (Edge, Created) {
        let options = EdgeOptions {
            config: config.to_owned(),
            tunnel: Some(SocketAddr::from((VPS, 0))),
            https: Some(SocketAddr::from((VPS_FAR, 0))),
            ..EdgeOptions::default()
        };
        let edge = Edge::with(options).await;
        let tunnel = edge.create("site", &NAMES).await;
        (edge, tunnel)
    }

    /// A connector at home that is ready.
    pub async fn connector(&self, tunnel: &Created, origins: &Origins) -> Connector {
        let rules = origins.rules();
        let start = async {
            let mut connector = Connector::start(&tunnel.token, &rules);
            connector.ready(START).await;
            connector
        };
        self.home.within(start).await
    }
}

impl Origins {
    fn rules(&self) -> String {
        let rule = |name, scheme, origin: &Origin| {
            format!("  - hostname: {name}\n    service: {scheme}://{}\n", origin.addr())
        };
        let rules =
            [rule(A, "http", &self.a), rule(B, "http", &self.b), rule(CALLS, "h2c", &self.calls)].concat();
        format!("{}\ningress:\n{rules}  - service: http_status:404\n", self.config)
    }

    /// Bytes of uploads that arrived at a name.
    pub fn sunk(&self, name: &str) -> u64 {
        let origin = match name {
            A => &self.a,
            B => &self.b,
            _ => &self.calls,
        };
        origin.counters().sunk()
    }
}

/// Where visitors come in.
#[derive(Clone, Debug)]
pub struct Door {
    pub https: SocketAddr,
    pub ca: PathBuf,
}

impl Door {
    pub fn new(https: SocketAddr, ca: &Path) -> Self {
        Self { https, ca: ca.to_owned() }
    }
}

impl From<&Edge> for Door {
    fn from(edge: &Edge) -> Self {
        Self { https: edge.https, ca: edge.ca() }
    }
}
