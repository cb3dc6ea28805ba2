//! The connector's rule file in its checked form: after [`parse`] a wrong configuration cannot exist.

mod file;
mod foreign;
mod ignored;
mod origin_request;
#[cfg(test)]
mod tests;
mod tls;
mod visitors;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use causeway_acme::config::Acme;
use causeway_daemon::config::ConfigError;
use causeway_tunnel::{Congestion, Pattern, TlsEnd};

use crate::carriers::Carriers;
use crate::forward_proxy::{Outward, Setting, SettingError};
use crate::ingress::{Matcher, Table};
use crate::path::PathPattern;
use crate::service::{self, Service};

pub(crate) use file::check_edge;
pub(crate) use origin_request::{OriginSettings, ProxyProtocol, is_host_header};
pub(crate) use tls::end_of;
pub(crate) use visitors::Visitors;

/// Everything that a rule file says.
#[derive(Clone, Debug)]
pub struct Config {
    /// As it was named, for messages.
    pub(crate) file: String,
    /// Where the rules come from.
    pub(crate) source: Source,
    /// In order; the last one is a catch-all, unless they are exposed.
    pub(crate) rules: Vec<Rule>,
    /// `edges`: addresses that stand in for the token's. Default: the token's.
    pub(crate) edges: Option<Vec<String>>,
    /// `tokenFile`: where the token lies. The command line and the environment win.
    pub(crate) token_file: Option<PathBuf>,
    /// `gracePeriod`: how long a stop waits for requests in flight. Default 30 s.
    pub(crate) grace: Duration,
    /// `metrics`: where health, status and metrics are served. Default 127.0.0.1:20241.
    pub metrics: Option<SocketAddr>,
    /// `log.level`. Default info.
    pub(crate) log_level: Option<String>,
    /// `log.format`: text or json. Default text.
    pub(crate) log_json: Option<bool>,
    /// `shards`: threads that carry requests. Default 1.
    pub(crate) shards: Option<usize>,
    /// `bufferBytes`: what all streams may hold unread and unsent. Default: an eighth of the memory, 32 MiB to 1 GiB.
    pub(crate) buffer_bytes: Option<usize>,
    /// `congestion`: how sessions find out what the line takes.
    pub(crate) congestion: Congestion,
    /// `protocol`, `quicProbeInterval`: what sessions go over.
    pub(crate) carriers: Carriers,
    /// `proxy`, `proxyPasswordFile`: what TCP goes through. Default: what the environment says.
    pub(crate) proxy: Setting,
    /// Where the password's file is named, which can still fail when it is opened. None: not in this file.
    pub(crate) proxy_at: Option<(u64, u64)>,
    /// What `tls: connector` stands on.
    pub(crate) home: AtHome,
    /// For rules that stand in no file.
    pub(crate) defaults: Defaults,
    /// What is odd but no error.
    pub(crate) warnings: Vec<Warning>,
    /// What Services ask for and do not get, each with its mend.
    pub(crate) remarks: Vec<String>,
}

/// What the file says for all rules.
#[derive(Clone, Debug, Default)]
pub(crate) struct Defaults {
    /// `originRequest`.
    pub(crate) origin: OriginSettings,
    pub(crate) ca_pool_at: Option<(u64, u64)>,
}

/// Who said the rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// A file, or a service on the command line.
    Written,
    /// Nobody: every granted name shows the hello page.
    Nobody,
    /// The Services of a cluster alone.
    Cluster,
    /// `expose`: one name for a while, beside whatever else the tunnel serves.
    Exposed,
}

/// Certificates of names whose TLS ends at home.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct AtHome {
    /// `data`: a folder of the connector's own, for certificates that it orders. Default: none, and none are ordered.
    pub(crate) data: Option<PathBuf>,
    /// `acme`: as at the edge.
    pub(crate) acme: Acme,
    /// `certificateFolders`: PEM files that somebody else renews. Default: none.
    pub(crate) certificate_folders: Vec<PathBuf>,
}

/// One rule, checked.
#[derive(Clone, Debug)]
pub(crate) struct Rule {
    pub(crate) hostname: Pattern,
    pub(crate) path: Option<PathPattern>,
    pub(crate) service: Service,
    pub(crate) origin: OriginSettings,
    /// `tls`: where TLS of its visitors ends. Default: at the edge.
    pub(crate) tls: TlsEnd,
    /// What the edge is told of its name.
    pub(crate) visitors: Visitors,
    /// Where in the file it begins.
    pub(crate) line: u64,
    /// Where its `caPool` stands, the one setting that can still fail when files are opened.
    pub(crate) ca_pool_at: Option<(u64, u64)>,
    /// The Service that asked for it, as `namespace/name`. None: it stands in the file.
    pub(crate) found: Option<Arc<str>>,
}

/// Something in the file that does nothing, or not what its author may think.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Warning {
    pub(crate) line: u64,
    pub(crate) column: u64,
    pub(crate) text: String,
}

/// A mistake at a place in the text.
#[derive(Clone, Debug)]
pub(crate) struct Problem {
    pub(crate) line: u64,
    pub(crate) column: u64,
    pub(crate) reason: String,
    pub(crate) help: Option<String>,
}

