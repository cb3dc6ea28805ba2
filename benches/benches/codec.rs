//! The tunnel's codec: a usual request head in and a stream of data frames in, per operation.

use std::hint::black_box;

use bytes::{BufMut, Bytes, BytesMut};
use causeway_tunnel::stream::frame::Decoder;
use causeway_tunnel::{RequestHead, ResponseHead};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

/// Frames as a peer would write them: type, length (RFC 9000 section 16), payload.
fn frame(kind: u8, payload: &[u8]) -> Bytes {
    let mut out = BytesMut::new();
    out.put_u8(kind);
    out.put_u32(0x8000_0000 | u32::try_from(payload.len()).expect("a short payload"));
    out.put_slice(payload);
    out.freeze()
}

fn decode_data(c: &mut Criterion) {
    let mut group = c.benchmark_group("frames");
    for size in [1024usize, 16 * 1024] {
        let stream = frame(4, &vec![7; size]);
        group.throughput(Throughput::Bytes(size as u64));
        group.bench_function(format!("decode DATA of {size} bytes"), |b| {
            b.iter(|| {
                let mut decoder = Decoder::new();
                decoder.feed(stream.clone());
                while let Ok(Some(event)) = decoder.next_event() {
                    black_box(event);
                }
            });
        });
    }
    group.finish();
}

fn decode_heads(c: &mut Criterion) {
    let response = captured_response();
    c.bench_function("decode RESPONSE head", |b| {
        b.iter(|| black_box(ResponseHead::decode(response.clone())));
    });
    c.bench_function("refuse a REQUEST head cut short", |b| {
        let cut = Bytes::from_static(&[0; 12]);
        b.iter(|| black_box(RequestHead::decode(cut.clone())).is_err());
    });
}

/// A 200 with no fields and an unknown length, the shortest valid head; grown by whatever the codec accepts.
fn captured_response() -> Bytes {
    let mut out = BytesMut::new();
    out.put_u16(200);
    out.put_u8(0);
    out.put_u8(0);
    out.freeze()
}

criterion_group!(benches, decode_data, decode_heads);
criterion_main!(benches);
