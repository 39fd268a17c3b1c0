//! Flags, environment and file become one validated configuration. Everything that is wrong is reported at once.

mod mcp_servers;
mod profile;
mod protect;
mod reread;
mod servers;
mod upstream;

use crate::base::limits;
use crate::cli::{Eras, IoUring, Protect, Separator, ServeArgs};
use crate::engine::seal::{KeyPair, SealKeys};
use crate::engine::upstream::duration;
use crate::engine::{self, EngineConfig};
use crate::wire::http1::HttpLimits;
use crate::{gateway, registry, rt};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

pub use upstream::{Endpoint, Upstream};

/// The configuration in force. Serialised, it is the file that would give the same.
#[derive(Clone, Debug, Serialize)]
pub struct Config {
    /// Addresses that serve MCP.
    pub listen: Vec<SocketAddr>,
    /// Address of the admin port.
    #[serde(serialize_with = "address_or_off")]
    pub admin: Option<SocketAddr>,
    /// Number of cores; `None` for every allowed CPU.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cores: Option<usize>,
    /// CPUs to run on; `None` for every allowed one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpus: Option<Vec<usize>>,
    /// Whether other processes may serve at the same addresses.
    pub share_port: bool,
    /// Whether each core's thread is pinned to its CPU.
    pub pin: bool,
    /// Registry shards.
    pub shards: u16,
    /// Most registered servers.
    pub max_servers: usize,
    /// Most endpoints.
    pub max_endpoints: usize,
    /// Microseconds a core looks for work before it sleeps.
    pub spin_us: u64,
    /// io_uring operations in use.
    pub io_uring: IoUring,
    /// Most open connections; `None` for what the limit of open files allows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_connections: Option<usize>,
    /// Most legacy sessions per core.
    pub max_sessions: usize,
    /// Longest request body, bytes.
    pub max_body_bytes: usize,
    /// Time a request may take to be answered.
    #[serde(serialize_with = "seconds")]
    pub request_timeout: Duration,
    /// Time a connection may stay idle.
    #[serde(serialize_with = "seconds")]
    pub idle_timeout: Duration,
    /// Time a head may take to arrive.
    #[serde(serialize_with = "seconds")]
    pub head_timeout: Duration,
    /// Time a body may take to arrive.
    #[serde(serialize_with = "seconds")]
    pub body_timeout: Duration,
    /// Time a client may take to read what waits for it.
    #[serde(serialize_with = "seconds")]
    pub write_timeout: Duration,
    /// Time a legacy session may stay unused.
    #[serde(serialize_with = "seconds")]
    pub session_timeout: Duration,
    /// Time that work in flight has to finish when the server stops.
    #[serde(serialize_with = "seconds")]
    pub drain_timeout: Duration,
    /// Origins allowed besides those of this machine.
    pub allowed_origin: Vec<String>,
    /// Hosts allowed besides those of this machine.
    pub allowed_host: Vec<String>,
    /// The URL below which clients reach endpoints, when it is not the address that is served.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub public_url: Option<String>,
    /// Protocol eras spoken.
    pub era: Eras,
    /// What names of tools and prompts are joined with.
    pub name_separator: Separator,
    /// File of the sealing keys.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seal_key: Option<PathBuf>,
    /// File of certificate authorities that upstreams may have their certificates of, besides the host's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upstream_ca: Option<PathBuf>,
    /// Directory that keeps what is registered while it runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<PathBuf>,
    /// File of the token that writing to the admin port needs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub admin_token_file: Option<PathBuf>,
    /// Threads for blocking tools.
    pub blocking_threads: usize,
    /// Whether the control API may register servers that are started by a command.
    pub allow_stdio_api: bool,
    /// What is logged.
    pub log: String,
    /// What is refused early.
    pub protect: Protect,
    /// The servers that are fronted, wherever they were named. Secrets are not written out.
    #[serde(rename = "upstream", skip_serializing_if = "Vec::is_empty")]
    pub upstreams: Vec<Upstream>,
    /// Paths, and the servers bound to them.
    #[serde(rename = "endpoint", skip_serializing_if = "Vec::is_empty")]
    pub endpoints: Vec<Endpoint>,
    /// The same upstreams as every core is told of them, secrets included.
    #[serde(skip)]
    fronted: Arc<[gateway::Settings]>,
}

