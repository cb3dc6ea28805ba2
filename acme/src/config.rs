//! The section `acme` of a configuration: certificates that a program orders by itself. `acme: off` switches them off.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use serde::de::value::MapAccessDeserializer;
use serde::de::{self, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use crate::dns::{DnsConfig, DnsSolver, Resolvers, SolverError};
use crate::settings::{Challenge, Directory, Eab, LETS_ENCRYPT, LETS_ENCRYPT_STAGING, Settings};

/// Automatic certificates. On by default: a name that is announced gets one from Let's Encrypt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Acme {
    /// Default true. With `dev` nothing is ordered, whatever this says.
    pub enabled: bool,
    /// The authorities, asked in this order: `letsencrypt`, an https URL, or what that needs beside it. Default letsencrypt.
    pub directory: Vec<AcmeDirectory>,
    /// Let's Encrypt's testing ground: for trying things out, browsers do not trust it. Default false.
    pub staging: bool,
    /// Mail addresses that authorities may write to. Default none.
    pub contact: Vec<String>,
    /// The proofs that may be used, the best first; those whose listener is off are left out. Default all.
    pub challenges: Vec<Challenge>,
    /// How records come into DNS, for wildcards and for programs that an authority cannot reach. Default none.
    pub dns: Option<DnsConfig>,
}

/// One authority.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(into = "DirectoryText")]
pub struct AcmeDirectory(Directory);

/// As people write it with more than a URL.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct DirectoryFields {
    url: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ca_file: Option<PathBuf>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    profile: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    eab: Option<EabFields>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct EabFields {
    key_id: String,
    key_file: PathBuf,
}

#[derive(Serialize)]
#[serde(untagged)]
enum DirectoryText {
    Url(String),
    Fields(DirectoryFields),
}

/// [`Acme`] as a mapping.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct Fields {
    enabled: bool,
    #[serde(deserialize_with = "one_or_more")]
    directory: Vec<AcmeDirectory>,
    staging: bool,
    contact: Vec<String>,
    challenges: Vec<Challenge>,
    dns: Option<DnsConfig>,
}

/// How Let's Encrypt is called for short.
const SHORT: &str = "letsencrypt";

impl Acme {
    /// What the issuing of certificates is told; `has` says which listeners there are.
    pub fn settings(&self, has: impl Fn(Challenge) -> bool) -> Settings {
        let directory = |AcmeDirectory(directory): &AcmeDirectory| match directory.url == LETS_ENCRYPT {
            true if self.staging => Directory { url: LETS_ENCRYPT_STAGING.to_owned(), ..directory.clone() },
            _ => directory.clone(),
        };
        Settings {
            directories: self.directory.iter().map(directory).collect(),
            contact: self.contact.clone(),
            challenges: self.challenges.iter().copied().filter(|challenge| has(*challenge)).collect(),
            dns: None,
            resolvers: self.dns.as_ref().map_or_else(|| Resolvers::new(&[]), DnsConfig::resolvers),
        }
    }

    /// What writes records, where something is to: reads its key.
    ///
    /// # Errors
    /// When that cannot be read.
    pub fn solver(&self) -> Result<Option<Arc<dyn DnsSolver>>, SolverError> {
        self.dns.as_ref().map_or(Ok(None), DnsConfig::solver)
    }
}

impl Default for Acme {
    fn default() -> Self {
        Self {
            enabled: true,
            directory: vec![AcmeDirectory(Directory::of(LETS_ENCRYPT))],
            staging: false,
            contact: Vec::new(),
            challenges: vec![
                Challenge::TlsAlpn01,
                Challenge::Http01,
                Challenge::Dns01,
                Challenge::DnsPersist01,
            ],
            dns: None,
        }
    }
}

impl Default for Fields {
    fn default() -> Self {
        let Acme { enabled, directory, staging, contact, challenges, dns } = Acme::default();
        Self { enabled, directory, staging, contact, challenges, dns }
    }
}

impl TryFrom<Fields> for Acme {
    type Error = String;

