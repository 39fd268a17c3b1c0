//! Every maximum of ringhub in one place, with the relations between them asserted when it is compiled.
//! What a flag can change stands here as its default.

/// Most cores one process can have: a core's number must fit the ids that name it, and the mesh grows with its square.
pub const CORES_MAX: usize = 256;
/// Registry shards unless told otherwise.
pub const SHARDS_DEFAULT: u16 = 64;
/// Most registry shards.
pub const SHARDS_MAX: u16 = 4096;

/// Most servers of one node unless told otherwise.
pub const SERVERS_DEFAULT: usize = 1_000_000;
/// Most endpoints of one node unless told otherwise.
pub const ENDPOINTS_DEFAULT: usize = 100_000;

/// Names a core's near cache holds unless told otherwise.
pub const NEAR_NAMES_DEFAULT: usize = 10_000;
/// Names a core remembers as not bound.
pub const ABSENT_NAMES_MAX: usize = 1024;
/// Lookups and changes of one core that may wait for their owner's reply at once.
pub const LOOKUPS_WAITING_MAX: usize = 4096;
/// Changes of one core's entries that may wait at once for other cores to let go of them, or for the durable store.
pub const CHANGES_WAITING_MAX: usize = 1024;
/// Changes of one entry that may wait for one that is being made.
pub const CHANGES_QUEUED_MAX: usize = 16;
/// Notices of changes that may wait for room in one lane; beyond it the other core is told that everything changed.
pub const NOTICES_OWED_MAX: usize = 1024;
/// Time the holders of an entry have to let go of it, milliseconds, unless told otherwise.
pub const CHANGE_MS_DEFAULT: u64 = 1000;
/// Time a change may wait behind others of the same entry before it is refused, milliseconds.
pub const CHANGE_QUEUED_MS_MAX: u64 = 5000;
/// Time the durable store may take for one change before it counts as standing still, milliseconds: then no more is handed to it.
pub const STORE_MS_MAX: u64 = 5000;
/// Time a client of the admin port is kept waiting for other cores and the durable store, milliseconds.
pub const ADMIN_WAIT_MS_MAX: u64 = 20_000;
/// Longest name of a server, bytes.
pub const SERVER_NAME_BYTES_MAX: usize = 200;
/// Longest title, description or software version of a server, bytes.
pub const SERVER_TEXT_BYTES_MAX: usize = 4096;
/// Most elements of each list of a server's catalog.
pub const CATALOG_ITEMS_MAX: usize = 4096;
/// Longest name of a tool, prompt, resource or resource template in a catalog, characters.
pub const ITEM_NAME_CHARS_MAX: usize = 2048;
/// Changes that are written to the state file in one transaction.
pub const STORE_BATCH_MAX: usize = 4096;
/// Largest catalog of a server: its names and definitions, bytes.
pub const CATALOG_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Longest definition of a tool, prompt, resource or resource template in a catalog, bytes.
pub const ITEM_BYTES_MAX: usize = 256 * 1024;
/// Most servers bound to one endpoint.
pub const SERVERS_PER_ENDPOINT_MAX: usize = 256;
/// Most entries of one page of a list.
pub const LIST_ENTRIES_MAX: usize = 1000;
/// A page of the control API that is as long as this ends early, bytes.
pub const PAGE_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Lists that one core may have in work at once.
pub const LISTS_MAX: usize = 64;
/// Lists, its own and other cores', that one core walks its shards for at once.
pub const LIST_WALKS_MAX: usize = 4 * LISTS_MAX;
/// Entries that are looked at in one turn for lists.
pub const LIST_STEP_ENTRIES: usize = 2048;
/// Time a list may take, milliseconds.
pub const LIST_MS_MAX: u64 = 2000;
/// Average of a shard's queue wait and handling time together that is warned of, microseconds.
pub const SHARD_WARN_US: u64 = 100;
/// The same, alarmed at, microseconds.
pub const SHARD_ALARM_US: u64 = 100_000;