/// The file as it is written: every key optional, unknown ones refused.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    listen: Option<Vec<String>>,
    admin: Option<String>,
    cores: Option<usize>,
    cpus: Option<Cpus>,
    share_port: Option<bool>,
    pin: Option<bool>,
    shards: Option<u16>,
    max_servers: Option<usize>,
    max_endpoints: Option<usize>,
    spin_us: Option<u64>,
    io_uring: Option<IoUring>,
    max_connections: Option<usize>,
    max_sessions: Option<usize>,
    max_body_bytes: Option<usize>,
    request_timeout: Option<f64>,
    idle_timeout: Option<f64>,
    head_timeout: Option<f64>,
    body_timeout: Option<f64>,
    write_timeout: Option<f64>,
    session_timeout: Option<f64>,
    drain_timeout: Option<f64>,
    allowed_origin: Option<Vec<String>>,
    allowed_host: Option<Vec<String>>,
    public_url: Option<String>,
    era: Option<Eras>,
    name_separator: Option<Separator>,
    seal_key: Option<PathBuf>,
    upstream_ca: Option<PathBuf>,
    state: Option<PathBuf>,
    admin_token_file: Option<PathBuf>,
    blocking_threads: Option<usize>,
    mcp_servers: Option<PathBuf>,
    allow_stdio_api: Option<bool>,
    log: Option<String>,
    #[serde(default)]
    protect: Protect,
    #[serde(default)]
    upstream: Vec<Upstream>,
    #[serde(default)]
    endpoint: Vec<Endpoint>,
}

/// CPUs as a list of numbers or as text such as `0,2-5`.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Cpus {
    Numbers(Vec<usize>),
    Text(String),
}

