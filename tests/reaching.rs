//! Addresses that lead elsewhere: what is wrong is said at once, with the exit code of whoever got no answer.

use std::time::{Duration, Instant};

use crate::secure::{Authority, behind_tls};
use crate::support::fake::{Fake, Step, write};
use crate::support::gateway::{Gateway, Store};
use crate::verbs::told;

/// The exit code where nobody answered.
const UNAVAILABLE: i32 = 7;
/// Far less than the time that an answer is waited for.
const AT_ONCE: Duration = Duration::from_secs(20);

/// Runs `mcpctl` with a context of its own.
async fn with(gateway: &Gateway, control: &str, edge: &str, more: &[&str], line: &[&str]) -> (i32, String) {
    let admin = gateway.folder().join("admin");
    std::fs::write(&admin, gateway.admin_token()).unwrap();
    let admin = admin.to_str().unwrap();
    let set =
        ["config", "set-context", "there", "--control", control, "--edge", edge, "--admin-token-file", admin];
    gateway.ctl_args(&[&set[..], more].concat()).await;
    let start = Instant::now();
    let output = gateway.try_ctl(&[&["--context", "there"], line].concat()).await;
    let talk = String::from_utf8_lossy(&output.stderr).trim_end().to_owned();
    assert!(start.elapsed() < AT_ONCE, "it took {:?} to say: {talk}", start.elapsed());
    (output.status.code().unwrap(), talk)
}

#[tokio::test]
async fn a_wrong_address_is_told_at_once() {
    let gateway = Gateway::start(Store::Sqlite, 1).await;
    gateway.ctl("create server dev").await;
    gateway.ctl("create token laptop --server dev").await;
    let bearer = gateway.ctl("config get-bearer laptop").await;
    std::fs::write(gateway.folder().join("bearer"), bearer).unwrap();
    let page = "HTTP/1.1 404 Not Found\r\ncontent-type: text/html\r\ncontent-length: 6\r\n\r\n<html>";
    let web = Fake::scripted("[]", move |_| Some(vec![write(page)])).await;
    let web = web.url().replace("/mcp", "");
    let authority = Authority::new(gateway.folder(), "ours");
    let tls = behind_tls(&authority, gateway.control_address().to_owned()).await;
    let [control, edge, operations] =
        [gateway.control_address(), gateway.edge_address(0), gateway.operations_address(0)]
            .map(|a| format!("http://{a}"));
    let (https, http) = (format!("https://127.0.0.1:{tls}"), format!("http://127.0.0.1:{tls}"));
    let ca = ["--ca-file", authority.ca.to_str().unwrap()];

    let get = ["get", "servers"];
    for (control, more, part) in [
        (edge.as_str(), &[][..], "that is the port of an edge for clients"),
        (&operations, &[], "that is the port of an edge for operators"),
        (&web, &[], "a web server answers there"),
        (&http, &[], "it speaks TLS: its URL begins with https://"),
        (
            &control.replace("http:", "https:"),
            &[],
            "it does not speak TLS there; its URL begins with http://",
        ),
        (&https, &[], "--ca-file FILE"),
    ] {
        let (code, talk) = with(&gateway, control, &edge, more, &get).await;
        assert_eq!(code, UNAVAILABLE, "{control}: {talk}");
        assert!(
            talk.contains(part) && talk.contains(control) && talk.lines().count() == 1,
            "{control}: {talk}"
        );
    }
    let (code, talk) = with(&gateway, &control, &edge, &ca, &get).await;
    assert_eq!(code, 0, "{talk}");

    let call = ["call", "dev", "now", "--bearer-file", "bearer"];
    for (edge, part) in [
        (control.as_str(), "that is a control plane: set it with --control"),
        (&operations, "that is the port of the edge for operators"),
        (&web, "a web server answers there, and no edge"),
        (&http, "it speaks TLS: its URL begins with https://"),
    ] {
        let (code, talk) = with(&gateway, &control, edge, &[], &call).await;
        assert_eq!(code, UNAVAILABLE, "{edge}: {talk}");
        assert!(talk.contains(part) && talk.contains(edge) && talk.lines().count() == 1, "{edge}: {talk}");
    }

    for (url, part) in [
        (format!("{http}/mcp"), "if it speaks TLS, its URL begins with https://"),
        (format!("{https}/mcp"), "signed by an authority that is not trusted here"),
        (
            format!("{}/mcp", edge.replace("http:", "https:")),
            "it does not speak TLS there; its URL begins with http://",
        ),
    ] {
        let (code, talk) = with(&gateway, &control, &edge, &[], &["probe", &url]).await;
        assert_eq!(code, UNAVAILABLE, "{url}: {talk}");
        assert!(talk.contains(part), "{url}: {talk}");
    }
}

