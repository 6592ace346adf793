//! What people and the owners of tokens lose at the control plane: whatever runs by it ends on every edge, without a new bearer. What they
//! get back needs a new bearer where the one of before names what was lost.

use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};
use trunkline::common::v1::Visibility;
use trunkline::identity::v1::Token;
use trunkline::registry::v1::Upstream;

use super::withdrawn::{CALLS, Client, Opened, call, initialize, script};
use crate::support::fake::{self, Fake, tool};
use crate::support::gateway::{Gateway, Store};
use crate::support::people::{Person, belongs, scope};
use crate::support::wire::{LEGACY, MODERN, modern_meta};
use crate::support::{PATIENCE, eventually};

const EDGES: usize = 3;
const DEVELOPER: &str = "roles/developer";
/// So many tools take a while to reach an edge.
const MANY: usize = 10_000;

/// How somebody loses what they had.
struct Loss {
    /// Also the id of their team, and of its server.
    how: &'static str,
    /// Whether the right to the server is lost with it.
    ends_all: bool,
    /// How their bearer is refused from then on: status, code and reason.
    refused: (u16, i64, &'static str),
    /// Whether the bearer of before works when they have it back.
    works_again: bool,
}

const NO_SERVER: (u16, i64, &str) = (404, -31004, "server_unknown");
const NO_BEARER: (u16, i64, &str) = (401, -31001, "bearer_invalid");
const NO_TOOL: (u16, i64, &str) = (200, -32602, "");

static LOSSES: [Loss; 7] = [
    Loss { how: "removed", ends_all: true, refused: NO_SERVER, works_again: false },
    Loss { how: "unbound", ends_all: true, refused: NO_SERVER, works_again: false },
    // The bearer names the role, and that has it again.
    Loss { how: "edited", ends_all: true, refused: NO_SERVER, works_again: true },
    Loss { how: "disabled", ends_all: true, refused: NO_BEARER, works_again: false },
    Loss { how: "owner-disabled", ends_all: true, refused: NO_BEARER, works_again: true },
    Loss { how: "owner-removed", ends_all: true, refused: NO_SERVER, works_again: true },
    Loss { how: "narrowed", ends_all: false, refused: NO_TOOL, works_again: true },
];

/// Somebody who may call the server of a team.
struct Holder {
    loss: &'static Loss,
    person: Person,
    /// Theirs, or that of a token of theirs.
    bearer: String,
}

impl Holder {
    async fn new(gateway: &Gateway, loss: &'static Loss) -> Self {
        let (admin, how, team) = (&gateway.admin, loss.how, loss.team());
        admin.create_team(how, None).await;
        admin.create_server_of(how, &["fake/*"], belongs("", &team, Visibility::Team)).await;
        let person = admin.sign_up(how, &[]).await;
        match how {
            "unbound" => admin.bind(&person.name, DEVELOPER, &team).await,
            "edited" => {
                admin.create_role(how, &CALLER).await;
                admin.bind(&person.name, "roles/edited", &team).await;
            }
            _ => admin.add_member(&team, &person.name, "").await,
        }
        let bearer = if how.starts_with("owner-") {
            let servers = [format!("servers/{how}")];
            let all = scope([&[servers[0].as_str()], &["*"], &["*"], &["*"]]);
            let meta = belongs(&person.name, "", Visibility::Unspecified);
            admin.issue(how, Token { meta, scope: Some(all), ..Token::default() }).await
        } else {
            person.bearer().await
        };
        Self { loss, person, bearer }
    }

    async fn lose(&self, gateway: &Gateway) {
        let (admin, team, name) = (&gateway.admin, self.loss.team(), &self.person.name);
        match self.loss.how {
            "unbound" => admin.unbind(name, DEVELOPER, &team).await,
            "edited" => admin.edit_role("roles/edited", &CALLER[..1]).await,
            "disabled" | "owner-disabled" => admin.disable(name).await,
            "narrowed" => admin.edit_team(&team, Some(scope([&[], &["none"], &[], &[]]))).await,
            _ => admin.remove_member(&team, name).await,
        }
    }

