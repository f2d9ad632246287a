//! Compression: a message out, a message in, and input made to cost the most.

mod common;

use std::hint::black_box;

use common::OURS;
use criterion::{BenchmarkId, Criterion, Throughput};
use moongate_wire::deflate::{Deflater, Inflater, Progress};

const SIZES: [usize; 4] = [128, 256, 1024, 65_536];

const MESSAGE_BYTES_MAX: usize = 1 << 20;

/// What many services say: objects with the same keys and other values.
fn json(len: usize) -> Vec<u8> {
    let mut random = 7_u32;
    let mut draw = |below: u32| {
        random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (random >> 8) % below
    };
    let mut text = String::new();
    while text.len() < len {
        let (id, user, x, y) = (draw(100_000), draw(1000), draw(100_000), draw(100_000));
        text += &format!("{{\"id\":{id},\"user\":\"u{user}\",\"type\":\"position\",\"x\":{x},\"y\":{y}}},");
    }
    text.truncate(len);
    text.into_bytes()
}

fn deflate(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("deflate");
    for size in SIZES {
        let (payload, mut deflater, mut out) = (json(size), Deflater::default(), Vec::new());
        group.throughput(Throughput::Bytes(size as u64));
        // Held to 512 bytes, a larger message cannot use the compressor that the others do.
        for window_bits in [9, 15] {
            let case = format!("json_{size}_window_{window_bits}");
            group.bench_function(BenchmarkId::new(OURS, case), |bencher| {
                bencher.iter(|| {
                    out.clear();
                    deflater.deflate(black_box(&payload), window_bits, &mut out)
                });
            });
        }
    }
    group.finish();
}

fn inflate(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("inflate");
    let mut inflater = Inflater::default();
    for size in SIZES {
        let mut payload = Vec::new();
        assert!(Deflater::default().deflate(&json(size), 15, &mut payload), "JSON gets smaller");
        group.throughput(Throughput::Bytes(size as u64));
        group.bench_function(BenchmarkId::new(OURS, format!("json_{size}")), |bencher| {
            bencher.iter(|| whole(&mut inflater, black_box(&payload)));
        });
    }
    // Per byte read: what one byte of these costs is what a byte of a tick's budget has to be worth.
    for (name, payload) in [
        ("empty_blocks_fixed", [b"\x02\x08\x20\x80\x00".repeat(12_000), b"\x00".to_vec()].concat()),
        ("empty_blocks_last", [b"\x03\x00".repeat(30_000), b"\x00".to_vec()].concat()),
        ("empty_blocks_dynamic", dynamic_blocks(5000)),
    ] {
        group.throughput(Throughput::Bytes(payload.len() as u64));
        group.bench_function(BenchmarkId::new(OURS, name), |bencher| {
            bencher.iter(|| whole(&mut inflater, black_box(&payload)));
        });
    }
    group.finish();
}

fn whole(inflater: &mut Inflater, payload: &[u8]) {
    inflater.begin();
    assert_eq!(inflater.go_on(payload, MESSAGE_BYTES_MAX, &mut usize::MAX.clone()), Ok(Progress::Whole));
}

/// `count` blocks that describe a code, the shortest such description, and use it for nothing (RFC 1951 §3.2.7).
fn dynamic_blocks(count: usize) -> Vec<u8> {
    let mut bits = Vec::new();
    let mut put = |value: u32, count: u32| bits.extend((0..count).map(|bit| (value >> bit & 1) as u8));
    for _ in 0..count {
        // Not the last; dynamic; 257 literals and lengths, one distance, 18 lengths of the code for lengths.
        for (value, count) in [(0, 1), (2, 2), (0, 5), (0, 5), (14, 4)] {
            put(value, count);
        }
        // In that code only 1 and 18 are used: the former is 0, the latter is 1.
        for symbol in [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1] {
            put(u32::from(matches!(symbol, 1 | 18)), 3);
        }
        // 138 and 118 symbols without a code, and one bit for the end of the block and for the distance; then the end.
        for (value, count) in [(1, 1), (127, 7), (1, 1), (107, 7), (0, 1), (0, 1), (0, 1)] {
            put(value, count);
        }
    }
    // The stored block that every message ends with.
    bits.extend([0; 3]);
    bits.chunks(8).map(|byte| byte.iter().rev().fold(0, |all, bit| all << 1 | bit)).collect()
}

fn main() {
    common::run(&[deflate, inflate]);
}
