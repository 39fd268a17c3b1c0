//! Upstreams and endpoints that come, change and go while clients are connected: by reload, and over the control API.

use std::collections::HashSet;
use std::fs;
use std::io::Write;
use std::net::TcpStream;
use std::process::{Command, Output};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, mpsc};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use crate::client::{Client, Response, modern, post};
use crate::control::Admin;
use crate::gateway::{SCRIPT, ask, open, scripted, text, tools};
use crate::server::{Server, open_files, until};

/// A server with a configuration that the test writes.
struct Node {
    admin: Admin,
    file: tempfile::NamedTempFile,
}

impl Node {
    fn start(config: &str) -> Self {
        let file = tempfile::NamedTempFile::new().expect("a file");
        fs::write(file.path(), config).expect("it can be written");
        Self { admin: Admin::start(&["--config", &file.path().display().to_string()]), file }
    }

    fn configure(&self, config: &str) {
        fs::write(self.file.path(), config).expect("it can be written");
    }

    fn connect(&self) -> Client {
        Client::connect(self.admin.server.address())
    }

    fn pid(&self) -> u32 {
        self.admin.server.pid()
    }

    fn shows(&self, tool: &str) -> bool {
        tools(&mut self.connect()).iter().any(|name| name == tool)
    }

    fn wait_for(&self, tool: &str) {
        until(&format!("{tool} is listed"), || self.shows(tool));
    }

    fn ctl(&self) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ringhub"));
        command.env("RINGHUB_ADMIN_URL", format!("http://{}", self.admin.server.admin()));
        command.args(["ctl", "--token-file", self.admin.token_file(), "reload"]).output().expect("it starts")
    }

    /// Reloads, and gives what it is said to have changed.
    fn reload(&self) -> String {
        let output = self.ctl();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("text")
    }

    fn hang_up(&self) {
        let pid = libc::pid_t::try_from(self.pid()).expect("a pid fits its own type");
        // SAFETY: kill reads no memory of ours, and the server has not been waited for, so its pid is still its own.
        assert_eq!(unsafe { libc::kill(pid, libc::SIGHUP) }, 0);
    }
}

fn upstream(name: &str, server: &Server, more: &str) -> String {
    format!("[[upstream]]\nname = \"{name}\"\nurl = \"http://{}/mcp\"\n{more}\n", server.address())
}

fn endpoint(path: &str, servers: &str) -> String {
    format!("[[endpoint]]\npath = \"{path}\"\nservers = [{servers}]\n")
}

fn echo_of(tool: &str, message: &str) -> String {
    modern(1, "tools/call", &format!(r#""name":"{tool}","arguments":{{"message":"{message}"}}"#))
}

/// Reads a stream until it says this.
fn hears(client: &mut Client, what: &str) {
    loop {
        let chunk = client.chunk().expect("the stream lives").expect("the stream goes on");
        if String::from_utf8_lossy(&chunk).contains(what) {
            return;
        }
    }
}

/// An upstream with one tool `t`, whose calls are answered when the test says so; it says when there is one.
fn held() -> (std::net::SocketAddr, mpsc::Receiver<()>, mpsc::Sender<()>) {
    let (called, calls) = mpsc::channel();
    let (release, released) = mpsc::channel::<()>();
    let (called, released) = (Mutex::new(called), Mutex::new(released));
    let address = scripted(move |stream: &mut TcpStream, id: &str| {
        called.lock().expect("no panic").send(()).expect("the test waits");
        released.lock().expect("no panic").recv_timeout(Duration::from_secs(60)).expect("the test says so");
        let body =
            format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{"content":[{{"type":"text","text":"late"}}],"resultType":"complete"}}}}"#);
        let head = format!("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n", body.len());
        drop(stream.write_all(format!("{head}{body}").as_bytes()));
    });
    (address, calls, release)
}