    /// Gives it back. Returns the bearer that they call with from then on.
    async fn regain(&self, gateway: &Gateway) -> String {
        let (admin, team, name) = (&gateway.admin, self.loss.team(), &self.person.name);
        match self.loss.how {
            "unbound" => admin.bind(name, DEVELOPER, &team).await,
            "edited" => admin.edit_role("roles/edited", &CALLER).await,
            "disabled" => {
                admin.enable(name).await;
                // Their sessions have ended.
                return self.person.sign_in().await.bearer().await;
            }
            "owner-disabled" => admin.enable(name).await,
            "narrowed" => admin.edit_team(&team, None).await,
            _ => admin.add_member(&team, name, "").await,
        }
        if self.loss.works_again { self.bearer.clone() } else { self.person.bearer().await }
    }

    /// A call with a bearer: answered, or how it is refused.
    async fn tried(&self, http: &reqwest::Client, gateway: &Gateway, edge: usize, bearer: &str) -> Tried {
        let url = gateway.url(edge, self.loss.how);
        let params = format!(r#""name":"quick","arguments":{{}},{}"#, modern_meta());
        let body = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{{params}}}}}"#);
        ask(http, &url, bearer, "quick", body).await
    }

    async fn is_refused(&self, http: &reqwest::Client, gateway: &Gateway, edge: usize, bearer: &str) {
        let tried = self.tried(http, gateway, edge, bearer).await;
        assert_eq!(tried, Err(self.loss.refusal()), "{} at edge {edge}", self.loss.how);
    }
}

/// What a role that calls holds; the first alone does not.
const CALLER: [&str; 2] = ["registry.read", "servers.call"];

impl Loss {
    fn team(&self) -> String {
        format!("teams/{}", self.how)
    }

    fn refusal(&self) -> Refused {
        let (status, code, reason) = self.refused;
        (status, code, reason.to_owned())
    }
}

/// The status, the code and the reason.
type Refused = (u16, i64, String);
type Tried = Result<(), Refused>;

/// A modern call: answered by the upstream, or refused.
async fn ask(http: &reqwest::Client, url: &str, bearer: &str, tool: &str, body: String) -> Tried {
    let request = http.post(url).bearer_auth(bearer).body(body).header("content-type", "application/json");
    let request = request.header("accept", "application/json, text/event-stream");
    let request = request.header("mcp-protocol-version", MODERN).header("mcp-method", "tools/call");
    let response = request.header("mcp-name", tool).send().await.unwrap();
    let status = response.status().as_u16();
    let text = response.text().await.unwrap();
    let message = message(&text);
    match message["error"]["code"].as_i64() {
        None if message["result"].is_object() => Ok(()),
        code => {
            let reason = message["error"]["data"]["reason"].as_str().unwrap_or_default().to_owned();
            Err((status, code.unwrap_or_else(|| panic!("{status} {text}")), reason))
        }
    }
}

/// The message of an answer, whether it is a stream or not. Null: there is none.
fn message(text: &str) -> Value {
    let data =
        text.lines().filter_map(|line| line.strip_prefix("data: ")).rfind(|data| data.starts_with('{'));
    serde_json::from_str(data.unwrap_or(text)).unwrap_or_default()
}

/// What somebody has open at one edge.
struct Open {
    requests: Opened,
    socket: Socket,
}

impl Open {
    async fn at(http: &reqwest::Client, gateway: &Gateway, edge: usize, holder: &Holder) -> Self {
        let url = gateway.url(edge, holder.loss.how);
        let socket = Socket::open(&url, &holder.bearer).await;
        Self { requests: Client { http, url, bearer: &holder.bearer }.open_all().await, socket }
    }

    /// Waits until it is over, and goes on with the parked call in vain.
    async fn ends(self, http: &reqwest::Client, gateway: &Gateway, edge: usize, holder: &Holder) {
        let ends_all = holder.loss.ends_all;
        let parked = self.requests.parked.clone();
        self.requests.ends(ends_all).await;
        self.socket.ends(ends_all).await;
        // What ended here ended because the edge has heard of it.
        holder.is_refused(http, gateway, edge, &holder.bearer).await;
        let url = gateway.url(edge, holder.loss.how);
        let resumed = ask(http, &url, &holder.bearer, "ask", answered(&parked)).await;
        assert!(resumed.is_err(), "{}: a parked call goes on", holder.loss.how);
    }
}

/// The call that answers what a parked one asks.
fn answered(parked: &str) -> String {
    let message = message(parked);
    let (key, _) = message["result"]["inputRequests"].as_object().unwrap().iter().next().unwrap();
    let mut params = json!({
        "name": "ask", "arguments": {}, "requestState": message["result"]["requestState"],
        "inputResponses": {key: {"action": "accept", "content": {}}}
    });
    let meta: Value = serde_json::from_str(&format!("{{{}}}", modern_meta())).unwrap();
    params["_meta"] = meta["_meta"].clone();
    json!({"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": params}).to_string()
}

