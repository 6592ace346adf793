//! What a write changes, gathered while it is under way, and recorded with it: one record for each thing, whatever was done to it.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use prost_reflect::DynamicMessage;
use serde_json::{Value, json};
use trunkline::admin::v1::{AuditKind, AuditRecord};

use super::super::{Row, StoreError, Tx};
use super::author::Author;
use super::chain::append_to;
use crate::clock;
use crate::domain::{Kind, reflect};

/// The longest text of what there was, or is, in bytes. Of a longer one, the hash is recorded.
const MAX_PICTURE: usize = 64 << 10;

/// Something that was done and is in no table of resources or people.
#[derive(Debug, Clone, Default)]
pub struct Deed {
    /// What it is about; by default a change.
    pub kind: Option<AuditKind>,
    /// The name and uid of who did it, where that is somebody else than who calls.
    pub actor: Option<(String, String)>,
    /// The session that began.
    pub through: String,
    /// What was done, where no rpc says so.
    pub action: String,
    /// What it was done to.
    pub resource: String,
    /// What there was before.
    pub before: Option<Value>,
    /// What there is after.
    pub after: Option<Value>,
}

/// What a write has changed so far.
#[derive(Debug, Default)]
pub(in super::super) struct Changes {
    pub(super) author: Option<Arc<Author>>,
    rows: Vec<(Option<Row>, Option<Row>)>,
    /// The places of rows, by kind and name.
    places: HashMap<(Kind, String), usize>,
    /// Those who had a role or were in a team that is deleted, by its name.
    holders: HashMap<String, Vec<String>>,
    /// People as they were before the write, by their uids. `None`: there was nobody.
    pub(super) people: BTreeMap<String, Option<(String, Value)>>,
    deeds: Vec<Deed>,
}

impl Changes {
    /// Those of whoever calls.
    pub(in super::super) fn begin() -> Self {
        Self { author: Author::current(), ..Self::default() }
    }

    fn is_empty(&self) -> bool {
        self.rows.is_empty() && self.people.is_empty() && self.deeds.is_empty()
    }

    /// Notes what became of a resource. Of several changes, the first `before` and the last `after` count.
    pub(in super::super) fn note_row(&mut self, before: Option<&Row>, after: Option<&Row>) {
        let Some(row) = after.or(before).filter(|_| self.author.is_some()) else { return };
        let key = (row.kind, row.name.clone());
        if let Some(place) = self.places.get(&key) {
            self.rows[*place].1 = after.cloned();
            return;
        }
        self.places.insert(key, self.rows.len());
        self.rows.push((before.cloned(), after.cloned()));
    }

    /// The records of it all. `people`: what became of those whose rights, proofs or memberships were written.
    fn records(&self, blank: &AuditRecord, people: Vec<Picture>) -> Result<Vec<AuditRecord>, StoreError> {
        let rows =
            self.rows.iter().filter_map(|(before, after)| self.of_row(before.as_ref(), after.as_ref()));
        let pictures = rows.chain(people.into_iter().map(Ok));
        let record = |picture: Result<Picture, StoreError>| {
            picture.map(|(resource, before, after)| AuditRecord {
                resource,
                before_json: bounded(before),
                after_json: bounded(after),
                ..blank.clone()
            })
        };
        let mut records = pictures.map(record).collect::<Result<Vec<_>, _>>()?;
        records.extend(self.deeds.iter().map(|deed| of_deed(deed, blank)));
        Ok(records)
    }

    fn of_row(&self, before: Option<&Row>, after: Option<&Row>) -> Option<Result<Picture, StoreError>> {
        let row = after.or(before)?;
        // Where nothing that people write differs, it is what they do not write.
        let with_status = before.zip(after).is_some_and(|(before, after)| before.body == after.body);
        let picture = |row: Option<&Row>| row.map(|row| picture(row, with_status)).transpose();
        let pictures = picture(before).and_then(|before| Ok((before, picture(after)?)));
        Some(pictures.map(|(mut before, after)| {
            if let (Some(Value::Object(before)), Some(holders)) = (&mut before, self.holders.get(&row.name)) {
                before.insert("holders".to_owned(), json!(holders));
            }
            (row.name.clone(), before, after)
        }))
    }
}

/// A name, what there was and what there is.
pub(super) type Picture = (String, Option<Value>, Option<Value>);

