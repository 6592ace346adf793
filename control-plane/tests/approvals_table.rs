//! Approvals as they are stored, on both databases: asked for, decided about and used once, whoever is first; bounds; and their end, at
//! times that the tests say.
#![allow(clippy::unwrap_used, reason = "a failed expectation is a failed test")]

#[macro_use]
#[path = "support/database.rs"]
mod database;

use database::Database;
use sqlx::{Connection as _, Row as _};
use trunkline::policy::v1::{Approval, ApprovalState};
use trunkline_control_plane::approvals::counters::ApprovalCounters;
use trunkline_control_plane::approvals::keeper::ApprovalKeeper;
use trunkline_control_plane::approvals::new_id;
use trunkline_control_plane::store::Store;
use trunkline_control_plane::store::approvals::{
    ApprovalBound, ApprovalRow, Decision, MAX_PENDING, MAX_PENDING_OF_ONE, Parties, Use,
};
use trunkline_control_plane::store::leases::Leases;

suite! {
    a_call_is_asked_for_once_and_made_once,
    of_many_who_use_it_at_once_one_does,
    many_who_ask_at_once_ask_for_one,
    what_was_not_used_is_given_back_once_and_only_by_who_used_it,
    what_is_asked_for_again_is_not_given_back,
    of_many_who_go_on_with_a_round_one_does,
    who_was_told_that_it_is_approved_is_not_told_so_twice,
    one_decision_counts,
    what_is_denied_stays_denied_until_its_time_is_over,
    what_is_over_is_neither_decided_about_nor_used,
    an_approval_that_was_not_used_can_be_denied,
    a_principal_has_so_many_that_wait,
    so_many_wait_at_most,
    what_is_over_is_ended_and_forgotten,
}

/// A time; all others are told from it.
const NOW: i64 = 1_900_000_000_000_000;
const HOUR: i64 = 3_600_000_000;
const DAY: i64 = 24 * HOUR;

fn asked(digest: &str, principal: &str, at: i64) -> ApprovalRow {
    ApprovalRow {
        id: new_id().unwrap(),
        digest: digest.to_owned(),
        state: ApprovalState::Pending,
        parties: Parties { principal: principal.to_owned(), ..Parties::default() },
        server: "servers/dev".to_owned(),
        server_uid: "s".to_owned(),
        body: Approval {
            principal: "tokens/ci".to_owned(),
            arguments_json: r#"{"path":"/srv"}"#.to_owned(),
            ..Approval::default()
        },
        create_us: at,
        expire_us: at + HOUR,
        decide_us: 0,
        decided_by: String::new(),
        comment: String::new(),
        use_us: 0,
    }
}

/// What becomes of a call at a time.
async fn call(store: &Store, digest: &str, at: i64) -> Use {
    let mut tx = store.write().await.unwrap();
    let used = tx.use_approval(asked(digest, "p", at), false, at).await.unwrap();
    tx.commit().await.unwrap();
    used
}

async fn held(store: &Store, digest: &str, at: i64) -> ApprovalRow {
    match call(store, digest, at).await {
        Use::Held(row) => row,
        other => panic!("{other:?}"),
    }
}

async fn decide(store: &Store, id: &str, approves: bool, at: i64) -> Option<ApprovalRow> {
    let mut tx = store.write().await.unwrap();
    let found = tx.approval(id).await.unwrap().unwrap();
    let decision = Decision { approves, by: "users/max".to_owned(), ..Decision::default() };
    let decided = tx.decide_approval(found, &decision, at).await.unwrap();
    tx.commit().await.unwrap();
    decided
}

