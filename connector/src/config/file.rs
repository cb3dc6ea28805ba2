//! The rule file as it is written: its keys, and the step from there to the checked form.

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use causeway_acme::config::Acme;
use causeway_daemon::config::nearest;
use causeway_tunnel::{Congestion, Pattern, TlsEnd};
use clap::ValueEnum;
use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_saphyr::{Location, Spanned};

use super::foreign::{Foreign, Tolerant};
use super::ignored::{self, KEYS, OURS};
use super::origin_request::{OriginRequest, OriginSettings};
use super::visitors::{self, Hsts, Http, Visitors, Written};
use super::{AtHome, Config, Defaults, Problem, Rule, Source, Warning, tls};
use crate::carriers::{Carriers, HTTP2, PROBE_EVERY, Protocol};
use crate::forward_proxy::{Setting, SettingError};
use crate::path::PathPattern;
use crate::service::{self, Service};

/// The whole file.
#[derive(Debug, Default)]
pub(super) struct File {
    ingress: Option<Spanned<Vec<Spanned<Tolerant<RawRule>>>>>,
    origin_request: Option<Tolerant<OriginRequest>>,
    url: Option<Spanned<String>>,
    edges: Option<Spanned<Vec<String>>>,
    token_file: Option<String>,
    grace: Option<Duration>,
    metrics: Option<Spanned<String>>,
    log_level: Option<String>,
    log_json: Option<bool>,
    shards: Option<Spanned<usize>>,
    buffer_bytes: Option<usize>,
    congestion: Option<Congestion>,
    protocol: Option<Spanned<String>>,
    probe_every: Option<Duration>,
    proxy: Option<Spanned<String>>,
    proxy_password_file: Option<Spanned<String>>,
    data: Option<PathBuf>,
    acme: Option<Acme>,
    certificate_folders: Option<Vec<PathBuf>>,
    warnings: Vec<Warning>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
struct RawRule {
    hostname: Option<Spanned<String>>,
    path: Option<Spanned<String>>,
    service: Option<Spanned<String>>,
    tls: Option<Spanned<String>>,
    http: Option<Spanned<Http>>,
    hsts: Option<Spanned<Hsts>>,
    origin_request: Option<Tolerant<OriginRequest>>,
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
    /// The command line's word wins.
    pub(super) fn with_data(mut self, data: Option<&Path>) -> Self {
        self.data = data.map(Path::to_owned).or(self.data);
        self
    }

