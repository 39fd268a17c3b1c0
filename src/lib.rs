//! ringhub: a thread-per-core io_uring server, registry and gateway for the Model Context Protocol (MCP).
//!
//! To host your own server, write it with [`native`] and hand it to [`serve()`]; the README shows a whole program. This page
//! is for those who want to know how it works.
//!
//! # Words
//!
//! One meaning each, the same in code, documentation, logs and metrics. A *node* is one process. A *core* is one pinned
//! executor and all it owns. A *shard* is one slice of the registry, owned by one core. A *conn* is one TCP connection. A
//! *session* is an MCP session, which only the legacy *era* has: Legacy begins with the `initialize` handshake, Modern
//! (2026-07-28) carries its metadata in each request. A *server* is a set of tools, resources and prompts; a native one lives
//! in this process, an *upstream* is one that this node fronts. A *link* is a stream of bytes to an upstream: a connection, or a child
//! process. A *trip* is one request on its way to an upstream, and what is heard of it. A *scout* finds out what an upstream speaks
//! and has. A *roster* is which upstreams there are. An *endpoint* is a path that clients connect to, a *binding* says which servers they see there, a *view*
//! is what they see: lists, names and whose they are, encoded on the core that answers. An *owner* is whom a session with an upstream, or a
//! process, belongs to. A *frame* goes from core to core over
//! a *lane* (Ask or Reply) of the *mesh*; one Ask and its Reply make a *hop*. A *principal* is who calls: the digest of the
//! bearer token, else the peer's address. A *permit* is the right to proceed, returned when dropped. A *fault* is an error as a
//! peer sees it.
//!
//! # Floors
//!
//! Pure state machines in the middle, one thin io_uring shell around them. A file uses lower floors only, and rooms on one
//! floor never import each other; a test holds that.
//!
//! ```text
//! 5  main, cli, config, serve, check, ctl, log   flags, environment, file to one validated configuration; announce; client
//! 4  rt  load                               the shell: executors, io_uring, sockets, child processes, clock, signals, threads; a client that loads
//! 3  engine                                 one core's whole state as a value: requests, frames, time in; bytes, effects out
//! 2  registry  native  gateway  guard       servers, endpoints and their changes; in-process servers; upstreams; what is refused
//! 1  wire                                   HTTP/1.1, SSE, JSON, JSON-RPC, MCP: bytes in, bytes out
//! 0  base                                   ids, time, limits, faults, metrics
//! ```
//!
//! The seam between the shell and the engine is data, not a trait: bytes and frames go in, an [`engine::Out`] comes out.
//! Nothing below the shell does I/O or reads a clock, so all of it runs in plain tests, several cores in one thread, under
//! virtual time.
//!
//! # One request
//!
//! 1. Each core has its own listener on the same port (`SO_REUSEPORT`). A connection takes its permit before any state is
//!    made for it. When the cores hold unequal numbers, a new connection is handed to the core with fewest.
//! 2. The ring's provided buffers receive the bytes; an idle connection holds none. [`wire::http1`] frames requests in place.
//!    [`wire::jsonrpc`] finds the members of the message in one pass over the untouched bytes; they are never altered. A head that
//!    the same connection sent just before, and a request that differs from its last one in id, arguments and progress token
//!    alone, are known by comparison and not taken apart again.
//! 3. The engine decides the era and walks the checks in the order the specification gives, then answers from the endpoint's
//!    view. A core makes a view of the entries of [`registry`], which may cost a hop, and several turns when there is much to
//!    show, and uses it until one of them is about to change. Names that clients use are looked up in the view's exact tables; they are never taken apart.
//! 4. A tool runs on the connection's own core. When it is done at once, its answer is encoded into the connection's outbound
//!    buffer: no task, no allocation, no lock. When it is not, its future joins the core's task set and the answer follows
//!    later, as JSON or as a stream of events.
//!    When the name is an upstream's, the request is relayed: see below.
//! 5. All replies of a turn leave in one send per connection, all sends of a turn in one system call.
//!
//! # Upstreams
//!
//! [`gateway`] is a pure state machine per core. It sees links, which the shell makes: bytes in, bytes out. For each upstream one
//! core, the owner of the shard that the upstream's name is in, has a *scout*: it asks `server/discover`, falls back to `initialize` as the
//! official clients do, drains the lists, writes what it found into the registry like any other change, and watches for changes. So
//! `initialize` and the lists are answered from the registry at once, whatever state an upstream is in, and every core learns from the
//! entry that it makes its views of anyway which era an upstream speaks.
//!
//! A call of an upstream over HTTP goes out from the caller's own core, over a link of that core's pool: no stream crosses cores. Within
//! the modern era the message goes on byte for byte but for a name that the view changed, and so does its answer. What an upstream of the
//! legacy era keeps per session belongs to somebody, its *owner*: each session of the legacy era has one session of its own there, on its home
//! core, and each principal of the modern era one on each core, opened when it is first needed, again when the upstream has forgotten it, and
//! ended with its owner or when that is idle. An upstream that gives out no session ids is asked in one that all share, as the scout asks. Ids
//! and progress tokens in there are the gateway's own. A child process exists once, on the core of its scout; calls from other cores hop there.
//! When it is interactive, each owner has a process: a session on its home core, a principal, who has one call in work at a time, on a core that
//! its digest selects; what such a process asks, and the answer, hop as well.
//!
//! An upstream that asks in the midst of a call is answered by that call's client. When a modern upstream answers a legacy client's call
//! with questions, they become requests on the stream of that call, and the answers go out with the request when it is sent again.
//! When a legacy upstream asks on the stream of a modern client's call, the call is parked: its client gets a result that asks, with a
//! sealed handle of the call, and its next request is taken to the core where the call waits.
//!
//! Single resources that clients subscribe to are counted on each core, and where they lead is found out again with every view. The core of the
//! scout is told of the first and the last of a core in frames, asks the upstream once for all, and tells those cores, and no others, what changed.
//! A stream that a legacy upstream ends before its answer is taken up again by the core that made the call; the call is not repeated.
//! Upstreams come and go while the process runs: when the configuration is read again, and when the control API registers one. The core of the
//! admin port says which there are, as a *roster*, whole, and every core follows the newest edition that it hears of. An upstream
//! that is reached in another way than before gets a new number: the old one takes no more calls, ends those it has, and is forgotten.
//!
//! Whatever goes wrong with an upstream costs a call an error that names it, within the call's deadline. A request is sent twice only when it
//! changes nothing, or when not all of it had left this node. No link is handed more than its share of a turn, so that an answer of megabytes is
//! taken in small pieces, between which the calls beside it have their turn; and what an upstream says that answers nothing is read at a bounded
//! rate, however fast it comes. Each core has a breaker for each upstream; they tell each other over the mesh when one opens, tries or closes. A
//! process that answers nothing any more, not even a check, is ended with its group and started again; a lazy one sleeps while nobody needs it,
//! and its entry stays as it is.
//!
//! # What is refused
//!
//! [`guard`] stands before all work. The shell asks it when a connection comes (how many there are, how many came in the last second: counters that
//! the cores share, since they change seldom), and the engine before it does anything for a message that was parsed: breaker, connection,
//! principal, tool, node. A limit of the node per second is as many tokens; a token that was used comes back a second later, and is in one place
//! always: unused or used on one core, in a frame, or in the bank of core 0. While there are enough, a core keeps what it has and no message
//! waits for a frame. When there are not, tokens go back to the bank as they become free, which lends them evenly over time and to whom has
//! the fewest for its connections. A message of a connection that had far less than its share waits a few milliseconds for a token, parked as for
//! a view; the others are refused at once.
//!
//! What a core cannot see in its own counters it need not know: errors are summed by core 0 from the counters of all, four times a second, and
//! the breaker's phase is told to each core.
//!
//! # Who owns what
//!
//! Connections, buffers, calls, streams, counters: the core that has the connection. A *link*, which is a connection to an upstream or
//! a child process: the core that made it; its bytes move in the same ring, and what cannot (looking up a name, starting a process) is
//! done by threads that are there for that alone, one per upstream at most. Shards: their owner core, the only
//! writer. There is no lock and no shared reference count on the path of a request. Shared by all cores are the counters
//! (one writer each, read by anyone), the number of open connections (an atomic, touched when one opens or closes, so that
//! a limit of 350 means 350), and the directory of sessions.
//!
//! What is registered while the process runs is kept, when asked for, by one more thread: it writes what waits in one transaction,
//! and a change is acknowledged once that is on the disk. What that thread has in hand it alone decides about: nobody is told meanwhile that
//! it was not made.
//!
//! # Load
//!
//! [`load`] is a client: it drives any MCP server as a profile says and measures it. It shares [`wire`] with the server and nothing else, so that
//! it is the same ruler for all. When what is sent is a pure function of the profile and a seed; a connection is a state machine that
//! sees bytes and moments; a process is one epoll loop around them.
//!
//! # Where the design differs from what one might expect
//!
//! - A legacy session lives on the core that took its `initialize`; its id, sealed, names that core. A request for it that
//!   arrives elsewhere takes its whole connection there, at once, between two requests. So streams, cancellations and
//!   answers to server requests of one session always meet on one core, and no reply ever crosses the mesh. A move costs no
//!   more than a hop, and all later requests of the connection cost nothing extra. An id that is dead is answered from the
//!   shared directory without a move.
//! - In the modern era, a handler that asks its client something is not parked. It is dropped; what it was told so far
//!   travels, sealed, in `requestState`; and it runs again from its start when the client comes back, on any core of any
//!   process with the same key. In the legacy era the same `ask` sends a request and waits.
//! - The lanes between cores are bounded rings of the `rtrb` crate, one producer and one consumer each. glommio's channel
//!   mesh cannot be asked whether it is empty without leaving a waker behind.
//! - Futures of handlers run in a task set of the engine, not as glommio tasks: spawning one there takes a lock that all
//!   executors share, and a task set that is a value can be driven by a test. A future that uses glommio's own timers or
//!   files is wrapped in [`rt::with_glommio`].
//! - The owner of a shard does not remember by name who knows a name as absent: anybody can make names up. It remembers which cores
//!   know any absent name of the shard, and before a new entry of that shard is there, they let go of all of them.
//! - The core's one task sleeps in its own io_uring, never in glommio's: an idle wake-up then costs a third less.

pub mod base;
mod check;
pub mod cli;
pub mod config;
mod ctl;
pub mod engine;
pub mod gateway;
pub mod guard;
pub mod load;
mod log;
pub mod native;
pub mod registry;
pub mod rt;
mod serve;
pub mod wire;

pub use check::check;
pub use ctl::ctl;
pub use serve::serve;

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
