//! Our own rules, kept true: who may import whom, what every file opens with, what the documents must name.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::gateway::{Gateway, Store};
use crate::support::{binary, root};

/// Longer than this, and a file does two things.
const MAX_LINES: usize = 500;

/// Folders of production code.
const SOURCES: [&str; 6] =
    ["proto/lib.rs", "proto/mcp/src", "proto/tunnel/src", "control-plane/src", "edge-proxy/src", "cli/src"];

/// A source file, by its path in the repository.
struct Source {
    path: String,
    text: String,
}

impl Source {
    /// What is compiled into the product: up to the unit tests, which come last or fill a file of their own.
    fn product(&self) -> &str {
        if self.path.ends_with("/tests.rs") || self.path.contains("/tests/") {
            return "";
        }
        self.text.split("#[cfg(test)]\nmod ").next().unwrap_or_default()
    }
}

fn sources() -> Vec<Source> {
    let mut paths = Vec::new();
    SOURCES.iter().for_each(|folder| collect(&root().join(folder), &mut paths));
    assert!(paths.len() > 20, "found only {paths:?}");
    paths.into_iter().map(read).collect()
}

fn collect(path: &Path, into: &mut Vec<PathBuf>) {
    if path.is_dir() {
        let mut entries: Vec<_> = std::fs::read_dir(path).unwrap().map(|e| e.unwrap().path()).collect();
        entries.sort();
        entries.iter().for_each(|entry| collect(entry, into));
    } else if path.extension().is_some_and(|e| e == "rs") {
        into.push(path.to_owned());
    }
}

fn read(path: PathBuf) -> Source {
    let text = std::fs::read_to_string(&path).unwrap();
    Source { path: path.strip_prefix(root()).unwrap().display().to_string(), text }
}

fn none(what: &str, found: Vec<String>) {
    assert!(found.is_empty(), "{what}:\n  {}", found.join("\n  "));
}

#[test]
fn every_module_says_what_it_is_for() {
    let is_test = |s: &Source| s.path.ends_with("/tests.rs");
    let silent = sources().into_iter().filter(|s| !is_test(s) && !s.text.starts_with("//!")).map(|s| s.path);
    none("files that do not open with `//!`", silent.collect());
}

#[test]
fn no_file_does_two_things() {
    let long = sources().into_iter().filter_map(|s| {
        let lines = s.product().lines().count();
        (lines > MAX_LINES).then(|| format!("{}: {lines} lines", s.path))
    });
    none("files that are too long", long.collect());
}

#[test]
fn no_path_of_a_machine_is_in_the_repository() {
    let output = Command::new("git").current_dir(root()).args(["ls-files", "-z"]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let files = String::from_utf8(output.stdout).unwrap();
    // Put together here, so that this file does not hold them.
    let roots = ["work", "root", "home"].map(|name| format!("/{name}/"));
    let mut found = Vec::new();
    for file in files.split('\0').filter(|f| !f.is_empty()) {
        let Ok(text) = std::fs::read_to_string(root().join(file)) else { continue };
        for (number, line) in text.lines().enumerate() {
            if roots.iter().any(|root| line.contains(root)) {
                found.push(format!("{file}:{}: {}", number + 1, line.trim()));
            }
        }
    }
    none("paths of a machine", found);
}

#[test]
fn the_changelog_knows_this_version() {
    let changelog = std::fs::read_to_string(root().join("CHANGELOG.md")).unwrap();
    let version = env!("CARGO_PKG_VERSION");
    let known = changelog.lines().any(|line| line.starts_with("## ") && line.contains(version));
    assert!(known, "CHANGELOG.md has no section for {version}");
}

/// Crate by crate: the contract and the protocol know nobody of ours; the programs know those two and never each
/// other, except that `mcpctl dev` assembles the others.
#[test]
fn no_crate_imports_what_it_must_not() {
    let ours = ["trunkline", "mcp", "trunkline_control_plane", "trunkline_edge_proxy", "mcpctl"];
    let mut found = Vec::new();
    for source in sources() {
        let allowed: &[&str] = match source.path.as_str() {
            path if path.starts_with("proto/") => &["mcp"],
            path if path.starts_with("cli/src/commands/dev") => &ours,
            path if path.starts_with("cli/") => &["trunkline", "mcp", "mcpctl"],
            path if path.starts_with("control-plane/") => &["trunkline", "mcp", "trunkline_control_plane"],
            _ => &["trunkline", "mcp", "trunkline_edge_proxy"],
        };
        for name in ours.into_iter().filter(|name| !allowed.contains(name)) {
            if mentions(source.product(), name) {
                found.push(format!("{}: {name}", source.path));
            }
        }
    }
    none("imports of a crate that must not be known", found);
}

/// Whether a path of this crate is used: `name::…` where `name` stands alone.
fn mentions(text: &str, name: &str) -> bool {
    let path = format!("{name}::");
    text.lines().filter(|line| !line.trim_start().starts_with("//")).any(|line| {
        line.match_indices(&path).any(|(at, _)| {
            let before = line[..at].chars().next_back();
            !before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':')
        })
    })
}

