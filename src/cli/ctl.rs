//! Flags of `ringhub ctl`.

use clap::{Args, Subcommand, ValueEnum};
use std::path::PathBuf;

/// Flags of `ringhub ctl`.
#[derive(Args, Clone, Debug)]
pub struct CtlArgs {
    /// The server's admin port
    #[arg(long, global = true, value_name = "URL", env = "RINGHUB_ADMIN_URL", default_value = "http://127.0.0.1:9090")]
    pub admin: String,

    /// File with the token that the server named at its start [default: the one that a server of this user wrote for the port]
    #[arg(long, global = true, value_name = "FILE", env = "RINGHUB_ADMIN_TOKEN_FILE")]
    pub token_file: Option<PathBuf>,

    /// Print JSON as the server gives it, for programs
    #[arg(long, global = true)]
    pub json: bool,

    /// What to do.
    #[command(subcommand)]
    pub command: CtlCommand,
}

/// What `ringhub ctl` can do.
#[derive(Clone, Debug, Subcommand)]
pub enum CtlCommand {
    /// Servers: what offers tools, resources and prompts
    #[command(subcommand)]
    Servers(ServersCommand),
    /// Endpoints: the paths that clients connect to
    #[command(subcommand)]
    Endpoints(EndpointsCommand),
    /// Bind a server to an endpoint, so that its clients see it
    Bind(BindArgs),
    /// Unbind a server from an endpoint
    Unbind(BindArgs),
    /// Which servers are bound to which endpoints
    Bindings(BindingsArgs),
    /// The slices of the registry: where they are and what they have to do
    Shards,
    /// The cores and what they have to do
    Cores,
    /// The open sessions of the legacy era
    Sessions,
    /// End a session; its client has to begin anew
    EndSession {
        /// Its id, as `ringhub ctl sessions` shows it
        id: String,
    },
    /// Print what changes in the registry, as it does, until it is interrupted
    Changes,
    /// Have the server read its configuration again: upstreams and endpoints change at once, without dropping a connection or a call; what needs a restart is named. What SIGHUP does, and it says how it went
    Reload,
}

/// `ringhub ctl servers`.
#[derive(Clone, Debug, Subcommand)]
pub enum ServersCommand {
    /// Print servers, in the order of their names
    List {
        /// Only those with this in their name, title or description
        #[arg(long, value_name = "TEXT")]
        search: Option<String>,
        /// Only those that run in the program, or only those that it fronts
        #[arg(long)]
        source: Option<SourceArg>,
        /// Only those in this state
        #[arg(long)]
        state: Option<StateArg>,
    },
    /// Print one server, whole
    Get {
        /// Its name
        name: String,
    },
    /// Register a server
    Add {
        /// Its name, such as io.example/weather
        name: String,
        /// What else is said of it.
        #[command(flatten)]
        said: ServerArgs,
    },
    /// Say anew what is given, and leave the rest as it is
    Update {
        /// Its name
        name: String,
        /// What is said of it.
        #[command(flatten)]
        said: ServerArgs,
        /// Only if it still has this version
        #[arg(long, value_name = "N")]
        if_version: Option<u64>,
    },
    /// Unregister a server
    Remove {
        /// Its name
        name: String,
        /// Only if it still has this version
        #[arg(long, value_name = "N")]
        if_version: Option<u64>,
    },
}

/// What is said of a server.
#[derive(Args, Clone, Debug, Default)]
pub struct ServerArgs {
    /// Where the MCP server is that is to be fronted: https://HOST:PORT/path. What else is said of it, in the words of `[[upstream]]`, stands in --file
    #[arg(long, value_name = "URL", conflicts_with = "target")]
    pub url: Option<String>,
    /// The command that starts it, if `ringhub serve` runs with --allow-stdio-api
    #[arg(long, value_name = "COMMAND", conflicts_with_all = ["target", "url"])]
    pub command: Option<String>,
    /// Where an MCP server is that is to be listed only, with the catalog that --file says
    #[arg(long, value_name = "TARGET")]
    pub target: Option<String>,
    /// A name for people
    #[arg(long, value_name = "TEXT")]
    pub title: Option<String>,
    /// What it is for
    #[arg(long, value_name = "TEXT")]
    pub description: Option<String>,
    /// The version of its software
    #[arg(long, value_name = "VERSION")]
    pub software_version: Option<String>,
    /// Whether it can be called
    #[arg(long)]
    pub state: Option<StateArg>,
    /// JSON file with a server's members, such as tools; `-` reads standard input. Flags win over it
    #[arg(long, value_name = "FILE")]
    pub file: Option<PathBuf>,
}

/// `ringhub ctl endpoints`.
#[derive(Clone, Debug, Subcommand)]
pub enum EndpointsCommand {
    /// Print endpoints, in the order of their paths
    List {
        /// Only those with this in their path
        #[arg(long, value_name = "TEXT")]
        search: Option<String>,
        /// Only those with this server bound
        #[arg(long, value_name = "NAME")]
        server: Option<String>,
    },
    /// Print one endpoint
    Get {
        /// Its path
        path: String,
    },
    /// Create an endpoint
    Add {
        /// Its path: /mcp, or /mcp/ and a name
        path: String,
        /// Names of servers to bind
        servers: Vec<String>,
    },
    /// Say anew which servers are bound to an endpoint
    Update {
        /// Its path
        path: String,
        /// Names of the servers; those not named are unbound
        servers: Vec<String>,
        /// Only if it still has this version
        #[arg(long, value_name = "N")]
        if_version: Option<u64>,
    },
    /// Delete an endpoint
    Remove {
        /// Its path
        path: String,
        /// Only if it still has this version
        #[arg(long, value_name = "N")]
        if_version: Option<u64>,
    },
}

/// An endpoint and a server.
#[derive(Args, Clone, Debug)]
pub struct BindArgs {
    /// Path of the endpoint
    pub endpoint: String,
    /// Name of the server
    pub server: String,
    /// Only if the endpoint still has this version
    #[arg(long, value_name = "N")]
    pub if_version: Option<u64>,
}

/// Which bindings.
#[derive(Args, Clone, Debug)]
pub struct BindingsArgs {
    /// Only those of this endpoint
    #[arg(long, value_name = "PATH")]
    pub endpoint: Option<String>,
    /// Only those of this server
    #[arg(long, value_name = "NAME")]
    pub server: Option<String>,
}

/// A server's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum StateArg {
    /// It takes calls.
    Online,
    /// It is listed only.
    Offline,
}

/// Where a server runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum SourceArg {
    /// In the program.
    Native,
    /// Elsewhere.
    Upstream,
}
