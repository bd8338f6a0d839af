//! From codes to levels with AVX-512 BW, one unit at a time: extraction of windows, and look-ups for each form of table.

use std::arch::x86_64::*;

use super::super::super::lookup::{FREE_OFFSET, Lookup, Place};
use super::super::super::tile::UNIT;
use super::super::units::{Set, Steps};

/// For `vpternlogd`: bits of the second operand where the third is set, of the first elsewhere.
pub(in super::super) const SELECT: i32 = 0b1101_1000;

/// One unit, with any table.
#[derive(Clone, Copy)]
pub(in super::super) struct Whole<E, D> {
    pub(in super::super) extract: E,
    pub(in super::super) table: D,
}

impl<E: Extract, D: Decode> Steps<1> for Whole<E, D> {
    const SPLIT: bool = D::SPLIT;

    #[inline(always)]
    unsafe fn new<F: Set>(lookup: &Lookup) -> Self {
        // SAFETY: the caller promises AVX-512 BW.
        unsafe {
            Self {
                extract: E::new(lookup),
                table: D::new::<F>(lookup),
            }
        }
    }

    #[inline(always)]
    unsafe fn levels(self, codes: *const u8) -> [__m512i; 1] {
        // SAFETY: the caller promises AVX-512 BW; `Tile::unit` says that 64 bytes are in bounds.
        unsafe { [self.table.levels(self.extract.windows(codes))] }
    }

    #[inline(always)]
    unsafe fn ascending(lanes: [__m512i; 1]) -> [__m512i; 1] {
        lanes
    }
}

/// Extraction of 64 windows, as registers.
pub(in super::super) trait Extract: Copy {
    /// # Safety
    /// The processor has AVX-512 BW.
    unsafe fn new(lookup: &Lookup) -> Self;

    /// Windows, in each byte with any bits above them.
    ///
    /// # Safety
    /// The processor has AVX-512 BW; 64 bytes are readable.
    unsafe fn windows(self, codes: *const u8) -> __m512i;
}

/// Windows that are bytes.
#[derive(Clone, Copy)]
pub(super) struct Bytes;

impl Extract for Bytes {
    #[inline(always)]
    unsafe fn new(lookup: &Lookup) -> Self {
        assert_eq!(lookup.depth, 8);
        Self
    }

    #[inline(always)]
    unsafe fn windows(self, codes: *const u8) -> __m512i {
        // SAFETY: the caller promises the processor and the bytes.
        unsafe { _mm512_loadu_si512(codes.cast()) }
    }
}

/// Where each of 64 windows is, lane by lane of 16 bytes: a lane gets 8 words of the stream; each of its own words gets the two bytes that
/// hold an even window, and an odd one; a shift brings the one to the low byte of the word, the other to the high one.
#[repr(C, align(64))]
struct Places {
    /// The words that make each lane; the same as double words, where lanes may begin at even ones.
    words: [u16; UNIT / 2],
    dwords: [u32; UNIT / 4],
    even: [u8; UNIT],
    odd: [u8; UNIT],
    /// To the right, and to the left.
    even_shifts: [u16; UNIT / 2],
    odd_shifts: [u16; UNIT / 2],
}

/// By depth and by whether `L = K`.
static PLACES: [[Places; 2]; 8] = {
    const fn places(depth: usize, scalar: bool) -> Places {
        let place = Place::of(depth, scalar);
        let mut places = Places {
            words: [0; UNIT / 2],
            dwords: [0; UNIT / 4],
            even: [0; UNIT],
            odd: [0; UNIT],
            even_shifts: [0; UNIT / 2],
            odd_shifts: [0; UNIT / 2],
        };
        let mut i = 0;
        while i < UNIT / 2 {
            let (lane, pair) = (i / 8, i % 8);
            // 16 windows are `2 · depth` bytes.
            let word = lane * depth;
            places.words[i] = (word + pair) as u16;
            if pair < 4 {
                places.dwords[4 * lane + pair] = (word / 2 + pair) as u32;
            }
            let skipped = if dwords(depth) { word % 2 * 2 } else { 0 };
            let (even, odd) = (place.bit(2 * pair), place.bit(2 * pair + 1));
            // A shared load takes the odd window from the even one's bytes, at most 8 bits up.
            let (even_byte, odd_byte) = (even / 8, if shared(depth) { even / 8 } else { odd / 8 });
            assert!(skipped + odd_byte + 1 < 16 || depth == 0);
            places.even[2 * i] = (skipped + even_byte) as u8;
            places.even[2 * i + 1] = (skipped + even_byte + 1) as u8;
            places.odd[2 * i] = (skipped + odd_byte) as u8;
            places.odd[2 * i + 1] = (skipped + odd_byte + 1) as u8;
            places.even_shifts[i] = (even - 8 * even_byte) as u16;
            places.odd_shifts[i] = (8 + 8 * odd_byte - odd) as u16;
            i += 1;
        }
        places
    }
    macro_rules! depths {
        ($($depth:literal)*) => { [$([places($depth, false), places($depth, true)]),*] };
    }
    depths!(0 1 2 3 4 5 6 7)
};

