//! `mcpctl call` as a client that can be asked: forms are filled in on the terminal, or declined where nobody is there, and
//! contents that are no texts are saved or shown.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{Response, StatusCode, header};
use futures_util::StreamExt as _;
use serde_json::{Value, json};
use tokio::sync::oneshot;

use crate::support::gateway::{Gateway, Store};
use crate::support::terminal::{NARROW, WIDE};
use crate::support::wire::LEGACY;

/// One pixel; what it shows does not matter.
const PICTURE: &str = "iVBORw0KGgo=";

/// In an order that is not that of the alphabet.
const QUESTION: &str = concat!(
    r#"{"jsonrpc":"2.0","id":"q","method":"elicitation/create","params":{"message":"Who are you?\u001b[2J","#,
    r#""requestedSchema":{"type":"object","required":["name"],"properties":{"#,
    r#""name":{"type":"string","description":"As others call you"},"age":{"type":"integer"},"#,
    r#""agree":{"type":"boolean","default":true}}}}}"#
);

/// Takes the answer of the client to the question that is open.
type Open = Arc<Mutex<Option<oneshot::Sender<Value>>>>;

/// A server with sessions, one tool that asks and one that paints. Returns its URL.
async fn upstream() -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/mcp", listener.local_addr().unwrap());
    let router = axum::Router::new().route("/mcp", axum::routing::post(serve)).with_state(Open::default());
    tokio::spawn(async move { axum::serve(listener, router).await });
    url
}

async fn serve(State(open): State<Open>, body: Bytes) -> Response<Body> {
    let message: Value = serde_json::from_slice(&body).unwrap();
    let result = match message["method"].as_str() {
        Some("initialize") => json!({
            "protocolVersion": LEGACY, "capabilities": { "tools": {} }, "serverInfo": { "name": "s", "version": "1" }
        }),
        Some("ping") => json!({}),
        Some("tools/list") => json!({ "tools": [
            { "name": "ask", "description": "Asks.", "inputSchema": { "type": "object", "required": ["who"],
                "properties": { "who": { "type": "string", "description": "Whom." } } } },
            { "name": "picture", "inputSchema": { "type": "object" } },
        ] }),
        Some("tools/call") if message["params"]["name"] == "picture" => json!({ "content": [
            { "type": "text", "text": "a picture" },
            { "type": "image", "mimeType": "image/png", "data": PICTURE },
        ] }),
        Some("tools/call") => return ask(&open, &message["id"]),
        Some(method) if method.starts_with("notifications/") => return status(StatusCode::ACCEPTED),
        None => {
            let asked = open.lock().unwrap().take();
            asked.unwrap().send(message["result"].clone()).unwrap();
            return status(StatusCode::ACCEPTED);
        }
        Some(_) => return status(StatusCode::NOT_FOUND),
    };
    let answer = json!({ "jsonrpc": "2.0", "id": message["id"], "result": result });
    let response = Response::builder().header(header::CONTENT_TYPE, "application/json");
    response.header("mcp-session-id", "one").body(answer.to_string().into()).unwrap()
}

fn status(status: StatusCode) -> Response<Body> {
    Response::builder().status(status).body(Body::empty()).unwrap()
}

/// Asks on the stream of the call, and answers with what it was told.
fn ask(open: &Open, id: &Value) -> Response<Body> {
    let (answered, answer) = oneshot::channel();
    *open.lock().unwrap() = Some(answered);
    let event = |message: String| Ok::<_, Infallible>(format!("data: {message}\n\n"));
    let question = event(QUESTION.to_owned());
    let id = id.clone();
    let end = async move {
        let told = answer.await.unwrap_or_default();
        let result = json!({ "content": [{ "type": "text", "text": format!("told {told}") }] });
        event(json!({ "jsonrpc": "2.0", "id": id, "result": result }).to_string())
    };
    let stream = futures_util::stream::once(async { question }).chain(futures_util::stream::once(end));
    let response = Response::builder().header(header::CONTENT_TYPE, "text/event-stream");
    response.body(Body::from_stream(stream)).unwrap()
}

async fn start() -> Gateway {
    let gateway = Gateway::start(Store::Sqlite, 1).await;
    gateway.ctl(&format!("create upstream fake --url {} --era legacy", upstream().await)).await;
    gateway.ctl("create server dev --tool fake/*").await;
    gateway.ctl("create token laptop --server dev").await;
    gateway.admin.settled().await;
    gateway
}

