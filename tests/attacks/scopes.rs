//! Scopes against hostile spellings: by every method, era and transport, nothing that a scope forbids reaches an upstream,
//! and what it allows does. What an upstream was sent is the proof; it must not know how edges decide.

use std::collections::BTreeSet;

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};
use trunkline::identity::v1::token_service_client::TokenServiceClient;
use trunkline::identity::v1::{CreateTokenRequest, Scope, Token, UpdateTokenRequest};

use crate::support::PATIENCE;
use crate::support::fake::{self, Fake, Received, Step, id, stream_head};
use crate::support::gateway::{Gateway, Store};
use crate::support::wire::{Client, LEGACY, MODERN, modern_meta, raw};

/// What the scope of most tokens here allows, and the template that produces all of it.
const ALLOWED: &str = "file:///public/*";

/// Paths below `file:///` that lead out of `public/`, in one server or another.
const ESCAPES: [&str; 52] = [
    "public/../secret/b.txt",
    "public/./../secret/b.txt",
    "public/a/../../secret/b.txt",
    "public//../secret/b.txt",
    "public/..",
    "public/.",
    "public/./b.txt",
    "public/%2e%2e/secret/b.txt",
    "public/%2E%2E/secret/b.txt",
    "public/.%2e/secret/b.txt",
    "public/..%2fsecret/b.txt",
    "public/..%2Fsecret/b.txt",
    "public%2F..%2Fsecret/b.txt",
    "public/%2e%2e%2fsecret%2fb.txt",
    "public/%252e%252e/secret/b.txt",
    "public/%252e%252e%252fsecret/b.txt",
    "public/%25252e%25252e/secret/b.txt",
    "public/..\\secret\\b.txt",
    "public/..%5csecret%5cb.txt",
    "public/..%5Csecret/b.txt",
    "public\\..\\secret/b.txt",
    "public/\u{0}../secret/b.txt",
    "public/%00../secret/b.txt",
    "public/.\u{9}./secret/b.txt",
    "public/..%00/secret/b.txt",
    "public/..%0a/secret/b.txt",
    "public/%C2%85../secret/b.txt",
    "public/%c0%ae%c0%ae/secret/b.txt",
    "public/%C0%AE%C0%AE/secret/b.txt",
    "public/%E0%80%AE%E0%80%AE/secret/b.txt",
    "public/..%C0%AFsecret/b.txt",
    "public/%FF%FE/secret/b.txt",
    "public/..;/secret/b.txt",
    "public/..;a=b/secret/b.txt",
    "public/..%3B/secret/b.txt",
    "public/x?../../secret/b.txt",
    "public/x?/../../secret/b.txt",
    "public/x#/../../secret/b.txt",
    "public/?path=../secret/b.txt",
    "public/..%20/secret/b.txt",
    "public/..%3F/secret/b.txt",
    "public/\u{ff0e}\u{ff0e}/secret/b.txt",
    "public/%EF%BC%8E%EF%BC%8E/secret/b.txt",
    "public/..%EF%BC%8Fsecret/b.txt",
    "public/\u{2025}/secret/b.txt",
    "public/\u{fe30}/secret/b.txt",
    "public/%EF%B8%B0/secret/b.txt",
    "public/%EF%BC%852e%EF%BC%852e/secret/b.txt",
    "public/a%EF%BC%8F..%EF%BC%8F..%EF%BC%8Fsecret/b.txt",
    "public/%u002e%u002e/secret/b.txt",
    "public/%/../secret/b.txt",
    "public/%2e./secret/b.txt",
];

/// URIs that the scope does not allow however they are read.
const FORBIDDEN: [&str; 11] = [
    "file:///secret/b.txt",
    "FILE:///public/a.txt",
    "File:///public/a.txt",
    "file://public/a.txt",
    "file:///Public/a.txt",
    "file:///%70ublic/a.txt",
    "file:////public/a.txt",
    "file://user@host/public/a.txt",
    "file://host:1/public/a.txt",
    "file:/public/a.txt",
    " file:///public/a.txt",
];

