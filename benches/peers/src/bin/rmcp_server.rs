//! `rmcp_server --listen ADDR --cpu N`: the same echo tool on the official Rust SDK,
//! set up for speed: stateless, JSON replies, one pinned thread, mimalloc.
//! `rmcp_server stdio` serves it over standard input and output.

use axum::serve::ListenerExt;
use ringhub_bench_peers::flags::{Flags, pin};
use rmcp::handler::server::router::tool::ToolRouter;
use rmcp::handler::server::wrapper::Parameters;
use rmcp::transport::streamable_http_server::session::never::NeverSessionManager;
use rmcp::transport::{StreamableHttpServerConfig, StreamableHttpService, stdio};
use rmcp::{ServerHandler, ServiceExt, tool, tool_handler, tool_router};
use std::sync::Arc;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(serde::Deserialize, schemars::JsonSchema)]
struct EchoArguments {
    /// What to send back.
    message: String,
}

#[derive(Clone)]
struct Echo {
    tool_router: ToolRouter<Self>,
}

#[tool_router]
impl Echo {
    #[tool(description = "Answers the message as text")]
    fn echo(&self, Parameters(EchoArguments { message }): Parameters<EchoArguments>) -> String {
        message
    }
}

#[tool_handler(router = self.tool_router)]
impl ServerHandler for Echo {}

fn main() {
    if let Err(why) = serve() {
        eprintln!("rmcp_server: {why}");
        std::process::exit(1);
    }
}

fn serve() -> Result<(), String> {
    let mut args = std::env::args().skip(1).peekable();
    if args.next_if(|first| first == "stdio").is_some() {
        return run(piped());
    }
    let flags = Flags::parse(args)?;
    if let Some(cpu) = flags.cpu {
        pin(cpu).map_err(|e| format!("--cpu {cpu}: {e}"))?;
    }
    run(listen(&flags))
}

fn run(served: impl Future<Output = std::io::Result<()>>) -> Result<(), String> {
    tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .build()
        .and_then(|runtime| runtime.block_on(served))
        .map_err(|e| e.to_string())
}

async fn piped() -> std::io::Result<()> {
    let echo = Echo { tool_router: Echo::tool_router() };
    let running = echo.serve(stdio()).await.map_err(std::io::Error::other)?;
    running.waiting().await.map(|_| ()).map_err(std::io::Error::other)
}

async fn listen(flags: &Flags) -> std::io::Result<()> {
    let config = StreamableHttpServerConfig::default().with_legacy_session_mode(false).with_json_response(true);
    // The service asks for a handler per request: a shared one spares it the building.
    let echo = Echo { tool_router: Echo::tool_router() };
    let sessions = Arc::new(NeverSessionManager::default());
    let service = StreamableHttpService::new(move || Ok(echo.clone()), sessions, config);
    let app = axum::Router::new().route_service("/mcp", service);
    let listener = tokio::net::TcpListener::bind(flags.listen).await?;
    println!("http://{}/mcp", listener.local_addr()?);
    let listener = listener.tap_io(|stream| {
        // A connection that cannot take the option is served all the same.
        let _ = stream.set_nodelay(true);
    });
    axum::serve(listener, app).await
}
