//! Clients that listen at an endpoint while what is bound to it comes and goes: what they are told, how often, and what they then find.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::client::{Client, initialize, modern, post};
use crate::control::Admin;
use crate::random::Random;
use crate::server::{Server, until};

/// No stream is told of a list more often than this.
const WINDOW: Duration = Duration::from_millis(50);
const CLIENTS: usize = 50;
/// Of so many clients one is of the legacy era.
const LEGACY_EACH: usize = 5;
const PATH: &str = "/mcp/busy";
/// Servers that come and go, of each of those that change them.
const SERVERS: usize = 6;
/// How long changes go on.
const BUSY: Duration = Duration::from_secs(3);

/// The three lists: what tells that one changed, and how one is asked for.
const LISTS: [(&str, &str, &str, &str); 3] = [
    ("notifications/tools/list_changed", "tools/list", "tools", "name"),
    ("notifications/prompts/list_changed", "prompts/list", "prompts", "name"),
    ("notifications/resources/list_changed", "resources/list", "resources", "uri"),
];

type Lists = [BTreeSet<String>; 3];

/// What one client was told and found.
#[derive(Default)]
struct Seen {
    is_listening: bool,
    /// How often each list was said to have changed.
    told: [usize; 3],
    /// When that was said last.
    last: Option<Instant>,
    /// What was in each list when it was asked for last.
    lists: Lists,
    is_over: bool,
}

/// Asks as a client of its era does.
struct Asker {
    client: Client,
    /// The session and the version, in the legacy era.
    session: Option<(String, &'static str)>,
}

impl Asker {
    fn open(admin: &Admin, number: usize) -> Self {
        let mut client = Client::connect(admin.server.address());
        let version = ["2025-06-18", "2025-11-25"][number / LEGACY_EACH % 2];
        let session = number.is_multiple_of(LEGACY_EACH).then(|| {
            let opened = client.ask(at_path(initialize(version)));
            (opened.header("mcp-session-id").expect("a session").to_owned(), version)
        });
        let mut asker = Self { client, session };
        if asker.session.is_some() {
            let initialized = asker.request("notifications/initialized", None);
            assert_eq!(asker.client.ask(initialized).status, 202);
        }
        asker
    }

