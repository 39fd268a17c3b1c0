//! Tools that ask the client something. Each works in both eras, whichever the suite calls it in.

use ringhub::native::{Builder, Capability, Context, Elicitation, Elicited, Empty, Sampling, Tool, ToolError, join};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

pub fn add(server: Builder) -> Builder {
    several_rounds(one_question(forms(server)))
}

#[derive(Deserialize, JsonSchema)]
#[schemars(description = "")]
struct Prompting {
    /// What the client's model is asked
    prompt: String,
}

#[derive(Deserialize, JsonSchema)]
#[schemars(description = "")]
struct Showing {
    /// What the client's user is shown
    message: String,
}

#[derive(Serialize, Deserialize, JsonSchema)]
#[schemars(description = "")]
struct Contact {
    /// User's response
    username: String,
    /// User's email address
    #[schemars(email)]
    email: String,
}

#[derive(Serialize, Deserialize, JsonSchema)]
#[schemars(description = "")]
struct Name {
    name: String,
}

#[derive(Serialize, Deserialize, JsonSchema)]
#[schemars(description = "")]
struct Color {
    color: String,
}

#[derive(Serialize, Deserialize, JsonSchema)]
#[schemars(description = "")]
struct Confirm {
    ok: bool,
}

/// What a user made of a form, in words.
fn told<T: Serialize>(elicited: Elicited<T>) -> Result<String, ToolError> {
    let (action, content) = match elicited {
        Elicited::Accepted(content) => ("accept", serde_json::to_string(&content)?),
        Elicited::Declined => ("decline", "{}".to_owned()),
        Elicited::Cancelled => ("cancel", "{}".to_owned()),
    };
    Ok(format!("User response: action={action}, content={content}"))
}

/// What the legacy scenarios ask.
fn forms(server: Builder) -> Builder {
    server
        .tool_async(
            Tool::new("test_sampling").description("Has the client's model answer a prompt"),
            |args: Prompting, cx: Context| async move {
                let sampled = cx.sample("sampling", Sampling::new(100).user(args.prompt)).await?;
                Ok::<_, ToolError>(format!("LLM response: {}", sampled.text()))
            },
        )
        .tool_async(
            Tool::new("test_elicitation").description("Asks the client's user for a name and an address"),
            |args: Showing, cx: Context| async move { told(cx.elicit::<Contact>("contact", &args.message).await?) },
        )
        .tool_async(
            Tool::new("test_elicitation_sep1034_defaults").description("Shows a form with defaults of every type"),
            |_: Empty, cx: Context| async move {
                let form = Elicitation::new("Please review and update the form fields with defaults", defaults());
                told(cx.elicit_form("defaults", form).await?)
            },
        )
        .tool_async(
            Tool::new("test_elicitation_sep1330_enums").description("Shows a form with every shape of enumeration"),
            |_: Empty, cx: Context| async move {
                let form = Elicitation::new("Please select options from the enum fields", enumerations());
                told(cx.elicit_form("enums", form).await?)
            },
        )
}

fn defaults() -> Value {
    json!({
        "type": "object",
        "properties": {
            "name": {"type": "string", "description": "User name", "default": "John Doe"},
            "age": {"type": "integer", "description": "User age", "default": 30},
            "score": {"type": "number", "description": "User score", "default": 95.5},
            "status": {"type": "string", "description": "User status", "enum": ["active", "inactive", "pending"], "default": "active"},
            "verified": {"type": "boolean", "description": "Verification status", "default": true},
        },
        "required": [],
    })
}

fn enumerations() -> Value {
    let titled = json!([
        {"const": "value1", "title": "First Option"},
        {"const": "value2", "title": "Second Option"},
        {"const": "value3", "title": "Third Option"},
    ]);
    json!({
        "type": "object",
        "properties": {
            "untitledSingle": {"type": "string", "enum": ["option1", "option2", "option3"]},
            "titledSingle": {"type": "string", "oneOf": titled},
            "legacyEnum": {
                "type": "string",
                "enum": ["opt1", "opt2", "opt3"],
                "enumNames": ["Option One", "Option Two", "Option Three"],
            },
            "untitledMulti": {"type": "array", "items": {"type": "string", "enum": ["option1", "option2", "option3"]}},
            "titledMulti": {"type": "array", "items": {"anyOf": titled}},
        },
        "required": [],
    })
}

