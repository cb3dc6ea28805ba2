//! The innocent visitor: well-formed requests, one after the other, on a connection that is kept over the cases.

use std::future::poll_fn;
use std::time::Duration;

use bytes::Bytes;
use h2::client::SendRequest;
use http::Request;
use tokio::task::JoinSet;

use crate::entrance::Entrance;
use crate::tags::Tag;

/// An origin may hang; nobody waits for it longer than this.
const PATIENCE: Duration = Duration::from_millis(120);

/// A visitor of one host.
pub struct Victim {
    host: &'static str,
    requests: Option<SendRequest<Bytes>>,
    connection: JoinSet<Result<(), h2::Error>>,
}

impl Victim {
    pub fn new(host: &'static str) -> Self {
        Self { host, requests: None, connection: JoinSet::new() }
    }

    /// Sends one request and gives back every byte of the answer: fields, body, trailers. Empty when there was none.
    pub async fn fetch(&mut self, edge: &Entrance, tag: Tag, method: &str, length: usize) -> Vec<u8> {
        let mut answer = Vec::new();
        // What came before the time was over is looked at all the same.
        let exchange = self.exchange(edge, tag, method, length, &mut answer);
        if let Ok(Err(error)) = tokio::time::timeout(PATIENCE, exchange).await
            && !error.is_reset()
        {
            self.requests = None;
        }
        answer
    }

    async fn exchange(
        &mut self,
        edge: &Entrance,
        tag: Tag,
        method: &str,
        length: usize,
        answer: &mut Vec<u8>,
    ) -> Result<(), h2::Error> {
        let requests = self.connected(edge).await?;
        let request = Request::builder()
            .method(method)
            .uri(format!("https://{}/victim", self.host))
            .header("x-tag", tag.text())
            .header("cookie", format!("session={}", tag.text()))
            .body(())
            .expect("a request");
        let (response, mut send) = self.requests.insert(requests).send_request(request, length == 0)?;
        if length > 0 {
            send.send_data(Bytes::from(tag.fill(length)), true)?;
        }
        let (head, mut body) = response.await?.into_parts();
        answer.extend_from_slice(format!("{:?}", head.headers).as_bytes());
        while let Some(data) = body.data().await {
            let data = data?;
            let _ = body.flow_control().release_capacity(data.len());
            answer.extend_from_slice(&data);
        }
        if let Some(trailers) = body.trailers().await? {
            answer.extend_from_slice(format!("{trailers:?}").as_bytes());
        }
        Ok(())
    }

    async fn connected(&mut self, edge: &Entrance) -> Result<SendRequest<Bytes>, h2::Error> {
        if let Some(mut requests) = self.requests.take()
            && poll_fn(|cx| requests.poll_ready(cx)).await.is_ok()
        {
            return Ok(requests);
        }
        let (requests, connection) = h2::client::handshake(edge.visit(self.host).await).await?;
        self.connection.abort_all();
        self.connection.spawn(connection);
        requests.ready().await
    }
}
