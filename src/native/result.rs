//! Results of tools, written straight into the buffer that goes to the client.

use std::borrow::Cow;

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Map, Value};

use super::content::Content;
use super::error::ToolError;
use super::outcome::Outcome;
use super::{ask::AskError, schema};
use crate::wire::json;
use crate::wire::mcp::{Era, Version};

/// What a tool's handler can return.
///
/// Implemented for text (`String`, `&'static str`, `Cow`), [`Content`], lists and arrays of content, [`Json`], [`ToolResult`], `()`,
/// and a `Result` of any of these with [`ToolError`], `String`, `&'static str` or [`AskError`] as its error.
///
/// ```
/// use ringhub::native::{testing::Client, Context, Empty, IntoToolResult, ResultWriter, Server, Tool, ToolError};
///
/// struct Celsius(f64);
///
/// impl IntoToolResult for Celsius {
///     fn write(self, to: &mut ResultWriter<'_>) -> Result<(), ToolError> {
///         to.text(&format!("{} °C", self.0));
///         Ok(())
///     }
/// }
///
/// let server = Server::builder("demo", "1.0").tool(Tool::new("now"), |_: Empty, _: &Context| Celsius(21.5)).build()?;
/// assert_eq!(Client::new(server).call("now", serde_json::json!({}))?.text(), "21.5 °C");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not something a tool can answer",
    note = "return text, `Content`, `Vec<Content>`, `Json<T>`, `ToolResult`, or a `Result` of one of them"
)]
pub trait IntoToolResult {
    /// Writes the result.
    ///
    /// # Errors
    /// There is none: what was written is discarded, and the error answered.
    fn write(self, to: &mut ResultWriter<'_>) -> Result<(), ToolError>;

    /// The schema of the structured part, if all results of the type have one.
    #[must_use]
    fn output_schema() -> Option<Value> {
        None
    }
}

/// Where a result is written. See [`IntoToolResult`].
pub struct ResultWriter<'a> {
    out: &'a mut Vec<u8>,
    start: usize,
    version: Version,
    content: Stage,
    is_error: bool,
    structured: bool,
    meta: Option<Vec<u8>>,
}

impl std::fmt::Debug for ResultWriter<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ResultWriter").field("version", &self.version).finish_non_exhaustive()
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    None,
    Open,
}

impl<'a> ResultWriter<'a> {
    fn new(out: &'a mut Vec<u8>, version: Version) -> Self {
        let start = out.len();
        Self { out, start, version, content: Stage::None, is_error: false, structured: false, meta: None }
    }

