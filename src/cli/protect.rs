//! Flags about what is admitted and what is refused; the same names stand in the file's `[protect]` table, with `_` for `-`.

use clap::Args;
use serde::{Deserialize, Serialize};

/// What protects a server from more than it can carry. What is not given is not limited, unless a default is named.
#[derive(Args, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Protect {
    /// Connections that may wait, unread, for one of --max-connections to end, two seconds at most; one more is answered 503 [default: 100]
    #[arg(long, value_name = "N", env = "RINGHUB_ACCEPT_QUEUE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub accept_queue: Option<usize>,

    /// Tier 1: new connections per second; one more is answered 503
    #[arg(long, value_name = "N", env = "RINGHUB_ACCEPT_RATE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub accept_rate: Option<u32>,

    /// Tier 2: messages per second of one connection; one more is answered 429
    #[arg(long, value_name = "N", env = "RINGHUB_CONNECTION_RATE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connection_rate: Option<u32>,

    /// Tier 3: messages per second of the whole node; one more is answered 503
    #[arg(long, value_name = "N", env = "RINGHUB_NODE_RATE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node_rate: Option<u32>,

    /// Tier 4: percentage of messages that end with an error above which the node takes no messages for a while (503)
    #[arg(long, value_name = "PERCENT", env = "RINGHUB_BREAKER_ERRORS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub breaker_errors: Option<f64>,

    /// Seconds for which there must have been so many errors [default: 30]
    #[arg(long, value_name = "S", env = "RINGHUB_BREAKER_HOLD")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub breaker_hold: Option<f64>,

    /// Messages per second of one principal (bearer token, else address) on one core; one more is answered 429
    #[arg(long, value_name = "N", env = "RINGHUB_PRINCIPAL_RATE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub principal_rate: Option<u32>,

    /// Calls per second of one tool on one core; one more is answered 503
    #[arg(long, value_name = "N", env = "RINGHUB_TOOL_RATE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tool_rate: Option<u32>,

    /// Requests of the whole node in work at once; one more is answered 503 [default: 50000]
    #[arg(long, value_name = "N", env = "RINGHUB_MAX_PENDING")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_pending: Option<usize>,

    /// Requests that one connection may have waiting behind another of its own; then it is read no further [default: 1000]
    #[arg(long, value_name = "N", env = "RINGHUB_MAX_PENDING_CONNECTION")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_pending_connection: Option<u32>,

    /// Requests of one principal in work at once on one core; one more is answered 429
    #[arg(long, value_name = "N", env = "RINGHUB_MAX_PENDING_PRINCIPAL")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_pending_principal: Option<u32>,

    /// Milliseconds after which a request comes too late: while a core does not keep up, such requests are answered 503, newest first
    #[arg(long, value_name = "MS", env = "RINGHUB_LATE_MS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub late_ms: Option<u64>,

    /// Bytes that buffers may take together: those of connections and upstreams, and what sessions keep; beyond it the largest give way
    #[arg(long, value_name = "BYTES", env = "RINGHUB_MEMORY_LIMIT")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_limit: Option<usize>,
}

impl Protect {
    /// What is given here, and what `other` gives besides.
    #[must_use]
    pub fn or(&self, other: &Self) -> Self {
        Self {
            accept_queue: self.accept_queue.or(other.accept_queue),
            accept_rate: self.accept_rate.or(other.accept_rate),
            connection_rate: self.connection_rate.or(other.connection_rate),
            node_rate: self.node_rate.or(other.node_rate),
            breaker_errors: self.breaker_errors.or(other.breaker_errors),
            breaker_hold: self.breaker_hold.or(other.breaker_hold),
            principal_rate: self.principal_rate.or(other.principal_rate),
            tool_rate: self.tool_rate.or(other.tool_rate),
            max_pending: self.max_pending.or(other.max_pending),
            max_pending_connection: self.max_pending_connection.or(other.max_pending_connection),
            max_pending_principal: self.max_pending_principal.or(other.max_pending_principal),
            late_ms: self.late_ms.or(other.late_ms),
            memory_limit: self.memory_limit.or(other.memory_limit),
        }
    }
}
