//! One case, played to a server: its bytes go there, and what comes back is kept until the server closes or has no more to say.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::Seen;

/// What a server made of a case.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reading {
    /// Of its final answers, in order.
    pub statuses: Vec<u16>,
    pub closed: bool,
    /// What the origin behind it saw.
    pub seen: Vec<Seen>,
}

/// Sends the bytes and listens until the server closes, or says nothing for so long.
///
/// # Panics
/// When the server does not listen.
pub async fn play(server: SocketAddr, bytes: &[u8], quiet: Duration) -> Reading {
    let mut stream = TcpStream::connect(server).await.expect("the server listens");
    let (mut reader, mut writer) = stream.split();
    // Who refuses a long head does not wait for its end: both at once, and who listens decides.
    let send = async {
        let _ = writer.write_all(bytes).await;
        std::future::pending::<()>().await;
    };
    let mut said = Vec::new();
    let listen = async {
        loop {
            match timeout(quiet, reader.read_buf(&mut said)).await {
                Ok(Ok(count)) if count > 0 => {}
                Ok(_) => return true,
                Err(_) => return false,
            }
        }
    };
    let closed = tokio::select! {
        closed = listen => closed,
        () = send => unreachable!("it waits for ever"),
    };
    Reading { statuses: statuses(&said), closed, seen: Vec::new() }
}

/// Of all final answers in these bytes; no body here looks like one.
fn statuses(said: &[u8]) -> Vec<u16> {
    let text = String::from_utf8_lossy(said);
    let starts = text.match_indices("HTTP/1.").map(|(at, _)| &text[at..]);
    let numbers = starts.filter_map(|line| line.get(9..12)?.parse::<u16>().ok());
    numbers.filter(|status| *status >= 200).collect()
}

impl Reading {
    /// It went on to the origin, whole.
    pub fn passes(&self) -> bool {
        self.seen.iter().any(|seen| seen.whole)
    }

    /// Whether two servers that both pass it on read the same in it, request by request. One may stop sooner: who closes the
    /// connection behind a request has not read another one in its place.
    pub fn agrees_with(&self, other: &Self) -> bool {
        let whole = |reading: &Self| {
            let seen = reading.seen.iter().filter(|seen| seen.whole);
            // Caddy writes a quotation mark as its escape, which names the same.
            let target = |seen: &Seen| seen.target.replace('"', "%22");
            seen.map(|seen| (target(seen), seen.host.clone(), seen.body.clone())).collect::<Vec<_>>()
        };
        whole(self).iter().zip(&whole(other)).all(|(one, other)| one == other)
    }
}
