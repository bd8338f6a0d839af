//! A thread pool with a low wake-up cost.
//!
//! A job is a function of a task's index. It is published in one atomic word, `state`:
//!
//! ```text
//! bits 63..18  number of the job
//! bit  17      open: workers may join
//! bit  16      the caller sleeps until nobody is inside
//! bits 15..0   workers inside the job
//! ```
//!
//! A worker joins by adding one to the word while it is open, claims task indices from a shared
//! counter until there are none, and leaves by subtracting one. The caller claims tasks as well,
//! then closes the job and waits until nobody is inside: it never waits for a worker that has not
//! woken up. Between jobs workers spin for a short time, giving their core away after the first part of it ([`ALONE`]), then sleep.
//!
//! Of tasks that are alike a thread claims several that follow each other, fewer as fewer are left ([`Share`]): their data follow each other
//! too, and what a processor fetches ahead in one task serves the next.
//!
//! What a thread must not miss, it learns from an atomic update of this one word, never from a store
//! to one word followed by a load of another: some emulators let the two pass each other.

mod disjoint;
#[cfg(test)]
mod tests;

use std::any::Any;
use std::cell::{Cell, UnsafeCell};
use std::hint::spin_loop;
use std::num::NonZero;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

pub use disjoint::Disjoint;

/// How long an idle worker looks for a new job before it sleeps, and a caller for the end of one.
const SPIN: Duration = Duration::from_micros(200);

const CALLER_SLEEPS: u64 = 1 << 16;
const INSIDE: u64 = CALLER_SLEEPS - 1;
const OPEN: u64 = CALLER_SLEEPS << 1;
const NUMBER: u64 = OPEN << 1;

/// How long a thread that waits keeps its core to itself. Waits inside a token are shorter; after a longer one it may be that what it waits
/// for needs the core, in this process or another.
const ALONE: Duration = Duration::from_micros(50);

/// The most threads of a pool.
const MAX_THREADS: usize = 1 << 12;

thread_local! {
    /// Whether this thread is inside a task (of any pool).
    static IN_TASK: Cell<bool> = const { Cell::new(false) };
}

/// A pool of threads that run the tasks of one job at a time.
///
/// The calling thread takes part, so a pool of one thread has no workers. Jobs from several
/// threads run one after the other. A job started inside a task runs on that task's thread alone.
#[derive(Debug)]
pub struct Pool {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
    /// Held by the caller whose job runs: callers' share.
    entry: Mutex<Share>,
}

#[derive(Debug)]
struct Shared {
    state: AtomicU64,
    job: UnsafeCell<Job>,
    /// The next task index to claim.
    next: AtomicUsize,
    /// The first panic of the running job.
    panic: Mutex<Option<Box<dyn Any + Send>>>,
    stop: AtomicBool,
    spin: Duration,
    /// Workers asleep, or about to be; each holds `sleep` while it decides.
    sleepers: AtomicUsize,
    sleep: Mutex<()>,
    wake: Condvar,
    /// Where the caller sleeps until the last worker has left.
    left: Condvar,
}

#[derive(Clone, Copy, Debug)]
struct Job {
    function: *const (dyn Fn(usize) + Sync),
    tasks: usize,
    /// Whether threads claim several tasks at a time.
    alike: bool,
}

/// The share of tasks that a thread had in earlier jobs of tasks that are alike: where processors differ in speed, each claims as much as
/// it has time for.
#[derive(Clone, Copy, Debug)]
struct Share(f32);

impl Share {
    /// What is claimed at once of a thread's share of what is left. Nobody can take a task back from a thread that has claimed too many. As it
    /// claims less than its share, even of two tasks when it has done all before, others come to do more than theirs if they can, and a share
    /// that is too large shrinks.
    const CLAIMED: f32 = 0.7;
    /// As many tasks as the past counts for, beside a job.
    const PAST: f32 = 256.0;

    /// How many of `left > 0` tasks to claim, at least one.
    fn of(self, left: usize) -> usize {
        ((left as f32 * self.0 * Self::CLAIMED).round() as usize).clamp(1, left)
    }

    /// Counts a job of `tasks` tasks, of which the thread did `done`.
    fn update(&mut self, done: usize, tasks: usize) {
        let tasks = tasks as f32;
        self.0 += (done as f32 / tasks - self.0) * tasks / (tasks + Self::PAST);
    }
}

// SAFETY: `job` is written only while the state is closed with nobody inside, and read only by
// those inside, whose join on `state` comes after the write. It points to a `Sync` function that
// outlives the job, because the caller waits until nobody is inside.
unsafe impl Sync for Shared {}
// SAFETY: see above; the pointer is never dropped or used outside a job.
unsafe impl Send for Shared {}

