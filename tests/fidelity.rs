//! Bytes go through untouched, both ways, in both eras, as JSON and as a stream: an unknown field, a number of
//! thirty digits, the order of keys, the spacing.

use std::time::Duration;

use crate::support::fake::{Fake, Step, id, json, stream_head, tool, write};
use crate::support::gateway::{Gateway, Store};
use crate::support::wire::{Answer, Client, LEGACY, MODERN, modern_meta};

/// What re-typing would change: order, spacing, escapes, digits, unknown and null members.
const RESULT: &str = r#"{"zeta":1, "resultType":"complete","content":[ {"type":"text","text":"\u00e9 \/ é","x-unknown":null} ],"structuredContent":{"n":123456789012345678901234567890,"m":1.10,"e":1E400},"_meta":{"b":1,"a":2}, "isError":false}"#;
const ARGUMENTS: &str =
    r#"{"z":123456789012345678901234567890, "a":1.10,"u":"\u00e9\/","nested":{"y":[1.0,2.50],"x":null}}"#;
const DEFINITION: &str = r#"{"name":"exact","x-first":123456789012345678901234567890,"description":"\u00e9","inputSchema":{"type":"object","$defs":{"b":{},"a":{}}, "properties":{}},"x-last":{"b":1.10,"a":null}}"#;

