//! Edges use approvals up, go on with what they used, give back what they did not use, or ask for them. What an edge says of who calls what is held against the registry.

use std::net::IpAddr;

use tonic::Code;
use trunkline::identity::v1::{Team, Token, UserState};
use trunkline::policy::v1::{
    Approval, ApprovalState, ContinueApprovalRequest, ContinueApprovalResponse, ReturnApprovalRequest,
    ReturnApprovalResponse, Rule, RuleEffect, UseApprovalRequest, UseApprovalResponse,
};
use trunkline::registry::v1::Server;

use super::super::rpc::{Call, Rpc};
use super::{id, not_found, without_arguments};
use crate::approvals::call::{DEFINITION, check_arguments, digest};
use crate::approvals::counters::ApprovalEvent;
use crate::approvals::new_id;
use crate::clock;
use crate::domain::token::is_over;
use crate::domain::{Kind, Violations, names};
use crate::error::Error;
use crate::store::approvals::{
    ApprovalBound, ApprovalRow, MAX_PENDING, MAX_PENDING_OF_ONE, MAX_PENDING_OF_PERSON, Parties, Use,
};
use crate::store::{Row, Tx};

/// The longest name of anything.
const MAX_NAME: usize = 2_048;

impl Rpc for UseApprovalRequest {
    type Response = UseApprovalResponse;

    async fn run(self, call: &Call<'_>) -> Result<Self::Response, Error> {
        check(&self)?;
        let (store, approvals) = (call.registry.store(), &call.registry.approvals);
        let digest = digest(&self);
        // Who asks again and again writes nothing.
        let now_us = clock::now_us();
        let found = store.approval_of(&digest, now_us).await?;
        if let Some(found) = found.filter(|found| found.state != ApprovalState::Approved) {
            return Ok(answer(call, &found, now_us));
        }
        let mut tx = store.write().await?;
        let now_us = tx.now_us();
        let (parties, rule) = known(&mut tx, &self).await?;
        let id = new_id().ok_or_else(|| Error::internal("the system gives no random bytes"))?;
        let edge = call.edge.as_ref().map(|edge| format!("edges/{edge}")).unwrap_or_default();
        let new = ApprovalRow {
            id,
            digest,
            state: ApprovalState::Pending,
            parties,
            server: self.server.clone(),
            server_uid: self.server_uid.clone(),
            body: body(self, edge, rule.reason),
            create_us: now_us,
            expire_us: now_us + clock::duration_us(approvals.timeout),
            decide_us: 0,
            decided_by: String::new(),
            comment: String::new(),
            use_us: 0,
        };
        let asked = new.id.clone();
        let (row, event) = match tx.use_approval(new, approvals.are_told, now_us).await? {
            Use::Used(row) => (row, Some(ApprovalEvent::Used)),
            Use::Held(row) => {
                let event = (row.id == asked).then_some(ApprovalEvent::Asked);
                (row, event)
            }
            Use::Full(bound) => {
                approvals.counters.add(ApprovalEvent::Crowded, 1);
                return Err(full(bound));
            }
        };
        tx.commit().await?;
        if let Some(event) = event {
            approvals.counters.add(event, 1);
        }
        Ok(answer(call, &row, now_us))
    }
}

impl Rpc for ReturnApprovalRequest {
    type Response = ReturnApprovalResponse;

    async fn run(self, call: &Call<'_>) -> Result<Self::Response, Error> {
        let use_time = self.use_time.ok_or_else(|| Error::field("use_time", "is missing"))?;
        let id = id(&self.name)?;
        let mut tx = call.registry.store().write().await?;
        let now_us = tx.now_us();
        let found = tx.approval(id).await?.ok_or_else(|| not_found(&self.name))?;
        let is_returned = tx.return_approval(found, clock::micros(&use_time), now_us).await?;
        let row = tx.approval(id).await?.ok_or_else(|| not_found(&self.name))?;
        tx.commit().await?;
        if is_returned {
            call.registry.approvals.counters.add(ApprovalEvent::Returned, 1);
        }
        Ok(ReturnApprovalResponse { approval: Some(without_arguments(row.message(now_us))) })
    }
}

impl Rpc for ContinueApprovalRequest {
    type Response = ContinueApprovalResponse;

    async fn run(self, call: &Call<'_>) -> Result<Self::Response, Error> {
        if self.round < 1 {
            return Err(Error::field("round", "must be at least 1"));
        }
        let id = id(&self.name)?;
        let mut tx = call.registry.store().write().await?;
        tx.approval(id).await?.ok_or_else(|| not_found(&self.name))?;
        let first = tx.continue_approval(id, self.round).await?;
        tx.commit().await?;
        Ok(ContinueApprovalResponse { first })
    }
}

fn answer(call: &Call<'_>, row: &ApprovalRow, now_us: i64) -> UseApprovalResponse {
    let approval = Some(without_arguments(row.message(now_us)));
    UseApprovalResponse { approval, url: call.registry.approvals.page(&row.id) }
}

/// What is shown of a call. Why it is held back is what the rule says here.
fn body(call: UseApprovalRequest, edge: String, reason: String) -> Approval {
    Approval {
        principal: call.principal,
        tool: call.tool,
        target: call.target,
        arguments_json: call.arguments_json,
        rule: call.rule,
        reason,
        address: call.address,
        edge,
        ..Approval::default()
    }
}

