//! The parser's side: its deserializers behind trait objects, and the one visitor and the one seed that it sees.

use std::fmt;

use serde::de::{
    DeserializeSeed, Deserializer, EnumAccess, Error, MapAccess, SeqAccess, VariantAccess, Visitor,
};

use super::failure::Failure;
use super::{Found, Items, Seed, Sink, Source, Wanted};

/// A deserializer, until it is read, and then its error.
pub(super) struct Once<D, E> {
    inner: Option<D>,
    error: Option<E>,
}

impl<'de, D: Deserializer<'de>> Once<D, D::Error> {
    pub(super) fn new(inner: D) -> Self {
        Self { inner: Some(inner), error: None }
    }

    pub(super) fn error(&mut self, failure: Failure) -> D::Error {
        at_hand(&mut self.error, failure)
    }
}

/// The parser's own error where there is one.
fn at_hand<E: Error>(own: &mut Option<E>, failure: Failure) -> E {
    match (failure, own.take()) {
        (Failure::Below, Some(error)) => error,
        (failure, _) => failure.made(),
    }
}

impl<'de, D: Deserializer<'de>> Source<'de> for Once<D, D::Error> {
    fn read(&mut self, wanted: Wanted, into: &mut dyn Sink<'de>) -> Result<(), Failure> {
        let inner = self.inner.take().ok_or(Failure::Below)?;
        let door = Door(into);
        let read = match wanted {
            Wanted::Any => inner.deserialize_any(door),
            Wanted::Bool => inner.deserialize_bool(door),
            Wanted::I64 => inner.deserialize_i64(door),
            Wanted::U8 => inner.deserialize_u8(door),
            Wanted::U16 => inner.deserialize_u16(door),
            Wanted::U32 => inner.deserialize_u32(door),
            Wanted::U64 => inner.deserialize_u64(door),
            Wanted::F64 => inner.deserialize_f64(door),
            Wanted::Str => inner.deserialize_str(door),
            Wanted::String => inner.deserialize_string(door),
            Wanted::Option => inner.deserialize_option(door),
            Wanted::Unit => inner.deserialize_unit(door),
            Wanted::NewtypeStruct(name) => inner.deserialize_newtype_struct(name, door),
            Wanted::Seq => inner.deserialize_seq(door),
            Wanted::Tuple(length) => inner.deserialize_tuple(length, door),
            Wanted::Map => inner.deserialize_map(door),
            Wanted::Struct(name, fields) => inner.deserialize_struct(name, fields, door),
            Wanted::Enum(name, variants) => inner.deserialize_enum(name, variants, door),
            Wanted::Identifier => inner.deserialize_identifier(door),
            Wanted::IgnoredAny => inner.deserialize_ignored_any(door),
        };
        read.map_err(|error| {
            self.error = Some(error);
            Failure::Below
        })
    }
}

/// The only visitor that the parser sees.
struct Door<'a, 'de>(&'a mut dyn Sink<'de>);

impl<'de> Door<'_, 'de> {
    fn pass<E: Error>(self, found: Found<'_, 'de>) -> Result<(), E> {
        self.0.take(found).map_err(Failure::made)
    }
}

impl<'de> Visitor<'de> for Door<'_, 'de> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.expecting(f)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<(), E> {
        self.pass(Found::Bool(value))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<(), E> {
        self.pass(Found::I64(value))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<(), E> {
        self.pass(Found::U64(value))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<(), E> {
        self.pass(Found::F64(value))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<(), E> {
        self.pass(Found::Str(value))
    }

    fn visit_string<E: Error>(self, value: String) -> Result<(), E> {
        self.pass(Found::String(value))
    }

    fn visit_none<E: Error>(self) -> Result<(), E> {
        self.pass(Found::None)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        let mut source = Once::new(deserializer);
        self.0.take(Found::Some(&mut source)).map_err(|failure| source.error(failure))
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        self.pass(Found::Unit)
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        let mut source = Once::new(deserializer);
        self.0.take(Found::Newtype(&mut source)).map_err(|failure| source.error(failure))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, access: A) -> Result<(), A::Error> {
        let mut items = Inner { access: List(access), error: None };
        self.0.take(Found::Seq(&mut items)).map_err(|failure| at_hand(&mut items.error, failure))
    }

    fn visit_map<A: MapAccess<'de>>(self, access: A) -> Result<(), A::Error> {
        let mut items = Inner { access: Mapping(access), error: None };
        self.0.take(Found::Map(&mut items)).map_err(|failure| at_hand(&mut items.error, failure))
    }

    fn visit_enum<A: EnumAccess<'de>>(self, access: A) -> Result<(), A::Error> {
        let mut items = Inner { access: Choice::<A, A::Variant>::Open(access), error: None };
        self.0.take(Found::Enum(&mut items)).map_err(|failure| at_hand(&mut items.error, failure))
    }
}

impl<'de> DeserializeSeed<'de> for &mut dyn Seed<'de> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        let mut source = Once::new(deserializer);
        self.grow(&mut source).map_err(|failure| source.error(failure))
    }
}

