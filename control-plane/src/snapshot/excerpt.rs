//! A part of what edges are sent, made by the projection that makes all of it: for what may come of a change. Pure.
//!
//! It must not know where rows come from, nor what they are looked at for.

use std::collections::{BTreeMap, BTreeSet};

use super::content::Snapshot;
use super::holders::Owner;
use super::projector::Projector;
use crate::domain::{Catalogue, Kind};
use crate::rights::roles::BUILT_IN;
use crate::store::{Row, StoreError};

/// What edges would be sent of these servers, tokens, teams and roles, with tools as they were sent unless they are among the rows.
/// `owners`: those whom they belong to, by name; `None`: there is nobody of that name.
pub fn excerpt(
    catalogue: Catalogue,
    sent: &Snapshot,
    rows: &[&Row],
    owners: BTreeMap<String, Option<Owner>>,
) -> Result<Snapshot, StoreError> {
    let mut projector = Projector::over(catalogue, sent);
    for row in rows {
        projector.apply(row)?;
    }
    for (name, owner) in owners {
        projector.put_owner(0, &name, owner);
    }
    // A role that nobody has gives nothing, whether edges know it or not.
    let own = rows.iter().filter(|row| row.kind == Kind::Role).map(|row| row.name.clone());
    let roles: BTreeSet<String> = BUILT_IN.iter().map(|role| role.name.to_owned()).chain(own).collect();
    projector.put_roles_in_use(0, roles);
    projector.put_exposed_uris();
    Ok(projector.snapshot(0))
}
