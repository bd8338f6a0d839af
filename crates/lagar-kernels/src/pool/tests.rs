use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use super::*;

/// Runs fewer rounds where each is slow.
fn rounds(n: usize) -> usize {
    if cfg!(miri) { n.div_ceil(100) } else { n }
}

fn check_every_task_runs_once(pool: &Pool, tasks: usize) {
    let counts: Vec<AtomicUsize> = (0..tasks).map(|_| AtomicUsize::new(0)).collect();
    let count = |task: usize| {
        counts[task].fetch_add(1, Relaxed);
    };
    pool.run(tasks, &count);
    pool.run_alike(tasks, &count);
    assert!(counts.iter().all(|count| count.load(Relaxed) == 2));
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

/// When each of the threads is done with a job of `tasks` tasks, which take it `1 / speed` each.
fn ends(tasks: usize, speeds: &[f64], shares: &mut [Share]) -> Vec<f64> {
    let (mut ends, mut done) = (vec![0.0_f64; speeds.len()], vec![0; speeds.len()]);
    let mut left = tasks;
    while left > 0 {
        let free = (0..ends.len()).min_by(|&a, &b| ends[a].total_cmp(&ends[b]));
        let thread = free.unwrap();
        let claimed = shares[thread].of(left);
        left -= claimed;
        done[thread] += claimed;
        ends[thread] += claimed as f64 / speeds[thread];
    }
    for (share, done) in shares.iter_mut().zip(done) {
        share.update(done, tasks);
    }
    ends
}

#[test]
fn threads_end_together_whatever_their_speeds_and_earlier_shares() {
    for speeds in [&[1.0, 1.0][..], &[3.0, 3.0, 1.0, 1.0], &[1.0, 9.0]] {
        for first in [0.0, 0.5, 1.0] {
            // One thread did all of the earlier jobs, or none of them.
            let mut shares = vec![Share(1.0 - first); speeds.len()];
            shares[0] = Share(first);
            for tasks in [2, 8, 22, 125] {
                for _ in 0..500 {
                    ends(tasks, speeds, &mut shares);
                }
                let last = ends(tasks, speeds, &mut shares)
                    .into_iter()
                    .fold(0.0, f64::max);
                let at_best = tasks as f64 / speeds.iter().sum::<f64>();
                // The slowest may have begun a task just before the others were done.
                let slowest = speeds.iter().copied().fold(f64::INFINITY, f64::min);
                assert!(
                    last <= 1.05 * at_best + 1.0 / slowest,
                    "{tasks} tasks, speeds {speeds:?}, {first}: {last} instead of {at_best}"
                );
            }
        }
    }
}

#[test]
fn a_thread_never_claims_all_of_several_tasks() {
    for left in 2..1000 {
        assert!((1..left).contains(&Share(1.0).of(left)));
        assert_eq!(Share(0.0).of(left), 1);
    }
    assert_eq!(Share(1.0).of(1), 1);
}
