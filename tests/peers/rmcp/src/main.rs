//! Drives the official Rust client through everything the fixture server offers and prints what it saw.
//!
//! `ringhub-test-rmcp URL MODE`, where MODE is `default` (as `serve` connects), `discover` or `auto`.
//! One line of JSON on standard output holds the observations; they are judged by `tests/peers`.

// Sampling and logging are deprecated by the current revision, not gone: they are what is tested here.
#![allow(deprecated)]

mod client;

use std::{
    error::Error,
    process::ExitCode,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use client::Client;
use rmcp::{
    ClientLifecycleMode, ClientServiceExt, RoleClient, ServiceError, ServiceExt,
    model::{
        CallToolRequestParams, CallToolResult, GetPromptRequestParams, LoggingLevel, ProtocolVersion, ReadResourceRequestParams,
        RequestMetaObject, ResourceContents, SetLevelRequestParams, SubscriptionFilter,
    },
    service::RunningService,
    transport::StreamableHttpClientTransport,
};
use serde_json::{Map, Value, json};
use tokio::time::timeout;

type Running = RunningService<RoleClient, Client>;
type Outcome<T> = Result<T, Box<dyn Error>>;

const WAIT_MAX: Duration = Duration::from_secs(10);

/// What the client saw, by name. Written from the handlers as well as from `main`.
#[derive(Clone, Default)]
pub struct Seen(Arc<Mutex<Map<String, Value>>>);

impl Seen {
    /// Records one observation under `name`.
    pub fn set(&self, name: &str, value: impl Into<Value>) {
        self.edit(|map| {
            map.insert(name.to_owned(), value.into());
        });
    }

    /// Appends to the list of observations under `name`.
    pub fn push(&self, name: &str, value: impl Into<Value>) {
        self.edit(|map| {
            let list = map.entry(name).or_insert_with(|| json!([]));
            if let Value::Array(list) = list {
                list.push(value.into());
            }
        });
    }

    fn edit<T>(&self, change: impl FnOnce(&mut Map<String, Value>) -> T) -> T {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

// One thread: the client starts a task per notification, and on one thread they run in the order of arrival.
#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let (Some(url), Some(mode)) = (arguments.next(), arguments.next()) else {
        eprintln!("usage: ringhub-test-rmcp URL default|discover|auto");
        return ExitCode::FAILURE;
    };
    let seen = Seen::default();
    for list in ["asked", "logs", "progress"] {
        seen.set(list, json!([]));
    }
    let end = talk(&url, &mode, &seen).await;
    let seen = seen.edit(|map| Value::Object(map.clone()));
    if let Err(error) = end {
        eprintln!("{error}\nseen until then: {seen}");
        return ExitCode::FAILURE;
    }
    println!("{seen}");
    ExitCode::SUCCESS
}

async fn talk(url: &str, mode: &str, seen: &Seen) -> Outcome<()> {
    let mut running = timeout(WAIT_MAX, connect(url, mode, seen.clone())).await??;
    let peer = running.peer_info().ok_or("connected to nobody")?;
    seen.set("protocol", peer.protocol_version.as_str());
    let name = peer.server_info.as_ref().map(|info| info.name.clone());
    seen.set("server", name);
    lists(&running, seen).await?;
    calls(&running, seen).await?;
    if peer.protocol_version == ProtocolVersion::V_2026_07_28 {
        modern_only(&running, seen).await?;
    } else {
        legacy_only(&running, seen).await?;
    }
    let end = running.close_with_timeout(WAIT_MAX).await?;
    seen.set("closed", end.is_some());
    Ok(())
}

async fn connect(url: &str, mode: &str, seen: Seen) -> Outcome<Running> {
    let transport = StreamableHttpClientTransport::from_uri(url);
    let client = Client::new(seen);
    let preferred_versions = vec![ProtocolVersion::V_2026_07_28];
    let lifecycle = match mode {
        // What a newcomer's program does: no word about versions.
        "default" => return Ok(client.serve(transport).await?),
        "discover" => ClientLifecycleMode::Discover { preferred_versions },
        "auto" => ClientLifecycleMode::Auto { preferred_versions, legacy_version: None },
        other => return Err(format!("no such mode: {other}").into()),
    };
    Ok(client.serve_with_lifecycle(transport, lifecycle).await?)
}

async fn lists(running: &Running, seen: &Seen) -> Outcome<()> {
    for tool in running.list_all_tools().await? {
        seen.push("tools", tool.name.as_ref());
    }
    for resource in running.list_all_resources().await? {
        seen.push("resources", resource.uri.as_str());
    }
    for template in running.list_all_resource_templates().await? {
        seen.push("templates", template.uri_template.as_str());
    }
    for prompt in running.list_all_prompts().await? {
        seen.push("prompts", prompt.name.as_str());
    }
    Ok(())
}

async fn calls(running: &Running, seen: &Seen) -> Outcome<()> {
    seen.set("simple_text", call(running, "test_simple_text").await?);
    call(running, "test_tool_with_progress").await?;
    let failed = running.call_tool(CallToolRequestParams::new("test_error_handling")).await?;
    seen.set("tool_error", failed.is_error == Some(true));
    let unknown = running.call_tool(CallToolRequestParams::new("no_such_tool"));
    match unknown.await {
        Ok(_) => seen.set("unknown_tool_code", 0),
        Err(ServiceError::McpError(error)) => seen.set("unknown_tool_code", error.code.0),
        Err(other) => return Err(other.into()),
    }
    let read = running.read_resource(ReadResourceRequestParams::new("test://static-text")).await?;
    if let Some(ResourceContents::TextResourceContents { text, .. }) = read.contents.first() {
        seen.set("resource_text", text.as_str());
    }
    let prompt = running.get_prompt(GetPromptRequestParams::new("test_simple_prompt")).await?;
    let message = prompt.messages.first().ok_or("a prompt without messages")?;
    seen.set("prompt_text", message.content.as_text().map(|t| t.text.clone()));
    Ok(())
}

async fn legacy_only(running: &Running, seen: &Seen) -> Outcome<()> {
    running.set_level(SetLevelRequestParams::new(LoggingLevel::Info)).await?;
    call(running, "test_tool_with_logging").await?;
    let question = json!({ "message": "Who are you?" });
    seen.set("elicited", call_with(running, "test_elicitation", question).await?);
    let question = json!({ "prompt": "What is the capital of France?" });
    seen.set("sampled", call_with(running, "test_sampling", question).await?);
    Ok(())
}

async fn modern_only(running: &Running, seen: &Seen) -> Outcome<()> {
    let mut logged = CallToolRequestParams::new("test_logging_tool");
    let mut meta = RequestMetaObject::default();
    meta.set_log_level(LoggingLevel::Info);
    logged.meta = Some(meta);
    running.call_tool(logged).await?;
    for (name, tool) in [("elicited", "test_input_required_result_elicitation"), ("sampled", "test_input_required_result_sampling")] {
        seen.set(name, call(running, tool).await?);
    }
    // The client mirrors an annotated argument into a header, base64 because it is not ASCII.
    let region = json!({ "region": "Zürich" });
    seen.set("mirrored", call_with(running, "test_x_mcp_header", region).await?);
    listen(running, seen).await
}

async fn listen(running: &Running, seen: &Seen) -> Outcome<()> {
    let filter = SubscriptionFilter::builder().tools_list_changed().build();
    let mut subscription = timeout(WAIT_MAX, running.listen(filter)).await??;
    if subscription.acknowledged().tools_list_changed == Some(true) {
        seen.push("listens_to", "toolsListChanged");
    }
    call(running, "test_trigger_tool_change").await?;
    let change = timeout(WAIT_MAX, subscription.next()).await??;
    seen.set("tools_changed", i32::from(change.is_some()));
    subscription.cancel().await?;
    Ok(())
}

async fn call(running: &Running, tool: &'static str) -> Outcome<String> {
    call_with(running, tool, json!({})).await
}

async fn call_with(running: &Running, tool: &'static str, arguments: Value) -> Outcome<String> {
    let arguments = arguments.as_object().cloned().unwrap_or_default();
    let params = CallToolRequestParams::new(tool).with_arguments(arguments);
    Ok(text(&timeout(WAIT_MAX, running.call_tool(params)).await??))
}

fn text(result: &CallToolResult) -> String {
    let blocks = result.content.iter().filter_map(|block| block.as_text());
    let lines: Vec<&str> = blocks.map(|block| block.text.as_str()).collect();
    lines.join("\n")
}
