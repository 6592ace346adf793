//! Rates and quotas, by every method that they count, over every way to a server.

use mcp::revision::Era;
use serde_json::{Value, json};
use trunkline::identity::v1::{Conditions, Token};

use super::lines::{Line, Said, Transport, Visitor, WAYS, Way, http};
use super::upstream;
use crate::support::gateway::{Gateway, Store};
use crate::support::people::scope;

/// Calls that are tried until one is refused.
const TRIES: usize = 100;

/// A limit, and the word of who is past it. At one edge, a call more may be let through on credit.
const LIMITS: [(&str, usize, &str); 2] = [("2/month", 3, "quota_exceeded"), ("1/min", 2, "rate_exceeded")];

fn counted() -> [(&'static str, Value); 3] {
    [
        ("tools/call", json!({"name": "granted", "arguments": {}})),
        ("prompts/get", json!({"name": "granted"})),
        ("resources/read", json!({"uri": upstream::RESOURCES[0]})),
    ]
}

async fn issue(gateway: &Gateway, id: &str, limit: &str) -> String {
    let limits = vec![limit.to_owned()];
    let conditions = match limit.ends_with("/min") {
        true => Conditions { rates: limits, ..Conditions::default() },
        false => Conditions { quotas: limits, ..Conditions::default() },
    };
    let all = scope([&["servers/dev"], &["*"], &["*"], &["*"]]);
    let token = Token { scope: Some(all), conditions: Some(conditions), ..Token::default() };
    gateway.admin.issue(id, token).await
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_count_by_every_method_over_every_way() {
    let upstream = upstream::start().await;
    let gateway = Gateway::start(Store::Sqlite, 1).await;
    gateway.admin.create_upstream("all", &upstream.url()).await;
    gateway.admin.create_server("dev", &["all/*"]).await;
    let mut cells = Vec::new();
    for way in WAYS {
        for (limit, most, reason) in LIMITS {
            for (method, params) in counted() {
                let bearer = issue(&gateway, &format!("t{}", cells.len()), limit).await;
                cells.push((way, limit, most, reason, method, params, bearer));
            }
        }
    }
    gateway.admin.settled().await;
    let http = http();
    let edges = [gateway.edge_address(0).to_owned()];
    for (way, limit, most, reason, method, params, bearer) in cells {
        let what = format!("{way:?}, {limit}, {method}");
        let visitor = Visitor { http: &http, edges: &edges, server: "dev", bearer: &bearer };
        let mut line = Line::open(visitor, way, 0).await.unwrap().unwrap();
        if way.era == Era::Legacy {
            line.hello(0).await.unwrap();
        }
        let (mut allowed, mut refused) = (0, None);
        while allowed < TRIES && refused.is_none() {
            let said = line.ask(0, method, &params).await.unwrap();
            if said.message["result"].is_object() { allowed += 1 } else { refused = Some(said) }
        }
        let refused = refused.unwrap_or_else(|| panic!("{what}: {allowed} calls were let through"));
        assert!((1..=most).contains(&allowed), "{what}: {allowed} were let through before {refused:?}");
        is_told(&what, way, reason, &refused);
        let listed = line.ask(0, "tools/list", &json!({})).await.unwrap();
        assert!(listed.message["result"]["tools"].is_array(), "{what}: a list is counted, too: {listed:?}");
    }
}

fn is_told(what: &str, way: Way, reason: &str, refused: &Said) {
    let (error, status) = (&refused.message["error"], refused.status);
    assert_eq!(
        (&error["code"], &error["data"]["reason"]),
        (&json!(-31012), &json!(reason)),
        "{what}: {refused:?}"
    );
    assert!(error["data"]["retry_after_ms"].as_u64().is_some_and(|wait| wait > 0), "{what}: {refused:?}");
    assert_eq!(status, if way.transport == Transport::Streamable { 429 } else { 0 }, "{what}");
}