    fn try_from(fields: Fields) -> Result<Self, String> {
        let Fields { enabled, directory, staging, contact, challenges, dns } = fields;
        if directory.is_empty() {
            return Err(
                "`directory` names no authority: leave it out for Let's Encrypt, or write `acme: off`"
                    .to_owned(),
            );
        }
        if staging && !directory.iter().any(|AcmeDirectory(one)| one.url == LETS_ENCRYPT) {
            return Err(
                "`staging` is Let's Encrypt's, and `directory` does not name `letsencrypt`".to_owned()
            );
        }
        if challenges.is_empty() {
            return Err("`challenges` is empty: leave it out for all of them".to_owned());
        }
        if let Some(wrong) = contact.iter().find(|address| !is_mail_address(address)) {
            return Err(format!("`contact`: `{wrong}` is no mail address, as in admin@example.dev"));
        }
        Ok(Self { enabled, directory, staging, contact, challenges, dns })
    }
}

fn is_mail_address(text: &str) -> bool {
    let is_fine =
        |part: &str| !part.is_empty() && !part.contains(|c: char| c.is_whitespace() || ":,?".contains(c));
    text.is_ascii()
        && text.split_once('@').is_some_and(|(who, host)| is_fine(who) && is_fine(host) && host.contains('.'))
}

impl TryFrom<DirectoryFields> for AcmeDirectory {
    type Error = String;

    fn try_from(fields: DirectoryFields) -> Result<Self, String> {
        let DirectoryFields { url, ca_file, profile, eab } = fields;
        let url = match url.as_str() {
            SHORT => LETS_ENCRYPT.to_owned(),
            text if is_https(text) => url,
            text => {
                return Err(format!(
                    "`{text}` is no directory: write {SHORT}, or an https URL such as {LETS_ENCRYPT}"
                ));
            }
        };
        let eab = eab.map(|EabFields { key_id, key_file }| Eab { key_id, key_file });
        Ok(Self(Directory { url, ca_file, profile, eab }))
    }
}

fn is_https(text: &str) -> bool {
    let uri: Option<http::Uri> = text.parse().ok();
    uri.is_some_and(|uri| {
        uri.scheme_str() == Some("https") && uri.host().is_some_and(|host| !host.is_empty())
    })
}

impl From<AcmeDirectory> for DirectoryText {
    fn from(AcmeDirectory(directory): AcmeDirectory) -> Self {
        let Directory { url, ca_file, profile, eab } = directory;
        let url = if url == LETS_ENCRYPT { SHORT.to_owned() } else { url };
        if ca_file.is_none() && profile.is_none() && eab.is_none() {
            return Self::Url(url);
        }
        let eab = eab.map(|Eab { key_id, key_file }| EabFields { key_id, key_file });
        Self::Fields(DirectoryFields { url, ca_file, profile, eab })
    }
}

impl<'de> Deserialize<'de> for Acme {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Section;
        impl<'de> Visitor<'de> for Section {
            type Value = Acme;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("`off`, or a mapping")
            }

            fn visit_bool<E: de::Error>(self, enabled: bool) -> Result<Acme, E> {
                Ok(Acme { enabled, ..Acme::default() })
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Acme, E> {
                match text {
                    "off" => self.visit_bool(false),
                    "on" => self.visit_bool(true),
                    text => Err(E::custom(format!("`acme` is `off`, or a mapping, not `{text}`"))),
                }
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Acme, A::Error> {
                let fields = Fields::deserialize(MapAccessDeserializer::new(map))?;
                fields.try_into().map_err(de::Error::custom)
            }
        }
        deserializer.deserialize_any(Section)
    }
}

impl<'de> Deserialize<'de> for AcmeDirectory {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct One;
        impl<'de> Visitor<'de> for One {
            type Value = AcmeDirectory;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a URL, or a mapping with `url`")
            }

            fn visit_str<E: de::Error>(self, url: &str) -> Result<AcmeDirectory, E> {
                let fields = DirectoryFields { url: url.to_owned(), ca_file: None, profile: None, eab: None };
                fields.try_into().map_err(E::custom)
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<AcmeDirectory, A::Error> {
                let fields = DirectoryFields::deserialize(MapAccessDeserializer::new(map))?;
                fields.try_into().map_err(de::Error::custom)
            }
        }
        deserializer.deserialize_any(One)
    }
}

