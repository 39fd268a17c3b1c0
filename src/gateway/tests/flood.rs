//! Upstreams that say more than is of use: how much of it is heard, and what becomes of their answers.

use super::hostile::id_of;
use super::*;
use crate::base::limits::{
    BREAKER_FAILURES_MAX, CHATTER_BYTES_MAX, CHATTER_BYTES_PER_SECOND, CHATTER_BYTES_PER_SECOND_AND_CALL, UPSTREAM_ANSWER_BYTES_MAX,
};
use crate::gateway::link::Command;

const STREAM: &str = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n";
const PROGRESS: &str = r#"{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":"x","progress":1}}"#;
const STEP: Duration = Duration::from_millis(5);
const SECONDS: u64 = 8;

impl Bench {
    /// Whether the shell was told to stop reading this link since it was asked last, or to go on.
    fn is_paused(&mut self, link: LinkId) -> Option<bool> {
        let told = |effect: Effect| match effect {
            Effect::Throttle { link: which, is_paused } if which == link => Some(is_paused),
            _ => None,
        };
        std::mem::take(&mut self.effects).into_iter().filter_map(told).last()
    }

    /// One request whose answer is so long that it is refused, and does not say so.
    fn relay_too_large(&mut self, index: u32) -> Vec<(u32, Told)> {
        self.relay(index).expect("it is taken");
        let link = self.dialled()[0];
        self.up(link);
        self.bytes(link, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n");
        self.bytes(link, &" ".repeat(UPSTREAM_ANSWER_BYTES_MAX));
        self.bytes(link, " ")
    }

    /// The upstream says this again and again for a while, as fast as it is read. How much of it was.
    fn pour(&mut self, link: LinkId, piece: &str) -> u64 {
        let (mut heard, mut is_paused) = (0, false);
        let until = self.now.after(Duration::from_secs(SECONDS));
        while self.now < until {
            for _ in 0..64 {
                is_paused = self.is_paused(link).unwrap_or(is_paused);
                if !is_paused {
                    self.bytes(link, piece);
                    heard += piece.len() as u64;
                }
            }
            self.pass(STEP);
        }
        heard
    }
}

fn process() -> Settings {
    let command = Command { name: "u".into(), program: "p".into(), args: Box::new([]), env: Box::new([]), cwd: None };
    Settings { dial: Arc::new(Dial::Child(Box::new(command))), ..settings() }
}

/// What may be heard in that time, of one request in work.
const FAIR: u64 = CHATTER_BYTES_MAX + SECONDS * (CHATTER_BYTES_PER_SECOND + CHATTER_BYTES_PER_SECOND_AND_CALL);

#[test]
fn what_answers_nothing_is_heard_at_a_steady_rate_and_the_answer_comes() {
    let noise = [format!("data: {PROGRESS}\n\n"), ": nothing\n\n".to_owned()];
    for noise in noise {
        let mut bench = Bench::new(settings());
        bench.relay(1).expect("it is taken");
        let link = bench.dialled()[0];
        bench.up(link);
        bench.bytes(link, STREAM);
        let heard = bench.pour(link, &noise.repeat(100));
        assert!((FAIR / 100..FAIR + FAIR / 4).contains(&heard), "{noise:?}: {heard} of {FAIR}");
        let told = bench.bytes(link, &format!("data: {ANSWER}\n\n"));
        assert_eq!(told, [(1, Told::Answer(200, ANSWER.to_owned()))]);
    }
}

#[test]
fn what_a_process_says_besides_is_heard_at_a_steady_rate_and_the_answer_comes() {
    for noise in [PROGRESS, "what is no message", r#"{"jsonrpc":"2.0","id":77,"result":{}}"#] {
        let mut bench = Bench::new(process());
        bench.relay_as(&forward(1, Method::ToolsCall), Version::V2026_07_28).expect("it is taken");
        let link = bench.dialled()[0];
        bench.up(link);
        let id = id_of(&bench.fed()[0].1);
        let heard = bench.pour(link, &format!("{noise}\n").repeat(100));
        assert!((FAIR / 100..FAIR + FAIR / 4).contains(&heard), "{noise}: {heard} of {FAIR}");
        let told = bench.bytes(link, &format!("{{\"jsonrpc\":\"2.0\",\"id\":{id},\"result\":{{\"resultType\":\"complete\"}}}}\n"));
        assert!(matches!(&told[..], [(1, Told::Answer(200, _))]), "{told:?}");
    }
}

#[test]
fn answers_are_read_as_fast_as_they_come() {
    // Over HTTP, as streams; three times what an upstream may say in vain.
    let mut bench = Bench::new(settings());
    let content = "x".repeat(UPSTREAM_ANSWER_BYTES_MAX / 2);
    let result = format!(r#"{{"jsonrpc":"2.0","id":1,"result":{{"content":[],"x":"{content}","resultType":"complete"}}}}"#);
    for index in 0..(3 * CHATTER_BYTES_MAX / content.len() as u64) as u32 {
        bench.relay(index).expect("it is taken");
        let link = bench.dialled()[0];
        bench.up(link);
        let told = bench.bytes(link, &format!("{STREAM}data: {result}\n\n"));
        assert!(matches!(&told[..], [(_, Told::Answer(200, _))]), "{index}");
        assert_eq!(bench.event(link, LinkEvent::End), []);
        assert_eq!(bench.is_paused(link), None);
    }
    // From a process.
    let mut bench = Bench::new(process());
    let mut link = None;
    for index in 0..(3 * CHATTER_BYTES_MAX / content.len() as u64) as u32 {
        bench.relay_as(&forward(index, Method::ToolsCall), Version::V2026_07_28).expect("it is taken");
        let link = *link.get_or_insert_with(|| bench.dialled()[0]);
        let id = id_of(&bench.fed()[0].1);
        let told = bench.bytes(link, &format!("{}\n", result.replacen("\"id\":1", &format!("\"id\":{id}"), 1)));
        assert!(matches!(&told[..], [(_, Told::Answer(200, _))]), "{index}");
        assert_eq!(bench.is_paused(link), None);
    }
}

#[test]
fn a_client_that_reads_again_does_not_end_its_upstreams_rest() {
    let mut bench = Bench::new(settings());
    let trip = bench.relay(1).expect("it is taken");
    let link = bench.dialled()[0];
    bench.up(link);
    bench.bytes(link, STREAM);
    let piece = format!("data: {PROGRESS}\n\n").repeat(1000);
    let is_paused = (0..1000).find_map(|_| {
        bench.bytes(link, &piece);
        bench.is_paused(link)
    });
    assert_eq!(is_paused, Some(true));
    for is_choked in [true, false] {
        bench.gateway.choke(trip, is_choked);
        bench.take();
        assert_eq!(bench.is_paused(link), None, "it is paused already");
    }
    bench.pass(Duration::from_secs(2));
    assert_eq!(bench.is_paused(link), Some(false));
}

#[test]
fn one_answer_that_is_too_large_is_no_failure_of_the_upstream_and_many_at_once_are() {
    // A client that does not learn.
    let mut bench = Bench::new(settings());
    for index in 0..4 * BREAKER_FAILURES_MAX {
        assert_eq!(bench.relay_too_large(index), failed(index, Failure::TooLarge));
        bench.pass(Duration::from_secs(3));
        bench.hung();
    }
    // Many.
    let mut bench = Bench::new(settings());
    for index in 0..1 + BREAKER_FAILURES_MAX {
        assert_eq!(bench.relay_too_large(index), failed(index, Failure::TooLarge));
        bench.hung();
    }
    assert_eq!(bench.relay(100), Err(Failure::Resting));
    // Those that say how long they are cost nobody anything.
    let mut bench = Bench::new(settings());
    for index in 0..100 {
        bench.relay(index).expect("it is taken");
        let link = bench.dialled()[0];
        bench.up(link);
        let told = bench.bytes(link, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 10000000000\r\n\r\n");
        assert_eq!(told, failed(index, Failure::TooLarge));
        bench.hung();
    }
}

#[test]
fn an_upstream_that_is_doubted_is_asked_for_stale_lists_at_once() {
    let caching = r#""resultType":"complete","ttlMs":0,"cacheScope":"private""#;
    let mut bench = Bench::new(settings());
    bench.gateway.watch(bench.now, 0);
    let (mut listen, mut lists) = (None, 0);
    let mut serve = |bench: &mut Bench, for_so_long: Duration| {
        let until = bench.now.after(for_so_long);
        while bench.now < until {
            bench.pass(STEP);
            for link in bench.dialled() {
                bench.up(link);
            }
            for (link, request) in bench.fed() {
                let result = if request.contains("server/discover") {
                    format!(r#"{{"supportedVersions":["2026-07-28"],"capabilities":{{"tools":{{"listChanged":true}}}},{caching}}}"#)
                } else if request.contains("tools/list") {
                    lists += 1;
                    format!(r#"{{"tools":[],{caching}}}"#)
                } else {
                    listen = Some(link);
                    bench.bytes(link, STREAM);
                    continue;
                };
                bench.bytes(link, &response(&format!(r#"{{"jsonrpc":"2.0","id":{},"result":{result}}}"#, id_of(&request))));
            }
        }
        (listen, lists)
    };
    let (listen, before) = serve(&mut bench, Duration::from_secs(5));
    bench.bytes(listen.expect("it is listened to"), "data: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/tools/list_changed\"}\n\n");
    bench.gateway.check_again(bench.now, 0);
    assert_eq!(serve(&mut bench, Duration::from_secs(1)).1, before + 1);
}
