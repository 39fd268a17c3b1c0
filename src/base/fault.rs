//! One table of faults: what a peer sees when something is wrong, as HTTP and as JSON-RPC.

/// JSON-RPC error codes in use. The first five are JSON-RPC 2.0 section 5.1; the others are MCP's.
pub mod code {
    /// The body is not JSON.
    pub const PARSE: i32 = -32700;
    /// The JSON is not one request, notification or response.
    pub const INVALID_REQUEST: i32 = -32600;
    /// No such method here.
    pub const METHOD_NOT_FOUND: i32 = -32601;
    /// The method's parameters are wrong.
    pub const INVALID_PARAMS: i32 = -32602;
    /// The server failed.
    pub const INTERNAL: i32 = -32603;
    /// What the official SDKs answer for faults of the transport (no assignment in the specification).
    pub const TRANSPORT: i32 = -32000;
    /// What the official SDKs answer for an unknown session (no assignment in the specification).
    pub const SESSION_NOT_FOUND: i32 = -32001;
    /// Legacy eras: resource not found.
    pub const RESOURCE_NOT_FOUND: i32 = -32002;
    /// 2026-07-28: a header contradicts the body.
    pub const HEADER_MISMATCH: i32 = -32020;
    /// 2026-07-28: a capability that the client did not declare is needed.
    pub const MISSING_CAPABILITY: i32 = -32021;
    /// 2026-07-28: the protocol version is not supported.
    pub const UNSUPPORTED_VERSION: i32 = -32022;
}

/// Who caused a fault.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Side {
    /// The client.
    Downstream,
    /// ringhub itself, or the code it hosts.
    Internal,
    /// A server that ringhub fronts.
    Upstream,
}

