//! Decisions: by property, lists and calls agree with each other and with the globs; by example, each reason of a refusal.

mod readable;
mod rules;
mod uris;

use std::collections::BTreeSet;
use std::io::Write;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};

use mcp::revision::Era;
use proptest::collection::{btree_set, vec};
use proptest::prelude::*;
use trunkline::edge::v1 as wire;

use super::*;
use crate::error::{Failure, Unmet};
use crate::route::TargetKind;
use crate::snapshot::List;
use crate::snapshot::build::{Resources, compile};

/// Checks a target of a server that has no rules, so that arguments count for nothing.
fn check(caller: &Caller<'_>, method: Method, named: &NamedTarget<'_>) -> Result<Permit, Denied> {
    super::check(caller, method, named, Arguments::Of(None))
}

const NOW: u64 = 1_000;
const ADDRESS: [u8; 4] = [192, 0, 2, 7];

fn facts() -> Facts {
    Facts { address: Some(IpAddr::from(ADDRESS)), now: NOW }
}

fn principal(token: &str, expires: Option<u64>) -> Arc<Principal> {
    let (uid, name) = (format!("uid-{token}").into(), format!("tokens/{token}").into());
    Arc::new(Principal::new(PrincipalKind::Token, uid, name, expires))
}

fn token(id: &str, globs: &[String]) -> wire::Token {
    wire::Token {
        name: format!("tokens/{id}"),
        uid: format!("uid-{id}"),
        servers: vec!["servers/dev".into()],
        tools: globs.to_vec(),
        resources: globs.to_vec(),
        prompts: globs.to_vec(),
        ..wire::Token::default()
    }
}

/// The names of a server's entries.
#[derive(Debug, Clone, Default)]
struct Names {
    tools: BTreeSet<String>,
    prompts: BTreeSet<String>,
    uris: BTreeSet<String>,
    templates: BTreeSet<String>,
}

