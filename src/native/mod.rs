//! In-process servers: the API to write tools, resources and prompts with, and the side of it that the engine drives.
//!
//! A [`Server`] is built once on each core by a factory, so its value need not be `Send` and needs no locks. Its handlers are plain
//! functions or closures: the schema of their arguments is derived from the argument type and enforced, what they return is written
//! straight into the answer, and a [`Context`] gives them progress, logging, cancellation, sleep, and questions to the client that work
//! in both eras of the protocol. [`testing::Client`] drives a server without a socket.
//!
//! ```
//! use ringhub::native::{testing::Client, Context, Json, Server, Tool};
//!
//! #[derive(serde::Deserialize, schemars::JsonSchema)]
//! struct Add {
//!     /// The first number
//!     a: f64,
//!     /// The second number
//!     b: f64,
//! }
//!
//! #[derive(serde::Serialize, schemars::JsonSchema)]
//! struct Sum { sum: f64 }
//!
//! let server = Server::builder("calculator", "1.0")
//!     .tool(Tool::new("add").description("Adds two numbers"), |args: Add, _: &Context| Json(Sum { sum: args.a + args.b }))
//!     .build()?;
//! assert_eq!(Client::new(server).call("add", serde_json::json!({"a": 1, "b": 2}))?.structured()?["sum"], 3.0);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#[cfg(test)]
mod allocations;
mod ask;
mod blocking;
pub mod builtin;
mod call;
mod completion;
mod content;
mod context;
#[cfg(test)]
mod driven;
mod elicit;
mod entries;
mod error;
mod form;
mod header;
pub(crate) mod host;
pub(crate) mod inbox;
mod join;
mod notifier;
pub(crate) mod outcome;
mod prompt;
pub(crate) mod questions;
mod resource;
mod result;
mod sample;
mod schema;
mod server;
mod shape;
mod template;
pub mod testing;
mod timers;
mod tool;

pub use ask::{Answer, Ask, AskError, Capability, Root};
pub use blocking::BlockingContext;
pub use completion::Completing;
pub use content::{Annotations, Content, Icon, ResourceLink, Role};
pub use context::{Changes, ClientView, Context, Sleep};
pub use elicit::{Elicitation, Elicited, UrlElicitation};
pub use error::ToolError;
pub use host::List;
pub use inbox::Inbox;
pub use join::{Join, join};
pub use notifier::Notifier;
pub use outcome::{Cache, Scope};
pub use prompt::{IntoPrompt, Prompt, PromptMessage, PromptResult};
pub use resource::{IntoContents, Resource, ResourceContents, Template};
pub use result::{IntoToolResult, Json, ResultWriter, ToolResult};
pub use sample::{Sampled, Sampling};
pub use server::{BuildError, Builder, Factory, Server};
pub use template::Variables;
pub use tool::{Empty, Tool};

pub(crate) use entries::Capabilities;
pub(crate) use resource::ResourceEntry;
pub(crate) use template::UriTemplate;
pub(crate) use tool::ToolEntry;

pub use crate::wire::mcp::{ClientCapabilities, Era, Level, Version};