/// Longest name of a tool or prompt that clients are shown.
pub const NAME_CHARS_MAX: usize = 64;
/// Longest instructions that an endpoint gives for servers that are not alone or not native, bytes.
pub const INSTRUCTIONS_BYTES_MAX: usize = 16 * 1024;
/// Most tools, prompts, resources and resource templates that an endpoint shows, all together.
pub const VIEW_ITEMS_MAX: usize = 16_384;
/// Most bytes of what an endpoint shows: names and definitions, counted once for each era.
pub const VIEW_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Bytes of one page of a list from which on it takes no further item.
pub const PAGE_BYTES: usize = 256 * 1024;
/// Bytes that one turn of a core handles for views in the making.
pub const VIEW_TURN_BYTES: usize = 256 * 1024;
/// What each item costs of it besides its bytes.
pub const VIEW_ITEM_COST_BYTES: usize = 256;
/// Endpoints that a core keeps a view of while nobody listens there.
pub const VIEWS_PER_CORE_MAX: usize = 4096;
/// Most bytes that those views show, counted as for [`VIEW_BYTES_MAX`].
pub const VIEW_BYTES_PER_CORE_MAX: usize = 256 * 1024 * 1024;

/// Longest request head (request line and header fields), bytes. Beyond it: 431. An upstream's response head is held to it, too.
pub const HEAD_BYTES_MAX: usize = 16 * 1024;
/// Longest request head that is kept to recognise it when its connection sends it again, bytes.
pub const HEAD_RECALLED_BYTES_MAX: usize = 2 * 1024;
/// Longest request that is kept to recognise the next one of its connection by, bytes.
pub const MESSAGE_RECALLED_BYTES_MAX: usize = 2 * 1024;
/// Most header fields of one request or response. Beyond it: 431.
pub const HEADERS_MAX: usize = 96;
/// Most interim responses (1xx) that an upstream may send before the one that counts.
pub const INTERIM_RESPONSES_MAX: u8 = 16;
/// Longest request target, bytes. Beyond it: 414.
pub const TARGET_BYTES_MAX: usize = 8 * 1024;
/// Longest request body unless told otherwise, bytes. Beyond it: 413.
pub const BODY_BYTES_DEFAULT: usize = 4 * 1024 * 1024;

/// Deepest nesting of arrays and objects in a JSON message.
pub const JSON_DEPTH_MAX: usize = 128;
/// Most messages in one JSON-RPC batch (2025-03-26).
pub const BATCH_MESSAGES_MAX: usize = 50;
/// Longest JSON-RPC request id as it stands in the message, bytes.
pub const REQUEST_ID_BYTES_MAX: usize = 256;

/// Longest sealed session id, characters: what a conn keeps to recognise the last one without cryptography.
pub const SESSION_ID_BYTES_MAX: usize = 104;
/// Most legacy sessions per core unless told otherwise.
pub const SESSIONS_PER_CORE_DEFAULT: usize = 100_000;
/// Slots of sessions that are looked at in one turn for sessions whose endpoint is no more.
pub const SESSIONS_LOOKED_AT_PER_TURN_MAX: usize = 4096;
/// Most events kept for the resumption of one session's streams.
pub const LOG_EVENTS_MAX: usize = 256;
/// Most bytes kept for the resumption of one session's streams.
pub const LOG_BYTES_MAX: usize = 256 * 1024;
/// Most bytes one core keeps for the resumption of its sessions' streams.
pub const LOG_BYTES_PER_CORE_MAX: usize = 64 * 1024 * 1024;
/// How long an event is kept for resumption, seconds.
pub const LOG_SECONDS_MAX: u64 = 300;
/// Most requests of one legacy session in work at once.
pub const CALLS_PER_SESSION_MAX: usize = 1024;
/// Most requests from the server to one legacy client that wait for an answer.
pub const ASKS_PER_SESSION_MAX: usize = 256;
/// Longest `clientInfo` that a legacy session keeps, bytes; of a longer one the name and the version are kept.
pub const CLIENT_INFO_BYTES_MAX: usize = 512;

