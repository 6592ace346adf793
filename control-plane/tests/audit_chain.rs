//! The chain of the audit log on both databases: whatever is done to it is found, whoever writes writes one chain, and what is past its
//! time goes without a break.
#![allow(clippy::unwrap_used, reason = "a failed expectation is a failed test")]

#[macro_use]
#[path = "support/database.rs"]
mod database;

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use database::Database;
use sqlx::Connection as _;
use tokio::sync::mpsc;
use trunkline::admin::v1::{AuditKind, AuditRecord, VerifyAuditResponse};
use trunkline::registry::v1::Server;
use trunkline_control_plane::audit::verify;
use trunkline_control_plane::auth::audit_seal::{AuditSeals, SealedPlace};
use trunkline_control_plane::auth::keys::{KeyError, Signer};
use trunkline_control_plane::auth::master::MasterKey;
use trunkline_control_plane::auth::vault::Vault;
use trunkline_control_plane::clock;
use trunkline_control_plane::store::audit::{AuditHead, AuditQuery, Author, Cut};
use trunkline_control_plane::store::keys::Keys;
use trunkline_control_plane::store::{Store, StoreError};

suite!(
    a_chain_that_nobody_touched_is_intact,
    whatever_is_done_to_a_chain_is_found,
    a_chain_that_was_computed_anew_is_not_the_one_that_was_sealed,
    all_writers_write_one_chain,
    what_is_past_its_time_goes_without_a_break,
    a_beginning_that_no_control_plane_signed_is_found,
    seals_that_are_missing_are_found,
    seals_of_before_they_were_numbered_come_first,
);

/// A chain, and what looks through it.
struct Chain {
    store: Store,
    seals: AuditSeals,
    signer: Arc<Signer>,
}

#[derive(Debug)]
enum TestError {
    Store,
    Keys,
}

impl From<StoreError> for TestError {
    fn from(_: StoreError) -> Self {
        Self::Store
    }
}

impl From<KeyError> for TestError {
    fn from(_: KeyError) -> Self {
        Self::Keys
    }
}

impl Chain {
    async fn open(database: &Database) -> Self {
        let store = database.open().await;
        let keys = Keys::new(&store);
        let master = MasterKey::parse(&STANDARD.encode([7; 32]), "test").unwrap();
        let vault = Arc::new(Vault::open_keys(keys.clone(), master, None).await.unwrap());
        let signer = Arc::new(Signer::open(keys, vault, "test".to_owned()).await.unwrap());
        Self { store, seals: AuditSeals::new(signer.clone()), signer }
    }

    /// One of so many records.
    async fn of(database: &Database, records: i64) -> Self {
        let chain = Self::open(database).await;
        for number in 1..=records {
            chain.store.append_audit(vec![record(number)]).await.unwrap();
        }
        chain
    }

    async fn seal(&self) {
        let sign = |head: &AuditHead| Ok::<_, TestError>(self.seals.seal_end(head)?);
        self.store.seal_audit(clock::now_us(), sign).await.unwrap();
    }

    /// Appends records up to this one, and seals them.
    async fn seal_up_to(&self, last: i64) {
        let next = self.store.audit_head().await.unwrap().unwrap().sequence + 1;
        self.store.append_audit((next..=last).map(record).collect()).await.unwrap();
        self.seal().await;
    }

    async fn verify(&self) -> VerifyAuditResponse {
        let (out, mut told) = mpsc::channel(64);
        let found = verify(&self.store, &self.seals, &out).await.unwrap();
        told.close();
        assert!(found.done);
        found
    }

    /// The record at which the chain breaks; 0: nowhere.
    async fn breaks_at(&self) -> i64 {
        self.verify().await.first_break.map_or(0, |found| found.sequence)
    }

    async fn shorten(&self, before_us: i64, most: i64) -> i64 {
        let sign = |cut: &Cut| Ok::<_, TestError>(self.seals.seal_start(cut)?);
        self.store.shorten_audit(before_us, most, sign).await.unwrap()
    }
}

fn record(number: i64) -> AuditRecord {
    AuditRecord {
        time: Some(clock::timestamp(number * 1_000_000)),
        kind: AuditKind::Refusal.into(),
        actor: format!("tokens/t{number}"),
        action: "tools/call".to_owned(),
        resource: "servers/dev".to_owned(),
        reason: "address_not_allowed".to_owned(),
        count: 1,
        ..AuditRecord::default()
    }
}

