//! A server that offers all that the public MCP conformance suite asks for, in both eras, on rmcp.
//!
//! `conformance-server [ADDR]` serves `http://ADDR/mcp` and prints that URL. It is the upstream of `make conformance`
//! and knows nothing of a gateway.

mod ask;
mod asking;
mod catalog;
mod changes;
mod content;
mod forms;
mod hangup;
mod prompts;
mod resources;
mod service;
mod state;
mod tasks;
mod tools;

use std::sync::Arc;

use rmcp::transport::streamable_http_server::session::local::LocalSessionManager;
use rmcp::transport::streamable_http_server::{StreamableHttpServerConfig, StreamableHttpService};

use crate::service::{Fixture, Shared};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let addr = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:0".to_owned());
    let listener = tokio::net::TcpListener::bind(&addr).await?;
    let addr = listener.local_addr()?;
    let shared = Arc::new(Shared::new());
    // The suite sends a foreign Origin together with a foreign Host; both must be refused.
    let config = StreamableHttpServerConfig::default()
        .with_allowed_origins([format!("http://{addr}"), format!("http://localhost:{}", addr.port())]);
    let mcp = StreamableHttpService::new(
        move || Ok(Fixture::new(Arc::clone(&shared))),
        Arc::new(LocalSessionManager::default()),
        config,
    );
    let app = axum::Router::new()
        .route_service("/mcp", mcp)
        .layer(axum::middleware::from_fn(hangup::make_response_interruptible));
    println!("http://{addr}/mcp");
    axum::serve(listener, app).await?;
    Ok(())
}
