//! One conformance list for each table beside the resources: leases, usage, keys, edges. Run on SQLite and, where
//! `TEST_POSTGRES_URL` is set, on PostgreSQL.
#![allow(clippy::unwrap_used, reason = "a failed expectation is a failed test")]

#[macro_use]
#[path = "support/database.rs"]
mod database;

use std::sync::Arc;
use std::time::Duration;

use database::Database;
use futures_util::FutureExt as _;
use prost_types::Timestamp;
use trunkline::identity::v1::Token;
use trunkline::telemetry::v1::{ReportUsageRequest, UsageOutcome, UsageRecord};
use trunkline_control_plane::auth::credential::EdgeCredentials;
use trunkline_control_plane::auth::keys::{KeyError, Signer};
use trunkline_control_plane::auth::master::MasterKey;
use trunkline_control_plane::auth::vault::{Sealed, Vault, VaultError};
use trunkline_control_plane::config::SecretOptions;
use trunkline_control_plane::domain::{Kind, credential};
use trunkline_control_plane::references::{References, Stores};
use trunkline_control_plane::snapshot::Publisher;
use trunkline_control_plane::store::edges::{DepartureRow, EdgeRow, Edges, EnrollmentRow};
use trunkline_control_plane::store::enrollments::{EnrollmentRequest, Enrollments, Outcome};
use trunkline_control_plane::store::join_tokens::{JoinTokens, NewJoinToken};
use trunkline_control_plane::store::keys::{Keys, NewKey, Purpose};
use trunkline_control_plane::store::leases::Leases;
use trunkline_control_plane::store::usage::{UsageQuery, UsageTable};
use trunkline_control_plane::store::{SecretRow, Store};
use trunkline_control_plane::sync::{KeyCare, KeyUse};

suite! {
    a_lease_has_one_holder_and_its_token_grows,
    replicas_that_want_a_lease_at_once_do_not_both_get_it,
    a_lease_outlives_a_long_write,
    a_batch_is_counted_once,
    usage_is_summed_filtered_and_forgotten,
    usage_of_an_edge_that_lies_breaks_no_sum,
    a_batch_of_many_records_is_stored_whole,
    reports_do_not_hold_up_who_writes_the_registry,
    keys_are_numbered_and_replaced,
    bearers_outlive_the_rotation_of_their_key,
    a_signing_key_stays_while_it_is_needed,
    after_a_rotation_of_data_keys_nothing_needs_the_old_one,
    what_was_written_anew_is_not_overwritten_with_what_was_there_before,
    sealing_keys_seal_once_every_edge_can_open,
    secrets_outlive_the_change_of_the_master_key,
    a_replica_with_an_earlier_master_key_is_not_fresh,
    edges_are_told_apart_by_their_enrollments,
    many_edges_are_a_few_statements,
    credentials_of_earlier_builds_name_the_time_of_enrollment,
}

const LONG: Duration = Duration::from_secs(3_600);

async fn a_lease_has_one_holder_and_its_token_grows(database: Database) {
    let store = database.open().await;
    let (a, b) = (Leases::new(&store, "a".to_owned()), Leases::new(&store, "b".to_owned()));
    let first = a.take("sync", LONG).await.unwrap().unwrap();
    assert_eq!(b.take("sync", LONG).await.unwrap(), None);
    assert_eq!(a.take("sync", LONG).await.unwrap().as_ref(), Some(&first), "renewed, it is the same lease");
    assert!(b.take("housekeeping", LONG).await.unwrap().is_some(), "leases of other names are others");

    a.release().await.unwrap();
    let second = b.take("sync", Duration::ZERO).await.unwrap().unwrap();
    assert!(second.token > first.token);
    // It ended at once, so that another may have it; the token tells the two apart.
    tokio::time::sleep(Duration::from_millis(5)).await;
    let third = a.take("sync", LONG).await.unwrap().unwrap();
    assert!(third.token > second.token);
    // Who lost a lease cannot give away that of another.
    b.release().await.unwrap();
    assert_eq!(b.take("sync", LONG).await.unwrap(), None);
}

