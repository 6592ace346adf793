//! All messages of the control plane and the edge in one file, so that they are read as one text and a changed message
//! shows up in review. `UPDATE_MESSAGES=1 cargo test --test product messages::` writes the file.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::process::Command;

use crate::sources::sources;
use crate::support::literals::{Literal, literals};
use crate::support::snapshot_file::compare;
use crate::support::{binary, root};

/// The programs, and the crates whose errors they pass on.
const CRATES: [(&str, &str); 7] = [
    ("control-plane/src/", "The control plane"),
    ("edge-proxy/src/", "The edge"),
    ("proto/mcp/src/", "MCP on the wire"),
    ("proto/tunnel/src/", "Tunnels"),
    ("proto/delta/src/", "The stream"),
    ("proto/inbound/src/", "Listeners"),
    ("proto/egress/src/", "Egress"),
];

#[test]
fn every_message_is_in_the_file() {
    let mut text = String::new();
    for program in ["trunkline-control-plane", "trunkline-edge-proxy"] {
        let output = Command::new(binary(program)).arg("--help").env_clear().output().unwrap();
        writeln!(text, "==== {program} --help\n{}", String::from_utf8(output.stdout).unwrap()).unwrap();
    }
    for (folder, title) in CRATES {
        let (mut messages, mut logs) = (BTreeSet::new(), BTreeSet::new());
        for source in sources().iter().filter(|source| source.path.starts_with(folder)) {
            let holds_sql = source.path.contains("/store/");
            for literal in literals(source.product()).into_iter().filter(Literal::is_message) {
                let set = if literal.is_log() { &mut logs } else { &mut messages };
                if !holds_sql || literal.is_log() || literal.is_error() {
                    set.insert(literal.text.trim_end().replace('\n', "\n    "));
                }
            }
        }
        for (kind, set) in [("messages", messages), ("log", logs)] {
            if !set.is_empty() {
                let lines: String = set.into_iter().map(|message| message + "\n").collect();
                write!(text, "==== {title}: {kind}\n{lines}\n").unwrap();
            }
        }
    }
    assert!(text.contains("does not exist"), "the sources were not understood: {text}");
    compare(&root().join("tests/messages.txt"), &text, "cargo test --test product messages::");
}
