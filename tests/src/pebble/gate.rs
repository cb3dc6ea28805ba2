//! A proxy in front of an authority (nginx) that can be told to answer orders with 429 and Retry-After, as Let's Encrypt does to who
//! has asked for too much.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::process::Command;

use super::Place;
use crate::child::Program;
use crate::files::Folder;
use crate::origin::closed_port;
use crate::wait;

/// A running proxy. Dropping it kills it.
#[derive(Debug)]
pub struct Gate {
    pub addr: SocketAddr,
    folder: Folder,
    _program: Program,
}

/// An order that came by.
#[derive(Clone, Copy, Debug)]
pub struct Order {
    /// Unix time in seconds.
    pub at: f64,
    pub status: u16,
}

impl Gate {
    /// Starts the nginx at `path`. What it refuses may be asked again after so many seconds.
    ///
    /// # Panics
    /// When it does not start.
    pub async fn before(place: &Place, path: &Path, retry_after: u32) -> Self {
        let (folder, addr) = (Folder::default(), closed_port());
        let config = folder.write("nginx.conf", &config(place, &folder, addr, retry_after));
        let mut command = Command::new(path);
        command.arg("-e").arg("stderr").arg("-p").arg(folder.path()).arg("-c").arg(config);
        let program = Program::start("nginx", command);
        let look = || async { TcpStream::connect(addr).await.ok() };
        wait::until("the gate to listen", Duration::from_secs(10), look).await;
        Self { addr, folder, _program: program }
    }

    /// From now on orders are refused.
    pub fn limit(&self) {
        self.folder.write("limited", "");
    }

    /// From now on they pass.
    ///
    /// # Panics
    /// When it was not limited.
    pub fn unlimit(&self) {
        std::fs::remove_file(self.folder.join("limited")).expect("it is limited");
    }

    /// All orders until now.
    pub fn orders(&self) -> Vec<Order> {
        let log = std::fs::read_to_string(self.folder.join("orders.log")).unwrap_or_default();
        let order = |line: &str| {
            let (at, status) = line.split_once(' ')?;
            Some(Order { at: at.parse().ok()?, status: status.parse().ok()? })
        };
        log.lines().filter_map(order).collect()
    }
}

fn config(place: &Place, folder: &Folder, addr: SocketAddr, retry_after: u32) -> String {
    let (at, of, behind) = (folder.path().display(), place.folder.path().display(), place.addr);
    let problem = r#"{"type":"urn:ietf:params:acme:error:rateLimited","detail":"too many certificates"}"#;
    format!(
        "daemon off; master_process off; pid {at}/nginx.pid; error_log stderr warn;
events {{ }}
http {{
    client_body_temp_path {at}/body; proxy_temp_path {at}/proxy; fastcgi_temp_path {at}/fastcgi;
    uwsgi_temp_path {at}/uwsgi; scgi_temp_path {at}/scgi;
    log_format order '$msec $status';
    access_log off;
    server {{
        listen {addr} ssl;
        ssl_certificate {of}/cert.pem; ssl_certificate_key {of}/key.pem;
        proxy_set_header Host $http_host;
        location / {{ proxy_pass https://{behind}; }}
        location = /order-plz {{
            access_log {at}/orders.log order;
            if (-f {at}/limited) {{
                add_header Retry-After {retry_after} always;
                add_header Content-Type application/problem+json always;
                return 429 '{problem}';
            }}
            proxy_pass https://{behind};
        }}
    }}
}}
"
    )
}
