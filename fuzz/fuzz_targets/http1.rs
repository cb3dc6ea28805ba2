//! The strict HTTP/1.1 scanner: however a connection's bytes are cut, it finds the same messages, and passes no byte twice.
#![no_main]

use causeway_front::http::guard::{Scanner, Step};
use libfuzzer_sys::fuzz_target;

/// What a scanner found: heads with their place, bodies' lengths joined, and where it refused.
#[derive(Debug, Default, PartialEq)]
struct Found {
    heads: Vec<(usize, usize)>,
    ends: Vec<usize>,
    body_bytes: usize,
    refused: bool,
}

fn scan(input: &[u8], step: usize) -> Found {
    let mut scanner = Scanner::new();
    let mut found = Found::default();
    let (mut from, mut to) = (0, 0);
    while to < input.len() {
        to = (to + step.max(1)).min(input.len());
        loop {
            match scanner.step(&input[from..to]) {
                Step::More => break,
                Step::Head { skip, len, .. } => {
                    assert!(skip + len <= to - from);
                    found.heads.push((from + skip, len));
                    from += skip + len;
                }
                Step::Body { len, end } => {
                    assert!(len <= to - from);
                    from += len;
                    found.body_bytes += len;
                    if end {
                        found.ends.push(from);
                    }
                    if len == 0 && !end {
                        break;
                    }
                }
                Step::Refuse(_) => {
                    found.refused = true;
                    return found;
                }
            }
        }
    }
    found
}

fuzz_target!(|input: &[u8]| {
    let Some((&step, input)) = input.split_first() else { return };
    let (whole, pieces) = (scan(input, usize::MAX / 2), scan(input, usize::from(step)));
    assert_eq!((&whole.heads, whole.refused), (&pieces.heads, pieces.refused));
    if !whole.refused {
        assert_eq!(whole, pieces);
    }
});
