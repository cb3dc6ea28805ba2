//! Tunnels that are declared in edge.yaml: read with their keys, and held against those of the store.
//!
//! A name, a hostname and a token belong to one tunnel. Which of two was meant nobody can guess, so that a clash is the
//! operator's to settle: it keeps an edge from starting, and a reload from changing anything.

use std::collections::HashMap;
use std::sync::Arc;

use causeway_daemon::config::{ConfigError, Secret};
use causeway_tunnel::{PublicKey, Token};

use crate::config::Config;
use crate::route::Pattern;
use crate::store::{AuditEntry, KeyRecord, TunnelRecord};

/// In the order of the file.
#[derive(Clone, Debug, Default)]
pub(crate) struct Declared(pub(crate) Vec<TunnelRecord>);

/// The same thing in the file and in the store.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {what} the store's tunnel `{stored}`: {mend}")]
pub(crate) struct Clash {
    place: Arc<str>,
    what: String,
    stored: String,
    mend: String,
}

impl Declared {
    /// Reads the keys too.
    ///
    /// # Errors
    /// When a token cannot be read, or two entries have the same one.
    pub(crate) fn read(config: &Config) -> Result<Self, ConfigError> {
        let mut records: Vec<TunnelRecord> = Vec::with_capacity(config.tunnels.iter().len());
        for (index, tunnel) in config.tunnels.iter().enumerate() {
            let at = format!("tunnels[{index}]");
            let wrong = |reason: String| ConfigError::new(&config.file, format!("{at}.tokenFile: {reason}"));
            let key = match (&tunnel.public_key, &tunnel.token_file) {
                (Some(key), _) => key.0,
                (None, Some(file)) => {
                    let secret = Secret::from_file(file).map_err(|error| wrong(error.to_string()))?;
                    let token = Token::parse(secret.expose());
                    token.map_err(|error| wrong(format!("{}: {error}", file.display())))?.public()
                }
                (None, None) => unreachable!("the configuration is checked"),
            };
            if let Some(first) = records.iter().position(|record| record.id == key.tunnel) {
                return Err(wrong(format!(
                    "tunnels[{first}] has the same token: make one for each with `causeway-connector token new`"
                )));
            }
            let mut hostnames: Vec<_> = tunnel.hostnames.iter().map(|hostname| hostname.0.clone()).collect();
            hostnames.sort_unstable();
            let place = format!("{}: {at}", config.file);
            records.push(record(tunnel.name.as_str(), key, hostnames, place.into()));
        }
        Ok(Self(records))
    }

    /// What one of the store's tunnels has in common with one of these, which only one may have. One that was revoked
    /// stands in nobody's way.
    pub(crate) fn clash(&self, stored: &TunnelRecord) -> Option<Clash> {
        if stored.revoked_at.is_some() {
            return None;
        }
        self.0.iter().find_map(|ours| {
            let name = &stored.name;
            let what = if ours.name == *name {
                format!("the declared tunnel `{}` has the name of", ours.name)
            } else if ours.id == stored.id {
                format!("the declared tunnel `{}` has the token of", ours.name)
            } else {
                let taken = ours.hostnames.iter().find(|hostname| stored.hostnames.contains(hostname))?;
                format!("the declared tunnel `{}` is granted {taken}, and so is", ours.name)
            };
            let mend = format!(
                "keep one of the two: end the store's with `causeway-edge tunnel revoke {name}`, or take the entry out of the file"
            );
            let place = ours.declared.clone().unwrap_or_default();
            Some(Clash { place, what, stored: name.clone(), mend })
        })
    }

    /// # Errors
    /// For the first [`Declared::clash`].
    pub(crate) fn check(&self, stored: &[TunnelRecord]) -> Result<(), Clash> {
        stored.iter().find_map(|record| self.clash(record)).map_or(Ok(()), Err)
    }

