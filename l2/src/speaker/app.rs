//! Puts the speaker together: watches, the wire thread, reports, admin server; and takes it apart in order.

use std::{net::SocketAddr, sync::Arc, thread::JoinHandle, time::Duration};

use anyhow::Context;
use causeway_daemon::{
    admin::{Admin, Reply, get},
    config::Secret,
    drain::{Drain, Finished},
    pulse::Pulse,
    readiness::Readiness,
    telemetry::Levels,
};
use http::StatusCode;
use kube::Client;
use prometheus_client::registry::Registry;
use tokio::sync::{mpsc, oneshot, watch};
use tracing::{info, warn};

use super::{
    gather, isolation,
    metrics::Metrics,
    options::Options,
    page::Page,
    report::{Reporter, Sources},
    state::State,
    wire::{Command, Inputs, Wire},
    written::{self, Followed},
};

/// A hand-over takes milliseconds; so long is waited for nodes that are slow to take.
const HAND_OVER: Duration = Duration::from_secs(3);
/// After the hand-over: the last writes to the API server.
const LAST_WRITES: Duration = Duration::from_secs(3);
/// As much more weight as a process may be given; without the capability for it the normal one stays.
const PRIORITY: i32 = -10;
/// The wire thread's stack; its futures are small.
const STACK_BYTES: usize = 512 * 1024;

/// A speaker that runs.
#[derive(Debug)]
pub struct App {
    drain: Drain,
    readiness: Readiness,
    state: watch::Receiver<Arc<State>>,
    commands: mpsc::Sender<Command>,
    wire: Option<JoinHandle<()>>,
    admin: Option<SocketAddr>,
}

impl App {
    /// What a stop is given: the hand-over, then the last writes.
    pub const GRACE: Duration = HAND_OVER.saturating_add(LAST_WRITES);

    /// Starts everything; returns when the sockets are open and the watches are under way.
    ///
    /// # Errors
    /// When the key cannot be read, or an address or a socket cannot be had.
    pub async fn start(client: Client, options: &Options, levels: Option<Levels>) -> anyhow::Result<Self> {
        let (drain, readiness) = (Drain::new(), Readiness::new());
        let secret = Secret::from_file(&options.key_file).context("the speakers' key cannot be read")?;
        anyhow::ensure!(!secret.expose().is_empty(), "the key file {} is empty", options.key_file.display());
        let mut registry = Registry::default();
        let metrics = Metrics::register(&mut registry);
        if let Some(levels) = &levels {
            levels.register(&mut registry, "causeway_speaker");
        }
        let pulse = Pulse::new();
        let (publish, state) = watch::channel(Arc::new(State::default()));

        let wanted = gather::start(&client, options, &readiness, &drain);
        let (node, shown, wants) = (options.node_name.clone(), state.clone(), wanted.clone());
        let status = get(async move || {
            // Copied first: the wire thread waits for nobody who looks.
            let (state, wanted) = (shown.borrow().clone(), wants.borrow().clone());
            let page = Page::new(&node, &state, wanted.as_deref());
            let body = serde_json::to_vec(&page).unwrap_or_default();
            Reply::json(StatusCode::OK, body)
        });
        let admin = Admin::new(Arc::new(registry), readiness.clone(), levels).route("/status", status);
        let admin = admin.watch(pulse.clone());
        let admin = admin.bind(options.admin).await.context("the admin server does not start")?;
        let address = admin.local_addr();
        drop(admin.run(&drain));

        let (commands, inbox) = mpsc::channel(4);
        let Followed { records, written } = written::follow(&client, options, &drain);
        let inputs = Inputs { wanted: wanted.clone(), records, commands: inbox, state: publish, metrics };
        let wire = start_wire(options.clone(), secret, inputs, &pulse).await?;
        join(&readiness, &drain, state.clone());
        let node = options.node_name.clone();
        let isolation =
            isolation::follow(node, state.clone(), wanted.clone(), &written, readiness.clone(), &drain);
        let reporter = Reporter::new(
            client,
            options.clone(),
            Sources { state: state.clone(), wanted, written, isolation },
        );
        drop(drain.spawn("report", reporter.run(drain.clone())));
        Ok(Self { drain, readiness, state, commands, wire: Some(wire), admin: address })
    }

    pub fn admin(&self) -> Option<SocketAddr> {
        self.admin
    }

    pub fn panics(&self) -> u64 {
        self.drain.panics()
    }

    /// To end it at once, without a hand-over: [`Drain::force`].
    pub fn drain(&self) -> Drain {
        self.drain.clone()
    }

    /// Resolves when the wire thread ended by itself, which it does only when the kernel's links are lost.
    pub async fn failed(&self) {
        self.commands.closed().await;
    }

    /// Stops in stages: hand everything over, stop answering, take back the statuses.
    pub async fn stop(&mut self) -> Finished {
        self.readiness.fail();
        let drain = self.drain.clone();
        tokio::select! {
            () = self.hand_over() => {}
            () = drain.forced() => {}
        }
        drain.finish(LAST_WRITES).await
    }

    /// Waits until the others have every address, or are slow, and ends the wire thread.
    async fn hand_over(&mut self) {
        info!("handing over");
        let _ = self.commands.send(Command::Drain).await;
        let mut state = self.state.clone();
        let others = |state: &State| state.members.iter().any(|member| member.up);
        let done = state.wait_for(|state| state.draining && (state.held.is_empty() || !others(state)));
        if !matches!(tokio::time::timeout(HAND_OVER, done).await, Ok(Ok(_))) {
            warn!(left = self.state.borrow().held.len(), "not every address was taken over");
        }
        let _ = self.commands.send(Command::Leave).await;
        self.commands.closed().await;
        if let Some(wire) = self.wire.take()
            && wire.join().is_err()
        {
            warn!("the wire thread panicked");
        }
    }
}

/// Starts the thread and waits until its sockets are open.
async fn start_wire(
    options: Options,
    secret: Secret,
    inputs: Inputs,
    pulse: &Pulse,
) -> anyhow::Result<JoinHandle<()>> {
    let (opened, result) = oneshot::channel();
    let beat = pulse.beat("wire".to_owned());
    let run = move || {
        let _ = rustix::process::setpriority_process(None, PRIORITY);
        let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => runtime,
            Err(error) => return drop(opened.send(Err(error.into()))),
        };
        runtime.block_on(async move {
            match Wire::open(options, secret.expose().as_bytes(), inputs).await {
                Ok(wire) => {
                    drop(secret);
                    let _ = opened.send(Ok(()));
                    tokio::select! {
                        () = Box::pin(wire.run()) => {}
                        () = beat => {}
                    }
                }
                Err(error) => drop(opened.send(Err(error))),
            }
        });
    };
    let thread = std::thread::Builder::new().name("wire".to_owned()).stack_size(STACK_BYTES).spawn(run)?;
    result.await.context("the wire thread ended at its start")??;
    Ok(thread)
}

/// Not ready before the peers were asked what they own.
fn join(readiness: &Readiness, drain: &Drain, mut state: watch::Receiver<Arc<State>>) {
    let hold = readiness.hold("peers");
    let stop = drain.clone();
    drop(drain.spawn("join", async move {
        tokio::select! {
            () = stop.draining() => {}
            joined = state.wait_for(|state| state.boot != 0 && !state.fenced) => {
                if joined.is_ok() {
                    hold.release();
                }
            }
        }
    }));
}
