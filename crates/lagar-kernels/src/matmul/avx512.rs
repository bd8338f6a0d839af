//! The integer kernels with AVX-512: BW alone, with VNNI, and with VBMI and VNNI.
//!
//! They share the loop of products ([`units`]) and differ in how they come from codes to levels.

mod bw;
mod quads;
mod several;
mod units;
mod vbmi;

use std::arch::asm;
use std::arch::x86_64::*;
use std::hint::black_box;

use lagar_codec::{BLOCK_COLS, ROW_UNIT};

use super::lookup::{FREE_OFFSET, Form, Lookup, SPLIT_OFFSET};
use super::tile::{Ops, Product, Several, UNIT};
use quads::takes;
pub(super) use units::accumulate;
use units::{Bw, BwVnni, Decoded, Set, Source, Values, Vbmi, add};
pub(super) use vbmi::decode;

/// See [`Ops::few`].
const FEW: usize = 4;

/// With VBMI and VNNI.
pub(super) const OPS: Ops = Ops {
    dot: vbmi::dot,
    several: Some(SEVERAL),
    decode: decode::<false>,
    multiply: multiply::<Vbmi>,
    ..OPS_BW_VNNI
};

/// With VBMI and VNNI. Where look-ups are quick, doing them twice is still quicker than decoding first.
pub(super) const SEVERAL: Several = Several {
    least: |lookup| if takes(lookup) { 3 } else { FEW + 1 },
    most: |lookup| match lookup.depth {
        _ if takes(lookup) => 32,
        2 | 4 | 8 => 16,
        _ => 8,
    },
    at_once: 8,
    rows: several::ROWS,
    products: vbmi::several,
};

/// With VNNI.
pub(super) const OPS_BW_VNNI: Ops = Ops {
    dot: bw::dot::<BwVnni>,
    decode: bw::decode::<BwVnni>,
    offset: offset::<BwVnni>,
    multiply: multiply::<BwVnni>,
    peak,
    ..OPS_BW
};

/// With BW alone.
pub(super) const OPS_BW: Ops = Ops {
    dot: bw::dot::<Bw>,
    few: |_| FEW,
    several: None,
    decode: bw::decode::<Bw>,
    offset: offset::<Bw>,
    together: 4,
    multiply: multiply::<Bw>,
    release: || {},
    scales,
    peak: peak_bw,
};

/// See [`Ops::offset`].
fn offset<F: Set>(lookup: &Lookup) -> u8 {
    match lookup.form {
        Form::Split => SPLIT_OFFSET,
        Form::Nibble | Form::Bent | Form::Plain | Form::Free if F::VNNI => FREE_OFFSET,
        Form::Nibble | Form::Bent | Form::Plain | Form::Free => 0,
    }
}

/// See [`Ops::multiply`].
///
/// # Safety
/// The processor has the features of the set.
unsafe fn multiply<F: Set>(product: &Product<'_>, sums: &mut [f32]) {
    product.check(sums);
    let source = Source {
        lookup: product.lookup,
        first: product.levels.as_ptr(),
        unit_bytes: product.blocks * UNIT,
        block_bytes: UNIT,
        units: product.units,
        blocks: product.blocks,
    };
    let by = &product.by;
    // SAFETY: the caller promises the processor; the lengths are checked.
    unsafe {
        match product.lookup.form {
            Form::Split => F::products::<Decoded<true>, 1>(source, by, sums),
            _ => F::products::<Decoded<false>, 1>(source, by, sums),
        }
    }
}

/// See [`Ops::scales`].
///
/// # Safety
/// The processor has AVX-512.
#[target_feature(enable = "avx512f,avx512bw")]
unsafe fn scales(codes: &[u8], out: &mut [f32]) {
    assert_eq!(codes.len(), out.len());
    let (codes, _) = codes.as_chunks::<ROW_UNIT>();
    // SAFETY: the loads and stores are of whole arrays: 16 steps, 16 codes, 16 values.
    unsafe {
        let steps = _mm512_loadu_ps(super::portable::SCALES.as_ptr());
        for (codes, out) in codes.iter().zip(out.as_chunks_mut::<ROW_UNIT>().0) {
            let codes = _mm512_cvtepu8_epi32(_mm_loadu_si128(codes.as_ptr().cast()));
            let step = _mm512_castps_si512(_mm512_permutexvar_ps(codes, steps));
            let octaves = _mm512_slli_epi32::<23>(_mm512_srli_epi32::<4>(codes));
            // Steps lie in (1/2, 1] and octaves go down to 2⁻¹⁵, so exponents stay positive.
            let stored = _mm512_cmpneq_epi32_mask(codes, _mm512_set1_epi32(255));
            let value = _mm512_maskz_sub_epi32(stored, step, octaves);
            _mm512_storeu_ps(out.as_mut_ptr(), _mm512_castsi512_ps(value));
        }
    }
}

/// See [`Ops::peak`].
///
/// # Safety
/// The processor has AVX-512 VNNI.
#[target_feature(enable = "avx512f,avx512vnni")]
unsafe fn peak(products: u64) {
    let mut sums = [_mm512_setzero_si512(); 16];
    let (levels, x) = black_box((_mm512_set1_epi8(3), _mm512_set1_epi8(-5)));
    for _ in 0..products.div_ceil((sums.len() * UNIT) as u64) {
        for sum in &mut sums {
            *sum = _mm512_dpbusd_epi32(*sum, levels, x);
        }
    }
    black_box(sums);
}

/// See [`Ops::peak`]; without VNNI.
///
/// # Safety
/// The processor has AVX-512 BW.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
unsafe fn peak_bw(products: u64) {
    // SAFETY: the features are those of the function; the assembly is a comment.
    unsafe {
        let mut sums = [_mm512_setzero_si512(); 16];
        let mut levels = black_box(_mm512_set1_epi8(3));
        let x = black_box([-5; BLOCK_COLS]);
        let values = Values::new(x.as_ptr());
        for _ in 0..products.div_ceil((sums.len() * UNIT) as u64) {
            for sum in &mut sums {
                // Else the products would be the same each time, and computed once.
                asm!("/* {} */", inout(zmm_reg) levels, options(nomem, nostack, preserves_flags));
                *sum = add::<Bw>(true, *sum, levels, values);
            }
        }
        black_box(sums);
    }
}
