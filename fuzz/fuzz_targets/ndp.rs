//! Neighbour discovery: any bytes are a message or malformed, and what was read is written so that it reads the same.
#![no_main]

// The module without its crate, whose clients of the Kubernetes API would take most of the build.
#[path = "../../l2/src/mac.rs"]
#[allow(dead_code, reason = "one part of it is tried here")]
mod mac;
#[path = "../../l2/src/ndp.rs"]
#[allow(dead_code, reason = "one part of it is tried here")]
mod ndp;

use ndp::Frame;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    if let Ok(frame) = Frame::parse(input) {
        assert_eq!(Frame::parse(&frame.encode()).ok(), Some(frame));
    }
});