fn blank(author: &Author, revision: i64, now_us: i64) -> AuditRecord {
    AuditRecord {
        time: Some(clock::timestamp(now_us)),
        kind: AuditKind::Change.into(),
        actor: author.actor.clone(),
        actor_uid: author.actor_uid.clone(),
        through: author.through.clone(),
        address: author.address.clone(),
        action: author.action.clone(),
        request_id: author.request_id.clone(),
        revision,
        count: 1,
        ..AuditRecord::default()
    }
}

fn of_deed(deed: &Deed, blank: &AuditRecord) -> AuditRecord {
    let mut record = AuditRecord {
        kind: deed.kind.unwrap_or(AuditKind::Change).into(),
        resource: deed.resource.clone(),
        before_json: bounded(deed.before.clone()),
        after_json: bounded(deed.after.clone()),
        ..blank.clone()
    };
    if let Some((name, uid)) = &deed.actor {
        (record.actor, record.actor_uid) = (name.clone(), uid.clone());
    }
    if !deed.through.is_empty() {
        record.through.clone_from(&deed.through);
    }
    if !deed.action.is_empty() {
        record.action.clone_from(&deed.action);
    }
    record
}

/// A resource as JSON: what people write, and beside it what they do not, if asked for. There is no secret in either.
fn picture(row: &Row, with_status: bool) -> Result<Value, StoreError> {
    let decode = |source| StoreError::Decode { name: row.name.clone(), source };
    let descriptor = reflect::pool().get_message_by_name(row.kind.message_name());
    let Some(descriptor) = descriptor else { return Err(StoreError::UnknownKind(row.kind.to_string())) };
    let mut bytes = row.body.clone();
    if with_status {
        bytes.extend_from_slice(&row.status);
    }
    let message = DynamicMessage::decode(descriptor, bytes.as_slice()).map_err(decode)?;
    Ok(serde_json::to_value(&message).unwrap_or_default())
}

fn bounded(picture: Option<Value>) -> String {
    let text = picture.map(|picture| picture.to_string()).unwrap_or_default();
    if text.len() <= MAX_PICTURE {
        return text;
    }
    let sha256 = digest(&SHA256, text.as_bytes())
        .as_ref()
        .iter()
        .fold(String::new(), |text, byte| format!("{text}{byte:02x}"));
    json!({ "omitted": { "bytes": text.len(), "sha256": sha256 } }).to_string()
}

impl Tx {
    /// Says who does this, where whoever calls proves it only now.
    pub fn acts_as(&mut self, name: &str, uid: &str) {
        if let Some(author) = &mut self.changes.author {
            let author = Arc::make_mut(author);
            (author.actor, author.actor_uid) = (name.to_owned(), uid.to_owned());
        }
    }

    /// Says that what follows happens by itself, whoever has asked for it.
    pub fn by_itself(&mut self) {
        self.changes.author = None;
    }

    /// Records something that is in no table of resources or people.
    pub fn record(&mut self, deed: Deed) {
        self.changes.deeds.push(deed);
    }

    /// Records something beside the resource log that somebody has done, and not the control plane by itself.
    pub(in super::super) fn record_aside(&mut self, deed: Deed) {
        self.aside = true;
        if self.changes.author.is_some() {
            self.record(deed);
        }
    }

    /// Notes who had a role, or was in a team, that is deleted.
    pub(in super::super) fn note_holders(&mut self, of: &str, names: Vec<String>) {
        if !names.is_empty() {
            self.changes.holders.insert(of.to_owned(), names);
        }
    }

    /// Records what this write has changed. Returns whether anything was recorded. Where that fails, the change goes on without, unless
    /// it must not.
    pub(in super::super) async fn write_audit(&mut self, revision: i64) -> Result<bool, StoreError> {
        let changes = std::mem::take(&mut self.changes);
        if changes.is_empty() {
            return Ok(false);
        }
        let author = changes.author.clone().unwrap_or_else(|| Author::control_plane(""));
        let people = self.people_changed(&changes.people).await?;
        let records = changes.records(&blank(&author, revision, self.now_us()), people)?;
        if records.is_empty() {
            return Ok(false);
        }
        let health = self.store().audit_health().clone();
        self.gap = append_to(self.connection(), records, &health).await?;
        Ok(self.gap.is_some())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_what_is_too_long_the_hash_is_recorded() {
        assert_eq!(bounded(None), "");
        assert_eq!(bounded(Some(json!({"a": 1}))), r#"{"a":1}"#);
        let long = bounded(Some(json!("x".repeat(MAX_PICTURE))));
        let read: Value = serde_json::from_str(&long).unwrap();
        assert_eq!(read["omitted"]["bytes"], MAX_PICTURE + 2);
        assert_eq!(read["omitted"]["sha256"].as_str().map(str::len), Some(64));
    }
}
