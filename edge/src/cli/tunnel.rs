//! `tunnel create|list|show|rotate|revoke`: writes the store, then tells a running edge to look.

use std::os::unix::fs::MetadataExt;
use std::process::ExitCode;
use std::time::Duration;

use bytes::Bytes;
use causeway_daemon::config::duration;
use causeway_daemon::unix_client;
use causeway_tunnel::{EdgeIdentity, KeyId, PublicKey, Token, TunnelId, TunnelKey};
use clap::Subcommand;
use http::{Method, StatusCode};
use serde::Serialize;

use super::text::{row, some, table, when};
use super::{CliError, Common, data_folder, identity};
use crate::config::{Address, Config};
use crate::declared::Declared;
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
        /// Make no token: its connector has one already, whose public key this is (`causeway-connector token new`)
        #[arg(long, value_name = "KEY", conflicts_with = "address")]
        // A text here: what may be a token that was pasted by mistake is not to be quoted.
        public_key: Option<String>,
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
    let declared = Declared::read(&config)?;
    let store = Store::open(&config).await?;
    let desk = Desk { common, config, declared, store };
    match command {
        Command::Create { name, hostnames, address, public_key } => {
            desk.create(&name, &hostnames, &address, public_key).await
        }
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
    declared: Declared,
    store: Store,
}

/// A tunnel that was just made, and its token's only appearance where that was made too.
#[derive(Serialize)]
struct Created {
    name: String,
    id: String,
    hostnames: Vec<String>,
    #[serde(flatten)]
    secret: Option<Made>,
}

#[derive(Serialize)]
struct Made {
    token: String,
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
    /// Where in edge.yaml it stands, when it is declared there.
    #[serde(skip_serializing_if = "Option::is_none")]
    declared: Option<String>,
    /// None of one that is declared.
    created_at: Option<i64>,
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
    created_at: Option<i64>,
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
    async fn create(
        &self,
        name: &str,
        hostnames: &[String],
        address: &[Address],
        public_key: Option<String>,
    ) -> Result<(), CliError> {
        let patterns: Vec<Pattern> =
            hostnames.iter().map(|text| Pattern::parse(text)).collect::<Result<_, _>>()?;
        let public_key = public_key.map(|text| text.parse::<PublicKey>()).transpose()?;
        self.refuse_declared(name, &patterns).await?;
        let Some(key) = public_key else {
            let token = self.new_token(TunnelId::random(), address).await?;
            let key = new_key(&token.public());
            self.store.create(token.tunnel, name, &patterns, key, &actor(), unix_now()).await?;
            return self.print_token(name, &token, &patterns).await;
        };
        if let Some(taken) = self.store.tunnels().await?.into_iter().find(|tunnel| tunnel.id == key.tunnel) {
            return Err(CliError::Other(format!(
                "this public key is of the tunnel `{}`, which is or was in the store: make a new one with `causeway-connector token new`",
                taken.name
            )));
        }
        self.store.create(key.tunnel, name, &patterns, new_key(&key), &actor(), unix_now()).await?;
        self.poke().await;
        let hostnames = patterns.iter().map(Pattern::to_string).collect();
        let created = Created { name: name.to_owned(), id: key.tunnel.to_string(), hostnames, secret: None };
        self.common.output.print(&created, |created| {
            format!(
                "tunnel `{name}` may serve {}; its connector has the token\n",
                created.hostnames.join(", ")
            )
        })?;
        Ok(())
    }

    async fn rotate(&self, name: &str, overlap: Duration, address: &[Address]) -> Result<(), CliError> {
        self.leave_declared(name).await?;
        let record = self.store.tunnel(name).await?;
        let token = self.new_token(record.id, address).await?;
        self.store.rotate(name, new_key(&token.public()), overlap, &actor(), unix_now()).await?;
        self.print_token(name, &token, &record.hostnames).await
    }

    async fn revoke(&self, name: &str) -> Result<(), CliError> {
        self.leave_declared(name).await?;
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
        let mut all: Vec<Shown> = records.iter().map(|record| shown(record, live.as_ref())).collect();
        all.extend(self.declared(live.as_ref()));
        all.sort_by(|a, b| a.name.cmp(&b.name));
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
                    &tunnel
                        .declared
                        .as_ref()
                        .map_or_else(|| when(tunnel.created_at), |_| "declared".to_owned()),
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
        let mut tunnel = match self.declared(live.as_ref()).into_iter().find(|tunnel| tunnel.name == name) {
            Some(declared) => declared,
            None => shown(&self.store.tunnel(name).await?, live.as_ref()),
        };
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
                match &tunnel.declared {
                    Some(place) => row(["declared", place]),
                    None => row(["created", &when(tunnel.created_at)]),
                },
                row(["last seen", &when(tunnel.last_seen_at)]),
                row(["hostnames", &tunnel.hostnames.join(", ")]),
            ];
            for key in &tunnel.keys {
                let until = match (key.valid, key.not_after) {
                    (true, None) => "valid".to_owned(),
                    (true, end) => format!("valid, ends {}", when(end)),
                    (false, end) => format!("ended {}", when(end)),
                };
                let made = key.created_at.map_or_else(String::new, |at| format!("made {}, ", when(Some(at))));
                rows.push(row(["key", &format!("{}  {made}{until}", key.id)]));
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
        self.store.join(identity.pin()).await?;
        let edges = self.edges(address).await?;
        Ok(Token { tunnel, key_id: KeyId::random(), key: TunnelKey::generate(), edges, pin: identity.pin() })
    }

