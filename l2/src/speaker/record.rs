//! Claims written on ServiceL2Status and read from there: the path between speakers that do not hear each other.

use std::{collections::BTreeMap, net::IpAddr};

use kube::ResourceExt;
use serde::{Deserialize, Serialize};

use crate::{
    api::{annotations, labels},
    ownership::{Claim, MAX_EPOCH, Owner, Tenure},
};

/// The epoch of each address, in the order of the addresses.
pub(super) type Epochs = Box<[(IpAddr, u64)]>;

/// The value of the annotation.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Record {
    boot: u64,
    epochs: BTreeMap<IpAddr, u64>,
}

pub(super) fn encode(boot: u64, epochs: &[(IpAddr, u64)]) -> String {
    let record = Record { boot, epochs: epochs.iter().copied().collect() };
    serde_json::to_string(&record).expect("numbers and addresses can be written")
}

/// Which life wrote it, and what it claims; None for what is not understood.
pub(super) fn read(object: &impl ResourceExt) -> Option<(u64, Epochs)> {
    let record: Record = serde_json::from_str(object.annotations().get(annotations::CLAIMS)?).ok()?;
    // As in a datagram.
    Some((record.boot, record.epochs.into_iter().filter(|(_, epoch)| *epoch <= MAX_EPOCH).collect()))
}

/// What somebody else's object claims; nothing for what is not understood.
pub(super) fn decode(object: &impl ResourceExt) -> Vec<Claim> {
    let (Some(node), Some((boot, epochs))) = (object.labels().get(labels::NODE), read(object)) else {
        return Vec::new();
    };
    let tenure = Tenure::Owned(Owner { name: node.as_str().into(), boot });
    epochs.iter().map(|(vip, epoch)| Claim { vip: *vip, epoch: *epoch, tenure: tenure.clone() }).collect()
}

#[cfg(test)]
mod tests {
    use kube::core::ObjectMeta;

    use super::*;
    use crate::speaker::objects;

    #[test]
    fn a_claim_is_read_as_it_was_written() {
        let vip: IpAddr = "fd00::1".parse().unwrap();
        let mut object = objects::Status { metadata: ObjectMeta::default() };
        assert_eq!(decode(&object), []);
        object.metadata = ObjectMeta {
            labels: Some([(labels::NODE.to_owned(), "node1".to_owned())].into()),
            annotations: Some([(annotations::CLAIMS.to_owned(), encode(7, &[(vip, 3)]))].into()),
            ..ObjectMeta::default()
        };
        let owner = Owner { name: "node1".into(), boot: 7 };
        assert_eq!(decode(&object), [Claim { vip, epoch: 3, tenure: Tenure::Owned(owner) }]);
        let made_up = encode(7, &[(vip, MAX_EPOCH + 1)]);
        object.metadata.annotations = Some([(annotations::CLAIMS.to_owned(), made_up)].into());
        assert_eq!(decode(&object), [], "nothing could ever be newer");
        object.metadata.annotations = Some([(annotations::CLAIMS.to_owned(), "{".to_owned())].into());
        assert_eq!(decode(&object), []);
    }
}
