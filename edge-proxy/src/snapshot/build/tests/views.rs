//! Views: computed with the snapshot where they are in use, shared where they show the same.

use std::sync::Weak;
use std::time::Duration;

use super::*;
use crate::snapshot::{NoView, glob};

/// Puts one resource in the place of its earlier version, compiles, and computes the views in use.
fn change(builder: &mut Builder, resources: Resources) -> (Arc<Snapshot>, ListsInUse) {
    for candidate in resources.candidates() {
        builder.accept(candidate).expect("it can be used");
    }
    let compiled = builder.compile(2);
    let lists = compiled.views_in_use.compute();
    (compiled.snapshot, lists)
}

fn retitled(fixture: &Resources) -> Resources {
    Resources { tools: vec![tool("time", "set", r#"{"name":"set","title":"Set"}"#)], ..fixture.clone() }
}

/// Returns the view of a token if it is computed.
fn computed<'a>(snapshot: &'a Snapshot, uid: &str) -> Option<&'a Arc<View>> {
    snapshot.servers.views("dev")?.computed(&snapshot.tokens[uid].scope)
}

#[test]
fn views_in_use_are_computed_before_a_snapshot_is_published() {
    let mut builder = builder(&fixture());
    let first = builder.compile(1).snapshot;
    assert!(computed(&first, "uid-all").is_none(), "nobody has used it");
    let before = Arc::clone(view(&first, "uid-all", "dev").unwrap());
    before.pages(List::Tools, Era::Legacy);

    let (second, lists_in_use) = change(&mut builder, retitled(&fixture()));
    let ready = Arc::clone(computed(&second, "uid-all").expect("it was in use"));
    assert!(!Arc::ptr_eq(&before, &ready), "the server has changed");
    assert!(computed(&second, "uid-some").is_none(), "it was not in use");
    assert!(Arc::ptr_eq(&ready, view(&second, "uid-all", "dev").unwrap()), "the first call computes nothing");

    // Lists in use are rendered once the snapshot is published, and only those.
    assert_eq!(ready.rendered().count(), 0);
    lists_in_use.render();
    assert_eq!(ready.rendered().collect::<Vec<_>>(), [(List::Tools, Era::Legacy)]);

    // A view that nobody used since is computed again all the same.
    let (third, _) = change(&mut builder, fixture());
    assert!(computed(&third, "uid-all").is_some());
}

/// A server of many tools, and a token whose patterns take long to be compared with their names.
fn greedy() -> Resources {
    let tools =
        (0..1_200).map(|number| entry(&format!("a_tool_{number:020}"), "upstreams/time/tools/now")).collect();
    let patterns: Vec<String> = (0..1_000).map(|number| format!("{}x{number:04}", "*a".repeat(15))).collect();
    let patterns: Vec<&str> = patterns.iter().map(String::as_str).collect();
    let mut resources = fixture();
    resources.servers = vec![server("dev", tools)];
    resources.tokens.push(token("greedy", &patterns));
    resources
}

#[tokio::test]
async fn a_revocation_is_in_force_before_what_takes_long_is_looked_at() {
    let resources = greedy();
    let mut builder = builder(&resources);
    let first = builder.compile(1).snapshot;
    let views = first.servers.views("dev").unwrap();
    let scope = |snapshot: &Snapshot| Arc::clone(&snapshot.tokens["uid-greedy"].scope);
    assert_eq!(views.view(&scope(&first)).unwrap_err(), NoView::Pending, "no worker works it out");
    views.prepare(&scope(&first), None).await;
    views.view(&scope(&first)).unwrap();

    // The server changes, and another token is revoked.
    let mut next = resources.clone();
    next.servers[0].title = "Other".into();
    next.tokens.iter_mut().filter(|token| token.uid == "uid-all").for_each(|token| token.revoked = true);
    next.candidates().into_iter().for_each(|candidate| builder.accept(candidate).unwrap());
    let compiled = builder.compile(2);
    let ahead = compiled.ahead.expect("something was taken away");
    assert!(ahead.tokens["uid-all"].revoked && !first.tokens["uid-all"].revoked);
    assert!(Arc::ptr_eq(ahead.servers.get("dev").unwrap(), first.servers.get("dev").unwrap()));
    assert!(computed(&compiled.snapshot, "uid-greedy").is_none(), "nothing was computed for it");

    // What takes more steps than there are is left out, and the others are not.
    compiled.views_in_use.compute();
    assert!(computed(&compiled.snapshot, "uid-greedy").is_none());
    let views = compiled.snapshot.servers.views("dev").unwrap();
    assert_eq!(views.view(&scope(&compiled.snapshot)).unwrap_err(), NoView::Pending);
    assert!(views.view(&compiled.snapshot.tokens["uid-some"].scope).is_ok());
}

#[test]
fn what_is_published_ahead_takes_away_and_gives_nothing() {
    let mut builder = builder(&fixture());
    let first = builder.compile(1).snapshot;
    let mut next = fixture();
    next.servers[0].title = "Other".into();
    next.tokens.push(token("new", &["*"]));
    next.tokens
        .iter_mut()
        .filter(|token| token.uid == "uid-some")
        .for_each(|token| token.tools = vec!["*".into()]);
    next.candidates().into_iter().for_each(|candidate| builder.accept(candidate).unwrap());
    let second = builder.compile(2);
    assert!(second.ahead.is_none(), "nothing was taken away");

    next.servers[0].title = "Another".into();
    let servers = Resources { servers: next.servers.clone(), ..Resources::default() };
    servers.candidates().into_iter().for_each(|candidate| builder.accept(candidate).unwrap());
    builder.remove(StreamType::Token, "tokens/all");
    let ahead = builder.compile(3).ahead.expect("a token is gone");
    let names = |snapshot: &Snapshot| {
        let mut names: Vec<_> = snapshot.tokens.keys().map(ToString::to_string).collect();
        names.sort_unstable();
        names
    };
    assert_eq!(names(&first), ["uid-all", "uid-some"]);
    assert_eq!(names(&ahead), ["uid-new", "uid-some"]);
    builder.remove(StreamType::Token, "tokens/some");
    assert!(builder.compile(4).ahead.is_none(), "where no server changed, nothing takes time");
}

#[test]
fn scopes_that_see_the_same_share_a_view_and_its_pages() {
    let mut fixture = fixture();
    fixture.tokens =
        (0..500).map(|team| token(&format!("t{team}"), &["time_*", &format!("team{team}_*")])).collect();
    let budget = Budget::default();
    let mut builder = Builder::new(PageLimits::default(), budget.clone());
    let (snapshot, _) = change(&mut builder, fixture.clone());
    let first = view(&snapshot, "uid-t0", "dev").unwrap();
    let pages = first.pages(List::Tools, Era::Modern);
    let left = budget.left();
    for team in 0..500 {
        let other = view(&snapshot, &format!("uid-t{team}"), "dev").unwrap();
        assert!(Arc::ptr_eq(first, other));
        assert!(Arc::ptr_eq(&pages, &other.pages(List::Tools, Era::Modern)));
    }
    assert_eq!(budget.left(), left, "lists take memory once");

    let (snapshot, _) = change(&mut builder, retitled(&fixture));
    let first = computed(&snapshot, "uid-t0").expect("it was in use");
    let same =
        |team| Arc::ptr_eq(first, computed(&snapshot, &format!("uid-t{team}")).expect("it was in use"));
    assert!((0..500).all(same));
}

/// Ten times as many tokens cost about ten times as much: far from a hundred times, which a pass over all tokens for each
/// of them would cost. Counted is the time that this thread had a core, and the fastest of several tries, because others
/// work on this machine.
#[test]
fn a_change_costs_in_proportion_to_the_tokens() {
    let cost = |tokens: usize| {
        let mut fixture = fixture();
        let globs: Vec<String> = (0..tokens).map(|number| format!("team{number}_*")).collect();
        let scoped = |(number, glob): (usize, &String)| token(&format!("t{number}"), &["time_*", glob]);
        fixture.tokens = globs.iter().enumerate().map(scoped).collect();
        let mut builder = builder(&fixture);
        let first = builder.compile(1).snapshot;
        (0..tokens).for_each(|number| drop(view(&first, &format!("uid-t{number}"), "dev").unwrap().clone()));
        let mut try_one = |round: usize| {
            let title = format!(r#"{{"name":"set","title":"Set {round}"}}"#);
            let moved = Resources { tools: vec![tool("time", "set", &title)], ..Resources::default() };
            let started = thread_time();
            let (snapshot, _) = change(&mut builder, moved);
            let cost = thread_time() - started;
            assert!((0..tokens).all(|number| computed(&snapshot, &format!("uid-t{number}")).is_some()));
            cost
        };
        (0..5).map(&mut try_one).min().unwrap()
    };
    let (few, many) = (cost(1_000), cost(10_000));
    assert!(many < few * 40, "1,000 tokens cost {few:?}, 10,000 cost {many:?}");
}

/// The time for which this thread has had a core.
fn thread_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.try_into().unwrap(), time.tv_nsec.try_into().unwrap())
}

