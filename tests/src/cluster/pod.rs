//! The server in a pod: HTTP over TCP and an echo over UDP, both families, which say the node's name.

use std::io::{Read, Write};
use std::net::{Ipv6Addr, TcpListener, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Result;

use crate::netns::Namespace;

pub(super) const HTTP_PORT: u16 = 8080;
pub(super) const UDP_PORT: u16 = 8053;
/// How long an idle visitor may keep the (sequential) server busy.
const PATIENCE: Duration = Duration::from_millis(500);
/// How often the servers look whether they shall end.
const POLL: Duration = Duration::from_millis(100);

#[derive(Debug)]
pub struct PodServer {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl PodServer {
    /// The server that the scenarios visit: HTTP on 8080, the echo on 8053.
    pub fn start(namespace: &Namespace, name: &str) -> Result<Self> {
        let mut server = Self::start_on(namespace, &[HTTP_PORT], name)?;
        let udp = namespace.enter(|| UdpSocket::bind((Ipv6Addr::UNSPECIFIED, UDP_PORT)))?;
        udp.set_read_timeout(Some(POLL))?;
        server.threads.push(namespace.thread("pod-udp", {
            let (stop, name) = (server.stop.clone(), name.to_owned());
            move || serve_udp(&udp, &name, &stop)
        }));
        Ok(server)
    }

    /// HTTP on these ports; every answer is `body`.
    pub fn start_on(namespace: &Namespace, ports: &[u16], body: &str) -> Result<Self> {
        let mut server = Self { stop: Arc::new(AtomicBool::new(false)), threads: Vec::new() };
        for port in ports {
            let listener = namespace.enter(|| listen(*port))?;
            server.threads.push(namespace.thread("pod-http", {
                let (stop, body) = (server.stop.clone(), body.to_owned());
                move || serve_http(&listener, &body, &stop)
            }));
        }
        Ok(server)
    }
}

/// On both families.
fn listen(port: u16) -> Result<TcpListener> {
    let tcp = socket2::Socket::new(socket2::Domain::IPV6, socket2::Type::STREAM, None)?;
    tcp.set_only_v6(false)?;
    tcp.bind(&std::net::SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)).into())?;
    tcp.listen(512)?;
    Ok(TcpListener::from(tcp))
}

impl Drop for PodServer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

fn serve_http(listener: &TcpListener, body: &str, stop: &AtomicBool) {
    let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
    let whole = format!("{head}{body}");
    // Accept with a timeout, so that the thread sees the end of the test.
    let _ = socket2::SockRef::from(listener).set_read_timeout(Some(POLL));
    while !stop.load(Ordering::Relaxed) {
        let Ok((mut stream, _)) = listener.accept() else { continue };
        let _ = stream.set_read_timeout(Some(PATIENCE));
        let mut request = [0u8; 1024];
        if matches!(stream.read(&mut request), Ok(n) if n > 0) {
            let answer = if request.starts_with(b"HEAD ") { &head } else { &whole };
            let _ = stream.write_all(answer.as_bytes());
        }
    }
}

fn serve_udp(socket: &UdpSocket, name: &str, stop: &AtomicBool) {
    let mut buffer = [0u8; 1500];
    while !stop.load(Ordering::Relaxed) {
        if let Ok((_, peer)) = socket.recv_from(&mut buffer) {
            let _ = socket.send_to(name.as_bytes(), peer);
        }
    }
}
