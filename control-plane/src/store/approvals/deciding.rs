//! An approval is asked for, decided about, and used: each by one statement that does nothing where another was faster.

use prost::Message as _;
use serde_json::{Value, json};
use sqlx::Row as _;
use trunkline::policy::v1::ApprovalState;

use super::super::audit::Deed;
use super::super::{StoreError, Tx};
use super::{ApprovalRow, Parties, number, of_digest, word};

/// So many calls of one principal wait at most.
pub const MAX_PENDING_OF_ONE: i64 = 20;
/// So many calls wait at most of all that one person, or service account, owns, answers for or made.
pub const MAX_PENDING_OF_PERSON: i64 = 200;
/// So many calls wait at most.
pub const MAX_PENDING: i64 = 10_000;

/// What becomes of a call.
#[derive(Debug, Clone, PartialEq)]
pub enum Use {
    /// It may be made: its approval was used up just now.
    Used(ApprovalRow),
    /// It may not: this says why.
    Held(ApprovalRow),
    /// It may not, and there is no place for another that waits.
    Full(ApprovalBound),
}

/// Why nothing can be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ApprovalBound {
    /// As many calls of the principal wait as may.
    Principal,
    /// As many calls wait of what somebody owns, answers for or made as may.
    Person,
    /// As many calls wait as may.
    All,
}

/// A decision.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Decision {
    /// Whether it is approved.
    pub approves: bool,
    /// Who decides.
    pub by: String,
    /// What they say.
    pub comment: String,
    /// Who decides, where `by` is a program that was told so. Empty: nobody else.
    pub on_behalf_of: String,
}

impl Tx {
    /// Uses up the approval of a call, or finds that it waits or is denied, or asks for one: `new`, which is stored where there is none.
    pub async fn use_approval(
        &mut self,
        new: ApprovalRow,
        is_told: bool,
        now_us: i64,
    ) -> Result<Use, StoreError> {
        match of_digest(self.connection(), &new.digest, now_us).await? {
            Some(found) if found.state == ApprovalState::Approved => self.use_up(found, now_us).await,
            Some(found) => Ok(Use::Held(found)),
            None => self.ask(new, is_told, now_us).await,
        }
    }

    async fn use_up(&mut self, found: ApprovalRow, now_us: i64) -> Result<Use, StoreError> {
        let sql = "UPDATE approvals SET state = 4, used = $2, tell_after = 0, tries = 0 \
                   WHERE id = $1 AND state = 2 AND expires > $2";
        let done = sqlx::query(sql).bind(found.id.as_str()).bind(now_us).execute(self.connection()).await?;
        if done.rows_affected() == 0 {
            let row = self.approval(&found.id).await?;
            return Ok(Use::Held(row.unwrap_or(ApprovalRow { state: ApprovalState::Expired, ..found })));
        }
        let used = ApprovalRow { state: ApprovalState::Used, use_us: now_us, ..found };
        self.note_approval(&used, Some(json!({"state": "approved"})), None);
        Ok(Use::Used(used))
    }

    /// Gives back what was used up at `use_us`, unless the same call was asked for again since. Returns whether it did.
    pub async fn return_approval(
        &mut self,
        found: ApprovalRow,
        use_us: i64,
        now_us: i64,
    ) -> Result<bool, StoreError> {
        // Who was told that it is approved is not told so twice.
        let sql = "UPDATE approvals SET state = 2, used = 0, told = CASE WHEN told < 0 THEN told ELSE 2 END, tell_after = 0, tries = 0 \
                   WHERE id = $1 AND state = 4 AND used = $2 AND expires > $3 \
                   AND NOT EXISTS (SELECT 1 FROM approvals o WHERE o.digest = $4 AND o.state <= 2)";
        let done = sqlx::query(sql)
            .bind(found.id.as_str())
            .bind(use_us)
            .bind(now_us)
            .bind(found.digest.as_str())
            .execute(self.connection())
            .await?;
        if done.rows_affected() == 0 {
            return Ok(false);
        }
        let returned = ApprovalRow { state: ApprovalState::Approved, use_us: 0, ..found };
        self.note_approval(&returned, Some(json!({"state": "used"})), None);
        Ok(true)
    }

    /// Uses up a round of input with which a call goes on. Returns whether nobody has gone on with it before, nor with a later one.
    pub async fn continue_approval(&mut self, id: &str, round: i64) -> Result<bool, StoreError> {
        self.aside = true;
        let sql = "UPDATE approvals SET rounds = $2 WHERE id = $1 AND state = 4 AND rounds < $2";
        let done = sqlx::query(sql).bind(id).bind(round).execute(self.connection()).await?;
        Ok(done.rows_affected() > 0)
    }

    async fn ask(&mut self, new: ApprovalRow, is_told: bool, now_us: i64) -> Result<Use, StoreError> {
        if let Some(bound) = self.approval_bound(&new.parties, now_us).await? {
            return Ok(Use::Full(bound));
        }
        // What is over makes room, also where nobody has swept it yet.
        sqlx::query("UPDATE approvals SET state = 5, tell_after = 0, tries = 0 WHERE digest = $1 AND state <= 2 AND expires <= $2")
            .bind(new.digest.as_str())
            .bind(now_us)
            .execute(self.connection())
            .await?;
        sqlx::query(
            "INSERT INTO approvals (id, digest, state, principal_uid, owner_uid, answerable_uid, server, server_uid, body, created, \
             expires, decided, decided_by, comment, used, told, tell_after, tries) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, 0, '', '', 0, $12, 0, 0)",
        )
        .bind(new.id.as_str())
        .bind(new.digest.as_str())
        .bind(number(new.state))
        .bind(new.parties.principal.as_str())
        .bind(new.parties.owner.as_str())
        .bind(new.parties.answerable.as_str())
        .bind(new.server.as_str())
        .bind(new.server_uid.as_str())
        .bind(new.body.encode_to_vec())
        .bind(new.create_us)
        .bind(new.expire_us)
        .bind(if is_told { 0_i64 } else { -1 })
        .execute(self.connection())
        .await?;
        self.note_approval(&new, None, None);
        Ok(Use::Held(new))
    }

