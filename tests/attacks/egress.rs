//! Where the gateway connects to because a resource says so: only to addresses that the egress rule allows.

use std::net::{IpAddr, ToSocketAddrs as _};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::Value;
use tokio::net::TcpListener;

use crate::support::fake::{Fake, id, json, tool, write};
use crate::support::gateway::{Gateway, Store};
use crate::support::process::Process;
use crate::support::wire::Client;
use crate::support::{PATIENCE, binary, eventually, free_port};

/// Nothing but public addresses, as without any option.
const STRICT: &str = "--egress-allow=";
const NOT_ALLOWED: &str = r#"{"jsonrpc":"2.0","id":1,"error":{"code":-31113,"message":"upstream fake: cannot connect: the egress rule of edge e0 does not allow its address; start that edge with --egress-allow","data":{"reason":"upstream_not_allowed","upstream":"fake"}}}"#;

/// An upstream with a tool `echo`.
async fn upstream() -> Fake {
    Fake::start(&format!("[{}]", tool("echo")), |_, request| {
        let id = id(request);
        vec![json(200, &format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{"content":[]}}}}"#))]
    })
    .await
}

/// The URL of an upstream under the name of this machine, and the address that the name is refused for.
fn by_name(upstream: &Fake) -> (String, IpAddr) {
    let first = ("localhost", 0).to_socket_addrs().unwrap().next().unwrap();
    (upstream.url().replace("127.0.0.1", "localhost"), first.ip())
}

fn reason(address: impl std::fmt::Display) -> String {
    format!(
        "a loopback address, which the egress rule does not allow; start the control plane and the edges with --egress-allow \
         {address} or --egress-allow loopback"
    )
}

/// A gateway whose control plane is started with these options and variables.
async fn gateway(edges: usize, options: &[&str], environment: &[(&str, &str)]) -> Gateway {
    let mut gateway = Gateway::start(Store::Sqlite, edges).await;
    gateway.stop_control();
    gateway.configure_control(options, environment);
    gateway.start_control().await;
    gateway.all_connected().await;
    gateway
}

async fn status(gateway: &Gateway, upstream: &str) -> Value {
    let shown = gateway.ctl(&format!("get upstream {upstream} -o json")).await;
    serde_json::from_str::<Value>(&shown).unwrap()["status"].clone()
}

