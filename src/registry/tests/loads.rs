//! Shards that take too long: registrations are refused, lookups go on, and it ends with the load.

use std::cell::Cell;
use std::time::Duration;

use super::cluster::{Cluster, register, unregister, update};
use crate::base::time::Nanos;
use crate::registry::{Config, Level, Refusal};

thread_local! {
    static CLOCK: Cell<u64> = const { Cell::new(0) };
    static STEP: Cell<u64> = const { Cell::new(0) };
}

/// A clock that moves on each time it is read.
fn clock() -> Nanos {
    CLOCK.with(|clock| {
        clock.set(clock.get() + STEP.get());
        Nanos(clock.get())
    })
}

/// Has every shard do something, and everybody learn what there is to learn.
fn load(cluster: &mut Cluster, names: &[String]) {
    for _ in 0..20 {
        for name in names {
            let owner = cluster.owner(name);
            cluster.change(owner, update(name, None)).expect("an update is no registration");
        }
    }
    cluster.pass(Duration::from_millis(300));
    cluster.settle();
}

#[test]
fn over_half_of_the_shards_alarmed_refuse_registrations_and_it_ends() {
    let mut cluster = Cluster::new(2, &Config { shards: 8, clock: Some(clock), ..Config::default() });
    let names: Vec<String> = (0..200).map(|n| format!("server-{n}")).collect();
    for name in &names {
        cluster.change(0, register(name)).expect("it is new");
    }
    let by_core = |cluster: &Cluster, core| names.iter().filter(|name| cluster.owner(name) == core).cloned().collect::<Vec<_>>();
    let (first, second) = (by_core(&cluster, 0), by_core(&cluster, 1));

    // 200 us each is warned of and no more.
    STEP.set(200_000);
    cluster.pass(Duration::from_secs(5));
    load(&mut cluster, &names);
    let now = cluster.now;
    let levels =
        |cluster: &mut Cluster, core: usize| cluster.registries[core].shards(now).iter().map(|shard| shard.level).collect::<Vec<_>>();
    assert_eq!((levels(&mut cluster, 0), levels(&mut cluster, 1)), (vec![Level::Warn; 4], vec![Level::Warn; 4]));
    assert!(!cluster.registries[0].is_alarmed());

    // Half of the shards is not over half of them.
    STEP.set(150_000_000);
    cluster.pass(Duration::from_secs(5));
    load(&mut cluster, &first);
    assert!(!cluster.registries[0].is_alarmed() && !cluster.registries[1].is_alarmed());
    load(&mut cluster, &second);
    assert!(cluster.registries[0].is_alarmed() && cluster.registries[1].is_alarmed());
    for core in 0..2 {
        assert_eq!(cluster.change(core, register("one-more")), Err(Refusal::Overloaded));
        assert!(cluster.find(core, &names[9]).is_some(), "lookups go on");
        cluster.change(core, unregister(&names[core])).expect("fewer entries are welcome");
    }

    // And back.
    STEP.set(0);
    cluster.pass(Duration::from_secs(5));
    cluster.settle();
    assert!(!cluster.registries[0].is_alarmed() && !cluster.registries[1].is_alarmed());
    cluster.change(0, register("one-more")).expect("it is new");
}

#[test]
fn what_waits_in_a_lane_counts_and_so_does_what_is_done() {
    let mut cluster = Cluster::new(2, &Config { shards: 2, ..Config::default() });
    let name = (0..).map(|n| format!("s{n}")).find(|name| cluster.owner(name) == 1).expect("half of them are");
    cluster.change(0, register(&name)).expect("it is new");
    cluster.now.mono = cluster.now.mono.after(Duration::from_secs(5));
    cluster.start_change(0, update(&name, None), super::cluster::WAITER);
    cluster.now.mono = cluster.now.mono.after(Duration::from_millis(300));
    cluster.settle();
    let now = cluster.now;
    let shard = cluster.registries[1].shards(now)[0];
    assert_eq!((shard.servers, shard.endpoints, shard.writes, shard.wait_ns), (1, 0, 2, 300_000_000));
    assert_eq!(shard.level, Level::Alarm);
}