    /// Entries for the audit log, whose latest come first: tunnel, action, detail of each that was declared, changed or
    /// taken out since.
    pub(crate) fn news(&self, log: &[AuditEntry]) -> Vec<(String, &'static str, String)> {
        let mut last = HashMap::new();
        for entry in log.iter().filter(|entry| [DECLARE, UNDECLARE].contains(&&*entry.action)) {
            last.entry(&*entry.tunnel).or_insert(entry);
        }
        let mut news = Vec::new();
        for record in &self.0 {
            let hostnames: Vec<_> = record.hostnames.iter().map(Pattern::to_string).collect();
            let keys: Vec<_> = record.keys.iter().map(|key| key.id.to_string()).collect();
            let detail = format!("{} key {}", hostnames.join(" "), keys.join(" "));
            let known = last.remove(&*record.name);
            if known.is_none_or(|entry| entry.action != DECLARE || entry.detail != detail) {
                news.push((record.name.clone(), DECLARE, detail));
            }
        }
        let gone = last.into_values().filter(|entry| entry.action == DECLARE);
        news.extend(gone.map(|entry| (entry.tunnel.clone(), UNDECLARE, String::new())));
        news
    }
}

const DECLARE: &str = "declare";
const UNDECLARE: &str = "undeclare";

fn record(name: &str, key: PublicKey, hostnames: Vec<Pattern>, place: Arc<str>) -> TunnelRecord {
    let PublicKey { tunnel, key_id, key: public_key } = key;
    TunnelRecord {
        id: tunnel,
        name: name.to_owned(),
        created_at: 0,
        revoked_at: None,
        last_seen_at: None,
        hostnames,
        keys: vec![KeyRecord { id: key_id, public_key, created_at: 0, not_after: None }],
        declared: Some(place),
    }
}

#[cfg(test)]
mod tests {
    use causeway_tunnel::{KeyId, TunnelId};

    use super::*;

    fn patterns(texts: &[&str]) -> Vec<Pattern> {
        texts.iter().map(|text| Pattern::parse(text).unwrap()).collect()
    }

    fn declared(name: &str, hostnames: &[&str]) -> TunnelRecord {
        let key = PublicKey { tunnel: TunnelId::random(), key_id: KeyId::random(), key: [7; 32] };
        record(name, key, patterns(hostnames), "edge.yaml: tunnels[0]".into())
    }

    fn stored(name: &str, hostnames: &[&str]) -> TunnelRecord {
        TunnelRecord { declared: None, ..declared(name, hostnames) }
    }

    #[test]
    fn a_name_a_hostname_or_a_token_of_the_stores_is_a_clash_and_what_was_revoked_is_none() {
        let ours = Declared(vec![declared("home", &["*.example.dev"])]);
        let mut same_token = stored("other", &["b.dev"]);
        same_token.id = ours.0[0].id;
        for (theirs, words) in [
            (
                stored("home", &["b.dev"]),
                "the declared tunnel `home` has the name of the store's tunnel `home`",
            ),
            (
                stored("other", &["*.example.dev"]),
                "is granted *.example.dev, and so is the store's tunnel `other`",
            ),
            (same_token, "has the token of the store's tunnel `other`"),
        ] {
            let clash = ours.check(std::slice::from_ref(&theirs)).unwrap_err().to_string();
            assert!(clash.starts_with("edge.yaml: tunnels[0]: ") && clash.contains(words), "{clash}");
            assert!(clash.contains(&format!("tunnel revoke {}`", theirs.name)), "{clash}");
            assert_eq!(ours.check(&[TunnelRecord { revoked_at: Some(1), ..theirs }]), Ok(()));
        }
        assert_eq!(
            ours.check(&[stored("other", &["a.example.dev"])]),
            Ok(()),
            "narrower names are another's to have"
        );
    }

    #[test]
    fn the_audit_log_hears_of_changes_only() {
        let mut log = Vec::new();
        let mut write = |declared: &Declared| {
            let news = declared.news(&log);
            for (tunnel, action, detail) in &news {
                let (tunnel, action, detail) = (tunnel.clone(), (*action).to_owned(), detail.clone());
                log.insert(0, AuditEntry { at: 0, actor: "edge.yaml".to_owned(), action, tunnel, detail });
            }
            news.into_iter().map(|(tunnel, action, _)| format!("{action} {tunnel}")).collect::<Vec<_>>()
        };
        let mut both = Declared(vec![declared("a", &["a.dev"]), declared("b", &["b.dev"])]);
        assert_eq!(write(&both), ["declare a", "declare b"]);
        assert!(write(&both).is_empty(), "as after a restart");
        both.0[1].hostnames = patterns(&["b.dev", "c.dev"]);
        assert_eq!(write(&both), ["declare b"]);
        both.0.remove(0);
        assert_eq!(write(&both), ["undeclare a"]);
        assert!(write(&both).is_empty());
        both.0.push(declared("a", &["a.dev"]));
        assert_eq!(write(&both), ["declare a"]);
    }
}