async fn replicas_that_want_a_lease_at_once_do_not_both_get_it(database: Database) {
    let store = database.open().await;
    let mut tasks = tokio::task::JoinSet::new();
    for holder in 0..8 {
        let leases = Leases::new(&store, holder.to_string());
        tasks.spawn(async move { leases.take("sync", LONG).await.unwrap() });
    }
    let held = tasks.join_all().await;
    assert_eq!(held.iter().flatten().count(), 1, "{held:?}");
}

async fn a_lease_outlives_a_long_write(database: Database) {
    // More than there are connections to the database.
    const TAKES: usize = 40;
    let store = database.open().await;
    let leases = Leases::new(&store, "a".to_owned());
    let lease = leases.take("sync", LONG).await.unwrap();
    let write = store.write().await.unwrap();
    let started = Arc::new(tokio::sync::Semaphore::new(0));
    let mut takes = tokio::task::JoinSet::new();
    for _ in 0..TAKES {
        let (leases, started) = (leases.clone(), started.clone());
        takes.spawn(async move {
            started.add_permits(1);
            leases.take("sync", LONG).await
        });
    }
    let _ = started.acquire_many(TAKES.try_into().unwrap()).await.unwrap();
    // They wait for their turn, and not in the database, with a connection each, until it gives up.
    for _ in 0..20 {
        tokio::task::yield_now().await;
        assert_eq!(store.revision().await.unwrap(), 0);
    }
    write.commit().await.unwrap();
    for taken in takes.join_all().await {
        assert_eq!(taken.unwrap(), lease);
    }
}

fn record(server: &str, token: &str, calls: i64) -> UsageRecord {
    UsageRecord {
        server: server.to_owned(),
        token: token.to_owned(),
        method: "tools/call".to_owned(),
        target: "upstreams/up/tools/echo".to_owned(),
        outcome: UsageOutcome::Ok.into(),
        calls,
        duration_us: calls * 10,
        request_bytes: calls * 100,
        response_bytes: calls * 1_000,
        last_address: String::new(),
    }
}

fn batch(run_id: &str, sequence: i64, end: i64, records: Vec<UsageRecord>) -> ReportUsageRequest {
    let end_time = Some(Timestamp { seconds: end, nanos: 0 });
    ReportUsageRequest { run_id: run_id.to_owned(), sequence, records, start_time: None, end_time }
}

fn all() -> UsageQuery {
    UsageQuery { end_us: i64::MAX, limit: 100, ..UsageQuery::default() }
}

async fn a_batch_is_counted_once(database: Database) {
    let store = database.open().await;
    let usage = UsageTable::new(&store);
    let one =
        batch("run", 1, 600, vec![record("servers/a", "tokens/t", 2), record("servers/a", "tokens/t", 3)]);
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let (usage, one) = (usage.clone(), one.clone());
        tasks.spawn(async move { usage.store("e1", &one).await.unwrap() });
    }
    assert_eq!(tasks.join_all().await, [1; 4]);
    let two = batch("run", 2, 600, vec![record("servers/a", "tokens/t", 10)]);
    assert_eq!(usage.store("e1", &two).await.unwrap(), 2);
    assert_eq!(usage.store("e1", &one).await.unwrap(), 2, "what is stored up to 2 is stored");
    assert_eq!(usage.query(&all()).await.unwrap(), [record("servers/a", "tokens/t", 15)]);
    // Another edge, or another run of the same one, counts by itself.
    usage.store("e2", &one).await.unwrap();
    usage.store("e1", &batch("again", 1, 600, vec![record("servers/a", "tokens/t", 1)])).await.unwrap();
    assert_eq!(usage.query(&all()).await.unwrap(), [record("servers/a", "tokens/t", 21)]);
}

async fn a_batch_of_many_records_is_stored_whole(database: Database) {
    let store = database.open().await;
    let usage = UsageTable::new(&store);
    let many = |calls: i64| {
        (0..1_999).map(move |number| record("servers/a", &format!("tokens/t{number:04}"), calls))
    };
    usage.store("e1", &batch("run", 1, 600, many(2).collect())).await.unwrap();
    usage.store("e1", &batch("run", 2, 600, many(3).collect())).await.unwrap();
    let query = UsageQuery { limit: 10_000, ..all() };
    assert_eq!(usage.query(&query).await.unwrap(), many(5).collect::<Vec<_>>());
}