fn check(call: &UseApprovalRequest) -> Result<(), Error> {
    let mut violations = Violations::default();
    let names = [
        ("principal", &call.principal),
        ("principal_uid", &call.principal_uid),
        ("server", &call.server),
        ("server_uid", &call.server_uid),
        ("tool", &call.tool),
        ("target", &call.target),
        ("upstream_uid", &call.upstream_uid),
        ("rule", &call.rule),
    ];
    for (field, text) in names {
        let is_name = !text.is_empty() && text.len() <= MAX_NAME && !text.contains('\0');
        violations.require(is_name, field, format!("must have 1 to {MAX_NAME} bytes, without NUL"));
    }
    let is_hash = call.definition.len() == DEFINITION;
    violations.require(is_hash, "definition", format!("must have {DEFINITION} bytes"));
    let is_address = call.address.is_empty() || call.address.parse::<IpAddr>().is_ok();
    violations.require(is_address, "address", "must be an address");
    if let Err(text) = check_arguments(&call.arguments_json) {
        violations.add("arguments_json", text);
    }
    if violations.is_empty() { Ok(()) } else { Err(Error::invalid(violations)) }
}

/// Whose call it is, and the rule that holds it back, as the registry has them.
async fn known(tx: &mut Tx, call: &UseApprovalRequest) -> Result<(Parties, Rule), Error> {
    let parties = parties(tx, &call.principal, &call.principal_uid).await?;
    let parties = parties.ok_or_else(|| unlike(&call.principal))?;
    let server = of_uid(tx, Kind::Server, &call.server, &call.server_uid).await?;
    let upstream = format!("upstreams/{}", names::upstream_id(&call.target).unwrap_or_default());
    of_uid(tx, Kind::Upstream, &upstream, &call.upstream_uid).await?;
    let rule = rule(tx, &server, &call.rule).await?.ok_or_else(|| unlike(&call.rule))?;
    Ok((parties, rule))
}

async fn of_uid(tx: &mut Tx, kind: Kind, name: &str, uid: &str) -> Result<Row, Error> {
    let row = tx.get(kind, name).await?.filter(|row| row.uid == uid);
    row.ok_or_else(|| unlike(name))
}

/// The rule of a server or of its team that holds calls back, by its name.
async fn rule(tx: &mut Tx, server: &Row, name: &str) -> Result<Option<Rule>, Error> {
    let Some((of, id)) = name.rsplit_once("/rules/") else { return Ok(None) };
    let rules = if of == server.name {
        server.message::<Server>()?.rules
    } else if !server.ownership.team.is_empty() && of == server.ownership.team {
        let team = tx.get(Kind::Team, of).await?.map(|row| row.message::<Team>()).transpose()?;
        team.map(|team| team.rules).unwrap_or_default()
    } else {
        Vec::new()
    };
    Ok(rules.into_iter().find(|rule| rule.id == id && rule.effect() == RuleEffect::Approve))
}

/// Those whose call it is that a principal makes. `None`: there is none of this name and uid who may call.
pub(super) async fn parties(tx: &mut Tx, name: &str, uid: &str) -> Result<Option<Parties>, Error> {
    let (principal, owner) = if name.starts_with("tokens/") {
        let token = tx.get(Kind::Token, name).await?.filter(|row| row.uid == uid);
        let Some(row) = token else { return Ok(None) };
        let token: Token = row.message()?;
        if is_over(&token, tx.now_us()) || token.suspend_time.is_some() {
            return Ok(None);
        }
        (row.uid, row.ownership.owner)
    } else {
        let found = tx.principal(name).await?;
        let found = found.filter(|found| found.uid == uid && found.state != UserState::Disabled);
        let Some(found) = found else { return Ok(None) };
        (found.uid, found.owner)
    };
    let owner = if owner.is_empty() { None } else { tx.principal(&owner).await? };
    let answerable = match &owner {
        Some(owner) if !owner.owner.is_empty() => tx.principal(&owner.owner).await?,
        _ => None,
    };
    let uid = |who: Option<crate::store::principals::Principal>| who.map(|who| who.uid).unwrap_or_default();
    Ok(Some(Parties { principal, owner: uid(owner), answerable: uid(answerable) }))
}

/// The edge knows something otherwise than the registry: it is behind, or lies.
fn unlike(name: &str) -> Error {
    let text = format!("{name} is not what the edge takes it for; it was changed or deleted just now");
    Error::new(Code::FailedPrecondition, "CALL_NOT_KNOWN", text).with("name", name)
}

fn full(bound: ApprovalBound) -> Error {
    let text = match bound {
        ApprovalBound::Principal => {
            format!("{MAX_PENDING_OF_ONE} calls of this principal wait for approval already; no more can")
        }
        ApprovalBound::Person => format!(
            "{MAX_PENDING_OF_PERSON} calls wait for approval already of what one of those owns, answers for or made whose call it is; no more can"
        ),
        ApprovalBound::All => format!("{MAX_PENDING} calls wait for approval already; no more can"),
    };
    Error::new(Code::ResourceExhausted, "TOO_MANY_APPROVALS", text)
}
