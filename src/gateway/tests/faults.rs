//! Upstreams that break, hang, lie and flood.

use super::*;
use crate::base::limits;
use crate::base::metrics::Counter;

#[test]
fn a_request_is_sent_again_only_when_not_all_of_it_was_sent() {
    // Its end was not with the kernel yet.
    let mut bench = Bench::new(settings());
    let link = bench.warm();
    bench.relay(2).expect("it is taken");
    assert_eq!(bench.event(link, DOWN), []);
    let again = bench.dialled();
    assert_eq!((again.len(), bench.fed().len()), (1, 2), "it goes out once more");
    assert_eq!(bench.event(again[0], DOWN), failed(2, Failure::Down(Down::Reset)), "and no more than once");
    assert_eq!(bench.metrics.counter(Counter::UpstreamRetries), 1);
    // A call of a tool that may have arrived is not repeated, what changes nothing is.
    for (method, is_repeated) in [(Method::ToolsCall, false), (Method::ResourcesRead, true), (Method::PromptsGet, true)] {
        let mut bench = Bench::new(settings());
        let link = bench.warm();
        bench.relay_as(&forward(2, method), Version::V2026_07_28).expect("it is taken");
        bench.event(link, LinkEvent::Drained);
        let told = bench.event(link, LinkEvent::End);
        assert_eq!(told.is_empty(), is_repeated, "{method:?} {told:?}");
        assert_eq!(bench.dialled().len(), usize::from(is_repeated));
    }
    // Over a new link nothing is repeated: it did not die of old age.
    let mut bench = Bench::new(settings());
    bench.relay(1).expect("it is taken");
    let link = bench.dialled()[0];
    bench.event(link, LinkEvent::Up);
    assert_eq!(bench.event(link, DOWN), failed(1, Failure::Closed));
}