/// What `mcpctl` says where it must fail.
async fn refused(gateway: &Gateway, line: &str) -> String {
    let output = gateway.try_ctl(&line.split_whitespace().collect::<Vec<_>>()).await;
    assert!(!output.status.success(), "mcpctl {line}: {}", String::from_utf8_lossy(&output.stdout));
    String::from_utf8(output.stderr).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_is_not_allowed_is_refused_when_it_is_written() {
    let gateway = gateway(0, &[STRICT], &[]).await;
    for (host, expected) in [
        ("10.1.2.3", "10.1.2.3 is a private address"),
        ("2130706433", "127.0.0.1 is a loopback address"),
        ("0x7f.1", "127.0.0.1 is a loopback address"),
        ("017700000001", "127.0.0.1 is a loopback address"),
        ("[::1]", "::1 is a loopback address"),
        ("[::ffff:192.168.0.1]", "192.168.0.1 is a private address"),
        ("[2002:7f00:1::]", "2002:7f00:1:: leads to 127.0.0.1, a loopback address"),
        ("100.64.0.1", "100.64.0.1 is a shared address (carrier-grade NAT)"),
    ] {
        let said = refused(&gateway, &format!("create upstream secret --url http://{host}:1/mcp")).await;
        let address = expected.split_once(" leads to ").map_or(expected, |(_, inner)| inner);
        let allow = address.split([' ', ',']).next().unwrap();
        let class = expected.split(' ').rev().find(|word| ["private", "loopback", "shared"].contains(word));
        let whole = format!(
            "error: --url cannot be connected to: {expected}, which the egress rule does not allow; start the \
             control plane and the edges with --egress-allow {allow} or --egress-allow {}\n",
            class.unwrap()
        );
        assert_eq!(said, whole, "{host}");
    }
    let metadata =
        refused(&gateway, "create upstream secret --url http://169.254.169.254/latest/meta-data").await;
    assert_eq!(
        metadata,
        "error: --url cannot be connected to: 169.254.169.254 is a cloud metadata address, which the egress rule does not allow; start \
         the control plane and the edges with --egress-allow 169.254.169.254\n"
    );
    assert_eq!(gateway.ctl("get upstreams -o name").await, "");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_is_refused_when_it_is_resolved_on_every_transport() {
    let upstream = upstream().await;
    let gateway = gateway(0, &[STRICT], &[]).await;
    let (url, address) = by_name(&upstream);
    for (id, url) in [("http", url.clone()), ("ws", url.replace("http://", "ws://"))] {
        gateway.ctl(&format!("create upstream {id} --url {url}")).await;
        let status = eventually("the upstream was tried", PATIENCE, || async {
            let status = status(&gateway, id).await;
            if status["reason"].is_string() { Ok(status) } else { Err(status.to_string()) }
        })
        .await;
        let expected = format!("cannot connect: localhost resolves to {address}, {}", reason(address));
        assert_eq!((&status["state"], &status["reason"]), (&"unreachable".into(), &expected.clone().into()));
        let probed = gateway.try_ctl(&["probe", id]).await;
        let said = [probed.stdout, probed.stderr].concat();
        assert!(String::from_utf8(said).unwrap().contains(&expected), "{id}");
    }
    assert!(upstream.received("initialize").is_empty() && upstream.received("server/discover").is_empty());
}

/// What was written before the rule was narrowed can still be edited; it is refused when it is connected to.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_there_is_no_obstacle_to_an_edit() {
    let upstream = upstream().await;
    let mut gateway = Gateway::start(Store::Sqlite, 0).await;
    gateway.admin.create_upstream("fake", &upstream.url()).await;
    gateway.stop_control();
    gateway.configure_control(&[STRICT], &[]);
    gateway.start_control().await;
    gateway.ctl("update upstream fake --title Kept").await;
    let said = refused(&gateway, "update upstream fake --url http://127.0.0.2:1/mcp").await;
    let expected = "--url cannot be connected to: 127.0.0.2 is";
    assert_eq!(said, format!("error: {expected} {}\n", reason("127.0.0.2")));
    let refreshed = gateway.try_ctl(&["refresh", "upstream", "fake"]).await;
    let refreshed = String::from_utf8([refreshed.stdout, refreshed.stderr].concat()).unwrap();
    let status = status(&gateway, "fake").await;
    let expected = format!("cannot connect: 127.0.0.1 is {}", reason("127.0.0.1"));
    assert_eq!(status["reason"], expected, "{refreshed}");
    let kept = gateway.ctl("get tools -o name").await;
    assert!(kept.contains("echo"), "{kept}");
}

/// What `mcpctl doctor` says of egress rules, with what to do.
async fn warnings(gateway: &Gateway) -> Vec<String> {
    let output = gateway.try_ctl(&["doctor", "--no-clients", "-o", "json"]).await;
    let checks: Value = serde_json::from_slice(&output.stdout).unwrap();
    let of_egress = checks.as_array().unwrap().iter().filter(|check| check["name"] == "egress");
    let line = |check: &Value| {
        let [outcome, text, advice] =
            ["outcome", "text", "advice"].map(|member| check[member].as_str().unwrap());
        format!("{outcome} {text} -> {advice}")
    };
    of_egress.map(line).collect()
}

/// The warning about an edge whose rule is `rule`.
fn warning(rule: &str, advice: &str) -> String {
    format!(
        "warn edge e0 connects to fewer addresses than the control plane, so calls may fail at upstreams that are ready: its egress \
         rule is {rule}, that of the control plane is public addresses, loopback -> start edge e0 {advice}"
    )
}

/// The control plane may connect to it, and the edge may not, until it is told that it may.
#[tokio::test(flavor = "multi_thread")]
async fn an_edge_refuses_by_its_own_rule_and_tells_its_operator_alone() {
    let upstream = upstream().await;
    let (url, address) = by_name(&upstream);
    let mut gateway = Gateway::start_with(Store::Sqlite, 1, &[STRICT]).await;
    gateway.admin.create_upstream("fake", &url).await;
    gateway.admin.create_server("dev", &["fake/*"]).await;
    let bearer = gateway.admin.create_token("client", "dev", &["*"]).await;
    gateway.admin.settled().await;
    // Before anybody has called.
    let strict = warning("public addresses", "with --egress-allow loopback");
    assert_eq!(warnings(&gateway).await, [strict]);
    let described = gateway.ctl("describe edge e0").await;
    assert!(
        described.lines().any(|line| line.starts_with("Egress:") && line.ends_with("  public addresses")),
        "{described}"
    );
    let wide = gateway.ctl("get edges -o wide").await;
    assert!(wide.contains("EGRESS") && wide.contains("  public addresses"), "{wide}");
    let call = async |gateway: &Gateway| {
        let client = Client::new(&gateway.url(0, "dev"), &bearer);
        let answer =
            client.modern("tools/call", r#""name":"echo","arguments":{}"#, Some("echo")).await.unwrap();
        String::from_utf8(answer.message()).unwrap()
    };
    assert_eq!(call(&gateway).await, NOT_ALLOWED);
    assert!(upstream.received("tools/call").is_empty());
    let log = format!("error=localhost resolves to {address}, {}", reason(address));
    eventually("the log says which", PATIENCE, || async {
        let output = gateway.edge(0).output();
        if output.contains(&log) { Ok(()) } else { Err(output) }
    })
    .await;
    let numbers = reqwest::get(gateway.metrics_url(0)).await.unwrap().text().await.unwrap();
    assert!(numbers.contains("trunkline_edge_egress_refused_total{class=\"loopback\"} 1\n"), "{numbers}");

    let denying =
        warning("public addresses, all; never 127.0.0.0/8, ::1", "without --egress-deny 127.0.0.0/8,::1");
    for (options, expected, told) in [
        (
            &["--egress-allow=10.0.0.0/8,loopback"][..],
            r#"{"jsonrpc":"2.0","id":1,"result":{"content":[]}}"#,
            &[][..],
        ),
        (&["--egress-allow=all", "--egress-deny=127.0.0.0/8,::1"], NOT_ALLOWED, &[denying]),
    ] {
        gateway.stop_edge(0);
        gateway.configure_edge(0, options);
        gateway.start_edge(0).await;
        gateway.all_connected().await;
        assert_eq!(call(&gateway).await, expected, "{options:?}");
        assert_eq!(warnings(&gateway).await, told, "{options:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redirect_leads_to_no_other_host() {
    let secret = upstream().await;
    let location = secret.url();
    let hop = {
        let location = location.clone();
        Fake::scripted(&format!("[{}]", tool("echo")), move |request| {
            let redirect = format!("HTTP/1.1 307 Hop\r\nlocation: {location}\r\ncontent-length: 0\r\n\r\n");
            request.body.contains("tools/call").then(|| vec![write(&redirect)])
        })
        .await
    };
    let gateway = Gateway::start(Store::Sqlite, 1).await;
    gateway.admin.create_upstream("fake", &hop.url()).await;
    gateway.admin.create_server("dev", &["fake/*"]).await;
    let bearer = gateway.admin.create_token("client", "dev", &["*"]).await;
    gateway.admin.settled().await;
    let client = Client::new(&gateway.url(0, "dev"), &bearer);
    let answer = client.modern("tools/call", r#""name":"echo","arguments":{}"#, Some("echo")).await.unwrap();
    assert_eq!(
        String::from_utf8(answer.message()).unwrap(),
        r#"{"jsonrpc":"2.0","id":1,"error":{"code":-31104,"message":"upstream fake: responded with HTTP 307","data":{"reason":"upstream_status","upstream":"fake"}}}"#
    );
    let told = format!(
        "HTTP 307: not an MCP server: redirects to {location}, which is not followed: register that URL"
    );
    let everything = Fake::scripted("[]", move |_| {
        Some(vec![write(&format!("HTTP/1.1 307 Hop\r\nlocation: {location}\r\ncontent-length: 0\r\n\r\n"))])
    })
    .await;
    gateway.ctl(&format!("create upstream everything --url {}", everything.url())).await;
    eventually("the redirect is refused", PATIENCE, || async {
        let status = status(&gateway, "everything").await;
        if status["reason"] == told { Ok(()) } else { Err(status.to_string()) }
    })
    .await;
    for method in ["tools/call", "initialize", "server/discover"] {
        assert!(secret.received(method).is_empty(), "{method}");
    }
}

/// A proxy would resolve the name itself, past the rule.
#[tokio::test(flavor = "multi_thread")]
async fn the_proxies_of_the_environment_are_not_used() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let proxy = format!("http://{}", listener.local_addr().unwrap());
    let taken = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&taken);
    let proxying = tokio::spawn(async move {
        while listener.accept().await.is_ok() {
            count.fetch_add(1, Ordering::Relaxed);
        }
    });
    let variables: Vec<(&str, &str)> =
        ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"]
            .into_iter()
            .map(|name| (name, proxy.as_str()))
            .chain([("NO_PROXY", ""), ("no_proxy", "")])
            .collect();
    let gateway = gateway(0, &[], &variables).await;
    let upstream = upstream().await;
    gateway.admin.create_upstream("fake", &by_name(&upstream).0).await;
    assert_eq!(taken.load(Ordering::Relaxed), 0);
    proxying.abort();
}

/// What one control plane finds is shown by all of its database.
#[tokio::test(flavor = "multi_thread")]
async fn a_control_plane_with_another_rule_than_the_others_is_named() {
    let gateway = Gateway::start(Store::Postgres, 0).await;
    let upstream = upstream().await;
    gateway.admin.create_upstream("fake", &upstream.url()).await;
    let address = format!("127.0.0.1:{}", free_port());
    let master_key = std::fs::read_to_string(gateway.folder().join("control/master.key")).unwrap();
    let mut command = Command::new(binary("trunkline-control-plane"));
    command.args(["--listen", &address, "--database-url", gateway.database().unwrap()]);
    command.arg("--data-dir").arg(gateway.folder().join("strict"));
    command
        .env("TRUNKLINE_ADMIN_TOKEN", gateway.admin_token())
        .env("TRUNKLINE_MASTER_KEY", master_key.trim());
    let strict = Process::start("strict", command, gateway.folder());

    let (loose, wanted) = (gateway.control(), "has another egress rule than this control plane");
    for (who, other, rules) in [
        (&strict, gateway.control_address(), "(public addresses, loopback, here public addresses)"),
        (loose, &address, "(public addresses, here public addresses, loopback)"),
    ] {
        let expected = format!("the control plane at {other} on ");
        eventually("each names the other", PATIENCE, || async {
            let said = who.output();
            let is_named =
                |line: &str| [&*expected, wanted, rules].into_iter().all(|part| line.contains(part));
            if said.lines().any(is_named) { Ok(()) } else { Err(said) }
        })
        .await;
    }

    let url = format!("http://{address}/trunkline.registry.v1.UpstreamService/RefreshUpstream");
    let request = reqwest::Client::new().post(url).bearer_auth(gateway.admin_token());
    let answer = request.json(&serde_json::json!({"name": "upstreams/fake"})).send().await.unwrap();
    let answer: Value = answer.json().await.unwrap();
    let reason = answer["upstream"]["status"]["reason"].as_str().unwrap();
    assert!(reason.contains(&format!("(the rule of the control plane at {address} on ")), "{answer}");
}
