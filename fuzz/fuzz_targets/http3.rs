//! HTTP/3: frames are the same however a stream is cut, and no field section is too odd to be looked at.
#![no_main]

use bytes::Bytes;
use causeway_front::http::h3::frames::{Frame, Frames, MAX_SECTION_BYTES, On};
use causeway_front::http::h3::qpack::{SectionError, decode};
use libfuzzer_sys::fuzz_target;

/// All frames, the pieces of a DATA frame joined; or the code that ends the connection.
fn cut(on: On, input: &[u8], step: usize) -> Result<(Vec<Frame>, bool), u32> {
    let (mut frames, mut seen): (Frames, Vec<Frame>) = (Frames::new(on), Vec::new());
    for piece in input.chunks(step.max(1)) {
        let mut piece = Bytes::copy_from_slice(piece);
        while let Some(frame) = frames.next(&mut piece).map_err(|fault| fault.code)? {
            match (seen.last_mut(), frame) {
                (Some(Frame::Data(before)), Frame::Data(more)) => {
                    *before = [&before[..], &more[..]].concat().into()
                }
                (_, frame) => seen.push(frame),
            }
        }
        assert!(piece.is_empty(), "all was taken");
    }
    Ok((seen, frames.is_between()))
}

/// The sum of a section's fields, as its limit counts it.
fn section(bytes: &[u8]) {
    let mut size = 0;
    let decoded = decode(bytes, MAX_SECTION_BYTES, |name, value| {
        size += name.len() + value.len() + 32;
        Ok::<_, SectionError>(())
    });
    assert!(size <= MAX_SECTION_BYTES, "{decoded:?}");
}

fuzz_target!(|input: &[u8]| {
    let Some((&step, input)) = input.split_first() else { return };
    for on in [On::Request, On::Control] {
        let whole = cut(on, input, input.len());
        assert_eq!(whole, cut(on, input, usize::from(step)));
        for frame in whole.map(|(frames, _)| frames).unwrap_or_default() {
            if let Frame::Headers(Some(bytes)) = frame {
                section(&bytes);
            }
        }
    }
    section(input);
});
