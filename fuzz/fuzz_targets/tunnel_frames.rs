//! The frame decoder: however a stream is cut into pieces, it says the same, and never more than was fed.
#![no_main]

use bytes::Bytes;
use causeway_tunnel::stream::frame::{Decoder, Event};
use libfuzzer_sys::fuzz_target;

/// All events of one stream fed in pieces of `step` bytes, with adjacent data joined.
fn events(input: &[u8], step: usize) -> (Vec<Event>, bool) {
    let mut decoder = Decoder::new();
    let mut seen: Vec<Event> = Vec::new();
    for piece in input.chunks(step.max(1)) {
        decoder.feed(Bytes::copy_from_slice(piece));
        loop {
            match decoder.next_event() {
                Ok(Some(Event::Data(more))) => match seen.last_mut() {
                    Some(Event::Data(last)) => *last = [last.as_ref(), more.as_ref()].concat().into(),
                    _ => seen.push(Event::Data(more)),
                },
                Ok(Some(event)) => seen.push(event),
                Ok(None) => break,
                Err(_) => return (seen, true),
            }
        }
    }
    (seen, false)
}

fuzz_target!(|input: &[u8]| {
    let Some((&step, input)) = input.split_first() else { return };
    let whole = events(input, usize::MAX);
    let pieces = events(input, usize::from(step));
    assert_eq!(whole.1, pieces.1, "refused the same");
    assert_eq!(whole.0, pieces.0, "read the same");
    let data: usize = whole.0.iter().map(|event| if let Event::Data(data) = event { data.len() } else { 0 }).sum();
    assert!(data <= input.len());
});
