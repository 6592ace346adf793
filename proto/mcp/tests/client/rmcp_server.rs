//! Against a server that somebody else wrote, in both eras.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use http::HeaderMap;
use mcp::client::{
    ChangeNotice, ClientError, ClientInfo, Endpoint, Findings, Probe, Reach, Session, Transport, Url, probe,
};
use mcp::header::mirrored_params;
use mcp::method::Method;
use mcp::revision::Revision;
use rmcp::ServerHandler;
use rmcp::model::{
    CallToolRequestParams, CallToolResponse, CallToolResult, ContentBlock, ErrorData, Implementation,
    ListToolsResult, PaginatedRequestParams, ProgressNotificationParam, ServerCapabilities, ServerConfig,
    SubscriptionFilter, Tool,
};
use rmcp::service::{RequestContext, RoleServer, SubscriptionContext};
use rmcp::transport::streamable_http_server::session::local::LocalSessionManager;
use rmcp::transport::streamable_http_server::{StreamableHttpServerConfig, StreamableHttpService};
use tokio::sync::Notify;

/// A server with seven tools on three pages, that tells of a change when it is told to.
#[derive(Clone)]
struct Tools {
    changed: Arc<Notify>,
}

const SCHEMA: &str = r#"{"type":"object","properties":{"text":{"type":"string","x-mcp-header":"Text"}}}"#;

impl ServerHandler for Tools {
    fn get_info(&self) -> ServerConfig {
        ServerConfig::new(ServerCapabilities::builder().enable_tools().enable_tool_list_changed().build())
            .with_server_info(Implementation::new("seven", "1.2.3"))
            .with_instructions("count them")
    }

    async fn list_tools(
        &self,
        request: Option<PaginatedRequestParams>,
        _context: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        let from = request.and_then(|r| r.cursor).map_or(0, |cursor| cursor.parse().unwrap());
        let tools = (from..7).take(3).map(|n| self.get_tool(&format!("tool{n}")).unwrap()).collect();
        let mut page = ListToolsResult::with_all_items(tools);
        page.next_cursor = (from + 3 < 7).then(|| (from + 3).to_string());
        Ok(page)
    }

    fn get_tool(&self, name: &str) -> Option<Tool> {
        let schema: serde_json::Map<_, _> = serde_json::from_str(SCHEMA).unwrap();
        name.starts_with("tool").then(|| Tool::new(name.to_owned(), "counts", schema))
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        if !request.name.starts_with("tool") {
            return Err(ErrorData::invalid_params("no such tool", None));
        }
        if let Some(token) = context.meta.get_progress_token() {
            let progress = ProgressNotificationParam::new(token, 1.0);
            context.peer.notify_progress(progress).await.unwrap();
        }
        if request.name == "tool6" {
            context.peer.notify_tool_list_changed().await.unwrap();
        }
        let text = request.arguments.and_then(|a| Some(a.get("text")?.as_str()?.to_owned()));
        Ok(CallToolResult::success(vec![ContentBlock::text(text.unwrap_or_default())]).into())
    }

    fn accepted_subscription_filter(&self, requested: &SubscriptionFilter) -> Option<SubscriptionFilter> {
        Some(requested.supported_by(&self.get_info().capabilities))
    }

    async fn listen(&self, context: SubscriptionContext) -> Result<(), ErrorData> {
        self.changed.notified().await;
        context.sink().notify_tool_list_changed().await.unwrap();
        Ok(())
    }
}

struct Server {
    endpoint: Endpoint,
    changed: Arc<Notify>,
}

async fn serve(sessions: bool) -> Server {
    let changed = Arc::new(Notify::new());
    let handler = Tools { changed: changed.clone() };
    let config = StreamableHttpServerConfig::default().with_legacy_session_mode(sessions);
    let service: StreamableHttpService<Tools, LocalSessionManager> =
        StreamableHttpService::new(move || Ok(handler.clone()), Arc::default(), config);
    let router = axum::Router::new().nest_service("/mcp", service);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = Url::parse(&format!("http://{}/mcp", listener.local_addr().unwrap())).unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await });
    Server {
        endpoint: Endpoint {
            url,
            headers: HeaderMap::new(),
            timeout: Duration::from_secs(10),
            reach: Reach::System,
        },
        changed,
    }
}

fn info() -> ClientInfo {
    ClientInfo { name: "test".to_owned(), version: "0".to_owned() }
}

const BOTH: [Revision; 2] = [Revision::LATEST_LEGACY, Revision::LATEST];

