//! A server over standard input and output: this very binary, started once more for the one test that is it.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, Write};
use std::process::{Command, Stdio, exit};
use std::thread::sleep;
use std::time::Duration;

use serde_json::{Value, json};

/// Says that this is the server, and which era it speaks.
const MARK: &str = "RINGHUB_TEST_CHILD";

/// The lines of a table for it, with more lines of the kind.
pub fn table(name: &str, era: &str, more: &str) -> String {
    let program = std::env::current_exe().expect("a path");
    format!(
        "[[upstream]]\nname = \"{name}\"\ncommand = {program:?}\nargs = [\"child::serves\", \"--exact\", \"--nocapture\"]\nenv = {{ {MARK} = \"{era}\" }}\n{more}\n"
    )
}

/// The processes whose parent is this one, with the letter of their state.
pub fn children(parent: u32) -> Vec<(u32, String)> {
    let entries = fs::read_dir("/proc").expect("/proc is there").flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let of_parent = |pid: u32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // Behind the name, which may hold anything: the state and the parent.
        let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
        let state = fields.next()?.to_owned();
        (fields.next()? == parent.to_string()).then_some((pid, state))
    };
    pids.filter_map(of_parent).collect()
}

/// Descriptors of a process that are pipes, or stand for other processes: what it has for its children.
pub fn ties(pid: u32) -> usize {
    let files = fs::read_dir(format!("/proc/{pid}/fd")).expect("the process runs").flatten();
    let kinds = files.filter_map(|file| Some(fs::read_link(file.path()).ok()?.to_string_lossy().into_owned()));
    kinds.filter(|kind| kind.starts_with("pipe:") || kind.contains("pidfd")).count()
}

/// Whether a process runs.
pub fn runs(pid: u32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z"))
}

#[test]
fn serves() {
    if let Ok(era) = std::env::var(MARK) {
        // What the test's own output began with ends here.
        say("");
        serve(era == "modern");
        exit(0);
    }
}

fn say(line: &str) {
    let mut stdout = std::io::stdout().lock();
    // Nobody may be there to hear it.
    let _ = stdout.write_all(format!("{line}\n").as_bytes()).and_then(|()| stdout.flush());
}

fn answer(id: &Value, name: &str, value: &Value) {
    say(&json!({"jsonrpc": "2.0", "id": id, name: value}).to_string());
}

fn serve(is_modern: bool) {
    // Calls of `hold`, by their ids, and what of them was called off.
    let (mut held, mut cancelled) = (BTreeMap::new(), Vec::new());
    for line in std::io::stdin().lock().lines() {
        let Ok(message) = line.map(|line| serde_json::from_str::<Value>(&line).expect("a message a line")) else { return };
        let (id, params) = (&message["id"], &message["params"]);
        let capabilities = json!({"tools": {}});
        match message["method"].as_str().unwrap_or_default() {
            "server/discover" if is_modern => {
                answer(id, "result", &json!({"supportedVersions": ["2026-07-28"], "capabilities": capabilities, "resultType": "complete"}));
            }
            "initialize" if !is_modern => {
                let info = json!({"name": "child", "version": "1"});
                answer(id, "result", &json!({"protocolVersion": "2025-11-25", "capabilities": capabilities, "serverInfo": info}));
            }
            "ping" => answer(id, "result", &json!({})),
            "tools/list" => {
                let names = ["echo", "hold", "cancelled", "die", "hang", "flood", "mute", "chatter", "slow", "spawn"];
                let tools = names.map(|name| json!({"name": name, "inputSchema": {"type": "object"}}));
                answer(id, "result", &json!({"tools": tools, "resultType": "complete"}));
            }
            "notifications/cancelled" => cancelled.extend(held.remove(&params["requestId"].to_string())),
            "tools/call" => {
                let said = params["arguments"]["message"].as_str().unwrap_or_default();
                if let Some(token) = params["_meta"].get("progressToken") {
                    let params = json!({"progressToken": token, "progress": 1, "message": said});
                    say(&json!({"jsonrpc": "2.0", "method": "notifications/progress", "params": params}).to_string());
                }
                let text = match params["name"].as_str().unwrap_or_default() {
                    "hold" => {
                        held.insert(id.to_string(), said.to_owned());
                        continue;
                    }
                    name => call(name, said, &cancelled),
                };
                answer(id, "result", &json!({"content": [{"type": "text", "text": text}], "resultType": "complete"}));
            }
            _ if id.is_null() => {}
            _ => answer(id, "error", &json!({"code": -32601, "message": "unknown"})),
        }
    }
}

/// Does what a tool does; its text, if it comes to that.
fn call(name: &str, said: &str, cancelled: &[String]) -> String {
    let forever = Duration::from_secs(3600);
    match name {
        "cancelled" => return cancelled.join(" "),
        "die" => exit(3),
        // It reads nothing, says nothing and does not end by itself.
        "hang" => sleep(forever),
        // A line that does not end.
        "flood" => loop {
            let mut stdout = std::io::stdout().lock();
            if stdout.write_all(&[b'x'; 65536]).is_err() {
                exit(4);
            }
        },
        // SAFETY: nothing is written any more.
        "mute" => unsafe {
            libc::close(1);
            sleep(forever);
        },
        "chatter" => {
            for number in 0..5000 {
                eprintln!("chatter {number}");
                if number % 10 == 0 {
                    say("what is no message");
                }
            }
        }
        "slow" => sleep(Duration::from_secs(2)),
        "spawn" => {
            let mut command = Command::new("sleep");
            command.arg("600").stdin(Stdio::null());
            return command.spawn().expect("it starts").id().to_string();
        }
        _ => {}
    }
    format!("{said} from {}", std::process::id())
}
