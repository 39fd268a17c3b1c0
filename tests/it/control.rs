//! The control API over real sockets: what it does, and who may not.

use std::io::Write;
use std::net::SocketAddr;

use serde_json::{Value, json};

use crate::client::{Client, Response, initialize, modern, post};
use crate::server::{Server, until};

const TOKEN: &str = "a-token-for-the-tests";

/// The admin port of a server, and the token to write to it.
pub struct Admin {
    pub server: Server,
    token: tempfile::NamedTempFile,
}

impl Admin {
    pub fn start(args: &[&str]) -> Self {
        let mut token = tempfile::NamedTempFile::new().expect("a file");
        writeln!(token, "{TOKEN}").expect("written");
        let path = token.path().to_str().expect("a path").to_owned();
        let server = Server::start(&[&["--cores", "2", "--no-pin", "--admin-token-file", &path], args].concat());
        Self { server, token }
    }

    pub fn token_file(&self) -> &str {
        self.token.path().to_str().expect("a path")
    }

    pub fn send(&self, method: &str, target: &str, fields: &str, body: &str) -> Response {
        ask(self.server.admin(), method, target, &format!("Authorization: Bearer {TOKEN}\r\n{fields}"), body)
    }

    pub fn get(&self, target: &str) -> Response {
        ask(self.server.admin(), "GET", target, "", "")
    }

    pub fn write(&self, method: &str, target: &str, body: &Value) -> Response {
        self.send(method, target, "Content-Type: application/json\r\n", &body.to_string())
    }

    fn register(&self, name: &str) {
        let response = self.write("POST", "/v1/servers", &server(name));
        assert_eq!(response.status, 201, "{}", response.body);
    }
}

fn ask(address: SocketAddr, method: &str, target: &str, fields: &str, body: &str) -> Response {
    let length = if body.is_empty() { String::new() } else { format!("Content-Length: {}\r\n", body.len()) };
    Client::connect(address).ask(format!("{method} {target} HTTP/1.1\r\nHost: localhost\r\n{fields}{length}\r\n{body}"))
}

fn server(name: &str) -> Value {
    let tool = json!({"name": "rain", "inputSchema": {"type": "object"}, "x": {"kept": [1, 2]}});
    json!({"name": name, "target": "https://weather.example/mcp", "description": "About the weather", "softwareVersion": "1.2.0", "tools": [tool]})
}

fn problem(response: &Response, status: u16, code: &str) -> String {
    assert_eq!((response.status, response.header("content-type")), (status, Some("application/problem+json")), "{}", response.body);
    let body = response.json();
    assert_eq!((body["status"].as_u64(), body["code"].as_str()), (Some(status.into()), Some(code)), "{body}");
    body["detail"].as_str().expect("words").to_owned()
}

