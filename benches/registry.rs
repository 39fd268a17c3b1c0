//! What one lookup costs in the registry, alone, over 10,000 names; and how evenly the names lie on the shards.
//!
//! `cargo bench --bench registry [-- ROUNDS]`; pin it (`taskset -c 0 …`) for figures to compare. Each figure is the median of its rounds,
//! with the fastest and the slowest beside it. Every answer is asserted.

use std::hint::black_box;
use std::time::Instant;

use ringhub::base::ids::{ConnId, CoreId};
use ringhub::base::metrics::CoreMetrics;
use ringhub::registry::{Config, Endpoint, Next, Placement, Registry, Route, ServerId};

const NAMES: u32 = 10_000;
const SHARDS: u16 = 64;
const ROUNDS_DEFAULT: usize = 31;
const WAITER: ConnId = ConnId { index: 1, generation: 1 };

fn main() {
    // The test runner passes flags of its own, such as --bench: only a number counts.
    let rounds = std::env::args().skip(1).find_map(|argument| argument.parse().ok()).unwrap_or(ROUNDS_DEFAULT).max(1);
    let endpoints: Vec<_> = (0..NAMES)
        .map(|number| Endpoint { path: format!("/mcp/server-{number}").into(), servers: [ServerId::native(number)].into() })
        .collect();
    println!("{NAMES} names, {SHARDS} shards");
    owned(rounds, &endpoints);
    near(rounds, &endpoints);
    missing(rounds, &endpoints);
    absent(rounds, &endpoints);
    balance(&endpoints);
}

/// The registries of so many cores. The near caches hold every name.
fn cores(count: u16, endpoints: &[Endpoint]) -> Vec<Registry> {
    let config = Config { shards: SHARDS, near_names_max: NAMES as usize };
    (0..count).map(|core| Registry::new(&config, CoreId(core), count, endpoints)).collect()
}

/// Names in an order that no cache can foresee: the step has no divisor in common with their number.
fn shuffled(endpoints: &[Endpoint]) -> Vec<(&str, ServerId)> {
    (0..endpoints.len()).map(|at| &endpoints[at * 7919 % endpoints.len()]).map(|endpoint| (&*endpoint.path, endpoint.servers[0])).collect()
}

/// Of the names, those that core 0 of two does not own.
fn foreign(endpoints: &[Endpoint]) -> Vec<(&str, ServerId)> {
    let placement = Placement::new(SHARDS, 2);
    let mut names = shuffled(endpoints);
    names.retain(|(path, _)| placement.owners().owner(placement.shard(placement.hash(path))) != CoreId(0));
    names
}

fn owned(rounds: usize, endpoints: &[Endpoint]) {
    let (names, metrics) = (shuffled(endpoints), CoreMetrics::default());
    let mut registry = cores(1, endpoints).remove(0);
    time(rounds, "hit, own shard", &names, || (), |(), (path, server)| here(registry.route(path, WAITER, &metrics), *server));
}

fn near(rounds: usize, endpoints: &[Endpoint]) {
    let (names, metrics) = (foreign(endpoints), CoreMetrics::default());
    let mut registries = cores(2, endpoints);
    for (path, _) in &names {
        assert!(hop(&mut registries, path, &metrics));
    }
    let registry = &mut registries[0];
    time(rounds, "hit, near cache", &names, || (), |(), (path, server)| here(registry.route(path, WAITER, &metrics), *server));
}

/// A lookup that asks, its reply, and the lookup again; nothing but the lane between the cores is left out.
fn missing(rounds: usize, endpoints: &[Endpoint]) {
    let (names, metrics) = (foreign(endpoints), CoreMetrics::default());
    let prepare = || cores(2, endpoints);
    time(rounds, "miss: Ask, Reply and hit", &names, prepare, |registries, (path, server)| {
        assert!(hop(registries, path, &metrics));
        here(registries[0].route(path, WAITER, &metrics), *server);
    });
}

fn absent(rounds: usize, endpoints: &[Endpoint]) {
    let metrics = CoreMetrics::default();
    let placement = Placement::new(SHARDS, 2);
    // As many as a core remembers, which is fewer than there are names.
    let nowhere: Vec<String> = (0..2000).map(|number| format!("/mcp/nowhere-{number}")).collect();
    let (own, foreign): (Vec<_>, Vec<_>) =
        nowhere.iter().map(String::as_str).partition(|path| placement.owners().owner(placement.shard(placement.hash(path))) == CoreId(0));
    let foreign = &foreign[..foreign.len().min(ringhub::base::limits::ABSENT_NAMES_MAX)];
    let mut registries = cores(2, endpoints);
    for path in foreign {
        assert!(hop(&mut registries, path, &metrics));
    }
    let registry = &mut registries[0];
    let mut gone = |path: &str| assert!(matches!(registry.route(path, WAITER, &metrics), Route::Absent), "{path}");
    time(rounds, "absent, own shard", &own, || (), |(), path| gone(path));
    time(rounds, "absent, remembered", foreign, || (), |(), path| gone(path));
}

fn here(route: Route, server: ServerId) {
    let Route::Here(binding) = black_box(route) else { panic!("it is bound and known here") };
    assert_eq!(binding.servers[0], server);
}

/// Carries the question of core 0 to core 1 and the reply back. False: core 0 did not ask.
fn hop(registries: &mut [Registry], path: &str, metrics: &CoreMetrics) -> bool {
    let Route::Ask { to, frame } = registries[0].route(path, WAITER, metrics) else { return false };
    assert_eq!(to, CoreId(1));
    let Next::Reply(reply) = registries[1].on_frame(frame) else { panic!("an Ask is replied to") };
    matches!(registries[0].on_frame(reply), Next::Resume(WAITER))
}

/// Times one pass over `names` per round. What `prepare` makes is not timed.
fn time<N, S>(rounds: usize, name: &str, names: &[N], prepare: impl Fn() -> S, mut lookup: impl FnMut(&mut S, &N)) {
    let mut figures: Vec<f64> = (0..rounds)
        .map(|_| {
            let mut state = prepare();
            let start = Instant::now();
            for name in names {
                lookup(&mut state, black_box(name));
            }
            start.elapsed().as_secs_f64() * 1e9 / names.len() as f64
        })
        .collect();
    figures.sort_by(f64::total_cmp);
    let (median, last) = (figures[figures.len() / 2], figures[figures.len() - 1]);
    println!("{name:<44} {median:>8.1} ns  min {:>8.1}  max {last:>8.1}", figures[0]);
}

/// How far the fullest shard is above the mean, and how far the fullest and the emptiest are apart.
fn balance(endpoints: &[Endpoint]) {
    let placement = Placement::new(SHARDS, 1);
    let mut counts = [0u32; SHARDS as usize];
    for endpoint in endpoints {
        counts[placement.shard(placement.hash(&endpoint.path)).0 as usize] += 1;
    }
    assert_eq!(counts.iter().sum::<u32>(), NAMES);
    let (min, max) = counts.iter().fold((u32::MAX, 0), |(min, max), count| (min.min(*count), max.max(*count)));
    let mean = f64::from(NAMES) / f64::from(SHARDS);
    let (above, apart) = (f64::from(max) / mean - 1.0, f64::from(max - min) / mean);
    println!("balance: max/mean - 1 = {above:.3}, (max - min)/mean = {apart:.3}  (mean {mean:.1}, min {min}, max {max})");
    // Chance alone puts five deviations (12.4 names each) between a shard and the mean about once in two million shards.
    assert!(above < 0.4 && apart < 0.8, "names crowd on some shards: {counts:?}");
}
