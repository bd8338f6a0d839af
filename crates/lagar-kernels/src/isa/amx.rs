//! Whether a process may use AMX: the processor has it, the system keeps its tiles, and has given leave.
//!
//! The standard library cannot say it yet. Wherever something is missing or not as expected, the answer is no.

use std::arch::x86_64::{__cpuid_count, _xgetbv};

/// Bits 24 and 25 of EDX of CPUID leaf 7: AMX-TILE and AMX-INT8.
const TILES_AND_BYTES: u32 = 1 << 24 | 1 << 25;

/// Bits 17 and 18 of XCR0: the system saves the shapes of tiles and their contents.
const TILE_STATE: u64 = 1 << 17 | 1 << 18;

/// Whether tiles of bytes can be used in this process, which from then on may use them. Ask once.
pub(super) fn is_available() -> bool {
    is_supported() && ask_system()
}

/// Whether the processor has the instructions and the system keeps the state.
fn is_supported() -> bool {
    if !std::arch::is_x86_feature_detected!("xsave") || leaf(0, 0)[0] < 0x1d {
        return false;
    }
    let [.., features] = leaf(7, 0);
    // SAFETY: the feature is detected only where the system has enabled the instruction.
    let state = unsafe { enabled_state() };
    features & TILES_AND_BYTES == TILES_AND_BYTES && state & TILE_STATE == TILE_STATE && has_tiles()
}

/// Whether the first palette is what the kernels use: 8 tiles of 16 rows of 64 bytes.
fn has_tiles() -> bool {
    let [palettes, ..] = leaf(0x1d, 0);
    let [_, sizes, rows, _] = leaf(0x1d, 1);
    let (row_bytes, tiles) = (sizes & 0xffff, sizes >> 16);
    palettes >= 1 && tiles >= 8 && row_bytes >= 64 && rows & 0xffff >= 16
}

/// EAX, EBX, ECX and EDX of a leaf of CPUID.
fn leaf(leaf: u32, part: u32) -> [u32; 4] {
    // SAFETY: every processor with 64 bits has the instruction.
    #[allow(unused_unsafe, reason = "newer compilers know that it is safe")]
    let found = unsafe { __cpuid_count(leaf, part) };
    [found.eax, found.ebx, found.ecx, found.edx]
}

/// XCR0.
#[target_feature(enable = "xsave")]
fn enabled_state() -> u64 {
    // SAFETY: the feature is that of this function; every processor with it has register 0.
    unsafe { _xgetbv(0) }
}

/// Asks Linux for leave to use tiles, for this process and all of its threads: without it, their first use would end the
/// process. Versions before 5.16 do not know the question and say no.
#[cfg(all(target_os = "linux", target_pointer_width = "64"))]
fn ask_system() -> bool {
    const ARCH_PRCTL: i64 = 158;
    const ARCH_REQ_XCOMP_PERM: u64 = 0x1023;
    const XTILEDATA: u64 = 18;
    let answer: i64;
    // SAFETY: a system call of two numbers, which touches no memory of the process; it overwrites
    // these registers alone.
    unsafe {
        std::arch::asm!(
            "syscall",
            inlateout("rax") ARCH_PRCTL => answer,
            in("rdi") ARCH_REQ_XCOMP_PERM,
            in("rsi") XTILEDATA,
            lateout("rcx") _,
            lateout("r11") _,
            options(nostack),
        );
    }
    answer == 0
}

#[cfg(not(all(target_os = "linux", target_pointer_width = "64")))]
fn ask_system() -> bool {
    false
}
