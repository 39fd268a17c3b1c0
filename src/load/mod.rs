//! Load: a client that asks any MCP server over HTTP as much as it is told to, and measures what comes of it.
//!
//! The loop is open. When each message is to be sent is decided beforehand ([`plan`]), on which connection, too; latency counts from that
//! moment, whatever the answers before it did. So an answer that is late makes all that wait behind it late, as it would for real clients,
//! and not one measurement fewer.
//!
//! One process drives ([`drive`]): it gets to know the server ([`target`]), starts the processes that load it ([`process`], each pinned, each
//! with an epoll loop of its own and as many connections as it may open files), merges what they report at the end of each interval, watches
//! the server's process when that is local ([`watch`]), and makes a report. Their clocks are one: the monotonic clock of the host.

pub mod compare;
mod conn;
pub mod drive;
pub mod gather;
pub mod html;
pub mod plan;
pub mod process;
pub mod profile;
pub mod report;
pub mod request;
pub mod source;
mod svg;
pub mod tally;
pub mod target;
pub mod verdict;
pub mod watch;

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

use crate::wire::http1::Unsendable;
use profile::{Profile, Shape};
use request::{Kind, Target};

/// Nanoseconds of a second.
pub(crate) const NS_PER_S: u64 = 1_000_000_000;

/// Which era a load speaks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EraWish {
    /// Whichever the server has; the legacy one first when pings are to be sent.
    #[default]
    Auto,
    /// Sessions that begin with `initialize`.
    Legacy,
    /// 2026-07-28.
    Modern,
}

/// All that the processes of a load need to know.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Job {
    /// Which profile it is.
    pub profile: Profile,
    /// What that means in time.
    pub shape: Shape,
    /// Where the server is.
    pub address: SocketAddr,
    /// What it is asked.
    pub target: Target,
    /// Requests to choose from, each as likely as any other.
    pub kinds: Vec<Kind>,
    /// From which everything that looks random follows.
    pub seed: u64,
    /// Time until an unanswered message counts as timed out, milliseconds.
    pub timeout_ms: u64,
    /// Requests of one connection that may be on their way at once.
    pub pipeline: usize,
    /// The loop is closed: each connection sends its next request when it has an answer. Then latency counts from the sending.
    pub is_closed_loop: bool,
    /// Connections that are opened in a second before the run begins, all processes together.
    pub connect_rate: f64,
    /// Length of an interval, milliseconds.
    pub interval_ms: u64,
    /// Addresses to connect from, in turn; the kernel's choice when there is none.
    pub sources: Vec<IpAddr>,
    /// How many processes there are.
    pub processes: usize,
    /// Which of them this is.
    pub process: usize,
    /// The CPU it is pinned to.
    pub cpu: Option<usize>,
    /// It has that CPU to itself: then it does not sleep when something is due soon.
    pub spins: bool,
}

/// Why there is no load.
#[derive(Debug)]
#[non_exhaustive]
pub enum LoadError {
    /// What was asked for is impossible.
    Impossible(String),
    /// The URL is none.
    Url(String),
    /// It is https.
    Tls(String),
    /// Nothing answers there.
    Unreachable(String, io::Error),
    /// What answers is no MCP server of the era that was asked for.
    NoMcp(String, String),
    /// The server has nothing that could be sent to it: what it said last.
    NothingToSend(String),
    /// The tool cannot be called.
    Tool(String, String),
    /// The resource cannot be read.
    Resource(String, String),
    /// What was given cannot stand in a request.
    Unsendable(Unsendable),
    /// A process may open too few files.
    Files {
        /// Connections that are wanted.
        connections: usize,
        /// Connections that the most processes may have.
        room: usize,
        /// Files that one process would have to be allowed.
        needed: u64,
    },
    /// There are too few ports.
    Ports {
        /// Connections that are wanted.
        connections: usize,
        /// Addresses they come from.
        sources: usize,
    },
    /// A process of the load failed.
    Process(String),
    /// The operating system refused.
    System(&'static str, io::Error),
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Impossible(why) | Self::Process(why) => f.write_str(why),
            Self::Url(url) => write!(f, "--url {url}: that is no URL; write it as http://127.0.0.1:8080/mcp"),
            Self::Tls(url) => write!(f, "--url {url}: the load speaks no TLS; point it at the server's http port"),
            Self::Unreachable(url, error) => {
                write!(f, "{url} cannot be reached: {error}. Start the server (`ringhub serve`), or say with --url where it is")
            }
            Self::NoMcp(url, why) => write!(f, "{url} does not answer as an MCP server: {why}. Is the path right, and the era (--era)?"),
            Self::NothingToSend(why) => {
                write!(f, "the server answers none of the profile's requests ({why}); choose others with --send")
            }
            Self::Tool(name, why) => write!(f, "the tool {name} cannot be called: {why}"),
            Self::Resource(uri, why) => write!(f, "the resource {uri} cannot be read: {why}"),
            Self::Unsendable(why) => write!(f, "what was given cannot be sent: {why}"),
            Self::Files { connections, room, needed } => write!(
                f,
                "{connections} connections are wanted, and the limit of open files allows {room} in all processes together: raise it (`ulimit -n {needed}`), or ask for fewer (--connections)"
            ),
            Self::Ports { connections, sources } => write!(
                f,
                "{connections} connections from {sources} address(es) need more ports than there are: give more addresses, such as --source-addresses 127.0.0.0/8 for a server at 127.0.0.1"
            ),
            Self::System(what, error) => write!(f, "{what}: {error}"),
        }
    }
}

impl std::error::Error for LoadError {}
