//! The records of the credit stream: however they are cut into pieces they are the same, and less than one is kept.
#![no_main]

use causeway_tunnel::flow::records::{Decoder, Record};
use libfuzzer_sys::fuzz_target;

fn records(input: &[u8], step: usize) -> Vec<Record> {
    let (mut decoder, mut seen) = (Decoder::default(), Vec::new());
    for piece in input.chunks(step.max(1)) {
        decoder.feed(piece, |record| seen.push(record));
    }
    seen
}

fuzz_target!(|input: &[u8]| {
    let Some((&step, input)) = input.split_first() else { return };
    let whole = records(input, usize::MAX);
    assert_eq!(whole, records(input, usize::from(step)));
    assert!(whole.len() * 2 <= input.len());
});
