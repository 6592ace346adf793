use access::limit::Limit;

use super::*;

const COUNTED: Counted<'static> = Counted { token: "u", server: "dev", target: "a/b" };

fn limit(id: &str, text: &str) -> TokenLimit {
    TokenLimit { id: id.into(), limit: Limit::rate(text).or_else(|_| Limit::quota(text)).ok() }
}

fn cache() -> LimitCache {
    let table = Arc::new(LimitTable::new(Arc::default()));
    table.can_ask.store(true, Ordering::Relaxed);
    LimitCache::new(table)
}

fn refused(cache: &LimitCache, counted: Counted<'_>, limits: &[TokenLimit]) -> Option<LimitRefusal> {
    match cache.charge(counted, limits) {
        Ok(_) => None,
        Err(Failure::Limit { what, .. }) => Some(what),
        Err(other) => panic!("{other}"),
    }
}

#[test]
fn buckets_are_named_as_control_planes_know_them() {
    let mut key = String::new();
    let mut named = |per| {
        write_key(&mut key, COUNTED, "q1", per);
        key.clone()
    };
    assert_eq!(
        [Per::All, Per::Server, Per::Tool].map(&mut named),
        ["u/q1/-/-", "u/q1/dev/-", "u/q1/dev/a/b"]
    );
    assert_eq!(id_of("u/q1/dev/a/b"), "q1");
}

#[test]
fn each_part_of_a_limit_is_counted_by_itself_and_all_workers_count_in_one() {
    let first = cache();
    let second = LimitCache::new(Arc::clone(&first.table));
    let per_tool = [limit("r0", "1/s per tool")];
    assert_eq!(refused(&first, COUNTED, &per_tool), None, "on credit");
    assert_eq!(refused(&second, COUNTED, &per_tool), Some(LimitRefusal::Rate));
    assert_eq!(refused(&first, Counted { target: "other", ..COUNTED }, &per_tool), None);
    let per_server = [limit("r0", "1/s per server")];
    // Another limit under the same id is another one.
    assert_eq!(refused(&first, COUNTED, &per_server), None);
    assert_eq!(
        refused(&second, Counted { target: "other", ..COUNTED }, &per_server),
        Some(LimitRefusal::Rate)
    );
    assert_eq!(refused(&second, Counted { server: "other", ..COUNTED }, &per_server), None);
    assert_eq!(first.table.metrics.limits_refused(LimitRefusal::Rate).get(), 2);
}

#[test]
fn what_one_limit_refuses_costs_nothing_of_the_others() {
    let cache = cache();
    let limits = [limit("r0", "40/s"), limit("q0", "1/day"), limit("q1", "1/month")];
    assert_eq!(refused(&cache, COUNTED, &limits), None);
    for _ in 0..10 {
        assert_eq!(refused(&cache, COUNTED, &limits), Some(LimitRefusal::Quota));
    }
    let spent = |id: &str| {
        let buckets = cache.table.buckets();
        let found = buckets.iter().find(|(_, bucket)| id_of(&bucket.key) == id);
        found.map(|(_, bucket)| bucket.demand(cache.table.clock()).spent)
    };
    assert_eq!(["r0", "q0", "q1"].map(spent), [Some(1), Some(1), Some(1)]);
}

#[test]
fn a_limit_that_cannot_be_read_refuses_whatever_the_others_say() {
    let cache = cache();
    let limits = [limit("r0", "40/s"), TokenLimit { id: "x".into(), limit: None }];
    assert_eq!(refused(&cache, COUNTED, &limits), Some(LimitRefusal::Unusable));
    assert_eq!(refused(&cache, COUNTED, &[]), None);
}

#[test]
fn without_a_control_plane_nothing_passes_that_was_not_leased() {
    let cache = cache();
    cache.table.can_ask.store(false, Ordering::Relaxed);
    assert_eq!(refused(&cache, COUNTED, &[limit("r0", "40/s")]), Some(LimitRefusal::Rate));
    assert_eq!(refused(&cache, COUNTED, &[limit("q0", "40/day")]), Some(LimitRefusal::Quota));
}

#[test]
fn a_flood_of_parts_leaves_room_for_other_tokens_and_each_says_what_is_left() {
    let cache = cache();
    let per_tool = [limit("q0", "1/day per tool")];
    let full = (0..=MAX_BUCKETS)
        .find_map(|number| refused(&cache, Counted { target: &number.to_string(), ..COUNTED }, &per_tool));
    assert_eq!(full, Some(LimitRefusal::Buckets));
    let differs = |token: &String| Holder::of(token.as_str()) != Holder::of(COUNTED.token);
    let another = (0..).map(|number| format!("another{number}")).find(differs).unwrap();
    let charge = cache.charge(Counted { token: &another, ..COUNTED }, &per_tool).unwrap();
    assert_eq!(charge.left().policy, r#""q0";q=1;w=86400"#);
    assert_eq!(charge.left().left, "", "what is left is not known yet");
    charge.give_back();
    assert!(cache.table.metrics.limit_buckets.get() <= MAX_BUCKETS as i64);
}
