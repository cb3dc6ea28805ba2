//! Request and response heads: no payload makes the decoder panic or read beyond its end.
#![no_main]

use bytes::Bytes;
use causeway_tunnel::{RequestHead, ResponseHead};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let Some((kind, payload)) = input.split_first() else { return };
    let payload = Bytes::copy_from_slice(payload);
    if kind % 2 == 0 {
        if let Ok(head) = RequestHead::decode(payload) {
            let _ = format!("{head:?}");
        }
    } else if let Ok(head) = ResponseHead::decode(payload) {
        assert!(head.status.as_u16() >= 200 || head.status.as_u16() == 101);
    }
});
