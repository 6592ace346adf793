//! A server behind a network that nobody can dial into: it dials out, and is an upstream like any other.

use std::process::Command;

use serde_json::Value;

use crate::support::gateway::{Gateway, Store};
use crate::support::line::Line;
use crate::support::process::Process;
use crate::support::wire::Client;
use crate::support::{PATIENCE, binary, eventually, root};

/// An upstream that dials in, as people write it.
const FAR: &str = "kind: Upstream\nname: upstreams/far\ntunnel: {}\n";

/// `mcpctl expose --connect`, towards the control plane at one URL and edges at others.
pub(crate) fn expose(gateway: &Gateway, control: &str, edges: &[String]) -> Process {
    expose_server(gateway, control, edges, "cli/tests/bridges/stdio_server.py")
}

fn expose_server(gateway: &Gateway, control: &str, edges: &[String], server: &str) -> Process {
    let mut command = Command::new(binary("mcpctl"));
    command.args(["expose", "--register", "far", "--connect", control]);
    // A proxy that nobody asks for what is on this machine.
    command.env("HTTP_PROXY", "http://127.0.0.1:1").env_remove("NO_PROXY");
    for edge in edges {
        command.args(["--edge", edge]);
    }
    command.args(["--", "python3"]).arg(root().join(server));
    command.env("MCPCTL_CONFIG", gateway.folder().join("mcpctl.yaml"));
    Process::start("expose", command, gateway.folder())
}

/// Waits until the upstream is in a state; what the control plane knows of it.
async fn state(gateway: &Gateway, wanted: &str) -> Value {
    let what = format!("the upstream is {wanted}");
    eventually(&what, PATIENCE, || async {
        let output = gateway.try_ctl(&["get", "upstream", "far", "-o", "json"]).await;
        let known: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        if known["status"]["state"] == wanted { Ok(known) } else { Err(known.to_string()) }
    })
    .await
}

/// A server that has the tools of the upstream, and the bearer of a token for it.
pub(crate) async fn serve(gateway: &Gateway) -> String {
    state(gateway, "ready").await;
    gateway.admin.create_server("dev", &["far/*"]).await;
    let bearer = gateway.admin.create_token("laptop", "dev", &["*"]).await;
    gateway.admin.settled().await;
    bearer
}

/// The process that answers calls, through an edge.
async fn pid(gateway: &Gateway, edge: usize, bearer: &str) -> Result<String, String> {
    let client = Client::open(&gateway.url(edge, "dev"), bearer).await?;
    let answer = client.call("pid", "{}").await?.json();
    let text = answer["result"]["content"][0]["text"].as_str();
    text.map(str::to_owned).ok_or_else(|| answer.to_string())
}

pub(crate) async fn pid_again(gateway: &Gateway, edge: usize, bearer: &str) -> String {
    eventually("calls get through", PATIENCE, || pid(gateway, edge, bearer)).await
}

