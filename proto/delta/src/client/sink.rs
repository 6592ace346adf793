//! The place where a client puts the resources that it receives.

use std::collections::BTreeMap;
use std::fmt::Debug;

use trunkline::TypeTable;

use super::resource::{Candidate, Refusal};

/// The last good version of every resource, and a compiler of snapshots of them.
pub trait Sink: Debug {
    /// The types of resource that it takes.
    type Kind: TypeTable;
    /// A snapshot of the accepted resources, ready to be put in force.
    type Compiled: Debug;

    /// Accepts a new version of a resource, or refuses it and keeps the last good one.
    fn accept(&mut self, candidate: Candidate<Self::Kind>) -> Result<(), Refusal<Self::Kind>>;

    /// Removes a resource.
    fn remove(&mut self, kind: Self::Kind, name: &str);

    /// Returns the versions of the accepted resources of `kind`, by name.
    fn versions(&self, kind: Self::Kind) -> BTreeMap<String, String>;

    /// Forgets the refusals, because what still exists will be sent again.
    fn forget_refused(&mut self);

    /// Compiles the snapshot of all accepted resources.
    fn compile(&mut self, revision: i64) -> Self::Compiled;
}
