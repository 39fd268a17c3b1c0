//! Servers that others have written, behind a front: what they offer is listed, a call of each is answered right, and one that is a process
//! may be killed in the midst of a call.

use std::fs::{self, File, OpenOptions};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::client::{Client, modern, modern_with, post};
use crate::front::Front;
use crate::peer;
use crate::support::process;
use crate::support::server::{Process, url};

/// Longest wait for something to happen.
const WAIT_MAX: Duration = Duration::from_secs(60);
/// Bytes that make a call be known among others in a pipe.
const PADDING: usize = 3000;

/// A call that a server answers.
struct Question<'a> {
    tool: &'a str,
    arguments: Value,
    /// What the answer's text has in it.
    says: &'a str,
}

impl Question<'_> {
    fn params(&self, tool: &str) -> String {
        format!(r#""name":"{tool}","arguments":{}"#, self.arguments)
    }

    /// Asks in either era, and judges the answer.
    fn ask(&self, front: &Front, tool: &str) {
        let mut client = front.connect();
        let answer = client.ask(modern(7, "tools/call", &self.params(tool)));
        self.judge(&answer.json(), front);
        let body = format!(r#"{{"jsonrpc":"2.0","id":"a","method":"tools/call","params":{{{}}}}}"#, self.params(tool));
        let fields = session(&mut client);
        let answer = client.ask(post(&fields, &body));
        self.judge(&answer_of(&answer.body), front);
    }

    fn judge(&self, answer: &Value, front: &Front) {
        let text = answer["result"]["content"][0]["text"].as_str().unwrap_or_default();
        assert!(text.contains(self.says), "{} is not in the answer {answer}\n--- the front\n{}", self.says, front.log());
        assert_ne!(answer["result"]["isError"], true, "{answer}");
    }
}

/// The response in a body that is JSON, or a stream of events.
fn answer_of(body: &str) -> Value {
    let data = body.lines().filter_map(|line| line.strip_prefix("data: ")).next_back();
    serde_json::from_str(data.unwrap_or(body)).unwrap_or_else(|error| panic!("{error}: {body}"))
}

/// Opens a session of the legacy era: its header fields.
fn session(client: &mut Client) -> Vec<(&'static str, &'static str)> {
    let answer = client.ask(crate::client::initialize("2025-11-25"));
    let id = answer.header("mcp-session-id").expect("a session").to_owned();
    // Tests are short.
    vec![("mcp-session-id", id.leak()), ("mcp-protocol-version", "2025-11-25")]
}

/// A front before this server alone answers right, and lists the tool.
fn serves(lines: &str, question: &Question<'_>) -> Front {
    let front = Front::start(2, &[("back", lines.to_owned())]);
    front.wait_for(question.tool);
    question.ask(&front, question.tool);
    front
}

/// The lines of a table for a command.
fn command(words: &[&str]) -> String {
    let quoted: Vec<_> = words.iter().map(|word| json!(word).to_string()).collect();
    format!("command = {}\nargs = [{}]", quoted[0], quoted[1..].join(", "))
}

/// A server that is a process serves; killed while it has a call before it, that call is told so, and the next is answered by a new process.
fn survives(words: &[&str], question: &Question<'_>) {
    let front = serves(&command(words), question);
    let first = child(&front);
    // Stopped, it reads nothing: the call is certainly on its way when it ends.
    signal(first, libc::SIGSTOP);
    let mut client = front.connect();
    let padding = format!(r#""padding":"{}","#, "x".repeat(PADDING));
    client.send(modern_with(9, "tools/call", &question.params(question.tool), &padding));
    let pipes = inputs(first);
    until("the call is in the pipe", || pipes.iter().any(|pipe| unread(pipe) >= PADDING));
    drop(pipes);
    signal(first, libc::SIGKILL);
    let answer = client.response();
    let message = answer.json()["error"]["message"].as_str().unwrap_or_default().to_owned();
    assert!(answer.status == 200 && message.contains("The server back "), "{}\n--- the front\n{}", answer.body, front.log());
    until("it serves again", || {
        let answer = front.connect().ask(modern(9, "tools/call", &question.params(question.tool))).json();
        answer["result"]["content"][0]["text"].as_str().is_some_and(|text| text.contains(question.says))
    });
    assert_ne!(child(&front), first, "another process serves");
    front.stop();
}

fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + WAIT_MAX;
    while !is_so() {
        assert!(Instant::now() < deadline, "waited for in vain: {what}");
        thread::sleep(Duration::from_millis(20));
    }
}

/// The one child process of a front.
fn child(front: &Front) -> libc::pid_t {
    let parent = front.pid().to_string();
    let is_child = |pid: &libc::pid_t| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        // Behind the name, which may hold anything: the state and the parent.
        let mut fields = stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace();
        fields.next().is_some_and(|state| state != "Z") && fields.next() == Some(&parent)
    };
    let entries = fs::read_dir("/proc").expect("/proc is there").flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let children: Vec<_> = pids.filter(is_child).collect();
    let [child] = children[..] else { panic!("not one child, but {children:?}\n{}", front.log()) };
    child
}

