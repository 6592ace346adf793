//! The sources of the product, as tests read them that keep our own rules.

use std::path::{Path, PathBuf};

/// Folders of production code.
const SOURCES: [&str; 12] = [
    "proto/lib.rs",
    "proto/mcp/src",
    "proto/tunnel/src",
    "proto/delta/src",
    "proto/inbound/src",
    "proto/egress/src",
    "proto/printable/src",
    "proto/startup/src",
    "proto/schema/src",
    "control-plane/src",
    "edge-proxy/src",
    "cli/src",
];

/// A source file, by its path in the repository.
pub(crate) struct Source {
    pub(crate) path: String,
    pub(crate) text: String,
}

impl Source {
    /// What is compiled into the product: up to the unit tests, which come last or fill a file of their own.
    pub(crate) fn product(&self) -> &str {
        if self.path.ends_with("/tests.rs") || self.path.contains("/tests/") {
            return "";
        }
        self.text.split("#[cfg(test)]\nmod ").next().unwrap_or_default()
    }
}

/// All of them, in the order of their paths.
pub(crate) fn sources() -> Vec<Source> {
    let mut paths = Vec::new();
    SOURCES.iter().for_each(|folder| collect(&root().join(folder), &mut paths));
    assert!(paths.len() > 20, "found only {paths:?}");
    paths.into_iter().map(read).collect()
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
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
