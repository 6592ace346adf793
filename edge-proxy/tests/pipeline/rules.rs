//! Rules of a server: on every transport and in every era, for what is listed and for what may be called.

use serde_json::{Value, json};

use crate::conditions::{Client, upstream, value};
use crate::eras::ask;
use crate::streams::until;
use crate::support::{Edge, Socket, Upstream, deny, events, eventually, modern, never, status};
use crate::withdrawn::{before, endless, rest};

const LOOPBACK: &str = r#"source.ip.inRange("127.0.0.0/8")"#;
const ETC: &str = r#"args.path.startsWith("/etc/")"#;

fn ruled(edge: &mut Edge) {
    edge.snapshot.rule(vec![
        deny(&["u_other"], ""),
        deny(&["u_echo"], ETC),
        deny(&["u_safe"], r#"caller.name == "all""#),
        deny(&["u_p"], LOOPBACK),
        deny(&["u+file:///t/secret*"], ""),
    ]);
}

fn refusal(reason: &str) -> Value {
    let message = match reason {
        "denied_by_rule" => "a rule of this server does not allow this: ask the owner",
        _ => "a rule of this server cannot decide about this, and so does not allow it: ask the owner",
    };
    json!({"code": -31012, "message": message, "data": {"reason": reason}})
}

fn names(listed: &Value, list: &str) -> Vec<String> {
    let entries = listed["result"][list].as_array().unwrap_or_else(|| panic!("{listed}"));
    entries.iter().map(|entry| entry["name"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn rules_hold_on_every_transport_and_in_every_era() {
    let upstream = upstream().await;
    let mut passed = 0;
    for (what, mut client) in Client::all_at(&upstream, ruled).await {
        let listed = client.ask("tools/list", "", None).await;
        assert_eq!(names(&listed, "tools"), ["u_echo", "u_region"], "{what}");
        for hidden in ["u_other", "u_safe"] {
            let called = client.ask("tools/call", &format!(r#""name":"{hidden}","#), Some(hidden)).await;
            let unknown = json!({"code": -32602, "message": format!("unknown tool: {hidden}")});
            assert_eq!(called["error"], unknown, "{what}");
        }
        for (arguments, expected) in [
            (r#""arguments":{"path":"/srv/a"},"#, None),
            (r#""arguments":{"path":"/etc/passwd"},"#, Some("denied_by_rule")),
            (r#""arguments":{"path":"/srv/a","path":"/etc/passwd"},"#, Some("policy_error")),
            (r#""arguments":{},"#, Some("policy_error")),
            (r#""arguments":[],"#, Some("policy_error")),
            (r#""arguments":null,"#, Some("policy_error")),
            ("", Some("policy_error")),
        ] {
            let params = format!(r#""name":"u_echo",{arguments}"#);
            let called = client.ask("tools/call", &params, Some("u_echo")).await;
            match expected {
                None => assert_eq!(called["result"]["content"], json!([]), "{what}: {called}"),
                Some(reason) => assert_eq!(called["error"], refusal(reason), "{what}: {arguments}"),
            }
            passed += usize::from(expected.is_none());
        }
        let listed = client.ask("prompts/list", "", None).await;
        assert_eq!(names(&listed, "prompts"), ["u_p"], "{what}: from elsewhere it may be used");
        for (method, params, name) in [
            ("prompts/get", r#""name":"u_p","#, Some("u_p")),
            (
                "completion/complete",
                r#""ref":{"type":"ref/prompt","name":"u_p"},"argument":{"name":"a","value":""},"#,
                None,
            ),
        ] {
            let got = client.ask(method, params, name).await;
            assert_eq!(got["error"], refusal("denied_by_rule"), "{what}: {method}");
        }
        for (uri, is_known) in [("u+file:///t/1", true), ("u+file:///t/secret1", false)] {
            let read = client.ask("resources/read", &format!(r#""uri":"{uri}","#), Some(uri)).await;
            let unknown = read["error"]["data"]["uri"] == uri;
            assert_eq!(unknown, !is_known, "{what}: {read}");
        }
        assert_eq!(upstream.calls("tools/call").len(), passed, "{what}: no other reaches the upstream");
    }
    assert_eq!(upstream.calls("prompts/get").len() + upstream.calls("completion/complete").len(), 0);
}

#[tokio::test]
async fn a_refusal_is_forbidden_where_there_is_a_status() {
    let upstream = upstream().await;
    let mut edge = Edge::start(&upstream.url);
    ruled(&mut edge);
    edge.publish();
    let params = r#""name":"u_echo","arguments":{"path":"/etc/passwd"},"#;
    let asked =
        edge.post(&modern("tools/call", Some("u_echo")), &ask("1", "tools/call", params, "{}", "")).await;
    assert_eq!((asked.status, &value(&asked.body)["error"]), (403, &refusal("denied_by_rule")));
    let session = edge.session("2025-11-25", "{}").await;
    let call = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"u_echo"}}"#;
    let asked = edge.post(&[("mcp-session-id", &session)], call).await;
    assert_eq!((asked.status, &value(&asked.body)["error"]), (403, &refusal("policy_error")));
}

#[tokio::test]
async fn each_message_of_a_batch_is_judged() {
    let upstream = upstream().await;
    let mut edge = Edge::start(&upstream.url);
    ruled(&mut edge);
    edge.publish();
    let session = edge.session("2025-03-26", "{}").await;
    let call = |id: u8, path: &str| {
        format!(
            r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/call","params":{{"name":"u_echo","arguments":{{"path":"{path}"}}}}}}"#
        )
    };
    let batch = format!("[{},{},{}]", call(1, "/srv"), call(2, "/etc/a"), call(3, "/tmp"));
    let answers = value(&edge.post(&[("mcp-session-id", &session)], &batch).await.body);
    let refused: Vec<_> = answers.as_array().unwrap().iter().map(|answer| answer["error"].clone()).collect();
    assert_eq!(refused, [Value::Null, refusal("denied_by_rule"), Value::Null]);
    assert_eq!(upstream.calls("tools/call").len(), 2);
}

/// Who is listed what is who calls, and of people their teams of the moment.
#[tokio::test]
async fn lists_are_those_of_who_calls() {
    let mut edge = Edge::start(&upstream().await.url);
    edge.snapshot.rule(vec![
        deny(&["u_echo"], r#"caller.kind == "token""#),
        deny(&["u_other"], r#"!("core" in caller.teams)"#),
    ]);
    edge.publish();
    let list = ask("1", "tools/list", "", "{}", "");
    let listed = async |edge: &Edge| {
        let headers = modern("tools/list", None);
        names(&value(&edge.post(&headers, &list).await.messages()[0]), "tools")
    };
    assert_eq!(listed(&edge).await, ["u_region", "u_safe"]);
    edge.become_person();
    assert_eq!(listed(&edge).await, ["u_echo", "u_other", "u_region", "u_safe"]);
    // Another team gives the same, and is another team.
    edge.snapshot.resources.grants[1] = crate::support::team("web", &["servers/dev"], &["*"]);
    edge.bearer = edge.keys.person("users/ann", 3, &[["developer", "web"]]);
    edge.publish();
    assert_eq!(listed(&edge).await, ["u_echo", "u_region", "u_safe"]);
}

/// Rules change what is listed, so whoever listens is told.
#[tokio::test]
async fn who_listens_is_told_of_changed_rules() {
    let mut edge = Edge::start(&upstream().await.url);
    let session = edge.session("2025-11-25", "{}").await;
    let mut stream = edge.request("GET", &[("mcp-session-id", &session)], "").send().await.unwrap();
    until(&mut stream, "id: 0").await;
    edge.snapshot.rule(vec![deny(&["u_other"], "")]);
    edge.publish();
    until(&mut stream, "notifications/tools/list_changed").await;
    let list = r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#;
    let listed = value(&edge.post(&[("mcp-session-id", &session)], list).await.body);
    assert_eq!(names(&listed, "tools"), ["u_echo", "u_region", "u_safe"]);
}

/// A server without any tool that may be called has no tools, as far as its clients know.
#[tokio::test]
async fn a_method_that_rules_refuse_empties_what_it_uses() {
    let mut calls = deny(&[], "");
    calls.methods = vec!["tools/call".into()];
    for (what, mut client) in
        Client::all_at(&upstream().await, |edge| edge.snapshot.rule(vec![calls.clone()])).await
    {
        assert_eq!(names(&client.ask("tools/list", "", None).await, "tools"), [""; 0], "{what}");
        assert_eq!(names(&client.ask("prompts/list", "", None).await, "prompts"), ["u_p"], "{what}");
    }
    let mut edge = Edge::start(&upstream().await.url);
    edge.snapshot.rule(vec![calls]);
    edge.publish();
    let opened = edge.post(&[], &crate::support::initialize("2025-11-25", "{}")).await;
    let capabilities = &value(&opened.body)["result"]["capabilities"];
    assert_eq!((capabilities.get("tools"), capabilities.get("prompts").is_some()), (None, true));
}

const CALL: &str = r#"{"jsonrpc":"2.0","id":"c","method":"tools/call","params":{"name":"u_echo","arguments":{"path":"/srv/a"},"_meta":{"progressToken":"t"}}}"#;

/// Rules that are not those that judged the arguments of `CALL`, though they allow them as well.
fn other_rules(edge: &mut Edge) {
    edge.snapshot.rule(vec![deny(&["u_echo"], r#"args.path.startsWith("/etc/")"#)]);
    edge.publish();
}

/// The arguments are not there when a stream is resumed: it goes on by the decision about them, as long as the rules are the same.
#[tokio::test]
async fn a_stream_is_resumed_by_the_rules_that_judged_its_call_alone() {
    let upstream = Upstream::start(|request| {
        if request.verb == "GET" {
            return never();
        }
        crate::eras::open_stream("id: e/1\nretry: 20\ndata:\n\n")
    })
    .await;
    let mut edge = before(&upstream);
    ruled(&mut edge);
    edge.publish();
    let session = edge.session("2025-11-25", "{}").await;
    let headers = [("mcp-session-id", session.as_str())];
    let mut broken = edge.request("POST", &headers, CALL).send().await.unwrap();
    let primed = until(&mut broken, "\n\n").await;
    drop(broken);
    let id = primed.strip_prefix("id: ").and_then(|rest| rest.lines().next()).unwrap();
    let again = [headers[0], ("last-event-id", id)];
    let resumed = || {
        let requests = upstream.requests();
        requests.iter().filter(|request| !request.header("last-event-id").is_empty()).count()
    };
    let resuming = tokio::spawn(edge.request("GET", &again, "").send());
    eventually("the upstream is asked for the rest", || resumed() == 1).await;
    resuming.abort();
    other_rules(&mut edge);
    // It is answered like an id that no edge ever gave: what no request asked for begins.
    let mut stream = edge.request("GET", &again, "").send().await.unwrap();
    assert_eq!(until(&mut stream, "\n\n").await, "id: 0\ndata:\n\n");
    assert_eq!(resumed(), 1);
}

#[tokio::test]
async fn a_question_is_answered_by_the_rules_that_judged_its_call_alone() {
    let upstream = Upstream::start(|request| match request.method().as_str() {
        "tools/call" => events(&[
            r#"{"jsonrpc":"2.0","id":"q","method":"elicitation/create","params":{"message":"?"}}"#.into(),
            format!(r#"{{"jsonrpc":"2.0","id":{},"result":{{}}}}"#, request.id()),
        ]),
        _ => status(202, ""),
    })
    .await;
    let mut edge = before(&upstream);
    ruled(&mut edge);
    edge.publish();
    let session = edge.session("2025-11-25", r#"{"elicitation":{}}"#).await;
    let headers = [("mcp-session-id", session.as_str())];
    let reply = edge.post(&headers, CALL).await;
    let question = value(&reply.messages()[0]);
    let answer = format!(r#"{{"jsonrpc":"2.0","id":{},"result":{{"x":1}}}}"#, question["id"]);
    let answered = || upstream.requests().iter().filter(|request| request.json()["result"]["x"] == 1).count();
    assert_eq!((edge.post(&headers, &answer).await.status, answered()), (202, 1));
    other_rules(&mut edge);
    assert_eq!((edge.post(&headers, &answer).await.status, answered()), (400, 1));
}

/// A call that runs is judged again by what rules there are, with the arguments that it was made with: it is not that nobody knows.
#[tokio::test]
async fn a_running_call_ends_under_rules_that_refuse_its_arguments() {
    let upstream = endless().await;
    let mut edge = before(&upstream);
    ruled(&mut edge);
    edge.publish();
    let session = edge.session("2025-11-25", "{}").await;
    let headers = [("mcp-session-id", session.as_str())];
    let mut socket = Socket::session(&edge, "2025-06-18", "{}").await;
    assert!(socket.ask(CALL).await.contains(r#""progressToken":"t""#));
    let mut call = edge.request("POST", &headers, CALL).send().await.unwrap();
    until(&mut call, r#""progressToken":"t""#).await;
    edge.snapshot.rule(vec![deny(&["u_echo"], r#"args.path.startsWith("/srv/")"#)]);
    edge.publish();
    let stream = rest(call).await;
    let last = stream.lines().rfind(|line| line.starts_with("data: ")).unwrap();
    assert_eq!(
        value(&last["data: ".len()..])["error"],
        refusal("denied_by_rule"),
        "not that it could not be decided"
    );
    let told = loop {
        let message = value(&socket.next().await);
        if message["id"] == "c" {
            break message;
        }
    };
    assert_eq!(told["error"], refusal("denied_by_rule"));
}
