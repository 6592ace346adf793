//! All messages of `mcpctl` in one file, so that they are read as one text and a changed message shows up in review.
//! `UPDATE_MESSAGES=1 cargo test -p mcpctl --test messages` writes the file.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

#[path = "../../tests/support/literals.rs"]
#[expect(dead_code, reason = "the other messages need more of it")]
mod literals;
#[path = "../../tests/support/snapshot_file.rs"]
mod snapshot_file;

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use mcpctl::args;
use mcpctl::commands::options;
use mcpctl::error::Error;
use tonic::{Code, Status};

/// Resource files that are wrong.
const WRONG_FILES: [&str; 11] = [
    "- word",
    "kind: [",
    "name: time",
    "kind: 1",
    "kind: Upsteam",
    "kind: Upstream",
    "kind: Upstream\nname: a/b",
    "kind: Tool\nname: now",
    "kind: Upstream\nname: time\nhttp: {ur: x}",
    "kind: Upstream\nname: time\nhttp: x",
    "kind: Upstream\nname: time\nrequestTimeout: soon",
];

/// Command lines that fail without a gateway.
const FAILING: [&str; 26] = [
    "get",
    "get upstreams",
    "get nonsense",
    "get upstreams --timeout soon",
    "get upstreams --context other",
    "call dev now",
    "config current-context",
    "config get-bearer laptop",
    "config use-context other",
    "config set-context bad --edge ftp://x",
    "config set-context here --control http://127.0.0.1:1 --edge http://127.0.0.1:1",
    "get upstreams",
    "call dev now",
    "create upstream a",
    "create upstream a/b --url http://x",
    "create upstream a --url http://x --basic word",
    "create upstream a --url http://x --bearer-file gone",
    "create upstream a --url http://x --label word",
    "create token a",
    "create token a --server dev --expires soon",
    "create tool now --definition {}",
    "update server a",
    "import gone.json",
    "import wrong.json",
    "expose -- no-such-command",
    "expose --env-from-header A -- true",
];

#[test]
fn every_message_is_in_the_file() {
    let mut text = help();
    text.push_str("==== Failures\n");
    text.push_str(&failures());
    text.push_str("\n==== Wrong files\n");
    for file in WRONG_FILES {
        let error = mcpctl::manifest::parse("FILE", file).unwrap_err();
        writeln!(text, "{file:?}\n    {error}").unwrap();
    }
    text.push_str("\n==== Responses of the control plane, by code\n");
    for code in (1..=16).map(Code::from) {
        let error = Error::from_status(&Status::new(code, "MESSAGE"), "URL");
        writeln!(text, "{code:?}: {error} [exit code {}]", error.exit as u8).unwrap();
    }
    text.push_str("\n==== Everything that is printed\n");
    for message in printed() {
        writeln!(text, "{message}").unwrap();
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/messages.txt");
    snapshot_file::compare(&path, &text, "cargo test -p mcpctl --test messages");
}

/// Renders the help of every command. The global options are in the first one only.
fn help() -> String {
    let mut command = args::command().term_width(100);
    command.build();
    let mut text = format!("==== mcpctl\n{}\n", command.render_long_help());
    writeln!(text, "==== mcpctl options\n{}", options::render(&command)).unwrap();
    add_help(&mut command, "mcpctl", &mut text);
    text
}

fn add_help(command: &mut clap::Command, path: &str, text: &mut String) {
    for command in command.get_subcommands_mut().filter(|command| command.get_name() != "help") {
        let path = format!("{path} {}", command.get_name());
        let help = command.render_long_help().to_string();
        let own = help.split("\nGlobal options:").next().unwrap_or_default().trim_end();
        writeln!(text, "==== {path}\n{own}\n").unwrap();
        add_help(command, &path, text);
    }
}

/// Runs the failing command lines in order. Returns their messages and exit codes.
fn failures() -> String {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("wrong.json"), "{}").unwrap();
    let mut text = String::new();
    for line in FAILING {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mcpctl"));
        command.args(line.split(' ')).current_dir(folder.path()).env_clear();
        command.env("MCPCTL_CONFIG", "mcpctl.yaml").env("HOME", "home").env("PATH", "").stdin(Stdio::null());
        let output = command.output().unwrap();
        let message = String::from_utf8(output.stderr).unwrap();
        let code = output.status.code().unwrap();
        writeln!(text, "$ mcpctl {line}\n{}[exit code {code}]", message).unwrap();
    }
    text
}

/// Collects the texts in the sources.
fn printed() -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("src")];
    while let Some(folder) = folders.pop() {
        for path in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs")
                && !path.ends_with("examples.rs")
            {
                let source = std::fs::read_to_string(path).unwrap();
                let product = source.split("#[cfg(test)]\nmod ").next().unwrap_or_default();
                let texts = literals::literals(product).into_iter().filter(literals::Literal::is_message);
                found.extend(texts.map(|literal| literal.text.trim_end().replace('\n', "\n    ")));
            }
        }
    }
    found
}
