//! One tile and what an instruction set does with it: the integer work of every multiplication.

use std::ops::Range;

use lagar_codec::{Activations, BLOCK_COLS, GROUP, ROW_UNIT};

use super::lookup::Lookup;
use super::portable;
use super::stage::WindowStage;
use super::tasks::{Output, Task};
use crate::Isa;

/// Bytes of 16 rows × 4 columns of decoded levels, the operand of one step of dot products.
pub(super) const UNIT: usize = ROW_UNIT * BLOCK_COLS;

/// The most that [`Ops::multiply`] takes where sums stay in vector registers.
const FEW: usize = 4;

/// How far ahead of their use codes are asked for, in bytes: more than what memory delivers while it
/// answers one request. Streams of tiles lie one after the other, so this also reaches into the next.
#[cfg(target_arch = "x86_64")]
pub(super) const AHEAD: usize = 4096;

/// The same where a tile is decoded and then multiplied with several vectors, which takes nothing from memory: what is asked for as
/// one tile is decoded comes while it is multiplied.
#[cfg(target_arch = "x86_64")]
pub(super) const DECODE_AHEAD: usize = 2 * AHEAD;

/// A tile's stream.
#[derive(Clone, Copy)]
pub(super) struct Tile<'a> {
    /// What its windows decode to.
    pub(super) lookup: &'a Lookup,
    codes: &'a [u8],
    units: usize,
    blocks: usize,
}

impl<'a> Tile<'a> {
    /// A tile of `units` times 16 rows and `blocks` times 4 columns; `codes` is its stream, the
    /// leading zero byte included, and 64 bytes more.
    ///
    /// # Panics
    ///
    /// If `codes` is shorter than that.
    #[inline]
    pub(super) fn new(lookup: &'a Lookup, codes: &'a [u8], units: usize, blocks: usize) -> Self {
        assert!(codes.len() > units * blocks * lookup.unit_bytes() + UNIT);
        Self {
            lookup,
            codes,
            units,
            blocks,
        }
    }

    /// The stream and 64 bytes more.
    pub(super) fn codes(&self) -> &'a [u8] {
        self.codes
    }

    /// Blocks of 4 columns.
    pub(super) fn blocks(&self) -> usize {
        self.blocks
    }

    /// Bytes from the codes of one block to those of the next.
    pub(super) fn block_bytes(&self) -> usize {
        self.units * self.lookup.unit_bytes()
    }

    /// Where the windows of unit `unit` of block 0 are read: from here on, for every unit `u` and
    /// block `b` of the tile, the 64 bytes at `b · block_bytes() + (u − unit) · unit_bytes()` are in
    /// bounds, and hold its 64 windows at [`Lookup::place`]. Below a depth of 8, 65 bytes are.
    ///
    /// # Panics
    ///
    /// If the tile has no such unit.
    pub(super) fn unit(&self, unit: usize) -> *const u8 {
        // The last unit of the last block begins `unit_bytes` before the end of the stream, whose
        // first byte is the leading one; 64 bytes follow the stream, and `lead <= 1`. So the load
        // ends at most at `1 + stream − unit_bytes + 64 <= codes.len()`. `lead` is 0 below a depth of 8.
        assert!(unit < self.units);
        self.codes[self.lookup.place().lead + unit * self.lookup.unit_bytes()..].as_ptr()
    }

    /// Checks the arguments of [`Ops::dot`].
    pub(super) fn check_dot(
        &self,
        units: &Range<usize>,
        few: usize,
        by: &Factors<'_>,
        sums: &[f32],
    ) {
        self.check_units(units);
        by.check(few, self.blocks, units.len(), sums);
    }

    /// Checks that the tile has some units, and all of these.
    pub(super) fn check_units(&self, units: &Range<usize>) {
        assert!(units.start < units.end && units.end <= self.units);
    }

    /// Checks the arguments of [`Ops::decode`].
    pub(super) fn check_decode(&self, units: &Range<usize>, out: &[u8]) {
        self.check_units(units);
        assert!(out.len() == units.len() * self.blocks * UNIT);
    }
}

/// What levels are multiplied with: vectors of bytes and scales.
#[derive(Clone, Copy)]
pub(super) struct Factors<'a> {
    /// Vector `t` is the values from `t · stride` on, as many as the tile has columns.
    pub(super) x: &'a [i8],
    /// Values from one vector to the next.
    pub(super) stride: usize,
    /// The sum of each vector's values.
    pub(super) x_sums: &'a [i32],
    /// The scale of each vector.
    pub(super) x_scales: &'a [f32],
    /// The scale of each row.
    pub(super) scales: &'a [f32],
}

impl<'a> Factors<'a> {
    /// One vector, and the rows from one on.
    #[cfg(target_arch = "x86_64")]
    pub(super) fn part(&self, vector: usize, row: usize) -> Self {
        Self {
            x: &self.x[vector * self.stride..],
            x_sums: &self.x_sums[vector..=vector],
            x_scales: &self.x_scales[vector..=vector],
            scales: &self.scales[row..],
            ..*self
        }
    }

    /// Some vectors' part of a column group, and scales.
    pub(super) fn new(
        x: &'a Activations,
        group: usize,
        vectors: Range<usize>,
        scales: &'a [f32],
    ) -> Self {
        let own = group * x.n + vectors.start..group * x.n + vectors.end;
        Self {
            x: &x.q[vectors.start * x.padded_width + group * GROUP..],
            stride: x.padded_width,
            x_sums: &x.sum[own.clone()],
            x_scales: &x.scale[own],
            scales,
        }
    }

