//! The command line: raw flags only. What they mean together is [`crate::config`]'s to say.

mod ctl;
pub mod load;
mod protect;

use clap::{Args, Parser, Subcommand, ValueEnum};
use std::path::PathBuf;

pub use protect::Protect;

pub use ctl::{BindArgs, BindingsArgs, CtlArgs, CtlCommand, EndpointsCommand, ServerArgs, ServersCommand, SourceArg, StateArg};
pub use load::LoadArgs;

/// A thread-per-core io_uring server, registry and gateway for the Model Context Protocol.
#[derive(Debug, Parser)]
#[command(name = "ringhub", version, about, max_term_width = 110)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What `ringhub` can do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve MCP over Streamable HTTP until SIGTERM or SIGINT
    Serve(Box<ServeArgs>),
    /// Read the host and say what is off for a server with these flags, and the command that mends it
    Check(Box<ServeArgs>),
    /// Look at a running server, and change what it serves
    Ctl(Box<CtlArgs>),
    /// Ask a server, this one or any other, as much as a profile says, and report what came of it
    Load(Box<LoadArgs>),
    /// One of the processes that `load` starts
    #[command(hide = true)]
    LoadProcess,
}

/// Flags of `ringhub serve`. Each can also stand in the file given by `--config` (same name, `_` for `-`; what is refused early
/// in its table `[protect]`) and in the environment (`RINGHUB_` and the name in capitals); a flag wins over the environment, which wins over the
/// file, which wins over a profile.
#[derive(Args, Clone, Debug, Default)]
pub struct ServeArgs {
    /// Address to serve MCP at; may be given several times [default: 127.0.0.1:8080]
    #[arg(long, value_name = "HOST:PORT", env = "RINGHUB_LISTEN", value_delimiter = ',')]
    pub listen: Vec<String>,

    /// Address of the admin port (health, metrics, control), or `off` [default: 127.0.0.1:9090]
    #[arg(long, value_name = "HOST:PORT", env = "RINGHUB_ADMIN")]
    pub admin: Option<String>,

    /// Let other processes that have this flag serve at the same addresses; connections are spread over all of them. A legacy session
    /// is known only where it was opened
    #[arg(long, env = "RINGHUB_SHARE_PORT")]
    pub share_port: bool,

    /// Number of cores, each a pinned thread with its own ring [default: every allowed CPU]
    #[arg(long, value_name = "N", env = "RINGHUB_CORES")]
    pub cores: Option<usize>,

    /// CPUs to run on, such as 0,2-5 [default: every allowed CPU]
    #[arg(long, value_name = "LIST", env = "RINGHUB_CPUS")]
    pub cpus: Option<String>,

    /// Let the kernel place the cores' threads; needed for more cores than CPUs
    #[arg(long, env = "RINGHUB_NO_PIN")]
    pub no_pin: bool,

    /// Number of registry shards, 1 to 4096 [default: 64]
    #[arg(long, value_name = "N", env = "RINGHUB_SHARDS")]
    pub shards: Option<u16>,

    /// Most servers registered at once; one more is refused [default: 1000000]
    #[arg(long, value_name = "N", env = "RINGHUB_MAX_SERVERS")]
    pub max_servers: Option<usize>,

    /// Most endpoints at once; one more is refused [default: 100000]
    #[arg(long, value_name = "N", env = "RINGHUB_MAX_ENDPOINTS")]
    pub max_endpoints: Option<usize>,

    /// Microseconds a core looks for work before it sleeps; only for CPUs that do nothing else [default: 0]
    #[arg(long, value_name = "N", env = "RINGHUB_SPIN_US")]
    pub spin_us: Option<u64>,

    /// io_uring operations to use: `auto` takes what the kernel has, `5.8` only what Linux 5.8 had [default: auto]
    #[arg(long, value_name = "SET", env = "RINGHUB_IO_URING")]
    pub io_uring: Option<IoUring>,

    /// Most connections open at once; one more is answered 503 [default: what the limit of open files allows]
    #[arg(long, value_name = "N", env = "RINGHUB_MAX_CONNECTIONS")]
    pub max_connections: Option<usize>,

