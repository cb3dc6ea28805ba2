//! The cluster of the tests for people to play with: starts it, prints how to use it, and waits for its end.
//! `tests/playground` builds it, runs it, and clears up after one that was killed.
//!
//! Usage: causeway-playground STATE SCRIPT, where STATE is the folder for what others need to find it, and SCRIPT the
//! path under which people called `tests/playground`.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use causeway_tests::cluster::{Cluster, Kubelet, SYSTEM, TEST, forward, service, with};
use serde_json::json;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::JoinSet;

/// In the names of its namespaces, which `tests/playground` knows as well.
const NAME: &str = "playground";
const NODES: u8 = 3;
/// How often it looks for programs that have ended; they start again at that, as a kubelet would see to.
const LOOK: Duration = Duration::from_secs(2);
/// The network of the walk-through in docs/kubernetes.md, so that its addresses can be used as they are written.
const HOME: ([u8; 3], u8) = ([192, 168, 1], 24);
/// Of the Service that is there from the start.
const POOL: &str = "10.77.1.1-10.77.1.50";

fn main() -> ExitCode {
    let args: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    let [state, script] = args.as_slice() else {
        eprintln!("usage: tests/playground");
        return ExitCode::from(64);
    };
    let played = play(state, script);
    // What stands no longer is not noted; the lock goes with the last program.
    let _ = std::fs::remove_dir_all(state);
    match played {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("playground: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn play(state: &Path, script: &Path) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    // From here on a signal is kept until somebody waits for it: the start is not torn apart.
    let end = {
        let _inside = runtime.enter();
        End::new()?
    };
    println!("Starting etcd, the API server, {NODES} nodes, allocators and speakers …");
    let mut cluster = Cluster::start(NAME, NODES)?;
    std::fs::write(state.join("folder"), cluster.folder().to_str().context("the path is not UTF-8")?)?;
    cluster.control.start_manager(Kubelet::CONTROLLERS)?;
    cluster.lan.add_network(HOME.0, HOME.1)?;
    let _kubelet = Kubelet::start(NAME, &cluster.api, &cluster.lan)?;
    cluster.announce_pool(NAME, &[POOL])?;
    // Its pod lives on no node: it is there whatever happens to the nodes.
    cluster.create(&[&with(service("web"), json!({ "spec": { "selector": { "app": "safe" } } }))])?;
    let ip = cluster.wait_ip("web")?;
    let owner = cluster.wait_owner(&ip)?;
    cluster.wait_reached(&ip, 80)?;

    let door = runtime.block_on(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))?;
    std::fs::write(state.join("kubeconfig"), cluster.control.kubeconfig_at("admin", &door.local_addr()?))?;
    note(&cluster, state)?;
    print!("{}", manual(&cluster, state, script, &ip, &owner));
    wait(&runtime, &mut cluster, state, door, end);
    println!("Ending …");
    Ok(())
}

/// What ends it: Ctrl-C, SIGTERM (`--down`), or the terminal that goes away.
struct End([Signal; 3]);

impl End {
    fn new() -> Result<Self> {
        let of = |kind| signal(kind).context("cannot wait for signals");
        Ok(Self([of(SignalKind::interrupt())?, of(SignalKind::terminate())?, of(SignalKind::hangup())?]))
    }

    async fn comes(&mut self) {
        let [interrupt, terminate, hangup] = &mut self.0;
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
    }
}

/// Until the end: lets `kubectl` in, and starts again what was killed.
fn wait(runtime: &Runtime, cluster: &mut Cluster, state: &Path, door: TcpListener, mut end: End) {
    let (inside, server) =
        (cluster.lan.control.namespace.clone(), SocketAddr::from((cluster.lan.control.v4, 6443)));
    let mut tasks = JoinSet::new();
    tasks.spawn_on(forward(door, inside, server), runtime.handle());
    runtime.block_on(async {
        let mut look = tokio::time::interval(LOOK);
        loop {
            tokio::select! {
                () = end.comes() => break,
                _ = look.tick() => {
                    if let Err(error) = restart(cluster, state) {
                        eprintln!("playground: {error:#}");
                    }
                }
            }
        }
        tasks.shutdown().await;
    });
}

/// Starts allocators and speakers that have ended.
fn restart(cluster: &mut Cluster, state: &Path) -> Result<()> {
    let mut started = false;
    for node in 0..cluster.nodes.len() {
        if cluster.nodes[node].speaker.as_mut().is_none_or(|speaker| speaker.check().is_err()) {
            println!("The speaker of {} has ended; it is started again.", cluster.nodes[node].name);
            cluster.start_speaker(node)?;
            started = true;
        }
    }
    if cluster.allocators.iter_mut().any(|allocator| allocator.check().is_err()) {
        println!("An allocator has ended; both are started again.");
        cluster.restart_allocators()?;
    }
    if started { note(cluster, state) } else { Ok(()) }
}

/// Writes down what the printed commands use: each speaker's process id, and what gives a node its address back.
fn note(cluster: &Cluster, state: &Path) -> Result<()> {
    for node in &cluster.nodes {
        if let Some(speaker) = &node.speaker {
            std::fs::write(state.join(format!("{}.pid", node.name)), speaker.pid().to_string())?;
        }
        let address = cluster.lan.address_and_routes(&node.name)?;
        std::fs::write(state.join(format!("{}.address", node.name)), address)?;
    }
    Ok(())
}

fn manual(cluster: &Cluster, state: &Path, script: &Path, ip: &str, owner: &str) -> String {
    MANUAL
        .replace("{me}", &script.display().to_string())
        .replace("{state}", &state.display().to_string())
        .replace("{programs}", &cluster.control.programs.folder().display().to_string())
        .replace("{logs}", &cluster.folder().display().to_string())
        .replace("{ip}", ip)
        .replace("{owner}", owner)
        .replace("{system}", SYSTEM)
        .replace("{test}", TEST)
}

const MANUAL: &str = "
The cluster stands: a control plane, node1 to node3, and a client on their LAN. In other terminals, as root:

  The cluster: a real API server. Pods get a small HTTP server in place of their image.
    export KUBECONFIG={state}/kubeconfig PATH={programs}:$PATH
    kubectl -n {test} get service web            # has {ip}
    kubectl -n {system} get servicel2statuses    # who announces it: {owner} now

  A visit, from the client:
    {me} --in client curl -sS -m 2 -w '\\n' http://{ip}/
  Whose MAC the client knows, and a visit every tenth of a second:
    {me} --in client ip neigh show {ip}
    {me} --in client sh -c 'while sleep 0.1; do curl -sS -m 1 -w \" %{time_total} s\\n\" http://{ip}/; done'

  Kill the node that announces it (power cut), and switch it on again; its speaker is started again within two seconds:
    {me} --in switch ip link set {owner}-0 down; kill -9 $(cat {state}/{owner}.pid)
    {me} --in switch ip link set {owner}-0 up
  Pull its cable, and put it back:
    {me} --in switch ip link set {owner}-0 down
    {me} --in switch ip link set {owner}-0 up
  Take its address away (its carrier stays), and give it back:
    {me} --in {owner} ip -4 addr flush dev eth0
    {me} --in {owner} ip -batch {state}/{owner}.address

  The walk-throughs of docs/kubernetes.md can be followed as they are written, but for the installation; what is done
  \"from another machine\" is done with {me} --in client.
  Logs are in {logs}.

Ctrl-C ends everything; from elsewhere: {me} --down
";
