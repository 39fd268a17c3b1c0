//! A server with one of each kind of handler.

use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::native::{
    BlockingContext, Builder, Capability, Content, Context, Elicited, Empty, Level, Prompt, PromptMessage, Resource, ResourceContents,
    ResourceLink, Server, Tool, ToolError, ToolResult,
};

#[derive(Deserialize, JsonSchema)]
struct Echo {
    message: String,
}

#[derive(Deserialize, JsonSchema)]
struct Name {
    name: String,
}

#[derive(Deserialize, JsonSchema)]
struct Uri {
    uri: String,
}

#[derive(Deserialize, JsonSchema)]
struct Count {
    number: u64,
}

async fn ask(cx: &Context, key: &str) -> Result<String, ToolError> {
    Ok(match cx.elicit::<Name>(key, "What is your name?").await? {
        Elicited::Accepted(who) => who.name,
        Elicited::Declined | Elicited::Cancelled => "nobody".to_owned(),
    })
}

/// Waits at something that nothing but time ends.
async fn forever(cx: Context) -> &'static str {
    cx.sleep(Duration::from_secs(100_000)).await;
    "never"
}

pub fn server() -> Server {
    builder("test").build().expect("a server")
}

/// The same with few items on a page.
pub fn paged() -> Server {
    builder("test").page_size(5).build().expect("a server")
}

pub fn builder(name: &str) -> Builder {
    let region = json!({"type": "object", "properties": {"region": {"type": "string", "x-mcp-header": "Region"}}});
    Server::builder(name, "1.0")
        .instructions("Be kind")
        .tool("echo", |echo: Echo, _: &Context| echo.message)
        .tool("count", |count: Count, _: &Context| if count.number > 10 { "many" } else { "few" })
        .tool_async("wait", |_: Empty, cx: Context| async move {
            cx.sleep(Duration::from_secs(1)).await;
            "waited"
        })
        .tool_async("forever", |_: Empty, cx: Context| forever(cx))
        .tool_async("steps", |_: Empty, cx: Context| async move {
            for step in 1..=3 {
                cx.progress(f64::from(step), Some(3.0), None);
                cx.sleep(Duration::from_millis(50)).await;
            }
            "stepped"
        })
        .tool("tell", |_: Empty, cx: &Context| {
            cx.progress(1.0, None, None);
            cx.log(Level::Info, None, "told");
            "told"
        })
        .tool_async("ask", |_: Empty, cx: Context| async move { Ok::<_, ToolError>(format!("Hello, {}!", ask(&cx, "who").await?)) })
        .tool_async("ask_twice", |_: Empty, cx: Context| async move {
            let first = ask(&cx, "first").await?;
            cx.remember("seen", &first)?;
            let second = ask(&cx, "second").await?;
            Ok::<_, ToolError>(format!("{first} {second} {}", cx.recall::<String>("seen").unwrap_or_default()))
        })
        .tool_async("ask_late", |_: Empty, cx: Context| async move {
            cx.sleep(Duration::from_millis(10)).await;
            ask(&cx, "who").await
        })
        .tool(Tool::new("sampler").needs(Capability::Sampling), |_: Empty, _: &Context| "sampled")
        .tool_async("sample_after_progress", |_: Empty, cx: Context| async move {
            cx.progress(1.0, None, None);
            cx.roots("roots").await.map(|_| "rooted").map_err(ToolError::from)
        })
        .tool_blocking("block", |_: Empty, cx: &BlockingContext| {
            cx.progress(1.0, None, None);
            if cx.is_cancelled() { "cancelled" } else { "blocked" }
        })
        .tool("panic", |_: Empty, _: &Context| -> String { panic!("a panic on purpose") })
        .tool_async("panic_later", |_: Empty, cx: Context| async move {
            cx.sleep(Duration::from_millis(1)).await;
            if cx.version().as_str().len() > 1 {
                panic!("a panic on purpose");
            }
            "not reached"
        })
        .tool("fail", |_: Empty, _: &Context| Err::<String, _>(ToolError::new("it failed")))
        .tool("change", |_: Empty, cx: &Context| {
            cx.notify().tools_changed();
            "changed"
        })
        .tool("update", |at: Uri, cx: &Context| {
            cx.notify().resource_updated(at.uri);
            "updated"
        })
        .tool("link", |at: Uri, _: &Context| {
            let held = ResourceContents::text(&at.uri, "held");
            let link = ResourceLink::new("test://unlisted", "unlisted");
            ToolResult::new().content(at.uri.as_str()).content(Content::resource(held)).content(Content::link(link))
        })
        .tool(Tool::new("region").input_schema(region), |_: Value, _: &Context| "ok")
        .resource(Resource::new("test://text", "text"), |_: &Context| "the text")
        .prompt(Prompt::new("greet"), |_: Empty, _: &Context| "Say hello")
        .prompt(Prompt::new("see"), |_: Empty, _: &Context| PromptMessage::user(Content::link(ResourceLink::new("test://text", "text"))))
}
