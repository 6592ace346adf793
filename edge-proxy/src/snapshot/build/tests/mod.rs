//! Builds of whole snapshots, and of snapshots after changes.

mod rights;
mod views;

use std::time::Duration;

use mcp::revision::Era;
use proptest::prelude::*;
use trunkline::TypeTable as _;
use trunkline::edge::v1 as wire;

use super::*;
use crate::snapshot::{List, View};

const TOOL: &str = r#"{"z":1e400, "name":"now","annotations":{"readOnlyHint":true,"x":[ ]},"inputSchema":{"type":"object"}}"#;

const SET: &str = r#"{"name":"set","inputSchema":{"type":"object"}}"#;

fn upstream(id: &str) -> wire::Upstream {
    wire::Upstream {
        name: format!("upstreams/{id}"),
        uid: format!("u-{id}"),
        url: "http://127.0.0.1:9000/mcp?a=1".into(),
        kind: Some(wire::upstream::Kind::Mcp(wire::McpUpstream {
            modern_versions: vec!["2026-07-28".into(), "2031-01-01".into()],
            legacy_version: "2025-11-25".into(),
            ..Default::default()
        })),
        ..Default::default()
    }
}

fn mcp(upstream: &mut wire::Upstream) -> &mut wire::McpUpstream {
    let wire::upstream::Kind::Mcp(mcp) = upstream.kind.as_mut().unwrap();
    mcp
}

fn tool(upstream: &str, name: &str, definition: &str) -> wire::Tool {
    wire::Tool {
        name: format!("upstreams/{upstream}/tools/{name}"),
        tool_name: name.into(),
        definition_json: definition.into(),
    }
}

pub(crate) fn entry(exposed: &str, target: &str) -> wire::Entry {
    wire::Entry { exposed_name: exposed.into(), target: target.into(), ..Default::default() }
}

pub(crate) fn token(id: &str, tools: &[&str]) -> wire::Token {
    wire::Token {
        name: format!("tokens/{id}"),
        uid: format!("uid-{id}"),
        servers: vec!["servers/dev".into()],
        tools: tools.iter().map(|t| (*t).to_owned()).collect(),
        resources: vec!["*".into()],
        ..Default::default()
    }
}

pub(crate) fn server(id: &str, tools: Vec<wire::Entry>) -> wire::Server {
    wire::Server { name: format!("servers/{id}"), uid: format!("s-{id}"), tools, ..Default::default() }
}

fn trust() -> wire::TrustBundle {
    wire::TrustBundle {
        name: "default".into(),
        issuer: "i".into(),
        audience: "a".into(),
        verification_keys: Vec::new(),
        sealing_keys: vec![wire::SealingKey { key_id: 1, key: vec![7; 32] }],
        max_age: Some(prost_types::Duration { seconds: 60, nanos: 0 }),
    }
}

pub(crate) fn fixture() -> Resources {
    let mut renamed = entry("time_now", "upstreams/time/tools/now");
    renamed.overrides_json = r#"{"title":"T","annotations":{"readOnlyHint":false}}"#.into();
    Resources {
        trust_bundles: vec![trust()],
        upstreams: vec![upstream("time")],
        tools: vec![tool("time", "now", TOOL), tool("time", "set", SET)],
        tokens: vec![token("all", &["*"]), token("some", &["*_now"])],
        servers: vec![server("dev", vec![renamed, entry("time_set", "upstreams/time/tools/set")])],
        ..Default::default()
    }
}

pub(crate) fn builder(resources: &Resources) -> Builder {
    let mut builder = Builder::new(PageLimits::default(), Budget::default());
    for candidate in resources.candidates() {
        builder.accept(candidate).expect("it can be used");
    }
    builder
}

fn view<'a>(snapshot: &'a Snapshot, uid: &str, server: &str) -> Option<&'a Arc<View>> {
    snapshot.servers.views(server)?.view(&snapshot.tokens[uid].scope).ok()
}