macro_rules! faults {
    ($($(#[$doc:meta])* $kind:ident = $status:literal, $code:expr, $side:ident, $label:literal, $keep_alive:literal, $message:literal;)*) => {
        /// A kind of fault. Its HTTP status, JSON-RPC code, metric label and whether the connection survives stand in one table.
        #[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
        #[repr(u8)]
        pub enum Kind { $($(#[$doc])* $kind,)* }

        impl Kind {
            /// Every kind, in the order of the table.
            pub const ALL: &'static [Self] = &[$(Self::$kind,)*];

            /// HTTP status of the answer.
            #[must_use]
            pub const fn status(self) -> u16 { match self { $(Self::$kind => $status,)* } }
            /// JSON-RPC error code of the answer.
            #[must_use]
            pub const fn code(self) -> i32 { match self { $(Self::$kind => $code,)* } }
            /// Seconds after which the request may be tried again, where that helps (RFC 9110 section 10.2.3).
            #[must_use]
            pub const fn retry_after_s(self) -> Option<&'static str> { if matches!(self.status(), 429 | 503) { Some("1") } else { None } }
            /// Whether it is a refusal of what would be too much: neither an error of this node nor of who asked.
            #[must_use]
            pub const fn is_shed(self) -> bool { matches!(self, Self::UpstreamBusy) || matches!(self.status(), 429 | 503) }
            /// Whether it is an error by which a node is judged: a 5xx or an internal error, refusals aside.
            #[must_use]
            pub const fn is_error(self) -> bool { !self.is_shed() && (self.status() >= 500 || self.code() == code::INTERNAL) && !matches!(self.side(), Side::Downstream) }
            /// Who caused it.
            #[must_use]
            pub const fn side(self) -> Side { match self { $(Self::$kind => Side::$side,)* } }
            /// Label in metrics and logs.
            #[must_use]
            pub const fn label(self) -> &'static str { match self { $(Self::$kind => $label,)* } }
            /// Whether the connection may carry further requests.
            #[must_use]
            pub const fn keep_alive(self) -> bool { match self { $(Self::$kind => $keep_alive,)* } }
            /// The message a peer reads when nothing more exact is known.
            #[must_use]
            pub const fn message(self) -> &'static str { match self { $(Self::$kind => $message,)* } }
        }
    };
}

faults! {
    /// The bytes are not one unambiguous HTTP/1.1 request (RFC 9112).
    BadHttp = 400, code::TRANSPORT, Downstream, "bad_http", false, "The request is not well-formed HTTP/1.1";
    /// The head was not complete in time, or the body was not.
    SlowRequest = 408, code::TRANSPORT, Downstream, "slow_request", false, "The request did not arrive in time";
    /// The body is longer than allowed.
    BodyTooLarge = 413, code::TRANSPORT, Downstream, "body_too_large", false, "The request body is larger than this server accepts";
    /// The target is longer than allowed.
    TargetTooLong = 414, code::TRANSPORT, Downstream, "target_too_long", false, "The request target is longer than this server accepts";
    /// The head is longer than allowed.
    HeadTooLarge = 431, code::TRANSPORT, Downstream, "head_too_large", false, "The request header fields are larger than this server accepts";
    /// An expectation other than 100-continue (RFC 9110 section 10.1.1).
    BadExpectation = 417, code::TRANSPORT, Downstream, "bad_expectation", false, "The only expectation this server meets is 100-continue";
    /// A transfer coding other than chunked (RFC 9112 section 6.1).
    UnknownCoding = 501, code::TRANSPORT, Downstream, "unknown_coding", false, "The only transfer coding this server reads is chunked";
    /// A major HTTP version other than 1.
    HttpVersion = 505, code::TRANSPORT, Downstream, "http_version", false, "This server speaks HTTP/1.1";
    /// Nothing is served at this path.
    NoSuchPath = 404, code::TRANSPORT, Downstream, "no_such_path", true, "Nothing is served at this path";
    /// The path does not take this HTTP method.
    MethodNotAllowed = 405, code::TRANSPORT, Downstream, "method_not_allowed", true, "Method not allowed";
    /// The client accepts none of the media types that could answer it.
    NotAcceptable = 406, code::TRANSPORT, Downstream, "not_acceptable", true, "Not acceptable: the client must accept both application/json and text/event-stream";
    /// The body is not declared as JSON.
    UnsupportedMedia = 415, code::TRANSPORT, Downstream, "unsupported_media", true, "Unsupported media type: Content-Type must be application/json";
    /// Origin or Host is not one that may drive this server (DNS rebinding).
    Forbidden = 403, code::TRANSPORT, Downstream, "forbidden", true, "Forbidden: the Origin or Host of this request is not allowed; the server's --allowed-origin and --allowed-host add to what is";
    /// A second standalone stream of one session.
    Conflict = 409, code::TRANSPORT, Downstream, "conflict", true, "Conflict: this session has its standalone stream already";
    /// The body is not JSON.
    Parse = 400, code::PARSE, Downstream, "parse", true, "Parse error: the body is not valid JSON";
    /// The JSON is not an acceptable JSON-RPC message.
    InvalidRequest = 400, code::INVALID_REQUEST, Downstream, "invalid_request", true, "Invalid request";
    /// A session is needed and none was named.
    SessionMissing = 400, code::TRANSPORT, Downstream, "session_missing", true, "Bad request: the Mcp-Session-Id header is required; the response to initialize brings its value";
    /// More than one session is named.
    SessionRepeated = 400, code::TRANSPORT, Downstream, "session_repeated", true, "Bad request: the Mcp-Session-Id header came more than once";
    /// The named session is not, or no longer, known.
    SessionNotFound = 404, code::SESSION_NOT_FOUND, Downstream, "session_not_found", true, "Session not found: it has ended, or is not of this server; send initialize again";
    /// Legacy: the protocol version header names no version that is served.
    VersionHeader = 400, code::TRANSPORT, Downstream, "version_header", true, "Bad request: unsupported MCP-Protocol-Version; a session takes 2025-11-25, 2025-06-18, 2025-03-26 or 2024-11-05";
    /// 2026-07-28: required members of `_meta` are missing or malformed.
    BadEnvelope = 400, code::INVALID_PARAMS, Downstream, "bad_envelope", true, "Invalid params: the request's _meta is incomplete";
    /// 2026-07-28: headers and body disagree.
    HeaderMismatch = 400, code::HEADER_MISMATCH, Downstream, "header_mismatch", true, "Header mismatch";
    /// 2026-07-28: unsupported protocol version.
    UnsupportedVersion = 400, code::UNSUPPORTED_VERSION, Downstream, "unsupported_version", true, "Unsupported protocol version";
    /// 2026-07-28: a needed client capability is undeclared.
    MissingCapability = 400, code::MISSING_CAPABILITY, Downstream, "missing_capability", true, "A client capability that this request needs was not declared";
    /// 2026-07-28: no such method (HTTP 404 there).
    UnknownMethod = 404, code::METHOD_NOT_FOUND, Downstream, "unknown_method", true, "Method not found";
    /// Legacy: no such method (HTTP 200 there, since an HTTP error would end the session for some clients).
    UnknownMethodLegacy = 200, code::METHOD_NOT_FOUND, Downstream, "unknown_method", true, "Method not found";
    /// The method's parameters are wrong.
    InvalidParams = 200, code::INVALID_PARAMS, Downstream, "invalid_params", true, "Invalid params";
    /// Legacy: the resource does not exist.
    ResourceNotFound = 200, code::RESOURCE_NOT_FOUND, Downstream, "resource_not_found", true, "Resource not found";
    /// Code that this server hosts failed.
    Internal = 200, code::INTERNAL, Internal, "internal", true, "Internal error";
    /// The server that has what was named cannot be called.
    NotConnected = 200, code::INTERNAL, Upstream, "not_connected", true, "The server that has this is not connected";
    /// What is bound to the endpoint is more than one endpoint shows.
    CatalogTooLarge = 507, code::INTERNAL, Internal, "catalog_too_large", true, "The servers bound to this endpoint offer more than one endpoint can show; its operator can bind them to several endpoints";
    /// A server that is fronted cannot be reached, or its connection broke before it had answered.
    UpstreamDown = 200, code::INTERNAL, Upstream, "upstream_down", true, "The server that has this cannot be reached";
    /// A server that is fronted did not answer in time.
    UpstreamTimeout = 200, code::INTERNAL, Upstream, "upstream_timeout", true, "The server that has this did not answer in time";
    /// A server that is fronted sent what is no answer.
    UpstreamBroken = 200, code::INTERNAL, Upstream, "upstream_broken", true, "The server that has this sent what is no answer";
    /// As many requests for a server that is fronted as may wait do.
    UpstreamBusy = 200, code::INTERNAL, Upstream, "upstream_busy", true, "The server that has this has too many requests in work";
    /// The request's deadline passed.
    Timeout = 200, code::INTERNAL, Internal, "timeout", true, "The request took longer than this server allows";
    /// A bounded queue or table is full; the request may be tried again.
    Overloaded = 503, code::INTERNAL, Internal, "overloaded", true, "The server is overloaded; try again later";
    /// As many connections are open as may be.
    ConnectionLimit = 503, code::TRANSPORT, Internal, "connection_limit", false, "As many connections are open as this server takes; try again later";
    /// Tier 1: as many connections have come as may in a second.
    AcceptRate = 503, code::TRANSPORT, Internal, "accept_rate", false, "Too many new connections (tier 1); try again later";
    /// The request waited too long to be worth serving, as all others did.
    Late = 503, code::TRANSPORT, Internal, "late", true, "The server does not keep up: this request has waited too long; try again later";
    /// As many messages are in work as may be.
    Pending = 503, code::TRANSPORT, Internal, "pending", true, "As many requests are in work as this server takes at once; try again later";
    /// The principal has as many messages in work as one may.
    PrincipalPending = 429, code::TRANSPORT, Downstream, "principal_pending", true, "Too many requests of this principal are in work; try again later";
    /// The buffers of all connections together hold as much as they may, and this connection's were the largest.
    MemoryLimit = 503, code::TRANSPORT, Internal, "memory_limit", false, "The server has no memory left for so large a request; try again later";
    /// Tier 2: the connection has sent as many messages as one may in a second.
    ConnectionRate = 429, code::TRANSPORT, Downstream, "connection_rate", true, "Too many messages on this connection (tier 2); try again later";
    /// The principal has sent as many messages as one may in a second.
    PrincipalRate = 429, code::TRANSPORT, Downstream, "principal_rate", true, "Too many messages of this principal; try again later";
    /// The tool was called as often as it may be in a second.
    ToolRate = 503, code::TRANSPORT, Internal, "tool_rate", true, "Too many calls of this tool; try again later";
    /// Tier 3: the node has taken as many messages as it may in a second.
    NodeRate = 503, code::TRANSPORT, Internal, "node_rate", true, "Too many messages for this server (tier 3); try again later";
    /// Tier 4: too many messages ended with an error.
    BreakerOpen = 503, code::TRANSPORT, Internal, "breaker_open", true, "Too many errors: this server takes no messages for a while (tier 4); try again later";
    /// The server is shutting down.
    Draining = 503, code::INTERNAL, Internal, "draining", false, "The server is shutting down; try again elsewhere";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_metric_names() {
        for kind in Kind::ALL {
            assert!(kind.label().bytes().all(|b| b.is_ascii_lowercase() || b == b'_'), "{kind:?}");
        }
    }

    #[test]
    fn a_fault_of_the_framing_ends_the_connection() {
        for kind in [Kind::BadHttp, Kind::BodyTooLarge, Kind::HeadTooLarge, Kind::SlowRequest] {
            assert!(!kind.keep_alive(), "{kind:?}");
        }
    }
}
