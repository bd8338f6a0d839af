//! Products with 3 to 8 vectors at 2 bits a weight, four blocks of columns at a time: see [`quads`](super::super::quads).
//!
//! A shift of words gives bytes whose lowest 4 bits are looked up, no more; windows taken from lanes ([`super::vbmi`]) have the ports that
//! products need.

use std::arch::x86_64::*;

use lagar_codec::{BLOCK_COLS, GROUP, ROW_UNIT};

use super::super::lookup::Lookup;
use super::super::quads::{BLOCKS, BY_COLUMN, take};
use super::super::tile::Factors;
use super::bw::decode::{SELECT, four_times};
use super::bw::straight::transposed;
use super::several::{Group, Pairs, ROWS, Values, ask, multiply};
use super::units::Source;

/// Whether a table is one that this is for.
pub(super) fn takes(lookup: &Lookup) -> bool {
    take(lookup, 2..=2)
}

/// Look-up of four blocks.
#[derive(Clone, Copy)]
pub(super) struct Quads {
    p: __m512i,
    q: __m512i,
    /// 3 in each byte.
    three: __m512i,
}

/// The codes of 16 rows in four blocks, those of a row in one lane of 32 bits.
#[derive(Clone, Copy)]
struct Codes {
    own: __m512i,
    /// Those of the row before each.
    before: __m512i,
}

impl Quads {
    /// The levels, plus offset, of windows with these 4 low bits in each byte, and these high ones; what is above them is ignored.
    ///
    /// # Safety
    /// The processor has AVX-512 VBMI.
    #[inline(always)]
    unsafe fn of(self, low: __m512i, high: __m512i) -> __m512i {
        // SAFETY: the caller promises AVX-512 VBMI.
        unsafe {
            let p = _mm512_permutexvar_epi8(low, self.p);
            let q = _mm512_permutexvar_epi8(high, self.q);
            _mm512_abs_epi8(_mm512_add_epi8(p, q))
        }
    }

    /// Levels of the last column of each block.
    ///
    /// # Safety
    /// The processor has AVX-512 VBMI.
    #[inline(always)]
    unsafe fn fourth(self, Codes { own, .. }: Codes) -> __m512i {
        // SAFETY: the caller promises AVX-512 VBMI.
        unsafe { self.of(own, _mm512_srli_epi16::<4>(own)) }
    }

    /// Levels of the second column.
    ///
    /// # Safety
    /// The processor has AVX-512 VBMI.
    #[inline(always)]
    unsafe fn second(self, Codes { own, before }: Codes) -> __m512i {
        // SAFETY: the caller promises AVX-512 VBMI.
        unsafe { self.of(_mm512_srli_epi16::<4>(before), own) }
    }

    /// Levels of the third column and of the first.
    ///
    /// # Safety
    /// The processor has AVX-512 VBMI.
    #[inline(always)]
    unsafe fn third_and_first(self, Codes { own, before }: Codes) -> [__m512i; 2] {
        // SAFETY: the caller promises AVX-512 VBMI.
        unsafe {
            let edge = _mm512_ternarylogic_epi32::<SELECT>(
                _mm512_slli_epi16::<2>(own),
                _mm512_srli_epi16::<6>(before),
                self.three,
            );
            [
                self.of(edge, _mm512_srli_epi16::<2>(own)),
                self.of(_mm512_srli_epi16::<2>(before), edge),
            ]
        }
    }
}

/// The first 8 bytes of each 16 behind `skip`, of two blocks at a time: one of each, in turn.
///
/// # Safety
/// The processor has AVX-512 BW; the bytes are readable.
#[inline(always)]
unsafe fn joined([a, b, c, d]: [*const u8; BLOCKS], skip: usize) -> [__m512i; 2] {
    // SAFETY: the caller promises both.
    unsafe {
        let a = _mm512_loadu_si512(a.add(skip).cast());
        let b = _mm512_loadu_si512(b.add(skip).cast());
        let c = _mm512_loadu_si512(c.add(skip).cast());
        let d = _mm512_loadu_si512(d.add(skip).cast());
        [_mm512_unpacklo_epi8(a, b), _mm512_unpacklo_epi8(c, d)]
    }
}

/// The codes of rows 0 to 3, and 4 to 7, of four units in four blocks; those of a block follow the byte that its pointer is of.
///
/// # Safety
/// The processor has AVX-512 BW; 65 bytes are readable from each pointer on.
#[inline(always)]
unsafe fn codes(blocks: [*const u8; BLOCKS]) -> [Codes; 2] {
    // SAFETY: the caller promises both.
    unsafe {
        let [a, b] = joined(blocks, 1);
        let [c, d] = joined(blocks, 0);
        let (first, second) = (_mm512_unpacklo_epi16(a, b), _mm512_unpackhi_epi16(a, b));
        [
            Codes {
                own: first,
                before: _mm512_unpacklo_epi16(c, d),
            },
            Codes {
                own: second,
                before: _mm512_alignr_epi8::<12>(second, first),
            },
        ]
    }
}

/// Where the codes of a pair in the first blocks are, the last one's in place of those that do not exist. The second of two pairs has rows
/// 8 to 15 of the same four units, 8 bytes further on.
#[inline(always)]
fn first_blocks(source: &Source<'_>, pair: usize) -> [*const u8; BLOCKS] {
    let start = source.first.wrapping_add(pair / 2 * 4 * source.unit_bytes);
    let start = start.wrapping_add(pair % 2 * 8);
    let (bytes, last) = (source.block_bytes, source.blocks - 1);
    [0, 1, 2, 3].map(|i: usize| start.wrapping_add(i.min(last) * bytes))
}

