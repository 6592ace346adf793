//! What guards a prune, and resources of other sets: nobody deletes or takes over by accident what others have applied.

use std::collections::HashSet;

use tonic::Code;
use trunkline::admin::v1::{ApplyResourcesRequest, Change};

use super::write::Write;
use crate::domain::Violations;
use crate::error::Error;
use crate::store::Row;

/// The number of resources that an error names.
const NAMED: usize = 20;

/// A prune that was asked for.
pub(super) struct Prune<'a> {
    set: &'a str,
    /// What belonged to the set before the write.
    members: Vec<Row>,
    force: bool,
    only: HashSet<&'a str>,
}

impl<'a> Prune<'a> {
    /// Reads what belongs to the set. `None`: nothing is to be pruned.
    pub(super) async fn begin(
        write: &mut Write<'_>,
        set: &'a str,
        request: &'a ApplyResourcesRequest,
    ) -> Result<Option<Self>, Error> {
        if !request.prune {
            return Ok(None);
        }
        if request.manifests.is_empty() {
            let mut violations = Violations::default();
            let text = "is empty, so that `prune` would delete the whole set; use DeleteResources for that";
            violations.add("manifests", text);
            return Err(Error::broken(Code::InvalidArgument, "PRUNE_WITHOUT_RESOURCES", violations));
        }
        let mut members = Vec::new();
        for row in write.tx.applied_with(set).await? {
            // What does not exist for the caller is no part of their set.
            if write.sees(&row).await? {
                members.push(row);
            }
        }
        let only = request.prune_only.iter().map(String::as_str).collect();
        Ok(Some(Self { set, members, force: request.force, only }))
    }

    /// What is to go, since it is not wanted any more; an error where that is more than the caller can have meant.
    pub(super) fn leaving(&self, wanted: &HashSet<String>) -> Result<Vec<&Row>, Error> {
        let leaving: Vec<_> = self.members.iter().filter(|row| !wanted.contains(&row.name)).collect();
        let names = named(leaving.iter().map(|row| row.name.as_str()), NAMED);
        if leaving.len() * 2 > self.members.len() && !self.force {
            let (count, all, set) = (leaving.len(), self.members.len(), self.set);
            let text = format!(
                "prune would delete {count} of the {all} resources of set {set}: {names}; set `force` to delete them anyway"
            );
            return Err(Error::new(Code::FailedPrecondition, "PRUNE_TOO_MUCH", text)
                .with("set", set)
                .with("names", names));
        }
        let unseen = |row: &&&Row| !self.only.is_empty() && !self.only.contains(row.name.as_str());
        let unseen = named(leaving.iter().filter(unseen).map(|row| row.name.as_str()), NAMED);
        if unseen.is_empty() {
            return Ok(leaving);
        }
        let text = format!("prune would delete {unseen}, which was not asked about; look again and retry");
        Err(Error::new(Code::Aborted, "PRUNE_CHANGED", text).with("names", unseen))
    }
}

/// Refuses resources that belong to other sets, unless they are to be taken over.
pub(super) fn check_sets(changes: &[Change], set: &str, take_over: bool) -> Result<(), Error> {
    let others: Vec<_> = changes.iter().filter(|change| !change.previous_set.is_empty()).collect();
    let Some(first) = others.first().filter(|_| !take_over) else { return Ok(()) };
    let other = first.previous_set.as_str();
    let same = others.iter().filter(|change| change.previous_set == other);
    let names = named(same.map(|change| change.name.as_str()), NAMED);
    let text = format!(
        "set {other} has applied {names}; set `apply_set` to {other} to change them there, or set `take_over` to move them to set {set}"
    );
    Err(Error::new(Code::FailedPrecondition, "OTHER_SET", text)
        .with("set", set)
        .with("other_set", other)
        .with("names", names))
}

/// Names for an error: the first of them, and how many more there are.
pub(super) fn named<'a>(mut names: impl Iterator<Item = &'a str>, most: usize) -> String {
    let first: Vec<_> = names.by_ref().take(most).collect();
    match names.count() {
        0 => first.join(", "),
        more => format!("{} and {more} more", first.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_names_the_first_and_counts_the_rest() {
        assert_eq!(named(["a", "b"].into_iter(), 2), "a, b");
        assert_eq!(named([].into_iter(), 2), "");
        assert_eq!(named(["a", "b", "c", "d", "e"].into_iter(), 2), "a, b and 3 more");
    }
}
