//! Neighbour discovery: any bytes are a message or malformed, and what was read is written so that it reads the same.
#![no_main]

use causeway_l2::ndp::Frame;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    if let Ok(frame) = Frame::parse(input) {
        assert_eq!(Frame::parse(&frame.encode()).ok(), Some(frame));
    }
});
