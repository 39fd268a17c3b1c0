//! Names of other rooms that this seam speaks of and that are being built: `wire::http1::Request`, `native::Factory`, `native::Inbox`.

/// `wire::http1::Request`.
#[derive(Debug)]
pub struct Request<'a>(&'a [u8]);
/// `native::Factory`.
pub type Factory = dyn Fn() + Send + Sync;
/// `native::Inbox`.
pub struct Inbox;