#[tokio::test]
async fn who_answers_in_the_place_of_an_edge_is_named() {
    let gateway = Gateway::start(Store::Sqlite, 1).await;
    std::fs::write(gateway.folder().join("bearer"), "a.b.c").unwrap();
    let control = format!("http://{}", gateway.control_address());
    let call = ["call", "dev", "now", "--bearer-file", "bearer"];
    for (head, part) in [
        (
            "308 Moved\r\nlocation: https://mcp.example/servers/dev/mcp",
            "redirects to https://mcp.example (HTTP 308)",
        ),
        ("301 Moved\r\nlocation: https://mcp.example/servers/dev/mcp", "--edge https://mcp.example`"),
        ("502 Bad", "HTTP 502 from what is before the edges at "),
        ("503 No", "and not from an edge; check that edges are running"),
        ("504 Late", "HTTP 504 from what is before the edges at "),
        ("429 Many", "and not from an edge; try again later"),
        (
            "401 Who\r\nwww-authenticate: Basic realm=\"sso\"",
            "HTTP 401 (Basic realm=\"sso\") from what is before the edges at ",
        ),
    ] {
        let answer = format!("HTTP/1.1 {head}\r\ncontent-length: 0\r\n\r\n");
        let balancer = Fake::scripted("[]", move |_| Some(vec![write(&answer)])).await;
        let edge = balancer.url().replace("/mcp", "");
        let (code, talk) = with(&gateway, &control, &edge, &[], &call).await;
        assert_eq!(code, UNAVAILABLE, "{head}: {talk}");
        assert!(talk.contains(part) && talk.contains(&edge) && talk.lines().count() == 1, "{head}: {talk}");
    }
}

#[tokio::test]
async fn a_proxy_that_fails_is_named() {
    let gateway = Gateway::start(Store::Sqlite, 1).await;
    std::fs::write(gateway.folder().join("bearer"), "a.b.c").unwrap();
    let refusal = "HTTP/1.1 502 Bad\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
    let proxy = Fake::scripted("[]", move |_| Some(vec![write(refusal), Step::Close])).await;
    let address = proxy.url().replace("/mcp", "");
    let with_password = address.replace("http://", "http://user:s3cret@");
    for (variable, edge, part) in [
        ("HTTPS_PROXY", "https://edge.example:4444", "is unreachable through "),
        ("HTTP_PROXY", "http://edge.example:4444", "HTTP 502 from "),
    ] {
        gateway.ctl(&format!("config set-context far --edge {edge}")).await;
        let line = ["--context", "far", "call", "dev", "now", "--bearer-file", "bearer"];
        let environment = [(variable, with_password.clone()), ("NO_PROXY", String::new())];
        let output = gateway.try_ctl_in(&line, &environment).await;
        let talk = String::from_utf8_lossy(&output.stderr).trim_end().to_owned();
        assert_eq!(output.status.code(), Some(UNAVAILABLE), "{talk}");
        assert!(talk.contains(part) && talk.contains(&format!("the proxy {address} ({variable})")), "{talk}");
        assert!(talk.contains(edge) && !talk.contains("s3cret"), "{talk}");
    }
}

