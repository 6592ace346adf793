//! `mcpctl doctor`: what is as it should be is said, and what is not with what to do; the exit code tells them apart.

use serde_json::Value;

use crate::secure::{Authority, behind_tls};
use crate::support::fake::{Fake, tool};
use crate::support::gateway::{Gateway, Store};

/// Runs it. Returns its exit code, and `outcome text` of every check of a name.
async fn checked(gateway: &Gateway, name: &str) -> (i32, Vec<String>) {
    let output = gateway.try_ctl(&["doctor", "-o", "json"]).await;
    let text = String::from_utf8(output.stdout).unwrap();
    let checks: Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
    let of_name = checks.as_array().unwrap().iter().filter(|check| check["name"] == name);
    let line = |check: &Value| {
        let [outcome, text] = ["outcome", "text"].map(|member| check[member].as_str().unwrap());
        let advice = check["advice"].as_str();
        // What is not as it should be says what to do.
        assert_eq!(advice.is_none(), outcome == "ok", "{check}");
        format!("{outcome} {text}{}", advice.map(|advice| format!(" -> {advice}")).unwrap_or_default())
    };
    (output.status.code().unwrap(), of_name.map(line).collect())
}

async fn start() -> (Gateway, Fake) {
    let gateway = Gateway::start(Store::Sqlite, 1).await;
    let upstream = Fake::start(&format!("[{}]", tool("echo")), |_, _| Vec::new()).await;
    gateway.ctl(&format!("create upstream fake --url {}", upstream.url())).await;
    gateway.ctl("create server dev --tool fake/*").await;
    gateway.ctl("create token laptop --server dev").await;
    gateway.admin.settled().await;
    (gateway, upstream)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_works_is_said_with_what_clients_see() {
    let (gateway, _upstream) = start().await;
    let (code, clients) = checked(&gateway, "clients").await;
    assert_eq!(code, 0, "{clients:?}");
    let [client] = &clients[..] else { panic!("{clients:?}") };
    let expected = format!(
        "ok server dev at http://{} with token laptop: 1 tool, 0 resources, 0 prompts, in ",
        gateway.edge_address(0)
    );
    assert!(client.starts_with(&expected), "{client}");
    for (name, start) in [
        ("context", "ok test: control plane http://"),
        ("control plane", "ok http://"),
        ("clock", "ok that of the control plane and that of this machine agree"),
        ("versions", "ok "),
        ("edges", "ok e0 at http://"),
        ("edge", "ok http://"),
        ("upstreams", "ok 1, and each can be used"),
    ] {
        let (_, found) = checked(&gateway, name).await;
        assert!(found.iter().all(|line| line.starts_with(start)) && !found.is_empty(), "{name}: {found:?}");
    }
    let table = gateway.ctl("doctor --no-clients").await;
    assert!(table.lines().any(|line| line.starts_with("ok    edges ")), "{table}");
    assert!(!table.contains("laptop"), "{table}");
    // Of another gateway than that of `mcpctl dev`, whose ports are no matter here.
    assert!(!table.contains("ports of dev"), "{table}");
}

/// Nothing is saved, so nobody is called; that there is an edge is said all the same.
#[tokio::test(flavor = "multi_thread")]
async fn the_edge_is_asked_by_nobody() {
    let gateway = Gateway::start(Store::Sqlite, 1).await;
    let (code, edge) = checked(&gateway, "edge").await;
    assert_eq!(
        (code, &edge[..]),
        (0, &[format!("ok http://{} answers as an edge does", gateway.edge_address(0))][..])
    );
    // The URLs are those of each other.
    let (control, edge) = (gateway.control_address(), gateway.edge_address(0));
    gateway.ctl(&format!("config set-context test --control http://{edge} --edge http://{control}")).await;
    let (code, edge) = checked(&gateway, "edge").await;
    let expected = format!(
        "fail no edge is at http://{control}: that is a control plane: set it with --control, and with --edge the port of an edge \
         for clients -> run `mcpctl config set-context NAME --edge URL`"
    );
    assert_eq!((code, &edge[..]), (1, &[expected][..]));
}

/// What is listed need not be what can be called.
#[tokio::test(flavor = "multi_thread")]
async fn what_clients_cannot_use_is_told() {
    let (gateway, upstream) = start().await;
    gateway.ctl("create token blind --server dev --tool nothing").await;
    gateway.admin.settled().await;
    let (code, clients) = checked(&gateway, "clients").await;
    assert_eq!(code, 0, "{clients:?}");
    assert!(
        clients.iter().any(|line| line.starts_with("warn server dev at ")
            && line.contains("with token blind: 0 tools, 0 resources, 0 prompts, in ")
            && line.contains(" -> run `mcpctl describe server dev`")),
        "{clients:?}"
    );
    drop(upstream);
    let call = gateway.try_ctl(&["call", "dev", "echo", "--token", "laptop"]).await;
    assert!(!call.status.success());
    // Edges report what they counted after a moment.
    crate::support::eventually("the call is told", crate::support::PATIENCE, || async {
        let (_, calls) = checked(&gateway, "calls").await;
        let told = "warn the one call to fake in the last hour failed there, or did not reach it -> run `mcpctl call`";
        calls.iter().find(|line| line.starts_with(told)).map(drop).ok_or_else(|| format!("{calls:?}"))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_work_is_said_with_what_to_do() {
    let (mut gateway, _upstream) = start().await;
    gateway.admin.revoke_token("laptop").await;
    gateway.admin.settled().await;
    let (code, clients) = checked(&gateway, "clients").await;
    assert_eq!(code, 1, "{clients:?}");
    let [client] = &clients[..] else { panic!("{clients:?}") };
    assert!(
        client.starts_with("fail saved token laptop was revoked ")
            && client.contains(" ago -> run `mcpctl create token NAME --server SERVER`"),
        "{client}"
    );
    // Nothing is configured with it either, unless that is what was said.
    let config = gateway.try_ctl(&["client-config", "dev", "--for", "zed"]).await;
    let talk = String::from_utf8(config.stderr).unwrap();
    assert_eq!(config.status.code(), Some(3), "{talk}");
    assert!(talk.starts_with("token laptop is left out: it was revoked "), "{talk}");
    let config = gateway.try_ctl(&["client-config", "dev", "--for", "zed", "--token", "laptop"]).await;
    let talk = String::from_utf8(config.stderr).unwrap();
    assert!(config.status.success() && talk.starts_with("warning: token laptop was revoked "), "{talk}");

    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        let file = gateway.folder().join("mcpctl.yaml");
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
        let (_, rights) = checked(&gateway, "context file").await;
        assert!(
            rights[0].starts_with("warn ") && rights[0].contains("others may read it (644)"),
            "{rights:?}"
        );
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
        let (_, rights) = checked(&gateway, "context file").await;
        assert!(rights[0].starts_with("ok "), "{rights:?}");
    }

    gateway.kill_control();
    let (code, control) = checked(&gateway, "control plane").await;
    assert_eq!(code, 1);
    assert!(
        control[0].starts_with("fail the control plane at ")
            && control[0].contains("check that it is running"),
        "{control:?}"
    );
    gateway.ctl("config set-context empty --control http://127.0.0.1:1").await;
    let output = gateway.try_ctl(&["doctor", "--context", "nowhere"]).await;
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("fail  context ") && text.contains("context nowhere does not exist"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_context_without_an_admin_token_is_told_so() {
    let gateway = Gateway::start(Store::Sqlite, 1).await;
    gateway.ctl(&format!("config set-context bare --control http://{}", gateway.control_address())).await;
    let output = gateway.try_ctl(&["get", "upstreams", "--context", "bare"]).await;
    let talk = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(4), "{talk}");
    assert!(
        talk.contains("wants an admin token, and the context has none")
            && talk.contains("--admin-token-file"),
        "{talk}"
    );
}

/// Clients trust the authority of the context, and nobody else.
#[tokio::test(flavor = "multi_thread")]
async fn edges_in_tls_are_called_with_the_authority_of_the_context() {
    let (gateway, _upstream) = start().await;
    let authority = Authority::new(gateway.folder(), "ours");
    let port = behind_tls(&authority, gateway.edge_address(0).to_owned()).await;
    let edge = format!("https://127.0.0.1:{port}");
    gateway.ctl(&format!("config set-context test --edge {edge}")).await;
    let refused = gateway.try_ctl(&["ping", "dev"]).await;
    let talk = String::from_utf8(refused.stderr).unwrap();
    assert_eq!(refused.status.code(), Some(7), "{talk}");
    assert!(talk.contains("not trusted here") && talk.contains("--ca-file"), "{talk}");
    gateway.ctl(&format!("config set-context test --ca-file {}", authority.ca.display())).await;
    assert!(gateway.ctl("ping dev").await.starts_with("the edge answers for dev in "));
    let (code, certificate) = checked(&gateway, "certificate of the edge").await;
    assert_eq!(code, 0, "{certificate:?}");
    assert!(certificate[0].starts_with("ok good until "), "{certificate:?}");
}
