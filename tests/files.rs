//! What files may hold is told in one way: the examples apply, what is printed as a file is one, and the schema takes what
//! `apply` takes.

use std::io::Write as _;
use std::process::{Command, Stdio};

use serde::Deserialize as _;
use serde_json::{Value, json};

use crate::support::gateway::{Gateway, Store};
use crate::support::terminal::{Size, Terminal, WIDE};
use crate::support::{binary, root, tool};

/// The documents of a file, as JSON.
fn documents(text: &str) -> Vec<Value> {
    let documents = serde_yaml_ng::Deserializer::from_str(text);
    documents.map(|document| Value::deserialize(document).unwrap()).collect()
}

fn examples() -> String {
    root().join("proto/schema/examples").display().to_string()
}

/// Applies a file, or a text, and returns what was done with what.
async fn apply(gateway: &Gateway, text: &str) -> String {
    std::fs::write(gateway.folder().join("file.yaml"), text).unwrap();
    gateway.ctl("apply -f file.yaml --no-save").await
}

/// Files that are right or wrong as they stand, and what the schema says of each: nothing, or its first objection.
fn objections(schema: &Value, files: &[Value]) -> Vec<Option<String>> {
    const SCRIPT: &str = "
import json, sys, jsonschema
given = json.load(sys.stdin)
jsonschema.Draft202012Validator.check_schema(given['schema'])
check = jsonschema.Draft202012Validator(given['schema'])
found = [next((e.message for e in check.iter_errors(file)), None) for file in given['files']]
json.dump(found, sys.stdout)
";
    let mut python = Command::new(tool("python/bin/python"))
        .args(["-c", SCRIPT])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let given = json!({ "schema": schema, "files": files }).to_string();
    python.stdin.take().unwrap().write_all(given.as_bytes()).unwrap();
    let output = python.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", output.status);
    serde_json::from_slice(&output.stdout).unwrap()
}

