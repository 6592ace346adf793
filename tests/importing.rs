//! `mcpctl import` against a gateway: what is good in a host's file arrives, and everything else is named.

use crate::support::gateway::{Gateway, Store};

const FILE: &str = r#"{
    "mcpServers": {
        "My Files": {"url": "http://127.0.0.1:1/a"},
        "my-files": {"url": "http://127.0.0.1:1/b"},
        "scheme": {"url": "ftp://127.0.0.1/mcp"},
        "host": {"url": "http://127.0.0.1:1/mcp", "headers": {"Host": "s3cret"}},
        "gone": {"command": "no-such-command-here"},
        "text": "s3cret",
        "off": {"url": "http://127.0.0.1:1/mcp", "enabled": false},
        "remote": {"command": "npx", "args": ["mcp-remote", "http://127.0.0.1:1/mcp", "--header", "X-Key:${KEY_OF_ITS_OWN}"], "env": {"KEY_OF_ITS_OWN": "s3cret"}},
        "zoo": {"url": "http://127.0.0.1:1/z", "cwd": "/x"}
    },
    "projects": {"/p": {"mcpServers": {"project": {"httpUrl": "http://127.0.0.1:1/p"}}}}
}"#;

#[tokio::test]
async fn what_is_refused_takes_no_other_server_of_the_file_along() {
    let gateway = Gateway::start(Store::Sqlite, 1).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("claude.json");
    std::fs::write(&file, FILE).unwrap();
    let arguments = ["import", file.to_str().unwrap(), "--expose"];
    let output = gateway.try_ctl(&arguments).await;
    let talk = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{talk}");
    for said in [
        "server my-files: skipped: its id would be my-files, which \"My Files\" in `mcpServers` has already",
        "server scheme: skipped: ",
        "server host: skipped: ",
        "server gone: skipped: command not found",
        "server text: skipped: it is a text",
        "server off: left out, since it is disabled",
        "server zoo: `cwd` is not taken along",
        "not imported: host, my-files, scheme, text, gone",
    ] {
        assert!(talk.contains(said), "says nothing of {said:?}: {talk}");
    }
    assert!(!talk.contains("s3cret"), "{talk}");
    let stored = gateway.ctl("get upstreams -o name").await;
    let names: Vec<_> = stored.split_whitespace().filter_map(|name| name.rsplit('/').next()).collect();
    assert_eq!(names, ["my-files", "project", "remote", "zoo"]);
    let shown = async |name: &str| gateway.ctl_args(&["get", "upstream", name, "-o", "json"]).await;
    let files: serde_json::Value = serde_json::from_str(&shown("my-files").await).unwrap();
    assert_eq!(files["http"]["url"], "http://127.0.0.1:1/a");
    // The header of the bridge has become the credential of the upstream.
    assert!(shown("remote").await.contains("X-Key"), "{}", shown("remote").await);

    let again = gateway.try_ctl(&["import", file.to_str().unwrap(), "--only", "zoo", "--only", "none"]).await;
    assert_eq!(again.status.code(), Some(1));
    let (said, talk) = (String::from_utf8_lossy(&again.stdout), String::from_utf8_lossy(&again.stderr));
    assert_eq!(said.trim_end(), "upstreams/zoo imported; it was there already, and is changed");
    assert!(talk.contains("server none: skipped: there is none of this name"), "{talk}");
}