async fn start() -> (Gateway, Fake, String) {
    let tools = format!("[{DEFINITION},{}]", tool("streamed"));
    let fake = Fake::start(&tools, |name, request| {
        let body = format!(r#"{{"jsonrpc":"2.0","id":{},"result":{RESULT}}}"#, id(request));
        if name == "exact" {
            return vec![json(200, &body)];
        }
        // The token may be the gateway's own on this side; it goes back as it came.
        let token = request.body.split_once(r#""progressToken":"#).unwrap().1;
        let token = &token[..token.find(['}', ',']).unwrap()];
        let progress = format!(
            r#"{{"jsonrpc":"2.0","method":"notifications/progress","params":{{"progressToken":{token},"progress":0.10,"x-unknown":1E2}}}}"#
        );
        vec![
            stream_head(),
            write(&format!("event: message\ndata: {progress}\n\n")),
            Step::Wait(Duration::from_millis(20)),
            write(&format!("event: message\ndata: {body}\n\n")),
            Step::Close,
        ]
    })
    .await;
    let gateway = Gateway::start(Store::Sqlite, 1).await;
    gateway.admin.create_upstream("fake", &fake.url()).await;
    gateway.admin.create_server("dev", &["fake/*"]).await;
    let bearer = gateway.admin.create_token("t", "dev", &["*"]).await;
    gateway.admin.settled().await;
    (gateway, fake, bearer)
}

/// A call that asks for progress, in the era of the client.
async fn call(client: &Client, tool: &str) -> Answer {
    let params = format!(r#""name":"{tool}","arguments":{ARGUMENTS}"#);
    let meta = r#""progressToken":"p""#;
    let (meta, extra) = if client.session().is_some() {
        (format!(r#""_meta":{{{meta}}}"#), Vec::new())
    } else {
        let headers = [("mcp-protocol-version", MODERN), ("mcp-method", "tools/call"), ("mcp-name", tool)];
        (modern_meta().replacen('{', &format!("{{{meta},"), 1), headers.to_vec())
    };
    let body = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{{params},{meta}}}}}"#);
    client.post(&body, &extra).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_byte_arrives_as_it_was_sent() {
    let (gateway, fake, bearer) = start().await;
    let url = gateway.url(0, "dev");
    let eras = [Client::open(&url, &bearer).await.unwrap(), Client::new(&url, &bearer)];
    for client in eras {
        let era = if client.session().is_some() { "legacy" } else { "modern" };
        for tool in ["exact", "streamed"] {
            let answer = call(&client, tool).await;
            assert_eq!(answer.status, 200, "{era} {tool}: {answer:?}");
            let message = String::from_utf8(answer.message()).unwrap();
            assert_eq!(message, format!(r#"{{"jsonrpc":"2.0","id":1,"result":{RESULT}}}"#), "{era} {tool}");
            let received = fake.received("tools/call").pop().unwrap();
            let expected = format!(r#""name":"{tool}","arguments":{ARGUMENTS}"#);
            assert!(received.body.contains(&expected), "{era} {tool}: {}", received.body);
            let text = String::from_utf8_lossy(&answer.body).into_owned();
            if tool == "streamed" {
                let progress = r#""params":{"progressToken":"p","progress":0.10,"x-unknown":1E2}"#;
                assert!(text.contains(progress), "{era}: {text}");
            }
        }
        let list = match era {
            "legacy" => client.post(r#"{"jsonrpc":"2.0","id":2,"method":"tools/list"}"#, &[]).await,
            _ => client.modern("tools/list", "", None).await,
        };
        let list = String::from_utf8(list.unwrap().message()).unwrap();
        assert!(list.contains(DEFINITION), "{era}: {list}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_id_comes_back_as_it_was_spelled() {
    let (gateway, _fake, bearer) = start().await;
    let client = Client::open(&gateway.url(0, "dev"), &bearer).await.unwrap();
    for id in [r#""1""#, "1", "123456789012345678901234567890", r#""\u00e9\/""#, r#""""#, "-7"] {
        let body = format!(
            r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/call","params":{{"name":"exact","arguments":{{}}}}}}"#
        );
        let answer = client.post(&body, &[]).await.unwrap();
        let message = String::from_utf8(answer.message()).unwrap();
        assert!(message.contains(&format!(r#""id":{id}"#)), "{id}: {message}");
        assert!(message.contains(RESULT), "{id}: {message}");
    }
}

/// A result that mentions a resource wherever one may be mentioned, and where its URI is only text.
fn mentioning(uri: &str) -> String {
    format!(
        r#"{{"zeta":1, "resultType":"complete","content":[ {{"type":"resource_link" , "uri":"{uri}","name":"\u00e9 \/","x":1.10}},{{"type":"text","text":"memo://a"}},
        {{"type":"resource","resource":{{"n":123456789012345678901234567890,"uri" : "{uri}","text":"memo:\/\/a"}}}} ,{{"type":"resource_link","uri":"memo://unknown","name":"memo://a"}}],"structuredContent":{{"uri":"memo://a","e":1E400}},"_meta":{{"b":1,"ui":{{"resourceUri":"{uri}" ,"x":null}}}}, "isError":false}}"#
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_result_mentions_is_renamed_and_every_other_byte_stays() {
    let tools = format!("[{}]", tool("exact"));
    let fake = Fake::scripted(&tools, |request| {
        let message: serde_json::Value = serde_json::from_str(&request.body).unwrap_or_default();
        let capabilities = r#"{"tools":{},"resources":{}}"#;
        let result = match message["method"].as_str().unwrap_or_default() {
            "server/discover" => format!(
                r#"{{"resultType":"complete","supportedVersions":["{MODERN}"],"capabilities":{capabilities},"ttlMs":0,"cacheScope":"public"}}"#
            ),
            "initialize" => format!(r#"{{"protocolVersion":"{LEGACY}","capabilities":{capabilities}}}"#),
            "resources/list" => r#"{"resultType":"complete","resources":[{"uri":"memo://a","name":"a"}],"ttlMs":0,"cacheScope":"public"}"#.to_owned(),
            "tools/call" => mentioning("memo://a"),
            _ => return None,
        };
        Some(vec![json(200, &format!(r#"{{"jsonrpc":"2.0","id":{},"result":{result}}}"#, id(request)))])
    })
    .await;
    let gateway = Gateway::start(Store::Sqlite, 1).await;
    gateway.admin.create_upstream("fake", &fake.url()).await;
    gateway.ctl("create server dev --tool fake/* --resource fake/*").await;
    let bearer = gateway.admin.create_token("t", "dev", &["*"]).await;
    gateway.admin.settled().await;
    let url = gateway.url(0, "dev");
    for client in [Client::open(&url, &bearer).await.unwrap(), Client::new(&url, &bearer)] {
        let era = if client.session().is_some() { "legacy" } else { "modern" };
        let message = String::from_utf8(call(&client, "fake_exact").await.message()).unwrap();
        let expected = format!(r#"{{"jsonrpc":"2.0","id":1,"result":{}}}"#, mentioning("fake+memo://a"));
        assert_eq!(message, expected, "{era}");
    }
}
