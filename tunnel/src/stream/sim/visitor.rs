//! The opener of streams, as an edge is: sends what a stream is for and its body, reads the answer.

use std::net::Ipv4Addr;

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode};

use super::{Ties, body};
use crate::code::AbortCode;
use crate::opening::Opening;
use crate::stream::head::{BodyKind, RequestHead, RequestId, Scheme};
use crate::stream::{First, RecvStream, ResponseEvent, SendStream, StreamError};

/// One stream from its opening to its end.
pub(super) async fn visit(ties: Ties, number: u32) {
    let Ties { chance, session, .. } = &ties;
    let Ok((send, recv)) = chance.again(async || session.open().await).await else { return };
    match chance.below(12) {
        0 => unknown(&ties, number, send, recv).await,
        1 | 2 => upgrade(&ties, number, send, recv).await,
        _ => request(&ties, number, send, recv).await,
    }
}

async fn request(ties: &Ties, number: u32, mut send: SendStream, recv: RecvStream) {
    let Ties { chance, ledger, .. } = ties;
    let direction = (number, true);
    let first = if chance.one_in(3) {
        let body = ledger.give(direction, chance.below(2000) as usize);
        ledger.give_end(direction);
        First::Only(body)
    } else {
        First::More
    };
    let is_whole = first != First::More;
    let sending = async {
        match chance.patiently(send.request(&head(number, None), first)).await {
            Some(Err(error)) => ledger.writing_failed(direction, &error),
            // The rest of it goes with what follows.
            _ if !is_whole => return body::send(ties, send, direction).await,
            Some(Ok(())) => return,
            // Cut short, asking for the end again sends the rest.
            None if chance.one_in(2) => match send.end().await {
                Ok(()) => return,
                Err(error) => ledger.writing_failed(direction, &error),
            },
            None => {}
        }
        ledger.give_up(direction);
    };
    tokio::join!(sending, answer(ties, number, recv));
}

async fn upgrade(ties: &Ties, number: u32, mut send: SendStream, mut recv: RecvStream) {
    let (up, down) = ((number, true), (number, false));
    let Ties { ledger, .. } = ties;
    if let Err(error) = send.request(&head(number, Some("websocket")), First::More).await {
        ledger.writing_failed(up, &error);
        return let_go(ties, number);
    }
    match response(ties, &mut recv).await {
        Ok(StatusCode::SWITCHING_PROTOCOLS) => {
            tokio::join!(
                body::send_raw(ties, send.into_raw(), up),
                body::recv_raw(ties, recv.into_raw(), down)
            );
        }
        Ok(_) => {
            tokio::join!(body::send(ties, send, up), body::recv(ties, recv, down));
        }
        Err(error) => {
            ledger.answer_failed(number, &error);
            let_go(ties, number);
        }
    }
}

/// A stream that the other end does not know what to do with: refused by name, and alone.
async fn unknown(ties: &Ties, number: u32, mut send: SendStream, mut recv: RecvStream) {
    let Ties { ledger, .. } = ties;
    // Its opening has no number: whatever happens to it happens to this one.
    let_go(ties, number);
    let opening = Opening::Unknown("hologram".to_owned());
    let error = match send.open(&opening, First::Only(Bytes::new())).await {
        Ok(()) => recv.response().await.expect_err("nobody answers what he does not know"),
        Err(error) => error,
    };
    match error {
        StreamError::Aborted(code) => {
            assert_eq!(code, AbortCode::UnknownKind);
            ledger.saw(|seen| seen.refused_kinds += 1);
        }
        error => ledger.answer_failed(number, &error),
    }
}

async fn answer(ties: &Ties, number: u32, mut recv: RecvStream) {
    let direction = (number, false);
    match response(ties, &mut recv).await {
        Ok(_) => body::recv(ties, recv, direction).await,
        Err(error) => {
            ties.ledger.answer_failed(number, &error);
            ties.ledger.want_no_more(direction);
        }
    }
}

async fn response(ties: &Ties, recv: &mut RecvStream) -> Result<StatusCode, StreamError> {
    loop {
        match ties.chance.again(async || recv.response().await).await? {
            ResponseEvent::Interim(..) => {}
            ResponseEvent::Final(head) => return Ok(head.status),
        }
    }
}

fn let_go(ties: &Ties, number: u32) {
    ties.ledger.give_up((number, true));
    ties.ledger.want_no_more((number, false));
}

fn head(number: u32, upgrade: Option<&str>) -> RequestHead {
    RequestHead {
        method: Method::POST,
        scheme: Scheme::Https,
        authority: "a.example".to_owned(),
        path: "/".to_owned(),
        headers: HeaderMap::new(),
        visitor: (Ipv4Addr::LOCALHOST, 4242).into(),
        // Tells the other end which stream of the schedule this is.
        route: number,
        request_id: RequestId([0; 16]),
        upgrade: upgrade.map(str::to_owned),
        body: BodyKind::Unknown,
        expect_continue: false,
    }
}
