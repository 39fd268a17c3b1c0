//! Tools: what a client's model calls.

use std::future::Future;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::ask::{AskError, Capability};
use super::blocking::BlockingContext;
use super::content::{Content, Icon};
use super::context::Context;
use super::error::ToolError;
use super::outcome::{Finished, Outcome, RpcError, Started};
use super::result::{self, IntoToolResult};
use super::schema::{self, Check};
use crate::wire::json::Decoder;
use crate::wire::mcp::{Era, HeaderParam, Version, header_params};

/// Longest name of a tool, characters (server/tools, "tool names").
const NAME_MAX: usize = 128;

/// What a tool is called and said to do. Its handler is given beside it: see [`Builder::tool`](super::Builder::tool).
///
/// A tool's description is read by models: say what it does, when to use it, and what it answers. Doc comments on the fields of the
/// argument type become the descriptions of the arguments.
///
/// ```
/// use ringhub::native::{testing::Client, Capability, Context, Icon, Server, Tool};
///
/// #[derive(serde::Deserialize, schemars::JsonSchema)]
/// struct Delete {
///     /// Path of the file, below the workspace
///     path: String,
///     /// Where the file lies; gateways can route by it
///     #[schemars(extend("x-mcp-header" = "Region"))]
///     region: Option<String>,
/// }
///
/// let tool = Tool::new("delete_file")
///     .title("Delete a file")
///     .description("Deletes one file of the workspace. Answers the path.")
///     .destructive(true)
///     .idempotent(true)
///     .open_world(false)
///     .icon(Icon::new("https://example.com/bin.png"))
///     .meta("example.org/team", "storage");
/// let server = Server::builder("files", "1.0").tool(tool, |args: Delete, _: &Context| args.path).build()?;
/// let mut client = Client::new(server);
/// let listed = client.tools();
/// assert_eq!(listed[0]["annotations"]["destructiveHint"], true);
/// assert_eq!(listed[0]["inputSchema"]["required"], serde_json::json!(["path"]));
/// let wrong = client.call("delete_file", serde_json::json!({"path": 5}))?;
/// assert!(wrong.is_error() && wrong.text().contains("`path`"));
///
/// // A schema written by hand is compiled when the server is built, and run on every call's arguments.
/// let by_hand = Tool::new("roll").read_only(true).needs(Capability::Sampling).input_schema(serde_json::json!({
///     "type": "object", "properties": {"sides": {"type": "integer", "minimum": 2}}, "required": ["sides"],
/// }));
/// let server = Server::builder("dice", "1.0").tool(by_hand, |args: serde_json::Value, _: &Context| args["sides"].to_string()).build()?;
/// let reply = Client::new(server).answer("unused", serde_json::json!({})).call("roll", serde_json::json!({"sides": 1}))?;
/// assert!(reply.is_error());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Tool {
    name: String,
    title: Option<String>,
    description: Option<String>,
    hints: Hints,
    icons: Vec<Icon>,
    meta: Map<String, Value>,
    input: Option<Value>,
    output: Option<Value>,
    needs: Vec<Capability>,
}

#[derive(Clone, PartialEq, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Hints {
    #[serde(skip_serializing_if = "Option::is_none")]
    read_only_hint: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    destructive_hint: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    idempotent_hint: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    open_world_hint: Option<bool>,
}

