//! An inflater of the tests' own, after RFC 1951 alone: slow, and strict about distances. zlib takes any distance that
//! leads to a byte it has already made, so it cannot tell whether a sender kept to its window.

/// What a message inflates to, and the furthest that anything in it refers back.
pub(crate) struct Judged {
    pub(crate) bytes: Vec<u8>,
    pub(crate) distance_max: usize,
}

/// Inflates a message as it is on the wire, without its tail. `None`: it is not right.
pub(crate) fn inflate(payload: &[u8]) -> Option<Judged> {
    let mut input = payload.to_vec();
    input.extend_from_slice(&[0, 0, 0xff, 0xff]);
    let mut bits = Bits { bytes: &input, at: 0 };
    let mut judged = Judged { bytes: Vec::new(), distance_max: 0 };
    while bits.at.div_ceil(8) < input.len() {
        let last = bits.take(1)? == 1;
        match bits.take(2)? {
            0 => stored(&mut bits, &mut judged)?,
            1 => codes(&mut bits, &mut judged, &fixed())?,
            2 => {
                let tables = dynamic(&mut bits)?;
                codes(&mut bits, &mut judged, &tables)?;
            }
            _ => return None,
        }
        if last {
            bits.at = bits.at.next_multiple_of(8);
        }
    }
    Some(judged)
}

struct Bits<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Bits<'_> {
    fn take(&mut self, count: usize) -> Option<usize> {
        let mut value = 0;
        for index in 0..count {
            let byte = *self.bytes.get(self.at / 8)?;
            value |= usize::from(byte >> (self.at % 8) & 1) << index;
            self.at += 1;
        }
        Some(value)
    }
}

/// A code by how long each symbol's is.
struct Code(Vec<(usize, usize, usize)>);

impl Code {
    fn new(lengths: &[usize]) -> Code {
        let mut code = 0;
        let mut all = Vec::new();
        for length in 1..=15 {
            code <<= 1;
            for (symbol, _) in lengths.iter().enumerate().filter(|(_, other)| **other == length) {
                all.push((length, code, symbol));
                code += 1;
            }
        }
        Code(all)
    }

    fn read(&self, bits: &mut Bits<'_>) -> Option<usize> {
        let (mut length, mut code) = (0, 0);
        for (wanted, this, symbol) in &self.0 {
            while length < *wanted {
                code = code << 1 | bits.take(1)?;
                length += 1;
            }
            if code == *this {
                return Some(*symbol);
            }
        }
        None
    }
}

fn stored(bits: &mut Bits<'_>, judged: &mut Judged) -> Option<()> {
    bits.at = bits.at.next_multiple_of(8);
    let len = bits.take(16)?;
    if bits.take(16)? != len ^ 0xffff {
        return None;
    }
    for _ in 0..len {
        judged.bytes.push(bits.take(8)? as u8);
    }
    Some(())
}

fn fixed() -> (Code, Code) {
    let lengths: Vec<usize> = (0..288)
        .map(|symbol| match symbol {
            0..=143 => 8,
            144..=255 => 9,
            256..=279 => 7,
            _ => 8,
        })
        .collect();
    (Code::new(&lengths), Code::new(&[5; 30]))
}

fn dynamic(bits: &mut Bits<'_>) -> Option<(Code, Code)> {
    let (literals, distances, count) = (bits.take(5)? + 257, bits.take(5)? + 1, bits.take(4)? + 4);
    let mut lengths = [0; 19];
    for symbol in [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15].into_iter().take(count) {
        lengths[symbol] = bits.take(3)?;
    }
    let code = Code::new(&lengths);
    let mut lengths = Vec::new();
    while lengths.len() < literals + distances {
        match code.read(bits)? {
            16 => {
                let last = *lengths.last()?;
                for _ in 0..bits.take(2)? + 3 {
                    lengths.push(last);
                }
            }
            17 => lengths.resize(lengths.len() + bits.take(3)? + 3, 0),
            18 => lengths.resize(lengths.len() + bits.take(7)? + 11, 0),
            length => lengths.push(length),
        }
    }
    (lengths.len() == literals + distances)
        .then(|| (Code::new(&lengths[..literals]), Code::new(&lengths[literals..])))
}

fn codes(bits: &mut Bits<'_>, judged: &mut Judged, (literals, distances): &(Code, Code)) -> Option<()> {
    loop {
        let symbol = literals.read(bits)?;
        let length = match symbol {
            0..=255 => {
                judged.bytes.push(symbol as u8);
                continue;
            }
            256 => return Some(()),
            257..=264 => symbol - 254,
            265..=284 => {
                let extra = (symbol - 261) / 4;
                ((4 + (symbol - 261) % 4) << extra) + 3 + bits.take(extra)?
            }
            285 => 258,
            _ => return None,
        };
        let symbol = distances.read(bits)?;
        let distance = match symbol {
            0..=3 => symbol + 1,
            4..=29 => {
                let extra = symbol / 2 - 1;
                ((2 + symbol % 2) << extra) + 1 + bits.take(extra)?
            }
            _ => return None,
        };
        judged.distance_max = judged.distance_max.max(distance);
        let from = judged.bytes.len().checked_sub(distance)?;
        for at in from..from + length {
            judged.bytes.push(judged.bytes[at]);
        }
    }
}
