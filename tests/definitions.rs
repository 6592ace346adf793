//! Definitions that SDKs reject, and with each the whole list, and answers that they drop: every client gets what can be read of
//! them.

use crate::support::clients::{self, Call, Order, Sdk};
use crate::support::fake::{Fake, Received, id, json, tool};
use crate::support::gateway::{Gateway, Store};

/// Tools whose one meaning is plain, by name.
const READABLE: [(&str, &str); 14] = [
    ("absent", ""),
    ("annotations", r#","inputSchema":{"type":"object"},"annotations":[]"#),
    ("description", r#","inputSchema":{"type":"object"},"description":["a"]"#),
    ("hints", r#","inputSchema":{"type":"object"},"annotations":{"readOnlyHint":"yes","title":7}"#),
    ("icons", r#","inputSchema":{"type":"object"},"icons":[{"src":1}]"#),
    ("meta", r#","inputSchema":{"type":"object"},"_meta":[]"#),
    ("null", r#","inputSchema":null"#),
    ("output", r#","inputSchema":{"type":"object"},"outputSchema":true"#),
    ("properties", r#","inputSchema":{"type":"object","properties":null}"#),
    ("property", r#","inputSchema":{"type":"object","properties":{"a":true,"b":false}}"#),
    ("required", r#","inputSchema":{"type":"object","required":null}"#),
    ("title", r#","inputSchema":{"type":"object"},"title":5"#),
    ("true", r#","inputSchema":true"#),
    ("untyped", r#","inputSchema":{"$schema":"http://json-schema.org/draft-07/schema#","anyOf":[{}]}"#),
];

/// Tools whose schema may mean anything.
const UNREADABLE: [(&str, &str); 3] =
    [("array", r#"{"type":"array"}"#), ("string", r#"{"type":"string"}"#), ("text", r#""{}""#)];

#[tokio::test(flavor = "multi_thread")]
async fn every_sdk_takes_the_list_and_calls_what_is_in_it() {
    let readable = READABLE.iter().map(|(name, more)| format!(r#"{{"name":"{name}"{more}}}"#));
    let unreadable =
        UNREADABLE.iter().map(|(name, schema)| format!(r#"{{"name":"{name}","inputSchema":{schema}}}"#));
    let tools = format!("[{}]", readable.chain(unreadable).collect::<Vec<_>>().join(","));
    let fake = Fake::start(&tools, |name, request| {
        let result = format!(
            r#"{{"resultType":"complete","content":[{{"type":"text","text":"{name}"}}],"structuredContent":{{}}}}"#
        );
        vec![json(200, &format!(r#"{{"jsonrpc":"2.0","id":{},"result":{result}}}"#, id(request)))]
    })
    .await;
    let gateway = Gateway::start(Store::Sqlite, 1).await;
    gateway.admin.create_upstream("fake", &fake.url()).await;
    gateway.admin.create_server("dev", &["fake/*"]).await;
    let bearer = gateway.admin.create_token("t", "dev", &["*"]).await;
    gateway.admin.settled().await;
    let call = |name: &str| Call { name: name.to_owned(), arguments: serde_json::json!({}) };
    let order = Order {
        url: gateway.url(0, "dev"),
        bearer,
        mode: "auto",
        calls: vec![call("absent"), call("required"), call("text")],
    };
    for sdk in Sdk::ALL {
        let report = clients::run(sdk, &order).await;
        let mut tools = report.tools.clone();
        tools.sort();
        assert_eq!(tools, READABLE.map(|(name, _)| name), "{sdk:?}");
        // What is in no list is called all the same.
        for (outcome, text) in report.calls.iter().zip(["absent", "required", "text"]) {
            assert!(outcome.error.is_none() && outcome.text.contains(text), "{sdk:?}: {outcome:?}");
        }
    }
    assert_eq!(fake.received("tools/call").len(), 3 * Sdk::ALL.len());
}

/// Answers that strict SDKs drop, so that their callers wait for ever: the tool that gives each, and what is in a message then.
const DROPPED: [(&str, &str); 6] = [
    (
        "error_null",
        r#""result":{"resultType":"complete","content":[{"type":"text","text":"fine"}]},"error":null"#,
    ),
    (
        "inside",
        r#""result":{"resultType":"complete","content":[{"type":"text","text":"fine","annotations":null,"_meta":null}],"isError":null,"_meta":null}"#,
    ),
    ("bare", r#""error":"no""#),
    ("code", r#""error":{"code":"E_NO","message":"no"},"result":null"#),
    ("digits", r#""error":{"code":"-32603","message":"no"}"#),
    ("silent", r#""error":{"code":-32603,"data":"no"}"#),
];

#[tokio::test(flavor = "multi_thread")]
async fn every_sdk_reads_the_answers_that_it_would_drop() {
    let tools = format!("[{}]", DROPPED.map(|(name, _)| tool(name)).join(","));
    let fake = Fake::start(&tools, |name, request| {
        let members = DROPPED.iter().find(|(known, _)| *known == name).unwrap().1;
        vec![json(200, &format!(r#"{{"jsonrpc":"2.0","id":{},{members}}}"#, id(request)))]
    })
    .await;
    let gateway = Gateway::start(Store::Sqlite, 1).await;
    gateway.admin.create_upstream("fake", &fake.url()).await;
    gateway.admin.create_server("dev", &["fake/*"]).await;
    let bearer = gateway.admin.create_token("t", "dev", &["*"]).await;
    gateway.admin.settled().await;
    let call = |(name, _): &(&str, &str)| Call { name: (*name).to_owned(), arguments: serde_json::json!({}) };
    let calls = DROPPED.iter().map(call).collect();
    let order = Order { url: gateway.url(0, "dev"), bearer, mode: "auto", calls };
    for sdk in Sdk::ALL {
        let report = clients::run(sdk, &order).await;
        assert_eq!(report.calls.len(), DROPPED.len(), "{sdk:?}");
        for ((name, members), outcome) in DROPPED.iter().zip(report.calls) {
            match outcome.error {
                None => assert!(members.contains("fine") && outcome.text == "fine", "{sdk:?} {name}"),
                Some(error) => {
                    let is_told = error.code == -32603 && error.message.ends_with("no");
                    assert!(!members.contains("fine") && is_told, "{sdk:?} {name}: {error:?}");
                }
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn people_are_told_what_upstreams_should_mend() {
    let answers = |name: &str, request: &Received| {
        vec![json(200, &format!(r#"{{"jsonrpc":"2.0","id":{},"result":{{"n":"{name}"}}}}"#, id(request)))]
    };
    let sane = Fake::start(&format!("[{}]", tool("good")), answers).await;
    let odd = format!(r#"[{},{{"name":"mended"}},{{"name":"text","inputSchema":"{{}}"}}]"#, tool("good"));
    let odd = Fake::start(&odd, answers).await;
    let gateway = Gateway::start(Store::Sqlite, 1).await;
    gateway.admin.create_upstream("sane", &sane.url()).await;
    gateway.admin.create_upstream("odd", &odd.url()).await;

    let lint = gateway.try_ctl(&["lint", "sane"]).await;
    let said = String::from_utf8_lossy(&lint.stdout).into_owned();
    assert!(lint.status.success() && said.contains("nothing to mend"), "{said}");
    for names in [&["lint"][..], &["lint", "odd"], &["lint", "sane", "odd"]] {
        let lint = gateway.try_ctl(names).await;
        let (said, why) = (String::from_utf8_lossy(&lint.stdout), String::from_utf8_lossy(&lint.stderr));
        assert_eq!(lint.status.code(), Some(1), "{names:?}: {said}{why}");
        for line in [
            "odd: tools[2] \"text\": withheld: inputSchema ",
            "odd: tools[1] \"mended\": inputSchema ",
            "odd: quirk entries-withheld",
            "odd: quirk entries-mended",
        ] {
            assert!(
                said.lines().any(|said| said.starts_with(line)),
                "{names:?}: {line:?} is missing:\n{said}"
            );
        }
        assert!(said.lines().all(|line| line.starts_with("odd: ")), "{names:?}: {said}");
        assert!(why.contains("4 things to mend"), "{names:?}: {why}");
    }

    // What a registration will find, before there is one, and where nothing can be registered.
    let probed = gateway.ctl(&format!("probe {}", odd.url())).await;
    let read = "list       tools/list                3 entries, 1 withheld, 1 completed";
    assert!(probed.lines().any(|line| line == read), "{probed}");
    assert!(probed.contains("warning    tools[2] \"text\": withheld: inputSchema "), "{probed}");
    let refuses = Fake::scripted("[]", |request| {
        request.body.contains("tools/list").then(|| vec![json(500, "no lists here")])
    })
    .await;
    let failed = gateway.try_ctl(&["probe", &refuses.url()]).await;
    let why = String::from_utf8_lossy(&failed.stderr);
    assert!(!failed.status.success() && why.contains("tools/list: HTTP 500"), "{why}");
}