impl Tool {
    /// A tool of this name: 1 to 128 of `A-Z a-z 0-9 _ - . /`.
    #[must_use]
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), ..Self::default() }
    }

    /// Its name for people.
    #[must_use]
    pub fn title(mut self, title: impl Into<String>) -> Self {
        self.title = Some(title.into());
        self
    }

    /// What it does, for the model.
    #[must_use]
    pub fn description(mut self, description: impl Into<String>) -> Self {
        self.description = Some(description.into());
        self
    }

    /// Hint: it changes nothing.
    #[must_use]
    pub const fn read_only(mut self, is: bool) -> Self {
        self.hints.read_only_hint = Some(is);
        self
    }

    /// Hint: what it changes may be lost, not only added to.
    #[must_use]
    pub const fn destructive(mut self, is: bool) -> Self {
        self.hints.destructive_hint = Some(is);
        self
    }

    /// Hint: calling it again with the same arguments changes nothing more.
    #[must_use]
    pub const fn idempotent(mut self, is: bool) -> Self {
        self.hints.idempotent_hint = Some(is);
        self
    }

    /// Hint: it deals with the world outside, such as the web.
    #[must_use]
    pub const fn open_world(mut self, is: bool) -> Self {
        self.hints.open_world_hint = Some(is);
        self
    }

    /// Adds a picture of it.
    #[must_use]
    pub fn icon(mut self, icon: Icon) -> Self {
        self.icons.push(icon);
        self
    }

    /// Adds a member to its `_meta`.
    #[must_use]
    pub fn meta(mut self, name: impl Into<String>, value: impl Into<Value>) -> Self {
        self.meta.insert(name.into(), value.into());
        self
    }

    /// A schema of its arguments written by hand, instead of the one derived from the handler's argument type. It is listed as it is,
    /// compiled when the server is built, and run on the arguments before the handler.
    #[must_use]
    pub fn input_schema(mut self, schema: Value) -> Self {
        self.input = Some(schema);
        self
    }

    /// A schema of its structured results written by hand. Holding results to it is the handler's part.
    #[must_use]
    pub fn output_schema(mut self, schema: Value) -> Self {
        self.output = Some(schema);
        self
    }

    /// It cannot be called by a client that does not declare this capability: such a call is refused before the handler runs.
    #[must_use]
    pub fn needs(mut self, capability: Capability) -> Self {
        self.needs.push(capability);
        self
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }
}

impl From<&str> for Tool {
    fn from(name: &str) -> Self {
        Self::new(name)
    }
}

/// The arguments of a tool that takes none.
///
/// ```
/// use ringhub::native::{testing::Client, Context, Empty, Server};
/// let server = Server::builder("demo", "1.0").tool("ping", |_: Empty, _: &Context| "pong").build()?;
/// assert!(Client::new(server).call("ping", serde_json::json!({"extra": 1}))?.is_error());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(description = "")]
pub struct Empty {}

/// Starts a handler on raw arguments that are known to be an object and to meet the schema.
type Run = Box<dyn Fn(&[u8], &mut Decoder, &Context, &mut Vec<u8>) -> Started>;

/// A tool as the server keeps it.
pub(crate) struct ToolEntry {
    name: String,
    definition: Vec<u8>,
    /// What legacy clients are listed, where it differs.
    legacy_definition: Option<Vec<u8>>,
    header_params: Vec<HeaderParam>,
    needs: Vec<Capability>,
    check: Check,
    run: Run,
}

impl ToolEntry {
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The item of `tools/list`, in JSON.
    pub fn definition(&self, era: Era) -> &[u8] {
        match (&self.legacy_definition, era) {
            (Some(definition), Era::Legacy) => definition,
            _ => &self.definition,
        }
    }

    /// Arguments that are mirrored into headers.
    pub fn header_params(&self) -> &[HeaderParam] {
        &self.header_params
    }

    pub(super) fn start(&self, arguments: Option<&[u8]>, decoder: &mut Decoder, cx: &Context, out: &mut Vec<u8>) -> Started {
        if let Some(missing) = self.needs.iter().find(|capability| !capability.is_in(cx.capabilities())) {
            let error = Err::<(), _>(ToolError::from(AskError::Undeclared(*missing)));
            return Started::Done(result::write(error, cx.version(), out));
        }
        let raw = arguments.filter(|raw| *raw != b"null").unwrap_or(b"{}");
        if raw.first() != Some(&b'{') {
            return Started::Done(Outcome::Error(RpcError::invalid_params("`arguments` must be an object")));
        }
        if let Err(why) = self.check.run(raw) {
            return refuse(&self.name, &why, cx.version(), out);
        }
        (self.run)(raw, decoder, cx, out)
    }
}

