//! What a configuration says of DNS, ready to stand in `edge.yaml`: by UPDATE or by a hook, and how to see that it worked.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use causeway_daemon::config::{Secret, SecretError, duration};
use hickory_proto::rr::Name;
use serde::{Deserialize, Serialize};

use super::hook::{self, Hook};
use super::key::{self, Algorithm, FileError, Key, KeyError};
use super::lookup::Resolvers;
use super::server::Server;
use super::shown::Watch;
use super::update::{Clock, Update};
use super::{DnsSolver, record_name};

/// How records come into DNS: one of `update` and `hook`; or neither, and then records of DNS-PERSIST-01 are looked up alone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", try_from = "Written")]
pub struct DnsConfig {
    /// By RFC 2136, to the zone's primary.
    pub update: Option<UpdateConfig>,
    /// By a program: `PROGRAM present|remove NAME VALUE`. An absolute path.
    pub hook: Option<PathBuf>,
    /// Who must show the record before the certificate authority is told. Default: the nameservers of the zone.
    pub seen_by: Vec<Server>,
    /// How long to wait for them; 0s: they are not asked. Default 60s.
    #[serde(with = "duration")]
    pub wait: Duration,
    /// Whom to ask about aliases and nameservers. Default: the system's resolvers.
    pub resolvers: Vec<Server>,
}

/// A primary that takes updates; one of `key` and `keyFile`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", try_from = "WrittenUpdate")]
pub struct UpdateConfig {
    /// Its name or address, with the port where that is not 53.
    pub server: Server,
    /// Default: found by asking the server.
    pub zone: Option<Zone>,
    pub key: Option<KeyConfig>,
    /// In BIND's form, as `tsig-keygen` prints it.
    pub key_file: Option<PathBuf>,
}

/// A key in parts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct KeyConfig {
    pub name: String,
    /// Default hmac-sha256.
    #[serde(default)]
    pub algorithm: Algorithm,
    /// A file with the secret alone, in Base64.
    pub secret_file: PathBuf,
}

/// The name of a zone, checked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Zone(Name);

