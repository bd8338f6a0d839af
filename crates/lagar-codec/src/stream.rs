//! Windows and the bits they are stored as.

/// The window after `window` when `symbol < 2^depth` comes next: the oldest `depth` bits leave at the
/// bottom, the symbol enters at the top.
///
/// `bits` is the window's width `L`.
pub const fn next_window(depth: u8, bits: u8, window: u8, symbol: u8) -> u8 {
    if depth >= bits {
        return symbol;
    }
    (window >> depth) | (symbol << (bits - depth))
}

/// The symbol that entered last: a window's newest `depth` bits.
pub const fn symbol(depth: u8, bits: u8, window: u8) -> u8 {
    window >> (bits - depth)
}

/// Packs the newest `depth` bits of each of `windows` (of `bits` bits each), the first in the lowest
/// bits, into `out`.
///
/// # Panics
///
/// If `out` does not have exactly `windows.len() · depth / 8` bytes, rounded up.
pub fn pack_windows(depth: u8, bits: u8, windows: &[u8], out: &mut [u8]) {
    assert_eq!(out.len(), (windows.len() * usize::from(depth)).div_ceil(8));
    // 8 symbols are `depth` whole bytes.
    for (group, bytes) in windows.chunks(8).zip(out.chunks_mut(usize::from(depth))) {
        let mut word = 0u64;
        for (i, &window) in group.iter().enumerate() {
            word |= u64::from(symbol(depth, bits, window)) << (usize::from(depth) * i);
        }
        bytes.copy_from_slice(&word.to_le_bytes()[..bytes.len()]);
    }
}
