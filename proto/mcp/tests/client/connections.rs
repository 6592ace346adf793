//! Connections that servers close without saying so, and what is sent once more then.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use http::HeaderMap;
use mcp::client::{ClientError, Endpoint, Reach, Session, Transport, Url};
use mcp::message::Envelope;
use mcp::method::Method;
use mcp::revision::Revision;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};

use crate::scripted_server::{info, quirk_names};

/// A server that answers one request on each connection, and closes it when the next one is there.
#[derive(Default)]
struct Closing {
    calls: AtomicUsize,
    connections: AtomicUsize,
}

async fn start(server: &Arc<Closing>) -> Endpoint {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = Url::parse(&format!("http://{}/mcp", listener.local_addr().unwrap())).unwrap();
    let server = Arc::clone(server);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            server.connections.fetch_add(1, Ordering::Relaxed);
            tokio::spawn(talk(Arc::clone(&server), stream));
        }
    });
    Endpoint { url, headers: HeaderMap::new(), timeout: Duration::from_secs(60), reach: Reach::System }
}

async fn talk(server: Arc<Closing>, stream: TcpStream) -> Option<()> {
    let mut stream = BufReader::new(stream);
    let body = request(&mut stream).await?;
    server.calls.fetch_add(usize::from(body.contains("tools/call")), Ordering::Relaxed);
    let answer = answer(&body);
    let status = if answer.is_empty() { "202 Accepted" } else { "200 OK" };
    let head = format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        answer.len()
    );
    stream.write_all(format!("{head}{answer}").as_bytes()).await.ok()?;
    let next = request(&mut stream).await?;
    server.calls.fetch_add(usize::from(next.contains("tools/call")), Ordering::Relaxed);
    None
}

/// The body of the next request; `None` at the end.
async fn request(stream: &mut BufReader<TcpStream>) -> Option<String> {
    let mut length = 0;
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await.ok()? == 0 {
            return None;
        }
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().ok()?;
        }
        if line.trim().is_empty() {
            break;
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.ok()?;
    String::from_utf8(body).ok()
}

fn answer(body: &str) -> String {
    let Some(id) = Envelope::parse(body.as_bytes()).ok().and_then(|message| message.id) else {
        return String::new();
    };
    let result = match body {
        body if body.contains("initialize") => {
            r#"{"protocolVersion":"2025-06-18","capabilities":{"tools":{}},"serverInfo":{"name":"u","version":"1"}}"#
        }
        body if body.contains("tools/list") => r#"{"tools":[{"name":"x"}]}"#,
        _ => "{}",
    };
    format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{result}}}"#)
}

#[tokio::test]
async fn what_breaks_on_a_closed_connection_is_sent_once_more_but_calls_of_tools_are_not() {
    let server = Arc::new(Closing::default());
    let endpoint = start(&server).await;
    let session =
        Session::open(&endpoint, Transport::StreamableHttp, Revision::V2025_06_18, info()).await.unwrap();
    // This one follows on a connection that answered, and is not answered.
    let mut broken = 0;
    for _ in 0..3 {
        let called = session.request_streaming("tools/call", r#"{"name":"x"}"#, &[], |_, _| {}).await;
        broken += usize::from(matches!(called, Err(ClientError::Broken(_))));
    }
    assert!(broken > 0, "none of them was sent on a connection that had been used");
    assert_eq!(server.calls.load(Ordering::Relaxed), 3, "each of them reached the server once");
    for _ in 0..6 {
        assert_eq!(session.list_all(Method::ToolsList, 10).await.unwrap(), [r#"{"name":"x"}"#]);
    }
    assert_eq!(quirk_names(&session.quirks()), ["closes-connections"]);
    let before = server.connections.load(Ordering::Relaxed);
    session.list_all(Method::ToolsList, 10).await.unwrap();
    assert_eq!(server.connections.load(Ordering::Relaxed), before + 1, "none is kept any more");
}
