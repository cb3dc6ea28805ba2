//! DNS-PERSIST-01 (draft-ietf-acme-dns-persist): one TXT record, put there once by people, which lets one account at one
//! certificate authority have certificates for a name for as long as it stands. What it says, and whether it is there.
//!
//! ```text
//! _validation-persist.example.dev. TXT "letsencrypt.org; accounturi=https://…/acct/1; policy=wildcard; persistUntil=1800000000"
//! ```

use std::fmt;

use super::lookup::{LookupError, Resolvers};
use super::nameservers;

/// The type of the challenge, as an authorization lists it.
pub const CHALLENGE: &str = "dns-persist-01";

/// What the record for a name must say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Persist {
    host: String,
    issuer: String,
    account: String,
    policy: Policy,
    until: Option<u64>,
}

/// What a record stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// The name alone.
    Exact,
    /// All names below it too.
    Wildcard,
}

/// Why there can be no such record.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PersistError {
    #[error("`{0}` is not a name that certificates are made for")]
    Host(String),
    #[error("`{0}` is not the domain name of a certificate authority, such as letsencrypt.org")]
    Issuer(String),
    #[error("the account's address `{0}` cannot stand in a TXT record")]
    Account(String),
}

/// What is found where the record should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It is there, for ever or until a second since 1970.
    Ready {
        until: Option<u64>,
    },
    Missing,
    /// A record for this certificate authority is there and does not serve: why not.
    Useless(String),
}

impl Persist {
    /// For a name, or for all names below one (`*.example.dev`). `issuer` is how the authority calls itself in CAA records
    /// (`letsencrypt.org`), `account` the address of our account there; after `until`, in seconds since 1970, it counts no more.
    ///
    /// # Errors
    /// When one of them cannot stand in the record.
    pub fn new(host: &str, issuer: &str, account: &str, until: Option<u64>) -> Result<Self, PersistError> {
        let (base, policy) =
            host.strip_prefix("*.").map_or((host, Policy::Exact), |base| (base, Policy::Wildcard));
        let is_name = |text: &str| {
            !text.is_empty()
                && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte))
        };
        if !is_name(base) || super::record_name(&format!("{LABEL}.{base}")).is_err() {
            return Err(PersistError::Host(shown(host)));
        }
        if !is_name(issuer) {
            return Err(PersistError::Issuer(shown(issuer)));
        }
        if account.is_empty() || !is_value(account) {
            return Err(PersistError::Account(shown(account)));
        }
        let (host, issuer) = (base.to_ascii_lowercase(), issuer.to_ascii_lowercase());
        Ok(Self { host, issuer, account: account.to_owned(), policy, until })
    }

    /// Where the record stands.
    pub fn name(&self) -> String {
        format!("{LABEL}.{}", self.host)
    }

    /// The record as a line of a zone file; a text of more than 255 bytes is cut as DNS wants it.
    pub fn zone_line(&self) -> String {
        let value = self.to_string();
        let pieces: Vec<_> =
            value.as_bytes().chunks(MAX_TEXT).map(|it| format!("\"{}\"", it.escape_ascii())).collect();
        format!("{}. 3600 IN TXT {}", self.name(), pieces.join(" "))
    }

    /// Looks whether the record is there, now in seconds since 1970. The zone's own nameservers are asked where they can be
    /// reached: a resolver may believe for an hour that there is none.
    ///
    /// # Errors
    /// When no resolver answers.
    pub async fn look_up(&self, resolvers: &Resolvers, now: u64) -> Result<Standing, LookupError> {
        let standing = self.judge(&resolvers.txt(&self.name()).await?, now);
        let Ok(name) = super::record_name(&self.name()) else { return Ok(standing) };
        if !matches!(standing, Standing::Ready { .. }) {
            for server in nameservers::of_record(resolvers, &name).await {
                if let Some(values) = server.texts(&name).await {
                    return Ok(self.judge(&values, now));
                }
            }
        }
        Ok(standing)
    }

    /// Whether one of the values that stand there does. Those for other authorities are no matter.
    pub fn judge<S: AsRef<str>>(&self, values: &[S], now: u64) -> Standing {
        let mut standing = Standing::Missing;
        for value in values {
            match self.judge_one(value.as_ref(), now) {
                Standing::Missing => {}
                Standing::Useless(reason) => standing = Standing::Useless(reason),
                ready @ Standing::Ready { .. } => return ready,
            }
        }
        standing
    }

    fn judge_one(&self, value: &str, now: u64) -> Standing {
        let useless = |reason: String| Standing::Useless(reason);
        let mut parts = value.split(';').map(trim);
        if !parts.next().is_some_and(|issuer| issuer.trim_end_matches('.').eq_ignore_ascii_case(&self.issuer))
        {
            return Standing::Missing;
        }
        let found = match Parameters::read(parts) {
            Ok(found) => found,
            Err(reason) => return useless(reason),
        };
        match found {
            Parameters { account: None, .. } => useless("it names no account (`accounturi`)".to_owned()),
            Parameters { account: Some(other), .. } if other != self.account => {
                useless(format!("it is for another account, {}", shown(other)))
            }
            Parameters { wildcard: false, .. } if self.policy == Policy::Wildcard => {
                useless("it does not say `policy=wildcard`".to_owned())
            }
            Parameters { until: Some(until), .. } if until < i128::from(now) => {
                useless(format!("its time is over (persistUntil={until})"))
            }
            Parameters { until, .. } => {
                Standing::Ready { until: until.and_then(|until| until.try_into().ok()) }
            }
        }
    }
}

