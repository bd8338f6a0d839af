use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use super::*;

/// Runs fewer rounds where each is slow.
fn rounds(n: usize) -> usize {
    if cfg!(miri) { n.div_ceil(100) } else { n }
}

fn check_every_task_runs_once(pool: &Pool, tasks: usize) {
    let counts: Vec<AtomicUsize> = (0..tasks).map(|_| AtomicUsize::new(0)).collect();
    pool.run(tasks, &|task| {
        counts[task].fetch_add(1, Relaxed);
    });
    assert!(counts.iter().all(|count| count.load(Relaxed) == 1));
}

#[test]
fn every_task_runs_once_whatever_the_number_of_threads() {
    for threads in [1, 2, 3, 9] {
        let pool = Pool::new(threads);
        assert_eq!(pool.threads(), threads);
        for round in 0..rounds(3000) {
            check_every_task_runs_once(&pool, round % 17);
        }
    }
}

#[test]
fn jobs_find_sleeping_workers_awake_again() {
    let pool = Pool::new(3);
    for _ in 0..rounds(100) {
        thread::sleep(SPIN * 2);
        check_every_task_runs_once(&pool, 8);
    }
}

#[test]
fn two_threads_work_at_the_same_time() {
    let pool = Pool::new(2);
    let (first, second) = (AtomicBool::new(false), AtomicBool::new(false));
    // Each task waits for the other.
    pool.run(2, &|task| {
        let (mine, other) = if task == 0 {
            (&first, &second)
        } else {
            (&second, &first)
        };
        mine.store(true, SeqCst);
        while !other.load(SeqCst) {
            thread::yield_now();
        }
    });
}

#[test]
fn callers_on_several_threads_take_turns() {
    let pool = Pool::new(3);
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                (0..rounds(500)).for_each(|round| check_every_task_runs_once(&pool, round % 9));
            });
        }
    });
}

#[test]
fn pools_may_coexist_and_nest() {
    let (outer, inner) = (Pool::new(3), Pool::new(2));
    for _ in 0..rounds(300) {
        outer.run(5, &|_| {
            check_every_task_runs_once(&inner, 4);
            check_every_task_runs_once(&outer, 4);
        });
        check_every_task_runs_once(&inner, 4);
    }
}

#[test]
fn a_panic_reaches_the_caller_and_the_pool_goes_on() {
    for threads in [1, 2, 4] {
        let pool = Pool::new(threads);
        for round in 0..rounds(50) {
            let result = catch_unwind(AssertUnwindSafe(|| {
                pool.run(16, &|task| assert_ne!(task, round % 16, "task {task}"));
            }));
            let payload = result.unwrap_err();
            let message = payload.downcast_ref::<String>().unwrap();
            assert!(message.contains(&format!("task {}", round % 16)));
            check_every_task_runs_once(&pool, 16);
        }
    }
}

#[test]
fn the_caller_waits_for_a_slow_worker() {
    let pool = Pool::new(2);
    for _ in 0..rounds(20).max(2) {
        let finished = AtomicUsize::new(0);
        pool.run(2, &|_| {
            // Longer than the caller spins, on whichever thread has it.
            thread::sleep(SPIN * 5);
            finished.fetch_add(1, SeqCst);
        });
        assert_eq!(finished.load(SeqCst), 2);
    }
}

#[test]
fn chunks_cover_the_slice_once() {
    let pool = Pool::new(3);
    for (len, chunk) in [(0, 4), (1, 4), (4, 4), (5, 4), (103, 10)] {
        let mut data = vec![0usize; len];
        pool.chunks(&mut data, chunk, |index, part| {
            for (i, value) in part.iter_mut().enumerate() {
                *value += index * chunk + i + 1;
            }
        });
        assert!(data.iter().enumerate().all(|(i, &value)| value == i + 1));
    }
}
