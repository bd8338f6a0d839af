//! What the kernels need of a table: where its windows lie, and what they decode to.

use lagar_codec::{Bent, Split, Table};

/// What the look-ups of split tables, of levels within ±63, add to levels, so that they are above 0: see [`halves`].
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
pub(super) const SPLIT_OFFSET: u8 = 64;
/// What AVX-512's look-ups of other tables add where products take unsigned levels.
#[cfg(target_arch = "x86_64")]
pub(super) const FREE_OFFSET: u8 = 128;

/// How the level of a window is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// Windows of at most 4 bits: one table of 16.
    Nibble,
    /// Two tables of 16 with signs, levels within ±63.
    Split,
    /// Two tables of 16 whose sums are bent.
    Bent,
    /// The level is the window (plain int8).
    Plain,
    /// A table of `2^window` free levels, more than 16.
    Free,
}

/// A table made ready for the kernels.
///
/// Extracted windows carry stream bits of later weights above their own `L` bits, so every table is
/// repeated over the bits it ignores.
#[derive(Clone, Debug)]
pub(super) struct Lookup {
    /// Bits per weight, `K`.
    pub(super) depth: usize,
    /// Bits per window, `L`.
    #[cfg_attr(
        not(target_arch = "x86_64"),
        expect(dead_code, reason = "other look-ups need no widths")
    )]
    pub(super) window: u32,
    /// How levels are found.
    pub(super) form: Form,
    /// Whether the windows are those of an ordinary codebook, `L = K`.
    pub(super) scalar: bool,
    /// The level of every byte of which the low `L` bits are the window.
    pub(super) levels: [i8; 256],
    /// Of a split table, see [`halves`].
    #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
    pub(super) halves: [[i8; 16]; 2],
    /// How sums become levels, for [`Form::Bent`].
    #[cfg_attr(
        not(target_arch = "x86_64"),
        expect(dead_code, reason = "other look-ups take all levels")
    )]
    pub(super) bent: Option<Bent>,
}

impl Lookup {
    pub(super) fn new(table: &Table) -> Self {
        let window = u32::from(table.window());
        let mask = table.levels().len() - 1;
        let levels = std::array::from_fn(|i| table.levels()[i & mask]);
        let plain = || (0..=255u8).all(|w| levels[usize::from(w)] == w as i8);
        let form = match table.split() {
            Some(_) => Form::Split,
            None if window <= 4 => Form::Nibble,
            None if table.depth() == 8 && plain() => Form::Plain,
            None => table.bent().map_or(Form::Free, |_| Form::Bent),
        };
        Self {
            depth: usize::from(table.depth()),
            window,
            form,
            scalar: table.depth() == table.window(),
            levels,
            #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
            halves: table.split().map(halves).unwrap_or_default(),
            bent: table.bent().copied(),
        }
    }

    /// Bytes of 64 weights, the 16 rows of one block of 4 columns.
    pub(super) fn unit_bytes(&self) -> usize {
        8 * self.depth
    }

    /// Where windows lie.
    pub(super) fn place(&self) -> Place {
        Place::of(self.depth, self.scalar)
    }

    /// The 16 levels of [`Form::Nibble`].
    pub(super) fn nibble(&self) -> [i8; 16] {
        std::array::from_fn(|i| self.levels[i])
    }
}

/// Of a split table, the bytes `p[low]` and `q[high]`, by the window's low and high 4 bits, with
/// `|p[low] + q[high]| = level + SPLIT_OFFSET`. The sum wraps around; the magnitude is that of its signed byte.
///
/// A's sign `s` is that of one of the high bits, B's sign `t` that of one of the low ones. So the level
/// `s·a[low] + t·b[high]` is `s·t·v` with `v = t·a[low] + s·b[high]`, each term of which is known from its own 4 bits. The
/// sum is `−(64 + v)`, plus 128 for each of the signs that is −1; twice 128 is nothing. Where `s·t` is 1 that leaves
/// `−(64 + v)`, else `64 − v`, both within ±127.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
fn halves(split: &Split) -> [[i8; 16]; 2] {
    // Minus a level, times its half's own sign, with 128 if that is −1.
    let byte = |level: i8, negative: bool| match negative {
        true => level.wrapping_add(i8::MIN),
        false => level.wrapping_neg(),
    };
    let negative = |bits: usize, bit: u8| bits >> bit & 1 == 1;
    [
        std::array::from_fn(|low| {
            byte(split.a[low], negative(low, split.b_sign_bit)).wrapping_sub(SPLIT_OFFSET as i8)
        }),
        std::array::from_fn(|high| byte(split.b[high], negative(high, split.a_sign_bit - 4))),
    ]
}

/// Where the windows of consecutive weights lie: that of weight `i` begins at bit
/// `first + i · depth` of the bytes from `lead` on. (`lead` is 1 for whole bytes, so that 16 windows
/// never need more than 16 bytes, and 64 never more than 64.)
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    /// Bytes to skip.
    pub(super) lead: usize,
    /// Bit of the first window.
    pub(super) first: usize,
    /// Bits between windows.
    pub(super) depth: usize,
}

impl Place {
    /// The place of windows in a tile whose stream has one leading zero byte: the newest `depth` bits
    /// of a window are its top bits, so it begins `L − depth` bits before the weight's own bits.
    pub(super) const fn of(depth: usize, scalar: bool) -> Self {
        match (depth, scalar) {
            (8, _) => Self {
                lead: 1,
                first: 0,
                depth,
            },
            (_, true) => Self {
                lead: 0,
                first: 8,
                depth,
            },
            (_, false) => Self {
                lead: 0,
                first: depth,
                depth,
            },
        }
    }

    /// The bit at which the window of weight `i` begins.
    pub(super) const fn bit(&self, i: usize) -> usize {
        self.first + i * self.depth
    }
}
