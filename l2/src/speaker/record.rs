//! Claims written on ServiceL2Status and read from there: the path between speakers that do not hear each other.

use std::{collections::BTreeMap, net::IpAddr, pin::pin};

use causeway_daemon::drain::Drain;
use futures_util::StreamExt;
use kube::{
    Api, Client, ResourceExt,
    runtime::{
        WatchStreamExt,
        watcher::{Config, Event, watcher},
    },
};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use tracing::debug;

use super::{objects, options::Options, watches::PAGE};
use crate::{
    api::{annotations, labels},
    ownership::{Claim, MAX_EPOCH, Owner, Tenure},
};

/// The wire thread is never far behind; a full queue only makes the watch wait.
const QUEUE: usize = 64;

/// The value of the annotation.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Record {
    boot: u64,
    epochs: BTreeMap<IpAddr, u64>,
}

pub(super) fn encode(boot: u64, epochs: &BTreeMap<IpAddr, u64>) -> String {
    let record = Record { boot, epochs: epochs.clone() };
    serde_json::to_string(&record).expect("numbers and addresses can be written")
}

/// What somebody else's object claims; nothing for what is not understood.
fn decode(object: &impl ResourceExt) -> Vec<Claim> {
    let parse = || {
        let node = object.labels().get(labels::NODE)?;
        let record: Record = serde_json::from_str(object.annotations().get(annotations::CLAIMS)?).ok()?;
        let tenure = Tenure::Owned(Owner { name: node.as_str().into(), boot: record.boot });
        let claim = |(vip, epoch)| Claim { vip, epoch, tenure: tenure.clone() };
        // As in a datagram.
        Some(record.epochs.into_iter().filter(|(_, epoch)| *epoch <= MAX_EPOCH).map(claim).collect())
    };
    parse().unwrap_or_default()
}

/// Follows what all speakers wrote. Nothing of it is kept here; a watch that fails is tried again for ever.
pub(super) fn follow(client: &Client, options: &Options, drain: &Drain) -> mpsc::Receiver<Vec<Claim>> {
    let (sender, receiver) = mpsc::channel(QUEUE);
    let api = Api::<objects::Status>::namespaced(client.clone(), &options.namespace);
    let stop = drain.clone();
    drop(drain.spawn("records", async move {
        let mut events =
            pin!(watcher(api, Config::default().page_size(PAGE)).backoff(crate::retry::Retry::default()));
        loop {
            let event = tokio::select! {
                biased;
                () = stop.draining() => return,
                event = events.next() => event,
            };
            match event {
                None => return,
                Some(Ok(Event::Apply(object) | Event::InitApply(object))) => {
                    let claims = decode(&object);
                    if !claims.is_empty() && sender.send(claims).await.is_err() {
                        return;
                    }
                }
                Some(Ok(_)) => {}
                Some(Err(error)) => {
                    debug!(%error, "claims are not heard by way of the API server, trying again")
                }
            }
        }
    }));
    receiver
}

#[cfg(test)]
mod tests {
    use kube::core::ObjectMeta;

    use super::*;

    #[test]
    fn a_claim_is_read_as_it_was_written() {
        let vip: IpAddr = "fd00::1".parse().unwrap();
        let mut object = objects::Status { metadata: ObjectMeta::default() };
        assert_eq!(decode(&object), []);
        object.metadata = ObjectMeta {
            labels: Some([(labels::NODE.to_owned(), "node1".to_owned())].into()),
            annotations: Some([(annotations::CLAIMS.to_owned(), encode(7, &[(vip, 3)].into()))].into()),
            ..ObjectMeta::default()
        };
        let owner = Owner { name: "node1".into(), boot: 7 };
        assert_eq!(decode(&object), [Claim { vip, epoch: 3, tenure: Tenure::Owned(owner) }]);
        let made_up = encode(7, &[(vip, MAX_EPOCH + 1)].into());
        object.metadata.annotations = Some([(annotations::CLAIMS.to_owned(), made_up)].into());
        assert_eq!(decode(&object), [], "nothing could ever be newer");
        object.metadata.annotations = Some([(annotations::CLAIMS.to_owned(), "{".to_owned())].into());
        assert_eq!(decode(&object), []);
    }
}
