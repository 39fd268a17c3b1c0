//! Streams of the legacy era: what is said before a reply, lost connections, resumption, cancellation, changes.

use std::time::Duration;

use super::client::{Client, call, cluster, event_ids, request, text};
use super::cluster::Cluster;

const SECOND: Duration = Duration::from_secs(1);

fn cancel(id: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","method":"notifications/cancelled","params":{{"requestId":{id}}}}}"#)
}

fn is_clean(cluster: &Cluster) -> bool {
    let engine = &cluster.engines[0];
    engine.is_idle() && engine.legacy.pendings.is_empty() && engine.legacy.gets == 0
}

#[test]
fn progress_makes_the_response_a_stream_and_the_reply_ends_it() {
    let mut cluster = cluster(1);
    let client = Client::open(&mut cluster, "2025-11-25");
    let (conn, first) = client.post_aside(&mut cluster, &call("1", "steps"));
    assert_eq!((first.status, first.field("content-type").as_deref()), (200, Some("text/event-stream")));
    assert_eq!(first.events()[0]["params"]["progressToken"], "p");
    cluster.pass(4 * SECOND);
    let rest = cluster.take(conn);
    assert_eq!(rest.events().len(), 3);
    assert_eq!(text(&rest.events()[2]), "arrived");
    assert!(!rest.is_open && is_clean(&cluster));
}

#[test]
fn only_the_newest_clients_get_an_event_without_data() {
    let mut cluster = cluster(1);
    for (version, primed) in [("2025-11-25", true), ("2025-06-18", false), ("2025-03-26", false), ("2024-11-05", false)] {
        let client = Client::open(&mut cluster, version);
        let (_, first) = client.post_aside(&mut cluster, &call("1", "steps"));
        assert_eq!(first.body.lines().any(|line| line.trim_end() == "data:"), primed, "{version}: {}", first.body);
        assert_eq!(event_ids(&first).len(), if primed { 2 } else { 1 }, "{version}");
    }
}

#[test]
fn event_ids_are_unique_within_the_session() {
    let mut cluster = cluster(1);
    let client = Client::open(&mut cluster, "2025-11-25");
    let mut ids = event_ids(&client.get(&mut cluster, None).1);
    for id in ["1", "2", "3"] {
        let (conn, first) = client.post_aside(&mut cluster, &call(id, "steps"));
        ids.extend(event_ids(&first));
        cluster.pass(4 * SECOND);
        ids.extend(event_ids(&cluster.take(conn)));
    }
    let all = ids.len();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), all);
    assert!(all > 12);
}

#[test]
fn a_lost_connection_is_no_cancellation_and_the_rest_can_be_fetched() {
    let mut cluster = cluster(1);
    let client = Client::open(&mut cluster, "2025-11-25");
    let (conn, first) = client.post_aside(&mut cluster, &call("1", "steps"));
    let last = event_ids(&first).pop().unwrap();
    cluster.gone(conn);
    cluster.pass(Duration::from_millis(1500));
    let (resumed, replay) = client.get(&mut cluster, Some(&last));
    assert_eq!(replay.events().len(), 1, "what was missed");
    assert!(cluster.is_pending(resumed));
    cluster.pass(2 * SECOND);
    let rest = cluster.take(resumed);
    assert_eq!(text(rest.events().last().unwrap()), "arrived");
    assert!(!rest.is_open && is_clean(&cluster));
    let (again, replay) = client.get(&mut cluster, Some(&last));
    assert_eq!(replay.events().len(), 3, "a finished stream is replayed and ends");
    assert!(!replay.is_open && !cluster.is_pending(again));
}

#[test]
fn a_request_whose_connection_is_lost_before_its_stream_began_goes_on() {
    let mut cluster = cluster(1);
    let client = Client::open(&mut cluster, "2025-11-25");
    let (conn, _) = client.post_aside(&mut cluster, &call("1", "slow"));
    cluster.gone(conn);
    assert_eq!(cluster.engines[0].calls.len(), 1);
    cluster.pass(2 * SECOND);
    assert!(is_clean(&cluster));
}

