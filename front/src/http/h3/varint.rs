//! QUIC's integers of one to eight bytes (RFC 9000 §16). Pure.

/// The integer at the front of `bytes`, which moves behind it. None: it is not whole.
pub(super) fn take(bytes: &mut &[u8]) -> Option<u64> {
    let first = *bytes.first()?;
    let length = 1 << (first >> 6);
    let (whole, rest) = bytes.split_at_checked(length)?;
    let value = whole[1..].iter().fold(u64::from(first & 0x3f), |value, byte| value << 8 | u64::from(*byte));
    *bytes = rest;
    Some(value)
}

/// The largest that can be said.
pub(super) const MAX: u64 = (1 << 62) - 1;

/// Appends the shortest form of `value`, which is at most [`MAX`].
pub(super) fn put(value: u64, into: &mut Vec<u8>) {
    let value = value.min(MAX);
    let bytes = value.to_be_bytes();
    let (skip, mark) = match value {
        0..0x40 => (7, 0),
        0x40..0x4000 => (6, 0x40),
        0x4000..0x4000_0000 => (4, 0x80),
        _ => (0, 0xc0),
    };
    let start = into.len();
    into.extend_from_slice(&bytes[skip..]);
    into[start] |= mark;
}

#[cfg(test)]
mod tests {
    use proptest::prelude::proptest;

    use super::*;

    #[test]
    fn the_examples_of_the_standard() {
        for (bytes, value) in [
            (&[0xc2, 0x19, 0x7c, 0x5e, 0xff, 0x14, 0xe8, 0x8c][..], 151_288_809_941_952_652),
            (&[0x9d, 0x7f, 0x3e, 0x7d], 494_878_333),
            (&[0x7b, 0xbd], 15_293),
            (&[0x25], 37),
            (&[0x40, 0x25], 37),
        ] {
            assert_eq!(take(&mut &*bytes), Some(value));
            assert_eq!(take(&mut &bytes[..bytes.len() - 1]), None, "{bytes:x?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_put_is_taken(value in 0..=MAX) {
            let mut bytes = Vec::new();
            put(value, &mut bytes);
            assert_eq!(bytes.len(), 1 << (bytes[0] >> 6));
            let mut rest = &bytes[..];
            assert_eq!((take(&mut rest), rest.len()), (Some(value), 0));
        }
    }
}