#[test]
fn upstreams_and_endpoints_change_under_clients_and_nothing_is_dropped() {
    let (slow, calls, release) = held();
    let (a, b) = (Server::start(&[]), Server::start(&["--era", "legacy"]));
    let slow = format!("[[upstream]]\nname = \"slow\"\nurl = \"http://{slow}/mcp\"\n");
    let node = Node::start(&[slow, upstream("a", &a, ""), endpoint("/mcp/x", "\"a\"")].concat());
    node.wait_for("slow.t");
    node.wait_for("a.echo");

    let mut waiting = node.connect();
    waiting.send(modern(1, "tools/call", r#""name":"slow.t","arguments":{}"#));
    calls.recv_timeout(Duration::from_secs(20)).expect("the call arrives");
    let mut listening = node.connect();
    listening.send(modern(2, "subscriptions/listen", r#""notifications":{"toolsListChanged":true}"#));
    assert_eq!(listening.head().expect("a head").0, 200);
    hears(&mut listening, "acknowledged");
    let mut client = node.connect();
    let session = open(&mut client);
    let mut streaming = node.connect();
    let fields: String = session.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    streaming.send(format!("GET /mcp HTTP/1.1\r\nhost: localhost\r\naccept: text/event-stream\r\n{fields}\r\n"));
    assert_eq!(streaming.head().expect("a head").0, 200);

    let (is_over, answered) = (AtomicBool::new(false), AtomicUsize::new(0));
    thread::scope(|scope| {
        for who in 0..4 {
            let (node, is_over, answered) = (&node, &is_over, &answered);
            scope.spawn(move || {
                let mut client = node.connect();
                while !is_over.load(Relaxed) {
                    let answer = client.ask(echo_of("a.echo", &format!("{who}")));
                    assert_eq!(text(&answer), format!("{who}"));
                    answered.fetch_add(1, Relaxed);
                }
            });
        }
        struct Stop<'a>(&'a AtomicBool);
        impl Drop for Stop<'_> {
            fn drop(&mut self) {
                self.0.store(true, Relaxed);
            }
        }
        // Also when something fails here: the others would go on for ever.
        let stop = Stop(&is_over);

        let base = [upstream("a", &a, ""), upstream("b", &b, "")].concat();
        node.configure(&[base.clone(), endpoint("/mcp/x", "\"b\""), endpoint("/mcp/y", "\"b\"")].concat());
        let said = node.reload();
        for line in ["upstreams added: b\n", "upstreams removed: slow\n", "endpoints added: /mcp/y\n", "endpoints changed: /mcp, /mcp/x\n"]
        {
            assert!(said.contains(line), "{said}");
        }
        hears(&mut listening, "notifications/tools/list_changed");
        hears(&mut streaming, "notifications/tools/list_changed");
        node.wait_for("b.echo");
        assert!(!node.shows("slow.t"));
        for path in ["/mcp/x", "/mcp/y"] {
            let call = echo_of("echo", "there").replacen("POST /mcp", &format!("POST {path}"), 1);
            until("it is bound", || node.connect().ask(&call).json()["result"].is_object());
        }
        release.send(()).expect("the upstream waits");
        assert_eq!(text(&waiting.response()), "late");
        let gone = node.connect().ask(modern(1, "tools/call", r#""name":"slow.t","arguments":{}"#)).json();
        assert!(gone["error"].is_object(), "{gone}");

        // What is not about how it is reached: its links stay. Then another header: they do not.
        for (number, more) in ["deny = [\"add\"]", "headers = { X-Key = \"1\" }\ndeny = [\"time\"]"].into_iter().enumerate() {
            node.configure(&[upstream("a", &a, more), upstream("b", &b, ""), endpoint("/mcp/y", "\"b\"")].concat());
            node.hang_up();
            until("the filter is in force", || node.shows("a.add") == (number == 1) && node.shows("a.time") == (number == 0));
        }
        let call = echo_of("echo", "x").replacen("POST /mcp", "POST /mcp/x", 1);
        assert_eq!(node.connect().ask(&call).status, 404, "the endpoint is gone");
        let before = answered.load(Relaxed);
        until("calls go on", || answered.load(Relaxed) > before + 8);
        drop(stop);
    });
    let call = r#"{"jsonrpc":"2.0","id":9,"method":"tools/call","params":{"name":"b.echo","arguments":{"message":"again"}}}"#;
    assert_eq!(text(&ask(&mut client, &session, call)), "again", "the session lives on");
    assert_eq!(node.reload(), "upstreams and endpoints are as they were\n");
    node.admin.server.stop();
}

#[test]
fn a_bad_file_changes_nothing_and_each_problem_is_named() {
    let a = Server::start(&[]);
    let good = upstream("a", &a, "");
    let node = Node::start(&good);
    node.wait_for("a.echo");
    let bad: [(&str, &[&str]); 5] = [
        ("this is no TOML", &["--config"]),
        ("max_session = 3", &["unknown field `max_session`"]),
        (
            "[[upstream]]\nname = \"u\"\nurl = \"ftp://h\"\n[[upstream]]\nname = \"u\"\ncommand = \"x\"\nera = \"modern\"\nmax_in_flight = 0\n\
             [[endpoint]]\npath = \"/other\"\nservers = []",
            &["upstream `u`: url: ", "two upstreams are called `u`", "`u`: max_in_flight: 0", "endpoint `/other`: "],
        ),
        (
            "[[upstream]]\nname = \"u\"\nurl = \"http://h/\"\nheaders = { A = { env = \"RINGHUB_TEST_NO_SUCH_VARIABLE\" }, B = { file = \"/nowhere\" } }",
            &["no RINGHUB_TEST_NO_SUCH_VARIABLE", "/nowhere: "],
        ),
        ("[[upstream]]\nname = \"ringhub\"\nurl = \"http://h/\"", &["the server of this program is called so"]),
    ];
    for (config, problems) in bad {
        node.configure(config);
        let output = node.ctl();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && said.contains("nothing was changed"), "{said}");
        assert!(problems.iter().all(|problem| said.contains(problem)), "{said}");
        assert!(node.shows("a.echo"));
    }
    node.configure("shards = \"many\"");
    node.hang_up();
    node.admin.server.wait_until_it_says("shards = \"many\"");
    node.configure(&format!("max_sessions = 5\nlog = \"debug\"\nadmin = \"127.0.0.1:1\"\n{good}deny = [\"add\"]\n"));
    let said = node.reload();
    // The address is a flag of the test's, which wins.
    assert_eq!(said, "upstreams changed: a\nin force after a restart: log, max_sessions\n");
    until("the rest is in force", || !node.shows("a.add"));
    let without = post(&[], "").replace("POST /mcp", "POST /v1/reload");
    assert_eq!(Client::connect(node.admin.server.admin()).ask(without).status, 401, "it needs the token");
}

/// Processes whose parent this is, zombies among them.
fn children(pid: u32) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").expect("there are processes").flatten() {
        let Ok(stat) = fs::read_to_string(entry.path().join("stat")) else { continue };
        let parent = stat.rsplit_once(") ").and_then(|(_, rest)| rest.split(' ').nth(1)).and_then(|text| text.parse::<u32>().ok());
        if parent == Some(pid) {
            found.push(stat);
        }
    }
    found
}

fn is_there(pid: &str) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

#[test]
fn a_process_that_is_taken_out_ends_with_its_group_and_leaves_nothing() {
    let place = tempfile::tempdir().expect("a directory");
    let (script, pids) = (place.path().join("script"), place.path().join("pids"));
    let own = format!("sleep 1000 &\necho $$ $! >> {}\n", pids.display());
    fs::write(&script, own + SCRIPT).expect("it can be written");
    let a = Server::start(&[]);
    let with = |number: usize| {
        let command = format!("command = \"sh\"\nargs = [\"{}\"]\nenv = {{ N = \"{number}\" }}\n", script.display());
        [upstream("a", &a, ""), format!("[[upstream]]\nname = \"script\"\n{command}")].concat()
    };
    let without = upstream("a", &a, "");
    let node = Node::start(&without);
    node.wait_for("a.echo");
    let files = open_files(node.pid());
    node.configure(&with(0));
    assert_eq!(node.reload(), "upstreams added: script\nendpoints changed: /mcp\n");
    node.wait_for("script.echo");
    assert!(text(&node.connect().ask(echo_of("script.echo", "hello"))).starts_with("hello from "));
    for number in 1..=50 {
        // Each has another environment, so that each is another process; every third time there is none at all.
        node.configure(&if number % 3 == 0 { without.clone() } else { with(number) });
        node.reload();
        if number % 7 == 1 && number % 3 != 0 {
            until("it is called", || {
                let answer = node.connect().ask(echo_of("script.echo", "again"));
                answer.json()["result"].is_object()
            });
        }
    }
    node.configure(&without);
    node.reload();
    until("no child is left", || children(node.pid()).is_empty());
    until("no descriptor is left", || open_files(node.pid()) <= files + 2);
    let pids = fs::read_to_string(pids).expect("they were written");
    let pids: HashSet<&str> = pids.split_whitespace().collect();
    assert!(pids.len() >= 4, "{pids:?}");
    until("no process of any group is left", || !pids.iter().any(|pid| is_there(pid)));
    assert!(!node.shows("script.echo"));
    node.admin.server.stop();
}

fn entry(admin: &Admin, name: &str) -> Value {
    admin.get(&format!("/v1/servers/{name}")).json_or_nothing()
}

fn shown(admin: &Admin) -> Vec<String> {
    tools(&mut Client::connect(admin.server.address()))
}

fn status(response: &Response, wanted: u16) {
    assert_eq!(response.status, wanted, "{}", response.body);
}

#[test]
fn a_server_that_is_registered_with_a_url_is_called_until_it_is_removed() {
    for era in ["modern", "legacy"] {
        let back = Server::start(&["--era", era]);
        let admin = Admin::start(&[]);
        let url = format!("http://{}/mcp", back.address());
        let said = json!({"name": "back", "url": url, "headers": {"X-Key": "hush"}, "title": "Mine", "total_timeout": 30});
        status(&admin.write("POST", "/v1/servers", &said), 201);
        status(&admin.write("POST", "/v1/bindings", &json!({"endpoint": "/mcp", "server": "back"})), 201);
        until("its tools are listed", || shown(&admin).contains(&"back.echo".to_owned()));
        let mut client = Client::connect(admin.server.address());
        assert_eq!(text(&client.ask(echo_of("back.echo", "hello"))), "hello");
        let session = open(&mut client);
        let call = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"back.add","arguments":{"a":1,"b":2}}}"#;
        assert_eq!(text(&ask(&mut client, &session, call)), "3");
        let found = entry(&admin, "back");
        assert!(found["state"] == "online" && found["title"] == "Mine" && found["total_timeout"] == 30.0, "{found}");
        assert!(!found.to_string().contains("hush") && found["tools"].as_array().is_some_and(|tools| !tools.is_empty()), "{found}");

        // Said anew: what was found out stays, and the rest is in force.
        let anew = json!({"name": "back", "url": url, "names": "plain", "deny": ["add"]});
        status(&admin.write("PUT", "/v1/servers/back", &anew), 200);
        until("its tools keep their names", || {
            let shown = shown(&admin);
            shown.contains(&"echo".to_owned()) && !shown.contains(&"add".to_owned())
        });
        until("its entry says so", || entry(&admin, "back")["names"] == "plain" && entry(&admin, "back")["state"] == "online");
        assert_eq!(text(&client.ask(echo_of("echo", "plain"))), "plain");
        status(&admin.send("DELETE", "/v1/servers/back", "", ""), 204);
        until("it is gone", || !shown(&admin).contains(&"echo".to_owned()));
        assert!(client.ask(echo_of("echo", "x")).json()["error"].is_object());
        thread::sleep(Duration::from_millis(200));
        assert_eq!(entry(&admin, "back")["code"], "absent", "nothing that is found out brings it back");
        admin.server.stop();
    }
}

