//! What the workloads are made of, measured apart: hits, hops, the near cache under a skewed load, balance, memory.

use std::hint::black_box;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Duration;

use compact_str::CompactString;
use ringhub::base::ids::{CoreId, NodeId};
use ringhub::base::metrics::{CoreMetrics, Counter};
use ringhub::base::time::{Nanos, Now};
use ringhub::engine::Frame;
use ringhub::registry::{Config, Effect, Effects, Lookup, Placement, Registry, Waiter};
use ringhub::rt::{RingPath, measure};

use super::clock::{Clock, Histogram};
use super::worker::{NAMES, Names, registry, spec};

const START: Now = Now { mono: Nanos(0), wall_ms: 1_800_000_000_000 };
const WAITER: Waiter = Waiter(1);
const SHARDS: u16 = 64;
/// Skews of the Zipf rows: the share of the name of rank k is in proportion to 1 / k^s.
const ZIPF_EXPONENTS: [f64; 3] = [1.0, 1.1, 1.2];
const MANY: usize = 100_000;

fn random(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}

/// A number below `bound`.
fn below(state: &mut u64, bound: usize) -> usize {
    (((random(state) >> 32) * bound as u64) >> 32) as usize
}

/// Lookups of one core alone, drawn from the names of its own shards and from those in its near cache.
pub fn hits(clock: Clock, seconds: f64, names: &Names, wanted: &dyn Fn(&str) -> bool) {
    let metrics = CoreMetrics::default();
    let mut registries: Vec<_> = (0..2).map(|core| registry(core, 2, NAMES, names)).collect();
    let (home, far): (Vec<&str>, Vec<&str>) =
        names.servers.iter().map(CompactString::as_str).partition(|name| registries[0].is_at_home(name));
    for name in &far {
        carry(&mut registries, name, &metrics);
    }
    let own = &mut registries[0];
    for (what, names) in [("hit: own shard", home), ("hit: near cache", far)] {
        if !wanted(what) {
            continue;
        }
        let mut state = 88_172_645_463_325_252;
        let (mut count, start) = (0u64, clock.ticks());
        let end = start + (seconds * 1e9 / clock.ns_per_tick) as u64;
        while clock.ticks() < end {
            for _ in 0..1000 {
                let name = names[below(&mut state, names.len())];
                let Lookup::Here(server) = own.server(START, name, WAITER, &metrics) else { panic!("it is known here") };
                assert!(black_box(server).version > 0);
            }
            count += 1000;
        }
        let ns = (clock.ticks() - start) as f64 * clock.ns_per_tick / count as f64;
        println!("{what:<30} 1 thread       {:>7.2} M/s  {ns:.1} ns each, {} names", 1e3 / ns, names.len());
    }
}

/// A lookup by core 0 of two, with all that must be carried. Whether it had to ask.
fn carry(registries: &mut [Registry], name: &str, metrics: &CoreMetrics) -> bool {
    let Lookup::Ask { frame, .. } = registries[0].server(START, name, WAITER, metrics) else { return false };
    let mut out = Effects::new();
    registries[1].on_frame(START, CoreId(0), frame, &mut out);
    let Some(Effect::Send { frame, .. }) = out.pop() else { panic!("a question is answered") };
    registries[0].on_frame(START, CoreId(1), frame, &mut out);
    assert!(matches!(out.pop(), Some(Effect::Resume { .. })));
    true
}

/// Lookups that all must ask the other core, so many at once.
pub fn hop(clock: Clock, seconds: f64, names: &Names, spin: Duration, name: &str, window: usize) {
    let (barrier, over) = (&Barrier::new(2), &AtomicBool::new(false));
    let mut cores = measure::cores(2, RingPath::Modern, spin).into_iter();
    let (asker, replier) = (cores.next().expect("two"), cores.next().expect("two"));
    let (rate, times) = std::thread::scope(|scope| {
        scope.spawn(move || {
            let (mut core, mut registry) = (replier(), registry(1, 2, 1, names));
            let (mut frames, mut out) = (Vec::new(), Effects::new());
            barrier.wait();
            while !over.load(SeqCst) {
                core.take(&mut frames);
                let now = Now { mono: Nanos(clock.nanos(clock.ticks())), ..START };
                for (from, frame) in frames.drain(..) {
                    let Frame::Registry(frame) = frame else { continue };
                    registry.on_frame(now, from, frame, &mut out);
                }
                for effect in out.drain(..) {
                    let Effect::Send { to, lane, frame } = effect else { continue };
                    assert!(core.send(to, lane, Frame::Registry(frame)).is_ok(), "a window fits into a lane");
                }
                core.go_on();
            }
        });
        let asker = scope.spawn(move || {
            // Room for one name: what was fetched is gone when it is asked for again.
            let (mut core, mut registry, metrics) = (asker(), registry(0, 2, 1, names), CoreMetrics::default());
            let far: Vec<_> = names.servers.iter().filter(|name| !registry.is_at_home(name)).collect();
            let (mut frames, mut out, mut times) = (Vec::new(), Effects::new(), Histogram::new());
            let mut state = 88_172_645_463_325_252;
            let mut waiting: Vec<(usize, u64)> = vec![(0, 0); window];
            let mut idle: Vec<usize> = (0..window).collect();
            barrier.wait();
            let (mut count, start) = (0u64, clock.ticks());
            let end = start + (seconds * 1e9 / clock.ns_per_tick) as u64;
            let mut ticks = start;
            while ticks < end || idle.len() < window {
                let now = Now { mono: Nanos(clock.nanos(ticks)), ..START };
                while ticks < end
                    && let Some(slot) = idle.pop()
                {
                    let at = below(&mut state, far.len());
                    match registry.server(now, far[at], Waiter(slot as u64), &metrics) {
                        Lookup::Ask { to, frame } => {
                            waiting[slot] = (at, clock.ticks());
                            assert!(core.send(to, frame.lane(), Frame::Registry(frame)).is_ok(), "a window fits into a lane");
                        }
                        Lookup::Here(_) => idle.push(slot),
                        other => panic!("{other:?}"),
                    }
                }
                core.go_on();
                core.take(&mut frames);
                ticks = clock.ticks();
                for (from, frame) in frames.drain(..) {
                    let Frame::Registry(frame) = frame else { continue };
                    registry.on_frame(now, from, frame, &mut out);
                    let Some(Effect::Resume { waiter }) = out.pop() else { panic!("an answer resumes") };
                    let (at, since) = waiting[waiter.0 as usize];
                    let Lookup::Here(server) = registry.server(now, far[at], waiter, &metrics) else { panic!("it was just fetched") };
                    assert!(*server.spec.name == *far[at].as_str());
                    times.record(ticks - since);
                    idle.push(waiter.0 as usize);
                    count += 1;
                }
            }
            let took = (clock.ticks() - start) as f64 * clock.ns_per_tick;
            over.store(true, SeqCst);
            (count as f64 * 1e3 / took, times)
        });
        asker.join().expect("the asker")
    });
    let us = |share| times.at(share) as f64 * clock.ns_per_tick / 1e3;
    let how = if spin.is_zero() { "2 cores" } else { "2 cores, spin" };
    println!("{name:<30} {how:<14} {rate:>7.2} M/s  p50 {:>7.3}  p99 {:>8.3} us", us(0.5), us(0.99));
}