#[test]
fn a_handler_can_close_the_stream_and_its_client_comes_back() {
    let mut cluster = cluster(1);
    let client = Client::open(&mut cluster, "2025-11-25");
    let (conn, closed) = client.post_aside(&mut cluster, &call("1", "reconnect"));
    assert!(!closed.is_open && !cluster.is_pending(conn), "the connection takes requests again");
    assert!(closed.body.contains("retry: 500"), "{}", closed.body);
    let prime = event_ids(&closed).pop().expect("a prime event");
    cluster.pass(Duration::from_millis(1500));
    let (resumed, replay) = client.get(&mut cluster, Some(&prime));
    assert_eq!(replay.events()[0]["method"], "notifications/progress");
    cluster.pass(SECOND);
    assert_eq!(text(&cluster.take(resumed).events()[0]), "back");
    assert!(is_clean(&cluster));
}

#[test]
fn an_older_client_s_stream_is_not_closed_on_it() {
    let mut cluster = cluster(1);
    let client = Client::open(&mut cluster, "2025-06-18");
    let (conn, _) = client.post_aside(&mut cluster, &call("1", "reconnect"));
    assert!(cluster.is_pending(conn));
    cluster.pass(3 * SECOND);
    assert_eq!(text(cluster.take(conn).events().last().unwrap()), "back");
}

#[test]
fn an_unknown_event_id_is_refused() {
    let mut cluster = cluster(1);
    let client = Client::open(&mut cluster, "2025-11-25");
    for id in ["1-1", "0-1", "nonsense", "99999999999-1"] {
        assert_eq!(client.get(&mut cluster, Some(id)).1.status, 400, "{id}");
    }
    let (_, first) = client.post_aside(&mut cluster, &call("1", "steps"));
    let last = event_ids(&first).pop().unwrap();
    let other = Client::open(&mut cluster, "2025-11-25");
    assert_eq!(other.get(&mut cluster, Some(&last)).1.status, 400, "another session's event");
    assert!(!cluster.is_pending(other.conn));
}

#[test]
fn a_cancelled_request_gets_no_reply() {
    let mut cluster = cluster(1);
    let client = Client::open(&mut cluster, "2025-11-25");
    for tool in ["slow", "steps"] {
        let (conn, _) = client.post_aside(&mut cluster, &call("\"x\"", tool));
        assert_eq!(client.post(&mut cluster, &cancel("\"x\"")).status, 202);
        let rest = cluster.take(conn);
        assert!(!rest.is_open && !cluster.is_pending(conn) && rest.events().is_empty(), "{tool}");
        cluster.pass(4 * SECOND);
        assert!(is_clean(&cluster));
    }
}

#[test]
fn a_session_cancels_its_own_requests_alone() {
    let mut cluster = cluster(1);
    let client = Client::open(&mut cluster, "2025-11-25");
    let other = Client::open(&mut cluster, "2025-11-25");
    let (conn, _) = client.post_aside(&mut cluster, &call("1", "slow"));
    other.post(&mut cluster, &cancel("1"));
    client.post(&mut cluster, &cancel("\"1\""));
    cluster.pass(2 * SECOND);
    assert_eq!(text(&cluster.take(conn).json()), "late");
}

#[test]
fn the_end_of_a_session_ends_what_is_in_work() {
    let mut cluster = cluster(1);
    let client = Client::open(&mut cluster, "2025-11-25");
    let (slow, _) = client.post_aside(&mut cluster, &call("1", "slow"));
    let (steps, _) = client.post_aside(&mut cluster, &call("2", "steps"));
    let (get, _) = client.get(&mut cluster, None);
    assert_eq!(client.delete(&mut cluster).status, 200);
    for conn in [slow, steps, get] {
        assert!(!cluster.is_pending(conn));
    }
    cluster.pass(4 * SECOND);
    assert!(is_clean(&cluster));
}

