//! What a control plane is asked about a call: all that its approval is bound to. It must not know how it is asked.

use access::rule::Unevaluable;
use aws_lc_rs::digest::{Context, SHA256, digest};
use mcp::canonical::canonical;
use trunkline::policy::v1::UseApprovalRequest;

use crate::identity::Principal;
use crate::session::CallDigest;
use crate::snapshot::{Entry, Server};

/// A call that a rule holds back.
#[derive(Debug, Clone, Copy)]
pub struct CallToApprove<'a> {
    /// Who calls.
    pub principal: &'a Principal,
    /// The server that is called.
    pub server: &'a Server,
    /// The tool there.
    pub entry: &'a Entry,
    /// Its definition, as the caller sees it.
    pub definition: &'a [u8],
    /// The raw arguments. `None`: there are none.
    pub arguments: Option<&'a str>,
    /// The id of the rule, and what it says of why.
    pub rule: (&'a str, &'a str),
    /// Where the caller is, if that is known.
    pub address: Option<std::net::IpAddr>,
}

/// What is asked about a call.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ApprovalQuestion {
    /// What a control plane is asked.
    pub(super) request: UseApprovalRequest,
}

impl ApprovalQuestion {
    /// Asks about `call`.
    ///
    /// # Errors
    /// If its arguments are no object, could be taken for different ones, or are too large to be shown.
    pub fn of(call: CallToApprove<'_>) -> Result<Self, Unevaluable> {
        let CallToApprove { principal, server, entry, rule: (rule, reason), .. } = call;
        let arguments = call.arguments.map(canonical).transpose().map_err(|why| Unevaluable(why.0))?;
        if arguments.as_ref().is_some_and(|text| !text.starts_with('{')) {
            return Err(Unevaluable("the arguments are no object"));
        }
        let request = UseApprovalRequest {
            principal: principal.name.to_string(),
            principal_uid: principal.uid.to_string(),
            server: server.name.to_string(),
            server_uid: server.uid.to_string(),
            tool: entry.exposed.to_string(),
            target: entry.target.to_string(),
            upstream_uid: entry.upstream.uid.to_string(),
            definition: digest(&SHA256, call.definition).as_ref().to_vec(),
            arguments_json: arguments.unwrap_or_default(),
            rule: rule.to_owned(),
            reason: reason.to_owned(),
            address: call.address.map(|address| address.to_string()).unwrap_or_default(),
        };
        Ok(Self { request })
    }

    /// SHA-256 of what the approval is bound to, each part with its length.
    pub fn digest(&self) -> CallDigest {
        let UseApprovalRequest {
            principal_uid,
            server_uid,
            upstream_uid,
            target,
            tool,
            definition,
            arguments_json,
            ..
        } = &self.request;
        let mut context = Context::new(&SHA256);
        let texts = [principal_uid, server_uid, upstream_uid, target, tool, arguments_json];
        for part in texts.map(String::as_bytes).into_iter().chain([definition.as_slice()]) {
            context.update(&(part.len() as u64).to_be_bytes());
            context.update(part);
        }
        let mut found = CallDigest::default();
        found.copy_from_slice(context.finish().as_ref());
        found
    }

    /// The tool, as callers know it.
    pub fn tool(&self) -> &str {
        &self.request.tool
    }

    /// The id of the rule that holds the call back.
    pub fn rule(&self) -> &str {
        &self.request.rule
    }

    /// What the rule says of why.
    pub fn reason(&self) -> &str {
        &self.request.reason
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_an_approval_is_bound_to_changes_the_digest() {
        let digest = |change: fn(&mut UseApprovalRequest)| {
            let mut question = ApprovalQuestion::default();
            change(&mut question.request);
            question.digest()
        };
        let changes: [fn(&mut UseApprovalRequest); 8] = [
            |_| (),
            |request| request.principal_uid = "x".into(),
            |request| request.server_uid = "x".into(),
            |request| request.upstream_uid = "x".into(),
            |request| request.target = "x".into(),
            |request| request.tool = "x".into(),
            |request| request.definition = vec![b'x'],
            |request| request.arguments_json = "x".into(),
        ];
        let mut found = changes.map(digest).to_vec();
        found.sort_unstable();
        found.dedup();
        assert_eq!(found.len(), changes.len());
        let rule = digest(|request| request.rule = "x".into());
        assert_eq!(rule, ApprovalQuestion::default().digest(), "another rule may hold the same call back");
    }
}
