//! `--state DIR`: what was acknowledged is there after the worst, and a file that cannot be trusted is left alone.

use std::collections::HashSet;
use std::fs;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::thread;

use serde_json::{Value, json};

use crate::client::Client;
use crate::random::Random;
use crate::server::{Server, until};

const REGISTRATIONS: usize = 10_000;
/// Each has one registration on its way at a time.
const WRITERS: usize = 32;

fn start(state: &Path) -> Server {
    Server::start(&["--cores", "2", "--no-pin", "--state", state.to_str().expect("a path")])
}

fn token(state: &Path) -> String {
    fs::read_to_string(state.join("admin-token")).expect("a token").trim().to_owned()
}

fn request(token: &str, method: &str, target: &str, body: &Value) -> String {
    let body = if body.is_null() { String::new() } else { body.to_string() };
    format!(
        "{method} {target} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

fn names(server: &Server, list: &str, member: &str) -> HashSet<String> {
    let (mut client, mut names, mut cursor) = (Client::connect(server.admin()), HashSet::new(), String::new());
    loop {
        let page = client.ask(format!("GET /v1/{list}?limit=100{cursor} HTTP/1.1\r\nHost: localhost\r\n\r\n")).json();
        names.extend(page["items"].as_array().expect("items").iter().map(|item| item[member].as_str().expect("a name").to_owned()));
        match page["nextCursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return names,
        }
    }
}

#[test]
fn every_acknowledged_registration_survives_kill_9() {
    let directory = tempfile::tempdir().expect("a directory");
    let state = directory.path().join("state");
    let server = start(&state);
    let (token, address) = (token(&state), server.admin());
    let (next, acknowledged, is_over) = (AtomicUsize::new(0), Mutex::new(Vec::new()), AtomicBool::new(false));
    let write_on = || {
        let Ok(mut client) = Client::try_connect(address) else { return };
        while !is_over.load(Relaxed) {
            let number = next.fetch_add(1, Relaxed);
            if number >= REGISTRATIONS {
                return;
            }
            let name = format!("io.example/s{number}");
            let body = json!({"name": name, "target": "https://s.example/mcp"});
            if client.try_send(request(&token, "POST", "/v1/servers", &body)).is_err() {
                return;
            }
            match client.try_response() {
                Ok(response) if response.status == 201 => acknowledged.lock().expect("no writer panics").push(name),
                Ok(response) => assert_eq!(response.status, 503, "{}", response.body),
                Err(_) => return,
            }
        }
    };
    let enough = 1000 + Random::new().below(REGISTRATIONS as u64 - 3000) as usize;
    thread::scope(|scope| {
        (0..WRITERS).for_each(|_| drop(scope.spawn(write_on)));
        until("enough are registered", || acknowledged.lock().expect("no writer panics").len() >= enough);
        server.kill();
        is_over.store(true, Relaxed);
    });
    let acknowledged = acknowledged.into_inner().expect("no writer panics");
    let server = start(&state);
    let found = names(&server, "servers", "name");
    let lost: Vec<&String> = acknowledged.iter().filter(|name| !found.contains(*name)).collect();
    assert!(lost.is_empty(), "{} of {} are lost, such as {}", lost.len(), acknowledged.len(), lost[0]);
    // What was on its way may be there or not; nothing else may.
    assert!(found.len() <= acknowledged.len() + WRITERS + 1, "{} were acknowledged, and {} are there", acknowledged.len(), found.len());
    server.stop();
}

#[test]
fn entries_bindings_and_versions_survive_a_restart() {
    let directory = tempfile::tempdir().expect("a directory");
    let state = directory.path().join("state");
    let server = start(&state);
    let token = token(&state);
    let mut client = Client::connect(server.admin());
    let mut write = |method: &str, target: &str, body: Value| client.ask(request(&token, method, target, &body)).status;
    let tool = json!({"name": "rain", "inputSchema": {"type": "object"}});
    assert_eq!(write("POST", "/v1/servers", json!({"name": "a", "target": "http://x/", "tools": [tool]})), 201);
    assert_eq!(write("POST", "/v1/servers", json!({"name": "b", "target": "http://x/"})), 201);
    assert_eq!(write("PUT", "/v1/servers/a", json!({"target": "http://y/", "tools": [tool]})), 200);
    assert_eq!(write("POST", "/v1/endpoints", json!({"path": "/mcp/a", "servers": ["a"]})), 201);
    assert_eq!(write("POST", "/v1/bindings", json!({"endpoint": "/mcp/a", "server": "b"})), 201);
    assert_eq!(write("POST", "/v1/bindings", json!({"endpoint": "/mcp", "server": "b"})), 201);
    assert_eq!(write("DELETE", "/v1/servers/b", Value::Null), 204);
    let get =
        |server: &Server, target: &str| Client::connect(server.admin()).ask(format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n"));
    let before: Vec<String> =
        ["servers/a", "endpoints/%2Fmcp%2Fa", "endpoints/%2Fmcp"].iter().map(|what| get(&server, &format!("/v1/{what}")).body).collect();
    server.stop();
    let server = start(&state);
    for (what, before) in ["servers/a", "endpoints/%2Fmcp%2Fa", "endpoints/%2Fmcp"].iter().zip(before) {
        assert_eq!(get(&server, &format!("/v1/{what}")).body, before);
    }
    assert_eq!(get(&server, "/v1/servers/b").status, 404);
    let again = Client::connect(server.admin()).ask(request(&token, "POST", "/v1/servers", &json!({"name": "b", "target": "http://x/"})));
    assert!(again.json()["version"].as_u64().is_some_and(|version| version > 1), "no version is given twice: {}", again.body);
}

fn refused(state: &Path) -> String {
    let args = ["serve", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--cores", "1", "--state", state.to_str().expect("a path")];
    let Output { status, stderr, .. } = Command::new(env!("CARGO_BIN_EXE_ringhub")).args(args).output().expect("it starts");
    let said = String::from_utf8_lossy(&stderr).into_owned();
    assert!(!status.success(), "{said}");
    said
}

#[test]
fn a_file_that_cannot_be_trusted_is_refused_and_left_as_it_is() {
    let directory = tempfile::tempdir().expect("a directory");
    let state = directory.path();
    let file = state.join("registry.redb");
    let server = start(state);
    let mut client = Client::connect(server.admin());
    for number in 0..50 {
        let body = json!({"name": format!("s{number}"), "target": "http://x/", "description": "d".repeat(500)});
        assert_eq!(client.ask(request(&token(state), "POST", "/v1/servers", &body)).status, 201);
    }
    server.stop();
    let sound = fs::read(&file).expect("a file");
    let foreign = {
        let path = directory.path().join("foreign");
        let database = redb::Database::create(&path).expect("a database");
        let transaction = database.begin_write().expect("a transaction");
        transaction.open_table(redb::TableDefinition::<u64, u64>::new("other")).expect("a table").insert(1, 2).expect("written");
        transaction.commit().expect("committed");
        drop(database);
        fs::read(path).expect("a file")
    };
    let mut cut = sound.clone();
    cut.truncate(sound.len() / 2);
    let mut turned = sound.clone();
    turned.iter_mut().skip(8192).step_by(512).for_each(|byte| *byte ^= 0x55);
    let cases = [
        (b"not a state file".to_vec(), "no state file"),
        (Vec::new(), "no state file"),
        (foreign, "another program"),
        (cut, "damaged"),
        (turned, "damaged"),
    ];
    for (content, wanted) in cases {
        fs::write(&file, &content).expect("written");
        let said = refused(state);
        assert!(said.contains(wanted) && said.contains("registry.redb") && said.contains("--state"), "{wanted}: {said}");
        assert!(fs::read(&file).expect("a file") == content, "{wanted}: it was altered");
    }
    fs::write(&file, &sound).expect("written");
    let server = start(state);
    assert_eq!(names(&server, "servers", "name").len(), 51);
    assert!(refused(state).contains("another process"));
}
