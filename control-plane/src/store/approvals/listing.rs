//! Approvals as somebody sees them: a page of those that are theirs, or that they may decide about.

use sqlx::{AssertSqlSafe, Row as _};
use trunkline::common::v1::{Permission, Visibility};
use trunkline::policy::v1::ApprovalState;

use super::super::{Store, StoreError};
use super::{ApprovalRow, COLUMNS};
use crate::domain::Kind;
use crate::rights::Rights;

/// Somebody who looks at approvals.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ApprovalReader {
    /// Whether they may decide about all.
    everything: bool,
    /// Their uid, where they see what they called themselves. Empty: they do not.
    uid: String,
    /// Their name, where they may decide about calls of their servers. Empty: they may not.
    name: String,
    /// The teams about whose servers they may decide.
    teams: Vec<String>,
}

impl ApprovalReader {
    /// Somebody with these rights.
    pub fn of(rights: &Rights) -> Self {
        let decides = Permission::ApprovalsDecide;
        let in_team = |team: &&str| rights.in_team(team).contains(decides);
        Self {
            everything: rights.holds_for_all(decides),
            // What is theirs as a person is not of a key that may do no more than a role.
            uid: if rights.is_limited { String::new() } else { rights.uid.clone() },
            name: if rights.holds(decides) { rights.name.clone() } else { String::new() },
            teams: rights.seen_teams().filter(in_team).map(str::to_owned).collect(),
        }
    }

    /// What [`Rights::may`] says of the servers, and whose calls they are, after those of `before` other values.
    fn condition(&self, before: usize) -> String {
        if self.everything {
            return String::new();
        }
        let mut place = before;
        let mut next = || {
            place += 1;
            format!("${place}")
        };
        let mut cases = Vec::new();
        if !self.uid.is_empty() {
            let uid = next();
            cases.push(format!("a.principal_uid = {uid} OR a.owner_uid = {uid} OR a.answerable_uid = {uid}"));
        }
        let mut of_server = Vec::new();
        if !self.name.is_empty() {
            of_server.push(format!("r.owner = {}", next()));
        }
        if !self.teams.is_empty() {
            let teams: Vec<_> = self.teams.iter().map(|_| next()).collect();
            let is_shared =
                format!("r.visibility IN ({}, {})", Visibility::Team as i32, Visibility::Public as i32);
            of_server.push(format!("({is_shared} AND r.team IN ({}))", teams.join(", ")));
        }
        if !of_server.is_empty() {
            cases.push(format!(
                "EXISTS (SELECT 1 FROM resources r WHERE r.kind = '{}' AND r.name = a.server AND r.uid = a.server_uid \
                 AND r.deleted = 0 AND ({}))",
                Kind::Server,
                of_server.join(" OR ")
            ));
        }
        if cases.is_empty() { " AND 1 = 0".to_owned() } else { format!(" AND ({})", cases.join(" OR ")) }
    }

    fn values(&self) -> impl Iterator<Item = &str> {
        let named = [&self.uid, &self.name].into_iter().filter(|text| !text.is_empty());
        named.chain(&self.teams).map(String::as_str).filter(|_| !self.everything)
    }
}

/// A page of approvals, the newest first.
#[derive(Debug, Clone)]
pub struct ApprovalPage<'a> {
    /// Who looks.
    pub reader: ApprovalReader,
    /// Those in this state. Unspecified: all.
    pub state: ApprovalState,
    /// Those of this server. Empty: of all.
    pub server: &'a str,
    /// The time and id of the last one of the page before.
    pub before: Option<(i64, String)>,
    /// So many at most.
    pub limit: i64,
}

/// What rows in a state are at the time `$1`.
fn in_state(state: ApprovalState) -> &'static str {
    match state {
        ApprovalState::Unspecified => "",
        ApprovalState::Pending => " AND a.state = 1 AND a.expires > $1",
        ApprovalState::Approved => " AND a.state = 2 AND a.expires > $1",
        ApprovalState::Denied => " AND a.state = 3",
        ApprovalState::Used => " AND a.state = 4",
        ApprovalState::Expired => " AND (a.state = 5 OR (a.state IN (1, 2) AND a.expires <= $1))",
    }
}

impl Store {
    /// A page of those that somebody sees.
    pub async fn approvals(
        &self,
        page: &ApprovalPage<'_>,
        now_us: i64,
    ) -> Result<Vec<ApprovalRow>, StoreError> {
        let sql = format!(
            "SELECT {COLUMNS} FROM approvals a WHERE a.created <= $2 AND (a.created < $2 OR a.id < $3) \
             AND ($4 = '' OR a.server = $4){}{} AND $1 > 0 ORDER BY a.created DESC, a.id DESC LIMIT $5",
            in_state(page.state),
            page.reader.condition(5),
        );
        let (before_us, before_id) = page.before.clone().unwrap_or((i64::MAX, String::new()));
        let query = sqlx::query(AssertSqlSafe(sql))
            .bind(now_us)
            .bind(before_us)
            .bind(before_id)
            .bind(page.server)
            .bind(page.limit);
        let query = page.reader.values().fold(query, |query, value| query.bind(value));
        query.fetch_all(self.pool()).await?.iter().map(ApprovalRow::read).collect()
    }

    /// How many wait.
    pub async fn count_pending_approvals(&self, now_us: i64) -> Result<i64, StoreError> {
        let sql = "SELECT count(*) AS waiting FROM approvals WHERE state = 1 AND expires > $1";
        Ok(sqlx::query(sql).bind(now_us).fetch_one(self.pool()).await?.try_get("waiting")?)
    }
}
