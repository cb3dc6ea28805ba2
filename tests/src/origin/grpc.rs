//! Google's own gRPC, as server and as visitor: two small Python programs on grpcio.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::process::Command;

use crate::child::{Output, Program, output};
use crate::edge::Edge;

/// A running gRPC server in clear-text HTTP/2.
#[derive(Debug)]
pub struct Grpc {
    pub program: Program,
    pub addr: SocketAddr,
    python: PathBuf,
}

impl Grpc {
    /// Starts the server with the Python that has grpcio.
    ///
    /// # Panics
    /// When it does not start.
    pub async fn start(python: &Path) -> Self {
        let mut command = Command::new(python);
        command.arg("-u").arg(script("grpc_server.py"));
        let program = Program::start("grpc", command);
        let line = program.line("listening on ", Duration::from_secs(20)).await;
        let addr = line
            .rsplit(' ')
            .next()
            .and_then(|text| text.parse().ok())
            .expect("the server prints its address");
        Self { program, addr, python: python.to_owned() }
    }

    pub fn service(&self) -> String {
        format!("h2c://{}", self.addr)
    }

    /// Begins rounds of a bidirectional call at a steady pace, for so long; they run when it returns.
    pub async fn steady(&self, edge: &Edge, host: &str, length: Duration) -> Program {
        let mut command = self.client(edge, host, "steady");
        command.arg(length.as_secs_f64().to_string());
        let client = Program::start("grpc-client", command);
        client.line("steady begins", Duration::from_secs(20)).await;
        client
    }

    /// Runs one call of the Python client through an edge, and returns what it printed.
    pub async fn call(&self, edge: &Edge, host: &str, kind: &str) -> Output {
        output(self.client(edge, host, kind)).await
    }

    fn client(&self, edge: &Edge, host: &str, kind: &str) -> Command {
        let mut command = Command::new(&self.python);
        let script = script("grpc_client.py");
        command.arg("-u").arg(script).arg(edge.https.to_string()).arg(edge.ca()).arg(host).arg(kind);
        command
    }
}

fn script(name: &str) -> PathBuf {
    crate::programs::here().join("python").join(name)
}
