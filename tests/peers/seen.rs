//! What a client must have seen of the fixture server, whichever language it is written in. The client programs print
//! their observations as one line of JSON.

use std::{process::Command, time::Duration};

use serde_json::{Value, json};

use crate::{server::Server, support::process};

const CLIENT_MAX: Duration = Duration::from_secs(120);

/// The revisions that the official clients settle on.
pub const LEGACY: &str = "2025-11-25";
pub const MODERN: &str = "2026-07-28";

/// Starts a server for `era`, runs `client` against it and judges what it saw. It must have settled on `protocol`.
/// `client` makes the command and its standard input from the server's address.
pub fn conversation(era: &str, protocol: &str, client: impl FnOnce(&str) -> (Command, Vec<u8>)) -> Value {
    let server = Server::start(2, era);
    let (command, input) = client(server.url());
    let seen = judged(protocol, command, &input, || server.log());
    server.stop();
    seen
}

/// Runs a client, with `input` on its standard input, and judges what it saw. It must have settled on `protocol`. `log` is what the server
/// has printed.
pub fn judged(protocol: &str, client: Command, input: &[u8], log: impl FnOnce() -> String) -> Value {
    let ended = process::run(client, input, CLIENT_MAX);
    assert!(ended.status.success(), "the client failed ({})\n{}\n--- the server\n{}", ended.status, ended.printed(), log());
    let line = ended.stdout.lines().last().unwrap_or_default();
    let seen: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("not an observation: {error}\n{}", ended.printed()));
    assert_eq!(seen["protocol"], protocol, "the revision agreed on");
    lists(&seen);
    calls(&seen);
    match protocol {
        MODERN => modern(&seen),
        _ => legacy(&seen),
    }
    assert_eq!(seen["closed"], true, "the client closed in order");
    seen
}

fn lists(seen: &Value) {
    let tools = [
        "json_schema_2020_12_tool",
        "test_audio_content",
        "test_embedded_resource",
        "test_error_handling",
        "test_image_content",
        "test_multiple_content_types",
        "test_simple_text",
        "test_tool_with_progress",
    ];
    let resources = ["test://static-binary", "test://static-text", "test://watched-resource"];
    let prompts = ["test_prompt_with_arguments", "test_prompt_with_embedded_resource", "test_prompt_with_image", "test_simple_prompt"];
    holds(seen, "tools", &tools);
    holds(seen, "resources", &resources);
    holds(seen, "templates", &["test://template/{id}/data"]);
    holds(seen, "prompts", &prompts);
}

/// The list `key` holds all of `names`, and nothing twice: pages that overlap would show here.
fn holds(seen: &Value, key: &str, names: &[&str]) {
    let mut listed: Vec<&str> = strings(seen, key);
    for name in names {
        assert!(listed.contains(name), "{key} lacks {name}: {listed:?}");
    }
    let count = listed.len();
    listed.sort_unstable();
    listed.dedup();
    assert_eq!(listed.len(), count, "{key} has something twice");
}

fn strings<'a>(seen: &'a Value, key: &str) -> Vec<&'a str> {
    let list = seen[key].as_array();
    let list = list.unwrap_or_else(|| panic!("{key} was not seen: {seen}"));
    list.iter().filter_map(Value::as_str).collect()
}

fn calls(seen: &Value) {
    let simple = "This is a simple text response for testing.";
    assert_eq!(seen["simple_text"], simple);
    let steps = json!([[0.0, 100.0], [50.0, 100.0], [100.0, 100.0]]);
    assert_eq!(numbers(&seen["progress"]), steps, "progress, in order");
    assert_eq!(seen["tool_error"], true, "a failing tool says isError");
    assert_eq!(seen["unknown_tool_code"], -32602, "an unknown tool");
    let text = "This is the content of the static text resource.";
    assert_eq!(seen["resource_text"], text);
    assert_eq!(seen["prompt_text"], "This is a simple prompt for testing.");
}

/// The same list with every number as a float: the clients differ in how they print a whole number.
fn numbers(list: &Value) -> Value {
    match list {
        Value::Array(items) => items.iter().map(numbers).collect(),
        Value::Number(number) => json!(number.as_f64()),
        other => other.clone(),
    }
}

fn legacy(seen: &Value) {
    let asked = ["Who are you?", "What is the capital of France?"];
    assert_eq!(strings(seen, "asked"), asked, "what the server asked");
    says(seen, "elicited", "ada");
    assert_eq!(seen["sampled"], "LLM response: Paris");
    let logs = strings(seen, "logs");
    assert!(logs.len() >= 3, "three messages were logged: {logs:?}");
    holds(seen, "logs", &[]);
    for line in logs {
        assert!(line.starts_with("info: "), "{line} is not at level info");
    }
}

fn modern(seen: &Value) {
    let asked = strings(seen, "asked");
    assert_eq!(asked.len(), 2, "one form and one completion: {asked:?}");
    assert_eq!(seen["elicited"], "Hello, ada!");
    says(seen, "sampled", "Paris");
    says(seen, "mirrored", "Zürich");
    let logs = strings(seen, "logs");
    assert_eq!(logs.len(), 1, "one message was logged: {logs:?}");
    assert!(logs[0].starts_with("info: "), "{logs:?}");
    assert_eq!(seen["listens_to"], json!(["toolsListChanged"]));
    assert_eq!(seen["tools_changed"], 1, "the change of the tools was told");
}

fn says(seen: &Value, key: &str, word: &str) {
    let text = seen[key].as_str().unwrap_or_default();
    assert!(text.contains(word), "{key} does not say {word}: {text:?}");
}