/// URIs that the scope allows: the proof that the others are not refused for another reason.
const GOOD: [&str; 8] = [
    "file:///public/listed.txt",
    "file:///public/a.txt",
    "file:///public/caf%C3%A9/a%20b.txt",
    "file:///public/.hidden/..x/y..",
    "file:///public/a?v=1#top",
    "file:///public/a;v=1,b@c:1",
    "file:///public/100%25",
    "file:///public/%E6%97%A5%E6%9C%AC%EF%BC%9A%EF%AC%81le",
];

/// URIs that an upstream lists though no template could produce them.
const OPAQUE: [&str; 5] =
    ["memo://a b", "urn:x:y", r"file:///C:\x", "file:///public/../listed", "x:/é/%2e%2e/"];

fn forbidden() -> impl Iterator<Item = String> {
    let escapes = ESCAPES.iter().map(|path| format!("file:///{path}"));
    escapes.chain(FORBIDDEN.map(str::to_owned))
}

/// An upstream of both eras with these resources and templates, and nothing else.
async fn files(resources: &[&str], templates: &[&str]) -> Fake {
    offering(resources, templates, &json!({})).await
}

/// The same with tools and prompts besides.
async fn offering(resources: &[&str], templates: &[&str], more: &Value) -> Fake {
    let resources: Vec<Value> = resources.iter().map(|uri| json!({"uri": uri, "name": "r"})).collect();
    let templates: Vec<Value> =
        templates.iter().map(|text| json!({"uriTemplate": text, "name": "t"})).collect();
    let more = |member: &str| more[member].as_array().cloned().unwrap_or_default();
    let lists = json!({
        "resources": resources, "resourceTemplates": templates, "tools": more("tools"), "prompts": more("prompts")
    });
    Fake::scripted("[]", move |request| answer(request, &lists)).await
}

fn answer(request: &Received, lists: &Value) -> Option<Vec<Step>> {
    if request.head.starts_with("GET") {
        return Some(vec![stream_head(), Step::Wait(PATIENCE)]);
    }
    let message: Value = serde_json::from_str(&request.body).ok()?;
    let modern = fake::header(&request.head, "mcp-protocol-version") == Some(MODERN);
    let capabilities = json!({
        "tools": {}, "resources": {"subscribe": true}, "prompts": {}, "completions": {}, "logging": {}
    });
    let info = json!({"name": "files", "version": "1"});
    let mut result = match message["method"].as_str()? {
        "server/discover" => json!({
            "supportedVersions": [MODERN], "capabilities": capabilities,
            "_meta": {"io.modelcontextprotocol/serverInfo": info}
        }),
        "initialize" => json!({"protocolVersion": LEGACY, "capabilities": capabilities, "serverInfo": info}),
        "resources/list" => json!({"resources": lists["resources"]}),
        "resources/templates/list" => json!({"resourceTemplates": lists["resourceTemplates"]}),
        "prompts/list" => json!({"prompts": lists["prompts"]}),
        "tools/list" => json!({"tools": lists["tools"]}),
        "prompts/get" => json!({"messages": []}),
        "resources/read" => json!({"contents": [{"uri": message["params"]["uri"], "text": "read"}]}),
        "resources/subscribe" | "resources/unsubscribe" => json!({}),
        "completion/complete" => json!({"completion": {"values": ["completed"]}}),
        "subscriptions/listen" => {
            let wanted = &message["params"]["notifications"];
            let said = json!({
                "jsonrpc": "2.0", "method": "notifications/subscriptions/acknowledged",
                "params": {"notifications": wanted}
            });
            return Some(vec![
                stream_head(),
                fake::write(&format!("data: {said}\n\n")),
                Step::Wait(PATIENCE),
            ]);
        }
        _ => return None,
    };
    if modern {
        for (member, value) in [("resultType", "complete"), ("cacheScope", "private")] {
            result[member] = value.into();
        }
        result["ttlMs"] = 0.into();
    }
    let body = format!(r#"{{"jsonrpc":"2.0","id":{},"result":{result}}}"#, id(request));
    // Without a session, edges would call it in the modern era alone.
    let session = if message["method"] == "initialize" { "mcp-session-id: s\r\n" } else { "" };
    Some(vec![fake::write(&format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n{session}content-length: {}\r\n\r\n{body}",
        body.len()
    ))])
}

