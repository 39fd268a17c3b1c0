//! Hundreds of clients share one process behind a server. Their ids and progress tokens are all the same, on purpose.

use std::collections::BTreeSet;
use std::io::Write;
use std::thread;

use serde_json::Value;

use crate::child::{children, table};
use crate::client::{Client, Response, initialize, modern, modern_with, post};
use crate::server::{Server, open_files, until};

const CLIENTS: usize = 500;
const THREADS: usize = 20;
/// Of them, those that are in the midst of a call when it matters.
const HOLDING: usize = 100;

/// A client of one era or the other.
struct User {
    number: usize,
    client: Client,
    session: Option<String>,
}

impl User {
    fn new(server: &Server, number: usize) -> Self {
        let mut client = Client::connect(server.address());
        let session = (!number.is_multiple_of(2)).then(|| {
            let answer = client.ask(initialize("2025-11-25"));
            let session = answer.header("mcp-session-id").expect("a session").to_owned();
            let initialized = post(&fields(&session), r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#);
            assert_eq!(client.ask(initialized).status, 202);
            session
        });
        Self { number, client, session }
    }

    /// Calls a tool without waiting for the answer.
    fn begin(&mut self, tool: &str, message: &str) {
        let params = format!(r#""name":"{tool}","arguments":{{"message":"{message}"}}"#);
        let token = r#""progressToken":"same""#;
        let request = match &self.session {
            None => modern_with(1, "tools/call", &params, &format!("{token},")),
            Some(session) => post(
                &fields(session),
                &format!(r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{{params},"_meta":{{{token}}}}}}}"#),
            ),
        };
        self.client.send(request);
    }

    /// The messages that answer it.
    fn end(&mut self) -> Vec<Value> {
        messages(&self.client.response())
    }

    /// Calls off the call that it has in work.
    fn cancel(self, server: &Server) {
        if let Some(session) = &self.session {
            let body = r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1}}"#;
            assert_eq!(Client::connect(server.address()).ask(post(&fields(session), body)).status, 202);
        }
        // In the modern era a client leaves.
        drop(self.client);
    }
}

fn fields(session: &str) -> [(&str, &str); 2] {
    [("mcp-session-id", session), ("mcp-protocol-version", "2025-11-25")]
}

fn messages(response: &Response) -> Vec<Value> {
    assert_eq!(response.status, 200, "{}", response.body);
    if response.header("content-type").is_some_and(|media| media.starts_with("application/json")) {
        return vec![response.json()];
    }
    let data = response.body.lines().filter_map(|line| line.strip_prefix("data: ").filter(|data| !data.is_empty()));
    data.map(|data| serde_json::from_str(data).expect("JSON")).collect()
}

/// All of them call at once, each with words of its own. The processes that answered.
fn all_call(users: &mut [User], round: &str) -> BTreeSet<String> {
    let talk = |users: &mut [User]| {
        let words = |user: &User| format!("client {} in round {round}", user.number);
        users.iter_mut().for_each(|user| user.begin("echo", &words(user)));
        let mut processes = BTreeSet::new();
        for user in users {
            let (said, words) = (user.end(), words(user));
            let [progress, answer] = &said[..] else { panic!("{words}: {said:?}") };
            assert_eq!((&progress["params"]["message"], &progress["params"]["progressToken"]), (&words.as_str().into(), &"same".into()));
            let text = answer["result"]["content"][0]["text"].as_str().unwrap_or_else(|| panic!("{words}: {answer}"));
            let (said, process) = text.split_once(" from ").expect("words and a process");
            assert_eq!((said, &answer["id"]), (words.as_str(), &1.into()));
            processes.insert(process.to_owned());
        }
        processes
    };
    let share = users.len().div_ceil(THREADS);
    thread::scope(|scope| {
        let talking: Vec<_> = users.chunks_mut(share).map(|users| scope.spawn(move || talk(users))).collect();
        talking.into_iter().flat_map(|thread| thread.join().expect("no panic")).collect()
    })
}

/// The text that a tool answers; none when it does not.
fn text_of(server: &Server, tool: &str) -> Option<String> {
    let answer = Client::connect(server.address()).ask(modern(7, "tools/call", &format!(r#""name":"{tool}","arguments":{{}}"#))).json();
    answer["result"]["content"][0]["text"].as_str().map(str::to_owned)
}

/// Every open descriptor counts against the limit that a shell sets.
fn raise_limit() {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: plain system calls with a local.
    unsafe {
        libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit);
        limit.rlim_cur = limit.rlim_max.min(8192);
        libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit);
    }
}

#[test]
fn hundreds_of_clients_share_one_process() {
    raise_limit();
    for era in ["legacy", "modern"] {
        let mut config = tempfile::NamedTempFile::new().expect("a file");
        config
            .write_all(table("shared", era, "[[endpoint]]\npath = \"/mcp\"\nservers = [\"shared\"]").as_bytes())
            .expect("it can be written");
        let server = Server::start(&["--config", &config.path().display().to_string(), "--cores", "2", "--no-pin"]);
        until("its tools are there", || text_of(&server, "echo").is_some());
        let files = open_files(server.pid());
        let mut users: Vec<User> = (0..CLIENTS).map(|number| User::new(&server, number)).collect();
        let first: BTreeSet<String> = (0..2).flat_map(|round| all_call(&mut users, &round.to_string())).collect();
        assert_eq!(first.len(), 1, "one process answers all: {first:?}");
        let running = children(server.pid());
        assert_eq!(running.len(), 1, "{running:?}");
        assert!(first.contains(&running[0].0.to_string()));

        // Some are in the midst of a call; some of these leave.
        let others = users.split_off(HOLDING);
        for user in &mut users {
            let words = user.number.to_string();
            user.begin("hold", &words);
        }
        let (leaving, mut staying): (Vec<_>, Vec<_>) = users.into_iter().partition(|user| user.number % 4 < 2);
        let expected: BTreeSet<String> = leaving.iter().map(|user| user.number.to_string()).collect();
        // Whatever was begun is with the process once it has answered what was asked later.
        let mut users = others;
        all_call(&mut users, "after the holding ones");
        leaving.into_iter().for_each(|user| user.cancel(&server));
        until("the process knows of those that left, and of no others", || {
            let said: BTreeSet<String> = text_of(&server, "cancelled").expect("an answer").split_whitespace().map(str::to_owned).collect();
            assert!(said.is_subset(&expected), "{said:?}");
            said == expected
        });

        // It dies: those that wait for it are told so.
        users[0].begin("die", "");
        let died = |said: &[Value]| {
            let answer = said.last().expect("an answer");
            let message = answer["error"]["message"].as_str().unwrap_or_default();
            assert_eq!(message, "The server shared cannot be reached: it exited with code 3", "{said:?}");
            assert_eq!((&answer["error"]["code"], &answer["id"]), (&(-32603).into(), &1.into()));
        };
        died(&users[0].end());
        staying.iter_mut().for_each(|user| died(&user.end()));
        until("another process serves", || text_of(&server, "echo").is_some());
        users.append(&mut staying);
        let second = all_call(&mut users, "after all");
        assert!(second.len() == 1 && second.is_disjoint(&first), "{first:?} {second:?}");

        drop(users);
        until("every descriptor is closed", || open_files(server.pid()) <= files);
        let running = children(server.pid());
        assert!(running.len() == 1 && running[0].1 != "Z", "{running:?}");
        server.stop();
        until("its process has ended, too", || !crate::child::runs(running[0].0));
    }
}
