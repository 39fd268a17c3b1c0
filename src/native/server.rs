//! Servers, and how they are built.

use std::cell::Cell;
use std::future::Future;

use hashbrown::HashMap;
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::blocking::BlockingContext;
use super::completion::{CompleterEntry, Completing, Target};
use super::content::Icon;
use super::context::Context;
use super::host::List;
use super::notifier::Notifier;
use super::outcome::Cache;
use super::prompt::{self, IntoPrompt, Prompt, PromptEntry};
use super::resource::{self, IntoContents, Resource, ResourceEntry, Template};
use super::result::IntoToolResult;
use super::template::Variables;
use super::tool::{self, Tool, ToolEntry};

/// Items on one page of a list unless told otherwise.
const PAGE_SIZE_DEFAULT: usize = 250;

/// Makes a server: called once on each core, so that the server itself need not be `Send`.
///
/// ```
/// use ringhub::native::{Context, Empty, Factory, Server};
/// let factory: Box<Factory> = Box::new(|| Server::builder("demo", "1.0").tool("hi", |_: Empty, _: &Context| "hello").build());
/// assert!(factory().is_ok());
/// ```
pub type Factory = dyn Fn() -> Result<Server, BuildError> + Send + Sync;

/// A set of tools, resources and prompts in this process. Made by a [`Builder`].
///
/// ```
/// use ringhub::native::{testing::Client, Context, Resource, Server, Tool};
///
/// #[derive(serde::Deserialize, schemars::JsonSchema)]
/// struct Greet {
///     /// Whom to greet
///     name: String,
/// }
///
/// let server = Server::builder("greeter", "1.0")
///     .instructions("Greet people by name.")
///     .tool(Tool::new("greet").description("Greets someone"), |args: Greet, _: &Context| format!("Hello, {}!", args.name))
///     .resource(Resource::new("greeter://readme", "readme"), |_: &Context| "Be polite.")
///     .build()?;
/// assert_eq!(Client::new(server).call("greet", serde_json::json!({"name": "Ada"}))?.text(), "Hello, Ada!");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Server {
    pub(super) name: String,
    pub(super) version: String,
    /// JSON `Implementation` object.
    pub(super) info: Vec<u8>,
    pub(super) instructions: Option<String>,
    pub(super) tools: Vec<ToolEntry>,
    pub(super) tool_names: HashMap<Box<str>, usize>,
    /// Place of the tool that was looked up last: many calls in a row name the same one.
    pub(super) tool_named_last: Cell<usize>,
    pub(super) resources: Vec<ResourceEntry>,
    pub(super) templates: Vec<ResourceEntry>,
    pub(super) prompts: Vec<PromptEntry>,
    pub(super) completers: Vec<CompleterEntry>,
    pub(super) notifiers: Vec<Notifier>,
    pub(super) page_size: usize,
    pub(super) caches: Caches,
    pub(super) changes: bool,
}

/// How long what the server itself answers stays good.
#[derive(Clone, Copy, Default)]
pub(super) struct Caches {
    pub discover: Cache,
    pub tools: Cache,
    pub prompts: Cache,
    pub resources: Cache,
    pub read: Cache,
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server").field("name", &self.name).field("version", &self.version).finish_non_exhaustive()
    }
}

impl Server {
    /// Begins a server of this name and version.
    #[must_use]
    pub fn builder(name: impl Into<String>, version: impl Into<String>) -> Builder {
        Builder {
            problems: Vec::new(),
            title: None,
            description: None,
            website: None,
            icons: Vec::new(),
            server: Self {
                name: name.into(),
                version: version.into(),
                info: Vec::new(),
                instructions: None,
                tools: Vec::new(),
                tool_names: HashMap::new(),
                tool_named_last: Cell::new(0),
                resources: Vec::new(),
                templates: Vec::new(),
                prompts: Vec::new(),
                completers: Vec::new(),
                notifiers: Vec::new(),
                page_size: PAGE_SIZE_DEFAULT,
                caches: Caches::default(),
                changes: true,
            },
        }
    }
}

