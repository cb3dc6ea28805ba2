//! A door on loopback to an API server in its namespace, for whoever is not in there.

use std::net::SocketAddr;

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::netns::Namespace;

/// Forwards each connection for ever. While nobody listens behind it, what comes in is closed again.
pub async fn forward(door: TcpListener, inside: Namespace, server: SocketAddr) {
    let mut open = JoinSet::new();
    loop {
        let Ok((mut outer, _)) = door.accept().await else { continue };
        while open.try_join_next().is_some() {}
        let inside = inside.clone();
        open.spawn(async move {
            let connect = move || inside.enter(|| std::net::TcpStream::connect(server));
            let inner = tokio::task::spawn_blocking(connect).await.map_err(std::io::Error::other)??;
            inner.set_nonblocking(true)?;
            copy_bidirectional(&mut outer, &mut TcpStream::from_std(inner)?).await
        });
    }
}
