//! Modern clients whose upstream, of the legacy era, asks something in the midst of a call.

use std::time::Duration;

use super::client::text;
use super::cluster::{Response, modern_with};
use super::upstream::{Pair, settings};
use crate::base::ids::ConnId;
use crate::base::limits::PARKED_PER_PRINCIPAL_MAX;
use crate::engine::Eras;
use crate::gateway::{Dialect, Settings};

const ASKABLE: &str = r#"{"elicitation":{}}"#;

fn call(pair: &mut Pair, conn: ConnId, tool: &str, more: &str, headers: &str) -> Response {
    let params = format!(r#""name":"{tool}","arguments":{{}}{more}"#);
    pair.exchange(conn, &modern_with("tools/call", Some(tool), &params, "", ASKABLE, headers))
}

/// What a result that asks wants brought back.
fn state(asked: &Response) -> String {
    let result = &asked.json()["result"];
    assert_eq!(result["resultType"], "input_required", "{result}");
    assert_eq!(result["inputRequests"]["question"]["method"], "elicitation/create", "{result}");
    result["requestState"].as_str().expect("a state").to_owned()
}

fn answer(name: &str, state: &str) -> String {
    format!(r#","inputResponses":{{"question":{{"action":"accept","content":{{"name":"{name}"}}}}}},"requestState":"{state}""#)
}

#[test]
fn the_question_is_the_result_and_the_answer_comes_with_the_next_request() {
    let mut pair = Pair::new(3, Dialect::Auto, Eras::Legacy);
    for core in 0..3 {
        let conn = pair.front.connect(core);
        let asked = state(&call(&mut pair, conn, "ask", "", ""));
        // Without an answer it is asked again; the answer may come to any core.
        let again = call(&mut pair, conn, "ask", &format!(r#","requestState":"{asked}""#), "");
        let asked = state(&again);
        let elsewhere = pair.front.connect((core + 1) % 3);
        let done = call(&mut pair, elsewhere, "ask", &answer("Ada", &asked), "").json();
        assert_eq!((text(&done), &done["result"]["resultType"]), ("Hello, Ada!", &serde_json::json!("complete")));
        // Once.
        assert_eq!(call(&mut pair, conn, "ask", &answer("Ada", &asked), "").code(), -32602);
    }
    let conn = pair.front.connect(0);
    let first = state(&call(&mut pair, conn, "ask_twice", "", ""));
    let second = state(&call(&mut pair, conn, "ask_twice", &answer("one", &first), ""));
    assert_eq!(text(&call(&mut pair, conn, "ask_twice", &answer("two", &second), "").json()), "one two one");
    assert!(pair.front.engines.iter().all(|engine| engine.calls.is_empty()));
}

#[test]
fn a_handle_is_good_for_its_own_request_and_principal_and_for_a_while() {
    let mut pair = Pair::new(1, Dialect::Auto, Eras::Legacy);
    let conn = pair.front.connect(0);
    let asked = state(&call(&mut pair, conn, "ask", "", "Authorization: Bearer alice\r\n"));
    let mut forged = asked.clone().into_bytes();
    let middle = forged.len() / 2;
    forged[middle] = if forged[middle] == b'A' { b'B' } else { b'A' };
    let forged = String::from_utf8(forged).expect("ASCII");
    for (tool, state, principal) in [("ask", &*asked, "bob"), ("ask_twice", &*asked, "alice"), ("ask", &*forged, "alice")] {
        let headers = format!("Authorization: Bearer {principal}\r\n");
        let refused = call(&mut pair, conn, tool, &answer("Eve", state), &headers);
        assert_eq!(refused.code(), -32602, "{tool} {principal}");
    }
    assert_eq!(pair.back.engines[0].calls.len(), 1, "it still waits");
    pair.pass(Duration::from_mins(16));
    assert!(pair.front.engines[0].calls.is_empty() && pair.back.engines[0].calls.is_empty(), "nobody came back");
    assert_eq!(call(&mut pair, conn, "ask", &answer("Ada", &asked), "Authorization: Bearer alice\r\n").code(), -32602);
}

#[test]
fn a_client_that_cannot_be_asked_is_not() {
    let mut pair = Pair::new(1, Dialect::Auto, Eras::Legacy);
    let conn = pair.front.connect(0);
    let params = r#""name":"ask","arguments":{}"#;
    let done = pair.exchange(conn, &modern_with("tools/call", Some("ask"), params, "", "{}", "")).json();
    assert_eq!(done["result"]["isError"], true, "{done}");
    assert!(pair.front.engines[0].calls.is_empty());
}

#[test]
fn a_slow_reader_that_is_asked_holds_nothing_up() {
    let mut pair = Pair::new(1, Dialect::Auto, Eras::Legacy);
    let conn = pair.front.connect(0);
    let asked = state(&call(&mut pair, conn, "ask", "", ""));
    call(&mut pair, conn, "ask", &answer("Ada", &asked), "");
    pair.front.send(conn, &modern_with("tools/call", Some("ask"), r#""name":"ask","arguments":{}"#, "", ASKABLE, ""));
    pair.front.choke(conn, true);
    assert!(pair.front.links.values().any(|link| link.is_throttled));
    pair.pass(Duration::from_millis(20));
    state(&pair.front.take(conn));
    assert!(!pair.front.links.values().any(|link| link.is_throttled), "the next response begins as not choked");
}

#[test]
fn calls_that_wait_for_people_leave_room_for_others() {
    // Half of what the upstream may have in work, and of one principal no more than so many.
    for (in_flight_max, who, may) in [(6, "one", 3), (1000, "one", PARKED_PER_PRINCIPAL_MAX), (1000, "many", 40)] {
        let mut pair = Pair::with(1, vec![Settings { in_flight_max, queued_max: 1000, ..settings("u") }], Eras::Legacy);
        let headers = |n: usize| format!("Authorization: Bearer {}\r\n", if who == "one" { 0 } else { n });
        let ask = |pair: &mut Pair, n: usize, more: &str| {
            let conn = pair.front.connect(0);
            call(pair, conn, "ask", more, &headers(n))
        };
        let states: Vec<String> = (0..may).map(|n| state(&ask(&mut pair, n, ""))).collect();
        if who == "many" {
            continue;
        }
        let refused = ask(&mut pair, may, "").json();
        assert!(refused["error"].is_object(), "{in_flight_max} {refused}");
        assert_eq!(pair.back.engines[0].calls.len(), may, "what is turned away is cancelled at the upstream");
        // Who comes back makes room.
        assert_eq!(text(&ask(&mut pair, 0, &answer("Ada", &states[0])).json()), "Hello, Ada!");
        state(&ask(&mut pair, 0, ""));
        pair.pass(Duration::from_mins(16));
        assert!(pair.front.engines[0].calls.is_empty() && pair.back.engines[0].calls.is_empty(), "nobody came back");
        state(&ask(&mut pair, 0, ""));
    }
}
