//! Rights that are withdrawn at the control plane: whatever runs by them ends on every edge, and the upstream is told.

use serde_json::Value;

use crate::support::fake::{Fake, Received, Step, id, json, stream_head, tool, write};
use crate::support::gateway::{Gateway, Store};
use crate::support::wire::{LEGACY, MODERN};
use crate::support::{PATIENCE, eventually};

const EDGES: usize = 2;
/// Calls of one client at each edge that the upstream is to be told of: legacy, modern, parked, over HTTP+SSE.
pub(super) const CALLS: usize = 4;

/// Each way in which a right ends, and whether the right to the server ends with it.
const WITHDRAWALS: [(&str, bool); 5] =
    [("revoked", true), ("deleted", true), ("expired", true), ("narrowed", false), ("server", true)];

async fn withdraw(gateway: &Gateway, how: &str) {
    match how {
        "revoked" => gateway.admin.revoke_token(how).await,
        "deleted" => drop(gateway.ctl("delete token deleted").await),
        // Its time comes after every edge has heard of it: nothing but a timer ends what runs then.
        "expired" => drop(gateway.ctl("update token expired --expires 3s").await),
        "narrowed" => gateway.admin.edit_token(how, how, &["none"]).await.unwrap(),
        _ => drop(gateway.ctl("delete server server --force").await),
    }
}

/// A legacy upstream: `endless` reports progress and goes on for ever, `ask` asks its client and waits.
pub(super) fn script(request: &Received) -> Option<Vec<Step>> {
    let message: Value = serde_json::from_str(&request.body).unwrap_or_default();
    match message["method"].as_str() {
        Some("server/discover") => Some(vec![json(400, "")]),
        Some("tools/call") => {
            let said = match message["params"]["name"].as_str() {
                Some("ask") => {
                    r#"{"jsonrpc":"2.0","id":"q","method":"elicitation/create","params":{"message":"?"}}"#
                        .to_owned()
                }
                _ => format!(
                    r#"{{"jsonrpc":"2.0","method":"notifications/progress","params":{{"progressToken":{},"progress":1}}}}"#,
                    id(request)
                ),
            };
            Some(vec![stream_head(), write(&format!("data: {said}\n\n")), Step::Wait(4 * PATIENCE)])
        }
        _ => None,
    }
}

/// A client of one server at one edge.
pub(super) struct Client<'a> {
    pub(super) http: &'a reqwest::Client,
    pub(super) url: String,
    pub(super) bearer: &'a str,
}

impl Client<'_> {
    pub(super) async fn send(&self, verb: &str, headers: &[(&str, &str)], body: &str) -> reqwest::Response {
        self.at(verb, &self.url, headers, body).await
    }

    pub(super) async fn at(
        &self,
        verb: &str,
        url: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> reqwest::Response {
        let request = self.http.request(verb.parse().unwrap(), url).bearer_auth(self.bearer);
        let request = request
            .header("content-type", "application/json")
            .header("accept", "application/json, text/event-stream")
            .body(body.to_owned());
        let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        let response = request.send().await.unwrap();
        let status = response.status();
        assert!(status.is_success(), "{verb} {url}: {status} {}", response.text().await.unwrap());
        response
    }

    /// Begins everything that a client can have open.
    pub(super) async fn open_all(&self) -> Opened {
        let session = self.send("POST", &[], &initialize(LEGACY)).await;
        let session = session.headers()["mcp-session-id"].to_str().unwrap().to_owned();
        let session = [("mcp-session-id", session.as_str())];
        let mut legacy_call = self.send("POST", &session, &call("endless", "")).await;
        until(&mut legacy_call, "notifications/progress").await;
        let mut standing = self.send("GET", &session, "").await;
        until(&mut standing, "\n\n").await;

        let modern = |method: &'static str| [("mcp-protocol-version", MODERN), ("mcp-method", method)];
        let meta = format!(
            r#","io.modelcontextprotocol/protocolVersion":"{MODERN}","io.modelcontextprotocol/clientCapabilities":{{"elicitation":{{}}}}"#
        );
        let headers = |name: &'static str| [modern("tools/call").as_slice(), &[("mcp-name", name)]].concat();
        let mut modern_call = self.send("POST", &headers("endless"), &call("endless", &meta)).await;
        until(&mut modern_call, "notifications/progress").await;
        let parked = self.send("POST", &headers("ask"), &call("ask", &meta)).await.text().await.unwrap();
        assert!(parked.contains("input_required"), "{parked}");
        let listen = format!(
            r#"{{"jsonrpc":"2.0","id":1,"method":"subscriptions/listen","params":{{"notifications":{{"toolsListChanged":true}},"_meta":{{{}}}}}}}"#,
            &meta[1..]
        );
        let mut listening = self.send("POST", &modern("subscriptions/listen"), &listen).await;
        until(&mut listening, "acknowledged").await;

        let sse = self.url.replace("/mcp", "/sse");
        let mut connection = self.at("GET", &sse, &[], "").await;
        let endpoint = until(&mut connection, "\n\n").await;
        let endpoint = endpoint.split("data: ").nth(1).unwrap().trim();
        let endpoint = format!("{}{endpoint}", self.url.split("/servers").next().unwrap());
        self.at("POST", &endpoint, &[], &initialize("2024-11-05")).await;
        until(&mut connection, "serverInfo").await;
        self.at("POST", &endpoint, &[], &call("endless", "")).await;
        until(&mut connection, "notifications/progress").await;
        Opened { calls: [legacy_call, modern_call], standing, listening, connection, parked }
    }
}

