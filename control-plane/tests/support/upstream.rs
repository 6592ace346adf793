//! An upstream that somebody else's library serves (`rmcp`), and that can be changed, stopped and started again.
#![allow(dead_code, reason = "each test file uses its part")]

use std::net::SocketAddr;
use std::sync::Arc;

use rmcp::ServerHandler;
use rmcp::model::{
    ErrorData, Implementation, ListToolsResult, PaginatedRequestParams, ServerCapabilities, ServerConfig,
    SubscriptionFilter, Tool,
};
use rmcp::service::{RequestContext, RoleServer, SubscriptionContext};
use rmcp::transport::streamable_http_server::session::local::LocalSessionManager;
use rmcp::transport::streamable_http_server::{StreamableHttpServerConfig, StreamableHttpService};
use tokio::runtime::Runtime;
use tokio::sync::watch;

/// How many tools one page of its list has.
const PAGE: usize = 3;

pub(crate) struct Upstream {
    address: SocketAddr,
    tools: watch::Sender<Vec<String>>,
    /// Its own, so that stopping it breaks its connections.
    runtime: Option<Runtime>,
}

impl Upstream {
    pub(crate) fn start(tools: &[&str]) -> Self {
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        let tools = watch::Sender::new(tools.iter().map(ToString::to_string).collect());
        let mut upstream = Self { address, tools, runtime: None };
        upstream.restart();
        upstream
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/mcp", self.address)
    }

    /// Offers other tools, and says so to whoever listens.
    pub(crate) fn offer(&self, tools: &[&str]) {
        self.tools.send_replace(tools.iter().map(ToString::to_string).collect());
    }

    /// Is gone, connections and all.
    pub(crate) fn stop(&mut self) {
        self.runtime.take().unwrap().shutdown_background();
    }

    /// Is there again, at the same address.
    pub(crate) fn restart(&mut self) {
        let listener = std::net::TcpListener::bind(self.address).unwrap();
        listener.set_nonblocking(true).unwrap();
        self.address = listener.local_addr().unwrap();
        let handler = Handler { tools: self.tools.clone() };
        let service: StreamableHttpService<Handler, LocalSessionManager> = StreamableHttpService::new(
            move || Ok(handler.clone()),
            Arc::default(),
            StreamableHttpServerConfig::default(),
        );
        let router = axum::Router::new().nest_service("/mcp", service);
        let runtime = Runtime::new().unwrap();
        runtime.spawn(async move {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            axum::serve(listener, router).await
        });
        self.runtime = Some(runtime);
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

#[derive(Clone)]
struct Handler {
    tools: watch::Sender<Vec<String>>,
}

impl ServerHandler for Handler {
    fn get_info(&self) -> ServerConfig {
        ServerConfig::new(ServerCapabilities::builder().enable_tools().enable_tool_list_changed().build())
            .with_server_info(Implementation::new("shelf", "1.2.3"))
    }

    async fn list_tools(
        &self,
        request: Option<PaginatedRequestParams>,
        _context: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        let from = request.and_then(|request| request.cursor).map_or(0, |cursor| cursor.parse().unwrap());
        let tools = self.tools.borrow().clone();
        let page = tools.iter().skip(from).take(PAGE);
        let page = page.map(|name| Tool::new(name.clone(), "does it", serde_json::Map::new())).collect();
        let mut page = ListToolsResult::with_all_items(page);
        page.next_cursor = (from + PAGE < tools.len()).then(|| (from + PAGE).to_string());
        Ok(page)
    }

    fn accepted_subscription_filter(&self, requested: &SubscriptionFilter) -> Option<SubscriptionFilter> {
        Some(requested.supported_by(&self.get_info().capabilities))
    }

    async fn listen(&self, context: SubscriptionContext) -> Result<(), ErrorData> {
        let mut tools = self.tools.subscribe();
        while tools.changed().await.is_ok() && context.sink().notify_tool_list_changed().await.is_ok() {}
        Ok(())
    }
}