fn signal(pid: libc::pid_t, number: libc::c_int) {
    // SAFETY: plain system call.
    assert_eq!(unsafe { libc::kill(pid, number) }, 0, "the process is there");
}

/// The pipes that a process reads. Its standard input need not be the one of that number: some move it out of the way of what they import.
fn inputs(pid: libc::pid_t) -> Vec<File> {
    let entries = fs::read_dir(format!("/proc/{pid}/fd")).expect("the process is there").flatten();
    let is_input = |path: &Path| {
        let is_pipe = fs::read_link(path).is_ok_and(|to| to.to_string_lossy().starts_with("pipe:"));
        is_pipe && path.symlink_metadata().is_ok_and(|link| link.permissions().mode() & 0o600 == 0o400)
    };
    let paths = entries.map(|entry| entry.path()).filter(|path| is_input(path));
    let open = |path| OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path);
    paths.map(|path| open(path).expect("a pipe can be opened again")).collect()
}

/// Bytes in a pipe that nobody has read.
fn unread(pipe: &File) -> usize {
    let mut count: libc::c_int = 0;
    // SAFETY: plain system call; the kernel writes to a local.
    let failed = unsafe { libc::ioctl(pipe.as_raw_fd(), libc::FIONREAD, &raw mut count) };
    assert_eq!(failed, 0, "a pipe says what is in it");
    usize::try_from(count).expect("a count")
}

/// A server over HTTP, once it has said where.
fn started(program: &Path, args: &[&str]) -> (Process, String) {
    let server = Process::start(program, args);
    let address = server.printed(|line| url(line, "/mcp"));
    (server, format!("url = \"{address}\""))
}

fn node_package(name: &str) -> String {
    text(&peer::provisioned("servers/node_modules/@modelcontextprotocol").join(name).join("dist/index.js"))
}

fn text(path: &Path) -> String {
    path.to_str().expect("a path in UTF-8").to_owned()
}

fn python() -> String {
    text(&peer::provisioned("python-servers/bin/python"))
}

fn node() -> String {
    text(&peer::provisioned("bin/node"))
}

fn sum() -> Question<'static> {
    Question { tool: "get-sum", arguments: json!({"a": 19, "b": 23}), says: "42" }
}

fn product() -> Question<'static> {
    Question { tool: "multiply", arguments: json!({"a": 6, "b": 7}), says: "6 times 7 is 42" }
}

#[test]
fn everything_over_http() {
    let (announce, package) = (text(&peer::source("servers/announce.mjs")), node_package("server-everything"));
    // The server takes its port from the environment alone.
    let args = ["PORT=0", &node(), "--import", &announce, &package, "streamableHttp"];
    let (server, lines) = started(Path::new("/usr/bin/env"), &args);
    serves(&lines, &sum()).stop();
    drop(server);
}