/// Everything that is wrong with a configuration, one line each.
#[derive(Debug, PartialEq, Eq)]
pub struct Problems(pub Vec<String>);

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for problem in &self.0 {
            writeln!(f, "  - {problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

impl Config {
    /// Reads the file that `args` name, if any, and lays the flags over it.
    ///
    /// # Errors
    /// Everything that is wrong, together.
    pub fn load(args: &ServeArgs) -> Result<Self, Problems> {
        let file = match &args.config {
            Some(path) => read(path).map_err(|problem| Problems(vec![problem]))?,
            None => File::default(),
        };
        Resolver::default().resolve(args, file)
    }

    /// What the shell is told.
    #[must_use]
    pub fn shell(&self) -> rt::Config {
        rt::Config {
            listen: self.listen.clone(),
            admin: self.admin,
            cores: self.cores,
            cpus: self.cpus.clone(),
            is_port_shared: self.share_port,
            pin: self.pin,
            spin: Duration::from_micros(self.spin_us),
            connections_max: self.max_connections,
            accept_queue: self.accept_queue(),
            arrivals_max: self.protect.accept_rate,
            memory_max: self.protect.memory_limit,
            pending_conn_max: self.protect.max_pending_connection.unwrap_or(limits::PENDING_PER_CONN_DEFAULT),
            pending_core_max: self.protect.max_pending.unwrap_or(limits::PENDING_DEFAULT),
            late_target: self.protect.late_ms.map(Duration::from_millis),
            idle_timeout: self.idle_timeout,
            head_timeout: self.head_timeout,
            body_timeout: self.body_timeout,
            write_timeout: self.write_timeout,
            drain_timeout: self.drain_timeout,
            http: HttpLimits { head_bytes_max: limits::HEAD_BYTES_MAX, body_bytes_max: self.max_body_bytes },
            blocking_threads: self.blocking_threads,
            state: self.state.clone(),
            ca_file: self.upstream_ca.clone(),
            ring: if matches!(self.io_uring, IoUring::Auto) { rt::RingChoice::Auto } else { rt::RingChoice::Legacy },
        }
    }

    /// What every engine is told. Reads the sealing keys.
    ///
    /// # Errors
    /// What is wrong with the keys.
    pub fn engine(&self) -> Result<EngineConfig, Problems> {
        let keys = match &self.seal_key {
            Some(path) => read_keys(path),
            None => KeyPair::random().map_err(|error| format!("no key can be made: {error}; give one with --seal-key")),
        };
        let keys = keys.map_err(|problem| Problems(vec![problem]))?;
        Ok(EngineConfig {
            era: match self.era {
                Eras::Legacy => engine::Eras::Legacy,
                Eras::Modern => engine::Eras::Modern,
                Eras::Both => engine::Eras::Both,
            },
            name_separator: match self.name_separator {
                Separator::Dot => engine::Separator::Dot,
                Separator::Underscore => engine::Separator::Underscore,
                Separator::Dash => engine::Separator::Dash,
            },
            registry: registry::Config {
                shards: self.shards,
                servers_max: self.max_servers,
                endpoints_max: self.max_endpoints,
                ..registry::Config::default()
            },
            request_timeout: self.request_timeout,
            allowed_origins: self.allowed_origin.clone(),
            allowed_hosts: self.allowed_host.clone(),
            public_url: self.public_url.clone(),
            local_only: !self.is_exposed(),
            session_idle_timeout: self.session_timeout,
            sessions_max: self.max_sessions,
            upstreams: Arc::clone(&self.fronted),
            endpoints: self.engine_endpoints(),
            stdio_api: self.allow_stdio_api,
            guard: self.guard(),
            memory_max: self.protect.memory_limit,
            ..EngineConfig::new(SealKeys::new(keys))
        })
    }

    /// The endpoints that are there from the start: those of the file, and `/mcp`, which has everything unless the file says otherwise.
    fn engine_endpoints(&self) -> Vec<engine::Endpoint> {
        let own = engine::Endpoint {
            path: DEFAULT_PATH.into(),
            servers: [0].into(),
            upstreams: self.upstreams.iter().map(|upstream| upstream.name.as_str().into()).collect(),
        };
        let own = (!self.endpoints.iter().any(|endpoint| endpoint.path == DEFAULT_PATH)).then_some(own);
        let bound = |endpoint: &Endpoint| engine::Endpoint {
            path: endpoint.path.as_str().into(),
            servers: Box::default(),
            upstreams: endpoint.servers.iter().map(|name| name.as_str().into()).collect(),
        };
        own.into_iter().chain(self.endpoints.iter().map(bound)).collect()
    }

    /// The configuration as TOML.
    #[must_use]
    pub fn to_toml(&self) -> String {
        toml::to_string(self).unwrap_or_else(|error| format!("# the configuration cannot be written as TOML: {error}\n"))
    }

    /// Whether an address that is served can be reached from other machines.
    #[must_use]
    pub fn is_exposed(&self) -> bool {
        self.listen.iter().chain(&self.admin).any(|address| !address.ip().is_loopback())
    }
}

/// Where clients find everything.
const DEFAULT_PATH: &str = "/mcp";

fn read_keys(path: &Path) -> Result<KeyPair, String> {
    let text = std::fs::read_to_string(path).map_err(|error| format!("--seal-key {}: {error}", path.display()))?;
    KeyPair::parse(&text).map_err(|error| format!("--seal-key {}: {error}", path.display()))
}

fn read(path: &Path) -> Result<File, String> {
    let text = std::fs::read_to_string(path).map_err(|error| format!("--config {}: {error}", path.display()))?;
    toml::from_str(&text).map_err(|error| format!("--config {}: {}", path.display(), error.to_string().trim_end()))
}

/// Collects what is wrong while the parts are put together.
#[derive(Default)]
struct Resolver {
    problems: Vec<String>,
}

impl Resolver {
    fn resolve(mut self, args: &ServeArgs, file: File) -> Result<Config, Problems> {
        let listen = if args.listen.is_empty() { file.listen.unwrap_or_default() } else { args.listen.clone() };
        let profile = profile::file(args.profile);
        let seconds_of = |flag: Option<f64>, file: Option<f64>, default: f64| flag.or(file).unwrap_or(default);
        let upstreams = self.upstreams(args, file.mcp_servers.as_deref(), file.upstream);
        let fronted: Vec<_> = upstreams.iter().filter_map(|upstream| upstream.resolve(&mut self.problems)).collect();
        let config = Config {
            listen: self.listen(&listen),
            admin: self.admin(args.admin.as_deref().or(file.admin.as_deref())),
            cores: args.cores.or(file.cores),
            cpus: self.cpus(args.cpus.as_deref(), file.cpus),
            share_port: args.share_port || file.share_port.unwrap_or(false),
            pin: !args.no_pin && file.pin.unwrap_or(true),
            shards: args.shards.or(file.shards).unwrap_or(limits::SHARDS_DEFAULT),
            max_servers: args.max_servers.or(file.max_servers).unwrap_or(limits::SERVERS_DEFAULT),
            max_endpoints: args.max_endpoints.or(file.max_endpoints).unwrap_or(limits::ENDPOINTS_DEFAULT),
            spin_us: args.spin_us.or(file.spin_us).unwrap_or(0),
            io_uring: args.io_uring.or(file.io_uring).unwrap_or_default(),
            max_connections: args.max_connections.or(file.max_connections).or(profile.max_connections),
            max_sessions: args.max_sessions.or(file.max_sessions).unwrap_or(limits::SESSIONS_PER_CORE_DEFAULT),
            max_body_bytes: args.max_body_bytes.or(file.max_body_bytes).unwrap_or(limits::BODY_BYTES_DEFAULT),
            request_timeout: self.timeout("request-timeout", seconds_of(args.request_timeout, file.request_timeout, 60.0)),
            idle_timeout: self.timeout("idle-timeout", seconds_of(args.idle_timeout, file.idle_timeout, 600.0)),
            head_timeout: self.timeout("head-timeout", seconds_of(args.head_timeout, file.head_timeout, 10.0)),
            body_timeout: self.timeout("body-timeout", seconds_of(args.body_timeout, file.body_timeout, 30.0)),
            write_timeout: self.timeout("write-timeout", seconds_of(args.write_timeout, file.write_timeout, 30.0)),
            session_timeout: self.timeout("session-timeout", seconds_of(args.session_timeout, file.session_timeout, 1800.0)),
            drain_timeout: self.timeout("drain-timeout", seconds_of(args.drain_timeout, file.drain_timeout, 30.0)),
            allowed_origin: either(&args.allowed_origin, file.allowed_origin),
            allowed_host: either(&args.allowed_host, file.allowed_host),
            public_url: args.public_url.clone().or(file.public_url),
            era: args.era.or(file.era).unwrap_or_default(),
            name_separator: args.name_separator.or(file.name_separator).unwrap_or_default(),
            seal_key: args.seal_key.clone().or(file.seal_key),
            upstream_ca: upstream::authorities(args.upstream_ca.clone().or(file.upstream_ca), &mut self.problems),
            state: args.state.clone().or(file.state),
            admin_token_file: args.admin_token_file.clone().or(file.admin_token_file),
            blocking_threads: args.blocking_threads.or(file.blocking_threads).unwrap_or(4),
            allow_stdio_api: args.allow_stdio_api || file.allow_stdio_api.unwrap_or(false),
            protect: args.protect.or(&file.protect).or(&profile.protect),
            upstreams,
            endpoints: file.endpoint,
            fronted: fronted.into(),
            log: args.log.clone().or(file.log).unwrap_or_else(|| "info".to_owned()),
        };
        self.relations(&config);
        self.protect(&config.protect);
        self.endpoints(&config.endpoints);
        if self.problems.is_empty() { Ok(config) } else { Err(Problems(self.problems)) }
    }

    fn relations(&mut self, config: &Config) {
        self.within("shards", config.shards.into(), 1, limits::SHARDS_MAX.into());
        self.within("max-servers", config.max_servers, 1, u32::MAX as usize);
        self.within("max-endpoints", config.max_endpoints, 1, u32::MAX as usize);
        self.within("max-sessions", config.max_sessions, 1, u32::MAX as usize);
        self.within("max-body-bytes", config.max_body_bytes, 1024, 1 << 30);
        self.within("blocking-threads", config.blocking_threads, 1, 1024);
        self.within("spin-us", usize::try_from(config.spin_us).unwrap_or(usize::MAX), 0, 1_000_000);
        if let Some(cores) = config.cores {
            self.within("cores", cores, 1, limits::CORES_MAX);
        }
        if let Some(connections) = config.max_connections {
            self.within("max-connections", connections, 1, u32::MAX as usize);
        }
        if let (Some(cores), Some(cpus), true) = (config.cores, &config.cpus, config.pin)
            && cores > cpus.len()
        {
            self.problems.push(format!("--cores {cores} needs as many CPUs, and --cpus names {}: name more, or use --no-pin", cpus.len()));
        }
        if let Some(url) = &config.public_url
            && !is_base_url(url)
        {
            self.problems.push(format!("--public-url {url}: not a URL that paths can follow; write it as https://hub.example"));
        }
        if config.admin.is_some_and(|admin| admin.port() != 0 && config.listen.contains(&admin)) {
            self.problems.push("--admin is also an address of --listen: give it a port of its own, or --admin off".to_owned());
        }
    }

    fn within(&mut self, flag: &str, value: usize, least: usize, most: usize) {
        if !(least..=most).contains(&value) {
            self.problems.push(format!("--{flag} {value}: it must be from {least} to {most}"));
        }
    }

    fn timeout(&mut self, flag: &str, seconds: f64) -> Duration {
        duration(seconds).unwrap_or_else(|| {
            self.problems.push(format!("--{flag} {seconds}: it must be a number of seconds above 0, a year at most"));
            Duration::ZERO
        })
    }

    fn listen(&mut self, texts: &[String]) -> Vec<SocketAddr> {
        if texts.is_empty() {
            return vec![SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8080)];
        }
        texts.iter().filter_map(|text| self.address("listen", text)).collect()
    }

    fn admin(&mut self, text: Option<&str>) -> Option<SocketAddr> {
        match text {
            None => Some(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9090)),
            Some("off") => None,
            Some(text) => self.address("admin", text),
        }
    }

    fn address(&mut self, flag: &str, text: &str) -> Option<SocketAddr> {
        match text.to_socket_addrs().map(|mut found| found.next()) {
            Ok(Some(address)) => Some(address),
            _ => {
                self.problems.push(format!("--{flag} {text}: not an address; write it as 127.0.0.1:8080 or [::1]:8080"));
                None
            }
        }
    }

    fn cpus(&mut self, flag: Option<&str>, file: Option<Cpus>) -> Option<Vec<usize>> {
        let parsed = match (flag, file) {
            (Some(text), _) => parse_cpus(text),
            (None, Some(Cpus::Text(text))) => parse_cpus(&text),
            (None, Some(Cpus::Numbers(numbers))) => Ok(numbers),
            (None, None) => return None,
        };
        parsed.map_err(|problem| self.problems.push(format!("--cpus {problem}"))).ok()
    }
}

