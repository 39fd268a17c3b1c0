//! Sessions of owners: each its own, opened once, ended once.

use serde_json::Value;

use super::*;
use crate::base::ids::SessionKey;
use crate::base::limits;
use crate::gateway::Digest;
use crate::wire::mcp::ClientCapabilities;

const LEGACY: Version = Version::V2025_11_25;
const ACCEPTED: &str = "HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n";

fn session(index: u32) -> Owner {
    Owner::Session(SessionKey { index, generation: 1 })
}

fn principal(name: &str) -> Owner {
    Owner::Principal(Digest::new(name.as_bytes()))
}

fn of(owner: Owner, index: u32) -> Forward<'static> {
    Forward { owner, speaks: Version::V2025_06_18, ..forward(index, Method::ToolsCall) }
}

/// An upstream that gives out sessions, and what it has seen.
struct Server {
    bench: Bench,
    /// The parameters of each `initialize`; the session has its place as id.
    opened: Vec<Value>,
    ended: Vec<String>,
    /// Methods with the session that each came in, its link, and its id.
    asked: Vec<(String, String, LinkId, Value)>,
    gives_ids: bool,
    /// It answers no request but `initialize`.
    is_slow: bool,
    told: Vec<(u32, Told)>,
}

impl Server {
    fn new(settings: Settings) -> Self {
        let bench = Bench::new(settings);
        Self { bench, opened: Vec::new(), ended: Vec::new(), asked: Vec::new(), gives_ids: true, is_slow: false, told: Vec::new() }
    }

    fn call(&mut self, owner: Owner, index: u32) -> Result<TripId, Failure> {
        let trip = self.bench.relay_as(&of(owner, index), LEGACY);
        self.serve();
        trip
    }

    fn pass(&mut self, duration: Duration) {
        let told = self.bench.pass(duration);
        self.told.extend(told);
        self.serve();
    }

    /// Answers until nothing is left to be answered.
    fn serve(&mut self) {
        loop {
            for link in self.bench.dialled() {
                self.bench.up(link);
            }
            let fed = self.bench.fed();
            if fed.is_empty() {
                return;
            }
            for (link, text) in fed {
                if let Some(answer) = self.answer(link, &text) {
                    let told = self.bench.bytes(link, &answer);
                    self.told.extend(told);
                }
            }
        }
    }

