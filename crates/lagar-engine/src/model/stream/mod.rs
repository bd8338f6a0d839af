//! Weights that stay on the disk and are read while the model runs.
//!
//! A file's tiers up to the resident one stay in memory; those above it are read in the order in
//! which passes use them, block by block and then the head, by a thread that is a little ahead. What
//! it reads lies in a window of a few buffers. A pass borrows one unit at a time and waits where the
//! unit is not there yet; passes at different places get what they ask for in turn.

mod report;
mod units;
mod window;

use std::ops::Deref;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;

use lagar_kernels::Cpu;

use super::ModelOptions;
use super::block::BlockWeights;
use super::from_container::Opened;
use super::linear::Linear;
use crate::EngineError;
pub(super) use report::Counters;
pub use report::StreamReport;
use units::{Loaded, Unit, Units};
use window::{Next, Window};

/// Buffers of a window unless the options ask for more: one in use, one being filled.
const BUFFERS: usize = 2;

/// A model's blocks and head, read as they are used.
#[derive(Debug)]
pub(super) struct Stream {
    shared: Arc<Shared>,
    reader: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    units: Units,
    state: Mutex<State>,
    /// There may be something to read, or to stop for.
    work: Condvar,
    /// A unit is there.
    ready: Condvar,
    stop: AtomicBool,
    counters: Counters,
}

#[derive(Debug)]
struct State {
    window: Window<Content>,
    /// The reader has ended.
    ended: bool,
}

/// A unit that was read, or why it could not be.
type Content = Result<Arc<Loaded>, EngineError>;

/// A unit in use.
#[derive(Debug)]
pub(super) struct Held<'a, T> {
    shared: &'a Shared,
    unit: usize,
    /// There until this is dropped.
    loaded: Option<Arc<Loaded>>,
    /// Of tier `full`: there until this is dropped.
    decoded: Option<Unit>,
    weights: fn(&Unit) -> &T,
}

