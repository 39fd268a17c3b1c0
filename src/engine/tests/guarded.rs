//! What the engine refuses, and that nothing else is refused.

use std::time::Duration;

use super::client::server;
use super::cluster::{Cluster, Response, config, modern};
use crate::base::fault::Kind;
use crate::base::ids::ConnId;
use crate::engine::{EngineConfig, Role};
use crate::guard::{self, breaker::Threshold};

fn cluster(cores: u16, guard: guard::Config) -> Cluster {
    Cluster::new(cores, &EngineConfig { guard, ..config() }, server)
}

fn echo() -> Vec<u8> {
    modern("tools/call", Some("echo"), r#""name":"echo","arguments":{"message":"m"}"#)
}

fn call(tool: &str) -> Vec<u8> {
    modern("tools/call", Some(tool), &format!(r#""name":"{tool}","arguments":{{}}"#))
}

fn faults(cluster: &Cluster, kind: Kind) -> u64 {
    cluster.shared.metrics().iter().map(|metrics| metrics.faults(kind)).sum()
}

/// The label by which an answer says that it is a refusal.
fn refused(response: &Response) -> Option<String> {
    response.json()["error"]["data"]["refused"].as_str().map(str::to_owned)
}

/// Offers so many a second, for so many seconds; says how many were served.
fn offer(cluster: &mut Cluster, conns: &[ConnId], request: &[u8], per_second: u64, seconds: u64) -> usize {
    let mut served = 0;
    for n in 0..per_second * seconds {
        served += usize::from(cluster.exchange(conns[n as usize % conns.len()], request).status == 200);
        cluster.pass(Duration::from_nanos(1_000_000_000 / per_second));
    }
    served
}

#[test]
fn the_node_has_one_limit_whatever_core_a_connection_is_on() {
    for busy in 0..3 {
        let mut cluster = cluster(3, guard::Config { node_rate: Some(100), ..guard::Config::default() });
        let conns: Vec<_> = (0..4).map(|_| cluster.connect(busy)).collect();
        offer(&mut cluster, &conns, &echo(), 250, 2);
        let served = offer(&mut cluster, &conns, &echo(), 250, 4);
        assert!((380..=400).contains(&served), "core {busy}: {served}");
        assert!(faults(&cluster, Kind::NodeRate) > 0);
    }
}

#[test]
fn a_refusal_keeps_the_id_the_connection_and_what_others_do() {
    let mut cluster = cluster(1, guard::Config { connection_rate: Some(2), ..guard::Config::default() });
    let (loud, quiet) = (cluster.connect(0), cluster.connect(0));
    let answers: Vec<_> = (0..3).map(|_| cluster.exchange(loud, &echo())).collect();
    assert!(answers[..2].iter().all(|answer| answer.status == 200));
    let told = &answers[2];
    assert_eq!((told.status, told.field("retry-after").as_deref(), refused(told).as_deref()), (429, Some("1"), Some("connection_rate")));
    assert_eq!(told.json()["id"], answers[0].json()["id"]);
    assert_eq!(cluster.exchange(quiet, &echo()).status, 200);
    assert!(cluster.is_open(loud));
    let admin = cluster.connect_as(0, Role::Admin);
    for _ in 0..10 {
        assert_eq!(cluster.exchange(admin, b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n").status, 200);
    }
    cluster.pass(Duration::from_secs(2));
    assert_eq!(cluster.exchange(loud, &echo()).status, 200);
}

#[test]
fn errors_open_the_breaker_for_every_core_and_probes_close_it() {
    let breaker = Some(Threshold { per_million: 10_000, hold: Duration::from_secs(3) });
    let mut cluster = cluster(2, guard::Config { breaker, ..guard::Config::default() });
    let conns = [cluster.connect(0), cluster.connect(1)];
    assert_eq!(offer(&mut cluster, &conns, &echo(), 100, 10), 1000);
    // Errors that a tool reports itself are none of the node's.
    let reported = modern("tools/call", Some("echo"), r#""name":"echo","arguments":{}"#);
    offer(&mut cluster, &conns, &reported, 50, 10);
    assert_eq!(faults(&cluster, Kind::BreakerOpen), 0);
    offer(&mut cluster, &conns, &call("boom"), 40, 5);
    assert!(faults(&cluster, Kind::Internal) > 0 && faults(&cluster, Kind::BreakerOpen) > 0);
    for conn in conns {
        let answer = cluster.exchange(conn, &echo());
        assert_eq!((answer.status, refused(&answer).as_deref()), (503, Some("breaker_open")));
        assert_eq!(answer.json()["error"]["data"]["tier"], 4);
    }
    offer(&mut cluster, &conns, &echo(), 50, 12);
    let refusals = faults(&cluster, Kind::BreakerOpen);
    assert_eq!(offer(&mut cluster, &conns, &echo(), 50, 2), 100, "it is closed");
    assert_eq!(faults(&cluster, Kind::BreakerOpen), refusals);
}

#[test]
fn what_is_in_work_is_bounded_for_the_node_and_for_each_principal() {
    let mut cluster = cluster(2, guard::Config { pending_max: Some(5), ..guard::Config::default() });
    let conns: Vec<_> = (0..7).map(|n| cluster.connect(n % 2)).collect();
    conns.iter().for_each(|conn| cluster.send(*conn, &call("slow")));
    let waiting = conns.iter().filter(|conn| cluster.is_pending(**conn)).count();
    assert_eq!((waiting, faults(&cluster, Kind::Pending)), (5, 2));
    cluster.pass(Duration::from_secs(2));
    assert_eq!(conns.iter().filter(|conn| cluster.take(**conn).status == 200).count(), 5, "those that were admitted are served");
    cluster.send(conns[0], &call("slow"));
    assert!(cluster.is_pending(conns[0]), "there is room again");

    let mut cluster = self::cluster(1, guard::Config { principal_pending_max: Some(2), ..guard::Config::default() });
    let conns: Vec<_> = (0..3).map(|_| cluster.connect(0)).collect();
    conns.iter().for_each(|conn| cluster.send(*conn, &call("slow")));
    let answer = cluster.take(conns[2]);
    assert_eq!((answer.status, refused(&answer).as_deref()), (429, Some("principal_pending")));
    cluster.gone(conns[0]);
    cluster.send(conns[2], &call("slow"));
    assert!(cluster.is_pending(conns[2]), "who leaves gives its permit back");
}

#[test]
fn a_request_that_comes_too_late_is_told_so() {
    let mut cluster = cluster(1, guard::Config { sheds_late: true, ..guard::Config::default() });
    let conn = cluster.connect(0);
    cluster.engines[0].set_late(true);
    let answer = cluster.exchange(conn, &echo());
    assert_eq!((answer.status, refused(&answer).as_deref()), (503, Some("late")));
    let admin = cluster.connect_as(0, Role::Admin);
    assert_eq!(
        cluster.exchange(admin, b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n").status,
        200,
        "the admin port is not refused"
    );
    cluster.engines[0].set_late(false);
    assert_eq!(cluster.exchange(conn, &echo()).status, 200);
}