/// Whether two neighbouring windows always lie in the same two bytes, from an even one's first byte on.
const fn shared(depth: usize) -> bool {
    matches!(depth, 1 | 2 | 4)
}

/// Whether all 16 windows of a lane lie in four aligned double words of the stream. They move with one operation where words may take two.
const fn dwords(depth: usize) -> bool {
    depth != 7
}

/// Extraction at any bit.
#[derive(Clone, Copy)]
pub(super) struct Spread<const SHARED: bool, const DWORDS: bool> {
    /// Double words or words.
    lanes: __m512i,
    even: __m512i,
    odd: __m512i,
    even_shifts: __m512i,
    odd_shifts: __m512i,
    /// The high byte of each word.
    high: __m512i,
}

impl<const SHARED: bool, const DWORDS: bool> Extract for Spread<SHARED, DWORDS> {
    #[inline(always)]
    unsafe fn new(lookup: &Lookup) -> Self {
        assert!(shared(lookup.depth) == SHARED && dwords(lookup.depth) == DWORDS);
        let places = &PLACES[lookup.depth][usize::from(lookup.scalar)];
        // SAFETY: the caller promises AVX-512 BW; each array has 64 bytes.
        unsafe {
            Self {
                lanes: if DWORDS {
                    _mm512_loadu_si512(places.dwords.as_ptr().cast())
                } else {
                    _mm512_loadu_si512(places.words.as_ptr().cast())
                },
                even: _mm512_loadu_si512(places.even.as_ptr().cast()),
                odd: _mm512_loadu_si512(places.odd.as_ptr().cast()),
                even_shifts: _mm512_loadu_si512(places.even_shifts.as_ptr().cast()),
                odd_shifts: _mm512_loadu_si512(places.odd_shifts.as_ptr().cast()),
                high: _mm512_set1_epi16(0xff00_u16 as i16),
            }
        }
    }

    #[inline(always)]
    unsafe fn windows(self, codes: *const u8) -> __m512i {
        // SAFETY: the caller promises the processor and the bytes.
        unsafe {
            let bytes = _mm512_loadu_si512(codes.cast());
            let bytes = if DWORDS {
                _mm512_permutexvar_epi32(self.lanes, bytes)
            } else {
                _mm512_permutexvar_epi16(self.lanes, bytes)
            };
            let even = _mm512_shuffle_epi8(bytes, self.even);
            let odd = if SHARED {
                even
            } else {
                _mm512_shuffle_epi8(bytes, self.odd)
            };
            let even = _mm512_srlv_epi16(even, self.even_shifts);
            let odd = _mm512_sllv_epi16(odd, self.odd_shifts);
            _mm512_ternarylogic_epi32::<SELECT>(even, odd, self.high)
        }
    }
}

/// Look-up of 64 windows, as registers.
pub(in super::super) trait Decode: Copy {
    /// See [`Steps::SPLIT`].
    const SPLIT: bool;

    /// # Safety
    /// The processor has AVX-512 BW.
    unsafe fn new<F: Set>(lookup: &Lookup) -> Self;

    /// Windows, with any bits above them, to levels.
    ///
    /// # Safety
    /// The processor has AVX-512 BW.
    unsafe fn levels(self, windows: __m512i) -> __m512i;
}

/// 16 bytes in all lanes.
///
/// # Safety
/// The processor has AVX-512.
#[inline(always)]
pub(in super::super) unsafe fn four_times(bytes: [i8; 16]) -> __m512i {
    // SAFETY: the caller promises AVX-512; there are 16 bytes.
    unsafe { _mm512_broadcast_i32x4(_mm_loadu_si128(bytes.as_ptr().cast())) }
}

/// The low and high halves of 64 bytes; `low` is 15 in each byte.
///
/// # Safety
/// The processor has AVX-512 BW.
#[inline(always)]
pub(super) unsafe fn nibbles(bytes: __m512i, low: __m512i) -> [__m512i; 2] {
    // SAFETY: the caller promises AVX-512 BW.
    unsafe {
        [
            _mm512_and_si512(bytes, low),
            _mm512_and_si512(_mm512_srli_epi16::<4>(bytes), low),
        ]
    }
}

