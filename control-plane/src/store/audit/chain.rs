//! The chain: the hash of a record, and how records are appended.
//!
//! The row of `audit_head` is the turn: whoever appends updates it first, and others wait, on every replica.

use std::fmt::Write as _;
use std::sync::Arc;

use aws_lc_rs::digest::{Context, SHA256};
use prost::Message as _;
use sqlx::any::AnyRow;
use sqlx::{AnyConnection, AssertSqlSafe, Row as _};
use trunkline::admin::v1::{AuditKind, AuditRecord};

use super::super::values::{self, ROWS};
use super::super::{Store, StoreError};
use super::author::CONTROL_PLANE;
use super::{AuditHealth, GapClaim};
use crate::clock;

/// The hash before the first record of all.
pub const FIRST_HASH: &str = "0000000000000000000000000000000000000000000000000000000000000000";
/// Longest text of a record, in bytes, those of what there was and is excepted.
const MAX_TEXT: usize = 2_048;
/// What says that records are missing.
const LOSE: &str = "lose audit records";

/// Where the chain begins and ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditHead {
    /// The last record; 0: there is none.
    pub sequence: i64,
    /// Its hash, in hexadecimal.
    pub hash: String,
    /// The first record that is kept.
    pub first: i64,
    /// The hash before it.
    pub first_hash: String,
    /// The signature over both. Empty: nothing was removed yet.
    pub first_seal: String,
    /// How many seals were made.
    pub seals: i64,
}

/// A record as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredRecord {
    /// Its number.
    pub sequence: i64,
    /// The record without its hash, encoded.
    pub body: Vec<u8>,
    /// Its hash, in hexadecimal.
    pub hash: String,
    time_us: i64,
    kind: i64,
    actor: String,
    action: String,
    resource: String,
    reason: String,
}

/// The records that the table has, whatever its head says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TableEnd {
    /// The first one; 0: there is none.
    pub first: i64,
    /// The last one; 0: there is none.
    pub last: i64,
}

impl StoredRecord {
    /// The message.
    pub fn message(&self) -> Result<AuditRecord, StoreError> {
        let decode = |source| StoreError::Decode { name: format!("audit record {}", self.sequence), source };
        let record = AuditRecord::decode(self.body.as_slice()).map_err(decode)?;
        Ok(AuditRecord { hash: bytes_of(&self.hash), ..record })
    }

    /// Finds what is wrong with a record that comes after one of this hash.
    pub fn problem(&self, previous: &str) -> Option<&'static str> {
        let Ok(record) = AuditRecord::decode(self.body.as_slice()) else { return Some("it cannot be read") };
        if hash_of(previous, &self.body) != self.hash {
            return Some("its hash is not that of its content and of the record before it");
        }
        (*self != Self::of(&record, self.body.clone(), self.hash.clone()))
            .then_some("its columns (time, kind, actor, action, resource, reason) differ from its content")
    }

    fn of(record: &AuditRecord, body: Vec<u8>, hash: String) -> Self {
        Self {
            sequence: record.sequence,
            body,
            hash,
            time_us: record.time.as_ref().map_or(0, clock::micros),
            kind: record.kind.into(),
            actor: record.actor.clone(),
            action: record.action.clone(),
            resource: record.resource.clone(),
            reason: record.reason.clone(),
        }
    }

    pub(super) fn read(row: &AnyRow) -> sqlx::Result<Self> {
        Ok(Self {
            sequence: row.try_get("sequence")?,
            body: row.try_get("body")?,
            hash: row.try_get("hash")?,
            time_us: row.try_get("time_us")?,
            kind: row.try_get("kind")?,
            actor: row.try_get("actor")?,
            action: row.try_get("action")?,
            resource: row.try_get("resource")?,
            reason: row.try_get("reason")?,
        })
    }
}

/// The hash of a record, in hexadecimal: over the hash before it and its bytes.
pub(super) fn hash_of(previous: &str, body: &[u8]) -> String {
    let mut hash = Context::new(&SHA256);
    hash.update(&bytes_of(previous));
    hash.update(body);
    hash.finish().as_ref().iter().fold(String::with_capacity(64), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// The bytes of a text in hexadecimal. Of what is none, there are none.
fn bytes_of(text: &str) -> Vec<u8> {
    let pairs = text.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).unwrap_or_default());
    pairs.map(|pair| u8::from_str_radix(pair, 16)).collect::<Result<_, _>>().unwrap_or_default()
}

/// Appends records, and one that says how many are missing before them.
pub(in super::super) async fn append(
    connection: &mut AnyConnection,
    mut records: Vec<AuditRecord>,
    health: &Arc<AuditHealth>,
) -> Result<GapClaim, StoreError> {
    let gap = health.claim();
    if gap.records > 0 {
        records.insert(0, missing(gap.records));
    }
    let count = i64::try_from(records.len()).unwrap_or(i64::MAX);
    let head =
        sqlx::query("UPDATE audit_head SET sequence = sequence + $1 WHERE id = 1 RETURNING sequence, hash")
            .bind(count)
            .fetch_one(&mut *connection)
            .await?;
    let mut sequence = head.try_get::<i64, _>("sequence")? - count;
    let mut hash: String = head.try_get("hash")?;
    let mut rows = Vec::with_capacity(records.len());
    for mut record in records {
        sequence += 1;
        tidy(&mut record, sequence);
        let body = record.encode_to_vec();
        hash = hash_of(&hash, &body);
        rows.push(StoredRecord::of(&record, body, hash.clone()));
    }
    for rows in rows.chunks(ROWS) {
        insert(connection, rows).await?;
    }
    sqlx::query("UPDATE audit_head SET hash = $1 WHERE id = 1").bind(hash).execute(connection).await?;
    Ok(gap)
}