/// Why what is configured cannot be used: each names the key in the configuration.
#[derive(Debug, thiserror::Error)]
pub enum SolverError {
    #[error("dns.update.keyFile: {0}")]
    KeyFile(#[source] SecretError),
    #[error("dns.update.keyFile: {}: {source}", path.display())]
    KeyForm { path: PathBuf, source: FileError },
    #[error("dns.update.key.secretFile: {0}")]
    SecretFile(#[source] SecretError),
    #[error("dns.update.key: {0}")]
    Key(#[source] KeyError),
}

impl DnsConfig {
    /// Reads the key and makes what writes records, where there is to be something. What stands in the files later counts when this is called again.
    ///
    /// # Errors
    /// When the key cannot be read.
    pub fn solver(&self) -> Result<Option<Arc<dyn DnsSolver>>, SolverError> {
        self.solver_by(|| SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs())
    }

    /// The same by a clock of one's own.
    ///
    /// # Errors
    /// As [`Self::solver`].
    pub fn solver_by(&self, clock: Clock) -> Result<Option<Arc<dyn DnsSolver>>, SolverError> {
        let watch = Watch { seen_by: self.seen_by.clone(), wait: self.wait, resolvers: self.resolvers() };
        if let Some(update) = &self.update {
            let zone = update.zone.as_ref().map(|zone| zone.0.clone());
            let update = Update::new(update.server.clone(), zone, update.key()?, watch, clock);
            return Ok(Some(Arc::new(update)));
        }
        Ok(self
            .hook
            .clone()
            .map(|program| Arc::new(Hook::new(program, hook::DEADLINE, watch)) as Arc<dyn DnsSolver>))
    }

    /// Whom to ask.
    pub fn resolvers(&self) -> Resolvers {
        Resolvers::new(&self.resolvers)
    }
}

impl UpdateConfig {
    fn key(&self) -> Result<Key, SolverError> {
        if let Some(path) = &self.key_file {
            let text = Secret::from_file(path).map_err(SolverError::KeyFile)?;
            return key::parse(text.expose())
                .map_err(|source| SolverError::KeyForm { path: path.clone(), source });
        }
        let key = self.key.as_ref().expect("a configuration has one of the two");
        let secret = Secret::from_file(&key.secret_file).map_err(SolverError::SecretFile)?;
        Key::new(&key.name, key.algorithm, &secret).map_err(SolverError::Key)
    }
}

/// As it stands in the file, before it is known to make sense.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Written {
    update: Option<UpdateConfig>,
    hook: Option<PathBuf>,
    #[serde(default)]
    seen_by: Vec<Server>,
    #[serde(default = "default_wait", with = "duration")]
    wait: Duration,
    #[serde(default)]
    resolvers: Vec<Server>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct WrittenUpdate {
    server: Server,
    zone: Option<Zone>,
    key: Option<KeyConfig>,
    key_file: Option<PathBuf>,
}

impl TryFrom<Written> for DnsConfig {
    type Error = &'static str;

    fn try_from(written: Written) -> Result<Self, Self::Error> {
        let Written { update, hook, seen_by, wait, resolvers } = written;
        match (&update, &hook) {
            (None, None) if resolvers.is_empty() => Err("`dns` needs one of `update` and `hook`"),
            (Some(_), Some(_)) => Err("`dns` takes one of `update` and `hook`, not both"),
            (None, Some(program)) if !program.is_absolute() => {
                Err("`hook` is the absolute path of a program, as in /etc/causeway/dns-hook")
            }
            _ => Ok(Self { update, hook, seen_by, wait, resolvers }),
        }
    }
}

impl TryFrom<WrittenUpdate> for UpdateConfig {
    type Error = &'static str;

    fn try_from(written: WrittenUpdate) -> Result<Self, Self::Error> {
        let WrittenUpdate { server, zone, key, key_file } = written;
        match (&key, &key_file) {
            (None, None) => {
                Err("`update` needs one of `keyFile` and `key`: no server should take unsigned updates")
            }
            (Some(_), Some(_)) => Err("`update` takes one of `keyFile` and `key`, not both"),
            _ => Ok(Self { server, zone, key, key_file }),
        }
    }
}

impl TryFrom<String> for Zone {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        record_name(&text)
            .map(Self)
            .map_err(|_| format!("`{text}` is not the name of a zone, such as example.dev"))
    }
}

impl From<Zone> for String {
    fn from(zone: Zone) -> Self {
        zone.0.to_string()
    }
}

fn default_wait() -> Duration {
    Duration::from_secs(60)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use causeway_daemon::config::parse;

    use super::DnsConfig;

    #[test]
    fn both_ways_are_read_with_their_defaults() {
        let config: DnsConfig =
            parse("edge.yaml", "update: { server: ns1.example.dev, keyFile: /k }").unwrap();
        assert_eq!((config.wait, config.seen_by.len()), (Duration::from_secs(60), 0));
        let config: DnsConfig = parse(
            "edge.yaml",
            "{ hook: /bin/true, seenBy: [192.0.2.1, 'ns2:54'], wait: 5m, resolvers: [1.1.1.1] }",
        )
        .unwrap();
        assert_eq!((config.wait, config.seen_by.len()), (Duration::from_secs(300), 2));
        let config: DnsConfig = parse("edge.yaml", "resolvers: [192.0.2.1]").unwrap();
        assert!(config.solver().unwrap().is_none());
        let text = "update: { server: '[::1]:54', zone: example.dev, key: { name: k, secretFile: /s } }";
        let config: DnsConfig = parse("edge.yaml", text).unwrap();
        assert_eq!(config.update.unwrap().zone.map(String::from).as_deref(), Some("example.dev."));
    }

    #[test]
    fn a_mistake_names_its_key() {
        for (text, said) in [
            ("{}", "one of `update` and `hook`"),
            ("{ hook: /a, update: { server: a, keyFile: /k } }", "not both"),
            ("hook: dns-hook", "absolute path"),
            ("{ hook: /a, waits: 1s }", "unknown key `waits`; did you mean `wait`?"),
            ("update: { server: a }", "one of `keyFile` and `key`"),
            ("update: { server: 'http://a', keyFile: /k }", "`server`: `http://a` is not a nameserver"),
            ("update: { server: a, keyfile: /k }", "did you mean `keyFile`?"),
            ("update: { server: a, zone: 'a..b', keyFile: /k }", "`zone`: `a..b` is not the name of a zone"),
            (
                "update: { server: a, key: { name: k, algorithm: hmac-md5, secretFile: /s } }",
                "`hmac-md5` is not taken",
            ),
            ("update: { server: a, key: { name: k } }", "`secretFile` is missing"),
            ("update: { keyFile: /k }", "`server` is missing"),
            ("{ hook: /a, wait: soon }", "not a duration"),
        ] {
            let told = parse::<DnsConfig>("edge.yaml", text).unwrap_err().to_string();
            assert!(told.starts_with("edge.yaml:1:") && told.contains(said), "{text}\n{told}");
        }
    }
}