/// The arguments are not what the schema asks for: told to the model, in both eras, so that it can mend its call.
#[cold]
fn refuse(name: &str, why: &str, version: Version, out: &mut Vec<u8>) -> Started {
    let content = [Content::text(format!("Invalid arguments for tool {name}: {why}"))];
    Started::Done(result::report(&content, version, out))
}

/// An item of `tools/list`.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Definition<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    title: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<&'a str>,
    input_schema: &'a Value,
    #[serde(skip_serializing_if = "Option::is_none")]
    output_schema: Option<&'a Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    annotations: Option<&'a Hints>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    icons: &'a [Icon],
    #[serde(rename = "_meta", skip_serializing_if = "Option::is_none")]
    meta: Option<&'a Map<String, Value>>,
}

fn entry<A: JsonSchema, R: IntoToolResult>(tool: Tool, run: Run) -> Result<ToolEntry, String> {
    check_name(&tool.name)?;
    let (input, check) = match tool.input {
        Some(input) => {
            schema::demand_object(&input)?;
            let check = Check::hand_written(&input)?;
            (input, check)
        }
        None => {
            let input = schema::of_input::<A>()?;
            let check = if input == schema::any_object() { Check::Nothing } else { Check::derived(&input)? };
            (input, check)
        }
    };
    let output = tool.output.or_else(R::output_schema);
    if let Some(output) = &output {
        schema::compile(output).map_err(|why| format!("output schema: {why}"))?;
    }
    let mirrored = header_params(&input)?;
    let mut definition = Definition {
        name: &tool.name,
        title: tool.title.as_deref(),
        description: tool.description.as_deref(),
        input_schema: &input,
        output_schema: output.as_ref(),
        annotations: (tool.hints != Hints::default()).then_some(&tool.hints),
        icons: &tool.icons,
        meta: (!tool.meta.is_empty()).then_some(&tool.meta),
    };
    let encode = |definition: &Definition<'_>| serde_json::to_vec(definition).map_err(|error| error.to_string());
    let encoded = encode(&definition)?;
    let mut legacy_definition = None;
    if output.as_ref().is_some_and(|output| !schema::is_object(output)) {
        // Legacy revisions allow objects alone as structured results.
        definition.output_schema = None;
        legacy_definition = Some(encode(&definition)?);
    }
    Ok(ToolEntry { definition: encoded, legacy_definition, header_params: mirrored, needs: tool.needs, check, run, name: tool.name })
}

fn check_name(name: &str) -> Result<(), String> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"_-./".contains(&byte);
    if name.is_empty() || name.len() > NAME_MAX || !name.bytes().all(fits) {
        return Err(format!("the name must be 1 to {NAME_MAX} of A-Z a-z 0-9 _ - . /"));
    }
    Ok(())
}

/// Decodes the arguments, or tells the model why they cannot be.
fn decode<A: DeserializeOwned>(name: &str, raw: &[u8], decoder: &mut Decoder, version: Version, out: &mut Vec<u8>) -> Result<A, Started> {
    decoder.decode(raw).map_err(|error| refuse(name, error.text(), version, out))
}

pub(super) fn sync<A, R, F>(tool: Tool, handler: F) -> Result<ToolEntry, String>
where
    A: DeserializeOwned + JsonSchema + 'static,
    R: IntoToolResult + 'static,
    F: Fn(A, &Context) -> R + 'static,
{
    let name = tool.name.clone();
    let run: Run = Box::new(move |raw, decoder, cx, out| match decode(&name, raw, decoder, cx.version(), out) {
        Ok(arguments) => Started::Done(result::write(handler(arguments, cx), cx.version(), out)),
        Err(refused) => refused,
    });
    entry::<A, R>(tool, run)
}