/// Most requests in work at once per core that did not complete in their first turn.
pub const CALLS_PER_CORE_MAX: usize = 65_536;
/// Most bytes waiting in one connection's outbound queue before its streams are cut.
pub const OUTBOUND_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Unsent bytes beyond which a connection's next request waits until its reader has caught up.
pub const OUTBOUND_PAUSE_BYTES: usize = 256 * 1024;
/// Unsent bytes of answers that were given at once, beyond which a connection's next pipelined request waits until they are sent: else one
/// that pipelines would keep its core to itself.
pub const PIPELINE_PAUSE_BYTES: usize = 16 * 1024;
/// Most bytes a connection may send ahead while its request is in work; then it is read no further until there is room.
pub const INPUT_AHEAD_BYTES_MAX: usize = 64 * 1024;
/// Most bytes of idle buffers one core keeps for its next connections.
pub const POOLED_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Bytes of idle buffers that a core keeps however long it has no use for them.
pub const POOLED_BYTES_KEPT: usize = 256 * 1024;
/// A buffer that grew beyond this is freed rather than kept.
pub const POOLED_BUFFER_BYTES_MAX: usize = 32 * 1024;
/// Most input discarded by a connection that is being closed, bytes.
pub const LINGER_BYTES_MAX: usize = 64 * 1024;
/// Longest time a connection lingers after its sending side was shut, milliseconds.
pub const LINGER_MS_MAX: u64 = 1000;
/// Most connections that linger at once in one process. Beyond it a closing is plain.
pub const LINGERING_MAX: usize = 256;
/// File descriptors left for everything but connections: with fewer free, accepting pauses and the backlog is the queue.
pub const FD_HEADROOM: usize = 64;
/// Most connections of the admin listener, which are not counted as connections.
pub const ADMIN_CONNS_MAX: usize = 128;
/// Unsent bytes at which a connection that was over [`OUTBOUND_PAUSE_BYTES`] is fed again.
pub const OUTBOUND_RESUME_BYTES: usize = 64 * 1024;

/// Of the descriptors that the process may have, links take at most one in so many.
pub const LINK_DESCRIPTORS_SHARE: usize = 4;
/// Descriptors that a child process takes: three pipes, and one that says when it has ended.
pub const CHILD_DESCRIPTORS: usize = 4;
/// Bytes that may wait for a link's other end to take them, beside one request body of the greatest length; beyond them it is cut.
pub const LINK_FEED_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Threads that look up names of upstreams and start processes. Each upstream has one at a time at most.
pub const LINK_THREADS_MAX: usize = 32;
/// Addresses of one name that are tried.
pub const LINK_ADDRESSES_MAX: usize = 16;
/// Each address of a name has its share of the time to connect, and at least so much of what is left, milliseconds.
pub const LINK_ADDRESS_MS_MIN: u64 = 2000;
/// TLS sessions of upstreams that one core remembers to resume.
pub const TLS_SESSIONS_MAX: usize = 256;
/// Most bytes that are encrypted for one send.
pub const TLS_SEND_BYTES_MAX: usize = 128 * 1024;
/// Most bytes of one link that are handed on in one turn, so that none keeps its core to itself; more wait for the next.
pub const LINK_TURN_BYTES_MAX: usize = 16 * 1024;
/// Bytes of one answer of an upstream over a network from which on it is long: its core reads the rest of it in steps, with a pause between them.
pub const LINK_LONG_BYTES: usize = 256 * 1024;
/// That pause, microseconds: a long answer comes at 160 MB/s at most, and the others of its core wait for a step of it, never for the whole.
pub const LINK_LONG_PAUSE_US: u64 = 100;
/// Most bytes that are read from a child process at once, and most that a link has kept back which are handed on at once.
pub const LINK_PIECE_BYTES_MAX: usize = 16 * 1024;
/// Reads of a child's output in one turn.
pub const CHILD_READS_MAX: usize = LINK_TURN_BYTES_MAX / LINK_PIECE_BYTES_MAX;
/// How long a child process may go on after its standard input was closed, milliseconds; then it gets SIGTERM.
pub const CHILD_EOF_MS_MAX: u64 = 2000;
/// How long a child process may go on after SIGTERM, milliseconds; then it is killed.
pub const CHILD_TERM_MS_MAX: u64 = 2000;
/// How long the output of a child process that has ended may be held open by processes that it left behind, milliseconds.
pub const CHILD_REST_MS_MAX: u64 = 1000;
/// How long child processes may take at the end of this process until they get SIGTERM, and again until they are killed, milliseconds.
pub const CHILD_STOP_MS_MAX: u64 = 300;
/// Longest line of a child's standard error that is logged whole, bytes.
pub const CHILD_LINE_BYTES_MAX: usize = 2048;
/// Lines of a child's standard error that are logged in one second.
pub const CHILD_LINES_PER_SECOND_MAX: u32 = 50;