impl Pool {
    /// A pool of `threads` threads, the caller's included, or of as many as the system starts.
    ///
    /// # Panics
    /// If `threads` is 0 or above 4096.
    pub fn new(threads: usize) -> Self {
        assert!(
            (1..=MAX_THREADS).contains(&threads),
            "a pool has 1 to {MAX_THREADS} threads, not {threads}"
        );
        let cores = thread::available_parallelism().map_or(1, NonZero::get);
        // With more threads than cores, a spinning thread keeps a working one from its core.
        let spin = if threads > cores {
            Duration::ZERO
        } else {
            SPIN
        };
        let share = Share(1.0 / threads as f32);
        let shared = Arc::new(Shared {
            state: AtomicU64::new(0),
            job: UnsafeCell::new(Job {
                function: &|_: usize| {},
                tasks: 0,
                alike: false,
            }),
            next: AtomicUsize::new(0),
            panic: Mutex::new(None),
            stop: AtomicBool::new(false),
            spin,
            sleepers: AtomicUsize::new(0),
            sleep: Mutex::new(()),
            wake: Condvar::new(),
            left: Condvar::new(),
        });
        let workers = (1..threads)
            .map_while(|index| {
                let shared = Arc::clone(&shared);
                thread::Builder::new()
                    .name(format!("lagar-{index}"))
                    .spawn(move || shared.work(share))
                    .ok()
            })
            .collect();
        Self {
            shared,
            workers,
            entry: Mutex::new(share),
        }
    }

    /// The number of threads, the caller's included.
    pub fn threads(&self) -> usize {
        self.workers.len() + 1
    }

    /// Calls `function` once for every index in `0..tasks`, on any thread, in any order, and
    /// returns when all calls have returned.
    ///
    /// # Panics
    /// If a call panics: with its payload, after the calls that had begun have returned. The
    /// remaining tasks may have been skipped; the pool stays usable.
    pub fn run(&self, tasks: usize, function: &(dyn Fn(usize) + Sync)) {
        self.run_job(tasks, false, function);
    }

    /// The same of tasks that take about as long as each other, and of which the data follow each other in memory: threads claim several
    /// at a time, so that most of what they read is in a row.
    ///
    /// # Panics
    /// As [`Pool::run`] does.
    pub fn run_alike(&self, tasks: usize, function: &(dyn Fn(usize) + Sync)) {
        self.run_job(tasks, true, function);
    }

