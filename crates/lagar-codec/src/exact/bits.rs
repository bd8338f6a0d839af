//! Bit streams: lists of small numbers in a model, and the low bits of a chunk.

/// The most ones before a zero in a list: more than any spread of scales needs.
const MOST_ONES: u32 = 2048;

/// Writes bits from the lowest bit of each byte on.
#[derive(Debug, Default)]
pub(super) struct BitWriter {
    bytes: Vec<u8>,
    held: u64,
    count: u32,
}

impl BitWriter {
    /// Appends the lowest `count` (at most 32) bits of a number that has no others.
    #[inline(always)]
    pub(super) fn push(&mut self, value: u32, count: u32) {
        self.held |= u64::from(value) << self.count;
        self.count += count;
        while self.count >= 8 {
            self.bytes.push(self.held as u8);
            self.held >>= 8;
            self.count -= 8;
        }
    }

    /// All bytes, the last filled up with zeros.
    pub(super) fn finish(mut self) -> Vec<u8> {
        if self.count > 0 {
            self.bytes.push(self.held as u8);
        }
        self.bytes
    }
}

/// Reads what [`BitWriter`] wrote. Behind the end there is nothing.
#[derive(Debug)]
pub(super) struct BitReader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> BitReader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    fn bit(&mut self) -> Option<u32> {
        let byte = *self.bytes.get(self.at / 8)?;
        let bit = byte >> (self.at % 8) & 1;
        self.at += 1;
        Some(u32::from(bit))
    }

    /// The next `count` bits as a number.
    pub(super) fn number(&mut self, count: u32) -> Option<u32> {
        let mut value = 0;
        for i in 0..count {
            value |= self.bit()? << i;
        }
        Some(value)
    }

    /// The number of bytes of which something was read, if the bits left in the last are 0.
    pub(super) fn end(self) -> Option<usize> {
        let end = self.at.div_ceil(8);
        let left = if self.at.is_multiple_of(8) {
            0
        } else {
            self.bytes[end - 1] >> (self.at % 8)
        };
        (left == 0).then_some(end)
    }
}

/// A number around 0 as one from 0 on: 0, −1, 1, −2, …
fn fold(value: i32) -> u32 {
    ((value << 1) ^ (value >> 31)) as u32
}

fn unfold(value: u32) -> i32 {
    (value >> 1) as i32 ^ -((value & 1) as i32)
}

/// Writes numbers around `middle` in Golomb and Rice's code with `low` low bits.
pub(super) fn write_list(values: &[i16], middle: i16, low: u32, to: &mut BitWriter) {
    for &value in values {
        let value = fold(i32::from(value) - i32::from(middle));
        for _ in 0..value >> low {
            to.push(1, 1);
        }
        to.push(0, 1);
        to.push(value & ((1 << low) - 1), low);
    }
}

/// Bits that [`write_list`] writes; nothing if [`read_list`] would not read them.
pub(super) fn list_bits(values: &[i16], middle: i16, low: u32) -> Option<u64> {
    let mut bits = 0;
    for &value in values {
        let ones = fold(i32::from(value) - i32::from(middle)) >> low;
        if ones > MOST_ONES {
            return None;
        }
        bits += u64::from(ones) + 1 + u64::from(low);
    }
    Some(bits)
}

/// Reads `count` numbers. `None` if they end early or do not fit 16 bits.
pub(super) fn read_list(
    count: usize,
    middle: i16,
    low: u32,
    from: &mut BitReader<'_>,
) -> Option<Vec<i16>> {
    // Every number has at least one bit.
    if count > 8 * from.bytes.len() {
        return None;
    }
    let mut values = Vec::with_capacity(count);
    for _ in 0..count {
        let mut ones = 0;
        while from.bit()? == 1 {
            ones += 1;
            if ones > MOST_ONES {
                return None;
            }
        }
        let value = unfold(ones << low | from.number(low)?);
        values.push(i16::try_from(i32::from(middle) + value).ok()?);
    }
    Some(values)
}
