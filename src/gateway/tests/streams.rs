//! Streams that end before their answer, and are taken up again.

use super::*;
use crate::base::limits;
use crate::base::metrics::Counter;

const LEGACY: Version = Version::V2025_11_25;
const STREAM: &str = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n";
const CHUNKED: &str = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";

fn chunk(text: &str) -> String {
    format!("{:x}\r\n{text}\r\n", text.len())
}

/// A call of a legacy upstream that is sent: its link.
fn called(bench: &mut Bench, method: Method) -> LinkId {
    bench.relay_as(&forward(1, method), LEGACY).expect("it is taken");
    let sent = bench.serve_sessions("s");
    assert_eq!(sent.len(), 1, "{sent:?}");
    sent[0].0
}

/// What was asked for over a link that was up already, or is made now.
fn asked(bench: &mut Bench) -> (LinkId, String) {
    for link in bench.dialled() {
        bench.up(link);
    }
    let mut fed = bench.fed();
    assert_eq!(fed.len(), 1, "{fed:?}");
    fed.remove(0)
}

fn answer(id: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{"content":[]}}}}"#)
}

#[test]
fn a_stream_that_ends_before_its_answer_is_taken_up_with_a_get_and_the_call_is_not_repeated() {
    // It may end in good order, or with its connection.
    for is_closed in [false, true] {
        let mut bench = Bench::new(settings());
        let link = called(&mut bench, Method::ToolsCall);
        let prime = "id: e-1\nretry: 500\ndata: \n\n";
        let told = if is_closed {
            assert_eq!(bench.bytes(link, &format!("{STREAM}{prime}")), []);
            bench.event(link, LinkEvent::End)
        } else {
            bench.bytes(link, &format!("{CHUNKED}{}0\r\n\r\n", chunk(prime)))
        };
        assert_eq!(told, [(1, Told::Apart(500))]);
        assert_eq!(bench.pass(Duration::from_millis(499)), []);
        assert_eq!(bench.fed(), [], "it waits as long as it was told to");
        assert_eq!(bench.pass(Duration::from_millis(1)), []);
        let (link, get) = asked(&mut bench);
        assert!(get.starts_with("GET /mcp HTTP/1.1\r\n") && get.ends_with("Last-Event-ID: e-1\r\n\r\n"), "{get}");
        assert!(get.contains("MCP-Session-Id: s\r\n") && get.contains("Accept: text/event-stream\r\n"), "{get}");
        // The next stream ends, too, without another word of how long to wait.
        assert_eq!(bench.bytes(link, &format!("{CHUNKED}{}0\r\n\r\n", chunk("id: e-2\ndata:\n\n"))), [(1, Told::Apart(500))]);
        bench.pass(Duration::from_millis(500));
        let (link, get) = asked(&mut bench);
        assert!(get.ends_with("Last-Event-ID: e-2\r\n\r\n"), "{get}");
        let told = bench.bytes(link, &format!("{STREAM}id: e-3\ndata: {}\n\n", answer("1")));
        assert!(matches!(&told[..], [(1, Told::Answer(200, _))]), "{told:?}");
        assert_eq!(bench.metrics.counter(Counter::UpstreamRejoins), 2);
        assert_eq!(bench.metrics.counter(Counter::UpstreamFailures), 0);
    }
}

#[test]
fn a_stream_without_an_id_or_of_the_modern_era_is_lost() {
    let mut bench = Bench::new(settings());
    let link = called(&mut bench, Method::ToolsCall);
    assert_eq!(bench.bytes(link, &format!("{STREAM}retry: 5\ndata:\n\n")), []);
    assert_eq!(bench.event(link, LinkEvent::End), failed(1, Failure::Closed));
    let mut bench = Bench::new(settings());
    bench.relay(1).expect("it is taken");
    let link = bench.dialled()[0];
    bench.up(link);
    assert_eq!(bench.bytes(link, &format!("{STREAM}id: 1\ndata:\n\n")), []);
    assert_eq!(bench.event(link, LinkEvent::End), failed(1, Failure::Closed));
    // An id that cannot be said back.
    let mut bench = Bench::new(settings());
    let link = called(&mut bench, Method::ToolsCall);
    assert_eq!(bench.bytes(link, &format!("{STREAM}id: {}\ndata:\n\n", "x".repeat(limits::UPSTREAM_EVENT_ID_BYTES_MAX + 1))), []);
    assert_eq!(bench.event(link, LinkEvent::End), failed(1, Failure::Closed));
}

#[test]
fn an_upstream_that_does_not_go_on_fails_the_call() {
    // It says so. What changes nothing is asked again.
    for (method, is_repeated) in [(Method::ToolsCall, false), (Method::ResourcesRead, true)] {
        let mut bench = Bench::new(settings());
        let link = called(&mut bench, method);
        assert_eq!(bench.bytes(link, &format!("{CHUNKED}{}0\r\n\r\n", chunk("id: 1\ndata:\n\n"))), [(1, Told::Apart(1000))]);
        bench.pass(Duration::from_secs(1));
        let (link, _) = asked(&mut bench);
        let told = bench.bytes(link, &status("405 Method Not Allowed", ""));
        if is_repeated {
            assert_eq!(told, []);
            assert!(asked(&mut bench).1.contains(r#""method":"resources/read""#));
        } else {
            assert_eq!(told, failed(1, Failure::Closed));
        }
    }
    // It ends the stream again and again, and nothing new is heard.
    let mut bench = Bench::new(Settings { total_timeout: Duration::from_mins(10), ..settings() });
    let mut link = called(&mut bench, Method::ToolsCall);
    for _ in 0..limits::UPSTREAM_REJOINS_MAX {
        assert_eq!(bench.bytes(link, &format!("{CHUNKED}{}0\r\n\r\n", chunk("id: 1\nretry: 0\ndata:\n\n"))), [(1, Told::Apart(100))]);
        bench.pass(Duration::from_millis(100));
        link = asked(&mut bench).0;
    }
    assert_eq!(bench.bytes(link, &format!("{CHUNKED}0\r\n\r\n")), failed(1, Failure::Closed));
    // It wants more time than the call has.
    let mut bench = Bench::new(settings());
    let link = called(&mut bench, Method::ToolsCall);
    let told = bench.bytes(link, &format!("{CHUNKED}{}0\r\n\r\n", chunk("id: 1\nretry: 60000\ndata:\n\n")));
    assert_eq!(told, failed(1, Failure::Closed));
}

#[test]
fn a_call_is_called_off_while_its_stream_is_apart() {
    let mut bench = Bench::new(settings());
    let trip = bench.relay_as(&forward(1, Method::ToolsCall), LEGACY).expect("it is taken");
    let link = bench.serve_sessions("s")[0].0;
    assert_eq!(bench.bytes(link, &format!("{CHUNKED}{}0\r\n\r\n", chunk("id: 1\ndata:\n\n"))), [(1, Told::Apart(1000))]);
    bench.gateway.cancel(bench.now, trip);
    bench.take();
    assert!(asked(&mut bench).1.contains("notifications/cancelled"));
    assert_eq!(bench.pass(Duration::from_secs(2)), []);
    assert_eq!(bench.fed(), [], "nobody asks for the rest");
}
