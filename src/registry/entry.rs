//! What the registry holds: servers and endpoints. An entry is never altered in place: a change puts a new one in its stead.

use crate::base::ids::NodeId;
use crate::wire::mcp::Version;

/// Names a server across nodes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
pub struct ServerId {
    /// The node that hosts or fronts it.
    pub node: NodeId,
    /// Its number there, never given twice while the node runs.
    pub number: u64,
}

/// What stands behind a server.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Source {
    /// It runs in this process: its place in the list of factories.
    Native(u32),
    /// An MCP server that is fronted: a URL, or the command that starts it.
    Upstream(Box<str>),
}

/// How a server that this process fronts is spoken to. Not kept across restarts: it is found out anew.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fronted {
    /// Its place among the upstreams of the process.
    pub number: u32,
    /// The revision of the protocol that it speaks.
    pub version: Version,
    /// Whether it completes arguments.
    pub completes: bool,
    /// Whether it tells when single resources change.
    pub subscribes: bool,
    /// Whether its tools and prompts keep their names where several servers share an endpoint.
    pub is_plain: bool,
    /// How often it has said that its tools, its prompts and its resources changed. It may have said so of a list that looks as before.
    pub changes: [u32; 3],
}

/// Whether a server can be called.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum State {
    /// It takes calls.
    Online,
    /// It is listed, and calls of it are answered with an error that says so.
    #[default]
    Offline,
}

/// One tool, prompt, resource or resource template.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Item {
    /// What it is called by: the name of a tool or prompt, the URI of a resource, the URI template of a template.
    pub name: Box<str>,
    /// Its definition, a JSON object as its server gave it.
    pub json: Box<[u8]>,
}

/// What a server offers.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Catalog {
    /// Its tools.
    pub tools: Box<[Item]>,
    /// Its prompts.
    pub prompts: Box<[Item]>,
    /// Its resources.
    pub resources: Box<[Item]>,
    /// Its resource templates.
    pub templates: Box<[Item]>,
}

impl Catalog {
    /// Bytes of its names and definitions.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.items().map(|item| item.name.len() + item.json.len()).sum()
    }

    /// All it holds.
    pub fn items(&self) -> impl Iterator<Item = &Item> {
        [&self.tools, &self.prompts, &self.resources, &self.templates].into_iter().flatten()
    }
}

/// What is said of a server when it is registered or updated.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ServerSpec {
    /// Its name, unique in the registry.
    pub name: Box<str>,
    /// A name for people; may be empty.
    pub title: Box<str>,
    /// What it is for; may be empty.
    pub description: Box<str>,
    /// The version of its software.
    pub software_version: Box<str>,
    /// What stands behind it.
    pub source: Source,
    /// Whether it can be called.
    pub state: State,
    /// It is part of the configuration: nobody changes it but this process, and it is not kept.
    pub is_configured: bool,
    /// What was said of how this process is to reach it, when it was registered to be fronted: a JSON object, secrets included. The registry
    /// makes nothing of it.
    pub front: Option<Box<[u8]>>,
    /// Set once this process has found out how; none for every server that it does not front.
    pub fronted: Option<Fronted>,
    /// What it offers.
    pub catalog: Catalog,
}

/// A server's entry.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Server {
    /// Its id.
    pub id: ServerId,
    /// Counts the changes of this entry; the first is 1.
    pub version: u64,
    /// When it was registered, milliseconds since 1970.
    pub created_ms: u64,
    /// When it was changed last, milliseconds since 1970.
    pub updated_ms: u64,
    /// What was said of it.
    pub spec: ServerSpec,
}

/// An endpoint's entry: a path that clients connect to, and the servers they see there.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Endpoint {
    /// Absolute path: `/mcp`, or `/mcp/` and a name.
    pub path: Box<str>,
    /// Names it across cores; never given twice while the node runs.
    pub id: ServerId,
    /// Counts the changes of this entry; the first is 1.
    pub version: u64,
    /// Names of the servers bound to it, in the order they were bound.
    pub servers: Box<[Box<str>]>,
    /// When it was created, milliseconds since 1970.
    pub created_ms: u64,
    /// When it was changed last, milliseconds since 1970.
    pub updated_ms: u64,
    /// Whether it is as the configuration says: it was not changed since the process started, nor in an earlier run that was kept.
    pub is_configured: bool,
}