/// The first four blocks of a pair, and levels of their last columns.
#[derive(Clone, Copy)]
pub(super) struct Begun {
    codes: [Codes; 2],
    fourth: [__m512i; 2],
}

impl Pairs for Quads {
    const UNITS: usize = ROWS / ROW_UNIT;

    /// Register `p` has rows `4 · p` to `4 · p + 3` of each unit.
    const ORDER: [u8; ROWS] = {
        let mut order = [0; ROWS];
        let mut i = 0;
        while i < ROWS {
            let (part, unit, row) = (i / 16, i % 16 / 4, i % 4);
            order[i] = (ROW_UNIT * unit + 4 * part + row) as u8;
            i += 1;
        }
        order
    };

    type Begun = Begun;

    #[inline(always)]
    unsafe fn new(lookup: &Lookup) -> Self {
        assert!(takes(lookup));
        let [p, q] = lookup.halves;
        // SAFETY: the caller promises AVX-512.
        unsafe {
            Self {
                p: four_times(p),
                q: four_times(q),
                three: _mm512_set1_epi8(3),
            }
        }
    }

    /// For each four blocks and column its values in these blocks; 0 for blocks that do not exist.
    #[inline(always)]
    unsafe fn arrange(by: &Factors<'_>, blocks: usize, values: &mut Values) {
        let columns = blocks * BLOCK_COLS;
        let masks = [0, 1].map(|half| {
            let kept = columns.saturating_sub(64 * half).min(64) as u32;
            u64::MAX.checked_shr(64 - kept).unwrap_or(0)
        });
        // SAFETY: the caller promises AVX-512, and the values that masks leave; those are of a group.
        unsafe {
            let order = four_times(BY_COLUMN.map(|i| i as i8));
            let mut from = by.x.as_ptr();
            for values in &mut values[..by.x_sums.len()] {
                for (half, to) in values.0.as_chunks_mut::<64>().0.iter_mut().enumerate() {
                    let from = from.wrapping_add(64 * half);
                    let x = _mm512_maskz_loadu_epi8(masks[half], from);
                    // Those of the next group: else each tile would wait for them.
                    _mm_prefetch::<_MM_HINT_T0>(from.wrapping_add(GROUP));
                    let x = _mm512_shuffle_epi8(x, order);
                    _mm512_storeu_si512(to.as_mut_ptr().cast(), x);
                }
                from = from.wrapping_add(by.stride);
            }
        }
    }

    #[inline(always)]
    unsafe fn begin(self, source: &Source<'_>, pair: usize) -> Begun {
        // SAFETY: the caller promises the pair. 8 bytes after a unit's first, 65 are readable: the last unit of the last block has 16, and
        // 64 follow the stream.
        unsafe {
            let codes = codes(first_blocks(source, pair));
            Begun {
                codes,
                fourth: [self.fourth(codes[0]), self.fourth(codes[1])],
            }
        }
    }

    #[inline(always)]
    unsafe fn dots<const T: usize>(
        self,
        group: &Group<'_, T>,
        pair: usize,
        next: usize,
        begun: &mut Begun,
    ) -> [[__m512i; 2]; T] {
        let source = &group.source;
        let mut blocks = first_blocks(source, pair);
        let after = blocks[0].wrapping_add(source.blocks * source.block_bytes);
        let last = after.wrapping_sub(source.block_bytes);
        let mut ahead = after;
        let mut x = group.values.as_ptr().cast::<i8>();
        let mut left = source.blocks.div_ceil(BLOCKS);
        // SAFETY: the caller promises the pairs; see `begin` for bytes. Values are those of a whole group.
        unsafe {
            let mut dots = group.starts();
            while left > 0 {
                let (now, fourth) = (begun.codes, begun.fourth);
                for block in &mut blocks {
                    *block = block.wrapping_add(BLOCKS * source.block_bytes).min(last);
                    // The condition also cuts the loop into blocks: of a single one the compiler loads all values first, and lacks registers.
                    if pair.is_multiple_of(2) {
                        ask(ahead);
                    }
                    ahead = ahead.wrapping_add(source.block_bytes);
                }
                left -= 1;
                if left == 0 {
                    blocks = first_blocks(source, next);
                }
                let second = [self.second(now[0]), self.second(now[1])];
                multiply(&mut dots, fourth, x.add(12), GROUP);
                let [a, c] = self.third_and_first(now[0]);
                let [b, d] = self.third_and_first(now[1]);
                multiply(&mut dots, second, x.add(4), GROUP);
                begun.codes = codes(blocks);
                multiply(&mut dots, [a, b], x.add(8), GROUP);
                begun.fourth = [self.fourth(begun.codes[0]), self.fourth(begun.codes[1])];
                multiply(&mut dots, [c, d], x, GROUP);
                x = x.add(BLOCKS * BLOCK_COLS);
            }
            dots
        }
    }

    #[inline(always)]
    unsafe fn ascending(lanes: [__m512i; 4]) -> [__m512i; 4] {
        // SAFETY: the caller promises AVX-512.
        unsafe { transposed(lanes) }
    }
}
