//! From codes to levels with AVX2: extraction of windows, and look-ups for each form of table.

use std::arch::x86_64::*;

use super::super::lookup::{Form, Lookup, Place, SPLIT_OFFSET};

/// Windows of a step.
pub(super) const STEP: usize = 32;

/// Where each of 32 windows is. Half `h` of the register holds 16 windows, which begin in the bytes of
/// the same half, or all in the first half if `NEAR`.
#[repr(C, align(32))]
pub(super) struct Spread {
    /// The two bytes of each even window, and their factor.
    even: [u8; STEP],
    even_factors: [u16; STEP / 2],
    /// The two bytes of each odd window, and their factor.
    odd: [u8; STEP],
    odd_factors: [u16; STEP / 2],
}

/// By depth and by whether `L = K`.
static SPREAD: [[Spread; 2]; 9] = {
    const fn spread(depth: usize, scalar: bool) -> Spread {
        let place = Place::of(depth, scalar);
        let mut spread = Spread {
            even: [0; STEP],
            even_factors: [0; STEP / 2],
            odd: [0; STEP],
            odd_factors: [0; STEP / 2],
        };
        let mut lane = 0;
        while lane < STEP / 2 {
            let (half, pair) = (lane / 8, lane % 8);
            let base = if near(depth) { half * 2 * depth } else { 0 };
            let (even, odd) = (place.bit(2 * pair), place.bit(2 * pair + 1));
            // A shared load takes the odd window from the even one's bytes, at most 8 bits up.
            let odd_byte = if shared(depth) { even / 8 } else { odd / 8 };
            spread.even[2 * lane] = (base + even / 8) as u8;
            spread.odd[2 * lane] = (base + odd_byte) as u8;
            // Byte 16 is asked for only at depth 8, where no bit of it is used.
            spread.even[2 * lane + 1] = ((base + even / 8 + 1) & 15) as u8;
            spread.odd[2 * lane + 1] = ((base + odd_byte + 1) & 15) as u8;
            spread.even_factors[lane] = 1 << (8 - even % 8);
            spread.odd_factors[lane] = 1 << (8 + 8 * odd_byte - odd);
            lane += 1;
        }
        spread
    }
    macro_rules! depths {
        ($($depth:literal)*) => { [$([spread($depth, false), spread($depth, true)]),*] };
    }
    depths!(0 1 2 3 4 5 6 7 8)
};

/// Whether two neighbouring windows always lie in the same two bytes, from an even one's first byte on.
pub(super) const fn shared(depth: usize) -> bool {
    matches!(depth, 1 | 2 | 4 | 8)
}

/// Whether the kernels for shared bytes read all 32 windows from one 16-byte load.
pub(super) const fn near(depth: usize) -> bool {
    matches!(depth, 1 | 2)
}

/// Extraction of windows.
#[derive(Clone, Copy)]
pub(super) struct Extract<const SHARED: bool, const NEAR: bool> {
    even: __m256i,
    even_factors: __m256i,
    odd: __m256i,
    odd_factors: __m256i,
    high: __m256i,
    /// Bytes of 16 windows.
    half_bytes: usize,
}

impl<const SHARED: bool, const NEAR: bool> Extract<SHARED, NEAR> {
    /// # Safety
    /// The processor has AVX2.
    #[inline(always)]
    pub(super) unsafe fn new(lookup: &Lookup) -> Self {
        assert!(shared(lookup.depth) == SHARED && near(lookup.depth) == NEAR);
        let spread = &SPREAD[lookup.depth][usize::from(lookup.scalar)];
        // SAFETY: the caller promises AVX2; each array has 32 bytes.
        unsafe {
            Self {
                even: _mm256_loadu_si256(spread.even.as_ptr().cast()),
                even_factors: _mm256_loadu_si256(spread.even_factors.as_ptr().cast()),
                odd: _mm256_loadu_si256(spread.odd.as_ptr().cast()),
                odd_factors: _mm256_loadu_si256(spread.odd_factors.as_ptr().cast()),
                high: _mm256_set1_epi16(0xff00_u16 as i16),
                half_bytes: 2 * lookup.depth,
            }
        }
    }