/// What levels that are not a split table's are xored with: VNNI's products take them plus 128.
///
/// # Safety
/// The processor has AVX-512 BW.
#[inline(always)]
unsafe fn flip<F: Set>() -> __m512i {
    // SAFETY: the caller promises AVX-512 BW.
    unsafe { _mm512_set1_epi8(if F::VNNI { FREE_OFFSET as i8 } else { 0 }) }
}

/// Up to 16 levels.
#[derive(Clone, Copy)]
pub(super) struct Nibble {
    table: __m512i,
    /// 15 in each byte.
    pub(super) low: __m512i,
}

impl Nibble {
    /// Levels by 4 bits.
    ///
    /// # Safety
    /// The processor has AVX-512 BW.
    #[inline(always)]
    pub(super) unsafe fn of(self, low: __m512i) -> __m512i {
        // SAFETY: the caller promises AVX-512 BW.
        unsafe { _mm512_shuffle_epi8(self.table, low) }
    }
}

impl Decode for Nibble {
    const SPLIT: bool = false;

    #[inline(always)]
    unsafe fn new<F: Set>(lookup: &Lookup) -> Self {
        // SAFETY: the caller promises AVX-512 BW.
        unsafe {
            Self {
                table: _mm512_xor_si512(four_times(lookup.nibble()), flip::<F>()),
                low: _mm512_set1_epi8(15),
            }
        }
    }

    #[inline(always)]
    unsafe fn levels(self, windows: __m512i) -> __m512i {
        // SAFETY: the caller promises AVX-512 BW.
        unsafe { self.of(_mm512_and_si512(windows, self.low)) }
    }
}

/// A split table: [`Lookup::halves`].
#[derive(Clone, Copy)]
pub(super) struct Halves {
    p: __m512i,
    q: __m512i,
    /// 15 in each byte.
    pub(super) low: __m512i,
}

impl Halves {
    /// The levels, plus offset, of windows with these 4 low bits in each byte, and these high ones.
    ///
    /// # Safety
    /// The processor has AVX-512 BW.
    #[inline(always)]
    pub(super) unsafe fn of(self, low: __m512i, high: __m512i) -> __m512i {
        // SAFETY: the caller promises AVX-512 BW.
        unsafe {
            let p = _mm512_shuffle_epi8(self.p, low);
            let q = _mm512_shuffle_epi8(self.q, high);
            _mm512_abs_epi8(_mm512_add_epi8(p, q))
        }
    }
}

impl Decode for Halves {
    const SPLIT: bool = true;

    #[inline(always)]
    unsafe fn new<F: Set>(lookup: &Lookup) -> Self {
        let [p, q] = lookup.halves;
        // SAFETY: the caller promises AVX-512 BW.
        unsafe {
            Self {
                p: four_times(p),
                q: four_times(q),
                low: _mm512_set1_epi8(15),
            }
        }
    }

    #[inline(always)]
    unsafe fn levels(self, windows: __m512i) -> __m512i {
        // SAFETY: the caller promises AVX-512 BW.
        unsafe {
            let [low, high] = nibbles(windows, self.low);
            self.of(low, high)
        }
    }
}

/// Bent sums of two halves.
#[derive(Clone, Copy)]
pub(super) struct Bends {
    a: __m512i,
    b: __m512i,
    bends: [__m512i; 2],
    low: __m512i,
    flip: __m512i,
}

impl Decode for Bends {
    const SPLIT: bool = false;

    #[inline(always)]
    unsafe fn new<F: Set>(lookup: &Lookup) -> Self {
        let bent = lookup.bent.expect("the form is bent");
        // SAFETY: the caller promises AVX-512 BW.
        unsafe {
            Self {
                a: four_times(bent.a),
                b: four_times(bent.b),
                bends: [
                    _mm512_set1_epi8(bent.bends[0] as i8),
                    _mm512_set1_epi8(bent.bends[1] as i8),
                ],
                low: _mm512_set1_epi8(15),
                flip: flip::<F>(),
            }
        }
    }

    #[inline(always)]
    unsafe fn levels(self, windows: __m512i) -> __m512i {
        // SAFETY: the caller promises AVX-512 BW.
        unsafe {
            let [low, high] = nibbles(windows, self.low);
            let sum = _mm512_add_epi8(
                _mm512_shuffle_epi8(self.a, low),
                _mm512_shuffle_epi8(self.b, high),
            );
            let mut level = _mm512_abs_epi8(sum);
            for bend in self.bends {
                level = _mm512_add_epi8(level, _mm512_subs_epu8(level, bend));
            }
            let negative = _mm512_movepi8_mask(sum);
            let zero = _mm512_setzero_si512();
            let level = _mm512_mask_sub_epi8(level, negative, zero, level);
            _mm512_xor_si512(level, self.flip)
        }
    }
}

