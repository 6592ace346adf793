//! What an update sends for a resource, and what that replaced.

use prost_reflect::DynamicMessage;
use serde_json::{Map, Value, json};

use super::{kept, send};
use crate::commands::protection::Fallen;
use crate::commands::{apply, get};
use crate::control_client::ControlClient;
use crate::error::{Error, Result};
use crate::kinds::Kind;
use crate::reflection;

/// So often a change is tried anew where others write the same resource at the same time.
const ATTEMPTS: usize = 20;
/// The kinds whose changes give and take rights, beside tokens, of which that is told otherwise.
const OF_RIGHTS: [&str; 3] = ["Server", "Team", "Role"];
/// How fields begin that only people read.
const FOR_PEOPLE: [&str; 5] = ["title", "description", "instructions", "meta.labels", "meta.annotations"];
/// The fields of an upstream that say who may select from it.
const OF_USE: [&str; 4] = ["meta.owner", "meta.team", "meta.visibility", "disabled"];

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

    /// Whether it gives or takes rights. Of an upstream that is who may select from it.
    fn is_of_rights(&self) -> bool {
        let (is_of_use, is_for_people) = (
            |path: &String| OF_USE.contains(&path.as_str()),
            |path: &String| FOR_PEOPLE.iter().any(|field| path.starts_with(field)),
        );
        match self.kind.name {
            kind if OF_RIGHTS.contains(&kind) => !self.mask.iter().all(is_for_people),
            "Upstream" => self.mask.iter().any(is_of_use),
            _ => false,
        }
    }

    /// Who gains and who loses something by it, line by line, as far as that can be asked before it is made. Of what rights are not
    /// about only where it is no more than tried (`dry_run`).
    pub(super) async fn gains(&self, resources: &[DynamicMessage], dry_run: bool) -> Vec<String> {
        if !dry_run && !self.is_of_rights() {
            return Vec::new();
        }
        let mut then = Vec::new();
        for resource in resources {
            // What is refused now is refused when it is made, and told then.
            let Ok([_, after]) = self.apply(resource.clone(), true).await else { return Vec::new() };
            then.push(after);
        }
        apply::gains_of(self.client, self.kind, &then).await
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
