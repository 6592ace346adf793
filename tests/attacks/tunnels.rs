//! Upstreams that dial in and flood their tunnels: such a tunnel ends, says why once, and the others go on.

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::time::timeout;
use tokio_tungstenite::connect_async;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;

use crate::support::PATIENCE;
use crate::support::gateway::{Gateway, Store};
use crate::support::wire::Client;
use crate::tunnels::{expose, pid_again, serve};

const REASON: &str =
    "the other side sent too many frames without data: more than 4096 at once or 1024 each second";

/// A frame of HTTP/2 on the connection itself.
fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags, 0, 0, 0, 0], payload].concat()
}

/// What floods are made of: a message, and how many of them are sent before anybody looks.
fn floods() -> [(&'static str, Message, usize); 6] {
    let binary = |frame: Vec<u8>| Message::Binary(frame.repeat(20_000).into());
    [
        ("answers to pings that nobody sent", binary(frame(6, 1, b"12345678")), 1),
        ("pings", binary(frame(6, 0, b"12345678")), 1),
        ("settings", binary(frame(4, 0, b"")), 1),
        ("unknown frames", binary(frame(0x77, 0, b"")), 1),
        ("empty messages", Message::Binary(Vec::new().into()), 20_000),
        ("pings of the WebSocket", Message::Ping(Vec::new().into()), 20_000),
    ]
}

/// Opens a tunnel of the upstream `evil` and floods it until the other side ends it.
async fn flood(address: &str, credential: &str, message: &Message, count: usize) {
    let mut request = format!("ws://{address}/tunnels/evil").into_client_request().unwrap();
    request.headers_mut().insert("sec-websocket-protocol", "trunkline.tunnel.v1".parse().unwrap());
    request.headers_mut().insert("authorization", format!("Bearer {credential}").parse().unwrap());
    let (socket, _) = connect_async(request).await.unwrap();
    let (mut sink, mut source) = socket.split();
    let writing = async {
        sink.send(Message::Binary(frame(4, 0, b"").into())).await?;
        loop {
            for _ in 0..count {
                sink.feed(message.clone()).await?;
            }
            sink.flush().await?;
        }
    };
    let reading = async { while let Some(Ok(_)) = source.next().await {} };
    let _: (Result<(), tokio_tungstenite::tungstenite::Error>, ()) = tokio::join!(writing, reading);
}

/// Makes an upstream that dials in; returns its credential.
async fn credential(gateway: &Gateway) -> String {
    std::fs::write(gateway.folder().join("evil.yaml"), "kind: Upstream\nname: upstreams/evil\ntunnel: {}\n")
        .unwrap();
    gateway.ctl("apply -f evil.yaml").await;
    gateway.admin.settled().await;
    let method = "trunkline.registry.v1.UpstreamService/CreateTunnelCredential";
    let url = format!("http://{}/{method}", gateway.control_address());
    let request = reqwest::Client::new().post(url).bearer_auth(gateway.admin_token());
    let response = request.json(&json!({"name": "upstreams/evil"})).send().await.unwrap();
    let issued: Value = response.json().await.unwrap();
    issued["credential"].as_str().unwrap().to_owned()
}

async fn counted(url: &str, name: &str) -> usize {
    let text = reqwest::get(url).await.unwrap().text().await.unwrap();
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    value.unwrap_or_else(|| panic!("no {name} in {text}")).parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_ends_its_tunnel_and_is_logged_once_and_the_others_go_on() {
    let gateway = Gateway::start(Store::Sqlite, 1).await;
    let control = format!("http://{}", gateway.control_address());
    let edge = format!("http://{}", gateway.edge_address(0));
    let _exposed = expose(&gateway, &control, &[edge]);
    let bearer = serve(&gateway).await;
    let server = pid_again(&gateway, 0, &bearer).await;
    let client = Client::open(&gateway.url(0, "dev"), &bearer).await.unwrap();
    let credential = credential(&gateway).await;

    for address in [gateway.control_address(), gateway.edge_address(0)] {
        for (what, message, count) in floods() {
            let ended = flood(address, &credential, &message, count);
            timeout(PATIENCE, ended).await.unwrap_or_else(|_| panic!("{what} go on at {address}"));
            // The connection of a client, the tunnel that it goes through and the control plane are as they were.
            let answer = client.call("pid", "{}").await.unwrap();
            assert_eq!(answer.json()["result"]["content"][0]["text"], *server, "{what}: {answer:?}");
            gateway.ctl("get upstreams").await;
        }
    }
    let kinds = floods().len();
    let processes = [
        (gateway.control(), format!("{control}/metrics"), "trunkline_control_tunnel_floods_total"),
        (gateway.edge(0), gateway.metrics_url(0), "trunkline_edge_tunnel_floods_total"),
    ];
    for (process, url, name) in processes {
        crate::support::eventually(name, PATIENCE, || async {
            let count = counted(&url, name).await;
            if count == kinds { Ok(()) } else { Err(count.to_string()) }
        })
        .await;
        let log = process.output();
        assert_eq!(log.matches(REASON).count(), kinds, "{log}");
        assert!(!log.contains("that we never sent"), "lines of h2 are in the log");
    }
}