/// More reports than there are connections to the database.
const REPORTS: usize = 40;

async fn reports_do_not_hold_up_who_writes_the_registry(database: Database) {
    let store = database.open().await;
    let usage = UsageTable::new(&store);
    let first = store.write().await.unwrap();
    let started = Arc::new(tokio::sync::Semaphore::new(0));
    let mut reports = tokio::task::JoinSet::new();
    for number in 0..REPORTS {
        let (usage, started) = (usage.clone(), started.clone());
        reports.spawn(async move {
            started.add_permits(1);
            usage.store(&format!("e{number}"), &batch("run", 1, 600, vec![record("servers/a", "", 1)])).await
        });
    }
    let _ = started.acquire_many(REPORTS.try_into().unwrap()).await.unwrap();
    // They wait, and not with all connections: whoever reads does not wait for them.
    for _ in 0..20 {
        tokio::task::yield_now().await;
        assert_eq!(store.revision().await.unwrap(), 0);
    }
    let mut second = Box::pin(store.write());
    assert!((&mut second).now_or_never().is_none(), "it stands in line from here on");
    if database.is_sqlite() {
        first.commit().await.unwrap();
        // Of all that came before it, one report at the most was stored; PostgreSQL lets them write meanwhile.
        let second = second.await.unwrap();
        let stored = usage.query(&all()).await.unwrap().first().map_or(0, |sum| sum.calls);
        assert!(stored <= 1, "{stored} reports were stored before");
        second.commit().await.unwrap();
    } else {
        // The reports are stored while somebody writes the registry.
        while let Some(stored) = reports.join_next().await {
            assert_eq!(stored.unwrap().unwrap(), 1);
        }
        first.commit().await.unwrap();
        second.await.unwrap().commit().await.unwrap();
    }
    while let Some(stored) = reports.join_next().await {
        assert_eq!(stored.unwrap().unwrap(), 1);
    }
    assert_eq!(usage.query(&all()).await.unwrap(), [record("servers/a", "", REPORTS.try_into().unwrap())]);
}

async fn usage_is_summed_filtered_and_forgotten(database: Database) {
    let store = database.open().await;
    let usage = UsageTable::new(&store);
    let records = vec![record("servers/a", "tokens/t", 1), record("servers/b", "tokens/t", 5)];
    usage.store("e1", &batch("run", 1, 60, records)).await.unwrap();
    usage.store("e1", &batch("run", 2, 6_000, vec![record("servers/a", "tokens/u", 3)])).await.unwrap();
    let (a_t, b_t, a_u) = (
        record("servers/a", "tokens/t", 1),
        record("servers/b", "tokens/t", 5),
        record("servers/a", "tokens/u", 3),
    );
    assert_eq!(
        usage.query(&all()).await.unwrap(),
        [b_t.clone(), a_u.clone(), a_t.clone()],
        "most calls first"
    );
    let of_server = UsageQuery { server: "servers/a".to_owned(), ..all() };
    assert_eq!(usage.query(&of_server).await.unwrap(), [a_u.clone(), a_t.clone()]);
    let of_token = UsageQuery { token: "tokens/t".to_owned(), ..all() };
    assert_eq!(usage.query(&of_token).await.unwrap(), [b_t.clone(), a_t]);
    let early = UsageQuery { end_us: 100_000_000, limit: 1, ..all() };
    assert_eq!(usage.query(&early).await.unwrap(), [b_t]);
    let late = UsageQuery { start_us: 200_000_000, ..all() };
    assert_eq!(usage.query(&late).await.unwrap(), std::slice::from_ref(&a_u));
    usage.forget(100_000_000).await.unwrap();
    assert_eq!(usage.query(&all()).await.unwrap(), [a_u]);
}