/// Completions taken from the ring at once.
pub const COMPLETIONS_AT_ONCE: usize = 64;
/// After so long, microseconds, a turn takes no more completions, and after so long again it goes on with no more stored input: what it has
/// made is to be sent first.
pub const TURN_PART_US: u64 = 1000;
/// A turn longer than this is counted and logged, milliseconds.
pub const TURN_MS_MAX: u64 = 5;

/// Largest answer of an upstream server, or event of its streams, bytes.
pub const UPSTREAM_ANSWER_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Most bytes of answers of upstream servers that one core holds while they are not complete.
pub const UPSTREAM_HELD_BYTES_MAX: usize = 64 * 1024 * 1024;
/// What an upstream server may say to one core that answers nothing, before it is read no faster than the following allow: notifications,
/// comments, lines that are no message, answers that are too large. Bytes.
pub const CHATTER_BYTES_MAX: u64 = 8 * 1024 * 1024;
/// What it may say of that in each second for ever, bytes,
pub const CHATTER_BYTES_PER_SECOND: u64 = 2 * 1024 * 1024;
/// and for each request of a client that it has in work so much more.
pub const CHATTER_BYTES_PER_SECOND_AND_CALL: u64 = 128 * 1024;
/// What each message counts beside its length, bytes: small ones take time, too.
pub const CHATTER_MESSAGE_BYTES: u64 = 512;
/// Of what was said beyond that so much is remembered, bytes: what is over has an end.
pub const CHATTER_EXCESS_BYTES_MAX: u64 = 24 * 1024 * 1024;
/// A link that is not read because of that is not read for so long at least, milliseconds,
pub const CHATTER_REST_MS_MIN: u64 = 10;
/// and at most.
pub const CHATTER_REST_MS_MAX: u64 = 1000;
/// Buffers of requests to upstream servers that one core keeps for the next ones.
pub const UPSTREAM_BUFFERS_KEPT: usize = 128;
/// Bytes that a process may leave unread before its next requests wait.
pub const PIPE_FEED_BYTES_MAX: usize = 1024 * 1024;
/// Most questions of an upstream server about one request that wait for an answer.
pub const UPSTREAM_QUESTIONS_MAX: u32 = 16;
/// Messages to an upstream server that nobody answers, such as that a request was cancelled, that one core has on their way at once. More are
/// not sent.
pub const UPSTREAM_TELLS_MAX: usize = 64;
/// Sessions with upstream servers that one core keeps for principals of the modern era.
pub const UPSTREAM_PRINCIPALS_MAX: usize = 1024;
/// A principal's session with an upstream server, or its process, ends when it was not used for so long, milliseconds.
pub const UPSTREAM_OWNER_IDLE_MS_MAX: u64 = 300_000;
/// So often is looked whether one was, milliseconds.
pub const UPSTREAM_OWNER_LOOK_MS: u64 = 10_000;
/// Ends of sessions that one core tells one upstream server at once.
pub const UPSTREAM_ENDS_MAX: usize = 8;
/// Ends of sessions that wait to be told to one upstream server by one core. Of more it is told nothing: it has to find out itself.
pub const UPSTREAM_ENDS_QUEUED_MAX: usize = 65_536;
/// How long an upstream server may take to be told that a session has ended, milliseconds. It is told once.
pub const UPSTREAM_END_MS_MAX: u64 = 5000;
/// Processes of one interactive upstream server that one core may have at once unless told otherwise, the one that its catalog comes from aside.
pub const UPSTREAM_PROCESSES_DEFAULT: usize = 32;
/// Calls of one principal on one core that may wait for their client to answer what the upstream server asked.
pub const PARKED_PER_PRINCIPAL_MAX: usize = 16;
/// Such calls of one core.
pub const PARKED_PER_CORE_MAX: usize = 4096;
/// Longest session id of an upstream server, bytes.
pub const UPSTREAM_SESSION_BYTES_MAX: usize = 1024;
/// Log messages of one upstream server, on the stream of no request, that are looked at in one second.
pub const UPSTREAM_LOGS_PER_SECOND_MAX: u32 = 1000;
/// Most resources of one upstream server of which clients want to hear.
pub const UPSTREAM_WATCHED_MAX: usize = 8192;
/// Of them each core may have at least so many, however many cores there are.
pub const UPSTREAM_WATCHED_PER_CORE_MIN: usize = 128;
/// Requests to a legacy upstream server about such resources that are on their way at once.
pub const UPSTREAM_WATCH_REQUESTS_MAX: usize = 8;
/// Longest id of an upstream server's event after which a stream is taken up again, bytes.
pub const UPSTREAM_EVENT_ID_BYTES_MAX: usize = 1024;
/// Tries to take up a stream of an upstream server in which nothing new was heard.
pub const UPSTREAM_REJOINS_MAX: u32 = 8;
/// Most pages of an upstream server's lists, all together.
pub const UPSTREAM_PAGES_MAX: usize = 256;
/// Failures of an upstream one behind the other that open its breaker.
pub const BREAKER_FAILURES_MAX: u32 = 5;
/// Failures among an upstream's last 32 results that open its breaker.
pub const BREAKER_RECENT_FAILURES_MAX: u32 = 16;
/// Time without any result after which those before count no more, milliseconds.
pub const BREAKER_RECENT_MS_MAX: u64 = 60_000;
/// Time that a breaker is open the first time, milliseconds. Each time it opens again before it was closed it is twice as long.
pub const BREAKER_OPEN_MS_FIRST: u64 = 1000;
/// Longest time that a breaker is open, milliseconds.
pub const BREAKER_OPEN_MS_MAX: u64 = 30_000;
/// Requests that must go well before an open breaker is closed.
pub const BREAKER_PROBES: u32 = 2;
/// Time after which such a request is given up and another may try, milliseconds.
pub const BREAKER_PROBE_MS_MAX: u64 = 10_000;

