//! Many tools of many servers behind one endpoint.

#[path = "../../benches/lists/nodes.rs"]
mod nodes;

use std::collections::BTreeSet;

use crate::client::{Client, Response, initialize, modern, post};
use crate::server::until;

const UPSTREAMS: u32 = 20;
const TOOLS: u32 = 50;

/// All names of a list that is asked for page by page. `ask` is given the cursor, as a member of the parameters.
fn names(mut ask: impl FnMut(&str) -> Response) -> Vec<String> {
    let (mut names, mut cursor) = (Vec::new(), String::new());
    loop {
        let answer = ask(&cursor).json();
        let tools = answer["result"]["tools"].as_array().unwrap_or_else(|| panic!("no list: {answer}"));
        names.extend(tools.iter().map(|tool| tool["name"].as_str().expect("a name").to_owned()));
        assert!(tools.iter().all(|tool| tool["inputSchema"]["properties"]["query"]["type"] == "string"), "whole definitions");
        let Some(next) = answer["result"]["nextCursor"].as_str() else { return names };
        cursor = format!(r#""cursor":"{next}""#);
    }
}

#[test]
fn a_thousand_tools_of_twenty_servers_are_listed_and_called_by_their_names() {
    let back = nodes::back(UPSTREAMS, TOOLS, None);
    let front = nodes::front(back.addresses()[0], UPSTREAMS, None);
    let admin = front.admin().expect("an admin port");
    let ready = format!("GET /health/ready HTTP/1.1\r\nhost: {admin}\r\n\r\n");
    until("all are seen", || Client::connect(admin).ask(&ready).status == 200);
    let expected: BTreeSet<String> = (0..UPSTREAMS).flat_map(|s| (0..TOOLS).map(move |t| format!("s{s}.t{t}"))).collect();
    let mut client = Client::connect(front.addresses()[0]);
    let listed = names(|cursor| client.ask(modern(1, "tools/list", cursor)));
    assert_eq!((listed.len(), listed.iter().cloned().collect::<BTreeSet<_>>()), (expected.len(), expected.clone()));
    assert_eq!(names(|cursor| client.ask(modern(2, "tools/list", cursor))), listed, "in the same order again");
    let session = client.ask(initialize("2025-06-18")).header("mcp-session-id").expect("a session").to_owned();
    let fields = [("mcp-session-id", session.as_str()), ("mcp-protocol-version", "2025-06-18")];
    assert_eq!(client.ask(post(&fields, r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#)).status, 202);
    let legacy = names(|cursor| {
        let body = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{{{cursor}}}}}"#);
        client.ask(post(&fields, &body))
    });
    assert_eq!(legacy, listed, "the other era sees the same");
    for name in ["s0.t0", "s7.t31", "s19.t49"] {
        let answer = client.ask(modern(3, "tools/call", &format!(r#""name":"{name}","arguments":{{"query":"x"}}"#))).json();
        assert_eq!(answer["result"]["content"][0]["text"], "found", "{name}: {answer}");
    }
}
