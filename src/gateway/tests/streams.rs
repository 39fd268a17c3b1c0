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

/// A modern upstream as its scout sees it: the stream of changes stays open.
struct Scouted {
    bench: Bench,
    /// The streams of changes that were opened and not hung up, and what each was asked for.
    listens: Vec<(LinkId, String)>,
    /// When the tools were listed.
    listings: Vec<Nanos>,
}

impl Scouted {
    fn new() -> Self {
        let mut bench = Bench::new(settings());
        bench.gateway.watch(bench.now, 0);
        let mut scouted = Self { bench, listens: Vec::new(), listings: Vec::new() };
        scouted.pass(Duration::from_secs(1));
        assert_eq!(scouted.listens.len(), 1);
        scouted
    }

    fn pass(&mut self, duration: Duration) {
        for _ in 0..duration.as_millis() / 10 {
            assert_eq!(self.bench.pass(Duration::from_millis(10)), []);
            self.serve();
        }
    }

    /// Answers what the scout asks.
    fn serve(&mut self) {
        loop {
            let (mut dialled, mut hung) = (Vec::new(), Vec::new());
            for effect in std::mem::take(&mut self.bench.effects) {
                match effect {
                    Effect::Dial { link, .. } => dialled.push(link),
                    Effect::Hang { link } => hung.push(link),
                    _ => {}
                }
            }
            self.listens.retain(|(link, _)| !hung.contains(link));
            dialled.into_iter().filter(|link| !hung.contains(link)).for_each(|link| self.bench.up(link));
            let fed = self.bench.fed();
            if fed.is_empty() {
                return;
            }
            for (link, text) in fed {
                let id = super::hostile::id_of(&text);
                let result = |result: &str| response(&format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{result}}}"#));
                let told = if text.contains("server/discover") {
                    let capabilities = r#"{"tools":{"listChanged":true},"resources":{"subscribe":true}}"#;
                    self.bench.bytes(link, &result(&format!(r#"{{"supportedVersions":["2026-07-28"],"capabilities":{capabilities}}}"#)))
                } else if text.contains(r#""subscriptions/listen""#) {
                    self.listens.push((link, text));
                    self.bench.bytes(link, STREAM)
                } else {
                    if text.contains(r#""tools/list""#) {
                        self.listings.push(self.bench.now);
                    }
                    self.bench.bytes(link, &result("{}"))
                };
                assert_eq!(told, []);
            }
        }
    }

    /// Says something on the newest stream of changes.
    fn say(&mut self, method: &str, params: &str) {
        let (link, _) = self.listens.last().expect("a stream");
        let message = format!(r#"data: {{"jsonrpc":"2.0","method":"notifications/{method}","params":{params}}}"#);
        assert_eq!(self.bench.bytes(*link, &format!("{message}\n\n")), []);
        self.serve();
    }
}

#[test]
fn lists_that_change_and_change_are_asked_for_less_and_less_often() {
    let mut scouted = Scouted::new();
    scouted.pass(Duration::from_secs(25));
    let before = scouted.listings.len();
    let changed = scouted.bench.now;
    for _ in 0..3000 {
        scouted.say("tools/list_changed", "{}");
        scouted.pass(Duration::from_millis(10));
    }
    let flood = &scouted.listings[before..];
    assert!(flood[0].since(changed) <= Duration::from_millis(100), "the first reaction is quick");
    assert!((8..=16).contains(&flood.len()), "{} listings in half a minute", flood.len());
    // When it is quiet again, it is quick again.
    scouted.pass(Duration::from_secs(40));
    let (before, changed) = (scouted.listings.len(), scouted.bench.now);
    scouted.say("tools/list_changed", "{}");
    scouted.pass(Duration::from_millis(100));
    assert_eq!(scouted.listings.len(), before + 1);
    assert!(scouted.listings[before].since(changed) <= Duration::from_millis(100));
}

#[test]
fn a_stream_of_changes_gives_way_to_one_that_names_more() {
    let mut scouted = Scouted::new();
    let want = |scouted: &mut Scouted, uri: &str, is_wanted: bool| {
        scouted.bench.gateway.want_updates(scouted.bench.now, 0, CoreId(1), uri, is_wanted);
        scouted.pass(Duration::from_millis(500));
    };
    want(&mut scouted, "a:1", true);
    assert_eq!(scouted.listens.len(), 2, "the first one stays until the second is acknowledged");
    assert!(scouted.listens[1].1.contains(r#""toolsListChanged":true,"resourceSubscriptions":["a:1"]"#), "{}", scouted.listens[1].1);
    scouted.say("subscriptions/acknowledged", "{}");
    assert_eq!(scouted.listens.len(), 1);
    // Before the next one is acknowledged another is needed.
    want(&mut scouted, "a:2", true);
    want(&mut scouted, "a:3", true);
    assert_eq!(scouted.listens.len(), 2);
    assert!(scouted.listens[0].1.contains(r#"["a:1"]"#) && scouted.listens[1].1.contains("a:3"), "{:?}", scouted.listens);
    scouted.say("subscriptions/acknowledged", "{}");
    assert_eq!(scouted.listens.len(), 1);
    // What is updated is told once in a while, and to those who want to hear of it.
    scouted.bench.gateway.take_news();
    (0..10).for_each(|_| scouted.say("resources/updated", r#"{"uri":"a:1"}"#));
    scouted.say("resources/updated", r#"{"uri":"a:9"}"#);
    scouted.pass(Duration::from_millis(100));
    let news = scouted.bench.gateway.take_news();
    let told: Vec<_> =
        news.iter().filter(|news| matches!(&news.finding, crate::gateway::Finding::Updated { uri, .. } if &**uri == "a:1")).collect();
    assert_eq!((told.len(), news.len()), (2, 2), "{news:?}");
    for uri in ["a:1", "a:2", "a:3"] {
        want(&mut scouted, uri, false);
    }
    scouted.say("subscriptions/acknowledged", "{}");
    assert!(scouted.listens.len() == 1 && !scouted.listens[0].1.contains("resourceSubscriptions"), "{:?}", scouted.listens);
}
