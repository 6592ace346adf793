//! Calls that rules hold back until somebody approves them: what a control plane is asked, and what clients of each era are told.

mod inputs;

use serde_json::{Value, json};
use tonic::{Code, Status};
use trunkline::admin::v1::AuditKind;
use trunkline::edge::v1 as wire;
use trunkline::policy::v1::{ApprovalState, UseApprovalRequest};
use trunkline_edge_proxy::observe::ApprovalOutcome;

use crate::conditions::{Client, upstream, value};
use crate::eras::ask;
use crate::streams::until;
use crate::support::{
    ControlPlane, EXPIRES, Edge, Reply, Upstream, approve, deny, eventually, making, modern,
};
use crate::withdrawn::{before, endless};

const ECHO: &str = r#"{"name":"u_echo","inputSchema":{"type":"object"}}"#;
const PARAMS: &str = r#""name":"u_echo","arguments":{"b":[1.50, null],"a":"\u00e9"},"#;

pub(crate) fn sha256(bytes: &[u8]) -> Vec<u8> {
    aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes).as_ref().to_vec()
}

/// An edge before `upstream` that holds calls of `u_echo` back, and asks `control_plane`.
pub(crate) fn holding(upstream: &Upstream, control_plane: &ControlPlane) -> Edge {
    let mut edge = Edge::start(&upstream.url);
    hold(&mut edge, control_plane);
    edge
}

fn hold(edge: &mut Edge, control_plane: &ControlPlane) {
    edge.snapshot.rule(vec![approve(&["u_echo"], "")]);
    edge.publish();
    control_plane.join(edge);
}

/// What is asked about `PARAMS` of `tokens/all`.
fn question() -> UseApprovalRequest {
    UseApprovalRequest {
        principal: "tokens/all".into(),
        principal_uid: "uid-all".into(),
        server: "servers/dev".into(),
        server_uid: "s-dev".into(),
        tool: "u_echo".into(),
        target: "upstreams/u/tools/echo".into(),
        upstream_uid: "u-u".into(),
        definition: sha256(ECHO.as_bytes()),
        arguments_json: r#"{"a":"é","b":[1.50,null]}"#.into(),
        rule: "servers/dev/rules/approve-u_echo".into(),
        reason: "it deletes".into(),
        address: "127.0.0.1".into(),
    }
}

pub(crate) const HELD: &str =
    "a rule of this server holds this call back until somebody approves it: it deletes; ";

pub(crate) fn told(number: usize) -> String {
    format!(
        "{HELD}have somebody else who may approve it (an administrator, or an owner of its team) run `mcpctl approvals approve \
         a-{number}` before {EXPIRES}, then make the same call again"
    )
}

/// The error of a call that waits for this approval.
pub(crate) fn pending(number: usize) -> Value {
    let data =
        json!({"reason": "approval_needed", "approval": format!("approvals/a-{number}"), "expires": EXPIRES});
    json!({"code": -31012, "message": told(number), "data": data})
}

async fn call(client: &mut Client, params: &str) -> Value {
    client.ask("tools/call", params, Some("u_echo")).await
}

/// The answer to a call of the modern era, with its status.
pub(crate) async fn post(edge: &Edge, params: &str) -> Reply {
    edge.post(&modern("tools/call", Some("u_echo")), &ask("1", "tools/call", params, "{}", "")).await
}

fn error(reply: &Reply) -> Value {
    value(&reply.body)["error"].clone()
}

