//! Somebody else decides: never who calls, nor who owns the token or answers for the service account that does, nor what they answer for.

use std::collections::BTreeSet;

use tonic::Code;
use trunkline::policy::v1::{ApprovalState, DecideApprovalRequest, DecideApprovalResponse};

use super::super::rpc::{Call, Rpc};
use super::using::parties;
use super::{DECIDE, Relation, id, not_found};
use crate::approvals::check_comment;
use crate::approvals::counters::ApprovalEvent;
use crate::domain::{Kind, Violations};
use crate::error::Error;
use crate::store::Tx;
use crate::store::approvals::{ApprovalRow, Decision, word};

impl Rpc for DecideApprovalRequest {
    type Response = DecideApprovalResponse;

    async fn run(self, call: &Call<'_>) -> Result<Self::Response, Error> {
        let decision = read(&self, call)?;
        let mut tx = call.registry.store().write().await?;
        let now_us = tx.now_us();
        let found = find(&mut tx, call, &self.name).await?;
        if is_own(&mut tx, call, &found).await? {
            return Err(own(&self.name));
        }
        // Whoever is not told that it was decided asks again.
        if is_repeated(&found, &decision, now_us) {
            return Ok(DecideApprovalResponse { approval: Some(found.message(now_us)) });
        }
        let state = found.state_at(now_us);
        let decided =
            tx.decide_approval(found, &decision, now_us).await?.ok_or_else(|| over(&self.name, state))?;
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
    violations.require(is_one, "decision", "must be approved or denied");
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

/// The approval, if it exists for the caller and they decide about calls of its server.
async fn find(tx: &mut Tx, call: &Call<'_>, name: &str) -> Result<ApprovalRow, Error> {
    let found = tx.approval(id(name)?).await?.ok_or_else(|| not_found(name))?;
    let server = tx.get(Kind::Server, &found.server).await?.filter(|server| server.uid == found.server_uid);
    match call.relation(&found, server.as_ref().map(|server| &server.ownership)) {
        Some(Relation::Decider) => Ok(found),
        // It takes the permission over that server; that the call is their own they are told first, since that will not change.
        Some(Relation::Party) => Err(own(name)),
        None => Err(not_found(name)),
    }
}

/// Tells whether one of those whose call it is, or was when it was held back, is the caller or who answers for the caller.
async fn is_own(tx: &mut Tx, call: &Call<'_>, row: &ApprovalRow) -> Result<bool, Error> {
    let mut deciders = BTreeSet::from([call.caller.uid.clone()]);
    if let Some(caller) = tx.principal_by_uid(&call.caller.uid).await?
        && let Some(owner) = tx.principal(&caller.owner).await?
    {
        deciders.insert(owner.uid);
    }
    let now = parties(tx, &row.body.principal, &row.parties.principal).await?.unwrap_or_default();
    Ok(deciders.iter().any(|uid| row.parties.include(uid) || now.include(uid)))
}

fn is_repeated(found: &ApprovalRow, decision: &Decision, now_us: i64) -> bool {
    let wanted = if decision.approves { ApprovalState::Approved } else { ApprovalState::Denied };
    found.state_at(now_us) == wanted && found.decided_by == decision.by && found.comment == decision.comment
}

fn own(name: &str) -> Error {
    let text = format!(
        "{name} is about a call of your own, or of what you answer for; somebody else decides about it"
    );
    Error::new(Code::PermissionDenied, "OWN_CALL", text)
        .with("name", name)
        .with("permission", crate::rights::permission_set::name(DECIDE))
}

fn over(name: &str, state: ApprovalState) -> Error {
    let state = word(state);
    Error::new(
        Code::FailedPrecondition,
        "APPROVAL_OVER",
        format!("{name} is {state} already; nothing is left to decide"),
    )
    .with("name", name)
    .with("state", state)
}
