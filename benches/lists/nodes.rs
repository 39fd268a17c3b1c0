//! Nodes with many tools: one that serves many servers, and one that fronts them all. For the bench of lists and for the test that everything is
//! listed.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use ringhub::engine::seal::{KeyPair, SealKeys};
use ringhub::engine::{Endpoint, EngineConfig};
use ringhub::gateway::config::Options;
use ringhub::gateway::link::Dial;
use ringhub::gateway::{Dialect, Settings, Starts};
use ringhub::native::{BuildError, Context, Factory, Server, Tool};
use ringhub::rt;

/// A server with so many tools, `t0` and so on, each with a schema as tools have them.
pub fn server(name: String, tools: u32) -> Result<Server, BuildError> {
    #[derive(serde::Deserialize, schemars::JsonSchema)]
    struct Arguments {
        /// What to look for.
        #[expect(dead_code, reason = "it is there to be described")]
        query: String,
        /// How many to find at most.
        #[expect(dead_code, reason = "it is there to be described")]
        limit: Option<u32>,
    }
    let tool = |n: u32| Tool::new(format!("t{n}")).description(format!("Looks something up in the collection of number {n}"));
    let found = |_: Arguments, _: &Context| "found";
    (0..tools).fold(Server::builder(name, "1"), |server, n| server.tool(tool(n), found)).build()
}

/// Starts a node of one core, pinned when a CPU is named.
pub fn start(engine: EngineConfig, cpu: Option<usize>, servers: Vec<Arc<Factory>>) -> rt::Running {
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let config = rt::Config {
        listen: vec![any],
        admin: Some(any),
        cores: Some(1),
        cpus: cpu.map(|cpu| vec![cpu]),
        pin: cpu.is_some(),
        ..rt::Config::default()
    };
    rt::start(config, engine, servers).expect("it starts")
}

/// The engine's defaults with these endpoints.
pub fn engine(endpoints: Vec<Endpoint>) -> EngineConfig {
    EngineConfig { endpoints, ..EngineConfig::new(SealKeys::new(KeyPair::random().expect("randomness"))) }
}

/// A node that serves so many servers `sN` of so many tools each, `sN` at `/mcp/sN`.
pub fn back(servers: u32, tools: u32, cpu: Option<usize>) -> rt::Running {
    let endpoint = |n: u32| Endpoint { path: format!("/mcp/s{n}").into(), servers: [n].into(), upstreams: Box::default() };
    let factory = |n: u32| -> Arc<Factory> { Arc::new(move || server(format!("s{n}"), tools)) };
    start(engine((0..servers).map(endpoint).collect()), cpu, (0..servers).map(factory).collect())
}

/// A node that fronts the servers `sN` of `back` at `/mcp`. It is ready once all of them were seen.
pub fn front(back: SocketAddr, servers: u32, cpu: Option<usize>) -> rt::Running {
    let settings = |n: u32| Settings {
        name: format!("s{n}").into(),
        url: format!("http://{back}/mcp/s{n}").into(),
        dial: Arc::new(Dial::Tcp { host: back.ip().to_string().into(), port: back.port(), tls: false }),
        starts: Starts::new(&format!("/mcp/s{n}"), &back.to_string(), &[]).expect("what can be sent"),
        dialect: Dialect::Auto,
        connect_timeout: Duration::from_secs(5),
        first_byte_timeout: Duration::from_secs(10),
        idle_timeout: Duration::from_secs(60),
        total_timeout: Duration::from_secs(60),
        in_flight_max: 64,
        queued_max: 64,
        idle_links_max: 64,
        retries: true,
        options: Options { is_required: true, ..Options::default() },
    };
    let upstreams = (0..servers).map(|n| format!("s{n}").into()).collect();
    let endpoint = Endpoint { path: "/mcp".into(), servers: Box::default(), upstreams };
    start(EngineConfig { upstreams: (0..servers).map(settings).collect(), ..engine(vec![endpoint]) }, cpu, Vec::new())
}
