//! Who may do what to whose: every rpc about a resource, over gRPC and JSON, by callers with every role, on resources of every owner, team
//! and visibility, held to a reference that is written down here.
#![allow(clippy::unwrap_used, reason = "a failed expectation is a failed test")]

#[path = "support/desk.rs"]
mod desk;

use std::collections::BTreeSet;
use std::sync::Arc;

use desk::{Desk, Transport, somebody};
use serde_json::{Value, json};
use trunkline_control_plane::rights::Rights;

/// Whose a resource is.
#[derive(Clone, Debug)]
struct Thing {
    number: usize,
    owner: &'static str,
    team: &'static str,
    visibility: &'static str,
}

/// Who calls: a name, roles in teams or everywhere (``), and the teams that they are in.
struct Who {
    name: &'static str,
    held: &'static [(&'static str, &'static str)],
    teams: &'static [&'static str],
}

const A: &str = "teams/a";
const B: &str = "teams/b";

const CALLERS: [Who; 9] = [
    Who { name: "root", held: &[("administrator", "")], teams: &[] },
    Who { name: "aud", held: &[("auditor", "")], teams: &[B] },
    Who { name: "ann", held: &[("developer", A)], teams: &[A] },
    Who { name: "ann", held: &[("team-owner", A), ("viewer", B)], teams: &[A, B] },
    Who { name: "ann", held: &[("viewer", "")], teams: &[] },
    Who { name: "bob", held: &[("developer", "")], teams: &[B] },
    Who { name: "bob", held: &[("viewer", A), ("developer", B)], teams: &[A, B] },
    Who { name: "cyn", held: &[("viewer", A)], teams: &[A] },
    Who { name: "cyn", held: &[("developer", "")], teams: &[] },
];

/// What a role holds, of what is asked for here.
fn holds(role: &str, permission: &str) -> bool {
    match role {
        "administrator" => true,
        "team-owner" | "developer" => permission != "registry.all",
        "auditor" => ["registry.read", "registry.all", "tokens.read"].contains(&permission),
        _ => ["registry.read", "tokens.read"].contains(&permission),
    }
}