#[tokio::test]
async fn a_call_waits_until_it_is_approved_and_is_made_once_on_every_transport_and_in_every_era() {
    let mut made = 0;
    let upstream = upstream().await;
    let control_plane = ControlPlane::start().await;
    let clients = Client::all_at(&upstream, |edge| hold(edge, &control_plane)).await;
    for (round, (what, mut client)) in clients.into_iter().enumerate() {
        // Each asks for two approvals.
        let (first, second) = (2 * round + 1, 2 * round + 2);
        let listed = client.ask("tools/list", "", None).await;
        assert_eq!(listed["result"]["tools"][0], value(ECHO), "{what}: it is not hidden");
        for _ in 0..2 {
            assert_eq!(call(&mut client, PARAMS).await["error"], pending(first), "{what}");
        }
        assert_eq!(upstream.calls("tools/call").len(), made, "{what}");
        control_plane.approve(first);
        // The same value, in other words.
        let respelled = r#""arguments":{ "a" : "é", "\u0062" : [1.50,null] } ,"name":"u_echo","#;
        assert_eq!(call(&mut client, respelled).await["result"]["content"], json!([]), "{what}");
        made += 1;
        let sent = upstream.calls("tools/call").pop().unwrap();
        assert!(sent.body.contains(r#"{ "a" : "é", "\u0062" : [1.50,null] }"#), "{what}: {}", sent.body);
        assert_eq!(call(&mut client, PARAMS).await["error"], pending(second), "{what}: it is used up");
        assert_eq!(control_plane.asked()[4 * round..], vec![question(); 4], "{what}");
        // Nothing but calls of that tool is held back.
        client.ask("tools/call", r#""name":"u_other","#, Some("u_other")).await;
        client.ask("prompts/get", r#""name":"u_p","#, Some("u_p")).await;
        client.ask("resources/read", r#""uri":"u+file:///r","#, Some("u+file:///r")).await;
        assert_eq!(
            (upstream.calls("tools/call").len(), control_plane.asked().len()),
            (made + 1, 4 * round + 4)
        );
        made += 1;
        control_plane.decide(second, ApprovalState::Used, "");
    }
}

#[tokio::test]
async fn each_message_of_a_batch_is_approved_for_itself() {
    let upstream = upstream().await;
    let control_plane = ControlPlane::start().await;
    let edge = holding(&upstream, &control_plane);
    let session = edge.session("2025-03-26", "{}").await;
    let call = |id: u8, tool: &str, arguments: &str| {
        format!(
            r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/call","params":{{"name":"{tool}","arguments":{arguments}}}}}"#
        )
    };
    let calls = [call(1, "u_echo", r#"{"a":1}"#), call(2, "u_other", "{}"), call(3, "u_echo", r#"{"a":2}"#)];
    let batch = format!("[{}]", calls.join(","));
    let errors = async || {
        let reply = edge.post(&[("mcp-session-id", &session)], &batch).await;
        let answers = value(&reply.body);
        let errors: Vec<_> =
            answers.as_array().unwrap().iter().map(|answer| answer["error"].clone()).collect();
        (reply.status, errors)
    };
    assert_eq!(errors().await, (200, vec![pending(1), Value::Null, pending(2)]));
    control_plane.approve(2);
    assert_eq!(errors().await, (200, vec![pending(1), Value::Null, Value::Null]));
    assert_eq!(upstream.calls("tools/call").len(), 3);
}

#[tokio::test]
async fn who_denied_it_says_why() {
    let upstream = upstream().await;
    let control_plane = ControlPlane::start().await;
    let edge = holding(&upstream, &control_plane);
    assert_eq!((post(&edge, PARAMS).await.status, control_plane.asked().len()), (403, 1));
    for (comment, says) in [("not \"today\"", ": not \"today\""), ("", "")] {
        control_plane.decide(1, ApprovalState::Denied, comment);
        let reply = post(&edge, PARAMS).await;
        let message = format!(
            "somebody who may approve this call has denied it{says}; it may be asked for again after {EXPIRES}"
        );
        let mut data = json!({"reason": "approval_denied", "approval": "approvals/a-1", "expires": EXPIRES});
        if !comment.is_empty() {
            data["comment"] = comment.into();
        }
        let expected = json!({"code": -31012, "message": message, "data": data});
        assert_eq!((reply.status, error(&reply)), (403, expected));
    }
    assert_eq!(upstream.calls("tools/call").len(), 0);
}

#[tokio::test]
async fn without_an_answer_no_call_is_made() {
    let upstream = upstream().await;
    let control_plane = ControlPlane::start().await;
    let edge = holding(&upstream, &control_plane);
    let unasked = json!({
        "code": -31012,
        "message": format!("{HELD}no control plane took the request for it; try again later"),
        "data": {"reason": "approval_needed"},
    });
    let refused = async |why: &str| {
        let reply = post(&edge, PARAMS).await;
        assert_eq!((reply.status, error(&reply)), (403, unasked.clone()), "{why}");
    };
    edge.control_plane.send_replace(None);
    refused("there is none").await;
    control_plane.join(&edge);
    for code in
        [Code::Unimplemented, Code::Internal, Code::PermissionDenied, Code::Unavailable, Code::Aborted]
    {
        control_plane.fail(Some(Status::new(code, "no")));
        refused("it fails").await;
    }
    control_plane.fail(Some(Status::resource_exhausted("20 wait")));
    let reply = post(&edge, PARAMS).await;
    let message = format!(
        "{HELD}too many calls wait for that already; have those decided first, or wait until they have expired"
    );
    let full = json!({"code": -31012, "message": message, "data": {"reason": "too_many_approvals"}});
    assert_eq!((reply.status, error(&reply)), (429, full));
    // It was taken, so nobody is told that it was not.
    control_plane.fail(Some(Status::invalid_argument("arguments_json: cannot be read")));
    let reply = post(&edge, PARAMS).await;
    let message = "a rule of this server cannot decide about this, and so does not allow it: it deletes";
    let unreadable = json!({"code": -31012, "message": message, "data": {"reason": "policy_error"}});
    assert_eq!((reply.status, error(&reply)), (403, unreadable));
    assert_eq!(edge.metrics.approvals(ApprovalOutcome::Unreadable).get(), 1);
    control_plane.fail(None);
    assert_eq!(error(&post(&edge, PARAMS).await), pending(1));
    for state in [ApprovalState::Unspecified, ApprovalState::Expired] {
        control_plane.decide(1, state, "");
        refused("that is no answer").await;
    }
    control_plane.approve(1);
    control_plane.fall_silent();
    refused("it says nothing").await;
    assert_eq!(upstream.calls("tools/call").len(), 0);
    eventually("nothing is left of it", || edge.metrics.approvals_open.get() == 0).await;
}

#[tokio::test]
async fn an_approval_is_for_one_caller_one_tool_as_it_was_described_and_its_arguments() {
    let upstream = upstream().await;
    let control_plane = ControlPlane::start().await;
    let mut edge = holding(&upstream, &control_plane);
    let mut asked = vec![question()];
    assert_eq!(error(&post(&edge, PARAMS).await), pending(1));
    control_plane.approve(1);

    for (params, arguments) in [
        (r#""name":"u_echo","arguments":{"b":[1.5,null],"a":"\u00e9"},"#, r#"{"a":"é","b":[1.5,null]}"#),
        (r#""name":"u_echo","arguments":{},"#, "{}"),
        (r#""name":"u_echo","#, ""),
    ] {
        asked.push(UseApprovalRequest { arguments_json: arguments.into(), ..question() });
        assert_eq!(error(&post(&edge, params).await), pending(asked.len()), "{params}");
    }

    let own = edge.bearer.clone();
    edge.bearer = edge.keys.bearer("some");
    asked.push(UseApprovalRequest {
        principal: "tokens/some".into(),
        principal_uid: "uid-some".into(),
        ..question()
    });
    assert_eq!(error(&post(&edge, PARAMS).await), pending(5));
    edge.bearer = own;

    let described = r#"{"name":"echo","inputSchema":{"type":"object"},"description":"Deletes."}"#;
    let before = edge.snapshot.clone();
    edge.snapshot.resources.tools[0].definition_json = described.into();
    edge.publish();
    let definition = sha256(described.replace("echo", "u_echo").as_bytes());
    asked.push(UseApprovalRequest { definition, ..question() });
    assert_eq!(error(&post(&edge, PARAMS).await), pending(6));

    edge.snapshot = before.clone();
    edge.snapshot.resources.upstreams[0].uid = "u-2".into();
    edge.publish();
    asked.push(UseApprovalRequest { upstream_uid: "u-2".into(), ..question() });
    assert_eq!(error(&post(&edge, PARAMS).await), pending(7));
    assert_eq!(upstream.calls("tools/call").len(), 0);

    edge.snapshot = before;
    edge.publish();
    asked.push(question());
    assert_eq!(post(&edge, PARAMS).await.status, 200, "and it is there still");
    assert_eq!(control_plane.asked(), asked);
}

#[tokio::test]
async fn arguments_that_can_be_read_in_two_ways_are_approved_by_nobody() {
    let upstream = upstream().await;
    let control_plane = ControlPlane::start().await;
    let edge = holding(&upstream, &control_plane);
    let message = "a rule of this server cannot decide about this, and so does not allow it: it deletes";
    let expected = json!({"code": -31012, "message": message, "data": {"reason": "policy_error"}});
    let long = format!(r#"{{"a":"{}"}}"#, "x".repeat(64 << 10));
    let deep = format!(r#"{{"a":{}1{}}}"#, "[".repeat(64), "]".repeat(64));
    let twice = [r#"{"a":1,"a":2}"#, r#"{"x":[{"a":1,"\u0061":2}]}"#];
    let in_other_letters = [r#"{"Path":"/etc","path":"/tmp"}"#, r#"{"x":[{"iſ":1,"IS":2}]}"#];
    let no_object = ["5", r#""x""#, "[1]"];
    let others = [r#"{"a":"\ud800"}"#, &long, &deep];
    for arguments in twice.into_iter().chain(in_other_letters).chain(no_object).chain(others) {
        let reply = post(&edge, &format!(r#""name":"u_echo","arguments":{arguments},"#)).await;
        assert_eq!((reply.status, error(&reply)), (403, expected.clone()), "{arguments:.40}");
    }
    let records = edge.shared.audit.take(100, true);
    let told: Vec<_> = records.iter().map(|one| (&*one.reason, &*one.rule)).collect();
    assert_eq!(told[0], ("policy_error", "servers/dev/rules/approve-u_echo"));
    assert_eq!((upstream.calls("tools/call").len(), control_plane.asked().len()), (0, 0));
}

/// What is refused anyway is approved by nobody, and asking counts as a call does.
#[tokio::test]
async fn rules_that_refuse_come_first_then_rates_and_quotas_then_the_approval() {
    let upstream = upstream().await;
    let control_plane = ControlPlane::start().await;
    let mut edge = holding(&upstream, &control_plane);
    edge.snapshot
        .rule(vec![approve(&["u_echo"], r#"args.a != "free""#), deny(&["u_echo"], r#"args.a == "never""#)]);
    edge.publish();
    let named = |a: &str| format!(r#""name":"u_echo","arguments":{{"a":"{a}"}},"#);
    let reason = async |edge: &Edge, a: &str| {
        let answer = value(&post(edge, &named(a)).await.body);
        answer["error"]["data"]["reason"].as_str().unwrap_or("made").to_owned()
    };
    assert_eq!(reason(&edge, "never").await, "denied_by_rule");
    assert_eq!(reason(&edge, "free").await, "made");
    assert_eq!(
        error(&post(&edge, r#""name":"u_echo","arguments":{},"#).await)["data"]["reason"],
        "policy_error"
    );
    assert_eq!(control_plane.asked().len(), 0);

    // One call passes on credit, and no second.
    let limit = wire::Limit { id: "q0".into(), text: "1/day".into() };
    edge.snapshot.access().limits = vec![limit];
    edge.publish();
    edge.shared.limits.set_reachable(true);
    assert_eq!(reason(&edge, "x").await, "approval_needed");
    control_plane.approve(1);
    for _ in 0..2 {
        assert_eq!(reason(&edge, "x").await, "quota_exceeded", "asking took what there was");
    }
    assert_eq!((control_plane.asked().len(), upstream.calls("tools/call").len()), (1, 1));
}

#[tokio::test]
async fn what_is_not_made_is_recorded_with_its_rule_and_what_is_made_as_a_call() {
    let control_plane = ControlPlane::start().await;
    let edge = holding(&upstream().await, &control_plane);
    edge.shared.audit.record_calls();
    let recorded = async || {
        post(&edge, PARAMS).await;
        let records = edge.shared.audit.take(100, true);
        let told = records
            .iter()
            .map(|one| (one.kind(), one.reason.clone(), one.rule.clone(), one.resource.clone()));
        told.collect::<Vec<_>>()
    };
    let refusal = |reason: &str| {
        let (rule, resource) =
            ("servers/dev/rules/approve-u_echo".to_owned(), "servers/dev/u_echo".to_owned());
        (AuditKind::Refusal, reason.to_owned(), rule, resource)
    };
    assert_eq!(recorded().await, [refusal("approval_needed")]);
    control_plane.decide(1, ApprovalState::Denied, "no");
    assert_eq!(recorded().await, [refusal("approval_denied")]);
    control_plane.approve(1);
    let made = (AuditKind::Call, String::new(), String::new(), "servers/dev/u_echo".to_owned());
    assert_eq!(recorded().await, [made]);
    control_plane.fail(Some(Status::internal("no")));
    assert_eq!(recorded().await, [refusal("approval_needed")]);
    control_plane.fail(Some(Status::resource_exhausted("no")));
    assert_eq!(recorded().await, [refusal("too_many_approvals")]);
    let counted = ApprovalOutcome::ALL.iter().map(|outcome| edge.metrics.approvals(*outcome).get());
    assert_eq!(counted.collect::<Vec<_>>(), [1, 1, 1, 1, 0, 1, 0]);
}

/// What never left the edge was not used, and the audit log says by which approval a call was made.
#[tokio::test]
async fn what_was_approved_is_good_still_where_the_upstream_could_not_be_reached() {
    let upstream = upstream().await;
    let control_plane = ControlPlane::start().await;
    let mut edge = holding(&upstream, &control_plane);
    edge.shared.audit.record_calls();
    assert_eq!(error(&post(&edge, PARAMS).await), pending(1));
    control_plane.approve(1);
    let url =
        std::mem::replace(&mut edge.snapshot.resources.upstreams[0].url, "http://127.0.0.1:9/mcp".into());
    edge.publish();
    for round in 1..=2 {
        assert_eq!(post(&edge, PARAMS).await.error_code(), -31101);
        eventually("it is given back", || control_plane.state(1) == ApprovalState::Approved).await;
        assert_eq!(control_plane.asked().len(), 1 + round);
    }
    edge.snapshot.resources.upstreams[0].url = url;
    edge.publish();
    edge.shared.audit.take(100, true);
    assert_eq!(post(&edge, PARAMS).await.status, 200);
    assert_eq!(control_plane.state(1), ApprovalState::Used);
    let records = edge.shared.audit.take(100, true);
    let told: Vec<_> = records.iter().map(|one| (one.kind(), &*one.approval)).collect();
    assert_eq!(told, [(AuditKind::Call, "approvals/a-1")]);
    // What was sent is used up, whatever came of it.
    assert_eq!(error(&post(&edge, PARAMS).await), pending(2));
}

/// Clients put keys of their own into `_meta`; what no approver sees does not go with the call.
#[tokio::test]
async fn what_was_not_shown_is_not_sent() {
    let upstream = upstream().await;
    let control_plane = ControlPlane::start().await;
    let edge = holding(&upstream, &control_plane);
    let session = edge.session("2025-11-25", "{}").await;
    let more = r#""inputResponses":{"q":{"action":"accept"}},"requestState":"s","x":{"force":true},"#;
    assert_eq!(error(&post(&edge, PARAMS).await), pending(1));
    control_plane.approve(1);
    let reply = post(&edge, &format!("{more}{PARAMS}")).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    let plain = ask("1", "tools/call", PARAMS, "{}", "").replace("u_echo", "echo");
    let sent = upstream.calls("tools/call").pop().unwrap();
    assert_eq!(sent.json(), value(&plain));

    let meta = r#""_meta":{"com.x/force":true,"progressToken":"t","traceparent":"00-1"}"#;
    let call =
        format!(r#"{{"jsonrpc":"2.0","id":"c","method":"tools/call","params":{{{more}{PARAMS}{meta}}}}}"#);
    let headers = [("mcp-session-id", session.as_str())];
    assert_eq!(error(&edge.post(&headers, &call).await), pending(2));
    control_plane.approve(2);
    assert_eq!(edge.post(&headers, &call).await.status, 200);
    let params = upstream.calls("tools/call").pop().unwrap().json()["params"].clone();
    let mut names: Vec<_> = params.as_object().unwrap().keys().map(String::as_str).collect();
    names.sort_unstable();
    assert_eq!(names, ["_meta", "arguments", "name"], "{params}");
    assert_eq!((&params["_meta"]["traceparent"], params["_meta"].get("com.x/force")), (&json!("00-1"), None));
}

/// Who waits for a control plane may lose the right to call meanwhile.
#[tokio::test]
async fn a_right_that_is_withdrawn_ends_the_wait() {
    let upstream = upstream().await;
    let control_plane = ControlPlane::start().await;
    let mut edge = holding(&upstream, &control_plane);
    assert_eq!(error(&post(&edge, PARAMS).await), pending(1));
    control_plane.approve(1);
    control_plane.fall_silent();
    let body = ask("1", "tools/call", PARAMS, "{}", "");
    let request = edge.request("POST", &modern("tools/call", Some("u_echo")), &body);
    let waiting = tokio::spawn(Reply::of(request));
    eventually("it is asked", || control_plane.asked().len() == 2).await;
    edge.snapshot.resources.tokens.remove(0);
    edge.publish();
    let reply = waiting.await.unwrap();
    assert_eq!((reply.status, upstream.calls("tools/call").len()), (401, 0), "{reply:?}");
}

/// A call that was made is not held back by rules that came later, nor is what follows on it.
#[tokio::test]
async fn what_has_begun_goes_on() {
    let upstream = endless().await;
    let control_plane = ControlPlane::start().await;
    let mut edge = before(&upstream);
    control_plane.join(&edge);
    let session = edge.session("2025-11-25", "{}").await;
    let call = r#"{"jsonrpc":"2.0","id":"c","method":"tools/call","params":{"name":"u_echo","arguments":{"path":"/srv/a"},"_meta":{"progressToken":"t"}}}"#;
    let mut running = edge.request("POST", &[("mcp-session-id", &session)], call).send().await.unwrap();
    until(&mut running, r#""progressToken":"t""#).await;
    for when in ["", r#"args.path != """#] {
        edge.snapshot.rule(vec![approve(&["u_echo"], when)]);
        edge.publish();
        let other = edge.post(&[("mcp-session-id", &session)], &call.replace("srv", "etc")).await;
        assert_eq!(error(&other)["data"]["reason"], "approval_needed", "{when}");
    }
    edge.snapshot.rule(vec![deny(&["u_echo"], "")]);
    edge.publish();
    let rest = crate::withdrawn::rest(running).await;
    assert!(rest.contains("unknown tool: u_echo"), "it ended for what refuses it, and not before: {rest}");
}

#[tokio::test]
async fn a_task_is_approved_when_its_call_begins_and_not_again() {
    let upstream = Upstream::start(|request| making(request, "working")).await;
    let control_plane = ControlPlane::start().await;
    let mut edge = Edge::start(&upstream.url);
    edge.make_tasks("optional");
    edge.snapshot.rule(vec![approve(&["u_echo"], r#"args.a == 1"#)]);
    edge.publish();
    control_plane.join(&edge);
    let session = edge.session("2025-11-25", "{}").await;
    let say = async |method: &str, params: &str| {
        let body = format!(r#"{{"jsonrpc":"2.0","id":3,"method":"{method}","params":{{{params}}}}}"#);
        value(&edge.post(&[("mcp-session-id", &session)], &body).await.body)
    };
    let begin = r#""name":"u_echo","arguments":{"a":1},"task":{"ttl":60000}"#;
    assert_eq!(say("tools/call", begin).await["error"], pending(1));
    control_plane.approve(1);
    let begun = say("tools/call", begin).await;
    let id = begun["result"]["task"]["taskId"].as_str().unwrap();
    for method in ["tasks/get", "tasks/cancel"] {
        let about = say(method, &format!(r#""taskId":"{id}""#)).await;
        assert_eq!(about["result"]["taskId"], id, "{about}");
    }
    assert_eq!(control_plane.asked().len(), 2);
}
