//! `tunnel create|list|show|rotate|revoke`: writes the store, then tells a running edge to look.

use std::os::unix::fs::MetadataExt;
use std::process::ExitCode;
use std::time::Duration;

use bytes::Bytes;
use causeway_daemon::config::duration;
use causeway_daemon::unix_client;
use causeway_tunnel::{EdgeIdentity, KeyId, Token, TunnelId, TunnelKey};
use clap::Subcommand;
use http::{Method, StatusCode};
use serde::Serialize;

use super::text::{row, some, table, when};
use super::{CliError, Common, data_folder};
use crate::config::{Address, Config};
use crate::route::Pattern;
use crate::status::{State, Status, TunnelStatus};
use crate::store::{NewKey, Store, TunnelRecord};
use crate::unix_now;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Create a tunnel and print its token: once, it is not kept
    Create {
        /// For people: letters, digits, `-`, `_`, `.`
        name: String,
        /// What it may serve: a name, `*.` and a name, or `*` for all; may be repeated
        #[arg(long = "hostname", value_name = "PATTERN", required = true, num_args = 1..)]
        hostnames: Vec<String>,
        /// Where connectors reach this edge, if not as in the configuration; may be repeated
        #[arg(long, value_name = "HOST:PORT")]
        address: Vec<Address>,
    },
    /// List tunnels
    List,
    /// Show one tunnel with its keys and history
    Show { name: String },
    /// Print a new token; the old one stays valid for a while
    Rotate {
        name: String,
        /// How long the old token stays valid
        #[arg(long, default_value = "24h", value_parser = duration::parse)]
        overlap: Duration,
        /// Where connectors reach this edge, if not as in the configuration; may be repeated
        #[arg(long, value_name = "HOST:PORT")]
        address: Vec<Address>,
    },
    /// End a tunnel for good: live sessions are cut within seconds, its names are free again
    Revoke { name: String },
}

pub(super) async fn run(common: &Common, command: Command) -> Result<ExitCode, CliError> {
    let config = common.load()?;
    data_folder(&config.data)?;
    let store = Store::open(&config.data).await?;
    let desk = Desk { common, config, store };
    match command {
        Command::Create { name, hostnames, address } => desk.create(&name, &hostnames, &address).await,
        Command::List => desk.list().await,
        Command::Show { name } => desk.show(&name).await,
        Command::Rotate { name, overlap, address } => desk.rotate(&name, overlap, &address).await,
        Command::Revoke { name } => desk.revoke(&name).await,
    }?;
    Ok(ExitCode::SUCCESS)
}

struct Desk<'a> {
    common: &'a Common,
    config: Config,
    store: Store,
}