/// The URIs, names and values that an upstream was sent in any request of a client.
fn sent(upstream: &Fake) -> BTreeSet<String> {
    let methods = [
        "resources/read",
        "resources/subscribe",
        "resources/unsubscribe",
        "completion/complete",
        "subscriptions/listen",
        "prompts/get",
    ];
    let mut sent = BTreeSet::new();
    for request in methods.iter().flat_map(|method| upstream.received(method)) {
        let params = serde_json::from_str::<Value>(&request.body).unwrap()["params"].clone();
        let named = [&params["uri"], &params["name"], &params["ref"]["uri"], &params["ref"]["name"]];
        let values = params["context"]["arguments"].as_object().into_iter().flat_map(|given| given.values());
        let listened = params["notifications"]["resourceSubscriptions"].as_array().into_iter().flatten();
        let all = named.into_iter().chain([&params["argument"]["value"]]).chain(values).chain(listened);
        sent.extend(all.filter_map(Value::as_str).map(str::to_owned));
    }
    sent
}

async fn create_token(gateway: &Gateway, id: &str, scope: Scope) -> String {
    let token = Token { scope: Some(scope), ..Token::default() };
    let request = CreateTokenRequest { token_id: id.to_owned(), token: Some(token), ..Default::default() };
    let mut client = TokenServiceClient::new(gateway.admin.authorized());
    client.create_token(request).await.unwrap().into_inner().bearer
}

async fn edit_scope(gateway: &Gateway, id: &str, scope: Scope) {
    let token = Token { name: format!("tokens/{id}"), scope: Some(scope), ..Token::default() };
    let update_mask = Some(prost_types::FieldMask { paths: vec!["scope".to_owned()] });
    let request = UpdateTokenRequest { token: Some(token), update_mask, ..Default::default() };
    TokenServiceClient::new(gateway.admin.authorized()).update_token(request).await.unwrap();
}

fn scope(tools: &[&str], resources: &[&str], prompts: &[&str]) -> Scope {
    let owned = |globs: &[&str]| globs.iter().map(|glob| (*glob).to_owned()).collect();
    Scope {
        servers: vec!["servers/dev".to_owned()],
        tools: owned(tools),
        resources: owned(resources),
        prompts: owned(prompts),
    }
}

/// A way to talk to a server.
enum Way {
    Legacy(Client),
    Modern(Client),
    Sse(Box<SseConnection>),
    Socket { socket: Box<WebSocketStream<MaybeTlsStream<tokio::net::TcpStream>>>, modern: bool },
}

struct SseConnection {
    http: reqwest::Client,
    post_url: String,
    bearer: String,
    response: reqwest::Response,
    decoder: mcp::sse::Decoder,
}

impl SseConnection {
    async fn next(&mut self) -> String {
        loop {
            match self.decoder.next().unwrap() {
                Some(event) if !event.data.is_empty() => {
                    return String::from_utf8(event.data.to_vec()).unwrap();
                }
                Some(_) => {}
                None => {
                    let chunk = tokio::time::timeout(PATIENCE, self.response.chunk()).await;
                    self.decoder.push(chunk.expect("nothing came").unwrap().expect("the stream ended"));
                }
            }
        }
    }
}

