//! How a tensor is coded: what a decoder must know besides a chunk itself.

use super::ExactShape;
use super::bits::{BitReader, BitWriter, list_bits, read_list, write_list};
use super::place::MOST_DEPTH;
use super::profile::{ESCAPE, KNOTS, MOST_SPECIAL, Profile, SLOTS};
use super::table::{Entry, push_slots};
use crate::CodecError;

/// Stands for the low bits of a list whose numbers are all its middle.
const ALL_EQUAL: u8 = 255;

/// The model of a tensor. Its fields hold what [`ExactModel::from_bytes`] promises.
#[derive(Clone, Debug, PartialEq)]
pub struct ExactModel {
    shape: ExactShape,
    predicted: bool,
    low_bits: u8,
    method: Method,
}

/// The three ways to code high parts.
#[derive(Clone, Debug, PartialEq)]
pub enum Method {
    /// Every chunk is stored as it is.
    Raw,
    /// Distances to the prediction (or to 0), in steps that follow from scales of rows and columns.
    Scaled(Scaled),
    /// Few distinct values.
    Palette(Palette),
}

/// See [`Method::Scaled`].
#[derive(Clone, Debug, PartialEq)]
pub struct Scaled {
    /// Of each row: 4 times the biased exponent of a quarter of its standard deviation.
    pub rows: Scales,
    /// Added to that, of each column.
    pub cols: Scales,
    /// How many powers of two the step that the scales ask for may be finer than the prediction's last digit
    /// before contexts no longer tell.
    pub depth: u8,
    /// The distribution of distances.
    pub profile: Profile,
    /// Slots of high parts that are 0.
    pub zero: u16,
    /// Slots of high parts that are stored.
    pub escape: u16,
    /// Slots of all contexts, one behind the other.
    table: Vec<Entry>,
}

/// Logarithms of scales, in quarters of a power of two.
#[derive(Clone, Debug, PartialEq)]
pub enum Scales {
    /// The same for all.
    Equal(i16),
    /// One for each.
    Each(Vec<i16>),
}

impl Scales {
    /// Number `i`.
    ///
    /// # Panics
    ///
    /// If there is no such number.
    #[inline]
    pub fn at(&self, i: usize) -> i16 {
        match self {
            Self::Equal(scale) => *scale,
            Self::Each(scales) => scales[i],
        }
    }

    /// The middle, and the low bits that the list's code has at best.
    fn code(&self) -> (i16, u8) {
        match self {
            Self::Equal(scale) => (*scale, ALL_EQUAL),
            Self::Each(scales) => {
                let mut sorted = scales.clone();
                sorted.sort_unstable();
                let middle = sorted.get(sorted.len() / 2).copied().unwrap_or(0);
                // With 15 low bits any list can be written.
                let low = (0..16)
                    .min_by_key(|&low| list_bits(scales, middle, low).unwrap_or(u64::MAX))
                    .unwrap_or(15);
                (middle, low as u8)
            }
        }
    }
}

impl From<Vec<i16>> for Scales {
    fn from(scales: Vec<i16>) -> Self {
        match scales.first() {
            Some(&first) if scales.iter().all(|&scale| scale == first) => Self::Equal(first),
            _ => Self::Each(scales),
        }
    }
}

/// See [`Method::Palette`].
#[derive(Clone, Debug, PartialEq)]
pub struct Palette {
    /// At most 255 high parts, ascending.
    pub values: Vec<u16>,
    /// Slots of each.
    pub frequencies: Vec<u16>,
    /// Slots of high parts that are stored.
    pub escape: u16,
    table: Vec<Entry>,
}

impl Scaled {
    /// Builds the tables of all contexts.
    ///
    /// # Errors
    ///
    /// What [`ExactModel::from_bytes`] refuses.
    pub fn new(
        rows: Scales,
        cols: Scales,
        depth: u8,
        profile: Profile,
        zero: u16,
        escape: u16,
    ) -> Result<Self, CodecError> {
        check("depth", depth.into(), 0..=MOST_DEPTH.into(), "0 to 7")?;
        let most = usize::from(MOST_SPECIAL);
        check("slots of zero", zero.into(), 0..=most, "0 to 2000")?;
        check("slots of escape", escape.into(), 1..=most, "1 to 2000")?;
        let contexts = 4 + 4 * usize::from(depth);
        let mut table = Vec::with_capacity(contexts * SLOTS as usize);
        for context in 0..contexts {
            push_slots(&profile.frequencies(context, zero, escape)?, &mut table);
        }
        Ok(Self {
            rows,
            cols,
            depth,
            profile,
            zero,
            escape,
            table,
        })
    }

    /// Entry `context · 4096 + slot` for all contexts: `4 + 4 · depth` times 4096.
    pub fn table(&self) -> &[Entry] {
        &self.table
    }

