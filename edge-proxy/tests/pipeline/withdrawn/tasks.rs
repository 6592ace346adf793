//! Tasks whose right ends: one that the edge waits for is cancelled, and the result of another is no longer waited for.

use super::{METHOD_TAKEN, WITHDRAWALS, before_that, last_code, rest};
use crate::eras::ask;
use crate::support::{Edge, Upstream, eventually, making, mcp, modern, never};

async fn working() -> Upstream {
    Upstream::start(|request| match request.method().as_str() {
        "tasks/result" => never(),
        _ => making(request, "working"),
    })
    .await
}

fn edge_before(upstream: &Upstream, what: &str, support: &str) -> Edge {
    let mut edge = before_that(upstream, what);
    mcp(&mut edge.snapshot.resources.upstreams[0]).modern_versions.clear();
    edge.make_tasks(support);
    edge
}

#[tokio::test]
async fn a_task_that_the_edge_waits_for_is_cancelled() {
    for (what, withdraw, code) in WITHDRAWALS {
        let upstream = working().await;
        let mut edge = edge_before(&upstream, what, "required");
        let body = ask("\"c\"", "tools/call", r#""name":"u_echo","#, "{}", r#","progressToken":"t""#);
        let stream = edge.request("POST", &modern("tools/call", Some("u_echo")), &body).send().await.unwrap();
        eventually("its result is waited for", || !upstream.calls("tasks/result").is_empty()).await;
        withdraw(&mut edge);
        edge.publish();
        assert_eq!(last_code(&rest(stream).await), code, "{what}");
        eventually("the task is cancelled", || !upstream.calls("tasks/cancel").is_empty()).await;
        edge.nothing_is_left().await;
    }
}

#[tokio::test]
async fn the_result_of_a_task_is_no_longer_waited_for() {
    for (what, withdraw, code) in WITHDRAWALS {
        let upstream = working().await;
        let mut edge = edge_before(&upstream, what, "optional");
        let session = edge.session("2025-11-25", "{}").await;
        let headers = [("mcp-session-id", session.as_str())];
        let begin = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"u_echo","task":{}}}"#;
        let begun: serde_json::Value = serde_json::from_str(&edge.post(&headers, begin).await.body).unwrap();
        let about = |method: &str| {
            let id = &begun["result"]["task"]["taskId"];
            format!(r#"{{"jsonrpc":"2.0","id":"c","method":"{method}","params":{{"taskId":{id}}}}}"#)
        };
        let waiting = edge.request("POST", &headers, &about("tasks/result"));
        let waiting = tokio::spawn(async move { crate::support::Reply::of(waiting).await });
        eventually("the result is waited for", || !upstream.calls("tasks/result").is_empty()).await;
        withdraw(&mut edge);
        edge.publish();
        let refused = waiting.await.unwrap();
        // The method is that of the task, and the tool is what is lost.
        let code = if what == METHOD_TAKEN { -32602 } else { code };
        assert_eq!(refused.error_code(), code, "{what}: {refused:?}");
        let number = upstream.calls("tasks/result")[0].json()["id"].clone();
        let is_told = || {
            let told = upstream.calls("notifications/cancelled");
            told.iter().any(|sent| sent.json()["params"]["requestId"] == number)
        };
        eventually("the upstream is told", is_told).await;
        for method in ["tasks/get", "tasks/result", "tasks/cancel"] {
            assert!(edge.post(&headers, &about(method)).await.body.contains(r#""error""#), "{what}");
        }
        assert_eq!(upstream.calls("tasks/get").len() + upstream.calls("tasks/cancel").len(), 0, "{what}");
        edge.nothing_is_left().await;
    }
}

#[tokio::test]
async fn a_task_that_was_handed_to_its_client_is_refused() {
    let upstream = working().await;
    let mut edge = edge_before(&upstream, "", "required");
    let can = r#"{"extensions":{"io.modelcontextprotocol/tasks":{}}}"#;
    let begin = ask("1", "tools/call", r#""name":"u_echo","#, can, "");
    let begun = edge.post(&modern("tools/call", Some("u_echo")), &begin).await;
    let begun: serde_json::Value = serde_json::from_str(&begun.messages()[0]).unwrap();
    let id = begun["result"]["taskId"].as_str().unwrap_or_else(|| panic!("{begun}"));
    let get = ask("1", "tasks/get", &format!(r#""taskId":"{id}","#), can, "");
    let headers = modern("tasks/get", Some(id));
    assert_eq!(edge.post(&headers, &get).await.status, 200);
    let asked = upstream.calls("tasks/get").len();
    super::narrow(&mut edge);
    edge.publish();
    assert!(edge.post(&headers, &get).await.body.contains("unknown task"));
    assert_eq!(upstream.calls("tasks/get").len(), asked);
}
