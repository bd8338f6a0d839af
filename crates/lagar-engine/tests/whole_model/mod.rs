//! Fixtures, tokens and logits: what the tests of whole models share.

use std::path::{Path, PathBuf};

use lagar_engine::{EngineError, Model, NoObserver, Session};
use lagar_kernels::Cpu;

/// The folder of a checkpoint of these tests.
pub(crate) fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures")
        .join(name)
}

/// Tokens that look like no pattern.
pub(crate) fn tokens(n: usize, vocabulary: usize) -> Vec<u32> {
    (0..n)
        .map(|i| ((i * i * 31 + 17 * i + 5) % vocabulary) as u32)
        .collect()
}

/// The logits of every position, as bits.
pub(crate) fn logits(cpu: &Cpu, model: &Model, tokens: &[u32], chunk: usize) -> Vec<u32> {
    let mut session = model.session(tokens.len()).unwrap();
    session.set_chunk(chunk);
    try_logits(cpu, model, &mut session, tokens).unwrap()
}

/// The logits of these tokens after those that the session holds, as bits.
pub(crate) fn try_logits(
    cpu: &Cpu,
    model: &Model,
    session: &mut Session,
    tokens: &[u32],
) -> Result<Vec<u32>, EngineError> {
    let hidden = model.forward(cpu, session, tokens, &mut NoObserver)?;
    let mut out = vec![0.0; tokens.len() * model.spec().vocabulary];
    model.logits(cpu, hidden, tokens.len(), &mut out)?;
    assert!(out.iter().all(|logit| logit.is_finite()));
    Ok(out.into_iter().map(f32::to_bits).collect())
}
