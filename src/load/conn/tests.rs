//! Answers as they may come, in virtual time.

use super::super::request::Place;
use super::*;

const TIMEOUT_NS: u64 = 1_000;

fn script(version: Version) -> Script {
    let target = Target {
        version: version.as_str().to_owned(),
        place: Place { target: "/mcp".into(), authority: "h".into(), fields: Vec::new() },
        tool: "echo".into(),
        arguments: "{}".into(),
        tool_expect: "\"hi\"".into(),
        ..Target::default()
    };
    Script::new(&[Kind::ToolsCall], &target, 4, TIMEOUT_NS).expect("it can be sent")
}

fn open(script: &Script, measure: &mut Measure) -> Conn {
    let mut conn = Conn::new(1);
    conn.connecting(0);
    conn.connected(0, script, measure);
    conn
}

/// Writes what is due, as if all of it were sent, and gives the ids in it.
fn send(conn: &mut Conn, script: &Script, measure: &mut Measure) -> Vec<u64> {
    let bytes = conn.fill(script, measure).to_vec();
    conn.sent(bytes.len(), measure);
    let text = String::from_utf8(bytes).expect("text");
    text.split("\"id\":").skip(1).map(|rest| rest[..10].parse().expect("an id")).collect()
}

fn http(status: u16, fields: &str, body: &str) -> Vec<u8> {
    format!("HTTP/1.1 {status} X\r\nContent-Type: application/json\r\n{fields}Content-Length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

fn right(id: u64) -> Vec<u8> {
    http(200, "", &format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{"content":[{{"type":"text","text":"hi"}}]}}}}"#))
}

fn offer(conn: &mut Conn, count: u64, script: &Script, measure: &mut Measure) -> Vec<u64> {
    for number in 0..count {
        measure.counts.planned += 1;
        conn.offer(number, script, measure);
    }
    send(conn, script, measure)
}

#[test]
fn answers_count_from_the_planned_time_wherever_they_are_cut() {
    let script = script(Version::V2026_07_28);
    let answers = |ids: &[u64]| ids.iter().flat_map(|id| right(*id)).collect::<Vec<_>>();
    let len = answers(&[ID_FIRST, ID_FIRST + 1]).len();
    for cut in 0..=len {
        let mut measure = Measure::default();
        let mut conn = open(&script, &mut measure);
        let ids = offer(&mut conn, 2, &script, &mut measure);
        let bytes = answers(&ids);
        for piece in [&bytes[..cut], &bytes[cut..]] {
            assert_eq!(conn.take(piece, 500, &script, &mut measure), Fate::Keep);
        }
        assert_eq!((measure.counts.answered, measure.outstanding, measure.answered.quantile(1.0) / 64), (2, 0, 500 / 64), "{cut}");
        assert!(measure.counts.adds_up() && conn.is_idle());
    }
}

