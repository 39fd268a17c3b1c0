//! Paths that the registry knows, and the hop that the first look at one may cost.

use std::time::Duration;

use super::cluster::{Cluster, config, modern};
use super::fixture::server;
use crate::engine::{Endpoint, EngineConfig};

fn many() -> EngineConfig {
    let mut config = config();
    config.endpoints =
        (0..20).map(|n| Endpoint { path: format!("/e/{n}").into(), servers: [0].into(), upstreams: Box::default() }).collect();
    config
}

fn discover(path: &str) -> Vec<u8> {
    String::from_utf8(modern("server/discover", None, "")).expect("UTF-8").replacen("/mcp", path, 1).into_bytes()
}

#[test]
fn every_core_serves_every_endpoint_and_asks_for_it_once() {
    let mut cluster = Cluster::new(4, &many(), server);
    for core in 0..4 {
        let conn = cluster.connect(core);
        for n in 0..20 {
            assert_eq!(cluster.exchange(conn, &discover(&format!("/e/{n}"))).status, 200);
        }
    }
    let first = cluster.frames_sent;
    assert!(first > 0, "some shard is at home elsewhere");
    for core in 0..4 {
        let conn = cluster.connect(core);
        let pipelined: Vec<u8> = (0..20).flat_map(|n| discover(&format!("/e/{n}"))).collect();
        cluster.send(conn, &pipelined);
        assert_eq!(cluster.take_raw(conn).matches("HTTP/1.1 200 OK").count(), 20);
    }
    assert_eq!(cluster.frames_sent, first, "the second time it is known");
}

#[test]
fn what_is_bound_nowhere_is_not_found_on_any_core() {
    let mut cluster = Cluster::new(3, &many(), server);
    for core in 0..3 {
        let conn = cluster.connect(core);
        assert_eq!(cluster.exchange(conn, &discover("/e/none")).status, 404);
        assert_eq!(cluster.exchange(conn, &discover("/e/1")).status, 200);
    }
}

#[test]
fn a_full_lane_turns_away_who_asks_and_delays_who_is_answered() {
    let mut cluster = Cluster::new(2, &many(), server);
    cluster.lane_frames_max = 0;
    let conns: Vec<_> = (0..20).map(|n| (cluster.connect(0), n)).collect();
    conns.iter().for_each(|&(conn, n)| cluster.send(conn, &discover(&format!("/e/{n}"))));
    let waiting: Vec<_> = conns.iter().filter(|(conn, _)| cluster.is_pending(*conn)).copied().collect();
    assert!(!waiting.is_empty() && waiting.len() < conns.len());
    cluster.pass(Duration::from_millis(200));
    cluster.lane_frames_max = usize::MAX;
    for (conn, n) in waiting {
        let response = cluster.take(conn);
        assert_eq!((response.status, response.code()), (503, -32603));
        assert_eq!(cluster.exchange(conn, &discover(&format!("/e/{n}"))).status, 200, "tried again later");
    }
}