const CALL: [&str; 4] = ["call", "dev", "fake_ask", "who=you"];

#[tokio::test(flavor = "multi_thread")]
async fn a_form_is_filled_in_on_the_terminal() {
    let gateway = start().await;
    for era in ["legacy", "modern"] {
        for size in [NARROW, WIDE] {
            let mut terminal = gateway.terminal(&[&CALL[..], &["--era", era]].concat(), size, &[]);
            terminal.wait_for("The server asks: Who are you?\\u{1b}[2J").await;
            terminal.wait_for("name (string)").await;
            terminal.type_line("");
            terminal.wait_for("an answer is required").await;
            terminal.type_line("Ada");
            terminal.wait_for("age (integer, optional)").await;
            terminal.type_line("old");
            terminal.wait_for("is not of type integer").await;
            terminal.type_line("36");
            terminal.wait_for("agree (boolean, optional) [true]").await;
            terminal.type_line("");
            assert_eq!(terminal.ended().await, 0, "{era}: {}", terminal.screen());
            let told = r#"told {"action":"accept","content":{"age":36,"agree":true,"name":"Ada"}}"#;
            assert!(terminal.screen().replace('\n', "").contains(told), "{era}: {}", terminal.screen());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_form_is_declined_with_a_key_and_where_nobody_is() {
    let gateway = start().await;
    let declined = r#"told {"action":"decline"}"#;
    for era in ["legacy", "modern"] {
        let line = [&CALL[..], &["--era", era]].concat();
        let mut terminal = gateway.terminal(&line, WIDE, &[]);
        terminal.wait_for("name (string)").await;
        terminal.type_keys("\u{4}");
        assert_eq!(terminal.ended().await, 0, "{era}: {}", terminal.screen());
        assert!(terminal.screen().contains(declined), "{era}: {}", terminal.screen());

        let piped = gateway.try_ctl(&line).await;
        let (out, talk) =
            (String::from_utf8(piped.stdout).unwrap(), String::from_utf8(piped.stderr).unwrap());
        assert_eq!((piped.status.code(), out.trim_end()), (Some(0), declined), "{era}: {talk}");
        assert!(
            talk.contains("the server asks: Who are you?") && talk.contains("nobody can be asked here"),
            "{talk}"
        );
        assert!(!talk.contains('\u{1b}'), "{talk:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pictures_are_saved_shown_or_named() {
    let gateway = start().await;
    let named = gateway.ctl("call dev fake_picture").await;
    assert_eq!(
        named,
        "a picture\n[image image/png, about 8 bytes; use --save DIR to save it, or -o json to print it]\n"
    );
    let saved = gateway.ctl("call dev fake_picture --save pictures").await;
    assert_eq!(saved, "a picture\n[image image/png saved as pictures/fake_picture-1.png]\n");
    let file = |number: u32| {
        std::fs::read(gateway.folder().join(format!("pictures/fake_picture-{number}.png"))).unwrap()
    };
    assert_eq!(file(1), b"\x89PNG\r\n\x1a\n");
    // Beside output for programs as well, and no file is replaced.
    let document = gateway.ctl("call dev fake_picture --save pictures -o json").await;
    assert!(document.contains(PICTURE), "{document}");
    assert_eq!(file(2), file(1));
    let sequence = format!("\u{1b}_Ga=T,f=100,m=0;{PICTURE}\u{1b}\\");
    for (environment, is_shown) in [(&[("KITTY_WINDOW_ID", "1")][..], true), (&[], false)] {
        let mut terminal = gateway.terminal(&["call", "dev", "fake_picture"], WIDE, environment);
        assert_eq!(terminal.ended().await, 0);
        assert_eq!(terminal.raw().contains(&sequence), is_shown, "{:?}", terminal.raw());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_tool_takes_is_shown() {
    let gateway = start().await;
    assert_eq!(
        gateway.ctl("call dev fake_ask --help").await,
        "fake_ask(who: string)\n  Asks.\n\nArguments:\n  who:  string\n        Whom.\n\n\
         Example:\n  mcpctl call dev fake_ask who=TEXT\n"
    );
    assert!(gateway.ctl("call --help").await.contains("Usage: mcpctl call "));
}