/// What the parser hands a visitor of a list, a mapping or a choice, and the error that it met there.
struct Inner<A, E> {
    access: A,
    error: Option<E>,
}

impl<A, E> Inner<A, E> {
    fn keep<T>(&mut self, result: Result<T, E>) -> Result<T, Failure> {
        result.map_err(|error| {
            self.error = Some(error);
            Failure::Below
        })
    }
}

struct List<A>(A);
struct Mapping<A>(A);

enum Choice<A, V> {
    Open(A),
    Made(V),
    Over,
}

impl<'de, A: SeqAccess<'de>> Items<'de> for Inner<List<A>, A::Error> {
    fn next(&mut self, seed: &mut dyn Seed<'de>) -> Result<bool, Failure> {
        let found = self.access.0.next_element_seed(seed);
        self.keep(found).map(|found| found.is_some())
    }

    fn value(&mut self, _: &mut dyn Seed<'de>) -> Result<(), Failure> {
        Err(Failure::Below)
    }

    fn content(&mut self, _: Wanted, _: &mut dyn Sink<'de>) -> Result<(), Failure> {
        Err(Failure::Below)
    }

    fn size_hint(&self) -> Option<usize> {
        self.access.0.size_hint()
    }
}

impl<'de, A: MapAccess<'de>> Items<'de> for Inner<Mapping<A>, A::Error> {
    fn next(&mut self, seed: &mut dyn Seed<'de>) -> Result<bool, Failure> {
        let found = self.access.0.next_key_seed(seed);
        self.keep(found).map(|found| found.is_some())
    }

    fn value(&mut self, seed: &mut dyn Seed<'de>) -> Result<(), Failure> {
        let found = self.access.0.next_value_seed(seed);
        self.keep(found)
    }

    fn content(&mut self, _: Wanted, _: &mut dyn Sink<'de>) -> Result<(), Failure> {
        Err(Failure::Below)
    }

    fn size_hint(&self) -> Option<usize> {
        self.access.0.size_hint()
    }
}

impl<'de, A: EnumAccess<'de>> Items<'de> for Inner<Choice<A, A::Variant>, A::Error> {
    fn next(&mut self, seed: &mut dyn Seed<'de>) -> Result<bool, Failure> {
        let Choice::Open(access) = std::mem::replace(&mut self.access, Choice::Over) else {
            return Err(Failure::Below);
        };
        let ((), variant) = self.keep(access.variant_seed(seed))?;
        self.access = Choice::Made(variant);
        Ok(true)
    }

    fn value(&mut self, seed: &mut dyn Seed<'de>) -> Result<(), Failure> {
        let Choice::Made(variant) = std::mem::replace(&mut self.access, Choice::Over) else {
            return Err(Failure::Below);
        };
        self.keep(variant.newtype_variant_seed(seed))
    }

    fn content(&mut self, wanted: Wanted, into: &mut dyn Sink<'de>) -> Result<(), Failure> {
        let Choice::Made(variant) = std::mem::replace(&mut self.access, Choice::Over) else {
            return Err(Failure::Below);
        };
        let read = match wanted {
            Wanted::Tuple(length) => variant.tuple_variant(length, Door(into)),
            Wanted::Struct(_, fields) => variant.struct_variant(fields, Door(into)),
            _ => variant.unit_variant(),
        };
        self.keep(read)
    }

    fn size_hint(&self) -> Option<usize> {
        None
    }
}
