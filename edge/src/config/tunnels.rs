//! `tunnels`: those that are declared in the file, beside the ones that the store has.

use std::collections::HashMap;
use std::fmt;
use std::path::PathBuf;

use causeway_tunnel::{PublicKey, PublicKeyError};
use serde::{Deserialize, Serialize};

use crate::route::{Pattern, PatternError};

/// Checked as a whole: names, hostnames and keys are each there once.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<DeclaredTunnel>", into = "Vec<DeclaredTunnel>")]
pub struct Tunnels(Vec<DeclaredTunnel>);

/// One tunnel, with exactly one of the two ways to say its key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DeclaredTunnel {
    pub name: Name,
    /// What it may serve.
    pub hostnames: Vec<Hostname>,
    /// What `causeway-connector token new` printed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub public_key: Option<Key>,
    /// A file with the whole token, of which the edge keeps the public half only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_file: Option<PathBuf>,
}

/// A tunnel's name, checked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Name(String);

/// A pattern as it is granted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Hostname(pub Pattern);

/// A public key as it is pasted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Key(pub PublicKey);

impl Tunnels {
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &DeclaredTunnel> {
        self.0.iter()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl TryFrom<Vec<DeclaredTunnel>> for Tunnels {
    type Error = String;

    fn try_from(tunnels: Vec<DeclaredTunnel>) -> Result<Self, String> {
        let mut names = HashMap::new();
        let mut hostnames = HashMap::new();
        let mut keys = HashMap::new();
        for (index, tunnel) in tunnels.iter().enumerate() {
            let name = &tunnel.name.0;
            if let Some(first) = names.insert(name, index) {
                return Err(format!(
                    "tunnels[{index}].name: `{name}` is declared already, in tunnels[{first}]"
                ));
            }
            if tunnel.hostnames.is_empty() {
                return Err(format!(
                    "tunnels[{index}].hostnames: tunnel `{name}` needs at least one, such as \"*.example.dev\""
                ));
            }
            for (at, hostname) in tunnel.hostnames.iter().enumerate() {
                if let Some((first, beside)) = hostnames.insert(&hostname.0, (index, at)) {
                    return Err(format!(
                        "tunnels[{index}].hostnames[{at}]: {} is granted already, in tunnels[{first}].hostnames[{beside}]",
                        hostname.0
                    ));
                }
            }
            match (&tunnel.public_key, &tunnel.token_file) {
                (Some(_), Some(_)) => {
                    return Err(format!(
                        "tunnels[{index}]: tunnel `{name}` has both `publicKey` and `tokenFile`: keep one of them"
                    ));
                }
                (None, None) => {
                    return Err(format!(
                        "tunnels[{index}]: tunnel `{name}` has no key: give `publicKey`, which `causeway-connector token new` prints, or `tokenFile`"
                    ));
                }
                (Some(key), None) => {
                    if let Some(first) = keys.insert(key.0.tunnel.0, index) {
                        return Err(format!(
                            "tunnels[{index}].publicKey: tunnels[{first}] has the same token: make one for each with `causeway-connector token new`"
                        ));
                    }
                }
                (None, Some(_)) => {}
            }
        }
        Ok(Self(tunnels))
    }
}

impl From<Tunnels> for Vec<DeclaredTunnel> {
    fn from(tunnels: Tunnels) -> Self {
        tunnels.0
    }
}

impl Name {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for Name {
    type Error = BadName;

    fn try_from(name: String) -> Result<Self, BadName> {
        check_tunnel_name(&name)?;
        Ok(Self(name))
    }
}

/// A name that no tunnel can have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` cannot be a tunnel's name: use 1 to 63 letters, digits, `-`, `_` and `.`, beginning with a letter or digit"
)]
pub struct BadName(String);

/// # Errors
/// When it is none.
pub(crate) fn check_tunnel_name(name: &str) -> Result<(), BadName> {
    let is_one = name.len() <= 63
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'));
    if is_one { Ok(()) } else { Err(BadName(name.to_owned())) }
}

impl From<Name> for String {
    fn from(name: Name) -> Self {
        name.0
    }
}

impl TryFrom<String> for Hostname {
    type Error = PatternError;

    fn try_from(text: String) -> Result<Self, PatternError> {
        Pattern::parse(&text).map(Self)
    }
}

impl From<Hostname> for String {
    fn from(hostname: Hostname) -> Self {
        hostname.0.to_string()
    }
}

impl TryFrom<String> for Key {
    type Error = PublicKeyError;

    fn try_from(text: String) -> Result<Self, PublicKeyError> {
        text.parse().map(Self)
    }
}

impl From<Key> for String {
    fn from(key: Key) -> Self {
        key.0.to_string()
    }
}

#[cfg(test)]
mod tests {
    use causeway_daemon::config::parse;
    use causeway_tunnel::{KeyId, Pin, Token, TunnelId, TunnelKey};

    use crate::config::Config;

