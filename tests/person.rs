//! A second person, on another machine: who has an edge and a bearer, and no control plane; who moves, and takes things along.

use std::process::Output;

use serde_json::Value;

use crate::support::fake::{Fake, tool};
use crate::support::gateway::{Gateway, Store};

fn said(output: &Output) -> (i32, String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_owned();
    (output.status.code().unwrap_or(-1), text(&output.stdout), text(&output.stderr))
}

/// What comes of a line where another context file is used.
async fn theirs(gateway: &Gateway, line: &str) -> (i32, String, String) {
    let words: Vec<_> = line.split(' ').chain(["--config", "person.yaml"]).collect();
    said(&gateway.try_ctl(&words).await)
}

/// A server with one tool, and a file that tells of a gateway only where its edge is.
async fn start() -> (Gateway, Fake) {
    let gateway = Gateway::start(Store::Sqlite, 1).await;
    let upstream = Fake::start(&format!("[{}]", tool("echo")), |_, _| Vec::new()).await;
    gateway.ctl(&format!("create upstream fake --url {}", upstream.url())).await;
    gateway.ctl("create server dev --tool fake/*").await;
    let set = format!("config set-context gw --edge http://{}", gateway.edge_address(0));
    assert_eq!(theirs(&gateway, &set).await.0, 0);
    (gateway, upstream)
}

