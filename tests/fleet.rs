//! Several edges behind a load balancer that knows nothing of sessions: whichever is asked, it is as if there were one.

use std::time::Duration;

use reqwest::Method;

use crate::support::fake::{Fake, Received, Step, id, json, stream_head, tool, write};
use crate::support::gateway::{Gateway, Store};
use crate::support::wire::{Client, LEGACY};
use crate::support::{PATIENCE, eventually};

const LIST: &str = r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#;
const URI: &str = "test://changes";

/// Three edges before an upstream with a tool that never answers and a resource that changes as soon as somebody
/// listens.
async fn fleet() -> (Gateway, Fake, String) {
    let upstream = Fake::scripted(&format!("[{}]", tool("endless")), script).await;
    let gateway = Gateway::start(Store::Sqlite, 3).await;
    gateway.admin.create_upstream("fake", &upstream.url()).await;
    gateway.admin.create_server("dev", &["fake/*"]).await;
    let bearer = gateway.admin.create_token("client", "dev", &["*"]).await;
    gateway.admin.settled().await;
    (gateway, upstream, bearer)
}

fn script(request: &Received) -> Option<Vec<Step>> {
    let message: serde_json::Value = serde_json::from_str(&request.body).unwrap_or_default();
    let result = match message["method"].as_str().unwrap_or_default() {
        "server/discover" => return Some(vec![json(400, "")]),
        "initialize" => format!(
            r#"{{"protocolVersion":"{LEGACY}","capabilities":{{"tools":{{}},"resources":{{"subscribe":true}}}},"serverInfo":{{"name":"fake","version":"1"}}}}"#
        ),
        "resources/list" => format!(r#"{{"resources":[{{"uri":"{URI}","name":"changes"}}]}}"#),
        "resources/templates/list" => r#"{"resourceTemplates":[]}"#.to_owned(),
        "resources/subscribe" => "{}".to_owned(),
        "tools/call" => return Some(vec![stream_head(), Step::Wait(PATIENCE)]),
        _ if request.head.starts_with("GET") => {
            let changed = format!(
                "data: {{\"jsonrpc\":\"2.0\",\"method\":\"notifications/resources/updated\",\"params\":{{\"uri\":\"{URI}\"}}}}\n\n"
            );
            return Some(vec![
                stream_head(),
                Step::Wait(Duration::from_millis(200)),
                write(&changed),
                Step::Wait(PATIENCE),
            ]);
        }
        _ => return None,
    };
    Some(vec![json(200, &format!(r#"{{"jsonrpc":"2.0","id":{},"result":{result}}}"#, id(request)))])
}

/// One client of the session, at each edge.
async fn at_each(gateway: &Gateway, bearer: &str) -> Vec<Client> {
    let opened = Client::open(&gateway.url(0, "dev"), bearer).await.unwrap();
    (0..gateway.edge_count()).map(|edge| opened.at(&gateway.url(edge, "dev"))).collect()
}

async fn status(client: &Client) -> u16 {
    client.post(LIST, &[]).await.unwrap().status
}

async fn end(client: &Client) {
    let ended = client.send(Method::DELETE, Vec::new(), &[]).await.unwrap();
    assert!((200..300).contains(&ended.status), "{ended:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_is_over_on_every_edge_when_its_end_is_answered() {
    let (mut gateway, _upstream, bearer) = fleet().await;
    let clients = at_each(&gateway, &bearer).await;
    for client in &clients {
        assert_eq!(status(client).await, 200);
    }
    end(&clients[1]).await;
    for client in &clients {
        assert_eq!(status(client).await, 404);
    }

    // An edge that died holds nobody up, and knows when it is back; no control plane has a part in it.
    let clients = at_each(&gateway, &bearer).await;
    gateway.kill_control();
    gateway.on_disk(2).await;
    gateway.kill_edge(2);
    end(&clients[0]).await;
    assert_eq!(status(&clients[1]).await, 404);
    gateway.start_edge(2).await;
    gateway.all_acquainted().await;
    assert_eq!(status(&clients[2]).await, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_stays_over_when_no_edge_is_left_that_knows() {
    let (mut gateway, _upstream, bearer) = fleet().await;
    let (over, goes_on) = (at_each(&gateway, &bearer).await, at_each(&gateway, &bearer).await);
    end(&over[1]).await;
    for edge in 0..3 {
        gateway.stop_edge(edge);
    }
    for edge in 0..3 {
        gateway.start_edge(edge).await;
    }
    gateway.all_acquainted().await;
    for edge in 0..3 {
        assert_eq!((status(&over[edge]).await, status(&goes_on[edge]).await), (404, 200), "edge {edge}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_acts_from_any_edge_on_its_call_and_its_stream() {
    let (gateway, upstream, bearer) = fleet().await;
    let clients = at_each(&gateway, &bearer).await;

    let mut stream = clients[1].listen().await;
    let subscribe =
        format!(r#"{{"jsonrpc":"2.0","id":1,"method":"resources/subscribe","params":{{"uri":"{URI}"}}}}"#);
    let subscribed = clients[2].post(&subscribe, &[]).await.unwrap();
    assert_eq!(subscribed.message(), br#"{"jsonrpc":"2.0","id":1,"result":{}}"#);
    let told = async {
        let mut seen = String::new();
        while !seen.contains("notifications/resources/updated") {
            seen += std::str::from_utf8(&stream.chunk().await.unwrap().unwrap()).unwrap();
        }
        seen
    };
    let told = tokio::time::timeout(PATIENCE, told).await.unwrap();
    assert!(told.contains(&format!(r#""uri":"{URI}""#)), "{told}");

    let calling = clients[0].clone();
    let call = r#"{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"endless","arguments":{}}}"#;
    let call = tokio::spawn(async move { calling.post(call, &[]).await });
    let upstream = &upstream;
    let called = || async move { upstream.received("tools/call").pop().ok_or_else(String::new) };
    let called = eventually("the call arrives", PATIENCE, called).await;
    let cancel = r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":7}}"#;
    assert_eq!(clients[1].post(cancel, &[]).await.unwrap().status, 202);
    let cancelled =
        || async move { upstream.received("notifications/cancelled").pop().ok_or_else(String::new) };
    let cancelled = eventually("the call is cancelled", PATIENCE, cancelled).await;
    assert_eq!(cancelled.body, cancel.replace(":7}", &format!(":{}}}", id(&called))));
    call.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn operators_see_how_edges_reach_each_other() {
    let gateway = Gateway::start(Store::Sqlite, 2).await;
    let edges = gateway.admin.edges().await.unwrap();
    let shown = gateway.ctl("get edges -o wide").await;
    for edge in edges {
        assert!(edge.sibling_address.starts_with("127.0.0.1:"), "{edge:?}");
        assert!(shown.contains(&edge.sibling_address), "{shown}");
    }
}