async fn a_call_is_asked_for_once_and_made_once(database: Database) {
    let store = database.open().await;
    let first = held(&store, "d", NOW).await;
    assert_eq!(first.state, ApprovalState::Pending);
    assert_eq!(held(&store, "d", NOW + 1).await.id, first.id, "who asks again finds the same one");
    assert_ne!(held(&store, "other", NOW).await.id, first.id);

    let approved = decide(&store, &first.id, true, NOW + 2).await.unwrap();
    assert_eq!((approved.state, approved.decide_us), (ApprovalState::Approved, NOW + 2));
    let Use::Used(used) = call(&store, "d", NOW + 3).await else { panic!("it was approved") };
    assert_eq!((&used.id, used.state, used.use_us), (&first.id, ApprovalState::Used, NOW + 3));
    let stored = store.approval(&first.id).await.unwrap().unwrap();
    assert_eq!(stored, used);

    let second = held(&store, "d", NOW + 4).await;
    assert_ne!(second.id, first.id, "the next call is asked for anew");
    assert_eq!(second.state, ApprovalState::Pending);
}

async fn of_many_who_use_it_at_once_one_does(database: Database) {
    let (one, other) = (database.open().await, database.open().await);
    let first = held(&one, "d", NOW).await;
    decide(&one, &first.id, true, NOW).await.unwrap();
    let mut calls = tokio::task::JoinSet::new();
    for number in 0..32 {
        // Two replicas do not share a turn.
        let store = if number % 2 == 0 { one.clone() } else { other.clone() };
        calls.spawn(async move { call(&store, "d", NOW + 1).await });
    }
    let calls = calls.join_all().await;
    let used: Vec<_> = calls.iter().filter(|call| matches!(call, Use::Used(_))).collect();
    assert_eq!(used.len(), 1, "{calls:?}");
    // All others wait for one and the same.
    let mut waiting: Vec<_> = calls
        .iter()
        .filter_map(|call| match call {
            Use::Held(row) => Some((row.id.clone(), row.state)),
            _ => None,
        })
        .collect();
    waiting.sort_by(|one, other| one.0.cmp(&other.0));
    waiting.dedup();
    assert_eq!(waiting.len(), 1, "{waiting:?}");
    assert_eq!(waiting[0].1, ApprovalState::Pending);
    assert_ne!(waiting[0].0, first.id);
}

async fn many_who_ask_at_once_ask_for_one(database: Database) {
    let (one, other) = (database.open().await, database.open().await);
    let mut calls = tokio::task::JoinSet::new();
    for number in 0..32 {
        let store = if number % 2 == 0 { one.clone() } else { other.clone() };
        calls.spawn(async move { held(&store, "d", NOW).await.id });
    }
    let mut ids = calls.join_all().await;
    ids.dedup();
    assert_eq!(ids.len(), 1, "{ids:?}");
    // Also where whoever writes has not looked before.
    let twice = format!(
        "insert into approvals select '{}', digest, state, principal_uid, owner_uid, answerable_uid, server, server_uid, body, created, \
         expires, decided, decided_by, comment, used, told, tell_after, tries, rounds from approvals",
        new_id().unwrap()
    );
    let mut connection = sqlx::AnyConnection::connect(database.url()).await.unwrap();
    let refused = sqlx::raw_sql(sqlx::AssertSqlSafe(twice)).execute(&mut connection).await.unwrap_err();
    assert!(refused.as_database_error().unwrap().is_unique_violation(), "{refused}");
}

/// Gives back what was used at a time.
async fn give_back(store: &Store, id: &str, use_us: i64, at: i64) -> bool {
    let mut tx = store.write().await.unwrap();
    let found = tx.approval(id).await.unwrap().unwrap();
    let is_returned = tx.return_approval(found, use_us, at).await.unwrap();
    tx.commit().await.unwrap();
    is_returned
}

