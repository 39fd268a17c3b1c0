//! `rmcp_relay --listen ADDR --cpu N --upstream URL [--era legacy|modern]`: what a gateway on the official Rust SDK costs. A server whose handler hands each call to
//! a client of the upstream, set up for speed: stateless, JSON replies, pooled connections upstream, one pinned thread, mimalloc.

use axum::serve::ListenerExt;
use ringhub_bench_peers::flags::{Flags, pin};
use rmcp::model::{
    CallToolRequestParams, CallToolResponse, ErrorData, ListToolsResult, PaginatedRequestParams, ProtocolVersion, ServerCapabilities,
    ServerConfig,
};
use rmcp::service::{RequestContext, RunningService, ServiceError};
use rmcp::transport::streamable_http_client::StreamableHttpClientTransportConfig;
use rmcp::transport::streamable_http_server::session::never::NeverSessionManager;
use rmcp::transport::{StreamableHttpClientTransport, StreamableHttpServerConfig, StreamableHttpService};
use rmcp::{ClientLifecycleMode, ClientServiceExt, Peer, RoleClient, RoleServer, ServerHandler};
use std::error::Error;
use std::sync::Arc;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Requests to the upstream at once, and connections kept for them: more than any load here asks for.
const IN_FLIGHT_MAX: usize = 1024;

/// Hands on what it is asked.
#[derive(Clone)]
struct Relay {
    upstream: Peer<RoleClient>,
}

fn handed_on(error: ServiceError) -> ErrorData {
    match error {
        ServiceError::McpError(error) => error,
        other => ErrorData::internal_error(other.to_string(), None),
    }
}

impl ServerHandler for Relay {
    fn get_info(&self) -> ServerConfig {
        ServerConfig::new(ServerCapabilities::builder().enable_tools().build())
    }

    async fn list_tools(
        &self,
        request: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        self.upstream.list_tools(request).await.map_err(handed_on)
    }

    async fn call_tool(&self, request: CallToolRequestParams, _: RequestContext<RoleServer>) -> Result<CallToolResponse, ErrorData> {
        self.upstream.call_tool(request).await.map(Into::into).map_err(handed_on)
    }
}

fn main() {
    if let Err(why) = serve() {
        eprintln!("rmcp_relay: {why}");
        std::process::exit(1);
    }
}

fn serve() -> Result<(), Box<dyn Error>> {
    let flags = Flags::parse(std::env::args().skip(1))?;
    let upstream = flags.upstream.clone().ok_or("--upstream URL is needed: where calls go")?;
    if let Some(cpu) = flags.cpu {
        pin(cpu).map_err(|e| format!("--cpu {cpu}: {e}"))?;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
    runtime.block_on(async {
        let client = connect(&upstream, flags.era.as_deref()).await?;
        listen(&flags, client.peer().clone()).await
    })
}

/// A client of the upstream. The transport's own HTTP client keeps no connections, which no relay could afford.
async fn connect(upstream: &str, era: Option<&str>) -> Result<RunningService<RoleClient, ()>, Box<dyn Error>> {
    let http = reqwest::Client::builder().pool_max_idle_per_host(IN_FLIGHT_MAX).tcp_nodelay(true).no_proxy().build()?;
    let mut config = StreamableHttpClientTransportConfig::with_uri(upstream).max_concurrent_requests(IN_FLIGHT_MAX);
    config.channel_buffer_capacity = IN_FLIGHT_MAX;
    let transport = StreamableHttpClientTransport::with_client(http, config);
    let lifecycle = match era {
        Some("legacy") => ClientLifecycleMode::Initialize,
        _ => ClientLifecycleMode::Discover { preferred_versions: vec![ProtocolVersion::V_2026_07_28] },
    };
    Ok(().serve_with_lifecycle(transport, lifecycle).await?)
}

async fn listen(flags: &Flags, upstream: Peer<RoleClient>) -> Result<(), Box<dyn Error>> {
    let config = StreamableHttpServerConfig::default().with_legacy_session_mode(false).with_json_response(true);
    let relay = Relay { upstream };
    let sessions = Arc::new(NeverSessionManager::default());
    let service = StreamableHttpService::new(move || Ok(relay.clone()), sessions, config);
    let app = axum::Router::new().route_service("/mcp", service);
    let listener = tokio::net::TcpListener::bind(flags.listen).await?;
    println!("http://{}/mcp", listener.local_addr()?);
    let listener = listener.tap_io(|stream| {
        // A connection that cannot take the option is served all the same.
        let _ = stream.set_nodelay(true);
    });
    Ok(axum::serve(listener, app).await?)
}
