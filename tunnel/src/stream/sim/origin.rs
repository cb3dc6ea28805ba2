//! The end that accepts streams, as a connector is: reads what they are for, answers, or refuses.

use http::{HeaderMap, StatusCode};

use super::ledger::Direction;
use super::{Ties, body};
use crate::code::AbortCode;
use crate::opening::Opening;
use crate::stream::head::{BodyKind, ResponseHead};
use crate::stream::{First, RecvStream, SendStream};

/// One accepted stream.
pub(super) async fn serve(ties: Ties, mut send: SendStream, mut recv: RecvStream) {
    let Ties { chance, ledger, .. } = &ties;
    let Ok(opening) = chance.again(async || recv.opening().await).await else { return };
    let Opening::Request(head) = opening else {
        recv.stop(AbortCode::UnknownKind);
        return send.abort(AbortCode::UnknownKind);
    };
    let (up, down) = ((head.route, true), (head.route, false));
    if head.upgrade.is_some() && !chance.one_in(3) {
        let head = response_head(StatusCode::SWITCHING_PROTOCOLS);
        match chance.patiently(send.response(&head, First::More)).await {
            Some(Ok(())) => {}
            Some(Err(error)) => {
                ledger.writing_failed(down, &error);
                ledger.give_up(down);
                return ledger.want_no_more(up);
            }
            // Its rest goes with the first raw bytes; what is left of it makes of a finish an abort.
            None => ledger.give_up(down),
        }
        tokio::join!(
            body::send_raw(&ties, send.into_raw(), down),
            body::recv_raw(&ties, recv.into_raw(), up)
        );
    } else {
        tokio::join!(answer(&ties, send, down), body::recv(&ties, recv, up));
    }
}

async fn answer(ties: &Ties, mut send: SendStream, down: Direction) {
    let Ties { chance, ledger, .. } = ties;
    for _ in 0..chance.below(3) {
        chance.patiently(send.interim(StatusCode::EARLY_HINTS, &HeaderMap::new())).await;
    }
    let first = if chance.one_in(4) {
        let whole = ledger.give(down, chance.below(2000) as usize);
        ledger.give_end(down);
        First::Only(whole)
    } else {
        First::More
    };
    let is_whole = first != First::More;
    match chance.patiently(send.response(&response_head(StatusCode::OK), first)).await {
        Some(Err(error)) => ledger.writing_failed(down, &error),
        // Cut short, its rest goes with the first of the body.
        _ if !is_whole => return body::send(ties, send, down).await,
        Some(Ok(())) => return,
        None => {}
    }
    ledger.give_up(down);
}

fn response_head(status: StatusCode) -> ResponseHead {
    ResponseHead { status, headers: HeaderMap::new(), body: BodyKind::Unknown }
}