    pub(super) fn check(self, file: &str) -> Result<Config, Problem> {
        let mut warnings = self.warnings;
        let mut base = OriginSettings::default();
        let mut base_ca_pool_at = None;
        let mut base_is_bastion = false;
        let mut base_guard = None;
        if let Some(Tolerant { value: global, foreign, known }) = &self.origin_request {
            warnings.extend(foreign.iter().map(|key| ignored(key, known)));
            global.warn(&mut warnings);
            base = global.over(&base)?;
            base_ca_pool_at = global.ca_pool_at();
            base_is_bastion = global.is_bastion().unwrap_or(false);
            base_guard = global.guard();
        }
        let raw = match (self.ingress, self.url) {
            (Some(ingress), url) => {
                if let Some(url) = url {
                    warnings.push(warning(&url, "`url` is ignored: there are `ingress` rules"));
                }
                ingress
            }
            (None, Some(url)) => {
                let service = Spanned::new(service::with_scheme(&url.value), url.referenced, url.defined);
                let rule = RawRule { service: Some(service), ..RawRule::default() };
                let rule = Tolerant { value: rule, foreign: Vec::new(), known: &[] };
                Spanned::new(
                    vec![Spanned::new(rule, url.referenced, url.defined)],
                    url.referenced,
                    url.defined,
                )
            }
            (None, None) => {
                return Err(Problem { line: 1, column: 1, reason: NO_RULES.to_owned(), help: None });
            }
        };
        let mut rules = Vec::with_capacity(raw.value.len());
        for rule in &raw.value {
            let inherited = Inherited {
                origin: &base,
                ca_pool_at: base_ca_pool_at,
                is_bastion: base_is_bastion,
                guard: base_guard,
            };
            rules.push(check_rule(rule, &inherited, &mut warnings)?);
        }
        catch_all(&raw, &rules)?;
        let home = AtHome {
            data: self.data,
            acme: self.acme.unwrap_or_default(),
            certificate_folders: self.certificate_folders.unwrap_or_default(),
        };
        tls::check(&rules, &home, |index| {
            let at = place(&raw.value[index]);
            (at.line(), at.column())
        })?;
        let written: Vec<_> = raw.value.iter().map(|rule| rule.value.value.of_visitors()).collect();
        visitors::agree(&mut rules, &written)?;
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
        let protocol = self.protocol.as_ref().map(|written| protocol(written, &mut warnings)).transpose()?;
        let carriers = Carriers {
            protocol: protocol.unwrap_or_default(),
            probe_every: self.probe_every.filter(|every| !every.is_zero()).unwrap_or(PROBE_EVERY),
        };
        let (proxy, proxy_at) = proxy(self.proxy.as_ref(), self.proxy_password_file.as_ref())?;
        if let Some(edges) = &self.edges {
            for edge in &edges.value {
                check_edge(edge).map_err(|reason| Problem::at(edges.referenced, reason))?;
            }
        }
        let mut config = Config {
            file: file.to_owned(),
            source: Source::Written,
            rules,
            edges: self.edges.map(|edges| edges.value).filter(|edges| !edges.is_empty()),
            token_file: self.token_file.map(Into::into),
            grace: self.grace.unwrap_or(DEFAULT_GRACE),
            metrics,
            log_level: self.log_level,
            log_json: self.log_json,
            shards,
            buffer_bytes: self.buffer_bytes.filter(|bytes| *bytes > 0),
            congestion: self.congestion.unwrap_or_default(),
            carriers,
            proxy,
            proxy_at,
            home,
            defaults: Defaults { origin: base, ca_pool_at: base_ca_pool_at },
            warnings,
            remarks: Vec::new(),
        };
        unreachable(&mut config, &raw.value);
        config.warnings.sort_by_key(|warning| (warning.line, warning.column));
        Ok(config)
    }
}

/// What `originRequest` at the top says for all rules.
struct Inherited<'a> {
    origin: &'a OriginSettings,
    ca_pool_at: Option<(u64, u64)>,
    is_bastion: bool,
    guard: Option<Location>,
}

fn check_rule(
    raw: &Spanned<Tolerant<RawRule>>,
    inherited: &Inherited<'_>,
    warnings: &mut Vec<Warning>,
) -> Result<Rule, Problem> {
    let Tolerant { value: rule, foreign, known } = &raw.value;
    for key in foreign {
        // A rule without the `path` that its author wrote takes more than was meant: that is no matter for a warning.
        if let Some(near) = nearest(&key.key, known) {
            return Err(Problem::at(key.at, format!("unknown key `{}`", key.key))
                .help(Some(format!("did you mean `{near}`?"))));
        }
        warnings.push(ignored(key, known));
    }
    let hostname = match rule.hostname.as_ref().filter(|hostname| !hostname.value.is_empty()) {
        Some(text) => {
            Pattern::parse(&text.value).map_err(|error| Problem::at(text.referenced, error.to_string()))?
        }
        None => Pattern::Any,
    };
    let path = match rule.path.as_ref().filter(|path| !path.value.is_empty()) {
        Some(text) => Some(
            PathPattern::parse(&text.value)
                .map_err(|error| Problem::at(text.referenced, error.to_string()))?,
        ),
        None => None,
    };
    let mut ca_pool_at = inherited.ca_pool_at;
    let mut is_bastion = inherited.is_bastion;
    let mut guard = inherited.guard;
    let origin = match &rule.origin_request {
        Some(Tolerant { value: own, foreign, known }) => {
            warnings.extend(foreign.iter().map(|key| ignored(key, known)));
            own.warn(warnings);
            ca_pool_at = own.ca_pool_at().or(ca_pool_at);
            is_bastion = own.is_bastion().unwrap_or(is_bastion);
            if own.has_access() {
                guard = own.guard();
            }
            own.over(inherited.origin)?
        }
        None => inherited.origin.clone(),
    };
    let tls = rule.tls.as_ref().map(tls::end).transpose()?.unwrap_or_default();
    let own = rule.origin_request.as_ref().map(|own| &own.value);
    if let Some(at) = own.and_then(OriginRequest::proxy_protocol_at).filter(|_| tls != TlsEnd::Passthrough) {
        return Err(Problem::at(at, "`proxyProtocol` is for rules with `tls: passthrough`")
            .help(Some("HTTP tells the visitor in X-Real-IP; see also `visitorIpHeader`".to_owned())));
    }
    let (service, at) = match &rule.service {
        Some(text) if tls == TlsEnd::Passthrough => (tls::service(text)?, text.referenced),
        Some(text) => {
            let service = Service::parse(&text.value)
                .map_err(|error| Problem::at(text.referenced, error.reason).help(error.help))?;
            (service, text.referenced)
        }
        // To cloudflared such a rule is a jump host.
        None if is_bastion => (Service::Unserved("bastion".to_owned()), raw.referenced),
        None => {
            return Err(Problem::at(raw.referenced, "the rule has no `service`")
                .help(Some("say where its requests go, as in `service: http://10.0.0.104`".to_owned())));
        }
    };
    if let Service::Unserved(text) = &service {
        let text = format!("`{text}` is not served yet: this rule's requests are answered 501");
        warnings.push(Warning { line: at.line(), column: at.column(), text });
    }
    let service = match guard {
        Some(guard) => guarded(service, guard, tls)?,
        None => service,
    };
    let first = [rule.hostname.as_ref(), rule.path.as_ref(), rule.service.as_ref()];
    let line =
        first.into_iter().flatten().map(|text| text.referenced.line()).min().unwrap_or_else(|| at.line());
    // What the rules of its name say together comes later.
    let visitors = Visitors::default();
    Ok(Rule { hostname, path, service, origin, tls, visitors, line, ca_pool_at, found: None })
}

