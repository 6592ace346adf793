//! One conformance suite of the store, run on SQLite and, where `TEST_POSTGRES_URL` is set, on PostgreSQL.
#![allow(clippy::unwrap_used, reason = "a failed expectation is a failed test")]

#[macro_use]
#[path = "support/database.rs"]
mod database;

use std::collections::BTreeSet;
use std::time::Duration;

use database::Database;
use trunkline::common::v1::{Meta, Permission, Visibility};
use trunkline::identity::v1::{Scope, Token};
use trunkline::registry::v1::upstream::{Kind as UpstreamKind, Reach};
use trunkline::registry::v1::{EraPolicy, HttpReach, McpUpstream, Server, Tool, Upstream, UpstreamStatus};
use trunkline_control_plane::domain::page::Order;
use trunkline_control_plane::domain::{Kind, KindRules};
use trunkline_control_plane::rights::permission_set::PermissionSet;
use trunkline_control_plane::rights::{HeldRole, Ownership, Rights};
use trunkline_control_plane::store::{ApplySetRow, Membership, Page, Row, SecretRow, Store, Viewer};

suite! {
    a_resource_lives_and_dies,
    what_does_not_change_takes_no_revision,
    what_is_not_committed_leaves_no_trace,
    writers_queue_and_revisions_are_dense,
    pages_visit_each_once_in_every_order,
    pages_by_parent_and_label,
    pages_hold_what_exists_for_who_looks,
    old_rows_are_nobodys_and_keep_their_etags,
    the_log_tells_everything,
    an_upstream_takes_its_catalogue_along,
    many_are_stored_as_one_is,
    referrers_are_known,
    secrets_live_with_their_resource,
    replicas_hear_of_each_other,
    replicas_migrate_at_once,
    observations_take_no_revision,
    an_apply_set_takes_no_revision,
    a_resource_joins_a_set_when_it_is_changed,
    names_sort_by_their_bytes,
    everything_is_there_after_a_restart,
    the_era_policy_of_earlier_builds_is_carried_over,
}

fn upstream(id: &str, title: &str) -> Upstream {
    Upstream {
        name: format!("upstreams/{id}"),
        title: title.to_owned(),
        reach: Some(Reach::Http(HttpReach { url: "http://127.0.0.1:9000/mcp".to_owned() })),
        ..Upstream::default()
    }
}

