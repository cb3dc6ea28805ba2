//! Node as an origin, with the http module alone, as most applications on it are.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use tokio::process::Command;

use crate::child::Program;

/// A running Node.
#[derive(Debug)]
pub struct Node {
    pub program: Program,
    pub addr: SocketAddr,
}

impl Node {
    /// Starts the node at `path`. It answers 404 or, under `/moved`, 302, without reading a body; `/small` is answered 200
    /// with the request's cookie.
    ///
    /// # Panics
    /// When it does not start.
    pub async fn start(path: &Path) -> Self {
        let mut command = Command::new(path);
        command.arg("-e").arg(SCRIPT);
        let program = Program::start("node", command);
        let line = program.line("listens on ", Duration::from_secs(20)).await;
        let addr = line.rsplit(' ').next().and_then(|addr| addr.parse().ok()).expect("node says its address");
        Self { program, addr }
    }

    pub fn service(&self) -> String {
        format!("http://{}", self.addr)
    }
}

const SCRIPT: &str = r"
const server = require('http').createServer((request, response) => {
    if (request.url === '/small') {
        response.end('cookie ' + request.headers.cookie);
    } else if (request.url.startsWith('/moved')) {
        response.writeHead(302, { location: '/login' }).end();
    } else {
        response.writeHead(404).end('none');
    }
});
server.listen(0, '127.0.0.1', () => console.log('listens on 127.0.0.1:' + server.address().port));
";