#[test]
fn commands_are_registered_only_where_that_is_allowed() {
    let admin = Admin::start(&[]);
    let said = json!({"name": "script", "command": "sh", "args": ["-c", SCRIPT]});
    let refused = admin.write("POST", "/v1/servers", &said);
    status(&refused, 403);
    assert!(refused.body.contains("--allow-stdio-api"), "{}", refused.body);
    status(&admin.write("POST", "/v1/servers", &json!({"name": "x", "url": "http://h/", "headers": {"a": {"env": "PATH"}}})), 422);
    status(&admin.write("POST", "/v1/servers", &json!({"name": "x", "url": "http://h/", "target": "http://g/"})), 422);
    // Listed only, as ever.
    let listed = json!({"name": "listed", "target": "http://127.0.0.1:1/mcp", "state": "online", "tools": [{"name": "t", "inputSchema": {"type": "object"}}]});
    status(&admin.write("POST", "/v1/servers", &listed), 201);
    let found = entry(&admin, "listed");
    assert_eq!((found["state"].as_str(), found["version"].as_u64(), found.get("url")), (Some("online"), Some(1), None), "{found}");

    let admin = Admin::start(&["--allow-stdio-api"]);
    status(&admin.write("POST", "/v1/servers", &said), 201);
    status(&admin.write("POST", "/v1/bindings", &json!({"endpoint": "/mcp", "server": "script"})), 201);
    until("it is listed", || shown(&admin).contains(&"script.echo".to_owned()));
    let answer = text(&Client::connect(admin.server.address()).ask(echo_of("script.echo", "hello")));
    let pid = answer.strip_prefix("hello from ").expect("it says which process it is").to_owned();
    assert!(is_there(&pid));
    status(&admin.send("DELETE", "/v1/servers/script", "", ""), 204);
    until("its process is gone", || !is_there(&pid) && children(admin.server.pid()).is_empty());
}