async fn usage_of_an_edge_that_lies_breaks_no_sum(database: Database) {
    let store = database.open().await;
    let usage = UsageTable::new(&store);
    for (sequence, minute) in [(1, 60), (2, 60), (3, 6_000)] {
        let most = i64::MAX;
        let lie = UsageRecord { calls: most, duration_us: most, ..record("servers/a", "tokens/t", 1) };
        let records = vec![UsageRecord { request_bytes: most, response_bytes: most, ..lie }];
        usage.store("e1", &batch("run", sequence, minute, records)).await.unwrap();
    }
    assert_eq!(usage.query(&all()).await.unwrap()[0].calls, 2 << 46, "each minute counts so much at most");
}

fn new_key(name: &str) -> NewKey {
    NewKey { name: name.to_owned(), sealed: vec![0, 1, 255], public: "p".to_owned(), active_us: 7 }
}

async fn keys_are_numbered_and_replaced(database: Database) {
    let store = database.open().await;
    let keys = Keys::new(&store);
    for name in ["a", "b"] {
        keys.add(Purpose::Signing, &new_key(name)).await.unwrap();
    }
    keys.add(Purpose::Sealing, &new_key("")).await.unwrap();
    let stored = keys.list(Purpose::Signing).await.unwrap();
    let seen: Vec<_> = stored.iter().map(|key| (key.id, key.name.as_str(), key.active_us)).collect();
    assert_eq!(seen, [(1, "a", 7), (2, "b", 7)]);
    assert_eq!((stored[0].sealed.as_slice(), stored[0].public.as_str()), ([0, 1, 255].as_slice(), "p"));
    keys.reseal(Purpose::Signing, 1, &[9]).await.unwrap();
    keys.activate(Purpose::Signing, 1, i64::MAX).await.unwrap();
    keys.delete(Purpose::Signing, 2).await.unwrap();
    let stored = keys.list(Purpose::Signing).await.unwrap();
    assert_eq!(stored.len(), 1);
    assert_eq!((stored[0].sealed.as_slice(), stored[0].active_us), ([9].as_slice(), i64::MAX));
    assert_eq!(keys.list(Purpose::Sealing).await.unwrap().len(), 1, "purposes are apart");
}

fn master(byte: u8) -> MasterKey {
    use base64::Engine;
    MasterKey::parse(&base64::engine::general_purpose::STANDARD.encode([byte; 32]), "the test").unwrap()
}

async fn signer(store: &Store) -> Arc<Signer> {
    let vault = Vault::open_keys(Keys::new(store), master(1), None).await.unwrap();
    Arc::new(Signer::open(Keys::new(store), Arc::new(vault), "here".to_owned()).await.unwrap())
}

async fn bearers_outlive_the_rotation_of_their_key(database: Database) {
    let store = database.open().await;
    let (one, two) = (signer(&store).await, signer(&store).await);
    let (old, _) = EdgeCredentials::new(one.clone()).issue("e1", "5").unwrap();
    let (_, first) = one.sign_token("tokens/t", "uid").unwrap();
    one.rotate_signing().await.unwrap();
    let (new, _) = EdgeCredentials::new(one.clone()).issue("e1", "5").unwrap();
    let (_, second) = one.sign_token("tokens/t", "uid").unwrap();
    assert_ne!(first, second, "the newest key signs");
    let ids: Vec<_> = one.ring().signing.iter().map(|key| key.key_id.clone()).collect();
    assert_eq!(ids, [first, second]);
    for jwt in [&old, &new] {
        assert_eq!(EdgeCredentials::new(one.clone()).verify(jwt).unwrap().sub, "e1");
    }
    // Another replica knows the new key as soon as it has looked.
    let other = EdgeCredentials::new(two.clone());
    assert!(matches!(other.verify(&new), Err(KeyError::Invalid(_))));
    two.load().await.unwrap();
    assert_eq!(other.verify(&new).unwrap(), EdgeCredentials::new(one).verify(&new).unwrap());
}

