//! The README as a test: real servers are registered, bundled, and called by real clients with a scoped token,
//! on both databases, through one edge and through three.

use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::clients::{self, Call, Order, Outcome, Refusal, Report, Sdk};
use crate::support::folder::Folder;
use crate::support::gateway::{Gateway, Store};
use crate::support::process::{Process, descendants, is_running};
use crate::support::upstreams::Upstreams;
use crate::support::wire::Client;
use crate::support::{PATIENCE, about_a_second, assert_in_time, binary, eventually, free_port, tool};

/// What the token may call, in the order of the list.
const ALLOWED: [&str; 4] =
    ["everything_echo", "everything_get-sum", "git_git_status", "time_get_current_time"];

#[tokio::test(flavor = "multi_thread")]
async fn sqlite_and_one_edge() {
    journey(Store::Sqlite, 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sqlite_and_three_edges() {
    journey(Store::Sqlite, 3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_and_one_edge() {
    journey(Store::Postgres, 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_and_three_edges() {
    journey(Store::Postgres, 3).await;
}

async fn journey(store: Store, edges: usize) {
    let gateway = Gateway::start(store, edges).await;
    let upstreams = Upstreams::start(gateway.folder()).await;
    let bearer = set_up(&gateway, &upstreams).await;

    // Each client talks to another edge where there are several.
    for (index, sdk) in Sdk::ALL.into_iter().enumerate() {
        let report = clients::run(sdk, &order(&gateway, index % edges, &bearer, &upstreams)).await;
        judge(sdk, &report);
    }
    let said = gateway.ctl("call dev time_get_current_time timezone=UTC").await;
    assert!(said.contains("\"timezone\""), "{said}");

    edit_and_revoke(&gateway, &bearer).await;
}

/// As the README does it, by `mcpctl` alone. Returns the bearer.
async fn set_up(gateway: &Gateway, upstreams: &Upstreams) -> String {
    for (name, url) in &upstreams.urls {
        gateway.ctl(&format!("create upstream {name} --url {url}")).await;
        gateway.admin.imported(name).await;
    }
    gateway.ctl("create server dev --tool time/* --tool git/* --tool everything/*").await;
    let mut create = vec!["create", "token", "laptop", "--server", "dev"];
    ALLOWED.iter().for_each(|tool| create.extend(["--tool", tool]));
    create.extend(["-o", "json", "--timeout", "60s"]);
    let token: Value = serde_json::from_str(&gateway.ctl_args(&create).await).unwrap();
    let bearer = token["bearer"].as_str().unwrap().to_owned();
    // The command has waited for every edge: nobody else does.
    open_everywhere(gateway, &bearer).await;
    bearer
}

fn order(gateway: &Gateway, edge: usize, bearer: &str, upstreams: &Upstreams) -> Order {
    let call = |name: &str, arguments| Call { name: name.to_owned(), arguments };
    let path = upstreams.repository.display().to_string();
    Order {
        url: gateway.url(edge, "dev"),
        bearer: bearer.to_owned(),
        mode: "auto",
        calls: vec![
            call("time_get_current_time", json!({"timezone": "UTC"})),
            call("git_git_status", json!({"repo_path": path})),
            call("everything_echo", json!({"message": "grüße 😀"})),
            call("everything_get-sum", json!({"a": 2, "b": 3})),
            // It exists, and the token lacks it; it does not exist at all.
            call("git_git_log", json!({"repo_path": path})),
            call("git_no_such", json!({"repo_path": path})),
        ],
    }
}

fn judge(sdk: Sdk, report: &Report) {
    let mut tools = report.tools.clone();
    tools.sort();
    assert_eq!(tools, ALLOWED, "{sdk:?}");
    let [time, git, echo, sum, forbidden, absent] = &report.calls[..] else { panic!("{sdk:?}: {report:?}") };
    let good = |outcome: &Outcome, part: &str| {
        let fine = outcome.error.is_none() && !outcome.is_error && outcome.text.contains(part);
        assert!(fine, "{sdk:?} ({}): {outcome:?} lacks {part}", report.protocol);
    };
    good(time, "\"timezone\"");
    good(git, "On branch main");
    good(echo, "Echo: grüße 😀");
    good(sum, "5");
    let refusal = |outcome: &Outcome, name: &str| {
        let Some(Refusal { code: -32602, message }) = &outcome.error else { panic!("{sdk:?}: {outcome:?}") };
        message.replace(name, "…")
    };
    // What is not allowed looks exactly like what does not exist.
    assert_eq!(refusal(forbidden, "git_git_log"), refusal(absent, "git_no_such"), "{sdk:?}");
}

/// An edit and a revocation act on every edge within a second, with the bearer that is out there. Each is timed
/// several times.
async fn edit_and_revoke(gateway: &Gateway, bearer: &str) {
    let mut sessions = open_everywhere(gateway, bearer).await;
    let mut edits = Vec::new();
    for tools in [&ALLOWED[..1], &ALLOWED[..2], &ALLOWED[..1]] {
        let shows = async |session: &Client| {
            let mut listed = session.tools().await?;
            listed.sort();
            if listed == tools { Ok(()) } else { Err(format!("{listed:?}")) }
        };
        let edit = gateway.admin.edit_token("laptop", "dev", tools);
        let edit = async { edit.await.unwrap() };
        edits.push(timed(gateway, &sessions, edit, shows).await);
    }
    assert_in_time("an edit", &edits);
    for session in &sessions {
        let answer = session.call("everything_get-sum", r#"{"a":2,"b":3}"#).await.unwrap();
        assert_eq!(answer.code(), -32602, "{answer:?}");
    }

    let mut revocations = Vec::new();
    for name in ["laptop", "tablet", "phone"] {
        if name != "laptop" {
            let bearer = gateway.admin.create_token(name, "dev", &["*"]).await;
            gateway.admin.settled().await;
            sessions = open_everywhere(gateway, &bearer).await;
        }
        let refused = async |session: &Client| {
            let answer = session.call("everything_echo", r#"{"message":"hi"}"#).await?;
            if answer.status == 401 { Ok(()) } else { Err(format!("{answer:?}")) }
        };
        revocations.push(timed(gateway, &sessions, gateway.admin.revoke_token(name), refused).await);
    }
    assert_in_time("a revocation", &revocations);
}

async fn open_everywhere(gateway: &Gateway, bearer: &str) -> Vec<Client> {
    let mut sessions = Vec::new();
    for edge in 0..gateway.edge_count() {
        sessions.push(Client::open(&gateway.url(edge, "dev"), bearer).await.unwrap());
    }
    sessions
}

/// How long it takes from a change until `holds` on every edge, and how long that may take.
async fn timed(
    gateway: &Gateway,
    sessions: &[Client],
    change: impl Future<Output = ()>,
    holds: impl AsyncFn(&Client) -> Result<(), String>,
) -> (Duration, Duration) {
    let may_take = about_a_second(async || {
        gateway.admin.edges().await.unwrap();
        for session in sessions {
            session.tools().await.unwrap();
        }
    });
    let may_take = may_take.await;
    let start = Instant::now();
    change.await;
    for session in sessions {
        eventually("a change is in force", PATIENCE, || holds(session)).await;
    }
    (start.elapsed(), may_take)
}

/// The quick start for whoever automates over gRPC, by reflection alone.
#[tokio::test(flavor = "multi_thread")]
async fn quick_start_over_reflection() {
    let gateway = Gateway::start(Store::Sqlite, 1).await;
    let upstreams = Upstreams::start(gateway.folder()).await;
    let urls: serde_json::Map<_, _> =
        upstreams.urls.iter().map(|(name, url)| ((*name).to_owned(), json!(url))).collect();
    let order = json!({
        "target": gateway.control_address(), "admin_token": gateway.admin_token(), "upstreams": urls,
        "tools": ["time/*", "everything/echo"],
    });
    let said = clients::script_output("quickstart.py", &[&order.to_string()]).await;
    let report: Value = serde_json::from_str(&said).unwrap();
    let services: Vec<&str> = report["services"].as_array().unwrap().iter().flat_map(Value::as_str).collect();
    for service in [
        "grpc.health.v1.Health",
        "trunkline.registry.v1.UpstreamService",
        "trunkline.registry.v1.ServerService",
        "trunkline.identity.v1.TokenService",
        "trunkline.discovery.v1.FleetService",
        "trunkline.admin.v1.BulkService",
    ] {
        assert!(services.contains(&service), "{service} is not reflected: {services:?}");
    }
    assert_eq!(report["health"], "SERVING");
    let client = Client::open(&gateway.url(0, "dev"), report["bearer"].as_str().unwrap()).await.unwrap();
    let mut tools = client.tools().await.unwrap();
    tools.sort();
    assert_eq!(tools, ["everything_echo", "time_convert_time", "time_get_current_time"]);
    let answer = client.call("everything_echo", r#"{"message":"hi"}"#).await.unwrap();
    assert_eq!(answer.json()["result"]["content"][0]["text"], "Echo: hi");
}

/// `mcpctl dev` is a whole gateway, and what it keeps outlives it.
#[tokio::test(flavor = "multi_thread")]
async fn one_command_starts_it_all() {
    let folder = Folder::new();
    let upstreams = Upstreams::start(folder.path()).await;
    let data = folder.path().join("data");
    let (edge, control) = (free_port(), free_port());
    let mut dev = start_dev(folder.path(), edge, control).await;
    let try_ctl = async |line: &str| {
        let mut command = tokio::process::Command::new(binary("mcpctl"));
        command
            .args(line.split_whitespace())
            .env("MCPCTL_CONFIG", data.join("mcpctl.yaml"))
            .kill_on_drop(true);
        let output = tokio::time::timeout(PATIENCE, command.output()).await.unwrap().unwrap();
        if output.status.success() {
            Ok(String::from_utf8(output.stdout).unwrap())
        } else {
            Err(format!("mcpctl {line}: {}\n{}", output.status, String::from_utf8_lossy(&output.stderr)))
        }
    };
    let ctl = async |line: &str| try_ctl(line).await.unwrap();
    let egress = "  egress         public addresses, loopback   (where upstreams may be; --egress-allow)\n";
    eventually("it says where upstreams may be", PATIENCE, || async {
        let told = dev.output();
        if told.contains(egress) { Ok(()) } else { Err(told) }
    })
    .await;
    let refused = try_ctl("create upstream secret --url http://10.1.2.3/mcp").await.unwrap_err();
    assert!(
        refused.contains(
            "error: --url cannot be connected to: 10.1.2.3 is a private address, which the egress rule"
        ),
        "{refused}"
    );
    // The edge takes a moment to learn of what was created, and to come back.
    let call = async || {
        let call = || try_ctl("call dev time_get_current_time timezone=UTC");
        eventually("the tool is called", PATIENCE, call).await
    };
    let url = &upstreams.urls.iter().find(|(name, _)| *name == "time").unwrap().1;
    ctl(&format!("create upstream time --url {url}")).await;
    // It waits for the first import, but not for as long as one may take on a machine this busy.
    eventually("the upstream is imported", PATIENCE, || async {
        let shown = ctl("get upstream time -o json").await;
        let upstream: Value = serde_json::from_str(&shown).unwrap();
        if upstream["status"]["refreshTime"].is_string() { Ok(()) } else { Err(shown) }
    })
    .await;
    ctl("create server dev --tool time/*").await;
    ctl("create token laptop --server dev --tool *").await;
    let said = call().await;
    assert!(said.contains("\"timezone\""), "{said}");

    let status = dev.terminate(Duration::from_secs(30));
    assert!(status.success(), "mcpctl dev ended with {status}: {}", dev.output());
    let _again = start_dev(folder.path(), edge, control).await;
    let said = call().await;
    assert!(said.contains("\"timezone\""), "{said}");
}

/// Starts it, and waits until its context file is there and both its published are open.
async fn start_dev(folder: &std::path::Path, edge: u16, control: u16) -> Process {
    let data = folder.join("data");
    let mut command = Command::new(binary("mcpctl"));
    command.arg("dev").arg("--data-dir").arg(&data);
    for (option, port) in
        [("--edge-listen", edge), ("--control-listen", control), ("--ops-listen", free_port())]
    {
        command.args([option, &format!("127.0.0.1:{port}")]);
    }
    let mut process = Process::start("dev", command, folder);
    eventually("mcpctl dev is ready", PATIENCE, || {
        process.assert_alive();
        let file = data.join("mcpctl.yaml");
        async move {
            for port in [edge, control] {
                let connect = tokio::net::TcpStream::connect(("127.0.0.1", port));
                connect.await.map_err(|e| format!("{port}: {e}"))?;
            }
            if file.exists() { Ok(()) } else { Err("no context file".to_owned()) }
        }
    })
    .await;
    process
}

/// What `mcpctl expose` runs ends with it, even when it gets no chance to say goodbye.
#[tokio::test(flavor = "multi_thread")]
async fn an_exposed_server_is_never_an_orphan() {
    let folder = Folder::new();
    let address = format!("127.0.0.1:{}", free_port());
    let mut command = Command::new(binary("mcpctl"));
    command.args(["expose", "--listen", &address, "--"]).arg(tool("python/bin/mcp-server-time"));
    let mut expose = Process::start("expose", command, folder.path());
    let client = eventually("the server is exposed", PATIENCE, || {
        expose.assert_alive();
        let url = format!("http://{address}/mcp");
        async move { Client::open(&url, "none").await }
    })
    .await;
    assert_eq!(client.tools().await.unwrap(), ["get_current_time", "convert_time"]);
    let children = descendants(expose.pid());
    assert!(!children.is_empty(), "it runs nothing");
    expose.kill();
    eventually("what it ran has ended", PATIENCE, || async {
        let left: Vec<_> = children.iter().filter(|pid| is_running(**pid)).collect();
        if left.is_empty() { Ok(()) } else { Err(format!("still running: {left:?}")) }
    })
    .await;
}