/// The value of the record.
impl fmt::Display for Persist {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; accounturi={}", self.issuer, self.account)?;
        if self.policy == Policy::Wildcard {
            f.write_str("; policy=wildcard")?;
        }
        self.until.map_or(Ok(()), |until| write!(f, "; persistUntil={until}"))
    }
}

/// What stands behind the authority's name: the parameters of RFC 8659 §4.2, of which three concern us.
#[derive(Default)]
struct Parameters<'a> {
    account: Option<&'a str>,
    wildcard: bool,
    until: Option<i128>,
}

impl<'a> Parameters<'a> {
    /// As strict as an authority: what it would not read is told before it is asked.
    fn read(parts: impl Iterator<Item = &'a str>) -> Result<Self, String> {
        let mut found = Self::default();
        let mut seen: Vec<String> = Vec::new();
        for part in parts {
            let (tag, value) =
                part.split_once('=').ok_or_else(|| format!("`{}` is not tag=value", shown(part)))?;
            let (tag, value) = (trim(tag).to_ascii_lowercase(), trim(value));
            if tag.is_empty() || !is_value(value) {
                return Err(format!("`{}` is not tag=value", shown(part)));
            }
            if seen.contains(&tag) {
                return Err(format!("it says `{}` twice", shown(&tag)));
            }
            match tag.as_str() {
                "accounturi" => found.account = Some(value),
                "policy" => found.wildcard = value.eq_ignore_ascii_case("wildcard"),
                "persistuntil" => {
                    let until = value
                        .parse::<i64>()
                        .map_err(|_| format!("persistUntil={} is not a time", shown(value)))?;
                    found.until = Some(until.into());
                }
                _ => {}
            }
            seen.push(tag);
        }
        Ok(found)
    }
}

/// White space, as RFC 8659 has it.
fn trim(text: &str) -> &str {
    text.trim_matches([' ', '\t'])
}

/// Printable ASCII without blanks and semicolons.
fn is_value(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b';')
}

/// What comes from elsewhere, for a message.
fn shown(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(200).collect()
}

