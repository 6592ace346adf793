//! A write transaction: it holds the next revision from its first statement on, so that revisions become
//! visible in order on every replica.

use std::collections::BTreeMap;

use sqlx::{Any, AnyConnection, AssertSqlSafe, Row as _, Transaction};
use tokio::sync::OwnedMutexGuard;

use super::apply_sets::Membership;
use super::audit::{Changes, GapClaim};
use super::row::{COLUMNS, Row};
use super::viewer::{self, Viewer};
use super::{Store, StoreError, announce, resources};
use crate::clock;
use crate::domain::{Kind, KindRules, meta};
use crate::rights::Ownership;

/// A write that is under way. Dropped without `commit`, it leaves no trace.
#[derive(Debug)]
pub struct Tx {
    transaction: Transaction<'static, Any>,
    store: Store,
    revision: i64,
    now_us: i64,
    dirty: bool,
    /// Something changed that is not part of the log.
    pub(super) aside: bool,
    /// What is to be recorded of it.
    pub(super) changes: Changes,
    /// What was said of records that are missing, until it is stored.
    pub(super) gap: Option<GapClaim>,
    _turn: OwnedMutexGuard<()>,
}

impl Tx {
    pub(super) async fn begin(store: Store) -> Result<Self, StoreError> {
        let turn = store.inner.writer.clone().lock_owned().await;
        let mut transaction = store.inner.pool.begin().await?;
        let revision = sqlx::query("update revision set value = value + 1 where id = 1 returning value")
            .fetch_one(&mut *transaction)
            .await?
            .try_get("value")?;
        Ok(Self {
            transaction,
            store,
            revision,
            now_us: clock::now_us(),
            dirty: false,
            aside: false,
            changes: Changes::begin(),
            gap: None,
            _turn: turn,
        })
    }

    /// The revision that this write takes, should it change anything.
    pub fn revision(&self) -> i64 {
        self.revision
    }

    /// The time of this write, in microseconds.
    pub fn now_us(&self) -> i64 {
        self.now_us
    }

    pub(super) fn store(&self) -> &Store {
        &self.store
    }

    /// The connection, for tables beside the resource log. Follow a change that edges must learn of with `touch`.
    pub(crate) fn connection(&mut self) -> &mut AnyConnection {
        &mut self.transaction
    }

    /// Says that something changed, so that the revision is taken.
    pub fn touch(&mut self) {
        self.dirty = true;
    }

    /// Ends the write. Where nothing changed, no revision is taken. Returns the newest revision.
    pub async fn commit(mut self) -> Result<i64, StoreError> {
        let revision = if self.dirty { self.revision } else { 0 };
        self.aside |= self.write_audit(revision).await?;
        if !self.dirty {
            return self.give_back().await;
        }
        self.transaction.commit().await?;
        if let Some(gap) = self.gap {
            gap.said();
        }
        announce(&self.store.inner.committed, self.revision);
        announce(&self.store.inner.revisions, self.revision);
        Ok(self.revision)
    }

    /// Ends a write that takes no revision.
    async fn give_back(mut self) -> Result<i64, StoreError> {
        let before = self.revision - 1;
        if self.aside {
            sqlx::query("update revision set value = $1 where id = 1")
                .bind(before)
                .execute(self.connection())
                .await?;
            self.transaction.commit().await?;
            if let Some(gap) = self.gap {
                gap.said();
            }
        } else {
            self.transaction.rollback().await?;
        }
        Ok(before)
    }

    /// One resource that exists.
    pub async fn get(&mut self, kind: Kind, name: &str) -> Result<Option<Row>, StoreError> {
        resources::get(&mut *self.transaction, kind, name).await
    }

    /// The identity of the last resource of a name, which may be gone.
    pub async fn last_uid(&mut self, kind: Kind, name: &str) -> Result<Option<String>, StoreError> {
        let row = sqlx::query("select uid from resources where kind = $1 and name = $2")
            .bind(kind.as_str())
            .bind(name)
            .fetch_optional(self.connection())
            .await?;
        row.map(|row| Ok(row.try_get("uid")?)).transpose()
    }

