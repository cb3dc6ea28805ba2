//! The side of the type that is read: its visitors and seeds behind trait objects, and the one deserializer that they see.

use std::fmt;

use serde::de::{
    DeserializeSeed, Deserializer, EnumAccess, IgnoredAny, MapAccess, SeqAccess, VariantAccess, Visitor,
};

use super::failure::Failure;
use super::{Found, Items, Seed, Sink, Source, Wanted};

/// A visitor, and then what it made.
struct Slot<V, T> {
    visitor: Option<V>,
    value: Option<T>,
}

impl<'de, V: Visitor<'de>> Slot<V, V::Value> {
    fn fill(
        visitor: V,
        read: impl FnOnce(&mut dyn Sink<'de>) -> Result<(), Failure>,
    ) -> Result<V::Value, Failure> {
        let mut slot = Self { visitor: Some(visitor), value: None };
        read(&mut slot)?;
        slot.value.ok_or(Failure::Below)
    }
}

impl<'de, V: Visitor<'de>> Sink<'de> for Slot<V, V::Value> {
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.visitor.as_ref().map_or(Ok(()), |visitor| visitor.expecting(f))
    }

    fn take(&mut self, found: Found<'_, 'de>) -> Result<(), Failure> {
        let visitor = self.visitor.take().ok_or(Failure::Below)?;
        self.value = Some(match found {
            Found::Bool(value) => visitor.visit_bool(value),
            Found::I64(value) => visitor.visit_i64(value),
            Found::U64(value) => visitor.visit_u64(value),
            Found::F64(value) => visitor.visit_f64(value),
            Found::Str(value) => visitor.visit_str(value),
            Found::String(value) => visitor.visit_string(value),
            Found::None => visitor.visit_none(),
            Found::Some(source) => visitor.visit_some(Reader(source)),
            Found::Unit => visitor.visit_unit(),
            Found::Newtype(source) => visitor.visit_newtype_struct(Reader(source)),
            Found::Seq(items) => visitor.visit_seq(Walk(items)),
            Found::Map(items) => visitor.visit_map(Walk(items)),
            Found::Enum(items) => visitor.visit_enum(Walk(items)),
        }?);
        Ok(())
    }
}

/// A seed, and then what became of it.
struct Bed<S, T> {
    seed: Option<S>,
    value: Option<T>,
}

impl<'de, S: DeserializeSeed<'de>> Bed<S, S::Value> {
    fn new(seed: S) -> Self {
        Self { seed: Some(seed), value: None }
    }

    fn value(self) -> Result<S::Value, Failure> {
        self.value.ok_or(Failure::Below)
    }
}

impl<'de, S: DeserializeSeed<'de>> Seed<'de> for Bed<S, S::Value> {
    fn grow(&mut self, source: &mut dyn Source<'de>) -> Result<(), Failure> {
        let seed = self.seed.take().ok_or(Failure::Below)?;
        self.value = Some(seed.deserialize(Reader(source))?);
        Ok(())
    }
}

/// The only deserializer that T's code sees.
pub(super) struct Reader<'a, 'de>(pub(super) &'a mut dyn Source<'de>);

impl<'de> Reader<'_, 'de> {
    fn fill<V: Visitor<'de>>(self, wanted: Wanted, visitor: V) -> Result<V::Value, Failure> {
        Slot::fill(visitor, |slot| self.0.read(wanted, slot))
    }
}

/// One method a line, as they differ in nothing else.
macro_rules! wants {
    ($($method:ident($($name:ident: $kind:ty),*) $wanted:expr;)*) => {$(
        fn $method<V: Visitor<'de>>(self $(, $name: $kind)*, visitor: V) -> Result<V::Value, Failure> {
            self.fill($wanted, visitor)
        }
    )*};
}

impl<'de> Deserializer<'de> for Reader<'_, 'de> {
    type Error = Failure;