    fn run_job(&self, tasks: usize, alike: bool, function: &(dyn Fn(usize) + Sync)) {
        if self.workers.is_empty() || tasks <= 1 || IN_TASK.get() {
            (0..tasks).for_each(function);
            return;
        }
        let mut share = lock(&self.entry);
        // SAFETY: this only forgets the lifetime. `Shared::run` returns when no worker is inside
        // the job, and none joins after that, so the reference is not used beyond this call.
        let function: *const (dyn Fn(usize) + Sync) = unsafe {
            std::mem::transmute::<
                *const (dyn Fn(usize) + Sync + '_),
                *const (dyn Fn(usize) + Sync + 'static),
            >(function)
        };
        let job = Job {
            function,
            tasks,
            alike,
        };
        // SAFETY: `entry` is held: no other job runs.
        let panic = unsafe { self.shared.run(job, &mut share) };
        drop(share);
        if let Some(payload) = panic {
            resume_unwind(payload);
        }
    }

    /// Splits `data` into chunks of `chunk` elements (the last may be shorter) and calls
    /// `function` with the index and the content of each.
    ///
    /// # Panics
    /// If `chunk` is 0, and as [`Pool::run`] does.
    pub fn chunks<T: Send>(
        &self,
        data: &mut [T],
        chunk: usize,
        function: impl Fn(usize, &mut [T]) + Sync,
    ) {
        assert!(chunk > 0, "chunks have at least one element");
        let (len, data) = (data.len(), Disjoint::new(data));
        self.run(len.div_ceil(chunk), &|index| {
            let first = index * chunk;
            // SAFETY: every index occurs once, so no element is in two slices.
            function(index, unsafe { data.slice(first..len.min(first + chunk)) });
        });
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.stop.store(true, SeqCst);
        drop(lock(&self.shared.sleep));
        self.shared.wake.notify_all();
        for worker in self.workers.drain(..) {
            // A worker catches the panics of its tasks, so it has none of its own.
            let _ = worker.join();
        }
    }
}

impl Shared {
    /// Runs a job together with the workers, as a caller with this share. Returns the payload of the first panic.
    ///
    /// # Safety
    /// No other job runs; the function is valid until this returns.
    unsafe fn run(&self, job: Job, share: &mut Share) -> Option<Box<dyn Any + Send>> {
        // SAFETY: the state is closed and nobody is inside, as the last job left it.
        unsafe { *self.job.get() = job };
        self.next.store(0, SeqCst);
        let before = self.state.fetch_add(NUMBER | OPEN, SeqCst);
        debug_assert_eq!(
            before % NUMBER,
            0,
            "the last job is closed, and nobody is inside"
        );
        let sleepers = self.sleepers.load(SeqCst);
        if sleepers > 0 {
            drop(lock(&self.sleep));
            if job.tasks > sleepers {
                self.wake.notify_all();
            } else {
                (1..job.tasks).for_each(|_| self.wake.notify_one());
            }
        }
        self.claim(job, share);
        self.state.fetch_and(!OPEN, SeqCst);
        self.wait_until_empty();
        lock(&self.panic).take()
    }

    /// Runs tasks until all are claimed, by a thread that had this share of earlier jobs.
    fn claim(&self, job: Job, share: &mut Share) {
        let before = IN_TASK.replace(true);
        let mut done = 0;
        let result = catch_unwind(AssertUnwindSafe(|| {
            // SAFETY: the function is valid while this thread is inside the job.
            let function = unsafe { &*job.function };
            while let Some(tasks) = self.claim_some(job, *share) {
                done += tasks.len();
                tasks.for_each(function);
            }
        }));
        IN_TASK.set(before);
        if let Err(payload) = result {
            self.next.store(job.tasks, SeqCst);
            lock(&self.panic).get_or_insert(payload);
        }
        if job.alike {
            share.update(done, job.tasks);
        }
    }

    /// Claims the next tasks: one, or several of tasks that are alike.
    fn claim_some(&self, job: Job, share: Share) -> Option<Range<usize>> {
        let mut first = self.next.load(SeqCst);
        while first < job.tasks {
            let several = match job.alike {
                true => share.of(job.tasks - first),
                false => 1,
            };
            let end = first + several;
            match self.next.compare_exchange_weak(first, end, SeqCst, SeqCst) {
                Ok(_) => return Some(first..end),
                Err(now) => first = now,
            }
        }
        None
    }

    /// The caller's wait for the workers inside a closed job.
    fn wait_until_empty(&self) {
        let empty = || self.state.load(SeqCst) & INSIDE == 0;
        if self.spin_until(empty) {
            return;
        }
        let mut guard = lock(&self.sleep);
        let mut state = self.state.fetch_or(CALLER_SLEEPS, SeqCst);
        while state & INSIDE != 0 {
            guard = wait(&self.left, guard);
            state = self.state.load(SeqCst);
        }
        self.state.fetch_and(!CALLER_SLEEPS, SeqCst);
    }

    /// The life of a worker.
    fn work(&self, mut share: Share) {
        let mut done = 0;
        while let Some(state) = self.next_job(done) {
            if self
                .state
                .compare_exchange(state, state + 1, SeqCst, SeqCst)
                .is_err()
            {
                continue;
            }
            // SAFETY: this thread is inside the job: the caller wrote it before it opened the
            // state, and does not write again until this thread has left.
            let job = unsafe { *self.job.get() };
            self.claim(job, &mut share);
            done = state / NUMBER;
            let state = self.state.fetch_sub(1, SeqCst) - 1;
            if state & (INSIDE | CALLER_SLEEPS) == CALLER_SLEEPS {
                drop(lock(&self.sleep));
                self.left.notify_all();
            }
        }
    }

    /// Waits for an open job other than number `done`, and returns the state that showed it;
    /// nothing when the pool is dropped.
    fn next_job(&self, done: u64) -> Option<u64> {
        let open = || {
            let state = self.state.load(SeqCst);
            (state & OPEN != 0 && state / NUMBER != done).then_some(state)
        };
        let ready = || open().is_some() || self.stop.load(SeqCst);
        loop {
            if !self.spin_until(ready) {
                let mut guard = lock(&self.sleep);
                self.sleepers.fetch_add(1, SeqCst);
                while !ready() {
                    guard = wait(&self.wake, guard);
                }
                self.sleepers.fetch_sub(1, SeqCst);
            }
            if self.stop.load(SeqCst) {
                return None;
            }
            if let Some(state) = open() {
                return Some(state);
            }
        }
    }

    /// Spins for a bounded time; whether the condition came true.
    fn spin_until(&self, condition: impl Fn() -> bool) -> bool {
        if condition() {
            return true;
        }
        if self.spin.is_zero() {
            return false;
        }
        let start = Instant::now();
        loop {
            let spun = start.elapsed();
            if spun >= self.spin {
                return false;
            }
            if spun >= ALONE {
                thread::yield_now();
            }
            for _ in 0..64 {
                spin_loop();
                if condition() {
                    return true;
                }
            }
        }
    }
}

/// Locks a mutex that guards no data which a panic could leave half-written.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn wait<'a, T>(condition: &Condvar, guard: MutexGuard<'a, T>) -> MutexGuard<'a, T> {
    condition
        .wait(guard)
        .unwrap_or_else(PoisonError::into_inner)
}