/// A list, or its one item.
fn one_or_more<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<AcmeDirectory>, D::Error> {
    struct OneOrMore;
    impl<'de> Visitor<'de> for OneOrMore {
        type Value = Vec<AcmeDirectory>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a URL, a mapping with `url`, or a list of those")
        }

        fn visit_str<E: de::Error>(self, url: &str) -> Result<Self::Value, E> {
            AcmeDirectory::deserialize(de::value::StrDeserializer::new(url)).map(|one| vec![one])
        }

        fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
            AcmeDirectory::deserialize(MapAccessDeserializer::new(map)).map(|one| vec![one])
        }

        fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Self::Value, A::Error> {
            Vec::deserialize(de::value::SeqAccessDeserializer::new(list))
        }
    }
    deserializer.deserialize_any(OneOrMore)
}

#[cfg(test)]
mod tests {
    use causeway_daemon::config::parse;

    use super::*;

    #[derive(Deserialize)]
    struct Config {
        #[serde(default)]
        acme: Acme,
    }

    fn read(text: &str) -> Result<Acme, String> {
        let config = parse::<Config>("edge.yaml", text).map_err(|error| error.to_string())?;
        Ok(config.acme)
    }

    fn urls(acme: &Acme) -> Vec<String> {
        acme.settings(|_| true).directories.into_iter().map(|directory| directory.url).collect()
    }

    #[test]
    fn off_is_off_and_nothing_said_is_lets_encrypt() {
        for text in ["acme: off\n", "acme: false\n", "acme: \"off\"\n", "acme: { enabled: false }\n"] {
            assert!(!read(text).unwrap().enabled, "{text}");
        }
        let acme = read("{}").unwrap();
        assert!(acme.enabled);
        assert_eq!(urls(&acme), [LETS_ENCRYPT]);
        assert_eq!(urls(&read("acme: { staging: true }").unwrap()), [LETS_ENCRYPT_STAGING]);
    }

    #[test]
    fn one_directory_or_several_each_with_what_it_needs() {
        assert_eq!(
            urls(&read("acme: { directory: https://ca.example/dir }").unwrap()),
            ["https://ca.example/dir"]
        );
        let text = "acme:\n  contact: [me@example.dev]\n  challenges: [http-01]\n  directory:\n    - letsencrypt\n    \
                    - url: https://ca.example/dir\n      caFile: /ca.pem\n      profile: short\n      \
                    eab: { keyId: k, keyFile: /k }\n  dns:\n    \
                    update: { server: ns1.example.dev, keyFile: /k }\n    wait: 2m\n";
        let acme = read(text).unwrap();
        let settings = acme.settings(|_| true);
        assert_eq!(settings.challenges, [Challenge::Http01]);
        let eab = Eab { key_id: "k".to_owned(), key_file: "/k".into() };
        let second = Directory {
            url: "https://ca.example/dir".to_owned(),
            ca_file: Some("/ca.pem".into()),
            profile: Some("short".to_owned()),
            eab: Some(eab),
        };
        assert_eq!(settings.directories, [Directory::of(LETS_ENCRYPT), second]);
        assert!(acme.settings(|challenge| challenge != Challenge::Http01).challenges.is_empty());
        let again: Acme = serde_json::from_value(serde_json::to_value(&acme).unwrap()).unwrap();
        assert_eq!(again, acme, "what the environment is laid over is the same");
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, word) in [
            ("acme: never\n", "`off`, or a mapping"),
            ("acme: { directory: letsencrypts }\n", "`letsencrypts` is no directory"),
            ("acme: { directory: http://ca.example/ }\n", "an https URL"),
            ("acme: { directory: [] }\n", "names no authority"),
            ("acme: { directory: https://ca.example/, staging: true }\n", "`staging` is Let's Encrypt's"),
            ("acme: { contact: [me] }\n", "no mail address"),
            ("acme: { challenges: [] }\n", "`challenges` is empty"),
            ("acme: { contacts: [] }\n", "contact"),
            ("acme: { directory: { url: letsencrypt, eab: { keyId: x } } }\n", "keyFile"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(word), "{text}: {error}");
        }
    }
}
