//! The rule file as it is written: its keys, and the step from there to the checked form.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use regex::RegexBuilder;
use serde::Deserialize;
use serde::de::{self, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_saphyr::Spanned;

use super::ignored::{self, KEYS};
use super::origin_request::{OriginRequest, OriginSettings};
use super::{Config, Problem, Rule, Warning};
use crate::hostname::Pattern;
use crate::service::Service;

/// The whole file.
#[derive(Debug, Default)]
pub(super) struct File {
    ingress: Option<Spanned<Vec<RawRule>>>,
    origin_request: Option<OriginRequest>,
    url: Option<Spanned<String>>,
    edges: Option<Spanned<Vec<String>>>,
    token_file: Option<String>,
    grace: Option<Duration>,
    metrics: Option<Spanned<String>>,
    log_level: Option<String>,
    log_json: Option<bool>,
    shards: Option<Spanned<usize>>,
    warnings: Vec<Warning>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct RawRule {
    hostname: Option<Spanned<String>>,
    path: Option<Spanned<String>>,
    service: Spanned<String>,
    origin_request: Option<OriginRequest>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Log {
    level: Option<String>,
    format: Option<Format>,
}

/// A duration as the value of a key that is read by hand.
#[derive(Deserialize)]
#[serde(transparent)]
struct Span(#[serde(with = "causeway_daemon::config::duration")] Duration);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Format {
    #[serde(alias = "default")]
    Text,
    Json,
}

impl File {
    pub(super) fn check(self, file: &str) -> Result<Config, Problem> {
        let mut warnings = self.warnings;
        let mut base = OriginSettings::default();
        let mut base_ca_pool_at = None;
        if let Some(global) = &self.origin_request {
            global.warn(&mut warnings);
            base = global.over(&base)?;
            base_ca_pool_at = global.ca_pool_at();
        }
        let raw = match (self.ingress, self.url) {
            (Some(ingress), url) => {
                if let Some(url) = url {
                    warnings.push(warning(&url, "`url` is ignored: there are `ingress` rules"));
                }
                ingress
            }
            (None, Some(url)) => Spanned::new(
                vec![RawRule { hostname: None, path: None, service: url.clone(), origin_request: None }],
                url.referenced,
                url.defined,
            ),
            (None, None) => {
                return Err(Problem { line: 1, column: 1, reason: NO_RULES.to_owned(), help: None });
            }
        };
        let mut rules = Vec::with_capacity(raw.value.len());
        for rule in &raw.value {
            rules.push(rule.check(&base, base_ca_pool_at, &mut warnings)?);
        }
        catch_all(&raw, &rules)?;
        let metrics = self.metrics.map(|metrics| address(&metrics)).transpose()?;
        let shards = match self.shards {
            Some(shards) if !(1..=MAX_SHARDS).contains(&shards.value) => {
                return Err(Problem::at(
                    shards.referenced,
                    format!("`shards` is a number from 1 to {MAX_SHARDS}"),
                ));
            }
            shards => shards.map(|shards| shards.value),
        };
        if let Some(edges) = &self.edges {
            for edge in &edges.value {
                check_edge(edge).map_err(|reason| Problem::at(edges.referenced, reason))?;
            }
        }
        let mut config = Config {
            file: file.to_owned(),
            rules,
            edges: self.edges.map(|edges| edges.value).filter(|edges| !edges.is_empty()),
            token_file: self.token_file.map(Into::into),
            grace: self.grace.unwrap_or(DEFAULT_GRACE),
            metrics,
            log_level: self.log_level,
            log_json: self.log_json,
            shards,
            warnings,
        };
        unreachable(&mut config, &raw.value);
        config.warnings.sort_by_key(|warning| (warning.line, warning.column));
        Ok(config)
    }
}

impl RawRule {
    fn check(
        &self,
        base: &OriginSettings,
        base_ca_pool_at: Option<(u64, u64)>,
        warnings: &mut Vec<Warning>,
    ) -> Result<Rule, Problem> {
        let hostname = match &self.hostname {
            Some(text) => Pattern::parse(&text.value)
                .map_err(|error| Problem::at(text.referenced, error.to_string()))?,
            None => Pattern::Any,
        };
        let path = match self.path.as_ref().filter(|path| !path.value.is_empty()) {
            Some(text) => {
                Some(RegexBuilder::new(&text.value).size_limit(MAX_REGEX_BYTES).build().map_err(|error| {
                    Problem::at(text.referenced, format!("the path is no regular expression: {error}"))
                })?)
            }
            None => None,
        };
        let service = Service::parse(&self.service.value)
            .map_err(|error| Problem::at(self.service.referenced, error.reason).help(error.help))?;
        if matches!(service, Service::Unserved(_)) {
            warnings.push(warning(
                &self.service,
                "raw TCP services are not served yet: requests are answered 501",
            ));
        }
        let mut ca_pool_at = base_ca_pool_at;
        let origin = match &self.origin_request {
            Some(own) => {
                own.warn(warnings);
                ca_pool_at = own.ca_pool_at().or(ca_pool_at);
                own.over(base)?
            }
            None => base.clone(),
        };
        let first = [self.hostname.as_ref(), self.path.as_ref(), Some(&self.service)];
        let line = first.into_iter().flatten().map(|text| text.referenced.line()).min().unwrap_or(0);
        Ok(Rule { hostname, path, service, origin, line, ca_pool_at })
    }
}

/// The last rule takes everything, and no other does: so that every request has an answer its author chose.
fn catch_all(raw: &Spanned<Vec<RawRule>>, rules: &[Rule]) -> Result<(), Problem> {
    let is_catch_all = |rule: &Rule| rule.hostname == Pattern::Any && rule.path.is_none();
    if let Some((index, rule)) =
        rules.iter().enumerate().find(|(index, rule)| index + 1 < rules.len() && is_catch_all(rule))
    {
        let at = &raw.value[index].service;
        return Err(Problem {
            line: rule.line,
            column: at.referenced.column(),
            reason: format!("rule {} takes every request, so the rules below it can never match", index + 1),
            help: Some("move it to the end".to_owned()),
        });
    }
    match (rules.last(), raw.value.last()) {
        (Some(last), Some(at)) if !is_catch_all(last) => Err(Problem::at(
            at.service.referenced,
            "the last rule must take every request: it may have no hostname and no path",
        )
        .help(Some("add `- service: http_status:404` at the end".to_owned()))),
        (None, _) => Err(Problem::at(raw.referenced, NO_RULES)),
        _ => Ok(()),
    }
}

fn unreachable(config: &mut Config, raw: &[RawRule]) {
    let table = config.table();
    for (index, raw) in raw.iter().enumerate() {
        if let Some(earlier) = table.shadowed_by(index) {
            let earlier_rule = &config.rules[earlier];
            let text = format!(
                "rule {} can never match: rule {} ({}, line {}) takes all its requests; put the narrower rule first",
                index + 1,
                earlier + 1,
                earlier_rule.hostname,
                earlier_rule.line
            );
            config.warnings.push(warning(&raw.service, &text));
        }
    }
}

/// `host:port`, as in a token.
pub(super) fn check_edge(edge: &str) -> Result<(), String> {
    let (host, port) =
        edge.rsplit_once(':').ok_or_else(|| format!("`{edge}` has no port: write host:port"))?;
    if host.is_empty() || port.parse::<u16>().is_err() {
        return Err(format!("`{edge}` is not an address: write host:port"));
    }
    Ok(())
}

fn address(text: &Spanned<String>) -> Result<SocketAddr, Problem> {
    let value = text.value.replacen("localhost:", "127.0.0.1:", 1);
    value.parse().map_err(|_| {
        Problem::at(text.referenced, format!("`{}` is not an address and port", text.value))
            .help(Some("127.0.0.1:20241".to_owned()))
    })
}

fn warning<T>(at: &Spanned<T>, text: &str) -> Warning {
    Warning { line: at.referenced.line(), column: at.referenced.column(), text: text.to_owned() }
}

impl<'de> Deserialize<'de> for File {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(FileVisitor)
    }
}

struct FileVisitor;

impl<'de> Visitor<'de> for FileVisitor {
    type Value = File;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a rule file")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<File, A::Error> {
        let mut file = File::default();
        while let Some(key) = map.next_key_seed(Key)? {
            match key {
                "ingress" => file.ingress = Some(map.next_value()?),
                "originRequest" => file.origin_request = map.next_value()?,
                "url" => file.url = Some(map.next_value()?),
                "edges" => file.edges = Some(map.next_value()?),
                "tokenFile" | "token-file" => file.token_file = map.next_value()?,
                "gracePeriod" | "grace-period" => file.grace = Some(map.next_value::<Span>()?.0),
                "metrics" => file.metrics = Some(map.next_value()?),
                "loglevel" => file.log_level = map.next_value()?,
                "output" => file.log_json = Some(map.next_value::<Format>()? == Format::Json),
                "log" => {
                    let log: Log = map.next_value()?;
                    file.log_level = log.level.or(file.log_level);
                    file.log_json = log.format.map(|format| format == Format::Json).or(file.log_json);
                }
                "shards" => file.shards = Some(map.next_value()?),
                other => {
                    let value: Spanned<IgnoredAny> = map.next_value()?;
                    file.warnings
                        .push(warning(&value, &format!("`{other}` is ignored: {}", ignored::why(other))));
                }
            }
        }
        Ok(file)
    }
}

/// One key of the file: known, or an error that the reader can tell the nearest known one from.
struct Key;

impl<'de> DeserializeSeed<'de> for Key {
    type Value = &'static str;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<&'static str, D::Error> {
        deserializer.deserialize_identifier(self)
    }
}

impl Visitor<'_> for Key {
    type Value = &'static str;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key of the rule file")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<&'static str, E> {
        KEYS.iter().find(|key| **key == text).copied().ok_or_else(|| E::unknown_field(text, KEYS))
    }
}

const NO_RULES: &str =
    "there are no rules: write `ingress:` with at least a last rule such as `- service: http_status:404`";
const DEFAULT_GRACE: Duration = Duration::from_secs(30);
/// A compiled path expression may not take more memory than this: a bound against slips, not a feature.
const MAX_REGEX_BYTES: usize = 1024 * 1024;
/// More threads than any machine of this kind has cores.
const MAX_SHARDS: usize = 64;