// The reference.
impl Who {
    fn has(&self, permission: &str, place: &str) -> bool {
        let everywhere = self.held.iter().any(|(role, team)| team.is_empty() && holds(role, permission));
        let there = self
            .held
            .iter()
            .any(|(role, team)| !place.is_empty() && *team == place && holds(role, permission));
        there || (everywhere && (place.is_empty() || self.teams.contains(&place)))
    }
    fn has_anywhere(&self, permission: &str) -> bool {
        self.held.iter().any(|(role, _)| holds(role, permission))
    }
    fn owns(&self, thing: &Thing) -> bool {
        thing.owner == format!("users/{}", self.name)
    }
    fn sees(&self, thing: &Thing) -> bool {
        self.has("registry.all", "")
            || self.owns(thing)
            || thing.visibility == "public"
            || (thing.visibility == "team" && self.teams.contains(&thing.team))
    }
    fn may(&self, permission: &str, thing: &Thing) -> bool {
        (self.has(permission, "") && self.has("registry.all", ""))
            || (self.owns(thing) && self.has_anywhere(permission))
            || (!thing.team.is_empty() && thing.visibility != "private" && self.has(permission, thing.team))
    }
    /// What comes of an rpc that takes `permission`, and changes a thing or only reads it.
    fn expects(&self, permission: &str, changes: bool, thing: &Thing) -> Outcome {
        match () {
            () if !self.has_anywhere(permission) => Outcome::Denied,
            () if !self.sees(thing) => Outcome::Missing,
            () if changes && !self.may(permission, thing) => Outcome::Denied,
            () => Outcome::Done,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Denied,
    Missing,
    Done,
}

fn outcome(reason: &str) -> Outcome {
    match reason {
        "PERMISSION_DENIED" => Outcome::Denied,
        // What is taken by something that one may not see is told as it is of something that one may.
        "RESOURCE_NOT_FOUND" | "REFERENCE_NOT_FOUND" | "RESOURCE_EXISTS" => Outcome::Missing,
        "OK" | "UPSTREAM_DISABLED" | "UPSTREAM_NOT_TUNNELLED" => Outcome::Done,
        other => panic!("{other}"),
    }
}

fn things() -> Vec<Thing> {
    let mut things = Vec::new();
    for owner in ["", "users/ann", "users/bob"] {
        for team in ["", A, B] {
            for visibility in ["private", "team", "public"] {
                if visibility != "team" || !team.is_empty() {
                    things.push(Thing { number: things.len(), owner, team, visibility });
                }
            }
        }
    }
    things
}

impl Thing {
    fn name(&self, kind: &str) -> String {
        match kind {
            "tools" => format!("upstreams/u{0}/tools/t{0}", self.number),
            kind => format!("{kind}/{}{}", &kind[..1], self.number),
        }
    }

    fn manifests(&self) -> Vec<Value> {
        let visibility = format!("VISIBILITY_{}", self.visibility.to_uppercase());
        let meta = json!({"owner": self.owner, "team": self.team, "visibility": visibility});
        let definition = json!({"name": format!("t{}", self.number), "inputSchema": {"type": "object"}});
        vec![
            json!({"upstream": {"name": self.name("upstreams"), "meta": meta, "disabled": true, "http": {"url": "http://127.0.0.1:1/mcp"}}}),
            json!({"tool": {"name": self.name("tools"), "definitionJson": definition.to_string()}}),
            json!({"server": {"name": self.name("servers"), "meta": meta}}),
            json!({"token": {"name": self.name("tokens"), "meta": meta, "scope": {}}}),
        ]
    }
}

const APPLY: &str = "admin.v1.BulkService/ApplyResources";

/// A registry with everything there can be.
async fn world() -> (Desk, Vec<Thing>) {
    let desk = Desk::open().await;
    desk.users(&["ann", "bob"]).await;
    let (administrator, things) = (Rights::administrator(), things());
    let teams = [A, B].map(|name| json!({"team": {"name": name}}));
    let manifests: Vec<_> = teams.into_iter().chain(things.iter().flat_map(Thing::manifests)).collect();
    desk.ok(&administrator, APPLY, json!({"manifests": manifests})).await;
    (desk, things)
}

/// Every rpc about one thing: the body, the permission, and whether it changes it.
fn rpcs(thing: &Thing) -> Vec<(&'static str, Value, &'static str, bool)> {
    let mut rpcs = Vec::new();
    let kinds = [
        (
            "registry.v1.UpstreamService",
            "Upstream",
            "upstream",
            "upstreams",
            "registry.read",
            "upstreams.write",
            "title",
        ),
        ("registry.v1.ToolService", "Tool", "tool", "tools", "registry.read", "upstreams.write", "disabled"),
        (
            "registry.v1.ServerService",
            "Server",
            "server",
            "servers",
            "registry.read",
            "servers.write",
            "title",
        ),
        (
            "identity.v1.TokenService",
            "Token",
            "token",
            "tokens",
            "tokens.read",
            "tokens.issue",
            "description",
        ),
    ];
    for (service, kind, field, collection, read, write, text) in kinds {
        let name = json!({"name": thing.name(collection)});
        let value = if text == "disabled" { json!(true) } else { json!("new") };
        let changed = json!({"name": thing.name(collection), text: value.clone()});
        let rpc = |method: &str| -> &'static str { format!("{service}/{method}{kind}").leak() };
        let validate = |mut body: Value| {
            body["validateOnly"] = json!(true);
            body
        };
        rpcs.push((rpc("Get"), name.clone(), read, false));
        rpcs.push((rpc("Update"), validate(json!({field: changed, "updateMask": text})), write, true));
        rpcs.push((
            rpc("Delete"),
            validate(json!({"name": thing.name(collection), "force": true})),
            write,
            true,
        ));
        // Silence about whose it is leaves that as it is.
        let mut manifest =
            thing.manifests().into_iter().find(|manifest| manifest.get(field).is_some()).unwrap();
        manifest[field].as_object_mut().unwrap().remove("meta");
        manifest[field][text] = value;
        rpcs.push((APPLY, validate(json!({"manifests": [manifest]})), write, true));
        let names = json!({"names": [thing.name(collection)], "force": true});
        rpcs.push(("admin.v1.BulkService/DeleteResources", validate(names), write, true));
    }
    let upstream = json!({"name": thing.name("upstreams")});
    let tool = json!({"parent": thing.name("upstreams"), "toolId": "new", "validateOnly": true,
        "tool": {"definitionJson": "{\"name\":\"new\",\"inputSchema\":{\"type\":\"object\"}}"}});
    rpcs.extend([
        ("registry.v1.UpstreamService/RefreshUpstream", upstream.clone(), "upstreams.write", true),
        ("registry.v1.UpstreamService/ProbeUpstream", upstream.clone(), "upstreams.write", true),
        ("registry.v1.UpstreamService/CreateTunnelCredential", upstream, "upstreams.write", true),
        ("registry.v1.ToolService/CreateTool", tool, "upstreams.write", true),
        (
            "registry.v1.ServerService/ListServerEntries",
            json!({"name": thing.name("servers")}),
            "registry.read",
            false,
        ),
        ("identity.v1.TokenService/RevokeToken", json!({"name": thing.name("tokens")}), "tokens.issue", true),
    ]);
    rpcs
}

fn rights(who: &Who) -> Arc<Rights> {
    somebody(who.name, who.held, who.teams)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_rpc_does_what_the_reference_says() {
    let (desk, things) = world().await;
    let mut cells = 0;
    for who in &CALLERS {
        let caller = rights(who);
        for thing in &things {
            for (rpc, body, permission, changes) in rpcs(thing) {
                // It is one call for sets of any kind, and kinds are looked at within.
                let expected = who.expects(permission, changes, thing);
                for transport in [Transport::Json, Transport::Grpc] {
                    let answer = desk.call(&caller, transport, rpc, &body).await;
                    let (name, held) = (who.name, who.held);
                    assert_eq!(
                        outcome(&answer.reason),
                        expected,
                        "{rpc} over {transport:?} by {name} {held:?} of {thing:?}: {} {}",
                        answer.reason,
                        answer.body
                    );
                    cells += 1;
                }
            }
        }
    }
    assert!(cells > 5_000, "{cells}");
    println!("{cells} cells");
}

/// The names in a list, or in an export.
fn names(items: &Value) -> BTreeSet<String> {
    let items = items.as_array().cloned().unwrap_or_default();
    items.iter().map(|item| item["name"].as_str().unwrap_or_default().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_exports_and_sets_hold_what_exists_for_the_caller() {
    let (desk, things) = world().await;
    for who in &CALLERS {
        let caller = rights(who);
        let seen = |kind: &str| -> BTreeSet<String> {
            things.iter().filter(|thing| who.sees(thing)).map(|thing| thing.name(kind)).collect()
        };
        for (rpc, field, parent) in [
            ("registry.v1.UpstreamService/ListUpstreams", "upstreams", None),
            ("registry.v1.ToolService/ListTools", "tools", Some("upstreams/-")),
            ("registry.v1.ServerService/ListServers", "servers", None),
            ("identity.v1.TokenService/ListTokens", "tokens", None),
        ] {
            for order in ["", "revision desc", "create_time"] {
                let mut body = json!({"pageSize": 1000, "orderBy": order});
                if let Some(parent) = parent {
                    body["parent"] = json!(parent);
                }
                let listed = desk.ok(&caller, rpc, body).await;
                assert_eq!(names(&listed[field]), seen(field), "{rpc} by {} {:?}", who.name, who.held);
            }
        }
        let kinds = json!({"kinds": ["Upstream", "Tool", "Server", "Token"]});
        let exported = desk.ok(&caller, "admin.v1.BulkService/ExportResources", kinds).await;
        let exported =
            exported.as_array().unwrap().iter().filter_map(|message| message["manifest"].as_object());
        let exported: BTreeSet<String> = exported
            .flat_map(|manifest| manifest.values().map(|item| item["name"].as_str().unwrap().to_owned()))
            .collect();
        let all: BTreeSet<_> =
            ["upstreams", "tools", "servers", "tokens"].iter().flat_map(|kind| seen(kind)).collect();
        assert_eq!(exported, all, "{} {:?}", who.name, who.held);
        // The teams that were applied with them count as well.
        let teams = if who.has("registry.all", "") { 2 } else { who.teams.len() };
        let sets = desk.ok(&caller, "admin.v1.BulkService/ListApplySets", json!({})).await;
        let count = sets["applySets"][0]["count"].as_str().unwrap_or("0").to_owned();
        assert_eq!(count, (all.len() + teams).to_string(), "{} {:?}", who.name, who.held);
    }
}

/// The permissions of the standard rpcs are those of the kinds, so that a manifest takes what the rpc would.
#[test]
fn kinds_take_the_permissions_that_their_rpcs_declare() {
    use trunkline_control_plane::api::permissions::{Needs, Permissions};
    use trunkline_control_plane::domain::{Kind, reflect};

    let permissions = Permissions::read(reflect::pool()).unwrap();
    for kind in Kind::ALL {
        let package =
            if ["Token", "Team", "Role"].contains(&kind.as_str()) { "identity" } else { "registry" };
        let needs =
            |method: &str| permissions.needs(&format!("/trunkline.{package}.v1.{kind}Service/{method}"));
        for read in [format!("Get{kind}"), format!("List{kind}s")] {
            assert_eq!(needs(&read), Needs::Permission(kind.read()), "{read}");
        }
        for write in ["Create", "Update", "Delete"].map(|verb| format!("{verb}{kind}")) {
            assert_eq!(needs(&write), Needs::Permission(kind.write()), "{write}");
        }
    }
}

/// Handlers reach resources through their call, which looks at whose they are, and not past it.
#[test]
fn only_the_guarded_path_reads_resources_from_the_store() {
    const GUARDED: [&str; 3] = ["bulk.rs", "guard.rs", "list.rs"];
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/api");
    let mut readers = BTreeSet::new();
    for file in std::fs::read_dir(folder).unwrap() {
        let path = file.unwrap().path();
        let Ok(text) = std::fs::read_to_string(&path) else { continue };
        let text: String = text.split_whitespace().collect();
        let reads = ["get(", "page(", "all("].map(|read| format!(".store().{read}"));
        if reads.iter().any(|read| text.contains(read)) {
            readers.insert(path.file_name().unwrap().to_str().unwrap().to_owned());
        }
    }
    assert_eq!(readers, GUARDED.map(str::to_owned).into(), "use `call.find`, `call.get` or `call.list`");
}