    /// # Safety
    /// The processor has AVX2; 16 bytes are readable from `codes` and from `codes + half_bytes` on.
    #[inline(always)]
    unsafe fn windows(self, codes: *const u8) -> __m256i {
        // SAFETY: the caller promises both.
        unsafe {
            let low = _mm_loadu_si128(codes.cast());
            let bytes = if NEAR {
                _mm256_broadcastsi128_si256(low)
            } else {
                let high = _mm_loadu_si128(codes.add(self.half_bytes).cast());
                _mm256_inserti128_si256::<1>(_mm256_castsi128_si256(low), high)
            };
            let even = _mm256_shuffle_epi8(bytes, self.even);
            let odd = if SHARED {
                even
            } else {
                _mm256_shuffle_epi8(bytes, self.odd)
            };
            let even = _mm256_srli_epi16::<8>(_mm256_mullo_epi16(even, self.even_factors));
            let odd = _mm256_and_si256(_mm256_mullo_epi16(odd, self.odd_factors), self.high);
            _mm256_or_si256(even, odd)
        }
    }
}

/// From codes to the levels of `N` times 8 rows × 4 columns, as registers.
pub(super) trait Steps<const N: usize>: Copy {
    /// Whether levels are signed bytes (else unsigned ones, with an offset of 64).
    const SIGNED: bool;

    /// # Safety
    /// The processor has AVX2.
    unsafe fn new(lookup: &Lookup) -> Self;

    /// What is made of the next step's codes while this step's levels are looked up.
    type Begun: Copy;

    /// Bytes from the codes of one step to those of the next.
    fn bytes(self) -> usize;

    /// Begins the step whose windows lie from `codes` on.
    ///
    /// # Safety
    /// The processor has AVX2; `codes` is what `Tile::unit` says of the first unit, or where it ends.
    unsafe fn begin(self, codes: *const u8) -> Self::Begun;

    /// The levels of a step, 4 of a row in each lane of 32 bits; rows in any order.
    ///
    /// # Safety
    /// The processor has AVX2.
    unsafe fn levels(self, begun: Self::Begun) -> [__m256i; N];

    /// Lanes of 32 bits in the order of rows, given that of [`Steps::levels`].
    ///
    /// # Safety
    /// The processor has AVX2.
    unsafe fn ascending(lanes: [__m256i; N]) -> [__m256i; N];
}

/// Half a unit, with any table.
#[derive(Clone, Copy)]
pub(super) struct Half<D, const SHARED: bool, const NEAR: bool> {
    extract: Extract<SHARED, NEAR>,
    table: D,
}

impl<D: Decode, const SHARED: bool, const NEAR: bool> Steps<1> for Half<D, SHARED, NEAR> {
    const SIGNED: bool = D::SIGNED;

    type Begun = __m256i;

    #[inline(always)]
    unsafe fn new(lookup: &Lookup) -> Self {
        // SAFETY: the caller promises AVX2.
        unsafe {
            Self {
                extract: Extract::new(lookup),
                table: D::new(lookup),
            }
        }
    }

    #[inline(always)]
    fn bytes(self) -> usize {
        2 * self.extract.half_bytes
    }

    #[inline(always)]
    unsafe fn begin(self, codes: *const u8) -> __m256i {
        // SAFETY: `Tile::unit` says that 64 bytes are in bounds; this reads at most 48 bytes from the unit's first, its
        // last 32, or as many behind the last unit, where the stream's padding has 64.
        unsafe { self.extract.windows(codes) }
    }

    #[inline(always)]
    unsafe fn levels(self, windows: __m256i) -> [__m256i; 1] {
        // SAFETY: the caller promises AVX2.
        unsafe { [self.table.levels(windows)] }
    }

    #[inline(always)]
    unsafe fn ascending(lanes: [__m256i; 1]) -> [__m256i; 1] {
        lanes
    }
}

/// Look-up of 32 windows, as registers.
pub(super) trait Decode: Copy {
    /// Whether levels are signed bytes (else unsigned ones, with an offset of 64).
    const SIGNED: bool;