/// Who looks after the keys of a database, as a replica does.
async fn key_care(store: &Store) -> (KeyCare, Arc<Vault>, Arc<Signer>) {
    let vault = Arc::new(Vault::open_keys(Keys::new(store), master(1), None).await.unwrap());
    let signer = Signer::open(Keys::new(store), vault.clone(), "here".to_owned()).await.unwrap();
    let signer = Arc::new(signer);
    (KeyCare::new(store.clone(), vault.clone(), signer.clone()), vault, signer)
}

async fn put_token(store: &Store, token: &Token) {
    let mut tx = store.write().await.unwrap();
    let old = tx.get(Kind::Token, &token.name).await.unwrap();
    tx.put(token, old.as_ref(), None).await.unwrap();
    tx.commit().await.unwrap();
}

async fn a_signing_key_stays_while_it_is_needed(database: Database) {
    let store = database.open().await;
    let (care, _, signer) = key_care(&store).await;
    let (old, _) = EdgeCredentials::new(signer.clone()).issue("e1", "5").unwrap();
    let key_id = signer.ring().signing[0].key_id.clone();
    let token = Token { name: "tokens/t".to_owned(), key_id, ..Token::default() };
    put_token(&store, &token).await;
    signer.rotate_signing().await.unwrap();
    assert!(!care.round().await.unwrap(), "it was replaced too recently");
    Keys::new(&store).activate(Purpose::Signing, 2, 1).await.unwrap();
    assert!(!care.round().await.unwrap(), "a live token needs it");
    let needs: Vec<_> = care.report().await.unwrap().into_iter().flat_map(|key| key.needs).collect();
    assert!(needs.iter().any(|need| need.names == ["tokens/t"]), "{needs:?}");
    EdgeCredentials::new(signer.clone()).verify(&old).unwrap();
    put_token(&store, &Token { revoke_time: Some(Timestamp::default()), ..token }).await;
    assert!(care.round().await.unwrap(), "edges must be told");
    assert!(EdgeCredentials::new(signer.clone()).verify(&old).is_err());
    assert!(!care.round().await.unwrap(), "the one that signs stays");
    assert_eq!(signer.ring().signing.len(), 1);
}

async fn after_a_rotation_of_data_keys_nothing_needs_the_old_one(database: Database) {
    let store = database.open().await;
    let (one, vault, signer) = key_care(&store).await;
    let (two, other, _) = key_care(&store).await;
    let context = credential::context("uid");
    let mut tx = store.write().await.unwrap();
    for name in ["upstreams/a", "upstreams/b"] {
        let sealed = vault.seal(&context, name.as_bytes()).unwrap().into_bytes();
        let (name, uid, version) = (name.to_owned(), "uid".to_owned(), "v".to_owned());
        tx.put_secret(&SecretRow { name, uid, version, sealed }).await.unwrap();
    }
    tx.commit().await.unwrap();
    let jwt = EdgeCredentials::new(signer.clone()).issue("e1", "5").unwrap().0;
    let told = async |care: &KeyCare| {
        let data = care.report().await.unwrap().into_iter().filter(|key| key.purpose == Purpose::Data);
        data.map(|key| (key.id, key.state, key.needs.iter().map(|need| need.what).collect::<Vec<_>>()))
            .collect::<Vec<_>>()
    };
    vault.rotate().await.unwrap();
    one.round().await.unwrap();
    let expected = [(2, KeyUse::Pending, vec![]), (1, KeyUse::Active, vec!["secrets", "keys"])];
    assert_eq!(told(&one).await, expected, "not every replica knows the new key");

    let now = Timestamp::from(std::time::SystemTime::now());
    Keys::new(&store).activate(Purpose::Data, 2, now.seconds * 1_000_000).await.unwrap();
    let (first, second) = tokio::join!(loaded_round(&one, &vault), loaded_round(&two, &other));
    assert!(!first && !second, "edges hold no data keys");
    let expected =
        [(2, KeyUse::Active, vec!["secrets", "keys"]), (1, KeyUse::Retiring, vec!["pages of lists"])];
    assert_eq!(told(&one).await, expected);

    Keys::new(&store).activate(Purpose::Data, 2, 1).await.unwrap();
    one.round().await.unwrap();
    assert_eq!(told(&one).await, [(2, KeyUse::Active, vec!["secrets", "keys"])], "the old one is gone");
    other.load().await.unwrap();
    for vault in [&vault, &other] {
        let row = store.secret("upstreams/a").await.unwrap().unwrap();
        assert_eq!(*vault.open(&context, &Sealed::from_bytes(row.sealed)).unwrap(), b"upstreams/a");
    }
    let again = key_care(&store).await.2;
    assert_eq!(EdgeCredentials::new(again).verify(&jwt).unwrap().sub, "e1");
}