/// Why a server cannot be built: everything that is wrong with it.
///
/// ```
/// use ringhub::native::{Context, Server, Tool};
/// use serde_json::{json, Value};
///
/// let roll = Tool::new("roll").input_schema(json!({"type": "object", "properties": {"sides": {"type": "intger"}}}));
/// let error = Server::builder("dice", "1.0").tool(roll, |_: Value, _: &Context| "4").build().unwrap_err();
/// assert!(error.to_string().contains("tool `roll`"));
/// assert_eq!(error.problems().len(), 1);
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BuildError {
    server: String,
    problems: Vec<String>,
}

impl BuildError {
    /// What is wrong, one entry each; it names the tool, resource or prompt.
    #[must_use]
    pub fn problems(&self) -> &[String] {
        &self.problems
    }
}

impl std::fmt::Display for BuildError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "the server `{}` cannot be built: {}", self.server, self.problems.join("; "))
    }
}

impl std::error::Error for BuildError {}

/// Collects what a server has. Mistakes are reported together by [`Builder::build`].
///
/// ```
/// use ringhub::native::{testing::Client, *};
/// use std::time::Duration;
///
/// #[derive(serde::Deserialize, schemars::JsonSchema)]
/// struct Text { text: String }
///
/// let notifier = Notifier::new();
/// let server = Server::builder("everything", "1.0")
///     .title("Everything")
///     .description("Shows each method of the builder")
///     .website("https://example.com")
///     .icon(Icon::new("https://example.com/icon.png"))
///     .instructions("Try each tool.")
///     .page_size(50)
///     .cache(List::Tools, Cache::public(60_000))
///     .cache_discover(Cache::public(60_000))
///     .cache_reads(Cache::private(1_000))
///     .changes(true)
///     .notifier(&notifier)
///     // A sync handler answers at once; it must not take long, since it holds its core.
///     .tool("upper", |args: Text, _: &Context| args.text.to_uppercase())
///     // An async handler may wait.
///     .tool_async("slow_upper", |args: Text, cx: Context| async move {
///         cx.sleep(Duration::from_millis(10)).await;
///         args.text.to_uppercase()
///     })
///     // A blocking handler runs on a pool of threads: for files, for long computations.
///     .tool_blocking("file_size", |args: Text, _: &BlockingContext| -> Result<String, ToolError> {
///         Ok(std::fs::metadata(args.text)?.len().to_string())
///     })
///     .resource(Resource::new("demo://now", "now"), |cx: &Context| cx.now().wall_ms.to_string())
///     .resource_async(Resource::new("demo://later", "later"), |cx: Context| async move {
///         cx.sleep(Duration::from_millis(10)).await;
///         "here it is"
///     })
///     .template(Template::new("demo://upper/{text}", "upper"), |at: &Variables, _: &Context| at.get("text").to_uppercase())
///     .template_async(Template::new("demo://lower/{text}", "lower"), |at: Variables, _: Context| async move {
///         at.get("text").to_lowercase()
///     })
///     .complete_template("demo://upper/{text}", "text", |typed: &Completing, _: &Context| vec![format!("{}!", typed.value)])
///     .prompt("shout", |args: Text, _: &Context| format!("Shout: {}", args.text))
///     .prompt_async("whisper", |args: Text, _: Context| async move { format!("Whisper: {}", args.text) })
///     .complete_prompt("shout", "text", |_: &Completing, _: &Context| vec!["hey".to_owned()])
///     .build()?;
/// let mut client = Client::new(server);
/// for tool in ["upper", "slow_upper"] {
///     assert_eq!(client.call(tool, serde_json::json!({"text": "abc"}))?.text(), "ABC");
/// }
/// assert!(client.call("file_size", serde_json::json!({"text": "/no/such/file"}))?.is_error());
/// assert_eq!(client.read("demo://upper/abc")?.text(), "ABC");
/// assert_eq!(client.read("demo://lower/ABC")?.text(), "abc");
/// assert_eq!(client.read("demo://later")?.text(), "here it is");
/// assert_eq!(client.prompt("whisper", serde_json::json!({"text": "a"}))?.text(), "Whisper: a");
/// assert_eq!(client.complete_template("demo://upper/{text}", "text", "a")?, ["a!"]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Builder {
    problems: Vec<String>,
    title: Option<String>,
    description: Option<String>,
    website: Option<String>,
    icons: Vec<Icon>,
    server: Server,
}