/// What stood behind Cloudflare Access stays shut: taking the file as it is must open nothing to everybody.
fn guarded(service: Service, guard: Location, tls: TlsEnd) -> Result<Service, Problem> {
    match service {
        // They tell nobody anything.
        Service::Status(_) | Service::Unserved(_) => Ok(service),
        _ if tls == TlsEnd::Passthrough => {
            Err(Problem::at(guard, "`access` sees nothing of a rule with `tls: passthrough`").help(Some(
                "write `access: { required: false }` into that rule: its service checks".to_owned(),
            )))
        }
        _ => Ok(Service::Unserved(format!("{service} behind Cloudflare Access"))),
    }
}

impl RawRule {
    fn of_visitors(&self) -> Written<'_> {
        Written { http: self.http.as_ref(), hsts: self.hsts.as_ref() }
    }
}

/// A key that cloudflared reads over, and so do we: but not in silence.
fn ignored(key: &Foreign, known: &[&str]) -> Warning {
    let help = match nearest(&key.key, known) {
        Some(near) => format!("did you mean `{near}`?"),
        None => "it is no key of a rule file".to_owned(),
    };
    let text = format!("`{}` is ignored: {help}", key.key);
    Warning { line: key.at.line(), column: key.at.column(), text }
}

/// The last rule takes everything, and no other does: so that every request has an answer its author chose.
fn catch_all(raw: &Spanned<Vec<Spanned<Tolerant<RawRule>>>>, rules: &[Rule]) -> Result<(), Problem> {
    // What passes TLS through takes nothing of what comes in the clear.
    let is_catch_all =
        |rule: &Rule| rule.hostname == Pattern::Any && rule.path.is_none() && rule.tls != TlsEnd::Passthrough;
    if let Some((index, rule)) =
        rules.iter().enumerate().find(|(index, rule)| index + 1 < rules.len() && is_catch_all(rule))
    {
        return Err(Problem {
            line: rule.line,
            column: place(&raw.value[index]).column(),
            reason: format!("rule {} takes every request, so the rules below it can never match", index + 1),
            help: Some("move it to the end".to_owned()),
        });
    }
    match (rules.last(), raw.value.last()) {
        (Some(last), Some(at)) if !is_catch_all(last) => Err(Problem::at(
            place(at),
            "the last rule must take every request: it may have no hostname, no path and no `tls: passthrough`",
        )
        .help(Some("add `- service: http_status:404` at the end".to_owned()))),
        (None, _) => Err(Problem::at(raw.referenced, NO_RULES)),
        _ => Ok(()),
    }
}