async fn loaded_round(care: &KeyCare, vault: &Vault) -> bool {
    vault.load().await.unwrap();
    care.round().await.unwrap()
}

async fn what_was_written_anew_is_not_overwritten_with_what_was_there_before(database: Database) {
    let store = database.open().await;
    let (name, uid, version) = ("upstreams/a".to_owned(), "uid".to_owned(), "v".to_owned());
    let row = SecretRow { name, uid, version, sealed: b"new".to_vec() };
    let mut tx = store.write().await.unwrap();
    tx.put_secret(&row).await.unwrap();
    tx.commit().await.unwrap();
    store.reseal_secret("upstreams/a", b"old", b"old, sealed anew").await.unwrap();
    assert_eq!(store.secret("upstreams/a").await.unwrap(), Some(row.clone()));
    store.reseal_secret("upstreams/a", b"new", b"new, sealed anew").await.unwrap();
    assert_eq!(store.secret("upstreams/a").await.unwrap().unwrap().sealed, b"new, sealed anew");
}

async fn sealing_keys_seal_once_every_edge_can_open(database: Database) {
    let store = database.open().await;
    let signer = signer(&store).await;
    let ids = |signer: &Signer| signer.ring().sealing.iter().map(|key| key.id).collect::<Vec<_>>();
    signer.rotate_sealing().await.unwrap();
    assert_eq!(ids(&signer), [1, 2], "the new one opens, and does not seal yet");
    for _ in 0..5 {
        signer.rotate_sealing().await.unwrap();
    }
    assert_eq!(ids(&signer), [1, 2], "who asks again meanwhile gets no other, and the one in use stays");
    assert!(!signer.activate_sealing().await.unwrap(), "its time has not come");
    Keys::new(&store).activate(Purpose::Sealing, 2, 0).await.unwrap();
    signer.load().await.unwrap();
    assert_eq!(ids(&signer), [2, 1]);
    for id in 3..=6 {
        signer.rotate_sealing().await.unwrap();
        Keys::new(&store).activate(Purpose::Sealing, id, 0).await.unwrap();
    }
    signer.load().await.unwrap();
    assert_eq!(ids(&signer), [6, 5, 4, 3], "the oldest are forgotten");
}

async fn secrets_outlive_the_change_of_the_master_key(database: Database) {
    let store = database.open().await;
    let vault = Vault::open_keys(Keys::new(&store), master(1), None).await.unwrap();
    let sealed = vault.seal("of a", b"secret").unwrap();
    assert!(matches!(vault.open("of b", &sealed), Err(VaultError::Refused)));
    let refused = Vault::open_keys(Keys::new(&store), master(2), None).await;
    assert!(matches!(refused, Err(VaultError::OtherMasterKey)));
    let changed = Vault::open_keys(Keys::new(&store), master(2), Some(&master(1))).await.unwrap();
    assert_eq!(*changed.open("of a", &sealed).unwrap(), b"secret");
    let again = Vault::open_keys(Keys::new(&store), master(2), None).await.unwrap();
    again.rotate().await.unwrap();
    let stored = Sealed::from_bytes(sealed.into_bytes());
    assert_eq!(*again.open("of a", &stored).unwrap(), b"secret");
}

