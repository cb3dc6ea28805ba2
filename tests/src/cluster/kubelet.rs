//! Scheduler and kubelet of straw: pods that Deployments make get a node and a network namespace, and a small HTTP server
//! stands in for their image on the ports that their containers name.
//!
//! ```text
//! pod without a node -> bound to one -> eth0 in a namespace of its own, its address routed by the node -> Running, Ready
//! pod being deleted  -> its server ends, its namespace goes -> the deletion is confirmed
//! ```
//! Pods of the system namespace are told to run and nothing else: their programs are started by the harness.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result};
use parking_lot::Mutex;
use serde_json::{Value, json};

use super::api::{Api, is_status, pause};
use super::lan::{Lan, NodeHost};
use super::objects::{self, SYSTEM, path, with};
use super::pod::PodServer;
use crate::netns::Namespace;

/// How often it looks at the pods: a person does not notice it.
const LOOK: Duration = Duration::from_millis(100);
/// The first last octet of a pod: below are the node and its pod of the scenarios.
const FIRST: u8 = 10;

/// Ends its pods with its value.
#[derive(Debug)]
pub struct Kubelet {
    pods: Pods,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// By namespace and name.
type Pods = Arc<Mutex<BTreeMap<(String, String), Played>>>;

#[derive(Debug)]
struct Played {
    namespace: Option<Namespace>,
    _server: Option<PodServer>,
}

impl Kubelet {
    /// What has to run beside it for `kubectl create deployment`, `delete namespace` and the like.
    pub const CONTROLLERS: &str = "endpointslice-controller,garbage-collector-controller,deployment-controller,\
         replicaset-controller,namespace-controller";

    pub fn start(test: &str, api: &Api, lan: &Lan) -> Result<Self> {
        let pods = Pods::default();
        let stop = Arc::new(AtomicBool::new(false));
        let mut worker = Worker {
            test: test.to_owned(),
            api: api.clone(),
            nodes: lan.nodes.clone(),
            pods: pods.clone(),
            made: 0,
            complaint: String::new(),
        };
        let stopped = stop.clone();
        let thread = thread::Builder::new().name("kubelet".into()).spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                worker.look();
                pause(LOOK);
            }
        })?;
        Ok(Self { pods, stop, thread: Some(thread) })
    }

    /// The network namespace of a pod whose name begins so.
    pub fn inside(&self, namespace: &str, begins: &str) -> Option<Namespace> {
        let pods = self.pods.lock();
        let mut found = pods.iter().filter(|((n, name), _)| n == namespace && name.starts_with(begins));
        found.find_map(|(_, played)| played.namespace.clone())
    }
}

impl Drop for Kubelet {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        self.pods.lock().clear();
    }
}

struct Worker {
    test: String,
    api: Api,
    nodes: Vec<NodeHost>,
    pods: Pods,
    /// How many pods there have been.
    made: u8,
    /// The last failure that was told: the same one is told once.
    complaint: String,
}

impl Worker {
    /// One round. What fails, because the API server is away or somebody else was quicker, is done in the next.
    fn look(&mut self) {
        match self.round() {
            Ok(()) => self.complaint.clear(),
            Err(error) => {
                let complaint = format!("{error:#}");
                if complaint != self.complaint {
                    eprintln!("kubelet: {complaint}");
                    self.complaint = complaint;
                }
            }
        }
    }

    fn round(&mut self) -> Result<()> {
        let all = self.api.list("/api/v1/pods")?;
        self.pods.lock().retain(|key, _| all.iter().any(|pod| key_of(pod) == *key));
        for pod in &all {
            let key = key_of(pod);
            if pod["metadata"]["deletionTimestamp"].is_string() {
                self.pods.lock().remove(&key);
                self.api.delete(&format!("{}?gracePeriodSeconds=0", path("Pod", &key.0, &key.1)))?;
            } else if pod["spec"]["nodeName"].is_null() && !self.pods.lock().contains_key(&key) {
                let played = self.play(pod, &key);
                match played {
                    // It was deleted meanwhile.
                    Err(error) if is_status(&error, 404) => {}
                    played => drop(self.pods.lock().insert(key, played?)),
                }
            }
        }
        Ok(())
    }

    fn play(&mut self, pod: &Value, (namespace, name): &(String, String)) -> Result<Played> {
        let number = usize::from(self.made) % self.nodes.len();
        let node = &self.nodes[number];
        let target = json!({ "apiVersion": "v1", "kind": "Node", "name": node.host.name });
        let binding =
            json!({ "apiVersion": "v1", "kind": "Binding", "metadata": { "name": name }, "target": target });
        self.made = self.made.checked_add(1).context("no more pods than fit into an octet")?;
        let (ip, played) = if namespace == SYSTEM {
            (node.host.v4, Played { namespace: None, _server: None })
        } else {
            let body = format!("{name} on {}\n", node.host.name);
            connect(&self.test, node, u8::try_from(number + 1)?, FIRST.saturating_add(self.made), pod, &body)?
        };
        self.api.create(&format!("{}/binding", path("Pod", namespace, name)), &binding)?;
        let status = format!("{}/status", path("Pod", namespace, name));
        self.api.merge(&status, &status_of(pod, node, ip))?;
        Ok(played)
    }
}

fn key_of(pod: &Value) -> (String, String) {
    let text = |key: &str| pod["metadata"][key].as_str().unwrap_or_default().to_owned();
    (text("namespace"), text("name"))
}

/// A namespace with an address of the node's pod network, and the server in it.
fn connect(
    test: &str,
    node: &NodeHost,
    net: u8,
    last: u8,
    pod: &Value,
    body: &str,
) -> Result<(Ipv4Addr, Played)> {
    let inside = Namespace::new(test, &format!("pod{net}-{last}"))?;
    let ip = Ipv4Addr::new(10, 244, net, last);
    node.host.namespace.ip(&format!(
        "link add veth{last} type veth peer name eth0 netns {}\nlink set veth{last} up\nroute add {ip}/32 dev veth{last}\n",
        inside.name()
    ))?;
    inside.ip(&format!(
        "addr add {ip} peer 10.244.{net}.1 dev eth0\nlink set eth0 up\nroute add default via 10.244.{net}.1\n"
    ))?;
    let containers = pod["spec"]["containers"].as_array().into_iter().flatten();
    let ports = containers.flat_map(|c| c["ports"].as_array().into_iter().flatten());
    let ports: Vec<u16> =
        ports.filter_map(|p| p["containerPort"].as_u64()).filter_map(|p| u16::try_from(p).ok()).collect();
    let server = PodServer::start_on(&inside, &ports, body)?;
    Ok((ip, Played { namespace: Some(inside), _server: Some(server) }))
}

fn status_of(pod: &Value, node: &NodeHost, ip: Ipv4Addr) -> Value {
    let containers = pod["spec"]["containers"].as_array().into_iter().flatten();
    let running: Vec<Value> = containers
        .map(|c| {
            json!({ "name": c["name"], "image": c["image"], "imageID": "", "ready": true, "started": true,
                    "restartCount": 0, "state": { "running": { "startedAt": pod["metadata"]["creationTimestamp"] } } })
        })
        .collect();
    with(
        objects::pod_status(&[ip.to_string()], node, true),
        json!({ "status": { "containerStatuses": running } }),
    )
}