fn hello() -> String {
    json!({
        "jsonrpc": "2.0", "id": 0, "method": "initialize",
        "params": {"protocolVersion": LEGACY, "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}
    })
    .to_string()
}

impl Way {
    /// All ways, by name.
    async fn all(gateway: &Gateway, bearer: &str) -> Vec<(&'static str, Self)> {
        let (url, address) = (gateway.url(0, "dev"), gateway.edge_address(0));
        let mut ways = vec![
            ("legacy over HTTP", Self::Legacy(Client::open(&url, bearer).await.unwrap())),
            ("modern over HTTP", Self::Modern(Client::new(&url, bearer))),
            ("HTTP+SSE", Self::sse(address, bearer).await),
            ("legacy over WebSocket", Self::socket(address, bearer, false).await),
            ("modern over WebSocket", Self::socket(address, bearer, true).await),
        ];
        for (_, way) in &mut ways {
            if matches!(way, Self::Sse(_) | Self::Socket { modern: false, .. }) {
                let hello = way.exchange(&hello()).await;
                assert_eq!(hello["result"]["protocolVersion"], LEGACY, "{hello}");
            }
        }
        ways
    }

    async fn sse(address: &str, bearer: &str) -> Self {
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        let request = http.get(format!("http://{address}/servers/dev/sse")).bearer_auth(bearer);
        let response = request.header("accept", "text/event-stream").send().await.unwrap();
        assert_eq!(response.status(), 200);
        let decoder = mcp::sse::Decoder::new(1 << 20);
        let post_url = String::new();
        let mut connection = SseConnection { http, post_url, bearer: bearer.to_owned(), response, decoder };
        connection.post_url = format!("http://{address}{}", connection.next().await);
        Self::Sse(Box::new(connection))
    }

    async fn socket(address: &str, bearer: &str, modern: bool) -> Self {
        let mut request = format!("ws://{address}/servers/dev/ws").into_client_request().unwrap();
        request.headers_mut().insert("authorization", format!("Bearer {bearer}").parse().unwrap());
        request.headers_mut().insert("sec-websocket-protocol", "mcp".parse().unwrap());
        let (socket, _) = connect_async(request).await.unwrap();
        Self::Socket { socket: Box::new(socket), modern }
    }

    fn is_modern(&self) -> bool {
        matches!(self, Self::Modern(_) | Self::Socket { modern: true, .. })
    }

    /// Sends a request, and returns the response to it.
    async fn ask(&mut self, method: &str, params: &Value) -> Value {
        let mut params = params.clone();
        if self.is_modern() {
            let meta: Value = serde_json::from_str(&format!("{{{}}}", modern_meta())).unwrap();
            params["_meta"] = meta["_meta"].clone();
        }
        let body = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).to_string();
        if let Self::Modern(client) = self {
            let name = params["uri"].as_str().or(params["name"].as_str()).map(mcp::header::encode_value);
            let mut headers = vec![("mcp-protocol-version", MODERN), ("mcp-method", method)];
            headers.extend(name.as_ref().map(|name| ("mcp-name", name.to_str().unwrap())));
            return client.post(&body, &headers).await.unwrap().json();
        }
        self.exchange(&body).await
    }

    async fn exchange(&mut self, body: &str) -> Value {
        match self {
            Self::Legacy(client) | Self::Modern(client) => client.post(body, &[]).await.unwrap().json(),
            Self::Sse(connection) => {
                let request = connection.http.post(&connection.post_url).bearer_auth(&connection.bearer);
                let request = request.header("content-type", "application/json").body(body.to_owned());
                let status = request.send().await.unwrap().status();
                assert!(status.is_success(), "{status}: {body}");
                serde_json::from_str(&connection.next().await).unwrap()
            }
            Self::Socket { socket, .. } => {
                socket.send(Message::text(body)).await.unwrap();
                let frame = tokio::time::timeout(PATIENCE, socket.next()).await.expect("nothing came");
                serde_json::from_str(frame.unwrap().unwrap().to_text().unwrap()).unwrap()
            }
        }
    }
}

/// Requests that name a resource by its URI, in one of the eras.
fn naming(modern: bool, uri: &str) -> Vec<(&'static str, Value)> {
    let mut requests = vec![
        ("resources/read", json!({"uri": uri})),
        (
            "completion/complete",
            json!({"ref": {"type": "ref/resource", "uri": uri}, "argument": {"name": "path", "value": "a"}}),
        ),
    ];
    if !modern {
        requests.push(("resources/subscribe", json!({"uri": uri})));
    }
    requests
}

