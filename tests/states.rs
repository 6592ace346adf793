//! States that are true: one vocabulary in tables, documents and filters, and within seconds what has become of an upstream.

use std::collections::BTreeMap;
use std::process::Command;

use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, BufReader};

use crate::support::fake::{Fake, Step};
use crate::support::gateway::{Gateway, Store};
use crate::support::process::Process;
use crate::support::{PATIENCE, binary, eventually, free_port, tool};

/// A tool as everybody lists it, and one that clients would reject.
const TOOLS: &str = r#"[{"name":"good","inputSchema":{"type":"object"}},{"name":"odd","inputSchema":"{}"}]"#;

/// The states in a table of `mcpctl get`, by name.
async fn states(gateway: &Gateway, kind: &str) -> BTreeMap<String, String> {
    let table = gateway.ctl(&format!("get {kind}")).await;
    let mut lines = table.lines();
    let titles: Vec<_> = lines.next().unwrap_or_default().split_whitespace().take(2).collect();
    assert_eq!(titles, ["NAME", "STATE"], "{table}");
    let row = |line: &str| {
        let mut cells = line.split_whitespace().map(str::to_owned);
        (cells.next().unwrap(), cells.next().unwrap())
    };
    lines.map(row).collect()
}

/// Pairs, as `states` has them.
fn expected(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(name, state)| ((*name).to_owned(), (*state).to_owned())).collect()
}

async fn document(gateway: &Gateway, kind: &str, name: &str) -> Value {
    serde_json::from_str(&gateway.ctl(&format!("get {kind} {name} -o json")).await).unwrap()
}

