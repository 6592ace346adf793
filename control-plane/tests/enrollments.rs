//! The tables of enrolments and join tokens, on SQLite and, where `TEST_POSTGRES_URL` is set, on PostgreSQL: who may enrol, how
//! often, and what that changes, also with many at once on two replicas.
#![allow(clippy::unwrap_used, reason = "a failed expectation is a failed test")]

#[macro_use]
#[path = "support/database.rs"]
mod database;

use std::collections::BTreeSet;
use std::sync::Arc;

use database::Database;
use futures_util::FutureExt as _;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use trunkline_control_plane::store::Store;
use trunkline_control_plane::store::edges::{DepartureRow, EdgeRow, Edges};
use trunkline_control_plane::store::enrollments::{EnrollmentRequest, Enrollments, Outcome, TokenRefusal};
use trunkline_control_plane::store::join_tokens::{JoinTokens, NewJoinToken};

suite! {
    a_join_token_is_used_as_often_as_it_may_be,
    of_fifty_at_once_on_two_replicas_as_many_enrol_as_may,
    of_fifty_that_want_one_id_at_once_one_gets_it,
    an_id_that_is_enrolled_needs_a_proof_or_a_join_token_of_its_own,
    a_replaced_enrollment_leaves_nothing_behind,
    a_request_that_is_repeated_enrolls_once,
    refused_enrollments_are_counted_for_every_replica,
    join_tokens_are_listed_with_their_edges_and_deleted,
    edges_of_earlier_builds_stay_enrolled,
    enrollments_do_not_hold_up_who_writes_the_registry,
    an_edge_that_was_never_connected_is_forgotten,
}

struct Tables {
    edges: Edges,
    enrollments: Enrollments,
    tokens: JoinTokens,
}

/// A hash as it is stored. Its first 12 digits are the id of the token.
fn hash(name: &str) -> String {
    format!("{name:0>12}{}", "0".repeat(52))
}

impl Tables {
    fn of(store: &Store) -> Self {
        Self {
            edges: Edges::new(store),
            enrollments: Enrollments::new(store),
            tokens: JoinTokens::new(store),
        }
    }

    async fn open(database: &Database) -> Self {
        Self::of(&database.open().await)
    }

    /// Writes where an edge stands. Tells whether its enrolment is the present one.
    async fn report(&self, row: &EdgeRow) -> bool {
        self.edges.report(std::slice::from_ref(row)).await.unwrap().contains(&row.id)
    }

    async fn token(&self, name: &str, max_uses: i64, edge: &str) {
        let new = NewJoinToken { hash: &hash(name), expire_us: i64::MAX, max_uses, edge };
        self.tokens.add(&new).await.unwrap();
    }

    async fn uses(&self, name: &str) -> i64 {
        self.tokens.get(&hash(name)[..12]).await.unwrap().unwrap().uses
    }

    async fn enroll(&self, edge: &str, token: &str) -> Outcome {
        self.enroll_with(edge, token, "", "").await
    }

    async fn enroll_with(&self, edge: &str, token: &str, proved: &str, request: &str) -> Outcome {
        let token_hash = &hash(token);
        let request = EnrollmentRequest { edge, token_hash, proved, request_hash: request };
        self.enrollments.enroll(request).await.unwrap()
    }

    async fn present(&self, edge: &str) -> EdgeRow {
        self.edges.get(edge).await.unwrap().unwrap()
    }
}

async fn a_join_token_is_used_as_often_as_it_may_be(database: Database) {
    let tables = Tables::open(&database).await;
    tables.token("twice", 2, "").await;
    tables.token("often", 0, "").await;
    tables.token("bound", 1, "e9").await;
    tables
        .tokens
        .add(&NewJoinToken { hash: &hash("ended"), expire_us: 1, max_uses: 0, edge: "" })
        .await
        .unwrap();
    let mut outcomes = Vec::new();
    for (number, token) in
        ["twice", "twice", "twice", "often", "often", "often", "ended", "bound", "unknown"].iter().enumerate()
    {
        outcomes.push(match tables.enroll(&format!("e{number}"), token).await {
            Outcome::Enrolled(_) => None,
            Outcome::TokenRefused(reason) => Some(reason),
            other => panic!("{token}: {other:?}"),
        });
    }
    use TokenRefusal::{Expired, OtherEdge, Unknown, UsedUp};
    let expected =
        [None, None, Some(UsedUp), None, None, None, Some(Expired), Some(OtherEdge), Some(Unknown)];
    assert_eq!(outcomes, expected);
    let ids: Vec<_> = tables.edges.list("", 100).await.unwrap().into_iter().map(|row| row.id).collect();
    assert_eq!(ids, ["e0", "e1", "e3", "e4", "e5"], "who is refused leaves nothing behind");
    assert_eq!((tables.uses("twice").await, tables.uses("bound").await), (2, 0));
}