/// What a client has open at one edge.
pub(super) struct Opened {
    /// The streams of a legacy call and of a modern one.
    pub(super) calls: [reqwest::Response; 2],
    /// The stream of a session.
    pub(super) standing: reqwest::Response,
    /// A modern subscription.
    pub(super) listening: reqwest::Response,
    /// HTTP+SSE, with a call that runs.
    pub(super) connection: reqwest::Response,
    /// What was answered where a call is parked.
    pub(super) parked: String,
}

impl Opened {
    /// Waits until every call is refused, and until all else ends where the right to the server has.
    pub(super) async fn ends(self, ends_all: bool) {
        let Self { calls, standing, listening, mut connection, parked: _ } = self;
        for mut call in calls {
            until(&mut call, r#""error""#).await;
            ended("a call", call).await;
        }
        if ends_all {
            ended("the stream of a session", standing).await;
            ended("a modern subscription", listening).await;
            ended("HTTP+SSE", connection).await;
        } else {
            until(&mut connection, r#""error""#).await;
        }
    }
}

pub(super) fn initialize(revision: &str) -> String {
    format!(
        r#"{{"jsonrpc":"2.0","id":0,"method":"initialize","params":{{"protocolVersion":"{revision}","capabilities":{{}},"clientInfo":{{"name":"wire","version":"1"}}}}}}"#
    )
}

/// A call that wants to hear of its progress; `meta` is more of its `_meta`.
pub(super) fn call(tool: &str, meta: &str) -> String {
    format!(
        r#"{{"jsonrpc":"2.0","id":"c","method":"tools/call","params":{{"name":"{tool}","arguments":{{}},"_meta":{{"progressToken":"t"{meta}}}}}}}"#
    )
}

/// Reads until this has come.
async fn until(stream: &mut reqwest::Response, needle: &str) -> String {
    let mut seen = String::new();
    let read = async {
        while !seen.contains(needle) {
            let chunk =
                stream.chunk().await.unwrap().unwrap_or_else(|| panic!("{needle:?} is not in {seen}"));
            seen.push_str(std::str::from_utf8(&chunk).unwrap());
        }
    };
    tokio::time::timeout(PATIENCE, read).await.unwrap_or_else(|_| panic!("{needle:?} does not come"));
    seen
}

/// Reads until the end. A connection that is cut has ended as well.
async fn ended(what: &str, mut stream: reqwest::Response) {
    let read = async { while let Ok(Some(_)) = stream.chunk().await {} };
    tokio::time::timeout(PATIENCE, read).await.unwrap_or_else(|_| panic!("{what} goes on"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_withdrawn_right_ends_what_it_began_on_every_edge() {
    let upstream = Fake::scripted(&format!("[{},{}]", tool("endless"), tool("ask")), script).await;
    let gateway = Gateway::start(Store::Sqlite, EDGES).await;
    // Nothing of this is to end because it takes too long.
    gateway.ctl(&format!("create upstream fake --url {} --request-timeout 10m", upstream.url())).await;
    let http = reqwest::Client::builder().timeout(10 * PATIENCE).no_proxy().build().unwrap();
    let mut bearers = Vec::new();
    for (how, _) in WITHDRAWALS {
        gateway.admin.create_server(how, &["fake/*"]).await;
        bearers.push(gateway.admin.create_token(how, how, &["*"]).await);
    }
    gateway.admin.settled().await;
    for ((how, ends_all), bearer) in WITHDRAWALS.into_iter().zip(&bearers) {
        let told = || upstream.received("notifications/cancelled").len();
        let before = told();
        let mut opened = Vec::new();
        for edge in 0..EDGES {
            opened.push(Client { http: &http, url: gateway.url(edge, how), bearer }.open_all().await);
        }
        withdraw(&gateway, how).await;
        for opened in opened {
            opened.ends(ends_all).await;
        }
        eventually(&format!("{how}: the upstream is told of every call"), PATIENCE, || async {
            let count = told() - before;
            if count >= CALLS * EDGES { Ok(()) } else { Err(format!("{count} of {}", CALLS * EDGES)) }
        })
        .await;
    }
}