/// The names that a filter lets through.
async fn filtered(gateway: &Gateway, kind: &str, filter: &str) -> Vec<String> {
    let listed = gateway.ctl_args(&["get", kind, "--filter", filter, "-o", "name"]).await;
    listed.lines().map(str::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_tells_its_state_on_sqlite() {
    every_kind_tells_its_state(Store::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_tells_its_state_on_postgres() {
    every_kind_tells_its_state(Store::Postgres).await;
}

async fn every_kind_tells_its_state(store: Store) {
    let mut gateway = Gateway::start(store, 1).await;
    let upstream = Fake::start(TOOLS, |_, _| vec![Step::Close]).await;
    for id in ["up", "off"] {
        gateway.admin.create_upstream(id, &upstream.url()).await;
    }
    gateway.ctl("create upstream down --url http://127.0.0.1:1/mcp").await;
    gateway.ctl("create server whole --tool up/good").await;
    gateway.ctl("create server part --tool up/good --tool off/*").await;
    gateway.ctl("create server none").await;
    gateway.ctl("create server hidden --tool up/good").await;
    gateway.ctl("create server gone --tool up/good").await;
    for (token, server) in [("good", "whole"), ("lost", "gone"), ("ended", "whole"), ("over", "whole")] {
        gateway.admin.create_token(token, server, &["*"]).await;
    }
    gateway.ctl("update upstream off --disabled=true").await;
    gateway.ctl("update server hidden --disabled=true").await;
    gateway.ctl("revoke token ended").await;
    over(&gateway).await;
    gateway.ctl_args(&["delete", "server", "gone", "--force", "--yes"]).await;

    let upstreams = [("down", "unreachable"), ("off", "disabled"), ("up", "ready")];
    assert_eq!(states(&gateway, "upstreams").await, expected(&upstreams));
    let tools =
        [("off/good", "disabled"), ("off/odd", "disabled"), ("up/good", "ready"), ("up/odd", "withheld")];
    assert_eq!(states(&gateway, "tools").await, expected(&tools));
    let servers = [("hidden", "disabled"), ("none", "empty"), ("part", "degraded"), ("whole", "ready")];
    assert_eq!(states(&gateway, "servers").await, expected(&servers));
    let tokens = [("ended", "revoked"), ("good", "valid"), ("lost", "unusable"), ("over", "expired")];
    assert_eq!(states(&gateway, "tokens").await, expected(&tokens));
    assert_eq!(states(&gateway, "edges").await, expected(&[("e0", "connected")]));
    let join_tokens = states(&gateway, "join-tokens").await;
    assert!(join_tokens.values().all(|state| state == "valid"), "{join_tokens:?}");

    the_reasons_are_told(&gateway).await;
    filters_see_what_is_shown(&gateway).await;
    what_is_computed_is_no_change(&gateway).await;
    gateway.kill_edge(0);
    eventually("the edge is disconnected", PATIENCE, || async {
        let found = states(&gateway, "edges").await;
        if found == expected(&[("e0", "disconnected")]) { Ok(()) } else { Err(format!("{found:?}")) }
    })
    .await;
}

/// Makes `tokens/over` one whose time is over.
async fn over(gateway: &Gateway) {
    let file = gateway.folder().join("over.json");
    let token = json!({ "kind": "Token", "name": "over", "expireTime": "2020-01-01T00:00:00Z",
        "scope": { "servers": ["servers/whole"], "tools": ["*"] } });
    std::fs::write(&file, token.to_string()).unwrap();
    gateway.ctl("apply -f over.json").await;
}

async fn the_reasons_are_told(gateway: &Gateway) {
    let reason = async |kind: &str, name: &str| {
        let document = document(gateway, kind, name).await;
        let of = if document["status"].is_object() { &document["status"] } else { &document };
        of["reason"].as_str().unwrap_or_default().to_owned()
    };
    assert_eq!(reason("upstream", "off").await, "it was disabled");
    assert_eq!(reason("tool", "off/good").await, "upstreams/off is disabled");
    assert!(reason("tool", "up/odd").await.starts_with("inputSchema "));
    assert_eq!(reason("server", "part").await, "upstreams/off is disabled");
    assert_eq!(reason("server", "none").await, "it has no members");
    assert_eq!(reason("token", "lost").await, "servers/gone does not exist");
    assert_eq!(reason("server", "whole").await, "");
}

async fn filters_see_what_is_shown(gateway: &Gateway) {
    for (kind, filter, names) in [
        ("upstreams", "status.state = DISABLED", vec!["upstreams/off"]),
        ("upstreams", r#"status.state = "UPSTREAM_STATE_READY""#, vec!["upstreams/up"]),
        ("servers", "status.state = EMPTY", vec!["servers/none"]),
        ("tools", "state = WITHHELD", vec!["upstreams/up/tools/odd"]),
        ("tokens", "state != VALID AND state != REVOKED", vec!["tokens/lost", "tokens/over"]),
    ] {
        assert_eq!(filtered(gateway, kind, filter).await, names, "{kind} {filter}");
    }
}

/// States change with the time and with other resources, and are no part of what people wrote.
async fn what_is_computed_is_no_change(gateway: &Gateway) {
    for kind in ["upstreams", "servers", "tokens"] {
        let documents = gateway.ctl(&format!("get {kind} -o yaml")).await;
        std::fs::write(gateway.folder().join("same.yaml"), documents).unwrap();
        let applied = gateway.ctl("apply -f same.yaml").await;
        assert!(applied.lines().all(|line| line.contains("unchanged")), "{applied}");
    }
}

/// `mcpctl expose` of a server that announces nothing, registered as `time`.
fn expose(gateway: &Gateway, listen: &str) -> Process {
    let mut command = Command::new(binary("mcpctl"));
    command.args(["expose", "--register", "time", "--listen", listen, "--"]);
    command.arg(tool("python/bin/mcp-server-time")).args(["--local-timezone", "UTC"]);
    command.env("MCPCTL_CONFIG", gateway.folder().join("mcpctl.yaml")).env("NO_COLOR", "1");
    Process::start("expose", command, gateway.folder())
}

/// Waits until the upstream has this state. Its refresh interval is 5 minutes, and so longer than anybody waits here.
async fn becomes(gateway: &Gateway, state: &str) -> Value {
    eventually(state, PATIENCE, || async move {
        let found = gateway.try_ctl(&["get", "upstream", "time", "-o", "json"]).await;
        let document: Value = serde_json::from_slice(&found.stdout).unwrap_or_default();
        if document["status"]["state"] == state { Ok(document) } else { Err(document.to_string()) }
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_exposed_is_ready_while_it_runs_and_no_longer_on_sqlite() {
    what_is_exposed_is_ready_while_it_runs_and_no_longer(Store::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_exposed_is_ready_while_it_runs_and_no_longer_on_postgres() {
    what_is_exposed_is_ready_while_it_runs_and_no_longer(Store::Postgres).await;
}

async fn what_is_exposed_is_ready_while_it_runs_and_no_longer(store: Store) {
    let gateway = Gateway::start(store, 0).await;
    let listen = format!("127.0.0.1:{}", free_port());
    let mut exposed = expose(&gateway, &listen);
    becomes(&gateway, "ready").await;
    gateway.ctl("create server dev --tool time/*").await;

    // It says goodbye.
    assert!(exposed.terminate(PATIENCE).success());
    let gone = becomes(&gateway, "unreachable").await;
    assert!(gone["meta"]["annotations"]["trunkline.dev/exposed"].is_string(), "{gone}");
    eventually("its servers say so", PATIENCE, || async {
        let server = document(&gateway, "server", "dev").await;
        let (state, reason) = (&server["status"]["state"], &server["status"]["reason"]);
        let told = (state == "degraded", reason == "upstreams/time is unreachable");
        if told == (true, true) { Ok(()) } else { Err(server.to_string()) }
    })
    .await;

    // It gets no chance to, on the same address as before.
    let mut exposed = expose(&gateway, &listen);
    becomes(&gateway, "ready").await;
    exposed.kill();
    let gone = becomes(&gateway, "unreachable").await;
    let events = gone["status"]["events"].as_array().unwrap();
    let states: Vec<_> = events.iter().map(|event| event["state"].as_str().unwrap()).collect();
    let (ready, away) = ("ready", "unreachable");
    let ends = states.windows(2).filter(|pair| pair[0] == ready && pair[1] == away).count();
    assert!(ends >= 2, "{states:?}");
    assert!(events.iter().all(|event| event["count"].as_i64() >= Some(1)), "{events:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_prints_what_can_be_seen_to_change() {
    let gateway = Gateway::start(Store::Sqlite, 0).await;
    gateway.ctl("create upstream time --url http://127.0.0.1:1/mcp").await;
    let mut watch = gateway.spawn_ctl(&["get", "upstreams", "-w", "--no-headers"]);
    let mut lines = BufReader::new(watch.stdout.take().unwrap()).lines();
    let mut next = async || {
        let line = tokio::time::timeout(PATIENCE, lines.next_line()).await.unwrap();
        line.unwrap().unwrap().split_whitespace().take(2).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(next().await, "time unreachable");
    let retries = async || {
        let events = document(&gateway, "upstream", "time").await["status"]["events"].clone();
        events.as_array().unwrap().last().unwrap()["count"].as_i64().unwrap()
    };
    for id in ["a", "b", "c"] {
        let before = retries().await;
        gateway.try_ctl(&["refresh", "upstream", "time"]).await;
        assert!(retries().await > before);
        // Between the retries it looks, as it shows; and of the retries it says nothing.
        gateway.ctl(&format!("create upstream {id} --url http://127.0.0.1:1/mcp --disabled")).await;
        assert_eq!(next().await, format!("{id} disabled"));
    }
    gateway.ctl("update upstream time --disabled").await;
    assert_eq!(next().await, "time disabled");
    let said = gateway.try_ctl(&["lint"]).await;
    assert_eq!(
        (String::from_utf8_lossy(&said.stdout).as_ref(), said.status.code()),
        ("0 upstreams, nothing to mend; 4 disabled\n", Some(0))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_points_here_already_is_looked_after_as_well_on_sqlite() {
    what_points_here_already_is_looked_after_as_well(Store::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_points_here_already_is_looked_after_as_well_on_postgres() {
    what_points_here_already_is_looked_after_as_well(Store::Postgres).await;
}

async fn what_points_here_already_is_looked_after_as_well(store: Store) {
    let gateway = Gateway::start(store, 0).await;
    let listen = format!("127.0.0.1:{}", free_port());
    let url = format!("http://{listen}/mcp");
    gateway.ctl(&format!("create upstream time --url {url} --no-wait")).await;
    let mut exposed = expose(&gateway, &listen);
    let ready = becomes(&gateway, "ready").await;
    assert_eq!(ready["http"]["url"], url);
    eventually("it is annotated", PATIENCE, || async {
        let upstream = document(&gateway, "upstream", "time").await;
        let is_annotated = upstream["meta"]["annotations"]["trunkline.dev/exposed"].is_string();
        if is_annotated { Ok(()) } else { Err(upstream.to_string()) }
    })
    .await;
    exposed.kill();
    becomes(&gateway, "unreachable").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_runs_is_told_on_sqlite() {
    what_runs_is_told(Store::Sqlite, "DATABASE_KIND_SQLITE").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_runs_is_told_on_postgres() {
    what_runs_is_told(Store::Postgres, "DATABASE_KIND_POSTGRESQL").await;
}

async fn what_runs_is_told(store: Store, database: &str) {
    let gateway = Gateway::start(store, 0).await;
    let url = format!("http://{}/trunkline.admin.v1.SystemService/GetSystem", gateway.control_address());
    let call = reqwest::Client::new().post(&url).json(&json!({}));
    let refused = call.try_clone().unwrap().send().await.unwrap();
    assert_eq!(refused.status(), 401);
    let answer: Value = call.bearer_auth(gateway.admin_token()).send().await.unwrap().json().await.unwrap();
    let system = &answer["system"];
    assert_eq!(
        (&system["version"], &system["databaseKind"]),
        (&json!(env!("CARGO_PKG_VERSION")), &json!(database))
    );
    for member in ["time", "startTime", "replica", "schemaVersion"] {
        assert!(system[member].is_string(), "{member}: {system}");
    }
    assert!(system["startTime"].as_str() <= system["time"].as_str(), "{system}");
}

/// Calls an rpc over JSON. It must be refused; returns the code and the sentence.
async fn refused(gateway: &Gateway, rpc: &str, request: Value) -> (String, String) {
    let url = format!("http://{}/trunkline.{rpc}", gateway.control_address());
    let call = reqwest::Client::new().post(&url).bearer_auth(gateway.admin_token()).json(&request);
    let answer: Value = call.send().await.unwrap().json().await.unwrap();
    let text = |member: &str| answer[member].as_str().unwrap_or_default().to_owned();
    (text("code"), text("message"))
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_say_what_may_be_written_on_sqlite() {
    errors_say_what_may_be_written(Store::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_say_what_may_be_written_on_postgres() {
    errors_say_what_may_be_written(Store::Postgres).await;
}

async fn errors_say_what_may_be_written(store: Store) {
    let gateway = Gateway::start(store, 0).await;
    let upstream = json!({ "http": { "url": "http://127.0.0.1:1/mcp" }, "disabled": true });
    std::fs::write(
        gateway.folder().join("time.json"),
        json!({ "kind": "Upstream", "name": "time", "http": upstream["http"], "disabled": true }).to_string(),
    )
    .unwrap();
    gateway.ctl("apply -f time.json").await;
    gateway.ctl("create server dev --tool time/*").await;
    let members = |text: &str| json!({ "serverId": "new", "server": { "tools": [{ "match": text }] } });
    let stale = json!({ "name": "servers/dev", "title": "t", "meta": { "etag": "0" } });
    for (rpc, request, code, sentence) in [
        (
            "registry.v1.UpstreamService/CreateUpstream",
            json!({ "upstreamId": "TIME", "upstream": upstream }),
            "INVALID_ARGUMENT",
            "upstream_id `TIME` cannot be an id: an id has lower-case letters, digits and `-`, begins with a letter, \
             ends with a letter or a digit, and has at most 63 characters; did you mean `time`?",
        ),
        (
            "registry.v1.ServerService/CreateServer",
            members("tme/*"),
            "FAILED_PRECONDITION",
            "server.tools[0].match of servers/new refers to upstreams/tme, which does not exist; did you mean upstreams/time?",
        ),
        (
            "registry.v1.ServerService/CreateServer",
            members("github/*"),
            "FAILED_PRECONDITION",
            "server.tools[0].match of servers/new refers to upstreams/github, which does not exist; create it first",
        ),
        (
            "identity.v1.TokenService/CreateToken",
            json!({ "tokenId": "t", "token": { "scope": { "servers": ["dev"] } } }),
            "INVALID_ARGUMENT",
            "token.scope.servers[0] must be `*` or the name of a server: `dev` is not of the form `servers/{server}`; \
             did you mean `servers/dev`?",
        ),
        (
            "registry.v1.UpstreamService/DeleteUpstream",
            json!({ "name": "upstreams/time" }),
            "FAILED_PRECONDITION",
            "upstreams/time is used by servers/dev; set `force` to delete it anyway",
        ),
        (
            "registry.v1.ServerService/UpdateServer",
            json!({ "server": stale }),
            "ABORTED",
            "servers/dev has changed since its etag was read; read it again and retry",
        ),
    ] {
        let expected = (code.to_owned(), sentence.to_owned());
        assert_eq!(refused(&gateway, rpc, request).await, expected, "{rpc}");
    }
}

/// Writes a certificate and its key, as PEM; `authority` makes it one of an authority.
fn write_certificate(gateway: &Gateway, name: &str, authority: bool) {
    let key = KeyPair::generate().unwrap();
    let mut parameters = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    if authority {
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    }
    let certificate = parameters.self_signed(&key).unwrap();
    let file = |end: &str| gateway.folder().join(format!("{name}.{end}"));
    std::fs::write(file("pem"), certificate.pem()).unwrap();
    std::fs::write(file("key"), key.serialize_pem()).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_cannot_be_used_is_named_at_the_start() {
    let mut gateway = Gateway::start(Store::Sqlite, 0).await;
    gateway.stop_control();
    write_certificate(&gateway, "one", false);
    write_certificate(&gateway, "two", false);
    write_certificate(&gateway, "ca", true);
    let path = |name: &str| gateway.folder().join(name).display().to_string();
    let [one, one_key, two_key, ca, ca_key, empty, absent] =
        ["one.pem", "one.key", "two.key", "ca.pem", "ca.key", "empty.pem", "absent.pem"].map(path);
    std::fs::write(&empty, "").unwrap();
    let chain = path("chain.pem");
    let both = [&ca, &one].map(|file| std::fs::read_to_string(file).unwrap());
    std::fs::write(&chain, both.concat()).unwrap();

    for (cert, key, sentence) in [
        (
            &empty,
            &one_key,
            format!("--tls-cert {empty} has no certificate, which begins with `-----BEGIN CERTIFICATE-----`"),
        ),
        (
            &one,
            &one,
            format!("--tls-key {one} has no private key, which begins with `-----BEGIN PRIVATE KEY-----`"),
        ),
        (
            &one,
            &two_key,
            format!("--tls-key {two_key} is not the key of the certificate in --tls-cert {one}"),
        ),
        (
            &chain,
            &one_key,
            format!(
                "--tls-cert {chain} does not begin with the certificate of --tls-key {one_key}; put it before those of authorities"
            ),
        ),
        (
            &absent,
            &one_key,
            format!("cannot read --tls-cert {absent}: No such file or directory (os error 2)"),
        ),
    ] {
        gateway.configure_control(&["--tls-cert", cert, "--tls-key", key], &[]);
        let said = gateway.refused_control();
        assert_eq!(said.lines().last(), Some(&*format!("trunkline-control-plane: {sentence}")), "{said}");
    }

    let mut command = Command::new(binary("trunkline-control-plane"));
    command.args(["--listen", "127.0.0.1:0", "--tls-cert", &ca, "--tls-key", &ca_key, "--data-dir"]);
    command.arg(gateway.folder().join("other"));
    let control = Process::start("other", command, gateway.folder());
    let complaint = format!(
        "the certificate in --tls-cert {ca} is that of an authority itself: clients refuse it; present one that the authority signed"
    );
    eventually("it says what clients will", PATIENCE, || async {
        let said = control.output();
        if said.contains(&complaint) && said.contains("control plane is ready") { Ok(()) } else { Err(said) }
    })
    .await;
}