    fn request(&self, method: &str, id: Option<u32>) -> String {
        match &self.session {
            None => at_path(modern(id.unwrap_or_default(), method, "")),
            Some((session, version)) => {
                let id = id.map(|id| format!(r#""id":{id},"#)).unwrap_or_default();
                let body = format!(r#"{{"jsonrpc":"2.0",{id}"method":"{method}"}}"#);
                at_path(post(&[("mcp-session-id", session), ("mcp-protocol-version", version)], &body))
            }
        }
    }

    /// What is in a list now; nothing when the endpoint is there no more.
    fn list(&mut self, list: usize) -> Option<BTreeSet<String>> {
        let (_, method, member, key) = LISTS[list];
        let response = self.client.ask(self.request(method, Some(7)));
        if response.status == 404 {
            return None;
        }
        let answer = response.json();
        let items = answer["result"][member].as_array().unwrap_or_else(|| panic!("no list: {answer}"));
        assert_eq!(answer["result"]["nextCursor"], Value::Null, "it is one page");
        let names: BTreeSet<_> = items.iter().map(|item| item[key].as_str().expect("a name").to_owned()).collect();
        assert_eq!(names.len(), items.len(), "each once");
        Some(names)
    }

    /// The request that opens the stream.
    fn listen(&self) -> String {
        match &self.session {
            None => {
                let all = r#""notifications":{"toolsListChanged":true,"promptsListChanged":true,"resourcesListChanged":true}"#;
                at_path(modern(1, "subscriptions/listen", all))
            }
            Some((session, version)) => format!(
                "GET {PATH} HTTP/1.1\r\nhost: localhost\r\naccept: text/event-stream\r\nmcp-session-id: {session}\r\nmcp-protocol-version: {version}\r\n\r\n"
            ),
        }
    }
}

fn at_path(request: String) -> String {
    request.replacen("POST /mcp ", &format!("POST {PATH} "), 1)
}

/// Listens until the stream ends, and asks for every list that is said to have changed.
fn follow(admin: &Admin, number: usize, seen: &Mutex<Seen>) {
    let mut asker = Asker::open(admin, number);
    let mut stream = Client::connect(admin.server.address());
    stream.send(asker.listen());
    assert_eq!(stream.head().expect("a head").0, 200);
    let mut text = String::new();
    if asker.session.is_none() {
        while !text.contains("notifications/subscriptions/acknowledged") {
            text.push_str(&String::from_utf8(stream.chunk().expect("more").expect("no end")).expect("text"));
        }
    }
    let lists = [0, 1, 2].map(|list| asker.list(list).expect("the endpoint is there"));
    {
        let mut seen = seen.lock().expect("nobody panics with it");
        (seen.lists, seen.is_listening) = (lists, true);
    }
    while let Some(chunk) = stream.chunk().expect("a good end") {
        text.push_str(&String::from_utf8(chunk).expect("text"));
        while let Some(end) = text.find("\n\n") {
            let event: String = text.drain(..end + 2).collect();
            let data: String = event.lines().filter_map(|line| line.strip_prefix("data: ")).collect();
            let message: Value = serde_json::from_str(&data).unwrap_or_default();
            let Some(list) = LISTS.iter().position(|(method, ..)| message["method"] == **method) else { continue };
            {
                let mut seen = seen.lock().expect("nobody panics with it");
                seen.told[list] += 1;
                seen.last = Some(Instant::now());
            }
            // A notice that comes late may find the endpoint gone: then the stream ends, too.
            let Some(found) = asker.list(list) else { continue };
            seen.lock().expect("nobody panics with it").lists[list] = found;
        }
    }
    seen.lock().expect("nobody panics with it").is_over = true;
}

/// A server with these tools, prompts and resources.
fn server(name: &str, offers: [&[String]; 3]) -> Value {
    let named = |names: &[String]| names.iter().map(|name| json!({"name": name, "inputSchema": {"type": "object"}})).collect::<Vec<_>>();
    let prompts: Vec<_> = offers[1].iter().map(|prompt| json!({"name": prompt})).collect();
    let resources: Vec<_> = offers[2].iter().map(|uri| json!({"name": uri, "uri": format!("it://{name}/{uri}")})).collect();
    json!({"name": name, "target": "http://x/", "tools": named(offers[0]), "prompts": prompts, "resources": resources})
}

/// What the registry says that clients of the endpoint see.
fn registered(admin: &Admin) -> Lists {
    let endpoint = admin.get("/v1/endpoints/%2Fmcp%2Fbusy").json();
    let mut lists = Lists::default();
    for server in endpoint["servers"].as_array().expect("servers") {
        let name = server.as_str().expect("a name");
        let entry = admin.get(&format!("/v1/servers/{name}"));
        if entry.status == 404 {
            continue;
        }
        for (list, (_, _, member, key)) in LISTS.iter().enumerate() {
            let items = entry.json()[member].as_array().cloned().unwrap_or_default();
            // Of several servers names have the server's before them, and URIs are as they are.
            let shown = |item: &Value| {
                let own = item[key].as_str().expect("a name").to_owned();
                if *key == "name" { format!("{name}.{own}") } else { own }
            };
            lists[list].extend(items.iter().map(shown));
        }
    }
    lists
}

/// Makes changes at random to servers of its own until the time is over. How many were made.
fn change_on(admin: &Admin, prefix: &str) -> usize {
    let (mut random, mut made) = (Random::new(), 0);
    let (mut is_there, mut is_bound) = ([false; SERVERS], [true; SERVERS]);
    let end = Instant::now() + BUSY;
    while Instant::now() < end {
        let at = random.below(SERVERS as u64) as usize;
        let name = format!("{prefix}{at}");
        let names: Vec<String> =
            (0..random.below(4)).map(|_| format!("n{}", random.below(9))).collect::<BTreeSet<_>>().into_iter().collect();
        let offers = [&names[..], &names[names.len() / 2..], &names[..names.len() / 2]];
        let response = match (random.below(4), is_there[at]) {
            (0, _) if is_bound[at] => admin.send("DELETE", &format!("/v1/bindings/%2Fmcp%2Fbusy/{name}"), "", ""),
            (0, _) => admin.write("POST", "/v1/bindings", &json!({"endpoint": PATH, "server": name})),
            (1, true) => admin.send("DELETE", &format!("/v1/servers/{name}"), "", ""),
            (_, true) => admin.write("PUT", &format!("/v1/servers/{name}"), &server(&name, offers)),
            (_, false) => admin.write("POST", "/v1/servers", &server(&name, offers)),
        };
        match (response.status, &response.header("location")) {
            // Nothing was changed.
            (503, _) => {}
            (201, Some(place)) if place.contains("bindings") => is_bound[at] = true,
            (201, _) => is_there[at] = true,
            (200, _) => {}
            (204, _) if is_there[at] && admin.get(&format!("/v1/servers/{name}")).status == 404 => is_there[at] = false,
            (204, _) => is_bound[at] = false,
            _ => panic!("{response:?}"),
        }
        made += usize::from(response.status != 503);
        thread::sleep(Duration::from_millis(random.below(40)));
    }
    made
}

/// Repeats what is refused only because the server is busy.
fn insist(wanted: u16, what: impl Fn() -> u16) {
    until("a change is made", || {
        let status = what();
        assert!(status == wanted || status == 503, "{status}");
        status == wanted
    });
}

/// Ends a server when the test fails.
struct EndOnPanic<'a>(&'a Server);

impl Drop for EndOnPanic<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.terminate();
        }
    }
}