/// Enrols 50 edges at once, by turns at two replicas.
async fn fifty(database: &Database, edge: impl Fn(usize) -> String) -> Vec<Outcome> {
    let (one, two) = (database.open().await, database.open().await);
    let attempts = (0..50).map(|number| {
        let (tables, edge) = (Tables::of(if number % 2 == 0 { &one } else { &two }), edge(number));
        tokio::spawn(async move { tables.enroll(&edge, "join").await })
    });
    let attempts: Vec<_> = attempts.collect();
    let mut outcomes = Vec::new();
    for attempt in attempts {
        outcomes.push(attempt.await.unwrap());
    }
    outcomes
}

async fn of_fifty_at_once_on_two_replicas_as_many_enrol_as_may(database: Database) {
    let tables = Tables::open(&database).await;
    tables.token("join", 3, "").await;
    let outcomes = fifty(&database, |number| format!("e{number}")).await;
    let enrolled = outcomes.iter().filter(|outcome| matches!(outcome, Outcome::Enrolled(_))).count();
    let refused =
        outcomes.iter().filter(|outcome| **outcome == Outcome::TokenRefused(TokenRefusal::UsedUp)).count();
    assert_eq!((enrolled, refused), (3, 47), "{outcomes:?}");
    assert_eq!(tables.edges.list("", 100).await.unwrap().len(), 3);
    assert_eq!(tables.uses("join").await, 3);
}

async fn of_fifty_that_want_one_id_at_once_one_gets_it(database: Database) {
    let tables = Tables::open(&database).await;
    tables.token("join", 0, "").await;
    let outcomes = fifty(&database, |_| "e1".to_owned()).await;
    let enrolled: Vec<_> =
        outcomes.iter().filter(|outcome| matches!(outcome, Outcome::Enrolled(_))).collect();
    let taken = outcomes.iter().filter(|outcome| **outcome == Outcome::Taken).count();
    assert_eq!((enrolled.len(), taken), (1, 49), "{outcomes:?}");
    assert_eq!(*enrolled[0], Outcome::Enrolled(tables.present("e1").await.enrollment.id));
    assert_eq!(tables.uses("join").await, 1, "who is refused uses nothing up");
}

async fn an_id_that_is_enrolled_needs_a_proof_or_a_join_token_of_its_own(database: Database) {
    let tables = Tables::open(&database).await;
    tables.token("open", 0, "").await;
    tables.token("of e1", 0, "e1").await;
    tables.token("of e2", 0, "e2").await;
    let Outcome::Enrolled(first) = tables.enroll("e1", "open").await else { panic!("it is new") };
    let before = tables.present("e1").await;
    for (token, proved, expected) in [
        ("open", "", Outcome::Taken),
        ("open", "another", Outcome::Taken),
        ("of e2", &*first, Outcome::TokenRefused(TokenRefusal::OtherEdge)),
        ("none", &*first, Outcome::TokenRefused(TokenRefusal::Unknown)),
    ] {
        assert_eq!(tables.enroll_with("e1", token, proved, "").await, expected, "{token} {proved}");
        assert_eq!(tables.present("e1").await, before);
    }
    let Outcome::Replaced(second) = tables.enroll_with("e1", "open", &first, "").await else {
        panic!("it proved to be the same edge")
    };
    assert_eq!(tables.enroll_with("e1", "open", &first, "").await, Outcome::Taken, "that has ended");
    let Outcome::Replaced(third) = tables.enroll("e1", "of e1").await else {
        panic!("an administrator said so")
    };
    assert_eq!(tables.enroll_with("e1", "open", &second, "").await, Outcome::Taken, "that has ended");
    assert_eq!(BTreeSet::from([&first, &second, &third]).len(), 3);
    assert_eq!(tables.present("e1").await.enrollment.id, third);
    // Deleted and enrolled again, it does not come back to life either.
    assert!(tables.edges.delete("e1").await.unwrap());
    let Outcome::Enrolled(fourth) = tables.enroll_with("e1", "open", &third, "").await else {
        panic!("nothing is enrolled under its id")
    };
    assert!(![first, second, third].contains(&fourth));
}