impl std::fmt::Debug for Builder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Builder").field("server", &self.server).field("problems", &self.problems).finish_non_exhaustive()
    }
}

/// What the server says of itself.
impl Builder {
    /// Its name for people.
    #[must_use]
    pub fn title(mut self, title: impl Into<String>) -> Self {
        self.title = Some(title.into());
        self
    }

    /// What it is, for people.
    #[must_use]
    pub fn description(mut self, description: impl Into<String>) -> Self {
        self.description = Some(description.into());
        self
    }

    /// Where more is to be read about it.
    #[must_use]
    pub fn website(mut self, url: impl Into<String>) -> Self {
        self.website = Some(url.into());
        self
    }

    /// Adds a picture of it.
    #[must_use]
    pub fn icon(mut self, icon: Icon) -> Self {
        self.icons.push(icon);
        self
    }

    /// How to use it, for the model: what the tools are for together, and in what order.
    #[must_use]
    pub fn instructions(mut self, instructions: impl Into<String>) -> Self {
        self.server.instructions = Some(instructions.into());
        self
    }

    /// How many items a page of a list has; at least one.
    #[must_use]
    pub fn page_size(mut self, items: usize) -> Self {
        self.server.page_size = items.max(1);
        self
    }

    /// How long a list stays good (2026-07-28). Unless told otherwise: not at all, for the caller alone.
    #[must_use]
    pub const fn cache(mut self, list: List, cache: Cache) -> Self {
        match list {
            List::Tools => self.server.caches.tools = cache,
            List::Prompts => self.server.caches.prompts = cache,
            List::Resources => self.server.caches.resources = cache,
        }
        self
    }

    /// How long what the server says of itself stays good (2026-07-28).
    #[must_use]
    pub const fn cache_discover(mut self, cache: Cache) -> Self {
        self.server.caches.discover = cache;
        self
    }

    /// How long what is read from a resource stays good, unless the resource says otherwise (2026-07-28).
    #[must_use]
    pub const fn cache_reads(mut self, cache: Cache) -> Self {
        self.server.caches.read = cache;
        self
    }

    /// Whether clients are told that they can subscribe to changes: they are unless told otherwise. Say `false` for a server that never
    /// uses [`Context::notify`] nor a [`Notifier`], and clients need not keep a stream open for it.
    #[must_use]
    pub const fn changes(mut self, happen: bool) -> Self {
        self.server.changes = happen;
        self
    }

    /// Lets a notifier, from any thread, tell the server's subscribers of changes.
    #[must_use]
    pub fn notifier(mut self, notifier: &Notifier) -> Self {
        self.server.notifiers.push(notifier.clone());
        self
    }
}

/// What the server has.
impl Builder {
    /// Adds a tool whose handler answers at once, on the core that took the request.
    #[must_use]
    pub fn tool<A, R, F>(mut self, tool: impl Into<Tool>, handler: F) -> Self
    where
        A: DeserializeOwned + JsonSchema + 'static,
        R: IntoToolResult + 'static,
        F: Fn(A, &Context) -> R + 'static,
    {
        let tool = tool.into();
        let name = tool.name().to_owned();
        self.add_tool(&name, tool::sync(tool, handler));
        self
    }

