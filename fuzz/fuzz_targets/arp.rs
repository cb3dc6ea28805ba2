//! ARP frames: any bytes are a frame or malformed, and a frame that was read is written as it was.
#![no_main]

use causeway_l2::arp::Frame;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    if let Ok(frame) = Frame::parse(input) {
        assert_eq!(Frame::parse(&frame.encode()).ok(), Some(frame));
    }
});
