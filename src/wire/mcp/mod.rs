//! The vocabulary of the Model Context Protocol, both eras: versions, methods, capabilities, headers, and which era a request belongs to.

mod capability;
mod envelope;
mod header;
mod level;
mod method;
mod param;
mod route;
mod version;

pub use capability::ClientCapabilities;
pub use envelope::{Envelope, envelope};
pub use header::{BadEncoding, Disagreement, Mirrors, agree, decode, encode};
pub use level::Level;
pub use method::{ClientMethod, Method, NameParam, Notification};
pub use param::{HeaderKind, HeaderParam, PARAM_PREFIX, header_params, header_params_of};
pub use route::{Inbound, Route, claims_modern, classify};
pub use version::{Era, Version};

/// The members of `_meta` that the 2026-07-28 specification names (basic, "_meta").
pub mod meta_key {
    /// What all of them begin with.
    pub const PREFIX: &str = "io.modelcontextprotocol/";
    /// Request: the protocol version.
    pub const PROTOCOL_VERSION: &str = "io.modelcontextprotocol/protocolVersion";
    /// Request: the client's capabilities.
    pub const CLIENT_CAPABILITIES: &str = "io.modelcontextprotocol/clientCapabilities";
    /// Request: the client's name and version.
    pub const CLIENT_INFO: &str = "io.modelcontextprotocol/clientInfo";
    /// Request: the least severe log level that the client wants.
    pub const LOG_LEVEL: &str = "io.modelcontextprotocol/logLevel";
    /// Result: the server's name and version.
    pub const SERVER_INFO: &str = "io.modelcontextprotocol/serverInfo";
    /// Messages on a `subscriptions/listen` stream: the id of the listen request.
    pub const SUBSCRIPTION_ID: &str = "io.modelcontextprotocol/subscriptionId";
    /// Request or notification: the token that progress is reported with.
    pub const PROGRESS_TOKEN: &str = "progressToken";
    /// Extension: tasks.
    pub const TASKS_EXTENSION: &str = "io.modelcontextprotocol/tasks";
}

/// The static name of a method or notification, when MCP knows it.
pub(in crate::wire) fn name_of(text: &str) -> Option<&'static str> {
    match Method::parse(text) {
        Method::Unknown => match Notification::parse(text) {
            Notification::Unknown => None,
            known => Some(known.name()),
        },
        known => Some(known.name()),
    }
}