    /// Adds a tool whose handler is async: it may sleep, ask the client, await anything that wakes a standard waker.
    #[must_use]
    pub fn tool_async<A, R, F, Fut>(mut self, tool: impl Into<Tool>, handler: F) -> Self
    where
        A: DeserializeOwned + JsonSchema + 'static,
        R: IntoToolResult + 'static,
        F: Fn(A, Context) -> Fut + 'static,
        Fut: Future<Output = R> + 'static,
    {
        let tool = tool.into();
        let name = tool.name().to_owned();
        self.add_tool(&name, tool::asynchronous(tool, handler));
        self
    }

    /// Adds a tool whose handler blocks: it runs on the pool of blocking threads.
    #[must_use]
    pub fn tool_blocking<A, R, F>(mut self, tool: impl Into<Tool>, handler: F) -> Self
    where
        A: DeserializeOwned + JsonSchema + Send + 'static,
        R: IntoToolResult + 'static,
        F: Fn(A, &BlockingContext) -> R + Send + Sync + 'static,
    {
        let tool = tool.into();
        let name = tool.name().to_owned();
        self.add_tool(&name, tool::blocking(tool, handler));
        self
    }

    /// Adds a resource.
    #[must_use]
    pub fn resource<C, F>(mut self, resource: Resource, handler: F) -> Self
    where
        C: IntoContents + 'static,
        F: Fn(&Context) -> C + 'static,
    {
        let uri = resource.uri().to_owned();
        self.add_resource(&uri, resource::sync(resource, handler));
        self
    }

    /// Adds a resource whose handler is async.
    #[must_use]
    pub fn resource_async<C, F, Fut>(mut self, resource: Resource, handler: F) -> Self
    where
        C: IntoContents + 'static,
        F: Fn(Context) -> Fut + 'static,
        Fut: Future<Output = C> + 'static,
    {
        let uri = resource.uri().to_owned();
        self.add_resource(&uri, resource::asynchronous(resource, handler));
        self
    }

    /// Adds a family of resources.
    #[must_use]
    pub fn template<C, F>(mut self, template: Template, handler: F) -> Self
    where
        C: IntoContents + 'static,
        F: Fn(&Variables, &Context) -> C + 'static,
    {
        let uri = template.uri().to_owned();
        self.add_template(&uri, resource::template_sync(template, handler));
        self
    }

    /// Adds a family of resources whose handler is async.
    #[must_use]
    pub fn template_async<C, F, Fut>(mut self, template: Template, handler: F) -> Self
    where
        C: IntoContents + 'static,
        F: Fn(Variables, Context) -> Fut + 'static,
        Fut: Future<Output = C> + 'static,
    {
        let uri = template.uri().to_owned();
        self.add_template(&uri, resource::template_asynchronous(template, handler));
        self
    }

    /// Adds a prompt.
    #[must_use]
    pub fn prompt<A, P, F>(mut self, prompt: impl Into<Prompt>, handler: F) -> Self
    where
        A: DeserializeOwned + JsonSchema + 'static,
        P: IntoPrompt + 'static,
        F: Fn(A, &Context) -> P + 'static,
    {
        let prompt = prompt.into();
        let name = prompt.name().to_owned();
        self.add_prompt(&name, prompt::sync(prompt, handler));
        self
    }

    /// Adds a prompt whose handler is async.
    #[must_use]
    pub fn prompt_async<A, P, F, Fut>(mut self, prompt: impl Into<Prompt>, handler: F) -> Self
    where
        A: DeserializeOwned + JsonSchema + 'static,
        P: IntoPrompt + 'static,
        F: Fn(A, Context) -> Fut + 'static,
        Fut: Future<Output = P> + 'static,
    {
        let prompt = prompt.into();
        let name = prompt.name().to_owned();
        self.add_prompt(&name, prompt::asynchronous(prompt, handler));
        self
    }

    /// Completes an argument of a prompt. See [`Completing`].
    #[must_use]
    pub fn complete_prompt<F>(self, prompt: &str, argument: &str, complete: F) -> Self
    where
        F: Fn(&Completing, &Context) -> Vec<String> + 'static,
    {
        self.complete(Target::Prompt { name: prompt.to_owned() }, argument, complete)
    }

