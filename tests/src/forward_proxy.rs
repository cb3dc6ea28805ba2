//! Proxies of other makes that lead out of a network: tinyproxy for HTTP's CONNECT, microsocks for SOCKS5.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::TcpStream;

use crate::child::Program;
use crate::files::Folder;
use crate::netns::Namespace;
use crate::wait;

pub const USER: &str = "home";
/// tinyproxy takes no other characters than letters, digits and these.
pub const PASSWORD: &str = "s3cret.p-1_";

/// A running one. Dropping it kills it.
#[derive(Debug)]
pub struct ForwardProxy {
    pub program: Program,
    _folder: Folder,
}

impl ForwardProxy {
    /// tinyproxy that takes [`USER`] with [`PASSWORD`] from the network of `namespace`, and lets connections through to one port.
    pub async fn tinyproxy(namespace: &Namespace, at: SocketAddr, to_port: u16) -> Self {
        let folder = Folder::default();
        let (ip, port) = (at.ip(), at.port());
        let config = format!(
            "Listen {ip}\nPort {port}\nTimeout 600\nMaxClients 50\nLogLevel Info\nBasicAuth {USER} {PASSWORD}\nConnectPort {to_port}\n"
        );
        let config = folder.write("tinyproxy.conf", &config);
        let mut command = namespace.command("tinyproxy");
        command.arg("-d").arg("-c").arg(config);
        Self::start("tinyproxy", command, folder, namespace, at).await
    }

    /// microsocks that takes the same user.
    pub async fn microsocks(namespace: &Namespace, at: SocketAddr) -> Self {
        let mut command = namespace.command("microsocks");
        let (ip, port) = (at.ip().to_string(), at.port().to_string());
        command.args(["-i", &ip, "-p", &port, "-u", USER, "-P", PASSWORD]);
        Self::start("microsocks", command, Folder::default(), namespace, at).await
    }

    async fn start(
        name: &str,
        command: std::process::Command,
        folder: Folder,
        namespace: &Namespace,
        at: SocketAddr,
    ) -> Self {
        let program = Program::start(name, command.into());
        let look = || async { namespace.within(TcpStream::connect(at)).await.ok() };
        wait::until(&format!("{name} at {at}"), START, look).await;
        Self { program, _folder: folder }
    }
}

const START: Duration = Duration::from_secs(10);