    /// What is refused early.
    #[command(flatten)]
    pub protect: Protect,

    /// Most legacy sessions open at once on each core [default: 100000]
    #[arg(long, value_name = "N", env = "RINGHUB_MAX_SESSIONS")]
    pub max_sessions: Option<usize>,

    /// Longest request body, bytes [default: 4194304]
    #[arg(long, value_name = "N", env = "RINGHUB_MAX_BODY_BYTES")]
    pub max_body_bytes: Option<usize>,

    /// Seconds a request may take to be answered [default: 60]
    #[arg(long, value_name = "S", env = "RINGHUB_REQUEST_TIMEOUT", allow_negative_numbers = true)]
    pub request_timeout: Option<f64>,

    /// Seconds a connection may stay idle [default: 600]
    #[arg(long, value_name = "S", env = "RINGHUB_IDLE_TIMEOUT", allow_negative_numbers = true)]
    pub idle_timeout: Option<f64>,

    /// Seconds a request's header fields may take to arrive [default: 10]
    #[arg(long, value_name = "S", env = "RINGHUB_HEAD_TIMEOUT", allow_negative_numbers = true)]
    pub head_timeout: Option<f64>,

    /// Seconds a request's body may take to arrive [default: 30]
    #[arg(long, value_name = "S", env = "RINGHUB_BODY_TIMEOUT", allow_negative_numbers = true)]
    pub body_timeout: Option<f64>,

    /// Seconds a client may take to read what waits for it [default: 30]
    #[arg(long, value_name = "S", env = "RINGHUB_WRITE_TIMEOUT", allow_negative_numbers = true)]
    pub write_timeout: Option<f64>,

    /// Seconds a legacy session may stay unused [default: 1800]
    #[arg(long, value_name = "S", env = "RINGHUB_SESSION_TIMEOUT", allow_negative_numbers = true)]
    pub session_timeout: Option<f64>,

    /// Seconds that work in flight has to finish after SIGTERM or SIGINT [default: 30]
    #[arg(long, value_name = "S", env = "RINGHUB_DRAIN_TIMEOUT", allow_negative_numbers = true)]
    pub drain_timeout: Option<f64>,

    /// Origin a browser may come from besides those of this machine; may be given several times
    #[arg(long, value_name = "ORIGIN", env = "RINGHUB_ALLOWED_ORIGIN", value_delimiter = ',')]
    pub allowed_origin: Vec<String>,

    /// Host clients may ask for besides those of this machine; may be given several times
    #[arg(long, value_name = "HOST", env = "RINGHUB_ALLOWED_HOST", value_delimiter = ',')]
    pub allowed_host: Vec<String>,

    /// URL below which clients reach the endpoints, when it is another than the address that is served: what the MCP Registry API
    /// at the admin port tells them, such as `https://hub.example` [default: the first address of --listen]
    #[arg(long, value_name = "URL", env = "RINGHUB_PUBLIC_URL")]
    pub public_url: Option<String>,

    /// Protocol eras to speak: `legacy` has the initialize handshake, `modern` is 2026-07-28 [default: both]
    #[arg(long, value_name = "ERA", env = "RINGHUB_ERA")]
    pub era: Option<Eras>,

    /// Stands between a server's name and a tool's or prompt's where several servers share an endpoint: `.`, `_` or `-` [default: .]
    #[arg(long, value_name = "CHAR", env = "RINGHUB_NAME_SEPARATOR", allow_hyphen_values = true)]
    pub name_separator: Option<Separator>,

    /// File with the keys that seal session ids and request states: two lines at most, the current key and the previous
    /// one, each 32 bytes in hex [default: a new key at every start]
    #[arg(long, value_name = "FILE", env = "RINGHUB_SEAL_KEY")]
    pub seal_key: Option<PathBuf>,

    /// File with certificate authorities, in PEM, that servers behind this one may have their certificates of, besides those that this host trusts
    #[arg(long, value_name = "FILE", env = "RINGHUB_UPSTREAM_CA")]
    pub upstream_ca: Option<PathBuf>,

