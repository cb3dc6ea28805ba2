//! What the TCP carrier puts into HTTP/2's streams: however it is cut into pieces it is the same, or is refused.
#![no_main]

use bytes::Bytes;
use causeway_tunnel::carrier::tcp::records::{Malformed, Record};
use causeway_tunnel::carrier::tcp::{notes, records};
use libfuzzer_sys::fuzz_target;

fn records(input: &[u8], step: usize) -> (Vec<Record>, Option<Malformed>) {
    let (mut decoder, mut seen) = (records::Decoder::default(), Vec::<Record>::new());
    for piece in input.chunks(step.max(1)) {
        decoder.feed(Bytes::copy_from_slice(piece));
        loop {
            match decoder.next_record() {
                Err(malformed) => return (seen, Some(malformed)),
                Ok(None) => break,
                Ok(Some(record)) => match (seen.last_mut(), record) {
                    (Some(Record::Data(before)), Record::Data(more)) => {
                        *before = [&before[..], &more[..]].concat().into();
                    }
                    (_, record) => seen.push(record),
                },
            }
        }
    }
    (seen, None)
}

fn notes(input: &[u8], step: usize) -> (Vec<notes::Note>, Option<Malformed>) {
    let (mut decoder, mut seen) = (notes::Decoder::default(), Vec::new());
    for piece in input.chunks(step.max(1)) {
        decoder.feed(piece);
        loop {
            match decoder.next_note() {
                Err(malformed) => return (seen, Some(malformed)),
                Ok(None) => break,
                Ok(Some(note)) => seen.push(note),
            }
        }
    }
    (seen, None)
}

fuzz_target!(|input: &[u8]| {
    let Some((&step, input)) = input.split_first() else { return };
    assert_eq!(records(input, usize::MAX), records(input, usize::from(step)));
    assert_eq!(notes(input, usize::MAX), notes(input, usize::from(step)));
});
