//! Keys that nobody here knows: kept with their place instead of refused, since cloudflared reads such files.

use std::fmt;

use serde::de::value::StringDeserializer;
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, IntoDeserializer, MapAccess, Visitor};
use serde::{Deserialize, forward_to_deserialize_any};
use serde_saphyr::{Location, Spanned};

/// A struct of the file and what else stood in its mapping.
#[derive(Clone, Debug)]
pub(super) struct Tolerant<T> {
    pub(super) value: T,
    pub(super) foreign: Vec<Foreign>,
    /// The struct's own keys.
    pub(super) known: &'static [&'static str],
}

/// A key without a meaning.
#[derive(Clone, Debug)]
pub(super) struct Foreign {
    pub(super) key: String,
    pub(super) at: Location,
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Tolerant<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (mut foreign, mut known): (_, &[&str]) = (Vec::new(), &[]);
        let value = T::deserialize(Sieve { inner: deserializer, foreign: &mut foreign, known: &mut known })?;
        Ok(Self { value, foreign, known })
    }
}

/// Hands a struct only the keys that it knows: the derived code says which those are.
struct Sieve<'a, D> {
    inner: D,
    foreign: &'a mut Vec<Foreign>,
    known: &'a mut &'static [&'static str],
}

impl<'de, D: Deserializer<'de>> Deserializer<'de> for Sieve<'_, D> {
    type Error = D::Error;

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        *self.known = fields;
        self.inner.deserialize_struct(
            name,
            fields,
            Sieve { inner: visitor, foreign: self.foreign, known: self.known },
        )
    }

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        self.inner.deserialize_any(visitor)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}

impl<'de, V: Visitor<'de>> Visitor<'de> for Sieve<'_, V> {
    type Value = V::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.expecting(f)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<V::Value, A::Error> {
        self.inner.visit_map(Sieve { inner: map, foreign: self.foreign, known: self.known })
    }
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for Sieve<'_, A> {
    type Error = A::Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, A::Error> {
        while let Some(key) = self.inner.next_key::<Spanned<String>>()? {
            if self.known.contains(&key.value.as_str()) {
                let key: StringDeserializer<A::Error> = key.value.into_deserializer();
                return seed.deserialize(key).map(Some);
            }
            self.inner.next_value::<IgnoredAny>()?;
            if self.foreign.len() >= MAX_FOREIGN {
                return Err(A::Error::custom("too many keys here mean nothing: is this the right file?"));
            }
            self.foreign.push(Foreign { key: key.value, at: key.referenced });
        }
        Ok(None)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, A::Error> {
        self.inner.next_value_seed(seed)
    }
}

/// More unknown keys in one mapping are no slip and no note to oneself.
const MAX_FOREIGN: usize = 100;
