//! What is timed, and how long it takes.

use crate::interrupt::Interrupt;
use crate::machine::EnergyCounter;
use lagar_engine::{EngineError, Model, NoObserver, Session};
use lagar_kernels::Cpu;
use std::fmt::{self, Display};
use std::time::Instant;

/// What is timed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Kind {
    Prefill,
    Decode,
}

/// One of the things that are measured.
#[derive(Clone, Copy, Debug)]
pub(super) struct Case {
    pub(super) kind: Kind,
    /// Tokens of context that are there before.
    pub(super) before: usize,
    /// Tokens of the prompt, or that each sequence makes.
    pub(super) tokens: usize,
    /// Sequences at the same time.
    pub(super) batch: usize,
}

impl Case {
    /// Tokens of context that a sequence takes.
    pub(super) fn room(&self) -> usize {
        self.before + self.tokens
    }
}

impl Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            Kind::Prefill => write!(f, "prefill of {}", self.tokens)?,
            Kind::Decode => write!(f, "decode of {}", self.tokens)?,
        }
        if self.before > 0 {
            write!(f, " after {}", self.before)?;
        }
        if self.batch > 1 {
            write!(f, " in {} sequences", self.batch)?;
        }
        Ok(())
    }
}

/// What was measured of a case, round by round.
#[derive(Clone, Debug, Default)]
pub(super) struct Measured {
    /// Tokens a second, of all sequences together.
    pub(super) rates: Vec<f64>,
    /// Joules per token.
    pub(super) joules: Vec<f64>,
    /// Bytes of keys and values that are there at the end, of all sequences together.
    pub(super) cache_bytes: usize,
}

/// Any token, so that not all are the same.
fn token(i: usize, vocabulary: usize) -> u32 {
    (i * 97 % vocabulary) as u32
}

fn tokens(n: usize, vocabulary: usize) -> Vec<u32> {
    (0..n).map(|i| token(i, vocabulary)).collect()
}

/// The logits after one token.
pub(super) fn first_token(cpu: &Cpu, model: &Model) -> Result<(), EngineError> {
    let mut session = model.session(1)?;
    model.next_logits(cpu, &mut session, &[0], &mut NoObserver)?;
    Ok(())
}

impl Measured {
    /// Measures a case once more.
    pub(super) fn time(
        &mut self,
        cpu: &Cpu,
        model: &Model,
        case: &Case,
        energy: Option<&EnergyCounter>,
        interrupt: &Interrupt,
    ) -> anyhow::Result<()> {
        let vocabulary = model.spec().vocabulary;
        // In the parts that a model takes anyway, between which it may be interrupted.
        let read = |session: &mut Session, tokens: &[u32]| {
            for tokens in tokens.chunks(model.chunk()) {
                interrupt.check()?;
                model.next_logits(cpu, session, tokens, &mut NoObserver)?;
            }
            anyhow::Ok(())
        };
        let sessions = (0..case.batch).map(|_| model.session(case.room()));
        let mut sessions = sessions.collect::<Result<Vec<Session>, _>>()?;
        for session in &mut sessions {
            read(session, &tokens(case.before, vocabulary))?;
        }
        let prompt = tokens(case.tokens, vocabulary);
        let energy_before = energy.map(EnergyCounter::read).transpose()?;
        let start = Instant::now();
        match (case.kind, &mut sessions[..]) {
            (Kind::Prefill, sessions) => {
                for session in sessions {
                    read(session, &prompt)?;
                }
            }
            (Kind::Decode, [session]) => {
                for &token in &prompt {
                    interrupt.check()?;
                    model.next_logits(cpu, session, &[token], &mut NoObserver)?;
                }
            }
            (Kind::Decode, sessions) => {
                let mut logits = vec![0.0; sessions.len() * vocabulary];
                let mut all: Vec<_> = sessions.iter_mut().collect();
                for &token in &prompt {
                    interrupt.check()?;
                    let next: Vec<u32> = (0..all.len())
                        .map(|s| (token + s as u32) % vocabulary as u32)
                        .collect();
                    model.batch_logits(cpu, &mut all, &next, &mut logits)?;
                }
            }
        }
        let seconds = start.elapsed().as_secs_f64();
        let made = (case.tokens * case.batch) as f64;
        self.rates.push(made / seconds);
        if let (Some(energy), Some(before)) = (energy, energy_before) {
            self.joules.push(energy.joules_since(&before)? / made);
        }
        self.cache_bytes = sessions.iter().map(Session::cache_bytes).sum();
        Ok(())
    }
}
