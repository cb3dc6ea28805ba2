//! Environment variables over a configuration file.

use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::secret::MASK;
use super::{ConfigError, nearest, parse, read};

/// Loads a file, or the defaults without one, and lets the environment override single values.
///
/// The variable of a key is the prefix and the path to it, in capitals, words separated by `_`: with the prefix
/// `CAUSEWAY_EDGE`, `CAUSEWAY_EDGE_ACCESS_LOG_ENABLED` is `accessLog.enabled`. Its value is YAML; a list may also be
/// written as values separated by commas. A variable that is nearly a key's is an error; all others of the prefix
/// are left alone, since Kubernetes and people put other things there.
///
/// # Errors
/// As [`super::load`]; for a variable the error's `file` is its name.
pub fn load_with_env<T: DeserializeOwned + Serialize>(
    path: Option<&Path>,
    prefix: &str,
) -> Result<T, ConfigError> {
    let vars = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    load_with_vars(path, prefix, vars)
}

/// [`load_with_env`] with the variables given.
///
/// # Errors
/// As [`load_with_env`].
pub fn load_with_vars<T: DeserializeOwned + Serialize>(
    path: Option<&Path>,
    prefix: &str,
    vars: impl IntoIterator<Item = (String, String)>,
) -> Result<T, ConfigError> {
    let (name, text) = match path {
        Some(path) => (path.display().to_string(), read(path)?),
        None => ("(defaults)".to_owned(), String::new()),
    };
    // The file by itself first: its mistakes have a place there.
    let typed: T = parse(&name, &text)?;
    let start = format!("{prefix}_");
    let mut vars: Vec<(String, String)> =
        vars.into_iter().filter(|(var, _)| var.starts_with(&start)).collect();
    vars.sort_unstable();
    if vars.is_empty() {
        return Ok(typed);
    }

    let schema = serde_json::to_value(&typed).map_err(|error| ConfigError::new(&name, error.to_string()))?;
    let mut known = Vec::new();
    names(&schema, prefix, &mut Vec::new(), &mut known);
    let mut base: Value = parse(&name, &text)?;
    settle(&mut base, &schema);

    let mut overlay = Overlay { base, applied: Vec::new() };
    for (var, text) in vars {
        let Some((_, path, kind)) = known.iter().find(|(name, ..)| *name == var) else {
            refuse_slip(&var, &start, &known)?;
            continue;
        };
        overlay.apply::<T>(&var, path, kind, &text)?;
    }
    overlay.finish()
}

/// A key's variable, its path and what its value is without the variable.
type Known<'a> = (String, Vec<String>, &'a Value);

/// Lists the variables of all keys of `schema`, inner ones included.
fn names<'a>(schema: &'a Value, prefix: &str, path: &mut Vec<String>, known: &mut Vec<Known<'a>>) {
    let Value::Object(map) = schema else { return };
    for (key, value) in map {
        let name = format!("{prefix}_{}", screaming(key));
        path.push(key.clone());
        names(value, &name, path, known);
        known.push((name, path.clone(), value));
        path.pop();
    }
}