    /// The frequencies of a context, if the model has it.
    pub(super) fn frequencies(&self, context: usize) -> Option<[u16; 256]> {
        if context >= 4 + 4 * usize::from(self.depth) {
            return None;
        }
        self.profile
            .frequencies(context, self.zero, self.escape)
            .ok()
    }
}

impl Palette {
    /// Builds the table.
    ///
    /// # Errors
    ///
    /// What [`ExactModel::from_bytes`] refuses.
    pub fn new(values: Vec<u16>, frequencies: Vec<u16>, escape: u16) -> Result<Self, CodecError> {
        check("values of the palette", values.len(), 1..=255, "1 to 255")?;
        check(
            "frequencies of the palette",
            frequencies.len(),
            values.len()..=values.len(),
            "as many as values",
        )?;
        let ascending = values.is_sorted_by(|a, b| a < b);
        check("order of the palette", ascending.into(), 1..=1, "ascending")?;
        let mut palette = Self {
            values,
            frequencies,
            escape,
            table: Vec::with_capacity(SLOTS as usize),
        };
        let all = palette.all_frequencies();
        let used = palette.frequencies.iter().filter(|&&f| f > 0).count();
        let count = palette.values.len();
        check("used values of the palette", used, count..=count, "all")?;
        check("slots of escape", escape.into(), 1..=4095, "1 to 4095")?;
        let slots = SLOTS as usize;
        let sum = all.iter().map(|&frequency| usize::from(frequency)).sum();
        check("sum of frequencies", sum, slots..=slots, "4096")?;
        push_slots(&all, &mut palette.table);
        Ok(palette)
    }

    /// The entry of each of the 4096 slots. The symbol is the position in the palette.
    pub fn table(&self) -> &[Entry] {
        &self.table
    }

    /// Those of all symbols.
    pub(super) fn all_frequencies(&self) -> [u16; 256] {
        let mut all = [0; 256];
        all[..self.values.len()].copy_from_slice(&self.frequencies);
        all[ESCAPE as usize] = self.escape;
        all
    }
}

impl ExactModel {
    /// A model from its fields.
    ///
    /// # Errors
    ///
    /// Low bits that the type does not have, or scales that do not fit the shape.
    pub fn new(
        shape: ExactShape,
        predicted: bool,
        low_bits: u8,
        method: Method,
    ) -> Result<Self, CodecError> {
        let most = match method {
            Method::Raw => 0,
            _ => shape.ty().low_bits() as usize,
        };
        check(
            "count of low bits",
            low_bits.into(),
            0..=most,
            "at most the type's",
        )?;
        if let Method::Scaled(scaled) = &method {
            for (scales, count) in [(&scaled.rows, shape.rows()), (&scaled.cols, shape.cols())] {
                if let Scales::Each(scales) = scales {
                    check(
                        "count of scales",
                        scales.len(),
                        count..=count,
                        "that of rows or columns",
                    )?;
                }
            }
        }
        Ok(Self {
            shape,
            predicted,
            low_bits,
            method,
        })
    }

    /// The model of a tensor whose chunks are stored as they are.
    pub fn raw(shape: ExactShape, predicted: bool) -> Self {
        Self {
            shape,
            predicted,
            low_bits: 0,
            method: Method::Raw,
        }
    }

    /// Reads a model. `predicted` says whether the tiers below give a prediction of the tensor.
    ///
    /// # Errors
    ///
    /// Whatever [`ExactModel::to_bytes`] would not have written for this shape.
    pub fn from_bytes(
        shape: ExactShape,
        predicted: bool,
        bytes: &[u8],
    ) -> Result<Self, CodecError> {
        let mut from = Bytes { all: bytes, at: 0 };
        let kind = from.take(1)?[0];
        if kind == 0 {
            from.end()?;
            return Ok(Self::raw(shape, predicted));
        }
        let low_bits = from.take(1)?[0];
        let method = match kind {
            1 => Method::Scaled(read_scaled(&shape, &mut from)?),
            2 => Method::Palette(read_palette(&shape, &mut from)?),
            _ => {
                return Err(CodecError::ExactModel {
                    what: "method",
                    found: kind.into(),
                    expected: "0, 1 or 2",
                });
            }
        };
        from.end()?;
        Self::new(shape, predicted, low_bits, method)
    }

    /// The model in bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        match &self.method {
            Method::Raw => vec![0],
            Method::Scaled(scaled) => write_scaled(self.low_bits, scaled),
            Method::Palette(palette) => {
                write_palette(self.low_bits, self.shape.ty().high_bytes(), palette)
            }
        }
    }

    /// The shape of the tensor.
    pub fn shape(&self) -> &ExactShape {
        &self.shape
    }

    /// Whether the tensor has a prediction.
    pub fn predicted(&self) -> bool {
        self.predicted
    }

    /// How many of the bits below the high part are stored, from the highest on; the others are 0.
    pub fn low_bits(&self) -> u32 {
        self.low_bits.into()
    }

    /// How high parts are coded.
    pub fn method(&self) -> &Method {
        &self.method
    }
}