impl Stream {
    /// Starts to read the tiers above `resident` of a model of `tier`.
    pub(super) fn start(
        opened: &Arc<Opened>,
        tier: usize,
        resident: usize,
        options: &ModelOptions,
    ) -> Result<Self, EngineError> {
        let units = Units::new(opened, tier, resident, options.window)?;
        let wanted = options.window.map_or(BUFFERS, |bytes| {
            usize::try_from(bytes / units.buffer_bytes() as u64).unwrap_or(usize::MAX)
        });
        let buffers = wanted.clamp(1, units.len());
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                window: Window::new(units.len(), buffers),
                ended: false,
            }),
            units,
            work: Condvar::new(),
            ready: Condvar::new(),
            stop: AtomicBool::new(false),
            counters: Counters::default(),
        });
        let thread = std::thread::Builder::new().name("lagar-reader".into());
        let reader = thread.spawn({
            let shared = Arc::clone(&shared);
            move || shared.read_ahead()
        });
        let reader = reader.map_err(|source| EngineError::Thread { source })?;
        Ok(Self {
            shared,
            reader: Some(reader),
        })
    }

    /// The weights of a block.
    pub(super) fn block(
        &self,
        cpu: &Cpu,
        layer: usize,
    ) -> Result<Held<'_, BlockWeights>, EngineError> {
        self.shared.take(cpu, layer, Unit::block)
    }

    /// Number of pieces of rows in which the output head comes.
    pub(super) fn head_pieces(&self) -> usize {
        self.shared.units.head().len()
    }

    /// A piece of the output head.
    pub(super) fn head(&self, cpu: &Cpu, piece: usize) -> Result<Held<'_, Linear>, EngineError> {
        let head = self.shared.units.head();
        self.shared.take(cpu, head.start + piece, Unit::head)
    }

    /// Whether matrices are used as they were decoded: none is pressed.
    pub(super) fn is_decoded(&self) -> bool {
        self.shared.units.are_decoded()
    }

    pub(super) fn counters(&self) -> &Counters {
        &self.shared.counters
    }

    /// Bytes of memory that the window takes at most.
    pub(super) fn window_bytes(&self) -> u64 {
        let buffers = self.shared.lock().window.buffers();
        (buffers * self.shared.units.buffer_bytes()) as u64
    }

    /// Bytes of memory that decoded weights take for each pass at a time.
    pub(super) fn decoded_bytes(&self) -> u64 {
        self.shared.units.decoded_bytes()
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        // Under the lock, so that the reader is not between its look at the flag and its sleep.
        let state = self.shared.lock();
        self.shared.stop.store(true, Relaxed);
        drop(state);
        self.shared.work.notify_all();
        if let Some(reader) = self.reader.take() {
            // Its panics were caught, see `Ended`.
            let _ = reader.join();
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Borrows a unit, waits until it is there, and decodes it if need be.
    fn take<T>(
        &self,
        cpu: &Cpu,
        unit: usize,
        weights: fn(&Unit) -> &T,
    ) -> Result<Held<'_, T>, EngineError> {
        let mut waited = None;
        let mut state = self.lock();
        state.window.wait(unit);
        let taken = loop {
            if state.ended {
                break Err(EngineError::ReaderEnded);
            }
            match state.window.acquire(unit) {
                Some(Ok(loaded)) => break Ok(Arc::clone(loaded)),
                Some(Err(_)) => {
                    state.window.release(unit);
                    if let Some(Err(error)) = state.window.remove(unit) {
                        break Err(error);
                    }
                }
                None => {
                    waited.get_or_insert_with(Instant::now);
                    self.work.notify_one();
                    state = self
                        .ready
                        .wait(state)
                        .unwrap_or_else(PoisonError::into_inner);
                }
            }
        };
        state.window.leave(unit);
        drop(state);
        self.work.notify_one();
        if let Some(since) = waited {
            self.counters.waited(since.elapsed());
        }
        let mut held = Held {
            shared: self,
            unit,
            loaded: Some(taken?),
            decoded: None,
            weights,
        };
        if let Some(loaded) = held.loaded.as_deref()
            && loaded.weights.is_none()
        {
            held.decoded = Some(self.units.decode(cpu, unit, loaded)?);
        }
        Ok(held)
    }

    /// The life of the reader.
    fn read_ahead(&self) {
        let _ended = Ended(self);
        let mut state = self.lock();
        while !self.stop.load(Relaxed) {
            let Some(Next { unit, evicted }) = state.window.next() else {
                state = self
                    .work
                    .wait(state)
                    .unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            drop(state);
            let buffer = evicted.and_then(Result::ok).and_then(Loaded::into_buffer);
            let go_on = || !self.stop.load(Relaxed);
            let read = self.units.read(unit, buffer.unwrap_or_default(), &go_on);
            let Some(content) = read.transpose() else {
                return;
            };
            if content.is_ok() {
                self.counters.read(self.units.read_bytes(unit));
            }
            state = self.lock();
            state.window.fill(unit, content.map(Arc::new));
            self.ready.notify_all();
        }
    }
}

/// Says that the reader has ended, even if it panicked: nobody may wait for it any more.
struct Ended<'a>(&'a Shared);

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        self.0.lock().ended = true;
        self.0.ready.notify_all();
    }
}

impl<T> Deref for Held<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        let read = self.loaded.as_ref().and_then(|read| read.weights.as_ref());
        let unit = self.decoded.as_ref().or(read);
        (self.weights)(unit.expect("there until this is dropped"))
    }
}

impl<T> Drop for Held<'_, T> {
    fn drop(&mut self) {
        if let Some(decoded) = self.decoded.take() {
            self.shared.units.recycle(decoded);
        }
        // First: who evicts the unit reuses its buffer, which must have no other owner.
        self.loaded = None;
        self.shared.lock().window.release(self.unit);
        self.shared.work.notify_one();
    }
}
