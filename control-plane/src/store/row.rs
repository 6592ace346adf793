//! One resource as it is stored: identity in columns, spec and status as bytes apart.

use sqlx::Row as _;
use sqlx::any::AnyRow;
use trunkline::common::v1::Visibility;

use super::StoreError;
use crate::clock;
use crate::domain::{Kind, KindRules};
use crate::rights::Ownership;

/// The columns of a row, in the order in which every statement selects them.
pub(super) const COLUMNS: &str = "r.kind, r.name, r.uid, r.revision, r.created, r.updated, r.deleted, r.apply_set, r.owner, r.team, r.visibility, r.body, r.status";

/// One resource as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Its kind.
    pub kind: Kind,
    /// Its name.
    pub name: String,
    /// Identity of this life of it.
    pub uid: String,
    /// The revision of its last write.
    pub revision: i64,
    /// The time of creation, in microseconds.
    pub create_us: i64,
    /// The time of the last write, in microseconds.
    pub update_us: i64,
    /// True for a tombstone.
    pub deleted: bool,
    /// The set with which it was applied; empty: none.
    pub apply_set: String,
    /// Whose it is, as its body says. Of what is under an upstream it says nothing.
    pub ownership: Ownership,
    /// The message without name, output-only fields and secrets.
    pub body: Vec<u8>,
    /// The message with nothing but output-only fields, `meta` aside.
    pub status: Vec<u8>,
}

impl Row {
    /// The whole message: spec, status, name and `meta`. (Encoded messages that follow each other merge.)
    pub fn message<K: KindRules>(&self) -> Result<K, StoreError> {
        let decode = |source| StoreError::Decode { name: self.name.clone(), source };
        let mut message = K::decode(self.body.as_slice()).map_err(decode)?;
        message.merge(self.status.as_slice()).map_err(decode)?;
        message.set_name(self.name.clone());
        let meta = message.meta_slot().get_or_insert_default();
        meta.uid = self.uid.clone();
        meta.etag = self.etag();
        meta.revision = self.revision;
        meta.create_time = Some(clock::timestamp(self.create_us));
        meta.update_time = Some(clock::timestamp(self.update_us));
        meta.apply_set = self.apply_set.clone();
        Ok(message)
    }

    /// The validator of what people may write.
    pub fn etag(&self) -> String {
        let mut hash = aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256);
        hash.update(self.uid.as_bytes());
        hash.update(&self.body);
        hash.finish().as_ref()[..12].iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}"))
    }

    /// `upstreams/{upstream}` for entries of a catalogue, else empty.
    pub fn parent(&self) -> &str {
        parent(self.kind, &self.name)
    }

    pub(super) fn read(row: &AnyRow) -> Result<Self, StoreError> {
        let kind: String = row.try_get("kind")?;
        Ok(Self {
            kind: Kind::parse(&kind).ok_or(StoreError::UnknownKind(kind))?,
            name: row.try_get("name")?,
            uid: row.try_get("uid")?,
            revision: row.try_get("revision")?,
            create_us: row.try_get("created")?,
            update_us: row.try_get("updated")?,
            deleted: row.try_get::<i64, _>("deleted")? != 0,
            apply_set: row.try_get("apply_set")?,
            ownership: ownership(row)?,
            body: row.try_get("body")?,
            status: row.try_get("status")?,
        })
    }
}

/// Reads whose a resource is from its columns.
pub(super) fn ownership(row: &AnyRow) -> Result<Ownership, sqlx::Error> {
    let visibility: i64 = row.try_get("visibility")?;
    let visibility = i32::try_from(visibility).ok().and_then(|number| Visibility::try_from(number).ok());
    let visibility = visibility.filter(|said| *said != Visibility::Unspecified);
    Ok(Ownership {
        owner: row.try_get("owner")?,
        team: row.try_get("team")?,
        visibility: visibility.unwrap_or(Visibility::Private),
    })
}

/// The parent that a name of the kind holds.
pub(super) fn parent(kind: Kind, name: &str) -> &str {
    if !kind.in_catalogue() {
        return "";
    }
    name.rsplit_once('/').and_then(|(head, _)| head.rsplit_once('/')).map_or("", |(parent, _)| parent)
}