async fn tunnels(gateway: &Gateway, edge: usize) -> String {
    let text = reqwest::get(gateway.metrics_url(edge)).await.unwrap().text().await.unwrap();
    let line = text.lines().find(|line| line.starts_with("trunkline_edge_tunnels ")).unwrap_or_default();
    line.to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_cannot_be_dialled_is_called_through_every_edge_and_comes_back() {
    let gateway = Gateway::start(Store::Sqlite, 3).await;
    let control = Line::to(gateway.control_address()).await;
    let (first, second) = (Line::to(gateway.edge_address(0)).await, Line::to(gateway.edge_address(1)).await);
    let mut exposed = expose(&gateway, &control.url(), &[first.url(), second.url()]);
    let bearer = serve(&gateway).await;
    let listed = gateway.ctl("get upstreams").await;
    assert!(listed.contains("far") && listed.contains("tunnel"), "{listed}");

    // The third edge has no tunnel, and reaches the others'.
    let server = pid_again(&gateway, 0, &bearer).await;
    for edge in 1..3 {
        assert_eq!(pid_again(&gateway, edge, &bearer).await, server);
    }
    eventually("both tunnels are open", PATIENCE, || async {
        let counts = [tunnels(&gateway, 0).await, tunnels(&gateway, 1).await, tunnels(&gateway, 2).await];
        let wanted = ["trunkline_edge_tunnels 2", "trunkline_edge_tunnels 2", "trunkline_edge_tunnels 0"];
        if counts == wanted { Ok(()) } else { Err(format!("{counts:?}")) }
    })
    .await;
    let client = Client::open(&gateway.url(2, "dev"), &bearer).await.unwrap();
    let counted = client
        .post(
            r#"{"jsonrpc":"2.0","id":3,"method":"tools/call","params":{"name":"count","arguments":{},"_meta":{"progressToken":"p"}}}"#,
            &[],
        )
        .await
        .unwrap();
    let told = String::from_utf8(counted.body.clone()).unwrap();
    assert_eq!(told.matches("notifications/progress").count(), 3, "{told}");
    assert_eq!(counted.json()["result"]["content"][0]["text"], "counted");

    // One edge is cut off: calls that meet it go through the other.
    first.cut().await;
    eventually("the edge sees its tunnels gone", PATIENCE, || async {
        let count = tunnels(&gateway, 0).await;
        if count.ends_with(" 0") { Ok(()) } else { Err(count) }
    })
    .await;
    assert_eq!(pid_again(&gateway, 0, &bearer).await, server);

    // The whole network is gone: callers are told so, and nothing is started anew when it is back.
    second.cut().await;
    control.cut().await;
    let known = state(&gateway, "unreachable").await;
    assert!(known["status"]["reason"].as_str().unwrap().contains("tunnel"), "{known}");
    let client = Client::open(&gateway.url(2, "dev"), &bearer).await.unwrap();
    let refused = eventually("callers are told", PATIENCE, || async {
        let answer = client.call("pid", "{}").await?.json();
        // One that took a connection which broke a moment later was told of that.
        if answer["error"]["data"]["reason"] == "upstream_unreachable" {
            Ok(answer)
        } else {
            Err(answer.to_string())
        }
    })
    .await;
    let why =
        "upstream far: cannot connect: no connection through a tunnel in time; check that a tunnel is open";
    assert_eq!(refused["error"]["message"], why);
    assert_eq!(refused["error"]["data"]["upstream"], "far");
    [&first, &second, &control].into_iter().for_each(Line::mend);
    for edge in 0..3 {
        assert_eq!(pid_again(&gateway, edge, &bearer).await, server);
    }
    state(&gateway, "ready").await;
    exposed.assert_alive();

    // Who deletes it ends its tunnels, and they are not let in again.
    gateway.ctl("delete token laptop").await;
    gateway.ctl("delete server dev").await;
    gateway.ctl("delete upstream far").await;
    for edge in 0..2 {
        eventually("the tunnels are closed", PATIENCE, || async {
            let count = tunnels(&gateway, edge).await;
            if count.ends_with(" 0") { Ok(()) } else { Err(count) }
        })
        .await;
    }
    eventually("it says why", PATIENCE, || async {
        let said = exposed.output();
        if said.contains("no upstream with this credential dials in here") { Ok(()) } else { Err(said) }
    })
    .await;
    assert!(exposed.terminate(PATIENCE).success());
}

/// The text of a call's result.
/// Who starts both at once need not start them in the right order, and loses nothing where the control plane restarts.
#[tokio::test(flavor = "multi_thread")]
async fn a_control_plane_that_is_away_is_waited_for() {
    for dials_in in [false, true] {
        let mut gateway = Gateway::start(Store::Sqlite, 1).await;
        gateway.kill_control();
        let start = |name: &str| {
            let mut command = Command::new(binary("mcpctl"));
            command.args(["expose", "--register", "far"]).args(dials_in.then_some("--connect"));
            command.args(["--", "python3"]).arg(root().join("cli/tests/bridges/stdio_server.py"));
            command.env("MCPCTL_CONFIG", gateway.folder().join("mcpctl.yaml"));
            Process::start(name, command, gateway.folder())
        };
        let mut stopped = start("stopped");
        let mut exposed = start("exposed");
        for process in [&mut stopped, &mut exposed] {
            eventually("it waits", PATIENCE, || {
                process.assert_alive();
                let said = process.output();
                let waits = said
                    .contains("[far] waiting for the control plane: the control plane at http://")
                    && said.contains("; retrying\n");
                std::future::ready(if waits { Ok(()) } else { Err(said) })
            })
            .await;
        }
        assert!(stopped.terminate(PATIENCE).success());
        gateway.start_control().await;
        state(&gateway, "ready").await;
        eventually("it is registered", PATIENCE, || {
            exposed.assert_alive();
            let said = exposed.output();
            let is_told =
                said.contains("registered as upstream far; it stays registered when this process ends");
            std::future::ready(if is_told { Ok(()) } else { Err(said) })
        })
        .await;
        // It ends where it is refused, as before.
        gateway
            .ctl(&format!("create upstream other --url http://{}/ --no-wait", gateway.edge_address(0)))
            .await;
        let output = gateway.try_ctl(&["expose", "--register", "other", "--", "python3", &server()]).await;
        let talk = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(6), "{talk}");
        assert!(talk.contains("upstreams/other exists and points to "), "{talk}");
        // And where something else answers, which no waiting mends.
        let (edge, wrong) =
            (format!("http://{}", gateway.edge_address(0)), gateway.folder().join("wrong.yaml"));
        let context = format!("{{control: {edge}, edge: {edge}}}");
        std::fs::write(&wrong, format!("currentContext: w\ncontexts: {{w: {context}}}\n")).unwrap();
        let line: Vec<_> = ["expose", "--config", "wrong.yaml", "--register", "other"]
            .into_iter()
            .chain(dials_in.then_some("--connect"))
            .collect();
        let script = server();
        let output = gateway.try_ctl(&[&line[..], &["--", "python3", &script]].concat()).await;
        let talk = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(7), "{talk}");
        let why = format!("no control plane is at {edge}: that is the port of an edge for clients");
        assert!(talk.contains(&why) && !talk.contains("retrying"), "{talk}");
        assert!(exposed.terminate(PATIENCE).success());
    }
}

