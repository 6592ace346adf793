//! Calls that are held back until somebody approves them, and what became of each.
//!
//! It must not know rules, nor who may decide. The time comes from whoever asks, so that all that is done in one write has one.

mod deciding;
mod keeping;
mod listing;
mod telling;

use prost::Message as _;
use sqlx::any::AnyRow;
use sqlx::{AnyConnection, AssertSqlSafe, Row as _};
use trunkline::policy::v1::{Approval, ApprovalState};

use super::{Store, StoreError, Tx};
use crate::clock;

pub use deciding::{ApprovalBound, Decision, MAX_PENDING, MAX_PENDING_OF_ONE, MAX_PENDING_OF_PERSON, Use};
pub use listing::{ApprovalPage, ApprovalReader};
pub use telling::Untold;

/// Where the names of approvals begin.
pub const APPROVALS: &str = "approvals/";

const COLUMNS: &str = "a.id, a.digest, a.state, a.principal_uid, a.owner_uid, a.answerable_uid, a.server, a.server_uid, a.body, \
    a.created, a.expires, a.decided, a.decided_by, a.comment, a.used, a.told, a.tries";

/// Those whose call it is, by their uids. Empty: nobody.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Parties {
    /// Who calls.
    pub principal: String,
    /// Who owns the token, or answers for the service account.
    pub owner: String,
    /// Who answers for the service account that owns the token.
    pub answerable: String,
}

impl Parties {
    /// Tells whether somebody is one of them. Nobody never is.
    pub fn include(&self, uid: &str) -> bool {
        !uid.is_empty() && [&self.principal, &self.owner, &self.answerable].iter().any(|known| *known == uid)
    }
}

/// An approval as it is stored.
#[derive(Debug, Clone, PartialEq)]
pub struct ApprovalRow {
    /// Its id.
    pub id: String,
    /// The SHA-256 of the call, in hexadecimal.
    pub digest: String,
    /// Its state as it was last written: see [`ApprovalRow::state_at`].
    pub state: ApprovalState,
    /// Whose call it is.
    pub parties: Parties,
    /// The server that is called.
    pub server: String,
    /// Its uid.
    pub server_uid: String,
    /// What else there is to be shown of the call.
    pub body: Approval,
    /// The time at which it was asked for.
    pub create_us: i64,
    /// The time from which it can be neither decided about nor used.
    pub expire_us: i64,
    /// The time of the decision. 0: there is none.
    pub decide_us: i64,
    /// Who decided. Empty: nobody.
    pub decided_by: String,
    /// What they said.
    pub comment: String,
    /// The time of the call. 0: it was not made.
    pub use_us: i64,
}

impl ApprovalRow {
    /// Its state at a time.
    pub fn state_at(&self, now_us: i64) -> ApprovalState {
        match self.state {
            ApprovalState::Pending | ApprovalState::Approved if self.expire_us <= now_us => {
                ApprovalState::Expired
            }
            state => state,
        }
    }

    /// Its name.
    pub fn name(&self) -> String {
        format!("{APPROVALS}{}", self.id)
    }

    /// The message, with its arguments.
    pub fn message(&self, now_us: i64) -> Approval {
        let time = |us: i64| (us != 0).then(|| clock::timestamp(us));
        Approval {
            name: self.name(),
            state: self.state_at(now_us).into(),
            server: self.server.clone(),
            create_time: time(self.create_us),
            expire_time: time(self.expire_us),
            decided_by: self.decided_by.clone(),
            decide_time: time(self.decide_us),
            comment: self.comment.clone(),
            use_time: time(self.use_us),
            digest: self.digest.clone(),
            ..self.body.clone()
        }
    }

    fn read(row: &AnyRow) -> Result<Self, StoreError> {
        let (id, body): (String, Vec<u8>) = (row.try_get("id")?, row.try_get("body")?);
        let decode = |source| StoreError::Decode { name: format!("{APPROVALS}{id}"), source };
        let body = Approval::decode(body.as_slice()).map_err(decode)?;
        let state: i64 = row.try_get("state")?;
        let state = i32::try_from(state).ok().and_then(|state| ApprovalState::try_from(state).ok());
        Ok(Self {
            id,
            digest: row.try_get("digest")?,
            // What nobody knows lets nothing be called.
            state: state.unwrap_or(ApprovalState::Unspecified),
            parties: Parties {
                principal: row.try_get("principal_uid")?,
                owner: row.try_get("owner_uid")?,
                answerable: row.try_get("answerable_uid")?,
            },
            server: row.try_get("server")?,
            server_uid: row.try_get("server_uid")?,
            body,
            create_us: row.try_get("created")?,
            expire_us: row.try_get("expires")?,
            decide_us: row.try_get("decided")?,
            decided_by: row.try_get("decided_by")?,
            comment: row.try_get("comment")?,
            use_us: row.try_get("used")?,
        })
    }
}

/// A state as it is stored.
fn number(state: ApprovalState) -> i64 {
    i64::from(i32::from(state))
}

/// A state in the word of documents.
pub fn word(state: ApprovalState) -> String {
    state.as_str_name().trim_start_matches("APPROVAL_STATE_").to_lowercase()
}

impl Store {
    /// An approval, by its id.
    pub async fn approval(&self, id: &str) -> Result<Option<ApprovalRow>, StoreError> {
        find(&mut *self.pool().acquire().await?, id).await
    }

    /// What there is of a call: what waits, is approved, or was denied, and is in time.
    pub async fn approval_of(&self, digest: &str, now_us: i64) -> Result<Option<ApprovalRow>, StoreError> {
        of_digest(&mut *self.pool().acquire().await?, digest, now_us).await
    }
}

impl Tx {
    /// An approval, by its id.
    pub async fn approval(&mut self, id: &str) -> Result<Option<ApprovalRow>, StoreError> {
        find(self.connection(), id).await
    }
}

async fn find(connection: &mut AnyConnection, id: &str) -> Result<Option<ApprovalRow>, StoreError> {
    let sql = format!("SELECT {COLUMNS} FROM approvals a WHERE a.id = $1");
    let row = sqlx::query(AssertSqlSafe(sql)).bind(id).fetch_optional(connection).await?;
    row.as_ref().map(ApprovalRow::read).transpose()
}

async fn of_digest(
    connection: &mut AnyConnection,
    digest: &str,
    now_us: i64,
) -> Result<Option<ApprovalRow>, StoreError> {
    let sql = format!(
        "SELECT {COLUMNS} FROM approvals a WHERE a.digest = $1 AND a.state IN (1, 2, 3) AND a.expires > $2 \
         ORDER BY a.created DESC, a.id DESC LIMIT 1"
    );
    let row = sqlx::query(AssertSqlSafe(sql)).bind(digest).bind(now_us).fetch_optional(connection).await?;
    row.as_ref().map(ApprovalRow::read).transpose()
}