async fn what_was_not_used_is_given_back_once_and_only_by_who_used_it(database: Database) {
    let store = database.open().await;
    let first = held(&store, "d", NOW).await;
    decide(&store, &first.id, true, NOW).await.unwrap();
    assert!(!give_back(&store, &first.id, 0, NOW + 1).await, "it was not used");
    assert!(matches!(call(&store, "d", NOW + 1).await, Use::Used(_)));
    assert!(!give_back(&store, &first.id, NOW + 2, NOW + 3).await, "another one used it");
    assert!(give_back(&store, &first.id, NOW + 1, NOW + 3).await);
    let approved = store.approval(&first.id).await.unwrap().unwrap();
    assert_eq!((approved.state, approved.use_us), (ApprovalState::Approved, 0));
    assert!(!give_back(&store, &first.id, NOW + 1, NOW + 4).await, "once");
    assert!(matches!(call(&store, "d", NOW + 5).await, Use::Used(_)), "the next call is made");
    assert!(!give_back(&store, &first.id, NOW + 5, NOW + HOUR).await, "its time is over");
    // What was given back can be denied as what was never used.
    assert!(give_back(&store, &first.id, NOW + 5, NOW + HOUR - 1).await);
    assert!(decide(&store, &first.id, false, NOW + HOUR - 1).await.is_some());
    assert!(!give_back(&store, &first.id, NOW + 5, NOW + HOUR - 1).await, "it is denied");
}

async fn of_many_who_go_on_with_a_round_one_does(database: Database) {
    let (one, other) = (database.open().await, database.open().await);
    let first = held(&one, "d", NOW).await;
    decide(&one, &first.id, true, NOW).await.unwrap();
    assert!(matches!(call(&one, "d", NOW + 1).await, Use::Used(_)));
    let mut rounds = tokio::task::JoinSet::new();
    for number in 0..32 {
        let (store, id) = (if number % 2 == 0 { one.clone() } else { other.clone() }, first.id.clone());
        rounds.spawn(async move {
            let mut tx = store.write().await.unwrap();
            let is_first = tx.continue_approval(&id, 1).await.unwrap();
            tx.commit().await.unwrap();
            is_first
        });
    }
    let first = rounds.join_all().await.into_iter().filter(|is_first| *is_first).count();
    assert_eq!(first, 1);
}

async fn what_is_asked_for_again_is_not_given_back(database: Database) {
    let store = database.open().await;
    let first = held(&store, "d", NOW).await;
    decide(&store, &first.id, true, NOW).await.unwrap();
    assert!(matches!(call(&store, "d", NOW + 1).await, Use::Used(_)));
    let second = held(&store, "d", NOW + 2).await;
    assert!(!give_back(&store, &first.id, NOW + 1, NOW + 3).await);
    decide(&store, &second.id, false, NOW + 3).await.unwrap();
    assert!(give_back(&store, &first.id, NOW + 1, NOW + 4).await, "a denial is no question");
    assert_eq!(held(&store, "d", NOW + 5).await.id, second.id, "and has the last word");
}

async fn who_was_told_that_it_is_approved_is_not_told_so_twice(database: Database) {
    let store = database.open().await;
    let mut tx = store.write().await.unwrap();
    let Use::Held(first) = tx.use_approval(asked("d", "p", NOW), true, NOW).await.unwrap() else { panic!() };
    tx.commit().await.unwrap();
    decide(&store, &first.id, true, NOW).await.unwrap();
    assert!(matches!(call(&store, "d", NOW + 1).await, Use::Used(_)));
    let used = store.approval(&first.id).await.unwrap().unwrap();
    store.note_told(&used).await.unwrap();
    assert!(give_back(&store, &first.id, NOW + 1, NOW + 2).await);
    assert!(!store.has_untold_approvals(NOW + 3).await.unwrap());
    assert!(matches!(call(&store, "d", NOW + 4).await, Use::Used(_)));
    assert!(store.has_untold_approvals(NOW + 5).await.unwrap(), "its use is");
}