/// Makes the server `dev` with entries of these names, all of one upstream.
fn resources(names: &Names, tokens: Vec<wire::Token>) -> Resources {
    let mut made = Resources {
        tokens,
        upstreams: vec![wire::Upstream {
            name: "upstreams/u".into(),
            uid: "u-u".into(),
            url: "http://127.0.0.1:9000/mcp".into(),
            kind: Some(wire::upstream::Kind::Mcp(wire::McpUpstream {
                legacy_version: "2025-11-25".into(),
                ..wire::McpUpstream::default()
            })),
            ..wire::Upstream::default()
        }],
        ..Resources::default()
    };
    let mut server =
        wire::Server { name: "servers/dev".into(), uid: "s-dev".into(), ..wire::Server::default() };
    let target = |list: &str, at: usize| format!("upstreams/u/{list}/{at}");
    let entry = |exposed_name: &String, target: String| wire::Entry {
        exposed_name: exposed_name.clone(),
        target,
        ..wire::Entry::default()
    };
    for (at, tool) in names.tools.iter().enumerate() {
        let (name, definition_json) = (target("tools", at), format!(r#"{{"name":"{tool}"}}"#));
        server.tools.push(entry(tool, name.clone()));
        made.tools.push(wire::Tool { name, tool_name: tool.clone(), definition_json });
    }
    for (at, prompt) in names.prompts.iter().enumerate() {
        let (name, definition_json) = (target("prompts", at), format!(r#"{{"name":"{prompt}"}}"#));
        server.prompts.push(entry(prompt, name.clone()));
        made.prompts.push(wire::Prompt { name, prompt_name: prompt.clone(), definition_json });
    }
    for (at, uri) in names.uris.iter().enumerate() {
        let (name, definition_json) = (target("resources", at), format!(r#"{{"uri":"{uri}","name":"r"}}"#));
        server.resources.push(entry(uri, name.clone()));
        made.resources.push(wire::Resource {
            name,
            uri: uri.clone(),
            definition_json,
            ..wire::Resource::default()
        });
    }
    for (at, template) in names.templates.iter().enumerate() {
        let name = target("resources", names.uris.len() + at);
        let definition_json = format!(r#"{{"uriTemplate":"{template}","name":"t"}}"#);
        server.resource_templates.push(entry(template, name.clone()));
        let uri_template = template.clone();
        made.resources.push(wire::Resource {
            name,
            uri_template,
            definition_json,
            ..wire::Resource::default()
        });
    }
    made.servers.push(server);
    made
}

fn snapshot(names: &Names, tokens: Vec<wire::Token>) -> Arc<Snapshot> {
    let (snapshot, refusals) = compile(&resources(names, tokens));
    assert_eq!(refusals, []);
    snapshot
}

/// The members `member` of the definitions that a list shows.
fn listed(view: &View, list: List, member: &str) -> BTreeSet<String> {
    let pages = view.pages(list, Era::Legacy);
    assert_eq!(pages.pages.len(), 1);
    let page = String::from_utf8(pages.pages[0].to_vec()).unwrap();
    let definitions: Vec<serde_json::Value> = serde_json::from_str(page.strip_suffix("}}").unwrap()).unwrap();
    definitions.iter().map(|definition| definition[member].as_str().unwrap().to_owned()).collect()
}

/// Matches a glob by its definition, one character after the other.
fn glob_matches(pattern: &str, text: &str) -> bool {
    let mut rest = pattern.chars();
    match rest.next() {
        None => text.is_empty(),
        Some('*') => {
            let tails = text.char_indices().map(|(at, _)| &text[at..]).chain([""]);
            tails.into_iter().any(|tail| glob_matches(rest.as_str(), tail))
        }
        Some(first) => text.strip_prefix(first).is_some_and(|text| glob_matches(rest.as_str(), text)),
    }
}

/// Returns whether a template of the form `head{v}` or `head{+v}` could have produced `uri`.
fn produces(template: &str, uri: &str) -> bool {
    let (head, variable) = template.split_once('{').unwrap();
    uri.strip_prefix(head).is_some_and(|value| variable.starts_with('+') || !value.contains('/'))
}

fn names() -> impl Strategy<Value = Names> {
    let templates = ["x:{v}", "x:{+v}", "x:a{v}", "y:{v}", "y:b/{+v}"].map(str::to_owned).to_vec();
    let templates = proptest::sample::subsequence(templates, 0..=5);
    (
        btree_set("[ab_]{1,3}", 0..8),
        btree_set("[ab_]{1,3}", 0..8),
        btree_set("[xy]:[ab]{0,2}", 0..8),
        templates,
    )
        .prop_map(|(tools, prompts, uris, templates)| Names {
            tools,
            prompts,
            uris,
            templates: templates.into_iter().collect(),
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// What a caller sees listed is what it may call, and both are what its globs match.
    #[test]
    fn lists_calls_and_globs_agree(
        names in names(),
        globs in vec(r"[abxy:_/*{}v+]{1,5}|[xy]:[ab*]{1,2}|[xy]:\*", 0..4),
        others in btree_set("[ab_]{1,3}", 0..4),
        uris in btree_set("[xy]:[ab/]{0,4}", 0..12),
    ) {
        let snapshot = snapshot(&names, vec![token("t", &globs)]);
        let principal = principal("t", None);
        let caller = admit(&snapshot, &principal, "dev", facts()).unwrap();
        let permitted = |kind: TargetKind, name: &str| check(&caller, kind.method(), &NamedTarget::of(kind, name)).is_ok();
        let any = |name: &str| globs.iter().any(|glob| glob_matches(glob, name));

        let names_of_templates = &names.templates;
        let lists = [
            (List::Tools, "name", TargetKind::Tool, &names.tools),
            (List::Prompts, "name", TargetKind::Prompt, &names.prompts),
            (List::Resources, "uri", TargetKind::Resource, &names.uris),
            (List::ResourceTemplates, "uriTemplate", TargetKind::Template, &names.templates),
        ];
        for (list, member, kind, names) in lists {
            let matched: BTreeSet<String> = names.iter().filter(|name| any(name)).cloned().collect();
            let callable: BTreeSet<String> = names.iter().filter(|name| permitted(kind, name)).cloned().collect();
            prop_assert_eq!(&listed(caller.view(), list, member), &matched);
            // A resource that is not listed to the caller may still be one that a template of its list produces.
            let is_produced = |uri: &&String| {
                kind == TargetKind::Resource && names_of_templates.iter().any(|t| any(t) && produces(t, uri))
            };
            let produced: BTreeSet<String> = names.iter().filter(is_produced).cloned().collect();
            let expected: BTreeSet<String> = matched.union(&produced).cloned().collect();
            prop_assert_eq!(&callable, &expected);
        }
        for name in others.difference(&names.tools) {
            prop_assert!(!permitted(TargetKind::Tool, name), "{name} is no tool");
        }
        for uri in uris.union(&names.uris) {
            let mut producing = names.templates.iter().filter(|template| produces(template, uri));
            let expected = names.uris.contains(uri) && any(uri)
                || producing.any(|template| any(template) || any(uri));
            prop_assert_eq!(permitted(TargetKind::Resource, uri), expected, "{}", uri);
        }
    }
}

fn example() -> Names {
    let set = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    Names { tools: set(&["now", "set"]), templates: set(&["x:{v}"]), ..Names::default() }
}

#[test]
fn a_condition_that_does_not_hold_is_named() {
    let all = ["*".to_owned()];
    let expiring = |at: i64| wire::Token {
        expire_time: Some(prost_types::Timestamp { seconds: at, nanos: 0 }),
        ..token("t", &all)
    };
    let revoked = wire::Token { revoked: true, ..expiring(1) };
    let cases = [
        (vec![token("t", &all)], None, Ok(())),
        (vec![], None, Err(Denied::Condition(Reason::NoToken))),
        (vec![revoked], None, Err(Denied::Condition(Reason::Revoked))),
        (vec![expiring(1_001)], None, Ok(())),
        (vec![expiring(1_000)], None, Err(Denied::Condition(Reason::TokenExpired))),
        (vec![token("t", &all)], Some(1_001), Ok(())),
        (vec![token("t", &all)], Some(1_000), Err(Denied::Condition(Reason::CredentialExpired))),
    ];
    for (tokens, expires, expected) in cases {
        let snapshot = snapshot(&example(), tokens);
        let admitted = admit(&snapshot, &principal("t", expires), "dev", facts()).map(|_| ());
        assert_eq!(admitted, expected);
        let failure = admitted.err().map(|denied| denied.failure(|| Failure::Server));
        assert_eq!(failure, expected.err().map(|_| Failure::Bearer { presented: true }));
    }
}

#[test]
fn each_further_condition_is_evaluated_in_its_order() {
    let with = |change: &dyn Fn(&mut wire::Access)| {
        let mut access = wire::Access {
            servers: vec!["*".into()],
            tools: vec!["*".into()],
            suspended: true,
            not_before: Some(prost_types::Timestamp { seconds: 2_000, nanos: 0 }),
            from: vec!["198.51.100.0/24".into()],
            windows: vec!["Fri 00:00-24:00 UTC".into()],
            ..wire::Access::default()
        };
        change(&mut access);
        let token = wire::Token { access: Some(access), ..token("t", &[]) };
        let snapshot = snapshot(&example(), vec![token]);
        let admitted = admit(&snapshot, &principal("t", None), "dev", facts()).map(drop);
        admitted.map_err(|denied| match denied {
            Denied::Condition(reason) => reason,
            other => panic!("{other:?}"),
        })
    };
    type Mend = fn(&mut wire::Access);
    let mut held: Vec<Mend> = Vec::new();
    let steps: [(Reason, Mend); 4] = [
        (Reason::Suspended, |access| access.suspended = false),
        (Reason::Unmet(Unmet::NotYetValid), |access| access.not_before.as_mut().unwrap().seconds = 1_000),
        (Reason::Unmet(Unmet::Address), |access| access.from.push("192.0.2.0/24".into())),
        (Reason::Unmet(Unmet::Window { opens_in: Some(85_400) }), |access| access.windows.clear()),
    ];
    for (reason, mend) in steps {
        assert_eq!(with(&|access| held.iter().for_each(|mend| mend(access))), Err(reason));
        held.push(mend);
    }
    assert_eq!(with(&|access| held.iter().for_each(|mend| mend(access))), Ok(()));
    let nowhere = Facts { address: None, now: NOW };
    let access =
        wire::Access { servers: vec!["*".into()], from: vec!["0.0.0.0/0".into()], ..wire::Access::default() };
    let snapshot = snapshot(&example(), vec![wire::Token { access: Some(access), ..token("t", &[]) }]);
    let principal = principal("t", None);
    let unknown = admit(&snapshot, &principal, "dev", nowhere).map(drop);
    assert_eq!(
        unknown,
        Err(Denied::Condition(Reason::Unmet(Unmet::Address))),
        "an address that is not known"
    );
    let written = Facts { address: Some("::ffff:192.0.2.7".parse().unwrap()), now: NOW };
    assert!(admit(&snapshot, &principal, "dev", written).is_ok(), "IPv4, written as IPv6");
}

#[test]
fn the_earlier_of_two_expiries_counts() {
    let expire_time = Some(prost_types::Timestamp { seconds: 1_050, nanos: 0 });
    let snapshot = snapshot(&example(), vec![wire::Token { expire_time, ..token("t", &[]) }]);
    let left = |expires| remaining(&snapshot, &principal("t", expires), NOW).map(|left| left.as_secs());
    assert_eq!(
        [left(None), left(Some(1_010)), left(Some(2_000)), left(Some(10))],
        [Some(50), Some(10), Some(50), Some(0)]
    );
    assert_eq!(remaining(&snapshot, &principal("other", None), NOW), None);
}

#[test]
fn forbidden_and_unknown_targets_receive_the_same_response() {
    let snapshot = snapshot(&example(), vec![token("t", &["now".to_owned()])]);
    let principal = principal("t", None);
    let caller = admit(&snapshot, &principal, "dev", facts()).unwrap();
    let refused = |name| {
        check(&caller, TargetKind::Tool.method(), &NamedTarget::of(TargetKind::Tool, name)).unwrap_err()
    };
    assert_eq!([refused("set"), refused("get")], [Denied::OutOfScope, Denied::NotFound]);
    let failure = |denied: Denied| denied.failure(|| Failure::Server);
    assert_eq!(failure(Denied::OutOfScope), failure(Denied::NotFound));
    assert_eq!(admit(&snapshot, &principal, "other", facts()).unwrap_err(), Denied::NotFound);
}

#[test]
fn a_permit_holds_only_for_the_same_upstream_of_the_same_server() {
    let before = snapshot(&example(), vec![token("t", &["*".to_owned()])]);
    let principal = principal("t", None);
    let caller = admit(&before, &principal, "dev", facts()).unwrap();
    let permit =
        check(&caller, TargetKind::Resource.method(), &NamedTarget::of(TargetKind::Resource, "x:1")).unwrap();
    let known = caller.view();
    assert_eq!(check_again(&caller, &permit, known, facts().now), Ok(()));

    let mut other = resources(&example(), vec![token("t", &["*".to_owned()])]);
    other.upstreams[0].uid = "u-other".to_owned();
    let (after, _) = compile(&other);
    let caller = admit(&after, &principal, "dev", facts()).unwrap();
    assert_eq!(check_again(&caller, &permit, known, facts().now), Err(Denied::NotFound));
    assert!(admit_again(&after, &principal, ["dev", "s-dev"], facts()).is_ok());
    assert_eq!(admit_again(&after, &principal, ["dev", "s-old"], facts()).unwrap_err(), Denied::NotFound);
}

/// The lines that are logged while `run` runs, once what `warm_up` does is logged.
fn logged(warm_up: impl Fn(), run: impl FnOnce()) -> String {
    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);
    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).write(bytes)
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    impl Lines {
        fn take(&self) -> Vec<u8> {
            std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
        }
    }
    let lines = Lines::default();
    let writer = lines.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::DEBUG)
        .with_ansi(false)
        .without_time()
        .with_writer(move || writer.clone())
        .finish();
    tracing::subscriber::with_default(subscriber, || {
        // Where another test is the first to log, without a subscriber, the line is disabled until this is asked for.
        while lines.take().is_empty() {
            tracing::callsite::rebuild_interest_cache();
            warm_up();
        }
        run();
    });
    String::from_utf8(lines.take()).unwrap()
}

#[test]
fn a_refusal_is_logged_with_its_reason_and_without_raw_text_of_the_client() {
    let snapshot = snapshot(&example(), vec![token("t", &["now".to_owned()])]);
    let principal = principal("t", None);
    let refused = || assert!(admit(&snapshot, &principal, "gone", facts()).is_err());
    let lines = logged(refused, || {
        let caller = admit(&snapshot, &principal, "dev", facts()).unwrap();
        check(&caller, TargetKind::Tool.method(), &NamedTarget::of(TargetKind::Tool, "now")).unwrap();
        check(&caller, TargetKind::Tool.method(), &NamedTarget::of(TargetKind::Tool, "set")).unwrap_err();
        check(&caller, TargetKind::Tool.method(), &NamedTarget::of(TargetKind::Tool, "\u{1b}[2J\n\u{202e}"))
            .unwrap_err();
        check(&caller, TargetKind::Tool.method(), &NamedTarget::of(TargetKind::Tool, &"é".repeat(100)))
            .unwrap_err();
        admit(&snapshot, &principal, "gone", facts()).unwrap_err();
    });
    let line = |server: &str, target: &str, reason: &str| {
        format!(
            "DEBUG trunkline_edge_proxy::policy::denied: access denied principal=tokens/t address=192.0.2.7 \
             server=\"{server}\" target=\"{target}\" reason={reason}\n"
        )
    };
    assert_eq!(
        lines,
        [
            line("dev", "set", "the scope does not allow it"),
            line("dev", r"\u{1b}[2J\n\u{202e}", "it does not exist"),
            line("dev", &"é".repeat(64), "it does not exist"),
            line("gone", "", "it does not exist"),
        ]
        .concat()
    );
}
