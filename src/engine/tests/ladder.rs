//! PROTOCOL: what a request must pass, and in which order.

use super::cluster::{Cluster, Response, config, modern, modern_with, post};
use super::fixture::{paged, server};
use crate::engine::Eras;

fn cluster() -> Cluster {
    Cluster::new(1, &config(), server)
}

fn only(era: Eras) -> Cluster {
    let mut config = config();
    config.era = era;
    Cluster::new(1, &config, server)
}

fn answer(cluster: &mut Cluster, request: &[u8]) -> Response {
    let conn = cluster.connect(0);
    let response = cluster.exchange(conn, request);
    assert!(response.rest.is_empty(), "one answer to one request");
    response
}

/// Status and error code of the answer.
fn refusal(cluster: &mut Cluster, request: &[u8]) -> (u16, i64) {
    let response = answer(cluster, request);
    (response.status, response.code())
}

fn echo() -> Vec<u8> {
    modern("tools/call", Some("echo"), r#""name":"echo","arguments":{"message":"hi"}"#)
}

fn replaced(request: &[u8], from: &str, to: &str) -> Vec<u8> {
    let text = String::from_utf8(request.to_vec()).expect("UTF-8");
    assert!(text.contains(from), "{from} is in {text}");
    let text = text.replacen(from, to, 1);
    let (head, body) = text.split_once("\r\n\r\n").expect("a head");
    let lines = head
        .lines()
        .map(|line| if line.starts_with("Content-Length:") { format!("Content-Length: {}", body.len()) } else { line.to_owned() });
    format!("{}\r\n\r\n{body}", lines.collect::<Vec<_>>().join("\r\n")).into_bytes()
}

#[test]
fn a_good_call_is_answered_at_once() {
    let mut cluster = cluster();
    let response = answer(&mut cluster, &echo());
    assert_eq!(response.status, 200);
    assert_eq!(response.field("content-type").as_deref(), Some("application/json"));
    let result = &response.json()["result"];
    assert_eq!(result["content"][0]["text"], "hi");
    assert_eq!(result["resultType"], "complete");
    assert_eq!(result["_meta"]["io.modelcontextprotocol/serverInfo"]["name"], "test");
    assert_eq!(response.json()["id"], 1);
    assert!(cluster.engines[0].is_idle());
}

#[test]
fn every_row_refuses_what_it_should() {
    let mut cluster = cluster();
    let version = "io.modelcontextprotocol/protocolVersion";
    let rows: &[(&str, Vec<u8>, (u16, i64))] = &[
        ("origin", modern_with("tools/list", None, "", "", "{}", "Origin: http://evil.example\r\n"), (403, -32000)),
        ("host", post("Host: evil.example\r\n", "{}"), (403, -32000)),
        ("path", replaced(&echo(), "/mcp", "/other"), (404, -32000)),
        ("method", b"PUT /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n".to_vec(), (405, -32000)),
        ("content type", post("Content-Type: text/plain\r\n", "{}"), (415, -32000)),
        ("content type missing", b"POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{}".to_vec(), (415, -32000)),
        ("content coding", post("Content-Encoding: gzip\r\n", "{}"), (415, -32000)),
        ("accept", modern_with("tools/list", None, "", "", "{}", "Accept: text/html\r\n"), (406, -32000)),
        ("JSON", post("", "{"), (400, -32700)),
        ("shape", post("", r#"{"jsonrpc":"2.0","method":7}"#), (400, -32600)),
        (
            "batch with a claim",
            {
                let one =
                    format!(r#"[{{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{{"_meta":{{"{version}":"2026-07-28"}}}}}}]"#);
                post("", &one)
            },
            (400, -32600),
        ),
        ("envelope: no capabilities", replaced(&echo(), ",\"io.modelcontextprotocol/clientCapabilities\":{}", ""), (400, -32602)),
        ("envelope: capabilities no object", replaced(&echo(), "clientCapabilities\":{}", "clientCapabilities\":[]"), (400, -32602)),
        (
            "envelope: no meta, modern header",
            post("MCP-Protocol-Version: 2026-07-28\r\nMcp-Method: tools/list\r\n", r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#),
            (400, -32602),
        ),
        ("envelope: level", modern_with("tools/list", None, "", r#","io.modelcontextprotocol/logLevel":"loud""#, "{}", ""), (400, -32602)),
        ("version header missing", replaced(&echo(), "MCP-Protocol-Version: 2026-07-28\r\n", ""), (400, -32020)),
        (
            "version header differs",
            replaced(&echo(), "MCP-Protocol-Version: 2026-07-28", "MCP-Protocol-Version: 2025-11-25"),
            (400, -32020),
        ),
        ("method header missing", replaced(&echo(), "Mcp-Method: tools/call\r\n", ""), (400, -32020)),
        ("method header differs", replaced(&echo(), "Mcp-Method: tools/call", "Mcp-Method: tools/list"), (400, -32020)),
        ("name header missing", replaced(&echo(), "Mcp-Name: echo\r\n", ""), (400, -32020)),
        ("name header differs", replaced(&echo(), "Mcp-Name: echo", "Mcp-Name: Echo"), (400, -32020)),
        ("name header twice", replaced(&echo(), "Mcp-Name: echo", "Mcp-Name: echo\r\nmcp-name: echo"), (400, -32020)),
        (
            "version unsupported",
            {
                let header = replaced(&echo(), "MCP-Protocol-Version: 2026-07-28", "MCP-Protocol-Version: v999.0.0");
                replaced(&header, "protocolVersion\":\"2026-07-28\"", "protocolVersion\":\"v999.0.0\"")
            },
            (400, -32022),
        ),
        ("method unknown", modern("tools/frobnicate", None, ""), (404, -32601)),
        ("method removed: ping", modern("ping", None, ""), (404, -32601)),
        ("method removed: initialize", modern("initialize", None, ""), (404, -32601)),
        ("method removed: logging", modern("logging/setLevel", None, r#""level":"info""#), (404, -32601)),
        ("method removed: subscribe", modern("resources/subscribe", None, r#""uri":"test://text""#), (404, -32601)),
        ("not offered: completion", modern("completion/complete", None, ""), (404, -32601)),
        ("capability", modern("tools/call", Some("sampler"), r#""name":"sampler","arguments":{}"#), (400, -32021)),
        ("param header missing", modern("tools/call", Some("region"), r#""name":"region","arguments":{"region":"west"}"#), (400, -32020)),
        ("cursor", modern("tools/list", None, r#""cursor":"nonsense""#), (200, -32602)),
        ("cursor no string", modern("tools/list", None, r#""cursor":7"#), (200, -32602)),
        ("tool unknown", modern("tools/call", Some("nope"), r#""name":"nope""#), (200, -32602)),
        ("tool without a name", modern("tools/call", None, ""), (200, -32602)),
        ("resource unknown", modern("resources/read", Some("test://none"), r#""uri":"test://none""#), (200, -32602)),
        ("prompt unknown", modern("prompts/get", Some("nope"), r#""name":"nope""#), (200, -32602)),
        ("state forged", modern("tools/call", Some("ask"), r#""name":"ask","requestState":"AAAA""#), (200, -32602)),
        ("state no string", modern("tools/call", Some("ask"), r#""name":"ask","requestState":{}"#), (200, -32602)),
    ];
    for (name, request, expected) in rows {
        assert_eq!(refusal(&mut cluster, request), *expected, "{name}");
    }
}

#[test]
fn the_first_failure_wins() {
    let mut cluster = cluster();
    let bad_version = |request: &[u8]| replaced(request, "protocolVersion\":\"2026-07-28\"", "protocolVersion\":\"v9\"");
    let rows: &[(&str, Vec<u8>, (u16, i64))] = &[
        ("origin before path", replaced(&modern_with("x", None, "", "", "{}", "Origin: null\r\n"), "/mcp", "/x"), (403, -32000)),
        ("content type before JSON", post("Content-Type: text/plain\r\n", "{"), (415, -32000)),
        (
            "envelope before headers",
            replaced(&replaced(&echo(), "Mcp-Method: tools/call\r\n", ""), ",\"io.modelcontextprotocol/clientCapabilities\":{}", ""),
            (400, -32602),
        ),
        ("contradiction before version", bad_version(&echo()), (400, -32020)),
        (
            "version before a missing method header",
            {
                let request = replaced(&echo(), "MCP-Protocol-Version: 2026-07-28", "MCP-Protocol-Version: v9");
                bad_version(&replaced(&request, "Mcp-Method: tools/call\r\n", ""))
            },
            (400, -32022),
        ),
        ("method header before unknown method", replaced(&modern("nope/nope", None, ""), "Mcp-Method: nope/nope\r\n", ""), (400, -32020)),
        ("unknown method before capability and params", modern("nope/nope", None, r#""requestState":7"#), (404, -32601)),
    ];
    for (name, request, expected) in rows {
        assert_eq!(refusal(&mut cluster, request), *expected, "{name}");
    }
}

#[test]
fn refusals_say_what_the_client_needs() {
    let mut cluster = cluster();
    let header = replaced(&echo(), "MCP-Protocol-Version: 2026-07-28", "MCP-Protocol-Version: v9");
    let response = answer(&mut cluster, &replaced(&header, "protocolVersion\":\"2026-07-28\"", "protocolVersion\":\"v9\""));
    assert_eq!(response.json()["error"]["data"], serde_json::json!({"supported": ["2026-07-28"], "requested": "v9"}));
    assert_eq!(response.json()["id"], 1);
    let response = answer(&mut cluster, &modern("tools/call", Some("sampler"), r#""name":"sampler""#));
    assert_eq!(response.json()["error"]["data"]["requiredCapabilities"], serde_json::json!({"sampling": {}}));
    let response = answer(&mut cluster, &modern("resources/read", Some("test://none"), r#""uri":"test://none""#));
    assert_eq!(response.json()["error"]["data"]["uri"], "test://none");
    let response = answer(&mut cluster, b"GET /nowhere HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert_eq!((response.status, response.json().get("id")), (404, None));
    let response = answer(&mut cluster, b"PATCH /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n");
    assert_eq!(response.field("allow").as_deref(), Some("POST, GET, DELETE, OPTIONS"));
}

#[test]
fn headers_that_agree_in_another_spelling_pass() {
    let mut cluster = cluster();
    for request in [
        replaced(&echo(), "Mcp-Name: echo", "mcp-name: =?base64?ZWNobw==?="),
        replaced(&echo(), "Mcp-Method: tools/call", "MCP-METHOD:    tools/call  "),
        modern_with(
            "tools/call",
            Some("region"),
            r#""name":"region","arguments":{"region":"west"}"#,
            "",
            "{}",
            "mcp-param-region: west\r\n",
        ),
        modern_with("tools/call", Some("region"), r#""name":"region","arguments":{}"#, "", "{}", "Mcp-Param-Unknown: 1\r\n"),
        modern_with("tools/list", None, "", "", "{}", "Mcp-Session-Id: whatever\r\nLast-Event-ID: 7\r\n"),
    ] {
        let response = answer(&mut cluster, &request);
        assert_eq!(response.status, 200, "{}", response.body);
        assert!(response.json().get("result").is_some(), "{}", response.body);
        assert_eq!(response.field("mcp-session-id"), None);
    }
}

#[test]
fn lists_and_discover_have_their_members() {
    let mut cluster = cluster();
    let result = answer(&mut cluster, &modern("server/discover", None, "")).json()["result"].clone();
    assert_eq!(result["supportedVersions"], serde_json::json!(["2026-07-28"]));
    assert_eq!(result["instructions"], "Be kind");
    assert!(result["capabilities"]["tools"].is_object() && result["capabilities"].get("completions").is_none(), "{result}");
    for (method, member) in [
        ("tools/list", "tools"),
        ("prompts/list", "prompts"),
        ("resources/list", "resources"),
        ("resources/templates/list", "resourceTemplates"),
    ] {
        let list = answer(&mut cluster, &modern(method, None, "")).json()["result"].clone();
        assert!(list[member].is_array(), "{method}: {list}");
        for result in [&list, &result] {
            assert!(result["ttlMs"].is_u64() && result["cacheScope"].is_string(), "{method}: {result}");
            assert_eq!(result["resultType"], "complete");
            assert_eq!(result["_meta"]["io.modelcontextprotocol/serverInfo"]["version"], "1.0");
        }
    }
    let read = answer(&mut cluster, &modern("resources/read", Some("test://text"), r#""uri":"test://text""#)).json()["result"].clone();
    assert_eq!(read["contents"][0]["text"], "the text");
    assert!(read["ttlMs"].is_u64() && read["cacheScope"].is_string(), "{read}");
    let prompt = answer(&mut cluster, &modern("prompts/get", Some("greet"), r#""name":"greet""#)).json()["result"].clone();
    assert!(prompt["messages"].is_array() && prompt.get("ttlMs").is_none(), "{prompt}");
}

#[test]
fn lists_come_in_pages_and_only_their_own_cursors_are_good() {
    let mut cluster = Cluster::new(1, &config(), paged);
    let mut names = Vec::new();
    let mut cursor = String::new();
    for _ in 0..10 {
        let list = answer(&mut cluster, &modern("tools/list", None, &format!(r#""cursor":"{cursor}""#))).json()["result"].clone();
        let tools = list["tools"].as_array().expect("tools").clone();
        assert!(tools.len() <= 5);
        names.extend(tools.iter().map(|tool| tool["name"].as_str().expect("a name").to_owned()));
        let Some(next) = list["nextCursor"].as_str() else { break };
        next.clone_into(&mut cursor);
    }
    let whole = answer(&mut self::cluster(), &modern("tools/list", None, "")).json()["result"]["tools"].clone();
    let all: Vec<&str> = whole.as_array().expect("tools").iter().map(|tool| tool["name"].as_str().expect("a name")).collect();
    assert_eq!(names, all);
    assert_eq!(refusal(&mut cluster, &modern("prompts/list", None, &format!(r#""cursor":"{cursor}""#))), (200, -32602), "of another list");
}

#[test]
fn notifications_are_acknowledged_and_dropped() {
    let mut cluster = cluster();
    let body = r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1}}"#;
    let response = answer(&mut cluster, &post("MCP-Protocol-Version: 2026-07-28\r\n", body));
    assert_eq!((response.status, response.body.as_str()), (202, ""));
}

#[test]
fn where_the_modern_era_alone_is_served() {
    let mut cluster = only(Eras::Modern);
    let initialize = r#"{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"c","version":"1"}}}"#;
    let response = answer(&mut cluster, &post("", initialize));
    assert_eq!((response.status, response.code()), (400, -32022));
    assert_eq!(response.json()["error"]["data"], serde_json::json!({"supported": ["2026-07-28"], "requested": "2025-11-25"}));
    assert_eq!(response.json()["id"], 0);
    for method in ["GET", "DELETE"] {
        let response =
            answer(&mut cluster, format!("{method} /mcp HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n").as_bytes());
        assert_eq!((response.status, response.field("allow").as_deref()), (405, Some("POST, OPTIONS")));
    }
    assert_eq!(refusal(&mut cluster, &post("", r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#)), (400, -32602));
    assert_eq!(refusal(&mut cluster, &post("", r#"{"jsonrpc":"2.0","id":1,"result":{}}"#)), (400, -32600));
    assert_eq!(refusal(&mut cluster, &post("", r#"[{"jsonrpc":"2.0","id":1,"method":"ping"}]"#)), (400, -32600));
    assert_eq!(answer(&mut cluster, &post("", r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#)).status, 202);
    assert_eq!(answer(&mut cluster, &echo()).status, 200);
}

#[test]
fn where_the_legacy_era_alone_is_served_probes_fall_back() {
    let mut cluster = only(Eras::Legacy);
    assert_eq!(refusal(&mut cluster, &modern("server/discover", None, "")), (400, -32000));
    assert_eq!(
        refusal(&mut cluster, &post("MCP-Protocol-Version: 2026-07-28\r\n", r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#)),
        (400, -32000)
    );
}
