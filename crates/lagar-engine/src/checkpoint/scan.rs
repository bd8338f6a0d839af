//! Looking for weights that are no numbers.

use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};

use lagar_format::Dtype;
use lagar_kernels::Cpu;

use super::TensorView;

/// The first element of a tensor that is NaN or infinite.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct NonFinite {
    /// Its row-major position.
    pub position: usize,
    /// Its value.
    pub value: f32,
}

impl fmt::Display for NonFinite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "element {} is {}", self.position, self.value)
    }
}

/// Bytes that one task looks at.
const TASK: usize = 1 << 20;

impl TensorView {
    /// Finds the first element that is NaN or infinite, at about the speed of memory.
    ///
    /// # Panics
    /// If the type is not F32, F16 or BF16.
    pub fn non_finite(&self, cpu: &Cpu) -> Option<NonFinite> {
        let bytes: &[u8] = &self.region;
        let size = self.dtype.bytes() as usize;
        let first = AtomicUsize::new(usize::MAX);
        cpu.pool().run(bytes.len().div_ceil(TASK), &|task| {
            let start = task * TASK;
            if first.load(Ordering::Relaxed) < start / size {
                return;
            }
            let chunk = &bytes[start..bytes.len().min(start + TASK)];
            if let Some(found) = first_in(self.dtype, chunk) {
                first.fetch_min(start / size + found, Ordering::Relaxed);
            }
        });
        let position = first.into_inner();
        (position != usize::MAX).then(|| {
            let mut value = [0.0];
            self.read_f32(position, &mut value);
            NonFinite {
                position,
                value: value[0],
            }
        })
    }
}

/// The first element whose exponent bits are all set.
fn first_in(dtype: Dtype, bytes: &[u8]) -> Option<usize> {
    fn search<const N: usize, T: Copy>(
        bytes: &[u8],
        read: impl Fn([u8; N]) -> T,
        is_bad: impl Fn(T) -> bool,
    ) -> Option<usize> {
        let elements = bytes.as_chunks::<N>().0;
        // Without an early exit the first pass is vectorised; bad weights are rare.
        let any = elements
            .iter()
            .fold(false, |any, bytes| any | is_bad(read(*bytes)));
        any.then(|| elements.iter().position(|bytes| is_bad(read(*bytes))))?
    }
    match dtype {
        Dtype::F32 => search(bytes, u32::from_le_bytes, |b| {
            b & 0x7f80_0000 == 0x7f80_0000
        }),
        Dtype::F16 => search(bytes, u16::from_le_bytes, |b| b & 0x7c00 == 0x7c00),
        Dtype::BF16 => search(bytes, u16::from_le_bytes, |b| b & 0x7f80 == 0x7f80),
        other => panic!("{other} was refused on opening"),
    }
}
