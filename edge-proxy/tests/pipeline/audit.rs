//! What is recorded at an edge: every refusal of policy, and calls where that is asked for, by the digest of their arguments.

use trunkline::admin::v1::{AuditKind, AuditRecord};
use trunkline::edge::v1 as wire;

use crate::eras::ask;
use crate::support::{Edge, Reply, Socket, Upstream, deny, json, modern};

fn sha256(bytes: &[u8]) -> Vec<u8> {
    aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes).as_ref().to_vec()
}

async fn upstream() -> Upstream {
    Upstream::start(|request| {
        json(&format!(r#"{{"jsonrpc":"2.0","id":{},"result":{{"content":[]}}}}"#, request.id()))
    })
    .await
}

/// What is recorded now, the repeated included.
fn taken(edge: &Edge) -> Vec<AuditRecord> {
    edge.shared.audit.take(1_000, true)
}

fn told(records: &[AuditRecord]) -> Vec<(&str, &str, &str, i64)> {
    records.iter().map(|one| (&*one.action, &*one.resource, &*one.reason, one.count)).collect()
}

fn call(name: &str) -> String {
    ask("1", "tools/call", &format!(r#""name":"{name}","arguments":{{"secret":"canary-1"}},"#), "{}", "")
}

#[tokio::test]
async fn what_policy_refuses_is_recorded_and_what_it_lets_in_is_not() {
    let mut edge = Edge::start(&upstream().await.url);
    assert_eq!(edge.post(&modern("tools/call", Some("u_echo")), &call("u_echo")).await.status, 200);
    assert!(taken(&edge).is_empty());
    // What does not exist is not refused.
    edge.post(&modern("tools/call", Some("none")), &call("none")).await;
    assert!(taken(&edge).is_empty());
    let access = edge.snapshot.access();
    access.tools = vec!["other_*".into()];
    edge.publish();
    for _ in 0..5 {
        edge.post(&modern("tools/call", Some("u_echo")), &call("u_echo")).await;
    }
    let records = taken(&edge);
    assert_eq!(
        told(&records),
        [
            ("tools/call", "servers/dev/u_echo", "out_of_scope", 1),
            ("tools/call", "servers/dev/u_echo", "out_of_scope", 4),
        ]
    );
    let first = &records[0];
    assert_eq!(
        (first.kind(), &*first.actor, &*first.address),
        (AuditKind::Refusal, "tokens/all", "127.0.0.1")
    );
    assert!(!first.actor_uid.is_empty() && first.arguments_sha256.is_empty());
    assert!(!format!("{records:?}").contains("canary"));
}

/// To its caller what a rule hides does not exist. Whoever reads the log is told which rule it was.
#[tokio::test]
async fn what_a_rule_hides_is_recorded_as_refused_by_it() {
    let mut edge = Edge::start(&upstream().await.url);
    let unreadable = "what nobody can read";
    edge.snapshot.rule(vec![
        deny(&["u_echo"], ""),
        deny(&["u_other"], unreadable),
        deny(&["u+file:///t/secret*"], ""),
    ]);
    edge.publish();
    let read = |uri: &str| ask("1", "resources/read", &format!(r#""uri":"{uri}","#), "{}", "");
    let secret = "u+file:///t/secret1";
    for (name, reason) in [("u_echo", "denied_by_rule"), ("u_other", "policy_error")] {
        let reply = edge.post(&modern("tools/call", Some(name)), &call(name)).await;
        assert!(reply.body.contains(&format!("unknown tool: {name}")), "{}", reply.body);
        let records = taken(&edge);
        assert_eq!(told(&records), [("tools/call", &*format!("servers/dev/{name}"), reason, 1)]);
        assert_eq!(records[0].rule, format!("servers/dev/rules/{name}"));
    }
    edge.post(&modern("resources/read", Some(secret)), &read(secret)).await;
    let records = taken(&edge);
    assert_eq!(told(&records), [("resources/read", &*format!("servers/dev/{secret}"), "denied_by_rule", 1)]);
    assert_eq!(records[0].rule, "servers/dev/rules/u+file:///t/secret*");
    // What the scope leaves out is out of scope, whatever rules say of it.
    let access = edge.snapshot.access();
    (access.tools, access.resources) = (vec!["u_other".into()], vec!["other*".into()]);
    edge.publish();
    edge.post(&modern("tools/call", Some("u_echo")), &call("u_echo")).await;
    edge.post(&modern("resources/read", Some(secret)), &read(secret)).await;
    let records = taken(&edge);
    assert!(
        records.iter().all(|record| record.reason == "out_of_scope" && record.rule.is_empty()),
        "{records:?}"
    );
    assert_eq!(records.len(), 2);
}

/// A name that a client makes up is not written into the log for it.
#[tokio::test]
async fn a_name_that_there_is_not_is_not_recorded() {
    let mut edge = Edge::start(&upstream().await.url);
    let uri = "u+file:///t/%41N";
    let read = ask("1", "resources/read", &format!(r#""uri":"{uri}","#), "{}", "");
    edge.post(&modern("resources/read", Some(uri)), &read).await;
    assert_eq!(told(&taken(&edge)), [("resources/read", "servers/dev", "uri_not_canonical", 1)]);
    edge.snapshot.access().from = vec!["192.0.2.0/24".into()];
    edge.publish();
    let bearer = format!("Bearer {}", edge.bearer);
    for server in ["made-up-1", "made-up-2"] {
        let asked = edge.at("GET", &format!("/servers/{server}/sse"), "").header("authorization", &bearer);
        Reply::of(asked).await;
    }
    assert_eq!(
        told(&taken(&edge)),
        [("", "", "address_not_allowed", 1), ("", "", "address_not_allowed", 1)],
        "two, told at once and at the end"
    );
}

#[tokio::test]
async fn a_condition_that_does_not_hold_is_recorded_on_every_way_in() {
    let mut edge = Edge::start(&upstream().await.url);
    edge.snapshot.access().from = vec!["192.0.2.0/24".into()];
    edge.publish();
    let bearer = format!("Bearer {}", edge.bearer);
    edge.post(&modern("tools/call", Some("u_echo")), &call("u_echo")).await;
    assert_eq!(told(&taken(&edge)), [("", "servers/dev", "address_not_allowed", 1)]);
    Reply::of(edge.at("GET", "/servers/dev/sse", "").header("authorization", &bearer)).await;
    assert_eq!(told(&taken(&edge)), [("", "servers/dev", "address_not_allowed", 1)]);
    let headers = [("authorization", bearer.as_str()), ("sec-websocket-protocol", "mcp")];
    assert!(Socket::connect(&edge, "/servers/dev/ws", &headers).await.is_err());
    assert_eq!(told(&taken(&edge)), [("", "servers/dev", "address_not_allowed", 1)]);
}

#[tokio::test]
async fn a_method_and_a_limit_are_recorded_by_their_reasons() {
    let mut edge = Edge::start(&upstream().await.url);
    edge.snapshot.access().methods = vec!["tools/list".into()];
    edge.publish();
    edge.post(&modern("tools/call", Some("u_echo")), &call("u_echo")).await;
    assert_eq!(told(&taken(&edge)), [("tools/call", "servers/dev", "method_not_allowed", 1)]);
    let access = edge.snapshot.access();
    access.methods = Vec::new();
    access.limits = vec![wire::Limit { id: "q0".into(), text: "1/day".into() }];
    edge.publish();
    edge.shared.limits.set_reachable(true);
    for _ in 0..2 {
        edge.post(&modern("tools/call", Some("u_echo")), &call("u_echo")).await;
    }
    assert_eq!(told(&taken(&edge)), [("tools/call", "servers/dev/u_echo", "quota_exceeded", 1)]);
}

#[tokio::test]
async fn calls_are_recorded_by_the_digest_of_their_arguments_where_that_is_asked_for() {
    let edge = Edge::start(&upstream().await.url);
    edge.shared.audit.record_calls();
    edge.post(&modern("tools/call", Some("u_echo")), &call("u_echo")).await;
    edge.post(&modern("tools/list", None), &ask("1", "tools/list", "", "{}", "")).await;
    let records = taken(&edge);
    assert_eq!(told(&records), [("tools/call", "servers/dev/u_echo", "", 1)]);
    assert_eq!(records[0].kind(), AuditKind::Call);
    assert_eq!(records[0].arguments_sha256, sha256(br#"{"secret":"canary-1"}"#));
    assert!(!format!("{records:?}").contains("canary"));
}

#[tokio::test]
async fn no_call_is_let_in_while_there_is_no_room_where_that_is_wanted() {
    let edge = Edge::start(&upstream().await.url);
    edge.shared.audit.record_calls();
    edge.shared.audit.fail_closed();
    let asked = trunkline_edge_proxy::audit::Asked {
        rule: "",
        principal: ("tokens/all", "uid"),
        address: None,
        server: "dev",
        method: "tools/call",
        target: "u_echo",
        revision: 1,
    };
    while !edge.shared.audit.is_closed() {
        edge.shared.audit.call(&asked, None, "");
    }
    let reply = edge.post(&modern("tools/call", Some("u_echo")), &call("u_echo")).await;
    assert_eq!((reply.status, reply.error_code(), reply.header("retry-after")), (503, -31009, "1"));
    assert!(reply.body.contains("audit_unavailable"), "{}", reply.body);
    // Lists change nothing, and are not recorded.
    let listed = edge.post(&modern("tools/list", None), &ask("1", "tools/list", "", "{}", "")).await;
    assert_eq!(listed.status, 200);
    edge.shared.audit.take(1_000, false);
    assert_eq!(edge.post(&modern("tools/call", Some("u_echo")), &call("u_echo")).await.status, 200);
}