async fn a_replica_with_an_earlier_master_key_is_not_fresh(database: Database) {
    let store = database.open().await;
    let vault = Arc::new(Vault::open_keys(Keys::new(&store), master(1), None).await.unwrap());
    let siblings = tokio::sync::watch::channel(Arc::default()).1;
    let stores = Stores::open(&SecretOptions::default()).unwrap();
    let references = Arc::new(References::new(stores, LONG));
    let publisher = Publisher::start(store.clone(), vault, signer(&store).await, references, LONG, siblings);
    let publisher = publisher.await.unwrap();
    let (health, mut snapshots) = (publisher.database_health(), publisher.snapshots());
    let publishing = tokio::spawn(publisher.run());
    let change = async || {
        let mut tx = store.write().await.unwrap();
        tx.touch();
        tx.commit().await.unwrap()
    };
    let revision = change().await;
    snapshots.wait_for(|snapshot| snapshot.revision == revision).await.unwrap();
    assert!(health.within(LONG));

    // Another replica was started with the next master key. What it writes from now on is not read here.
    Vault::open_keys(Keys::new(&store), master(2), Some(&master(1))).await.unwrap();
    change().await;
    let not_fresh = async {
        while health.within(Duration::from_secs(5)) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(120), not_fresh).await.unwrap();
    assert_eq!(snapshots.borrow().revision, revision);
    publishing.abort();
}

async fn report(edges: &Edges, row: &EdgeRow) -> Vec<String> {
    edges.report(std::slice::from_ref(row)).await.unwrap().into_iter().collect()
}

fn departure(id: &str, connection: i64) -> DepartureRow {
    DepartureRow { id: id.to_owned(), connection, state_us: 9 }
}

async fn edges_are_told_apart_by_their_enrollments(database: Database) {
    let store = database.open().await;
    let (edges, enrollments, tokens) =
        (Edges::new(&store), Enrollments::new(&store), JoinTokens::new(&store));
    tokens
        .add(&NewJoinToken { hash: "of any number", expire_us: i64::MAX, max_uses: 0, edge: "" })
        .await
        .unwrap();
    let enroll = async |edge: &str| {
        let request = EnrollmentRequest { edge, token_hash: "of any number", proved: "", request_hash: "" };
        match enrollments.enroll(request).await.unwrap() {
            Outcome::Enrolled(_) => edges.get(edge).await.unwrap().unwrap().enrollment,
            other => panic!("{other:?}"),
        }
    };
    let first = enroll("e1").await;
    enroll("e2").await;
    let connected = EdgeRow {
        id: "e1".to_owned(),
        enrollment: first.clone(),
        replica: "r".to_owned(),
        connection: 3,
        version: "1.2.3".to_owned(),
        acked_revision: 4,
        refusals: vec![1, 0, 255],
        ..EdgeRow::default()
    };
    assert_eq!(report(&edges, &connected).await, ["e1"]);
    assert_eq!(edges.get("e1").await.unwrap(), Some(connected.clone()));
    let ids = |rows: Vec<EdgeRow>| rows.into_iter().map(|row| row.id).collect::<Vec<_>>();
    assert_eq!(ids(edges.list("", 10).await.unwrap()), ["e1", "e2"]);
    assert_eq!(ids(edges.list("e1", 10).await.unwrap()), ["e2"]);

    edges.leave("r", &[departure("e1", 2)]).await.unwrap();
    assert_eq!(edges.get("e1").await.unwrap().unwrap().replica, "r", "it has a newer connection");
    edges.leave("r", &[departure("e1", 3)]).await.unwrap();
    assert_eq!(edges.get("e1").await.unwrap().unwrap().replica, "");

    assert!(edges.delete("e1").await.unwrap());
    assert!(!edges.delete("e1").await.unwrap());
    assert_eq!(report(&edges, &connected).await, [""; 0]);
    let second = enroll("e1").await;
    assert_ne!(second.id, first.id);
    assert_eq!(report(&edges, &connected).await, [""; 0], "that was another enrolment");
    let present = edges.enrollments().await.unwrap();
    assert!(present.contains(&("e1".to_owned(), second.id)) && present.len() == 2, "{present:?}");
}