/// Time that the node's breaker is open the first time, milliseconds. Each time it opens again before it was closed it is twice as long.
pub const NODE_BREAKER_OPEN_MS_FIRST: u64 = 5000;
/// Longest time that the node's breaker is open, milliseconds.
pub const NODE_BREAKER_OPEN_MS_MAX: u64 = 60_000;
/// Messages that show whether the node's breaker can be closed.
pub const NODE_BREAKER_PROBES: u32 = 20;
/// The error rate that the node's breaker watches is that of so many milliseconds.
pub const NODE_BREAKER_RECENT_MS: u64 = 5000;
/// Highest rate that can be set, messages per second.
pub const RATE_MAX: u32 = 100_000_000;
/// Connections that wait for a permit unless told otherwise.
pub const ACCEPT_QUEUE_DEFAULT: usize = 100;
/// Longest time that a connection waits for a permit, milliseconds; then it is refused.
pub const ACCEPT_WAIT_MS_MAX: u64 = 2000;
/// Requests of one connection that wait for another of its own unless told otherwise; then it is read no further.
pub const PENDING_PER_CONN_DEFAULT: u32 = 1000;
/// Most such requests, whatever was told: a connection that has more is cut.
pub const PENDING_PER_CONN_MAX: u32 = 10_000;
/// Messages of one node in work at once unless told otherwise.
pub const PENDING_DEFAULT: usize = 50_000;
/// Requests must have waited too long for so many milliseconds before any is refused for it.
pub const LATE_INTERVAL_MS: u64 = 100;
/// Pieces in which the cores lease room for buffers from the node's ceiling, bytes.
pub const MEMORY_PIECE_BYTES: usize = 64 * 1024;
/// Room that each core has of its own while another core's largest buffer gives way, bytes; at a low ceiling less.
pub const MEMORY_RESERVE_BYTES: usize = 256 * 1024;
/// Of the ceiling, what sessions keep for the resumption of their streams is one part in so many at most.
pub const MEMORY_LOG_SHARE: usize = 4;
/// Smallest ceiling of what the buffers of connections hold, bytes.
pub const MEMORY_BYTES_MIN: usize = 4 * 1024 * 1024;
/// Buffers of a connection that are larger give way when the ceiling is reached, the largest first, bytes.
pub const MEMORY_VICTIM_BYTES_MIN: usize = 16 * 1024;
/// Principals, and tools, that one core keeps the rate of at once: the least recently seen give way.
pub const RATED_NAMES_MAX: usize = 4096;
/// Messages of one core that wait at once for tokens of the node's rate.
pub const GUARD_WAITING_MAX: usize = 1024;

