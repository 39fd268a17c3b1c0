//! Endpoints with much to show: views that take several turns to make, and more than one endpoint shows.

use std::time::Duration;

use super::client::{Client, request};
use super::cluster::{Cluster, modern, post};
use super::views::{at, call, create, listed, native, pair_config, text, upstream};
use crate::base::ids::ConnId;
use crate::base::limits::VIEW_TURN_BYTES;
use crate::registry::{Change, ServerSpec};

/// Bytes of a large server's tools.
const LARGE_BYTES: usize = 2 * VIEW_TURN_BYTES;

/// A server with so many bytes of tools.
fn large(name: &str, bytes: usize) -> Box<ServerSpec> {
    let names: Vec<_> = (0..bytes / 10_000).map(|n| format!("t{n}")).collect();
    let mut spec = upstream(name, &names.iter().map(String::as_str).collect::<Vec<_>>());
    for tool in &mut spec.catalog.tools {
        tool.json = format!(r#"{{"name":"{}","description":"{}"}}"#, tool.name, "x".repeat(10_000)).into_bytes().into();
    }
    spec
}

/// One core, and an endpoint with so many large servers.
fn with_large(servers: usize) -> Cluster {
    let mut cluster = Cluster::with_servers(1, &pair_config(), &[native("a", &[]), native("b", &[])]);
    let names: Vec<_> = (0..servers).map(|n| format!("s{n}")).collect();
    for name in &names {
        cluster.change(0, Change::Register(large(name, LARGE_BYTES)));
    }
    cluster.change(0, create("/mcp/large", &names.iter().map(String::as_str).collect::<Vec<_>>()));
    cluster
}

fn begin_list(cluster: &mut Cluster, path: &str) -> ConnId {
    let conn = cluster.connect(0);
    cluster.begin_send(conn, &at(path, modern("tools/list", None, "")));
    conn
}

fn bind(path: &str, server: &str) -> Change {
    Change::Bind { path: path.into(), server: server.into(), if_version: None }
}

#[test]
fn a_large_view_is_made_in_many_turns_in_which_others_are_answered() {
    let mut cluster = with_large(6);
    let waiting: Vec<_> = (0..3).map(|_| begin_list(&mut cluster, "/mcp/large")).collect();
    let mut turns = 0;
    while waiting.iter().any(|&conn| cluster.is_pending(conn)) {
        assert!(waiting.iter().all(|&conn| cluster.is_pending(conn)), "all of them wait for the same");
        let other = begin_list(&mut cluster, "/mcp/a");
        cluster.wake(0);
        turns += 1;
        if cluster.is_pending(other) {
            // Its view was behind the large one.
            cluster.wake(0);
            turns += 1;
        }
        assert_eq!(cluster.take(other).status, 200, "it is answered in this turn or the next");
    }
    // What is read and what is written, once for each era.
    assert!(turns > 6 * LARGE_BYTES * 2 * 2 / VIEW_TURN_BYTES / 2, "{turns}");
    for conn in waiting {
        assert!(cluster.take(conn).json()["result"]["tools"].as_array().is_some_and(|tools| tools.len() > 10));
    }
    assert_eq!(cluster.engines[0].views_made(), 2, "of the other endpoint and, once, of this one");
    assert_eq!(listed(&mut cluster, 0, "/mcp/large", "tools/list").len(), 6 * (LARGE_BYTES / 10_000));
}

#[test]
fn a_change_while_a_view_is_made_is_seen_by_all_who_come_after_it() {
    let mut cluster = with_large(6);
    let early = begin_list(&mut cluster, "/mcp/large");
    (0..3).for_each(|_| cluster.wake(0));
    cluster.begin_change(0, bind("/mcp/large", "b"));
    let late = begin_list(&mut cluster, "/mcp/large");
    assert!(cluster.is_pending(early) && cluster.is_pending(late));
    cluster.settle();
    assert_eq!((cluster.take(early).status, cluster.take(late).status), (200, 200));
    assert!(listed(&mut cluster, 0, "/mcp/large", "tools/list").contains(&"b.who".to_owned()));
    assert_eq!(text(&call(&mut cluster, 0, "/mcp/large", "b.who")), "b");
}

#[test]
fn nobody_is_waited_for_who_has_gone_before_a_view_was_made() {
    let mut cluster = with_large(6);
    let conn = begin_list(&mut cluster, "/mcp/large");
    cluster.begin_change(0, bind("/mcp/large", "b"));
    cluster.wake(0);
    assert!(cluster.is_pending(conn) && cluster.engines[0].has_ready());
    cluster.gone(conn);
    cluster.settle();
    assert_eq!(cluster.engines[0].views_made(), 0, "what nobody can use any more is not made");
    assert!(!cluster.engines[0].has_ready());
}

#[test]
fn listeners_of_a_large_endpoint_are_told_when_it_has_changed() {
    let mut cluster = with_large(3);
    let conn = cluster.connect(0);
    cluster.send(conn, &at("/mcp/large", modern("subscriptions/listen", None, r#""notifications":{"toolsListChanged":true}"#)));
    assert_eq!(cluster.take(conn).status, 200);
    cluster.change(0, bind("/mcp/large", "b"));
    cluster.pass(Duration::from_millis(200));
    assert_eq!(cluster.take(conn).events().len(), 1);
}

#[test]
fn more_than_an_endpoint_shows_is_refused_with_what_helps() {
    let mut cluster = with_large(1);
    let client = Client::open(&mut cluster, "2025-11-25");
    assert_eq!(client.post(&mut cluster, &request("1", "ping", "{}")).status, 200);
    for n in 0..5 {
        cluster.change(0, Change::Register(large(&format!("huge{n}"), 4_000_000)));
        cluster.change(0, bind("/mcp", &format!("huge{n}")));
    }
    for _ in 0..2 {
        let conn = cluster.connect(0);
        let refused = cluster.exchange(conn, &modern("tools/list", None, ""));
        assert_eq!((refused.status, refused.code()), (507, -32603));
        let body = refused.json();
        assert_eq!(body["id"], 1);
        assert!(body["error"]["message"].as_str().is_some_and(|message| message.contains("bind them to several endpoints")), "{body}");
    }
    assert_eq!(cluster.engines[0].views_made(), 2, "it is found out once");
    assert_eq!(client.post(&mut cluster, &request("2", "tools/list", "{}")).status, 507);
    assert_eq!(call(&mut cluster, 0, "/mcp", "a.who").status, 507);
    let conn = cluster.connect(0);
    assert_eq!(cluster.exchange(conn, &post("", "no JSON")).status, 507, "whatever is asked");
    assert_eq!(text(&call(&mut cluster, 0, "/mcp/a", "who")), "a", "other endpoints are as they were");
    cluster.change(0, Change::Unbind { path: "/mcp".into(), server: "huge0".into(), if_version: None });
    cluster.change(0, Change::Unbind { path: "/mcp".into(), server: "huge1".into(), if_version: None });
    cluster.change(0, Change::Unbind { path: "/mcp".into(), server: "huge2".into(), if_version: None });
    cluster.change(0, Change::Unbind { path: "/mcp".into(), server: "huge3".into(), if_version: None });
    assert_eq!(text(&call(&mut cluster, 0, "/mcp", "a.who")), "a");
    assert_eq!(client.post(&mut cluster, &request("3", "tools/list", "{}")).status, 200, "the session is there again");
}