async fn a_chain_that_nobody_touched_is_intact(database: Database) {
    let chain = Chain::open(&database).await;
    assert_eq!(chain.breaks_at().await, 0, "an empty one");
    let chain = Chain::of(&database, 5).await;
    chain.seal().await;
    chain.store.append_audit((6..=1_205).map(record).collect()).await.unwrap();
    let found = chain.verify().await;
    assert_eq!(found.first_break, None);
    assert_eq!((found.first_sequence, found.last_sequence, found.verified_sequence), (1, 1_205, 1_205));
    assert_eq!((found.seals, found.unchecked_seals), (1, 0));
}

/// What is done, and the record at which it is found.
const TAMPERED: &[(&str, i64)] = &[
    ("update audit set time_us = time_us + 1 where sequence = 3", 3),
    ("update audit set kind = 1 where sequence = 3", 3),
    ("update audit set actor = 'tokens/other' where sequence = 3", 3),
    ("update audit set action = 'tools/list' where sequence = 3", 3),
    ("update audit set resource = 'servers/other' where sequence = 3", 3),
    ("update audit set reason = '' where sequence = 3", 3),
    ("update audit set body = (select c.body from audit_copy c where c.sequence = 4) where sequence = 3", 3),
    ("update audit set hash = (select c.hash from audit_copy c where c.sequence = 4) where sequence = 3", 3),
    ("update audit set sequence = 100 where sequence = 3", 3),
    ("delete from audit where sequence = 3", 3),
    // Two change places, with all that is theirs but the number.
    (
        "update audit set body = (select c.body from audit_copy c where c.sequence = 7 - audit.sequence), \
         hash = (select c.hash from audit_copy c where c.sequence = 7 - audit.sequence), \
         actor = (select c.actor from audit_copy c where c.sequence = 7 - audit.sequence), \
         time_us = (select c.time_us from audit_copy c where c.sequence = 7 - audit.sequence) where sequence in (3, 4)",
        3,
    ),
    ("delete from audit where sequence = 6", 6),
    ("delete from audit where sequence >= 4", 4),
    ("delete from audit where sequence = 1", 1),
    ("delete from audit", 1),
    ("delete from audit_head", 0),
    ("update audit_head set sequence = 5", 5),
    ("update audit_head set sequence = 5, hash = (select hash from audit where sequence = 5)", 5),
    ("update audit_head set hash = first_hash", 6),
    ("update audit_head set sequence = 7", 7),
    // The end is cut off, and the head says so: what was sealed is missing.
    (
        "update audit_head set sequence = 4, hash = (select hash from audit where sequence = 4); delete from audit where sequence > 4",
        4,
    ),
    ("update audit_head set first = 3", 3),
    ("update audit_head set first_hash = hash", 1),
    (
        "update audit_head set first = 3, first_hash = (select hash from audit where sequence = 2); delete from audit where sequence < 3",
        3,
    ),
    ("update audit_seals set seal = 'x'", 6),
    ("update audit_seals set sequence = 5", 5),
    ("update audit_seals set sequence = 9", 6),
];

async fn whatever_is_done_to_a_chain_is_found(database: Database) {
    let chain = Chain::of(&database, 6).await;
    chain.seal().await;
    for table in ["audit", "audit_head", "audit_seals"] {
        database.run(&format!("create table {table}_copy as select * from {table}")).await;
    }
    for (tampering, found) in TAMPERED {
        assert_eq!(chain.verify().await.first_break, None, "before {tampering}");
        database.run(tampering).await;
        let broken = chain.verify().await.first_break;
        let broken = broken.unwrap_or_else(|| panic!("not found: {tampering}"));
        assert_eq!(broken.sequence, *found, "{tampering}: {}", broken.reason);
        for table in ["audit", "audit_head", "audit_seals"] {
            database
                .run(&format!("delete from {table}; insert into {table} select * from {table}_copy"))
                .await;
        }
    }
}