/// Appends records of changes of the same transaction. Where that fails, the changes stay without, and `None` is returned; unless they must
/// not, and that is an error.
pub(in super::super) async fn append_to(
    connection: &mut AnyConnection,
    records: Vec<AuditRecord>,
    health: &Arc<AuditHealth>,
) -> Result<Option<GapClaim>, StoreError> {
    let count = u64::try_from(records.len()).unwrap_or(u64::MAX);
    sqlx::raw_sql("SAVEPOINT audit").execute(&mut *connection).await?;
    let error = match append(connection, records, health).await {
        Ok(gap) => return Ok(Some(gap)),
        Err(error) => error,
    };
    if health.fails_closed() {
        return Err(StoreError::AuditUnavailable(error.to_string()));
    }
    sqlx::raw_sql("ROLLBACK TO SAVEPOINT audit").execute(connection).await?;
    health.count_dropped(count, &error);
    Ok(None)
}

fn missing(records: u64) -> AuditRecord {
    AuditRecord {
        time: Some(clock::timestamp(clock::now_us())),
        kind: AuditKind::Gap.into(),
        actor: CONTROL_PLANE.to_owned(),
        action: LOSE.to_owned(),
        count: i64::try_from(records).unwrap_or(i64::MAX),
        ..AuditRecord::default()
    }
}

/// Numbers a record, and bounds what callers may have a say in.
fn tidy(record: &mut AuditRecord, sequence: i64) {
    record.sequence = sequence;
    record.hash.clear();
    record.count = record.count.max(1);
    let texts = [
        &mut record.actor,
        &mut record.actor_uid,
        &mut record.through,
        &mut record.address,
        &mut record.action,
        &mut record.resource,
        &mut record.reason,
        &mut record.request_id,
    ];
    for text in texts {
        if text.len() > MAX_TEXT || text.contains(char::is_control) {
            *text = text.chars().filter(|letter| !letter.is_control()).take(MAX_TEXT / 4).collect();
        }
    }
}

async fn insert(connection: &mut AnyConnection, rows: &[StoredRecord]) -> sqlx::Result<()> {
    let sql = format!(
        "INSERT INTO audit (sequence, time_us, kind, actor, action, resource, reason, body, hash) VALUES {}",
        values::rows(0, 9, rows.len())
    );
    let query = sqlx::query(AssertSqlSafe(sql)).persistent(matches!(rows.len(), 1 | ROWS));
    let query = rows.iter().fold(query, |query, row| {
        query
            .bind(row.sequence)
            .bind(row.time_us)
            .bind(row.kind)
            .bind(row.actor.as_str())
            .bind(row.action.as_str())
            .bind(row.resource.as_str())
            .bind(row.reason.as_str())
            .bind(row.body.as_slice())
            .bind(row.hash.as_str())
    });
    query.execute(connection).await.map(drop)
}

impl Store {
    /// Where the chain begins and ends. `None`: somebody has removed that.
    pub async fn audit_head(&self) -> Result<Option<AuditHead>, StoreError> {
        let row = sqlx::query("SELECT * FROM audit_head WHERE id = 1").fetch_optional(self.pool()).await?;
        row.as_ref().map(head).transpose().map_err(StoreError::from)
    }

    /// The records that the table has, whatever its head says.
    pub async fn audit_end(&self) -> Result<TableEnd, StoreError> {
        let sql = "SELECT coalesce(min(sequence), 0) AS first, coalesce(max(sequence), 0) AS last FROM audit";
        let row = sqlx::query(sql).fetch_one(self.pool()).await?;
        Ok(TableEnd { first: row.try_get("first")?, last: row.try_get("last")? })
    }
}

pub(super) fn head(row: &AnyRow) -> sqlx::Result<AuditHead> {
    Ok(AuditHead {
        sequence: row.try_get("sequence")?,
        hash: row.try_get("hash")?,
        first: row.try_get("first")?,
        first_hash: row.try_get("first_hash")?,
        first_seal: row.try_get("first_seal")?,
        seals: row.try_get("seals")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_is_of_the_content_and_of_the_hash_before_it() {
        let one = hash_of(FIRST_HASH, b"one");
        assert_eq!(one.len(), 64);
        assert_eq!(bytes_of(&one).len(), 32);
        assert_ne!(hash_of(&one, b"two"), hash_of(FIRST_HASH, b"two"));
        assert_ne!(hash_of(&one, b"two"), hash_of(&one, b"twp"));
        assert_eq!(bytes_of("zz"), b"");
    }

    #[test]
    fn what_callers_say_is_bounded_and_has_no_control_characters() {
        let mut record = AuditRecord {
            actor: "a\0b\u{1b}[2J".to_owned(),
            resource: "é".repeat(MAX_TEXT),
            count: -5,
            ..AuditRecord::default()
        };
        tidy(&mut record, 7);
        assert_eq!((record.actor.as_str(), record.sequence, record.count), ("ab[2J", 7, 1));
        assert!(record.resource.len() <= MAX_TEXT);
    }
}
