//! Resources: what a client reads.

use std::future::Future;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::content::{Annotations, Icon};
use super::context::Context;
use super::error::ToolError;
use super::outcome::{Cache, Finished, Outcome, RpcError, Started};
use super::result::Json;
use super::template::{UriTemplate, Variables};
use crate::base::fault::code;
use crate::wire::mcp::{Era, Version};

/// What a resource says: text or bytes, under its URI.
///
/// ```
/// use ringhub::native::ResourceContents;
/// let page = ResourceContents::text("notes://1", "# Milk").mime_type("text/markdown").meta("example.org/rev", 7);
/// assert_eq!(serde_json::to_value(page)?["text"], "# Milk");
/// let image = ResourceContents::bytes("notes://2", [1, 2, 3]);
/// assert_eq!(serde_json::to_value(image)?["blob"], "AQID");
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, PartialEq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ResourceContents {
    uri: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    mime_type: Option<String>,
    #[serde(flatten)]
    body: Body,
    #[serde(rename = "_meta", skip_serializing_if = "Map::is_empty")]
    meta: Map<String, Value>,
}

#[derive(Clone, PartialEq, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
enum Body {
    Text(String),
    Blob(String),
}

impl ResourceContents {
    /// Text.
    #[must_use]
    pub fn text(uri: impl Into<String>, text: impl Into<String>) -> Self {
        Self { uri: uri.into(), mime_type: None, body: Body::Text(text.into()), meta: Map::new() }
    }

    /// Bytes.
    #[must_use]
    pub fn bytes(uri: impl Into<String>, bytes: impl AsRef<[u8]>) -> Self {
        Self { uri: uri.into(), mime_type: None, body: Body::Blob(STANDARD.encode(bytes)), meta: Map::new() }
    }

    /// Sets the media type.
    #[must_use]
    pub fn mime_type(mut self, mime_type: impl Into<String>) -> Self {
        self.mime_type = Some(mime_type.into());
        self
    }

    /// Adds a member to its `_meta`.
    #[must_use]
    pub fn meta(mut self, name: impl Into<String>, value: impl Into<Value>) -> Self {
        self.meta.insert(name.into(), value.into());
        self
    }
}

/// What resources and templates are said to be.
#[derive(Clone, PartialEq, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct About {
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    title: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mime_type: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    size: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    annotations: Option<Annotations>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    icons: Vec<Icon>,
    #[serde(rename = "_meta", skip_serializing_if = "Map::is_empty")]
    meta: Map<String, Value>,
}

macro_rules! about_methods {
    () => {
        /// Its name for people.
        #[must_use]
        pub fn title(mut self, title: impl Into<String>) -> Self {
            self.about.title = Some(title.into());
            self
        }

        /// What it is, for the model.
        #[must_use]
        pub fn description(mut self, description: impl Into<String>) -> Self {
            self.about.description = Some(description.into());
            self
        }

        /// Its media type; also that of what its handler answers, unless the answer names its own.
        #[must_use]
        pub fn mime_type(mut self, mime_type: impl Into<String>) -> Self {
            self.about.mime_type = Some(mime_type.into());
            self
        }

        /// Adds hints.
        #[must_use]
        pub fn annotated(mut self, annotations: Annotations) -> Self {
            self.about.annotations = Some(annotations);
            self
        }

        /// Adds a picture of it.
        #[must_use]
        pub fn icon(mut self, icon: Icon) -> Self {
            self.about.icons.push(icon);
            self
        }

        /// Adds a member to its `_meta`.
        #[must_use]
        pub fn meta(mut self, name: impl Into<String>, value: impl Into<Value>) -> Self {
            self.about.meta.insert(name.into(), value.into());
            self
        }

        /// How long what is read stays good (2026-07-28).
        #[must_use]
        pub const fn cache(mut self, cache: Cache) -> Self {
            self.cache = Some(cache);
            self
        }
    };
}

/// A resource: where it is and what it is said to be. Its handler is given beside it: see [`Builder::resource`](super::Builder::resource).
///
/// ```
/// use ringhub::native::{testing::Client, Cache, Context, Resource, Server};
///
/// let about = Resource::new("demo://about", "about")
///     .title("About")
///     .description("What this server is for")
///     .mime_type("text/plain")
///     .size(5)
///     .cache(Cache::public(60_000));
/// let server = Server::builder("demo", "1.0").resource(about, |_: &Context| "hello").build()?;
/// let mut client = Client::new(server);
/// assert_eq!(client.resources()[0]["uri"], "demo://about");
/// assert_eq!(client.read("demo://about")?.text(), "hello");
/// assert!(client.read("demo://else").is_err());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, PartialEq, Debug)]
pub struct Resource {
    uri: String,
    about: About,
    cache: Option<Cache>,
}