/// A WebSocket on which a call runs.
struct Socket(WebSocketStream<MaybeTlsStream<tokio::net::TcpStream>>);

impl Socket {
    async fn open(url: &str, bearer: &str) -> Self {
        let url = url.replace("http://", "ws://").replace("/mcp", "/ws");
        let mut request = url.into_client_request().unwrap();
        request.headers_mut().insert("authorization", format!("Bearer {bearer}").parse().unwrap());
        request.headers_mut().insert("sec-websocket-protocol", "mcp".parse().unwrap());
        let mut socket = Self(connect_async(request).await.unwrap().0);
        socket.0.send(Message::text(initialize(LEGACY))).await.unwrap();
        assert!(socket.until("serverInfo").await);
        socket.0.send(Message::text(call("endless", ""))).await.unwrap();
        assert!(socket.until("notifications/progress").await);
        socket
    }

    /// Whether this comes before it is closed.
    async fn until(&mut self, needle: &str) -> bool {
        let read = async {
            while let Some(Ok(frame)) = self.0.next().await {
                if frame.to_text().is_ok_and(|text| text.contains(needle)) {
                    return true;
                }
            }
            false
        };
        let read = tokio::time::timeout(PATIENCE, read).await;
        read.unwrap_or_else(|_| panic!("neither {needle:?} nor the end of a WebSocket comes"))
    }

