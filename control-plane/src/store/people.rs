//! What the states of teams and tokens follow from that is known of people.
//!
//! It must not know what states there are.

use std::collections::BTreeMap;

use sqlx::{AssertSqlSafe, Row as _};
use trunkline::identity::v1::{TeamStatus, UserState};

use super::{Store, StoreError};
use crate::domain::{LastUse, People};

/// The owners that a team's status names.
const OWNERS_NAMED: usize = 20;

impl Store {
    /// Who is disabled, and when tokens were last used.
    pub async fn owners_and_uses(&self) -> Result<People, StoreError> {
        let (disabled, last_uses) = (self.disabled_principals().await?, self.last_use_of_tokens().await?);
        Ok(People { disabled, last_uses, ..People::default() })
    }

    /// How many members teams have, and who owns them. Those without members are not among them.
    pub async fn members_of_teams(&self) -> Result<People, StoreError> {
        let sql = format!(
            "select c.team, c.is_owner, c.principal, c.members from (\
             select m.team, m.is_owner, p.name as principal, count(*) over (partition by m.team) as members, \
             row_number() over (partition by m.team order by m.is_owner desc, p.name) as place \
             from memberships m join principals p on p.uid = m.uid) c \
             where c.place <= {OWNERS_NAMED} order by c.team, c.place"
        );
        let mut teams = BTreeMap::<String, TeamStatus>::new();
        for row in sqlx::query(AssertSqlSafe(sql)).fetch_all(self.pool()).await? {
            let status = teams.entry(row.try_get("team")?).or_default();
            status.member_count = row.try_get("members")?;
            if row.try_get::<i64, _>("is_owner")? != 0 {
                status.owners.push(row.try_get("principal")?);
            }
        }
        Ok(People { teams, ..People::default() })
    }

    /// The names of those who are disabled, themselves or by who answers for them, and when that was written.
    async fn disabled_principals(&self) -> Result<BTreeMap<String, i64>, StoreError> {
        let sql = "select p.name, p.updated from principals p where p.state = $1 \
                   union select s.name, o.updated from principals s join principals o on o.name = s.owner \
                   where o.state = $1 and s.state <> $1";
        let disabled = i64::from(UserState::Disabled as i32);
        let rows = sqlx::query(sql).bind(disabled).fetch_all(self.pool()).await?;
        rows.iter().map(|row| Ok((row.try_get("name")?, row.try_get("updated")?))).collect()
    }

    async fn last_use_of_tokens(&self) -> Result<BTreeMap<String, LastUse>, StoreError> {
        let sql = "select token, time_us, address from last_uses where server = '' and target = ''";
        let rows = sqlx::query(sql).fetch_all(self.pool()).await?;
        let read = |row: &sqlx::any::AnyRow| {
            let used = LastUse { time_us: row.try_get("time_us")?, address: row.try_get("address")? };
            Ok((row.try_get("token")?, used))
        };
        rows.iter().map(read).collect()
    }
}
