//! The registry: the original's six tests on one core and on two, and what they are made of.
//!
//! `cargo bench --bench registry [-- SECONDS [ROW]]`: seconds per timed row (2 unless told otherwise; the original's took 20 and 30), and a word
//! that picks rows. Two cores are two pinned threads joined by the lanes, rings and wakes of the shell, each with its registry and half of the
//! tasks; a task does one operation after the other. Time of an operation: from its beginning to its end, waiting for the other core
//! included; every eighth is timed. Every answer is asserted.

#[path = "registry/clock.rs"]
mod clock;
#[path = "registry/parts.rs"]
mod parts;
#[path = "registry/worker.rs"]
mod worker;

use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use clock::{Clock, Histogram};
use ringhub::rt::{RingPath, measure};
use worker::{Names, Outcome, Plan, Work, Worker};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const TASKS: usize = 100;
/// What a dedicated core is told to spin.
const SPIN: Duration = Duration::from_micros(50);

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with("--")).collect();
    let seconds = arguments.iter().find_map(|argument| argument.parse().ok()).unwrap_or(2.0);
    let row = arguments.iter().find(|argument| argument.parse::<f64>().is_err()).map(String::as_str);
    let wanted = |name: &str| row.is_none_or(|row| name.contains(row));
    let clock = Clock::new();
    if wanted("memory") {
        // First: what was freed before would be used again.
        parts::memory();
    }
    let names = Names::new(TASKS);
    let plan = |work, operations| Plan { work, tasks: TASKS, operations, seconds, near_names_max: worker::NAMES };
    println!("{} servers, {} endpoints, 64 shards, {TASKS} tasks; {seconds} s per timed row", worker::NAMES, worker::NAMES);
    parts::hits(clock, seconds, &names, &wanted);
    let rows = [
        ("lookups: 100 x 100", plan(Work::Lookups, Some(100))),
        ("lookups: 100 x 1,000", plan(Work::Lookups, Some(1_000))),
        ("lookups: timed", plan(Work::Lookups, None)),
        ("mixed: 40/30/20/10", plan(Work::Mixed, None)),
        ("mixed: 100,000 own names kept", plan(Work::MixedManyEntries, None)),
        ("mixed: written names are read", plan(Work::MixedWritingToRead, None)),
        ("register + lookup: 50 + 50", plan(Work::RegisterAndLookup, None)),
    ];
    for (name, plan) in rows {
        if !wanted(name) {
            continue;
        }
        for (cores, spin) in [(1, Duration::ZERO), (2, SPIN), (2, Duration::ZERO)] {
            let outcomes = run(plan, &names, clock, cores, spin);
            print(name, clock, cores, spin, &outcomes);
        }
    }
    for (window, spin) in [(1, SPIN), (64, SPIN), (1, Duration::ZERO), (64, Duration::ZERO)] {
        let name = format!("hop: window {window}");
        if wanted(&name) {
            parts::hop(clock, seconds, &names, spin, &name, window);
        }
    }
    if wanted("zipf") {
        parts::zipf();
    }
    if wanted("balance") {
        parts::balance(10_000);
        parts::balance(100_000);
    }
}

/// Runs a plan on so many cores.
fn run(plan: Plan, names: &Names, clock: Clock, cores: usize, spin: Duration) -> Vec<Outcome> {
    if cores == 1 {
        let mut worker = Worker::new(plan, names, clock, 0, 1, None);
        worker.warm();
        worker.resume();
        return vec![worker.run()];
    }
    let (barrier, over) = (&Barrier::new(cores), &AtomicUsize::new(0));
    std::thread::scope(|scope| {
        let threads: Vec<_> = measure::cores(cores, RingPath::Modern, spin)
            .into_iter()
            .enumerate()
            .map(|(me, core)| {
                scope.spawn(move || {
                    let mut worker = Worker::new(plan, names, clock, me, cores, Some(core()));
                    barrier.wait();
                    worker.warm();
                    over.fetch_add(1, SeqCst);
                    worker.serve(|| over.load(SeqCst) >= cores);
                    barrier.wait();
                    worker.resume();
                    let outcome = worker.run();
                    over.fetch_add(1, SeqCst);
                    worker.serve(|| over.load(SeqCst) >= 2 * cores);
                    outcome
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().expect("a worker")).collect()
    })
}

fn print(name: &str, clock: Clock, cores: usize, spin: Duration, outcomes: &[Outcome]) {
    let mut times = Histogram::new();
    outcomes.iter().for_each(|outcome| times.add(&outcome.times));
    let operations: u64 = outcomes.iter().map(|outcome| outcome.operations).sum();
    let seconds = outcomes.iter().map(|outcome| outcome.seconds).fold(0.0, f64::max);
    let sum = |of: fn(&Outcome) -> u64| outcomes.iter().map(of).sum::<u64>() as f64;
    let (hits, misses, refused, invalidations) = (sum(|o| o.hits), sum(|o| o.misses), sum(|o| o.refused), sum(|o| o.invalidations));
    let us = |share| times.at(share) as f64 * clock.ns_per_tick / 1e3;
    let how = match (cores, spin.is_zero()) {
        (1, _) => "1 core".to_owned(),
        (_, true) => format!("{cores} cores"),
        (_, false) => format!("{cores} cores, spin"),
    };
    let hit_rate = if hits + misses > 0.0 { format!("{:.2} %", 100.0 * hits / (hits + misses)) } else { "-".to_owned() };
    println!(
        "{name:<30} {how:<14} {:>7.2} M/s  p50 {:>7.3}  p99 {:>8.3}  p99.9 {:>8.3} us  near hits {hit_rate:>8}  refused {:.4} %  invalidations {:.0}/s",
        operations as f64 / seconds / 1e6,
        us(0.5),
        us(0.99),
        us(0.999),
        100.0 * refused / operations.max(1) as f64,
        invalidations / seconds,
    );
}