fn server() -> String {
    root().join("cli/tests/bridges/stdio_server.py").display().to_string()
}

async fn text(client: &Client, tool: &str) -> Result<String, String> {
    let answer = client.call(tool, "{}").await?.json();
    let text = answer["result"]["content"][0]["text"].as_str();
    text.map(str::to_owned).ok_or_else(|| answer.to_string())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edge_that_stops_answers_the_calls_of_other_edges_through_its_tunnels() {
    const CALLS: usize = 8;
    let mut gateway = Gateway::start_with(Store::Sqlite, 2, &["--drain-timeout", "600"]).await;
    let control = format!("http://{}", gateway.control_address());
    let balancer = Line::to_first(&[gateway.edge_address(0), gateway.edge_address(1)]).await;
    let _exposed = expose_server(&gateway, &control, &[balancer.url()], "tests/servers/held_server.py");
    let bearer = serve(&gateway).await;
    let client = Client::open(&gateway.url(1, "dev"), &bearer).await.unwrap();
    eventually("calls get through", PATIENCE, || text(&client, "runs")).await;
    assert_eq!(tunnels(&gateway, 1).await, "trunkline_edge_tunnels 0");
    // A client that logs has a session of its own, whose server stream stays open between its calls.
    let logging = Client::open(&gateway.url(1, "dev"), &bearer).await.unwrap();
    let level = r#"{"jsonrpc":"2.0","id":1,"method":"logging/setLevel","params":{"level":"debug"}}"#;
    logging.post(level, &[]).await.unwrap();
    eventually("calls get through", PATIENCE, || text(&logging, "runs")).await;

    // All of them run, through the first edge, when that is told to stop.
    let mut calls = Vec::new();
    for _ in 0..CALLS {
        let client = Client::open(&gateway.url(1, "dev"), &bearer).await.unwrap();
        calls.push(tokio::spawn(async move { text(&client, "held").await }));
    }
    eventually("all calls run", PATIENCE, || async {
        let runs = text(&client, "runs").await?;
        if runs == CALLS.to_string() { Ok(()) } else { Err(runs) }
    })
    .await;
    gateway.signal_edge(0, "TERM");

    // The upstream dials again at once, and what is called now goes through the second edge, at the first attempt.
    eventually("the tunnels are open to the other edge", PATIENCE, || async {
        let count = tunnels(&gateway, 1).await;
        if count == "trunkline_edge_tunnels 2" { Ok(()) } else { Err(count) }
    })
    .await;
    assert_eq!(text(&client, "runs").await.unwrap(), CALLS.to_string());
    assert_eq!(text(&logging, "runs").await.unwrap(), CALLS.to_string());
    assert!(calls.iter().all(|call| !call.is_finished()), "{}", gateway.edge(0).output());
    assert_eq!(text(&client, "release").await.unwrap(), "released");

    let mut answers = Vec::new();
    for call in calls {
        answers.push(call.await.unwrap().unwrap());
    }
    answers.sort();
    assert_eq!(answers, (1..=CALLS).map(|number| number.to_string()).collect::<Vec<_>>());
    // Nothing idle keeps it from ending: neither connections nor server streams.
    let said = gateway.edge(0).output();
    gateway.stop_edge(0);
    assert!(!said.contains("were interrupted"), "{said}");
    assert_eq!(text(&client, "runs").await.unwrap(), CALLS.to_string());
}

#[tokio::test(flavor = "multi_thread")]
async fn tunnels_need_no_control_plane_and_a_line_that_went_silent_is_noticed() {
    let mut gateway = Gateway::start(Store::Sqlite, 2).await;
    let control = format!("http://{}", gateway.control_address());
    let line = Line::to(gateway.edge_address(0)).await;
    let mut exposed = expose(&gateway, &control, &[line.url()]);
    let bearer = serve(&gateway).await;
    let server = pid_again(&gateway, 1, &bearer).await;

    gateway.kill_control();
    line.cut().await;
    line.mend();
    for edge in 0..2 {
        assert_eq!(pid_again(&gateway, edge, &bearer).await, server);
    }
    // Nobody is told that this one is gone. Those who dialled find out, and dial again.
    line.silence();
    eventually("the edge sees its tunnels gone", PATIENCE, || async {
        let count = tunnels(&gateway, 0).await;
        if count.ends_with(" 0") { Ok(()) } else { Err(count) }
    })
    .await;
    line.mend();
    for edge in 0..2 {
        assert_eq!(pid_again(&gateway, edge, &bearer).await, server);
    }
    gateway.start_control().await;
    // A refresh works only through a tunnel to this control plane.
    eventually("the catalogue can be fetched", PATIENCE, || async {
        let output = gateway.try_ctl(&["refresh", "upstream", "far"]).await;
        if output.status.success() {
            Ok(())
        } else {
            Err(String::from_utf8_lossy(&output.stderr).into_owned())
        }
    })
    .await;
    assert_eq!(pid_again(&gateway, 0, &bearer).await, server);

    // Another upstream of the same name is another one; its tunnels come with another credential.
    for what in ["token laptop", "server dev", "upstream far"] {
        gateway.ctl(&format!("delete {what}")).await;
    }
    std::fs::write(gateway.folder().join("far.yaml"), FAR).unwrap();
    gateway.ctl("apply -f far.yaml").await;
    state(&gateway, "ready").await;
    exposed.assert_alive();
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_credential_of_an_upstream_opens_its_tunnels() {
    let gateway = Gateway::start(Store::Sqlite, 1).await;
    std::fs::write(gateway.folder().join("far.yaml"), FAR).unwrap();
    gateway.ctl("apply -f far.yaml --wait").await;
    gateway.ctl("create upstream near --url http://127.0.0.1:1/mcp").await;
    let bearer = gateway.admin.create_token("laptop", "*", &["*"]).await;
    gateway.admin.settled().await;

    let away = gateway.try_ctl(&["refresh", "upstream", "far"]).await;
    let said = String::from_utf8(away.stderr).unwrap();
    assert_eq!(away.status.code(), Some(6), "{said}");
    assert!(said.contains("upstreams/far has no tunnel open to this control plane"), "{said}");

    let http = reqwest::Client::new();
    let credential = async |name: &str| {
        let url = format!(
            "http://{}/trunkline.registry.v1.UpstreamService/CreateTunnelCredential",
            gateway.control_address()
        );
        let body = serde_json::json!({ "name": name });
        let asked = http.post(url).bearer_auth(gateway.admin_token()).json(&body).send().await.unwrap();
        (asked.status().as_u16(), asked.json::<Value>().await.unwrap())
    };
    let (status, refused) = credential("upstreams/near").await;
    assert_eq!(
        (status, &refused["message"]),
        (400, &"upstreams/near does not dial in: it is not reached through `tunnel`".into())
    );
    let (status, issued) = credential("upstreams/far").await;
    assert_eq!(status, 200, "{issued}");
    let good = issued["credential"].as_str().unwrap();

    for door in [gateway.edge_address(0), gateway.control_address()] {
        let knock = async |id: &str, bearer: Option<&str>| {
            let request = http.get(format!("http://{door}/tunnels/{id}"));
            let request = bearer.into_iter().fold(request, reqwest::RequestBuilder::bearer_auth);
            let answer = request.send().await.unwrap();
            let challenge = answer.headers().contains_key("www-authenticate");
            (answer.status().as_u16(), challenge)
        };
        assert_eq!(knock("far", None).await, (401, true), "{door}");
        assert_eq!(knock("far", Some("nonsense")).await, (401, true), "{door}");
        // The bearer of a client is another thing, and so is the administrator's.
        assert_eq!(knock("far", Some(&bearer)).await, (401, true), "{door}");
        assert_eq!(knock("far", Some(gateway.admin_token())).await, (401, true), "{door}");
        assert_eq!(knock("near", Some(good)).await, (404, false), "{door}");
        assert_eq!(knock("none", Some(good)).await, (404, false), "{door}");
        let unchanged = knock("far", Some(good)).await.0;
        assert!([400, 426].contains(&unchanged), "{door}: {unchanged}");
    }
}
