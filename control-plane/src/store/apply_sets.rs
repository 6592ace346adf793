//! Apply sets: which resources were applied together. Belonging to one is no part of a resource, and takes no revision.

use sqlx::{AssertSqlSafe, Row as _};

use super::row::{COLUMNS, Row};
use super::viewer::Viewer;
use super::{Store, StoreError, Tx};
use crate::domain::Kind;

/// The set that a write puts a resource in.
#[derive(Debug, Clone, Copy)]
pub struct Membership<'a> {
    /// The name of the set.
    pub name: &'a str,
    /// Whether a resource joins that is the same already. Otherwise only what is changed does.
    pub take_over: bool,
}

/// A set that resources belong to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApplySetRow {
    /// The name.
    pub name: String,
    /// The number of its resources.
    pub count: i64,
    /// When one of them was changed last.
    pub update_us: i64,
}

impl Store {
    /// The sets that have resources of these kinds which exist for somebody, by name; others count for nothing.
    pub async fn apply_sets(&self, kinds: &[Kind], viewer: &Viewer) -> Result<Vec<ApplySetRow>, StoreError> {
        if kinds.is_empty() {
            return Ok(Vec::new());
        }
        let of_kind = |kind: &Kind| format!("(r.kind = '{kind}'{})", viewer.condition(*kind, 0));
        let sql = format!(
            "select r.apply_set as name, count(*) as count, max(r.updated) as updated from resources r \
             where r.deleted = 0 and r.apply_set <> '' and ({}) group by r.apply_set order by r.apply_set",
            kinds.iter().map(of_kind).collect::<Vec<_>>().join(" or ")
        );
        let query = sqlx::query(AssertSqlSafe(sql));
        let query = viewer.values().fold(query, |query, value| query.bind(value));
        let rows = query.fetch_all(self.pool()).await?;
        let read = |row: &sqlx::any::AnyRow| {
            Ok(ApplySetRow {
                name: row.try_get("name")?,
                count: row.try_get("count")?,
                update_us: row.try_get("updated")?,
            })
        };
        rows.iter().map(read).collect()
    }
}

impl Tx {
    /// Those that were applied with a set, and exist.
    pub async fn applied_with(&mut self, set: &str) -> Result<Vec<Row>, StoreError> {
        let sql = format!(
            "select {COLUMNS} from resources r where r.apply_set = $1 and r.deleted = 0 order by r.kind, r.name"
        );
        let rows = sqlx::query(AssertSqlSafe(sql)).bind(set).fetch_all(self.connection()).await?;
        rows.iter().map(Row::read).collect()
    }

    /// Notes the set of a resource that is otherwise as it was.
    pub(super) async fn adopt(&mut self, old: &Row, set: &str) -> Result<Row, StoreError> {
        if old.apply_set != set {
            sqlx::query("update resources set apply_set = $1 where kind = $2 and name = $3")
                .bind(set)
                .bind(old.kind.as_str())
                .bind(old.name.as_str())
                .execute(self.connection())
                .await?;
            self.aside = true;
        }
        Ok(Row { apply_set: set.to_owned(), ..old.clone() })
    }
}