/// `accessLog` and `access-log` to `ACCESS_LOG`.
fn screaming(key: &str) -> String {
    let mut name = String::with_capacity(key.len() + 4);
    let mut after_lower = false;
    for c in key.chars() {
        if c.is_ascii_uppercase() && after_lower {
            name.push('_');
        }
        after_lower = c.is_ascii_lowercase() || c.is_ascii_digit();
        name.push(if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' });
    }
    name
}

/// Untyped YAML takes the text `1.10` for a number. Where the checked form of the same value is a text, that one is
/// right; a masked secret is the exception, and stays a text of its own.
fn settle(untyped: &mut Value, typed: &Value) {
    match (untyped, typed) {
        (Value::Object(map), Value::Object(checked)) => {
            for (key, value) in map {
                if let Some(checked) = checked.get(key) {
                    settle(value, checked);
                }
            }
        }
        (Value::Array(list), Value::Array(checked)) if list.len() == checked.len() => {
            list.iter_mut().zip(checked).for_each(|(value, checked)| settle(value, checked));
        }
        (value @ (Value::Number(_) | Value::Bool(_)), Value::String(text)) => {
            *value = Value::String(if text == MASK { value.to_string() } else { text.clone() });
        }
        _ => {}
    }
}

/// A misspelt variable does nothing, and a person searches for hours. Names that Kubernetes makes from a Service of
/// the same name (`…_SERVICE_HOST`, `…_PORT_443_TCP`) are no slips.
fn refuse_slip(var: &str, start: &str, known: &[Known<'_>]) -> Result<(), ConfigError> {
    let rest = &var[start.len()..];
    if rest.starts_with("SERVICE_") || rest == "PORT" || rest.starts_with("PORT_") {
        return Ok(());
    }
    let rests: Vec<&str> = known.iter().map(|(name, ..)| &name[start.len()..]).collect();
    let likely = |near: &&str| strsim::damerau_levenshtein(rest, near) <= MAX_SLIPS;
    nearest(rest, &rests).filter(likely).map_or(Ok(()), |near| {
        let help = format!("did you mean `{start}{near}`?");
        Err(ConfigError::new(var, "no key of the configuration has this variable").help(help))
    })
}

/// Two letters wrong or swapped are a slip; more are another word.
const MAX_SLIPS: usize = 2;

struct Overlay {
    base: Value,
    applied: Vec<(String, Vec<String>, Value)>,
}

impl Overlay {
    /// Takes the first reading of `text` with which the configuration is right.
    fn apply<T: DeserializeOwned>(
        &mut self,
        var: &str,
        path: &[String],
        kind: &Value,
        text: &str,
    ) -> Result<(), ConfigError> {
        let readings = readings(var, kind, text);
        let mut last = None;
        for reading in &readings {
            let mut alone = self.base.clone();
            put(&mut alone, path, reading.clone());
            match serde_json::from_value::<T>(alone) {
                Ok(_) => {
                    self.applied.push((var.to_owned(), path.to_owned(), reading.clone()));
                    return Ok(());
                }
                Err(error) => last = Some(error),
            }
        }
        // Only together with others may it be right (two keys of one new section): the whole decides. A value that
        // replaces one that is there can be judged now.
        let (Some(error), false) = (last, kind.is_null()) else {
            self.applied.push((var.to_owned(), path.to_owned(), readings[0].clone()));
            return Ok(());
        };
        Err(ConfigError::new(var, error.to_string()).help(format!("this variable sets `{}`", path.join("."))))
    }

    fn finish<T: DeserializeOwned>(mut self) -> Result<T, ConfigError> {
        let mut vars = Vec::new();
        for (var, path, value) in self.applied {
            put(&mut self.base, &path, value);
            vars.push(var);
        }
        serde_json::from_value(self.base)
            .map_err(|error| ConfigError::new(vars.join(", "), error.to_string()))
    }
}

/// How `text` may be meant, the likeliest first; never empty.
fn readings(var: &str, kind: &Value, text: &str) -> Vec<Value> {
    let as_text = Value::String(text.to_owned());
    let as_yaml = parse::<Value>(var, text).ok().filter(|_| !text.trim().is_empty());
    let as_list =
        || Value::Array(text.split(',').map(|item| Value::String(item.trim().to_owned())).collect());
    match (kind, as_yaml) {
        (Value::String(_), _) => vec![as_text],
        (Value::Array(_), Some(list @ Value::Array(_))) => vec![list, as_list()],
        (Value::Array(_), _) if text.trim().is_empty() => vec![Value::Array(Vec::new())],
        (Value::Array(_), _) => vec![as_list()],
        (_, Some(yaml)) => vec![yaml, as_text, as_list()],
        (_, None) => vec![as_text, as_list()],
    }
}

fn put(base: &mut Value, path: &[String], value: Value) {
    let Some((key, rest)) = path.split_first() else {
        *base = value;
        return;
    };
    if !base.is_object() {
        *base = Value::Object(Map::new());
    }
    let map = base.as_object_mut().expect("made one above");
    put(map.entry(key.clone()).or_insert(Value::Null), rest, value);
}
