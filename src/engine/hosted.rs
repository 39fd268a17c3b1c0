//! A native server as its core hosts it.

use super::view::Signature;
use crate::native::{HeaderParam, Server, ToolEntry};

/// A server, and what stands in its results.
pub(super) struct Hosted {
    pub server: Server,
    pub signature: Signature,
}

impl Hosted {
    pub fn new(server: Server) -> Self {
        let signature = Signature::new(server.name(), server.version());
        Self { server, signature }
    }

    /// Arguments of a tool that clients mirror into headers; none when there is no such tool.
    pub fn header_params(&self, tool: &str) -> &[HeaderParam] {
        self.server.tool(tool).map_or(&[], ToolEntry::header_params)
    }
}