fn tool(upstream: &str, own: &str) -> Tool {
    Tool {
        name: format!("upstreams/{upstream}/tools/{own}"),
        definition_json: format!(r#"{{"name":"{own}"}}"#),
        ..Tool::default()
    }
}

fn owned<K: KindRules>(mut message: K, owner: &str, team: &str, visibility: Visibility) -> K {
    let (owner, team) = (owner.to_owned(), team.to_owned());
    *message.meta_slot() = Some(Meta { owner, team, visibility: visibility.into(), ..Meta::default() });
    message
}

fn labelled<K: KindRules>(mut message: K, key: &str, value: &str) -> K {
    let labels = [(key.to_owned(), value.to_owned())].into();
    *message.meta_slot() = Some(Meta { labels, ..Meta::default() });
    message
}

async fn put<K: KindRules>(store: &Store, message: &K) -> Row {
    let mut tx = store.write().await.unwrap();
    let old = tx.get(K::KIND, message.name()).await.unwrap();
    let row = tx.put(message, old.as_ref(), None).await.unwrap();
    tx.commit().await.unwrap();
    row
}

async fn delete(store: &Store, kind: Kind, name: &str) -> i64 {
    let mut tx = store.write().await.unwrap();
    let row = tx.get(kind, name).await.unwrap().unwrap();
    tx.delete(&row).await.unwrap();
    tx.commit().await.unwrap()
}

async fn a_resource_lives_and_dies(database: Database) {
    let store = database.open().await;
    let created = put(&store, &upstream("a", "one")).await;
    assert_eq!((created.revision, created.create_us), (1, created.update_us));
    let updated = put(&store, &upstream("a", "two")).await;
    assert_eq!((updated.revision, &updated.uid, updated.create_us), (2, &created.uid, created.create_us));
    assert_ne!(updated.etag(), created.etag());
    assert_eq!(store.get(Kind::Upstream, "upstreams/a").await.unwrap(), Some(updated.clone()));

    let message: Upstream = updated.message().unwrap();
    assert_eq!((message.name.as_str(), message.title.as_str()), ("upstreams/a", "two"));
    let meta = message.meta.unwrap();
    assert_eq!((meta.uid, meta.etag, meta.revision), (updated.uid.clone(), updated.etag(), 2));

    assert_eq!(delete(&store, Kind::Upstream, "upstreams/a").await, 3);
    assert_eq!(store.get(Kind::Upstream, "upstreams/a").await.unwrap(), None);
    let again = put(&store, &upstream("a", "two")).await;
    assert_ne!(again.uid, created.uid, "another life has another identity");
    assert_ne!(again.etag(), updated.etag());
}

async fn what_does_not_change_takes_no_revision(database: Database) {
    let store = database.open().await;
    let first = put(&store, &upstream("a", "one")).await;
    let same = put(&store, &upstream("a", "one")).await;
    assert_eq!(first, same);
    assert_eq!(store.revision().await.unwrap(), 1);
    assert_eq!(*store.revisions().borrow(), 1);
}

async fn what_is_not_committed_leaves_no_trace(database: Database) {
    let store = database.open().await;
    let mut tx = store.write().await.unwrap();
    tx.put(&upstream("a", "one"), None, None).await.unwrap();
    drop(tx);
    assert_eq!(store.all().await.unwrap(), (0, vec![]));
    assert_eq!(put(&store, &upstream("b", "one")).await.revision, 1);
}

async fn writers_queue_and_revisions_are_dense(database: Database) {
    let (one, two) = (database.open().await, database.open().await);
    let mut writers = tokio::task::JoinSet::new();
    for index in 0..20 {
        let store = if index % 2 == 0 { one.clone() } else { two.clone() };
        writers.spawn(async move { put(&store, &upstream(&format!("u{index}"), "t")).await.revision });
    }
    let revisions: BTreeSet<i64> = writers.join_all().await.into_iter().collect();
    assert_eq!(revisions, (1..=20).collect());
    let (revision, rows) = one.all().await.unwrap();
    assert_eq!((revision, rows.len()), (20, 20));
}

async fn read_pages(store: &Store, mut page: Page) -> Vec<String> {
    let mut names = Vec::new();
    loop {
        let rows = store.page(&page).await.unwrap();
        let Some(last) = rows.last() else { return names };
        let value = if page.order == Order::Revision { last.revision } else { last.create_us };
        page.after = Some((value, last.name.clone()));
        names.extend(rows.into_iter().map(|row| row.name));
    }
}

fn page(kind: Kind, order: Order, descending: bool) -> Page {
    let viewer = Viewer::of_everything();
    Page { kind, parent: None, order, descending, after: None, viewer, labels: Vec::new(), limit: 3 }
}

async fn pages_visit_each_once_in_every_order(database: Database) {
    let store = database.open().await;
    let mut tx = store.write().await.unwrap();
    for index in 0..4 {
        // One transaction, so that times and revisions are equal, and names must break the tie.
        tx.put(&upstream(&format!("tie{index}"), "t"), None, None).await.unwrap();
    }
    tx.commit().await.unwrap();
    for id in ["z", "m", "a"] {
        put(&store, &upstream(id, "t")).await;
    }
    let by_name = ["a", "m", "tie0", "tie1", "tie2", "tie3", "z"].map(|id| format!("upstreams/{id}"));
    let by_age = ["tie0", "tie1", "tie2", "tie3", "z", "m", "a"].map(|id| format!("upstreams/{id}"));
    for (order, expected) in
        [(Order::Name, by_name), (Order::Revision, by_age.clone()), (Order::CreateTime, by_age)]
    {
        assert_eq!(read_pages(&store, page(Kind::Upstream, order, false)).await, expected);
        let backwards: Vec<String> = expected.into_iter().rev().collect();
        assert_eq!(read_pages(&store, page(Kind::Upstream, order, true)).await, backwards);
    }
}

async fn pages_by_parent_and_label(database: Database) {
    let store = database.open().await;
    for id in ["a", "b"] {
        put(&store, &upstream(id, "t")).await;
        put(&store, &labelled(tool(id, "x"), "team", "core")).await;
        put(&store, &labelled(tool(id, "y"), "team", "other")).await;
    }
    let mut of_a = page(Kind::Tool, Order::Name, false);
    of_a.parent = Some("upstreams/a".to_owned());
    assert_eq!(read_pages(&store, of_a.clone()).await, ["upstreams/a/tools/x", "upstreams/a/tools/y"]);
    let core = vec![("team".to_owned(), "core".to_owned())];
    of_a.labels = core.clone();
    assert_eq!(read_pages(&store, of_a).await, ["upstreams/a/tools/x"]);
    let everywhere = Page { labels: core, ..page(Kind::Tool, Order::Revision, true) };
    assert_eq!(read_pages(&store, everywhere.clone()).await, ["upstreams/b/tools/x", "upstreams/a/tools/x"]);
    put(&store, &tool("b", "x")).await;
    assert_eq!(read_pages(&store, everywhere).await, ["upstreams/a/tools/x"]);
}

/// What is asked of the database is what [`Rights::reads`] says of each row.
async fn pages_hold_what_exists_for_who_looks(database: Database) {
    let store = database.open().await;
    let mut all = Vec::new();
    for owner in ["", "users/ann", "users/bob"] {
        for team in ["", "teams/a", "teams/b"] {
            for visibility in [Visibility::Private, Visibility::Team, Visibility::Public] {
                let id = format!("u{}", all.len());
                let row = put(&store, &owned(upstream(&id, "t"), owner, team, visibility)).await;
                assert_eq!(row.ownership, Ownership { owner: owner.into(), team: team.into(), visibility });
                put(&store, &tool(&id, "x")).await;
                all.push(row);
            }
        }
    }
    // They read in some of the teams that they are in only.
    let somebody = |name: &str, teams: &[&str], reads: &[&str]| {
        let teams = teams.iter().map(|team| (*team).to_owned()).collect();
        let read = [Permission::RegistryRead].into_iter().collect();
        let role = |team: &&str| HeldRole {
            role: "roles/r".to_owned(),
            team: (*team).to_owned(),
            permissions: read,
        };
        let roles = reads.iter().chain(&["teams/elsewhere"]).map(role).collect();
        Rights::new(name.to_owned(), name.to_owned(), roles, teams, PermissionSet::all())
    };
    let administrator = (*Rights::administrator()).clone();
    for who in [
        administrator,
        somebody("users/ann", &["teams/a"], &["teams/a"]),
        somebody("users/ann", &[], &[]),
        somebody("users/ann", &["teams/a"], &[]),
        somebody("users/eve", &["teams/a", "teams/b"], &["teams/b"]),
        Rights::default(),
    ] {
        // Whoever lists holds the permission somewhere.
        let is_seen =
            |of: &Ownership| of.visibility == Visibility::Public || who.reads(Permission::RegistryRead, of);
        let seen: Vec<&Row> = all.iter().filter(|row| is_seen(&row.ownership)).collect();
        let viewer = Viewer::of(&who, Permission::RegistryRead);
        for kind in [Kind::Upstream, Kind::Tool] {
            let mut expected: Vec<String> = match kind {
                Kind::Tool => seen.iter().map(|row| format!("{}/tools/x", row.name)).collect(),
                _ => seen.iter().map(|row| row.name.clone()).collect(),
            };
            expected.sort();
            let of = |order: Order| Page { viewer: viewer.clone(), ..page(kind, order, false) };
            assert_eq!(read_pages(&store, of(Order::Name)).await, expected, "{who:?}");
            let mut by_revision = read_pages(&store, of(Order::Revision)).await;
            by_revision.sort();
            assert_eq!(by_revision, expected, "{who:?}");
            let names: BTreeSet<String> = expected.into_iter().collect();
            assert_eq!(store.seen(kind, &viewer).await.unwrap().into_iter().collect::<BTreeSet<_>>(), names);
        }
        let one =
            Page { parent: Some("upstreams/u0".to_owned()), viewer, ..page(Kind::Tool, Order::Name, false) };
        assert_eq!(read_pages(&store, one).await.len(), usize::from(who.sees(&all[0].ownership)));
    }
}

/// Rows of before say nothing of whose they are: they stay as they were, byte for byte, and the installation's.
async fn old_rows_are_nobodys_and_keep_their_etags(database: Database) {
    let store = database.open().await;
    let before = put(&store, &labelled(upstream("a", "t"), "k", "v")).await;
    store.close().await;
    database.undo_after(10).await;
    let store = database.open().await;
    let row = store.get(Kind::Upstream, "upstreams/a").await.unwrap().unwrap();
    assert_eq!((&row.body, row.etag(), &row.ownership), (&before.body, before.etag(), &Ownership::default()));
    let message: Upstream = row.message().unwrap();
    let same = put(&store, &message).await;
    assert_eq!(
        (same.revision, same.etag()),
        (before.revision, before.etag()),
        "writing it back changes nothing"
    );
}

async fn the_log_tells_everything(database: Database) {
    let store = database.open().await;
    assert_eq!(store.changes_since(0).await.unwrap(), (0, vec![]));
    put(&store, &upstream("a", "one")).await;
    put(&store, &upstream("b", "one")).await;
    put(&store, &upstream("a", "two")).await;
    delete(&store, Kind::Upstream, "upstreams/b").await;
    let told = |rows: Vec<Row>| {
        rows.into_iter().map(|row| (row.name, row.revision, row.deleted)).collect::<Vec<_>>()
    };
    let (revision, rows) = store.changes_since(1).await.unwrap();
    assert_eq!(revision, 4);
    assert_eq!(told(rows), [("upstreams/a".to_owned(), 3, false), ("upstreams/b".to_owned(), 4, true)]);
    let (revision, rows) = store.all().await.unwrap();
    assert_eq!((revision, told(rows)), (4, vec![("upstreams/a".to_owned(), 3, false)]));
    assert_eq!(store.changes_since(4).await.unwrap(), (4, vec![]));

    // Of the first revisions only what is written over is gone.
    let rows = store.changes_since(0).await.unwrap().1;
    let moved = async |revision| store.moved_after(revision).await.unwrap();
    assert_eq!([moved(0).await, moved(2).await], [Some(rows[0].update_us); 2]);
    assert_eq!([moved(3).await, moved(4).await], [Some(rows[1].update_us), None]);
}

async fn an_upstream_takes_its_catalogue_along(database: Database) {
    let store = database.open().await;
    for id in ["a", "ab"] {
        put(&store, &upstream(id, "t")).await;
        put(&store, &tool(id, "x")).await;
    }
    let revision = delete(&store, Kind::Upstream, "upstreams/a").await;
    let (_, rows) = store.changes_since(revision - 1).await.unwrap();
    let names: Vec<&str> = rows.iter().map(|row| row.name.as_str()).collect();
    assert_eq!(names, ["upstreams/a", "upstreams/a/tools/x"]);
    assert!(rows.iter().all(|row| row.deleted && row.revision == revision));
    assert!(store.get(Kind::Tool, "upstreams/ab/tools/x").await.unwrap().is_some());
}

/// Which tools carry a label.
async fn with_label(store: &Store, key: &str, value: &str) -> usize {
    let labels = vec![(key.to_owned(), value.to_owned())];
    let page = Page { labels, limit: 1_000, ..page(Kind::Tool, Order::Name, false) };
    store.page(&page).await.unwrap().len()
}

async fn many_are_stored_as_one_is(database: Database) {
    let store = database.open().await;
    put(&store, &upstream("a", "t")).await;
    let tools = |value: &str, title: &str| -> Vec<Tool> {
        let one = |at: usize| Tool { definition_json: title.to_owned(), ..tool("a", &format!("t{at:03}")) };
        (0..600).map(|at| labelled(one(at), "team", value)).collect()
    };
    let mut tx = store.write().await.unwrap();
    let revision = tx.revision();
    let new: Vec<_> = tools("x", "1").into_iter().map(|tool| (tool, None)).collect();
    tx.put_many(&new).await.unwrap();
    assert_eq!(tx.commit().await.unwrap(), revision);
    let (_, first) = store.changes_since(revision - 1).await.unwrap();
    assert_eq!((first.len(), with_label(&store, "team", "x").await), (600, 600));
    let read: Tool = first[599].message().unwrap();
    assert_eq!((read.name.as_str(), read.definition_json.as_str()), ("upstreams/a/tools/t599", "1"));
    let one =
        put(&store, &labelled(Tool { definition_json: "1".to_owned(), ..tool("a", "one") }, "team", "x"))
            .await;
    assert_eq!(one.body, first[0].body, "as one is");

    // What is equal is left alone, and takes no revision.
    let before = store.revision().await.unwrap();
    let stored =
        |tools: Vec<Tool>| tools.into_iter().zip(first.iter().cloned().map(Some)).collect::<Vec<_>>();
    let mut tx = store.write().await.unwrap();
    tx.put_many(&stored(tools("x", "1"))).await.unwrap();
    assert_eq!(tx.commit().await.unwrap(), before);

    let mut tx = store.write().await.unwrap();
    let mut changed = stored(tools("x", "1"));
    let others = stored(tools("y", "2"));
    changed[300..].clone_from_slice(&others[300..]);
    tx.put_many(&changed).await.unwrap();
    let revision = tx.commit().await.unwrap();
    let (_, rows) = store.changes_since(revision - 1).await.unwrap();
    assert_eq!(rows.len(), 300);
    assert!(
        rows.iter().zip(&first[300..]).all(|(row, old)| row.uid == old.uid && row.create_us == old.create_us)
    );
    assert_eq!((with_label(&store, "team", "x").await, with_label(&store, "team", "y").await), (301, 300));

    let revision = delete(&store, Kind::Upstream, "upstreams/a").await;
    let (_, rows) = store.changes_since(revision - 1).await.unwrap();
    assert_eq!((rows.len(), rows.iter().all(|row| row.deleted && row.body.is_empty())), (602, true));
    assert_eq!(with_label(&store, "team", "y").await, 0);
}

async fn referrers_are_known(database: Database) {
    let store = database.open().await;
    put(&store, &Server { name: "servers/dev".to_owned(), ..Server::default() }).await;
    let scope = |servers: &[&str]| Scope {
        servers: servers.iter().map(|&s| s.to_owned()).collect(),
        ..Scope::default()
    };
    let token =
        |servers| Token { name: "tokens/t".to_owned(), scope: Some(scope(servers)), ..Token::default() };
    put(&store, &token(&["servers/dev"])).await;
    let mut tx = store.write().await.unwrap();
    assert_eq!(tx.referrers("servers/dev").await.unwrap(), ["tokens/t"]);
    drop(tx);
    put(&store, &token(&["*"])).await;
    let mut tx = store.write().await.unwrap();
    assert!(tx.referrers("servers/dev").await.unwrap().is_empty());
}

async fn secrets_live_with_their_resource(database: Database) {
    let store = database.open().await;
    let row = put(&store, &upstream("a", "t")).await;
    let secret = |version: &str| SecretRow {
        name: row.name.clone(),
        uid: row.uid.clone(),
        version: version.to_owned(),
        sealed: vec![0, 1, 2, 255],
    };
    for version in ["1", "2"] {
        let mut tx = store.write().await.unwrap();
        tx.put_secret(&secret(version)).await.unwrap();
        tx.commit().await.unwrap();
    }
    assert_eq!(store.secret("upstreams/a").await.unwrap(), Some(secret("2")));
    assert_eq!(store.secrets().await.unwrap(), [secret("2")]);
    delete(&store, Kind::Upstream, "upstreams/a").await;
    assert_eq!(store.secret("upstreams/a").await.unwrap(), None);
}

async fn replicas_hear_of_each_other(database: Database) {
    let (here, there) = (database.open().await, database.open().await);
    let mut revisions = there.revisions();
    let following = tokio::spawn({
        let there = there.clone();
        async move { there.follow(Duration::from_secs(3_600)).await }
    });
    put(&here, &upstream("a", "t")).await;
    assert_eq!((*here.revisions().borrow(), *here.committed().borrow()), (1, 1));
    there.recheck();
    let heard =
        tokio::time::timeout(Duration::from_secs(60), revisions.wait_for(|revision| *revision == 1)).await;
    assert_eq!(*heard.unwrap().unwrap(), 1);
    assert_eq!(*there.committed().borrow(), 0, "only what was written here is told to others");
    following.abort();
}

async fn replicas_migrate_at_once(database: Database) {
    let mut replicas = tokio::task::JoinSet::new();
    for _ in 0..6 {
        let database = database.clone();
        replicas.spawn(async move { database.open().await.revision().await.unwrap() });
    }
    assert_eq!(replicas.join_all().await, [0; 6]);
}

async fn observations_take_no_revision(database: Database) {
    let store = database.open().await;
    let row = put(&store, &upstream("a", "t")).await;
    let status = Some(UpstreamStatus { reason: "down".to_owned(), ..UpstreamStatus::default() });
    let observed = Upstream { status: status.clone(), ..Upstream::default() };
    store.observe("upstreams/a", &row.uid, &observed).await.unwrap();
    let found = store.get(Kind::Upstream, "upstreams/a").await.unwrap().unwrap();
    assert_eq!((found.message::<Upstream>().unwrap().status, found.revision), (status, 1));
    assert_eq!(found.etag(), row.etag());
    store.observe("upstreams/a", "another life", &Upstream::default()).await.unwrap();
    assert_eq!(store.get(Kind::Upstream, "upstreams/a").await.unwrap(), Some(found));
    assert_eq!(store.revision().await.unwrap(), 1);
}

async fn an_apply_set_takes_no_revision(database: Database) {
    let store = database.open().await;
    let row = put(&store, &upstream("a", "t")).await;
    for (take_over, members) in [(false, 0), (true, 1)] {
        let mut tx = store.write().await.unwrap();
        let set = Membership { name: "team", take_over };
        tx.put(&upstream("a", "t"), Some(&row), Some(set)).await.unwrap();
        assert_eq!(tx.commit().await.unwrap(), 1);
        assert_eq!(store.revision().await.unwrap(), 1);
        let mut tx = store.write().await.unwrap();
        assert_eq!(tx.applied_with("team").await.unwrap().len(), members, "{take_over}");
    }
    let sets = store.apply_sets(Kind::ALL, &Viewer::of_everything()).await.unwrap();
    assert_eq!(sets, [ApplySetRow { name: "team".to_owned(), count: 1, update_us: row.update_us }]);
}

async fn a_resource_joins_a_set_when_it_is_changed(database: Database) {
    let store = database.open().await;
    let row = put(&store, &upstream("a", "t")).await;
    let mut tx = store.write().await.unwrap();
    let set = Membership { name: "team", take_over: false };
    tx.put(&upstream("a", "other"), Some(&row), Some(set)).await.unwrap();
    tx.commit().await.unwrap();
    let sets = store.apply_sets(Kind::ALL, &Viewer::of_everything()).await.unwrap();
    assert_eq!(sets.iter().map(|set| (set.name.as_str(), set.count)).collect::<Vec<_>>(), [("team", 1)]);
}

async fn names_sort_by_their_bytes(database: Database) {
    let store = database.open().await;
    for own in ["b", "B", "a-b", "a.b", "a_b", "%2Fx", "ab"] {
        put(&store, &tool("u", own)).await;
    }
    let names = read_pages(&store, page(Kind::Tool, Order::Name, false)).await;
    let ids: Vec<&str> = names.iter().map(|name| name.rsplit_once('/').unwrap().1).collect();
    assert_eq!(ids, ["%2Fx", "B", "a-b", "a.b", "a_b", "ab", "b"]);
}

async fn everything_is_there_after_a_restart(database: Database) {
    let store = database.open().await;
    put(&store, &upstream("a", "t")).await;
    let before = store.all().await.unwrap();
    store.close().await;
    let store = database.open().await;
    assert_eq!(store.all().await.unwrap(), before);
    assert_eq!(*store.revisions().borrow(), 1);
}

async fn the_era_policy_of_earlier_builds_is_carried_over(database: Database) {
    let store = database.open().await;
    for id in ["before", "between", "deleted"] {
        put(&store, &upstream(id, "t")).await;
    }
    let policy =
        |era_policy: EraPolicy| Some(UpstreamKind::Mcp(McpUpstream { era_policy: era_policy.into() }));
    put(&store, &Upstream { kind: policy(EraPolicy::Modern), ..upstream("after", "t") }).await;
    delete(&store, Kind::Upstream, "upstreams/deleted").await;
    store.close().await;
    // Field 9 was `era_policy`.
    database.rewind_to(6, "upstreams/before", &[9 << 3, EraPolicy::Legacy as u8]).await;

    let store = database.open().await;
    let kind_of = async |name: &str| {
        let row = store.get(Kind::Upstream, name).await.unwrap().unwrap();
        row.message::<Upstream>().unwrap().kind
    };
    assert_eq!(kind_of("upstreams/before").await, policy(EraPolicy::Legacy));
    assert_eq!(kind_of("upstreams/between").await, None);
    assert_eq!(kind_of("upstreams/after").await, policy(EraPolicy::Modern));
    let before = store.get(Kind::Upstream, "upstreams/before").await.unwrap().unwrap();
    assert_eq!(before.message::<Upstream>().unwrap().title, "t");
}
