//! What it costs to go from core to core: the real mesh, rings and wakes between two threads that do nothing else.
//!
//! `cargo bench --bench mesh [-- ROUNDS]`. Each thread is pinned to a CPU of its own when there are two. What is measured is one Ask and
//! its Reply without an engine on either side: asking, the wake, replying, the wake back. Each figure is the median of its rounds, with
//! the fastest and the slowest beside it.

use std::time::Duration;

use ringhub::rt::RingPath;
use ringhub::rt::measure::Run;

const ROUNDS_DEFAULT: usize = 7;
const WINDOW: u32 = 64;
/// Longer than a round trip between two threads that are awake.
const SPIN: Duration = Duration::from_micros(50);

fn main() {
    // The test runner passes flags of its own, such as --bench: only a number counts.
    let rounds = std::env::args().skip(1).find_map(|argument| argument.parse().ok()).unwrap_or(ROUNDS_DEFAULT).max(1);
    for path in [RingPath::Modern, RingPath::Legacy] {
        println!("io_uring path {}", path.label());
        for (spin, name) in [(Duration::ZERO, "sleeping at once"), (SPIN, "spinning 50 us")] {
            round_trip(rounds, name, Run { path, spin, window: 1, asks: 10_000 });
            throughput(rounds, name, Run { path, spin, window: WINDOW, asks: 500_000 });
        }
    }
}

fn round_trip(rounds: usize, name: &str, run: Run) {
    let (time, wakes) = measure(rounds, run);
    println!("  {:<42} {:>8.2} us  min {:>8.2}  max {:>8.2}  {wakes}", format!("round trip, {name}"), time[1], time[0], time[2]);
}

fn throughput(rounds: usize, name: &str, run: Run) {
    let (time, wakes) = measure(rounds, run);
    let [most, rate, least] = time.map(|us| 1.0 / us);
    let what = format!("{WINDOW} on their way, {name}");
    println!("  {what:<42} {rate:>8.2} M/s min {least:>8.2}  max {most:>8.2}  {wakes}");
}

/// Microseconds for each Ask with its Reply, least, median and most; and how many frames each wake was worth.
fn measure(rounds: usize, run: Run) -> ([f64; 3], String) {
    let (mut frames, mut wakes) = (0, 0);
    let mut figures: Vec<f64> = (0..rounds)
        .map(|_| {
            let outcome = run.go();
            assert_eq!(outcome.frames, 2 * u64::from(run.asks), "every Ask has its Reply");
            frames += outcome.frames;
            wakes += outcome.wakes;
            outcome.took.as_secs_f64() * 1e6 / f64::from(run.asks)
        })
        .collect();
    figures.sort_by(f64::total_cmp);
    let per_wake = if wakes == 0 { "no wakes".to_owned() } else { format!("{:.1} frames/wake", frames as f64 / wakes as f64) };
    ([figures[0], figures[rounds / 2], figures[rounds - 1]], per_wake)
}
