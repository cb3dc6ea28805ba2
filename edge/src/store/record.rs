//! What the store keeps, as the rest of the edge sees it, and how rows become that whatever database they came from.

use std::collections::HashMap;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use causeway_acme::{Certificate, Contents, NameRecord};
use causeway_daemon::config::Secret;
use causeway_tunnel::{KeyId, TunnelId};

use crate::route::Pattern;

/// A tunnel as the store knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TunnelRecord {
    pub id: TunnelId,
    pub name: String,
    /// Unix seconds, as all times here.
    pub created_at: i64,
    pub revoked_at: Option<i64>,
    /// When a session was last seen; written rarely.
    pub last_seen_at: Option<i64>,
    /// Sorted. Empty once revoked.
    pub hostnames: Vec<Pattern>,
    /// Oldest first.
    pub keys: Vec<KeyRecord>,
    /// Where in edge.yaml it stands, when it is declared there and the store knows nothing of it. Such a one has no times.
    pub declared: Option<Arc<str>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRecord {
    pub id: KeyId,
    pub public_key: [u8; 32],
    pub created_at: i64,
    /// The end of its overlap, when it was rotated.
    pub not_after: Option<i64>,
}

impl KeyRecord {
    pub fn is_valid(&self, now: i64) -> bool {
        self.not_after.is_none_or(|end| now < end)
    }
}

/// The public half of a key to add.
#[derive(Clone, Copy, Debug)]
pub struct NewKey {
    pub id: KeyId,
    pub public_key: [u8; 32],
}

impl NewKey {
    /// As the database keeps it; [`Rows`] reads it back.
    pub(super) fn text(&self) -> String {
        BASE64.encode(self.public_key)
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditEntry {
    pub at: i64,
    pub actor: String,
    pub action: String,
    pub tunnel: String,
    pub detail: String,
}

/// All of the tunnels as they lie in the database, read in one transaction. The columns are those of
/// [`statement`](super::statement), in their order.
pub(super) struct Rows {
    pub(super) tunnels: Vec<TunnelRow>,
    pub(super) hostnames: Vec<(String, String)>,
    pub(super) keys: Vec<KeyRow>,
}

type TunnelRow = (String, String, i64, Option<i64>, Option<i64>);
type KeyRow = (String, String, String, i64, Option<i64>);

/// What no version of this program wrote.
pub(super) struct Unreadable(pub(super) &'static str);

impl Rows {
    pub(super) fn read(self) -> Result<Vec<TunnelRecord>, Unreadable> {
        let mut tunnels = Vec::with_capacity(self.tunnels.len());
        let mut index = HashMap::with_capacity(self.tunnels.len());
        for (id, name, created_at, revoked_at, last_seen_at) in self.tunnels {
            let parsed = id.parse().map_err(|_| Unreadable("tunnel id"))?;
            index.insert(id, tunnels.len());
            let (hostnames, keys) = (Vec::new(), Vec::new());
            tunnels.push(TunnelRecord {
                id: parsed,
                name,
                created_at,
                revoked_at,
                last_seen_at,
                hostnames,
                keys,
                declared: None,
            });
        }
        for (tunnel, pattern) in self.hostnames {
            let Some(&at) = index.get(&tunnel) else { continue };
            match Pattern::parse(&pattern) {
                Ok(pattern) => tunnels[at].hostnames.push(pattern),
                // Granted by an older version, and never to be visited: no reason to serve nobody.
                Err(error) => {
                    tracing::warn!(%error, tunnel = tunnels[at].name, "a granted name cannot be served")
                }
            }
        }
        for (tunnel, id, public_key, created_at, not_after) in self.keys {
            let Some(&at) = index.get(&tunnel) else { continue };
            let id = id.parse().map_err(|_| Unreadable("key id"))?;
            let bytes = BASE64.decode(public_key).unwrap_or_default();
            let public_key = bytes.try_into().map_err(|_| Unreadable("public key"))?;
            tunnels[at].keys.push(KeyRecord { id, public_key, created_at, not_after });
        }
        Ok(tunnels)
    }
}

/// All that is kept of automatic certificates, as it lies in the database.
pub(super) struct CertificateRows {
    pub(super) accounts: Vec<(String, String)>,
    pub(super) certificates: Vec<CertificateRow>,
    pub(super) orders: Vec<OrderRow>,
}

type CertificateRow = (String, String, String, String, i64);
/// Name, token, answer.
pub(super) type PostedRow = (String, Option<String>, String);
type OrderRow = (String, i64, i64, Option<i64>, Option<String>);

impl CertificateRows {
    /// What cannot be read is left out, and said: it can be ordered anew.
    pub(super) fn read(self) -> Contents {
        let accounts = self.accounts.into_iter();
        let accounts = accounts.map(|(directory, credentials)| (directory, Secret::new(credentials)));
        let read = |(name, directory, chain, key, issued_at): CertificateRow| {
            let certificate = Certificate::new(&name, &directory, chain, Secret::new(key), issued_at);
            certificate
                .inspect_err(|error| tracing::error!(name, %error, "a kept certificate cannot be read"))
                .ok()
        };
        let name = |(name, added, failures, next_try, last_error): OrderRow| NameRecord {
            name,
            is_added: added != 0,
            failures: u32::try_from(failures).unwrap_or(u32::MAX),
            next_try,
            last_error,
        };
        Contents {
            accounts: accounts.collect(),
            certificates: self.certificates.into_iter().filter_map(read).collect(),
            names: self.orders.into_iter().map(name).collect(),
        }
    }
}
