//! The API over a real socket: whole answers, as JSON.
#![allow(clippy::unwrap_used, reason = "a failed expectation is a failed test")]

#[path = "support/api.rs"]
mod api;

use std::collections::BTreeSet;

use api::{Api, masked};
use http::StatusCode;
use serde_json::{Value, json};

const UPSTREAMS: &str = "registry.v1.UpstreamService";
const SERVERS: &str = "registry.v1.ServerService";
const TOOLS: &str = "registry.v1.ToolService";
const TOKENS: &str = "identity.v1.TokenService";
const APPLY: &str = "admin.v1.BulkService/ApplyResources";

fn reason(error: &Value) -> (&str, &str) {
    (error["code"].as_str().unwrap_or_default(), error["details"][0]["reason"].as_str().unwrap_or_default())
}

fn fields(error: &Value) -> Vec<&str> {
    let violations = error["details"][1]["fieldViolations"].as_array().unwrap();
    violations.iter().map(|violation| violation["field"].as_str().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_learn_nothing() {
    let api = Api::start().await;
    for (authorization, expected) in [
        ("", "ADMIN_REQUIRED"),
        ("Bearer", "ADMIN_REQUIRED"),
        ("Bearer wrong", "ADMIN_INVALID"),
        ("Basic eDp5", "ADMIN_REQUIRED"),
    ] {
        for method in ["GetUpstream", "NoSuchMethod"] {
            let (status, error) = api.raw_as(authorization, &format!("{UPSTREAMS}/{method}"), "{").await;
            assert_eq!((status, reason(&error)), (StatusCode::UNAUTHORIZED, ("UNAUTHENTICATED", expected)));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_is_kept_without_its_secret() {
    let api = Api::start().await;
    let upstream = json!({
        "http": {"url": "https://example.com/mcp"}, "disabled": true, "meta": {"labels": {"team": "core"}},
        "credential": {"bearer": {"token": "s3cret"}},
    });
    let created = api
        .ok(&format!("{UPSTREAMS}/CreateUpstream"), json!({"upstreamId": "a", "upstream": upstream}))
        .await;
    let expected = json!({"upstream": {
        "name": "upstreams/a",
        "meta": {"uid": "<uid>", "etag": "<etag>", "createTime": "<createTime>", "updateTime": "<updateTime>", "labels": {"team": "core"}},
        "http": {"url": "https://example.com/mcp"},
        "credential": {"bearer": {}, "version": "<version>"},
        "requestTimeout": "60s", "refreshInterval": "300s", "mcp": {"eraPolicy": "ERA_POLICY_AUTO"}, "disabled": true,
    }});
    assert_eq!(created, expected);

    let (_, before) = api.raw(&format!("{UPSTREAMS}/GetUpstream"), r#"{"name": "upstreams/a"}"#).await;
    let update = |credential: Value| json!({"upstream": {"name": "upstreams/a", "credential": credential}, "updateMask": "credential"});
    let written_back = update(json!({"bearer": {}}));
    let (_, kept) = api.raw(&format!("{UPSTREAMS}/UpdateUpstream"), &written_back.to_string()).await;
    assert_eq!(kept["upstream"]["credential"], before["upstream"]["credential"]);
    assert_eq!(
        kept["upstream"]["meta"]["revision"], before["upstream"]["meta"]["revision"],
        "nothing changed"
    );

    let other = update(json!({"bearer": {"token": "other"}}));
    let (_, changed) = api.raw(&format!("{UPSTREAMS}/UpdateUpstream"), &other.to_string()).await;
    assert_ne!(changed["upstream"]["credential"]["version"], before["upstream"]["credential"]["version"]);
    let error = api
        .fails(
            &format!("{UPSTREAMS}/UpdateUpstream"),
            update(json!({"queryParameter": {"parameter": "key"}})),
        )
        .await;
    assert_eq!(fields(&error), ["upstream.credential.query_parameter.value"]);
}

/// Whoever may change an URL must not learn the secret by it.
#[tokio::test(flavor = "multi_thread")]
async fn a_stored_secret_is_not_sent_to_another_origin() {
    const HERE: &str = "https://a.example";
    let api = Api::start().await;
    let credentials = [
        (json!({"bearer": {"token": "s3cret"}}), json!({"bearer": {}}), "bearer.token"),
        (
            json!({"basic": {"username": "anna", "password": "s3cret"}}),
            json!({"basic": {"username": "eve"}}),
            "basic.password",
        ),
        (
            json!({"headers": {"headers": {"X-Key": "s3cret", "X-Other": "1"}}}),
            json!({"headers": {"headers": {"x-key": "", "X-Other": "2"}}}),
            "headers.headers[\"x-key\"]",
        ),
        (
            json!({"queryParameter": {"parameter": "key", "value": "s3cret"}}),
            json!({"queryParameter": {"parameter": "other"}}),
            "query_parameter.value",
        ),
    ];
    for (index, (credential, kept, field)) in credentials.into_iter().enumerate() {
        let name = format!("upstreams/u{index}");
        let upstream =
            json!({"http": {"url": format!("{HERE}/mcp")}, "disabled": true, "credential": credential});
        let create = json!({"upstreamId": format!("u{index}"), "upstream": upstream});
        api.ok(&format!("{UPSTREAMS}/CreateUpstream"), create).await;
        let before = api.ok(&format!("{UPSTREAMS}/GetUpstream"), json!({"name": name})).await;
        let destinations = [
            (json!({"http": {"url": "https://b.example/mcp"}}), "https://b.example"),
            (json!({"http": {"url": "http://a.example/mcp"}}), "http://a.example"),
            (json!({"http": {"url": "https://a.example:8443/mcp"}}), "https://a.example:8443"),
            (json!({"http": {"url": "wss://a.example/mcp"}}), "wss://a.example"),
            (json!({"http": {"url": "https://a.example./mcp"}}), "https://a.example."),
            (json!({"tunnel": {}}), "its tunnels"),
        ];
        for (reach, there) in destinations {
            let text = format!("is stored for {HERE}; give it again to send it to {there}");
            let mut message = reach.clone();
            message["name"] = name.clone().into();
            let mask = reach.as_object().unwrap().keys().next().unwrap().clone();
            let url_alone = json!({"upstream": message, "updateMask": mask});
            message["credential"] = kept.clone();
            message["disabled"] = true.into();
            let whole = json!({"upstream": message});
            let apply = json!({"manifests": [{"upstream": message}]});
            for (method, body, prefix) in [
                (format!("{UPSTREAMS}/UpdateUpstream"), url_alone, "upstream."),
                (format!("{UPSTREAMS}/UpdateUpstream"), whole, "upstream."),
                (APPLY.to_owned(), apply, "manifests[0].upstream."),
            ] {
                let error = api.fails(&method, body).await;
                assert_eq!(reason(&error), ("INVALID_ARGUMENT", "INVALID_FIELD"), "{error}");
                let told = &error["details"][1]["fieldViolations"][0];
                let own = told["field"].as_str().unwrap().to_lowercase();
                assert_eq!(own, format!("{prefix}credential.{field}"), "{error}");
                assert_eq!(told["description"], text.as_str());
            }
        }
        let after = api.ok(&format!("{UPSTREAMS}/GetUpstream"), json!({"name": name})).await;
        assert_eq!(after, before, "nothing changed");

        let update = |url: &str, credential: &Value| json!({"upstream": {"name": name, "http": {"url": url}, "credential": credential}, "updateMask": "http,credential"});
        // Within its origin it is kept, however that is written; elsewhere it is given again, or goes.
        for (url, credential) in [
            ("https://A.example:443/other?x=1", &kept),
            ("https://b.example/mcp", &credential),
            ("https://b.example/v2", &kept),
            ("https://c.example/mcp", &Value::Null),
        ] {
            api.ok(&format!("{UPSTREAMS}/UpdateUpstream"), update(url, credential)).await;
        }
        // What went is not there any more.
        if field != "basic.password" {
            let error = api
                .fails(&format!("{UPSTREAMS}/UpdateUpstream"), update("https://a.example/mcp", &kept))
                .await;
            let told = &error["details"][1]["fieldViolations"][0]["description"];
            assert_eq!(told, "is required, because no secret is stored yet");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_wrong_is_told_at_once() {
    let api = Api::start().await;
    let upstream = json!({
        "title": "x".repeat(129), "http": {"url": "ftp://user@example.com/#x"}, "requestTimeout": "0.5s", "refreshInterval": "86401s",
        "meta": {"labels": {"Bad Key": "v"}}, "credential": {"headers": {"headers": {"Mcp-Session-Id": "x", "X-Ok": "v"}}},
    });
    let error = api
        .fails(&format!("{UPSTREAMS}/CreateUpstream"), json!({"upstreamId": "a", "upstream": upstream}))
        .await;
    assert_eq!(reason(&error), ("INVALID_ARGUMENT", "INVALID_FIELD"));
    assert_eq!(
        fields(&error),
        [
            "upstream.meta.labels[\"Bad Key\"]",
            "upstream.title",
            "upstream.http.url",
            "upstream.http.url",
            "upstream.http.url",
            "upstream.request_timeout",
            "upstream.refresh_interval",
            "upstream.credential.headers.headers[\"Mcp-Session-Id\"]",
        ]
    );
    let error = api
        .fails(&format!("{UPSTREAMS}/CreateUpstream"), json!({"upstreamId": "a", "upstream": {"titel": "x"}}))
        .await;
    assert_eq!(reason(&error), ("INVALID_ARGUMENT", "MALFORMED_JSON"));
    let error = api
        .fails(
            &format!("{UPSTREAMS}/ListUpstreams"),
            json!({"pageSize": -1, "filter": "nope = 1", "orderBy": "x", "pageToken": "y"}),
        )
        .await;
    assert_eq!(fields(&error), ["page_size", "order_by", "filter", "page_token"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_race_is_aborted() {
    let api = Api::start().await;
    api.server("dev", json!({"title": "one"})).await;
    let (_, read) = api.raw(&format!("{SERVERS}/GetServer"), r#"{"name": "servers/dev"}"#).await;
    let etag = &read["server"]["meta"]["etag"];
    let update =
        |title: &str| json!({"server": {"name": "servers/dev", "title": title, "meta": {"etag": etag}}});
    api.ok(&format!("{SERVERS}/UpdateServer"), update("two")).await;
    let error = api.fails(&format!("{SERVERS}/UpdateServer"), update("three")).await;
    assert_eq!(reason(&error), ("ABORTED", "ETAG_MISMATCH"));
    let error =
        api.fails(&format!("{SERVERS}/DeleteServer"), json!({"name": "servers/dev", "etag": etag})).await;
    assert_eq!(reason(&error), ("ABORTED", "ETAG_MISMATCH"));
    api.ok(&format!("{SERVERS}/DeleteServer"), json!({"name": "servers/dev"})).await;
    let error = api.fails(&format!("{SERVERS}/GetServer"), json!({"name": "servers/dev"})).await;
    let expected = json!({"code": "NOT_FOUND", "message": "servers/dev does not exist", "details": [{
        "@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "RESOURCE_NOT_FOUND", "domain": "trunkline.dev",
        "metadata": {"kind": "Server", "name": "servers/dev"},
    }]});
    assert_eq!(error, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_expose_what_their_members_select() {
    let api = Api::start().await;
    for upstream in ["git", "time"] {
        api.upstream(upstream).await;
        api.tool(upstream, "search").await;
    }
    api.tool("git", "issues.create").await;
    let members = json!([{"match": "git/search", "alias": "find"}, {"match": "git/*"}, {"match": "time/*"}, {"match": "time/gone"}]);
    let server = api.server("dev", json!({"tools": members})).await;
    assert_eq!(server["server"]["nameStyle"], "NAME_STYLE_PREFIXED");
    let (_, server) = api.raw(&format!("{SERVERS}/GetServer"), r#"{"name": "servers/dev"}"#).await;
    let mut status = server["server"]["status"].clone();
    // Whether the upstreams were probed by now is another matter.
    let why = status.as_object_mut().unwrap().remove("reason").unwrap();
    assert!(why.as_str().unwrap().ends_with("`time/gone` selects nothing"), "{why}");
    let expected = json!({"toolCount": 3, "unresolved": ["time/gone"], "state": "SERVER_STATE_DEGRADED"});
    assert_eq!(status, expected);
    let entries = api.ok(&format!("{SERVERS}/ListServerEntries"), json!({"name": "servers/dev"})).await;
    let expected = json!({"entries": [
        {"kind": "tool", "exposedName": "find", "target": "upstreams/git/tools/search"},
        {"kind": "tool", "exposedName": "git_issues_create_84db79d6", "target": "upstreams/git/tools/issues.create"},
        {"kind": "tool", "exposedName": "time_search", "target": "upstreams/time/tools/search"},
    ]});
    let hash = entries["entries"][1]["exposedName"].as_str().unwrap();
    assert!(hash.starts_with("git_issues_create_"));
    let mut expected = expected;
    expected["entries"][1]["exposedName"] = json!(hash);
    assert_eq!(entries, expected);

    let update = json!({"server": {"name": "servers/dev", "nameStyle": "NAME_STYLE_UNPREFIXED", "tools": [{"match": "*/search"}]}});
    let error = api.fails(&format!("{SERVERS}/UpdateServer"), update).await;
    assert_eq!(reason(&error), ("FAILED_PRECONDITION", "EXPOSED_NAME_COLLISION"));
    let metadata = json!({"exposed_name": "search", "first": "upstreams/git/tools/search", "second": "upstreams/time/tools/search"});
    assert_eq!(error["details"][0]["metadata"], metadata);
    assert_eq!(fields(&error), ["server.tools[0]"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn references_hold() {
    let api = Api::start().await;
    let error = api
        .fails(
            &format!("{SERVERS}/CreateServer"),
            json!({"serverId": "dev", "server": {"tools": [{"match": "git/x"}]}}),
        )
        .await;
    assert_eq!(
        (reason(&error), fields(&error)),
        (("FAILED_PRECONDITION", "REFERENCE_NOT_FOUND"), vec!["server.tools[0].match"])
    );
    api.upstream("git").await;
    api.tool("git", "x").await;
    api.server("dev", json!({"tools": [{"match": "git/x"}]})).await;
    let error = api.fails(&format!("{UPSTREAMS}/DeleteUpstream"), json!({"name": "upstreams/git"})).await;
    assert_eq!(error["details"][0]["metadata"], json!({"name": "upstreams/git", "referrers": "servers/dev"}));
    let error = api.fails(&format!("{TOOLS}/DeleteTool"), json!({"name": "upstreams/git/tools/x"})).await;
    assert_eq!(reason(&error), ("FAILED_PRECONDITION", "RESOURCE_REFERENCED"));
    api.ok(&format!("{UPSTREAMS}/DeleteUpstream"), json!({"name": "upstreams/git", "force": true})).await;
    let tools = api.ok(&format!("{TOOLS}/ListTools"), json!({"parent": "upstreams/-"})).await;
    assert_eq!(tools, json!({}), "the catalogue went along");
    let edited = api
        .ok(&format!("{SERVERS}/UpdateServer"), json!({"server": {"name": "servers/dev", "title": "t"}}))
        .await;
    assert_eq!(edited["server"]["title"], "t", "what was forced away does not stand in the way");
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_show_their_bearer_once() {
    let api = Api::start().await;
    api.server("dev", json!({})).await;
    let create =
        json!({"tokenId": "laptop", "token": {"scope": {"servers": ["servers/dev"], "tools": ["time_*"]}}});
    let created = api.ok(&format!("{TOKENS}/CreateToken"), create).await;
    assert_eq!((&created["bearer"], &created["token"]["keyId"]), (&json!("<bearer>"), &json!("<keyId>")));
    let revoked = api.ok(&format!("{TOKENS}/RevokeToken"), json!({"name": "tokens/laptop"})).await;
    assert_eq!(revoked["token"]["revokeTime"], "<revokeTime>");
    let edit = json!({"token": {"name": "tokens/laptop", "description": "d"}, "updateMask": "*"});
    let edited = api.ok(&format!("{TOKENS}/UpdateToken"), edit).await;
    assert_eq!(edited["token"]["revokeTime"], "<revokeTime>", "revoked is for ever");
    assert_eq!(edited["token"]["scope"], Value::Null);
    let error = api
        .fails(&format!("{TOKENS}/UpdateToken"), json!({"token": {"name": "tokens/x"}, "allowMissing": true}))
        .await;
    assert_eq!(fields(&error), ["allow_missing"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_visit_each_once() {
    let api = Api::start().await;
    api.upstream("up").await;
    let tools: Vec<String> = (0..25).map(|index| format!("tool{index:02}")).collect();
    for tool in &tools {
        api.tool("up", tool).await;
    }
    for (size, filter, order, expected) in [
        (1, "", "", 25),
        (7, "", "create_time desc", 25),
        (25, "", "revision", 25),
        (3, "tool_name = tool1*", "name desc", 10),
        (4, "does OR nothing", "", 25),
    ] {
        let (mut seen, mut token, mut visits) = (BTreeSet::new(), String::new(), 0);
        loop {
            let body = json!({"parent": "upstreams/up", "pageSize": size, "filter": filter, "orderBy": order, "pageToken": token});
            let (_, answer) = api.raw(&format!("{TOOLS}/ListTools"), &body.to_string()).await;
            let page = answer["tools"].as_array().unwrap();
            assert!((1..=size).contains(&page.len()));
            visits += page.len();
            seen.extend(page.iter().map(|tool| tool["name"].as_str().unwrap().to_owned()));
            match answer["nextPageToken"].as_str() {
                Some(next) => token = next.to_owned(),
                None => break,
            }
        }
        assert_eq!((visits, seen.len()), (expected, expected), "{size} {filter} {order}");
    }
    let first = json!({"parent": "upstreams/up", "pageSize": 1});
    let (_, answer) = api.raw(&format!("{TOOLS}/ListTools"), &first.to_string()).await;
    let other = json!({"parent": "upstreams/-", "pageToken": answer["nextPageToken"]});
    assert_eq!(fields(&api.fails(&format!("{TOOLS}/ListTools"), other).await), ["page_token"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_set_is_applied_whole_or_not_at_all() {
    let api = Api::start().await;
    let upstream = json!({"upstream": {"name": "upstreams/git", "http": {"url": "http://127.0.0.1:1/mcp"}, "disabled": true}});
    let server = json!({"server": {"name": "servers/dev", "tools": [{"match": "git/*"}]}});
    let token = json!({"token": {"name": "tokens/t", "scope": {"servers": ["servers/dev"]}}});
    let broken = json!({"manifests": [token, {"server": {"name": "servers/dev", "tools": [{"match": "nope/x"}, {"match": ""}]}}]});
    let error = api.fails(APPLY, broken).await;
    assert_eq!(fields(&error), ["manifests[1].server.tools[1].match"]);

    // What is referred to comes last: the order within a set is of no matter.
    let all = json!({"manifests": [token, server, upstream], "applySet": "team"});
    let dry = api.ok(APPLY, json!({"manifests": [token, server, upstream], "validateOnly": true})).await;
    let actions = |answer: &Value| -> Vec<(String, String)> {
        let changes = answer["changes"].as_array().unwrap().iter();
        changes
            .map(|c| {
                (
                    c["name"].as_str().unwrap().to_owned(),
                    c["action"].as_str().unwrap().replace("CHANGE_ACTION_", ""),
                )
            })
            .collect()
    };
    let pairs = |list: &[(&str, &str)]| {
        list.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect::<Vec<_>>()
    };
    assert_eq!(
        actions(&dry),
        pairs(&[("tokens/t", "CREATED"), ("servers/dev", "CREATED"), ("upstreams/git", "CREATED")])
    );
    assert_eq!(
        api.fails(&format!("{SERVERS}/GetServer"), json!({"name": "servers/dev"})).await["code"],
        "NOT_FOUND"
    );

    let (_, applied) = api.raw(APPLY, &all.to_string()).await;
    assert!(applied["changes"][0]["bearer"].as_str().unwrap().starts_with("ey"));
    let (_, again) = api.raw(APPLY, &all.to_string()).await;
    assert_eq!(
        actions(&again),
        pairs(&[("tokens/t", "UNCHANGED"), ("servers/dev", "UNCHANGED"), ("upstreams/git", "UNCHANGED")])
    );
    assert_eq!(again["revision"], applied["revision"]);

    let pruned = api
        .ok(APPLY, json!({"manifests": [upstream], "applySet": "team", "prune": true, "force": true}))
        .await;
    assert_eq!(
        actions(&pruned),
        pairs(&[("upstreams/git", "UNCHANGED"), ("servers/dev", "DELETED"), ("tokens/t", "DELETED")])
    );
    assert_eq!(masked(pruned["changes"][0]["before"].clone()), masked(pruned["changes"][0]["after"].clone()));
}

/// An upstream for a set of resources.
fn disabled(id: &str) -> Value {
    json!({"upstream": {"name": format!("upstreams/{id}"), "http": {"url": "http://127.0.0.1:1/mcp"}, "disabled": true}})
}

async fn names_of_upstreams(api: &Api) -> Vec<String> {
    let listed = api.ok(&format!("{UPSTREAMS}/ListUpstreams"), json!({})).await;
    let upstreams = listed["upstreams"].as_array().cloned().unwrap_or_default();
    upstreams.iter().map(|upstream| upstream["name"].as_str().unwrap().replace("upstreams/", "")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prune_deletes_no_more_than_was_meant() {
    let api = Api::start().await;
    let [a, b, c, d] = ["a", "b", "c", "d"].map(disabled);
    api.ok(APPLY, json!({"manifests": [a, b, c, d], "applySet": "team"})).await;
    let refused = async |request: Value| {
        let error = api.fails(APPLY, request).await;
        let (code, reason) = reason(&error);
        (code.to_owned(), reason.to_owned(), error["message"].as_str().unwrap().to_owned())
    };
    let expected = |code: &str, reason: &str, message: &str| (code.into(), reason.into(), message.into());

    assert_eq!(
        refused(json!({"applySet": "team", "prune": true, "force": true, "takeOver": true})).await,
        expected(
            "INVALID_ARGUMENT",
            "PRUNE_WITHOUT_RESOURCES",
            "manifests is empty, so that `prune` would delete the whole set; use DeleteResources for that"
        )
    );
    for validate_only in [true, false] {
        let request =
            json!({"manifests": [a], "applySet": "team", "prune": true, "validateOnly": validate_only});
        assert_eq!(
            refused(request).await,
            expected(
                "FAILED_PRECONDITION",
                "PRUNE_TOO_MUCH",
                "prune would delete 3 of the 4 resources of set team: upstreams/b, upstreams/c, upstreams/d; \
                 set `force` to delete them anyway"
            )
        );
    }
    let request =
        json!({"manifests": [a, b], "applySet": "team", "prune": true, "pruneOnly": ["upstreams/c"]});
    assert_eq!(
        refused(request).await,
        expected(
            "ABORTED",
            "PRUNE_CHANGED",
            "prune would delete upstreams/d, which was not asked about; look again and retry"
        )
    );
    assert_eq!(names_of_upstreams(&api).await, ["a", "b", "c", "d"]);
    let request = json!({"manifests": [a, b], "applySet": "team", "prune": true, "pruneOnly": ["upstreams/c", "upstreams/d"]});
    api.ok(APPLY, request).await;
    assert_eq!(names_of_upstreams(&api).await, ["a", "b"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_set_takes_nothing_from_others_by_accident() {
    let api = Api::start().await;
    let [a, b, c] = ["a", "b", "c"].map(disabled);
    api.ok(APPLY, json!({"manifests": [a], "applySet": "one"})).await;
    let create = json!({"upstreamId": "b", "upstream": b["upstream"]});
    api.ok(&format!("{UPSTREAMS}/CreateUpstream"), create).await;

    let error = api.fails(APPLY, json!({"manifests": [a, c], "applySet": "two"})).await;
    assert_eq!(reason(&error), ("FAILED_PRECONDITION", "OTHER_SET"));
    assert_eq!(
        error["message"],
        "set one has applied upstreams/a; set `apply_set` to one to change them there, or set `take_over` to move them to set two"
    );
    assert_eq!(names_of_upstreams(&api).await, ["a", "b"], "nothing was applied");

    // What nobody applied, and is the same, does not join: a later prune leaves it alone.
    api.ok(APPLY, json!({"manifests": [b, c], "applySet": "two"})).await;
    let sets = async || {
        let (_, answer) = api.raw("admin.v1.BulkService/ListApplySets", "{}").await;
        let sets = answer["applySets"].as_array().cloned().unwrap_or_default();
        let one =
            |set: &Value| format!("{} {}", set["name"].as_str().unwrap(), set["count"].as_str().unwrap());
        sets.iter().map(one).collect::<Vec<_>>()
    };
    assert_eq!(sets().await, ["one 1", "two 1"]);
    api.ok(APPLY, json!({"manifests": [c], "applySet": "two", "prune": true, "force": true})).await;
    assert_eq!(names_of_upstreams(&api).await, ["a", "b", "c"]);

    let taken = api.ok(APPLY, json!({"manifests": [a, b], "applySet": "two", "takeOver": true})).await;
    assert_eq!(
        (&taken["changes"][0]["previousSet"], &taken["changes"][1]["previousSet"]),
        (&json!("one"), &Value::Null)
    );
    assert_eq!(sets().await, ["two 3"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_applied_is_told_with_its_state() {
    let api = Api::start().await;
    let server = |disabled: bool| json!({"server": {"name": "servers/dev", "tools": [{"match": "a/*"}], "disabled": disabled}});
    let token = json!({"token": {"name": "tokens/t", "scope": {"servers": ["servers/dev"]}}});
    let apply = async |manifests: Value, trial: bool| {
        let request = json!({"manifests": manifests, "validateOnly": trial});
        api.raw(APPLY, &request.to_string()).await.1
    };
    for trial in [true, false] {
        let first = apply(json!([disabled("a"), server(false), token]), trial).await;
        let after = |index: usize| &first["changes"][index]["after"];
        assert_eq!(after(0)["upstream"]["status"]["state"], "UPSTREAM_STATE_DISABLED");
        assert_eq!(after(1)["server"]["status"]["state"], "SERVER_STATE_EMPTY");
        assert_eq!(after(2)["token"]["state"], "TOKEN_STATE_VALID", "its server is there with it");
        assert_eq!(after(2)["token"]["meta"]["applySet"], "default");
    }
    let next = apply(json!([server(true)]), false).await;
    let state = |when: &str| &next["changes"][0][when]["server"]["status"]["state"];
    assert_eq!(
        (state("before"), state("after")),
        (&json!("SERVER_STATE_EMPTY"), &json!("SERVER_STATE_DISABLED"))
    );

    let error =
        api.fails(APPLY, json!({"manifests": [{"server": {"name": "servers/x", "nameStyle": 7}}]})).await;
    assert_eq!(error["message"], "manifests[0].server.name_style must be `prefixed` or `unprefixed`, not 7");
    let odd = json!({"upstreamId": "x", "upstream": {"http": {"url": "http://127.0.0.1:1/mcp"}, "mcp": {"eraPolicy": 9}}});
    let error = api.fails(&format!("{UPSTREAMS}/CreateUpstream"), odd).await;
    assert_eq!(error["message"], "upstream.mcp.era_policy must be `auto`, `modern` or `legacy`, not 9");
}

#[tokio::test(flavor = "multi_thread")]
async fn many_are_deleted_or_none() {
    const DELETE: &str = "admin.v1.BulkService/DeleteResources";
    let api = Api::start().await;
    let server = json!({"server": {"name": "servers/dev", "tools": [{"match": "a/*"}]}});
    api.ok(APPLY, json!({"manifests": [disabled("a"), disabled("b"), server]})).await;
    let delete = |names: &[&str]| json!({"names": names});

    let error = api.fails(DELETE, delete(&["upstreams/b", "upstreams/x", "servers/y"])).await;
    assert_eq!(reason(&error), ("NOT_FOUND", "RESOURCE_NOT_FOUND"));
    assert_eq!(error["message"], "upstreams/x, servers/y do not exist");
    let error = api.fails(DELETE, delete(&["upstreams/b", "upstreams/a"])).await;
    assert_eq!(reason(&error), ("FAILED_PRECONDITION", "RESOURCE_REFERENCED"));
    let error = api.fails(DELETE, json!({"names": ["upstreams/b"], "etags": {"upstreams/b": "old"}})).await;
    assert_eq!(reason(&error), ("ABORTED", "ETAG_MISMATCH"));
    assert_eq!(fields(&api.fails(DELETE, delete(&["b"])).await), ["names[0]"]);
    assert_eq!(fields(&api.fails(DELETE, delete(&[])).await), ["names"]);

    let all = ["upstreams/a", "servers/dev", "upstreams/b", "upstreams/a"];
    api.ok(DELETE, json!({"names": all, "validateOnly": true})).await;
    assert_eq!(names_of_upstreams(&api).await, ["a", "b"]);
    api.ok(DELETE, delete(&all)).await;
    assert_eq!(names_of_upstreams(&api).await, [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_rotate() {
    let api = Api::start().await;
    let list = "identity.v1.SigningKeyService/ListSigningKeys";
    let first = api.raw(list, "{}").await.1["signingKeys"][0]["keyId"].clone();
    let rotated = api.raw("identity.v1.SigningKeyService/RotateSigningKey", "").await.1;
    assert_ne!(rotated["signingKey"]["keyId"], first);
    let keys = api.raw(list, "{}").await.1;
    let active: Vec<&Value> =
        keys["signingKeys"].as_array().unwrap().iter().map(|key| &key["active"]).collect();
    assert_eq!(active, [&json!(true), &Value::Null]);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_key_is_listed_with_what_needs_it_and_rotated_but_the_master_key() {
    let api = Api::start().await;
    let shown = |answer: &Value| -> Vec<String> {
        let text = |value: &Value, start: &str| value.as_str().unwrap().replace(start, "");
        let one = |key: &Value| {
            let needs = key["needs"].as_array().into_iter().flatten();
            let needs: Vec<_> = needs.map(|need| need["what"].as_str().unwrap()).collect();
            let (purpose, state) = (text(&key["purpose"], "KEY_PURPOSE_"), text(&key["state"], "KEY_STATE_"));
            format!("{purpose} {state} {}", needs.join(", ")).trim_end().to_owned()
        };
        answer["keys"].as_array().unwrap().iter().map(one).collect()
    };
    let list = api.raw("identity.v1.KeyService/ListKeys", "{}").await.1;
    let fresh = ["MASTER ACTIVE data keys", "DATA ACTIVE keys", "SIGNING ACTIVE", "SEALING ACTIVE"];
    assert_eq!(shown(&list), fresh);
    assert!(!list.to_string().contains("PRIVATE"), "{list}");
    let rotate = |purposes: Value| json!({ "purposes": purposes });
    let signing = api.ok("identity.v1.KeyService/RotateKeys", rotate(json!(["KEY_PURPOSE_SIGNING"]))).await;
    let expected = [
        "MASTER ACTIVE data keys",
        "DATA ACTIVE keys",
        "SIGNING ACTIVE",
        "SIGNING RETIRING bearers of people, credentials of edges",
        "SEALING ACTIVE",
    ];
    assert_eq!(shown(&signing), expected);
    for refused in [json!(["KEY_PURPOSE_MASTER"]), json!(["KEY_PURPOSE_UNSPECIFIED"]), json!([77])] {
        let said = api.fails("identity.v1.KeyService/RotateKeys", rotate(refused)).await;
        assert_eq!(said["code"], "INVALID_ARGUMENT", "{said}");
    }
}
