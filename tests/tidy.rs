//! Our own rules, kept true: what every file opens with, what the documents must name. `arrows.rs` has who may import whom.

use std::collections::BTreeMap;
use std::process::Command;

use mcp::quirk::Quirk;

use crate::sources::{Source, sources};
use crate::support::gateway::{Gateway, Store};
use crate::support::{binary, root};

/// Longer than this, and a file does two things.
const MAX_LINES: usize = 500;

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

/// The options of a program and of its subcommands, from its own help.
fn options(program: &str, path: &[String], into: &mut BTreeMap<String, String>) {
    let output = Command::new(binary(program)).args(path).arg("--help").output().unwrap();
    let help = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{program} {path:?} --help: {}", output.status);
    let mut commands = false;
    for line in help.lines() {
        if !line.starts_with(' ') {
            commands = line.starts_with("Commands");
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
    let commands = std::fs::read_to_string(root().join("docs/COMMANDS.md")).unwrap();
    let text = operations() + &commands;
    let missing = found
        .into_iter()
        .filter(|(option, _)| !matches!(option.as_str(), "--help" | "--version"))
        .filter(|(option, _)| !["`", " ", "["].iter().any(|end| text.contains(&format!("`{option}{end}"))))
        .map(|(option, of)| format!("{option} of {of}"));
    none("options that neither docs/OPERATIONS.md nor docs/COMMANDS.md names", missing.collect());
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

/// The page says of each quirk what the programs say, and of no other.
#[test]
fn every_quirk_is_documented() {
    let text = operations();
    let page = text.split_once("### Servers that misbehave").expect("the page").1;
    let page = page.split_once("\n### ").map_or(page, |(page, _)| page);
    let table = page.split_once("| quirk | the server | Trunkline |\n|---|---|---|\n").expect("the table").1;
    let table = table.split_once("\n\n").map_or(table, |(table, _)| table);
    let rows = Quirk::ALL.iter().map(|quirk| {
        let (name, text, cure) = (quirk.as_str(), quirk.text(), quirk.cure());
        format!("| `{name}` | {text} | {cure} |")
    });
    let rows: Vec<String> = rows.collect();
    assert_eq!(table.lines().collect::<Vec<_>>(), rows, "the table must be:\n{}", rows.join("\n"));
}

/// Loose files that a crate may have beside its rooms.
const MAX_LOOSE: usize = 6;

#[test]
fn a_crate_has_rooms_and_few_loose_files() {
    let folder = "edge-proxy/src/";
    let loose = sources().into_iter().filter_map(|source| {
        let inside = source.path.strip_prefix(folder)?.to_owned();
        (!inside.contains('/')).then_some(inside)
    });
    let loose: Vec<_> = loose.collect();
    assert!(loose.len() <= MAX_LOOSE, "too many loose files in {folder}: {}", loose.join(" "));
}

/// Names that several modules of a crate may declare, and why.
const SHARED_NAMES: [(&str, &str); 3] = [
    // The arguments of each subcommand, always named by its module, as clap's own examples do.
    ("cli/src/", "Args"),
    // The input and output of each half of the stream, which no module uses both of.
    ("proto/delta/src/", "Event"),
    ("proto/delta/src/", "Action"),
];

/// The name of the type that a line declares for other modules.
fn declared(line: &str) -> Option<&str> {
    let rest = line.trim_start().strip_prefix("pub")?;
    let rest = match rest.strip_prefix('(') {
        Some(restricted) => restricted.split_once(')')?.1,
        None => rest,
    };
    let (keyword, rest) = rest.strip_prefix(' ')?.split_once(' ')?;
    let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
    matches!(keyword, "struct" | "enum" | "trait" | "type" | "union").then_some(&rest[..end])
}

#[test]
fn one_name_is_one_type() {
    let mut found: BTreeMap<(String, String), Vec<String>> = BTreeMap::new();
    for source in sources() {
        let Some((folder, _)) = source.path.split_once("src/") else { continue };
        let mut names: Vec<&str> = source.product().lines().filter_map(declared).collect();
        names.sort_unstable();
        names.dedup();
        for name in names {
            let key = (format!("{folder}src/"), name.to_owned());
            found.entry(key).or_default().push(source.path.clone());
        }
    }
    let may_be_shared = |krate: &str, name: &str| SHARED_NAMES.contains(&(krate, name));
    let repeated =
        found.into_iter().filter(|((krate, name), files)| files.len() > 1 && !may_be_shared(krate, name));
    none(
        "names that several modules of a crate declare",
        repeated.map(|((_, name), files)| format!("{name}: {}", files.join(" "))).collect(),
    );
}

#[test]
fn declarations_are_found_whatever_their_visibility() {
    for line in
        ["pub struct A;", "    pub(crate) enum A {", "pub(in crate::x) type A<'a> = B;", "pub trait A: B {"]
    {
        assert_eq!(declared(line), Some("A"), "{line}");
    }
    for line in ["struct A;", "pub fn a() {}", "pub use a::A;", "publish(a)"] {
        assert_eq!(declared(line), None, "{line}");
    }
}

/// Where messages are parsed and not mended, and why that takes nothing from odd peers.
const PARSED_ONLY: [(&str, &str); 28] = [
    ("cli/src/bridge/connect/connection.rs", "the line was read in `connect`"),
    ("cli/src/bridge/connect/relay.rs", "the peer is one of our edges"),
    ("cli/src/bridge/connect/session.rs", "the peer is one of our edges"),
    ("cli/src/bridge/expose/handshake.rs", "`child_output` has mended it"),
    ("cli/src/bridge/expose/multiplexer.rs", "`child_output` mends what this refuses"),
    ("edge-proxy/src/builtin/listen/task_polling.rs", "the call that it makes has mended it"),
    ("edge-proxy/src/request/approval.rs", "a client's message, read by `transport`"),
    ("edge-proxy/src/upstream/mcp/channel/claim.rs", "`dispatcher` has mended it"),
    (
        "edge-proxy/src/upstream/mcp/legacy_on_modern/input_required.rs",
        "a client's message, read by `transport`",
    ),
    ("edge-proxy/src/upstream/mcp/legacy_on_modern/translator.rs", "`incoming` mends what this refuses"),
    ("edge-proxy/src/upstream/mcp/mod.rs", "a client's message, read by `transport`"),
    ("edge-proxy/src/upstream/mcp/modern_on_legacy/held_open.rs", "it was translated"),
    ("edge-proxy/src/upstream/mcp/modern_on_legacy/task_handoff.rs", "`response` has mended it"),
    ("edge-proxy/src/upstream/mcp/modern_on_legacy/task_polling.rs", "`response` has mended it"),
    ("edge-proxy/src/upstream/mcp/modern_on_legacy/translator.rs", "`incoming` mends what this refuses"),
    ("edge-proxy/src/upstream/mcp/outcome.rs", "it was translated"),
    ("edge-proxy/src/upstream/mcp/relayed_stream.rs", "another edge has translated it"),
    ("edge-proxy/src/upstream/mcp/rewrite/content.rs", "it was translated"),
    ("edge-proxy/src/upstream/mcp/rewrite/masks.rs", "`incoming` mends what this refuses"),
    ("edge-proxy/src/upstream/mcp/rewrite/requests.rs", "a client's message, read by `transport`"),
    ("edge-proxy/src/upstream/mcp/rewrite/tasks.rs", "it was translated"),
    ("edge-proxy/src/upstream/mcp/same_legacy/translator.rs", "`incoming` mends what this refuses"),
    ("edge-proxy/src/upstream/mcp/same_modern/translator.rs", "`incoming` mends what this refuses"),
    ("edge-proxy/src/upstream/mcp/session/handshake.rs", "`response` has mended it"),
    ("edge-proxy/src/upstream/mcp/session/server_stream.rs", "`event_stream` has mended it"),
    ("edge-proxy/src/upstream/mcp/subscription.rs", "`event_stream` or `dispatcher` has mended it"),
    ("proto/mcp/src/client/answer.rs", "`http` has mended it"),
    ("proto/mcp/src/client/channel.rs", "`http` has mended it"),
];

/// Whoever parses a message that a peer has sent has it mended where that fails, or is in the list above: otherwise one odd peer is
/// taken in one place and refused in another.
#[test]
fn what_a_peer_sends_is_mended_where_it_is_first_read() {
    let parses = |source: &Source| source.product().contains("Envelope::parse(");
    let mends = |source: &Source| ["mend(", "mended("].iter().any(|word| source.product().contains(word));
    let found: Vec<String> = sources()
        .into_iter()
        .filter(|source| parses(source) && !mends(source))
        .map(|source| source.path)
        .collect();
    let known = |path: &str| PARSED_ONLY.iter().any(|(known, _)| *known == path);
    none(
        "files that parse messages and mend none: mend them with `mcp::border::mend`, or say in `PARSED_ONLY` who did",
        found.iter().filter(|path| !known(path)).cloned().collect(),
    );
    let gone =
        PARSED_ONLY.iter().map(|(path, _)| *path).filter(|path| !found.iter().any(|found| found == path));
    none("files in `PARSED_ONLY` that parse nothing, or mend", gone.map(str::to_owned).collect());
}