/// Writes the bearer of a new token into a file.
async fn bearer(gateway: &Gateway, token: &str) -> String {
    let bearer = gateway.ctl(&format!("create token {token} --server dev --no-save")).await;
    std::fs::write(gateway.folder().join(token), &bearer).unwrap();
    bearer.trim().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn bearers_that_were_given_are_looked_at_before_they_are_saved_and_by_doctor() {
    let (gateway, _upstream) = start().await;
    let good = bearer(&gateway, "ada").await;
    bearer(&gateway, "zoe").await;
    gateway.admin.revoke_token("zoe").await;
    gateway.admin.settled().await;
    std::fs::write(gateway.folder().join("half"), &good[..good.len() - 9]).unwrap();
    std::fs::write(gateway.folder().join("admin"), gateway.admin_token()).unwrap();
    for (file, told) in [
        ("half", "error: half contains no bearer: its end is missing; copy all of it"),
        ("admin", "error: admin contains no bearer: it has 1 part; the bearer of a token has three parts "),
    ] {
        let (code, _, talk) = theirs(&gateway, &format!("config set-bearer x --file {file}")).await;
        assert!(code == 2 && talk.starts_with(told), "{talk}");
    }
    // Where the admin token is known, it is known for what it is.
    let (code, _, talk) = said(&gateway.try_ctl(&["config", "set-bearer", "x", "--file", "admin"]).await);
    assert!(
        code == 2 && talk.starts_with("error: admin contains no bearer: it is the administrator's token, "),
        "{talk}"
    );

    let saved = "saved in person.yaml for every server; name those that it may call with --server";
    let (code, _, talk) = theirs(&gateway, "config set-bearer --file ada").await;
    assert_eq!((code, talk), (0, format!("bearer of token ada {saved}")));
    let (code, _, talk) = theirs(&gateway, "config set-bearer --file zoe").await;
    let warning = format!(
        "warning: the edge at http://{} rejects the bearer of token zoe: it is revoked or expired, or of another gateway",
        gateway.edge_address(0)
    );
    assert_eq!((code, talk), (0, format!("{warning}\nbearer of token zoe {saved}")));
    let (code, _, talk) = theirs(&gateway, "config set-bearer ida --server none --file ada").await;
    assert!(
        code == 0 && talk.starts_with("warning: server none does not exist, or token ida may not call it\n"),
        "{talk}"
    );
    assert_eq!(theirs(&gateway, "config delete-bearer ida --yes").await.0, 0);

    // One that is over takes the answer of the other not away.
    let (code, _, talk) = theirs(&gateway, "call nope").await;
    assert_eq!(code, 3, "{talk}");
    let told = "error: server nope does not exist or token ada (saved in person.yaml) may not call it; ask whoever gave you ";
    assert!(talk.contains(told) && !talk.contains("mcpctl get "), "{talk}");

    let (code, text, talk) = theirs(&gateway, "doctor -o json").await;
    assert_eq!(code, 1, "{talk}");
    assert!(talk.ends_with("1 failed"), "{talk}");
    let checks: Value = serde_json::from_str(&text).unwrap();
    let of = |name: &str| {
        let found = checks.as_array().unwrap().iter().filter(|check| check["name"] == name);
        let line = |check: &Value| {
            ["outcome", "text", "advice"]
                .map(|member| check[member].as_str().unwrap_or("").to_owned())
                .join(" ")
        };
        found.map(line).collect::<Vec<_>>()
    };
    let [accepted, rejected] = &of("clients")[..] else { panic!("{text}") };
    let edge = format!("http://{}", gateway.edge_address(0));
    assert_eq!(
        accepted.trim_end(),
        format!("ok the edge at {edge} accepts token ada; no server is known here to call with it")
    );
    assert!(
        rejected.starts_with(&format!("fail the edge at {edge} rejected token zoe (saved in person.yaml)"))
            && rejected.ends_with(" ask for another bearer, and save it with `mcpctl config set-bearer`"),
        "{rejected}"
    );
    assert!(of("context")[0].starts_with("ok gw: edge ") && !text.contains("--control"), "{text}");
}

/// Whoever has no edge at hand can save a bearer all the same.
#[tokio::test(flavor = "multi_thread")]
async fn an_edge_that_is_away_keeps_nobody_from_saving_a_bearer() {
    let (mut gateway, _upstream) = start().await;
    bearer(&gateway, "ada").await;
    gateway.kill_edge(0);
    let (code, _, talk) = theirs(&gateway, "config set-bearer --file ada --server dev").await;
    assert_eq!(code, 0, "{talk}");
    let [warning, saved] = talk.lines().collect::<Vec<_>>()[..] else { panic!("{talk}") };
    assert!(
        warning.starts_with("warning: whether the bearer of token ada is valid is not known: the edge at "),
        "{talk}"
    );
    assert_eq!(saved, "bearer of token ada saved in person.yaml for dev");
}

#[tokio::test(flavor = "multi_thread")]
async fn doctor_knows_where_an_edge_has_moved_and_what_hosts_read() {
    let (gateway, _upstream) = start().await;
    gateway.ctl("config set-context test --edge http://127.0.0.1:1").await;
    let environment = [("TRUNKLINE_TOKEN", "x".to_owned()), ("TRUNKLINE_TOKNE", "x".to_owned())];
    let output = gateway.try_ctl_in(&["doctor", "-o", "json"], &environment).await;
    let (code, text, talk) = said(&output);
    assert_eq!(code, 1, "{talk}");
    let checks: Value = serde_json::from_str(&text).unwrap();
    let of = |name: &str| {
        checks.as_array().unwrap().iter().filter(|check| check["name"] == name).collect::<Vec<_>>()
    };
    let edge = of("edge")[0];
    let now = format!("http://{}", gateway.edge_address(0));
    assert!(
        edge["text"].as_str().unwrap().ends_with(&format!("; an edge of this gateway is at {now}")),
        "{edge}"
    );
    assert_eq!(edge["advice"], format!("run `mcpctl config set-context test --edge {now}`"));
    let unknown: Vec<_> = of("environment").into_iter().filter(|check| check["outcome"] == "warn").collect();
    let [unknown] = &unknown[..] else { panic!("{text}") };
    assert!(
        unknown["text"].as_str().unwrap().starts_with("TRUNKLINE_TOKNE is set, and neither "),
        "{unknown}"
    );
    assert!(unknown["text"].as_str().unwrap().ends_with("; did you mean TRUNKLINE_TOKEN?"), "{unknown}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_control_plane_is_used_where_the_first_is_away() {
    let gateway = Gateway::start(Store::Sqlite, 0).await;
    let control = format!("http://{}", gateway.control_address());
    gateway.ctl(&format!("config set-context test --control http://127.0.0.1:1 --control {control}")).await;
    assert_eq!(gateway.ctl("get upstreams -o name").await, "");
    let contexts = gateway.ctl("config get-contexts").await;
    assert!(contexts.contains(&format!("http://127.0.0.1:1,{control}")), "{contexts}");
    let (code, text, talk) = said(&gateway.try_ctl(&["doctor", "--no-clients"]).await);
    assert_eq!(code, 1, "{talk}");
    assert!(text.contains(", and http://127.0.0.1:1 did not\n"), "{text}");
    gateway.ctl("config set-context test --control http://127.0.0.1:1 --control http://127.0.0.1:2").await;
    let (code, _, talk) = said(&gateway.try_ctl(&["get", "upstreams"]).await);
    assert_eq!(code, 7, "{talk}");
    assert!(talk.ends_with("check that it is running, or that another one is: http://127.0.0.1:2"), "{talk}");
    gateway.ctl(&format!("config set-context test --control {control}")).await;
    let contexts = gateway.ctl("config get-contexts").await;
    assert!(contexts.split_whitespace().any(|cell| cell == control), "{contexts}");
}

/// What cannot be registered is not run.
#[tokio::test(flavor = "multi_thread")]
async fn expose_looks_before_it_starts_the_command() {
    let (gateway, upstream) = start().await;
    let edge = format!("http://{}", gateway.edge_address(0));
    let command = ["--", "sh", "-c", "touch started; cat"];
    let wrong = format!(
        "error: --connect {edge}: no control plane is there: that is the port of an edge for clients; use --connect with the URL of the \
         control plane, and --edge with that one"
    );
    let elsewhere = format!(
        "error: upstreams/fake exists and points to {}; add --replace to point it to ",
        upstream.url()
    );
    for (line, expected, told) in [
        (vec!["--register", "far", "--config", "person.yaml"], 2, "error: no control plane is configured; "),
        (vec!["--register", "fake"], 6, elsewhere.as_str()),
        (vec!["--register", "fake", "--connect"], 6, elsewhere.as_str()),
        (vec!["--register", "far", "--connect", edge.as_str()], 7, wrong.as_str()),
    ] {
        let words: Vec<_> = ["expose"].iter().chain(&line).chain(&command).copied().collect();
        let (code, out, talk) = said(&gateway.try_ctl(&words).await);
        assert_eq!((code, out.as_str()), (expected, ""), "{line:?}: {talk}");
        assert!(talk.starts_with(told), "{line:?}: {talk}");
    }
    assert!(!gateway.folder().join("started").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_goes_to_another_gateway_with_its_secrets_in_the_environment() {
    let (gateway, upstream) = start().await;
    std::fs::write(gateway.folder().join("key"), "s3cret").unwrap();
    gateway.ctl(&format!("create upstream up-13 --url {} --bearer-file key", upstream.url())).await;
    let (code, text, talk) = said(&gateway.try_ctl(&["export", "upstreams", "--secrets-from-env"]).await);
    assert_eq!(code, 0, "{talk}");
    assert!(text.contains("fromEnv: UP_13_TOKEN") && !text.contains("s3cret"), "{text}");
    assert!(talk.ends_with("set these variables for apply: UP_13_TOKEN"), "{talk}");
    let plain = gateway.ctl("export upstreams").await;

    let other = Gateway::start(Store::Sqlite, 0).await;
    std::fs::write(other.folder().join("all.yaml"), text).unwrap();
    std::fs::write(other.folder().join("plain.yaml"), plain).unwrap();
    let (code, _, talk) = said(&other.try_ctl(&["apply", "-f", "plain.yaml"]).await);
    assert!(
        code == 2 && talk.contains("because no secret is stored yet; write {fromEnv: NAME} or "),
        "{talk}"
    );
    let (code, _, talk) = said(&other.try_ctl(&["apply", "-f", "all.yaml"]).await);
    assert!(code == 2 && talk.contains("UP_13_TOKEN, which is not set in the environment"), "{talk}");
    let environment = [("UP_13_TOKEN", "s3cret".to_owned())];
    let (code, text, talk) = said(&other.try_ctl_in(&["apply", "-f", "all.yaml"], &environment).await);
    assert_eq!(code, 0, "{talk}");
    assert!(text.contains("upstreams/up-13 created"), "{text}");
    other.ctl("wait upstream up-13 --for state=ready").await;
}