    /// Completes a variable of a resource template. See [`Completing`].
    #[must_use]
    pub fn complete_template<F>(self, uri_template: &str, variable: &str, complete: F) -> Self
    where
        F: Fn(&Completing, &Context) -> Vec<String> + 'static,
    {
        self.complete(Target::Resource { uri: uri_template.to_owned() }, variable, complete)
    }

    /// The server.
    ///
    /// # Errors
    /// All that is wrong with it: schemas that are not valid, names given twice, templates that cannot be read, completers of nothing.
    pub fn build(mut self) -> Result<Server, BuildError> {
        self.check_completers();
        if self.server.name.is_empty() {
            self.problems.push("it has no name".to_owned());
        }
        if !self.problems.is_empty() {
            return Err(BuildError { server: self.server.name, problems: self.problems });
        }
        let mut info = json!({"name": self.server.name, "version": self.server.version});
        for (member, value) in [("title", self.title), ("description", self.description), ("websiteUrl", self.website)] {
            if let Some(value) = value {
                info[member] = Value::String(value);
            }
        }
        if !self.icons.is_empty() {
            info["icons"] = json!(self.icons);
        }
        self.server.info = info.to_string().into_bytes();
        Ok(self.server)
    }

    fn add_tool(&mut self, name: &str, entry: Result<ToolEntry, String>) {
        match entry {
            Ok(_) if self.server.tool_names.contains_key(name) => self.problems.push(format!("tool `{name}`: there are two of this name")),
            Ok(entry) => {
                self.server.tool_names.insert(name.into(), self.server.tools.len());
                self.server.tools.push(entry);
            }
            Err(why) => self.problems.push(format!("tool `{name}`: {why}")),
        }
    }

    fn add_resource(&mut self, uri: &str, entry: Result<ResourceEntry, String>) {
        match entry {
            Ok(_) if self.server.resources.iter().any(|other| other.uri() == uri) => {
                self.problems.push(format!("resource `{uri}`: there are two of this URI"));
            }
            Ok(entry) => self.server.resources.push(entry),
            Err(why) => self.problems.push(format!("resource `{uri}`: {why}")),
        }
    }

    fn add_template(&mut self, uri: &str, entry: Result<ResourceEntry, String>) {
        match entry {
            Ok(_) if self.server.templates.iter().any(|other| other.uri() == uri) => {
                self.problems.push(format!("resource template `{uri}`: there are two of this template"));
            }
            Ok(entry) => self.server.templates.push(entry),
            Err(why) => self.problems.push(format!("resource template `{uri}`: {why}")),
        }
    }

    fn add_prompt(&mut self, name: &str, entry: Result<PromptEntry, String>) {
        match entry {
            Ok(_) if self.server.prompts.iter().any(|other| other.name() == name) => {
                self.problems.push(format!("prompt `{name}`: there are two of this name"));
            }
            Ok(entry) => self.server.prompts.push(entry),
            Err(why) => self.problems.push(format!("prompt `{name}`: {why}")),
        }
    }

    fn complete<F>(mut self, target: Target, argument: &str, complete: F) -> Self
    where
        F: Fn(&Completing, &Context) -> Vec<String> + 'static,
    {
        self.server.completers.push(CompleterEntry { target, argument: argument.to_owned(), complete: Box::new(complete) });
        self
    }

    fn check_completers(&mut self) {
        for completer in &self.server.completers {
            let (what, exists) = match &completer.target {
                Target::Prompt { name } => {
                    let prompt = self.server.prompts.iter().find(|prompt| prompt.name() == name);
                    (format!("prompt `{name}`"), prompt.is_some_and(|prompt| prompt.has_argument(&completer.argument)))
                }
                Target::Resource { uri } => {
                    let template = self.server.templates.iter().find(|template| template.uri() == uri);
                    (format!("resource template `{uri}`"), template.is_some_and(|template| template.has_variable(&completer.argument)))
                }
            };
            if !exists {
                self.problems.push(format!("completion of `{}`: there is no {what} with it", completer.argument));
            }
        }
    }
}
