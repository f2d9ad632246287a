//! DEFLATE (RFC 1951) as slowly and plainly as it can be read, in the manner of zlib's own `puff`.

/// What came of inflating.
#[derive(PartialEq, Eq, Debug)]
pub(crate) enum End {
    /// The last block has ended; so many bytes of input were begun.
    Last(usize),
    /// The input ended before that.
    Short,
    /// It is not DEFLATE, or refers to before the start.
    Broken,
    /// It makes more than it may.
    Full,
}

/// Reads bits, and makes bytes behind those that are there.
pub(crate) struct Puff<'a> {
    input: &'a [u8],
    at: usize,
    bits: u32,
    count: u32,
    out: &'a mut Vec<u8>,
    bytes_max: usize,
    /// The farthest reference so far.
    pub(crate) distance: usize,
}

/// A canonical Huffman code: how many codes of each length, and the symbols in their order.
struct Code {
    counts: [u16; 16],
    symbols: Vec<u16>,
}

const LENGTH_BASE: [u16; 29] = [
    3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 15, 17, 19, 23, 27, 31, 35, 43, 51, 59, 67, 83, 99, 115, 131, 163, 195,
    227, 258,
];
const LENGTH_BITS: [u32; 29] =
    [0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5, 0];
const DISTANCE_BASE: [u16; 30] = [
    1, 2, 3, 4, 5, 7, 9, 13, 17, 25, 33, 49, 65, 97, 129, 193, 257, 385, 513, 769, 1025, 1537, 2049, 3073,
    4097, 6145, 8193, 12289, 16385, 24577,
];
const DISTANCE_BITS: [u32; 30] =
    [0, 0, 0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7, 8, 8, 9, 9, 10, 10, 11, 11, 12, 12, 13, 13];
/// In which order the lengths of the code for lengths come.
const ORDER: [usize; 19] = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15];