fn write_scaled(low_bits: u8, scaled: &Scaled) -> Vec<u8> {
    let normal = scaled.profile == Profile::normal();
    let mut bytes = vec![1, low_bits, scaled.depth, u8::from(!normal)];
    bytes.extend(scaled.zero.to_le_bytes());
    bytes.extend(scaled.escape.to_le_bytes());
    if !normal {
        bytes.extend(scaled.profile.0);
    }
    let mut lists = BitWriter::default();
    for list in [&scaled.rows, &scaled.cols] {
        let (middle, low) = list.code();
        bytes.extend(middle.to_le_bytes());
        bytes.push(low);
        if let Scales::Each(list) = list {
            write_list(list, middle, low.into(), &mut lists);
        }
    }
    bytes.extend(lists.finish());
    bytes
}

fn read_scaled(shape: &ExactShape, from: &mut Bytes<'_>) -> Result<Scaled, CodecError> {
    let [depth, own_profile] = [from.take(1)?[0], from.take(1)?[0]];
    let (zero, escape) = (from.u16()?, from.u16()?);
    check("flag of a profile", own_profile.into(), 0..=1, "0 or 1")?;
    let profile = if own_profile == 1 {
        let knots: [u8; KNOTS] = std::array::from_fn(|_| 0);
        let bytes = from.take(knots.len())?;
        Profile(std::array::from_fn(|i| bytes[i]))
    } else {
        Profile::normal()
    };
    let mut codes = [(0, 0); 2];
    for code in &mut codes {
        *code = (from.u16()? as i16, from.take(1)?[0]);
        if code.1 != ALL_EQUAL {
            check(
                "low bits of scales",
                code.1.into(),
                0..=15,
                "0 to 15 or 255",
            )?;
        }
    }
    let mut lists = BitReader::new(from.rest());
    let short = CodecError::ExactModelLength {
        found: from.all.len(),
    };
    let mut list = |count, (middle, low)| match low {
        ALL_EQUAL => Ok(Scales::Equal(middle)),
        low => read_list(count, middle, low.into(), &mut lists)
            .map(Scales::Each)
            .ok_or(short.clone()),
    };
    let rows = list(shape.rows(), codes[0])?;
    let cols = list(shape.cols(), codes[1])?;
    let end = lists.end().ok_or(short)?;
    from.take(end)?;
    Scaled::new(rows, cols, depth, profile, zero, escape)
}

fn write_palette(low_bits: u8, high_bytes: usize, palette: &Palette) -> Vec<u8> {
    let mut bytes = vec![2, low_bits];
    bytes.extend((palette.values.len() as u16).to_le_bytes());
    bytes.extend(palette.escape.to_le_bytes());
    for value in &palette.values {
        bytes.extend(&value.to_le_bytes()[..high_bytes]);
    }
    for frequency in &palette.frequencies {
        bytes.extend(frequency.to_le_bytes());
    }
    bytes
}

fn read_palette(shape: &ExactShape, from: &mut Bytes<'_>) -> Result<Palette, CodecError> {
    let (count, escape) = (usize::from(from.u16()?), from.u16()?);
    let mut values = Vec::new();
    for _ in 0..count {
        values.push(match shape.ty().high_bytes() {
            1 => from.take(1)?[0].into(),
            _ => from.u16()?,
        });
    }
    let mut frequencies = Vec::new();
    for _ in 0..count {
        frequencies.push(from.u16()?);
    }
    Palette::new(values, frequencies, escape)
}

fn check(
    what: &'static str,
    found: usize,
    range: std::ops::RangeInclusive<usize>,
    expected: &'static str,
) -> Result<(), CodecError> {
    if range.contains(&found) {
        return Ok(());
    }
    Err(CodecError::ExactModel {
        what,
        found,
        expected,
    })
}

/// The bytes of a model, read from front to back.
struct Bytes<'a> {
    all: &'a [u8],
    at: usize,
}

impl<'a> Bytes<'a> {
    fn rest(&self) -> &'a [u8] {
        &self.all[self.at..]
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], CodecError> {
        let bytes = self.rest().get(..count);
        let bytes = bytes.ok_or(CodecError::ExactModelLength {
            found: self.all.len(),
        })?;
        self.at += count;
        Ok(bytes)
    }

    fn u16(&mut self) -> Result<u16, CodecError> {
        let bytes = self.take(2)?;
        Ok(u16::from_le_bytes([bytes[0], bytes[1]]))
    }

    fn end(&self) -> Result<(), CodecError> {
        if self.at == self.all.len() {
            return Ok(());
        }
        Err(CodecError::ExactModelLength {
            found: self.all.len(),
        })
    }
}