impl Resource {
    /// The resource at `uri`, which programs call `name`.
    #[must_use]
    pub fn new(uri: impl Into<String>, name: impl Into<String>) -> Self {
        Self { uri: uri.into(), about: About { name: name.into(), ..About::default() }, cache: None }
    }

    /// Its size, bytes.
    #[must_use]
    pub const fn size(mut self, size: u64) -> Self {
        self.about.size = Some(size);
        self
    }

    about_methods!();

    pub(super) fn uri(&self) -> &str {
        &self.uri
    }
}

/// A family of resources, by a URI template (RFC 6570 level 1, such as `notes://{year}/{name}`; `{+name}` takes slashes too).
/// Its handler is given beside it: see [`Builder::template`](super::Builder::template), and [`Variables`] for more.
///
/// ```
/// use ringhub::native::{testing::Client, Cache, Context, Server, Template, Variables};
/// let notes = Template::new("notes://{name}", "note").title("Note").description("A note by name").cache(Cache::private(1_000));
/// let server = Server::builder("demo", "1.0").template(notes, |at: &Variables, _: &Context| at.get("name").to_owned()).build()?;
/// let mut client = Client::new(server);
/// assert_eq!(client.templates()[0]["uriTemplate"], "notes://{name}");
/// let read = client.read("notes://milk")?;
/// assert_eq!((read.text(), read.cache), ("milk".to_owned(), Some(Cache::private(1_000))));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, PartialEq, Debug)]
pub struct Template {
    uri: String,
    about: About,
    cache: Option<Cache>,
}

impl Template {
    /// The resources that match `uri_template`, which programs call `name`.
    #[must_use]
    pub fn new(uri_template: impl Into<String>, name: impl Into<String>) -> Self {
        Self { uri: uri_template.into(), about: About { name: name.into(), ..About::default() }, cache: None }
    }

    about_methods!();

    pub(super) fn uri(&self) -> &str {
        &self.uri
    }
}

/// What the handler of a resource can return.
///
/// Implemented for text (`String`, `&'static str`), bytes (`Vec<u8>`), [`Json`], [`ResourceContents`] and lists of it, for an `Option`
/// of these (`None`: there is no such resource), and for a `Result` with [`ToolError`], `String` or `&'static str` as its error.
///
/// ```
/// use ringhub::native::{testing::Client, Context, Json, Resource, Server};
/// let server = Server::builder("demo", "1.0")
///     .resource(Resource::new("demo://list", "list"), |_: &Context| Json(vec![1, 2]))
///     .resource(Resource::new("demo://bytes", "bytes"), |_: &Context| vec![1_u8, 2])
///     .resource(Resource::new("demo://gone", "gone"), |_: &Context| None::<String>)
///     .build()?;
/// let mut client = Client::new(server);
/// assert_eq!(client.read("demo://list")?.text(), "[1,2]");
/// assert_eq!(client.read("demo://bytes")?.result["contents"][0]["blob"], "AQI=");
/// assert!(client.read("demo://gone").is_err());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not something a resource can answer",
    note = "return text, `Vec<u8>`, `Json<T>`, `ResourceContents`, or an `Option` or `Result` of one of them"
)]
pub trait IntoContents {
    /// The contents; none: there is no such resource. `uri` is the one that was asked for, `mime_type` the declared one.
    ///
    /// # Errors
    /// It could not be read.
    fn into_contents(self, uri: &str, mime_type: Option<&str>) -> Result<Option<Vec<ResourceContents>>, ToolError>;
}

fn one(contents: ResourceContents, mime_type: Option<&str>) -> Result<Option<Vec<ResourceContents>>, ToolError> {
    Ok(Some(vec![ResourceContents { mime_type: mime_type.map(str::to_owned), ..contents }]))
}

impl IntoContents for String {
    fn into_contents(self, uri: &str, mime_type: Option<&str>) -> Result<Option<Vec<ResourceContents>>, ToolError> {
        one(ResourceContents::text(uri, self), mime_type.or(Some("text/plain")))
    }
}

impl IntoContents for &'static str {
    fn into_contents(self, uri: &str, mime_type: Option<&str>) -> Result<Option<Vec<ResourceContents>>, ToolError> {
        self.to_owned().into_contents(uri, mime_type)
    }
}

impl IntoContents for Vec<u8> {
    fn into_contents(self, uri: &str, mime_type: Option<&str>) -> Result<Option<Vec<ResourceContents>>, ToolError> {
        one(ResourceContents::bytes(uri, self), mime_type.or(Some("application/octet-stream")))
    }
}