impl<'a> Puff<'a> {
    /// Inflates `input` behind what is in `out`, to no more than `bytes_max` in all.
    pub(crate) fn new(input: &'a [u8], out: &'a mut Vec<u8>, bytes_max: usize) -> Puff<'a> {
        Puff { input, at: 0, bits: 0, count: 0, out, bytes_max, distance: 0 }
    }

    pub(crate) fn run(&mut self) -> End {
        match self.blocks() {
            Ok(()) => End::Last(self.at),
            Err(end) => end,
        }
    }

    fn blocks(&mut self) -> Result<(), End> {
        loop {
            let last = self.take(1)? == 1;
            match self.take(2)? {
                0 => self.stored()?,
                1 => {
                    let lengths: Vec<u8> = (0..288)
                        .map(|at| {
                            [8, 9, 7, 8]
                                [usize::from(at > 143) + usize::from(at > 255) + usize::from(at > 279)]
                        })
                        .collect();
                    let (literals, _) = Code::new(&lengths);
                    let (distances, _) = Code::new(&[5; 30]);
                    self.codes(&literals, &distances)?;
                }
                2 => self.dynamic()?,
                _ => return Err(End::Broken),
            }
            if last {
                return Ok(());
            }
        }
    }

    fn take(&mut self, need: u32) -> Result<u32, End> {
        while self.count < need {
            self.bits |= u32::from(*self.input.get(self.at).ok_or(End::Short)?) << self.count;
            self.at += 1;
            self.count += 8;
        }
        let value = self.bits & ((1 << need) - 1);
        self.bits >>= need;
        self.count -= need;
        Ok(value)
    }

    fn make(&mut self, byte: u8) -> Result<(), End> {
        if self.out.len() >= self.bytes_max {
            return Err(End::Full);
        }
        self.out.push(byte);
        Ok(())
    }

    fn stored(&mut self) -> Result<(), End> {
        (self.bits, self.count) = (0, 0);
        let (length, check) = (self.take(16)?, self.take(16)?);
        if length != !check & 0xffff {
            return Err(End::Broken);
        }
        for _ in 0..length {
            let byte = self.take(8)?;
            self.make(byte as u8)?;
        }
        Ok(())
    }

    fn dynamic(&mut self) -> Result<(), End> {
        let (literals, distances) = (self.take(5)? as usize + 257, self.take(5)? as usize + 1);
        let orders = self.take(4)? as usize + 4;
        if literals > 286 || distances > 30 {
            return Err(End::Broken);
        }
        let mut lengths = [0; 19];
        for place in &ORDER[..orders] {
            lengths[*place] = self.take(3)? as u8;
        }
        let (code, left) = Code::new(&lengths);
        if left != 0 {
            return Err(End::Broken);
        }
        let mut lengths = Vec::new();
        while lengths.len() < literals + distances {
            let (length, repeat) = match self.symbol(&code)? {
                symbol @ 0..16 => (symbol as u8, 1),
                16 => (*lengths.last().ok_or(End::Broken)?, 3 + self.take(2)?),
                17 => (0, 3 + self.take(3)?),
                _ => (0, 11 + self.take(7)?),
            };
            lengths.extend((0..repeat).map(|_| length));
        }
        if lengths.len() > literals + distances || lengths[256] == 0 {
            return Err(End::Broken);
        }
        let (literal, distance) = (Code::new(&lengths[..literals]), Code::new(&lengths[literals..]));
        for (code, left) in [&literal, &distance] {
            // Codes must be complete, but for one that has a single symbol of one bit, or none at all.
            if *left < 0 || (*left > 0 && code.counts[2..].iter().any(|count| *count > 0)) {
                return Err(End::Broken);
            }
        }
        self.codes(&literal.0, &distance.0)
    }

    fn codes(&mut self, literals: &Code, distances: &Code) -> Result<(), End> {
        loop {
            let symbol = usize::from(self.symbol(literals)?);
            match symbol {
                0..256 => self.make(symbol as u8)?,
                256 => return Ok(()),
                257..286 => {
                    let length = usize::from(LENGTH_BASE[symbol - 257])
                        + self.take(LENGTH_BITS[symbol - 257])? as usize;
                    let symbol = usize::from(self.symbol(distances)?);
                    let base = usize::from(*DISTANCE_BASE.get(symbol).ok_or(End::Broken)?);
                    let distance = base + self.take(DISTANCE_BITS[symbol])? as usize;
                    if distance > self.out.len() {
                        return Err(End::Broken);
                    }
                    self.distance = self.distance.max(distance);
                    for _ in 0..length {
                        self.make(self.out[self.out.len() - distance])?;
                    }
                }
                _ => return Err(End::Broken),
            }
        }
    }

    fn symbol(&mut self, code: &Code) -> Result<u16, End> {
        let (mut value, mut first, mut index) = (0_i32, 0_i32, 0_i32);
        for count in &code.counts[1..] {
            value |= self.take(1)? as i32;
            let count = i32::from(*count);
            if value - count < first {
                return Ok(code.symbols[(index + value - first) as usize]);
            }
            index += count;
            first = (first + count) << 1;
            value <<= 1;
        }
        Err(End::Broken)
    }
}

impl Code {
    /// The code with these lengths, and how many more codes there could be: less than none if there are too many.
    fn new(lengths: &[u8]) -> (Code, i32) {
        let mut counts = [0; 16];
        for length in lengths {
            counts[usize::from(*length)] += 1;
        }
        let mut left = 1_i32;
        for count in &counts[1..] {
            left = (left << 1) - i32::from(*count);
            if left < 0 {
                break;
            }
        }
        let mut symbols: Vec<u16> =
            (0..lengths.len() as u16).filter(|at| lengths[usize::from(*at)] > 0).collect();
        symbols.sort_by_key(|at| lengths[usize::from(*at)]);
        (Code { counts, symbols }, left)
    }
}
