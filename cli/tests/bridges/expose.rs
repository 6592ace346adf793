//! `mcpctl expose`, over real sockets and with real children.

use std::time::Duration;

use futures_util::StreamExt as _;
use mcpctl::bridge::child::Program;
use mcpctl::bridge::expose::{self, Settings};
use serde_json::{Value, json};

use crate::support::{McpClient, call, events, expose, post, program, script, settings};

#[tokio::test(flavor = "multi_thread")]
async fn clients_with_the_same_ids_share_one_child() {
    let running = expose(&[]).await;
    let (a, b) = (
        McpClient::open(&running.url().unwrap(), json!({})).await,
        McpClient::open(&running.url().unwrap(), json!({})).await,
    );
    let meta = json!({"progressToken": "mine"});
    let (first, second) = tokio::join!(
        a.call(json!("same"), "count", meta.clone()),
        b.call(json!("same"), "count", meta.clone())
    );
    for response in [first, second] {
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        let messages = events(&response.text().await.unwrap());
        let (answer, notices) = messages.split_last().unwrap();
        assert_eq!(answer["id"], "same");
        assert_eq!(answer["result"]["content"][0]["text"], "counted");
        assert_eq!(notices.len(), 3);
        assert!(notices.iter().all(|notice| notice["params"]["progressToken"] == "mine"), "{notices:?}");
    }
    let pid = async |client: &McpClient| -> String {
        let answer: Value = client.call(json!(7), "pid", json!({})).await.json().await.unwrap();
        answer["result"]["content"][0]["text"].as_str().unwrap().to_owned()
    };
    assert_eq!(pid(&a).await, pid(&b).await);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_may_take_its_time_on_a_connection_of_its_own() {
    let running = expose(&[]).await;
    let client = McpClient::open(&running.url().unwrap(), json!({})).await;
    let fresh = McpClient { http: reqwest::Client::new(), ..client };
    let response = fresh.call(json!(1), "slow", json!({})).await.text().await.unwrap();
    assert!(response.contains("at last"), "{response}");
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_begin_and_end() {
    let running = expose(&[]).await;
    let client = McpClient::open(&running.url().unwrap(), json!({})).await;
    let ping = json!({"jsonrpc": "2.0", "id": 1, "method": "ping"});
    let answer: Value = client.post(&ping).send().await.unwrap().json().await.unwrap();
    assert_eq!(answer, json!({"jsonrpc": "2.0", "id": 1, "result": {}}));
    let done = json!({"jsonrpc": "2.0", "method": "notifications/initialized"});
    assert_eq!(client.post(&done).send().await.unwrap().status(), 202);

    let status = async |session: Option<&str>, version: Option<&str>| {
        let mut request = post(&client.http, &client.url, &ping.to_string());
        request =
            session.map_or(request.try_clone().unwrap(), |session| request.header("mcp-session-id", session));
        let request = match version {
            Some(version) => request.header("mcp-protocol-version", version),
            None => request,
        };
        request.send().await.unwrap().status().as_u16()
    };
    assert_eq!(status(None, None).await, 400);
    assert_eq!(status(Some("guess"), None).await, 404);
    assert_eq!(status(Some(&client.session), Some("2025-06-18")).await, 200);
    // What the client knows besides changes nothing; the session has what was negotiated.
    assert_eq!(status(Some(&client.session), Some("2026-07-28")).await, 200);
    for version in ["1999-01-01", "undefined"] {
        assert_eq!(status(Some(&client.session), Some(version)).await, 400);
    }
    let repeated = format!("{0}, {0}", client.session);
    assert_eq!(status(Some(&repeated), Some("2025-06-18, 2025-06-18")).await, 200);
    let delete = client.http.delete(&client.url).header("mcp-session-id", &repeated);
    assert_eq!(delete.send().await.unwrap().status(), 204);
    assert_eq!(status(Some(&client.session), None).await, 404);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_malformed_or_comes_under_a_foreign_name_is_refused() {
    let running = expose(&[]).await;
    let http = reqwest::Client::new();
    let status = async |name: &'static str, value: &'static str, body: &'static str| {
        let request =
            http.post(running.url().unwrap()).header("content-type", "application/json").header(name, value);
        request.body(body).send().await.unwrap().status().as_u16()
    };
    let ping = r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#;
    assert_eq!(status("host", "evil.example", ping).await, 403);
    assert_eq!(status("host", "bridge.example:1", ping).await, 400);
    assert_eq!(status("origin", "http://evil.example", ping).await, 403);
    assert_eq!(status("origin", "null", ping).await, 403);
    assert_eq!(status("origin", "http://localhost:3000", ping).await, 400);
    assert_eq!(status("x", "y", "{").await, 400);
    assert_eq!(status("x", "y", "[]").await, 400);
    assert_eq!(status("content-encoding", "gzip", "\u{1f}").await, 415);
    assert_eq!(status("content-encoding", "identity", "\u{1f}").await, 400);
    for (label, expected) in [("text/plain", 415), ("text/json", 400), ("Application/JSON", 400)] {
        let labelled = http.post(running.url().unwrap()).header("content-type", label).body(ping);
        // JSON that begins no session.
        assert_eq!(labelled.send().await.unwrap().status(), expected, "{label}");
    }
    let large = http
        .post(running.url().unwrap())
        .header("content-type", "application/json")
        .body(vec![b' '; 17 << 20]);
    assert_eq!(large.send().await.unwrap().status(), 413);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_question_reaches_the_client_that_is_being_served() {
    let running = expose(&[]).await;
    let (able, unable) = (
        McpClient::open(&running.url().unwrap(), json!({"elicitation": {}})).await,
        McpClient::open(&running.url().unwrap(), json!({})).await,
    );
    let refused: Value = unable.call(json!(1), "ask", json!({})).await.json().await.unwrap();
    assert!(refused["result"]["content"][0]["text"].as_str().unwrap().contains("-32601"), "{refused}");

    let mut stream = able.call(json!(1), "ask", json!({})).await.bytes_stream();
    let first = String::from_utf8(stream.next().await.unwrap().unwrap().to_vec()).unwrap();
    assert_eq!(events(&first)[0]["method"], "elicitation/create");
    let answer = json!({"jsonrpc": "2.0", "id": "ask", "result": {"action": "accept"}});
    assert_eq!(unable.post(&answer).send().await.unwrap().status(), 400);
    assert_eq!(able.post(&answer).send().await.unwrap().status(), 202);
    let last = String::from_utf8(stream.next().await.unwrap().unwrap().to_vec()).unwrap();
    assert!(last.contains("accept"), "{last}");
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_of_allowed_origins_are_told_what_they_may_send_and_read() {
    let running = expose(&[]).await;
    let (http, url) = (reqwest::Client::new(), running.url().unwrap());
    let preflight = async |origin: &str| {
        let request = http.request(http::Method::OPTIONS, &url).header("origin", origin);
        let request = request.header("access-control-request-method", "POST");
        request.header("access-control-request-headers", "content-type,mcp-session-id").send().await.unwrap()
    };
    for origin in ["http://localhost:6274", "https://app.example"] {
        let allowed = preflight(origin).await;
        assert_eq!(allowed.status(), 204);
        for (name, value) in [
            ("access-control-allow-origin", origin),
            ("access-control-allow-methods", "GET, POST, DELETE"),
            ("access-control-allow-headers", "content-type,mcp-session-id"),
            ("vary", "origin"),
        ] {
            assert_eq!(allowed.headers()[name], value, "{origin}");
        }
        let ping = r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#;
        // Also what went wrong can be read.
        let answer = post(&http, &url, ping).header("origin", origin).send().await.unwrap();
        assert_eq!(
            (answer.status().as_u16(), &answer.headers()["access-control-allow-origin"]),
            (400, &origin.parse().unwrap())
        );
        let readable = answer.headers()["access-control-expose-headers"].to_str().unwrap();
        assert!(
            readable.contains("mcp-session-id") && readable.contains("mcp-protocol-version"),
            "{readable}"
        );
    }
    let foreign = preflight("https://evil.example").await;
    assert_eq!(
        (foreign.status().as_u16(), foreign.headers().get("access-control-allow-origin")),
        (403, None)
    );
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn batches_are_answered_in_the_revision_that_has_them() {
    let running = expose(&[]).await;
    let url = running.url().unwrap();
    let ping = |id: u64| json!({"jsonrpc": "2.0", "id": id, "method": "ping"});
    let open = async |revision: &str| McpClient::open_in(revision, &url, json!({})).await;
    let ask = async |client: &McpClient, batch: Value| {
        let response = client.post(&batch).send().await.unwrap();
        (response.status().as_u16(), response.json::<Value>().await.unwrap_or_default())
    };
    let client = open("2025-03-26").await;
    let hello = json!({"jsonrpc": "2.0", "id": 2, "method": "initialize", "params": {}});
    let done = json!({"jsonrpc": "2.0", "method": "notifications/initialized"});
    let counting = call(json!("c"), "count", json!({"progressToken": "t"}));
    let (status, answers) = ask(
        &client,
        json!([ping(1), done, hello, counting, 5, {"jsonrpc": "1.0", "id": 3, "method": "ping"}]),
    )
    .await;
    assert_eq!(status, 200, "{answers}");
    assert_eq!(answers[0], json!({"jsonrpc": "2.0", "id": 1, "result": {}}));
    assert_eq!((&answers[1]["id"], &answers[1]["error"]["code"]), (&json!(2), &json!(-32600)));
    assert_eq!(
        (&answers[2]["id"], &answers[2]["result"]["content"][0]["text"]),
        (&json!("c"), &json!("counted"))
    );
    assert_eq!((&answers[3]["id"], &answers[3]["error"]["code"]), (&Value::Null, &json!(-32600)));
    assert_eq!((&answers[4]["id"], &answers[4]["error"]["code"]), (&json!(3), &json!(-32600)));
    assert_eq!(answers.as_array().unwrap().len(), 5);
    assert_eq!(ask(&client, json!([done])).await.0, 202);
    assert_eq!(ask(&client, json!([])).await.0, 400);
    assert_eq!(ask(&client, (0..65).map(ping).collect()).await.0, 400);
    let later = open("2025-06-18").await;
    let (status, refused) = ask(&later, json!([ping(1)])).await;
    assert_eq!(
        (status, &refused["error"]["message"]),
        (400, &json!("batches are not part of this revision"))
    );
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_without_a_session_is_none() {
    let running = expose(&[]).await;
    let get = || reqwest::Client::new().get(running.url().unwrap()).header("accept", "text/event-stream");
    let refused = get().send().await.unwrap();
    assert_eq!(
        (refused.status().as_u16(), &refused.headers()["allow"]),
        (405, &"POST, DELETE".parse().unwrap())
    );
    assert!(refused.text().await.unwrap().contains("start with initialize"));
    assert_eq!(get().header("mcp-session-id", "x").send().await.unwrap().status(), 404);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_can_be_cancelled_and_changes_are_told() {
    let running = expose(&[]).await;
    let client = McpClient::open(&running.url().unwrap(), json!({})).await;
    let get = || {
        let request = client.http.get(&client.url).header("accept", "text/event-stream");
        request.header("mcp-session-id", &client.session).send()
    };
    let mut stream = get().await.unwrap().bytes_stream();
    assert_eq!(get().await.unwrap().status(), 409);
    let touch = json!({"jsonrpc": "2.0", "method": "notifications/touch"});
    client.post(&touch).send().await.unwrap();
    let mut seen = String::new();
    while !seen.contains("list_changed") {
        seen.push_str(std::str::from_utf8(&stream.next().await.unwrap().unwrap()).unwrap());
    }

    let sleeping = tokio::spawn(client.post(&call(json!("long"), "sleep", json!({}))).send());
    let cancel =
        json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": "long"}});
    // Until the call has arrived there is nothing to cancel.
    while !sleeping.is_finished() {
        assert_eq!(client.post(&cancel).send().await.unwrap().status(), 202);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    // A cancelled call gets no response and its request ends; other calls get theirs.
    assert_eq!(sleeping.await.unwrap().unwrap().text().await.unwrap(), "");
    assert_eq!(client.call(json!(2), "pid", json!({})).await.status(), 200);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_child_that_dies_is_started_again_and_sessions_go_on() {
    let running = expose(&[]).await;
    let client = McpClient::open(&running.url().unwrap(), json!({})).await;
    let died: Value = client.call(json!(1), "die", json!({})).await.json().await.unwrap();
    assert_eq!(died["id"], 1);
    let lost = json!({"code": -31202, "message": "the server ended before it responded", "data": {"reason": "command_ended"}});
    assert_eq!(died["error"], lost);
    let answer: Value = client.call(json!(2), "pid", json!({})).await.json().await.unwrap();
    assert!(answer["result"]["content"][0]["text"].is_string(), "{answer}");
    running.stop().await;
}

/// What ends again and again before it has answered once is no server. One that comes up later is served.
#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_never_answers_is_given_up() {
    let program = |script: &str, label: &str| {
        let mut program = Program::new(["sh", "-c", script].map(Into::into).to_vec(), Some(label.into()));
        program.reaper = env!("CARGO_BIN_EXE_mcpctl").into();
        program
    };
    for restart in [true, false] {
        let settings = Settings { restart, ..settings(0) };
        let running = expose::start(program("true", "none"), settings).await.unwrap();
        let why = running.ready().await.unwrap_err().to_string();
        assert_eq!(
            why, "the command ended before it answered initialize; is it an MCP server that speaks stdio?",
            "{restart}"
        );
        running.ended().await;
        running.stop().await;
    }
    let folder = tempfile::tempdir().unwrap();
    let mark = folder.path().join("mark").display().to_string();
    let script = format!("test -e {mark} || {{ touch {mark}; exit 1; }}; exec python3 -u {}", script());
    let running = expose::start(program(&script, "late"), settings(0)).await.unwrap();
    assert!(running.ready().await.unwrap().starts_with("fixture 1"));
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_modern_child_is_offered_in_both_eras() {
    let running = expose(&["--modern"]).await;
    let http = reqwest::Client::new();
    let meta = json!({"io.modelcontextprotocol/protocolVersion": "2026-07-28", "io.modelcontextprotocol/clientCapabilities": {}, "progressToken": 5});
    let ask = async |name: &str, body: Value| {
        let request = post(&http, &running.url().unwrap(), &body.to_string())
            .header("mcp-protocol-version", "2026-07-28");
        let request = request.header("mcp-method", body["method"].as_str().unwrap()).header("mcp-name", name);
        request.send().await.unwrap()
    };
    let counted = ask("count", call(json!(9), "count", meta.clone())).await;
    let messages = events(&counted.text().await.unwrap());
    assert_eq!(messages.len(), 4);
    assert!(messages[..3].iter().all(|notice| notice["params"]["progressToken"] == 5));
    assert_eq!(messages[3]["result"]["resultType"], "complete");

    let mismatch = ask("other", call(json!(9), "count", meta.clone())).await;
    assert_eq!(mismatch.status(), 400);
    assert_eq!(mismatch.json::<Value>().await.unwrap()["error"]["code"], -32020);
    let unknown = json!({"jsonrpc": "2.0", "id": 1, "method": "no/such", "params": {"_meta": meta}});
    assert_eq!(ask("", unknown).await.status(), 404);
    let legacy = McpClient::open(&running.url().unwrap(), json!({})).await;
    assert_eq!(legacy.call(json!(2), "pid", json!({})).await.status(), 200);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_legacy_child_says_so_to_modern_clients() {
    let running = expose(&[]).await;
    let meta = json!({"io.modelcontextprotocol/protocolVersion": "2026-07-28", "io.modelcontextprotocol/clientCapabilities": {}});
    let body = json!({"jsonrpc": "2.0", "id": 1, "method": "server/discover", "params": {"_meta": meta}});
    let request = post(&reqwest::Client::new(), &running.url().unwrap(), &body.to_string());
    let response =
        request.header("mcp-protocol-version", "2026-07-28").header("mcp-method", "server/discover").send();
    let response = response.await.unwrap();
    assert_eq!(response.status(), 400);
    assert_eq!(response.json::<Value>().await.unwrap()["error"]["code"], -32600);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_child_that_is_plainly_understood_is_served() {
    for odd in ["noise", "mark", "pretty", "ids", "bare"] {
        let running = expose(&[&format!("--odd={odd}")]).await;
        let client = McpClient::open(&running.url().unwrap(), json!({})).await;
        for id in [json!(1), json!("a")] {
            let answer: Value = client.call(id.clone(), "cafe", json!({})).await.json().await.unwrap();
            let text = &answer["result"]["content"][0]["text"];
            assert_eq!(
                (&answer["id"], &answer["jsonrpc"], text),
                (&id, &json!("2.0"), &json!("café")),
                "{odd}"
            );
        }
        running.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_cannot_be_read_ends_its_call_and_no_other() {
    let running = expose(&["--odd=latin"]).await;
    let client = McpClient::open(&running.url().unwrap(), json!({})).await;
    let answer: Value = client.call(json!("a"), "cafe", json!({})).await.json().await.unwrap();
    let said = answer["error"]["message"].as_str().unwrap();
    assert!(answer["id"] == "a" && said.contains("UTF-8") && said.contains("caf"), "{answer}");
    let next: Value = client.call(json!(2), "pid", json!({})).await.json().await.unwrap();
    assert!(next["result"].is_object(), "{next}");
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_child_wrote_instead_of_an_answer_is_quoted() {
    // It ends long before the time that it has: nobody waits for what cannot come.
    for (odd, part) in [("lsp", "as LSP does"), ("utf16", "UTF-16")] {
        let running = expose::start(program(&[&format!("--odd={odd}")]), settings(0)).await.unwrap();
        let why = running.ready().await.unwrap_err().to_string();
        assert!(why.contains(part), "{odd}: {why}");
        running.ended().await;
        running.stop().await;
    }
    // What may be noise before an answer has its time.
    let patience = Duration::from_secs(15);
    let settings = Settings { start_timeout: patience, ..settings(0) };
    let running = expose::start(program(&["--odd=prefix"]), settings).await.unwrap();
    let why = running.ready().await.unwrap_err().to_string();
    assert!(why.contains("did not respond in time") && why.contains("mcp>"), "{why}");
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slash_at_the_end_of_the_path_changes_nothing() {
    let running = expose(&[]).await;
    let url = format!("{}/", running.url().unwrap());
    let client = McpClient::open(&url, json!({})).await;
    let answer: Value = client.call(json!(1), "cafe", json!({})).await.json().await.unwrap();
    assert_eq!(answer["result"]["content"][0]["text"], "café");
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_that_is_plainly_understood_is_answered() {
    let running = expose(&[]).await;
    let client = McpClient::open(&running.url().unwrap(), json!({})).await;
    let marked = "\u{feff}{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"tools/list\",\"params\":[]}";
    let request = post(&client.http, &client.url, marked).header("mcp-session-id", &client.session);
    let answer: Value = request.send().await.unwrap().json().await.unwrap();
    assert!(answer["result"]["tools"].is_array(), "{answer}");
    running.stop().await;
}
