//! What does not exist for somebody leaves no trace in what they are told: not in lists, counts and pages, and not in errors, advice and
//! states. A word that only hidden things carry is looked for in every answer.
#![allow(clippy::unwrap_used, reason = "a failed expectation is a failed test")]

#[path = "support/desk.rs"]
mod desk;

use std::sync::Arc;

use desk::{Desk, Transport, holder, renamed, somebody};
use serde_json::{Value, json};
use trunkline::common::v1::Permission;
use trunkline_control_plane::rights::Rights;

const APPLY: &str = "admin.v1.BulkService/ApplyResources";
const DELETE: &str = "admin.v1.BulkService/DeleteResources";
const LIST_SERVERS: &str = "registry.v1.ServerService/ListServers";
const CREATE_SERVER: &str = "registry.v1.ServerService/CreateServer";
const GET_SERVER: &str = "registry.v1.ServerService/GetServer";

/// What only hidden things are called.
const CANARY: &str = "canary";

fn upstream(id: &str, meta: Value) -> Value {
    json!({"upstream": {"name": format!("upstreams/{id}"), "meta": meta, "http": {"url": "http://127.0.0.1:1/mcp"}}})
}

fn tool(upstream: &str, own: &str) -> Value {
    let definition = json!({"name": own, "inputSchema": {"type": "object"}}).to_string();
    json!({"tool": {"name": format!("upstreams/{upstream}/tools/{own}"), "definitionJson": definition}})
}

fn server(id: &str, meta: Value, members: Value) -> Value {
    json!({"server": {"name": format!("servers/{id}"), "meta": meta, "tools": members, "nameStyle": "NAME_STYLE_UNPREFIXED"}})
}

/// A registry where ann sees little: her own things and those of her team, among hidden ones.
async fn start() -> (Desk, Arc<Rights>) {
    let desk = Desk::open().await;
    desk.users(&["ann", "bob"]).await;
    let hidden = json!({"owner": "users/bob", "labels": {"of": CANARY}});
    let public = json!({"visibility": "VISIBILITY_PUBLIC"});
    let administrator = Rights::administrator();
    // They are there before what they select, so that names which collide stand in their states.
    let servers = json!({"manifests": [
        {"team": {"name": "teams/a"}},
        {"team": {"name": "teams/canary"}},
        server("open", public, json!([{"match": "*/x"}, {"match": "*/shown"}])),
        server("uses", hidden.clone(), json!([{"match": "*/x"}])),
        {"server": {"name": "servers/gone", "meta": {"visibility": "VISIBILITY_PUBLIC"}}},
    ]});
    desk.ok(&administrator, APPLY, servers).await;
    let ours = [
        upstream(
            "mine",
            json!({"owner": "users/ann", "labels": {"of": "ann"}, "visibility": "VISIBILITY_PUBLIC"}),
        ),
        tool("mine", "x"),
        upstream("canary", hidden.clone()),
        tool("canary", "canary"),
        // The installation's own: its servers select it by a pattern, and nobody else sees it.
        upstream("canary-own", json!({"labels": {"of": CANARY}})),
        tool("canary-own", "x"),
        tool("canary-own", "shown"),
        upstream("ours", json!({"team": "teams/a", "visibility": "VISIBILITY_PUBLIC"})),
        tool("ours", "x"),
    ];
    // One by one: of two that collide, the older one stays.
    for manifest in ours {
        desk.ok(&administrator, APPLY, json!({"manifests": [manifest]})).await;
    }
    let rest = json!({"manifests": [
        server("canary", hidden.clone(), json!([{"match": "canary/canary"}])),
        {"token": {"name": "tokens/canary", "meta": hidden, "scope": {"servers": ["servers/canary"]}}},
        {"token": {"name": "tokens/ann", "meta": {"owner": "users/ann"}, "scope": {"servers": ["servers/gone"], "tools": ["nothing"]}}},
    ]});
    desk.ok(&administrator, APPLY, rest).await;
    let more = json!({"applySet": "canary-set", "manifests": [server("canary-2", hidden, json!([]))]});
    desk.ok(&administrator, APPLY, more).await;
    (desk, somebody("ann", &[("team-owner", "teams/a")], &["teams/a"]))
}