impl<T: Serialize> IntoContents for Json<T> {
    fn into_contents(self, uri: &str, mime_type: Option<&str>) -> Result<Option<Vec<ResourceContents>>, ToolError> {
        let text =
            serde_json::to_string(&self.0).map_err(|error| ToolError::internal(format!("the resource has no JSON form: {error}")))?;
        one(ResourceContents::text(uri, text), mime_type.or(Some("application/json")))
    }
}

impl IntoContents for ResourceContents {
    fn into_contents(self, uri: &str, mime_type: Option<&str>) -> Result<Option<Vec<ResourceContents>>, ToolError> {
        vec![self].into_contents(uri, mime_type)
    }
}

impl IntoContents for Vec<ResourceContents> {
    fn into_contents(mut self, _uri: &str, mime_type: Option<&str>) -> Result<Option<Vec<ResourceContents>>, ToolError> {
        for contents in &mut self {
            contents.mime_type = contents.mime_type.take().or_else(|| mime_type.map(str::to_owned));
        }
        Ok(Some(self))
    }
}

impl<C: IntoContents> IntoContents for Option<C> {
    fn into_contents(self, uri: &str, mime_type: Option<&str>) -> Result<Option<Vec<ResourceContents>>, ToolError> {
        self.map_or(Ok(None), |contents| contents.into_contents(uri, mime_type))
    }
}

macro_rules! fallible_contents {
    ($($error:ty => $into:expr),*) => {$(
        impl<C: IntoContents> IntoContents for Result<C, $error> {
            fn into_contents(self, uri: &str, mime_type: Option<&str>) -> Result<Option<Vec<ResourceContents>>, ToolError> {
                let into: fn($error) -> ToolError = $into;
                self.map_err(into)?.into_contents(uri, mime_type)
            }
        }
    )*};
}

