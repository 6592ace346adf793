//! Who may import whom: between crates by rule, within a crate by the lists of `docs/ARCHITECTURE.md`.
//!
//! A module or an import that is not listed fails, and so does one that is listed and not there, so that the page is
//! what the code is. It starts nothing: `cargo test --test arrows`.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on says so where it stands")]

mod sources;

use std::collections::{BTreeMap, BTreeSet};

use sources::{Source, sources};

/// Modules and what each imports.
type Graph = BTreeMap<String, BTreeSet<String>>;

/// The crates whose modules are listed.
const CRATES: [&str; 2] = ["control-plane", "edge-proxy"];

/// What each folder of sources may know of ours: the contract knows nobody, the protocol only how text is made safe, programs know those and not
/// each other, and `mcpctl dev` assembles the others.
const KNOWN: [(&str, &[&str]); 15] = [
    ("proto/lib.rs", &["trunkline"]),
    ("proto/mcp/src", &["mcp", "printable"]),
    ("proto/tunnel/src", &["tunnel"]),
    ("proto/delta/src", &["trunkline", "delta"]),
    ("proto/inbound/src", &["inbound"]),
    ("proto/egress/src", &["egress"]),
    ("proto/glob/src", &["glob"]),
    ("proto/access/src", &["access", "glob"]),
    ("proto/printable/src", &["printable"]),
    ("proto/startup/src", &["startup"]),
    ("proto/schema/src", &["trunkline", "schema"]),
    (
        "control-plane/src",
        &[
            "trunkline",
            "mcp",
            "tunnel",
            "delta",
            "inbound",
            "egress",
            "glob",
            "access",
            "printable",
            "startup",
            "schema",
            "trunkline_control_plane",
        ],
    ),
    (
        "edge-proxy/src",
        &[
            "trunkline",
            "mcp",
            "tunnel",
            "delta",
            "inbound",
            "egress",
            "glob",
            "access",
            "printable",
            "startup",
            "trunkline_edge_proxy",
        ],
    ),
    ("cli/src/commands/dev.rs", &OURS),
    (
        "cli/src",
        &[
            "trunkline",
            "mcp",
            "tunnel",
            "inbound",
            "egress",
            "glob",
            "access",
            "printable",
            "startup",
            "schema",
            "mcpctl",
        ],
    ),
];

const OURS: [&str; 14] = [
    "trunkline",
    "mcp",
    "tunnel",
    "delta",
    "inbound",
    "egress",
    "glob",
    "access",
    "printable",
    "startup",
    "schema",
    "trunkline_control_plane",
    "trunkline_edge_proxy",
    "mcpctl",
];

/// The code of a file that is compiled into the product, without comments.
fn code(source: &Source) -> String {
    let lines = source.product().lines().filter(|line| !line.trim_start().starts_with("//"));
    lines.collect::<Vec<_>>().join("\n")
}

/// The first segment of every `crate::…` path, groups over many lines included.
fn imports(code: &str) -> BTreeSet<String> {
    let name = |text: &str| -> String {
        text.trim_start().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
    };
    let mut found = BTreeSet::new();
    for (at, path) in code.match_indices("crate::") {
        let rest = &code[at + path.len()..];
        match rest.strip_prefix('{') {
            None => {
                found.insert(name(rest));
            }
            Some(group) => found.extend(members(group).into_iter().map(name)),
        }
    }
    found.remove("");
    found
}

/// The members of a group, up to the brace that ends it.
fn members(group: &str) -> Vec<&str> {
    let (mut depth, mut start, mut found) = (1, 0, Vec::new());
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if depth == 0 || (depth == 1 && c == ',') {
            found.push(&group[start..at]);
            start = at + 1;
        }
        if depth == 0 {
            break;
        }
    }
    found
}

/// What the modules of a crate import. `main` and `lib` only name modules.
fn graph(krate: &str) -> Graph {
    let folder = format!("{krate}/src/");
    let mut graph = Graph::new();
    for source in sources() {
        let Some(inside) = source.path.strip_prefix(&folder) else { continue };
        let module = inside.split(['/', '.']).next().unwrap_or_default().to_owned();
        graph.entry(module).or_default().extend(imports(&code(&source)));
    }
    graph.retain(|module, _| module != "main" && module != "lib");
    let modules: BTreeSet<String> = graph.keys().cloned().collect();
    for (module, imports) in &mut graph {
        imports.retain(|import| import != module && modules.contains(import));
    }
    graph
}

/// How far down a module's imports go; modules of a cycle count once.
fn depth(graph: &Graph, module: &str, above: &mut Vec<String>) -> usize {
    if above.iter().any(|seen| seen == module) {
        return 0;
    }
    above.push(module.to_owned());
    let deepest = graph[module].iter().map(|import| depth(graph, import, above) + 1).max();
    above.pop();
    deepest.unwrap_or(0)
}