fn tools(snapshot: &Snapshot, uid: &str, era: Era) -> String {
    let pages = view(snapshot, uid, "dev").expect("allowed").pages(List::Tools, era);
    assert_eq!(pages.pages.len(), 1);
    String::from_utf8(pages.pages[0].to_vec()).unwrap().strip_suffix("}}").unwrap().to_owned()
}

#[test]
fn definitions_keep_every_byte_but_the_name_and_the_overrides() {
    let (snapshot, refusals) = compile(&fixture());
    assert_eq!(refusals, []);
    let now = r#"{"z":1e400, "name":"time_now","annotations":{"readOnlyHint":false,"x":[ ]},"inputSchema":{"type":"object"},"title":"T"}"#;
    assert_eq!(
        tools(&snapshot, "uid-all", Era::Modern),
        format!("[{now},{}]", SET.replace("set", "time_set"))
    );
    assert_eq!(tools(&snapshot, "uid-some", Era::Legacy), format!("[{now}]"));
}

#[test]
fn what_clients_reject_is_completed_or_in_no_list_and_all_else_keeps_its_bytes() {
    let mut fixture = fixture();
    let mut listed = |definition: &str, era| {
        fixture.tools[1].definition_json = definition.into();
        let (snapshot, refusals) = compile(&fixture);
        assert_eq!(refusals, []);
        assert!(snapshot.servers.get("dev").unwrap().tools.find("time_set").is_some(), "it can be called");
        let all = tools(&snapshot, "uid-all", era);
        let now = tools(&snapshot, "uid-some", era);
        assert!(all.starts_with(now.strip_suffix(']').unwrap()), "{all}");
        let rest = all[now.len() - 1..].trim_start_matches(',');
        rest.strip_suffix(']').unwrap().to_owned()
    };
    for era in [Era::Legacy, Era::Modern] {
        let completed = listed(r#"{"name":"set","description":null,"inputSchema":null,"x":1e400}"#, era);
        let value = completed.replace("1e400", "1");
        let value: serde_json::Value = serde_json::from_str(&value).unwrap();
        assert_eq!(value["inputSchema"], serde_json::json!({"type": "object"}));
        assert!(value.get("description").is_none() && completed.contains(r#""x":1e400"#), "{completed}");
        for unreadable in [r#""{}""#, "7", r#"{"type":"array"}"#] {
            assert_eq!(listed(&format!(r#"{{"name":"set","inputSchema":{unreadable}}}"#), era), "");
        }
    }
    // Until 2025-11-25 structured content is an object.
    let array = r#"{"name":"set","inputSchema":{"type":"object"},"outputSchema":{"type":"array"}}"#;
    assert_eq!(listed(array, Era::Modern), array.replace("set", "time_set"));
    assert!(!listed(array, Era::Legacy).contains("outputSchema"));
}

#[test]
fn definitions_mention_resources_by_the_names_that_their_server_exposes_them_by() {
    let resource = |id: &str, uri: &str, template: &str| wire::Resource {
        name: format!("upstreams/time/resources/{id}"),
        uri: uri.into(),
        uri_template: template.into(),
        definition_json: match template {
            "" => format!(r#"{{"uri":"{uri}","name":"{id}"}}"#),
            _ => format!(r#"{{"uriTemplate":"{template}","name":"{id}"}}"#),
        },
    };
    let mut fixture = fixture();
    let meta = r#"{"ui":{"resourceUri":"ui://w/1"},"ui/resourceUri":"ui://p/7","openai/outputTemplate":"ui://no/1"}"#;
    fixture.tools[1].definition_json =
        SET.replace("\"inputSchema\"", &format!("\"_meta\":{meta},\"inputSchema\""));
    fixture.resources = vec![resource("w", "ui://w/1", ""), resource("p", "", "ui://p/{id}")];
    // The same tool in a server without prefixes, and in one that does not have the resources.
    for id in ["plain", "bare"] {
        fixture.servers.push(server(id, vec![entry("time_set", "upstreams/time/tools/set")]));
    }
    fixture.tokens[0].servers = vec!["*".into()];
    for (at, prefix) in [(0, "time+"), (1, "")] {
        let exposed = |name: &str, uri: &str| wire::Entry {
            uri_prefix: prefix.into(),
            ..entry(&mcp::uri::naming::expose(prefix, uri), &format!("upstreams/time/resources/{name}"))
        };
        fixture.servers[at].resources = vec![exposed("w", "ui://w/1")];
        fixture.servers[at].resource_templates = vec![exposed("p", "ui://p/{id}")];
    }
    let (snapshot, refusals) = compile(&fixture);
    assert_eq!(refusals, []);
    let definition = |id: &str| {
        let (_, entry) = snapshot.servers.get(id).unwrap().tools.find("time_set").unwrap();
        String::from_utf8(entry.definition.to_vec()).unwrap()
    };
    let own = fixture.tools[1].definition_json.replace("\"set\"", "\"time_set\"");
    assert_eq!((definition("plain"), definition("bare")), (own.clone(), own.clone()));
    let renamed = own.replace("ui://w/1", "ui://time/w/1").replace("ui://p/7", "ui://time/p/7");
    assert_eq!(definition("dev"), renamed);

    // A resource that goes takes its name along, step by step as at once.
    let mut builder = builder(&fixture);
    builder.compile(1);
    fixture.servers[0].resources.clear();
    let server = fixture.candidates().into_iter().find(|one| one.name == "servers/dev").unwrap();
    builder.accept(server).unwrap();
    let snapshot = builder.compile(2).snapshot;
    let (_, entry) = snapshot.servers.get("dev").unwrap().tools.find("time_set").unwrap();
    assert_eq!(entry.definition, own.replace("ui://p/7", "ui://time/p/7").as_bytes());
}

#[test]
fn entries_know_where_they_lead() {
    let (snapshot, _) = compile(&fixture());
    let server = snapshot.servers.get("dev").expect("a server");
    let (at, now) = server.tools.find("time_now").expect("an entry");
    assert_eq!((at, &*now.original, &*now.target), (0, "now", "upstreams/time/tools/now"));
    assert!(!now.tool.safe_to_repeat, "an override took the hint away");
    assert!(server.tools.find("now").is_none());
    assert_eq!(server.upstreams.len(), 1);
    assert_eq!(&*snapshot.upstreams["time"].id, "time");
    assert!(view(&snapshot, "uid-all", "other").is_none());
}

#[test]
fn tools_that_mirror_wrongly_are_not_offered_to_modern_clients() {
    let mut fixture = fixture();
    let bad = r#"{"name":"set","inputSchema":{"type":"object","properties":{"a":{"type":"string","x-mcp-header":"no token"}}}}"#;
    fixture.tools[1] = tool("time", "set", bad);
    // Legacy clients reach its legacy side, which knows nothing of mirroring.
    mcp(&mut fixture.upstreams[0]).legacy_sessionful = true;
    let (snapshot, refusals) = compile(&fixture);
    assert_eq!(refusals, []);
    assert!(!tools(&snapshot, "uid-all", Era::Modern).contains("time_set"));
    assert!(tools(&snapshot, "uid-all", Era::Legacy).contains("time_set"));
}

#[test]
fn upstreams_that_speak_one_era_are_offered_in_both() {
    let mut fixture = fixture();
    mcp(&mut fixture.upstreams[0]).modern_versions.clear();
    let (snapshot, _) = compile(&fixture);
    let legacy = tools(&snapshot, "uid-all", Era::Legacy);
    assert!(legacy.contains("time_now"), "{legacy}");
    assert_eq!(tools(&snapshot, "uid-all", Era::Modern), legacy);
}

#[test]
fn what_cannot_be_used_is_refused_by_name_with_a_reason() {
    let check = |edit: &dyn Fn(&mut Resources), name: &str, reason: &str| {
        let mut fixture = fixture();
        edit(&mut fixture);
        let (_, refusals) = compile(&fixture);
        let refusal = refusals.first().unwrap_or_else(|| panic!("{name} was accepted"));
        assert_eq!((&*refusal.name, refusals.len()), (name, 1), "{refusals:?}");
        assert!(refusal.reason.contains(reason), "{} has not {reason}", refusal.reason);
    };
    check(
        &|w| w.upstreams[0].url = "ftp://x/".into(),
        "upstreams/time",
        "url must have the scheme http, https, ws or wss",
    );
    check(&|w| w.upstreams[0].kind = None, "upstreams/time", "kind is absent, or not known to this edge");
    check(&|w| w.upstreams[0].url = "/mcp".into(), "upstreams/time", "url");
    check(&|w| w.upstreams[0].url = "http://u:p@h/".into(), "upstreams/time", "user name");
    check(
        &|w| mcp(&mut w.upstreams[0]).legacy_capabilities_json = "[]".into(),
        "upstreams/time",
        "legacy_capabilities_json",
    );
    check(
        &|w| w.upstreams[0].request_timeout = Some(prost_types::Duration { seconds: -1, nanos: 0 }),
        "upstreams/time",
        "request_timeout",
    );
    check(&|w| w.tools[0].definition_json = "{".into(), "upstreams/time/tools/now", "definition_json");
    check(&|w| w.tools[0].definition_json = r#"{"name":"x"}"#.into(), "upstreams/time/tools/now", "name");
    check(
        &|w| w.tools[0].definition_json = r#"{"name":"now","name":"now"}"#.into(),
        "upstreams/time/tools/now",
        "",
    );
    check(&|w| w.tools[0].definition_json = r#"{"name":"now"} {}"#.into(), "upstreams/time/tools/now", "");
    check(&|w| w.tools[0].tool_name.clear(), "upstreams/time/tools/now", "tool_name is empty");
    check(&|w| w.tools[0].name = "tools/now".into(), "tools/now", "upstreams/{upstream}/tools/{tool}");
    check(&|w| w.tokens[0].uid.clear(), "tokens/all", "uid");
    check(&|w| w.trust_bundles[0].sealing_keys[0].key.push(1), "default", "32 bytes");
    check(&|w| w.trust_bundles[0].sealing_keys.clear(), "default", "sealing_keys");
    check(&|w| w.trust_bundles[0].max_age = None, "default", "max_age");
    check(
        &|w| {
            w.trust_bundles[0].verification_keys.push(wire::VerificationKey {
                key_id: "k".into(),
                algorithm: "none".into(),
                ..Default::default()
            });
        },
        "default",
        "ES256",
    );
    check(&|w| w.servers[0].tools[1].exposed_name = "time_now".into(), "servers/dev", "\"time_now\" twice");
    check(&|w| w.servers[0].tools[1].overrides_json = r#"{"name":"x"}"#.into(), "servers/dev", "sets name");
    check(&|w| w.servers[0].tools[1].target = "upstreams/time/prompts/x".into(), "servers/dev", "target");
    check(
        &|w| {
            w.resources.push(wire::Resource {
                name: "upstreams/time/resources/r".into(),
                uri: "a:b".into(),
                uri_template: "a:{b}".into(),
                definition_json: r#"{"uri":"a:b"}"#.into(),
            });
        },
        "upstreams/time/resources/r",
        "uri_template",
    );
    let header = |name: &str, value: &str| wire::Secret {
        name: "upstreams/time".into(),
        headers: vec![wire::SecretParameter { name: name.into(), value: value.into() }],
        query_parameters: Vec::new(),
    };
    check(&|w| w.secrets.push(header("a b", "v")), "upstreams/time", "not a header name");
    check(&|w| w.secrets.push(header("mcp-session-id", "v")), "upstreams/time", "not a credential");
    check(
        &|w| w.secrets.push(header("authorization", "top\nsecret")),
        "upstreams/time",
        "not allowed in a header",
    );
    let (_, refusals) = compile(&Resources { secrets: vec![header("x", "top\nsecret")], ..fixture() });
    assert!(!refusals[0].reason.contains("secret\""), "a refusal quotes no secret: {refusals:?}");
}

#[test]
fn a_refused_version_leaves_the_last_good_one_in_force() {
    let mut builder = builder(&fixture());
    builder.compile(1);
    let bad = candidate(StreamType::Server, "servers/dev", b"\xff".as_slice().into());
    let refusal = builder.accept(bad).expect_err("it does not decode");
    assert_eq!((&*refusal.name, builder.refused_count()), ("servers/dev", 1));
    assert_eq!(builder.refused(), [refusal]);
    let accepted: Vec<&str> = builder.accepted(StreamType::Server).map(|(name, _)| name).collect();
    assert_eq!(accepted, ["servers/dev"]);
    assert!(builder.compile(2).snapshot.servers.get("dev").is_some());

    builder.remove(StreamType::Server, "servers/dev");
    assert_eq!(builder.refused_count(), 0, "what is gone is not refused");
    assert!(builder.compile(3).snapshot.servers.is_empty());
}

#[test]
fn a_dangling_entry_is_left_out_and_named_and_the_rest_is_served() {
    let mut fixture = fixture();
    fixture.servers[0].tools.push(entry("time_zzz", "upstreams/time/tools/zzz"));
    fixture.servers[0].tools.push(entry("web_get", "upstreams/web/tools/get"));
    let mut builder = builder(&fixture);
    let compiled = builder.compile(1);
    let missing: Vec<&str> = compiled.missing.iter().filter_map(|missing| missing.to.as_deref()).collect();
    assert_eq!(missing, ["upstreams/time/tools/zzz", "upstreams/web/tools/get"]);
    assert_eq!(compiled.snapshot.servers.get("dev").unwrap().tools.entries.len(), 2);

    // What was missing arrives later, in any order.
    let later = Resources {
        upstreams: vec![upstream("web")],
        tools: vec![tool("web", "get", r#"{"name":"get"}"#), tool("time", "zzz", r#"{"name":"zzz"}"#)],
        ..Default::default()
    };
    for candidate in later.candidates().into_iter().rev() {
        builder.accept(candidate).unwrap();
    }
    let compiled = builder.compile(2);
    assert_eq!(compiled.missing, []);
    assert_eq!(compiled.snapshot.servers.get("dev").unwrap().tools.entries.len(), 4);
}

#[test]
fn an_upstream_is_not_called_without_the_secret_it_needs() {
    let mut fixture = fixture();
    fixture.upstreams[0].has_secret = true;
    let mut builder = builder(&fixture);
    let compiled = builder.compile(1);
    assert!(compiled.snapshot.upstreams.is_empty());
    assert_eq!(&*compiled.missing[0].from, "upstreams/time");

    let secret = wire::Secret {
        name: "upstreams/time".into(),
        headers: vec![wire::SecretParameter { name: "Authorization".into(), value: "Bearer s3cr3t".into() }],
        query_parameters: vec![wire::SecretParameter { name: "k".into(), value: "a&b".into() }],
    };
    let resources = Resources { secrets: vec![secret], ..Default::default() };
    builder.accept(resources.candidates().remove(0)).unwrap();
    let snapshot = builder.compile(2).snapshot;
    let upstream = &snapshot.upstreams["time"];
    let url = upstream.credential.url(upstream.reach.url()).unwrap();
    assert_eq!(url, "http://127.0.0.1:9000/mcp?a=1&k=a%26b");
    assert_eq!(upstream.credential.headers["authorization"], "Bearer s3cr3t");
    let shown = format!("{snapshot:?}{builder:?}");
    assert!(!shown.contains("s3cr3t") && !shown.contains("a%26b"), "Debug shows no secret");
}

#[test]
fn the_key_of_connections_tells_reach_and_credential_apart() {
    let key = |change: &dyn Fn(&mut wire::Upstream)| {
        let mut fixture = fixture();
        change(&mut fixture.upstreams[0]);
        builder(&fixture).compile(1).snapshot.upstreams["time"].connection_key
    };
    let before = key(&|_| {});
    let renewed = key(&|upstream| upstream.credential_version = "2".into());
    assert_eq!(renewed.reach, before.reach);
    assert_ne!(renewed.credential, before.credential);
    let moved = key(&|upstream| upstream.url = "http://127.0.0.1:9001/mcp".into());
    assert_ne!(moved.reach, before.reach);
    assert_eq!(moved.credential, before.credential);
}

#[test]
fn what_has_not_changed_is_shared_between_snapshots() {
    let mut fixture = fixture();
    fixture.upstreams.push(upstream("web"));
    fixture.tools.push(tool("web", "get", r#"{"name":"get"}"#));
    fixture.servers.push(server("other", vec![entry("get", "upstreams/web/tools/get")]));
    fixture.tokens.push(wire::Token {
        name: "tokens/same".into(),
        uid: "uid-same".into(),
        ..token("all", &["*"])
    });
    let mut builder = builder(&fixture);
    let first = builder.compile(1).snapshot;
    let before = Arc::clone(view(&first, "uid-all", "dev").unwrap());
    assert!(Arc::ptr_eq(&first.tokens["uid-all"].scope, &first.tokens["uid-same"].scope));

    // One tool of `web` changes: `other` is built anew, `dev` is not, and its view is the same.
    let changed =
        Resources { tools: vec![tool("web", "get", r#"{"name":"get","title":"G"}"#)], ..Default::default() };
    builder.accept(changed.candidates().remove(0)).unwrap();
    let second = builder.compile(2).snapshot;
    let same = |id: &str| Arc::ptr_eq(first.servers.get(id).unwrap(), second.servers.get(id).unwrap());
    assert_eq!((same("dev"), same("other")), (true, false));
    assert!(Arc::ptr_eq(&first.upstreams["web"], &second.upstreams["web"]));
    assert!(Arc::ptr_eq(&before, view(&second, "uid-all", "dev").unwrap()));
    let generation = |s: &Snapshot| s.servers.get("other").unwrap().tools_generation;
    assert_ne!(generation(&first), generation(&second));

    // Nothing changes: everything is the same.
    let third = builder.compile(3).snapshot;
    assert!(Arc::ptr_eq(&second.tokens["uid-all"], &third.tokens["uid-all"]));
    assert!(Arc::ptr_eq(&second.trust, &third.trust));
}

#[test]
fn generations_move_with_what_clients_see_and_with_announcements() {
    let generations = |fixture: &Resources| {
        let (snapshot, _) = compile(fixture);
        let server = snapshot.servers.get("dev").unwrap();
        (server.tools_generation, server.resources_generation)
    };
    let base = generations(&fixture());
    assert_eq!(base, generations(&fixture()), "equal on every edge");
    let mut announced = fixture();
    announced.upstreams[0].tools_generation = 1;
    assert_ne!(base.0, generations(&announced).0);
    assert_eq!(base.1, generations(&announced).1);
    let mut credential = fixture();
    credential.upstreams[0].credential_version = "2".into();
    assert_eq!(base, generations(&credential), "clients do not see it");
}

#[test]
fn servers_share_equal_entries() {
    let mut fixture = fixture();
    let tools = fixture.servers[0].tools.clone();
    fixture.servers.push(server("twin", tools));
    let (snapshot, _) = compile(&fixture);
    let at = |id: &str| &snapshot.servers.get(id).unwrap().tools.entries[0];
    assert!(Arc::ptr_eq(at("dev"), at("twin")));
}

#[test]
fn the_trust_bundle_is_parsed_and_each_generation_follows_its_own_keys() {
    let (snapshot, _) = compile(&fixture());
    assert_eq!(snapshot.trust.max_age, Duration::from_secs(60));
    assert_eq!(snapshot.trust.sealing.keys.len(), 1);
    let jwk = r#"{"kty":"EC","crv":"P-256","x":"MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4","y":"4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM"}"#;
    let mut with_key = fixture();
    with_key.trust_bundles[0].verification_keys.push(wire::VerificationKey {
        key_id: "k1".into(),
        algorithm: "ES256".into(),
        public_jwk_json: jwk.into(),
    });
    let (other, refusals) = compile(&with_key);
    assert_eq!(refusals, []);
    assert!(other.trust.issuer.keys.contains_key("k1"));
    assert_ne!(other.trust.issuer.generation, snapshot.trust.issuer.generation);
    assert_eq!(other.trust.sealing.generation, snapshot.trust.sealing.generation);

    let mut rotated = with_key.clone();
    let sealing = &mut rotated.trust_bundles[0].sealing_keys;
    sealing.insert(0, wire::SealingKey { key_id: 77, key: vec![9; 32] });
    let (rotated, _) = compile(&rotated);
    assert_eq!(rotated.trust.issuer.generation, other.trust.issuer.generation);
    assert_ne!(rotated.trust.sealing.generation, other.trust.sealing.generation);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever comes and goes in whatever order, what is built step by step equals what is built at once.
    #[test]
    fn incremental_builds_equal_whole_ones(steps in proptest::collection::vec((0usize..7, 0u8..3, any::<bool>()), 1..30)) {
        let mut builder = Builder::new(PageLimits::default(), Budget::default());
        for (slot, variant, compile_now) in steps {
            let candidates = variant_fixture(variant).candidates();
            let candidate = candidates[slot % candidates.len()].clone();
            match variant {
                2 => builder.remove(candidate.kind, &candidate.name),
                _ => builder.accept(candidate).expect("it can be used"),
            }
            if compile_now {
                builder.compile(1);
            }
        }
        let mut complete = Builder::new(PageLimits::default(), Budget::default());
        for kind in StreamType::ALL.iter().copied().rev() {
            for (name, accepted) in builder.accepted(kind) {
                let (version, body) = (accepted.version.to_string(), accepted.body.clone());
                complete.accept(Candidate { kind, name: name.to_owned(), version, body }).expect("it can be used");
            }
        }
        prop_assert_eq!(seen(&builder.compile(2).snapshot), seen(&complete.compile(2).snapshot));
    }
}

fn variant_fixture(variant: u8) -> Resources {
    let mut fixture = fixture();
    if variant == 1 {
        mcp(&mut fixture.upstreams[0]).legacy_version.clear();
        fixture.tools[0].definition_json = r#"{"name":"now","v":2}"#.into();
        fixture.tokens[0].tools = vec!["time_set".into()];
        fixture.servers[0].tools.pop();
    }
    fixture
}

/// All that a client could tell apart.
fn seen(snapshot: &Snapshot) -> Vec<String> {
    let mut seen = Vec::new();
    for token in snapshot.tokens.values() {
        for server in snapshot.servers.iter() {
            let Some(view) =
                snapshot.servers.views(&server.id).and_then(|views| views.view(&token.scope).ok())
            else {
                continue;
            };
            let pages = view.pages(List::Tools, Era::Legacy);
            let modern = view.pages(List::Tools, Era::Modern);
            seen.push(format!("{} {pages:?} {modern:?} {}", token.name, server.tools_generation));
        }
    }
    seen.sort();
    seen
}
