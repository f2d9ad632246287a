//! A handshake: from the bytes of a head to the bytes of the 101.

use std::hint::black_box;
use std::mem::MaybeUninit;

use criterion::{Criterion, Throughput};
use moongate_wire::accept::{Template, accept_key};
use moongate_wire::decide::{Decision, Policy, decide};
use moongate_wire::head::{FIELDS_MAX, Fields, parse};
use moongate_wire::route::Routes;
use moongate_wire::scan::{HeadLimits, Scanner};
use sha1_smol::Sha1;

/// As small as a handshake gets.
const SMALL: &str = "GET /topics/news HTTP/1.1\r\n\
    Host: localhost:8080\r\n\
    Upgrade: websocket\r\n\
    Connection: Upgrade\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
    Sec-WebSocket-Version: 13\r\n\r\n";

/// What a browser sends.
const BROWSER: &str = "GET /topics/news HTTP/1.1\r\n\
    Host: localhost:8080\r\n\
    Connection: Upgrade\r\n\
    Pragma: no-cache\r\n\
    Cache-Control: no-cache\r\n\
    User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/141.0.0.0 Safari/537.36\r\n\
    Upgrade: websocket\r\n\
    Origin: http://localhost:8080\r\n\
    Sec-WebSocket-Version: 13\r\n\
    Accept-Encoding: gzip, deflate, br, zstd\r\n\
    Accept-Language: en-GB,en;q=0.9\r\n\
    Cookie: session=0123456789abcdef0123456789abcdef\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
    Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n\r\n";

const HEADS: [(&str, &str); 2] = [("small", SMALL), ("browser", BROWSER)];

const KEY: &[u8; 24] = b"dGhlIHNhbXBsZSBub25jZQ==";

fn policy() -> Policy {
    Policy { routes: Routes::usual(true, true).with_health().into(), may_publish: true, ..Policy::default() }
}

fn scan(criterion: &mut Criterion) {
    let limits = HeadLimits::default();
    let mut group = criterion.benchmark_group("scan");
    for (name, head) in HEADS {
        let bytes = head.as_bytes();
        group.throughput(Throughput::Bytes(bytes.len() as u64));
        group.bench_function(format!("{name}/whole"), |bencher| {
            bencher.iter(|| Scanner::default().scan(black_box(bytes), &limits));
        });
        group.bench_function(format!("{name}/16_bytes_at_a_time"), |bencher| {
            bencher.iter(|| {
                let mut scanner = Scanner::default();
                for end in (16..bytes.len()).step_by(16).chain([bytes.len()]) {
                    assert!(black_box(scanner.scan(black_box(&bytes[..end]), &limits)).is_ok());
                }
            });
        });
    }
    group.finish();
}

fn parse_and_decide(criterion: &mut Criterion) {
    let policy = policy();
    let mut group = criterion.benchmark_group("parse");
    for (name, head) in HEADS {
        let mut bytes = head.as_bytes().to_vec();
        group.throughput(Throughput::Bytes(bytes.len() as u64));
        group.bench_function(format!("{name}/httparse_alone"), |bencher| {
            bencher.iter(|| {
                let mut fields = [const { MaybeUninit::uninit() }; FIELDS_MAX];
                let mut request = httparse::Request::new(&mut []);
                black_box(request.parse_with_uninit_headers(black_box(&bytes), &mut fields)).is_ok()
            });
        });
        group.bench_function(format!("{name}/parse"), |bencher| {
            bencher.iter(|| {
                let mut fields = Fields::new();
                black_box(parse(black_box(&mut bytes), &mut fields)).is_ok()
            });
        });
        group.bench_function(format!("{name}/decide"), |bencher| {
            let mut fields = Fields::new();
            let head = parse(&mut bytes, &mut fields).expect("a right head");
            bencher.iter(|| decide(black_box(&head), &policy));
        });
    }
    group.finish();
}

fn handshake(criterion: &mut Criterion) {
    let (policy, template, limits) = (policy(), Template::new(""), HeadLimits::default());
    let mut group = criterion.benchmark_group("handshake");
    for (name, head) in HEADS {
        let mut bytes = head.as_bytes().to_vec();
        let mut out = Vec::with_capacity(256);
        group.bench_function(format!("{name}/from_head_to_101"), |bencher| {
            bencher.iter(|| {
                let end = Scanner::default().scan(black_box(&bytes), &limits).expect("a right head");
                let mut fields = Fields::new();
                let head =
                    parse(&mut bytes[..end.expect("a whole head")], &mut fields).expect("a right head");
                let Decision::WebSocket(upgrade) = decide(&head, &policy) else {
                    unreachable!("it asks for a WebSocket");
                };
                out.clear();
                template.write(&upgrade.key, None, None, &mut out);
                out.len()
            });
        });
    }
    group.finish();
}

fn accept(criterion: &mut Criterion) {
    assert_eq!(accept_key(KEY), scalar_accept_key(KEY));
    let mut group = criterion.benchmark_group("accept_key");
    group.bench_function("accept_key", |bencher| bencher.iter(|| accept_key(black_box(KEY))));
    group.bench_function("scalar", |bencher| bencher.iter(|| scalar_accept_key(black_box(KEY))));
    group.finish();
}

/// The same with base64 written out, six bits at a time.
fn scalar_accept_key(key: &[u8; 24]) -> [u8; 28] {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut hash = Sha1::new();
    hash.update(key);
    hash.update(b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    let digest = hash.digest().bytes();
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

fn main() {
    moongate_benches::run(&[scan, parse_and_decide, handshake, accept]);
}