async fn one_decision_counts(database: Database) {
    let (one, other) = (database.open().await, database.open().await);
    let first = held(&one, "d", NOW).await;
    let mut decisions = tokio::task::JoinSet::new();
    for number in 0..16 {
        let (store, id) = (if number % 2 == 0 { one.clone() } else { other.clone() }, first.id.clone());
        decisions.spawn(async move { decide(&store, &id, false, NOW + number).await });
    }
    let made: Vec<_> = decisions.join_all().await.into_iter().flatten().collect();
    assert_eq!(made.len(), 1, "{made:?}");
    assert_eq!(one.approval(&first.id).await.unwrap().unwrap(), made[0]);
}

async fn what_is_denied_stays_denied_until_its_time_is_over(database: Database) {
    let store = database.open().await;
    let first = held(&store, "d", NOW).await;
    decide(&store, &first.id, false, NOW + 1).await.unwrap();
    let again = held(&store, "d", NOW + HOUR - 1).await;
    assert_eq!((again.id, again.state), (first.id.clone(), ApprovalState::Denied));
    let later = held(&store, "d", NOW + HOUR).await;
    assert_ne!(later.id, first.id);
    assert_eq!(later.state, ApprovalState::Pending);
    assert_eq!(decide(&store, &first.id, true, NOW + 2).await, None, "who denied it has the last word");
}

async fn what_is_over_is_neither_decided_about_nor_used(database: Database) {
    let store = database.open().await;
    let waiting = held(&store, "waiting", NOW).await;
    assert_eq!(decide(&store, &waiting.id, true, NOW + HOUR).await, None);
    let approved = held(&store, "approved", NOW).await;
    decide(&store, &approved.id, true, NOW + HOUR - 1).await.unwrap();
    for (digest, old) in [("waiting", &waiting), ("approved", &approved)] {
        let new = held(&store, digest, NOW + HOUR).await;
        assert_ne!(new.id, old.id);
        assert_eq!(new.state, ApprovalState::Pending);
        let old = store.approval(&old.id).await.unwrap().unwrap();
        assert_eq!(old.state, ApprovalState::Expired, "it made room");
    }
    assert_eq!(waiting.state_at(NOW + HOUR - 1), ApprovalState::Pending);
    assert_eq!(waiting.state_at(NOW + HOUR), ApprovalState::Expired);
}

async fn an_approval_that_was_not_used_can_be_denied(database: Database) {
    let store = database.open().await;
    let first = held(&store, "d", NOW).await;
    decide(&store, &first.id, true, NOW).await.unwrap();
    assert_eq!(decide(&store, &first.id, true, NOW).await, None, "it is approved already");
    decide(&store, &first.id, false, NOW + 1).await.unwrap();
    assert_eq!(held(&store, "d", NOW + 2).await.state, ApprovalState::Denied);

    let second = held(&store, "e", NOW).await;
    decide(&store, &second.id, true, NOW).await.unwrap();
    assert!(matches!(call(&store, "e", NOW + 1).await, Use::Used(_)));
    assert_eq!(decide(&store, &second.id, false, NOW + 2).await, None, "the call was made");
}

async fn a_principal_has_so_many_that_wait(database: Database) {
    let store = database.open().await;
    let mut last = String::new();
    for number in 0..MAX_PENDING_OF_ONE {
        last = held(&store, &format!("d{number}"), NOW).await.id;
    }
    assert_eq!(call(&store, "more", NOW).await, Use::Full(ApprovalBound::Principal));
    assert_eq!(held(&store, "d0", NOW).await.state, ApprovalState::Pending, "what waits is found");
    let mut tx = store.write().await.unwrap();
    let other = tx.use_approval(asked("more", "other", NOW), false, NOW).await.unwrap();
    assert!(matches!(other, Use::Held(_)), "others have their own");
    drop(tx);
    decide(&store, &last, false, NOW).await.unwrap();
    held(&store, "more", NOW).await;
    // What is over waits no more.
    assert_eq!(call(&store, "later", NOW + HOUR - 1).await, Use::Full(ApprovalBound::Principal));
    held(&store, "later", NOW + HOUR).await;
}

