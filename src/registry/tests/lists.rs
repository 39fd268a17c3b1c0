//! Lists: every entry once, in order, filtered, whatever core is asked.

use std::time::Duration;

use super::cluster::{Cluster, WAITER, register, spec, unregister};
use crate::base::limits;
use crate::registry::{Change, Config, Effect, Filter, Kind, Part, Query, Refusal};

fn names(part: &Part) -> Vec<String> {
    match part {
        Part::Servers(servers) => servers.iter().map(|server| server.spec.name.to_string()).collect(),
        Part::Endpoints(endpoints) => endpoints.iter().map(|endpoint| endpoint.path.to_string()).collect(),
    }
}

/// All pages, joined; and how many there were.
fn all(cluster: &mut Cluster, core: usize, query: &Query) -> (Vec<String>, usize) {
    let (mut query, mut found, mut pages) = (query.clone(), Vec::new(), 0);
    loop {
        let page = cluster.list(core, query.clone()).expect("no core is lost");
        found.extend(names(&page.entries));
        pages += 1;
        query.after = page.next;
        if query.after.is_none() {
            return (found, pages);
        }
    }
}

#[test]
fn every_core_lists_everything_once_and_in_order() {
    let mut cluster = Cluster::new(3, &Config { shards: 5, ..Config::default() });
    let mut expected: Vec<String> = (0..500).map(|n| format!("server-{n}")).collect();
    for name in &expected {
        cluster.change(0, register(name)).expect("it is new");
    }
    for name in expected.drain(100..200) {
        cluster.change(1, unregister(&name)).expect("it is there");
    }
    expected.sort();
    for core in 0..3 {
        for (limit, pages) in [(1000, 1), (400, 1), (399, 2), (7, 58), (usize::MAX, 1)] {
            assert_eq!(all(&mut cluster, core, &Query::all(Kind::Server, limit)), (expected.clone(), pages));
        }
    }
    assert_eq!(all(&mut cluster, 0, &Query::all(Kind::Endpoint, 10)), (Vec::new(), 1));
}

#[test]
fn filters_are_all_met() {
    let mut cluster = Cluster::new(2, &Config::default());
    let say = |name: &str, title: &str, description: &str| {
        let mut spec = spec(name);
        (spec.title, spec.description) = (title.into(), description.into());
        Change::Register(Box::new(spec))
    };
    for change in [say("a", "Weather", ""), say("weather/b", "", ""), say("c", "", "tells the WEATHER"), say("d", "Time", "")] {
        cluster.change(0, change).expect("it is new");
        cluster.pass(Duration::from_millis(10));
    }
    cluster.change(0, Change::Create { path: "/mcp/weather".into(), servers: Box::default() }).expect("it is new");
    let query = Query { search: Some("weaTHer".into()), ..Query::all(Kind::Server, 2) };
    assert_eq!(all(&mut cluster, 1, &query).0, ["a", "c", "weather/b"]);
    let late = Query { updated_since_ms: Some(1_800_000_000_010), ..query.clone() };
    assert_eq!(all(&mut cluster, 1, &late).0, ["c", "weather/b"]);
    let filter = Some(Filter::servers(|server| server.spec.title.is_empty()));
    assert_eq!(all(&mut cluster, 1, &Query { filter, ..query.clone() }).0, ["c", "weather/b"]);
    assert_eq!(all(&mut cluster, 1, &Query { filter: Some(Filter::endpoints(|_| true)), ..query.clone() }).0, [""; 0]);
    assert_eq!(all(&mut cluster, 1, &Query { kind: Kind::Endpoint, ..query }).0, ["/mcp/weather"]);
}

#[test]
fn pages_are_full_whatever_is_left_out() {
    let mut cluster = Cluster::new(3, &Config::default());
    for n in 0..300 {
        cluster.change(0, register(&format!("server-{n:03}"))).expect("it is new");
    }
    let filter = Some(Filter::servers(|server| server.spec.name.ends_with('7')));
    let query = Query { filter, ..Query::all(Kind::Server, 10) };
    let (found, pages) = all(&mut cluster, 2, &query);
    assert_eq!((found.len(), pages), (30, 3));
    for (is_after_included, first) in [(false, "server-017"), (true, "server-007")] {
        let page = cluster.list(1, Query { after: Some("server-007".into()), is_after_included, ..query.clone() }).expect("a page");
        assert_eq!((names(&page.entries)[0].as_str(), names(&page.entries).len()), (first, 10));
    }
}

#[test]
fn a_long_list_is_made_in_many_turns() {
    let mut cluster = Cluster::new(1, &Config { shards: 1, ..Config::default() });
    let count = 3 * limits::LIST_STEP_ENTRIES + 1;
    for n in 0..count {
        assert!(cluster.registries[0].load_server(cluster.now, spec(&format!("s{n}"))));
    }
    cluster.with(0, |registry, now, _, out| registry.list(now, Query::all(Kind::Server, 10), WAITER, out));
    let mut turns = 1;
    while cluster.told.is_empty() {
        assert!(cluster.registries[0].next_deadline() <= cluster.now.mono, "it wants to go on");
        cluster.pass(Duration::from_micros(10));
        turns += 1;
    }
    assert!((4..8).contains(&turns), "{turns}");
}

#[test]
fn a_core_that_stands_still_or_cannot_be_asked_ends_a_list() {
    let mut cluster = Cluster::new(2, &Config::default());
    let result = |cluster: &mut Cluster| match cluster.told.pop_front()?.effect {
        Effect::Listed { result, .. } => Some(result),
        other => panic!("{other:?}"),
    };
    cluster.with(0, |registry, now, _, out| registry.list(now, Query::all(Kind::Server, 10), WAITER, out));
    assert_eq!(result(&mut cluster), None);
    cluster.pass(Duration::from_millis(limits::LIST_MS_MAX));
    assert_eq!(result(&mut cluster), Some(Err(Refusal::Overloaded)));
    cluster.settle();
    assert_eq!(result(&mut cluster), None, "it comes too late");
    cluster.lane_frames_max = 0;
    cluster.with(0, |registry, now, _, out| registry.list(now, Query::all(Kind::Server, 10), WAITER, out));
    assert_eq!(result(&mut cluster), Some(Err(Refusal::Overloaded)));
    cluster.lane_frames_max = usize::MAX;
    for n in 0..=limits::LISTS_MAX {
        cluster.with(0, |registry, now, _, out| registry.list(now, Query::all(Kind::Server, 10), WAITER, out));
        assert_eq!(result(&mut cluster).is_some(), n == limits::LISTS_MAX, "they are bounded");
    }
}
