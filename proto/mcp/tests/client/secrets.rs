//! Servers that repeat the credential that they were sent, in everything that is shown to people: it is taken out.

use axum::Router;
use axum::extract::ws::{CloseFrame, Message, WebSocketUpgrade};
use axum::routing::get;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderMap;
use mcp::client::{ClientError, Endpoint, Session, Transport, Url, probe};
use mcp::revision::Revision;

use crate::scripted_server::{Answer, Asked, ScriptedServer, info, json, text};

const PASSWORD: &str = "k9/Zr+4\"xT";

/// Spellings of the credential that a header or a JSON string can hold without further escapes.
fn spellings() -> Vec<String> {
    let pair = format!("anna:{PASSWORD}");
    vec![
        PASSWORD.to_owned(),
        pair.clone(),
        STANDARD.encode(&pair),
        STANDARD.encode(PASSWORD),
        "k9%2FZr%2B4%22xT".to_owned(),
        "k9%2fZr%2b4%22xT".to_owned(),
        "k9%252FZr%252B4%2522xT".to_owned(),
        "k9/Zr+4&quot;xT".to_owned(),
        "k9\\/Zr\\u002b4\\\"xT".to_owned(),
        PASSWORD[2..].to_owned(),
        PASSWORD[..6].to_owned(),
    ]
}

type Script = Box<dyn Fn(&Asked) -> Answer + Send + Sync>;

async fn server(script: impl Fn(&Asked) -> Answer + Send + Sync + 'static) -> ScriptedServer {
    let mut server = ScriptedServer::start(script).await;
    let basic = format!("Basic {}", STANDARD.encode(format!("anna:{PASSWORD}")));
    server.endpoint.headers = HeaderMap::from_iter([(http::header::AUTHORIZATION, basic.parse().unwrap())]);
    server
}

fn shown(text: &str, spelling: &str) {
    // What fills up base64 may stay.
    let text = text.replace("==", "");
    assert!(text.contains("<[redacted]") || text.contains("<anna:[redacted]"), "{spelling}: {text}");
    assert!(!text.contains("4\"xT") && !text.contains("k9"), "{spelling}: {text}");
}

/// Every answer with words of the server that ends in an error.
#[tokio::test]
async fn no_error_repeats_the_credential() {
    for said in spellings() {
        let quoted = serde_json::to_string(&format!("<{said}>")).unwrap();
        let header = format!("<{said}>");
        let error = format!(r#"{{"code":-32001,"message":{quoted},"data":{quoted}}}"#);
        let version = format!(r#"{{"protocolVersion":{quoted},"capabilities":{{}}}}"#);
        let answers: [Script; 6] = [
            Box::new({
                let header = header.clone();
                move |_| (401, vec![("www-authenticate", header.clone())], "".into())
            }),
            Box::new({
                let header = header.clone();
                move |_| text(404, &header)
            }),
            Box::new({
                let header = header.clone();
                move |_| text(503, &format!("{}{header}", " \n".repeat(1_000)))
            }),
            Box::new(move |_| (200, vec![("content-type", header.clone())], "".into())),
            Box::new(move |asked| {
                json(200, format!(r#"{{"jsonrpc":"2.0","id":{},"error":{error}}}"#, asked.id()))
            }),
            Box::new(move |asked| match asked.is("initialize") {
                true => json(200, asked.result(&version)),
                false => json(404, ""),
            }),
        ];
        for script in answers {
            let server = server(script).await;
            let findings = probe(&server.endpoint, &info()).await;
            let verdict = findings.verdict.unwrap_err();
            shown(&verdict.to_string(), &said);
            for attempt in findings.attempts {
                if let Some(error) = attempt.error.filter(|error| error.to_string() == verdict.to_string()) {
                    let debug = format!("{error:?}");
                    assert!(!debug.contains(PASSWORD) && !debug.contains(&said), "{debug}");
                }
            }
        }
    }
}

#[tokio::test]
async fn a_server_does_not_repeat_the_credential_in_its_own_description() {
    for said in spellings() {
        let quoted = serde_json::to_string(&format!("<{said}>")).unwrap();
        let server = server(move |asked| {
            if !asked.is("initialize") {
                return asked.handshake().unwrap_or_else(|| json(404, ""));
            }
            json(
                200,
                asked.result(&format!(
                    r#"{{"protocolVersion":"2025-06-18","capabilities":{{}},"serverInfo":{{"name":{quoted},"version":{quoted}}},"instructions":{quoted}}}"#
                )),
            )
        })
        .await;
        let found = probe(&server.endpoint, &info()).await.verdict.unwrap();
        for text in [&found.server_name, &found.server_version, found.instructions.as_ref().unwrap()] {
            shown(text, &said);
        }
    }
}

#[tokio::test]
async fn a_websocket_is_closed_without_repeating_the_credential() {
    for said in spellings() {
        let reason = format!("<{said}>\u{1b}[2J");
        let close = move |upgrade: WebSocketUpgrade| {
            let reason = reason.clone();
            async move {
                upgrade.on_upgrade(async move |mut socket| {
                    let close = CloseFrame { code: 4001, reason: reason.into() };
                    // It may be gone already.
                    let _ = socket.send(Message::Close(Some(close))).await;
                    while socket.recv().await.is_some() {}
                })
            }
        };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = Url::parse(&format!("ws://{}/ws", listener.local_addr().unwrap())).unwrap();
        let serving =
            tokio::spawn(async move { axum::serve(listener, Router::new().route("/ws", get(close))).await });
        let endpoint = Endpoint { url, ..server(|_| json(404, "")).await.endpoint };
        let opened = Session::open(&endpoint, Transport::WebSocket, Revision::LATEST_LEGACY, info()).await;
        let error = opened.map(drop).unwrap_err();
        assert!(matches!(error, ClientError::Broken(_)), "{error:?}");
        shown(&error.to_string(), &said);
        assert!(error.to_string().ends_with(">\\u{1b}[2J)"), "{error}");
        serving.abort();
    }
}
