//! Field sections (RFC 9204) with the static table alone: we announce a dynamic table of no bytes, so that nothing of a
//! visitor is kept between two requests and no request waits for another (hazard 93). Pure.

mod huffman;
mod table;

use table::{FIELDS, Found, find};

/// Why a section was not decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SectionError {
    /// It breaks the format, or asks for a table that there is not.
    #[error("a field section that cannot be decoded")]
    Malformed,
    /// Its fields are longer than the limit, together.
    #[error("a field section that is too long")]
    TooLong,
}

/// What each field costs beyond its bytes (RFC 9114 §4.2.2).
const FIELD_OVERHEAD: usize = 32;

/// Decodes a section, field by field, in order. `limit` is on the sum of all.
///
/// # Errors
/// When it cannot be decoded, or `field` wants no more.
pub fn decode<E: From<SectionError>>(
    section: &[u8],
    limit: usize,
    mut field: impl FnMut(&[u8], &[u8]) -> Result<(), E>,
) -> Result<(), E> {
    let mut rest = section;
    let mut size = 0;
    let (mut name, mut value) = (Vec::new(), Vec::new());
    let inserts = integer(&mut rest, 8).ok_or(SectionError::Malformed)?;
    integer(&mut rest, 7).filter(|_| inserts == 0).ok_or(SectionError::Malformed)?;
    while let Some(first) = rest.first() {
        name.clear();
        value.clear();
        let known = one(*first, &mut rest, &mut name, &mut value, limit)?;
        let (name, value) = match &known {
            Known::Field((name, value)) => (name.as_bytes(), value.as_bytes()),
            Known::Name(name) => (name.as_bytes(), &value[..]),
            Known::Nothing => (&name[..], &value[..]),
        };
        size += name.len() + value.len() + FIELD_OVERHEAD;
        if size > limit {
            return Err(SectionError::TooLong.into());
        }
        field(name, value)?;
    }
    Ok(())
}

/// What of a field stands in the table.
enum Known {
    Field((&'static str, &'static str)),
    Name(&'static str),
    Nothing,
}

/// Reads one field, whose first byte is `first`.
fn one(
    first: u8,
    rest: &mut &[u8],
    name: &mut Vec<u8>,
    value: &mut Vec<u8>,
    limit: usize,
) -> Result<Known, SectionError> {
    let known = |index: Option<u64>| {
        let index = usize::try_from(index.ok_or(SectionError::Malformed)?).unwrap_or(usize::MAX);
        FIELDS.get(index).copied().ok_or(SectionError::Malformed)
    };
    match first {
        // An indexed field of the static table.
        0xc0.. => Ok(Known::Field(known(integer(rest, 6))?)),
        // A value, with a name of the static table.
        0x50..=0x5f | 0x70..=0x7f => {
            let (name, _) = known(integer(rest, 4))?;
            string(rest, 7, value, limit)?;
            Ok(Known::Name(name))
        }
        // Both.
        0x20..=0x3f => {
            string(rest, 3, name, limit)?;
            string(rest, 7, value, limit)?;
            Ok(Known::Nothing)
        }
        // All others refer to the dynamic table.
        _ => Err(SectionError::Malformed),
    }
}

/// An integer whose first byte has so many bits of it (RFC 7541 §5.1).
pub(super) fn integer(rest: &mut &[u8], bits: u32) -> Option<u64> {
    let (first, mut behind) = rest.split_first()?;
    let mask = (1u64 << bits) - 1;
    let mut value = u64::from(*first) & mask;
    if value == mask {
        let mut shift = 0;
        loop {
            let (next, after) = behind.split_first()?;
            behind = after;
            // Longer ones are none of ours: 62 bits are the most that may be asked for.
            if shift > 56 {
                return None;
            }
            value = value.checked_add(u64::from(next & 0x7f) << shift)?;
            shift += 7;
            if next & 0x80 == 0 {
                break;
            }
        }
    }
    *rest = behind;
    Some(value)
}

/// A string whose length has so many bits in its first byte, behind the bit that says whether it is coded.
fn string(rest: &mut &[u8], bits: u32, into: &mut Vec<u8>, limit: usize) -> Result<(), SectionError> {
    let is_coded = rest.first().is_some_and(|first| first >> bits & 1 == 1);
    let length = integer(rest, bits).ok_or(SectionError::Malformed)?;
    let length = usize::try_from(length).unwrap_or(usize::MAX);
    let (text, behind) = rest.split_at_checked(length).ok_or(SectionError::Malformed)?;
    *rest = behind;
    if !is_coded {
        into.extend_from_slice(text);
    } else if length > limit {
        return Err(SectionError::TooLong);
    } else {
        huffman::decode(text, into).map_err(|_| SectionError::Malformed)?;
    }
    Ok(())
}

/// Writes a section.
#[derive(Debug)]
pub(super) struct Encoder {
    section: Vec<u8>,
    size: usize,
}

impl Encoder {
    pub(super) fn new() -> Self {
        // It needs no insertions.
        Self { section: vec![0, 0], size: 0 }
    }

    pub(super) fn field(&mut self, name: &str, value: &[u8]) {
        self.size += name.len() + value.len() + FIELD_OVERHEAD;
        match find(name, value) {
            Found::Field(index) => return self.integer(0xc0, 6, index.into()),
            Found::Name(index) => self.integer(0x50, 4, index.into()),
            Found::Nothing => {
                self.integer(0x20, 3, name.len());
                self.section.extend_from_slice(name.as_bytes());
            }
        }
        self.integer(0, 7, value.len());
        self.section.extend_from_slice(value);
    }

    /// The sum of all fields, as a limit on sections counts it.
    pub(super) fn size(&self) -> usize {
        self.size
    }

    pub(super) fn section(&self) -> &[u8] {
        &self.section
    }

    /// Writes an integer behind the `mark` of its first byte, of which `bits` are its own (RFC 7541 §5.1).
    fn integer(&mut self, mark: u8, bits: u32, value: usize) {
        let low = |of: usize, mask: u8| of.to_le_bytes()[0] & mask;
        let mask = low((1 << bits) - 1, u8::MAX);
        let Some(mut left) = value.checked_sub(usize::from(mask)) else {
            return self.section.push(mark | low(value, u8::MAX));
        };
        self.section.push(mark | mask);
        while left >= 0x80 {
            self.section.push(0x80 | low(left, 0x7f));
            left >>= 7;
        }
        self.section.push(low(left, 0x7f));
    }
}

#[cfg(test)]
mod tests;
