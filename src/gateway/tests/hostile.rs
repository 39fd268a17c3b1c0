//! Peers that mean harm, or look as if they did: clients that come and go, upstreams that flood and forget.

use super::*;
use crate::base::limits;
use crate::gateway::link::Command;

const LEGACY: Version = Version::V2025_11_25;
const ACCEPTED: &str = "HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n";

/// The member of what was fed, if it is there.
pub(super) fn id_of(text: &str) -> String {
    let body = text.split_once("\r\n\r\n").map_or(text, |(_, body)| body);
    String::from_utf8_lossy(crate::wire::json::get(body.trim_end().as_bytes(), "id").unwrap_or_default()).into_owned()
}

impl Bench {
    /// Brings up what was dialled, and agrees to every session that is asked for. What else was sent is given.
    pub(super) fn serve_sessions(&mut self, session: &str) -> Vec<(LinkId, String)> {
        let mut others = Vec::new();
        loop {
            for link in self.dialled() {
                self.up(link);
            }
            let fed = self.fed();
            if fed.is_empty() {
                return others;
            }
            for (link, text) in fed {
                let told = if text.contains(r#""method":"initialize""#) {
                    let result = r#"{"protocolVersion":"2025-11-25","capabilities":{},"serverInfo":{"name":"s","version":"1"}}"#;
                    let text = response(&format!(r#"{{"jsonrpc":"2.0","id":{},"result":{result}}}"#, id_of(&text)));
                    self.bytes(link, &text.replacen("\r\n", &format!("\r\nMcp-Session-Id: {session}\r\n"), 1))
                } else if text.contains("notifications/") {
                    self.bytes(link, ACCEPTED)
                } else {
                    others.push((link, text));
                    Vec::new()
                };
                assert_eq!(told, []);
            }
        }
    }
}

#[test]
fn messages_that_nobody_answers_are_bounded() {
    let wide = Settings { in_flight_max: 8, queued_max: 8, ..settings() };
    // An upstream pings and reads no answer.
    let mut bench = Bench::new(wide.clone());
    bench.relay_as(&forward(1, Method::ToolsCall), LEGACY).expect("it is taken");
    let (link, _) = bench.serve_sessions("s").remove(0);
    assert_eq!(bench.bytes(link, "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"), []);
    bench.dialled();
    for _ in 0..1000 {
        assert_eq!(bench.bytes(link, "data: {\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\"}\n\n"), []);
    }
    let links = bench.dialled();
    assert!(!links.is_empty() && links.len() <= limits::UPSTREAM_TELLS_MAX, "{}", links.len());
    // Those that end make room for others.
    for link in links {
        bench.up(link);
        bench.bytes(link, ACCEPTED);
    }
    bench.fed();
    bench.bytes(link, "data: {\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\"}\n\n");
    assert_eq!(bench.fed().len(), 1);
    // Clients come and go.
    let mut bench = Bench::new(wide);
    bench.relay_as(&forward(1, Method::ToolsCall), LEGACY).expect("it is taken");
    bench.serve_sessions("s");
    for index in 2..1000 {
        let trip = bench.relay_as(&forward(index, Method::ToolsCall), LEGACY).expect("it is taken");
        bench.gateway.cancel(bench.now, trip);
        bench.take();
    }
    assert!(bench.gateway.links.len() <= 8 + limits::UPSTREAM_TELLS_MAX, "{}", bench.gateway.links.len());
}

#[test]
fn requests_whose_session_is_lost_all_go_again_in_one_other() {
    let mut bench = Bench::new(Settings { in_flight_max: 8, ..settings() });
    for index in 1..=3 {
        bench.relay_as(&forward(index, Method::ToolsCall), LEGACY).expect("it is taken");
    }
    let sent = bench.serve_sessions("s-1");
    assert_eq!(sent.len(), 3);
    let lost = status("404 Not Found", "");
    // Two hear of it before the next session is there, one after.
    assert_eq!(bench.bytes(sent[0].0, &lost), []);
    assert_eq!(bench.bytes(sent[1].0, &lost), []);
    let again = bench.serve_sessions("s-2");
    assert_eq!(again.len(), 2, "{again:?}");
    assert_eq!(bench.bytes(sent[2].0, &lost), []);
    let last = bench.serve_sessions("s-3");
    assert_eq!(last.len(), 1, "{last:?}");
    assert!(again.iter().chain(&last).all(|(_, text)| text.contains("MCP-Session-Id: s-2\r\n")), "{last:?}");
}

#[test]
fn an_error_that_speaks_of_sessions_is_an_answer() {
    let mut bench = Bench::new(settings());
    bench.relay_as(&forward(1, Method::ToolsCall), LEGACY).expect("it is taken");
    let (link, text) = bench.serve_sessions("s").remove(0);
    let error = format!(r#"{{"jsonrpc":"2.0","id":{},"error":{{"code":-32602,"message":"no such Session in the shop"}}}}"#, id_of(&text));
    let told = bench.bytes(link, &status("400 Bad Request", &error));
    assert!(matches!(&told[..], [(1, Told::Answer(_, text))] if text.contains("in the shop")), "{told:?}");
    assert_eq!(bench.fed(), [], "the tool was asked once");
}

#[test]
fn a_second_response_takes_nothing_from_the_first() {
    let mut bench = Bench::new(Settings { in_flight_max: 1, ..settings() });
    let link = bench.warm();
    bench.relay(2).expect("it is taken");
    bench.relay(3).expect("it waits");
    bench.event(link, LinkEvent::Drained);
    let told = bench.bytes(link, &[response(ANSWER), response(&ANSWER.replace("[]", "[7]"))].concat());
    assert_eq!(told, [(2, Told::Answer(200, ANSWER.to_owned()))]);
    assert!(bench.gateway.links.len() == 1 && bench.fed().len() == 2, "what waited goes over another link");
}

#[test]
fn clients_that_do_not_read_are_not_held_against_the_upstream() {
    let mut bench = Bench::new(settings());
    for index in 1..=2 * limits::BREAKER_FAILURES_MAX {
        let trip = bench.relay(index).expect("it is taken");
        let link = bench.dialled()[0];
        bench.up(link);
        bench.bytes(link, "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n");
        bench.gateway.choke(trip, true);
        assert_eq!(bench.pass(Duration::from_secs(20)), failed(index, Failure::TimedOut));
        bench.dialled();
    }
}

#[test]
fn requests_that_are_called_off_make_room_for_others() {
    let mut bench = Bench::new(settings());
    let trips: Vec<_> = (1..=4).map(|index| bench.relay(index).expect("it is taken")).collect();
    assert_eq!(bench.relay(5), Err(Failure::Busy));
    trips[2..].iter().for_each(|trip| bench.gateway.cancel(bench.now, *trip));
    bench.relay(6).expect("nobody waits any more");
    // While a session is being opened, too.
    let mut bench = Bench::new(settings());
    let ask = |bench: &mut Bench, index| bench.relay_as(&forward(index, Method::ToolsCall), LEGACY);
    let trips: Vec<_> = (1..=4).map(|index| ask(&mut bench, index).expect("it is taken")).collect();
    assert_eq!(ask(&mut bench, 5), Err(Failure::Busy));
    bench.gateway.cancel(bench.now, trips[3]);
    ask(&mut bench, 6).expect("nobody waits any more");
    assert_eq!(bench.serve_sessions("s").len(), 2);
}

#[test]
fn a_process_is_greeted_once() {
    let command = Command { name: "u".into(), program: "p".into(), args: Box::new([]), env: Box::new([]), cwd: None };
    let mut bench = Bench::new(Settings { dial: Arc::new(Dial::Child(Box::new(command))), ..settings() });
    // A client's request starts it before the scout looks at it.
    bench.relay_as(&forward(1, Method::ToolsCall), LEGACY).expect("it is taken");
    bench.gateway.watch(bench.now, 0);
    let link = bench.dialled()[0];
    bench.up(link);
    let mut greetings = 0;
    for _ in 0..10 {
        for (_, line) in bench.fed() {
            let id = id_of(&line);
            if line.contains(r#""method":"initialize""#) {
                greetings += 1;
                let result = r#"{"protocolVersion":"2025-11-25","capabilities":{"tools":{}},"serverInfo":{"name":"s","version":"1"}}"#;
                bench.bytes(link, &format!("{{\"jsonrpc\":\"2.0\",\"id\":{id},\"result\":{result}}}\n"));
            } else if line.contains("tools/list") {
                bench.bytes(link, &format!("{{\"jsonrpc\":\"2.0\",\"id\":{id},\"result\":{{\"tools\":[]}}}}\n"));
            } else if line.contains("server/discover") {
                bench.bytes(link, &format!("{{\"jsonrpc\":\"2.0\",\"id\":{id},\"error\":{{\"code\":-32601,\"message\":\"m\"}}}}\n"));
            }
        }
        bench.pass(Duration::from_millis(1));
    }
    assert_eq!(greetings, 1);
    assert_eq!(bench.gateway.take_news().len(), 1, "and the scout has seen what it has");
}

#[test]
fn a_process_that_reads_nothing_is_told_no_more_than_it_may_leave_unread() {
    let command = Command { name: "u".into(), program: "p".into(), args: Box::new([]), env: Box::new([]), cwd: None };
    let mut bench = Bench::new(Settings { dial: Arc::new(Dial::Child(Box::new(command))), ..settings() });
    bench.relay_as(&forward(1, Method::ToolsCall), Version::V2026_07_28).expect("it is taken");
    let link = bench.dialled()[0];
    bench.up(link);
    let pings =
        "{\"jsonrpc\":\"2.0\",\"id\":\"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\",\"method\":\"ping\"}\n".repeat(1000);
    let mut fed = 0;
    for _ in 0..100 {
        bench.bytes(link, &pings);
        fed += bench.fed().iter().map(|(_, text)| text.len()).sum::<usize>();
    }
    assert!(fed <= 2 * limits::PIPE_FEED_BYTES_MAX, "{fed}");
}

#[test]
fn what_an_upstream_asks_about_one_request_is_bounded() {
    let mut bench = Bench::new(settings());
    let trip = bench.relay_as(&forward(1, Method::ToolsCall), LEGACY).expect("it is taken");
    let (link, _) = bench.serve_sessions("s").remove(0);
    assert_eq!(bench.bytes(link, "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"), []);
    let text = "x".repeat(limits::UPSTREAM_ANSWER_BYTES_MAX / 3);
    let question =
        format!("data: {{\"jsonrpc\":\"2.0\",\"id\":7,\"method\":\"elicitation/create\",\"params\":{{\"message\":\"{text}\"}}}}\n\n");
    for _ in 0..2 {
        assert_eq!(bench.bytes(link, &question), [(1, Told::Asks("7".to_owned()))]);
    }
    assert_eq!(bench.bytes(link, &question), []);
    assert!(bench.fed()[0].1.contains("-32601"), "it is told so");
    // When the others are answered, there is room again.
    for _ in 0..2 {
        bench.gateway.answer(bench.now, trip, "7", Ok(b"{}"));
    }
    bench.take();
    assert_eq!(bench.bytes(link, &question), [(1, Told::Asks("7".to_owned()))]);
}

#[test]
fn an_upstream_that_tells_of_changes_all_the_time_is_asked_less_and_less_often() {
    let caching = r#""resultType":"complete","ttlMs":0,"cacheScope":"private""#;
    let mut bench = Bench::new(settings());
    bench.gateway.watch(bench.now, 0);
    bench.pass(Duration::ZERO);
    let (mut listen, mut asked, mut paused) = (None, 0, 0);
    for _ in 0..2000 {
        bench.pass(Duration::from_millis(5));
        for effect in std::mem::take(&mut bench.effects) {
            match effect {
                Effect::Dial { link, .. } => bench.up(link),
                Effect::Throttle { is_paused, .. } => paused += i32::from(is_paused),
                _ => {}
            }
        }
        for (link, request) in bench.fed() {
            let id = request.split("\"id\":").nth(1).and_then(|rest| rest.split(',').next()).expect("an id").to_owned();
            let result = if request.contains("server/discover") {
                format!(r#"{{"supportedVersions":["2026-07-28"],"capabilities":{{"tools":{{"listChanged":true}}}},{caching}}}"#)
            } else if request.contains("tools/list") {
                asked += 1;
                format!(r#"{{"tools":[],{caching}}}"#)
            } else {
                listen = Some(link);
                bench.bytes(link, "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n");
                continue;
            };
            bench.bytes(link, &response(&format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{result}}}"#)));
        }
        if let Some(link) = listen {
            bench.bytes(link, &"data: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/tools/list_changed\"}\n\n".repeat(20));
        }
    }
    // Ten seconds: without restraint it would be two hundred times.
    assert!((3..=12).contains(&asked), "{asked}");
    assert!(paused >= asked - 2, "what nobody needs is not read: {paused} {asked}");
}
