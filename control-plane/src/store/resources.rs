//! Reading the resource log.

use std::collections::HashSet;

use sqlx::any::AnyRow;
use sqlx::{Any, AnyPool, AssertSqlSafe, Executor, Row as _};

use super::row::{COLUMNS, Row};
use super::viewer::{self, Viewer};
use super::{Store, StoreError};
use crate::domain::Kind;
use crate::domain::page::Order;
use crate::rights::Ownership;

/// A keyset page of rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// Of which kind.
    pub kind: Kind,
    /// Of which parent; `None`: of all.
    pub parent: Option<String>,
    /// Sorted by what.
    pub order: Order,
    /// Backwards.
    pub descending: bool,
    /// The end of the page before: the value sorted by (not for `Order::Name`), and the name.
    pub after: Option<(i64, String)>,
    /// Who looks.
    pub viewer: Viewer,
    /// Labels that the resource must carry.
    pub labels: Vec<(String, String)>,
    /// The maximum number of rows.
    pub limit: i64,
}

impl Store {
    /// Everything that exists, and the revision at which that is so.
    pub async fn all(&self) -> Result<(i64, Vec<Row>), StoreError> {
        let sql = format!(
            "select v.value as at, {COLUMNS} from revision v left join resources r on r.deleted = 0 order by r.revision, r.name"
        );
        log(sqlx::query(AssertSqlSafe(sql)).fetch_all(self.pool()).await?)
    }

    /// Everything written after a revision, tombstones too, in order, and the revision up to which that is so.
    pub async fn changes_since(&self, revision: i64) -> Result<(i64, Vec<Row>), StoreError> {
        changes_since(self.pool(), revision).await
    }

    /// When the registry went on after a revision, as far as its log still says it; `None`: nothing in it is newer.
    pub async fn moved_after(&self, revision: i64) -> Result<Option<i64>, StoreError> {
        let row = sqlx::query("select updated from resources where revision > $1 order by revision limit 1")
            .bind(revision)
            .fetch_optional(self.pool())
            .await?;
        Ok(row.map(|row| row.try_get("updated")).transpose()?)
    }

    /// One resource that exists.
    pub async fn get(&self, kind: Kind, name: &str) -> Result<Option<Row>, StoreError> {
        get(self.pool(), kind, name).await
    }

    /// All of these kinds that exist, by kind and name.
    pub async fn all_of(&self, kinds: &[Kind]) -> Result<Vec<Row>, StoreError> {
        let places = super::values::list(0, kinds.len());
        let sql = format!(
            "select {COLUMNS} from resources r where r.kind in ({places}) and r.deleted = 0 order by r.kind, r.name"
        );
        let query =
            kinds.iter().fold(sqlx::query(AssertSqlSafe(sql)), |query, kind| query.bind(kind.as_str()));
        query.fetch_all(self.pool()).await?.iter().map(Row::read).collect()
    }

    /// Whose a resource is that exists.
    pub async fn ownership(&self, kind: Kind, name: &str) -> Result<Option<Ownership>, StoreError> {
        viewer::owned(self.pool(), kind, name).await
    }

    /// The names of those of a kind that exist for somebody.
    pub async fn seen(&self, kind: Kind, viewer: &Viewer) -> Result<HashSet<String>, StoreError> {
        let sql = format!(
            "select r.name from resources r where r.kind = $1 and r.deleted = 0{}",
            viewer.condition(kind, 1)
        );
        let query = sqlx::query(AssertSqlSafe(sql)).bind(kind.as_str());
        let query = viewer.values().fold(query, |query, value| query.bind(value));
        query.fetch_all(self.pool()).await?.iter().map(|row| Ok(row.try_get("name")?)).collect()
    }

    /// A page of resources that exist.
    pub async fn page(&self, page: &Page) -> Result<Vec<Row>, StoreError> {
        let mut sql = format!("select {COLUMNS} from resources r where r.kind = $1 and r.deleted = 0");
        let mut number = 1 + page.viewer.values().count();
        sql += &page.viewer.condition(page.kind, 1);
        let mut next = || {
            number += 1;
            number
        };
        if page.parent.is_some() {
            sql += &format!(" and r.parent = ${}", next());
        }
        for _ in &page.labels {
            sql += &format!(
                " and exists (select 1 from labels l where l.kind = r.kind and l.name = r.name and l.key = ${} and l.value = ${})",
                next(),
                next()
            );
        }
        let (way, beyond) = if page.descending { ("desc", "<") } else { ("asc", ">") };
        let column = match page.order {
            Order::Name => None,
            Order::Revision => Some("r.revision"),
            Order::CreateTime => Some("r.created"),
        };
        let order = column.map_or("r.name".to_owned(), |column| format!("({column}, r.name)"));
        if page.after.is_some() {
            let place =
                if column.is_some() { format!("(${}, ${})", next(), next()) } else { format!("${}", next()) };
            sql += &format!(" and {order} {beyond} {place}");
        }
        let sorted = column.map_or(String::new(), |column| format!("{column} {way}, "));
        sql += &format!(" order by {sorted}r.name {way} limit ${}", next());

        let query = sqlx::query(AssertSqlSafe(sql)).bind(page.kind.as_str());
        let mut query = page.viewer.values().fold(query, |query, value| query.bind(value));
        if let Some(parent) = &page.parent {
            query = query.bind(parent.as_str());
        }
        for (key, value) in &page.labels {
            query = query.bind(key.as_str()).bind(value.as_str());
        }
        if let Some((value, name)) = &page.after {
            query = if column.is_some() {
                query.bind(*value).bind(name.as_str())
            } else {
                query.bind(name.as_str())
            };
        }
        query.bind(page.limit).fetch_all(self.pool()).await?.iter().map(Row::read).collect()
    }
}

pub(super) async fn revision(pool: &AnyPool) -> Result<i64, StoreError> {
    Ok(sqlx::query("select value from revision where id = 1").fetch_one(pool).await?.try_get("value")?)
}

pub(super) async fn changes_since<'c>(
    executor: impl Executor<'c, Database = Any>,
    revision: i64,
) -> Result<(i64, Vec<Row>), StoreError> {
    let sql = format!(
        "select v.value as at, {COLUMNS} from revision v left join resources r on r.revision > $1 order by r.revision, r.name"
    );
    log(sqlx::query(AssertSqlSafe(sql)).bind(revision).fetch_all(executor).await?)
}

pub(super) async fn get<'c>(
    executor: impl Executor<'c, Database = Any>,
    kind: Kind,
    name: &str,
) -> Result<Option<Row>, StoreError> {
    let sql =
        format!("select {COLUMNS} from resources r where r.kind = $1 and r.name = $2 and r.deleted = 0");
    let row = sqlx::query(AssertSqlSafe(sql)).bind(kind.as_str()).bind(name).fetch_optional(executor).await?;
    row.as_ref().map(Row::read).transpose()
}

/// One statement sees one state on both databases, so the revision is read along with the rows.
fn log(rows: Vec<AnyRow>) -> Result<(i64, Vec<Row>), StoreError> {
    let at = rows.first().map_or(Ok(0), |row| row.try_get("at"))?;
    let mut found = Vec::with_capacity(rows.len());
    for row in &rows {
        if row.try_get::<Option<String>, _>("kind")?.is_some() {
            found.push(Row::read(row)?);
        }
    }
    Ok((at, found))
}
