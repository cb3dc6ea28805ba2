use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::http::testing::{Fake, Front};
use crate::tls::said_by_client;

/// All that the door answers to these first words.
async fn answer(front: &Front, words: &[u8]) -> Vec<u8> {
    let mut stream = front.connect().await;
    stream.write_all(words).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    answer
}

/// A fatal alert in a record of its own.
fn alert(description: u8) -> Vec<u8> {
    vec![21, 3, 3, 0, 2, 2, description]
}

#[tokio::test]
async fn a_connector_over_tcp_is_told_that_its_protocol_is_not_spoken() {
    let front = Front::tls(Fake::path()).await;
    let no_application_protocol = alert(120);
    let words = said_by_client("a.example", &[b"causeway/1"]);
    assert_eq!(answer(&front, &words).await, no_application_protocol);
    assert_eq!(front.refused("connector over TCP"), 1);
}

#[tokio::test]
async fn what_passes_through_and_is_not_carried_is_told_so_in_tls() {
    let front = Front::tls(Fake::path()).await;
    let (internal_error, unrecognized_name) = (alert(80), alert(112));
    assert_eq!(answer(&front, &said_by_client("home.example", &[b"h2"])).await, internal_error);
    assert_eq!(answer(&front, &said_by_client("other.example", &[b"h2"])).await, unrecognized_name);
    assert_eq!(front.refused("unknown server name"), 1);
    assert!(front.nothing_seen());
}

#[tokio::test]
async fn plain_http_on_the_https_port_is_told_the_right_address() {
    let front = Front::tls(Fake::path()).await;
    let answer = answer(&front, b"GET /x HTTP/1.1\r\nhost: a.example:8443\r\n\r\n").await;
    let answer = String::from_utf8(answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains("https://a.example:8443/"), "{answer}");
    assert_eq!(front.refused("HTTP on the HTTPS port"), 1);
    assert!(front.nothing_seen());
}

#[tokio::test(start_paused = true)]
async fn whoever_says_no_whole_hello_is_let_go() {
    let front = Front::tls(Fake::path()).await;
    for (words, slow) in [(&b""[..], 1), (b"\x16\x03\x01\x01\x00", 2), (b"GET / HTTP/1.1\r\n", 3)] {
        assert_eq!(answer(&front, words).await, b"", "{words:?}");
        assert_eq!(front.refused("TLS handshake too slow"), slow, "{words:?}");
    }
    let mut gone = front.connect().await;
    gone.shutdown().await.unwrap();
    assert_eq!(gone.read(&mut [0]).await.unwrap(), 0);
    assert_eq!(front.refused("TLS handshake failed"), 1);
}

#[tokio::test]
async fn the_kernel_takes_little_for_a_visitor_who_does_not_read() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let visitor = tokio::net::TcpSocket::new_v4().unwrap();
    visitor.set_recv_buffer_size(8 * 1024).unwrap();
    let (_visitor, accepted) =
        tokio::join!(visitor.connect(listener.local_addr().unwrap()), listener.accept());
    let (stream, _) = accepted.unwrap();
    super::set_options(&stream).unwrap();
    stream.writable().await.unwrap();
    let mut taken = 0;
    while let Ok(bytes) = stream.try_write(&[0; 16 * 1024]) {
        taken += bytes;
        assert!(taken < 512 * 1024, "{taken} bytes and more");
    }
}
