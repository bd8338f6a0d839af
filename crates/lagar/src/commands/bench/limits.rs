//! What the machine can do at best.

use lagar_format::os;
use lagar_kernels::Cpu;

/// Bytes of the buffer that is read to find the memory's speed: more than the caches of most machines hold.
const BUFFER: u64 = 512 << 20;

/// Limits of the machine with some number of threads.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Bytes a second read from memory.
    pub(super) bandwidth: f64,
    /// Operations a second on bytes, a product and its addition being two.
    pub(super) int8: f64,
}

impl Limits {
    pub(super) fn measure(cpu: &Cpu) -> Self {
        let spare = os::available_memory().map_or(BUFFER, |free| free / 4);
        Self {
            bandwidth: cpu.read_bandwidth(BUFFER.min(spare) as usize),
            int8: cpu.int8_peak(),
        }
    }
}