/// Plain int8.
#[derive(Clone, Copy)]
pub(in super::super) struct Plain(__m512i);

impl Decode for Plain {
    const SPLIT: bool = false;

    #[inline(always)]
    unsafe fn new<F: Set>(_: &Lookup) -> Self {
        // SAFETY: the caller promises AVX-512 BW.
        Self(unsafe { flip::<F>() })
    }

    #[inline(always)]
    unsafe fn levels(self, windows: __m512i) -> __m512i {
        // SAFETY: the caller promises AVX-512 BW.
        unsafe { _mm512_xor_si512(windows, self.0) }
    }
}

/// `TABLES · 64` free levels, 64, 128 or 256.
///
/// A permutation of words takes its index from the low 5 bits of a word, or 6 with two tables, and ignores what is above. So
/// windows in the low bytes of words are looked up as they are, those in the high bytes after a shift; each word that
/// comes back has the levels of two windows, and a bit of the window says which.
#[derive(Clone, Copy)]
pub(super) struct Free<const TABLES: usize> {
    tables: [__m512i; TABLES],
    high: __m512i,
}

impl<const TABLES: usize> Free<TABLES> {
    /// The bit of a window that chooses a byte of a word.
    const CHOICE: u32 = if TABLES == 1 { 5 } else { 6 };

    /// The words of windows in the low bytes; those with a mask belong to the second half of four tables.
    ///
    /// # Safety
    /// The processor has AVX-512 BW.
    #[inline(always)]
    unsafe fn words(self, windows: __m512i, upper: __mmask32) -> __m512i {
        // SAFETY: the caller promises AVX-512 BW.
        unsafe {
            let t = self.tables;
            if TABLES == 1 {
                return _mm512_permutexvar_epi16(windows, t[0]);
            }
            let low = _mm512_permutex2var_epi16(t[0], windows, t[1]);
            if TABLES == 2 {
                return low;
            }
            let high = _mm512_permutex2var_epi16(t[TABLES - 2], windows, t[TABLES - 1]);
            _mm512_mask_blend_epi16(upper, low, high)
        }
    }
}

impl<const TABLES: usize> Decode for Free<TABLES> {
    const SPLIT: bool = false;

    #[inline(always)]
    unsafe fn new<F: Set>(lookup: &Lookup) -> Self {
        let levels = lookup.levels.as_ptr();
        // SAFETY: the caller promises AVX-512 BW; a table is 32 words of two levels, the second as far from the first as the table, or
        // two that are looked up together, has words: the last load ends with the 256th level.
        unsafe {
            let mut tables = [_mm512_setzero_si512(); TABLES];
            for (t, table) in tables.iter_mut().enumerate() {
                let first = levels.add(t / 2 * 128 + t % 2 * 32);
                let second = first.add(1 << Self::CHOICE);
                let first = _mm512_cvtepu8_epi16(_mm256_loadu_si256(first.cast()));
                let second = _mm512_cvtepu8_epi16(_mm256_loadu_si256(second.cast()));
                let words = _mm512_or_si512(first, _mm512_slli_epi16::<8>(second));
                *table = _mm512_xor_si512(words, flip::<F>());
            }
            Self {
                tables,
                high: _mm512_set1_epi16(0xff00_u16 as i16),
            }
        }
    }

    #[inline(always)]
    unsafe fn levels(self, windows: __m512i) -> __m512i {
        // SAFETY: the caller promises AVX-512 BW.
        unsafe {
            let (even_choice, odd_choice) = (
                _mm512_set1_epi16(1 << Self::CHOICE),
                _mm512_set1_epi16(1 << (8 + Self::CHOICE)),
            );
            let even_upper = _mm512_test_epi16_mask(windows, _mm512_set1_epi16(1 << 7));
            let odd_upper = _mm512_movepi16_mask(windows);
            let even = self.words(windows, even_upper);
            let odd = self.words(_mm512_srli_epi16::<8>(windows), odd_upper);
            let second = _mm512_test_epi16_mask(windows, even_choice);
            let even = _mm512_mask_srli_epi16::<8>(even, second, even);
            let first = _mm512_testn_epi16_mask(windows, odd_choice);
            let odd = _mm512_mask_slli_epi16::<8>(odd, first, odd);
            _mm512_ternarylogic_epi32::<SELECT>(even, odd, self.high)
        }
    }
}