/// Wait before a child process that has ended is started again, milliseconds. It doubles with each end.
pub const CHILD_RESTART_MS_FIRST: u64 = 250;
/// Longest such wait, milliseconds.
pub const CHILD_RESTART_MS_MAX: u64 = 10_000;
/// A child that ran for so long is a stable one: what went before is forgotten. Milliseconds.
pub const CHILD_STABLE_MS: u64 = 30_000;
/// Ends of a child that was not stable, one behind the other, after which it is left alone for [`CHILD_LOOPING_MS`] each time.
pub const CHILD_CRASHES_MAX: u32 = 5;
/// Time for which a child that keeps ending is left alone, milliseconds.
pub const CHILD_LOOPING_MS: u64 = 60_000;

/// Changes that an upstream may tell of while its lists are to be looked at anyway, before nothing more of that is read until they were.
pub const NEEDLESS_CHANGES_MAX: u32 = 16;
/// How long an upstream may take to answer whether it is there, milliseconds.
pub const CHECK_MS_MAX: u64 = 10_000;
/// Such questions that a child process may leave unanswered, one behind the other, before it is ended.
pub const CHILD_CHECKS_MISSED_MAX: u32 = 2;

/// Most upstream servers that a configuration can have.
pub const UPSTREAMS_MAX: usize = 255;
/// Upstream servers that are no more of which a core knows what they were called.
pub const UPSTREAMS_FORGOTTEN_KEPT: usize = 1024;
/// Requests of one core that may wait for an upstream server which has as many in work as it may.
pub const UPSTREAM_QUEUE_MAX: usize = 1024;

/// Most resources one `subscriptions/listen` or one session may subscribe to.
pub const SUBSCRIPTIONS_MAX: usize = 1024;
/// Most bytes of URIs one `subscriptions/listen` or one legacy session may subscribe to, all together.
pub const SUBSCRIPTION_BYTES_MAX: usize = 128 * 1024;
/// Longest sealed `requestState`, bytes.
pub const REQUEST_STATE_BYTES_MAX: usize = 64 * 1024;
/// Most notifications that other threads may have waiting for one core; beyond it they are dropped.
pub const INBOX_NOTICES_MAX: usize = 65_536;
/// Most rounds of input one call may ask for.
pub const ASK_ROUNDS_MAX: u32 = 32;

