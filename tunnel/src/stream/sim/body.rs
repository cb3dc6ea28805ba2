//! One direction of a stream as either end treats it: sends for as long as it likes, reads for as long as it likes.

use http::header::ETAG;
use http::{HeaderMap, HeaderValue};

use super::Ties;
use super::ledger::Direction;
use crate::code::AbortCode;
use crate::stream::frame::Frame;
use crate::stream::{RawRecv, RawSend, RecvStream, SendStream, StreamError};

const PIECES: u32 = 6;
const PIECE_BYTES: u32 = 3000;

/// Sends a body and its end, or gives up somewhere.
pub(super) async fn send(ties: &Ties, mut send: SendStream, direction: Direction) {
    let Ties { chance, ledger, .. } = ties;
    let stopped = chance.one_in(3).then(|| send.stopped());
    let sent = try_send(ties, &mut send, direction).await;
    match sent {
        Ok(Sent::Whole) => {}
        Ok(Sent::Part) => ledger.give_up(direction),
        Err(ref error) => {
            ledger.writing_failed(direction, error);
            ledger.give_up(direction);
        }
    }
    drop(send);
    // Resolves for whoever has sent everything, and for whoever was told to stop.
    if let (Some(stopped), Ok(Sent::Whole)) = (stopped, sent) {
        stopped.await;
    }
}

enum Sent {
    Whole,
    Part,
}

async fn try_send(ties: &Ties, send: &mut SendStream, direction: Direction) -> Result<Sent, StreamError> {
    let Ties { chance, ledger, .. } = ties;
    for _ in 0..chance.below(PIECES) {
        match chance.below(25) {
            0 => {
                ledger.give_up(direction);
                send.abort(AbortCode::OriginReset);
                return Ok(Sent::Part);
            }
            1 => return Ok(Sent::Part),
            _ => {}
        }
        let bytes = ledger.give(direction, chance.below(PIECE_BYTES) as usize);
        match chance.patiently(send.data(bytes)).await {
            Some(sent) => sent?,
            // It is the stream's all the same.
            None if chance.one_in(4) => return Ok(Sent::Part),
            None => ledger.saw(|seen| seen.cancelled += 1),
        }
    }
    if chance.one_in(4) {
        ledger.give_trailers(direction);
        let trailers = HeaderMap::from_iter([(ETAG, HeaderValue::from_static("x"))]);
        chance.patiently(send.trailers(&trailers)).await.transpose()?;
    }
    ledger.give_end(direction);
    while !chance.one_in(20) {
        if let Some(sent) = chance.patiently(send.end()).await {
            return sent.map(|()| Sent::Whole);
        }
        ledger.saw(|seen| seen.cancelled += 1);
    }
    Ok(Sent::Part)
}

/// Reads a body to its end, or stops somewhere.
pub(super) async fn recv(ties: &Ties, mut recv: RecvStream, direction: Direction) {
    let Ties { chance, ledger, .. } = ties;
    let (mut at, mut trailers) = (0, false);
    while !chance.one_in(40) {
        if chance.one_in(25) {
            ledger.want_no_more(direction);
            recv.stop(AbortCode::TooLarge);
            return;
        }
        match chance.again(async || recv.frame().await).await {
            Ok(Frame::Data(bytes)) => {
                ledger.took(direction, at, &bytes);
                at += bytes.len() as u64;
            }
            Ok(Frame::Trailers(_)) => trailers = true,
            Ok(Frame::End) => {
                ledger.took_end(direction, at, trailers);
                return ledger.saw(|seen| seen.whole += 1);
            }
            Err(error) => return ledger.reading_failed(direction, &error),
        }
    }
    ledger.want_no_more(direction);
}

pub(super) async fn send_raw(ties: &Ties, mut send: RawSend, direction: Direction) {
    let Ties { chance, ledger, .. } = ties;
    for _ in 0..chance.below(PIECES) {
        if chance.one_in(25) {
            ledger.give_up(direction);
            return send.abort(AbortCode::Cancelled);
        }
        let bytes = ledger.give(direction, chance.below(PIECE_BYTES) as usize);
        match chance.patiently(send.write(bytes)).await {
            Some(Ok(())) => {}
            Some(Err(error)) => {
                ledger.writing_failed(direction, &error);
                // An end would be a lie, and the stream knows.
                ledger.give_up(direction);
                return if chance.one_in(2) {
                    send.finish()
                };
            }
            // What is left of it makes of a finish an abort.
            None => ledger.give_up(direction),
        }
    }
    if chance.one_in(10) {
        return ledger.give_up(direction);
    }
    ledger.give_end(direction);
    send.finish();
}

pub(super) async fn recv_raw(ties: &Ties, mut recv: RawRecv, direction: Direction) {
    let Ties { chance, ledger, .. } = ties;
    let mut at = 0;
    while !chance.one_in(40) {
        match chance.again(async || recv.chunk().await).await {
            Ok(Some(bytes)) => {
                ledger.took(direction, at, &bytes);
                at += bytes.len() as u64;
            }
            Ok(None) => {
                ledger.took_end(direction, at, false);
                return ledger.saw(|seen| seen.raw_ends += 1);
            }
            Err(error) => {
                ledger.reading_failed(direction, &error);
                let again = recv.chunk().await;
                assert_eq!(again, Err(error), "a break that looks like an end when it is asked for again");
                return;
            }
        }
    }
    ledger.want_no_more(direction);
}
