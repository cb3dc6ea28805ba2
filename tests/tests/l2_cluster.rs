//! The ground that the other tests of the VIPs stand on: a hand-made ARP answer is enough to reach a pod through kube-proxy.

use std::time::{Duration, Instant};

use anyhow::Result;
use causeway_tests::cluster::{
    Cluster, Programs, SOON, TEST, Wire, eventually, frames, path, service, visit,
};
use serde_json::json;

#[test]
fn a_hand_made_arp_answer_reaches_a_pod_through_kube_proxy() -> Result<()> {
    if !rustix::process::geteuid().is_root() || Programs::find().is_err() {
        eprintln!("SKIPPED l2_cluster: needs root and tests/kubernetes/prepare");
        assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "nothing is skipped in CI");
        return Ok(());
    }
    let cluster = Cluster::bare("ground", 2)?;
    let vip = [10, 77, 9, 9];
    cluster.create(&[&service("web")])?;
    let status = json!({ "status": { "loadBalancer": { "ingress": [{ "ip": "10.77.9.9" }] } } });
    cluster.api.merge(&format!("{}/status", path("Service", TEST, "web")), &status)?;
    assert!(cluster.answers(vip.into())?.is_empty(), "nobody answers before anybody claims");

    let node = &cluster.nodes[0].host.host;
    let mouth = Wire::new(node)?;
    let client = &cluster.lan.client;
    let served = eventually(2 * SOON, "the client reaches a pod", || {
        let start = Instant::now();
        std::thread::scope(|scope| {
            let visit = scope.spawn(|| visit(&client.namespace, vip.into(), 80));
            // No kernel knows the address: the test answers the client's question in the node's name.
            if mouth.wait_question(start, Duration::from_millis(200), vip.into()).is_ok() {
                mouth.send(&frames::arp(
                    client.mac,
                    node.mac,
                    2,
                    (node.mac, vip.into()),
                    (client.mac, client.v4),
                ))?;
            }
            visit.join().expect("the visit does not panic")
        })
    })?;
    assert!(served.starts_with("node"), "{served}");
    assert_eq!(
        cluster.wire.ask(vip.into(), Duration::from_millis(50))?.len(),
        0,
        "the hand-made answer was one answer"
    );
    Ok(())
}
