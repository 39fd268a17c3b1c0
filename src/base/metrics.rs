//! Counters and gauges: closed enums, so that their number is known when it is compiled.
//!
//! Each core has its own block, written by that core alone. The cells are relaxed atomics, written as a plain load and a
//! plain store (no locked instruction), so that any core can read all blocks at any time, even while another core is stuck.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::fault;

macro_rules! closed_enum {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $label:literal, $help:literal;)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        #[repr(usize)]
        pub enum $name { $($(#[$vdoc])* $variant,)* }

        impl $name {
            /// Every member, in order.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];
            /// Name as exported, without the `ringhub_` prefix.
            #[must_use]
            pub const fn label(self) -> &'static str { match self { $(Self::$variant => $label,)* } }
            /// One line that says what it counts.
            #[must_use]
            pub const fn help(self) -> &'static str { match self { $(Self::$variant => $help,)* } }
        }
    };
}

closed_enum! {
    /// What only ever grows.
    Counter {
        /// See its help.
        ConnsAccepted = "connections_accepted_total", "Connections accepted";
        /// See its help.
        ConnsClosed = "connections_closed_total", "Connections closed";
        /// See its help.
        ConnsRefused = "connections_refused_total", "Connections refused because a limit was reached";
        /// See its help.
        ConnsHandedOver = "connections_handed_over_total", "Connections given to another core to balance the cores";
        /// See its help.
        ConnsMovedHome = "connections_moved_home_total", "Connections moved to the home core of the session they ask for";
        /// See its help.
        Requests = "http_requests_total", "HTTP requests taken";
        /// See its help.
        Messages = "messages_total", "JSON-RPC messages taken";
        /// See its help.
        BytesIn = "received_bytes_total", "Bytes received";
        /// See its help.
        BytesOut = "sent_bytes_total", "Bytes sent";
        /// See its help.
        ToolCalls = "tool_calls_total", "Calls of tools";
        /// See its help.
        ToolErrors = "tool_errors_total", "Calls of tools that ended with isError";
        /// See its help.
        InternalErrors = "handler_internal_errors_total", "Handlers that ended with the JSON-RPC error for internal errors";
        /// See its help.
        MemoryRelieved = "memory_relieved_total", "Connections and answers that gave way because buffers held as much as --memory-limit says";
        /// See its help.
        FloodersCut = "flooders_cut_total", "Connections cut because they had sent more requests ahead than any connection may";
        /// See its help.
        AnswersCut = "answers_cut_total", "Connections cut in the midst of an answer that this server could not complete";
        /// See its help.
        Relayed = "relayed_requests_total", "Requests relayed to upstream servers";
        /// See its help.
        UpstreamFailures = "upstream_failures_total", "Requests that an upstream server failed to answer";
        /// See its help.
        BreakersOpened = "upstream_breakers_opened_total", "Times an upstream server failed so often that it was left alone for a while";
        /// See its help.
        UpstreamRetries = "upstream_retries_total", "Requests sent once more because a kept link to an upstream server broke";
        /// See its help.
        UpstreamRejoins = "upstream_rejoins_total", "Streams of upstream servers that ended before their answer, to be taken up again";
        /// See its help.
        Panics = "handler_panics_total", "Handlers that panicked";
        /// See its help.
        Cancelled = "calls_cancelled_total", "Calls cancelled by their caller";
        /// See its help.
        SessionsOpened = "sessions_opened_total", "Legacy sessions opened";
        /// See its help.
        SessionsClosed = "sessions_closed_total", "Legacy sessions closed or expired";
        /// See its help.
        NearHits = "near_cache_hits_total", "Registry lookups answered from the core's near cache";
        /// See its help.
        NearMisses = "near_cache_misses_total", "Registry lookups that had to ask the owner";
        /// See its help.
        NearEvictions = "near_cache_evictions_total", "Names that left a near cache to make room for others";
        /// See its help.
        Invalidations = "registry_invalidations_total", "Questions to other cores to let go of an entry that is to change";
        /// See its help.
        FramesSent = "frames_sent_total", "Frames sent to other cores";
        /// See its help.
        LaneFull = "lane_full_total", "Frames not sent because the lane was full";
        /// See its help.
        Turns = "turns_total", "Turns of the core's loop";
        /// See its help.
        SlowTurns = "slow_turns_total", "Turns longer than 5 ms";
        /// See its help.
        IdleClosed = "idle_connections_closed_total", "Connections closed because no request came in time";
        /// See its help.
        PlainCloses = "unlingered_closings_total", "Connections closed without lingering because too many lingered";
        /// See its help.
        AcceptPauses = "accept_pauses_total", "Times accepting paused for want of file descriptors or memory";
        /// See its help.
        Wakes = "wakes_total", "Times another core was woken";
        /// See its help.
        Sleeps = "sleeps_total", "Times the core slept in its ring";
        /// See its help.
        SlowReaders = "slow_readers_total", "Connections cut because their outbound queue was full or did not move";
        /// See its help.
        LinksDialled = "upstream_links_dialled_total", "Links to upstreams begun: connections dialled and processes started";
        /// See its help.
        LinksFailed = "upstream_links_failed_total", "Links to upstreams that were not made";
        /// See its help.
        LinkBytesIn = "upstream_received_bytes_total", "Bytes received from upstreams";
        /// See its help.
        LinkBytesOut = "upstream_sent_bytes_total", "Bytes sent to upstreams";
        /// See its help.
        ChildLinesDropped = "upstream_log_lines_dropped_total", "Lines that child processes wrote to standard error and that were not logged";
    }
}

closed_enum! {
    /// What goes up and down.
    Gauge {
        /// See its help.
        Conns = "connections", "Open connections";
        /// See its help.
        ConnsWaiting = "connections_waiting", "Connections that wait, unread, for another one to end";
        /// See its help.
        MessagesWaiting = "messages_waiting", "Requests that connections have sent ahead and that wait for another of their own connection";
        /// See its help.
        BufferedBytes = "buffered_bytes", "Bytes that buffers take; counted when --memory-limit is given";
        /// See its help.
        Sessions = "sessions", "Open legacy sessions";
        /// See its help.
        Calls = "calls", "Requests in work that did not complete at once";
        /// See its help.
        UpstreamRequests = "upstream_requests", "Requests in work at upstream servers";
        /// See its help.
        Listens = "listens", "Open subscriptions/listen streams and legacy GET streams";
        /// See its help.
        ReceiveBuffers = "receive_buffers", "Buffers of 4 KiB in circulation between the core and the kernel";
        /// See its help.
        NearNames = "near_cache_names", "Names in the near cache, absent ones among them";
        /// See its help.
        Servers = "registry_servers", "Servers in the shards of this core";
        /// See its help.
        Endpoints = "registry_endpoints", "Endpoints in the shards of this core";
        /// See its help.
        ShardsAlarmed = "registry_shards_alarmed", "Shards of this core that take 100 ms or more on average";
        /// See its help.
        Links = "upstream_links", "Links to upstreams: connections and child processes, those being made or ended among them";
        /// See its help.
        TurnNsMax = "turn_nanoseconds_max", "Longest turn of the core's loop since its start";
        /// See its help.
        TurnNsRecent = "turn_nanoseconds_max_recent", "Longest turn of the core's loop within the last 10 to 20 seconds";
    }
}

closed_enum! {
    /// What the admin port refuses besides faults. Its label is what an answer names it by.
    Refused {
        /// See its help.
        BadRequest = "bad_request", "Requests whose target, query or fields make no sense";
        /// See its help.
        BadIfMatch = "bad_if_match", "Requests whose If-Match is no ETag of this server";
        /// See its help.
        NotJson = "not_json", "Bodies that are not valid JSON";
        /// See its help.
        Invalid = "invalid", "Bodies that do not say what they must";
        /// See its help.
        Unauthorized = "unauthorized", "Requests without the token that they need";
        /// See its help.
        NotPermitted = "not_permitted", "Changes of what is part of the program";
        /// See its help.
        Absent = "absent", "Requests for entries that there are not";
        /// See its help.
        Taken = "taken", "Registrations of names that are taken";
        /// See its help.
        Full = "full", "New entries of which there are as many as there may be";
        /// See its help.
        VersionMismatch = "version_mismatch", "Changes of a version that is not the current one";
        /// See its help.
        NotStored = "not_stored", "Changes that could not be written to the state file";
        /// See its help.
        StoreStuck = "store_stuck", "Changes refused because the state file takes too long to be written";
        /// See its help.
        OutcomeUnknown = "outcome_unknown", "Changes of which it could not be said whether they are made";
    }
}

/// One core's counters. Written by that core alone; read by anyone.
#[derive(Debug)]
#[repr(align(128))]
pub struct CoreMetrics {
    counters: [AtomicU64; Counter::ALL.len()],
    gauges: [AtomicU64; Gauge::ALL.len()],
    faults: [AtomicU64; fault::Kind::ALL.len()],
    refused: [AtomicU64; Refused::ALL.len()],
}

impl Default for CoreMetrics {
    fn default() -> Self {
        Self {
            counters: [const { AtomicU64::new(0) }; Counter::ALL.len()],
            gauges: [const { AtomicU64::new(0) }; Gauge::ALL.len()],
            faults: [const { AtomicU64::new(0) }; fault::Kind::ALL.len()],
            refused: [const { AtomicU64::new(0) }; Refused::ALL.len()],
        }
    }
}

impl CoreMetrics {
    /// Counts one.
    pub fn count(&self, counter: Counter) {
        self.add(counter, 1);
    }

    /// Counts `amount`.
    pub fn add(&self, counter: Counter, amount: u64) {
        bump(&self.counters[counter as usize], amount);
    }

    /// Counts a fault that was answered to a peer.
    pub fn fault(&self, kind: fault::Kind) {
        bump(&self.faults[kind as usize], 1);
    }

    /// Counts what the admin port refused.
    pub fn refused(&self, refused: Refused) {
        bump(&self.refused[refused as usize], 1);
    }

    /// Sets a gauge.
    pub fn set(&self, gauge: Gauge, value: u64) {
        self.gauges[gauge as usize].store(value, Relaxed);
    }

    /// The counter's value.
    #[must_use]
    pub fn counter(&self, counter: Counter) -> u64 {
        self.counters[counter as usize].load(Relaxed)
    }

    /// The gauge's value.
    #[must_use]
    pub fn gauge(&self, gauge: Gauge) -> u64 {
        self.gauges[gauge as usize].load(Relaxed)
    }

    /// How often the admin port refused something so.
    #[must_use]
    pub fn refusals(&self, refused: Refused) -> u64 {
        self.refused[refused as usize].load(Relaxed)
    }

    /// How many faults of this kind were answered.
    #[must_use]
    pub fn faults(&self, kind: fault::Kind) -> u64 {
        self.faults[kind as usize].load(Relaxed)
    }
}

/// A single writer needs no locked add.
fn bump(cell: &AtomicU64, amount: u64) {
    cell.store(cell.load(Relaxed).wrapping_add(amount), Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_gauges_and_faults_are_kept_apart() {
        let metrics = CoreMetrics::default();
        metrics.add(Counter::Requests, 3);
        metrics.count(Counter::Requests);
        metrics.set(Gauge::Conns, 9);
        metrics.fault(fault::Kind::Parse);
        metrics.refused(Refused::Taken);
        assert_eq!((metrics.refusals(Refused::Taken), metrics.refusals(Refused::Absent)), (1, 0));
        assert_eq!(metrics.counter(Counter::Requests), 4);
        assert_eq!(metrics.counter(Counter::Messages), 0);
        assert_eq!(metrics.gauge(Gauge::Conns), 9);
        assert_eq!(metrics.faults(fault::Kind::Parse), 1);
    }
}
