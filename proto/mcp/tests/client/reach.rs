//! Connections go to the addresses that the caller's resolver returns, and to no others.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use mcp::client::{Endpoint, Reach, Resolution, Resolve, ResolveError, Session, Transport, Url, probe};
use mcp::revision::Revision;

use crate::scripted_server::{Asked, ScriptedServer, info, json};

const REFUSED: &str = "the address of upstream.invalid is not allowed, for a reason that takes more than two hundred \
    characters to tell, which is as long as the text of a server may be before it is cut, but this is not the text of a \
    server: say so";

/// Returns what it is given, turn by turn; then refuses.
struct Turns {
    turns: Mutex<VecDeque<SocketAddr>>,
    asked: Mutex<Vec<String>>,
}

impl Turns {
    fn new(turns: &[SocketAddr]) -> Arc<Self> {
        Arc::new(Self { turns: Mutex::new(turns.iter().copied().collect()), asked: Mutex::default() })
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

impl Resolve for Turns {
    fn resolve(&self, host: &str) -> Resolution {
        self.asked.lock().unwrap().push(host.to_owned());
        let turn = self.turns.lock().unwrap().pop_front();
        let refused = || ResolveError::Refused(REFUSED.to_owned());
        Box::pin(async move { turn.map(|address| vec![address]).ok_or_else(refused) })
    }
}

/// The server by a name that no system knows, at what `turns` returns.
fn by_name(server: &ScriptedServer, turns: &Arc<Turns>) -> Endpoint {
    let mut endpoint = Endpoint { reach: Reach::Resolved(turns.clone()), ..server.endpoint.clone() };
    endpoint.url.set_host(Some("upstream.invalid")).unwrap();
    endpoint
}

fn address(server: &ScriptedServer) -> SocketAddr {
    // The port is that of the URL, whatever the resolver says.
    SocketAddr::new(server.endpoint.url.host_str().unwrap().parse().unwrap(), 1)
}

async fn failed(endpoint: &Endpoint) -> String {
    probe(endpoint, &info()).await.verdict.unwrap_err().to_string()
}

/// A handshake after each of whose answers the connection is closed.
fn closing(asked: &Asked) -> (u16, Vec<(&'static str, String)>, axum::body::Body) {
    let (status, mut headers, body) = asked.handshake().unwrap_or_else(|| json(404, ""));
    headers.push(("connection", "close".to_owned()));
    (status, headers, body)
}

#[tokio::test]
async fn every_connection_is_to_an_address_that_was_returned_for_it() {
    let server = ScriptedServer::start(closing).await;
    let turns = Turns::new(&[address(&server), address(&server)]);
    assert_eq!(failed(&by_name(&server, &turns)).await, format!("cannot connect: {REFUSED}"));
    assert_eq!(server.asked().len(), 2);
    assert!(turns.asked().len() > 2 && turns.asked().iter().all(|host| host == "upstream.invalid"));
}

#[tokio::test]
async fn a_connection_that_is_kept_is_not_resolved_again() {
    let server = ScriptedServer::start(|asked| asked.handshake().unwrap_or_else(|| json(404, ""))).await;
    let turns = Turns::new(&[address(&server)]);
    let endpoint = by_name(&server, &turns);
    let session = Session::open(&endpoint, Transport::StreamableHttp, Revision::LATEST_LEGACY, info()).await;
    session.unwrap().close().await;
    assert_eq!((server.asked().len(), turns.asked().len()), (3, 1));
}

#[tokio::test]
async fn a_redirect_is_followed_to_an_address_that_was_returned_for_it() {
    let server = ScriptedServer::start(|_| {
        (307, vec![("location", "/other".to_owned()), ("connection", "close".to_owned())], "".into())
    })
    .await;
    let turns = Turns::new(&[address(&server)]);
    assert_eq!(failed(&by_name(&server, &turns)).await, format!("cannot connect: {REFUSED}"));
    assert_eq!((server.asked().len(), turns.asked().len()), (1, 2));
}

#[tokio::test]
async fn a_host_that_is_an_address_is_asked_about_in_every_notation() {
    let server = ScriptedServer::start(closing).await;
    let port = server.endpoint.url.port().unwrap();
    for (host, expected) in [
        ("127.0.0.1", "127.0.0.1"),
        ("2130706433", "127.0.0.1"),
        ("0x7f.1", "127.0.0.1"),
        ("017700000001", "127.0.0.1"),
        ("127.1", "127.0.0.1"),
        ("[::1]", "::1"),
        ("[::ffff:127.0.0.1]", "::ffff:127.0.0.1"),
    ] {
        for scheme in ["http", "ws"] {
            let turns = Turns::new(&[]);
            let url = Url::parse(&format!("{scheme}://{host}:{port}/mcp")).unwrap();
            let reach = Reach::Resolved(turns.clone());
            let endpoint = Endpoint { url, reach, ..server.endpoint.clone() };
            assert_eq!(failed(&endpoint).await, format!("cannot connect: {REFUSED}"), "{scheme}://{host}");
            assert_eq!(turns.asked(), [expected], "{scheme}://{host}");
        }
    }
    assert!(server.asked().is_empty());
}

#[tokio::test]
async fn every_transport_asks() {
    let server = ScriptedServer::start(closing).await;
    for (transport, scheme) in
        [(Transport::StreamableHttp, "http"), (Transport::HttpSse, "http"), (Transport::WebSocket, "ws")]
    {
        let turns = Turns::new(&[]);
        let mut endpoint = by_name(&server, &turns);
        endpoint.url.set_scheme(scheme).unwrap();
        let opened = Session::open(&endpoint, transport, Revision::LATEST_LEGACY, info()).await;
        let error = opened.map(drop).unwrap_err().to_string();
        assert_eq!(error, format!("cannot connect: {REFUSED}"), "{transport:?}");
        assert_eq!(turns.asked(), ["upstream.invalid"], "{transport:?}");
    }
    assert!(server.asked().is_empty());
}