    /// Where connectors dial: what was said, what is configured, or what the running edge says.
    async fn edges(&self, address: &[Address]) -> Result<Vec<String>, CliError> {
        let edges = identity::addresses(&self.config, address).await;
        if edges.is_empty() {
            return Err(CliError::Other(
                "no address for the token: connectors must know where this edge is. Give --address HOST:PORT (as in \
                 edge.example.net:443), or set `address` in the configuration"
                    .to_owned(),
            ));
        }
        Ok(edges)
    }

    async fn print_token(&self, name: &str, token: &Token, hostnames: &[Pattern]) -> Result<(), CliError> {
        self.poke().await;
        let secret = token.expose();
        let created = Created {
            name: name.to_owned(),
            id: token.tunnel.to_string(),
            hostnames: hostnames.iter().map(Pattern::to_string).collect(),
            secret: Some(Made { token: secret.to_string(), command: docker_run(&secret) }),
        };
        self.common.output.print(&created, |created| {
            format!(
                "tunnel `{}` may serve {}\n\ntoken (shown this once, keep it secret):\n{}\n\nrun at home; your rules go into causeway/config.yml, before or after:\n{}\n",
                created.name,
                created.hostnames.join(", "),
                *secret,
                docker_run(&secret)
            )
        })?;
        Ok(())
    }

    /// Those that are declared: in the file that we read, and in that of the running edge, which may be another.
    fn declared(&self, live: Option<&Status>) -> Vec<Shown> {
        let mut all: Vec<Shown> = self.declared.0.iter().map(|record| shown(record, live)).collect();
        let running = live.iter().flat_map(|live| &live.tunnels).filter(|tunnel| tunnel.declared.is_some());
        for tunnel in running {
            if all.iter().all(|known| known.name != tunnel.name) {
                let granted = tunnel.hostnames.iter().filter(|hostname| hostname.granted);
                all.push(Shown {
                    name: tunnel.name.clone(),
                    id: tunnel.id.clone(),
                    state: Some(tunnel.state),
                    hostnames: granted.map(|hostname| hostname.hostname.clone()).collect(),
                    declared: tunnel.declared.clone(),
                    created_at: None,
                    revoked_at: None,
                    last_seen_at: tunnel.since,
                    keys: Vec::new(),
                    history: Vec::new(),
                });
            }
        }
        all
    }

    /// # Errors
    /// When a declared tunnel has this name, or one of these hostnames.
    async fn refuse_declared(&self, name: &str, hostnames: &[Pattern]) -> Result<(), CliError> {
        let live = self.live().await;
        for declared in self.declared(live.as_ref()) {
            let place = declared.declared.unwrap_or_default();
            if declared.name == name {
                return Err(CliError::Declared { name: declared.name, place });
            }
            let taken = hostnames.iter().map(Pattern::to_string).find(|one| declared.hostnames.contains(one));
            if let Some(hostname) = taken {
                return Err(CliError::HostnameDeclared { hostname, name: declared.name, place });
            }
        }
        Ok(())
    }

    /// # Errors
    /// When this name is a declared tunnel's, and of none in the store.
    async fn leave_declared(&self, name: &str) -> Result<(), CliError> {
        let is_active = |tunnel: &TunnelRecord| tunnel.name == name && tunnel.revoked_at.is_none();
        // One of the same name in the store has to go: this is how.
        if self.store.tunnels().await?.iter().any(is_active) {
            return Ok(());
        }
        self.refuse_declared(name, &[]).await
    }

    /// The running edge's picture, if there is one on this data folder.
    async fn live(&self) -> Option<Status> {
        identity::live(&self.config).await
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

fn new_key(key: &PublicKey) -> NewKey {
    NewKey { id: key.key_id, public_key: key.key }
}

/// The line to paste at home. The token goes into a file by the shell's own `printf`: no program has it among its
/// arguments (hazard 122), and the container reads it as the user who pasted the line. Their folder is mounted as a whole:
/// docker would make a folder of a rule file that is not there yet, and editors replace files, which a mounted one does not see.
fn docker_run(token: &str) -> String {
    format!(
        "mkdir -p causeway && (umask 077; printf %s '{token}' > causeway/token) && docker run -d --name causeway-connector \
         --restart unless-stopped --stop-timeout 40 --read-only --cap-drop ALL --security-opt no-new-privileges \
         --user \"$(id -u):$(id -g)\" -v \"$PWD/causeway:/etc/causeway:ro\" -e CAUSEWAY_TOKEN_FILE=/etc/causeway/token \
         causeway-connector:{} run",
        env!("CARGO_PKG_VERSION")
    )
}

fn shown(record: &TunnelRecord, live: Option<&Status>) -> Shown {
    let now = unix_now();
    let id = record.id.to_string();
    let state = live.and_then(|live| find(live, &id)).map(|tunnel| tunnel.state);
    let made = |at: i64| record.declared.is_none().then_some(at);
    let key = |key: &crate::store::KeyRecord| ShownKey {
        id: key.id.to_string(),
        created_at: made(key.created_at),
        not_after: key.not_after,
        valid: record.revoked_at.is_none() && key.is_valid(now),
    };
    Shown {
        name: record.name.clone(),
        id,
        state,
        hostnames: record.hostnames.iter().map(Pattern::to_string).collect(),
        declared: record.declared.as_deref().map(str::to_owned),
        created_at: made(record.created_at),
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