    fn answer(&mut self, link: LinkId, text: &str) -> Option<String> {
        let id = text.lines().find_map(|line| line.strip_prefix("MCP-Session-Id: ")).unwrap_or_default().to_owned();
        if text.starts_with("DELETE") {
            self.ended.push(id);
            return Some("HTTP/1.1 204 No Content\r\n\r\n".to_owned());
        }
        let message: Value = serde_json::from_str(text.split_once("\r\n\r\n")?.1).expect("JSON");
        let method = message["method"].as_str().unwrap_or_default().to_owned();
        if method == "initialize" {
            let result =
                r#"{"protocolVersion":"2025-06-18","capabilities":{"logging":{},"tools":{}},"serverInfo":{"name":"s","version":"1"}}"#;
            let answer = response(&format!(r#"{{"jsonrpc":"2.0","id":{},"result":{result}}}"#, message["id"]));
            let id = self.opened.len();
            self.opened.push(message["params"].clone());
            return Some(if self.gives_ids { answer.replacen("\r\n", &format!("\r\nMcp-Session-Id: {id}\r\n"), 1) } else { answer });
        }
        self.asked.push((method.clone(), id.clone(), link, message["id"].clone()));
        if method.starts_with("notifications/") {
            return Some(ACCEPTED.to_owned());
        }
        if self.ended.contains(&id) && self.gives_ids {
            return Some(status("404 Not Found", ""));
        }
        (!self.is_slow).then(|| response(&format!(r#"{{"jsonrpc":"2.0","id":{},"result":{{"content":[]}}}}"#, message["id"])))
    }

    /// The sessions that calls came in.
    fn called_in(&self) -> Vec<&str> {
        self.asked.iter().filter(|(method, ..)| method == "tools/call").map(|(_, id, ..)| id.as_str()).collect()
    }

    fn answered(&mut self) -> Vec<u32> {
        let told = std::mem::take(&mut self.told);
        told.into_iter().map(|(index, told)| if matches!(told, Told::Answer(200, _)) { index } else { panic!("{told:?}") }).collect()
    }
}

#[test]
fn each_owner_has_a_session_that_is_its_own_and_ends_with_it() {
    let mut server = Server::new(settings());
    let info = br#"{"name":"c","version":"7"}"#;
    let capabilities = ClientCapabilities::ELICITATION_FORM.with(ClientCapabilities::TASKS);
    let one = Forward { client_info: Some(info), capabilities, ..of(session(1), 1) };
    server.bench.relay_as(&one, LEGACY).expect("it is taken");
    server.serve();
    for (owner, index) in [(session(1), 2), (session(2), 3), (principal("p"), 4), (principal("q"), 5), (principal("p"), 6)] {
        server.call(owner, index).expect("it is taken");
    }
    assert_eq!(server.answered(), [1, 2, 3, 4, 5, 6]);
    assert_eq!(server.called_in(), ["0", "0", "1", "2", "3", "2"]);
    let own = &server.opened[0];
    assert_eq!((&own["clientInfo"]["version"], &own["protocolVersion"]), (&"7".into(), &"2025-06-18".into()), "{own}");
    assert!(own["capabilities"]["elicitation"].is_object() && own["capabilities"].as_object().expect("an object").len() == 1, "{own}");
    assert!(server.opened[2]["capabilities"]["roots"].is_object(), "{:?}", server.opened);
    server.bench.gateway.end_owner(server.bench.now, session(1));
    server.bench.gateway.end_owner(server.bench.now, session(1));
    server.pass(Duration::ZERO);
    assert_eq!(server.ended, ["0"]);
    // The others go on, and whoever comes with that name next is somebody else.
    server.call(session(2), 7).expect("it is taken");
    server.call(session(1), 8).expect("it is taken");
    assert_eq!(server.called_in()[6..], ["1", "4"]);
    // A principal does not say that it is done.
    server.call(principal("p"), 9).expect("it is taken");
    for _ in 0..40 {
        server.pass(Duration::from_secs(10));
    }
    assert_eq!(server.ended, ["0", "2", "3"]);
    server.bench.gateway.on_drain(server.bench.now);
    server.pass(Duration::ZERO);
    server.ended.sort();
    assert_eq!(server.ended, ["0", "1", "2", "3", "4"]);
    assert!(server.bench.gateway.is_settled() && server.bench.gateway.owners.len() == 0);
}

#[test]
fn what_gives_no_ids_or_is_configured_so_is_shared() {
    let mut server = Server::new(settings());
    server.gives_ids = false;
    for index in 1..5 {
        server.call(session(index), index).expect("it is taken");
    }
    assert_eq!(server.answered(), [1, 2, 3, 4]);
    assert!(server.opened.len() == 2 && server.bench.gateway.owners.len() == 0, "the first, and one for all others");
    let options = crate::gateway::config::Options { shares_sessions: true, ..Default::default() };
    let mut server = Server::new(Settings { options, ..settings() });
    for index in 1..5 {
        server.call(session(index), index).expect("it is taken");
    }
    assert_eq!((server.answered(), server.opened.len()), (vec![1, 2, 3, 4], 1));
}

#[test]
fn a_session_that_was_lost_is_opened_again_for_its_owner_alone() {
    let mut server = Server::new(settings());
    server.call(session(1), 1).expect("it is taken");
    server.call(session(2), 2).expect("it is taken");
    server.ended.push("0".to_owned());
    server.call(session(2), 3).expect("it is taken");
    server.call(session(1), 4).expect("it is taken");
    assert_eq!(server.answered(), [1, 2, 3, 4]);
    assert_eq!(server.called_in(), ["0", "1", "1", "0", "2"]);
    assert_eq!(server.opened[2], server.opened[0], "as it was opened first");
}

#[test]
fn as_many_principals_as_may_have_sessions_and_idle_ones_give_way() {
    let mut server = Server::new(Settings { in_flight_max: 2000, queued_max: 2000, ..settings() });
    let max = limits::UPSTREAM_PRINCIPALS_MAX as u32;
    for index in 0..max + 3 {
        server.call(principal(&index.to_string()), index).expect("it is taken");
        server.pass(Duration::from_millis(1));
    }
    assert_eq!(server.ended, ["0", "1", "2"], "those that were idle for longest");
    assert_eq!(server.bench.gateway.owners.len(), limits::UPSTREAM_PRINCIPALS_MAX);
    server.is_slow = true;
    let base = max + 3;
    for index in 0..max {
        server.call(principal(&format!("slow {index}")), base + index).expect("it is taken");
    }
    assert_eq!(server.call(principal("one more"), 0), Err(Failure::Sessions));
    assert!(server.call(session(9), 0).is_ok(), "that is no matter of sessions of the legacy era");
}

#[test]
fn ends_are_told_a_few_at_a_time_and_once() {
    let mut server = Server::new(Settings { in_flight_max: 8, queued_max: 8, ..settings() });
    for index in 0..100 {
        server.call(session(index), index).expect("it is taken");
    }
    for index in 0..100 {
        server.bench.gateway.end_owner(server.bench.now, session(index));
    }
    server.bench.pass(Duration::ZERO);
    let under_way = server.bench.fed().into_iter().filter(|(_, text)| text.starts_with("DELETE")).count();
    assert!(under_way <= limits::UPSTREAM_ENDS_MAX, "{under_way}");
    // Nobody answers: each is given up, and none is told again.
    let mut told = under_way;
    for _ in 0..100 {
        server.bench.pass(Duration::from_secs(6));
        for link in server.bench.dialled() {
            server.bench.up(link);
        }
        told += server.bench.fed().into_iter().filter(|(_, text)| text.starts_with("DELETE")).count();
    }
    assert_eq!(told, 100);
    assert!(server.bench.gateway.is_settled() && server.bench.gateway.trips.len() == 0);
}

#[test]
fn a_session_whose_owner_leaves_while_it_is_opened_is_ended_when_it_is_there() {
    for is_draining in [false, true] {
        let mut server = Server::new(settings());
        let trip = server.bench.relay_as(&of(session(1), 1), LEGACY).expect("it is taken");
        server.bench.gateway.cancel(server.bench.now, trip);
        if is_draining {
            server.bench.gateway.on_drain(server.bench.now);
            assert!(!server.bench.gateway.is_settled());
        } else {
            server.bench.gateway.end_owner(server.bench.now, session(1));
        }
        server.bench.take();
        server.serve();
        server.pass(Duration::ZERO);
        assert_eq!((server.opened.len(), &*server.ended), (1, &["0".to_owned()][..]), "{is_draining}");
        assert!(server.called_in().is_empty() && server.bench.gateway.is_settled());
    }
}

#[test]
fn the_level_that_a_client_sets_is_told_before_its_next_call() {
    let mut server = Server::new(settings());
    let with = |level, index| Forward { wanted: level, ..of(session(1), index) };
    for (level, index) in [(None, 1), (Some(Level::Error), 2), (Some(Level::Error), 3), (Some(Level::Debug), 4)] {
        server.bench.relay_as(&with(level, index), LEGACY).expect("it is taken");
        server.serve();
    }
    let methods: Vec<_> = server.asked.iter().map(|(method, id, ..)| (method.as_str(), id.as_str())).collect();
    let (told, level, call) = (("notifications/initialized", "0"), ("logging/setLevel", "0"), ("tools/call", "0"));
    assert_eq!(methods, [told, call, level, call, call, level, call]);
    assert_eq!(server.answered(), [1, 2, 3, 4]);
}

#[test]
fn a_shared_session_that_is_replaced_is_ended_when_nothing_is_in_work_there() {
    let options = crate::gateway::config::Options { shares_sessions: true, ..Default::default() };
    let mut server = Server::new(Settings { options, dialect: Dialect::Legacy, ..settings() });
    server.bench.gateway.watch(server.bench.now, 0);
    server.pass(Duration::from_secs(1));
    assert_eq!(server.opened.len(), 1);
    server.is_slow = true;
    server.pass(Duration::from_secs(20));
    // The scout waits for a list, and gives up before the call has to.
    server.pass(Duration::from_secs(6));
    server.call(session(1), 1).expect("it is taken");
    for _ in 0..6 {
        server.pass(Duration::from_secs(1));
    }
    assert!(server.opened.len() == 2 && server.ended.is_empty(), "{:?}", server.ended);
    let (_, id, link, number) = server.asked.iter().rfind(|(method, ..)| method == "tools/call").cloned().expect("it was sent");
    let told = server.bench.bytes(link, &response(&format!(r#"{{"jsonrpc":"2.0","id":{number},"result":{{"content":[]}}}}"#)));
    assert!(matches!(told[..], [(1, Told::Answer(200, _))]), "{told:?}");
    server.pass(Duration::ZERO);
    assert_eq!((id.as_str(), &*server.ended), ("0", &["0".to_owned()][..]));
}

#[test]
fn a_session_that_is_opened_at_the_end_of_the_process_is_ended_with_its_call() {
    let mut server = Server::new(settings());
    server.bench.gateway.on_drain(server.bench.now);
    server.call(session(1), 1).expect("it is taken");
    assert_eq!(server.answered(), [1]);
    server.pass(Duration::ZERO);
    assert!(server.ended == ["0"] && server.bench.gateway.is_settled());
}

#[test]
fn the_scout_takes_the_session_that_a_call_is_opening() {
    let options = crate::gateway::config::Options { shares_sessions: true, ..Default::default() };
    let mut server = Server::new(Settings { options, dialect: Dialect::Legacy, ..settings() });
    server.bench.relay_as(&of(session(1), 1), LEGACY).expect("it is taken");
    server.bench.gateway.watch(server.bench.now, 0);
    server.bench.pass(Duration::from_millis(1));
    server.serve();
    server.pass(Duration::from_secs(1));
    assert_eq!((server.answered(), server.opened.len(), server.called_in()), (vec![1], 1, vec!["0"]));
    assert!(server.asked.iter().any(|(method, ..)| method == "tools/list"), "{:?}", server.asked);
}
