//! Tools that ask nothing of the client.

use std::time::Duration;

use ringhub::native::{Builder, Capability, Content, Context, Empty, Level, ResourceContents, Tool, ToolError};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::media;

/// Time between two notifications, and what a client needs to come back.
const STEP: Duration = Duration::from_millis(50);
const RECONNECT: Duration = Duration::from_millis(500);

pub fn add(server: Builder) -> Builder {
    changes(notifications(schemas(contents(server))))
}

/// Kinds of content.
fn contents(server: Builder) -> Builder {
    server
        .tool(
            Tool::new("test_simple_text").description("Answers one block of text"),
            |_: Empty, _: &Context| "This is a simple text response for testing.",
        )
        .tool(Tool::new("test_image_content").description("Answers an image"), |_: Empty, _: &Context| image())
        .tool(Tool::new("test_audio_content").description("Answers sound"), |_: Empty, _: &Context| {
            Content::audio(media::wav(), "audio/wav")
        })
        .tool(Tool::new("test_embedded_resource").description("Answers a resource with its contents"), |_: Empty, _: &Context| {
            let contents = ResourceContents::text("test://embedded-resource", "This is an embedded resource content.");
            Content::resource(contents.mime_type("text/plain"))
        })
        .tool(Tool::new("test_multiple_content_types").description("Answers text, an image and a resource"), |_: Empty, _: &Context| {
            let contents = ResourceContents::text("test://mixed-content-resource", json!({"test": "data", "value": 123}).to_string());
            [Content::text("Multiple content types test:"), image(), Content::resource(contents.mime_type("application/json"))]
        })
        .tool(Tool::new("test_error_handling").description("Answers an error"), |_: Empty, _: &Context| {
            Err::<(), _>(ToolError::new("This tool intentionally returns an error for testing"))
        })
}

fn image() -> Content {
    Content::image(media::PNG, "image/png")
}

#[derive(Deserialize, JsonSchema)]
#[schemars(description = "")]
struct Mirrored {
    /// Travels in the header Mcp-Param-Region too
    #[schemars(extend("x-mcp-header" = "Region"))]
    region: String,
    /// Travels in the header Mcp-Param-Priority too
    #[schemars(extend("x-mcp-header" = "Priority"))]
    priority: Option<i64>,
}

/// Schemas with something special about them.
fn schemas(server: Builder) -> Builder {
    let by_hand = Tool::new("json_schema_2020_12_tool").description("Has a schema with keywords of JSON Schema 2020-12");
    let mirrored = Tool::new("test_x_mcp_header").description("Has arguments that are mirrored into headers");
    server
        .tool(by_hand.input_schema(schema_2020_12()), |args: Value, _: &Context| format!("JSON Schema 2020-12 tool called with: {args}"))
        .tool(mirrored, |args: Mirrored, _: &Context| {
            let priority = args.priority.map_or_else(|| "none".to_owned(), |priority| priority.to_string());
            format!("region={}, priority={priority}", args.region)
        })
        .tool(
            Tool::new("test_missing_capability")
                .description("Cannot be called by a client without the capability `sampling`")
                .needs(Capability::Sampling),
            |_: Empty, _: &Context| "The client declares sampling",
        )
}

fn schema_2020_12() -> Value {
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "$defs": {
            "address": {
                "$anchor": "addressDef",
                "type": "object",
                "properties": {"street": {"type": "string"}, "city": {"type": "string"}},
            },
        },
        "properties": {
            "name": {"type": "string"},
            "address": {"$ref": "#/$defs/address"},
            "contactMethod": {"type": "string", "enum": ["phone", "email"]},
            "phone": {"type": "string"},
            "email": {"type": "string"},
        },
        "allOf": [{"anyOf": [{"required": ["phone"]}, {"required": ["email"]}]}],
        "if": {"properties": {"contactMethod": {"const": "phone"}}, "required": ["contactMethod"]},
        "then": {"required": ["phone"]},
        "else": {"required": ["email"]},
        "additionalProperties": false,
    })
}

/// What is told while a call runs.
fn notifications(server: Builder) -> Builder {
    server
        .tool_async(Tool::new("test_tool_with_progress").description("Tells progress in three steps"), |_: Empty, cx: Context| async move {
            for done in [0_u8, 50, 100] {
                if done > 0 {
                    cx.sleep(STEP).await;
                }
                cx.progress(f64::from(done), Some(100.0), Some(&format!("Completed step {done} of 100")));
            }
            "Tool with progress executed successfully"
        })
        .tool_async(Tool::new("test_tool_with_logging").description("Logs three messages"), |_: Empty, cx: Context| async move {
            cx.log(Level::Info, None, "Tool execution started");
            cx.sleep(STEP).await;
            cx.log(Level::Info, None, "Tool processing data");
            cx.sleep(STEP).await;
            cx.log(Level::Info, None, "Tool execution completed");
            "Tool with logging executed successfully"
        })
        .tool(Tool::new("test_logging_tool").description("Logs a message if the request wants log messages"), |_: Empty, cx: &Context| {
            cx.log(Level::Info, Some("test_logging_tool"), "Logging was asked for");
            "Logging evaluated"
        })
        .tool_async(
            Tool::new("test_streaming_elicitation").description("Tells progress and answers, without asking anything"),
            |_: Empty, cx: Context| async move {
                cx.progress(50.0, Some(100.0), None);
                cx.sleep(STEP).await;
                "Streaming complete"
            },
        )
        .tool_async(
            Tool::new("test_reconnection").description("Closes its stream before it answers: the client must come back for the result"),
            |_: Empty, cx: Context| async move {
                cx.close_stream(RECONNECT);
                cx.sleep(2 * STEP).await;
                "Reconnection test completed successfully"
            },
        )
}

/// Changes that subscribers are told of.
fn changes(server: Builder) -> Builder {
    server
        .tool(Tool::new("test_trigger_tool_change").description("Says that the list of tools changed"), |_: Empty, cx: &Context| {
            cx.notify().tools_changed();
            "Told"
        })
        .tool(Tool::new("test_trigger_prompt_change").description("Says that the list of prompts changed"), |_: Empty, cx: &Context| {
            cx.notify().prompts_changed();
            "Told"
        })
        .tool(
            Tool::new("test_trigger_resource_update").description("Says that test://watched-resource changed"),
            |_: Empty, cx: &Context| {
                cx.notify().resource_updated("test://watched-resource");
                "Told"
            },
        )
}
