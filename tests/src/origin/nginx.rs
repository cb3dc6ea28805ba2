//! nginx as an origin, with a configuration and a folder of its own.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::process::Command;

use crate::child::Program;
use crate::files::Folder;
use crate::wait;

/// A running nginx.
#[derive(Debug)]
pub struct Nginx {
    pub program: Program,
    pub addr: SocketAddr,
    folder: Folder,
}

impl Nginx {
    /// Starts the nginx at `path`. It serves its folder, takes uploads by PUT under `/upload/`, answers `/small` from memory,
    /// and compresses text when a visitor accepts it.
    ///
    /// # Panics
    /// When it does not start.
    pub async fn start(path: &Path) -> Self {
        let folder = Folder::default();
        let addr = super::closed_port();
        std::fs::create_dir_all(folder.join("www/upload")).expect("an own folder can be made");
        let config = folder.write("nginx.conf", &config(&folder, addr));
        let mut command = Command::new(path);
        command.arg("-e").arg("stderr").arg("-p").arg(folder.path()).arg("-c").arg(config);
        let program = Program::start("nginx", command);
        let look = || async { TcpStream::connect(addr).await.ok() };
        wait::until("nginx to listen", Duration::from_secs(10), look).await;
        Self { program, addr, folder }
    }

    /// Starts the nginx at `path` with TLS and HTTP/2. It reads every body to its end and says `ok`, and ends a connection in
    /// good order after so many requests.
    ///
    /// # Panics
    /// When it does not start.
    pub async fn with_http2(path: &Path, requests: u32) -> Self {
        let folder = Folder::default();
        let (addr, behind) = (super::closed_port(), super::closed_port());
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).expect("a certificate");
        folder.write("cert.pem", &made.cert.pem());
        folder.write("key.pem", &made.signing_key.serialize_pem());
        let config = folder.write("nginx.conf", &http2_config(&folder, addr, behind, requests));
        let mut command = Command::new(path);
        command.arg("-e").arg("stderr").arg("-p").arg(folder.path()).arg("-c").arg(config);
        let program = Program::start("nginx", command);
        let look = || async { TcpStream::connect(addr).await.ok() };
        wait::until("nginx to listen", Duration::from_secs(10), look).await;
        Self { program, addr, folder }
    }

    pub fn service(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// Where it lives.
    pub fn folder(&self) -> &Folder {
        &self.folder
    }

    /// Puts a file where nginx serves it.
    ///
    /// # Panics
    /// When it cannot be written.
    pub fn put(&self, name: &str, content: &[u8]) {
        std::fs::write(self.folder.join("www").join(name), content).expect("an own file can be written");
    }

    /// Reads back what was uploaded.
    ///
    /// # Panics
    /// When it does not exist.
    pub fn uploaded(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.folder.join("www/upload").join(name)).expect("the upload exists")
    }
}

fn config(folder: &Folder, addr: SocketAddr) -> String {
    let at = folder.path().display();
    format!(
        "daemon off; master_process off; pid {at}/nginx.pid; error_log stderr warn;
events {{ worker_connections 4096; }}
http {{
    access_log off;
    client_body_temp_path {at}/body; proxy_temp_path {at}/proxy; fastcgi_temp_path {at}/fastcgi;
    uwsgi_temp_path {at}/uwsgi; scgi_temp_path {at}/scgi;
    keepalive_requests 1000000; client_max_body_size 0; sendfile on; tcp_nopush on;
    gzip on; gzip_min_length 1; gzip_types text/plain;
    server {{
        listen {addr} backlog=4096;
        root {at}/www;
        default_type text/plain;
        location = /small {{ return 200 \"hello from nginx\\n\"; }}
        location /upload/ {{ dav_methods PUT DELETE; create_full_put_path on; }}
    }}
}}
"
    )
}

fn http2_config(folder: &Folder, addr: SocketAddr, behind: SocketAddr, requests: u32) -> String {
    let at = folder.path().display();
    format!(
        "daemon off; master_process off; pid {at}/nginx.pid; error_log stderr warn;
events {{ worker_connections 4096; }}
http {{
    access_log off; client_max_body_size 0;
    client_body_temp_path {at}/body; proxy_temp_path {at}/proxy; fastcgi_temp_path {at}/fastcgi;
    uwsgi_temp_path {at}/uwsgi; scgi_temp_path {at}/scgi;
    keepalive_requests {requests}; keepalive_timeout 1s;
    server {{
        listen {addr} ssl http2 backlog=4096;
        ssl_certificate {at}/cert.pem; ssl_certificate_key {at}/key.pem;
        location / {{ proxy_pass http://{behind}; }}
    }}
    server {{ listen {behind} backlog=4096; location / {{ return 200 \"ok\"; }} }}
}}
"
    )
}