const LABEL: &str = "_validation-persist";
const MAX_TEXT: usize = 255;

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, prop_assert_eq, proptest};

    use super::{Persist, Standing};

    const ACCOUNT: &str = "https://ca.example/acct/123";
    const NOW: u64 = 1_800_000_000;

    fn wildcard() -> Persist {
        Persist::new("*.Example.dev", "ca.example", ACCOUNT, None).unwrap()
    }

    #[test]
    fn the_record_of_a_wildcard_stands_at_its_base_and_says_so() {
        let record = wildcard();
        assert_eq!(record.name(), "_validation-persist.example.dev");
        assert_eq!(record.to_string(), format!("ca.example; accounturi={ACCOUNT}; policy=wildcard"));
        assert_eq!(record.zone_line(), format!("{}. 3600 IN TXT \"{record}\"", record.name()));
        let exact = Persist::new("www.example.dev", "ca.example", ACCOUNT, Some(9)).unwrap();
        assert_eq!(exact.to_string(), format!("ca.example; accounturi={ACCOUNT}; persistUntil=9"));
        let long = Persist::new("a.dev", "ca.example", &"x".repeat(300), None).unwrap().zone_line();
        assert!(long.split('"').all(|piece| piece.len() <= 255), "{long}");
    }

    #[test]
    fn what_cannot_stand_in_the_record_is_refused() {
        for (host, issuer, account) in [
            ("*.*.dev", "ca.example", ACCOUNT),
            ("", "ca.example", ACCOUNT),
            ("a..b", "ca.example", ACCOUNT),
            ("a.dev", "", ACCOUNT),
            ("a.dev", "ca;x", ACCOUNT),
            ("a.dev", "ca.example", ""),
            ("a.dev", "ca.example", "https://a;b"),
            ("a.dev", "ca.example", "https://a b"),
        ] {
            assert!(Persist::new(host, issuer, account, None).is_err(), "{host} {issuer} {account}");
        }
    }

    #[test]
    fn a_record_is_judged_as_the_authority_will() {
        let ready = Standing::Ready { until: None };
        let a = format!("accounturi={ACCOUNT}");
        for (value, standing) in [
            (format!("ca.example;{a};policy=wildcard"), Some(ready.clone())),
            (format!(" CA.example. ; AccountURI = {ACCOUNT} ;\tPolicy = WildCard; other=1 "), Some(ready)),
            (
                format!("ca.example;{a};policy=wildcard;persistUntil={NOW}"),
                Some(Standing::Ready { until: Some(NOW) }),
            ),
            (format!("other.example;{a};policy=wildcard"), Some(Standing::Missing)),
            ("v=spf1 -all".to_owned(), Some(Standing::Missing)),
            (format!("ca.example;{a}"), None),
            (format!("ca.example;{a};policy=none"), None),
            ("ca.example;policy=wildcard".to_owned(), None),
            (format!("ca.example;{a}4;policy=wildcard"), None),
            (format!("ca.example;{a};policy=wildcard;persistUntil={}", NOW - 1), None),
            (format!("ca.example;{a};policy=wildcard;persistUntil=-1"), None),
            (format!("ca.example;{a};policy=wildcard;persistUntil=soon"), None),
            (format!("ca.example;{a};policy=wildcard;"), None),
            (format!("ca.example;{a};{a};policy=wildcard"), None),
            (format!("ca.example;{a};policy=wildcard;=x"), None),
        ] {
            let found = wildcard().judge(&[&value], NOW);
            match standing {
                Some(standing) => assert_eq!(found, standing, "{value}"),
                None => assert!(matches!(found, Standing::Useless(_)), "{value}: {found:?}"),
            }
        }
        let both = ["ca.example; accounturi=https://old", &wildcard().to_string()];
        assert_eq!(
            wildcard().judge(&both, NOW),
            Standing::Ready { until: None },
            "one good record is enough"
        );
    }

    proptest! {
        #[test]
        fn what_is_printed_is_found_ready(
            host in "(\\*\\.)?[a-z0-9]{1,10}\\.[a-z]{2,6}", account in "[!-:<-~]{1,300}", until in any::<Option<u32>>(),
        ) {
            let until = until.map(u64::from);
            let record = Persist::new(&host, "ca.example", &account, until).unwrap();
            prop_assert_eq!(record.judge(&[record.to_string()], 0), Standing::Ready { until });
        }

        #[test]
        fn any_text_may_stand_there(text in any::<String>(), rest in any::<String>()) {
            let _ = wildcard().judge(&[text, format!("ca.example;{rest}")], NOW);
        }
    }
}
