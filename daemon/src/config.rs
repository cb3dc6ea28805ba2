//! Configuration files: YAML into checked structs, with errors that name the place, the reason and the mend.
//!
//! The file is the base; variables of the environment override single values of it (see [`load_with_env`]).

pub mod duration;
mod env;
mod erased;
mod secret;
mod slips;

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use serde::de::DeserializeOwned;
use serde_saphyr::Error as YamlError;
use slips::{Place, Slip};

pub use env::{load_with_env, load_with_vars};
pub use secret::{Secret, SecretError};

/// A mistake in a configuration, displayed as `FILE:LINE:COLUMN: reason; help`.
///
/// Whoever checks a value beyond its type makes one as well, so that all of them look alike.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// The file as it was given, or the name of an environment variable.
    pub file: String,
    /// Counted from 1; 0 when the mistake is not at a place in a file (it cannot be read, say).
    pub line: u64,
    /// Counted from 1, in characters; 0 as for `line`.
    pub column: u64,
    /// What is wrong, lower case, without a full stop.
    pub reason: String,
    /// What mends it, when that is known.
    pub help: Option<String>,
}

impl ConfigError {
    /// A mistake without a place within `file`.
    pub fn new(file: impl Into<String>, reason: impl Into<String>) -> Self {
        Self { file: file.into(), line: 0, column: 0, reason: reason.into(), help: None }
    }

    /// The same mistake at a place. Lines and columns count from 1.
    #[must_use]
    pub fn at(mut self, line: u64, column: u64) -> Self {
        (self.line, self.column) = (line, column);
        self
    }

    /// The same mistake with its mend.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if self.line > 0 {
            write!(f, ":{}:{}", self.line, self.column)?;
        }
        write!(f, ": {}", self.reason)?;
        self.help.as_ref().map_or(Ok(()), |help| write!(f, "; {help}"))
    }
}

impl std::error::Error for ConfigError {}

/// Parses the text of a file named `file_name`. An empty text counts as a mapping without keys.
///
/// Unknown keys are errors where `T` denies them (`#[serde(deny_unknown_fields)]`).
///
/// # Errors
/// The first mistake, with its place.
pub fn parse<T: DeserializeOwned>(file_name: &str, text: &str) -> Result<T, ConfigError> {
    if text.len() > MAX_FILE_BYTES {
        return Err(too_large(file_name));
    }
    // A file of comments alone is a null to YAML and "all defaults" to a person.
    let blank = text.lines().all(|line| line.trim_start().is_empty() || line.trim_start().starts_with('#'));
    let text = if blank { "{}" } else { text };
    serde_saphyr::with_deserializer_from_str_with_options(text, options(), |yaml| erased::read(yaml))
        .map_err(|error| explain(file_name, text, &error))
}

/// Reads and parses a file.
///
/// # Errors
/// When it cannot be read, and as [`parse`].
pub fn load<T: DeserializeOwned>(path: &Path) -> Result<T, ConfigError> {
    parse(&path.display().to_string(), &read(path)?)
}

fn read(path: &Path) -> Result<String, ConfigError> {
    let name = path.display().to_string();
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(MAX_FILE_BYTES as u64 + 1).read_to_end(&mut bytes))
        .map_err(|error| ConfigError::new(&name, format!("cannot read the configuration: {error}")))?;
    if bytes.len() > MAX_FILE_BYTES {
        return Err(too_large(&name));
    }
    String::from_utf8(bytes).map_err(|error| {
        let good = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = good.iter().filter(|&&byte| byte == b'\n').count() as u64 + 1;
        let start = good.iter().rposition(|&byte| byte == b'\n').map_or(0, |end| end + 1);
        let column = String::from_utf8_lossy(&good[start..]).chars().count() as u64 + 1;
        ConfigError::new(&name, "this is not UTF-8 text").at(line, column).help("save the file as UTF-8")
    })
}

fn too_large(file: &str) -> ConfigError {
    ConfigError::new(file, format!("a configuration has at most {} KiB", MAX_FILE_BYTES / 1024))
}

