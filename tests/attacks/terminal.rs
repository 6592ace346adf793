//! Text of upstreams on the terminal of an administrator and in logs: it may say anything, and do nothing.

use crate::support::fake::{Fake, Step, id, json};
use crate::support::gateway::{Gateway, Store};

/// Clears the screen, sets the title, moves the cursor by C1, overwrites the line, forges a row, and reorders letters.
const HOSTILE: &str = "\\u001b[2J\\u001b]0;owned\\u0007\\u009b1A\\rforged\\nupstreams/forged  ready\\u202egpj.exe\\u200b\\udb40\\udc41";

fn tools() -> String {
    format!(
        r#"[{{"name":"plain","title":"t{HOSTILE}","description":"d{HOSTILE}","inputSchema":{{"type":"object","properties":{{"p{HOSTILE}":{{"type":"string"}}}}}}}}]"#
    )
}

fn answers(request: &crate::support::fake::Received) -> Option<Vec<Step>> {
    let message: serde_json::Value = serde_json::from_str(&request.body).ok()?;
    let result = match message["method"].as_str()? {
        "initialize" => format!(
            r#"{{"protocolVersion":"2025-11-25","capabilities":{{"tools":{{}}}},"serverInfo":{{"name":"n{HOSTILE}","title":"t{HOSTILE}","version":"v{HOSTILE}"}},"instructions":"i{HOSTILE}"}}"#
        ),
        "tools/list" => format!(r#"{{"tools":{}}}"#, tools()),
        "tools/call" => {
            format!(r#"{{"content":[{{"type":"text","text":"said{HOSTILE}"}}],"isError":true}}"#)
        }
        "server/discover" => {
            let error = format!(r#"{{"code":-32601,"message":"m{HOSTILE}"}}"#);
            return Some(vec![json(
                404,
                &format!(r#"{{"jsonrpc":"2.0","id":{},"error":{error}}}"#, id(request)),
            )]);
        }
        _ => return None,
    };
    Some(vec![json(200, &format!(r#"{{"jsonrpc":"2.0","id":{},"result":{result}}}"#, id(request)))])
}

/// Whether a text holds something that a terminal acts on, or that is not seen.
fn hidden(text: &str) -> Option<char> {
    text.chars().find(|c| {
        (c.is_control() && *c != '\n')
            || matches!(c, '\u{200b}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{e0000}'..='\u{e0fff}')
    })
}

#[tokio::test]
async fn hostile_text_is_shown_as_escapes_by_every_command() {
    let fake = Fake::scripted("[]", answers).await;
    let gateway = Gateway::start(Store::Sqlite, 1).await;
    gateway.admin.create_upstream("odd", &fake.url()).await;
    let url = fake.url();
    let commands: [&[&str]; 14] = [
        &["get", "tools"],
        &["get", "tools", "-o", "yaml"],
        &["get", "tools", "-o", "json"],
        &["get", "tools", "-o", "name"],
        &["get", "upstreams"],
        &["get", "upstreams", "-o", "yaml"],
        &["get", "upstreams", "-o", "json"],
        &["describe", "upstream", "odd"],
        &["describe", "tool", "odd/plain"],
        &["probe", "odd"],
        &["probe", &url],
        &["probe", &url, "-o", "yaml"],
        &["refresh", "upstream", "odd"],
        &["get", "edges"],
    ];
    for command in commands {
        let output = gateway.try_ctl(command).await;
        let (out, err) =
            (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
        assert_eq!((hidden(&out), hidden(&err)), (None, None), "{command:?}\n{out}\n{err}");
        let forged = |line: &str| line.starts_with("upstreams/forged");
        assert!(!out.lines().chain(err.lines()).any(forged), "{command:?}\n{out}\n{err}");
        assert!(!out.is_empty(), "{command:?}: {err}");
    }

    let exact = gateway.ctl("get tools -o json").await;
    let tools: serde_json::Value = serde_json::from_str(&exact).unwrap();
    let sent: serde_json::Value = serde_json::from_str(&self::tools()).unwrap();
    assert_eq!(tools[0]["description"], sent[0]["description"], "JSON is exact");
    let exact = gateway.ctl("get tools -o yaml").await;
    let tool: serde_json::Value = serde_yaml_ng::from_str(&exact).unwrap();
    assert_eq!(tool["description"], sent[0]["description"], "YAML is exact");
}