#[test]
fn what_is_no_answer_is_a_failure() {
    for (reply, failure) in [
        ("SSH-2.0-x\r\n\r\n".to_owned(), None),
        (response("<html>"), Some("no answer")),
        (response(r#"{"jsonrpc":"2.0","id":2,"result":{}}"#), Some("no answer")),
        (response(r#"{"jsonrpc":"2.0","id":1,"result":7}"#), Some("no answer")),
        (response(r#"{"jsonrpc":"2.0","method":"x"}"#), Some("no answer")),
        (status("502 Bad Gateway", "<html>"), Some("answered HTTP 502")),
        (status("401 Unauthorized", ""), Some("credentials")),
        (status("202 Accepted", ""), Some("no answer")),
        (status("301 Moved", r#"{"jsonrpc":"2.0","id":9,"result":{}}"#), Some("answered HTTP 301")),
        ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n".to_owned(), Some("ambiguous")),
        ("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: 0\r\n\r\n".to_owned(), Some("before it answered")),
    ] {
        let mut bench = Bench::new(settings());
        bench.relay(1).expect("it is taken");
        let link = bench.dialled()[0];
        bench.up(link);
        let told = bench.bytes(link, &reply);
        let [(1, Told::Failed(why))] = &told[..] else { panic!("{reply}: {told:?}") };
        assert!(failure.is_none_or(|failure| why.to_string().contains(failure)), "{reply}: {why}");
    }
}

#[test]
fn an_error_is_an_answer_whatever_the_status() {
    let error = r#"{"jsonrpc":"2.0","id":1,"error":{"code":-32021,"message":"m","data":{"requiredCapabilities":{}}}}"#;
    let mut bench = Bench::new(settings());
    bench.relay(1).expect("it is taken");
    let link = bench.dialled()[0];
    bench.up(link);
    assert_eq!(bench.bytes(link, &status("400 Bad Request", error)), [(1, Told::Answer(400, error.to_owned()))]);
    assert_eq!(bench.metrics.counter(Counter::UpstreamFailures), 0);
}

#[test]
fn silence_has_an_end() {
    // Before the first byte.
    let mut bench = Bench::new(settings());
    bench.relay(1).expect("it is taken");
    let link = bench.dialled()[0];
    bench.up(link);
    assert_eq!(bench.pass(Duration::from_secs(9)), []);
    assert_eq!(bench.pass(Duration::from_secs(1)), failed(1, Failure::TimedOut));
    assert_eq!(bench.hung(), [link]);
    // On a stream, and of a stream that never ends.
    let mut bench = Bench::new(settings());
    bench.relay(1).expect("it is taken");
    let link = bench.dialled()[0];
    bench.up(link);
    bench.bytes(link, "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n");
    for _ in 0..3 {
        assert_eq!(bench.pass(Duration::from_secs(19)), []);
        assert_eq!(bench.bytes(link, ":\n\n"), []);
    }
    assert_eq!(bench.pass(Duration::from_secs(4)), failed(1, Failure::TimedOut), "it has its time altogether");
    // In the queue.
    let mut bench = Bench::new(settings());
    for index in 1..=3 {
        bench.relay(index).expect("it is taken");
    }
    assert_eq!(bench.pass(Duration::from_secs(10)).len(), 3);
}

#[test]
fn answers_are_bounded() {
    let piece = "x".repeat(1024 * 1024);
    // One body.
    let mut bench = Bench::new(settings());
    bench.relay(1).expect("it is taken");
    let link = bench.dialled()[0];
    bench.up(link);
    assert_eq!(bench.bytes(link, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n"), []);
    let mut told = Vec::new();
    for _ in 0..=limits::UPSTREAM_ANSWER_BYTES_MAX / piece.len() {
        told.extend(bench.bytes(link, &piece));
    }
    assert_eq!(told, failed(1, Failure::TooLarge));
    assert_eq!((bench.hung(), bench.gateway.held), (vec![link], 0));
    // One body that says how long it is: nothing of it is read. What else its head says counts for more.
    let length = limits::UPSTREAM_ANSWER_BYTES_MAX + 1;
    for (status, failure) in [("200 OK", Failure::TooLarge), ("502 Bad Gateway", Failure::Status(502))] {
        let mut bench = Bench::new(settings());
        bench.relay(1).expect("it is taken");
        let link = bench.dialled()[0];
        bench.up(link);
        let head = format!("HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n");
        assert_eq!(bench.bytes(link, &head), failed(1, failure));
        assert_eq!((bench.hung(), bench.gateway.held), (vec![link], 0));
    }
    // One event.
    let mut bench = Bench::new(settings());
    bench.relay(1).expect("it is taken");
    let link = bench.dialled()[0];
    bench.up(link);
    assert_eq!(bench.bytes(link, "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: "), []);
    let mut told = Vec::new();
    for _ in 0..=limits::UPSTREAM_ANSWER_BYTES_MAX / piece.len() {
        told.extend(bench.bytes(link, &piece));
    }
    assert_eq!(told, failed(1, Failure::TooLarge));
    assert_eq!((bench.hung(), bench.gateway.held), (vec![link], 0));
    // Many events, of many upstreams.
    let mut bench = Bench::new(Settings { in_flight_max: 64, ..settings() });
    let mut told = Vec::new();
    for index in 0..32 {
        bench.relay(index).expect("it is taken");
        let link = bench.dialled()[0];
        bench.up(link);
        bench.bytes(link, "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: ");
        for _ in 0..3 {
            told.extend(bench.bytes(link, &piece));
        }
    }
    assert!(told.iter().all(|(_, told)| *told == Told::Failed(Failure::TooLarge)) && !told.is_empty(), "{told:?}");
    assert!(bench.gateway.held <= limits::UPSTREAM_HELD_BYTES_MAX);
}

#[test]
fn an_upstream_that_fails_again_and_again_is_left_alone_for_a_while() {
    let mut bench = Bench::new(settings());
    let mut index = 0;
    let refused = loop {
        index += 1;
        match bench.relay(index) {
            Err(failure) => break failure,
            Ok(_) => {
                let link = bench.dialled()[0];
                assert_eq!(bench.event(link, LinkEvent::Down(Down::Refused)), failed(index, Failure::Down(Down::Refused)));
            }
        }
        assert!(index < 100, "it is asked for ever");
    };
    assert_eq!(refused, Failure::Resting);
    bench.pass(Duration::from_mins(2));
    let link = bench.relay(200).map(|_| bench.dialled()[0]).expect("it is tried again");
    bench.up(link);
    assert_eq!(bench.bytes(link, &response(ANSWER)), [(200, Told::Answer(200, ANSWER.to_owned()))]);
}

#[test]
fn bytes_that_nobody_asked_for_end_the_link() {
    let mut bench = Bench::new(settings());
    let link = bench.warm();
    bench.hung();
    assert_eq!(bench.bytes(link, &response(ANSWER)), []);
    assert_eq!(bench.hung(), [link]);
}

#[test]
fn a_legacy_upstream_is_told_and_asked_in_its_session() {
    let mut bench = Bench::new(settings());
    let trip = bench.relay_as(&forward(1, Method::ToolsCall), Version::V2025_11_25).expect("it is taken");
    let first = bench.dialled()[0];
    assert!(bench.fed()[0].1.contains(r#""method":"initialize""#));
    bench.up(first);
    let result =
        r#"{"jsonrpc":"2.0","id":2,"result":{"protocolVersion":"2025-06-18","capabilities":{},"serverInfo":{"name":"s","version":"1"}}}"#;
    let opened = response(result).replacen("\r\n", "\r\nMcp-Session-Id: s-1\r\n", 1);
    assert_eq!(bench.bytes(first, &opened), []);
    let told = bench.fed();
    assert!(told[0].1.contains("notifications/initialized") && told[0].1.contains("MCP-Session-Id: s-1\r\n"), "{told:?}");
    assert_eq!(bench.bytes(first, "HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n"), []);
    let sent = bench.fed();
    assert!(
        sent[0].1.contains("MCP-Protocol-Version: 2025-06-18\r\n") && sent[0].1.contains(r#""id":1,"method":"tools/call""#),
        "{sent:?}"
    );
    // It asks something meanwhile.
    let link = sent[0].0;
    let question = r#"{"jsonrpc":"2.0","id":"q","method":"roots/list"}"#;
    let said = format!("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: {question}\n\n");
    assert_eq!(bench.bytes(link, &said), [(1, Told::Asks("\"q\"".to_owned()))]);
    assert_eq!(bench.pass(Duration::from_mins(10)), [], "a person may be slow");
    bench.fed();
    bench.gateway.answer(bench.now, trip, "\"q\"", Err(br#"{"code":-32601,"message":"no"}"#));
    bench.take();
    let answered = bench.fed();
    assert!(answered[0].1.contains(r#""id":"q","error":{"code":-32601"#), "{answered:?}");
    // Its client leaves.
    bench.gateway.cancel(bench.now, trip);
    bench.take();
    let cancelled = bench.fed();
    assert!(cancelled[0].1.contains(r#""method":"notifications/cancelled","params":{"requestId":1,"#), "{cancelled:?}");
    assert!(bench.hung().contains(&link));
    // The session is lost: the next request opens another and goes again.
    bench.relay_as(&forward(2, Method::ToolsCall), Version::V2025_11_25).expect("it is taken");
    let (link, _) = bench.fed()[0];
    bench.up(link);
    assert_eq!(
        bench.bytes(link, &status("404 Not Found", r#"{"jsonrpc":"2.0","error":{"code":-32001,"message":"Session not found"}}"#)),
        []
    );
    assert!(bench.fed().iter().any(|(_, text)| text.contains(r#""method":"initialize""#)));
}

#[test]
fn a_scout_that_is_led_in_circles_takes_its_time() {
    let mut bench = Bench::new(Settings { dialect: Dialect::Legacy, ..settings() });
    bench.gateway.watch(bench.now, 0);
    let mut asked = 0;
    for _ in 0..200 {
        bench.pass(Duration::from_millis(50));
        for link in bench.dialled() {
            bench.up(link);
        }
        // It opens every session and knows none.
        while let Some((link, text)) = bench.fed().pop() {
            asked += 1;
            let (_, body) = text.split_once("\r\n\r\n").expect("a head");
            let id = crate::wire::json::get(body.as_bytes(), "id").map(|raw| String::from_utf8_lossy(raw).into_owned());
            let reply = match id {
                Some(id) if body.contains("initialize\"") => {
                    let result = r#"{"protocolVersion":"2025-11-25","capabilities":{"tools":{}},"serverInfo":{"name":"s","version":"1"}}"#;
                    let text = response(&format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{result}}}"#));
                    text.replacen("\r\n", "\r\nMcp-Session-Id: s\r\n", 1)
                }
                Some(_) => status("404 Not Found", ""),
                None => "HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n".to_owned(),
            };
            bench.bytes(link, &reply);
            for link in bench.dialled() {
                bench.up(link);
            }
        }
    }
    assert!((6..200).contains(&asked), "{asked} requests in ten seconds");
}