/// The list as the page shows it: from the top to the bottom.
fn rendered(graph: &Graph) -> String {
    let mut modules: Vec<_> = graph.keys().collect();
    modules.sort_by_key(|module| (std::cmp::Reverse(depth(graph, module, &mut Vec::new())), *module));
    let line = |module: &String| {
        let imports: Vec<&str> = graph[module].iter().map(String::as_str).collect();
        format!("{module:13}→ {}", imports.join(" ")).trim_end().to_owned()
    };
    modules.into_iter().map(line).collect::<Vec<_>>().join("\n")
}

/// Every set of modules that import each other in a circle.
fn cycles(graph: &Graph) -> Vec<BTreeSet<String>> {
    let reached = |from: &str| {
        let (mut seen, mut next) = (BTreeSet::new(), vec![from.to_owned()]);
        while let Some(module) = next.pop() {
            let new = graph[&module].iter().filter(|import| seen.insert((*import).clone()));
            next.extend(new.cloned().collect::<Vec<_>>());
        }
        seen
    };
    let all: BTreeMap<&String, BTreeSet<String>> =
        graph.keys().map(|module| (module, reached(module))).collect();
    let circles =
        all.iter().filter(|(module, reached)| reached.contains(**module)).map(|(module, reached)| {
            reached.iter().filter(|other| all[other].contains(*module)).cloned().collect::<BTreeSet<_>>()
        });
    circles.collect::<BTreeSet<_>>().into_iter().collect()
}

#[test]
fn modules_import_what_the_architecture_page_lists() {
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/ARCHITECTURE.md")).unwrap();
    for krate in CRATES {
        let start = format!("```text modules of {krate}\n");
        let list = page.split(&start).nth(1).and_then(|rest| rest.split("\n```").next());
        let is = rendered(&graph(krate));
        assert_eq!(
            list.unwrap_or_default(),
            is,
            "docs/ARCHITECTURE.md must list {krate} so:\n{start}{is}\n```\n"
        );
    }
}

#[test]
fn modules_import_each_other_in_no_circle() {
    for krate in CRATES {
        assert_eq!(cycles(&graph(krate)), [], "{krate}");
    }
}

#[test]
fn nobody_imports_app() {
    for krate in CRATES {
        let importers: Vec<_> =
            graph(krate).into_iter().filter(|(_, imports)| imports.contains("app")).collect();
        assert_eq!(importers, [], "only main may know app, in {krate}");
    }
}

#[test]
fn crates_know_only_whom_they_may() {
    let mut found = Vec::new();
    for source in sources() {
        let (_, known) = KNOWN.iter().find(|(start, _)| source.path.starts_with(start)).unwrap();
        let code = code(&source);
        let strangers = OURS.iter().filter(|name| !known.contains(name) && mentions(&code, name));
        found.extend(strangers.map(|name| format!("{}: {name}", source.path)));
    }
    assert!(found.is_empty(), "imports of a crate that must not be known:\n  {}", found.join("\n  "));
}

/// Whether a path of this crate is used: `name::…` where `name` stands alone, and is no module of the file's own.
fn mentions(code: &str, name: &str) -> bool {
    let path = format!("{name}::");
    let is_own = code.lines().any(|line| line.trim_end().ends_with(&format!("mod {name};")));
    let is_imported = code.match_indices(&format!("::{name};")).next().is_some();
    !is_own
        && !is_imported
        && code.match_indices(&path).any(|(at, _)| {
            let before = code[..at].chars().next_back();
            !before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':')
        })
}

#[test]
fn imports_are_found_however_they_are_written() {
    let code = "use crate::a::B;\nuse crate::{\n    c::{D, e::F},\n    g,\n};\nfn x() { crate::h::i() }\n";
    assert_eq!(imports(code), ["a", "c", "g", "h"].map(str::to_owned).into());
}

#[test]
fn a_planted_circle_is_found() {
    let graph: Graph = [("a", vec!["b"]), ("b", vec!["c"]), ("c", vec!["a", "d"]), ("d", vec![])]
        .map(|(module, imports)| (module.to_owned(), imports.into_iter().map(str::to_owned).collect()))
        .into();
    assert_eq!(cycles(&graph), [["a", "b", "c"].map(str::to_owned).into()]);
    assert_eq!(depth(&graph, "d", &mut Vec::new()), 0);
}

#[test]
fn a_planted_import_of_a_stranger_is_found() {
    assert!(mentions("let x = mcp::json::quote(\"\");", "mcp"));
    assert!(!mentions("let x = our_mcp::json;", "mcp"));
}