/// Calls over both transports, and looks for the canary in every byte of the answers. Returns the reason.
async fn looked_at(desk: &Desk, who: &Arc<Rights>, rpc: &str, body: Value) -> (String, Value) {
    let mut last = None;
    for transport in [Transport::Json, Transport::Grpc] {
        if transport == Transport::Json && rpc.ends_with("/ExportResources") {
            continue;
        }
        let answer = desk.call(who, transport, rpc, &body).await;
        let text = answer.body.to_string();
        let asked = body.to_string();
        let mut unasked = text.clone();
        for word in asked.split(|c: char| !c.is_ascii_alphanumeric() && c != '-' && c != '/') {
            if word.contains(CANARY) {
                unasked = unasked.replace(word, "asked");
            }
        }
        assert!(!unasked.contains(CANARY), "{rpc} {body} over {transport:?}: {text}");
        last = Some((answer.reason, answer.body));
    }
    last.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn no_answer_names_what_does_not_exist_for_the_caller() {
    let (desk, ann) = start().await;
    let server = |id: &str, members: Value| json!({"serverId": id, "server": {"tools": members}});
    let cases = [
        // Lists, filters and sets.
        (LIST_SERVERS, json!({}), "OK"),
        (LIST_SERVERS, json!({"filter": "labels.of:*", "orderBy": "revision desc"}), "OK"),
        ("registry.v1.UpstreamService/ListUpstreams", json!({}), "OK"),
        ("registry.v1.ToolService/ListTools", json!({"parent": "upstreams/-"}), "OK"),
        ("identity.v1.TokenService/ListTokens", json!({}), "OK"),
        ("admin.v1.BulkService/ListApplySets", json!({}), "OK"),
        ("admin.v1.BulkService/ExportResources", json!({}), "OK"),
        ("telemetry.v1.UsageService/QueryUsage", json!({}), "OK"),
        ("telemetry.v1.UsageService/ListLastUses", json!({}), "OK"),
        // States and entries of what is seen, which follow from what is not.
        (GET_SERVER, json!({"name": "servers/open"}), "OK"),
        ("registry.v1.ServerService/ListServerEntries", json!({"name": "servers/open"}), "OK"),
        ("identity.v1.TokenService/GetToken", json!({"name": "tokens/ann"}), "OK"),
        // Advice: what may have been meant.
        (CREATE_SERVER, server("s", json!([{"match": "canari/x"}])), "REFERENCE_NOT_FOUND"),
        (
            "identity.v1.TokenService/CreateToken",
            json!({"tokenId": "t", "token": {"scope": {"servers": ["servers/canari"]}}}),
            "REFERENCE_NOT_FOUND",
        ),
        (
            CREATE_SERVER,
            json!({"serverId": "s", "server": {"meta": {"team": "teams/canari"}}}),
            "PERMISSION_DENIED",
        ),
        // Referrers.
        (
            "registry.v1.UpstreamService/DeleteUpstream",
            json!({"name": "upstreams/mine", "validateOnly": true}),
            "OK",
        ),
        (DELETE, json!({"names": ["upstreams/mine"], "validateOnly": true}), "OK"),
    ];
    for (rpc, body, reason) in cases {
        let (found, answer) = looked_at(&desk, &ann, rpc, body.clone()).await;
        assert_eq!(found, reason, "{rpc} {body}: {answer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_seen_shows_what_it_exposes_and_not_whose_that_is() {
    let (desk, ann) = start().await;
    let (_, found) = looked_at(&desk, &ann, GET_SERVER, json!({"name": "servers/open"})).await;
    let conflicts =
        json!(["x: upstreams/mine/tools/x is exposed, upstreams/ours/tools/x is not", "and 1 more"]);
    assert_eq!(found["server"]["status"]["conflicts"], conflicts);
    let rpc = "registry.v1.ServerService/ListServerEntries";
    let (_, listed) = looked_at(&desk, &ann, rpc, json!({"name": "servers/open"})).await;
    let entries = json!([{"kind": "tool", "exposedName": "x", "target": "upstreams/mine/tools/x"}, {"kind": "tool", "exposedName": "shown"}]);
    assert_eq!(listed["entries"], entries);
    // Of an upstream that it names, who may not see it hears how it is, and not which one it is.
    let administrator = Rights::administrator();
    let members = json!([{"match": "ours/x"}]);
    let named = json!({"manifests": [server("named", json!({"visibility": "VISIBILITY_PUBLIC"}), members)]});
    desk.ok(&administrator, APPLY, named).await;
    let disable = json!({"upstream": {"name": "upstreams/ours", "disabled": true, "meta": {"visibility": "VISIBILITY_TEAM"}},
        "updateMask": "disabled,meta.visibility"});
    desk.ok(&administrator, "registry.v1.UpstreamService/UpdateUpstream", disable).await;
    let reason = async |who: &Arc<Rights>| {
        let found = desk.ok(who, GET_SERVER, json!({"name": "servers/named"})).await;
        found["server"]["status"]["reason"].as_str().unwrap_or_default().to_owned()
    };
    let stranger = somebody("eve", &[("viewer", "")], &[]);
    assert_eq!(reason(&ann).await, "upstreams/ours is disabled; `ours/x` selects nothing");
    let untold = "an upstream that you may not see is disabled; `ours/x` selects nothing";
    assert_eq!(reason(&stranger).await, untold);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_state_of_a_token_follows_from_servers_that_exist_for_who_looks() {
    let (desk, ann) = start().await;
    let administrator = Rights::administrator();
    let get = async |who: &Arc<Rights>| {
        let found = desk.ok(who, "identity.v1.TokenService/GetToken", json!({"name": "tokens/ann"})).await;
        let token = &found["token"];
        [&token["state"], &token["reason"]].map(|text| text.as_str().unwrap_or_default().to_owned())
    };
    assert_eq!(get(&ann).await, ["TOKEN_STATE_VALID", ""]);
    let hide = json!({"server": {"name": "servers/gone", "meta": {"visibility": "VISIBILITY_PRIVATE"}}, "updateMask": "meta.visibility"});
    desk.ok(&administrator, "registry.v1.ServerService/UpdateServer", hide).await;
    assert_eq!(get(&administrator).await, ["TOKEN_STATE_VALID", ""]);
    assert_eq!(get(&ann).await, ["TOKEN_STATE_UNUSABLE", "servers/gone does not exist"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_hidden_is_told_of_as_what_is_not_there() {
    let (desk, ann) = start().await;
    let in_server =
        |name: &str| json!({"serverId": "s", "server": {"tools": [{"match": format!("{name}/x")}]}});
    let definition = json!({"name": "new", "inputSchema": {"type": "object"}}).to_string();
    type Body<'a> = &'a dyn Fn(&str) -> Value;
    let cases: [(&str, Body<'_>); 16] = [
        (GET_SERVER, &|id| json!({"name": format!("servers/{id}")})),
        ("registry.v1.ServerService/ListServerEntries", &|id| json!({"name": format!("servers/{id}")})),
        (
            "registry.v1.ServerService/UpdateServer",
            &|id| json!({"server": {"name": format!("servers/{id}"), "title": "t"}, "updateMask": "title"}),
        ),
        (
            "registry.v1.ServerService/UpdateServer",
            &|id| json!({"server": {"name": format!("servers/{id}"), "meta": {"etag": "x"}}}),
        ),
        (
            "registry.v1.ServerService/DeleteServer",
            &|id| json!({"name": format!("servers/{id}"), "etag": "x"}),
        ),
        ("registry.v1.UpstreamService/GetUpstream", &|id| json!({"name": format!("upstreams/{id}")})),
        ("registry.v1.UpstreamService/RefreshUpstream", &|id| json!({"name": format!("upstreams/{id}")})),
        ("registry.v1.UpstreamService/ProbeUpstream", &|id| json!({"name": format!("upstreams/{id}")})),
        (
            "registry.v1.UpstreamService/CreateTunnelCredential",
            &|id| json!({"name": format!("upstreams/{id}")}),
        ),
        ("registry.v1.ToolService/GetTool", &|id| json!({"name": format!("upstreams/{id}/tools/x")})),
        (
            "registry.v1.ToolService/CreateTool",
            &|id| json!({"parent": format!("upstreams/{id}"), "toolId": "new", "tool": {"definitionJson": definition}}),
        ),
        (
            "registry.v1.ToolService/CreateTool",
            &|id| json!({"parent": format!("upstreams/{id}"), "toolId": "x", "tool": {"definitionJson": definition.replace("new", "x")}}),
        ),
        ("identity.v1.TokenService/GetToken", &|id| json!({"name": format!("tokens/{id}")})),
        ("identity.v1.TokenService/RevokeToken", &|id| json!({"name": format!("tokens/{id}")})),
        (DELETE, &|id| json!({"names": [format!("servers/{id}"), format!("upstreams/{id}/tools/x")]})),
        (CREATE_SERVER, &|id| in_server(id)),
    ];
    for (rpc, body) in cases {
        for transport in [Transport::Json, Transport::Grpc] {
            let hidden = desk.call(&ann, transport, rpc, &body(CANARY)).await;
            let absent = desk.call(&ann, transport, rpc, &body("zzzzzz")).await;
            assert_ne!(hidden.reason, "OK", "{rpc}");
            let plain =
                |answer: desk::Answer, id: &str| (answer.reason, answer.body.to_string().replace(id, "ID"));
            assert_eq!(plain(hidden, CANARY), plain(absent, "zzzzzz"), "{rpc}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_is_taken_is_taken_for_everybody_in_the_same_words() {
    let (desk, ann) = start().await;
    let create = |id: &str| json!({"serverId": id, "server": {}});
    desk.ok(&ann, CREATE_SERVER, create("seenid")).await;
    let seen = desk.fails(&ann, CREATE_SERVER, create("seenid"), "RESOURCE_EXISTS").await;
    let hidden = desk.fails(&ann, CREATE_SERVER, create(CANARY), "RESOURCE_EXISTS").await;
    assert_eq!(renamed(&seen, "seenid", CANARY), hidden);
    let apply =
        json!({"manifests": [server(CANARY, json!({}), json!([]))], "applySet": "mine", "takeOver": true});
    desk.fails(&ann, APPLY, apply, "RESOURCE_EXISTS").await;
    let update = json!({"server": {"name": "servers/canary"}, "allowMissing": true});
    desk.fails(&ann, "registry.v1.ServerService/UpdateServer", update, "RESOURCE_EXISTS").await;
    let administrator = Rights::administrator();
    let kept = desk.ok(&administrator, GET_SERVER, json!({"name": "servers/canary"})).await;
    assert_eq!(kept["server"]["meta"]["owner"], "users/bob");
}

#[tokio::test(flavor = "multi_thread")]
async fn those_who_refer_are_counted_where_they_may_not_be_named() {
    let (desk, ann) = start().await;
    let administrator = Rights::administrator();
    let open = json!({"upstream": {"name": "upstreams/mine", "meta": {"visibility": "VISIBILITY_PUBLIC"}}, "updateMask": "meta.visibility"});
    desk.ok(&administrator, "registry.v1.UpstreamService/UpdateUpstream", open).await;
    let meta = json!({"owner": "users/bob"});
    let theirs =
        [1, 2].map(|number| server(&format!("canary-u{number}"), meta.clone(), json!([{"match": "mine/x"}])));
    desk.ok(&administrator, APPLY, json!({"manifests": theirs})).await;
    let delete = json!({"name": "upstreams/mine"});
    let rpc = "registry.v1.UpstreamService/DeleteUpstream";
    let error = desk.fails(&ann, rpc, delete.clone(), "RESOURCE_REFERENCED").await;
    let text = "upstreams/mine is used by 2 resources that you may not see; set `force` to delete it anyway";
    assert_eq!(error["message"], text);
    desk.ok(&ann, CREATE_SERVER, json!({"serverId": "own", "server": {"tools": [{"match": "mine/x"}]}}))
        .await;
    let error = desk.fails(&ann, rpc, delete, "RESOURCE_REFERENCED").await;
    assert_eq!(error["message"], text.replace("2 resources that you may not see", "servers/own and 2 more"));
    assert!(!error.to_string().contains(CANARY), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prune_reaches_what_exists_for_the_caller() {
    let (desk, ann) = start().await;
    let administrator = Rights::administrator();
    let set = |manifests: Value, prune: bool| json!({"applySet": "joint", "manifests": manifests, "prune": prune, "force": true});
    let hidden = json!({"owner": "users/bob"});
    desk.ok(&administrator, APPLY, set(json!([server("canary-joint", hidden, json!([]))]), false)).await;
    let two = json!([server("one", json!({}), json!([])), server("two", json!({}), json!([]))]);
    desk.ok(&ann, APPLY, set(two, false)).await;
    let (reason, answer) =
        looked_at(&desk, &ann, APPLY, set(json!([server("one", json!({}), json!([]))]), true)).await;
    assert_eq!(reason, "OK", "{answer}");
    let name = json!({"name": "servers/canary-joint"});
    desk.ok(&administrator, GET_SERVER, name).await;
    desk.fails(&administrator, GET_SERVER, json!({"name": "servers/two"}), "RESOURCE_NOT_FOUND").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_are_full_and_belong_to_who_asked() {
    let desk = Desk::open().await;
    desk.users(&["ann", "bob"]).await;
    let owner = |number: usize| if number.is_multiple_of(3) { "users/ann" } else { "users/bob" };
    let servers =
        (0..60).map(|number| server(&format!("s{number:02}"), json!({"owner": owner(number)}), json!([])));
    let manifests: Vec<_> = servers.collect();
    desk.ok(&Rights::administrator(), APPLY, json!({"manifests": manifests})).await;
    let [ann, bob] = ["ann", "bob"].map(|id| somebody(id, &[("developer", "")], &[]));
    for filter in ["", "NOT disabled"] {
        for (order, descending) in [("", false), ("revision desc", true)] {
            let (mut token, mut sizes, mut all) = (json!(""), Vec::new(), Vec::new());
            loop {
                let body = json!({"pageSize": 8, "pageToken": token, "orderBy": order, "filter": filter});
                let page = desk.ok(&ann, LIST_SERVERS, body.clone()).await;
                let names = page["servers"].as_array().cloned().unwrap_or_default();
                sizes.push(names.len());
                all.extend(names.iter().map(|server| server["name"].as_str().unwrap().to_owned()));
                token = page["nextPageToken"].clone();
                if token.as_str().unwrap_or_default().is_empty() {
                    break;
                }
                let mut of_another = body;
                of_another["pageToken"] = token.clone();
                desk.fails(&bob, LIST_SERVERS, of_another.clone(), "INVALID_FIELD").await;
                desk.fails(&Rights::administrator(), LIST_SERVERS, of_another, "INVALID_FIELD").await;
            }
            assert_eq!(sizes, [8, 8, 4], "{filter:?} {order}: a page is cut after what is seen");
            if !descending {
                let expected: Vec<_> =
                    (0..60).step_by(3).map(|number| format!("servers/s{number:02}")).collect();
                assert_eq!(all, expected);
            }
        }
    }
}

/// Counts calls: of a server, by a token, of a target.
async fn called(desk: &Desk, (server, token, target, calls): (&str, &str, &str, i32)) {
    desk.run(&format!(
        "insert into usage_sums (minute_us, server, token, method, target, outcome, calls, duration_us, request_bytes, response_bytes) \
         values (60000000, '{server}', '{token}', 'tools/call', '{target}', 1, {calls}, 0, 0, 0)"
    ))
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn usage_is_told_of_servers_and_tokens_that_exist_for_the_caller() {
    let (desk, ann) = start().await;
    let rows = [
        ("servers/open", "tokens/ann", "upstreams/mine/tools/x", 1),
        ("servers/open", "tokens/ann", "upstreams/canary/tools/x", 2),
        ("servers/open", "tokens/ann", "upstreams/canary/tools/canary", 4),
        ("servers/open", "tokens/canary", "upstreams/mine/tools/x", 8),
        ("servers/open", "users/ann", "upstreams/mine/tools/x", 16),
        ("servers/open", "users/bob", "upstreams/mine/tools/x", 32),
        ("servers/canary", "tokens/ann", "upstreams/mine/tools/x", 64),
        ("servers/ended", "tokens/ann", "", 128),
    ];
    for row in rows {
        called(&desk, row).await;
    }
    let rpc = "telemetry.v1.UsageService/QueryUsage";
    let told = async |who: &Arc<Rights>, body: Value| -> Vec<(String, String, u32)> {
        let (_, answer) = looked_at(&desk, who, rpc, body).await;
        let records = answer["records"].as_array().cloned().unwrap_or_default();
        let text = |record: &Value, field: &str| record[field].as_str().unwrap_or_default().to_owned();
        let read = |record: &Value| {
            (text(record, "token"), text(record, "target"), text(record, "calls").parse().unwrap())
        };
        records.iter().map(read).collect()
    };
    let mine = "upstreams/mine/tools/x".to_owned();
    let expected = vec![
        ("users/ann".to_owned(), mine.clone(), 16),
        ("tokens/ann".to_owned(), String::new(), 6),
        ("tokens/ann".to_owned(), mine, 1),
    ];
    assert_eq!(told(&ann, json!({})).await, expected);
    for hidden in [json!({"server": "servers/canary"}), json!({"token": "tokens/canary"})] {
        assert!(told(&ann, hidden).await.is_empty());
    }
    let all = desk.ok(&Rights::administrator(), rpc, json!({})).await;
    assert_eq!(all["records"].as_array().unwrap().len(), rows.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_owner_of_a_server_sees_that_others_call_it_and_not_who() {
    let (desk, ann) = start().await;
    let owned =
        json!({"manifests": [server("anns", json!({"owner": "users/ann"}), json!([{"match": "mine/x"}]))]});
    desk.ok(&Rights::administrator(), APPLY, owned).await;
    let rows = [
        ("servers/anns", "tokens/ann", "upstreams/mine/tools/x", 1),
        ("servers/anns", "tokens/canary", "upstreams/mine/tools/x", 2),
        ("servers/anns", "users/bob", "upstreams/mine/tools/x", 4),
        ("servers/open", "tokens/canary", "upstreams/mine/tools/x", 8),
    ];
    for (server, token, target, calls) in rows {
        called(&desk, (server, token, target, calls)).await;
        for target in ["", target] {
            desk.run(&format!(
                "insert into last_uses (token, server, target, time_us, address) values ('{token}', '{server}', '{target}', {calls}000000, '')"
            ))
            .await;
        }
    }
    let (query, last) = ("telemetry.v1.UsageService/QueryUsage", "telemetry.v1.UsageService/ListLastUses");
    let (_, answer) = looked_at(&desk, &ann, query, json!({})).await;
    let records = answer["records"].as_array().unwrap();
    let told: Vec<_> =
        records.iter().map(|record| (record["token"].clone(), record["calls"].clone())).collect();
    assert_eq!(told, [(json!("somebody-else"), json!("6")), (json!("tokens/ann"), json!("1"))]);
    // Who asks for one by name learns nothing of whether there is one.
    for hidden in ["tokens/canary", "users/bob"] {
        for rpc in [query, last] {
            let (_, answer) = looked_at(&desk, &ann, rpc, json!({"token": hidden})).await;
            assert!(answer["records"].is_null() && answer["lastUses"].is_null(), "{answer}");
        }
    }
    let (_, answer) = looked_at(&desk, &ann, last, json!({})).await;
    let uses = answer["lastUses"].as_array().unwrap();
    let told: Vec<_> =
        uses.iter().map(|used| (used["server"].clone(), used["lastUseTime"].clone())).collect();
    let fourth = (json!("servers/anns"), json!("1970-01-01T00:00:04Z"));
    assert_eq!(told, [fourth.clone(), fourth], "of the server, and of its tool");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_edges_refuse_is_told_as_far_as_it_exists_for_who_looks() {
    use prost::Message as _;
    use trunkline::discovery::v1::{EdgeRefusal, EdgeStatus, Refusal};

    let (desk, _) = start().await;
    let refusal = |name: &str| EdgeRefusal {
        refusal: Some(Refusal { name: name.to_owned(), reason: "of upstreams/canary".to_owned() }),
        revision: 1,
        ..Default::default()
    };
    let names = [
        "servers/canary",
        "upstreams/canary/tools/x",
        "upstreams/mine/tools/x",
        "servers/open",
        "users/canary",
    ];
    let refusals = EdgeStatus { refusals: names.map(refusal).into(), ..Default::default() }.encode_to_vec();
    let hex: String = refusals.iter().map(|byte| format!("{byte:02x}")).collect();
    desk.run(&format!(
        "insert into edges (id, enroll_us, replica, connection, beat_us, state_us, version, client_address, sent_revision, \
         answered_revision, acked_revision, behind_us, refusals) \
         values ('e1', 1, '', 0, 0, 0, '', '', 0, 1, 1, 0, x'{hex}')"
    ))
    .await;
    let watcher = holder("ann", &[Permission::FleetRead, Permission::RegistryRead], &[]);
    for (rpc, body) in [
        ("discovery.v1.FleetService/ListEdges", json!({})),
        ("discovery.v1.FleetService/GetEdge", json!({"name": "edges/e1"})),
        ("discovery.v1.FleetService/WatchRollout", json!({"revision": 1})),
    ] {
        let answer = desk.call(&watcher, Transport::Grpc, rpc, &body).await;
        let text = answer.body.to_string();
        assert_eq!(answer.reason, "OK", "{rpc}: {text}");
        assert!(!text.contains(CANARY) && text.contains("upstreams/mine/tools/x"), "{rpc}: {text}");
        let all = desk.call(&Rights::administrator(), Transport::Grpc, rpc, &body).await.ok().to_string();
        assert!(all.contains("servers/canary") && all.contains("of upstreams/canary"), "{rpc}: {all}");
    }
    // Who may not see edges is told how many there are, and what of theirs is refused.
    let rpc = "discovery.v1.FleetService/WatchRollout";
    let builder = holder("ann", &[Permission::RegistryRead], &[]);
    let told = desk.call(&builder, Transport::Grpc, rpc, &json!({"revision": 1})).await.ok().to_string();
    assert!(told.contains(r#""counts":{"disconnected":"1"}"#) && !told.contains("edges/e1"), "{told}");
    let stranger = holder("ann", &[Permission::UsageRead], &[]);
    let answer = desk.call(&stranger, Transport::Grpc, rpc, &json!({"revision": 1})).await;
    assert_eq!(answer.reason, "PERMISSION_DENIED");
}