#[test]
fn each_kind_of_bad_answer_has_its_class() {
    let script = script(Version::V2026_07_28);
    let with_id = |text: &str| text.replace("ID", &ID_FIRST.to_string());
    for (answer, class) in [
        (http(429, "Retry-After: 1\r\n", "{}"), Class::Refused429),
        (http(503, "Retry-After: 1\r\n", "{}"), Class::Refused503),
        (http(500, "", ""), Class::Http5xx),
        (http(404, "", "{}"), Class::HttpOther),
        (http(202, "", ""), Class::HttpOther),
        (http(200, "", &with_id(r#"{"jsonrpc":"2.0","id":ID,"error":{"code":-32603,"message":"x"}}"#)), Class::RpcError),
        (http(200, "", &with_id(r#"{"jsonrpc":"2.0","id":ID,"result":{"content":[{"text":"ho"}]}}"#)), Class::WrongContent),
        (http(200, "", r#"{"jsonrpc":"2.0","id":7,"result":{"content":[{"text":"hi"}]}}"#), Class::WrongContent),
        (http(200, "", "hi"), Class::WrongContent),
        (b"SSH-2.0\r\n".to_vec(), Class::WrongContent),
    ] {
        let mut measure = Measure::default();
        let mut conn = open(&script, &mut measure);
        offer(&mut conn, 1, &script, &mut measure);
        conn.take(&answer, 500, &script, &mut measure);
        assert_eq!((measure.counts.failed.get(class), measure.outstanding), (1, 0), "{class:?}: {:?}", measure.counts);
        assert!(measure.counts.adds_up());
        assert_eq!(measure.refused.len(), u64::from(class.is_refusal()));
        assert_eq!(measure.counts.refused_bare, 0, "{class:?}");
    }
}

#[test]
fn an_answer_may_be_a_stream() {
    let script = script(Version::V2026_07_28);
    let mut measure = Measure::default();
    let mut conn = open(&script, &mut measure);
    let ids = offer(&mut conn, 1, &script, &mut measure);
    let events = format!(
        "event: message\ndata: {{\"jsonrpc\":\"2.0\",\"method\":\"notifications/message\",\"params\":{{}}}}\n\nevent: message\ndata: {{\"jsonrpc\":\"2.0\",\"id\":{},\"result\":{{\"content\":[{{\"text\":\"hi\"}}]}}}}\n\n",
        ids[0]
    );
    let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
    let first = format!("{head}{:x}\r\n{events}\r\n", events.len());
    conn.take(first.as_bytes(), 100, &script, &mut measure);
    assert_eq!((measure.counts.answered, conn.is_idle()), (1, false));
    conn.take(b"0\r\n\r\n", 200, &script, &mut measure);
    assert!(conn.is_idle() && measure.counts.adds_up());
    // A stream that ends without the answer is none.
    offer(&mut conn, 1, &script, &mut measure);
    conn.take(format!("{head}0\r\n\r\n").as_bytes(), 300, &script, &mut measure);
    assert_eq!(measure.counts.failed.get(Class::WrongContent), 1);
}

#[test]
fn no_more_is_on_its_way_than_may_be() {
    let script = script(Version::V2026_07_28);
    let mut measure = Measure::default();
    let mut conn = open(&script, &mut measure);
    let ids = offer(&mut conn, 10, &script, &mut measure);
    assert_eq!((ids.len(), measure.counts.sent), (4, 4));
    conn.take(&right(ids[0]), 100, &script, &mut measure);
    assert_eq!(send(&mut conn, &script, &mut measure).len(), 1);
    assert_eq!(measure.outstanding, 9);
}

#[test]
fn what_is_not_answered_in_time_times_out_and_may_be_late() {
    let script = script(Version::V2026_07_28);
    let mut measure = Measure::default();
    let mut conn = open(&script, &mut measure);
    let ids = offer(&mut conn, 6, &script, &mut measure);
    assert_eq!(conn.expire(TIMEOUT_NS - 1, &script, &mut measure), Fate::Keep);
    assert_eq!(measure.counts.failed.errors(), 0);
    conn.expire(TIMEOUT_NS + 5, &script, &mut measure);
    assert_eq!((measure.counts.failed.get(Class::Timeout), measure.outstanding), (6, 0));
    conn.take(&right(ids[0]), TIMEOUT_NS + 6, &script, &mut measure);
    assert_eq!((measure.counts.late, measure.counts.answered), (1, 0));
    assert!(measure.counts.adds_up());
    assert!(matches!(conn.expire(3 * TIMEOUT_NS, &script, &mut measure), Fate::Reopen(_)), "a server that has forgotten it is left");
}

#[test]
fn a_reset_costs_what_was_on_its_way() {
    let script = script(Version::V2026_07_28);
    for is_reset in [true, false] {
        let mut measure = Measure::default();
        let mut conn = open(&script, &mut measure);
        let ids = offer(&mut conn, 6, &script, &mut measure);
        conn.take(&right(ids[0]), 100, &script, &mut measure);
        // It was of use: another one is opened at once, and what was not sent waits for it.
        assert_eq!(conn.ended(is_reset, 200, &script, &mut measure), Fate::Reopen(200));
        assert_eq!((measure.counts.failed.get(Class::Reset), measure.counts.dropped, measure.outstanding), (3, 1, 2));
        conn.connecting(200);
        conn.connected(210, &script, &mut measure);
        for id in send(&mut conn, &script, &mut measure) {
            conn.take(&right(id), 300, &script, &mut measure);
        }
        assert!(measure.counts.adds_up() && measure.counts.answered == 3, "{:?}", measure.counts);
    }
}

#[test]
fn a_connection_that_is_refused_stays_down_as_long_as_it_was_told() {
    let script = script(Version::V2026_07_28);
    let mut measure = Measure::default();
    let mut conn = open(&script, &mut measure);
    let fate = conn.take(&http(503, "Retry-After: 3\r\nConnection: close\r\n", ""), 100, &script, &mut measure);
    assert_eq!((fate, conn.state), (Fate::Reopen(100 + 3 * NS_PER_S), State::Down(Class::Refused503)));
    offer(&mut conn, 2, &script, &mut measure);
    assert_eq!((measure.counts.failed.get(Class::Refused503), measure.counts.unopened.get(Class::Refused503)), (2, 1));
    assert!(measure.counts.adds_up());
}

#[test]
fn what_stands_behind_a_refusal_that_closes_is_refused_and_behind_an_answer_is_asked_again() {
    let script = script(Version::V2026_07_28);
    let mut measure = Measure::default();
    let mut conn = open(&script, &mut measure);
    offer(&mut conn, 3, &script, &mut measure);
    conn.take(&http(503, "Retry-After: 1\r\nConnection: close\r\n", "{}"), 100, &script, &mut measure);
    assert_eq!(measure.counts.failed.get(Class::Refused503), 3);
    assert!(measure.counts.adds_up());

    let mut measure = Measure::default();
    let mut conn = open(&script, &mut measure);
    let ids = offer(&mut conn, 3, &script, &mut measure);
    let closing = String::from_utf8(right(ids[0])).expect("text").replace("Content-Length", "Connection: close\r\nContent-Length");
    assert_eq!(conn.take(closing.as_bytes(), 100, &script, &mut measure), Fate::Reopen(100));
    conn.connecting(100);
    conn.connected(110, &script, &mut measure);
    let again = send(&mut conn, &script, &mut measure);
    assert_eq!(again.len(), 2);
    for id in again {
        conn.take(&right(id), 200, &script, &mut measure);
    }
    assert!(measure.counts.answered == 3 && measure.counts.adds_up(), "{:?}", measure.counts);
}

#[test]
fn a_legacy_session_is_opened_first_and_named_in_what_follows() {
    let script = script(Version::V2025_11_25);
    let mut measure = Measure::default();
    let mut conn = open(&script, &mut measure);
    assert_eq!(conn.state, State::Greeting);
    assert!(offer(&mut conn, 1, &script, &mut measure).len() == 1 && measure.counts.sent == 0);
    let hello = format!(r#"{{"jsonrpc":"2.0","id":{ID_FIRST},"result":{{"protocolVersion":"2025-11-25"}}}}"#);
    conn.take(&http(200, "Mcp-Session-Id: abc\r\n", &hello), 100, &script, &mut measure);
    let initialized = conn.fill(&script, &mut measure).to_vec();
    let text = String::from_utf8(initialized).expect("text");
    assert!(text.contains("notifications/initialized") && text.contains("Mcp-Session-Id: abc\r\n"), "{text}");
    conn.sent(text.len(), &mut measure);
    conn.take(b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n", 200, &script, &mut measure);
    assert_eq!((conn.state, measure.counts.opened), (State::Ready, 1));
    let text = String::from_utf8(conn.fill(&script, &mut measure).to_vec()).expect("text");
    assert!(text.contains("tools/call") && text.contains("Mcp-Session-Id: abc\r\n"), "{text}");
}

#[test]
fn a_legacy_session_that_is_refused_is_a_connection_of_no_use() {
    let script = script(Version::V2025_11_25);
    let mut measure = Measure::default();
    let mut conn = open(&script, &mut measure);
    conn.take(&http(503, "Retry-After: 1\r\n", "{}"), 100, &script, &mut measure);
    assert_eq!((conn.state, measure.counts.unopened.get(Class::Refused503)), (State::Down(Class::Refused503), 1));
    assert_eq!((measure.counts.opened, measure.counts.failed.refused()), (0, 0));
}

#[test]
fn an_interruption_cuts_what_is_in_work() {
    let script = script(Version::V2026_07_28);
    let mut measure = Measure::default();
    let mut conn = open(&script, &mut measure);
    offer(&mut conn, 6, &script, &mut measure);
    conn.cut(&mut measure);
    assert_eq!((measure.counts.cut, measure.outstanding), (6, 0));
    assert!(measure.counts.adds_up());
}