#[test]
fn a_server_that_is_kept_is_fronted_again_after_a_restart() {
    let (back, state) = (Server::start(&[]), tempfile::tempdir().expect("a directory"));
    let state = state.path().display().to_string();
    let admin = Admin::start(&["--state", &state]);
    let said = json!({"name": "back", "url": format!("http://{}/mcp", back.address()), "headers": {"X-Key": "hush"}});
    status(&admin.write("POST", "/v1/servers", &said), 201);
    status(&admin.write("POST", "/v1/bindings", &json!({"endpoint": "/mcp", "server": "back"})), 201);
    until("it is listed", || shown(&admin).contains(&"back.echo".to_owned()));
    let version = entry(&admin, "back")["version"].as_u64().expect("a version");
    admin.server.stop();
    let admin = Admin::start(&["--state", &state]);
    until("it is there again", || entry(&admin, "back")["state"] == "online");
    assert_eq!(text(&Client::connect(admin.server.address()).ask(echo_of("back.echo", "kept"))), "kept");
    assert!(entry(&admin, "back")["version"].as_u64().expect("a version") >= version);
    status(&admin.send("DELETE", "/v1/servers/back", "", ""), 204);
    until("it is gone", || !shown(&admin).contains(&"back.echo".to_owned()));
    admin.server.stop();
    let admin = Admin::start(&["--state", &state]);
    assert_eq!(entry(&admin, "back")["code"], "absent");
}
