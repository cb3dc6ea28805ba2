//! Openings and response heads: no payload makes the decoder panic or read beyond its end.
#![no_main]

use bytes::Bytes;
use causeway_tunnel::stream::frame::FrameType;
use causeway_tunnel::{Opening, ResponseHead};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let Some((kind, payload)) = input.split_first() else { return };
    let payload = Bytes::copy_from_slice(payload);
    match kind % 3 {
        0 => drop(Opening::decode(FrameType::Request, payload).map(|opening| format!("{opening:?}"))),
        1 => drop(Opening::decode(FrameType::Open, payload).map(|opening| format!("{opening:?}"))),
        _ => {
            if let Ok(head) = ResponseHead::decode(payload) {
                assert!(head.status.as_u16() >= 200 || head.status.as_u16() == 101);
            }
        }
    }
});
