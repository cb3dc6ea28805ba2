//! ARP frames: any bytes are a frame or malformed, and a frame that was read is written as it was.
#![no_main]

// The module without its crate, whose clients of the Kubernetes API would take most of the build.
#[path = "../../l2/src/mac.rs"]
#[allow(dead_code, reason = "one part of it is tried here")]
mod mac;
#[path = "../../l2/src/arp.rs"]
#[allow(dead_code, reason = "one part of it is tried here")]
mod arp;

use arp::Frame;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    if let Ok(frame) = Frame::parse(input) {
        assert_eq!(Frame::parse(&frame.encode()).ok(), Some(frame));
    }
});