fallible_contents!(ToolError => |error| error, String => ToolError::new, &'static str => ToolError::new);

/// Starts reading.
type Read = Box<dyn Fn(&Variables, &Context, &mut Vec<u8>) -> Started>;

/// A resource or a template as the server keeps it.
pub(crate) struct ResourceEntry {
    /// The URI, or the template.
    uri: String,
    template: Option<UriTemplate>,
    definition: Vec<u8>,
    read: Read,
}

impl ResourceEntry {
    /// Its URI, or its URI template.
    pub fn uri(&self) -> &str {
        &self.uri
    }

    /// The item of `resources/list` or `resources/templates/list`, in JSON.
    pub fn definition(&self) -> &[u8] {
        &self.definition
    }

    /// The values that `uri` gives to the template's variables, if this is a template and matches.
    pub(super) fn matches(&self, uri: &str) -> Option<Variables> {
        self.template.as_ref()?.matches(uri)
    }

    /// Whether this is a template with such a variable.
    pub(super) fn has_variable(&self, name: &str) -> bool {
        self.template.as_ref().is_some_and(|template| template.names().any(|named| named == name))
    }

    pub(super) fn start(&self, at: &Variables, cx: &Context, out: &mut Vec<u8>) -> Started {
        (self.read)(at, cx, out)
    }
}

/// How the answers of one resource are finished.
#[derive(Clone)]
struct Finish {
    mime_type: Option<String>,
    cache: Option<Cache>,
}

impl Finish {
    fn write(&self, contents: impl IntoContents, uri: &str, version: Version, out: &mut Vec<u8>) -> Outcome {
        let start = out.len();
        let contents = match contents.into_contents(uri, self.mime_type.as_deref()) {
            Ok(Some(contents)) => contents,
            Ok(None) => return not_found(uri, version.era()),
            Err(error) => return error.into_rpc_outcome(version.era()),
        };
        out.extend_from_slice(br#""contents":"#);
        match serde_json::to_writer(&mut *out, &contents) {
            Ok(()) => Outcome::Result { is_error: false, cache: self.cache, meta: None },
            Err(error) => {
                out.truncate(start);
                Outcome::Error(RpcError::internal(error.to_string()))
            }
        }
    }
}

/// There is no such resource: each era has its own code (SEP-2164).
pub(super) fn not_found(uri: &str, era: Era) -> Outcome {
    let code = match era {
        Era::Legacy => code::RESOURCE_NOT_FOUND,
        Era::Modern => code::INVALID_PARAMS,
    };
    let data = json!({"uri": uri}).to_string().into_bytes();
    Outcome::Error(RpcError { code, message: "Resource not found".to_owned(), data: Some(data) })
}

/// The two kinds of definition, encoded.
fn encode(member: &str, uri: &str, about: &About) -> Result<Vec<u8>, String> {
    let mut definition = serde_json::to_value(about).map_err(|error| error.to_string())?;
    definition[member] = json!(uri);
    if about.name.is_empty() {
        return Err("it has no name".to_owned());
    }
    Ok(definition.to_string().into_bytes())
}

fn resource_entry(resource: Resource, read: impl FnOnce(Finish) -> Read) -> Result<ResourceEntry, String> {
    demand_scheme(&resource.uri)?;
    let definition = encode("uri", &resource.uri, &resource.about)?;
    let finish = Finish { mime_type: resource.about.mime_type, cache: resource.cache };
    Ok(ResourceEntry { uri: resource.uri, template: None, definition, read: read(finish) })
}

fn template_entry(template: Template, read: impl FnOnce(Finish) -> Read) -> Result<ResourceEntry, String> {
    demand_scheme(&template.uri)?;
    let parsed = UriTemplate::parse(&template.uri)?;
    let definition = encode("uriTemplate", &template.uri, &template.about)?;
    let finish = Finish { mime_type: template.about.mime_type, cache: template.cache };
    Ok(ResourceEntry { uri: template.uri, template: Some(parsed), definition, read: read(finish) })
}

/// A URI starts with a scheme (RFC 3986 section 3.1).
fn demand_scheme(uri: &str) -> Result<(), String> {
    let scheme = uri.split_once(':').map_or("", |(scheme, _)| scheme);
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte);
    if scheme.bytes().next().is_some_and(|first| first.is_ascii_alphabetic()) && scheme.bytes().all(fits) {
        return Ok(());
    }
    Err("it is not a URI: it has no scheme".to_owned())
}

pub(super) fn sync<C, F>(resource: Resource, handler: F) -> Result<ResourceEntry, String>
where
    C: IntoContents + 'static,
    F: Fn(&Context) -> C + 'static,
{
    resource_entry(resource, |finish| Box::new(move |at, cx, out| Started::Done(finish.write(handler(cx), at.uri(), cx.version(), out))))
}

pub(super) fn asynchronous<C, F, Fut>(resource: Resource, handler: F) -> Result<ResourceEntry, String>
where
    C: IntoContents + 'static,
    F: Fn(Context) -> Fut + 'static,
    Fut: Future<Output = C> + 'static,
{
    resource_entry(resource, |finish| {
        Box::new(move |at, cx, _| later(handler(cx.clone()), finish.clone(), at.uri().to_owned(), cx.version()))
    })
}

pub(super) fn template_sync<C, F>(template: Template, handler: F) -> Result<ResourceEntry, String>
where
    C: IntoContents + 'static,
    F: Fn(&Variables, &Context) -> C + 'static,
{
    template_entry(template, |finish| {
        Box::new(move |at, cx, out| Started::Done(finish.write(handler(at, cx), at.uri(), cx.version(), out)))
    })
}

pub(super) fn template_asynchronous<C, F, Fut>(template: Template, handler: F) -> Result<ResourceEntry, String>
where
    C: IntoContents + 'static,
    F: Fn(Variables, Context) -> Fut + 'static,
    Fut: Future<Output = C> + 'static,
{
    template_entry(template, |finish| {
        Box::new(move |at, cx, _| later(handler(at.clone(), cx.clone()), finish.clone(), at.uri().to_owned(), cx.version()))
    })
}

fn later<C: IntoContents + 'static>(future: impl Future<Output = C> + 'static, finish: Finish, uri: String, version: Version) -> Started {
    Started::Later(Box::pin(async move {
        let mut members = Vec::new();
        let outcome = finish.write(future.await, &uri, version, &mut members);
        Finished { members, outcome }
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_era_has_its_own_word_for_not_found() {
        let code = |era| match not_found("a://b", era) {
            Outcome::Error(error) => (error.code, error.data),
            other => panic!("an error: {other:?}"),
        };
        let data = Some(br#"{"uri":"a://b"}"#.to_vec());
        assert_eq!(code(Era::Legacy), (-32002, data.clone()));
        assert_eq!(code(Era::Modern), (-32602, data));
    }

    #[test]
    fn a_definition_names_its_uri() {
        let entry = sync(Resource::new("a://b", "b").mime_type("text/html"), |_: &Context| "x").expect("valid");
        let listed: Value = serde_json::from_slice(entry.definition()).expect("JSON");
        assert_eq!(listed, json!({"uri": "a://b", "name": "b", "mimeType": "text/html"}));
        assert!(sync(Resource::new("no scheme", "b"), |_: &Context| "x").is_err());
        assert!(sync(Resource::new("a://b", ""), |_: &Context| "x").is_err());
        assert!(template_sync(Template::new("a://{", "b"), |_: &Variables, _: &Context| "x").is_err());
    }
}