    async fn approval_bound(
        &mut self,
        parties: &Parties,
        now_us: i64,
    ) -> Result<Option<ApprovalBound>, StoreError> {
        let sql = "SELECT count(*) AS waiting FROM approvals WHERE principal_uid = $2 AND state = 1 AND expires > $1";
        let own = sqlx::query(sql)
            .bind(now_us)
            .bind(parties.principal.as_str())
            .fetch_one(self.connection())
            .await?;
        if own.try_get::<i64, _>("waiting")? >= MAX_PENDING_OF_ONE {
            return Ok(Some(ApprovalBound::Principal));
        }
        let mut people = self.token_makers(&parties.principal).await?;
        people.extend([parties.owner.clone(), parties.answerable.clone()]);
        for person in people.iter().filter(|person| !person.is_empty()) {
            if self.pending_of(person, now_us).await? >= MAX_PENDING_OF_PERSON {
                return Ok(Some(ApprovalBound::Person));
            }
        }
        let sql = "SELECT count(*) AS waiting FROM approvals WHERE state = 1 AND expires > $1";
        let all = sqlx::query(sql).bind(now_us).fetch_one(self.connection()).await?;
        Ok((all.try_get::<i64, _>("waiting")? >= MAX_PENDING).then_some(ApprovalBound::All))
    }

    /// How many calls wait of what somebody owns, answers for or made, and of their own.
    async fn pending_of(&mut self, person: &str, now_us: i64) -> Result<i64, StoreError> {
        let sql = "SELECT count(*) AS waiting FROM approvals a WHERE a.state = 1 AND a.expires > $1 \
                   AND (a.principal_uid = $2 OR a.owner_uid = $2 OR a.answerable_uid = $2 \
                   OR a.principal_uid IN (SELECT token FROM token_makers WHERE maker = $2 OR answerable = $2))";
        let row = sqlx::query(sql).bind(now_us).bind(person).fetch_one(self.connection()).await?;
        Ok(row.try_get("waiting")?)
    }

    /// Decides about one that waits; one that is approved and not used yet can still be denied. `None`: it is over.
    pub async fn decide_approval(
        &mut self,
        found: ApprovalRow,
        decision: &Decision,
        now_us: i64,
    ) -> Result<Option<ApprovalRow>, StoreError> {
        let state = if decision.approves { ApprovalState::Approved } else { ApprovalState::Denied };
        let done = sqlx::query(
            "UPDATE approvals SET state = $2, decided = $3, decided_by = $4, comment = $5, tell_after = 0, tries = 0 \
             WHERE id = $1 AND expires > $3 AND (state = 1 OR (state = 2 AND $2 = 3))",
        )
        .bind(found.id.as_str())
        .bind(number(state))
        .bind(now_us)
        .bind(decision.by.as_str())
        .bind(decision.comment.as_str())
        .execute(self.connection())
        .await?;
        if done.rows_affected() == 0 {
            return Ok(None);
        }
        let before = json!({"state": word(found.state)});
        let decided = ApprovalRow {
            state,
            decide_us: now_us,
            decided_by: decision.by.clone(),
            comment: decision.comment.clone(),
            ..found
        };
        self.note_approval(&decided, Some(before), Some(decision));
        Ok(Some(decided))
    }

    /// Notes the id of a webhook. Returns whether it is the first of this id.
    pub async fn note_webhook(&mut self, id: &str, now_us: i64) -> Result<bool, StoreError> {
        self.aside = true;
        let sql = "INSERT INTO approval_webhooks (id, seen_us) VALUES ($1, $2) ON CONFLICT (id) DO NOTHING";
        let done = sqlx::query(sql).bind(id).bind(now_us).execute(self.connection()).await?;
        Ok(done.rows_affected() > 0)
    }

    /// Records what became of an approval: of the arguments only their digest. Without a decision, it is who calls that has done it, through
    /// an edge.
    fn note_approval(&mut self, row: &ApprovalRow, before: Option<Value>, decision: Option<&Decision>) {
        let mut after = json!({
            "state": word(row.state),
            "principal": row.body.principal,
            "server": row.server,
            "tool": row.body.tool,
            "target": row.body.target,
            "rule": row.body.rule,
            "digest": row.digest,
        });
        let mut deed = Deed { resource: row.name(), before, ..Deed::default() };
        match decision {
            None => {
                deed.actor = Some((row.body.principal.clone(), row.parties.principal.clone()));
                deed.through.clone_from(&row.body.edge);
            }
            Some(decision) => {
                after["comment"] = decision.comment.clone().into();
                if !decision.on_behalf_of.is_empty() {
                    after["onBehalfOf"] = decision.on_behalf_of.clone().into();
                }
            }
        }
        deed.after = Some(after);
        self.record_aside(deed);
    }
}
