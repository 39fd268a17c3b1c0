//! What clients of an endpoint see of the servers bound to it, and that calls reach the right one under the name that it knows.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::client::Client;
use super::cluster::{Cluster, Response, config, modern, modern_with};
use crate::base::ids::NodeId;
use crate::engine::{Endpoint, EngineConfig, Separator};
use crate::native::{Completing, Context, Factory, Prompt, Resource, Server, Template, Tool, Variables};
use crate::registry::{self, Catalog, Change, Item, Kind, Record, ServerId, ServerSpec, Source, State};

/// Only an argument that is not named.
#[derive(serde::Deserialize, schemars::JsonSchema)]
struct City {
    city: String,
}

/// A native server that says who it is, with tools of these names besides.
pub fn native(name: &'static str, tools: &'static [&'static str]) -> Arc<Factory> {
    Arc::new(move || {
        let region = json!({"type": "object", "properties": {"region": {"type": "string", "x-mcp-header": "Region"}}});
        let mut builder = Server::builder(name, "1.2")
            .instructions(format!("Use {name} well."))
            .tool("who", move |_: Value, _: &Context| name)
            .tool(Tool::new("region").input_schema(region), move |_: Value, _: &Context| name)
            .tool_async("later", move |_: Value, cx: Context| async move {
                cx.sleep(Duration::from_millis(10)).await;
                name
            })
            .tool("update", |_: Value, cx: &Context| {
                cx.notify().resource_updated("test://shared");
                "updated"
            })
            .prompt(Prompt::new("greet"), move |at: City, _: &Context| format!("{name} greets {}", at.city))
            .complete_prompt("greet", "city", move |typed: &Completing, _: &Context| vec![format!("{}-{name}", typed.value)])
            .resource(Resource::new("test://shared", "shared"), move |_: &Context| name)
            .resource(Resource::new(format!("test://{name}"), "own"), move |_: &Context| name)
            .template(Template::new("note://{id}", "note"), move |at: &Variables, _: &Context| format!("{name} {}", at.get("id")));
        for &tool in tools {
            builder = builder.tool(tool, move |_: Value, _: &Context| format!("{name}:{tool}"));
        }
        builder.build()
    })
}

/// Servers `a` and `b` at `/mcp`, `a` alone at `/mcp/a`.
pub fn pair_config() -> EngineConfig {
    let mut config = config();
    config.endpoints = vec![
        Endpoint { path: "/mcp".into(), servers: [0, 1].into(), upstreams: Box::default() },
        Endpoint { path: "/mcp/a".into(), servers: [0].into(), upstreams: Box::default() },
    ];
    config
}

fn pair() -> Cluster {
    Cluster::with_servers(2, &pair_config(), &[native("a", &[]), native("b", &[])])
}

/// The request, to another path.
pub fn at(path: &str, request: Vec<u8>) -> Vec<u8> {
    String::from_utf8(request).expect("UTF-8").replacen("/mcp", path, 1).into_bytes()
}

pub fn ask(cluster: &mut Cluster, core: usize, path: &str, request: Vec<u8>) -> Response {
    let conn = cluster.connect(core);
    cluster.exchange(conn, &at(path, request))
}

pub fn call(cluster: &mut Cluster, core: usize, path: &str, tool: &str) -> Response {
    ask(cluster, core, path, modern("tools/call", Some(tool), &format!(r#""name":"{tool}","arguments":{{}}"#)))
}

/// What is in a list, by what its items are called by.
pub fn listed(cluster: &mut Cluster, core: usize, path: &str, method: &str) -> Vec<String> {
    let (member, key) = match method {
        "tools/list" => ("tools", "name"),
        "prompts/list" => ("prompts", "name"),
        "resources/list" => ("resources", "uri"),
        _ => ("resourceTemplates", "uriTemplate"),
    };
    let (mut names, mut cursor) = (Vec::new(), String::new());
    loop {
        let params = if cursor.is_empty() { String::new() } else { format!(r#""cursor":"{cursor}""#) };
        let response = ask(cluster, core, path, modern(method, None, &params));
        let result = response.json()["result"].clone();
        let items = result[member].as_array().unwrap_or_else(|| panic!("{}", response.body));
        names.extend(items.iter().map(|item| item[key].as_str().expect("a name").to_owned()));
        match result["nextCursor"].as_str() {
            Some(next) => next.clone_into(&mut cursor),
            None => return names,
        }
    }
}

pub fn text(response: &Response) -> String {
    let result = &response.json()["result"];
    let text = result["content"][0]["text"].as_str().or_else(|| result["contents"][0]["text"].as_str());
    text.unwrap_or_else(|| panic!("no text: {}", response.body)).to_owned()
}

fn item(key: &str, name: &str) -> Item {
    Item {
        name: name.into(),
        json: json!({key: name, "description": format!("{name}…"), "x": {"kept": 1.50}}).to_string().into_bytes().into(),
    }
}

/// A server that is not connected, with these tools.
pub fn upstream(name: &str, tools: &[&str]) -> Box<ServerSpec> {
    Box::new(ServerSpec {
        name: name.into(),
        title: "Far away".into(),
        description: "Says nothing.".into(),
        software_version: "7".into(),
        source: Source::Upstream("http://127.0.0.1:1/mcp".into()),
        state: State::Offline,
        is_configured: false,
        front: None,
        fronted: None,
        catalog: Catalog {
            tools: tools.iter().map(|tool| item("name", tool)).collect(),
            resources: [item("uri", "test://far")].into(),
            templates: [item("uriTemplate", "far://{+path}")].into(),
            ..Catalog::default()
        },
    })
}

pub fn create(path: &str, servers: &[&str]) -> Change {
    Change::Create { path: path.into(), servers: servers.iter().map(|name| Box::from(*name)).collect() }
}

#[test]
fn one_server_is_shown_as_it_is() {
    let mut cluster = pair();
    for core in 0..2 {
        assert_eq!(listed(&mut cluster, core, "/mcp/a", "tools/list")[..2], ["who", "region"]);
        assert_eq!(listed(&mut cluster, core, "/mcp/a", "resources/list"), ["test://shared", "test://a"]);
        assert_eq!(text(&call(&mut cluster, core, "/mcp/a", "who")), "a");
        let discovered = ask(&mut cluster, core, "/mcp/a", modern("server/discover", None, "")).json()["result"].clone();
        assert_eq!(discovered["_meta"]["io.modelcontextprotocol/serverInfo"], json!({"name": "a", "version": "1.2"}));
        assert_eq!(discovered["instructions"], "Use a well.");
        assert_eq!(call(&mut cluster, core, "/mcp/a", "a.who").code(), -32602);
    }
}

#[test]
fn several_servers_are_shown_together_in_the_order_of_their_binding() {
    let mut cluster = pair();
    for core in 0..2 {
        let tools = listed(&mut cluster, core, "/mcp", "tools/list");
        assert_eq!(tools, ["a.who", "a.region", "a.later", "a.update", "b.who", "b.region", "b.later", "b.update"]);
        assert_eq!(listed(&mut cluster, core, "/mcp", "prompts/list"), ["a.greet", "b.greet"]);
        for (tool, said) in [("a.who", "a"), ("b.who", "b"), ("a.who", "a")] {
            let response = call(&mut cluster, core, "/mcp", tool);
            assert_eq!(text(&response), said);
            let info = &response.json()["result"]["_meta"]["io.modelcontextprotocol/serverInfo"];
            assert_eq!(info["name"], "ringhub");
        }
        for unknown in ["who", "c.who", "a_who", "a.", "a.who.", "A.who"] {
            let response = call(&mut cluster, core, "/mcp", unknown);
            assert_eq!((response.status, response.code()), (200, -32602), "{unknown}");
            assert_eq!(response.json()["error"]["message"], format!("Tool not found: {unknown}"));
        }
        let prompt = modern("prompts/get", Some("b.greet"), r#""name":"b.greet","arguments":{"city":"Oslo"}"#);
        assert!(ask(&mut cluster, core, "/mcp", prompt).body.contains("b greets Oslo"));
        let discovered = ask(&mut cluster, core, "/mcp", modern("server/discover", None, "")).json()["result"].clone();
        assert_eq!(discovered["instructions"], "a: Use a well.\n\nb: Use b well.");
        assert_eq!(discovered["capabilities"]["tools"]["listChanged"], true);
        assert_eq!(discovered["capabilities"]["completions"], json!({}));
    }
}

#[test]
fn a_call_that_takes_longer_is_answered_in_the_endpoint_s_name() {
    let mut cluster = pair();
    let conn = cluster.connect(0);
    cluster.send(conn, &modern("tools/call", Some("b.later"), r#""name":"b.later","arguments":{}"#));
    cluster.pass(Duration::from_millis(20));
    let response = cluster.take(conn);
    assert_eq!(text(&response), "b");
    assert_eq!(response.json()["result"]["_meta"]["io.modelcontextprotocol/serverInfo"]["name"], "ringhub");
}

#[test]
fn the_legacy_era_sees_the_same() {
    let mut cluster = pair();
    let client = Client::open(&mut cluster, "2025-11-25");
    let tools = client.post(&mut cluster, r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#).json();
    assert_eq!(tools["result"]["tools"].as_array().map(Vec::len), Some(8));
    assert_eq!(tools["result"]["tools"][4]["name"], "b.who");
    let said = |tool: &str| format!(r#"{{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{{"name":"{tool}","arguments":{{}}}}}}"#);
    assert_eq!(text(&client.post(&mut cluster, &said("b.who"))), "b");
    assert_eq!(client.post(&mut cluster, &said("who")).code(), -32602);
    let read = r#"{"jsonrpc":"2.0","id":3,"method":"resources/read","params":{"uri":"b+test://shared"}}"#;
    let contents = client.post(&mut cluster, read).json()["result"]["contents"][0].clone();
    assert_eq!((&contents["text"], &contents["uri"]), (&json!("b"), &json!("b+test://shared")));
    let lost = r#"{"jsonrpc":"2.0","id":3,"method":"resources/read","params":{"uri":"test://nowhere"}}"#;
    assert_eq!(client.post(&mut cluster, lost).code(), -32002);
}

#[test]
fn resources_keep_their_uris_unless_two_servers_have_them() {
    let mut cluster = pair();
    let uris = ["test://shared", "test://a", "b+test://shared", "test://b"];
    assert_eq!(listed(&mut cluster, 1, "/mcp", "resources/list"), uris);
    assert_eq!(listed(&mut cluster, 1, "/mcp", "resources/templates/list"), ["note://{id}", "b+note://{id}"]);
    let rows = [("test://shared", "a"), ("b+test://shared", "b"), ("test://b", "b"), ("note://7", "a 7"), ("b+note://8", "b 8")];
    for (uri, said) in rows {
        let response = ask(&mut cluster, 1, "/mcp", modern("resources/read", Some(uri), &format!(r#""uri":"{uri}""#)));
        assert_eq!(text(&response), said, "{uri}");
        assert_eq!(response.json()["result"]["contents"][0]["uri"], uri, "it is named as it was asked for");
    }
    let lost = ask(&mut cluster, 1, "/mcp", modern("resources/read", Some("c+note://8"), r#""uri":"c+note://8""#));
    assert_eq!((lost.code(), &lost.json()["error"]["data"]["uri"]), (-32602, &json!("c+note://8")));
}

#[test]
fn completion_reaches_the_server_under_its_own_name() {
    let mut cluster = pair();
    let complete = |name: &str| {
        let params = format!(r#""ref":{{"type":"ref/prompt","name":"{name}"}},"argument":{{"name":"city","value":"O"}}"#);
        modern("completion/complete", None, &params)
    };
    for (name, said) in [("a.greet", "O-a"), ("b.greet", "O-b")] {
        let response = ask(&mut cluster, 0, "/mcp", complete(name));
        assert_eq!(response.json()["result"]["completion"]["values"], json!([said]));
    }
    assert_eq!(ask(&mut cluster, 0, "/mcp", complete("greet")).code(), -32602);
    let template = r#""ref":{"type":"ref/resource","uri":"b+note://{id}"},"argument":{"name":"id","value":"1"}"#;
    let response = ask(&mut cluster, 0, "/mcp", modern("completion/complete", None, template));
    assert_eq!(response.json()["result"]["completion"]["values"], json!([]));
}

#[test]
fn mirrored_arguments_are_checked_for_the_tool_that_is_meant() {
    let mut cluster = pair();
    let region = |header: &str| {
        let params = r#""name":"b.region","arguments":{"region":"west"}"#;
        modern_with("tools/call", Some("b.region"), params, "", "{}", header)
    };
    assert_eq!(text(&ask(&mut cluster, 0, "/mcp", region("Mcp-Param-Region: west\r\n"))), "b");
    assert_eq!(ask(&mut cluster, 0, "/mcp", region("Mcp-Param-Region: east\r\n")).code(), -32020);
}

#[test]
fn collisions_and_long_names_are_called_by_what_is_listed() {
    const LONG: &str = "a-name-of-sixty-four-characters-which-is-all-that-a-name-may-hav";
    assert_eq!(LONG.len(), 64);
    let mut config = pair_config();
    config.name_separator = Separator::Underscore;
    let servers = [native("x", &["y_z", "z", LONG]), native("x_y", &["z", LONG])];
    let mut cluster = Cluster::with_servers(2, &config, &servers);
    let tools = listed(&mut cluster, 0, "/mcp", "tools/list");
    assert_eq!(tools, listed(&mut cluster, 1, "/mcp", "tools/list"), "every core has the same");
    let distinct: std::collections::HashSet<_> = tools.iter().collect();
    assert_eq!(distinct.len(), tools.len());
    assert!(tools.iter().all(|name| name.len() <= 64 && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))));
    let at_once = tools.iter().filter(|tool| !tool.ends_with("_later"));
    let said: Vec<_> = at_once.map(|tool| text(&call(&mut cluster, 0, "/mcp", tool))).collect();
    for wanted in ["x:y_z", "x:z", "x_y:z", &format!("x:{LONG}"), &format!("x_y:{LONG}")] {
        assert_eq!(said.iter().filter(|said| *said == wanted).count(), 1, "{wanted}: {said:?}");
    }
    assert_eq!(text(&call(&mut cluster, 0, "/mcp", "x_y_z")), "x:y_z", "the first has the plain name");
}

#[test]
fn a_server_that_is_not_connected_is_listed_and_says_so_when_called() {
    let mut cluster = pair();
    cluster.change(0, Change::Register(upstream("io.far/away", &["get", "set"])));
    cluster.change(1, create("/mcp/far", &["io.far/away"]));
    cluster.change(1, create("/mcp/both", &["b", "io.far/away"]));
    for core in 0..2 {
        assert_eq!(listed(&mut cluster, core, "/mcp/far", "tools/list"), ["get", "set"]);
        let tools = listed(&mut cluster, core, "/mcp/both", "tools/list");
        assert_eq!(tools, ["b.who", "b.region", "b.later", "b.update", "io.far_away.get", "io.far_away.set"]);
        let response = ask(&mut cluster, core, "/mcp/far", modern("tools/list", None, ""));
        let get = String::from_utf8(item("name", "get").json.into_vec()).expect("UTF-8");
        assert!(response.body.contains(&get), "byte for byte: {}", response.body);
        for (path, tool) in [("/mcp/far", "get"), ("/mcp/both", "io.far_away.set")] {
            let response = call(&mut cluster, core, path, tool);
            assert_eq!((response.status, response.code()), (200, -32603));
            assert_eq!(response.json()["error"]["message"], "The server io.far/away is not connected");
        }
        for uri in ["test://far", "far://any/thing"] {
            let response = ask(&mut cluster, core, "/mcp/both", modern("resources/read", Some(uri), &format!(r#""uri":"{uri}""#)));
            assert_eq!(response.code(), -32603, "{uri}");
        }
        assert_eq!(text(&call(&mut cluster, core, "/mcp/both", "b.who")), "b");
        let discovered = ask(&mut cluster, core, "/mcp/far", modern("server/discover", None, "")).json()["result"].clone();
        assert_eq!(discovered["_meta"]["io.modelcontextprotocol/serverInfo"]["title"], "Far away");
        assert_eq!(discovered["capabilities"]["prompts"], Value::Null);
    }
}

#[test]
fn an_item_that_names_something_else_than_it_is_called_is_left_out() {
    let mut cluster = pair();
    let mut spec = upstream("odd", &["fine"]);
    let tool = |name: &str, json: &str| Item { name: name.into(), json: json.as_bytes().into() };
    let odd = [
        tool("one", r#"{"name":"two"}"#),
        tool("twice", r#"{"name":"twice","name":"other"}"#),
        tool("broken", r#"{"name":"broken","#),
        tool("none", "{}"),
    ];
    spec.catalog.tools = spec.catalog.tools.iter().cloned().chain(odd).collect();
    cluster.change(0, Change::Register(spec));
    cluster.change(0, create("/mcp/odd", &["odd"]));
    assert_eq!(listed(&mut cluster, 1, "/mcp/odd", "tools/list"), ["fine"]);
}

#[test]
fn an_endpoint_without_servers_has_empty_lists() {
    let mut cluster = pair();
    cluster.change(0, create("/mcp/none", &[]));
    cluster.change(0, create("/mcp/missing", &["nobody"]));
    for path in ["/mcp/none", "/mcp/missing"] {
        for method in ["tools/list", "prompts/list", "resources/list", "resources/templates/list"] {
            assert!(listed(&mut cluster, 1, path, method).is_empty());
        }
        assert_eq!(call(&mut cluster, 1, path, "who").code(), -32602);
        let discovered = ask(&mut cluster, 1, path, modern("server/discover", None, "")).json()["result"].clone();
        assert_eq!(discovered["capabilities"]["tools"]["listChanged"], true);
    }
}

#[test]
fn an_endpoint_of_the_configuration_is_as_fixed_after_a_restart_as_before() {
    let discovered = |config: &EngineConfig, made: Option<Change>| {
        let still: Arc<Factory> = Arc::new(|| Server::builder("a", "1").changes(false).tool("who", |_: Value, _: &Context| "a").build());
        let mut cluster = Cluster::with_servers(2, config, &[still, native("b", &[])]);
        made.into_iter().for_each(|change| cluster.change(0, change));
        ["/mcp/a", "/mcp/made"].map(|path| {
            let response = ask(&mut cluster, 1, path, modern("server/discover", None, ""));
            (response.status == 200).then(|| response.json()["result"]["capabilities"].clone())
        })
    };
    let mut config = pair_config();
    let [before, made] = discovered(&config, Some(create("/mcp/made", &["a"])));
    assert!(before.as_ref().is_some_and(|before| before["tools"] != json!({"listChanged": true})), "{before:?}");
    assert!(made.is_some_and(|made| made["tools"] == json!({"listChanged": true})), "what was made while it runs can change");
    let id = ServerId { node: NodeId(0), number: 512 };
    let gone = Record::Removed { kind: Kind::Endpoint, name: "/mcp/a".into(), id, version: 7 };
    config.kept = Arc::new([gone]);
    assert_eq!(discovered(&config, None)[0], before);
    let servers = ["a".into()].into();
    let kept = registry::Endpoint { path: "/mcp/a".into(), id, version: 2, servers, created_ms: 0, updated_ms: 0, is_configured: false };
    config.kept = Arc::new([Record::Endpoint(Arc::new(kept))]);
    let [after, _] = discovered(&config, None);
    assert_eq!(after.expect("it is there")["tools"], json!({"listChanged": true}), "it was changed, and can be again");
}