pub(super) fn asynchronous<A, R, F, Fut>(tool: Tool, handler: F) -> Result<ToolEntry, String>
where
    A: DeserializeOwned + JsonSchema + 'static,
    R: IntoToolResult + 'static,
    F: Fn(A, Context) -> Fut + 'static,
    Fut: Future<Output = R> + 'static,
{
    let name = tool.name.clone();
    let run: Run = Box::new(move |raw, decoder, cx, out| {
        let version = cx.version();
        match decode(&name, raw, decoder, version, out) {
            Ok(arguments) => {
                let future = handler(arguments, cx.clone());
                Started::Later(Box::pin(async move { finished(future.await, version) }))
            }
            Err(refused) => refused,
        }
    });
    entry::<A, R>(tool, run)
}

pub(super) fn blocking<A, R, F>(tool: Tool, handler: F) -> Result<ToolEntry, String>
where
    A: DeserializeOwned + JsonSchema + Send + 'static,
    R: IntoToolResult + 'static,
    F: Fn(A, &BlockingContext) -> R + Send + Sync + 'static,
{
    let name = tool.name.clone();
    let handler = Arc::new(handler);
    let run: Run = Box::new(move |raw, decoder, cx, out| {
        let version = cx.version();
        match decode::<A>(&name, raw, decoder, version, out) {
            Ok(arguments) => {
                let (handler, context) = (Arc::clone(&handler), BlockingContext::new(cx));
                Started::Blocking(Box::new(move || finished(handler(arguments, &context), version)))
            }
            Err(refused) => refused,
        }
    });
    entry::<A, R>(tool, run)
}

fn finished(result: impl IntoToolResult, version: Version) -> Finished {
    let mut members = Vec::new();
    let outcome = result::write(result, version, &mut members);
    Finished { members, outcome }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::result::Json;
    use super::*;

    #[derive(Deserialize, JsonSchema)]
    struct Add {
        a: i64,
        b: i64,
    }

    fn listed(entry: &ToolEntry, era: Era) -> Value {
        serde_json::from_slice(entry.definition(era)).expect("JSON")
    }

    #[test]
    fn a_definition_has_what_was_said_and_nothing_else() {
        let entry = sync(Tool::new("add"), |args: Add, _: &Context| (args.a + args.b).to_string()).expect("valid");
        let expected = json!({"name": "add", "inputSchema": {
            "type": "object",
            "properties": {"a": {"type": "integer", "format": "int64"}, "b": {"type": "integer", "format": "int64"}},
            "required": ["a", "b"],
        }});
        assert_eq!(listed(&entry, Era::Modern), expected);
    }

    #[test]
    fn legacy_clients_are_not_told_of_results_they_cannot_get() {
        let entry = sync(Tool::new("list"), |_: Empty, _: &Context| Json(vec![1_u8])).expect("valid");
        assert_eq!(listed(&entry, Era::Modern)["outputSchema"]["type"], "array");
        assert!(listed(&entry, Era::Legacy).get("outputSchema").is_none());
    }

    #[test]
    fn what_is_wrong_with_a_tool_is_found_when_it_is_made() {
        let with_schema = |schema: Value| sync(Tool::new("a").input_schema(schema), |_: Value, _: &Context| "").err();
        assert!(with_schema(json!({"type": "object", "properties": {"a": {"type": "strin"}}})).is_some());
        assert!(with_schema(json!({"type": "array"})).is_some());
        assert!(with_schema(json!({"type": "object", "properties": {"a": {"type": "number", "x-mcp-header": "A"}}})).is_some());
        assert!(with_schema(json!({"type": "object"})).is_none());
        for name in ["", "a b", "é", &"x".repeat(129)] {
            assert!(sync(Tool::new(name), |_: Empty, _: &Context| "").is_err(), "{name}");
        }
    }
}