/// Where a rule's message points: at its service, where it has one.
fn place(rule: &Spanned<Tolerant<RawRule>>) -> Location {
    rule.value.value.service.as_ref().map_or(rule.referenced, |service| service.referenced)
}

fn unreachable(config: &mut Config, raw: &[Spanned<Tolerant<RawRule>>]) {
    let (requests, passing) = (config.table(), config.passing());
    for (index, raw) in raw.iter().enumerate() {
        let table = if config.rules[index].tls != TlsEnd::Passthrough { &requests } else { &passing };
        if let Some(earlier) = table.shadowed_by(index) {
            let earlier_rule = &config.rules[earlier];
            let text = format!(
                "rule {} can never match: rule {} ({}, line {}) takes all its requests; put the narrower rule first",
                index + 1,
                earlier + 1,
                earlier_rule.hostname,
                earlier_rule.line
            );
            let at = place(raw);
            config.warnings.push(Warning { line: at.line(), column: at.column(), text });
        }
    }
}

/// `host:port`, as in a token.
pub(crate) fn check_edge(edge: &str) -> Result<(), String> {
    let (host, port) =
        edge.rsplit_once(':').ok_or_else(|| format!("`{edge}` has no port: write host:port"))?;
    if host.is_empty() || port.parse::<u16>().is_err() {
        return Err(format!("`{edge}` is not an address: write host:port"));
    }
    Ok(())
}

/// As cloudflared's key.
fn protocol(written: &Spanned<String>, warnings: &mut Vec<Warning>) -> Result<Protocol, Problem> {
    if written.value == HTTP2 {
        warnings.push(warning(written, "`protocol: http2` is `protocol: tcp` here: HTTP/2 over TLS and TCP"));
    }
    Protocol::from_str(&written.value, false).map_err(|_| {
        Problem::at(written.referenced, format!("`{}` is no protocol of tunnels", written.value))
            .help(Some("auto, quic or tcp".to_owned()))
    })
}

/// `proxy` and `proxyPasswordFile`, and where the latter stands.
fn proxy(
    written: Option<&Spanned<String>>,
    password_file: Option<&Spanned<String>>,
) -> Result<(Setting, Option<(u64, u64)>), Problem> {
    let problem = |at: &Spanned<String>, error: SettingError| {
        Problem::at(at.referenced, error.to_string()).help(error.help())
    };
    let setting = match written {
        Some(written) => Setting::parse(&written.value).map_err(|error| problem(written, error))?,
        None => Setting::default(),
    };
    match password_file.filter(|file| !file.value.is_empty()) {
        Some(file) => {
            let setting = setting.with_password_file(Path::new(&file.value));
            let at = (file.referenced.line(), file.referenced.column());
            Ok((setting.map_err(|error| problem(file, error))?, Some(at)))
        }
        None => Ok((setting, None)),
    }
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
        while let Some(key) = map.next_key::<Spanned<String>>()? {
            match key.value.as_str() {
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
                "bufferBytes" => file.buffer_bytes = map.next_value()?,
                "congestion" => file.congestion = map.next_value()?,
                "protocol" => file.protocol = map.next_value()?,
                "quicProbeInterval" => file.probe_every = Some(map.next_value::<Span>()?.0),
                "proxy" => file.proxy = map.next_value()?,
                "proxyPasswordFile" => file.proxy_password_file = map.next_value()?,
                "data" => file.data = map.next_value()?,
                "acme" => file.acme = Some(map.next_value()?),
                "certificateFolders" => file.certificate_folders = map.next_value()?,
                other if KEYS.contains(&other) => {
                    map.next_value::<IgnoredAny>()?;
                    file.warnings
                        .push(warning(&key, &format!("`{other}` is ignored: {}", ignored::why(other))));
                }
                _ => {
                    map.next_value::<IgnoredAny>()?;
                    let ours = &KEYS[..OURS];
                    file.warnings.push(ignored(&Foreign { at: key.referenced, key: key.value }, ours));
                }
            }
        }
        Ok(file)
    }
}

const NO_RULES: &str =
    "there are no rules: write `ingress:` with at least a last rule such as `- service: http_status:404`";
const DEFAULT_GRACE: Duration = Duration::from_secs(30);
/// More threads than any machine of this kind has cores.
const MAX_SHARDS: usize = 64;