#[test]
fn everything_over_stdio() {
    survives(&[&node(), &node_package("server-everything"), "stdio"], &sum());
}

#[test]
fn filesystem_over_stdio() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().canonicalize().expect("it is there");
    let file = path.join("note.txt");
    fs::write(&file, "what the file says").expect("it is written");
    let question = Question { tool: "read_text_file", arguments: json!({"path": text(&file)}), says: "what the file says" };
    survives(&[&node(), &node_package("server-filesystem"), &text(&path)], &question);
}

#[test]
fn time_over_stdio() {
    let arguments = json!({"source_timezone": "UTC", "time": "12:00", "target_timezone": "Asia/Tokyo"});
    let question = Question { tool: "convert_time", arguments, says: "21:00:00+09:00" };
    survives(&[&python(), "-I", "-m", "mcp_server_time", "--local-timezone", "UTC"], &question);
}

#[test]
fn git_over_stdio() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = text(directory.path());
    let mut git = Command::new("git");
    git.args(["init", "--quiet", "--initial-branch", "harbour", &path]);
    let ended = process::run(git, b"", WAIT_MAX);
    assert!(ended.status.success(), "{}", ended.printed());
    let question = Question { tool: "git_status", arguments: json!({"repo_path": path}), says: "On branch harbour" };
    survives(&[&python(), "-I", "-m", "mcp_server_git", "--repository", &path], &question);
}

#[test]
fn python_sdk_over_stdio() {
    survives(&[&python(), "-I", &text(&peer::source("servers/python.py")), "sdk", "stdio"], &product());
}

#[test]
fn fastmcp_over_stdio() {
    survives(&[&python(), "-I", &text(&peer::source("servers/python.py")), "fastmcp", "stdio"], &product());
}

#[test]
fn python_sdk_over_http() {
    let (server, lines) = started(Path::new(&python()), &["-I", &text(&peer::source("servers/python.py")), "sdk", "http"]);
    serves(&lines, &product()).stop();
    drop(server);
}

#[test]
fn fastmcp_over_http() {
    let (server, lines) = started(Path::new(&python()), &["-I", &text(&peer::source("servers/python.py")), "fastmcp", "http"]);
    serves(&lines, &product()).stop();
    drop(server);
}

#[test]
fn rmcp_over_http() {
    let (server, lines) = started(&peer::rmcp_server(), &["--listen", "127.0.0.1:0"]);
    serves(&lines, &Question { tool: "echo", arguments: json!({"message": "hello"}), says: "hello" }).stop();
    drop(server);
}

#[test]
fn rmcp_over_stdio() {
    let question = Question { tool: "echo", arguments: json!({"message": "hello"}), says: "hello" };
    survives(&[&text(&peer::rmcp_server()), "stdio"], &question);
}

#[test]
fn servers_of_all_kinds_behind_one_front() {
    let (rmcp, rmcp_lines) = started(&peer::rmcp_server(), &["--listen", "127.0.0.1:0"]);
    let script = text(&peer::source("servers/python.py"));
    let (http, http_lines) = started(Path::new(&python()), &["-I", &script, "sdk", "http"]);
    let front = Front::start(
        2,
        &[
            ("rust", rmcp_lines),
            ("sdk", http_lines),
            ("fast", command(&[&python(), "-I", &script, "fastmcp", "stdio"])),
            ("node", command(&[&node(), &node_package("server-everything"), "stdio"])),
        ],
    );
    let hello = || Question { tool: "echo", arguments: json!({"message": "hello"}), says: "hello" };
    for (tool, question) in
        [("rust.echo", hello()), ("node.echo", hello()), ("node.get-sum", sum()), ("sdk.multiply", product()), ("fast.multiply", product())]
    {
        front.wait_for(tool);
        question.ask(&front, tool);
    }
    front.stop();
    drop((rmcp, http));
}
