//! What speakers have written at the API server, as the watches show it: to restore what somebody else deletes, to delete
//! only what was seen, and to know which other speakers there are.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use causeway_daemon::drain::Drain;
use kube::{Api, Client, Resource, ResourceExt, runtime::watcher::Config};
use tokio::sync::{mpsc, watch};

use super::{
    gather::{MEANWHILE, PAGE},
    objects,
    options::Options,
    record,
};
use crate::{
    api::{annotations, labels},
    follow::{self, Following, Presence},
    mac::Mac,
    node_name::NodeName,
    ownership::Claim,
    version,
};

/// The wire thread is never far behind; a full queue only makes the watch wait.
const QUEUE: usize = 64;

/// A ServiceL2Status, in one version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Status {
    pub(super) uid: Box<str>,
    pub(super) version: Box<str>,
    pub(super) node: NodeName,
    /// Which life of the node claims, and the epoch of each claim.
    pub(super) boot: u64,
    pub(super) epochs: record::Epochs,
}

/// A speaker's ConfigurationState.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Configuration {
    pub(super) uid: String,
    pub(super) node: NodeName,
    /// As written in the annotations.
    pub(super) gateways: String,
    pub(super) stations: String,
}

/// The objects of one kind, by name.
#[derive(Debug)]
pub(super) struct Objects<T> {
    known: BTreeMap<String, T>,
    /// They were listed once: what is not here does not exist.
    complete: bool,
}

#[derive(Debug, Default)]
pub(super) struct Written {
    pub(super) statuses: Objects<Status>,
    pub(super) configurations: Objects<Configuration>,
    /// Names of nodes that any status had.
    nodes: BTreeSet<NodeName>,
}

impl<T> Default for Objects<T> {
    fn default() -> Self {
        Self { known: BTreeMap::new(), complete: false }
    }
}

impl<T> Objects<T> {
    pub(super) fn all(&self) -> impl Iterator<Item = (&String, &T)> {
        self.known.iter()
    }

    pub(super) fn get(&self, name: &str) -> Option<&T> {
        self.known.get(name)
    }

    /// Whether it is known that there is no such object.
    pub(super) fn lacks(&self, name: &str) -> bool {
        self.complete && !self.known.contains_key(name)
    }

    fn end_list(&mut self, names: &BTreeSet<String>) {
        self.known.retain(|name, _| names.contains(name));
        self.complete = true;
    }
}

impl Written {
    /// The hardware addresses that each speaker has written down.
    fn stations(&self) -> BTreeMap<NodeName, Vec<Mac>> {
        let macs = |text: &str| text.split(',').filter_map(|mac| mac.parse().ok()).collect();
        self.configurations.all().map(|(_, state)| (state.node.clone(), macs(&state.stations))).collect()
    }

    /// Nodes with a speaker: its ConfigurationState goes when its pod does.
    pub(super) fn speakers(&self) -> impl Iterator<Item = &NodeName> {
        self.configurations.all().map(|(_, state)| &state.node)
    }

    #[cfg(test)]
    pub(super) fn with_speakers(nodes: &[&str]) -> Self {
        let state = |node: &&str| {
            let (node, none) = ((*node).into(), String::new);
            let state = Configuration { uid: none(), node, gateways: none(), stations: none() };
            (format!("speaker-{}", state.node), state)
        };
        let known = nodes.iter().map(state).collect();
        Self { configurations: Objects { known, complete: true }, ..Self::default() }
    }

    /// Takes in a status that was just written here, unless a newer version was seen already.
    pub(super) fn put_status(&mut self, name: &str, mut status: Status) {
        // One copy of each node's name.
        if let Some(known) = self.nodes.get(&status.node) {
            status.node = known.clone();
        } else {
            self.nodes.insert(status.node.clone());
        }
        let newer = self.statuses.get(name).is_some_and(|known| {
            known.uid == status.uid && version::is_older(&status.version, &known.version)
        });
        if !newer {
            self.statuses.known.insert(name.to_owned(), status);
        }
    }

    fn remove_status(&mut self, name: &str, uid: &str) {
        if self.statuses.get(name).is_some_and(|known| *known.uid == *uid) {
            self.statuses.known.remove(name);
        }
    }
}

/// None for an object that no speaker wrote.
pub(super) fn status(object: &impl ResourceExt) -> Option<Status> {
    let (boot, epochs) = record::read(object).unwrap_or_default();
    Some(Status {
        uid: object.uid()?.into(),
        version: object.resource_version()?.into(),
        node: object.labels().get(labels::NODE)?.as_str().into(),
        boot,
        epochs,
    })
}

fn configuration(object: &objects::Configuration) -> Option<Configuration> {
    let node = object.labels().get(labels::NODE_NAME)?.as_str().into();
    let note = |name| object.annotations().get(name).cloned().unwrap_or_default();
    let (gateways, stations) = (note(annotations::GATEWAYS), note(annotations::STATIONS));
    Some(Configuration { uid: object.uid()?, node, gateways, stations })
}

/// What speakers write down for those that do not hear them.
#[derive(Debug)]
pub(super) enum Record {
    Written(Vec<Claim>),
    Withdrawn(Vec<Claim>),
    /// Which hardware addresses speakers have, all of them.
    Stations(BTreeMap<NodeName, Vec<Mac>>),
}

