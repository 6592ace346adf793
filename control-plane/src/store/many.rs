//! Writes of many resources in few statements: who imports or deletes a large catalogue holds up other writers for as short as
//! that can be done.
//!
//! It must not know why they are written.

use sqlx::AssertSqlSafe;

use super::row::{Row, parent};
use super::tx::same;
use super::values::{self, ROWS};
use super::{StoreError, Tx};
use crate::domain::{Kind, KindRules};

const COLUMNS: [&str; 14] = [
    "kind",
    "name",
    "parent",
    "uid",
    "revision",
    "created",
    "updated",
    "deleted",
    "apply_set",
    "owner",
    "team",
    "visibility",
    "body",
    "status",
];

/// A resource that is to be stored, and the row that exists.
struct Write<'a, K> {
    message: &'a K,
    old: Option<&'a Row>,
    row: Row,
}

impl Tx {
    /// Stores messages of different names, as `put` stores one: each with the row that exists, if there is one.
    pub async fn put_many<K: KindRules>(&mut self, changes: &[(K, Option<Row>)]) -> Result<(), StoreError> {
        for changes in changes.chunks(ROWS) {
            let writes = changes.iter().map(|(message, old)| {
                let old = old.as_ref();
                Write { message, old, row: self.row(message, old, None) }
            });
            let differs = |write: &Write<'_, K>| !write.old.is_some_and(|old| same(old, &write.row));
            let writes: Vec<_> = writes.filter(differs).collect();
            if !writes.is_empty() {
                let rows: Vec<_> = writes.iter().map(|write| &write.row).collect();
                self.upsert(&rows).await?;
                self.index_many(&writes).await?;
                self.touch();
            }
        }
        Ok(())
    }

    /// Deletes all that is under a resource. A tombstone of each, without its content, remains.
    pub(super) async fn delete_children(&mut self, parent: &str) -> Result<(), StoreError> {
        const UNDER: &str = "in (select r.kind, r.name from resources r where r.parent = $1)";
        for table in ["labels", "refs"] {
            let key = if table == "labels" { "(kind, name)" } else { "name" };
            let under = if table == "labels" { UNDER.to_owned() } else { UNDER.replace("r.kind, ", "") };
            sqlx::query(AssertSqlSafe(format!("delete from {table} where {key} {under}")))
                .bind(parent)
                .execute(self.connection())
                .await?;
        }
        let (now_us, revision, nothing) = (self.now_us(), self.revision(), &[] as &[u8]);
        let done = sqlx::query(
            "update resources set deleted = $1, updated = $1, revision = $2, body = $4, status = $4 \
             where parent = $3 and deleted = 0",
        )
        .bind(now_us)
        .bind(revision)
        .bind(parent)
        .bind(nothing)
        .execute(self.connection())
        .await?;
        if done.rows_affected() > 0 {
            self.touch();
        }
        Ok(())
    }

    /// Stores these rows, of different names.
    pub(super) async fn upsert(&mut self, rows: &[&Row]) -> Result<(), StoreError> {
        let set: Vec<_> = COLUMNS[3..].iter().map(|name| format!("{name} = excluded.{name}")).collect();
        let sql = format!(
            "insert into resources ({}) values {} on conflict (kind, name) do update set {}",
            COLUMNS.join(", "),
            values::rows(0, COLUMNS.len(), rows.len()),
            set.join(", ")
        );
        let query = sqlx::query(AssertSqlSafe(sql)).persistent(matches!(rows.len(), 1 | ROWS));
        let query = rows.iter().fold(query, |query, row| {
            query
                .bind(row.kind.as_str())
                .bind(row.name.as_str())
                .bind(parent(row.kind, &row.name))
                .bind(row.uid.as_str())
                .bind(row.revision)
                .bind(row.create_us)
                .bind(row.update_us)
                .bind(0_i64)
                .bind(row.apply_set.as_str())
                .bind(row.ownership.owner.as_str())
                .bind(row.ownership.team.as_str())
                .bind(i64::from(i32::from(row.ownership.visibility)))
                .bind(row.body.as_slice())
                .bind(row.status.as_slice())
        });
        query.execute(self.connection()).await?;
        Ok(())
    }

    /// Writes what resources can be selected by, and what they refer to, where that may have changed.
    async fn index_many<K: KindRules>(&mut self, writes: &[Write<'_, K>]) -> Result<(), StoreError> {
        let changed = |write: &&Write<'_, K>| write.old.is_none_or(|old| old.body != write.row.body);
        let existed: Vec<&str> = writes
            .iter()
            .filter(changed)
            .filter(|write| write.old.is_some())
            .map(|write| write.row.name.as_str())
            .collect();
        self.unindex_many(K::KIND, &existed).await?;
        let (mut labels, mut refs) = (Vec::new(), Vec::new());
        for Write { message, row, .. } in writes.iter().filter(changed) {
            let of_message = message.meta().into_iter().flat_map(|meta| &meta.labels);
            labels.extend(of_message.map(|(key, value)| (row.name.as_str(), key.as_str(), value.as_str())));
            refs.extend(message.all_references().into_iter().map(|to| (row.name.as_str(), to.target)));
        }
        for labels in labels.chunks(ROWS) {
            let places = values::rows(0, 4, labels.len());
            let sql = format!("insert into labels (kind, name, key, value) values {places}");
            let query = labels
                .iter()
                .fold(sqlx::query(AssertSqlSafe(sql)).persistent(false), |query, (name, key, value)| {
                    query.bind(K::KIND.as_str()).bind(*name).bind(*key).bind(*value)
                });
            query.execute(self.connection()).await?;
        }
        for refs in refs.chunks(ROWS) {
            let places = values::rows(0, 2, refs.len());
            let sql = format!(
                "insert into refs (name, target) values {places} on conflict (name, target) do nothing"
            );
            let query = refs.iter().fold(
                sqlx::query(AssertSqlSafe(sql)).persistent(refs.len() == ROWS),
                |query, (name, target)| query.bind(*name).bind(target.as_str()),
            );
            query.execute(self.connection()).await?;
        }
        Ok(())
    }

    async fn unindex_many(&mut self, kind: Kind, names: &[&str]) -> Result<(), StoreError> {
        if names.is_empty() {
            return Ok(());
        }
        for (before, statement) in
            [(1, "delete from labels where kind = $1 and name in"), (0, "delete from refs where name in")]
        {
            let sql = format!("{statement} ({})", values::list(before, names.len()));
            let mut query = sqlx::query(AssertSqlSafe(sql)).persistent(names.len() == ROWS);
            if before == 1 {
                query = query.bind(kind.as_str());
            }
            names.iter().fold(query, |query, name| query.bind(*name)).execute(self.connection()).await?;
        }
        Ok(())
    }
}