    /// # Safety
    /// The processor has AVX2.
    unsafe fn new(lookup: &Lookup) -> Self;

    /// Windows, with any bits above them, to levels.
    ///
    /// # Safety
    /// The processor has AVX2.
    unsafe fn levels(self, windows: __m256i) -> __m256i;
}

/// 16 bytes in both halves.
///
/// # Safety
/// The processor has AVX2.
#[inline(always)]
pub(super) unsafe fn twice(bytes: [i8; 16]) -> __m256i {
    // SAFETY: the caller promises AVX2; there are 16 bytes.
    unsafe { _mm256_broadcastsi128_si256(_mm_loadu_si128(bytes.as_ptr().cast())) }
}

/// 4 bits of each byte, from one up; `low` is 15 in each.
///
/// # Safety
/// The processor has AVX2.
#[inline(always)]
pub(super) unsafe fn from<const BIT: i32>(bytes: __m256i, low: __m256i) -> __m256i {
    // SAFETY: the caller promises AVX2.
    unsafe { _mm256_and_si256(_mm256_srli_epi16::<BIT>(bytes), low) }
}

/// Up to 16 levels.
#[derive(Clone, Copy)]
pub(super) struct Nibble {
    table: __m256i,
    low: __m256i,
}

impl Decode for Nibble {
    const SIGNED: bool = true;

    #[inline(always)]
    unsafe fn new(lookup: &Lookup) -> Self {
        // SAFETY: the caller promises AVX2.
        unsafe {
            Self {
                table: twice(lookup.nibble()),
                low: _mm256_set1_epi8(15),
            }
        }
    }

    #[inline(always)]
    unsafe fn levels(self, windows: __m256i) -> __m256i {
        // SAFETY: the caller promises AVX2.
        unsafe { _mm256_shuffle_epi8(self.table, _mm256_and_si256(windows, self.low)) }
    }
}

/// A split table: [`Lookup::halves`].
#[derive(Clone, Copy)]
pub(super) struct Halves {
    p: __m256i,
    q: __m256i,
    /// 15 in each byte.
    pub(super) low: __m256i,
}

impl Halves {
    /// The levels, plus offset, of windows with these 4 low bits in each byte, and these high ones.
    ///
    /// # Safety
    /// The processor has AVX2.
    #[inline(always)]
    pub(super) unsafe fn of(self, low: __m256i, high: __m256i) -> __m256i {
        // SAFETY: the caller promises AVX2.
        unsafe {
            let p = _mm256_shuffle_epi8(self.p, low);
            let q = _mm256_shuffle_epi8(self.q, high);
            _mm256_abs_epi8(_mm256_add_epi8(p, q))
        }
    }
}

impl Decode for Halves {
    const SIGNED: bool = false;

    #[inline(always)]
    unsafe fn new(lookup: &Lookup) -> Self {
        let [p, q] = lookup.halves;
        // SAFETY: the caller promises AVX2.
        unsafe {
            Self {
                p: twice(p),
                q: twice(q),
                low: _mm256_set1_epi8(15),
            }
        }
    }

    #[inline(always)]
    unsafe fn levels(self, windows: __m256i) -> __m256i {
        // SAFETY: the caller promises AVX2.
        unsafe {
            let low = _mm256_and_si256(windows, self.low);
            self.of(low, from::<4>(windows, self.low))
        }
    }
}

/// Levels whose signs are known apart.
#[derive(Clone, Copy)]
pub(super) struct Signed {
    pub(super) magnitude: __m256i,
    /// Something with the level's sign; 0 only where it is.
    pub(super) sign: __m256i,
}

/// Bent sums of two halves.
#[derive(Clone, Copy)]
pub(super) struct Bends {
    a: __m256i,
    b: __m256i,
    bends: [__m256i; 2],
    /// 15 in each byte.
    pub(super) low: __m256i,
}