/// Whether an endpoint's path makes a URL of it when it stands behind this.
fn is_base_url(url: &str) -> bool {
    let rest = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://"));
    let is_legal = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'?' | b'#' | b'"' | b'<' | b'>' | b'\\' | b'{' | b'}' | b'@');
    rest.is_some_and(|rest| !rest.is_empty() && !rest.starts_with('/') && rest.bytes().all(is_legal))
}

fn either(flag: &[String], file: Option<Vec<String>>) -> Vec<String> {
    if flag.is_empty() { file.unwrap_or_default() } else { flag.to_vec() }
}

/// Reads a list such as `0,2-5`.
fn parse_cpus(text: &str) -> Result<Vec<usize>, String> {
    const CPUS_MAX: usize = 4096;
    let wrong = || format!("{text}: not a list of CPUs; write it as 0,2-5");
    let mut cpus = Vec::new();
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let first: usize = first.trim().parse().map_err(|_| wrong())?;
        let last: usize = last.trim().parse().map_err(|_| wrong())?;
        if first > last || last >= CPUS_MAX {
            return Err(wrong());
        }
        cpus.extend(first..=last);
    }
    cpus.sort_unstable();
    cpus.dedup();
    Ok(cpus)
}

fn seconds<S: serde::Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(duration.as_secs_f64())
}

#[expect(clippy::ref_option, reason = "serde hands the field itself")]
fn address_or_off<S: serde::Serializer>(address: &Option<SocketAddr>, serializer: S) -> Result<S::Ok, S::Error> {
    match address {
        Some(address) => serializer.collect_str(address),
        None => serializer.serialize_str("off"),
    }
}

#[cfg(test)]
mod tests;