    /// Everything written after a revision, by this write too.
    pub async fn changes_since(&mut self, revision: i64) -> Result<(i64, Vec<Row>), StoreError> {
        resources::changes_since(&mut *self.transaction, revision).await
    }

    /// Lists the resources under a parent.
    pub async fn children(&mut self, parent: &str) -> Result<Vec<Row>, StoreError> {
        let sql = format!(
            "select {COLUMNS} from resources r where r.parent = $1 and r.deleted = 0 order by r.kind, r.name"
        );
        sqlx::query(AssertSqlSafe(sql))
            .bind(parent)
            .fetch_all(self.connection())
            .await?
            .iter()
            .map(Row::read)
            .collect()
    }

    /// Names of those that refer to a resource.
    pub async fn referrers(&mut self, target: &str) -> Result<Vec<String>, StoreError> {
        let rows = sqlx::query("select name from refs where target = $1 order by name")
            .bind(target)
            .fetch_all(self.connection())
            .await?;
        rows.iter().map(|row| Ok(row.try_get("name")?)).collect()
    }

    /// Whose a resource is that exists.
    pub async fn ownership(&mut self, kind: Kind, name: &str) -> Result<Option<Ownership>, StoreError> {
        viewer::owned(self.connection(), kind, name).await
    }

    /// Tells whether there is a user or service account of this name.
    pub async fn has_principal(&mut self, name: &str) -> Result<bool, StoreError> {
        let found = sqlx::query("select 1 from principals where name = $1").bind(name);
        Ok(found.fetch_optional(self.connection()).await?.is_some())
    }

    /// The names of all resources of a kind that exist for somebody.
    pub async fn names(&mut self, kind: Kind, viewer: &Viewer) -> Result<Vec<String>, StoreError> {
        let sql = format!(
            "select r.name from resources r where r.kind = $1 and r.deleted = 0{} order by r.name",
            viewer.condition(kind, 1)
        );
        let query = sqlx::query(AssertSqlSafe(sql)).bind(kind.as_str());
        let query = viewer.values().fold(query, |query, value| query.bind(value));
        let rows = query.fetch_all(self.connection()).await?;
        rows.iter().map(|row| Ok(row.try_get("name")?)).collect()
    }

    /// Stores a message: creates it, or writes over `old`, which must be the row that exists. Where nothing
    /// differs, nothing is written. `set`: the apply set; `None` keeps the one it has.
    pub async fn put<K: KindRules>(
        &mut self,
        message: &K,
        old: Option<&Row>,
        set: Option<Membership<'_>>,
    ) -> Result<Row, StoreError> {
        let row = self.row(message, old, set.map(|set| set.name));
        if let Some(old) = old.filter(|old| same(old, &row)) {
            return match set {
                Some(set) if set.take_over => self.adopt(old, set.name).await,
                _ => Ok(old.clone()),
            };
        }
        self.upsert(&[&row]).await?;
        self.changes.note_row(old, Some(&row));
        if old.is_none_or(|old| old.body != row.body) {
            self.index(&row, message, old.is_some()).await?;
        }
        self.dirty = true;
        Ok(row)
    }

    /// The row that a message becomes, in the place of `old`.
    pub(super) fn row<K: KindRules>(&self, message: &K, old: Option<&Row>, set: Option<&str>) -> Row {
        let (body, status) = split(message);
        Row {
            kind: K::KIND,
            name: message.name().to_owned(),
            uid: old.map_or_else(|| uuid::Uuid::now_v7().to_string(), |old| old.uid.clone()),
            revision: self.revision,
            create_us: old.map_or(self.now_us, |old| old.create_us),
            update_us: self.now_us,
            deleted: false,
            apply_set: set.or(old.map(|old| old.apply_set.as_str())).unwrap_or_default().to_owned(),
            ownership: if K::KIND.in_catalogue() { Ownership::default() } else { message.ownership() },
            body,
            status,
        }
    }

    /// Writes the status of a resource, where it differs, as a change that edges learn of.
    pub async fn put_status<K: KindRules>(&mut self, old: &Row, observed: &K) -> Result<Row, StoreError> {
        let (_, status) = split(observed);
        if status == old.status {
            return Ok(old.clone());
        }
        let row = Row { revision: self.revision, update_us: self.now_us, status, ..old.clone() };
        self.upsert(&[&row]).await?;
        self.changes.note_row(Some(old), Some(&row));
        self.dirty = true;
        Ok(row)
    }

