//! Label selectors, checked once as the API server does; kube matches them. Pure.

use std::collections::BTreeMap;

use kube::core::{Expression, SelectorExt};
use thiserror::Error;

use crate::api::{LabelSelector, Operator};

/// A selector that the API server would take.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selector(kube::core::Selector);

#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum SelectorError {
    #[error("operator {1:?} of the key `{0}` needs at least one value")]
    NoValues(String, Operator),
    #[error("operator {1:?} of the key `{0}` takes no values")]
    Values(String, Operator),
    #[error("`{0}` is not a label key")]
    Key(String),
    #[error("`{1}` is not a label value (key `{0}`)")]
    Value(String, String),
}

impl Selector {
    /// Matches everything, as an empty label selector does.
    pub fn everything() -> Self {
        Self::default()
    }

    /// # Errors
    /// When the API server would not take the selector as one.
    pub fn compile(selector: &LabelSelector) -> Result<Self, SelectorError> {
        let mut expressions =
            Vec::with_capacity(selector.match_labels.len() + selector.match_expressions.len());
        for (key, value) in &selector.match_labels {
            check(key, std::slice::from_ref(value))?;
            expressions.push(Expression::Equal(key.clone(), value.clone()));
        }
        for expression in &selector.match_expressions {
            let (key, values) = (&expression.key, &expression.values);
            check(key, values)?;
            let (key, set) = (key.clone(), values.iter().cloned().collect());
            expressions.push(match expression.operator {
                Operator::In | Operator::NotIn if values.is_empty() => {
                    return Err(SelectorError::NoValues(key, expression.operator));
                }
                Operator::Exists | Operator::DoesNotExist if !values.is_empty() => {
                    return Err(SelectorError::Values(key, expression.operator));
                }
                Operator::In => Expression::In(key, set),
                Operator::NotIn => Expression::NotIn(key, set),
                Operator::Exists => Expression::Exists(key),
                Operator::DoesNotExist => Expression::DoesNotExist(key),
            });
        }
        Ok(Self(expressions.into_iter().collect()))
    }

    /// Compiles a list of selectors, naming the one that is wrong by its index.
    ///
    /// # Errors
    /// As [`Selector::compile`].
    pub fn compile_all(selectors: &[LabelSelector]) -> Result<Vec<Self>, (usize, SelectorError)> {
        selectors.iter().enumerate().map(|(i, one)| Self::compile(one).map_err(|error| (i, error))).collect()
    }

    pub fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        self.0.matches(labels)
    }

    /// Whether any of the selectors matches; no selectors match nothing.
    pub fn any(selectors: &[Self], labels: &BTreeMap<String, String>) -> bool {
        selectors.iter().any(|selector| selector.matches(labels))
    }
}

fn check(key: &str, values: &[String]) -> Result<(), SelectorError> {
    let name = match key.split_once('/') {
        Some((prefix, name)) if is_prefix(prefix) => name,
        Some(_) => return Err(SelectorError::Key(key.to_owned())),
        None => key,
    };
    if name.is_empty() || !is_name(name) {
        return Err(SelectorError::Key(key.to_owned()));
    }
    match values.iter().find(|value| !value.is_empty() && !is_name(value)) {
        Some(value) => Err(SelectorError::Value(key.to_owned(), value.clone())),
        None => Ok(()),
    }
}

/// A qualified name: at most 63 letters, digits, `-`, `_`, `.`, with a letter or digit at both ends.
fn is_name(text: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    let ends = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = text.as_bytes();
    bytes.len() <= 63 && bytes.iter().copied().all(inner) && ends(bytes.first()) && ends(bytes.last())
}

/// A DNS subdomain, the optional prefix of a key.
fn is_prefix(text: &str) -> bool {
    let label = |label: &str| {
        !label.starts_with('-')
            && !label.ends_with('-')
            && !label.is_empty()
            && label.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
    };
    text.len() <= 253 && text.split('.').all(label)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::LabelSelectorRequirement;

    fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    fn expression(key: &str, operator: Operator, values: &[&str]) -> LabelSelector {
        let values = values.iter().map(|value| (*value).to_owned()).collect();
        let requirement = LabelSelectorRequirement { key: key.to_owned(), operator, values };
        LabelSelector { match_expressions: vec![requirement], ..LabelSelector::default() }
    }

    #[test]
    fn an_empty_selector_matches_everything_and_no_selectors_match_nothing() {
        let empty = Selector::compile(&LabelSelector::default()).unwrap();
        assert!(empty.matches(&labels(&[])));
        assert!(empty.matches(&labels(&[("a", "b")])));
        assert!(!Selector::any(&[], &labels(&[])));
    }

    #[test]
    fn operators_match_as_in_kubernetes() {
        let rack = labels(&[("rack", "a")]);
        for (operator, values, with, without) in [
            (Operator::In, &["a", "b"][..], true, false),
            (Operator::NotIn, &["a"][..], false, true),
            (Operator::Exists, &[][..], true, false),
            (Operator::DoesNotExist, &[][..], false, true),
        ] {
            let selector = Selector::compile(&expression("rack", operator, values)).unwrap();
            assert_eq!(selector.matches(&rack), with, "{operator:?}");
            assert_eq!(selector.matches(&labels(&[])), without, "{operator:?}");
        }
    }

    #[test]
    fn a_selector_that_kubernetes_refuses_is_refused() {
        for (key, operator, values) in [
            ("rack", Operator::In, &[][..]),
            ("rack", Operator::Exists, &["a"][..]),
            ("", Operator::Exists, &[][..]),
            ("-rack", Operator::Exists, &[][..]),
            ("Bad_Prefix/rack", Operator::Exists, &[][..]),
            ("rack", Operator::In, &["not a value"][..]),
        ] {
            assert!(
                Selector::compile(&expression(key, operator, values)).is_err(),
                "{key} {operator:?} {values:?}"
            );
        }
        assert!(Selector::compile(&expression("kubernetes.io/hostname", Operator::In, &["n1", ""])).is_ok());
    }
}
