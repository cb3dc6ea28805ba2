//! Chunked bodies: the same verdict and the same end, however the bytes are cut.
#![no_main]

use causeway_edge::http::guard::Chunks;
use libfuzzer_sys::fuzz_target;

/// The length of the body, if it ended, or a refusal.
fn feed(input: &[u8], step: usize) -> Result<Option<usize>, ()> {
    let mut chunks = Chunks::new();
    let mut at = 0;
    for piece in input.chunks(step.max(1)) {
        let fed = chunks.feed(piece).map_err(|_| ())?;
        at += fed.len;
        assert!(fed.len <= piece.len());
        if fed.end {
            return Ok(Some(at));
        }
        assert_eq!(fed.len, piece.len(), "all is consumed unless the body ends");
    }
    Ok(None)
}

fuzz_target!(|input: &[u8]| {
    let Some((&step, input)) = input.split_first() else { return };
    assert_eq!(feed(input, usize::MAX / 2), feed(input, usize::from(step)));
});