#[test]
fn every_listener_is_told_once_for_each_window_and_then_finds_what_is_registered() {
    let admin = Admin::start(&[]);
    let bound: Vec<String> = ["one", "two", "last"].into_iter().map(str::to_owned).collect();
    let busy = ["a", "b"].iter().flat_map(|prefix| (0..SERVERS).map(move |at| format!("{prefix}{at}")));
    let servers: Vec<String> = bound.into_iter().chain(busy).collect();
    assert_eq!(admin.write("POST", "/v1/endpoints", &json!({"path": PATH, "servers": servers})).status, 201);
    let all: Vec<_> = (0..CLIENTS).map(|_| Mutex::<Seen>::default()).collect();
    let each = |is_so: &dyn Fn(&Seen) -> bool| all.iter().all(|seen| is_so(&seen.lock().expect("nobody panics with it")));
    thread::scope(|scope| {
        for (number, seen) in all.iter().enumerate() {
            let admin = &admin;
            scope.spawn(move || follow(admin, number, seen));
        }
        // Should anything go wrong here, those who listen must not do so for ever.
        let _guard = EndOnPanic(&admin.server);
        until("all listen", || each(&|seen| seen.is_listening));
        assert!(each(&|seen| seen.told == [0; 3]), "nothing has changed yet");

        // One change after the other, each after everybody was told of the one before: one notice each, of what changed and of nothing else.
        let mut expected = [0; 3];
        for round in 0..9 {
            let (name, list) = (["one", "two"][round % 2], round % 3);
            let names: Vec<String> = (0..=round).map(|n| format!("n{n}")).collect();
            let mut offers: [&[String]; 3] = [&[]; 3];
            offers[list] = &names;
            match round {
                0 | 1 => insist(201, || admin.write("POST", "/v1/servers", &server(name, offers)).status),
                _ => insist(200, || admin.write("PUT", &format!("/v1/servers/{name}"), &server(name, offers)).status),
            }
            expected[list] += 1;
            if round >= 2 {
                // What it had before was of another list.
                expected[(round - 2) % 3] += 1;
            }
            until("everybody was told and has looked", || each(&|seen| seen.told == expected && seen.lists == registered(&admin)));
        }

        // Many changes: no more notices than there were windows, or changes.
        let begun = Instant::now();
        let admin = &admin;
        let changers = ["a", "b"].map(|prefix| scope.spawn(move || change_on(admin, prefix)));
        let made: usize = changers.into_iter().map(|changer| changer.join().expect("it was not refused")).sum();
        let names = ["n0".to_owned()];
        insist(201, || admin.write("POST", "/v1/servers", &server("last", [&names; 3])).status);
        let there = registered(admin);
        assert!(there[0].contains("last.n0") && there[1].contains("last.n0") && there[2].contains("it://last/n0"));
        // Each looks at a list only when it is told that it changed: so it was told after the last change.
        until("everybody has found what there is", || each(&|seen| seen.lists == there));
        thread::sleep(WINDOW * 2);
        for (number, seen) in all.iter().enumerate() {
            let seen = seen.lock().expect("nobody panics with it");
            // Whatever the machine does in between: of notices that a core sends, only the first can belong to a window that had begun before.
            let windows = seen.last.expect("it was told").duration_since(begun).as_millis() / WINDOW.as_millis() + 2;
            for (told, before) in seen.told.iter().zip(expected) {
                let told = told - before;
                assert!((1..=made + 1).contains(&told), "client {number} was told {told} times of {made} changes");
                assert!(told as u128 <= windows, "client {number} was told {told} times in {windows} windows");
            }
            assert_eq!(seen.lists, there, "client {number}");
        }

        // The endpoint goes, and with it every stream.
        assert_eq!(admin.send("DELETE", "/v1/endpoints/%2Fmcp%2Fbusy", "", "").status, 204);
        until("every stream has ended", || each(&|seen| seen.is_over));
    });
    until("no session is left", || admin.get("/v1/sessions").json()["items"].as_array().is_some_and(Vec::is_empty));
}
