//! A client of the legacy era over the cluster of the tests, and a server with something to say in it.

use std::time::Duration;

use serde_json::{Value, json};

use super::cluster::{Cluster, Response, config, post};
use crate::base::ids::ConnId;
use crate::engine::EngineConfig;
use crate::native::{BlockingContext, Builder, Context, Elicitation, Empty, Level, Resource, Sampling, Server, ToolError};

pub const INITIALIZED: &str = r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#;

#[derive(serde::Deserialize, schemars::JsonSchema)]
struct Echo {
    message: String,
}

pub fn server() -> Server {
    builder().build().expect("the test server is sound")
}

/// The same with few items on a page.
pub fn paged() -> Server {
    builder().page_size(5).build().expect("the test server is sound")
}

fn builder() -> Builder {
    Server::builder("test", "1")
        .instructions("Be gentle.")
        .tool("echo", |echo: Echo, _: &Context| echo.message)
        .tool("boom", |_: Empty, _: &Context| -> String { panic!("on purpose") })
        .tool("talk", |_: Empty, cx: &Context| {
            cx.log(Level::Debug, None, "small talk");
            cx.log(Level::Error, None, "large talk");
            "said"
        })
        .tool_async("slow", |_: Empty, cx: Context| async move {
            cx.sleep(Duration::from_secs(1)).await;
            "late"
        })
        .tool_async("steps", |_: Empty, cx: Context| async move {
            for step in 0..3_u8 {
                cx.progress(f64::from(step), Some(2.0), None);
                cx.sleep(Duration::from_secs(1)).await;
            }
            "arrived"
        })
        .tool_async("reconnect", |_: Empty, cx: Context| async move {
            cx.close_stream(Duration::from_millis(500));
            cx.sleep(Duration::from_secs(1)).await;
            cx.progress(1.0, None, None);
            cx.sleep(Duration::from_secs(1)).await;
            "back"
        })
        .tool_async("elicit", |_: Empty, cx: Context| async move {
            let form = Elicitation::new("Who?", json!({"type": "object", "properties": {"name": {"type": "string"}}}));
            Ok::<_, ToolError>(format!("{:?}", cx.elicit_form("who", form).await?))
        })
        .tool_async("sample", |_: Empty, cx: Context| async move {
            Ok::<_, ToolError>(cx.sample("line", Sampling::new(10).user("A line")).await?.text())
        })
        .tool_async("roots", |_: Empty, cx: Context| async move { Ok::<_, ToolError>(cx.roots("roots").await?.len().to_string()) })
        .tool_async("ask_late", |_: Empty, cx: Context| async move {
            cx.sleep(Duration::from_secs(1)).await;
            Ok::<_, ToolError>(cx.roots("roots").await?.len().to_string())
        })
        .tool("change", |_: Empty, cx: &Context| {
            cx.notify().tools_changed();
            cx.notify().resource_updated("test://a");
            "changed"
        })
        .tool_blocking("block", |_: Empty, _: &BlockingContext| "unblocked")
        .resource(Resource::new("test://a", "a"), |_: &Context| "contents")
}

pub fn cluster(cores: u16) -> Cluster {
    cluster_with(cores, &config())
}

pub fn cluster_with(cores: u16, config: &EngineConfig) -> Cluster {
    Cluster::new(cores, config, server)
}

pub fn initialize(version: &str, capabilities: &str) -> String {
    format!(
        r#"{{"method":"initialize","params":{{"protocolVersion":"{version}","capabilities":{capabilities},"clientInfo":{{"name":"t","version":"1"}}}},"jsonrpc":"2.0","id":0}}"#
    )
}

pub fn call(id: &str, tool: &str) -> String {
    format!(
        r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/call","params":{{"name":"{tool}","arguments":{{}},"_meta":{{"progressToken":"p"}}}}}}"#
    )
}

pub fn request(id: &str, method: &str, params: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"{method}","params":{params}}}"#)
}

/// A session over one connection.
pub struct Client {
    pub conn: ConnId,
    pub session: String,
    version: String,
}

impl Client {
    pub fn open(cluster: &mut Cluster, version: &str) -> Self {
        Self::open_with(cluster, 0, version, r#"{"sampling":{},"elicitation":{},"roots":{}}"#)
    }

    pub fn open_with(cluster: &mut Cluster, core: usize, version: &str, capabilities: &str) -> Self {
        let conn = cluster.connect(core);
        let answer = cluster.exchange(conn, &post("", &initialize(version, capabilities)));
        assert_eq!(answer.status, 200, "{}", answer.body);
        let session = answer.field("mcp-session-id").expect("a session id");
        let version = answer.json()["result"]["protocolVersion"].as_str().expect("a version").to_owned();
        let client = Self { conn, session, version };
        assert_eq!(client.post(cluster, INITIALIZED).status, 202);
        client
    }

    pub fn headers(&self) -> String {
        format!("Mcp-Session-Id: {}\r\nMCP-Protocol-Version: {}\r\n", self.session, self.version)
    }

    /// Over the session's first connection.
    pub fn post(&self, cluster: &mut Cluster, body: &str) -> Response {
        cluster.exchange(self.conn, &post(&self.headers(), body))
    }

    /// Over a connection of its own, which is given back.
    pub fn post_aside(&self, cluster: &mut Cluster, body: &str) -> (ConnId, Response) {
        let conn = cluster.connect(cluster.core_of(self.conn));
        (conn, cluster.exchange(conn, &post(&self.headers(), body)))
    }

    pub fn get(&self, cluster: &mut Cluster, last_event: Option<&str>) -> (ConnId, Response) {
        let conn = cluster.connect(cluster.core_of(self.conn));
        let last = last_event.map(|id| format!("Last-Event-ID: {id}\r\n")).unwrap_or_default();
        let headers = self.headers();
        let get = format!("GET /mcp HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n{headers}{last}\r\n");
        (conn, cluster.exchange(conn, get.as_bytes()))
    }

    pub fn delete(&self, cluster: &mut Cluster) -> Response {
        let conn = cluster.connect(cluster.core_of(self.conn));
        let delete = format!("DELETE /mcp HTTP/1.1\r\nHost: localhost\r\n{}\r\n", self.headers());
        cluster.exchange(conn, delete.as_bytes())
    }
}

/// The ids of the events of a stream, in order.
pub fn event_ids(response: &Response) -> Vec<String> {
    response.body.lines().filter_map(|line| line.strip_prefix("id: ")).map(str::to_owned).collect()
}

/// The text of a tool's result.
pub fn text(reply: &Value) -> &str {
    reply["result"]["content"][0]["text"].as_str().unwrap_or_else(|| panic!("no text: {reply}"))
}
