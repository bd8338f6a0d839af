//! The instructions of AMX, and the shapes that tiles have in a product.

use std::arch::asm;
use std::arch::x86_64::*;

use lagar_codec::{BLOCK_COLS, ROW_UNIT};

use super::super::avx512;
use super::super::tile::{Product, UNIT};

/// Rows of a tile, at most.
pub(super) const ROWS: usize = 16;

/// Bytes of a tile's row, at most.
pub(super) const ROW_BYTES: usize = 64;

/// Blocks of 4 columns that one instruction multiplies, half of a group: as many as a tile has rows.
pub(super) const HALF: usize = ROWS;

/// Tiles 0 to 3 hold the dot products of a unit each.
const UNITS: usize = 4;

/// The vectors' first 64 columns of a group.
pub(super) const X0: u8 = 4;
/// And those that follow.
pub(super) const X1: u8 = 5;
/// A unit's levels in the first 64 columns.
pub(super) const LEVELS0: u8 = 6;
/// And in those that follow.
pub(super) const LEVELS1: u8 = 7;

/// What the shapes of tiles follow from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shape {
    vectors: u8,
    blocks: u8,
}

impl Shape {
    /// The shape of a product.
    ///
    /// # Panics
    ///
    /// If it has more than 16 vectors or more blocks than a group.
    pub(super) fn of(product: &Product<'_>) -> Self {
        let (vectors, blocks) = (product.by.x_sums.len(), product.blocks);
        assert!((1..=ROWS).contains(&vectors) && (1..=2 * HALF).contains(&blocks));
        Self {
            vectors: vectors as u8,
            blocks: blocks as u8,
        }
    }

    /// Blocks of the second half.
    fn more(self) -> usize {
        usize::from(self.blocks).saturating_sub(HALF)
    }

    /// Sums: a row for each vector, 16 i32 for the rows of a unit. Vectors: a row for each, 4 bytes for each block. Levels: a
    /// row of 64 bytes for each block. The tiles of the second half have no shape where there is none.
    pub(super) fn config(self) -> Config {
        let vectors = usize::from(self.vectors);
        let first = usize::from(self.blocks).min(HALF);
        let mut config = Config::default();
        for tile in 0..UNITS as u8 {
            config.set(tile, vectors, ROW_UNIT * size_of::<i32>());
        }
        config.set(X0, vectors, first * BLOCK_COLS);
        config.set(LEVELS0, first, UNIT);
        if self.more() > 0 {
            config.set(X1, vectors, self.more() * BLOCK_COLS);
            config.set(LEVELS1, self.more(), UNIT);
        }
        config
    }
}

/// The memory operand of `ldtilecfg`.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub(super) struct Config {
    /// 1: 8 tiles of 16 rows of 64 bytes.
    palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    /// Bytes of a row, tile by tile.
    row_bytes: [u16; 16],
    rows: [u8; 16],
}

impl Default for Config {
    fn default() -> Self {
        Self {
            palette: 1,
            start_row: 0,
            reserved: [0; 14],
            row_bytes: [0; 16],
            rows: [0; 16],
        }
    }
}

impl Config {
    /// Gives a tile its shape.
    pub(super) fn set(&mut self, tile: u8, rows: usize, row_bytes: usize) {
        self.rows[usize::from(tile)] = rows as u8;
        self.row_bytes[usize::from(tile)] = row_bytes as u16;
    }
}

