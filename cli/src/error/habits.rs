//! What those who live in kubectl type, and what says the same here. Pure.

/// The options that choose a namespace.
const NAMESPACES: &[&str] = &["-A", "--all-namespaces", "-n", "--namespace"];

/// Commands of kubectl by the command that they stand below, and what to use in their place.
const COMMANDS: &[(&str, &[&str], &str)] = &[
    ("mcpctl", &["label"], "labels are set by `mcpctl update KIND NAME --label KEY=VALUE`"),
    ("mcpctl", &["annotate"], "annotations are set in `meta.annotations`, with `mcpctl edit KIND NAME`"),
    (
        "mcpctl",
        &["logs", "events"],
        "`mcpctl describe upstream NAME` tells what became of an upstream, and `mcpctl usage` counts calls; the control plane and \
         the edges log where they run",
    ),
    ("mcpctl", &["api-versions"], "`mcpctl version` tells what runs, and `mcpctl explain` lists the kinds"),
    ("mcpctl", &["rollout"], "wait until every edge has it with `mcpctl wait KIND NAME --for synced`"),
    (
        "mcpctl",
        &["cluster-info"],
        "`mcpctl doctor` checks the gateway, and `mcpctl config get-contexts` says where it is",
    ),
    ("mcpctl", &["exec", "attach", "debug"], "a tool is called with `mcpctl call SERVER TOOL`"),
    (
        "mcpctl",
        &["port-forward", "proxy"],
        "a host that speaks stdio is connected by `mcpctl connect SERVER`",
    ),
    ("mcpctl", &["run"], "a command becomes an upstream with `mcpctl expose --register NAME -- COMMAND`"),
    ("mcpctl", &["auth"], "`mcpctl describe token NAME` tells what a token may use"),
    ("mcpctl", &["patch", "set", "scale"], "fields are changed with `mcpctl update KIND NAME`"),
    ("mcpctl", &["replace"], "a file replaces what is stored with `mcpctl apply -f FILE`"),
    ("mcpctl", &["kustomize"], "`mcpctl apply -f` reads files, folders and patterns"),
    ("mcpctl", &["approve"], "a call is approved with `mcpctl approvals approve ID`"),
    ("mcpctl", &["deny", "reject"], "a call is denied with `mcpctl approvals deny ID`"),
    ("mcpctl approvals", &["get", "describe"], "use `mcpctl approvals show ID`, or `mcpctl approvals list`"),
    ("mcpctl approvals", &["reject", "refuse"], "use `mcpctl approvals deny ID`"),
    ("mcpctl approvals", &["watch"], "use `mcpctl approvals list --watch`"),
    (
        "mcpctl audit",
        &["list", "get"],
        "`mcpctl audit` lists them itself; --resource, --actor and --tail narrow it",
    ),
    ("mcpctl config", &["set-credentials"], "use `mcpctl config set-context NAME --admin-token-file FILE`"),
    (
        "mcpctl config",
        &["set-cluster", "set"],
        "use `mcpctl config set-context NAME --control URL --edge URL`",
    ),
    ("mcpctl config", &["get-clusters", "get-users"], "use `mcpctl config get-contexts`"),
    ("mcpctl config", &["delete-cluster", "delete-user"], "use `mcpctl config delete-context NAME`"),
];

/// Options of kubectl, and what to use in their place.
const OPTIONS: &[(&[&str], &str)] = &[
    (NAMESPACES, "there are no namespaces here: leave it out, and use a context for each gateway"),
    (&["--kubeconfig"], "use --config"),
    (
        &["--show-labels", "-L", "--label-columns"],
        "use -o wide, or -o custom-columns=NAME:.name,TEAM:.labels.team",
    ),
    (&["--field-selector"], "use --filter"),
    (&["--ignore-not-found", "--grace-period", "--now"], "leave it out"),
    (&["-R", "--recursive"], "leave it out: folders are read with all that is in them"),
    (&["--request-timeout"], "use --timeout"),
    (
        &["--server-side", "--force-conflicts", "--field-manager"],
        "use --set to say whose resources these are",
    ),
];

/// Returns what to use in the place of a command or an option of kubectl. `path`: the command that it stands below.
pub(super) fn counterpart(path: &str, word: &str) -> Option<&'static str> {
    let command = COMMANDS.iter().find(|(below, words, _)| *below == path && words.contains(&word));
    let option = OPTIONS.iter().find(|(words, _)| words.contains(&word));
    command.map(|(_, _, hint)| *hint).or(option.map(|(_, hint)| *hint))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_offered_exists_and_what_is_not_offered_does_not() {
        let root = crate::args::command();
        let find = |path: &str| {
            path.split(' ').skip(1).try_fold(&root, |command, word| command.find_subcommand(word))
        };
        let hints = COMMANDS.iter().map(|(.., hint)| hint);
        for hint in hints.chain(OPTIONS.iter().map(|(_, hint)| hint)) {
            for line in hint.split('`').skip(1).step_by(2).filter(|line| line.starts_with("mcpctl ")) {
                let verb = line.split(' ').nth(1).unwrap();
                assert!(find(&format!("mcpctl {verb}")).is_some(), "{hint}");
            }
        }
        for (below, words, _) in COMMANDS {
            for word in *words {
                assert!(find(below).unwrap().find_subcommand(word).is_none(), "{below} {word}");
            }
        }
    }
}
