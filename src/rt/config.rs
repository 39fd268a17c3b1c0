//! What can be set about the shell.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use crate::base::limits;
use crate::native::BuildError;
use crate::wire::http1::HttpLimits;

/// Which io_uring path runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum RingChoice {
    /// The best that the kernel offers.
    #[default]
    Auto,
    /// Operations of kernel 5.8 alone.
    Legacy,
}

/// Settings of the shell.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where MCP is served. Port 0 takes any free port.
    pub listen: Vec<SocketAddr>,
    /// Whether other processes may serve at the same addresses; connections are then spread over all of them.
    pub is_port_shared: bool,
    /// Where health and metrics are served.
    pub admin: Option<SocketAddr>,
    /// How many cores; one per CPU in `cpus` when absent.
    pub cores: Option<usize>,
    /// CPUs to run on; every allowed one when absent.
    pub cpus: Option<Vec<usize>>,
    /// Whether each core is pinned to a CPU of its own.
    pub pin: bool,
    /// How long a core looks for work before it sleeps. For dedicated CPUs only: on shared ones it takes time from the load.
    pub spin: Duration,
    /// Most connections of all cores together; what the limit of open files leaves room for when absent.
    pub connections_max: Option<usize>,
    /// Connections beyond that which may wait, unread, for one of the others to end.
    pub accept_queue: usize,
    /// Most new connections per second of all cores together.
    pub arrivals_max: Option<u32>,
    /// Most bytes that the buffers of all connections together hold.
    pub memory_max: Option<usize>,
    /// Requests that one connection may have waiting for another of its own; then it is read no further.
    pub pending_conn_max: u32,
    /// Requests of one core that may wait so; beyond them no connection is read that has one waiting.
    pub pending_core_max: usize,
    /// Requests that waited longer than this are refused while the core does not keep up.
    pub late_target: Option<Duration>,
    /// How long a connection may be without a request.
    pub idle_timeout: Duration,
    /// How long a request's head may take, from its first byte.
    pub head_timeout: Duration,
    /// How long a request's body may take, from the end of its head.
    pub body_timeout: Duration,
    /// How long a send may wait for the peer to take anything.
    pub write_timeout: Duration,
    /// How long a drain may take. What lives then is cut.
    pub drain_timeout: Duration,
    /// What one request may be long.
    pub http: HttpLimits,
    /// Threads for blocking handlers.
    pub blocking_threads: usize,
    /// Which io_uring path runs.
    pub ring: RingChoice,
    /// Certificate authorities, in PEM, that upstreams' certificates may be of, beside those that the host trusts.
    pub ca_file: Option<PathBuf>,
    /// Directory of the durable store. None: what is registered ends with the process.
    pub state: Option<PathBuf>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: vec![SocketAddr::from((Ipv4Addr::LOCALHOST, 8080))],
            is_port_shared: false,
            admin: None,
            cores: None,
            cpus: None,
            pin: true,
            spin: Duration::ZERO,
            connections_max: None,
            accept_queue: limits::ACCEPT_QUEUE_DEFAULT,
            arrivals_max: None,
            memory_max: None,
            pending_conn_max: limits::PENDING_PER_CONN_DEFAULT,
            pending_core_max: limits::PENDING_DEFAULT,
            late_target: None,
            idle_timeout: Duration::from_secs(300),
            head_timeout: Duration::from_secs(10),
            body_timeout: Duration::from_secs(30),
            write_timeout: Duration::from_secs(30),
            drain_timeout: Duration::from_secs(30),
            http: HttpLimits { head_bytes_max: limits::HEAD_BYTES_MAX, body_bytes_max: limits::BODY_BYTES_DEFAULT },
            blocking_threads: 4,
            ring: RingChoice::Auto,
            ca_file: None,
            state: None,
        }
    }
}

/// Why the process cannot start. Every text names the remedy.
#[derive(Debug)]
pub enum StartError {
    /// The address is taken.
    PortInUse(SocketAddr),
    /// The port needs a privilege.
    PortForbidden(SocketAddr),
    /// The address cannot be listened on.
    Address(SocketAddr, std::io::Error),
    /// The host lacks something.
    Host(Vec<super::host::Finding>),
    /// Settings contradict each other or the host.
    Config(String),
    /// A server cannot be built.
    Server(BuildError),
    /// The directory of the durable store cannot be used.
    State(PathBuf, String),
    /// The operating system refused something else.
    System(&'static str, std::io::Error),
}

impl std::fmt::Display for StartError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::PortInUse(address) => {
                write!(
                    f,
                    "{address} is in use: end the process that listens there (`ss -ltnp`), choose another port with --listen or --admin, \
                     or give --share-port to all that are to serve there"
                )
            }
            Self::PortForbidden(address) => {
                write!(f, "{address} needs a privilege: choose a port from 1024 on, or allow it: `setcap cap_net_bind_service=+ep ringhub`")
            }
            Self::Address(address, error) => {
                write!(f, "cannot listen on {address}: {error}; choose an address of this host with --listen or --admin")
            }
            Self::Host(findings) => {
                f.write_str("this host cannot run ringhub yet:")?;
                findings.iter().try_for_each(|finding| write!(f, "\n  {finding}"))
            }
            Self::Config(text) => f.write_str(text),
            Self::State(directory, why) => write!(f, "--state {}: {why}", directory.display()),
            Self::Server(error) => error.fmt(f),
            Self::System(what, error) => write!(f, "{what}: {error}"),
        }
    }
}

impl std::error::Error for StartError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_name_the_remedy() {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 80));
        assert!(StartError::PortInUse(address).to_string().contains("another port"));
        assert!(StartError::PortForbidden(address).to_string().contains("setcap"));
    }
}