/// Far above any real rule file (10,000 rules are about 1 MB), far below what could hurt.
const MAX_FILE_BYTES: usize = 4 << 20;

fn options() -> serde_saphyr::Options {
    serde_saphyr::options! {
        // Aliases multiply: these bound what a small file can grow into. Depth bounds the stack.
        budget: serde_saphyr::budget! {
            max_depth: 64,
            max_nodes: 500_000,
            max_events: 1_500_000,
            max_aliases: 10_000,
            max_anchors: 10_000,
            max_documents: 1,
        },
        // The text is quoted by nobody: our errors are one line.
        with_snippet: false,
    }
}

/// The mistake in our words: a reader of such files knows neither serde nor the grammar of YAML.
pub fn explain(file: &str, text: &str, error: &YamlError) -> ConfigError {
    let error = error.without_snippet();
    // A mistake behind an alias: its cause is the inner error, its place is where the alias stands.
    let (line, column) =
        error.location().map_or((1, 1), |place| (place.line().max(1), place.column().max(1)));
    let cause = match error {
        YamlError::AliasError { error, .. } => error.without_snippet(),
        other => other,
    };
    let place = Place::new(text, line, column);
    let (reason, help) = match cause {
        // `-hostname: x` is a key to YAML.
        YamlError::SerdeUnknownField { field, .. } if field.starts_with('-') => return broken(file, place),
        YamlError::SerdeUnknownField { field, expected, .. } => {
            (format!("unknown key `{field}`"), suggestion(field, expected))
        }
        YamlError::SerdeUnknownVariant { variant, expected, .. } => {
            (format!("unknown value `{variant}`"), suggestion(variant, expected))
        }
        YamlError::SerdeMissingField { field, .. } => (format!("the key `{field}` is missing"), None),
        YamlError::DuplicateMappingKey { key: Some(key), .. } => {
            let help = "remove one of the two, or write both values under one key";
            (format!("the key `{key}` stands here a second time"), Some(help.to_owned()))
        }
        YamlError::Message { msg, .. } => (msg.clone(), None),
        YamlError::SerdeInvalidType { expected, .. } | YamlError::SerdeInvalidValue { expected, .. } => {
            return wrong_kind(file, place, expected);
        }
        YamlError::Unexpected { expected, .. } => return wrong_kind(file, place, expected),
        YamlError::InvalidScalar { ty, .. } => return wrong_kind(file, place, ty),
        YamlError::InvalidBooleanStrict { .. } => return wrong_kind(file, place, "boolean"),
        YamlError::NullIntoString { .. } => return wrong_kind(file, place, "string"),
        YamlError::MultipleDocuments { .. } => (
            "a second document begins here".to_owned(),
            Some("a configuration is one: remove the `---`".to_owned()),
        ),
        YamlError::Budget { .. }
        | YamlError::AliasReplayCounterOverflow { .. }
        | YamlError::AliasReplayLimitExceeded { .. }
        | YamlError::AliasExpansionLimitExceeded { .. }
        | YamlError::AliasReplayStackDepthExceeded { .. } => {
            ("the file is too large, too deep, or repeats its anchors too often".to_owned(), None)
        }
        YamlError::UnsupportedTag { tag, .. } => {
            (format!("the tag `{tag}` means nothing here"), Some("leave it out".to_owned()))
        }
        _ => return broken(file, place),
    };
    // Who reads the message must find the line: a value alone may stand in many.
    let reason =
        match place.key().filter(|key| is_about_a_value(cause) && !reason.contains(&format!("`{key}`"))) {
            Some(key) => format!("`{key}`: {reason}"),
            None => reason,
        };
    place.error(file, &reason, help)
}

fn is_about_a_value(error: &YamlError) -> bool {
    matches!(
        error,
        YamlError::Message { .. } | YamlError::SerdeUnknownVariant { .. } | YamlError::UnsupportedTag { .. }
    )
}

