//! What a rule asks of its visitors: the keys `http` and `hsts`. Both belong to the hostname, since an edge knows names and no
//! paths: what one rule of a name says holds for all of them.

use std::collections::HashMap;
use std::time::Duration;

use causeway_daemon::config::duration;
use causeway_tunnel::{Pattern, PlainHttp};
use serde::Deserialize;
use serde_saphyr::Spanned;

use super::{Problem, Rule};

/// Complete.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Visitors {
    /// `http`, default redirect: what becomes of visitors who come unencrypted.
    pub(crate) http: PlainHttp,
    /// `hsts`, default none: how long browsers come encrypted only, in seconds. 0 takes back what they were told before.
    pub(crate) hsts: Option<u32>,
}

/// The value of `http`: nothing that the wire may come to know later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Http {
    Redirect,
    Serve,
}

/// The value of `hsts`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub(super) struct Hsts(#[serde(with = "duration")] Duration);

/// As one rule has it.
#[derive(Debug)]
pub(super) struct Written<'a> {
    pub(super) http: Option<&'a Spanned<Http>>,
    pub(super) hsts: Option<&'a Spanned<Hsts>>,
}

/// Gives each rule what its name's rules say together.
///
/// # Errors
/// When two of them say different things: one of the two would be ignored.
pub(super) fn agree(rules: &mut [Rule], written: &[Written<'_>]) -> Result<(), Problem> {
    let mut said: HashMap<&Pattern, Written<'_>> = HashMap::new();
    for (rule, written) in rules.iter().zip(written) {
        let name = said.entry(&rule.hostname).or_insert(Written { http: None, hsts: None });
        name.http = one(&rule.hostname, "http", name.http, written.http)?;
        name.hsts = one(&rule.hostname, "hsts", name.hsts, written.hsts)?;
    }
    let said: HashMap<Pattern, Visitors> =
        said.into_iter().map(|(name, written)| (name.clone(), written.visitors())).collect();
    for rule in rules {
        rule.visitors = said.get(&rule.hostname).copied().unwrap_or_default();
    }
    Ok(())
}

fn one<'a, T: PartialEq>(
    name: &Pattern,
    key: &str,
    before: Option<&'a Spanned<T>>,
    now: Option<&'a Spanned<T>>,
) -> Result<Option<&'a Spanned<T>>, Problem> {
    match (before, now) {
        (Some(before), Some(now)) if before.value != now.value => {
            let line = before.referenced.line();
            let reason = format!("`{key}` of `{name}` says something else in line {line}");
            let help = "it holds for the name, whatever the path: write it once".to_owned();
            Err(Problem::at(now.referenced, reason).help(Some(help)))
        }
        _ => Ok(before.or(now)),
    }
}

impl Written<'_> {
    fn visitors(&self) -> Visitors {
        Visitors {
            http: match self.http.map(|http| http.value) {
                Some(Http::Serve) => PlainHttp::Serve,
                Some(Http::Redirect) | None => PlainHttp::Redirect,
            },
            hsts: self.hsts.map(|hsts| u32::try_from(hsts.value.0.as_secs()).unwrap_or(u32::MAX)),
        }
    }
}
