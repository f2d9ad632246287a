//! Whether bytes are UTF-8.

mod common;

use std::hint::black_box;

use common::OURS;
use criterion::{BenchmarkId, Criterion, Throughput};
use moongate_wire::utf8::Utf8;

const SIZES: [usize; 4] = [16, 125, 1024, 65_536];

/// Of one, mostly two, and three bytes a character, each with what stands between words.
const TEXTS: [(&str, &str); 3] = [
    ("ascii", "it carries frames, and a client asks to upgrade "),
    ("greek", "ὁ μέγας κῆπος ἔχει πύλην τῆς σελήνης "),
    ("chinese", "月門是花園圍牆上的圓形開口,通向另一處。"),
];

fn utf8(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("utf8");
    for (name, text) in TEXTS {
        for size in SIZES {
            let text = whole_characters(&text.repeat(size / text.len() + 1), size);
            group.throughput(Throughput::Bytes(text.len() as u64));
            let case = format!("{name}_{size}");
            group.bench_function(BenchmarkId::new(OURS, &case), |bencher| {
                bencher.iter(|| Utf8::default().push(black_box(&text)).is_ok());
            });
            group.bench_function(BenchmarkId::new("std", &case), |bencher| {
                bencher.iter(|| str::from_utf8(black_box(&text)).is_ok());
            });
            group.bench_function(BenchmarkId::new("simdutf8", &case), |bencher| {
                bencher.iter(|| simdutf8::basic::from_utf8(black_box(&text)).is_ok());
            });
        }
    }
    group.finish();
}

/// The first `len` bytes of `text`, but for a character that they would end in.
fn whole_characters(text: &str, len: usize) -> Vec<u8> {
    text.as_bytes()[..text.floor_char_boundary(len)].to_vec()
}

fn main() {
    common::run(&[utf8]);
}
