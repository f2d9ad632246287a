//! Every seed that was kept, and a few thousand neighbours of them, through their targets.

use std::fs;
use std::path::Path;

use moongate_fuzz::TARGETS;

/// How many mutated seeds each target gets.
const MUTANTS: usize = 3000;

/// The seeds of a target, by name.
fn seeds(target: &str) -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds").join(target);
    let entries = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut seeds: Vec<_> = entries
        .map(|entry| {
            let path = entry.expect("a folder can be read").path();
            let bytes = fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            (path.display().to_string(), bytes)
        })
        .collect();
    seeds.sort();
    assert!(!seeds.is_empty(), "{target} has no seeds");
    seeds
}

#[test]
fn every_seed_still_passes() {
    for (name, target) in TARGETS {
        for (path, bytes) in seeds(name) {
            // The name of the one that fails is the last line before its panic.
            println!("{path}");
            target(&bytes);
        }
    }
}

#[test]
fn neighbours_of_the_seeds_pass() {
    for (name, target) in TARGETS {
        let seeds = seeds(name);
        let mut rng = Rng(0x6d6f_6f6e_6761_7465);
        for _ in 0..MUTANTS {
            let (path, mut bytes) = seeds[rng.below(seeds.len())].clone();
            let (_, other) = &seeds[rng.below(seeds.len())];
            for _ in 0..=rng.below(4) {
                mutate(&mut bytes, other, &mut rng);
            }
            println!("{name} {path} {}", bytes.escape_ascii());
            target(&bytes);
        }
    }
}

/// One small change: a byte, a bit, a piece left out or doubled, a piece of another seed put in.
fn mutate(bytes: &mut Vec<u8>, other: &[u8], rng: &mut Rng) {
    let at = rng.below(bytes.len() + 1);
    let end = (at + 1 + rng.below(16)).min(bytes.len());
    match rng.below(5) {
        0 if at < bytes.len() => bytes[at] = rng.below(256) as u8,
        1 if at < bytes.len() => bytes[at] ^= 1 << rng.below(8),
        2 => drop(bytes.drain(at..end)),
        3 => {
            let piece = bytes[at..end].to_vec();
            bytes.splice(at..at, piece);
        }
        _ => {
            let from = rng.below(other.len() + 1);
            let until = (from + 1 + rng.below(32)).min(other.len());
            bytes.splice(at..at, other[from..until].iter().copied());
        }
    }
}

/// SplitMix64.
struct Rng(u64);

impl Rng {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((u128::from(bits ^ (bits >> 31)) * bound as u128) >> 64) as usize
    }
}
