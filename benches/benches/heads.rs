//! A handshake: from the bytes of a head to the bytes of the 101.

mod common;

use std::fmt::Write;
use std::hint::black_box;
use std::mem::MaybeUninit;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use common::OURS;
use criterion::{BenchmarkId, Criterion, Throughput};
use moongate_benches::heads::{BROWSER, KEY, SMALL, policy};
use moongate_wire::accept::{Template, accept_key};
use moongate_wire::decide::{Decision, Policy, decide};
use moongate_wire::head::{FIELDS_MAX, Fields, parse};
use moongate_wire::scan::{HeadLimits, Scanner};
use sha1_smol::Sha1;

const HEADS: [(&str, &str); 2] = [("small", SMALL), ("browser", BROWSER)];

/// Everything that is done with a head, beside the parser that does the smaller part of it.
fn head(criterion: &mut Criterion) {
    let (policy, limits) = (policy(), HeadLimits::default());
    let mut group = criterion.benchmark_group("head");
    for (name, head) in HEADS {
        let mut bytes = head.as_bytes().to_vec();
        group.throughput(Throughput::Bytes(bytes.len() as u64));
        group.bench_function(BenchmarkId::new("httparse_alone", name), |bencher| {
            bencher.iter(|| {
                let mut fields = [const { MaybeUninit::uninit() }; FIELDS_MAX];
                let mut request = httparse::Request::new(&mut []);
                black_box(request.parse_with_uninit_headers(black_box(&bytes), &mut fields)).is_ok()
            });
        });
        group.bench_function(BenchmarkId::new(OURS, name), |bencher| {
            bencher.iter(|| {
                let end = Scanner::default().scan(black_box(&bytes), &limits).expect("a right head");
                let mut fields = Fields::new();
                let head =
                    parse(&mut bytes[..end.expect("a whole head")], &mut fields).expect("a right head");
                matches!(black_box(decide(&head, &policy)), Decision::WebSocket(_))
            });
        });
    }
    group.finish();
}

fn head_in_parts(criterion: &mut Criterion) {
    let (policy, limits) = (policy(), HeadLimits::default());
    let mut group = criterion.benchmark_group("head_in_parts");
    for (name, head) in HEADS {
        let mut bytes = head.as_bytes().to_vec();
        group.throughput(Throughput::Bytes(bytes.len() as u64));
        group.bench_function(BenchmarkId::new("scan", name), |bencher| {
            bencher.iter(|| Scanner::default().scan(black_box(&bytes), &limits));
        });
        group.bench_function(BenchmarkId::new("scan_16_bytes_at_a_time", name), |bencher| {
            bencher.iter(|| {
                let mut scanner = Scanner::default();
                for end in (16..bytes.len()).step_by(16).chain([bytes.len()]) {
                    assert!(black_box(scanner.scan(black_box(&bytes[..end]), &limits)).is_ok());
                }
            });
        });
        group.bench_function(BenchmarkId::new("parse", name), |bencher| {
            bencher.iter(|| {
                let mut fields = Fields::new();
                black_box(parse(black_box(&mut bytes), &mut fields)).is_ok()
            });
        });
        group.bench_function(BenchmarkId::new("decide", name), |bencher| {
            let mut fields = Fields::new();
            let head = parse(&mut bytes, &mut fields).expect("a right head");
            bencher.iter(|| decide(black_box(&head), &policy));
        });
    }
    group.finish();
}

fn accept(criterion: &mut Criterion) {
    assert_eq!(accept_key(KEY), accept_key_in_a_loop(KEY));
    assert_eq!(accept_key(KEY), accept_key_of_crate(KEY));
    let mut group = criterion.benchmark_group("accept_key");
    group.bench_function(OURS, |bencher| bencher.iter(|| accept_key(black_box(KEY))));
    group.bench_function("base64_crate", |bencher| bencher.iter(|| accept_key_of_crate(black_box(KEY))));
    group.bench_function("base64_loop", |bencher| bencher.iter(|| accept_key_in_a_loop(black_box(KEY))));
    // What they have in common.
    group.bench_function("sha1_alone", |bencher| bencher.iter(|| digest(black_box(KEY))));
    group.finish();
}

