//! What the connector makes of a session that falls silent: it is suspected and probed, on the board and in the figures; the
//! slot dials beside it ([`crate::slot`]).

use std::convert::Infallible;

use causeway_tunnel::{Closed, Session, Sign};
use tokio::sync::Notify;

use crate::metrics::Metrics;
use crate::status::OnBoard;

/// Watches over a session for as long as it is polled. What is to be asked of the edge is `probe`'s to say.
pub(crate) async fn watch(
    metrics: &Metrics,
    session: &Session,
    on_board: &OnBoard,
    probe: &Notify,
) -> Infallible {
    let id = session.info().id;
    let mut watch = session.watch();
    loop {
        let sign = watch.next().await;
        match sign {
            Sign::Suspected => {
                metrics.suspicions.inc();
                on_board.suspicion_changed();
                on_board.doubt_others();
                tracing::warn!(edge = on_board.edge(), session = %id, "nothing is heard of the edge: dialling beside this session");
            }
            Sign::Heard => {
                on_board.suspicion_changed();
                tracing::info!(edge = on_board.edge(), session = %id, "the edge is heard again");
            }
            Sign::Silent | Sign::Doubted | Sign::Settling => {}
        }
        watch.allow_probe();
        probe.notify_one();
    }
}

/// Takes account of a session that its carrier gave up.
pub(crate) fn ended(metrics: &Metrics, closed: &Closed) {
    match closed {
        Closed::Silent => metrics.given_up("silence"),
        Closed::Forgotten => metrics.given_up("reset"),
        Closed::ByPeer(..) | Closed::ByUs | Closed::Broken(_) => {}
    }
}
