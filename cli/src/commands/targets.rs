//! The resources that a command is about, however they are named: by files, by labels, or as all of a kind.

use std::path::PathBuf;

use crate::commands::get::{self, Query};
use crate::control_client::ControlClient;
use crate::error::{Error, Result};
use crate::kinds::Kind;
use crate::manifest;
use crate::reflection;
use crate::selection::Selection;
use crate::selector::Selector;

/// A resource, by its full name.
pub type Named = (&'static Kind, String);

/// Returns those that are in files.
pub fn in_files(files: &[PathBuf]) -> Result<Vec<Named>> {
    let resources = manifest::load_names(files)?;
    match resources.is_empty() {
        true => Err(Error::usage("the files contain no resources")),
        false => Ok(resources.into_iter().map(|resource| (resource.kind, resource.name)).collect()),
    }
}

/// Refuses names beside a flag that selects among all.
pub fn check_sweeping(selection: &Selection, is_all: bool) -> Result {
    let flag = if is_all { "--all" } else { "--selector" };
    match selection.names_resources() {
        true => Err(Error::usage(format!("{flag} selects among all; omit the names, or {flag}"))),
        false => Ok(()),
    }
}

/// Returns those of the kinds that have these labels, or all.
pub async fn selected(
    client: &ControlClient,
    selection: &Selection,
    selector: Option<&Selector>,
) -> Result<Vec<Named>> {
    let query = Query { selector: selector.cloned(), ..Query::default() };
    let found = get::select(client, selection, &query).await?;
    let names = found
        .iter()
        .flat_map(|group| group.items.iter().map(|item| (group.kind, reflection::text(item, "name"))));
    Ok(names.collect())
}
