//! One reader for all types: serde would compile the parser of YAML anew for each type that a configuration is made of,
//! and that is a tenth of a small program.
//!
//! A type reads from a [`Reader`], behind which a [`Source`] stands as a trait object; what the source finds comes back
//! through a [`Sink`], one as well. The parser so sees one kind of visitor, the [`Door`], and one kind of seed:
//!
//! ```text
//! T::deserialize(Reader) ── Source::read(Wanted, Sink) ──> deserializer.deserialize_…(Door)
//!        T's visitor     <────── Sink::take(Found) ──────  Door::visit_…
//! ```
//!
//! The parser's errors are not looked at: each stays with the [`Once`] or [`Inner`] that met it, and T's code gets
//! [`Failure::Below`] until the way back to the parser leads past there. Those that T's code makes are made once more
//! as the parser's own, which knows the place.

mod failure;
mod parser;
mod typed;

use std::fmt;

use serde::de::{Deserialize, Deserializer};

use failure::Failure;
use parser::Once;
use typed::Reader;

/// Reads a `T` with as little code for it as there can be.
pub(super) fn read<'de, T, D>(deserializer: D) -> Result<T, D::Error>
where
    T: Deserialize<'de>,
    D: Deserializer<'de>,
{
    let mut source = Once::new(deserializer);
    T::deserialize(Reader(&mut source)).map_err(|failure| source.error(failure))
}

/// What T's code calls of a deserializer, in one word: of what no configuration has, such as bytes, the nearest.
#[derive(Clone, Copy)]
enum Wanted {
    Any,
    Bool,
    I64,
    U8,
    U16,
    U32,
    U64,
    F64,
    Str,
    String,
    Option,
    Unit,
    NewtypeStruct(&'static str),
    Seq,
    Tuple(usize),
    Map,
    Struct(&'static str, &'static [&'static str]),
    Enum(&'static str, &'static [&'static str]),
    Identifier,
    IgnoredAny,
}

/// What a visitor is shown, in one word.
enum Found<'a, 'de> {
    Bool(bool),
    I64(i64),
    U64(u64),
    F64(f64),
    Str(&'a str),
    String(String),
    None,
    Some(&'a mut dyn Source<'de>),
    Unit,
    Newtype(&'a mut dyn Source<'de>),
    Seq(&'a mut dyn Items<'de>),
    Map(&'a mut dyn Items<'de>),
    Enum(&'a mut dyn Items<'de>),
}

trait Source<'de> {
    fn read(&mut self, wanted: Wanted, into: &mut dyn Sink<'de>) -> Result<(), Failure>;
}

trait Sink<'de> {
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result;
    fn take(&mut self, found: Found<'_, 'de>) -> Result<(), Failure>;
}

trait Seed<'de> {
    fn grow(&mut self, source: &mut dyn Source<'de>) -> Result<(), Failure>;
}

/// The elements of a list, the keys and values of a mapping, a variant and what is in it.
trait Items<'de> {
    /// Whether there was one.
    fn next(&mut self, seed: &mut dyn Seed<'de>) -> Result<bool, Failure>;
    fn value(&mut self, seed: &mut dyn Seed<'de>) -> Result<(), Failure>;
    /// A variant's content that is not one value.
    fn content(&mut self, wanted: Wanted, into: &mut dyn Sink<'de>) -> Result<(), Failure>;
    fn size_hint(&self) -> Option<usize>;
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde::Deserialize;
    use serde_saphyr::Spanned;

    #[derive(Debug, PartialEq, Deserialize)]
    enum Choice {
        Unit,
        Newtype(u16),
        Tuple(i8, char),
        Struct { inner: Option<f32> },
    }

    #[derive(Debug, PartialEq, Deserialize)]
    struct Wrapped(i128);

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct All {
        choices: Vec<Choice>,
        placed: Spanned<BTreeMap<String, (bool, Wrapped)>>,
        nothing: (),
        any: serde_json::Value,
        #[serde(default)]
        folder: std::path::PathBuf,
    }

    const GOOD: &str = "choices: [Unit, Newtype: 7, {Tuple: [-1, x]}, {Struct: {inner: 0.5}}, {Struct: {}}]\nplaced:\n  a: [true, -5]\n\
                        nothing: ~\nany: {list: [1, -1, 2.5, no, ~, text]}\n";

    /// As the parser by itself reads it.
    fn directly(text: &str) -> Result<All, serde_saphyr::Error> {
        serde_saphyr::from_str_with_options(text, crate::config::options())
    }

    fn erased(text: &str) -> Result<All, serde_saphyr::Error> {
        let options = crate::config::options();
        serde_saphyr::with_deserializer_from_str_with_options(text, options, |yaml| super::read(yaml))
    }

    #[test]
    fn every_kind_of_value_is_read_as_the_parser_reads_it() {
        assert_eq!(erased(GOOD).unwrap(), directly(GOOD).unwrap());
    }

    #[test]
    fn every_mistake_is_the_parsers_own_at_its_place() {
        for (good, wrong) in [
            ("nothing: ~", "nothin: ~"),
            ("nothing: ~\n", ""),
            ("nothing: ~", "nothing: ~\nnothing: ~"),
            ("nothing: ~", "nothing: [1]"),
            ("Newtype: 7", "Newtype: seven"),
            ("Newtype: 7", "Newtype: 70000"),
            ("Unit,", "Union,"),
            ("[-1, x]", "[-1]"),
            ("[-1, x]", "[-129, x]"),
            ("inner: 0.5", "inner: {}"),
            ("a: [true, -5]", "a: [true, -5"),
            ("a: [true, -5]", "a: [yes please, -5]"),
            ("a: [true, -5]", "- a"),
            ("any: {", "any: !odd {a: *b, "),
        ] {
            let text = GOOD.replace(good, wrong);
            assert_ne!(text, GOOD);
            let explained = |error| crate::config::explain("f", &text, &error).to_string();
            assert_eq!(
                explained(erased(&text).unwrap_err()),
                explained(directly(&text).unwrap_err()),
                "{text}"
            );
        }
    }
}
