use proptest::prelude::{any, prop, proptest};

use super::*;

/// All frames of these bytes, cut into pieces of so many; the pieces of a DATA frame joined.
fn cut(on: On, bytes: &[u8], piece: usize) -> Result<(Vec<Frame>, bool), Fault> {
    let (mut frames, mut seen): (Frames, Vec<Frame>) = (Frames::new(on), Vec::new());
    for piece in bytes.chunks(piece) {
        let mut input = Bytes::copy_from_slice(piece);
        while let Some(frame) = frames.next(&mut input)? {
            match (seen.last_mut(), frame) {
                (Some(Frame::Data(before)), Frame::Data(more)) => {
                    *before = [&before[..], &more[..]].concat().into();
                }
                (_, frame) => seen.push(frame),
            }
        }
        assert!(input.is_empty());
    }
    Ok((seen, frames.is_between()))
}

fn code(on: On, bytes: &[u8]) -> u32 {
    cut(on, bytes, 1024).unwrap_err().code
}

#[test]
fn a_request_is_cut_wherever_its_packets_end() {
    let bytes = [&headers(b"head")[..], &[0x21, 3, 1, 2, 3, 0, 4], b"body", &headers(b"trailers")].concat();
    for piece in 1..=bytes.len() {
        let (seen, is_between) = cut(On::Request, &bytes, piece).unwrap();
        let head = |text: &'static str| Frame::Headers(Some(Bytes::from(text)));
        assert_eq!(
            seen,
            [head("head"), Frame::Unknown, Frame::Data("body".into()), head("trailers")],
            "pieces of {piece}"
        );
        assert!(is_between);
    }
}

#[test]
fn a_stream_that_ends_within_a_frame_is_known() {
    for bytes in [&[0, 4, 1, 2, 3][..], &[1, 2, 0], &[0x21, 1], &[0x40], &[0]] {
        let (_, is_between) = cut(On::Request, bytes, 1).unwrap();
        assert!(!is_between, "{bytes:?}");
    }
    assert!(cut(On::Request, &[0, 0], 1).unwrap().1);
}

#[test]
fn hazard_094_frames_are_refused_where_they_may_not_be() {
    for kind in [0x2, 0x3, 0x4, 0x5, 0x6, 0x7, 0x8, 0x9, 0xd] {
        assert_eq!(code(On::Request, &[kind, 0]), code::FRAME_UNEXPECTED, "{kind:#x}");
    }
    for kind in [0x0, 0x1, 0x2, 0x4, 0x5, 0x6, 0x8, 0x9] {
        assert_eq!(code(On::Control, &[4, 0, kind, 0]), code::FRAME_UNEXPECTED, "{kind:#x}");
    }
    for first in [0x0, 0x7, 0x21] {
        assert_eq!(code(On::Control, &[first, 0]), code::MISSING_SETTINGS, "{first:#x}");
    }
    assert_eq!(code(On::Control, &[4, 0, 7, 2, 1, 1]), code::FRAME_ERROR);
    assert_eq!(code(On::Control, &[4, 0, 7, 0]), code::FRAME_ERROR);
}

#[test]
fn hazard_093_what_is_read_whole_is_bounded() {
    assert_eq!(code(On::Control, &[4, 0x48, 0x01]), code::EXCESSIVE_LOAD);
    let mut long = vec![1];
    varint::put(MAX_SECTION_BYTES as u64 + 1, &mut long);
    assert_eq!(cut(On::Request, &long, 1).unwrap().0, [Frame::Headers(None)]);
}

proptest! {
    #[test]
    fn any_bytes_are_the_same_however_they_are_cut(bytes in prop::collection::vec(any::<u8>(), 0..600), piece in 1usize..32) {
        for on in [On::Request, On::Control] {
            assert_eq!(cut(on, &bytes, piece), cut(on, &bytes, bytes.len().max(1)));
        }
    }
}