#[test]
fn globs_of_resources_keep_views_apart_only_where_templates_produce_uris() {
    let mut fixture = fixture();
    fixture.tokens = [("one", "a:*"), ("two", "b:*")]
        .map(|(id, glob)| wire::Token { resources: vec![glob.into()], ..token(id, &["*"]) })
        .to_vec();
    let same = |fixture: &Resources| {
        let (snapshot, _) = compile(fixture);
        Arc::ptr_eq(view(&snapshot, "uid-one", "dev").unwrap(), view(&snapshot, "uid-two", "dev").unwrap())
    };
    assert!(same(&fixture));
    fixture.resources.push(wire::Resource {
        name: "upstreams/time/resources/r".into(),
        uri_template: "c:{x}".into(),
        definition_json: r#"{"uriTemplate":"c:{x}","name":"r"}"#.into(),
        ..Default::default()
    });
    fixture.servers[0].resource_templates.push(entry("c:{x}", "upstreams/time/resources/r"));
    assert!(!same(&fixture));
}

#[test]
fn views_of_scopes_that_are_no_more_are_dropped_in_time() {
    let mut builder = builder(&fixture());
    let mut views: Vec<Weak<View>> = Vec::new();
    for round in 0..200 {
        let name = if round % 2 == 0 { "time_set" } else { "time_now" };
        let tokens = vec![token("brief", &[name, &format!("round{round}")])];
        let (snapshot, _) = change(&mut builder, Resources { tokens, ..Default::default() });
        views.push(Arc::downgrade(view(&snapshot, "uid-brief", "dev").unwrap()));
    }
    builder.remove(StreamType::Token, "tokens/brief");
    let snapshot = builder.compile(3).snapshot;
    assert_eq!(snapshot.tokens.len(), 2);
    assert!(views.iter().take(100).all(|view| view.upgrade().is_none()));
}

proptest! {
    /// Globs select the entries that they match one by one, however they are written.
    #[test]
    fn views_show_what_the_globs_match(
        names in proptest::collection::btree_set("[ab_]{1,4}", 0..90),
        globs in proptest::collection::vec("[ab_*]{1,4}", 0..4),
    ) {
        let target = "upstreams/time/tools/now";
        let entries = names.iter().map(|name| entry(name, target)).collect();
        let globs: Vec<&str> = globs.iter().map(String::as_str).collect();
        let mut fixture = fixture();
        fixture.servers = vec![server("dev", entries)];
        fixture.tokens = vec![token("all", &globs)];
        let (snapshot, _) = compile(&fixture);
        let view = view(&snapshot, "uid-all", "dev").unwrap();
        for (position, name) in names.iter().enumerate() {
            let expected = globs.iter().any(|pattern| glob::matches(pattern, name));
            prop_assert_eq!(view.visible.tools.contains(position), expected, "{} by {:?}", name, &globs);
        }
        let listed = tools(&snapshot, "uid-all", Era::Modern).matches(r#""name""#).count();
        prop_assert_eq!(listed, view.visible.tools.count());
    }
}