/// Most connections of one load, all processes together.
pub const LOAD_CONNECTIONS_MAX: usize = 1_000_000;
/// Most processes of one load.
pub const LOAD_PROCESSES_MAX: usize = 64;
/// Most messages a second of one load.
pub const LOAD_RATE_MAX: f64 = 10_000_000.0;
/// Longest load, seconds: 31 days, of which the original's soak had 30.
pub const LOAD_SECONDS_MAX: f64 = 31.0 * 86_400.0;
/// Most intervals of a load's timeline, about: the longer it takes, the longer they are.
pub const LOAD_INTERVALS: f64 = 1_200.0;
/// Shortest interval of a load's timeline, milliseconds.
pub const LOAD_INTERVAL_MS_MIN: u64 = 50;
/// Largest answer, or event of a stream, that a load takes, bytes.
pub const LOAD_ANSWER_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Bytes of requests that one connection of a load has written and not sent, beside one request; what is due besides waits unwritten.
pub const LOAD_OUT_BYTES_MAX: usize = 64 * 1024;
/// Most requests of one connection of a load that may be on their way at once.
pub const LOAD_PIPELINE_MAX: usize = 65_536;
/// A load that is so late itself to offer a message gives it up and says so, nanoseconds.
pub const LOAD_LAG_NS_MAX: u64 = 500_000_000;
/// Connections of one load process to one server from one source address: the ports that are commonly free.
pub const LOAD_PORTS_PER_SOURCE: usize = 28_000;
/// Source addresses of a load.
pub const LOAD_SOURCES_MAX: usize = 65_536;

/// Frames taken from one lane in one turn.
pub const FRAMES_PER_TURN_MAX: usize = 50;
/// Frames one lane holds at most. A full lane is a retryable fault, counted, never awaited.
pub const LANE_FRAMES_MAX: usize = 1024;
/// Frames that any lane holds.
pub const LANE_FRAMES_MIN: usize = 64;
/// Cores up to which lanes are as long as they can be.
pub const LANES_WHOLE_CORES: usize = 16;
/// Of so many frames of a lane questions leave one free.
pub const LANE_FRAMES_PER_RESERVED: usize = 16;

/// Frames that one lane holds among so many cores: when there are many, what a lane holds shrinks rather than the sum of all into a core grow.
#[must_use]
pub const fn lane_frames(cores: usize) -> usize {
    let share = if cores > LANES_WHOLE_CORES { LANES_WHOLE_CORES * LANE_FRAMES_MAX / cores } else { LANE_FRAMES_MAX };
    if share < LANE_FRAMES_MIN { LANE_FRAMES_MIN } else { share }
}

/// Questions of one core that one other core may owe a reply to at once, among so many cores: a lane holds them all and more, so that those
/// who must give notice of a change find room.
#[must_use]
pub const fn lookups_per_owner(cores: usize) -> usize {
    lane_frames(cores) - lane_frames(cores) / LANE_FRAMES_PER_RESERVED
}