impl Bends {
    /// The levels of windows with these 4 low bits in each byte, and these high ones.
    ///
    /// # Safety
    /// The processor has AVX2.
    #[inline(always)]
    pub(super) unsafe fn of(self, low: __m256i, high: __m256i) -> Signed {
        // SAFETY: the caller promises AVX2.
        unsafe {
            let a = _mm256_shuffle_epi8(self.a, low);
            let b = _mm256_shuffle_epi8(self.b, high);
            let sign = _mm256_add_epi8(a, b);
            let mut magnitude = _mm256_abs_epi8(sign);
            for bend in self.bends {
                magnitude = _mm256_add_epi8(magnitude, _mm256_subs_epu8(magnitude, bend));
            }
            Signed { magnitude, sign }
        }
    }
}

impl Decode for Bends {
    const SIGNED: bool = true;

    #[inline(always)]
    unsafe fn new(lookup: &Lookup) -> Self {
        let bent = lookup.bent.expect("the form is bent");
        // SAFETY: the caller promises AVX2.
        unsafe {
            Self {
                a: twice(bent.a),
                b: twice(bent.b),
                bends: [
                    _mm256_set1_epi8(bent.bends[0] as i8),
                    _mm256_set1_epi8(bent.bends[1] as i8),
                ],
                low: _mm256_set1_epi8(15),
            }
        }
    }

    #[inline(always)]
    unsafe fn levels(self, windows: __m256i) -> __m256i {
        // SAFETY: the caller promises AVX2.
        unsafe {
            let low = _mm256_and_si256(windows, self.low);
            let Signed { magnitude, sign } = self.of(low, from::<4>(windows, self.low));
            _mm256_sign_epi8(magnitude, sign)
        }
    }
}

/// Plain int8.
#[derive(Clone, Copy)]
pub(super) struct Plain;

impl Decode for Plain {
    const SIGNED: bool = true;

    #[inline(always)]
    unsafe fn new(_: &Lookup) -> Self {
        Self
    }

    #[inline(always)]
    unsafe fn levels(self, windows: __m256i) -> __m256i {
        windows
    }
}

/// `TABLES · 16` free levels, 128 or 256.
///
/// A byte shuffle gives 0 where an index is negative. So with indices that go down by 16 from table to
/// table, all tables up to the right one answer, and if each holds the difference (exclusive or) to
/// the one before it, what remains is the right one's answer. Indices from 128 on are negative at once
/// and stay so, because the subtraction saturates; they are looked up with the top bit flipped.
#[derive(Clone, Copy)]
pub(super) struct Free<const TABLES: usize> {
    differences: [__m256i; TABLES],
}

impl<const TABLES: usize> Decode for Free<TABLES> {
    const SIGNED: bool = true;

    #[inline(always)]
    unsafe fn new(lookup: &Lookup) -> Self {
        let (levels, _) = lookup.levels.as_chunks::<16>();
        // SAFETY: the caller promises AVX2.
        unsafe {
            let mut differences = [_mm256_setzero_si256(); TABLES];
            for (i, difference) in differences.iter_mut().enumerate() {
                *difference = twice(levels[i]);
                if i % 8 != 0 {
                    *difference = _mm256_xor_si256(*difference, twice(levels[i - 1]));
                }
            }
            Self { differences }
        }
    }

    #[inline(always)]
    unsafe fn levels(self, windows: __m256i) -> __m256i {
        // SAFETY: the caller promises AVX2.
        unsafe {
            let top = _mm256_set1_epi8(-128);
            let step = _mm256_set1_epi8(16);
            let mut levels = _mm256_setzero_si256();
            for (i, tables) in self.differences.chunks(8).enumerate() {
                let mut index = match (TABLES, i) {
                    (16, 0) => windows,
                    (16, _) => _mm256_xor_si256(windows, top),
                    _ => _mm256_andnot_si256(top, windows),
                };
                for &table in tables {
                    levels = _mm256_xor_si256(levels, _mm256_shuffle_epi8(table, index));
                    index = _mm256_subs_epi8(index, step);
                }
            }
            levels
        }
    }
}

/// What is added to the levels of a table, so that they are unsigned; 0 where they are signed.
pub(super) fn offset(lookup: &Lookup) -> u8 {
    match lookup.form {
        Form::Split => SPLIT_OFFSET,
        Form::Nibble | Form::Bent | Form::Plain | Form::Free => 0,
    }
}
