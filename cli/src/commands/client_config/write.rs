//! `client-config --write` and `--remove`: one entry of a host's own file, and nothing else of it.

use std::path::PathBuf;

use serde_json::Value;

use super::host_file::{HostFile, Replaced};
use super::hosts::{Host, HostSpec};
use super::ours::recognize;
use super::snippet::{Snippet, input_id, merged};
use super::splice::{self, EntryChange};
use super::{FileFlags, diff, listing, with_machine};
use crate::error::{Error, Exit, Result};
use crate::output;
use crate::suggest::did_you_mean;

/// Writes an entry into the file of its host.
pub(super) fn write(spec: &HostSpec, flags: &FileFlags, snippet: &Snippet<'_>, edge: Option<&str>) -> Result {
    let file = HostFile::read(&path(spec, flags)?)?;
    let outcome = put(spec, flags, snippet, edge, &file);
    // What cannot be written is there to paste.
    if outcome.as_ref().is_err_and(|error| error.exit == Exit::Usage) {
        output::print(&snippet.render()?)?;
    }
    outcome
}

fn put(
    spec: &HostSpec,
    flags: &FileFlags,
    snippet: &Snippet<'_>,
    edge: Option<&str>,
    file: &HostFile,
) -> Result {
    let said = read(spec, file)?;
    let name = snippet.name();
    let old = &said[spec.at][name];
    let is_ours = recognize(old, edge).is_some();
    if !old.is_null() && !is_ours && !flags.replace {
        return Err(Error::new(
            Exit::Conflict,
            format!(
                "{} has an entry {name} that does not lead to Trunkline, and is left alone; add --replace to replace it, or \
                 --name to add another",
                file.path.display()
            ),
        ));
    }
    let entry = if is_ours { merged(old, snippet.entry()) } else { snippet.entry().clone() };
    let change = snippet.change(&entry);
    let text = changed(spec, file, &change)?;
    let verb = if old.is_null() { "added to" } else { "changed in" };
    let shown = snippet.shows_bearer();
    finish(file, &text, flags, shown, &format!("{name} {verb}"), name)?;
    if !flags.dry_run {
        output::eprint(format!("{} {}", snippet.advice(), spec.then));
    }
    Ok(())
}

/// Removes an entry of ours from the file of its host.
pub(super) fn remove(spec: &HostSpec, flags: &FileFlags, name: &str, edge: Option<&str>) -> Result {
    let file = HostFile::read(&path(spec, flags)?)?;
    let shown = file.path.display().to_string();
    if !file.exists() {
        return Err(Error::not_found(format!("there is no file {shown}; nothing was removed")));
    }
    let said = read(spec, &file)?;
    let old = &said[spec.at][name];
    if old.is_null() {
        return Err(no_entry(spec, &said, &shown, name, edge));
    }
    if recognize(old, edge).is_none() {
        return Err(Error::new(
            Exit::Conflict,
            format!("entry {name} of {shown} does not lead to Trunkline, and is left alone; remove it there"),
        ));
    }
    let id = input_id(name);
    let input = (spec.host == Host::Vscode && !is_used(&said, &id, name)).then_some((&*id, None));
    let change = EntryChange { at: spec.at, name, entry: None, input };
    let text = without_ours(spec, &file, changed(spec, &file, &change)?);
    finish(&file, &text, flags, false, &format!("{name} removed from"), name)
}

/// The text without an empty member for servers that was not there before the first entry was written.
fn without_ours(spec: &HostSpec, file: &HostFile, text: String) -> String {
    let first = file.first_text().and_then(|text| splice::read(spec.syntax, &text).ok());
    match first.is_some_and(|first| first.get(spec.at).is_none()) {
        true => splice::without_holder(spec.syntax, &text, spec.at),
        false => text,
    }
}

/// Whether another entry refers to an input, too.
fn is_used(said: &Value, id: &str, name: &str) -> bool {
    let others = said["servers"].as_object().into_iter().flatten().filter(|(other, _)| *other != name);
    let reference = format!("${{input:{id}}}");
    others.into_iter().any(|(_, entry)| entry.to_string().contains(&reference))
}

fn no_entry(spec: &HostSpec, said: &Value, file: &str, name: &str, edge: Option<&str>) -> Error {
    let ours: Vec<_> = listing::ours(spec, said, edge).into_iter().map(|(name, ..)| name).collect();
    let hint = did_you_mean(name, ours.iter().map(String::as_str));
    let has = match ours.is_empty() {
        true => "none of its entries leads to Trunkline".to_owned(),
        false => format!("those that lead to Trunkline are {}", ours.join(", ")),
    };
    Error::not_found(format!("{file} has no entry {name}{hint}; {has}; nothing was removed"))
}

/// What a file says.
fn read(spec: &HostSpec, file: &HostFile) -> Result<Value> {
    splice::read(spec.syntax, &file.text).map_err(|why| left_alone(file, &why))
}

fn changed(spec: &HostSpec, file: &HostFile, change: &EntryChange<'_>) -> Result<String> {
    splice::apply(spec.syntax, &file.text, change).map_err(|why| left_alone(file, &why))
}

fn left_alone(file: &HostFile, why: &str) -> Error {
    Error::usage(format!("{} is left alone: {why}; correct it, or change it by hand", file.path.display()))
}

/// Replaces the file, and says what became of it.
fn finish(
    file: &HostFile,
    text: &str,
    flags: &FileFlags,
    is_private: bool,
    what: &str,
    name: &str,
) -> Result {
    let path = file.path.display();
    if text == file.text && file.exists() {
        if is_private && !flags.dry_run {
            file.make_private()?;
        }
        return output::print(&format!("{name} unchanged in {path}"));
    }
    if flags.dry_run {
        output::print(&diff::render(&file.text, text, is_private))?;
        return output::print(&format!("{what} {path} (dry run)"));
    }
    let Replaced { backup, made } = file.replace(text, is_private)?;
    output::print(&format!("{what} {path}"))?;
    if let Some(folder) = made {
        output::eprint(format!("The folder {} was made for it.", folder.display()));
    }
    if let Some(backup) = backup {
        output::eprint(format!("What it held before is in {}.", backup.display()));
    }
    if is_private {
        output::eprint("It can be read by its owner only, since it holds a bearer.");
    }
    Ok(())
}

/// The file to change: the one that was named, else that of the host on this machine.
fn path(spec: &HostSpec, flags: &FileFlags) -> Result<PathBuf> {
    if let Some(path) = &flags.file {
        return Ok(path.clone());
    }
    let files = with_machine(|machine| machine.files(spec.places));
    let existing: Vec<_> = files.iter().filter(|file| file.exists).collect();
    if let [first, others @ ..] = existing.as_slice() {
        for other in others {
            let path = other.path.display();
            output::eprint(format!(
                "{} has a file {path}, too; name it with --file to change it.",
                spec.title
            ));
        }
        return Ok(first.path.clone());
    }
    let folder = files.first().map(|file| file.folder.display().to_string()).unwrap_or_default();
    files.into_iter().find(|file| file.is_installed).map(|file| file.path).ok_or_else(|| {
        Error::not_found(format!(
            "{} is not installed here: there is no {folder}; name the file to change with --file",
            spec.title
        ))
    })
}