async fn a_replaced_enrollment_leaves_nothing_behind(database: Database) {
    let tables = Tables::open(&database).await;
    tables.token("of e1", 0, "e1").await;
    tables.enroll("e1", "of e1").await;
    let connected = EdgeRow {
        replica: "r".to_owned(),
        connection: 3,
        beat_us: i64::MAX,
        version: "1.2.3".to_owned(),
        client_address: "http://e1".to_owned(),
        sibling_address: "e1:4447".to_owned(),
        sibling_certificate: "07".repeat(32),
        sent_revision: 4,
        answered_revision: 4,
        acked_revision: 4,
        behind_us: 5,
        refusals: vec![1],
        ..tables.present("e1").await
    };
    assert!(tables.report(&connected).await);
    assert_eq!(tables.edges.siblings(0).await.unwrap().len(), 1);
    assert!(matches!(tables.enroll("e1", "of e1").await, Outcome::Replaced(_)));
    let now = tables.present("e1").await;
    assert_ne!(now.enrollment.id, connected.enrollment.id);
    let untouched = EdgeRow {
        id: "e1".to_owned(),
        enrollment: now.enrollment.clone(),
        state_us: now.enrollment.enroll_us,
        ..EdgeRow::default()
    };
    assert_eq!(now, untouched);
    assert_eq!(tables.edges.siblings(0).await.unwrap(), [], "its siblings forget it");
    // What the replica that held it still writes changes nothing.
    assert!(!tables.report(&connected).await);
    let departure = DepartureRow { id: "e1".to_owned(), connection: 3, state_us: 9 };
    tables.edges.leave("r", &[departure]).await.unwrap();
    assert_eq!(tables.present("e1").await, untouched);
}

async fn a_request_that_is_repeated_enrolls_once(database: Database) {
    let tables = Tables::open(&database).await;
    tables.token("once", 1, "").await;
    tables.token("open", 0, "").await;
    let Outcome::Enrolled(first) = tables.enroll_with("e1", "once", "", "request").await else {
        panic!("it is new")
    };
    let again = tables.enroll_with("e1", "once", "", "request").await;
    assert_eq!(again, Outcome::Repeated(first.clone()));
    // Nothing else is the same request.
    let used_up = Outcome::TokenRefused(TokenRefusal::UsedUp);
    assert_eq!(tables.enroll_with("e1", "once", "", "other").await, used_up);
    assert_eq!(tables.enroll_with("e1", "once", "", "").await, used_up);
    assert_eq!(tables.enroll_with("e2", "once", "", "request").await, used_up);
    assert_eq!(tables.enroll_with("e1", "open", "", "request").await, Outcome::Taken);
    // With uses left, none is used up.
    tables.enroll_with("e3", "open", "", "request").await;
    let uses = tables.uses("open").await;
    assert!(matches!(tables.enroll_with("e3", "open", "", "request").await, Outcome::Repeated(_)));
    assert_eq!(tables.uses("open").await, uses);
    // A join token that was revoked, or an edge that was deleted, ends it.
    tables.tokens.delete(&hash("once")[..12]).await.unwrap();
    let unknown = Outcome::TokenRefused(TokenRefusal::Unknown);
    assert_eq!(tables.enroll_with("e1", "once", "", "request").await, unknown);
    tables.edges.delete("e3").await.unwrap();
    assert!(matches!(tables.enroll_with("e3", "open", "", "request").await, Outcome::Enrolled(_)));
    assert_eq!(tables.present("e1").await.enrollment.id, first);
}

async fn refused_enrollments_are_counted_for_every_replica(database: Database) {
    let (here, there) = (Tables::open(&database).await, Tables::open(&database).await);
    here.token("open", 0, "").await;
    here.enroll("e1", "open").await;
    here.enrollments.count_refused("e1", "192.0.2.1:5", "a").await.unwrap();
    there.enrollments.count_refused("e1", "192.0.2.2:6", "b").await.unwrap();
    here.enrollments.count_refused("unknown", "192.0.2.3:7", "c").await.unwrap();
    let seen = there.present("e1").await.enrollment;
    let last = (seen.refused_count, seen.refused_address.as_str(), seen.refused_join_token.as_str());
    assert_eq!(last, (2, "192.0.2.2:6", "b"));
    assert!(seen.refused_us > 0);
    assert!(there.edges.get("unknown").await.unwrap().is_none());
}

async fn join_tokens_are_listed_with_their_edges_and_deleted(database: Database) {
    let tables = Tables::open(&database).await;
    for name in ["a", "b", "c"] {
        tables.token(name, 0, "").await;
    }
    for (edge, token) in [("e2", "b"), ("e1", "b"), ("e3", "c")] {
        tables.enroll(edge, token).await;
    }
    let id = |name: &str| hash(name)[..12].to_owned();
    let ids = |rows: Vec<_>| -> Vec<String> {
        rows.into_iter()
            .map(|row: trunkline_control_plane::store::join_tokens::JoinTokenRow| row.id)
            .collect()
    };
    assert_eq!(ids(tables.tokens.list("", 10).await.unwrap()), [id("a"), id("b"), id("c")]);
    assert_eq!(ids(tables.tokens.list(&id("a"), 1).await.unwrap()), [id("b")]);
    let enrolled = tables.tokens.enrolled_edges(&id("a"), &id("b")).await.unwrap();
    assert_eq!(enrolled, [(id("b"), "e1".to_owned()), (id("b"), "e2".to_owned())]);
    assert!(tables.tokens.delete(&id("b")).await.unwrap());
    assert!(!tables.tokens.delete(&id("b")).await.unwrap());
    assert_eq!(tables.tokens.get(&id("b")).await.unwrap(), None);
    assert_eq!(tables.enroll("e4", "b").await, Outcome::TokenRefused(TokenRefusal::Unknown));
    assert_eq!(tables.present("e1").await.enrollment.join_token, id("b"), "who enrolled with it stays");
}