/// The modules that a module of a crate may import; what is not listed may be imported by everyone. A module
/// that is not listed on the left may import what it likes, except `app`.
const ARROWS: [(&str, &str, &[&str]); 13] = [
    ("control-plane", "domain", &[]),
    ("control-plane", "store", &["domain", "auth"]),
    ("control-plane", "snapshot", &["domain", "store", "auth"]),
    ("control-plane", "api", &["domain", "store", "auth", "sync", "discovery"]),
    ("control-plane", "sync", &["domain", "store", "auth", "snapshot"]),
    ("control-plane", "auth", &["store", "domain"]),
    ("edge-proxy", "snapshot", &[]),
    ("edge-proxy", "authn", &["snapshot"]),
    ("edge-proxy", "session", &["snapshot", "authn"]),
    ("edge-proxy", "policy", &["snapshot", "authn", "session", "route"]),
    ("edge-proxy", "upstream", &["snapshot", "authn", "session", "route", "policy"]),
    ("edge-proxy", "usage", &["snapshot"]),
    ("edge-proxy", "observe", &["snapshot", "usage"]),
];

/// Modules that these arrows are about; the rest (clock, config, errors, what is counted) is everyone's.
const ROOMS: [&str; 15] = [
    "api",
    "app",
    "auth",
    "authn",
    "discovery",
    "domain",
    "listener",
    "policy",
    "reply",
    "route",
    "session",
    "snapshot",
    "store",
    "sync",
    "upstream",
];

#[test]
fn no_module_imports_what_it_must_not() {
    let mut found = Vec::new();
    for source in sources() {
        let Some((krate, inside)) = source.path.split_once("/src/") else { continue };
        let room = inside.split(['/', '.']).next().unwrap_or_default();
        let arrows =
            ARROWS.iter().find(|(c, r, _)| *c == krate && *r == room).map(|(_, _, allowed)| *allowed);
        for imported in imports(source.product()) {
            let is_app = imported == "app" && !matches!(room, "app" | "main" | "lib");
            let is_other = ROOMS.contains(&imported.as_str()) && imported != room;
            let is_wrong = is_other && arrows.is_some_and(|allowed| !allowed.contains(&imported.as_str()));
            if is_app || is_wrong {
                found.push(format!("{}: crate::{imported}", source.path));
            }
        }
    }
    none("imports against the arrows of docs/ARCHITECTURE.md", found);
}

/// The first segment of every `crate::…` path, groups included.
fn imports(text: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for line in text.lines().filter(|line| !line.trim_start().starts_with("//")) {
        for (at, _) in line.match_indices("crate::") {
            let rest = &line[at + "crate::".len()..];
            let names = rest.strip_prefix('{').map_or_else(|| vec![rest], |group| group.split(',').collect());
            for name in names {
                let name: String =
                    name.trim().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
                found.insert(name);
            }
        }
    }
    found
}

/// The options of a program and of its subcommands, from its own help.
fn options(program: &str, path: &[String], into: &mut BTreeMap<String, String>) {
    let output = Command::new(binary(program)).args(path).arg("--help").output().unwrap();
    let help = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{program} {path:?} --help: {}", output.status);
    let mut commands = false;
    for line in help.lines() {
        if !line.starts_with(' ') {
            commands = line.starts_with("Commands:");
            continue;
        }
        let indent = line.len() - line.trim_start().len();
        let word = line.trim_start();
        if commands && indent == 2 && !word.starts_with("help") {
            let mut path = path.to_vec();
            path.push(word.split(' ').next().unwrap_or_default().to_owned());
            options(program, &path, into);
        }
        if indent <= 6
            && word.starts_with('-')
            && let Some(at) = word.find("--")
        {
            let option: String =
                word[at..].chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '-').collect();
            into.entry(option).or_insert_with(|| format!("{program} {}", path.join(" ")));
        }
    }
}

fn operations() -> String {
    std::fs::read_to_string(root().join("docs/OPERATIONS.md")).unwrap()
}

#[test]
fn every_option_is_documented() {
    let mut found = BTreeMap::new();
    for program in ["trunkline-control-plane", "trunkline-edge-proxy", "mcpctl"] {
        options(program, &[], &mut found);
    }
    assert!(found.contains_key("--data-dir"), "the help was not understood: {found:?}");
    let text = operations();
    let missing = found
        .into_iter()
        .filter(|(option, _)| !matches!(option.as_str(), "--help" | "--version"))
        .filter(|(option, _)| {
            !text.contains(&format!("`{option}`")) && !text.contains(&format!("`{option} "))
        })
        .map(|(option, of)| format!("{option} of {of}"));
    none("options that docs/OPERATIONS.md does not name", missing.collect());
}

#[tokio::test(flavor = "multi_thread")]
async fn every_metric_is_documented() {
    let gateway = Gateway::start(Store::Sqlite, 1).await;
    let text = operations();
    let mut missing = Vec::new();
    let response = reqwest::get(gateway.metrics_url(0)).await.unwrap();
    let metrics = response.error_for_status().unwrap().text().await.unwrap();
    for line in metrics.lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
        let name = line.split(' ').next().unwrap_or_default();
        if !text.contains(name) {
            missing.push(name.to_owned());
        }
    }
    assert!(metrics.contains("trunkline_"), "no metric of ours: {metrics}");
    none("metrics that docs/OPERATIONS.md does not name", missing);
}