    fn token() -> Token {
        let (tunnel, key_id, key) = (TunnelId::random(), KeyId::random(), TunnelKey::generate());
        Token { tunnel, key_id, key, edges: vec!["edge.example.net:443".to_owned()], pin: Pin([7; 32]) }
    }

    #[test]
    fn a_tunnel_is_declared_by_its_public_key_or_by_the_file_of_its_token() {
        let key = token().public();
        let text = format!(
            "tunnels:\n  - name: home\n    hostnames: [\"*.example.dev\", Café.example]\n    publicKey: {key}\n  \
             - {{ name: lab, hostnames: [lab.example], tokenFile: /run/secrets/lab }}\n"
        );
        let config: Config = parse("edge.yaml", &text).unwrap();
        let declared: Vec<_> = config.tunnels.iter().collect();
        assert_eq!(declared[0].public_key.unwrap().0, key);
        let hostnames: Vec<_> = declared[0].hostnames.iter().map(|hostname| hostname.0.to_string()).collect();
        assert_eq!(hostnames, ["*.example.dev", "xn--caf-dma.example"]);
        assert_eq!(declared[1].token_file.as_deref().unwrap().to_str(), Some("/run/secrets/lab"));
        // As the environment's variables are laid over it.
        let again = serde_json::to_string(&config).unwrap();
        assert_eq!(serde_json::from_str::<Config>(&again).unwrap().tunnels, config.tunnels);
    }

    #[test]
    fn a_wrong_declaration_is_named_with_its_place() {
        let (key, other, secret) = (token().public(), token().public(), token());
        let damaged = &key.to_string()[..90];
        for (text, line, words) in [
            ("tunnels: { name: a }".to_owned(), 1, "`tunnels` is a list"),
            (format!("tunnels:\n  - hostnames: [a.dev]\n    publicKey: {key}\n"), 3, "`name` is missing"),
            (format!("tunnels:\n  - name: a\n    publicKey: {key}\n"), 3, "`hostnames` is missing"),
            (
                format!("tunnels:\n  - name: a\n    hostname: [a.dev]\n    publicKey: {key}\n"),
                3,
                "unknown key `hostname`; did you mean `hostnames`?",
            ),
            (
                format!("tunnels:\n  - {{ name: a b, hostnames: [a.dev], publicKey: {key} }}\n"),
                2,
                "`name`: `a b` cannot be a tunnel's name",
            ),
            (
                format!("tunnels:\n  - name: a\n    hostnames:\n      - a.*.dev\n    publicKey: {key}\n"),
                4,
                "`hostnames`: `a.*.dev`: `*` may only stand alone",
            ),
            (
                format!("tunnels:\n  - name: a\n    hostnames: [a.dev]\n    publicKey: {damaged}\n"),
                4,
                "`publicKey`: the public key is damaged",
            ),
            (
                format!(
                    "tunnels:\n  - name: a\n    hostnames: [a.dev]\n    publicKey: {}\n",
                    *secret.expose()
                ),
                4,
                "`publicKey`: this is a token, and so a secret",
            ),
            (
                format!("tunnels:\n  - {{ name: a, hostnames: [], publicKey: {key} }}\n"),
                2,
                "tunnels[0].hostnames: tunnel `a` needs at least one",
            ),
            (
                "tunnels:\n  - { name: a, hostnames: [a.dev] }\n".to_owned(),
                2,
                "tunnels[0]: tunnel `a` has no key: give `publicKey`",
            ),
            (
                format!("tunnels:\n  - {{ name: a, hostnames: [a.dev], publicKey: {key}, tokenFile: /t }}\n"),
                2,
                "tunnels[0]: tunnel `a` has both `publicKey` and `tokenFile`",
            ),
            (
                format!(
                    "tunnels:\n  - {{ name: a, hostnames: [a.dev], publicKey: {key} }}\n  - {{ name: a, hostnames: [b.dev], publicKey: {other} }}\n"
                ),
                2,
                "tunnels[1].name: `a` is declared already, in tunnels[0]",
            ),
            (
                format!(
                    "tunnels:\n  - {{ name: a, hostnames: [a.dev], publicKey: {key} }}\n  - {{ name: b, hostnames: [b.dev, A.dev], publicKey: {other} }}\n"
                ),
                2,
                "tunnels[1].hostnames[1]: a.dev is granted already, in tunnels[0].hostnames[0]",
            ),
            (
                format!(
                    "tunnels:\n  - {{ name: a, hostnames: [a.dev], publicKey: {key} }}\n  - {{ name: b, hostnames: [b.dev], publicKey: {key} }}\n"
                ),
                2,
                "tunnels[1].publicKey: tunnels[0] has the same token",
            ),
        ] {
            let error = parse::<Config>("edge.yaml", &text).unwrap_err();
            assert!(error.to_string().contains(words), "{error}\n{text}");
            assert_eq!(error.line, line, "{error}\n{text}");
            assert!(!error.to_string().contains(&secret.expose()[5..40]), "{error}");
        }
    }
}