async fn edges_of_earlier_builds_stay_enrolled(database: Database) {
    database.open().await.close().await;
    database.undo_after(7).await;
    let empty = if database.is_sqlite() { "x''" } else { "''" };
    database
        .run(&format!(
            "insert into edges (id, enroll_us, replica, connection, beat_us, state_us, version, client_address, \
             sent_revision, answered_revision, acked_revision, behind_us, refusals) \
             values ('e1', 1800000000000001, '', 0, 0, 7, '0.0.9', '', 0, 0, 0, 0, {empty}); \
             insert into join_tokens (hash, create_us, expire_us, max_uses, uses) \
             values ('{}', 1, 9000000000000000000, 0, 1)",
            hash("of earlier")
        ))
        .await;
    let tables = Tables::open(&database).await;
    let edge = tables.present("e1").await;
    assert_eq!((edge.enrollment.id.as_str(), edge.version.as_str()), ("1800000000000001", "0.0.9"));
    assert_eq!(edge.enrollment.join_token, "");
    assert!(tables.report(&edge).await);
    let tokens = tables.tokens.list("", 10).await.unwrap();
    assert_eq!((tokens[0].id.as_str(), tokens[0].uses), (&hash("of earlier")[..12], 1));
    assert_eq!(tables.enroll("e1", "of earlier").await, Outcome::Taken);
    assert!(matches!(tables.enroll("e2", "of earlier").await, Outcome::Enrolled(_)));
    // Its credential proves its enrolment as any does.
    let again = tables.enroll_with("e1", "of earlier", "1800000000000001", "").await;
    assert!(matches!(again, Outcome::Replaced(_)), "{again:?}");
}

async fn an_edge_that_was_never_connected_is_forgotten(database: Database) {
    let tables = Tables::open(&database).await;
    tables.token("join", 0, "").await;
    for edge in ["made-up", "connected", "new"] {
        assert!(matches!(tables.enroll(edge, "join").await, Outcome::Enrolled(_)));
    }
    let mut row = tables.present("connected").await;
    row.beat_us = 1;
    assert!(tables.report(&row).await);
    database.run("update edges set enroll_us = 100 where id <> 'new'").await;
    assert_eq!(tables.edges.forget_unused(100).await.unwrap(), [""; 0]);
    assert_eq!(tables.edges.forget_unused(101).await.unwrap(), ["made-up"]);
    let left: Vec<_> = tables.edges.list("", 10).await.unwrap().into_iter().map(|row| row.id).collect();
    assert_eq!(left, ["connected", "new"]);
}

async fn enrollments_do_not_hold_up_who_writes_the_registry(database: Database) {
    // More than there are connections to the database.
    const EDGES: usize = 40;
    let store = database.open().await;
    let tables = Tables::of(&store);
    tables.token("many", EDGES.try_into().unwrap(), "").await;
    let first = store.write().await.unwrap();
    let started = Arc::new(Semaphore::new(0));
    let mut enrolling = JoinSet::new();
    for number in 0..EDGES {
        let (enrollments, started) = (tables.enrollments.clone(), started.clone());
        enrolling.spawn(async move {
            started.add_permits(1);
            let (edge, token_hash) = (format!("e{number}"), hash("many"));
            let request =
                EnrollmentRequest { edge: &edge, token_hash: &token_hash, proved: "", request_hash: "" };
            enrollments.enroll(request).await.unwrap()
        });
    }
    let _ = started.acquire_many(EDGES.try_into().unwrap()).await.unwrap();
    // They wait, and not with all connections: whoever reads does not wait for them.
    for _ in 0..20 {
        tokio::task::yield_now().await;
        assert_eq!(store.revision().await.unwrap(), 0);
    }
    let mut second = Box::pin(store.write());
    assert!((&mut second).now_or_never().is_none(), "it stands in line from here on");
    first.commit().await.unwrap();
    // Of all that came before it, one at the most was enrolled.
    let second = second.await.unwrap();
    let enrolled = tables.edges.enrollments().await.unwrap().len();
    assert!(enrolled <= 1, "{enrolled} edges were enrolled before");
    second.commit().await.unwrap();
    for outcome in enrolling.join_all().await {
        assert!(matches!(outcome, Outcome::Enrolled(_)), "{outcome:?}");
    }
}