    /// Directory that keeps servers, endpoints and bindings that are registered while it runs; made if there is none
    /// [default: they end with the process]
    #[arg(long, value_name = "DIR", env = "RINGHUB_STATE")]
    pub state: Option<PathBuf>,

    /// File with the token that writing to the admin port needs [default: one is made, in a file that is named at start]
    #[arg(long, value_name = "FILE", env = "RINGHUB_ADMIN_TOKEN_FILE")]
    pub admin_token_file: Option<PathBuf>,

    /// Threads for blocking tools [default: 4]
    #[arg(long, value_name = "N", env = "RINGHUB_BLOCKING_THREADS")]
    pub blocking_threads: Option<usize>,

    /// MCP server to front, as NAME=https://HOST:PORT/path or 'NAME=stdio:COMMAND ARGS'; may be given several times (in the environment,
    /// one per line)
    #[arg(long, value_name = "NAME=TARGET", env = "RINGHUB_UPSTREAM", value_delimiter = '\n')]
    pub upstream: Vec<String>,

    /// JSON file with MCP servers to front, as desktop clients write it: {"mcpServers": {NAME: {"command": ...} or {"url": ...}}}
    #[arg(long, value_name = "FILE", env = "RINGHUB_MCP_SERVERS")]
    pub mcp_servers: Option<PathBuf>,

    /// Let the control API register servers that are started by a command: who may write there can then run programs here
    #[arg(long, env = "RINGHUB_ALLOW_STDIO_API")]
    pub allow_stdio_api: bool,

    /// Limits to start from, each of which a flag can change: 150 connections, 200, 15,000 or 100,000, with the tiers that go with them
    #[arg(long, value_name = "NAME", env = "RINGHUB_PROFILE")]
    pub profile: Option<Profile>,

    /// What to log to standard error: a level, or levels per module such as info,ringhub::rt=debug [default: info]
    #[arg(long, value_name = "FILTER", env = "RINGHUB_LOG")]
    pub log: Option<String>,

    /// TOML file to read the configuration from. SIGHUP and `ringhub ctl reload` have it read again: upstreams and endpoints change at once
    #[arg(long, value_name = "FILE", env = "RINGHUB_CONFIG")]
    pub config: Option<PathBuf>,

    /// Print the effective configuration as TOML and exit
    #[arg(long)]
    pub print_config: bool,
}

/// Limits that belong together: see `tuning/profiles`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Profile {
    /// 150 connections, every tier.
    Baseline,
    /// 200 connections, every tier.
    Foundation,
    /// 15,000 connections, no limit of all messages together.
    Capacity,
    /// 100,000 connections, no limit of all messages together.
    HundredK,
}

/// Which io_uring operations to use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum IoUring {
    /// The newest the kernel has.
    #[default]
    Auto,
    /// Those of Linux 5.8 alone.
    #[value(name = "5.8")]
    #[serde(rename = "5.8")]
    Linux5_8,
}

/// What stands between a server's name and that of its tool or prompt.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, serde::Serialize, serde::Deserialize)]
pub enum Separator {
    /// `server.tool`
    #[default]
    #[value(name = ".")]
    #[serde(rename = ".")]
    Dot,
    /// `server_tool`
    #[value(name = "_")]
    #[serde(rename = "_")]
    Underscore,
    /// `server-tool`
    #[value(name = "-")]
    #[serde(rename = "-")]
    Dash,
}

/// Which protocol eras are spoken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Eras {
    /// Sessions that begin with `initialize`: 2024-11-05 to 2025-11-25.
    Legacy,
    /// Stateless requests: 2026-07-28.
    Modern,
    /// Both on one endpoint.
    #[default]
    Both,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn flags_are_read() {
        let cli =
            Cli::parse_from(["ringhub", "serve", "--listen", "127.0.0.1:0", "--listen", "[::1]:0", "--cores", "2", "--io-uring", "5.8"]);
        let Command::Serve(args) = cli.command else { panic!("it is serve") };
        assert_eq!((args.listen.len(), args.cores, args.io_uring), (2, Some(2), Some(IoUring::Linux5_8)));
    }
}
