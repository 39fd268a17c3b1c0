//! What comes of a request to a native server, as the engine sees it.

use std::future::Future;
use std::pin::Pin;

use crate::base::fault::code;

/// Who may keep a result (2026-07-28, caching). See [`Cache`] for an example.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Scope {
    /// Any cache may serve it to anyone.
    Public,
    /// Only for the caller's own authorization context.
    #[default]
    Private,
}

/// How long and for whom a result stays good (2026-07-28, caching). The default is: not at all.
///
/// ```
/// use ringhub::native::{Cache, Scope};
/// let cache = Cache::public(60_000);
/// assert_eq!((cache.ttl_ms, cache.scope), (60_000, Scope::Public));
/// assert_eq!(Cache::default(), Cache::private(0));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Cache {
    /// How long it stays good, milliseconds.
    pub ttl_ms: u64,
    /// For whom.
    pub scope: Scope,
}

impl Cache {
    /// Good for anyone, for `ttl_ms` milliseconds.
    #[must_use]
    pub const fn public(ttl_ms: u64) -> Self {
        Self { ttl_ms, scope: Scope::Public }
    }

    /// Good for the caller alone, for `ttl_ms` milliseconds.
    #[must_use]
    pub const fn private(ttl_ms: u64) -> Self {
        Self { ttl_ms, scope: Scope::Private }
    }
}

/// A JSON-RPC error object.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct RpcError {
    pub code: i32,
    pub message: String,
    /// JSON text.
    pub data: Option<Vec<u8>>,
}

impl RpcError {
    pub fn new(code: i32, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), data: None }
    }

    pub fn invalid_params(message: impl Into<String>) -> Self {
        Self::new(code::INVALID_PARAMS, message)
    }

    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(code::INTERNAL, message)
    }
}

/// How a request ended. The members of a result stand in the buffer that came with it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Outcome {
    /// A result. `cache` is set by resources that name their own; `meta` is a JSON object to merge into the result's `_meta`.
    Result { is_error: bool, cache: Option<Cache>, meta: Option<Vec<u8>> },
    /// A JSON-RPC error.
    Error(RpcError),
    /// Modern era: the client must declare these capabilities (JSON text of a `ClientCapabilities` object) first.
    MissingCapability(Vec<u8>),
    /// The handler panicked. The engine alone makes it: it catches panics.
    Panicked,
}

impl Outcome {
    /// A plain result.
    pub const RESULT: Self = Self::Result { is_error: false, cache: None, meta: None };
}

/// What a request that took longer ended with.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Finished {
    /// Members of the result object, without its braces.
    pub members: Vec<u8>,
    pub outcome: Outcome,
}

/// A future that ends with a result.
pub(crate) type Job = Pin<Box<dyn Future<Output = Finished>>>;

/// What became of a request when it was started.
pub(crate) enum Started {
    /// It is done: the members stand in `out`.
    Done(Outcome),
    /// It goes on in this future, on this core.
    Later(Job),
    /// It must run on the blocking pool.
    Blocking(Box<dyn FnOnce() -> Finished + Send>),
    /// The server has no such tool, resource or prompt.
    NotFound,
}