#[tokio::test]
async fn both_sides_are_found() {
    let server = serve(true).await;
    let Findings { verdict, quirks, .. } = probe(&server.endpoint, &info()).await;
    let Probe { modern, legacy, server_name, server_version, instructions, transport } = verdict.unwrap();
    let (modern, legacy) = (modern.unwrap(), legacy.unwrap());
    assert_eq!(modern.versions, [Revision::V2026_07_28]);
    assert_eq!(modern.capabilities, r#"{"tools":{"listChanged":true}}"#);
    assert_eq!(legacy.version, Revision::V2025_11_25);
    assert_eq!(legacy.capabilities, r#"{"tools":{"listChanged":true}}"#);
    assert!(legacy.sessionful);
    assert_eq!((server_name.as_str(), server_version.as_str()), ("seven", "1.2.3"));
    assert_eq!(instructions.as_deref(), Some("count them"));
    assert_eq!((transport, quirks), (Transport::StreamableHttp, vec![]));
}

#[tokio::test]
async fn a_server_without_sessions_is_seen_as_such() {
    let server = serve(false).await;
    let found = probe(&server.endpoint, &info()).await.verdict.unwrap();
    assert!(!found.legacy.unwrap().sessionful);
}

#[tokio::test]
async fn every_page_of_a_list_is_read() {
    let server = serve(true).await;
    for revision in BOTH {
        let session =
            Session::open(&server.endpoint, Transport::StreamableHttp, revision, info()).await.unwrap();
        let tools = session.list_all(Method::ToolsList, 7).await.unwrap();
        let names: Vec<_> = tools
            .iter()
            .map(|raw| {
                mcp::json::string(mcp::json::members(raw, ["name"]).unwrap()[0].unwrap())
                    .unwrap()
                    .into_owned()
            })
            .collect();
        assert_eq!(names, ["tool0", "tool1", "tool2", "tool3", "tool4", "tool5", "tool6"]);
        let schema = format!(r#"{{"description":"counts","inputSchema":{SCHEMA},"name":"tool0"}}"#);
        let wanted: serde_json::Value = serde_json::from_str(&schema).unwrap();
        assert_eq!(serde_json::from_str::<serde_json::Value>(&tools[0]).unwrap(), wanted);
        assert_eq!(
            session.list_all(Method::ToolsList, 6).await,
            Err(ClientError::TooMany { method: "tools/list", limit: 6, unit: "entries" })
        );
        session.close().await;
    }
}

#[tokio::test]
async fn a_call_is_answered_and_its_progress_told() {
    let server = serve(true).await;
    let mirrored = mirrored_params(SCHEMA).unwrap();
    for revision in BOTH {
        let session =
            Session::open(&server.endpoint, Transport::StreamableHttp, revision, info()).await.unwrap();
        let params = r#"{"name":"tool1","arguments":{"text":"né"},"_meta":{"progressToken":"p1"}}"#;
        let mut told = Vec::new();
        let result = session
            .request_streaming("tools/call", params, &mirrored, |method, params| {
                told.push((method.to_owned(), params.unwrap_or_default().to_owned()));
            })
            .await
            .unwrap();
        assert!(result.contains(r#"{"type":"text","text":"né"}"#), "{result}");
        let [(method, params)] = &told[..] else { panic!("{told:?}") };
        assert_eq!(method, "notifications/progress");
        let params: serde_json::Value = serde_json::from_str(params).unwrap();
        assert_eq!(params, serde_json::json!({"progressToken": "p1", "progress": 1.0}));
        session.close().await;
    }
}

#[tokio::test]
async fn errors_of_a_server_are_typed() {
    let server = serve(true).await;
    for revision in BOTH {
        let session =
            Session::open(&server.endpoint, Transport::StreamableHttp, revision, info()).await.unwrap();
        let refused = session.request("tools/call", r#"{"name":"none","arguments":{}}"#).await;
        let expected =
            |status| ClientError::Rpc { code: -32602, message: "no such tool".into(), data: None, status };
        assert_eq!(refused, Err(expected(200)));
        session.close().await;
    }
}

#[tokio::test]
async fn changes_are_told_in_the_legacy_era() {
    let server = serve(true).await;
    let session = Session::open(&server.endpoint, Transport::StreamableHttp, Revision::LATEST_LEGACY, info())
        .await
        .unwrap();
    let mut notices = session.listen().await.unwrap();
    session.request("tools/call", r#"{"name":"tool6"}"#).await.unwrap();
    let notice = tokio::time::timeout(Duration::from_secs(60), notices.next()).await.unwrap();
    assert_eq!(notice, Some(Ok(ChangeNotice::Tools)));
}

#[tokio::test]
async fn changes_are_told_in_the_modern_era() {
    let server = serve(true).await;
    let session =
        Session::open(&server.endpoint, Transport::StreamableHttp, Revision::LATEST, info()).await.unwrap();
    let mut notices = session.listen().await.unwrap();
    server.changed.notify_one();
    let heard = async { [notices.next().await, notices.next().await] };
    let heard = tokio::time::timeout(Duration::from_secs(60), heard).await.unwrap();
    assert_eq!(heard, [Some(Ok(ChangeNotice::Tools)), None]);
}

#[tokio::test]
async fn a_session_that_is_gone_is_said_to_be() {
    let server = serve(true).await;
    let session = Session::open(&server.endpoint, Transport::StreamableHttp, Revision::LATEST_LEGACY, info())
        .await
        .unwrap();
    assert!(session.is_sessionful());
    session.close().await;
    assert!(session.request("ping", "{}").await.is_err_and(|error| error.is_session_lost()));
    assert_eq!(session.listen().await.err(), Some(ClientError::SESSION_LOST));
}
