//! The code in which strings of a field section may be written (RFC 7541 appendix B). It is canonical: how long each
//! symbol's code is says all of it. Pure.

/// How many bits each byte has.
#[rustfmt::skip]
const LENGTHS: [u8; 256] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28,
    6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10,
    13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6,
    15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28,
    20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24,
    22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27,
    20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26,
];

/// The end of the string has this many, all ones: it may only be seen in part, as padding.
const MAX_LENGTH: usize = 30;
const MIN_LENGTH: usize = 5;

/// Codes of one length, left-aligned in 32 bits: where they begin, and where in [`CANON`]'s symbols.
#[derive(Clone, Copy)]
struct Row {
    first: u32,
    /// The first code that is longer.
    end: u64,
    symbols: usize,
}

/// Symbols by their codes, and a row for each length.
struct Canon {
    symbols: [u8; 256],
    rows: [Row; MAX_LENGTH + 1],
}

static CANON: Canon = canon();

#[expect(clippy::cast_possible_truncation, reason = "256 symbols, and codes of 30 bits left-aligned in 32")]
const fn canon() -> Canon {
    let mut canon = Canon { symbols: [0; 256], rows: [Row { first: 0, end: 0, symbols: 0 }; MAX_LENGTH + 1] };
    let (mut code, mut filled, mut length) = (0u64, 0, 1);
    while length <= MAX_LENGTH {
        let (first, symbols) = (code, filled);
        let mut symbol = 0;
        while symbol < 256 {
            if LENGTHS[symbol] as usize == length {
                canon.symbols[filled] = symbol as u8;
                filled += 1;
                code += 1 << (32 - length);
            }
            symbol += 1;
        }
        canon.rows[length] = Row { first: first as u32, end: code, symbols };
        length += 1;
    }
    canon
}

/// The string is no code, or is padded otherwise than by the beginning of its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Malformed;

/// Appends what `coded` says.
pub(super) fn decode(coded: &[u8], into: &mut Vec<u8>) -> Result<(), Malformed> {
    // The bits not decoded yet, left-aligned.
    let (mut bits, mut count): (u64, usize) = (0, 0);
    let mut rest = coded.iter();
    loop {
        while count <= 56
            && let Some(byte) = rest.next()
        {
            bits |= u64::from(*byte) << (56 - count);
            count += 8;
        }
        let next = (bits >> 32) as u32;
        let mut length = MIN_LENGTH;
        while length <= MAX_LENGTH && u64::from(next) >= CANON.rows[length].end {
            length += 1;
        }
        if length > count.min(MAX_LENGTH) {
            // What is left is less than a symbol: padding, shorter than a byte and all ones.
            let is_padding = count == 0 || count < 8 && bits == !0 << (64 - count);
            return if is_padding { Ok(()) } else { Err(Malformed) };
        }
        let row = CANON.rows[length];
        let nth = (next - row.first) >> (32 - length);
        into.push(CANON.symbols[row.symbols + nth as usize]);
        bits <<= length;
        count -= length;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, prop, proptest};

    use super::*;

    /// The slow way.
    fn encode(text: &[u8]) -> Vec<u8> {
        let mut bits = Vec::new();
        for byte in text {
            let length = usize::from(LENGTHS[usize::from(*byte)]);
            let row = CANON.rows[length];
            let nth = CANON.symbols[row.symbols..].iter().position(|symbol| symbol == byte).unwrap();
            let code = (row.first >> (32 - length)) + u32::try_from(nth).unwrap();
            bits.extend((0..length).rev().map(|bit| code >> bit & 1 == 1));
        }
        bits.chunks(8)
            .map(|bits| {
                (0..8).fold(0, |byte, bit| byte << 1 | u8::from(bits.get(bit).is_none_or(|bit| *bit)))
            })
            .collect()
    }

    fn decoded(coded: &[u8]) -> Result<Vec<u8>, Malformed> {
        let mut text = Vec::new();
        decode(coded, &mut text).map(|()| text)
    }

    #[test]
    fn the_examples_of_the_standard() {
        let coded = [0xf1, 0xe3, 0xc2, 0xe5, 0xf2, 0x3a, 0x6b, 0xa0, 0xab, 0x90, 0xf4, 0xff];
        assert_eq!(decoded(&coded).unwrap(), b"www.example.com");
        assert_eq!(decoded(&[0xa8, 0xeb, 0x10, 0x64, 0x9c, 0xbf]).unwrap(), b"no-cache");
    }

    #[test]
    fn padding_is_less_than_a_byte_of_ones() {
        assert_eq!(decoded(&[]), Ok(Vec::new()));
        assert_eq!(decoded(&[0x1f]), Ok(b"a".to_vec()));
        assert_eq!(decoded(&[0x1e]), Err(Malformed));
        assert_eq!(decoded(&[0x1f, 0xff]), Err(Malformed));
        assert_eq!(decoded(&[0xff, 0xff, 0xff, 0xff]), Err(Malformed), "the end itself");
    }

    proptest! {
        #[test]
        fn what_is_coded_is_decoded(text in prop::collection::vec(any::<u8>(), 0..200)) {
            assert_eq!(decoded(&encode(&text)), Ok(text));
        }

        #[test]
        fn nothing_is_too_odd_to_be_looked_at(coded in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = decoded(&coded);
        }
    }
}
