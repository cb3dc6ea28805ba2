//! Chunked bodies: the same verdict and the same end, however the bytes are cut.
#![no_main]

use causeway_front::http::guard::Chunks;
use libfuzzer_sys::fuzz_target;

/// The length of the body, if it ended; on a refusal, the place of the byte that broke it.
fn feed(input: &[u8], step: usize) -> Result<Option<usize>, usize> {
    let mut chunks = Chunks::new();
    let mut at = 0;
    for piece in input.chunks(step.max(1)) {
        let fed = chunks.feed(piece).map_err(|_| at)?;
        at += fed.len;
        assert!(fed.len <= piece.len());
        if fed.end {
            return Ok(Some(at));
        }
        if fed.len < piece.len() {
            // Only a malformed byte stops it early, and that byte fails when it comes first.
            assert!(chunks.feed(&piece[fed.len..]).is_err());
            return Err(at);
        }
    }
    Ok(None)
}

fuzz_target!(|input: &[u8]| {
    let Some((&step, input)) = input.split_first() else { return };
    assert_eq!(feed(input, usize::MAX / 2), feed(input, usize::from(step)));
});