/// Eight tiles of up to 16 rows of up to 64 bytes, and the instructions on them. Tile numbers are parts of instructions, so
/// they are constants.
///
/// # Safety
///
/// All of them require that the processor has AMX and AVX-512, and that the process may use AMX; those that name tiles, that
/// the last configuration gave these a shape that fits the operation.
pub(super) trait Tiles {
    /// Gives the tiles their shapes (`ldtilecfg`), and zeros.
    unsafe fn configure(&mut self, config: &Config);
    /// Sets a tile to zeros (`tilezero`).
    unsafe fn zero<const TILE: u8>(&mut self);
    /// Reads a tile (`tileloadd`), whose rows begin `stride` bytes apart and are readable.
    unsafe fn load<const TILE: u8>(&mut self, from: *const u8, stride: usize);
    /// `sums[m][n] += Σ x[m][4 k + j] · levels[k][4 n + j]` over all `k` and over `j` in 0..4, of signed bytes (`tdpbssd`).
    unsafe fn dot<const SUMS: u8, const X: u8, const LEVELS: u8>(&mut self);
    /// Writes a tile (`tilestored`), whose rows begin `stride` bytes apart and are writable.
    unsafe fn store<const TILE: u8>(&mut self, to: *mut i32, stride: usize);
    /// Forgets shapes and contents (`tilerelease`): the system then has less to keep when it switches threads.
    unsafe fn release(&mut self);
    /// `sums = fma(dots, scales · x_scale, sums)` of 16 rows: vectors do what tiles cannot.
    unsafe fn accumulate(
        &self,
        dots: &[i32; ROW_UNIT],
        scales: &[f32; ROW_UNIT],
        x_scale: f32,
        sums: &mut [f32; ROW_UNIT],
    );
}

/// The processor's own.
pub(super) struct Instructions;

/// `asm!` that leaves flags and stack alone. The intrinsics are not stable; the assembler takes the mnemonics in any function.
///
/// Each piece says that it overwrites all tiles, and the next one reads what the last one left there. That holds because
/// the compiler uses tiles only in functions that enable AMX, and there is none.
macro_rules! tile_asm {
    ($template:literal, [$($option:ident),*], $($operand:tt)*) => {
        asm!(
            $template,
            $($operand)*
            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
            out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
            options(nostack, preserves_flags $(, $option)*),
        )
    };
}

impl Tiles for Instructions {
    #[inline(always)]
    unsafe fn configure(&mut self, config: &Config) {
        // SAFETY: the processor is promised; the operand is 64 bytes.
        unsafe { tile_asm!("ldtilecfg [{}]", [readonly], in(reg) config,) }
    }

    #[inline(always)]
    unsafe fn zero<const TILE: u8>(&mut self) {
        // SAFETY: the processor and the tile's shape are promised.
        unsafe { tile_asm!("tilezero tmm{}", [nomem], const TILE,) }
    }

    #[inline(always)]
    unsafe fn load<const TILE: u8>(&mut self, from: *const u8, stride: usize) {
        // SAFETY: the processor, the tile's shape and the rows are promised.
        unsafe {
            tile_asm!("tileloadd tmm{}, [{} + {}*1]", [readonly], const TILE, in(reg) from, in(reg) stride,);
        }
    }

    #[inline(always)]
    unsafe fn dot<const SUMS: u8, const X: u8, const LEVELS: u8>(&mut self) {
        // SAFETY: the processor and the tiles' shapes are promised.
        unsafe {
            tile_asm!("tdpbssd tmm{}, tmm{}, tmm{}", [nomem], const SUMS, const X, const LEVELS,);
        }
    }

    #[inline(always)]
    unsafe fn store<const TILE: u8>(&mut self, to: *mut i32, stride: usize) {
        // SAFETY: the processor, the tile's shape and the rows are promised.
        unsafe {
            tile_asm!("tilestored [{} + {}*1], tmm{}", [], in(reg) to, in(reg) stride, const TILE,);
        }
    }

    #[inline(always)]
    unsafe fn release(&mut self) {
        // SAFETY: the processor is promised.
        unsafe { tile_asm!("tilerelease", [nomem],) }
    }

    #[inline(always)]
    unsafe fn accumulate(
        &self,
        dots: &[i32; ROW_UNIT],
        scales: &[f32; ROW_UNIT],
        x_scale: f32,
        sums: &mut [f32; ROW_UNIT],
    ) {
        // SAFETY: the processor is promised; all arrays have 16 values.
        unsafe {
            let dots = _mm512_loadu_si512(dots.as_ptr().cast());
            avx512::accumulate(dots, scales.as_ptr(), x_scale, sums.as_mut_ptr());
        }
    }
}
