//! Views: computed with the snapshot where they are in use, shared where they show the same.

use std::sync::Weak;
use std::time::Duration;

use super::*;
use crate::snapshot::glob;

/// Puts one resource in the place of its earlier version, and compiles.
fn change(builder: &mut Builder, resources: Resources) -> Compiled {
    for candidate in resources.candidates() {
        builder.accept(candidate).expect("it can be used");
    }
    builder.compile(2)
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

    let compiled = change(&mut builder, retitled(&fixture()));
    let second = compiled.snapshot;
    let ready = Arc::clone(computed(&second, "uid-all").expect("it was in use"));
    assert!(!Arc::ptr_eq(&before, &ready), "the server has changed");
    assert!(computed(&second, "uid-some").is_none(), "it was not in use");
    assert!(Arc::ptr_eq(&ready, view(&second, "uid-all", "dev").unwrap()), "the first call computes nothing");

    // Lists in use are rendered once the snapshot is published, and only those.
    assert_eq!(ready.rendered().count(), 0);
    compiled.lists_in_use.render();
    assert_eq!(ready.rendered().collect::<Vec<_>>(), [(List::Tools, Era::Legacy)]);

    // A view that nobody used since is computed again all the same.
    let third = change(&mut builder, fixture()).snapshot;
    assert!(computed(&third, "uid-all").is_some());
}

#[test]
fn scopes_that_see_the_same_share_a_view_and_its_pages() {
    let mut fixture = fixture();
    fixture.tokens =
        (0..500).map(|team| token(&format!("t{team}"), &["time_*", &format!("team{team}_*")])).collect();
    let budget = Budget::default();
    let mut builder = Builder::new(PageLimits::default(), budget.clone());
    let snapshot = change(&mut builder, fixture.clone()).snapshot;
    let first = view(&snapshot, "uid-t0", "dev").unwrap();
    let pages = first.pages(List::Tools, Era::Modern);
    let left = budget.left();
    for team in 0..500 {
        let other = view(&snapshot, &format!("uid-t{team}"), "dev").unwrap();
        assert!(Arc::ptr_eq(first, other));
        assert!(Arc::ptr_eq(&pages, &other.pages(List::Tools, Era::Modern)));
    }
    assert_eq!(budget.left(), left, "lists take memory once");

    let compiled = change(&mut builder, retitled(&fixture));
    let snapshot = compiled.snapshot;
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
            let snapshot = change(&mut builder, moved).snapshot;
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
        let snapshot = change(
            &mut builder,
            Resources {
                tokens: vec![token("brief", &[name, &format!("round{round}")])],
                ..Default::default()
            },
        )
        .snapshot;
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
