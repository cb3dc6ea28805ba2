//! All that a store keeps, as it goes from one database into another. The names of the fields are those of the file's keys and,
//! written otherwise, of the columns.

use serde::{Deserialize, Serialize};
use sqlx::FromRow;

/// Secret: it has the keys of certificates and accounts.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Transfer {
    pub(super) tunnels: Vec<Tunnel>,
    pub(super) hostnames: Vec<Hostname>,
    pub(super) keys: Vec<Key>,
    pub(super) accounts: Vec<Account>,
    pub(super) certificates: Vec<Certificate>,
    pub(super) orders: Vec<Order>,
    pub(super) audit: Vec<Event>,
}

#[derive(Serialize, Deserialize, FromRow)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Tunnel {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) created_at: i64,
    pub(super) revoked_at: Option<i64>,
    pub(super) last_seen_at: Option<i64>,
}

#[derive(Serialize, Deserialize, FromRow)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Hostname {
    pub(super) tunnel_id: String,
    pub(super) pattern: String,
}

#[derive(Serialize, Deserialize, FromRow)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Key {
    pub(super) id: String,
    pub(super) tunnel_id: String,
    pub(super) public_key: String,
    pub(super) created_at: i64,
    pub(super) not_after: Option<i64>,
}

#[derive(Serialize, Deserialize, FromRow)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Account {
    pub(super) directory: String,
    pub(super) credentials: String,
}

#[derive(Serialize, Deserialize, FromRow)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Certificate {
    pub(super) name: String,
    pub(super) directory: String,
    pub(super) chain: String,
    pub(super) private_key: String,
    pub(super) issued_at: i64,
}

#[derive(Serialize, Deserialize, FromRow)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Order {
    pub(super) name: String,
    pub(super) added: i64,
    pub(super) failures: i64,
    pub(super) next_try: Option<i64>,
    pub(super) last_error: Option<String>,
}

#[derive(Serialize, Deserialize, FromRow)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Event {
    pub(super) id: String,
    pub(super) at: i64,
    pub(super) actor: String,
    pub(super) action: String,
    pub(super) tunnel: String,
    pub(super) detail: String,
}

impl Transfer {
    pub(crate) fn tunnels(&self) -> usize {
        self.tunnels.iter().filter(|tunnel| tunnel.revoked_at.is_none()).count()
    }

    pub(crate) fn certificates(&self) -> usize {
        self.certificates.len()
    }
}