const _: () = assert!(HEAD_BYTES_MAX > TARGET_BYTES_MAX, "a target must fit a head");
const _: () = assert!(CORES_MAX <= u16::MAX as usize, "a core's number is sixteen bits");
const _: () = assert!(FRAMES_PER_TURN_MAX <= LANE_FRAMES_MIN, "a lane holds at least as much as one turn takes");
const _: () = assert!(LANE_FRAMES_MIN >= LANE_FRAMES_PER_RESERVED, "questions and notices both have room");
const _: () = assert!(lookups_per_owner(1) <= LOOKUPS_WAITING_MAX, "one owner's share is a part of the whole");
const _: () = assert!(
    2 * CHANGE_MS_DEFAULT + CHANGE_QUEUED_MS_MAX + STORE_MS_MAX < ADMIN_WAIT_MS_MAX,
    "a change that is in no trouble is decided before its client is told that nobody knows"
);
const _: () = assert!(4 * CATALOG_ITEMS_MAX <= VIEW_ITEMS_MAX && 2 * CATALOG_BYTES_MAX <= VIEW_BYTES_MAX, "a server alone is always shown");
const _: () = assert!(VIEW_BYTES_MAX < VIEW_BYTES_PER_CORE_MAX, "one view leaves room for others");
const _: () = assert!(ITEM_BYTES_MAX <= VIEW_TURN_BYTES, "one item does not make a turn long");
const _: () = assert!(2 * (PAGE_BYTES + ITEM_BYTES_MAX) < OUTBOUND_BYTES_MAX, "a page can be sent");
const _: () = assert!(SHARD_WARN_US < SHARD_ALARM_US, "a warning comes before the alarm");
const _: () = assert!(REQUEST_STATE_BYTES_MAX < BODY_BYTES_DEFAULT, "a client must be able to send its state back");
const _: () = assert!(UPSTREAMS_MAX < SERVERS_PER_ENDPOINT_MAX, "an endpoint shows them all, and a native server");
const _: () = assert!(UPSTREAM_ANSWER_BYTES_MAX < OUTBOUND_BYTES_MAX, "what an upstream answers can be sent on");
const _: () = assert!(UPSTREAM_ANSWER_BYTES_MAX < UPSTREAM_HELD_BYTES_MAX, "one answer must not be all that is held");
const _: () = assert!(OUTBOUND_PAUSE_BYTES < OUTBOUND_BYTES_MAX, "a connection pauses before it is cut");
const _: () = assert!(PIPELINE_PAUSE_BYTES <= OUTBOUND_PAUSE_BYTES, "nobody is fed less than who pipelines");
const _: () = assert!(OUTBOUND_RESUME_BYTES < OUTBOUND_PAUSE_BYTES, "what was paused goes on later than it would pause again");
const _: () = assert!(PARKED_PER_PRINCIPAL_MAX < PARKED_PER_CORE_MAX, "one principal leaves room for others");
const _: () = assert!(PARKED_PER_CORE_MAX < CALLS_PER_CORE_MAX, "calls that wait for clients leave room for others");
const _: () = assert!((UPSTREAM_ANSWER_BYTES_MAX as u64) < CHATTER_BYTES_MAX, "one answer that is too large is no flood");
const _: () = assert!(LINK_TURN_BYTES_MAX.is_multiple_of(LINK_PIECE_BYTES_MAX), "a turn is whole pieces");
const _: () = assert!(UPSTREAM_OWNER_LOOK_MS < UPSTREAM_OWNER_IDLE_MS_MAX, "what is idle is found out in time");
const _: () = assert!(LINK_DESCRIPTORS_SHARE > 1, "links leave descriptors for connections");
const _: () = assert!(BREAKER_OPEN_MS_FIRST <= BREAKER_OPEN_MS_MAX, "waits grow");
const _: () = assert!(NODE_BREAKER_OPEN_MS_FIRST <= NODE_BREAKER_OPEN_MS_MAX, "waits grow");
const _: () = assert!(CHILD_RESTART_MS_FIRST <= CHILD_RESTART_MS_MAX && CHILD_RESTART_MS_MAX < CHILD_LOOPING_MS, "waits grow");
const _: () = assert!(LOG_BYTES_MAX < LOG_BYTES_PER_CORE_MAX, "one session must not fill the core's log");
const _: () = assert!(OUTBOUND_PAUSE_BYTES < OUTBOUND_BYTES_MAX, "a connection pauses before it is cut");
const _: () = assert!(
    // A byte takes six characters of JSON at most. A server in a list has no catalog, and an endpoint nothing but names.
    PAGE_BYTES_MAX
        + 6 * (3 * SERVER_TEXT_BYTES_MAX + TARGET_BYTES_MAX)
        + SERVERS_PER_ENDPOINT_MAX * (SERVER_NAME_BYTES_MAX + 3)
        + 64 * 1024
        <= OUTBOUND_BYTES_MAX - OUTBOUND_PAUSE_BYTES,
    "a page may have one more entry when it is all but full, and an answer may stand before it"
);
const _: () = assert!(2 * CATALOG_BYTES_MAX <= OUTBOUND_BYTES_MAX, "a whole server is one answer");
const _: () = assert!(LOG_BYTES_MAX <= OUTBOUND_BYTES_MAX, "a whole log must be replayable");