async fn credentials_of_earlier_builds_name_the_time_of_enrollment(database: Database) {
    let store = database.open().await;
    let signer = signer(&store).await;
    let credentials = EdgeCredentials::new(signer.clone());
    let claims = |seconds: i64| {
        serde_json::json!({
            "iss": signer.issuer(), "aud": "trunkline-edges", "sub": "e1", "iat": 1, "exp": seconds, "enrolled": 1_800_000_000_000_001_i64,
        })
    };
    let (earlier, _) = signer.sign(&claims(i64::from(u32::MAX))).unwrap();
    assert_eq!(credentials.verify(&earlier).unwrap().enrollment, "1800000000000001");
    let (expired, _) = signer.sign(&claims(2)).unwrap();
    assert!(matches!(credentials.verify(&expired), Err(KeyError::Invalid(_))));
    assert_eq!(credentials.verify_ended(&expired).unwrap().enrollment, "1800000000000001");
    let (other, _) = signer.sign_token("tokens/e1", "u").unwrap();
    assert!(credentials.verify_ended(&other).is_err(), "what was signed for clients proves nothing");
}

/// A row that says where an edge stands, each column with a value of its own.
fn standing(at: i64, enrollment: EnrollmentRow) -> EdgeRow {
    EdgeRow {
        id: format!("e{at}"),
        enrollment,
        replica: "r".to_owned(),
        connection: at + 1,
        beat_us: at + 2,
        state_us: at + 3,
        version: format!("v{at}"),
        client_address: format!("c{at}"),
        egress: format!("public addresses, 10.0.0.{}", at % 200),
        sibling_address: format!("s{at}"),
        sibling_certificate: format!("f{at}"),
        sent_revision: at + 4,
        answered_revision: at + 5,
        acked_revision: at + 6,
        behind_us: at + 7,
        refusals: vec![1, (at % 200) as u8],
    }
}

async fn many_edges_are_a_few_statements(database: Database) {
    const EDGES: i64 = 600;
    let store = database.open().await;
    let edges = Edges::new(&store);
    let nothing = if database.is_sqlite() { "x''" } else { "''" };
    let values: Vec<_> = (0..EDGES)
        .map(|at| format!("('e{at}', 1, 'n{at}', '', 0, 0, 0, '', '', '', '', 0, 0, 0, 0, {nothing})"))
        .collect();
    let insert = "insert into edges (id, enroll_us, enrollment, replica, connection, beat_us, state_us, version, \
                  client_address, sibling_address, sibling_certificate, sent_revision, answered_revision, \
                  acked_revision, behind_us, refusals) values ";
    database.run(&format!("{insert}{}", values.join(", "))).await;

    let stored = |at| EnrollmentRow { id: format!("n{at}"), enroll_us: 1, ..EnrollmentRow::default() };
    let mut rows: Vec<_> = (0..EDGES).map(|at| standing(at, stored(at))).collect();
    rows[7].enrollment.id = "another".to_owned();
    let present = edges.report(&rows).await.unwrap();
    assert_eq!((present.len(), present.contains("e7"), edges.statements().writes()), (599, false, 3));
    for at in [0, 249, 250, 599] {
        assert_eq!(edges.get(&format!("e{at}")).await.unwrap().unwrap(), rows[at as usize]);
    }
    assert_eq!(edges.get("e7").await.unwrap().unwrap().replica, "");

    let ids: Vec<_> = (0..EDGES).map(|at| format!("e{at}")).chain(["unknown".to_owned()]).collect();
    let found = edges.enrollments_of(&ids.iter().map(String::as_str).collect::<Vec<_>>()).await.unwrap();
    assert_eq!((found.len(), found["e599"].as_str(), edges.statements().lookups()), (600, "n599", 3));
    assert!(edges.enrollments_of(&[]).await.unwrap().is_empty());

    let departures: Vec<_> = (0..EDGES).map(|at| departure(&format!("e{at}"), at + 1)).collect();
    edges.leave("elsewhere", &departures).await.unwrap();
    assert_eq!(edges.get("e250").await.unwrap().unwrap(), rows[250]);
    edges.leave("r", &departures).await.unwrap();
    let left = edges.get("e250").await.unwrap().unwrap();
    assert_eq!(left, EdgeRow { replica: String::new(), state_us: 9, ..rows[250].clone() });
    assert_eq!(edges.statements().writes(), 9);
}