async fn so_many_wait_at_most(database: Database) {
    let store = database.open().await;
    held(&store, "d", NOW).await;
    let mut rows = String::new();
    for number in 1..MAX_PENDING {
        let joint = if rows.is_empty() { "" } else { "," };
        rows += &format!("{joint}('{number}','d{number}','p{number}')");
    }
    database
        .run(&format!(
            "insert into approvals select n.column1, n.column2, 1, n.column3, '', '', 'servers/dev', 's', a.body, a.created, a.expires, 0, \
             '', '', 0, -1, 0, 0, 0 from (values {rows}) n, approvals a"
        ))
        .await;
    let mut tx = store.write().await.unwrap();
    let more = tx.use_approval(asked("more", "other", NOW), false, NOW).await.unwrap();
    assert_eq!(more, Use::Full(ApprovalBound::All));
    drop(tx);
    assert_eq!(store.count_pending_approvals(NOW).await.unwrap(), MAX_PENDING);
}

async fn what_is_over_is_ended_and_forgotten(database: Database) {
    let store = database.open().await;
    let counters = std::sync::Arc::new(ApprovalCounters::default());
    let keeper = ApprovalKeeper {
        store: store.clone(),
        leases: Leases::new(&store, "a".to_owned()),
        counters: counters.clone(),
    };
    let ids = ["waiting", "approved", "denied", "used"];
    let mut rows = Vec::new();
    for digest in ids {
        rows.push(held(&store, digest, NOW).await.id);
    }
    decide(&store, &rows[1], true, NOW).await.unwrap();
    decide(&store, &rows[2], false, NOW).await.unwrap();
    decide(&store, &rows[3], true, NOW).await.unwrap();
    assert!(matches!(call(&store, "used", NOW).await, Use::Used(_)));
    let states = async || {
        let mut states = Vec::new();
        for id in &rows {
            states.push(
                store.approval(id).await.unwrap().map(|row| (row.state, !row.body.arguments_json.is_empty())),
            );
        }
        states
    };
    let (pending, approved) = (ApprovalState::Pending, ApprovalState::Approved);
    let (denied, used, expired) = (ApprovalState::Denied, ApprovalState::Used, ApprovalState::Expired);

    keeper.round(NOW + HOUR - 1).await.unwrap();
    let known = |found: [(ApprovalState, bool); 4]| found.map(Some).to_vec();
    assert_eq!(states().await, known([(pending, true), (approved, true), (denied, true), (used, true)]));
    assert_eq!(counters.pending(), 1);
    keeper.round(NOW + HOUR).await.unwrap();
    assert_eq!(
        states().await,
        known([(expired, false), (expired, true), (denied, true), (used, true)]),
        "nobody will decide about what waited, so that its arguments are gone"
    );
    assert_eq!(counters.pending(), 0);
    assert!(counters.events().contains(&("expired", 2)), "{:?}", counters.events());
    keeper.round(NOW + HOUR + 30 * DAY).await.unwrap();
    assert!(states().await.iter().all(Option::is_some));
    keeper.round(NOW + HOUR + 30 * DAY + 1).await.unwrap();
    assert_eq!(states().await, [const { None }; 4]);

    // Of what has ended, no more than so many are kept, the newest; what waits stays.
    for number in 0..5 {
        held(&store, &format!("d{number}"), NOW + number).await;
    }
    store.end_approvals(NOW + HOUR + 3).await.unwrap();
    store.forget_approvals(NOW + HOUR + 3, 0, 2).await.unwrap();
    let mut connection = sqlx::AnyConnection::connect(database.url()).await.unwrap();
    let left = sqlx::query("select digest from approvals order by created")
        .fetch_all(&mut connection)
        .await
        .unwrap();
    let left: Vec<String> = left.iter().map(|row| row.get("digest")).collect();
    assert_eq!(left, ["d3", "d4"]);
}