    /// Deletes a resource with all that is under it, and its secrets; a tombstone of each, without
    /// its content, remains.
    pub async fn delete(&mut self, row: &Row) -> Result<(), StoreError> {
        if row.kind == Kind::Upstream {
            self.delete_children(&row.name).await?;
        }
        self.delete_secret(&row.name).await?;
        if row.kind == Kind::Token {
            self.end_approvals_of(&row.uid).await?;
            self.forget_token_makers(&row.uid).await?;
        }
        self.changes.note_row(Some(row), None);
        self.mark_deleted(row).await
    }

    async fn mark_deleted(&mut self, row: &Row) -> Result<(), StoreError> {
        let nothing: &[u8] = &[];
        sqlx::query(
            "update resources set deleted = $1, updated = $1, revision = $2, body = $5, status = $5 \
             where kind = $3 and name = $4",
        )
        .bind(self.now_us)
        .bind(self.revision)
        .bind(row.kind.as_str())
        .bind(row.name.as_str())
        .bind(nothing)
        .execute(self.connection())
        .await?;
        self.unindex(row).await?;
        self.dirty = true;
        Ok(())
    }

    async fn index<K: KindRules>(&mut self, row: &Row, message: &K, existed: bool) -> Result<(), StoreError> {
        if existed {
            self.unindex(row).await?;
        }
        let none = BTreeMap::new();
        for (key, value) in message.meta().map_or(&none, |meta| &meta.labels) {
            sqlx::query("insert into labels (kind, name, key, value) values ($1, $2, $3, $4)")
                .bind(row.kind.as_str())
                .bind(row.name.as_str())
                .bind(key.as_str())
                .bind(value.as_str())
                .execute(self.connection())
                .await?;
        }
        for reference in message.all_references() {
            sqlx::query(
                "insert into refs (name, target) values ($1, $2) on conflict (name, target) do nothing",
            )
            .bind(row.name.as_str())
            .bind(reference.target.as_str())
            .execute(self.connection())
            .await?;
        }
        Ok(())
    }

    async fn unindex(&mut self, row: &Row) -> Result<(), StoreError> {
        sqlx::query("delete from labels where kind = $1 and name = $2")
            .bind(row.kind.as_str())
            .bind(row.name.as_str())
            .execute(self.connection())
            .await?;
        sqlx::query("delete from refs where name = $1")
            .bind(row.name.as_str())
            .execute(self.connection())
            .await?;
        Ok(())
    }
}

impl Store {
    /// Writes a status that no edge needs to see: it takes no revision, and is not announced. It does
    /// nothing where that life of the resource has ended. Do not use it for fields that edges see.
    pub async fn observe<K: KindRules>(&self, name: &str, uid: &str, observed: &K) -> Result<(), StoreError> {
        let (_, status) = split(observed);
        let _turn = self.inner.writer.clone().lock_owned().await;
        sqlx::query(
            "update resources set status = $1 where kind = $2 and name = $3 and uid = $4 and deleted = 0",
        )
        .bind(status.as_slice())
        .bind(K::KIND.as_str())
        .bind(name)
        .bind(uid)
        .execute(self.pool())
        .await?;
        Ok(())
    }
}

/// Tells whether a write would change nothing but the times.
pub(super) fn same(old: &Row, new: &Row) -> bool {
    !old.deleted && old.body == new.body && old.status == new.status
}

/// The bytes of spec and status. Identity is in neither: it is in the columns.
pub(super) fn split<K: KindRules>(message: &K) -> (Vec<u8>, Vec<u8>) {
    let mut spec = message.clone();
    let observed = spec.take_status();
    let status = if K::EVALUATED { Vec::new() } else { observed.encode_to_vec() };
    spec.set_name(String::new());
    let slot = spec.meta_slot();
    if let Some(meta) = slot.take() {
        *slot = Some(meta::writable(meta)).filter(|meta| *meta != Default::default());
    }
    (spec.encode_to_vec(), status)
}
