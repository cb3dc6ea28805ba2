//! The control stream: messages in any pieces, from a stranger and from a known peer.
#![no_main]

use causeway_tunnel::control::Decoder;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let Some((&step, input)) = input.split_first() else { return };
    let mut decoder = Decoder::for_stranger();
    if step % 2 == 0 {
        decoder.trust();
    }
    for piece in input.chunks(usize::from(step).max(1)) {
        decoder.feed(piece);
        loop {
            match decoder.next_message() {
                Ok(Some(message)) => drop(format!("{message:?}")),
                Ok(None) => break,
                Err(_) => return,
            }
        }
    }
});
