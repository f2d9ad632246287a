//! Frames: unmasking, decoding what clients send, encoding what they get.

mod common;

use std::fmt::Write;
use std::hint::black_box;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use common::OURS;
use criterion::{BenchmarkId, Criterion, Throughput};
use moongate_benches::frames::{KEY, LIMITS, decode_all, masked};
use moongate_wire::frame::{Decoder, Opcode, encode};
use moongate_wire::{Kind, event, mask};

const SIZES: [usize; 4] = [16, 125, 1024, 65_536];

/// Frames that come in one read.
const BATCH: usize = 16;

fn unmask(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("unmask");
    for size in SIZES {
        let mut bytes = vec![b'x'; size];
        group.throughput(Throughput::Bytes(size as u64));
        group.bench_function(BenchmarkId::new(OURS, size), |bencher| {
            bencher.iter(|| mask::apply(black_box(&mut bytes), black_box(KEY), 0));
        });
        group.bench_function(BenchmarkId::new("byte_loop", size), |bencher| {
            bencher.iter(|| byte_loop(black_box(&mut bytes), black_box(KEY)));
        });
    }
    group.finish();
}

/// RFC 6455 §5.3, word for word; what the compiler makes of it is its affair.
fn byte_loop(bytes: &mut [u8], key: [u8; 4]) {
    for (at, byte) in bytes.iter_mut().enumerate() {
        *byte ^= key[at % 4];
    }
}

fn decode(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("decode");
    for (kind, opcode) in [("text", Opcode::Text), ("binary", Opcode::Binary)] {
        for size in SIZES {
            // Decoding unmasks in place or masks again; both decode.
            let mut input = masked(opcode, size, BATCH);
            group.throughput(Throughput::Elements(BATCH as u64));
            let case = format!("{kind}_{size}");
            group.bench_function(BenchmarkId::new(OURS, &case), |bencher| {
                bencher.iter(|| decode_all(black_box(&mut input), black_box));
            });
            group.bench_function(BenchmarkId::new("copied_out", &case), |bencher| {
                bencher.iter(|| copy_all_out(black_box(&input)));
            });
        }
    }
    group.throughput(Throughput::Elements(1));
    let mut input = masked(Opcode::Text, 125, 1);
    group.bench_function(BenchmarkId::new(OURS, "text_125_in_two_reads"), |bencher| {
        bencher.iter(|| {
            let (first, second) = black_box(&mut input[..]).split_at_mut(60);
            let mut decoder = Decoder::default();
            let begun = decoder.step(first, &LIMITS).is_ok_and(|step| step.item.is_none());
            begun && decoder.step(second, &LIMITS).is_ok_and(|step| step.item.is_some())
        });
    });
    group.finish();
}

/// What many servers do: every message into memory of its own, then unmasked byte by byte, then checked. Returns how many
/// there were.
fn copy_all_out(mut input: &[u8]) -> usize {
    let mut items = 0;
    while let [first, second, rest @ ..] = input {
        let (len, rest) = match (second & 0x7f, rest) {
            (126, [a, b, rest @ ..]) => (usize::from(u16::from_be_bytes([*a, *b])), rest),
            (127, rest) => {
                let (len, rest) = rest.split_first_chunk().expect("eight bytes");
                (u64::from_be_bytes(*len) as usize, rest)
            }
            (len, rest) => (usize::from(len), rest),
        };
        let (key, rest) = rest.split_first_chunk().expect("a key");
        let (payload, rest) = rest.split_at(len);
        let mut message = payload.to_vec();
        byte_loop(&mut message, *key);
        let right = first & 0x0f != 1 || str::from_utf8(&message).is_ok();
        items += usize::from(right && !black_box(message).is_empty());
        input = rest;
    }
    items
}

fn encode_frames(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("encode");
    for size in SIZES {
        let payload = vec![b'x'; size];
        let mut out = Vec::with_capacity(size + 64);
        group.throughput(Throughput::Bytes(size as u64));
        group.bench_function(BenchmarkId::new(OURS, size), |bencher| {
            bencher.iter(|| {
                out.clear();
                encode(Opcode::Text, black_box(&payload), &mut out);
                black_box(&out).len()
            });
        });
        // The least that it can be.
        group.bench_function(BenchmarkId::new("copy_alone", size), |bencher| {
            bencher.iter(|| {
                out.clear();
                out.extend_from_slice(black_box(&payload));
                black_box(&out).len()
            });
        });
    }
    group.finish();
}

fn encode_events(criterion: &mut Criterion) {
    const EPOCH: u64 = 0x0123_4567_89ab_cdef;
    let mut group = criterion.benchmark_group("event");
    for size in SIZES {
        let payload = "x".repeat(size);
        let mut out = Vec::with_capacity(2 * size + 256);
        group.throughput(Throughput::Bytes(size as u64));
        for (name, kind) in [("text", Kind::Text), ("binary", Kind::Binary)] {
            group.bench_function(BenchmarkId::new(OURS, format!("{name}_{size}")), |bencher| {
                bencher.iter(|| {
                    out.clear();
                    event::encode(EPOCH, 77, kind, black_box(payload.as_bytes()), &mut out);
                    black_box(&out).len()
                });
            });
        }
        let mut out = String::with_capacity(2 * size + 256);
        group.bench_function(BenchmarkId::new("formatted", format!("text_{size}")), |bencher| {
            bencher.iter(|| {
                out.clear();
                writeln!(out, "id: {EPOCH:016x}-{}", black_box(77)).expect("a string takes all");
                for line in black_box(&payload).lines() {
                    writeln!(out, "data: {line}").expect("a string takes all");
                }
                out.push('\n');
                black_box(&out).len()
            });
        });
        group.bench_function(BenchmarkId::new("base64_crate", format!("binary_{size}")), |bencher| {
            bencher.iter(|| {
                out.clear();
                write!(out, "id: {EPOCH:016x}-{}\nevent: binary\ndata: ", black_box(77))
                    .expect("a string takes all");
                BASE64_STANDARD.encode_string(black_box(&payload), &mut out);
                out.push_str("\n\n");
                black_box(&out).len()
            });
        });
    }
    group.finish();
}

fn main() {
    common::run(&[unmask, decode, encode_frames, encode_events]);
}