#[test]
fn the_standalone_stream_tells_of_changes_and_no_other_does() {
    let mut cluster = cluster(2);
    let client = Client::open(&mut cluster, "2025-11-25");
    let deaf = Client::open_with(&mut cluster, 1, "2025-06-18", "{}");
    let (get, opened) = client.get(&mut cluster, None);
    assert_eq!((opened.status, opened.field("content-type").as_deref()), (200, Some("text/event-stream")));
    assert_eq!(client.get(&mut cluster, None).1.status, 409);
    client.post(&mut cluster, &request("1", "resources/subscribe", r#"{"uri":"test://a"}"#));
    let (far, _) = deaf.get(&mut cluster, None);
    client.post(&mut cluster, &call("2", "change"));
    cluster.pass(SECOND);
    let methods = |response: super::cluster::Response| -> Vec<String> {
        response.events().iter().map(|event| event["method"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(methods(cluster.take(get)), ["notifications/tools/list_changed", "notifications/resources/updated"]);
    assert_eq!(methods(cluster.take(far)), ["notifications/tools/list_changed"], "it subscribed to nothing");
    client.post(&mut cluster, &request("3", "resources/unsubscribe", r#"{"uri":"test://a"}"#));
    client.post(&mut cluster, &call("4", "change"));
    cluster.pass(SECOND);
    assert_eq!(methods(cluster.take(get)), ["notifications/tools/list_changed"]);
}

#[test]
fn the_standalone_stream_can_be_resumed() {
    let mut cluster = cluster(1);
    let client = Client::open(&mut cluster, "2025-11-25");
    let (get, opened) = client.get(&mut cluster, None);
    let prime = event_ids(&opened).pop().unwrap();
    cluster.gone(get);
    client.post(&mut cluster, &call("1", "change"));
    cluster.pass(SECOND);
    let (again, replay) = client.get(&mut cluster, Some(&prime));
    assert_eq!(replay.events()[0]["method"], "notifications/tools/list_changed");
    let (taken_over, _) = client.get(&mut cluster, Some(&event_ids(&replay)[0]));
    assert!(!cluster.is_pending(again) && cluster.is_pending(taken_over), "the newer connection carries it on");
    assert_eq!(client.get(&mut cluster, None).1.status, 409);
}

#[test]
fn a_drain_ends_standalone_streams_and_lets_calls_finish() {
    let mut cluster = cluster(1);
    let client = Client::open(&mut cluster, "2025-11-25");
    let (get, _) = client.get(&mut cluster, None);
    let (steps, _) = client.post_aside(&mut cluster, &call("1", "steps"));
    cluster.drain();
    assert!(!cluster.is_pending(get) && !cluster.take(get).is_open);
    assert!(cluster.is_pending(steps));
    assert_eq!(client.get(&mut cluster, None).1.status, 503, "a stream without end is not opened any more");
    cluster.pass(4 * SECOND);
    assert_eq!(text(cluster.take(steps).events().last().unwrap()), "arrived");
    assert!(is_clean(&cluster));
}

#[test]
fn a_half_closed_connection_still_gets_its_reply() {
    let mut cluster = cluster(1);
    let client = Client::open(&mut cluster, "2025-11-25");
    let (conn, _) = client.post_aside(&mut cluster, &call("1", "slow"));
    cluster.half_close(conn);
    cluster.pass(2 * SECOND);
    assert_eq!(text(cluster.take(conn).events().last().unwrap()), "late");
}

#[test]
fn silent_streams_get_a_comment() {
    let mut cluster = cluster(1);
    let client = Client::open(&mut cluster, "2025-11-25");
    let (get, _) = client.get(&mut cluster, None);
    cluster.pass(40 * SECOND);
    let said = cluster.take(get);
    assert!(said.body.lines().any(|line| line.starts_with(':')), "{:?}", said.body);
}
