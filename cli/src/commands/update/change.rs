//! What an update sends for a resource, and what that replaced.

use prost_reflect::DynamicMessage;
use serde_json::{Map, Value, json};

use super::{kept, send};
use crate::commands::get;
use crate::commands::protection::Fallen;
use crate::control_client::ControlClient;
use crate::error::{Error, Result};
use crate::kinds::Kind;
use crate::reflection;

/// So often a change is tried anew where others write the same resource at the same time.
const ATTEMPTS: usize = 20;

/// A change, of one resource or several.
pub(super) struct UpdateChange<'a> {
    pub(super) client: &'a ControlClient,
    pub(super) kind: &'static Kind,
    pub(super) body: Map<String, Value>,
    pub(super) mask: Vec<String>,
    /// The etag that the resource must have, if somebody said so.
    pub(super) etag: Option<String>,
}

/// What a change is for a resource as it was seen.
pub(super) struct UpdateBody {
    body: Value,
    mask: Vec<String>,
    /// Whether something is replaced of which nothing else may be lost than what was looked at.
    is_looked_at: bool,
    /// What lists have no more.
    pub(super) lost: Vec<String>,
    /// The secrets that are replaced or cleared.
    pub(super) secrets: Vec<String>,
    /// Whether they are cleared.
    pub(super) is_cleared: bool,
    /// The conditions that are cleared.
    pub(super) fallen: Fallen,
}

impl UpdateChange<'_> {
    /// Works out what it is for a resource.
    pub(super) fn of(&self, before: &DynamicMessage) -> Result<UpdateBody> {
        let (mut body, mut mask) = (self.body.clone(), self.mask.clone());
        body.insert("name".into(), reflection::text(before, "name").into());
        let known = reflection::to_json(before);
        kept::keep_headers(&known, &mut body, &mut mask)?;
        let replaced = kept::keep_members(&known, &mut body, &mask);
        if self.kind.name == "Team" {
            kept::fill_scope(&known, &mut body, &mut mask);
        }
        kept::unshare(&known, &mut body, &mut mask);
        let secrets = kept::lost_secrets(&known, &body, &mask);
        let is_cleared = !body.contains_key("credential");
        let body = Value::Object(body);
        let fallen = Fallen::cleared(&known, &body, &mask);
        let is_looked_at = replaced.is_any || !secrets.is_empty() || fallen.in_words().is_some();
        Ok(UpdateBody { body, mask, is_looked_at, lost: replaced.lost, secrets, is_cleared, fallen })
    }

    /// Changes a resource. Returns it as it was right before, and as it is then: what others wrote in between is theirs.
    pub(super) async fn apply(
        &self,
        mut before: DynamicMessage,
        validate_only: bool,
    ) -> Result<[DynamicMessage; 2]> {
        let mut attempts = ATTEMPTS;
        loop {
            let changed = self.of(&before)?;
            let may_retry = attempts > 0 && self.etag.is_none() && !changed.is_looked_at;
            match self.send(changed, &before, validate_only).await {
                Err(error) if may_retry && is_overtaken(&error) => {
                    before = get::one(self.client, self.kind, &reflection::text(&before, "name")).await?;
                    attempts -= 1;
                }
                after => return Ok([before, after.map_err(Error::in_options)?]),
            }
        }
    }

    async fn send(
        &self,
        changed: UpdateBody,
        before: &DynamicMessage,
        validate_only: bool,
    ) -> Result<DynamicMessage> {
        let UpdateBody { mut body, mask, .. } = changed;
        let seen = reflection::to_json(before)["meta"]["etag"].clone();
        body["meta"]["etag"] = self.etag.clone().map_or(seen, Value::String);
        let request = json!({ self.kind.singular: body, "updateMask": mask, "validateOnly": validate_only });
        send(self.client, self.kind, request).await
    }
}

/// Whether somebody else was faster.
fn is_overtaken(error: &Error) -> bool {
    error.refusal.as_ref().is_some_and(|refusal| refusal.reason == "ETAG_MISMATCH")
}
