//! Somebody else approves: never who calls, nor who owns the token, made it or gave it away, or answers for the service account that does, nor
//! what they answer for. They may deny, which takes back what they asked for.

use std::collections::BTreeSet;

use tonic::Code;
use trunkline::policy::v1::{ApprovalState, DecideApprovalRequest, DecideApprovalResponse};

use super::super::rpc::{Call, Rpc};
use super::using::parties;
use super::{DECIDE, Relation, id, not_found};
use crate::approvals::counters::ApprovalEvent;
use crate::approvals::{check_comment, over};
use crate::domain::{Kind, Violations};
use crate::error::Error;
use crate::store::Tx;
use crate::store::approvals::{ApprovalRow, Decision, Parties, word};

impl Rpc for DecideApprovalRequest {
    type Response = DecideApprovalResponse;

    async fn run(self, call: &Call<'_>) -> Result<Self::Response, Error> {
        let decision = read(&self, call)?;
        let mut tx = call.registry.store().write().await?;
        let now_us = tx.now_us();
        let found = find(&mut tx, call, &self.name).await?;
        let now = parties(&mut tx, &found.body.principal, &found.parties.principal).await?;
        if decision.approves && is_own(&mut tx, call, &found, now.as_ref()).await? {
            return Err(own(&self.name));
        }
        let state = found.state_at(now_us);
        if now.is_none()
            && matches!(state, ApprovalState::Pending | ApprovalState::Approved | ApprovalState::Expired)
        {
            return Err(gone(&found, state));
        }
        // Whoever is not told that it was decided asks again.
        if is_repeated(&found, &decision, now_us) {
            return Ok(DecideApprovalResponse { approval: Some(found.message(now_us)) });
        }
        let text = over(&found, state);
        let decided = tx.decide_approval(found, &decision, now_us).await?;
        let decided = decided.ok_or_else(|| refused(&self.name, state, text))?;
        tx.commit().await?;
        let event = if decision.approves { ApprovalEvent::Approved } else { ApprovalEvent::Denied };
        call.registry.approvals.counters.add(event, 1);
        Ok(DecideApprovalResponse { approval: Some(decided.message(now_us)) })
    }
}

fn read(request: &DecideApprovalRequest, call: &Call<'_>) -> Result<Decision, Error> {
    let mut violations = Violations::default();
    let decision = ApprovalState::try_from(request.decision).unwrap_or_default();
    let is_one = matches!(decision, ApprovalState::Approved | ApprovalState::Denied);
    violations.require(is_one, "decision", "must be APPROVAL_STATE_APPROVED or APPROVAL_STATE_DENIED");
    if let Err(text) = check_comment(&request.comment) {
        violations.add("comment", text);
    }
    if !violations.is_empty() {
        return Err(Error::invalid(violations));
    }
    Ok(Decision {
        approves: decision == ApprovalState::Approved,
        by: call.caller.name.clone(),
        comment: request.comment.clone(),
        on_behalf_of: String::new(),
    })
}

/// The approval, if it exists for the caller: they decide about calls of its server, or it is of a call of their own.
async fn find(tx: &mut Tx, call: &Call<'_>, name: &str) -> Result<ApprovalRow, Error> {
    let unknown = || if call.caller.holds(DECIDE) { not_found(name) } else { Error::lacks(DECIDE) };
    let found = tx.approval(id(name)?).await?.ok_or_else(unknown)?;
    let server = tx.get(Kind::Server, &found.server).await?.filter(|server| server.uid == found.server_uid);
    match call.relation(&found, server.as_ref().map(|server| &server.ownership)) {
        Some(Relation::Decider | Relation::Party) => Ok(found),
        None => Err(unknown()),
    }
}

/// Tells whether one of those whose call it is, or was when it was held back, is the caller or who answers for the caller. Whoever made
/// the token, or gave it away, may have kept its bearer. `now`: whose it is now.
async fn is_own(
    tx: &mut Tx,
    call: &Call<'_>,
    row: &ApprovalRow,
    now: Option<&Parties>,
) -> Result<bool, Error> {
    let mut deciders = BTreeSet::from([call.caller.uid.clone()]);
    if let Some(caller) = tx.principal_by_uid(&call.caller.uid).await?
        && let Some(owner) = tx.principal(&caller.owner).await?
    {
        deciders.insert(owner.uid);
    }
    let makers = tx.token_makers(&row.parties.principal).await?;
    let is_party = |uid: &String| {
        row.parties.include(uid) || now.is_some_and(|now| now.include(uid)) || makers.contains(uid)
    };
    Ok(deciders.iter().any(is_party))
}

fn is_repeated(found: &ApprovalRow, decision: &Decision, now_us: i64) -> bool {
    let wanted = if decision.approves { ApprovalState::Approved } else { ApprovalState::Denied };
    found.state_at(now_us) == wanted && found.decided_by == decision.by
}

fn own(name: &str) -> Error {
    let text = format!(
        "{name} is about a call of your own, of what you answer for, or of a token that you made or gave away; somebody else approves it, and you may deny it"
    );
    Error::new(Code::PermissionDenied, "OWN_CALL", text)
        .with("name", name)
        .with("permission", crate::rights::permission_set::name(DECIDE))
}

/// Who calls is deleted, revoked or disabled: an approval would let nobody call anything.
fn gone(row: &ApprovalRow, state: ApprovalState) -> Error {
    let principal = &row.body.principal;
    let name = row.name();
    let text = format!(
        "{name} is of {principal}, which is gone or may call nothing any more; nothing is left to decide"
    );
    refused(&name, state, text)
}

fn refused(name: &str, state: ApprovalState, text: String) -> Error {
    Error::new(Code::FailedPrecondition, "APPROVAL_OVER", text).with("name", name).with("state", word(state))
}