fn schema() -> Value {
    let output = Command::new(binary("mcpctl")).arg("schema").output().unwrap();
    serde_json::from_slice(&output.stdout).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_printed_as_a_file_is_one_on_sqlite() {
    what_is_printed_as_a_file_is_one(Store::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_printed_as_a_file_is_one_on_postgres() {
    what_is_printed_as_a_file_is_one(Store::Postgres).await;
}

async fn what_is_printed_as_a_file_is_one(store: Store) {
    let gateway = Gateway::start(store, 0).await;
    let applied = gateway.ctl(&format!("apply -f {} --no-save", examples())).await;
    let (bearers, mut lines): (Vec<&str>, Vec<&str>) =
        applied.lines().partition(|line| line.starts_with("eyJ"));
    lines.sort_unstable();
    assert_eq!(bearers.len(), 1, "{applied}");
    assert_eq!(
        lines,
        [
            "+ roles/caller created",
            "+ servers/dev created",
            "+ teams/core created",
            "+ tokens/laptop created",
            "+ upstreams/docs created",
            "+ upstreams/docs/prompts/review_page created",
            "+ upstreams/docs/resources/memo%3A%2F%2Fhandbook created",
            "+ upstreams/docs/tools/search created",
            "+ upstreams/laptop created",
            "+ upstreams/tickets created",
        ]
    );
    let again = gateway.ctl(&format!("apply -f {}", examples())).await;
    assert!(again.lines().all(|line| line.ends_with(" unchanged")), "{again}");

    let exported = gateway.ctl("export upstreams servers tools resources prompts tokens").await;
    assert!(
        exported.contains("eraPolicy: legacy\n") && exported.contains("nameStyle: prefixed\n"),
        "{exported}"
    );
    let unchanged = apply(&gateway, &exported).await;
    assert!(unchanged.lines().all(|line| line.ends_with(" unchanged")), "{unchanged}");
    let as_json: Value = serde_json::from_str(&gateway.ctl("get upstream tickets -o json").await).unwrap();
    assert_eq!(as_json["mcp"]["eraPolicy"], "legacy");
    assert_eq!(documents(&gateway.ctl("get upstream tickets -o yaml").await), [as_json]);
    let era = gateway.ctl("get upstream tickets -o jsonpath={.mcp.eraPolicy}").await;
    assert_eq!(era, "legacy\n");
    for word in ["legacy", "ERA_POLICY_LEGACY"] {
        gateway.ctl(&format!("wait upstream tickets --for jsonpath={{.mcp.eraPolicy}}={word}")).await;
    }
    let unchanged = apply(&gateway, &gateway.ctl("export -o json").await).await;
    assert!(unchanged.lines().all(|line| line.ends_with(" unchanged")), "{unchanged}");

    let mut files: Vec<Value> = documents(&exported);
    for kind in ["upstreams", "servers", "tools", "resources", "prompts", "tokens"] {
        files.extend(documents(&gateway.ctl(&format!("get {kind} -o yaml")).await));
    }
    let objections = objections(&schema(), &files);
    for (file, objection) in files.iter().zip(objections) {
        assert_eq!(objection, None, "{file}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trial_prints_the_file_that_one_would_write() {
    let gateway = Gateway::start(Store::Sqlite, 0).await;
    for (line, file) in [
        (
            "create upstream time --url http://127.0.0.1:1/mcp --era LEGACY --header X-Key=k3y",
            "kind: Upstream\nname: upstreams/time\nhttp:\n  url: http://127.0.0.1:1/mcp\nmcp:\n  eraPolicy: legacy\n\
             credential:\n  headers:\n    headers:\n      X-Key: k3y\n",
        ),
        (
            "create tool time/now --definition {\"name\":\"now\",\"inputSchema\":{\"type\":\"object\"}}",
            "kind: Tool\nname: upstreams/time/tools/now\ndefinitionJson: '{\"name\":\"now\",\"inputSchema\":{\"type\":\"object\"}}'\n",
        ),
        (
            "create server dev --tool time/* --unprefixed --label team=core",
            "kind: Server\nname: servers/dev\nmeta:\n  labels:\n    team: core\ntools:\n- match: time/*\nnameStyle: unprefixed\n",
        ),
        (
            "create token laptop --server dev --tool time_*",
            "kind: Token\nname: tokens/laptop\nscope:\n  servers:\n  - servers/dev\n  tools:\n  - time_*\n  resources:\n  - '*'\n  prompts:\n  - '*'\n",
        ),
    ] {
        assert_eq!(gateway.ctl(&format!("{line} --dry-run -o yaml")).await, file);
        assert_eq!(objections(&schema(), &documents(file)), [None], "{file}");
        let name = documents(file)[0]["name"].as_str().unwrap().to_owned();
        let said = apply(&gateway, file).await;
        let (created, bearer) = said.split_once('\n').unwrap();
        assert_eq!(created, format!("+ {name} created"));
        assert_eq!(bearer.starts_with("eyJ"), name.starts_with("tokens/"), "{said}");
    }
}

/// Files with one mistake each.
const WRONG: [(&str, &str); 14] = [
    ("kind: Upsteam\nname: time\nhttp: {url: http://x/mcp}\n", "a kind that does not exist"),
    ("kind: Upstream\nhttp: {url: http://x/mcp}\n", "no name"),
    ("kind: Upstream\nname: Time\nhttp: {url: http://x/mcp}\n", "a name with a capital letter"),
    ("kind: Upstream\nname: time\nhttp: {ur: http://x/mcp}\n", "a field that does not exist"),
    ("kind: Upstream\nname: time\nhttp: {url: htp://x/mcp}\n", "an unknown scheme"),
    ("kind: Upstream\nname: time\ntitle: Time\n", "not reached in any way"),
    ("kind: Upstream\nname: time\nhttp: {url: http://x/mcp}\ntunnel: {}\n", "reached in two ways"),
    ("kind: Upstream\nname: time\ntunnel: {}\nmcp: {eraPolicy: old}\n", "a word that the enum does not have"),
    ("kind: Upstream\nname: time\ntunnel: {}\nrequestTimeout: soon\n", "no duration"),
    ("kind: Upstream\nname: time\ntunnel: {}\ndisabled: perhaps\n", "no boolean"),
    (
        "kind: Upstream\nname: time\ntunnel: {}\ncredential: {bearer: {token: {fromEnvironment: X}}}\n",
        "no secret",
    ),
    ("kind: Server\nname: dev\ntools: [{mach: time/*}]\n", "a member without a match"),
    ("kind: Server\nname: dev\nmeta: {labels: {Team: core}}\n", "a label with a capital letter"),
    ("kind: Token\nname: laptop\nscope: {servers: [dev/x]}\n", "a server that cannot exist"),
];

#[test]
fn the_schema_takes_what_is_right_and_objects_to_what_is_not() {
    let right = [
        "kind: Upstream\nname: upstreams/time\nhttp: {url: 'wss://x/mcp'}\nmcp: {eraPolicy: ERA_POLICY_AUTO}\n",
        "kind: Upstream\nname: time\ntunnel: {}\ncredential: {bearer: {}}\n",
        "kind: Upstream\nname: time\ntunnel: {}\ncredential: {bearer: {token: {fromEnv: TOKEN}}}\n",
        "kind: Upstream\nname: time\ntunnel: {}\ncredential: {headers: {headers: {X-Key: {fromFile: key}}}}\n",
        "kind: Upstream\nname: time\ntunnel: {}\ncredential: {basic: {username: ada, password: {literal: '${X}'}}}\n",
        "- {kind: Server, name: dev}\n- {kind: Token, name: laptop}\n",
    ];
    let mut files: Vec<Value> = right.iter().flat_map(|text| documents(text)).collect();
    for entry in std::fs::read_dir(examples()).unwrap() {
        files.extend(documents(&std::fs::read_to_string(entry.unwrap().path()).unwrap()));
    }
    let count = files.len();
    files.extend(WRONG.iter().flat_map(|(text, _)| documents(text)));
    let objections = objections(&schema(), &files);
    for (file, objection) in files.iter().zip(&objections).take(count) {
        assert_eq!(*objection, None, "{file}");
    }
    for ((_, mistake), objection) in WRONG.iter().zip(&objections[count..]) {
        assert!(objection.is_some(), "the schema does not object to {mistake}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn short_words_are_taken_wherever_an_enum_is() {
    let gateway = Gateway::start(Store::Sqlite, 0).await;
    let url = format!("http://{}/trunkline.registry.v1.UpstreamService/", gateway.control_address());
    let call = async |method: &str, body: Value| {
        let request =
            reqwest::Client::new().post(format!("{url}{method}")).bearer_auth(gateway.admin_token());
        let answer = request.json(&body).send().await.unwrap();
        (answer.status().as_u16(), answer.json::<Value>().await.unwrap())
    };
    let upstream =
        |era: &str| json!({ "http": { "url": "http://127.0.0.1:1/mcp" }, "mcp": { "eraPolicy": era } });
    let create = |era: &str| json!({ "upstreamId": "old", "noWait": true, "upstream": upstream(era) });
    let (status, answer) = call("CreateUpstream", create("odd")).await;
    assert_eq!((status, answer["code"].as_str()), (400, Some("INVALID_ARGUMENT")));
    assert_eq!(answer["message"], "upstream.mcp.eraPolicy: must be `auto`, `modern` or `legacy`, not `odd`");
    let (status, answer) = call("CreateUpstream", create("Legacy")).await;
    assert_eq!((status, &answer["upstream"]["mcp"]["eraPolicy"]), (200, &json!("ERA_POLICY_LEGACY")));

    for filter in ["mcp.eraPolicy = legacy", "mcp.era_policy = LEGACY", "mcp.era_policy = ERA_POLICY_LEGACY"]
    {
        let listed = gateway.ctl_args(&["get", "upstreams", "-o", "name", "--filter", filter]).await;
        assert_eq!(listed, "upstreams/old\n", "{filter}");
    }
    let refused = gateway.try_ctl(&["get", "upstreams", "--filter", "mcp.eraPolicy = odd"]).await;
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(said.contains("`mcp.eraPolicy` must be `auto`, `modern` or `legacy`, not `odd`"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_control_plane_serves_the_schema_to_anybody() {
    let gateway = Gateway::start(Store::Sqlite, 0).await;
    let url = format!("http://{}/schemas/trunkline.json", gateway.control_address());
    let answer = reqwest::get(url).await.unwrap();
    assert_eq!(
        (answer.status().as_u16(), &answer.headers()["content-type"]),
        (200, &"application/schema+json".parse().unwrap())
    );
    assert_eq!(answer.json::<Value>().await.unwrap(), schema());
    let line = gateway.ctl("schema --write trunkline.json").await;
    assert_eq!(line, "# yaml-language-server: $schema=trunkline.json\n");
    let written = std::fs::read_to_string(gateway.folder().join("trunkline.json")).unwrap();
    assert_eq!(serde_json::from_str::<Value>(&written).unwrap(), schema());
    assert_eq!(gateway.try_ctl(&["schema", "--write", "mcpctl.yaml"]).await.status.code(), Some(2));
}

/// What `mcpctl explain` says on a terminal.
async fn explained(topic: &str, size: Size) -> String {
    let mut command = Command::new(binary("mcpctl"));
    command.args(["explain", topic]).env_clear();
    let mut terminal = Terminal::start(command, size, &[]);
    assert_eq!(terminal.ended().await, 0);
    terminal.screen()
}

#[tokio::test]
async fn what_is_explained_fits_the_terminal() {
    assert_eq!(
        explained("upstream.credential.bearer", WIDE).await,
        "KIND:   Upstream (upstreams, upstream, up)\n\
         FIELD:  credential.bearer <BearerCredential>\n\n\
         DESCRIPTION:\n    `Authorization: Bearer …`.\n\n    BearerCredential is a bearer token (RFC 6750).\n\n\
         FIELDS:\n  token <string> -secret-\n    (at most 16 KiB)\n    The token.\n\n  \
         tokenFrom <SecretReference>\n    Where the token is, in the place of `token`."
    );
    let narrow = explained("server", Size(200, 40)).await;
    let long: Vec<&str> = narrow.lines().filter(|line| line.chars().count() > 40).collect();
    assert_eq!(long, Vec::<&str>::new());
    assert!(
        narrow
            .contains("  tools <[]Member>\n    (at most 2000 items)\n    The tools it exposes. The first\n"),
        "{narrow}"
    );
}