/// What comes out of the watches.
pub(super) struct Followed {
    /// What speakers claim, for those that cannot be heard.
    pub(super) records: mpsc::Receiver<Record>,
    pub(super) written: Arc<watch::Sender<Written>>,
}

/// Starts both watches. One that fails is tried again for ever, and takes nothing away meanwhile.
pub(super) fn follow(client: &Client, options: &Options, drain: &Drain) -> Followed {
    let (sender, records) = mpsc::channel(QUEUE);
    let written = Arc::new(watch::Sender::new(Written::default()));
    let statuses = Api::<objects::Status>::namespaced(client.clone(), &options.namespace);
    let (all, stations) = (written.clone(), sender.clone());
    let mut listing = Listing::default();
    let task = follow::follow(following(statuses, Config::default()), drain.clone(), async move |change| {
        let Some(change) = listing.take(change) else { return true };
        match change {
            Change::Seen(object, in_list) => {
                if let Some(status) = status(&object) {
                    all.send_if_modified(|all| {
                        all.put_status(&object.name_any(), status);
                        !in_list
                    });
                }
                let claims = record::decode(&object);
                claims.is_empty() || sender.send(Record::Written(claims)).await.is_ok()
            }
            Change::Gone(object) => {
                all.send_modify(|all| {
                    all.remove_status(&object.name_any(), &object.uid().unwrap_or_default());
                });
                let claims = record::decode(&object);
                claims.is_empty() || sender.send(Record::Withdrawn(claims)).await.is_ok()
            }
            Change::Listed(names) => {
                all.send_modify(|all| all.statuses.end_list(&names));
                true
            }
        }
    });
    drop(drain.spawn("statuses", task));
    let configurations = Api::<objects::Configuration>::namespaced(client.clone(), &options.namespace);
    let speakers = Config::default().labels(&format!("{}=speaker", labels::COMPONENT_TYPE));
    let all = written.clone();
    let mut listing = Listing::default();
    let task = follow::follow(following(configurations, speakers), drain.clone(), async move |change| {
        let Some(change) = listing.take(change) else { return true };
        all.send_modify(|all| {
            let all = &mut all.configurations;
            match change {
                Change::Seen(object, _) => {
                    if let Some(state) = configuration(&object) {
                        all.known.insert(object.name_any(), state);
                    }
                }
                Change::Gone(object) => {
                    let uid = object.uid().unwrap_or_default();
                    all.known.retain(|name, state| *name != object.name_any() || state.uid != uid);
                }
                Change::Listed(names) => all.end_list(&names),
            }
        });
        let now = all.borrow().stations();
        stations.send(Record::Stations(now)).await.is_ok()
    });
    drop(drain.spawn("configurations", task));
    Followed { records, written }
}

/// What a watch says.
enum Change<K> {
    /// With whether a list shows it.
    Seen(K, bool),
    Gone(K),
    /// A list is complete, with the names it showed.
    Listed(BTreeSet<String>),
}

/// The names that a list has shown so far.
#[derive(Default)]
struct Listing(BTreeSet<String>);

impl Listing {
    fn take<K: Resource>(&mut self, change: follow::Change<K>) -> Option<Change<K>> {
        Some(match change {
            follow::Change::Begin => {
                self.0.clear();
                return None;
            }
            follow::Change::Listed(object) => {
                self.0.insert(object.name_any());
                Change::Seen(object, true)
            }
            follow::Change::Complete => Change::Listed(std::mem::take(&mut self.0)),
            follow::Change::Seen(object) => Change::Seen(object, false),
            follow::Change::Gone(object) => Change::Gone(object),
            follow::Change::Absent => return None,
        })
    }
}

fn following<K: Resource<DynamicType = ()>>(api: Api<K>, config: Config) -> Following<K> {
    Following {
        kind: K::kind(&()).into_owned(),
        api,
        config,
        page: PAGE,
        presence: Presence::Certain,
        meanwhile: MEANWHILE,
        refused: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(uid: &str, version: &str) -> Status {
        Status {
            uid: uid.into(),
            version: version.into(),
            node: "node1".into(),
            boot: 1,
            epochs: Box::default(),
        }
    }

    #[test]
    fn what_is_written_replaces_what_was_seen_before_it_and_nothing_newer() {
        let mut written = Written::default();
        assert!(!written.statuses.lacks("x"), "nothing was listed yet");
        written.statuses.end_list(&BTreeSet::new());
        assert!(written.statuses.lacks("x"));
        written.put_status("x", status("1", "10"));
        written.put_status("x", status("1", "9"));
        assert_eq!(written.statuses.get("x").map(|s| &*s.version), Some("10"));
        // The end of an earlier object of that name comes late.
        written.remove_status("x", "0");
        assert!(!written.statuses.lacks("x"));
        written.remove_status("x", "1");
        assert!(written.statuses.lacks("x"));
        // Another one of that name starts its own count.
        written.put_status("x", status("1", "10"));
        written.put_status("x", status("2", "4"));
        assert_eq!(written.statuses.get("x").map(|s| &*s.uid), Some("2"));
    }
}
