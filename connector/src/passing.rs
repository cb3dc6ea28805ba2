//! The life of a connection that the edge does not read: to the rule's service and back, byte for byte, or to our own door where
//! its TLS ends here.

use std::sync::Arc;

use bytes::Bytes;
use causeway_tunnel::{AbortCode, Passage, RecvStream, SendStream, TlsEnd};
use tokio::io::AsyncWriteExt;

use crate::config::ProxyProtocol;
use crate::failure::Failure;
use crate::origin::{Io, Origin};
use crate::proxy_protocol;
use crate::report::report;
use crate::rules::{ActiveRule, Handler};
use crate::shard::Shard;
use crate::upgrade;

/// Serves one connection, from its opening to its end.
pub(crate) async fn serve(shard: &Shard, passage: Passage, mut send: SendStream, mut recv: RecvStream) {
    let rule = shard.rules.load().choose_passing(passage.route, &passage.name).cloned();
    if let Some(rule) = rule.as_ref().filter(|rule| rule.tls == TlsEnd::Connector) {
        shard.metrics.passed(&rule.label, rule.tls);
        return shard.home.serve(send.into_raw(), recv.into_raw(), passage.visitor).await;
    }
    let Some((rule, origin)) = rule.as_ref().and_then(|rule| Some((rule, origin(rule)?))) else {
        tracing::warn!(request = %passage.request_id, route = passage.route, host = passage.name.escape_default().to_string(),
            "the edge passed a connection on that was not asked for: refused");
        shard.metrics.aborted("none", AbortCode::UnknownRoute);
        recv.stop(AbortCode::UnknownRoute);
        return send.abort(AbortCode::UnknownRoute);
    };
    shard.metrics.passed(&rule.label, rule.tls);
    let gone = send.stopped();
    let connected = tokio::select! {
        biased;
        connected = connect(shard, origin, &passage) => connected,
        _ = gone => Err(Failure::visitor(AbortCode::Cancelled, "the visitor went away")),
    };
    match connected {
        Ok(io) => {
            let idle = origin.settings().upgrade_idle_timeout;
            let (send, recv) = (send.into_raw(), recv.into_raw());
            let (up, down) = upgrade::copy(io, Bytes::new(), send, recv, idle).await;
            rule.metrics.carried(up, down);
        }
        Err(failure) => {
            report(shard, rule, origin, &failure, &passage.request_id.to_string());
            recv.stop(failure.code);
            send.abort(failure.code);
        }
    }
}

fn origin(rule: &ActiveRule) -> Option<&Arc<Origin>> {
    match &rule.handler {
        Handler::Origin(origin) => Some(origin),
        _ => None,
    }
}

/// A connection to the service, which has been told whose it is where it wants to know.
async fn connect(shard: &Shard, origin: &Origin, passage: &Passage) -> Result<Io, Failure> {
    shard.metrics.origin_dials.inc();
    let mut io = origin.raw(shard.index).await?;
    if origin.settings().proxy_protocol == Some(ProxyProtocol::V2) {
        let header = proxy_protocol::header(passage, io.peer_addr());
        io.write_all(&header).await.map_err(|error| {
            let cause = format!("the service broke off before a byte: {error}");
            Failure::origin(AbortCode::OriginUnreachable, cause)
        })?;
    }
    Ok(io)
}
