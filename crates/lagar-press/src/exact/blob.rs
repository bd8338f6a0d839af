//! Bytes that are not coded as a tensor: as they are, or as zlib where that helps.

use std::path::Path;
use std::sync::Mutex;

use lagar_format::{PIECE_BYTES, compress};
use lagar_kernels::Cpu;

use super::unit::{Held, Unit, UnitWriter};
use crate::{PressError, Progress};

/// Below this nothing is tried: a stream of its own and its length would cost what it saves.
const SMALL: usize = 512;
/// What is compressed first, to see whether it helps.
const SAMPLE: usize = 1 << 16;
const SAMPLES: usize = 8;
/// Pieces compressed at once.
const AT_ONCE: usize = 16;

/// Whether zlib saves at least a twentieth, judged by samples from all over.
pub(super) fn compressible(bytes: &[u8]) -> bool {
    if bytes.len() < SMALL {
        return false;
    }
    let (mut raw, mut stored) = (0, 0);
    let step = (bytes.len() / SAMPLES).max(SAMPLE);
    for start in (0..bytes.len()).step_by(step) {
        let sample = &bytes[start..bytes.len().min(start + SAMPLE)];
        raw += sample.len();
        stored += compress(sample).len();
    }
    stored * 20 < raw * 19
}

/// Compresses bytes piece by piece into a unit.
pub(super) fn zlib_unit(
    cpu: &Cpu,
    bytes: &[u8],
    path: &Path,
    progress: &dyn Progress,
) -> Result<Unit, PressError> {
    let mut writer = UnitWriter::create(path)?;
    let (mut lengths, mut whole) = (Vec::new(), None);
    for group in bytes.chunks(AT_ONCE * PIECE_BYTES as usize) {
        if progress.cancelled() {
            return Err(PressError::Interrupted);
        }
        let pieces: Vec<&[u8]> = group.chunks(PIECE_BYTES as usize).collect();
        let streams: Vec<Mutex<Vec<u8>>> = pieces.iter().map(|_| Mutex::default()).collect();
        cpu.pool().run(pieces.len(), &|i| {
            *streams[i].lock().expect("no holder panics") = compress(pieces[i]);
            progress.advance(pieces[i].len() as u64);
        });
        for stream in streams {
            let stream = stream.into_inner().expect("no holder panics");
            lengths.push(stream.len() as u64);
            let span = writer.span([&stream[..]])?;
            let whole = whole.get_or_insert(span);
            whole.bytes = span.offset + span.bytes - whole.offset;
        }
    }
    let streams = whole.expect("empty bytes are not compressed");
    writer.finish(Held::Zlib { streams, lengths })
}