/// Who has the database can compute every hash anew. What was sealed before is not what they have then.
async fn a_chain_that_was_computed_anew_is_not_the_one_that_was_sealed(database: Database) {
    let chain = Chain::of(&database, 4).await;
    chain.seal().await;
    database.run("delete from audit; update audit_head set sequence = 0, hash = first_hash").await;
    for number in [1, 2, 9, 4, 5] {
        chain.store.append_audit(vec![record(number)]).await.unwrap();
    }
    let broken = chain.verify().await.first_break.unwrap();
    assert_eq!(broken.sequence, 4, "{}", broken.reason);
}

async fn all_writers_write_one_chain(database: Database) {
    const WRITERS: i64 = 6;
    const EACH: i64 = 15;
    let chain = Chain::open(&database).await;
    let mut tasks = tokio::task::JoinSet::new();
    for writer in 0..WRITERS {
        // Other replicas share a PostgreSQL; SQLite has one.
        let store = if database.is_sqlite() { chain.store.clone() } else { database.open().await };
        tasks.spawn(async move {
            for number in 0..EACH {
                if writer % 2 == 0 {
                    store.append_audit(vec![record(number)]).await.unwrap();
                    continue;
                }
                let author = Author { actor: format!("users/u{writer}@example.org"), ..Author::default() };
                let change = async {
                    let mut tx = store.write().await.unwrap();
                    let name = format!("servers/s{writer}-{number}");
                    tx.put(&Server { name, ..Server::default() }, None, None).await.unwrap();
                    tx.commit().await.unwrap();
                };
                Arc::new(author).runs(change).await;
            }
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
    let found = chain.verify().await;
    assert_eq!((found.first_break, found.last_sequence), (None, WRITERS * EACH));
    let query = AuditQuery { limit: 1_000, ..AuditQuery::default() };
    let records = chain.store.audit_records(&query).await.unwrap();
    let changes = records.iter().filter(|record| record.kind() == AuditKind::Change).count();
    assert_eq!(i64::try_from(changes).unwrap(), WRITERS * EACH / 2);
    assert!(records.iter().all(|record| (record.revision > 0) == (record.kind() == AuditKind::Change)));
}

async fn what_is_past_its_time_goes_without_a_break(database: Database) {
    let chain = Chain::of(&database, 30).await;
    chain.seal().await;
    assert_eq!(chain.shorten(0, 1_000).await, 0);
    assert_eq!(chain.shorten(21_000_000, 1_000).await, 20);
    let found = chain.verify().await;
    assert_eq!((found.first_break, found.first_sequence, found.last_sequence), (None, 21, 30));
    assert_eq!(chain.shorten(0, 4).await, 6);
    let found = chain.verify().await;
    assert_eq!((found.first_break, found.first_sequence, found.seals), (None, 27, 1));
    // The last one stays, or nobody would know where the chain goes on.
    assert_eq!(chain.shorten(i64::MAX, 1_000).await, 3);
    chain.store.append_audit(vec![record(31)]).await.unwrap();
    let found = chain.verify().await;
    assert_eq!((found.first_break, found.first_sequence, found.last_sequence), (None, 30, 31));
    let query = AuditQuery { limit: 10, newest_first: true, ..AuditQuery::default() };
    let numbers: Vec<_> =
        chain.store.audit_records(&query).await.unwrap().iter().map(|record| record.sequence).collect();
    assert_eq!(numbers, [31, 30]);
}

async fn a_beginning_that_no_control_plane_signed_is_found(database: Database) {
    let chain = Chain::of(&database, 10).await;
    assert_eq!(chain.shorten(0, 6).await, 4);
    assert_eq!(chain.breaks_at().await, 0);
    // The signature of one beginning is none of another.
    let statement = "update audit_head set first = 7, first_hash = (select hash from audit where sequence = 6); \
                     delete from audit where sequence < 7";
    database.run(statement).await;
    assert_eq!(chain.breaks_at().await, 7);
    // Nor is that of an end.
    let mut connection = sqlx::AnyConnection::connect(database.url()).await.unwrap();
    let head = chain.store.audit_head().await.unwrap().unwrap();
    let seal = chain.seals.seal(SealedPlace::End, head.first, &head.first_hash, 0).unwrap();
    sqlx::query("update audit_head set first_seal = $1").bind(seal).execute(&mut connection).await.unwrap();
    assert_eq!(chain.breaks_at().await, 7);
    let seal = chain.seals.seal(SealedPlace::Start, head.first, &head.first_hash, 0).unwrap();
    sqlx::query("update audit_head set first_seal = $1").bind(seal).execute(&mut connection).await.unwrap();
    assert_eq!(chain.breaks_at().await, 0);
}

async fn seals_that_are_missing_are_found(database: Database) {
    let chain = Chain::open(&database).await;
    for last in [2, 4, 6, 8] {
        chain.seal_up_to(last).await;
    }
    // What was sealed already is sealed under the same number.
    chain.seal().await;
    let found = chain.verify().await;
    assert_eq!((found.first_break, found.seals), (None, 4));
    database.run("create table kept as select * from audit_seals").await;
    let without = async |lost: &str| {
        database.run("delete from audit_seals; insert into audit_seals select * from kept").await;
        database.run(&format!("delete from audit_seals where {lost}")).await;
        let found = chain.verify().await.first_break.unwrap_or_else(|| panic!("not found: {lost}"));
        let (head, time) = found.reason.split_once(", of ").unwrap_or((&found.reason, ""));
        let tail = time.split_once(", stands").map(|(_, tail)| tail.to_owned()).unwrap_or_default();
        (found.sequence, format!("{head}{tail}"))
    };
    let before = |lost: &str, seal: i64, records: &str| {
        format!(
            "{lost} missing that control planes made before the one here: only seal {seal} for the records {records}"
        )
    };
    assert_eq!(without("sequence = 2").await, (4, before("seal 1 is", 2, "1 to 4")));
    assert_eq!(without("sequence in (4, 6)").await, (8, before("seals 2 to 3 are", 4, "3 to 8")));
    let end = "missing that control planes made: nothing stands for the records from";
    assert_eq!(without("sequence = 8").await, (8, format!("seal 4 is {end} 7 on")));
    assert_eq!(without("sequence > 0").await, (8, format!("seals 1 to 4 are {end} 1 on")));
    // Nor does a new seal hide that, or the retention.
    chain.seal_up_to(9).await;
    let found = chain.verify().await.first_break.unwrap();
    assert_eq!(found.sequence, 9);
    assert!(found.reason.starts_with("seals 1 to 4 are missing"), "{}", found.reason);
    assert_eq!(chain.shorten(0, 4).await, 5);
    let found = chain.verify().await.first_break.unwrap();
    assert_eq!(found.sequence, 9);
    database
        .run("delete from audit_seals; insert into audit_seals select * from kept where sequence > 4")
        .await;
    chain.seal_up_to(10).await;
    assert!(chain.verify().await.first_break.is_some(), "seal 5 is missing");
}

async fn seals_of_before_they_were_numbered_come_first(database: Database) {
    let chain = Chain::of(&database, 4).await;
    let mut connection = sqlx::AnyConnection::connect(database.url()).await.unwrap();
    let mut seal_without_number = async |sequence: i64| {
        let records = chain.store.audit_page(sequence, 1).await.unwrap();
        let claims = serde_json::json!({"iss": chain.signer.issuer(), "aud": "trunkline-audit", "sub": "end", "iat": 1, "exp": 1,
            "seq": sequence, "hash": records[0].hash});
        let seal = chain.signer.sign(&claims).unwrap().0;
        let sql = "insert into audit_seals (sequence, time_us, seal) values ($1, 1, $2) \
                   on conflict (sequence) do update set seal = $2";
        sqlx::query(sql).bind(sequence).bind(seal).execute(&mut connection).await.unwrap();
    };
    for sequence in [2, 4] {
        seal_without_number(sequence).await;
    }
    assert_eq!(chain.verify().await.first_break, None);
    chain.seal_up_to(6).await;
    chain.seal_up_to(8).await;
    let found = chain.verify().await;
    assert_eq!((found.first_break, found.seals), (None, 4));
    // The records of an old seal go, then those of a new one.
    assert_eq!(chain.shorten(0, 6).await, 2);
    assert_eq!(chain.breaks_at().await, 0);
    assert_eq!(chain.shorten(0, 2).await, 4);
    let found = chain.verify().await;
    assert_eq!((found.first_break, found.first_sequence, found.seals), (None, 7, 1));
    // None of before comes after one with a number.
    seal_without_number(8).await;
    assert_eq!(chain.breaks_at().await, 8);
}
