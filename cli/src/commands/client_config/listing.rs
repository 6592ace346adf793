//! `mcpctl client-config --list`: the hosts of this machine, their files, and what of ours is in them.

use serde_json::{Value, json};

use super::host_file::HostFile;
use super::hosts::{HOSTS, Host, HostSpec};
use super::ours::recognize;
use super::places::FoundFile;
use super::{splice, with_machine};
use crate::commands::Invocation;
use crate::error::Result;
use crate::output::{self, Format, table};

/// Prints a row for each host, and one more for each further file that it has.
pub(super) fn run(invocation: &Invocation, host: Option<Host>) -> Result {
    let edge = super::edge(invocation)?;
    let is_asked = |spec: &&HostSpec| host.is_none_or(|host| host == spec.host);
    let rows: Vec<HostRow> =
        HOSTS.iter().filter(is_asked).flat_map(|spec| rows(spec, edge.as_deref())).collect();
    let people = || {
        let titles = ["HOST", "STATE", "ENTRIES", "FILE"].map(str::to_owned).to_vec();
        table::render_rows(titles, rows.iter().map(HostRow::cells))
    };
    match invocation.format() {
        Format::Name => output::print(
            &rows.iter().map(|row| output::name_line(&row.spec.host.name())).collect::<String>(),
        ),
        format => output::print(&output::value(&values(&rows), format, people)?),
    }
}

/// A file of a host.
struct HostRow {
    spec: &'static HostSpec,
    file: FoundFile,
    /// The entries of ours, by name; else why the file cannot be read.
    entries: std::result::Result<Vec<(String, String, &'static str)>, String>,
}

/// The files that a host has here, or the one that it would have.
fn rows(spec: &'static HostSpec, edge: Option<&str>) -> Vec<HostRow> {
    let files = with_machine(|machine| machine.files(spec.places));
    let mut shown: Vec<_> = files.iter().filter(|file| file.exists).cloned().collect();
    if shown.is_empty() {
        let best = files.iter().find(|file| file.is_installed).or(files.first());
        shown.extend(best.cloned());
    }
    let row = |file: FoundFile| HostRow { spec, entries: entries(spec, &file, edge), file };
    shown.into_iter().map(row).collect()
}

/// The entries of ours in a file.
fn entries(
    spec: &HostSpec,
    file: &FoundFile,
    edge: Option<&str>,
) -> std::result::Result<Vec<(String, String, &'static str)>, String> {
    match file.exists {
        true => Ok(ours(spec, &content(spec, file)?, edge)),
        false => Ok(Vec::new()),
    }
}

fn content(spec: &HostSpec, file: &FoundFile) -> std::result::Result<Value, String> {
    let text = HostFile::read(&file.path).map_err(|error| error.to_string())?.text;
    splice::read(spec.syntax, &text)
}

/// The entries of ours in the files of all hosts, as texts.
pub(super) fn texts(edge: Option<&str>) -> Vec<String> {
    let files = |spec: &'static HostSpec| {
        let files = with_machine(|machine| machine.files(spec.places)).into_iter();
        files.filter(|file| file.exists).filter_map(move |file| Some((spec, content(spec, &file).ok()?)))
    };
    let texts = |(spec, file): (&HostSpec, Value)| {
        let held = file[spec.at].as_object().into_iter().flatten();
        let ours = held.filter(|(_, entry)| recognize(entry, edge).is_some());
        ours.map(|(_, entry)| entry.to_string()).collect::<Vec<_>>()
    };
    HOSTS.iter().flat_map(files).flat_map(texts).collect()
}

/// The entries that lead to us: the name, the server, and how.
pub(super) fn ours(spec: &HostSpec, file: &Value, edge: Option<&str>) -> Vec<(String, String, &'static str)> {
    let held = file[spec.at].as_object().into_iter().flatten();
    held.filter_map(|(name, entry)| {
        let ours = recognize(entry, edge)?;
        Some((name.clone(), ours.server, ours.via))
    })
    .collect()
}

impl HostRow {
    fn state(&self) -> &'static str {
        match (&self.entries, self.file.exists, self.file.is_installed) {
            (Err(_), ..) => "unreadable",
            (Ok(_), true, _) => "file",
            (Ok(_), false, true) => "no file",
            (Ok(_), false, false) => "not installed",
        }
    }

    fn cells(&self) -> Vec<String> {
        let entries = match &self.entries {
            Ok(entries) => {
                let shown =
                    entries.iter().map(|(name, server, via)| format!("{name} (servers/{server}, {via})"));
                shown.collect::<Vec<_>>().join(", ")
            }
            Err(reason) => reason.clone(),
        };
        let file = self.file.path.display().to_string();
        vec![self.spec.host.name(), self.state().to_owned(), entries, file]
    }
}

fn values(rows: &[HostRow]) -> Vec<Value> {
    let value = |row: &HostRow| {
        let entries = row.entries.iter().flatten();
        let entries: Vec<_> = entries
            .map(|(name, server, via)| json!({ "name": name, "server": format!("servers/{server}"), "via": via }))
            .collect();
        let mut value = json!({
            "host": row.spec.host.name(),
            "file": row.file.path.display().to_string(),
            "state": row.state(),
            "entries": entries,
        });
        if let Err(reason) = &row.entries {
            value["reason"] = reason.as_str().into();
        }
        value
    };
    rows.iter().map(value).collect()
}