/// Multi round-trip requests with one round of questions.
fn one_question(server: Builder) -> Builder {
    server
        .tool_async(
            Tool::new("test_input_required_result_elicitation").description("Asks for a name"),
            |_: Empty, cx: Context| async move {
                let name = cx.elicit::<Name>("user_name", "What is your name?").await?.accepted();
                Ok::<_, ToolError>(format!("Hello, {}!", name.map_or_else(|| "stranger".to_owned(), |name| name.name)))
            },
        )
        .tool_async(
            Tool::new("test_input_required_result_sampling").description("Has the model answer a question"),
            |_: Empty, cx: Context| async move {
                let sampling = Sampling::new(100).user("What is the capital of France?");
                Ok::<_, ToolError>(cx.sample("capital_question", sampling).await?.text())
            },
        )
        .tool_async(
            Tool::new("test_input_required_result_list_roots").description("Asks for the client's roots"),
            |_: Empty, cx: Context| async move {
                let roots = cx.roots("client_roots").await?;
                let uris: Vec<_> = roots.into_iter().map(|root| root.uri).collect();
                Ok::<_, ToolError>(format!("Client roots: {}", uris.join(", ")))
            },
        )
        .tool_async(
            Tool::new("test_input_required_result_request_state").description("Asks for a confirmation, and keeps a state meanwhile"),
            |_: Empty, cx: Context| async move {
                cx.remember("kept", &"state")?;
                let _confirmed = cx.elicit::<Confirm>("confirm", "Please confirm").await?;
                Ok::<_, ToolError>(match cx.recall::<String>("kept") {
                    Some(kept) => format!("{kept}-ok: the request state came back"),
                    None => "the request state is lost".to_owned(),
                })
            },
        )
        .tool_async(
            Tool::new("test_input_required_result_tampered_state")
                .description("Asks for a confirmation; a request state that was changed is refused"),
            |_: Empty, cx: Context| async move {
                let _confirmed = cx.elicit::<Confirm>("confirm", "Please confirm").await?;
                Ok::<_, ToolError>("state-ok: the request state is what it was")
            },
        )
}

/// Several questions, at once or one after another.
fn several_rounds(server: Builder) -> Builder {
    server
        .tool_async(
            Tool::new("test_input_required_result_multiple_inputs").description("Asks three different things at once"),
            |_: Empty, cx: Context| async move {
                let (name, greeting, roots) = join((
                    cx.elicit::<Name>("user_name", "What is your name?"),
                    cx.sample("greeting", Sampling::new(50).user("Generate a greeting")),
                    cx.roots("client_roots"),
                ))
                .await;
                let name = name?.accepted().map_or_else(|| "stranger".to_owned(), |name| name.name);
                Ok::<_, ToolError>(format!("{name}: {} ({} roots)", greeting?.text(), roots?.len()))
            },
        )
        .tool_async(
            Tool::new("test_input_required_result_multi_round").description("Asks two things one after the other"),
            |_: Empty, cx: Context| async move {
                let name = cx.elicit::<Name>("step1", "Step 1: What is your name?").await?.accepted();
                let color = cx.elicit::<Color>("step2", "Step 2: What is your favorite color?").await?.accepted();
                let (name, color) = (name.map(|name| name.name), color.map(|color| color.color));
                Ok::<_, ToolError>(format!("{} likes {}", name.unwrap_or_default(), color.unwrap_or_default()))
            },
        )
        .tool_async(
            Tool::new("test_input_required_result_capabilities").description("Asks only what the client declares that it can be asked"),
            |_: Empty, cx: Context| async move {
                let declared = cx.capabilities();
                let name = async {
                    if !Capability::Elicitation.is_in(declared) {
                        return Ok("not asked".to_owned());
                    }
                    told(cx.elicit::<Name>("elicit_input", "What is your name?").await?)
                };
                let sampled = async {
                    if !Capability::Sampling.is_in(declared) {
                        return Ok::<_, ToolError>("not asked".to_owned());
                    }
                    Ok(cx.sample("sample_input", Sampling::new(50).user("Generate a greeting")).await?.text())
                };
                let (name, sampled) = join((name, sampled)).await;
                Ok::<_, ToolError>(format!("elicitation: {}; sampling: {}", name?, sampled?))
            },
        )
}
