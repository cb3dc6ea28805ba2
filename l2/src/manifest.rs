//! Manifests in files: YAML documents told apart by kind, for the commands that work without a cluster.

use std::path::Path;

use causeway_daemon::config::{self, ConfigError};
use serde::de::DeserializeOwned;
use serde_json::Value;
use thiserror::Error;

/// A document, and where it is from.
#[derive(Clone, Debug)]
pub(crate) struct Document {
    pub(crate) file: String,
    /// Its number in the file, from 1.
    pub(crate) number: usize,
    pub(crate) value: Value,
}

#[derive(Debug, Error)]
pub(crate) enum ManifestError {
    #[error("cannot read {0}")]
    Read(String, #[source] std::io::Error),
    #[error(transparent)]
    Yaml(#[from] ConfigError),
    #[error("{0}: {1}")]
    Shape(String, String),
}

/// Reads a file, or standard input for `-`.
///
/// # Errors
/// When it cannot be read or is no YAML.
pub(crate) fn read(path: &Path) -> Result<Vec<Document>, ManifestError> {
    let name = path.display().to_string();
    let text =
        if name == "-" { std::io::read_to_string(std::io::stdin()) } else { std::fs::read_to_string(path) };
    parse(&name, &text.map_err(|error| ManifestError::Read(name.clone(), error))?)
}

/// Every document of the text; empty ones are skipped, and a `List` is taken apart.
///
/// # Errors
/// When the text is no YAML.
pub(crate) fn parse(file: &str, text: &str) -> Result<Vec<Document>, ManifestError> {
    let values: Vec<Value> =
        serde_saphyr::from_multiple(text).map_err(|error| config::explain(file, text, &error))?;
    let mut documents = Vec::new();
    for (i, value) in values.into_iter().enumerate().filter(|(_, value)| !value.is_null()) {
        let items = match value.get("items").and_then(Value::as_array) {
            Some(items) if value["kind"].as_str().is_some_and(|kind| kind.ends_with("List")) => items.clone(),
            _ => vec![value],
        };
        let documents_of =
            items.into_iter().map(|value| Document { file: file.to_owned(), number: i + 1, value });
        documents.extend(documents_of);
    }
    Ok(documents)
}

/// What to call an object whose name Kubernetes refuses: RFC 1123, letters in lower case, digits, `-` and `.`. None:
/// the name is fine.
pub(crate) fn mended_name(name: &str) -> Option<String> {
    let is_fine = |label: &str| {
        !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
    };
    if name.len() <= MAX_NAME_BYTES && name.split('.').all(is_fine) {
        return None;
    }
    let plain = |c: char| if c.is_ascii_alphanumeric() || c == '.' { c.to_ascii_lowercase() } else { '-' };
    let text: String = name.chars().map(plain).take(MAX_NAME_BYTES).collect();
    let labels = text.split('.').map(|label| label.trim_matches('-')).filter(|label| !label.is_empty());
    let mended = labels.collect::<Vec<_>>().join(".");
    Some(if mended.is_empty() { "pool".to_owned() } else { mended })
}

/// Of a DNS subdomain, which names of objects have to be.
const MAX_NAME_BYTES: usize = 253;

impl Document {
    pub(crate) fn kind(&self) -> &str {
        self.value["kind"].as_str().unwrap_or_default()
    }

    pub(crate) fn group(&self) -> &str {
        self.value["apiVersion"]
            .as_str()
            .and_then(|version| version.split_once('/'))
            .map_or("", |(group, _)| group)
    }

    /// The part of apiVersion after the group.
    pub(crate) fn version(&self) -> &str {
        let text = self.value["apiVersion"].as_str().unwrap_or_default();
        text.rsplit_once('/').map_or(text, |(_, version)| version)
    }

    pub(crate) fn name(&self) -> &str {
        self.value["metadata"]["name"].as_str().unwrap_or_default()
    }

    pub(crate) fn namespace(&self) -> Option<&str> {
        self.value["metadata"]["namespace"].as_str()
    }

    /// `FILE#N Kind/name`, without the latter for a text that is no resource.
    pub(crate) fn place(&self) -> String {
        let place = format!("{}#{}", self.file, self.number);
        match self.kind() {
            "" => place,
            kind => format!("{place} {kind}/{}", self.name()),
        }
    }

    /// The document as one type.
    ///
    /// # Errors
    /// When it has not the shape; the text names the place.
    pub(crate) fn read<T: DeserializeOwned>(&self) -> Result<T, ManifestError> {
        serde_json::from_value(self.value.clone())
            .map_err(|error| ManifestError::Shape(self.place(), error.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::{mended_name, parse};

    #[test]
    fn a_manifest_that_is_no_yaml_is_told_in_one_line_with_its_place() {
        let text = "kind: IPAddressPool\nmetadata: { name: home }\nspec:\n\taddresses: []\n";
        let error = parse("pools.yaml", text).unwrap_err().to_string();
        assert!(error.starts_with("pools.yaml:4:1: the line is indented with a tab"), "{error}");
        assert!(!error.contains('\n'), "{error}");
    }

    #[test]
    fn a_name_that_kubernetes_refuses_gets_the_nearest_one_that_it_takes() {
        for fine in ["home", "a-b", "a.b", "0", "pool-1.lan"] {
            assert_eq!(mended_name(fine), None, "{fine}");
        }
        for (name, mended) in [
            ("my_pool", "my-pool"),
            ("Default", "default"),
            ("My Pool!", "my-pool"),
            ("-a-", "a"),
            ("a..b", "a.b"),
            ("a.-b", "a.b"),
            ("", "pool"),
            ("\u{fc}", "pool"),
        ] {
            assert_eq!(mended_name(name).as_deref(), Some(mended), "{name}");
            assert_eq!(mended_name(mended), None, "{mended}");
        }
        assert!(mended_name(&"a".repeat(300)).is_some_and(|name| name.len() == 253));
    }
}