/// A list where a value is wanted, a word where a number is: what the key takes, and what stands there.
fn wrong_kind(file: &str, place: Place<'_>, expected: &str) -> ConfigError {
    if let Some(slip) = place.slip_here() {
        return place.told(file, slip);
    }
    let value = place.value();
    let wanted = match expected {
        "sequence start" | "a sequence" => "a list",
        "mapping start" | "a map" => "a mapping: keys of its own, indented below it",
        "boolean" | "a boolean" | "bool" => "`true` or `false`",
        "u8" | "u16" | "u32" | "u64" | "usize" | "i64" | "an integer" => "a whole number",
        "floating point" | "f32" | "f64" => "a number",
        "scalar" | "string scalar" | "string" | "a string" => "a single value",
        "socket address" => "an address and a port",
        other if other.starts_with("struct ") => "a mapping: keys of its own, indented below it",
        other => other,
    };
    let reason = match (place.key(), value) {
        (Some(key), Some(value)) => format!("`{key}` is {wanted}, not {}", value.trim()),
        (Some(key), None) => format!("`{key}` is {wanted}, and here is {}", place.found()),
        (None, _) => format!("here must be {wanted}, and there is {}", place.found()),
    };
    let help = match (wanted, place.key(), value) {
        ("a list", Some(key), Some(value)) => {
            let quoted =
                if value.starts_with(['"', '\'']) { value.to_owned() } else { format!("\"{value}\"") };
            Some(format!("write `{key}: [{quoted}]`"))
        }
        ("an address and a port", ..) => Some("as in 127.0.0.1:8080 or [::1]:8080".to_owned()),
        _ => None,
    };
    place.error(file, &reason, help)
}

/// What is no YAML at all.
fn broken(file: &str, place: Place<'_>) -> ConfigError {
    let slip = place.slip().unwrap_or_else(|| Slip {
        at: None,
        reason: "this is not YAML".to_owned(),
        help: "look at the indentation, at the space after each colon, and for a bracket or a quotation mark that is \
               not closed, in this line and the one above"
            .to_owned(),
    });
    place.told(file, slip)
}

impl Place<'_> {
    fn error(&self, file: &str, reason: &str, help: Option<String>) -> ConfigError {
        ConfigError {
            file: file.to_owned(),
            line: self.line,
            column: self.column,
            reason: one_line(reason),
            help: help.map(|help| one_line(&help)),
        }
    }

    fn told(mut self, file: &str, slip: Slip) -> ConfigError {
        if let Some((line, column)) = slip.at {
            (self.line, self.column) = (line, column);
        }
        self.error(file, &slip.reason, Some(slip.help))
    }
}

/// What a file says stands in its errors: none of it may break the line or colour the terminal.
fn one_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() { line.extend(c.escape_default()) } else { line.push(c) }
    }
    line
}

/// ``did you mean `x`?``, or the whole choice when nothing is near and the choice is short.
pub(crate) fn suggestion<S: AsRef<str>>(word: &str, known: &[S]) -> Option<String> {
    if let Some(near) = nearest(word, known) {
        return Some(format!("did you mean `{near}`?"));
    }
    let listed: Vec<String> = known.iter().map(|key| format!("`{}`", key.as_ref())).collect();
    (1..=MAX_LISTED).contains(&listed.len()).then(|| format!("possible here: {}", listed.join(", ")))
}

/// The known word that `word` is most likely a slip of.
pub fn nearest<'a, S: AsRef<str>>(word: &str, known: &'a [S]) -> Option<&'a str> {
    let flat = |text: &str| text.replace(['-', '_'], "").to_lowercase();
    let word = flat(word);
    known
        .iter()
        .map(|key| (strsim::jaro_winkler(&word, &flat(key.as_ref())), key.as_ref()))
        .filter(|(likeness, _)| *likeness >= LIKENESS)
        .max_by(|one, other| one.0.total_cmp(&other.0))
        .map(|(_, key)| key)
}

/// Where a person still sees the slip: `orignRequest` for `originRequest` has 0.98, `host` for `hostname` 0.90,
/// `path` for `port` 0.70.
const LIKENESS: f64 = 0.8;

/// More than this on one line helps nobody.
const MAX_LISTED: usize = 12;

#[cfg(test)]
mod tests;
