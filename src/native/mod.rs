//! In-process servers: the API to write tools, resources and prompts with, and the side of it that the engine drives.

mod call;
mod context;
pub(crate) mod host;
pub(crate) mod inbox;
mod notifier;
pub(crate) mod outcome;
pub(crate) mod questions;
mod timers;

pub use crate::wire::mcp::Level;
pub use context::{Changes, ClientView, Context, Sleep};
pub use host::List;
pub use inbox::Inbox;
pub use notifier::Notifier;
pub use outcome::{Cache, Scope};