#[tokio::test(flavor = "multi_thread")]
async fn no_spelling_of_a_uri_leads_out_of_a_scope() {
    let upstream = files(
        &["file:///public/listed.txt", "file:///secret/b.txt"],
        &["file:///{+path}", "file:///public/{+path}"],
    )
    .await;
    let gateway = Gateway::start(Store::Sqlite, 1).await;
    gateway.admin.create_upstream("files", &upstream.url()).await;
    gateway.admin.create_server("dev", &["files/*"]).await;
    let bearer = create_token(&gateway, "t", scope(&[], &[ALLOWED], &[])).await;
    gateway.admin.settled().await;

    for (name, mut way) in Way::all(&gateway, &bearer).await {
        let modern = way.is_modern();
        for uri in forbidden() {
            for (method, params) in naming(modern, &uri) {
                let answer = way.ask(method, &params).await;
                let error = &answer["error"];
                let code = if method == "completion/complete" || modern { -32602 } else { -32002 };
                assert_eq!(error["code"], code, "{name}: {method} {uri:?}: {answer}");
                let message = error["message"].as_str().unwrap();
                let expected = if method == "completion/complete" {
                    "unknown resource template"
                } else {
                    "resource not found"
                };
                assert!(message.starts_with(expected), "{name}: {method} {uri:?}: {answer}");
            }
            if !modern {
                // Nothing was subscribed to, so there is nothing to end, and the upstream is not asked.
                let answer = way.ask("resources/unsubscribe", &json!({"uri": uri})).await;
                assert_eq!(answer["result"], json!({}), "{name}: {uri:?}");
            }
        }
        for path in ESCAPES.iter().filter(|path| mcp::uri::check_value(path).is_err()) {
            let template = json!({"type": "ref/resource", "uri": "file:///public/{+path}"});
            for params in [
                json!({"ref": template, "argument": {"name": "path", "value": path}}),
                json!({"ref": template, "argument": {"name": "path", "value": "a"}, "context": {"arguments": {"path": path}}}),
            ] {
                let answer = way.ask("completion/complete", &params).await;
                assert_eq!(answer["error"]["code"], -32602, "{name}: {params}: {answer}");
            }
        }
        for uri in GOOD {
            let answer = way.ask("resources/read", &json!({"uri": uri})).await;
            assert_eq!(answer["result"]["contents"][0]["uri"], uri, "{name}: {answer}");
            for method in ["resources/subscribe", "resources/unsubscribe"] {
                let answer = way.ask(method, &json!({"uri": uri})).await;
                assert_eq!(answer["error"].is_null(), !modern, "{name}: {method} {uri:?}: {answer}");
            }
        }
        let complete = json!({
            "ref": {"type": "ref/resource", "uri": "file:///public/{+path}"},
            "argument": {"name": "path", "value": "a b/"}
        });
        let answer = way.ask("completion/complete", &complete).await;
        assert_eq!(answer["result"]["completion"]["values"][0], "completed", "{name}: {answer}");
        let unlisted = json!({
            "ref": {"type": "ref/resource", "uri": "file:///{+path}"}, "argument": {"name": "path", "value": "a"}
        });
        let answer = way.ask("completion/complete", &unlisted).await;
        let text = answer["error"]["message"].as_str().unwrap_or_default();
        assert!(text.starts_with("unknown resource template"), "{name}: {answer}");
    }
    listen(&gateway, &bearer).await;
    let client = Client::new(&gateway.url(0, "dev"), &bearer);
    for [named, read] in [["file:///public/a.txt", "file:///secret/b.txt"], ["file:///secret/b.txt", GOOD[0]]]
    {
        let answer =
            client.modern("resources/read", &format!(r#""uri":"{read}""#), Some(named)).await.unwrap();
        assert_eq!((answer.status, answer.code()), (400, -32020), "{named} {read}");
    }

    let expected: BTreeSet<String> =
        GOOD.into_iter().chain(["file:///public/{+path}", "a b/"]).map(str::to_owned).collect();
    assert_eq!(sent(&upstream), expected);
}

/// Listens for all spellings at once: only what is allowed is acknowledged.
async fn listen(gateway: &Gateway, bearer: &str) {
    let client = Client::new(&gateway.url(0, "dev"), bearer);
    let wanted: Vec<String> = forbidden().chain(GOOD.map(str::to_owned)).collect();
    let params =
        format!(r#"{{"notifications":{},{}}}"#, json!({"resourceSubscriptions": wanted}), modern_meta());
    let body = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"subscriptions/listen","params":{params}}}"#);
    let headers = [("mcp-protocol-version", MODERN), ("mcp-method", "subscriptions/listen")];
    let said = client.read_with(&body, &headers).await.unwrap().next().await.unwrap();
    let watched = said["params"]["notifications"]["resourceSubscriptions"].as_array().unwrap();
    let watched: BTreeSet<&str> = watched.iter().map(|uri| uri.as_str().unwrap()).collect();
    assert_eq!(watched, BTreeSet::from(GOOD), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_upstream_lists_is_read_as_it_is_listed() {
    let upstream = files(&OPAQUE, &["file:///{+path}"]).await;
    let gateway = Gateway::start(Store::Sqlite, 1).await;
    gateway.admin.create_upstream("files", &upstream.url()).await;
    gateway.admin.create_server("dev", &["files/*"]).await;
    let all = create_token(&gateway, "all", scope(&[], &["*"], &[])).await;
    let each = create_token(&gateway, "each", scope(&[], &OPAQUE, &[])).await;
    let none = create_token(&gateway, "none", scope(&[], &[ALLOWED, "x:/é*"], &[])).await;
    gateway.admin.settled().await;
    for (bearer, allowed) in [(&all, true), (&each, true), (&none, false)] {
        for (name, mut way) in Way::all(&gateway, bearer).await {
            for uri in OPAQUE {
                let answer = way.ask("resources/read", &json!({"uri": uri})).await;
                let read = answer["result"]["contents"][0]["uri"] == uri;
                assert_eq!(read, allowed, "{name}: {uri:?}: {answer}");
            }
        }
    }
    assert_eq!(sent(&upstream), OPAQUE.map(str::to_owned).into());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_uri_of_two_templates_is_permitted_by_the_one_that_the_token_sees() {
    let upstream = files(&[], &["file:///{+path}", "file:///public/{+path}"]).await;
    let gateway = Gateway::start(Store::Sqlite, 1).await;
    gateway.admin.create_upstream("files", &upstream.url()).await;
    gateway.admin.create_server("dev", &["files/*"]).await;
    let to_narrow = create_token(&gateway, "narrow", scope(&[], &[ALLOWED], &[])).await;
    let to_wide = create_token(&gateway, "wide", scope(&[], &["file:///{+path}"], &[])).await;
    let to_both = create_token(&gateway, "both", scope(&[], &["*"], &[])).await;
    gateway.admin.settled().await;
    for (bearer, token, listed) in [
        (&to_narrow, "narrow", &["file:///public/{+path}"][..]),
        (&to_wide, "wide", &["file:///{+path}"]),
        (&to_both, "both", &["file:///{+path}", "file:///public/{+path}"]),
    ] {
        for (at, (name, mut way)) in Way::all(&gateway, bearer).await.into_iter().enumerate() {
            let list = way.ask("resources/templates/list", &json!({})).await;
            let found = list["result"]["resourceTemplates"].as_array().unwrap();
            let found: Vec<&str> = found.iter().map(|entry| entry["uriTemplate"].as_str().unwrap()).collect();
            assert_eq!(found, listed, "{name}");
            let uri = format!("file:///public/{token}/{at}");
            let answer = way.ask("resources/read", &json!({"uri": uri})).await;
            assert_eq!(answer["result"]["contents"][0]["uri"], *uri, "{name}: {answer}");
            assert!(sent(&upstream).contains(&uri), "{name}");
        }
    }
}

/// Posts `tools/list` to a path as it is written, which HTTP libraries would correct. Returns the status.
async fn status_of(gateway: &Gateway, bearer: &str, path: &str) -> String {
    let body = r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#;
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {bearer}\r\ncontent-type: application/json\r\n\
         accept: application/json, text/event-stream\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    let answer = raw(gateway.edge_address(0), head.as_bytes(), PATIENCE).await;
    let answer = String::from_utf8_lossy(&answer).into_owned();
    answer.split(' ').nth(1).unwrap_or_default().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn no_spelling_of_a_path_leads_to_another_server() {
    let upstream = files(&[], &[]).await;
    let gateway = Gateway::start(Store::Sqlite, 1).await;
    gateway.admin.create_upstream("files", &upstream.url()).await;
    for server in ["dev", "secret"] {
        gateway.admin.create_server(server, &["files/*"]).await;
    }
    let bearer = create_token(&gateway, "t", scope(&["*"], &["*"], &["*"])).await;
    gateway.admin.settled().await;
    // It exists, and what is missing is a session.
    assert_eq!(status_of(&gateway, &bearer, "/servers/dev/mcp").await, "400");
    for path in [
        "/servers/secret/mcp",
        "/servers/dev/../secret/mcp",
        "/servers/dev/%2e%2e/secret/mcp",
        "/servers/dev%2F..%2Fsecret/mcp",
        "/servers/dev/..;/secret/mcp",
        "/servers/./secret/mcp",
        "/servers//secret/mcp",
        "//servers/secret/mcp",
        "/servers/secret/mcp/",
        "/servers/secret/mcp;a=b",
        "/servers/secret;dev/mcp",
        "/servers/%73ecret/mcp",
        "/servers/%64ev/mcp",
        "/servers/DEV/mcp",
        "/servers/dev%00/mcp",
        "/servers/dev\\..\\secret/mcp",
        "/servers/*/mcp",
        "/Servers/dev/mcp",
        "http://localhost/servers/secret/mcp",
    ] {
        assert_eq!(status_of(&gateway, &bearer, path).await, "404", "{path}");
    }
}

/// What a server says of itself in `initialize` and in `server/discover`.
async fn capabilities(gateway: &Gateway, bearer: &str) -> Value {
    let client = Client::new(&gateway.url(0, "dev"), bearer);
    let legacy = client.post(&hello(), &[]).await.unwrap().json()["result"]["capabilities"].clone();
    let modern = client.modern("server/discover", "", None).await.unwrap().json();
    assert_eq!(modern["result"]["capabilities"], legacy);
    legacy
}

#[tokio::test(flavor = "multi_thread")]
async fn capabilities_are_those_of_what_a_token_may_use() {
    let more = json!({
        "tools": [{"name": "look", "inputSchema": {"type": "object"}}],
        "prompts": [{"name": "greet"}, {"name": "hidden"}]
    });
    let upstream = offering(&["file:///public/listed.txt"], &["file:///public/{+path}"], &more).await;
    let gateway = Gateway::start(Store::Sqlite, 1).await;
    gateway.admin.create_upstream("files", &upstream.url()).await;
    gateway.admin.create_server("dev", &["files/*"]).await;
    let bearer = create_token(&gateway, "t", scope(&[], &[], &[])).await;
    let changes = json!({"listChanged": true});
    let resources = json!({"subscribe": true, "listChanged": true});
    for (tools, readable, prompts, expected) in [
        (&[][..], &[][..], &[][..], json!({})),
        (&["look"], &[], &[], json!({"tools": changes, "logging": {}})),
        (
            &[],
            &["file:///public/listed.txt"],
            &[],
            json!({"resources": resources, "completions": {}, "logging": {}}),
        ),
        (&[], &["file:///public/a*"], &[], json!({"resources": resources, "logging": {}})),
        (&[], &["file:///secret/*"], &["other"], json!({})),
        (&[], &[], &["greet"], json!({"prompts": changes, "completions": {}, "logging": {}})),
        (
            &["*"],
            &["*"],
            &["*"],
            json!({"tools": changes, "resources": resources, "prompts": changes, "completions": {}, "logging": {}}),
        ),
    ] {
        edit_scope(&gateway, "t", scope(tools, readable, prompts)).await;
        gateway.admin.settled().await;
        let found = capabilities(&gateway, &bearer).await;
        assert_eq!(found, expected, "{tools:?} {readable:?} {prompts:?}");
    }
    edit_scope(&gateway, "t", scope(&[], &[], &["greet"])).await;
    gateway.admin.settled().await;
    for (name, mut way) in Way::all(&gateway, &bearer).await {
        for (prompt, allowed) in
            [("greet", true), ("hidden", false), ("none", false), ("greet%20", false), ("Greet", false)]
        {
            let reference = json!({"type": "ref/prompt", "name": prompt});
            let complete = json!({"ref": reference, "argument": {"name": "who", "value": "a"}});
            for (method, params) in
                [("prompts/get", json!({"name": prompt})), ("completion/complete", complete)]
            {
                let answer = way.ask(method, &params).await;
                assert_eq!(answer["error"].is_null(), allowed, "{name}: {method} {prompt}: {answer}");
                if !allowed {
                    let text = answer["error"]["message"].as_str().unwrap();
                    assert_eq!(text, format!("unknown prompt: {prompt}"), "{name}");
                }
            }
        }
    }
    assert_eq!(sent(&upstream), ["greet".to_owned(), "a".to_owned()].into());
}