/// How often the near cache has what is asked for, when it has room for a tenth of the names and some are asked for more often.
pub fn zipf() {
    ZIPF_EXPONENTS.into_iter().for_each(zipf_of);
}

fn zipf_of(exponent: f64) {
    let names: Vec<Box<str>> = (1..=MANY).map(|n| format!("server_{n}").into()).collect();
    let config = Config { near_names_max: NAMES, ..Config::default() };
    let metrics = CoreMetrics::default();
    let mut registries: Vec<_> = (0..2).map(|core| Registry::new(&config, CoreId(core), 2, NodeId(0))).collect();
    for registry in &mut registries {
        names.iter().for_each(|name| _ = registry.load_server(START, spec(name)));
    }
    let mut shares: Vec<f64> = Vec::with_capacity(MANY);
    for rank in 1..=MANY {
        let before = shares.last().copied().unwrap_or(0.0);
        shares.push(before + (rank as f64).powf(-exponent));
    }
    let all = shares[MANY - 1];
    let mut state = 88_172_645_463_325_252;
    // All names of the other core's shards compete for the room; names at home need none and are not counted.
    for round in 0..2 {
        let before = [Counter::NearHits, Counter::NearMisses].map(|counter| metrics.counter(counter));
        for _ in 0..2_000_000 {
            let drawn = (random(&mut state) >> 11) as f64 / (1u64 << 53) as f64 * all;
            // Ranks are dealt to names in an order of their own, so that neighbours in rank are strangers in name.
            let rank = shares.partition_point(|share| *share < drawn);
            carry(&mut registries, &names[rank * 7919 % MANY], &metrics);
        }
        let [hits, misses] = [Counter::NearHits, Counter::NearMisses].map(|counter| metrics.counter(counter));
        let (hits, misses) = (hits - before[0], misses - before[1]);
        if round == 1 {
            let rate = hits as f64 / (hits + misses) as f64;
            println!("zipf: exponent {exponent}, {MANY} names, room for {NAMES}: {:.2} % near-cache hits", 100.0 * rate);
            assert!(rate >= 0.9 || exponent < 1.2, "the near cache keeps the wrong names");
        }
    }
}

/// How far the fullest shard is above the mean, and how far the fullest and the emptiest are apart.
pub fn balance(count: usize) {
    let placement = Placement::new(SHARDS, 1);
    let mut counts = [0u32; SHARDS as usize];
    for n in 1..=count {
        counts[placement.shard(placement.hash(&format!("server_{n}"))).0 as usize] += 1;
    }
    let (min, max) = counts.iter().fold((u32::MAX, 0), |(min, max), count| (min.min(*count), max.max(*count)));
    let mean = count as f64 / f64::from(SHARDS);
    let (above, apart) = (f64::from(max) / mean - 1.0, f64::from(max - min) / mean);
    println!("balance: {count} names: max/mean - 1 = {above:.3}, (max - min)/mean = {apart:.3}  (mean {mean:.1}, min {min}, max {max})");
    // Chance alone puts five deviations between a shard and the mean about once in two million shards.
    let deviation = (mean * (1.0 - 1.0 / f64::from(SHARDS))).sqrt() / mean;
    assert!(above < 5.0 * deviation && apart < 10.0 * deviation, "names crowd on some shards: {counts:?}");
}

/// Resident memory of so many servers with names and little else.
pub fn memory() {
    let resident = || -> usize {
        let text = std::fs::read_to_string("/proc/self/statm").expect("procfs");
        text.split(' ').nth(1).and_then(|pages| pages.parse::<usize>().ok()).expect("pages") * 4096
    };
    let before = resident();
    let mut registry = Registry::new(&Config::default(), CoreId(0), 1, NodeId(0));
    for n in 1..=MANY {
        assert!(registry.load_server(START, spec(&format!("server_{n}"))));
    }
    let bytes = resident().saturating_sub(before) as f64 / MANY as f64;
    println!("memory: {MANY} servers without a catalog: {bytes:.0} bytes resident each");
    black_box(&registry);
}
