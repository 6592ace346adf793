//! Get, create, update and delete for any kind of resource, as far as it exists for the caller and they may do so.

use prost_types::FieldMask;

use super::guard::{Found, taken};
use super::rpc::Call;
use super::rules::read_rules;
use super::write::{Write, check_etag, new_name};
use crate::domain::{Kind, KindRules, Violations, mask, names};
use crate::error::Error;
use crate::store::Row;

/// The reason where a name is taken.
pub(super) const RESOURCE_EXISTS: &str = "RESOURCE_EXISTS";

/// A create request.
pub(super) struct Create<'a, K> {
    /// `None` for kinds without parents.
    pub(super) parent: Option<&'a str>,
    /// The field of the request that holds the id, and the id.
    pub(super) id: (&'a str, &'a str),
    /// The field of the request that holds the message, and the message.
    pub(super) message: (&'a str, Option<K>),
    pub(super) validate_only: bool,
}

/// An update request.
pub(super) struct Update<'a, K> {
    /// The field of the request that holds the message, and the message.
    pub(super) message: (&'a str, Option<K>),
    pub(super) mask: Option<FieldMask>,
    pub(super) allow_missing: bool,
    pub(super) validate_only: bool,
}

/// A delete request.
pub(super) struct Delete<'a> {
    pub(super) name: &'a str,
    pub(super) etag: &'a str,
    pub(super) force: bool,
    pub(super) validate_only: bool,
}

impl Call<'_> {
    pub(super) async fn get<K: KindRules>(&self, name: &str) -> Result<K, Error> {
        check_name(K::KIND, name)?;
        self.present(&self.find(K::KIND, name).await?).await
    }

    /// What the caller may change, too.
    pub(super) async fn get_to_write<K: KindRules>(&self, name: &str) -> Result<K, Error> {
        check_name(K::KIND, name)?;
        self.present(&self.find_to(K::KIND.write(), K::KIND, name).await?).await
    }

    pub(super) async fn create<K: KindRules>(&self, create: Create<'_, K>) -> Result<K, Error> {
        let (write, row) = self.prepare_create(&create).await?;
        let tx = write.finish().await?;
        if !create.validate_only {
            tx.commit().await?;
        }
        self.present(&row).await
    }

    /// Everything of a create but its end.
    pub(super) async fn prepare_create<K: KindRules>(
        &self,
        create: &Create<'_, K>,
    ) -> Result<(Write<'_>, Row), Error> {
        let (field, message) = &create.message;
        let mut message = message.clone().ok_or_else(|| Error::field(field, "is required"))?;
        let name = new_name(K::KIND, create.parent, create.id.0, create.id.1, message.name())?;
        message.set_name(name.clone());
        message.take_status();
        read_rules(&message);
        let mut write = Write::begin(self).await?;
        write.check_parent(K::KIND, &name, &format!("{field}.")).await?;
        if write.tx.get(K::KIND, &name).await?.is_some() {
            return Err(taken(K::KIND, &name));
        }
        let row = write.put(message, None, None, &format!("{field}.")).await?;
        Ok((write, row))
    }

    pub(super) async fn update<K: KindRules>(&self, update: Update<'_, K>) -> Result<K, Error> {
        let (field, message) = update.message;
        let mut patch = message.ok_or_else(|| Error::field(field, "is required"))?;
        check_name_in(K::KIND, &format!("{field}.name"), patch.name())?;
        let name = patch.name().to_owned();
        let etag = patch.meta().map(|meta| meta.etag.clone()).unwrap_or_default();
        read_rules(&patch);
        let mut write = Write::begin(self).await?;
        let found = write.look(K::KIND, &name).await?;
        let is_taken = matches!(found, Found::Hidden);
        let old = found.seen();
        if let Some(row) = &old {
            write.check_may_write(row).await?;
        }
        check_etag(&name, &etag, old.as_ref())?;
        let next = match &old {
            Some(row) => {
                mask::update(&row.message::<K>()?, &patch, update.mask.as_ref()).map_err(Error::invalid)?
            }
            None if !update.allow_missing => return Err(Error::not_found(K::KIND, &name)),
            None if is_taken => {
                write.check_parent(K::KIND, &name, &format!("{field}.")).await?;
                return Err(taken(K::KIND, &name));
            }
            None => {
                patch.take_status();
                patch
            }
        };
        let row = write.put(next, old.as_ref(), None, &format!("{field}.")).await?;
        let tx = write.finish().await?;
        if !update.validate_only {
            tx.commit().await?;
        }
        self.present(&row).await
    }

    /// Deletes, and says from which revision on.
    pub(super) async fn delete<K: KindRules>(&self, delete: Delete<'_>) -> Result<i64, Error> {
        let name = delete.name;
        check_name(K::KIND, name)?;
        let mut write = Write::begin(self).await?;
        let row = write.look(K::KIND, name).await?.seen().ok_or_else(|| Error::not_found(K::KIND, name))?;
        write.check_may_write(&row).await?;
        check_etag(name, delete.etag, Some(&row))?;
        write.delete(&row, delete.force).await?;
        let tx = write.finish().await?;
        let revision = tx.revision();
        if !delete.validate_only {
            tx.commit().await?;
        }
        Ok(revision)
    }

    /// The message of a row, with what follows from its surroundings, as far as they exist for the caller.
    pub(super) async fn present<K: KindRules>(&self, row: &Row) -> Result<K, Error> {
        let mut message: K = row.message()?;
        message.evaluate(&self.known::<K>().await?.around());
        Ok(message)
    }
}

/// Checks that a request's `name` is one of the kind.
pub(super) fn check_name(kind: Kind, name: &str) -> Result<(), Error> {
    check_name_in(kind, "name", name)
}

fn check_name_in(kind: Kind, field: &str, name: &str) -> Result<(), Error> {
    let mut violations = Violations::default();
    match names::parse(kind, name) {
        Ok(_) => return Ok(()),
        Err(error) => violations.add(field, error.to_string()),
    }
    Err(Error::invalid(violations))
}