    async fn ends(mut self, ends_all: bool) {
        if ends_all {
            self.until("\"nothing has this in it\"").await;
        } else {
            assert!(self.until(r#""error""#).await, "a WebSocket is closed that only lost a tool");
        }
    }
}

/// Nothing of this is to end because it takes too long.
fn patient() -> reqwest::Client {
    let client = reqwest::Client::builder().timeout(10 * PATIENCE).pool_idle_timeout(Duration::from_secs(1));
    client.no_proxy().build().unwrap()
}

/// The scripted upstream, with one more tool that is answered at once, for everybody's servers.
async fn upstream() -> Fake {
    let tools = format!("[{},{},{}]", tool("endless"), tool("ask"), tool("quick"));
    Fake::scripted(&tools, |request| {
        let message: Value = serde_json::from_str(&request.body).unwrap_or_default();
        if message["params"]["name"] != "quick" {
            return script(request);
        }
        let result = r#"{"content":[{"type":"text","text":"done"}]}"#;
        let body = format!(r#"{{"jsonrpc":"2.0","id":{},"result":{result}}}"#, message["id"]);
        Some(vec![fake::json(200, &body)])
    })
    .await
}

async fn gateway(upstream: &Fake) -> Gateway {
    let gateway = Gateway::start(Store::Sqlite, EDGES).await;
    let everybodys = Upstream {
        meta: belongs("", "", Visibility::Public),
        request_timeout: Some(prost_types::Duration { seconds: 600, nanos: 0 }),
        ..Upstream::default()
    };
    gateway.admin.create_upstream_with("fake", &upstream.url(), everybodys).await;
    gateway
}

async fn opened(http: &reqwest::Client, gateway: &Gateway, holder: &Holder) -> Vec<Open> {
    let mut opened = Vec::new();
    for edge in 0..EDGES {
        opened.push(Open::at(http, gateway, edge, holder).await);
    }
    opened
}

/// What is got back is there with the bearer that says so, and at no edge with one of before that does not.
async fn regained(http: &reqwest::Client, gateway: &Gateway, holder: &Holder) {
    let how = holder.loss.how;
    let bearer = holder.regain(gateway).await;
    gateway.admin.settled().await;
    for edge in 0..EDGES {
        eventually(&format!("{how}: what was given back is there"), PATIENCE, || async {
            let tried = holder.tried(http, gateway, edge, &bearer).await;
            tried.map_err(|refused| format!("{refused:?} at edge {edge}"))
        })
        .await;
        if !holder.loss.works_again {
            holder.is_refused(http, gateway, edge, &holder.bearer).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_somebody_lost_ends_what_they_began_on_every_edge() {
    let upstream = upstream().await;
    let (gateway, http) = (gateway(&upstream).await, patient());
    for loss in &LOSSES {
        let holder = Holder::new(&gateway, loss).await;
        gateway.admin.settled().await;
        let told = || upstream.received("notifications/cancelled").len();
        let before = told();
        let opened = opened(&http, &gateway, &holder).await;
        holder.lose(&gateway).await;
        for (edge, open) in opened.into_iter().enumerate() {
            open.ends(&http, &gateway, edge, &holder).await;
        }
        // Those of the requests, and that of the WebSocket.
        let calls = (CALLS + 1) * EDGES;
        eventually(&format!("{}: the upstream is told of every call", loss.how), PATIENCE, || async {
            let count = told() - before;
            if count >= calls { Ok(()) } else { Err(format!("{count} of {calls}")) }
        })
        .await;
        regained(&http, &gateway, &holder).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_loss_does_not_wait_for_what_is_imported() {
    let upstream = upstream().await;
    let (gateway, http) = (gateway(&upstream).await, patient());
    let mut holders = Vec::new();
    for loss in &LOSSES {
        holders.push(Holder::new(&gateway, loss).await);
    }
    gateway.admin.settled().await;
    let mut open = Vec::new();
    for holder in &holders {
        open.push(opened(&http, &gateway, holder).await);
    }
    let tools: Vec<String> = (0..MANY).map(|number| tool(&format!("many_{number}"))).collect();
    let many = Fake::start(&format!("[{}]", tools.join(",")), |_, _| Vec::new()).await;
    gateway.admin.create_upstream("many", &many.url()).await;
    gateway.admin.create_server("many", &["many/*"]).await;
    // Edges are only beginning to hear of it.
    for holder in &holders {
        holder.lose(&gateway).await;
    }
    for (holder, open) in holders.iter().zip(open) {
        for (edge, open) in open.into_iter().enumerate() {
            open.ends(&http, &gateway, edge, holder).await;
        }
    }
    gateway.admin.settled().await;
    for holder in &holders {
        for edge in 0..EDGES {
            holder.is_refused(&http, &gateway, edge, &holder.bearer).await;
        }
        regained(&http, &gateway, holder).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_loss_outlives_a_control_plane_that_is_killed_right_after_it() {
    let upstream = upstream().await;
    let (mut gateway, http) = (gateway(&upstream).await, patient());
    let mut holders = Vec::new();
    for loss in &LOSSES {
        let holder = Holder::new(&gateway, loss).await;
        gateway.admin.settled().await;
        let opened = opened(&http, &gateway, &holder).await;
        holder.lose(&gateway).await;
        gateway.kill_control();
        gateway.start_control().await;
        for (edge, open) in opened.into_iter().enumerate() {
            open.ends(&http, &gateway, edge, &holder).await;
        }
        holders.push(holder);
    }
    gateway.all_connected().await;
    gateway.on_disk(0).await;
    // An edge that starts without a control plane knows of it as well.
    gateway.kill_control();
    gateway.kill_edge(0);
    gateway.start_edge(0).await;
    for holder in &holders {
        eventually("the edge serves from its disk", PATIENCE, || async {
            let tried = holder.tried(&http, &gateway, 0, &holder.bearer).await;
            if tried == Err(holder.loss.refusal()) { Ok(()) } else { Err(format!("{tried:?}")) }
        })
        .await;
    }
    gateway.start_control().await;
    gateway.all_connected().await;
    for holder in &holders {
        regained(&http, &gateway, holder).await;
    }
}

/// A stream that was opened by somebody's bearer ends, whatever their other bearers may do.
#[tokio::test(flavor = "multi_thread")]
async fn streams_of_a_bearer_of_before_do_not_come_back_with_the_right() {
    let upstream = upstream().await;
    let (gateway, http) = (gateway(&upstream).await, patient());
    let holder = Holder::new(&gateway, &LOSSES[0]).await;
    gateway.admin.settled().await;
    let opened = opened(&http, &gateway, &holder).await;
    // Both at once: an edge may hear of them in one.
    holder.lose(&gateway).await;
    let bearer = holder.regain(&gateway).await;
    for (edge, open) in opened.into_iter().enumerate() {
        open.ends(&http, &gateway, edge, &holder).await;
        eventually("the new bearer works", PATIENCE, || async {
            let tried = holder.tried(&http, &gateway, edge, &bearer).await;
            tried.map_err(|refused| format!("{refused:?}"))
        })
        .await;
    }
}
