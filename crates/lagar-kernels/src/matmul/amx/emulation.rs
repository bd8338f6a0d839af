//! The instructions of AMX in plain Rust, as Intel's manual defines them (volume 2: LDTILECFG, TILEZERO, TILELOADD, TDPBSSD,
//! TILESTORED, TILERELEASE). What raises an exception there panics here, and so does reading outside of the operands.

use std::ops::Range;

use lagar_codec::ROW_UNIT;

use super::tiles::{Config, Instructions, ROW_BYTES, ROWS, Tiles};
use crate::Isa;

/// Tiles of palette 1.
const TILES: usize = 8;

/// What a tile holds. Rows and bytes beyond its shape are zeros.
#[derive(Clone, Copy)]
struct Tile {
    rows: usize,
    row_bytes: usize,
    data: [[u8; ROW_BYTES]; ROWS],
}

/// Tiles without a shape, at first.
#[derive(Default)]
pub(super) struct Emulation {
    tiles: Option<[Tile; TILES]>,
    readable: Vec<Range<usize>>,
    /// Configurations so far.
    pub(super) configured: usize,
    /// Takes the second operand for unsigned, which is wrong.
    mistaken: bool,
}

impl Emulation {
    /// Only this is readable from now on.
    pub(super) fn read_only(&mut self, x: &[i8], levels: &[u8]) {
        let (x, levels) = (x.as_ptr_range(), levels.as_ptr_range());
        self.readable = vec![
            x.start as usize..x.end as usize,
            levels.start as usize..levels.end as usize,
        ];
    }

    /// Tiles that may read everything, and compute what they should or something else.
    pub(super) fn anywhere(mistaken: bool) -> Self {
        let everything = 0..usize::MAX;
        Self {
            readable: vec![everything],
            mistaken,
            ..Self::default()
        }
    }

    /// Whether tiles have shapes.
    pub(super) fn holds(&self) -> bool {
        self.tiles.is_some()
    }

    fn tile(&mut self, tile: u8) -> &mut Tile {
        let tiles = self.tiles.as_mut().expect("tiles are configured");
        let tile = &mut tiles[usize::from(tile)];
        assert!(
            tile.rows > 0 && tile.row_bytes > 0,
            "a tile without a shape"
        );
        tile
    }
}

impl Tiles for Emulation {
    unsafe fn configure(&mut self, config: &Config) {
        assert_eq!(size_of::<Config>(), 64);
        // SAFETY: it is 64 bytes without padding.
        let bytes: &[u8; 64] = unsafe { &*std::ptr::from_ref(config).cast() };
        assert_eq!(bytes[0], 1, "palette");
        assert_eq!(bytes[1], 0, "a load that was interrupted");
        let (widths, heights) = (&bytes[16..48], &bytes[48..64]);
        let unused = [&bytes[2..16], &widths[2 * TILES..], &heights[TILES..]];
        assert!(unused.into_iter().flatten().all(|&b| b == 0), "reserved");
        self.tiles = Some(std::array::from_fn(|i| {
            let row_bytes = usize::from(u16::from_le_bytes([widths[2 * i], widths[2 * i + 1]]));
            let rows = usize::from(heights[i]);
            assert!(
                rows <= ROWS && row_bytes <= ROW_BYTES,
                "tile {i} is too large"
            );
            assert_eq!(rows == 0, row_bytes == 0, "tile {i} has half a shape");
            let data = [[0; ROW_BYTES]; ROWS];
            Tile {
                rows,
                row_bytes,
                data,
            }
        }));
        self.configured += 1;
    }

    unsafe fn zero<const TILE: u8>(&mut self) {
        self.tile(TILE).data = [[0; ROW_BYTES]; ROWS];
    }

    unsafe fn load<const TILE: u8>(&mut self, from: *const u8, stride: usize) {
        let readable = self.readable.clone();
        let tile = self.tile(TILE);
        tile.data = [[0; ROW_BYTES]; ROWS];
        for (r, row) in tile.data[..tile.rows].iter_mut().enumerate() {
            let start = from as usize + r * stride;
            let inside =
                |range: &Range<usize>| range.start <= start && start + tile.row_bytes <= range.end;
            assert!(readable.iter().any(inside), "row {r} of a load is outside");
            for (i, byte) in row[..tile.row_bytes].iter_mut().enumerate() {
                // SAFETY: the row is inside one of the operands.
                *byte = unsafe { *from.add(r * stride + i) };
            }
        }
    }

    unsafe fn dot<const SUMS: u8, const X: u8, const LEVELS: u8>(&mut self) {
        assert!(SUMS != X && SUMS != LEVELS && X != LEVELS, "the same tile");
        let (x, levels) = (*self.tile(X), *self.tile(LEVELS));
        let mistaken = self.mistaken;
        let sums = self.tile(SUMS);
        let widths = [sums.row_bytes, x.row_bytes, levels.row_bytes];
        assert!(widths.iter().all(|width| width.is_multiple_of(4)), "widths");
        assert_eq!(sums.rows, x.rows, "rows of sums and of the first operand");
        assert_eq!(
            sums.row_bytes, levels.row_bytes,
            "and columns of the second"
        );
        assert_eq!(x.row_bytes / 4, levels.rows, "what is summed over");
        for m in 0..sums.rows {
            for k in 0..x.row_bytes / 4 {
                for n in 0..sums.row_bytes / 4 {
                    let sum: &mut [u8; 4] = (&mut sums.data[m][4 * n..4 * n + 4])
                        .try_into()
                        .expect("4 bytes");
                    let mut value = i32::from_le_bytes(*sum);
                    for j in 0..4 {
                        let x = i32::from(x.data[m][4 * k + j] as i8);
                        let level = levels.data[k][4 * n + j];
                        let level = match mistaken {
                            false => i32::from(level as i8),
                            true => i32::from(level),
                        };
                        value = value.wrapping_add(x * level);
                    }
                    *sum = value.to_le_bytes();
                }
            }
        }
    }

    unsafe fn store<const TILE: u8>(&mut self, to: *mut i32, stride: usize) {
        let tile = self.tile(TILE);
        for (r, row) in tile.data[..tile.rows].iter().enumerate() {
            for (i, &byte) in row[..tile.row_bytes].iter().enumerate() {
                // SAFETY: the caller promises rows that are writable.
                unsafe { *to.cast::<u8>().add(r * stride + i) = byte };
            }
        }
    }

    unsafe fn release(&mut self) {
        self.tiles = None;
    }

    unsafe fn accumulate(
        &self,
        dots: &[i32; ROW_UNIT],
        scales: &[f32; ROW_UNIT],
        x_scale: f32,
        sums: &mut [f32; ROW_UNIT],
    ) {
        if Isa::Avx512.is_available() {
            // SAFETY: that is all it needs.
            return unsafe { Instructions.accumulate(dots, scales, x_scale, sums) };
        }
        for ((sum, &dot), &scale) in sums.iter_mut().zip(dots).zip(scales) {
            *sum = (dot as f32).mul_add(scale * x_scale, *sum);
        }
    }
}
