//! Approvals of calls that rules hold back: who sees which, who decides, and what edges ask.
//!
//! What does not exist for somebody is told in the same words as what does not exist at all.

mod deciding;
mod using;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use tonic::Code;
use trunkline::common::v1::Permission;
use trunkline::policy::v1::{
    Approval, ApprovalState, GetApprovalRequest, GetApprovalResponse, ListApprovalsRequest,
    ListApprovalsResponse,
};

use super::crud::check_name;
use super::rpc::{Call, Rpc};
use crate::approvals::is_id;
use crate::clock;
use crate::domain::Kind;
use crate::error::Error;
use crate::rights::Ownership;
use crate::store::approvals::{APPROVALS, ApprovalPage, ApprovalReader, ApprovalRow};

const DECIDE: Permission = Permission::ApprovalsDecide;
const PAGE: i64 = 100;
const MAX_PAGE: i64 = 1_000;

impl Rpc for ListApprovalsRequest {
    type Response = ListApprovalsResponse;

    async fn run(self, call: &Call<'_>) -> Result<Self::Response, Error> {
        let limit = match i64::from(self.page_size) {
            ..0 => return Err(Error::field("page_size", "must not be negative")),
            0 => PAGE,
            size => size.min(MAX_PAGE),
        };
        let state = ApprovalState::try_from(self.state)
            .map_err(|_| Error::field("state", "must be pending, approved, denied, used or expired"))?;
        if !self.server.is_empty() {
            check_name(Kind::Server, &self.server)?;
        }
        let page = ApprovalPage {
            reader: ApprovalReader::of(&call.caller),
            state,
            server: &self.server,
            before: read_token(&self.page_token)?,
            limit: limit + 1,
        };
        let now_us = clock::now_us();
        let mut found = call.registry.store().approvals(&page, now_us).await?;
        let is_more = i64::try_from(found.len()).is_ok_and(|found| found > limit);
        found.truncate(usize::try_from(limit).unwrap_or_default());
        let next_page_token = found.last().filter(|_| is_more).map(token).unwrap_or_default();
        let approvals = found.iter().map(|row| row.message(now_us)).collect();
        Ok(ListApprovalsResponse { approvals, next_page_token })
    }
}

/// Says where the page after an approval begins. It is no secret: whoever sees the page knows both.
fn token(row: &ApprovalRow) -> String {
    URL_SAFE_NO_PAD.encode(format!("{}/{}", row.create_us, row.id))
}

fn read_token(token: &str) -> Result<Option<(i64, String)>, Error> {
    if token.is_empty() {
        return Ok(None);
    }
    let text = URL_SAFE_NO_PAD.decode(token).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    let read = text.as_deref().and_then(|text| text.split_once('/'));
    let read =
        read.and_then(|(time, id)| Some((time.parse().ok()?, id.to_owned()))).filter(|(_, id)| is_id(id));
    read.map(Some).ok_or_else(|| Error::field("page_token", "was not issued by this list"))
}

impl Rpc for GetApprovalRequest {
    type Response = GetApprovalResponse;

    async fn run(self, call: &Call<'_>) -> Result<Self::Response, Error> {
        let found = call.registry.store().approval(id(&self.name)?).await?;
        let found = found.ok_or_else(|| not_found(&self.name))?;
        let server = call.registry.store().get(Kind::Server, &found.server).await?;
        let server = server.filter(|server| server.uid == found.server_uid).map(|server| server.ownership);
        call.relation(&found, server.as_ref()).ok_or_else(|| not_found(&self.name))?;
        Ok(GetApprovalResponse { approval: Some(found.message(clock::now_us())) })
    }
}

/// What somebody is to an approval that exists for them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Relation {
    /// The call is theirs.
    Party,
    /// They decide about calls of that server.
    Decider,
}

impl Call<'_> {
    /// What the caller is to an approval; `server`: whose the server is, if it is still there. `None`: it does not exist for them.
    fn relation(&self, row: &ApprovalRow, server: Option<&Ownership>) -> Option<Relation> {
        let decides = self.caller.holds_for_all(DECIDE)
            || server.is_some_and(|ownership| self.caller.may(DECIDE, ownership));
        if decides {
            return Some(Relation::Decider);
        }
        // What is theirs as a person is not of a key that may do no more than a role.
        let is_party = !self.caller.is_limited && row.parties.include(&self.caller.uid);
        is_party.then_some(Relation::Party)
    }
}

/// The id in a name.
fn id(name: &str) -> Result<&str, Error> {
    let id = name.strip_prefix(APPROVALS).ok_or_else(|| Error::field("name", "must be `approvals/{id}`"))?;
    if is_id(id) { Ok(id) } else { Err(not_found(name)) }
}

fn not_found(name: &str) -> Error {
    Error::new(Code::NotFound, "RESOURCE_NOT_FOUND", format!("{name} does not exist")).with("name", name)
}

/// What an edge is told of an approval: not the arguments, which it has.
fn without_arguments(approval: Approval) -> Approval {
    Approval { arguments_json: String::new(), ..approval }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_of_other_lists_are_refused() {
        let id = "0".repeat(32);
        let good = URL_SAFE_NO_PAD.encode(format!("12/{id}"));
        assert_eq!(read_token(&good).unwrap(), Some((12, id.clone())));
        assert_eq!(read_token("").unwrap(), None);
        for bad in ["x", &URL_SAFE_NO_PAD.encode("12/a' OR 1=1"), &URL_SAFE_NO_PAD.encode(format!("x/{id}"))]
        {
            assert!(read_token(bad).is_err(), "{bad}");
        }
    }
}