    wants! {
        deserialize_any() Wanted::Any;
        deserialize_bool() Wanted::Bool;
        deserialize_i8() Wanted::I64;
        deserialize_i16() Wanted::I64;
        deserialize_i32() Wanted::I64;
        deserialize_i64() Wanted::I64;
        deserialize_i128() Wanted::Any;
        deserialize_u8() Wanted::U8;
        deserialize_u16() Wanted::U16;
        deserialize_u32() Wanted::U32;
        deserialize_u64() Wanted::U64;
        deserialize_u128() Wanted::Any;
        deserialize_f32() Wanted::F64;
        deserialize_f64() Wanted::F64;
        deserialize_char() Wanted::Str;
        deserialize_str() Wanted::Str;
        deserialize_string() Wanted::String;
        deserialize_bytes() Wanted::Any;
        deserialize_byte_buf() Wanted::Any;
        deserialize_option() Wanted::Option;
        deserialize_unit() Wanted::Unit;
        deserialize_unit_struct(_name: &'static str) Wanted::Unit;
        deserialize_newtype_struct(name: &'static str) Wanted::NewtypeStruct(name);
        deserialize_seq() Wanted::Seq;
        deserialize_tuple(length: usize) Wanted::Tuple(length);
        deserialize_tuple_struct(_name: &'static str, length: usize) Wanted::Tuple(length);
        deserialize_map() Wanted::Map;
        deserialize_struct(name: &'static str, fields: &'static [&'static str]) Wanted::Struct(name, fields);
        deserialize_enum(name: &'static str, variants: &'static [&'static str]) Wanted::Enum(name, variants);
        deserialize_identifier() Wanted::Identifier;
        deserialize_ignored_any() Wanted::IgnoredAny;
    }
}

/// The only access to a list, a mapping or a choice that T's code sees.
struct Walk<'a, 'de>(&'a mut dyn Items<'de>);

impl<'de> Walk<'_, 'de> {
    fn next<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Failure> {
        let mut bed = Bed::new(seed);
        if self.0.next(&mut bed)? { bed.value().map(Some) } else { Ok(None) }
    }

    fn value<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Failure> {
        let mut bed = Bed::new(seed);
        self.0.value(&mut bed)?;
        bed.value()
    }
}

impl<'de> SeqAccess<'de> for Walk<'_, 'de> {
    type Error = Failure;

    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Failure> {
        self.next(seed)
    }

    fn size_hint(&self) -> Option<usize> {
        self.0.size_hint()
    }
}

impl<'de> MapAccess<'de> for Walk<'_, 'de> {
    type Error = Failure;

    fn next_key_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Failure> {
        self.next(seed)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Failure> {
        self.value(seed)
    }

    fn size_hint(&self) -> Option<usize> {
        self.0.size_hint()
    }
}

impl<'de> EnumAccess<'de> for Walk<'_, 'de> {
    type Error = Failure;
    type Variant = Self;

    fn variant_seed<S: DeserializeSeed<'de>>(mut self, seed: S) -> Result<(S::Value, Self), Failure> {
        let chosen = self.next(seed)?.ok_or(Failure::Below)?;
        Ok((chosen, self))
    }
}

impl<'de> VariantAccess<'de> for Walk<'_, 'de> {
    type Error = Failure;

    fn unit_variant(self) -> Result<(), Failure> {
        Slot::fill(IgnoredAny, |slot| {
            self.0.content(Wanted::Unit, slot)?;
            slot.take(Found::Unit)
        })
        .map(drop)
    }

    fn newtype_variant_seed<S: DeserializeSeed<'de>>(mut self, seed: S) -> Result<S::Value, Failure> {
        self.value(seed)
    }

    fn tuple_variant<V: Visitor<'de>>(self, length: usize, visitor: V) -> Result<V::Value, Failure> {
        Slot::fill(visitor, |slot| self.0.content(Wanted::Tuple(length), slot))
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Failure> {
        Slot::fill(visitor, |slot| self.0.content(Wanted::Struct("", fields), slot))
    }
}