/// A token that was just made. Its only appearance.
#[derive(Serialize)]
struct Created {
    name: String,
    id: String,
    token: String,
    hostnames: Vec<String>,
    command: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Shown {
    name: String,
    id: String,
    /// Absent when the edge is not running, or the tunnel revoked.
    state: Option<State>,
    hostnames: Vec<String>,
    created_at: i64,
    revoked_at: Option<i64>,
    last_seen_at: Option<i64>,
    keys: Vec<ShownKey>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    history: Vec<Event>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ShownKey {
    id: String,
    created_at: i64,
    not_after: Option<i64>,
    valid: bool,
}

#[derive(Serialize)]
struct Event {
    at: i64,
    actor: String,
    action: String,
    detail: String,
}

impl Desk<'_> {
    async fn create(&self, name: &str, hostnames: &[String], address: &[Address]) -> Result<(), CliError> {
        let patterns: Vec<Pattern> =
            hostnames.iter().map(|text| Pattern::parse(text)).collect::<Result<_, _>>()?;
        let token = self.new_token(TunnelId::random(), address).await?;
        self.store.create(token.tunnel, name, &patterns, new_key(&token), &actor(), unix_now()).await?;
        self.print_token(name, &token, &patterns).await
    }

    async fn rotate(&self, name: &str, overlap: Duration, address: &[Address]) -> Result<(), CliError> {
        let record = self.store.tunnel(name).await?;
        let token = self.new_token(record.id, address).await?;
        self.store.rotate(name, new_key(&token), overlap, &actor(), unix_now()).await?;
        self.print_token(name, &token, &record.hostnames).await
    }

    async fn revoke(&self, name: &str) -> Result<(), CliError> {
        let id = self.store.revoke(name, &actor(), unix_now()).await?;
        let is_told = self.poke().await;
        let value = serde_json::json!({ "name": name, "id": id.to_string(), "revoked": true });
        let when = if is_told { "its sessions are cut" } else { "no edge is running on this data folder" };
        self.common.output.print(&value, |_| format!("tunnel `{name}` is revoked; {when}"))?;
        Ok(())
    }

    async fn list(&self) -> Result<(), CliError> {
        let live = self.live().await;
        let records = self.store.tunnels().await?;
        let all: Vec<Shown> = records.iter().map(|record| shown(record, live.as_ref())).collect();
        self.common.output.print(&all, |all| {
            let mut rows = vec![row(["NAME", "STATE", "HOSTNAMES", "CREATED", "LAST SEEN"])];
            for tunnel in all.iter().filter(|tunnel| tunnel.revoked_at.is_none()) {
                let seen = if live.as_ref().is_some_and(|live| is_connected(live, &tunnel.id)) {
                    "now".to_owned()
                } else {
                    when(tunnel.last_seen_at)
                };
                rows.push(row([
                    &tunnel.name,
                    state_word(tunnel.state),
                    &some(&tunnel.hostnames, 3),
                    &when(Some(tunnel.created_at)),
                    &seen,
                ]));
            }
            if rows.len() == 1 {
                return "no tunnels yet; make one with `causeway-edge tunnel create NAME --hostname PATTERN`"
                    .to_owned();
            }
            table(&rows)
        })?;
        Ok(())
    }

    async fn show(&self, name: &str) -> Result<(), CliError> {
        let live = self.live().await;
        let mut tunnel = shown(&self.store.tunnel(name).await?, live.as_ref());
        let history = self.store.audit_log(HISTORY).await?;
        let event = |entry: crate::store::AuditEntry| Event {
            at: entry.at,
            actor: entry.actor,
            action: entry.action,
            detail: entry.detail,
        };
        tunnel.history = history.into_iter().filter(|entry| entry.tunnel == name).map(event).collect();
        self.common.output.print(&tunnel, |tunnel| {
            let mut rows = vec![
                row(["name", &tunnel.name]),
                row(["id", &tunnel.id]),
                row(["state", tunnel.revoked_at.map_or_else(|| state_word(tunnel.state), |_| "REVOKED")]),
                row(["created", &when(Some(tunnel.created_at))]),
                row(["last seen", &when(tunnel.last_seen_at)]),
                row(["hostnames", &tunnel.hostnames.join(", ")]),
            ];
            for key in &tunnel.keys {
                let until = match (key.valid, key.not_after) {
                    (true, None) => "valid".to_owned(),
                    (true, end) => format!("valid, ends {}", when(end)),
                    (false, end) => format!("ended {}", when(end)),
                };
                rows.push(row(["key", &format!("{}  made {}, {until}", key.id, when(Some(key.created_at)))]));
            }
            for event in &tunnel.history {
                let Event { at, actor, action, detail } = event;
                rows.push(row(["history", &format!("{} {action} by {actor} {detail}", when(Some(*at)))]));
            }
            table(&rows)
        })?;
        Ok(())
    }

    async fn new_token(&self, tunnel: TunnelId, address: &[Address]) -> Result<Token, CliError> {
        let identity = EdgeIdentity::load_or_create(&self.config.data)
            .map_err(|error| CliError::Other(error.to_string()))?;
        let edges = self.edges(address).await?;
        Ok(Token { tunnel, key_id: KeyId::random(), key: TunnelKey::generate(), edges, pin: identity.pin() })
    }

    /// Where connectors dial: what was said, what is configured, or what the running edge says.
    async fn edges(&self, address: &[Address]) -> Result<Vec<String>, CliError> {
        let said = if address.is_empty() { &self.config.address } else { address };
        if !said.is_empty() {
            return Ok(said.iter().map(Address::to_string).collect());
        }
        let running = self.live().await.map(|status| status.address).unwrap_or_default();
        if running.is_empty() {
            return Err(CliError::Other(
                "no address for the token: connectors must know where this edge is. Give --address HOST:PORT (as in \
                 edge.example.net:443), or set `address` in the configuration"
                    .to_owned(),
            ));
        }
        Ok(running)
    }

    async fn print_token(&self, name: &str, token: &Token, hostnames: &[Pattern]) -> Result<(), CliError> {
        self.poke().await;
        let secret = token.expose();
        let created = Created {
            name: name.to_owned(),
            id: token.tunnel.to_string(),
            token: secret.to_string(),
            hostnames: hostnames.iter().map(Pattern::to_string).collect(),
            command: docker_run(&secret),
        };
        self.common.output.print(&created, |created| {
            format!(
                "tunnel `{}` may serve {}\n\ntoken (shown this once, keep it secret):\n{}\n\nrun at home, beside your config.yml:\n{}\n",
                created.name,
                created.hostnames.join(", "),
                created.token,
                created.command
            )
        })?;
        Ok(())
    }

    /// The running edge's picture, if there is one on this data folder.
    async fn live(&self) -> Option<Status> {
        let (status, body) = unix_client::get(&self.config.control_socket(), "/status").await.ok()?;
        (status == StatusCode::OK).then(|| serde_json::from_slice(&body).ok())?
    }

    /// Tells a running edge to look at the store; it does so each second anyway.
    async fn poke(&self) -> bool {
        let socket = self.config.control_socket();
        let answer = unix_client::request(&socket, Method::POST, "/refresh", Bytes::new()).await;
        answer.is_ok_and(|(status, _)| status == StatusCode::OK)
    }
}

/// Entries of the audit log that are searched for one tunnel's.
const HISTORY: u32 = 1000;

fn new_key(token: &Token) -> NewKey {
    NewKey { id: token.key_id, public_key: token.key.public() }
}

/// The line to paste at home. The token goes into a file by the shell's own `printf`: no program has it among its
/// arguments (hazard 122), and the container reads it as the user who pasted the line.
fn docker_run(token: &str) -> String {
    format!(
        "(umask 077; printf %s '{token}' > causeway.token) && docker run -d --name causeway-connector \
         --restart unless-stopped --stop-timeout 40 --user \"$(id -u):$(id -g)\" \
         -v \"$PWD/causeway.token:/run/causeway.token:ro\" -e CAUSEWAY_TOKEN_FILE=/run/causeway.token \
         -v \"$PWD/config.yml:/etc/causeway/config.yml:ro\" causeway-connector:{} run --config /etc/causeway/config.yml",
        env!("CARGO_PKG_VERSION")
    )
}

fn shown(record: &TunnelRecord, live: Option<&Status>) -> Shown {
    let now = unix_now();
    let id = record.id.to_string();
    let state = live.and_then(|live| find(live, &id)).map(|tunnel| tunnel.state);
    let key = |key: &crate::store::KeyRecord| ShownKey {
        id: key.id.to_string(),
        created_at: key.created_at,
        not_after: key.not_after,
        valid: record.revoked_at.is_none() && key.is_valid(now),
    };
    Shown {
        name: record.name.clone(),
        id,
        state,
        hostnames: record.hostnames.iter().map(Pattern::to_string).collect(),
        created_at: record.created_at,
        revoked_at: record.revoked_at,
        last_seen_at: record.last_seen_at,
        keys: record.keys.iter().map(key).collect(),
        history: Vec::new(),
    }
}

fn find<'a>(live: &'a Status, id: &str) -> Option<&'a TunnelStatus> {
    live.tunnels.iter().find(|tunnel| tunnel.id == id)
}

fn is_connected(live: &Status, id: &str) -> bool {
    find(live, id).is_some_and(|tunnel| !tunnel.connectors.is_empty())
}

pub(super) fn state_word(state: Option<State>) -> &'static str {
    match state {
        Some(State::Healthy) => "HEALTHY",
        Some(State::Degraded) => "DEGRADED",
        Some(State::Down) => "DOWN",
        Some(State::Inactive) => "INACTIVE",
        None => "- (edge not running)",
    }
}

/// Who did it, for the audit log.
fn actor() -> String {
    let uid = std::fs::metadata("/proc/self").map_or_else(|_| "?".to_owned(), |meta| meta.uid().to_string());
    match std::env::var("SUDO_USER").or_else(|_| std::env::var("USER")) {
        Ok(user) => format!("{} (uid {uid})", user.escape_default()),
        Err(_) => format!("uid {uid}"),
    }
}
