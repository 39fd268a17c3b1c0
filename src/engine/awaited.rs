//! Names of other rooms that this seam speaks of.

pub use crate::native::Inbox;
pub use crate::wire::http1::Request;
/// `native::Factory`.
pub type Factory = dyn Fn() + Send + Sync;
