//! haproxy, nginx and caddy as people run them: a reverse proxy in front of one origin, its defaults left alone.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::process::Command;

use super::Recorder;
use crate::child::Program;
use crate::files::Folder;
use crate::origin::closed_port;
use crate::wait;

/// A running reverse proxy with an origin of its own behind it.
#[derive(Debug)]
pub struct Peer {
    pub name: &'static str,
    pub addr: SocketAddr,
    pub recorder: Recorder,
    _program: Program,
    _folder: Folder,
}

impl Peer {
    /// # Panics
    /// When it does not start.
    pub async fn haproxy(path: &Path) -> Self {
        Self::start("haproxy", |folder, addr, origin| {
            let config = folder.write(
                "haproxy.cfg",
                &format!(
                    "defaults\n  mode http\n  timeout connect 1s\n  timeout client 2s\n  timeout server 2s\n  \
                     timeout http-request 2s\nfrontend f\n  bind {addr}\n  default_backend b\nbackend b\n  server s {origin}\n"
                ),
            );
            let mut command = Command::new(path);
            command.arg("-db").arg("-f").arg(config);
            command
        })
        .await
    }

    /// # Panics
    /// When it does not start.
    pub async fn nginx(path: &Path) -> Self {
        Self::start("nginx", |folder, addr, origin| {
            let at = folder.path().display();
            let config = folder.write(
                "nginx.conf",
                &format!(
                    "daemon off; master_process off; pid {at}/pid; error_log stderr crit;\nevents {{ worker_connections 1024; }}\n\
                     http {{ access_log off; client_body_temp_path {at}/body; proxy_temp_path {at}/proxy; fastcgi_temp_path {at}/f;\n\
                     uwsgi_temp_path {at}/u; scgi_temp_path {at}/s; server {{ listen {addr}; location / {{\n\
                     proxy_pass http://{origin}; proxy_http_version 1.1; proxy_set_header Host $host; }} }} }}\n"
                ),
            );
            let mut command = Command::new(path);
            command.arg("-e").arg("stderr").arg("-p").arg(folder.path()).arg("-c").arg(config);
            command
        })
        .await
    }

    /// # Panics
    /// When it does not start.
    pub async fn caddy(path: &Path) -> Self {
        Self::start("caddy", |folder, addr, origin| {
            let config = folder.write(
                "Caddyfile",
                &format!(
                    "{{\n  admin off\n  auto_https off\n}}\nhttp://:{} {{\n  bind {}\n  \
                     reverse_proxy {origin}\n}}\n",
                    addr.port(),
                    addr.ip()
                ),
            );
            let mut command = Command::new(path);
            command.args(["run", "--adapter", "caddyfile", "--config"]).arg(config);
            command.env("HOME", folder.path()).env("XDG_DATA_HOME", folder.path());
            command.env("XDG_CONFIG_HOME", folder.path());
            command
        })
        .await
    }

    async fn start(
        name: &'static str,
        command: impl FnOnce(&Folder, SocketAddr, SocketAddr) -> Command,
    ) -> Self {
        let (folder, recorder, addr) = (Folder::default(), Recorder::start().await, closed_port());
        let program = Program::start(name, command(&folder, addr, recorder.addr()));
        let look = || async { TcpStream::connect(addr).await.ok() };
        wait::until(&format!("{name} to listen"), Duration::from_secs(20), look).await;
        Self { name, addr, recorder, _program: program, _folder: folder }
    }
}