    /// Checks the lengths, for 1 to `most` vectors, `units` times 16 rows and `blocks` times 4 columns.
    pub(super) fn check(&self, most: usize, blocks: usize, units: usize, sums: &[f32]) {
        let (count, rows) = (self.x_sums.len(), units * ROW_UNIT);
        assert!((1..=most).contains(&count) && self.x_scales.len() == count);
        assert!(self.x.len() >= (count - 1) * self.stride + blocks * BLOCK_COLS);
        assert!(self.scales.len() == rows && sums.len() == count * rows);
    }
}

/// Decoded levels and the vectors that they are multiplied with.
#[derive(Clone, Copy)]
pub(super) struct Product<'a> {
    /// What the levels were decoded with.
    #[cfg_attr(
        not(any(target_arch = "x86_64", target_arch = "aarch64")),
        expect(dead_code, reason = "elsewhere levels have no offset")
    )]
    pub(super) lookup: &'a Lookup,
    /// Decoded by [`Ops::decode`]: `units × blocks × 64` bytes.
    pub(super) levels: &'a [u8],
    /// Units of 16 rows.
    pub(super) units: usize,
    /// Blocks of 4 columns.
    pub(super) blocks: usize,
    /// 1 to [`Ops::together`] vectors, and scales.
    pub(super) by: Factors<'a>,
}

impl Product<'_> {
    /// Checks the lengths, for up to 4 vectors.
    pub(super) fn check(&self, sums: &[f32]) {
        self.check_up_to(FEW, sums);
    }

    /// Checks the lengths, for 1 to `most` vectors.
    pub(super) fn check_up_to(&self, most: usize, sums: &[f32]) {
        assert!(self.units > 0 && self.levels.len() == self.units * self.blocks * UNIT);
        self.by.check(most, self.blocks, self.units, sums);
    }
}

/// Products with a few vectors more as codes are decoded.
#[derive(Clone, Copy)]
pub(super) struct Several {
    /// The fewest vectors with which this is faster than [`Ops::dot`].
    pub(super) least: fn(&Lookup) -> usize,
    /// The most with which it is faster than decoding the tile first; more than `at_once` are taken in parts.
    pub(super) most: fn(&Lookup) -> usize,
    /// The most vectors at a time.
    pub(super) at_once: usize,
    /// A number of rows of which sums are a multiple.
    pub(super) rows: usize,
    /// `products(stage, x, task, sums, output)`: the task's results. There is room for `vectors × rows` sums with rows rounded up.
    pub(super) products: unsafe fn(&WindowStage<'_>, &Activations, &Task, &mut [f32], Output<'_>),
}

/// The kernels of one instruction set. Dot products are sums of integers below 2²⁴, so exact also as f32; what they are
/// multiplied with and added to follows [`lagar_codec::reference::matmul_int8`]. So all give the same bits.
///
/// Calling one requires that the processor has the instruction set; everything else is checked.
#[derive(Clone, Copy)]
pub(super) struct Ops {
    /// `dot(tile, units, by, sums)`: adds the dot products of the rows of `units` with up to [`Ops::few`] vectors, each times
    /// the scales of its row and its vector, to `vectors × rows` sums.
    pub(super) dot: unsafe fn(&Tile<'_>, Range<usize>, &Factors<'_>, &mut [f32]),
    /// Vectors up to which that is faster than decoding the tile first.
    pub(super) few: fn(&Lookup) -> usize,
    /// The same of all column groups with a few vectors more, where an instruction set has a way.
    pub(super) several: Option<Several>,
    /// `decode(tile, units, out)`: the levels of `units`, plus [`Ops::offset`], as bytes: unit by
    /// unit, in it block by block, in it row by row.
    pub(super) decode: unsafe fn(&Tile<'_>, Range<usize>, &mut [u8]),
    /// What is added to the levels so that they are unsigned bytes; 0 where signed bytes are used.
    pub(super) offset: fn(&Lookup) -> u8,
    /// Vectors that `multiply` takes at once.
    pub(super) together: usize,
    /// `multiply(product, sums)`: the same as [`Ops::dot`] with decoded levels and up to [`Ops::together`] vectors.
    pub(super) multiply: unsafe fn(&Product<'_>, &mut [f32]),
    /// What a thread calls after the last `multiply` of a task: gives back what that has set up in the processor.
    pub(super) release: unsafe fn(),
    /// `scales(codes, out)`: the values of scale codes; lengths are a multiple of 16.
    pub(super) scales: unsafe fn(&[u8], &mut [f32]),
    /// `peak(products)`: at least so many products, with nothing around them.
    pub(super) peak: unsafe fn(u64),
}

impl Ops {
    /// The kernels of an instruction set.
    pub(super) fn of(isa: Isa) -> Self {
        match isa {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => super::avx512::OPS,
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512Bw => super::avx512::OPS_BW,
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512BwVnni => super::avx512::OPS_BW_VNNI,
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => super::avx2::OPS,
            #[cfg(target_arch = "x86_64")]
            Isa::AvxVnni => super::avx2::OPS_VNNI,
            #[cfg(target_arch = "x86_64")]
            Isa::Amx => super::amx::OPS,
            #[cfg(target_arch = "aarch64")]
            Isa::Neon => super::neon::OPS,
            #[cfg(target_arch = "aarch64")]
            Isa::NeonDotprod => super::neon::OPS_DOTPROD,
            #[cfg(target_arch = "aarch64")]
            Isa::NeonI8mm => super::neon::OPS_I8MM,
            _ => portable::OPS,
        }
    }
}