impl Config {
    /// The rules as a table to match requests against, wherever TLS of those ended that are read.
    pub fn table(&self) -> Table {
        Table::of(self.matchers(), |index| self.rules[index].tls != TlsEnd::Passthrough)
    }

    /// The rules as a table to match connections against that the edge does not read.
    pub(crate) fn passing(&self) -> Table {
        Table::of(self.matchers(), |index| !self.rules[index].tls.is_edge())
    }

    fn matchers(&self) -> Vec<Matcher> {
        let matcher = |rule: &Rule| Matcher { hostname: rule.hostname.clone(), path: rule.path.clone() };
        self.rules.iter().map(matcher).collect()
    }

    /// The command line's word for `proxy` and `proxyPasswordFile`, which wins.
    pub(crate) fn say_proxy(&mut self, url: Option<&str>, file: Option<&Path>) -> Result<(), ConfigError> {
        let failed = |flag: &str| {
            let flag = flag.to_owned();
            move |error: SettingError| {
                let (reason, help) = (error.to_string(), error.help());
                Problem { line: 1, column: 1, reason, help }.in_file(&flag)
            }
        };
        if let Some(url) = url {
            (self.proxy, self.proxy_at) = (Setting::parse(url).map_err(failed("--proxy"))?, None);
        }
        if let Some(file) = file {
            let setting = std::mem::take(&mut self.proxy).with_password_file(file);
            (self.proxy, self.proxy_at) = (setting.map_err(failed(PASSWORD_FLAG))?, None);
        }
        Ok(())
    }

    /// The way out that `proxy` says, with the password that its file holds.
    pub(crate) fn outward(&self) -> Result<Outward, ConfigError> {
        self.proxy.open().map_err(|error| match self.proxy_at {
            Some(at) => self.error_at(at, format!("`proxyPasswordFile`: {error}")),
            None => {
                let error = Problem { line: 1, column: 1, reason: error.to_string(), help: error.help() };
                error.in_file(PASSWORD_FLAG)
            }
        })
    }

    /// An error at a place in this file.
    pub(crate) fn error_at(&self, at: (u64, u64), reason: String) -> ConfigError {
        Problem { line: at.0, column: at.1, reason, help: None }.in_file(&self.file)
    }
}

impl Problem {
    pub(crate) fn at(location: serde_saphyr::Location, reason: impl Into<String>) -> Self {
        Self { line: location.line(), column: location.column(), reason: reason.into(), help: None }
    }

    pub(crate) fn help(mut self, help: Option<String>) -> Self {
        self.help = help;
        self
    }

    fn in_file(self, file: &str) -> ConfigError {
        ConfigError {
            file: file.to_owned(),
            line: self.line,
            column: self.column,
            reason: self.reason,
            help: self.help,
        }
    }
}

impl std::fmt::Display for Warning {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}: {}", self.line, self.column, self.text)
    }
}

/// Reads a rule file's text.
///
/// # Errors
/// With the place, the reason and, where it is clear, what to write instead.
pub fn parse(file: &str, text: &str) -> Result<Config, ConfigError> {
    let raw: file::File = causeway_daemon::config::parse(file, text)?;
    raw.check(file).map_err(|problem| problem.in_file(file))
}

/// Reads a rule file.
///
/// # Errors
/// When it cannot be read, or as [`parse`].
pub fn load(path: &Path) -> Result<Config, ConfigError> {
    load_with(path, None)
}

/// The same, with a `data` folder that wins over the file's.
///
/// # Errors
/// As [`load`].
pub(crate) fn load_with(path: &Path, data: Option<&Path>) -> Result<Config, ConfigError> {
    let raw: file::File = causeway_daemon::config::load(path)?;
    let name = path.display().to_string();
    raw.with_data(data).check(&name).map_err(|problem| problem.in_file(&name))
}

/// The configuration that a bare service on the command line stands for: one rule that takes everything.
///
/// # Errors
/// When the service cannot be read.
pub(crate) fn from_url(service: &str) -> Result<Config, ConfigError> {
    let quoted = serde_json::Value::String(service::with_scheme(service));
    parse("--url", &format!("ingress:\n  - service: {quoted}\n"))
}

/// What is served while there is no rule file.
pub(crate) fn of_nobody() -> Config {
    let config =
        parse("(no rule file)", "ingress:\n  - service: hello_world\n").expect("it is fixed, and tested");
    Config { source: Source::Nobody, ..config }
}

/// What is served beside the Services of a cluster while there is no rule file.
pub(crate) fn of_cluster() -> Config {
    let config =
        parse("(no rule file)", "ingress:\n  - service: http_status:404\n").expect("it is fixed, and tested");
    Config { source: Source::Cluster, ..config }
}

/// One name to one service, and nothing else.
///
/// # Errors
/// When the service cannot be read.
pub(crate) fn exposed(name: &Pattern, service: &str) -> Result<Config, ConfigError> {
    let mut config = Config { source: Source::Exposed, ..from_url(service)? };
    for rule in &mut config.rules {
        rule.hostname = name.clone();
    }
    Ok(config)
}

/// What messages name in the place of a file.
const PASSWORD_FLAG: &str = "--proxy-password-file";