#[tokio::test]
async fn what_was_meant_is_named() {
    let gateway = Gateway::start(Store::Sqlite, 1).await;
    gateway.ctl("create upstream time --url http://127.0.0.1:1/mcp --no-wait").await;
    let file = "kind: Upstream\nname: up\nhttp: {url: 'http://127.0.0.1:1/mcp'}\n";
    std::fs::write(gateway.folder().join("up.yaml"), file).unwrap();
    for (line, code, part) in [
        ("get upstream tme", 3, "upstreams/tme does not exist; did you mean time?"),
        ("describe upstream tiem", 3, "did you mean time?"),
        ("delete upstream times", 3, "did you mean time?"),
        ("get tools tme", 3, "upstreams/tme does not exist; did you mean time?"),
        (
            "get upstream zoo",
            3,
            "upstreams/zoo does not exist; run `mcpctl get upstreams` to list what exists",
        ),
        ("get upstrems", 2, "upstreams"),
        ("get upstreams --context tset", 3, "did you mean test?"),
        ("config use-context tset", 3, "did you mean test?"),
        ("config set-context test", 2, "nothing to set in context test"),
        ("config set-context test --ca-file mcpctl.yaml", 2, "contains no certificate"),
        (
            "config set-context x --edge http://h/servers/o/mcp",
            2,
            "that is the URL of a server; give that of the gateway, http://h\n",
        ),
        ("config set-context x --control http://h?a=1", 2, "leave out what follows ? or #"),
        ("config set-context x --edge http://h/#a", 2, "leave out what follows ? or #"),
        ("config set-context x --admin-token-file nope", 2, "cannot read nope: "),
        (
            "config set-context x\n --edge http://h",
            2,
            "a name is not empty, has no blanks or control characters",
        ),
        ("config use-context test -o json", 2, "config use-context has no output formats; leave -o out"),
        ("usage --server nope", 3, "servers/nope does not exist"),
        ("usage --token nope", 3, "tokens/nope does not exist"),
        ("expose --register Bad -- true", 2, "an id has lowercase letters, digits and hyphens"),
        ("export edges", 2, "invalid value 'edges'"),
        ("apply -f up.yaml --set a\tb", 2, "must have no blanks and no control characters"),
        ("get upstreams --timeout soon", 2, "error: --timeout: \"soon\" is not a duration; "),
        ("create upstream x -- npx y", 2, "mcpctl expose --register x -- npx y"),
    ] {
        let output = gateway.try_ctl(&line.split(' ').collect::<Vec<_>>()).await;
        let talk = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{line}: {talk}");
        assert!(talk.contains(part), "{line}: {talk}");
    }
    assert_eq!(gateway.ctl("get tools time -o name").await, "", "an upstream without tools is no error");

    let secret = gateway.try_ctl(&["config", "set-context", "x", "--edge", "http://me:s3cret@h"]).await;
    let said = (told(&secret).1, secret.status.code());
    let why = "the URL has a user name or a password, which is not used; give the admin token by --admin-token-file";
    assert_eq!(said, (format!("error: --edge: {why}\n"), Some(2)));

    // What exists is printed, and what does not is said.
    let (printed, said, code) =
        told(&gateway.try_ctl(&["get", "upstreams", "nope", "time", "zoo", "-o", "name"]).await);
    assert_eq!((printed.as_str(), code), ("upstreams/time\n", 3));
    let missing = |name: &str| {
        format!("error: upstreams/{name} does not exist; run `mcpctl get upstreams` to list what exists\n")
    };
    assert_eq!(said, missing("nope") + &missing("zoo"));
}

#[tokio::test]
async fn contexts_without_a_current_one_are_listed() {
    let gateway = Gateway::start(Store::Sqlite, 0).await;
    let file = gateway.folder().join("two.yaml");
    std::fs::write(&file, "contexts: {b: {control: 'http://b'}, dv: {control: 'http://dv'}}\n").unwrap();
    let file = file.display().to_string();
    for (line, text, code) in [
        (
            ["get", "upstreams"],
            format!("no context of {file} is the current one; run `mcpctl config use-context NAME` (b, dv)"),
            2,
        ),
        (
            ["config", "current-context"],
            "no current context is set; run `mcpctl config use-context NAME` to set one (b, dv)".to_owned(),
            3,
        ),
    ] {
        let output = gateway.try_ctl_in(&line, &[("MCPCTL_CONFIG", file.clone())]).await;
        assert_eq!(told(&output), (String::new(), format!("error: {text}\n"), code));
    }
    let late = gateway.try_ctl_in(&["get", "upstreams"], &[("TRUNKLINE_TIMEOUT", "soon".to_owned())]).await;
    let (_, said, code) = told(&late);
    assert!(
        said.starts_with("error: TRUNKLINE_TIMEOUT: \"soon\" is not a duration; ") && code == 2,
        "{said}"
    );
}
