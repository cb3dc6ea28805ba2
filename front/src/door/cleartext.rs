//! HTTP in the clear on the HTTPS port: whoever typed a wrong address is told so in words, instead of by an alert that no
//! program shows.

use std::io;

use causeway_tunnel::Authority;
use http::header::HOST;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::http::guard::Transport;

/// As much of a head as is looked through for its Host.
const MAX_HEAD_BYTES: usize = 8 * 1024;
const MAX_FIELDS: usize = 64;

/// Answers the request that begins with `head`. Give it a deadline: it waits for the visitor.
pub(super) async fn explain(mut stream: impl Transport, mut head: Vec<u8>) -> io::Result<()> {
    read_head(&mut stream, &mut head).await?;
    stream.write_all(answer(&head).as_bytes()).await?;
    stream.shutdown().await?;
    // A close with unread bytes would be a reset, which can overtake the answer.
    let mut rest = [0; 1024];
    let mut discarded = 0;
    while discarded < MAX_HEAD_BYTES {
        match stream.read(&mut rest).await? {
            0 => break,
            count => discarded += count,
        }
    }
    Ok(())
}

async fn read_head(stream: &mut impl Transport, head: &mut Vec<u8>) -> io::Result<()> {
    while head.len() < MAX_HEAD_BYTES && memchr::memmem::find(head, b"\r\n\r\n").is_none() {
        if stream.read_buf(head).await? == 0 {
            break;
        }
    }
    Ok(())
}

fn answer(head: &[u8]) -> String {
    let mut text = "This port speaks HTTPS, and the request came in plain HTTP.".to_owned();
    if let Some(Authority { host, port }) = host(head) {
        let port = port.map(|port| format!(":{port}")).unwrap_or_default();
        let host = if host.contains(':') { format!("[{host}]") } else { host.to_string() };
        text.push_str(&format!(" Ask for https://{host}{port}/ instead."));
    }
    text.push('\n');
    format!(
        "HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain; charset=utf-8\r\ncontent-length: {}\r\n\
         cache-control: no-store\r\nconnection: close\r\n\r\n{text}",
        text.len()
    )
}

/// Only a name that we would route by is repeated.
fn host(head: &[u8]) -> Option<Authority> {
    let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
    let mut request = httparse::Request::new(&mut fields);
    // What is wrong with the rest does not matter: it is refused anyway.
    let _ = request.parse(head);
    let field = request.headers.iter().find(|field| field.name.eq_ignore_ascii_case(HOST.as_str()))?;
    Authority::parse(field.value).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_is_taken_from_host_and_nothing_else() {
        for (head, told) in [
            ("GET /x HTTP/1.1\r\nhost: A.example:8443\r\n\r\n", Some("https://a.example:8443/")),
            ("GET / HTTP/1.1\r\nHost: [2001:db8::1]\r\n\r\n", Some("https://[2001:db8::1]/")),
            ("GET / HTTP/1.1\r\nhost: a.example/<script>\r\n\r\n", None),
            ("GET http://b.example/ HTTP/1.0\r\n\r\n", None),
            ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", None),
        ] {
            let answer = answer(head.as_bytes());
            assert!(
                answer.starts_with("HTTP/1.1 400 Bad Request\r\n")
                    && answer.contains("This port speaks HTTPS")
            );
            assert_eq!(answer.contains("https://"), told.is_some(), "{answer}");
            assert!(told.is_none_or(|told| answer.contains(told)), "{answer}");
        }
    }
}