#[test]
fn a_server_is_registered_read_updated_and_removed() {
    let admin = Admin::start(&[]);
    let made = admin.write("POST", "/v1/servers", &server("io.example/weather"));
    assert_eq!((made.status, made.header("location"), made.header("etag")), (201, Some("/v1/servers/io.example%2Fweather"), Some("\"1\"")));
    let place = "/v1/servers/io.example%2Fweather";
    let found = admin.get(place);
    assert_eq!((found.status, found.header("etag")), (200, Some("\"1\"")));
    assert!(found.body.contains(r#""x":{"kept":[1,2]}"#), "{}", found.body);
    problem(&admin.write("POST", "/v1/servers", &server("io.example/weather")), 409, "taken");
    let fields = "Content-Type: application/json\r\nIf-Match: \"9\"\r\n";
    let mismatch = admin.send("PUT", place, fields, &server("io.example/weather").to_string());
    problem(&mismatch, 412, "version_mismatch");
    assert_eq!((mismatch.header("etag"), mismatch.json()["currentVersion"].as_u64()), (Some("\"1\""), Some(1)));
    let updated = admin.send("PUT", place, &fields.replace('9', "1"), &server("io.example/weather").to_string());
    assert_eq!((updated.status, updated.header("etag")), (200, Some("\"2\"")));
    problem(&admin.write("PUT", "/v1/servers/other", &server("other")), 404, "absent");
    problem(&admin.send("DELETE", "/v1/servers/ringhub", "", ""), 403, "not_permitted");
    assert_eq!(admin.send("DELETE", place, "", "").status, 204);
    problem(&admin.get(place), 404, "absent");
    problem(&admin.send("DELETE", place, "", ""), 404, "absent");
}

#[test]
fn lists_are_paged_over_all_cores_and_filtered() {
    let admin = Admin::start(&[]);
    let names: Vec<String> = (0..25).map(|number| format!("io.example/s{number:02}")).collect();
    names.iter().for_each(|name| admin.register(name));
    let (mut seen, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = admin.get(&format!("/v1/servers?limit=7&source=upstream{cursor}")).json();
        let items = page["items"].as_array().expect("items");
        assert!(items.len() <= 7 && items.iter().all(|item| item["counts"]["tools"] == 1));
        seen.extend(items.iter().map(|item| item["name"].as_str().expect("a name").to_owned()));
        match page["nextCursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    assert_eq!(seen, names, "each once, in order");
    assert_eq!(admin.get("/v1/servers?search=S07").json()["items"].as_array().map(Vec::len), Some(1));
    assert_eq!(admin.get("/v1/servers?state=online").json()["items"][0]["name"], "ringhub");
    assert!(problem(&admin.get("/v1/servers?limit=0"), 400, "bad_request").contains("from 1 to 100"));
    assert!(problem(&admin.get("/v1/servers?serch=x"), 400, "bad_request").contains("search"));
    assert_eq!(admin.get("/v1/shards").json()["items"].as_array().map(Vec::len), Some(64));
    let cores = admin.get("/v1/cores").json();
    assert_eq!(cores["items"].as_array().map(Vec::len), Some(2));
    let held: u64 =
        admin.get("/v1/shards").json()["items"].as_array().expect("items").iter().filter_map(|shard| shard["servers"].as_u64()).sum();
    assert_eq!(held, 26);
    assert_eq!(admin.get("/v1/shards/63").json()["core"], 1);
    problem(&admin.get("/v1/shards/64"), 404, "absent");
    problem(&admin.get("/v1/cores/2"), 404, "absent");
}

#[test]
fn clients_see_what_is_bound() {
    let admin = Admin::start(&[]);
    admin.register("weather");
    let made = admin.write("POST", "/v1/endpoints", &json!({"path": "/mcp/x", "servers": ["weather"]}));
    assert_eq!((made.status, made.header("location")), (201, Some("/v1/endpoints/%2Fmcp%2Fx")), "{}", made.body);
    let mut client = Client::connect(admin.server.address());
    let mut tools = || {
        let request = modern(1, "tools/list", "").replacen("POST /mcp ", "POST /mcp/x ", 1);
        let tools = client.ask(request).json()["result"]["tools"].as_array().expect("tools").clone();
        tools.iter().map(|tool| tool["name"].as_str().expect("a name").to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(tools(), ["rain"]);
    let bound = admin.write("POST", "/v1/bindings", &json!({"endpoint": "/mcp/x", "server": "ringhub"}));
    assert_eq!((bound.status, bound.header("location")), (201, Some("/v1/bindings/%2Fmcp%2Fx/ringhub")));
    assert!(tools().len() > 1, "at once, on whatever core");
    assert_eq!(admin.get("/v1/bindings?server=ringhub").json()["items"].as_array().map(Vec::len), Some(2));
    assert_eq!(admin.get("/v1/bindings/%2Fmcp%2Fx/ringhub").status, 200);
    assert_eq!(admin.send("DELETE", "/v1/bindings/%2Fmcp%2Fx/ringhub", "", "").status, 204);
    problem(&admin.get("/v1/bindings/%2Fmcp%2Fx/ringhub"), 404, "absent");
    assert_eq!(tools(), ["rain"]);
    assert_eq!(admin.write("PUT", "/v1/endpoints/%2Fmcp%2Fx", &json!({"servers": ["ringhub"]})).status, 200);
    assert_eq!(admin.get("/v1/endpoints/%2Fmcp%2Fx").json()["servers"], json!(["ringhub"]));
    assert!(!tools().contains(&"rain".to_owned()));
    assert_eq!(admin.send("DELETE", "/v1/endpoints/%2Fmcp%2Fx", "", "").status, 204);
    problem(&admin.get("/v1/endpoints/%2Fmcp%2Fx"), 404, "absent");
}

#[test]
fn a_web_page_cannot_drive_it() {
    let admin = Admin::start(&[]);
    let address = admin.server.admin();
    let body = server("evil").to_string();
    let json = "Content-Type: application/json\r\n";
    let bearer = format!("Authorization: Bearer {TOKEN}\r\n");
    for fields in [json.to_owned(), format!("{json}Authorization: Bearer x{TOKEN}\r\n"), format!("{json}Authorization: Basic {TOKEN}\r\n")]
    {
        let refused = ask(address, "POST", "/v1/servers", &fields, &body);
        assert!(problem(&refused, 401, "unauthorized").contains("Bearer"));
        assert_eq!(refused.header("www-authenticate"), Some("Bearer realm=\"ringhub\""));
    }
    for origin in ["http://localhost:3000", "http://evil.example", "null"] {
        let refused = ask(address, "POST", "/v1/servers", &format!("{json}{bearer}Origin: {origin}\r\n"), &body);
        problem(&refused, 403, "forbidden");
        let preflight = ask(address, "OPTIONS", "/v1/servers", &format!("Origin: {origin}\r\nAccess-Control-Request-Method: POST\r\n"), "");
        assert!(matches!(preflight.status, 403 | 405));
        for response in [&refused, &preflight, &ask(address, "GET", "/v1/servers", &format!("Origin: {origin}\r\n"), "")] {
            assert!(!response.headers.iter().any(|(name, _)| name.starts_with("access-control")), "{response:?}");
        }
    }
    problem(&ask(address, "GET", "/v1/servers", "Origin: http://evil.example\r\n", ""), 403, "forbidden");
    let rebound = Client::connect(address).ask("GET /v1/servers HTTP/1.1\r\nHost: evil.example\r\n\r\n");
    problem(&rebound, 403, "forbidden");
    // An address that others can reach makes no difference to that.
    let open = Admin::start(&["--listen", "0.0.0.0:0"]);
    let rebound = Client::connect(open.server.admin()).ask("GET /v1/servers HTTP/1.1\r\nHost: evil.example\r\n\r\n");
    problem(&rebound, 403, "forbidden");
    let known = Client::connect(open.server.admin()).ask(format!("GET /v1/servers HTTP/1.1\r\nHost: ringhub.example\r\n{bearer}\r\n"));
    assert_eq!(known.status, 200);
    for kind in ["text/plain", "application/x-www-form-urlencoded", "application/jsonp"] {
        problem(&ask(address, "POST", "/v1/servers", &format!("{bearer}Content-Type: {kind}\r\n"), &body), 415, "unsupported_media");
    }
    problem(&ask(address, "POST", "/v1/servers", &bearer, &body), 415, "unsupported_media");
    assert_eq!(admin.get("/v1/servers").json()["items"].as_array().map(Vec::len), Some(1), "nothing was written");
    let missing = problem(&admin.send("POST", "/v1/servers", json, r#"{"name":"a"}"#), 422, "invalid");
    assert!(missing.contains("`target`"));
    problem(&admin.send("POST", "/v1/servers", json, r#"{"name":"#), 400, "not_json");
    problem(&admin.send("PATCH", "/v1/servers", "", ""), 405, "method_not_allowed");
    problem(&admin.get("/v1/nothing"), 404, "no_such_path");
    let huge = Client::connect(address)
        .ask(format!("POST /v1/servers HTTP/1.1\r\nHost: localhost\r\n{json}{bearer}Content-Length: 99999999\r\n\r\n"));
    problem(&huge, 413, "body_too_large");
}

#[test]
fn changes_of_every_core_are_streamed() {
    let admin = Admin::start(&[]);
    let mut client = Client::connect(admin.server.admin());
    client.send("GET /v1/changes HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let (status, headers) = client.head().expect("a head");
    assert_eq!(status, 200);
    assert!(headers.contains(&("content-type".into(), "text/event-stream".into())));
    client.chunk().expect("the first comment");
    let names: Vec<String> = (0..8).map(|number| format!("n{number}")).collect();
    names.iter().for_each(|name| admin.register(name));
    let mut text = String::new();
    while !names.iter().all(|name| text.contains(&format!(r#"{{"kind":"server","name":"{name}"}}"#))) {
        let chunk = client.chunk().expect("more is to come").expect("it does not end");
        text.push_str(&String::from_utf8(chunk).expect("text"));
    }
    admin.write("POST", "/v1/endpoints", &json!({"path": "/mcp/n"}));
    while !text.contains(r#""kind":"endpoint","name":"/mcp/n""#) {
        text.push_str(&String::from_utf8(client.chunk().expect("more").expect("no end")).expect("text"));
    }
    admin.server.terminate();
    while client.chunk().expect("a good end").is_some() {}
}

#[test]
fn sessions_are_listed_and_ended() {
    let admin = Admin::start(&[]);
    let mut client = Client::connect(admin.server.address());
    let opened = client.ask(initialize("2025-06-18"));
    let session = opened.header("mcp-session-id").expect("a session").to_owned();
    let sessions = admin.get("/v1/sessions").json();
    let found = &sessions["items"][0];
    assert_eq!((found["protocolVersion"].as_str(), found["client"]["name"].as_str()), (Some("2025-06-18"), Some("it")), "{sessions}");
    assert!(!sessions.to_string().contains(&session), "what the client presents is a secret");
    let place = format!("/v1/sessions/{}", found["id"].as_str().expect("an id"));
    assert_eq!(admin.get(&place).json()["id"], found["id"]);
    assert_eq!(admin.send("DELETE", &place, "", "").status, 204);
    problem(&admin.send("DELETE", &place, "", ""), 404, "absent");
    let list = r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#;
    assert_eq!(client.ask(post(&[("mcp-session-id", &session), ("mcp-protocol-version", "2025-06-18")], list)).status, 404);
}

/// What the registry API promises of one server (modelcontextprotocol/registry, v0.1), in our own words.
fn public_server() -> Value {
    let text = |most: u32| json!({"type": "string", "minLength": 1, "maxLength": most});
    let name = json!({"type": "string", "minLength": 3, "maxLength": 200, "pattern": "^[a-zA-Z0-9.-]+/[a-zA-Z0-9._-]+$"});
    let time = json!({"type": "string", "pattern": "^\\d{4}-\\d\\d-\\d\\dT\\d\\d:\\d\\d:\\d\\d(\\.\\d+)?Z$"});
    let official = json!({"type": "object", "additionalProperties": false, "required": ["status", "publishedAt", "updatedAt", "isLatest"], "properties":
        {"status": {"enum": ["active", "deprecated", "deleted"]}, "publishedAt": time, "updatedAt": time, "isLatest": {"type": "boolean"}}});
    let server = json!({"type": "object", "required": ["name", "description", "version"], "properties":
        {"name": name, "description": text(100), "title": text(100), "version": text(255)}});
    let meta = json!({"type": "object", "required": ["io.modelcontextprotocol.registry/official"],
        "properties": {"io.modelcontextprotocol.registry/official": official}});
    json!({"type": "object", "required": ["server", "_meta"], "properties": {"server": server, "_meta": meta}})
}

#[test]
fn a_client_of_the_registry_api_finds_servers() {
    let admin = Admin::start(&[]);
    let long = "ä".repeat(300);
    admin.register("io.example/weather");
    admin.write("POST", "/v1/servers", &json!({"name": "plain", "target": "http://x/", "description": long}));
    admin.write("POST", "/v1/servers", &json!({"name": "no/such/name", "target": "http://x/"}));
    let list = json!({"type": "object", "required": ["servers", "metadata"], "properties": {"servers": {"type": "array", "items": public_server()},
        "metadata": {"type": "object", "properties": {"count": {"type": "integer"}, "nextCursor": {"type": "string"}}}}});
    let fits = |schema: &Value, found: &Response| {
        assert_eq!((found.status, found.header("access-control-allow-origin")), (200, Some("*")), "{}", found.body);
        let checked = jsonschema::validator_for(schema).expect("a schema");
        assert!(checked.is_valid(&found.json()), "{}", found.body);
    };
    let names = |target: &str| {
        let found = admin.get(target);
        fits(&list, &found);
        let found = found.json();
        let servers = found["servers"].as_array().expect("servers");
        servers.iter().map(|server| server["server"]["name"].as_str().expect("a name").to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(names("/v0.1/servers"), ["io.example/weather", "ringhub.local/plain", "ringhub.local/ringhub"]);
    assert_eq!(names("/v0/servers?search=WEATHER"), ["io.example/weather"]);
    assert_eq!(names("/v0.1/servers?version=latest&search=ringhub.local/pl"), ["ringhub.local/plain"]);
    assert_eq!(names("/v0.1/servers?version=1.2.0"), ["io.example/weather"]);
    assert_eq!(names("/v0.1/servers?updated_since=2999-01-01T00:00:00Z"), Vec::<String>::new());
    assert_eq!(names("/v0.1/servers?updated_since=2020-01-01T00:00:00Z&some_later_parameter=1").len(), 3);
    let first = admin.get("/v0.1/servers?limit=1").json();
    let next = first["metadata"]["nextCursor"].as_str().expect("there is more");
    assert_ne!(admin.get(&format!("/v0.1/servers?limit=1&cursor={next}")).json()["servers"], first["servers"]);
    assert_eq!(names("/v0.1/servers/io.example%2Fweather/versions"), ["io.example/weather"]);
    fits(&public_server(), &admin.get("/v0.1/servers/io.example%2Fweather/versions/1.2.0"));
    fits(&public_server(), &admin.get("/v0/servers/ringhub.local%2Fplain/versions/latest"));
    for absent in ["io.example%2Fother/versions", "io.example%2Fweather/versions/9", "plain/versions/latest"] {
        problem(&admin.get(&format!("/v0.1/servers/{absent}")), 404, "absent");
    }
    problem(&admin.get("/v0.1/servers?updated_since=yesterday"), 400, "bad_request");
    assert!(!admin.get("/v0.1/servers").body.contains("weather.example"), "what stands behind a server is not told");
    let from_page = ask(admin.server.admin(), "GET", "/v0.1/servers", "Origin: https://pages.example\r\n", "");
    assert_eq!((from_page.status, from_page.header("access-control-allow-origin")), (200, Some("*")));
    let preflight = ask(admin.server.admin(), "OPTIONS", "/v0.1/servers", "Origin: https://pages.example\r\n", "");
    assert_eq!((preflight.status, preflight.header("access-control-allow-origin")), (204, Some("*")));
}

#[test]
fn the_document_names_every_path_that_answers() {
    let admin = Admin::start(&[]);
    let document = admin.get("/openapi.json").json();
    assert_eq!(document["openapi"], "3.1.0");
    for path in document["paths"].as_object().expect("paths").keys().filter(|path| !path.contains("changes")) {
        let target = path.replace("{name}", "ringhub").replace("{path}", "%2Fmcp").replace("{version}", "latest");
        let target = target.replace("{shard}", "0").replace("{core}", "0").replace("{session}", "0.0.0");
        let code = admin.get(&target).json_or_nothing()["code"].as_str().unwrap_or_default().to_owned();
        assert_ne!(code, "no_such_path", "{path}");
    }
    until("it is ready", || admin.get("/health/ready").status == 200);
}