    /// Adds a block of text.
    pub fn text(&mut self, text: &str) {
        self.begin_block();
        self.out.extend_from_slice(br#"{"type":"text","text":"#);
        json::write_str(self.out, text);
        self.out.push(b'}');
    }

    /// Adds a block of content. What the client's revision does not know becomes text.
    ///
    /// # Errors
    /// None for content made by this crate: its parts always have a JSON form.
    pub fn content(&mut self, content: &Content) -> Result<(), ToolError> {
        self.begin_block();
        serde_json::to_writer(&mut *self.out, &content.known_to(self.version)).map_err(|error| no_json(&error))
    }

    /// Sets the structured part, once. With `and_text`, the same JSON is added as a block of text, for clients that know no structured part.
    ///
    /// Legacy revisions allow objects alone as structured part (server/tools, "structured content"): anything else is left out for them.
    ///
    /// # Errors
    /// `value` has no JSON form, or the structured part has been set already.
    pub fn structured(&mut self, value: &impl Serialize, and_text: bool) -> Result<(), ToolError> {
        if std::mem::replace(&mut self.structured, true) {
            return Err(ToolError::internal("the structured part of a result can be set only once"));
        }
        let from = self.out.len();
        self.out.extend_from_slice(br#""structuredContent":"#);
        let value_from = self.out.len();
        serde_json::to_writer(&mut *self.out, value).map_err(|error| no_json(&error))?;
        let value_to = self.out.len();
        self.out.push(b',');
        let is_allowed = self.version.era() == Era::Modern || self.out.get(value_from) == Some(&b'{');
        // The structured part stands before the content, whose array may be open already.
        let length = self.out.len() - from;
        self.out[self.start..].rotate_right(length);
        let value = self.start + (value_from - from)..self.start + (value_to - from);
        if and_text {
            self.begin_block();
            self.out.extend_from_slice(br#"{"type":"text","text":"#);
            escape_within(self.out, value);
            self.out.push(b'}');
        }
        if !is_allowed {
            self.out.drain(self.start..self.start + length);
        }
        Ok(())
    }

    /// Marks the result as an error that the model is told.
    pub const fn error(&mut self) {
        self.is_error = true;
    }

    /// Sets the result's `_meta`.
    pub fn meta(&mut self, meta: &Map<String, Value>) {
        self.meta = serde_json::to_vec(meta).ok();
    }

    /// The revision the client speaks.
    #[must_use]
    pub const fn version(&self) -> Version {
        self.version
    }

    fn begin_block(&mut self) {
        match self.content {
            Stage::None => self.out.extend_from_slice(br#""content":["#),
            Stage::Open => self.out.push(b','),
        }
        self.content = Stage::Open;
    }

    fn finish(self) -> Outcome {
        self.out.extend_from_slice(match self.content {
            Stage::None => br#""content":[]"#,
            Stage::Open => b"]",
        });
        if self.is_error {
            self.out.extend_from_slice(br#","isError":true"#);
        }
        Outcome::Result { is_error: self.is_error, cache: None, meta: self.meta }
    }
}

fn no_json(error: &serde_json::Error) -> ToolError {
    ToolError::internal(format!("the result has no JSON form: {error}"))
}

/// Appends what stands at `range` as a JSON string. What stands there is JSON without white space, so that only quotes and backslashes
/// need escaping.
fn escape_within(out: &mut Vec<u8>, range: std::ops::Range<usize>) {
    out.reserve(range.len() + range.len() / 4 + 2);
    out.push(b'"');
    for index in range {
        let byte = out[index];
        if matches!(byte, b'"' | b'\\') {
            out.push(b'\\');
        }
        out.push(byte);
    }
    out.push(b'"');
}

/// Writes what a handler returned; `out` gets the members of the result.
pub(super) fn write(result: impl IntoToolResult, version: Version, out: &mut Vec<u8>) -> Outcome {
    let start = out.len();
    let mut writer = ResultWriter::new(out, version);
    match result.write(&mut writer) {
        Ok(()) => writer.finish(),
        Err(error) => {
            out.truncate(start);
            error.into_outcome(version.era(), |content| report(&content, version, out))
        }
    }
}

/// A result that tells the model what went wrong.
pub(super) fn report(content: &[Content], version: Version, out: &mut Vec<u8>) -> Outcome {
    let start = out.len();
    let mut writer = ResultWriter::new(out, version);
    writer.error();
    for block in content {
        if let Err(error) = writer.content(block) {
            out.truncate(start);
            return error.into_rpc_outcome(version.era());
        }
    }
    writer.finish()
}

/// A value answered as structured content, with its JSON as text beside it for clients that know no structured content. Its schema is
/// listed as the tool's output schema.
///
/// ```
/// use ringhub::native::{testing::Client, Context, Json, Server, Tool};
///
/// #[derive(serde::Deserialize, schemars::JsonSchema)]
/// struct Add { a: f64, b: f64 }
/// #[derive(serde::Serialize, schemars::JsonSchema)]
/// struct Sum { sum: f64 }
///
/// let server = Server::builder("calculator", "1.0")
///     .tool(Tool::new("add").description("Adds two numbers"), |args: Add, _: &Context| Json(Sum { sum: args.a + args.b }))
///     .build()?;
/// let reply = Client::new(server).call("add", serde_json::json!({"a": 1, "b": 2}))?;
/// assert_eq!(reply.structured()?["sum"], 3.0);
/// assert_eq!(reply.text(), r#"{"sum":3.0}"#);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Json<T>(pub T);

impl<T: Serialize + JsonSchema> IntoToolResult for Json<T> {
    fn write(self, to: &mut ResultWriter<'_>) -> Result<(), ToolError> {
        to.structured(&self.0, true)
    }

    fn output_schema() -> Option<Value> {
        Some(schema::of_output::<T>())
    }
}

/// A result put together by hand: any content, a structured part, `isError`, `_meta`.
///
/// ```
/// use ringhub::native::{testing::Client, Content, Context, Empty, Server, Tool, ToolResult};
///
/// let server = Server::builder("demo", "1.0")
///     .tool(Tool::new("both"), |_: Empty, _: &Context| {
///         ToolResult::new().content(Content::text("two")).structured(serde_json::json!({"n": 2})).meta("example.org/took_ms", 3)
///     })
///     .build()?;
/// let reply = Client::new(server).call("both", serde_json::json!({}))?;
/// assert_eq!((reply.text(), &reply.structured()?["n"]), ("two".to_owned(), &serde_json::json!(2)));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, PartialEq, Debug, Default)]
pub struct ToolResult {
    content: Vec<Content>,
    structured: Option<Value>,
    is_error: bool,
    meta: Map<String, Value>,
}

impl ToolResult {
    /// An empty result.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds content.
    #[must_use]
    pub fn content(mut self, content: impl Into<Content>) -> Self {
        self.content.push(content.into());
        self
    }

    /// Sets the structured part. Add content that says the same for clients that know no structured part.
    #[must_use]
    pub fn structured(mut self, value: Value) -> Self {
        self.structured = Some(value);
        self
    }

    /// Marks it as an error that the model is told.
    #[must_use]
    pub const fn error(mut self) -> Self {
        self.is_error = true;
        self
    }

    /// Adds a member to its `_meta`.
    #[must_use]
    pub fn meta(mut self, name: impl Into<String>, value: impl Into<Value>) -> Self {
        self.meta.insert(name.into(), value.into());
        self
    }
}

impl IntoToolResult for ToolResult {
    fn write(self, to: &mut ResultWriter<'_>) -> Result<(), ToolError> {
        if let Some(value) = &self.structured {
            to.structured(value, false)?;
        }
        self.content.write(to)?;
        if self.is_error {
            to.error();
        }
        if !self.meta.is_empty() {
            to.meta(&self.meta);
        }
        Ok(())
    }
}

impl IntoToolResult for () {
    fn write(self, _to: &mut ResultWriter<'_>) -> Result<(), ToolError> {
        Ok(())
    }
}

macro_rules! text_result {
    ($($type:ty),*) => {$(
        impl IntoToolResult for $type {
            fn write(self, to: &mut ResultWriter<'_>) -> Result<(), ToolError> {
                to.text(&self);
                Ok(())
            }
        }
    )*};
}

text_result!(String, &'static str, Cow<'static, str>, Box<str>);

impl IntoToolResult for Content {
    fn write(self, to: &mut ResultWriter<'_>) -> Result<(), ToolError> {
        to.content(&self)
    }
}

impl IntoToolResult for Vec<Content> {
    fn write(self, to: &mut ResultWriter<'_>) -> Result<(), ToolError> {
        self.iter().try_for_each(|block| to.content(block))
    }
}

impl<const N: usize> IntoToolResult for [Content; N] {
    fn write(self, to: &mut ResultWriter<'_>) -> Result<(), ToolError> {
        self.iter().try_for_each(|block| to.content(block))
    }
}

macro_rules! fallible_result {
    ($($error:ty => $into:expr),*) => {$(
        impl<R: IntoToolResult> IntoToolResult for Result<R, $error> {
            fn write(self, to: &mut ResultWriter<'_>) -> Result<(), ToolError> {
                let into: fn($error) -> ToolError = $into;
                self.map_err(into)?.write(to)
            }

            fn output_schema() -> Option<Value> {
                R::output_schema()
            }
        }
    )*};
}

fallible_result!(ToolError => |error| error, String => ToolError::new, &'static str => ToolError::new, AskError => ToolError::from);

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn members(result: impl IntoToolResult, version: Version) -> (Value, Outcome) {
        let mut out = b"{".to_vec();
        let outcome = write(result, version, &mut out);
        out.push(b'}');
        (serde_json::from_slice(&out).unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&out))), outcome)
    }

    #[test]
    fn text_is_one_block() {
        let (value, outcome) = members("a \"b\"\n", Version::V2026_07_28);
        assert_eq!(value, json!({"content": [{"type": "text", "text": "a \"b\"\n"}]}));
        assert_eq!(outcome, Outcome::RESULT);
    }

    #[test]
    fn an_empty_result_still_has_content() {
        assert_eq!(members((), Version::V2025_11_25).0, json!({"content": []}));
    }

    #[test]
    fn structured_comes_with_the_same_text() {
        let (value, _) = members(Json(json!({"a": "x\\\"y"})), Version::V2025_11_25);
        assert_eq!(value["structuredContent"], json!({"a": "x\\\"y"}));
        assert_eq!(value["content"][0]["text"], r#"{"a":"x\\\"y"}"#);
    }

    #[test]
    fn legacy_clients_get_no_structured_part_that_is_not_an_object() {
        let (legacy, _) = members(Json(vec![1, 2]), Version::V2025_11_25);
        assert_eq!(legacy, json!({"content": [{"type": "text", "text": "[1,2]"}]}));
        let (modern, _) = members(Json(vec![1, 2]), Version::V2026_07_28);
        assert_eq!(modern["structuredContent"], json!([1, 2]));
    }

    #[test]
    fn the_structured_part_may_come_after_content() {
        struct Late;
        impl IntoToolResult for Late {
            fn write(self, to: &mut ResultWriter<'_>) -> Result<(), ToolError> {
                to.text("first");
                to.structured(&json!({"n": 1}), true)?;
                to.text("last");
                assert!(to.structured(&1, false).is_err());
                Ok(())
            }
        }
        let (value, _) = members(Late, Version::V2025_06_18);
        assert_eq!(value["structuredContent"], json!({"n": 1}));
        assert_eq!(value["content"][1]["text"], r#"{"n":1}"#);
        assert_eq!(value["content"].as_array().map(Vec::len), Some(3));
    }

    #[test]
    fn an_error_is_told_and_nothing_else_is() {
        let (value, outcome) = members(Err::<String, _>(ToolError::new("no")), Version::V2026_07_28);
        assert_eq!(value, json!({"content": [{"type": "text", "text": "no"}], "isError": true}));
        assert!(matches!(outcome, Outcome::Result { is_error: true, .. }));
        struct Half;
        impl IntoToolResult for Half {
            fn write(self, to: &mut ResultWriter<'_>) -> Result<(), ToolError> {
                to.text("half");
                Err(ToolError::internal("broke"))
            }
        }
        let mut out = b"x".to_vec();
        assert!(matches!(write(Half, Version::V2026_07_28, &mut out), Outcome::Error(_)));
        assert_eq!(out, b"x");
    }
}
