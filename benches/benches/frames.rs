//! Frames: unmasking, decoding what clients send, encoding what they get.

use std::hint::black_box;

use criterion::{BatchSize, Criterion, Throughput};
use moongate_wire::frame::{Decoder, Limits, Opcode, encode, encode_masked};
use moongate_wire::{Kind, event, mask};

const KEY: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

const SIZES: [usize; 4] = [16, 125, 1024, 65_536];

/// Frames that come in one read.
const BATCH: usize = 16;

fn unmask(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("unmask");
    for size in SIZES {
        let mut bytes = vec![b'x'; size];
        group.throughput(Throughput::Bytes(size as u64));
        group.bench_function(format!("{size}/apply"), |bencher| {
            bencher.iter(|| mask::apply(black_box(&mut bytes), black_box(KEY), 0));
        });
        group.bench_function(format!("{size}/byte_loop"), |bencher| {
            bencher.iter(|| byte_loop(black_box(&mut bytes), black_box(KEY)));
        });
    }
    group.finish();
}

/// RFC 6455 §5.3, word for word, and no cleverer for the compiler's help.
fn byte_loop(bytes: &mut [u8], key: [u8; 4]) {
    for (at, byte) in bytes.iter_mut().enumerate() {
        *byte = black_box(*byte ^ key[at % 4]);
    }
}

fn decode(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("decode");
    let limits = Limits { message_bytes_max: 1 << 20, fragment_overhead: 64, deflate: false };
    for (kind, opcode) in [("text", Opcode::Text), ("binary", Opcode::Binary)] {
        for size in SIZES {
            let mut input = Vec::new();
            for _ in 0..BATCH {
                encode_masked(opcode, true, KEY, &vec![b'x'; size], &mut input);
            }
            group.throughput(Throughput::Elements(BATCH as u64));
            group.bench_function(format!("{kind}/{size}"), |bencher| {
                let fresh = || input.clone();
                bencher.iter_batched_ref(fresh, |input| decode_all(input, &limits), BatchSize::SmallInput);
            });
        }
    }
    let mut input = Vec::new();
    encode_masked(Opcode::Text, true, KEY, &[b'x'; 125], &mut input);
    group.throughput(Throughput::Elements(1));
    group.bench_function("text/125_in_two_reads", |bencher| {
        let fresh = || input.clone();
        let halves = |input: &mut Vec<u8>| {
            let (first, second) = input.split_at_mut(60);
            let mut decoder = Decoder::default();
            let begun = decoder.step(first, &limits).is_ok_and(|step| step.item.is_none());
            begun && decoder.step(second, &limits).is_ok_and(|step| step.item.is_some())
        };
        bencher.iter_batched_ref(fresh, halves, BatchSize::SmallInput);
    });
    group.finish();
}

/// How many items there are in `input`.
fn decode_all(mut input: &mut [u8], limits: &Limits) -> usize {
    let (mut decoder, mut items) = (Decoder::default(), 0);
    while !input.is_empty() {
        let step = decoder.step(input, limits).expect("right frames");
        let consumed = step.consumed;
        items += usize::from(black_box(step.item).is_some());
        input = &mut input[consumed..];
    }
    items
}

fn encode_frames(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("encode");
    for size in SIZES {
        let payload = vec![b'x'; size];
        let mut out = Vec::with_capacity(2 * size + 256);
        group.throughput(Throughput::Bytes(size as u64));
        group.bench_function(format!("frame/{size}"), |bencher| {
            bencher.iter(|| {
                out.clear();
                encode(Opcode::Text, black_box(&payload), &mut out);
                out.len()
            });
        });
        for (name, kind) in [("text", Kind::Text), ("binary", Kind::Binary)] {
            group.bench_function(format!("event_{name}/{size}"), |bencher| {
                bencher.iter(|| {
                    out.clear();
                    event::encode(0x0123_4567_89ab_cdef, 77, kind, black_box(&payload), &mut out);
                    out.len()
                });
            });
        }
    }
    group.finish();
}

fn main() {
    moongate_benches::run(&[unmask, decode, encode_frames]);
}
