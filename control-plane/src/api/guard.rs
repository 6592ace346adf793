//! What exists for a caller, and what they may do to it: every resource that an rpc reads or writes is looked at here first. What does
//! not exist for somebody is told in the same words as what does not exist at all.

use std::collections::BTreeSet;

use tonic::Code;
use trunkline::common::v1::Permission;

use super::crud::RESOURCE_EXISTS;
use super::roles::{built_in_row, check_not_built_in};
use super::rpc::Call;
use super::write::Write;
use crate::domain::Kind;
use crate::error::Error;
use crate::rights::Ownership;
use crate::store::{Row, Viewer};

/// What a write finds under a name.
pub(super) enum Found {
    /// Nothing.
    Nothing,
    /// What does not exist for the caller.
    Hidden,
    /// What does.
    Seen(Box<Row>),
}

impl Found {
    /// What exists for the caller.
    pub(super) fn seen(self) -> Option<Row> {
        match self {
            Self::Seen(row) => Some(*row),
            Self::Nothing | Self::Hidden => None,
        }
    }
}

impl Call<'_> {
    /// The caller, as they look at resources of a kind in the log.
    pub(super) fn viewer(&self, kind: Kind) -> Viewer {
        Viewer::of(&self.caller, kind.read())
    }

    /// A resource that exists for the caller, and that they may read.
    pub(super) async fn find(&self, kind: Kind, name: &str) -> Result<Row, Error> {
        let row = match built_in_row(kind, name) {
            Some(row) => Some(row),
            None => self.registry.store().get(kind, name).await?,
        };
        match row {
            Some(row) if self.reads(&row).await? => Ok(row),
            _ => Err(Error::not_found(kind, name)),
        }
    }

    /// A resource that exists for the caller, and that they may use `permission` on.
    pub(super) async fn find_to(&self, permission: Permission, kind: Kind, name: &str) -> Result<Row, Error> {
        let row = self.find(kind, name).await?;
        let is_theirs = self.caller.holds_for_all(permission)
            || self.caller.may(permission, &self.ownership(&row).await?);
        if is_theirs { Ok(row) } else { Err(Error::denied(permission, name)) }
    }

    async fn reads(&self, row: &Row) -> Result<bool, Error> {
        let read = row.kind.read();
        Ok(self.caller.holds_for_all(read) || self.caller.reads(read, &self.ownership(row).await?))
    }

    /// Whose a resource is.
    async fn ownership(&self, row: &Row) -> Result<Ownership, Error> {
        match row.parent() {
            "" => Ok(row.ownership.clone()),
            upstream => {
                Ok(self.registry.store().ownership(Kind::Upstream, upstream).await?.unwrap_or_default())
            }
        }
    }

    /// Checks that the caller may write resources of these kinds anywhere.
    pub(super) fn check_may_write_kinds(&self, kinds: impl Iterator<Item = Kind>) -> Result<(), Error> {
        let kinds: BTreeSet<Kind> = kinds.collect();
        match kinds.into_iter().find(|kind| !self.caller.holds(kind.write())) {
            None => Ok(()),
            Some(kind) => Err(Error::lacks(kind.write())),
        }
    }

    /// Those of these kinds that the caller may read at all.
    pub(super) fn readable(&self, kinds: &[Kind]) -> Vec<Kind> {
        kinds.iter().copied().filter(|kind| self.caller.holds(kind.read())).collect()
    }
}

impl Write<'_> {
    /// What there is under a name.
    pub(super) async fn look(&mut self, kind: Kind, name: &str) -> Result<Found, Error> {
        check_not_built_in(kind, name)?;
        Ok(match self.tx.get(kind, name).await? {
            None => Found::Nothing,
            Some(row) if self.sees(&row).await? => Found::Seen(Box::new(row)),
            Some(_) => Found::Hidden,
        })
    }

    /// Whether a resource exists for the caller.
    pub(super) async fn sees(&mut self, row: &Row) -> Result<bool, Error> {
        Ok(self.call.caller.sees_all() || self.call.caller.sees(&self.ownership(row).await?))
    }

    /// Whose a resource is.
    pub(super) async fn ownership(&mut self, row: &Row) -> Result<Ownership, Error> {
        match row.parent() {
            "" => Ok(row.ownership.clone()),
            upstream => self.ownership_of_upstream(upstream).await,
        }
    }

    /// Whose an upstream is, and with it all that is under it. Nobody's, where there is none.
    pub(super) async fn ownership_of_upstream(&mut self, upstream: &str) -> Result<Ownership, Error> {
        if let Some(known) = self.upstreams.get(upstream) {
            return Ok(known.clone());
        }
        let found = self.tx.ownership(Kind::Upstream, upstream).await?.unwrap_or_default();
        self.upstreams.insert(upstream.to_owned(), found.clone());
        Ok(found)
    }

    /// Checks that the caller may change a resource that exists for them.
    pub(super) async fn check_may_write(&mut self, row: &Row) -> Result<(), Error> {
        let permission = row.kind.write();
        if self.call.caller.holds_for_all(permission) {
            return Ok(());
        }
        let ownership = self.ownership(row).await?;
        match self.call.caller.may(permission, &ownership) {
            true => Ok(()),
            false => Err(Error::denied(permission, &row.name)),
        }
    }

    /// What is to be changed, or made where there is nothing yet.
    pub(super) async fn look_to_write(
        &mut self,
        kind: Kind,
        name: &str,
        prefix: &str,
    ) -> Result<Option<Row>, Error> {
        match self.look(kind, name).await? {
            Found::Nothing => Ok(None),
            Found::Hidden => {
                self.check_parent(kind, name, prefix).await?;
                Err(taken(kind, name))
            }
            Found::Seen(row) => {
                self.check_may_write(&row).await?;
                Ok(Some(*row))
            }
        }
    }
}

/// The error where something is to be made under a name that is taken, be it by what does not exist for the caller.
pub(super) fn taken(kind: Kind, name: &str) -> Error {
    Error::new(Code::AlreadyExists, RESOURCE_EXISTS, format!("{name} already exists"))
        .with("kind", kind.as_str())
        .with("name", name)
}
