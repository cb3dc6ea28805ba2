//! What goes wrong in T's code, in a form that any error can be made of.

use std::fmt;

use serde::de::{Error, Expected, Unexpected};

/// Why T's code did not go on.
#[derive(Debug)]
pub(super) enum Failure {
    /// The parser has the reason.
    Below,
    Custom(String),
    InvalidType(String, String),
    InvalidValue(String, String),
    InvalidLength(usize, String),
    UnknownVariant(String, &'static [&'static str]),
    UnknownField(String, &'static [&'static str]),
    MissingField(&'static str),
    DuplicateField(&'static str),
}

impl Failure {
    /// As an error of the parser's. `Below` is what its own error was found for before.
    pub(super) fn made<E: Error>(self) -> E {
        match self {
            Self::Below => E::custom("the value cannot be read"),
            Self::Custom(text) => E::custom(text),
            Self::InvalidType(found, wanted) => E::invalid_type(Unexpected::Other(&found), &wanted.as_str()),
            Self::InvalidValue(found, wanted) => {
                E::invalid_value(Unexpected::Other(&found), &wanted.as_str())
            }
            Self::InvalidLength(length, wanted) => E::invalid_length(length, &wanted.as_str()),
            Self::UnknownVariant(variant, known) => E::unknown_variant(&variant, known),
            Self::UnknownField(field, known) => E::unknown_field(&field, known),
            Self::MissingField(field) => E::missing_field(field),
            Self::DuplicateField(field) => E::duplicate_field(field),
        }
    }
}

impl fmt::Display for Failure {
    /// For the error chain only: see [`Failure::made`].
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

impl std::error::Error for Failure {}

impl Error for Failure {
    fn custom<M: fmt::Display>(text: M) -> Self {
        Self::Custom(text.to_string())
    }

    fn invalid_type(found: Unexpected<'_>, wanted: &dyn Expected) -> Self {
        Self::InvalidType(found.to_string(), wanted.to_string())
    }

    fn invalid_value(found: Unexpected<'_>, wanted: &dyn Expected) -> Self {
        Self::InvalidValue(found.to_string(), wanted.to_string())
    }

    fn invalid_length(length: usize, wanted: &dyn Expected) -> Self {
        Self::InvalidLength(length, wanted.to_string())
    }

    fn unknown_variant(variant: &str, known: &'static [&'static str]) -> Self {
        Self::UnknownVariant(variant.to_owned(), known)
    }

    fn unknown_field(field: &str, known: &'static [&'static str]) -> Self {
        Self::UnknownField(field.to_owned(), known)
    }

    fn missing_field(field: &'static str) -> Self {
        Self::MissingField(field)
    }

    fn duplicate_field(field: &'static str) -> Self {
        Self::DuplicateField(field)
    }
}