fn digest(key: &[u8; 24]) -> [u8; 20] {
    let mut hash = Sha1::new();
    hash.update(key);
    hash.update(b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    hash.digest().bytes()
}

/// The same with base64 written out, six bits at a time.
fn accept_key_in_a_loop(key: &[u8; 24]) -> [u8; 28] {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let digest = digest(key);
    let mut accept = [b'='; 28];
    for (three, four) in digest.chunks(3).zip(accept.chunks_mut(4)) {
        let bits =
            three.iter().enumerate().fold(0, |bits, (at, byte)| bits | u32::from(*byte) << (16 - 8 * at));
        for (at, digit) in four.iter_mut().take(three.len() + 1).enumerate() {
            *digit = DIGITS[(bits >> (18 - 6 * at)) as usize % 64];
        }
    }
    accept
}

fn accept_key_of_crate(key: &[u8; 24]) -> [u8; 28] {
    let mut accept = [0; 28];
    BASE64_STANDARD.encode_slice(digest(key), &mut accept).expect("20 bytes are 28 characters of base64");
    accept
}

fn handshake(criterion: &mut Criterion) {
    let (policy, template, limits) = (policy(), Template::new(""), HeadLimits::default());
    let mut group = criterion.benchmark_group("handshake");
    for (name, head) in HEADS {
        let mut bytes = head.as_bytes().to_vec();
        let mut out = Vec::with_capacity(256);
        group.bench_function(BenchmarkId::new(OURS, name), |bencher| {
            bencher.iter(|| {
                out.clear();
                answer(black_box(&mut bytes), &policy, &template, &limits, &mut out);
                out.len()
            });
        });
        group.bench_function(BenchmarkId::new("httparse_and_format", name), |bencher| {
            bencher.iter(|| answer_in_short(black_box(&bytes)).expect("a right head").len());
        });
    }
    group.finish();
}

/// From the head to the 101, strictly.
fn answer(bytes: &mut [u8], policy: &Policy, template: &Template, limits: &HeadLimits, out: &mut Vec<u8>) {
    let end = Scanner::default().scan(bytes, limits).expect("a right head").expect("a whole head");
    let mut fields = Fields::new();
    let head = parse(&mut bytes[..end], &mut fields).expect("a right head");
    let Decision::WebSocket(upgrade) = decide(&head, policy) else {
        unreachable!("it asks for a WebSocket");
    };
    template.write(&upgrade.key, None, None, out);
}

/// What many servers do: little is checked, and the answer is formatted.
fn answer_in_short(bytes: &[u8]) -> Option<String> {
    let mut fields = [httparse::EMPTY_HEADER; 64];
    let mut request = httparse::Request::new(&mut fields);
    request.parse(bytes).ok().filter(|status| status.is_complete())?;
    let field = |name: &str| {
        let field = request.headers.iter().find(|field| field.name.eq_ignore_ascii_case(name))?;
        str::from_utf8(field.value).ok()
    };
    let upgrades = field("upgrade")?.eq_ignore_ascii_case("websocket")
        && field("connection")?.split(',').any(|option| option.trim().eq_ignore_ascii_case("upgrade"))
        && field("sec-websocket-version")? == "13";
    let accept = accept_key_of_crate(field("sec-websocket-key")?.as_bytes().try_into().ok()?);
    let mut out = String::new();
    write!(
        out,
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
        Sec-WebSocket-Accept: {}\r\n\r\n",
        str::from_utf8(&accept).ok()?
    )
    .ok()?;
    upgrades.then_some(out)
}

fn main() {
    common::run(&[head, head_in_parts, accept, handshake]);
}
