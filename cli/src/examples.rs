//! The examples in the help of every command. Each is a command line that this program reads; a test holds them to that.

mod people;

use clap::Command;

use self::people::PEOPLE;

/// The path of a command, and its examples: what for, and the command line.
pub type Examples = (&'static str, &'static [(&'static str, &'static str)]);

const EXAMPLES: &[Examples] = &[
    (
        "dev",
        &[
            ("A gateway on this machine", "mcpctl dev"),
            (
                "A second one beside it",
                "mcpctl dev --data-dir other --edge-listen 127.0.0.1:5444 --control-listen 127.0.0.1:5445 --ops-listen 127.0.0.1:5446",
            ),
        ],
    ),
    (
        "get",
        &[
            ("All upstreams", "mcpctl get upstreams"),
            ("The tools of one upstream", "mcpctl get tools time"),
            ("One server as a file for apply", "mcpctl get server dev -o yaml"),
            ("Those with a label", "mcpctl get upstreams -l team=core"),
            ("Those that are not ready", "mcpctl get upstreams --filter 'NOT status.state = READY'"),
            ("All that people made", "mcpctl get all"),
            ("The sets of apply", "mcpctl get sets"),
            ("Who is in a team", "mcpctl get members core"),
            ("One field of each", "mcpctl get upstreams -o jsonpath='{.http.url}'"),
            (
                "Columns of your own, the newest last",
                "mcpctl get upstreams --sort-by .meta.createTime -o custom-columns=NAME:.name,TEAM:.labels.team",
            ),
            ("With a column for a label", "mcpctl get upstreams -L team"),
            ("By what -o name prints", "mcpctl get upstreams/time servers/dev"),
        ],
    ),
    (
        "describe",
        &[
            ("An upstream with its catalogue", "mcpctl describe upstream time"),
            ("What a token may reach", "mcpctl describe tokens/laptop"),
            ("Its document alone", "mcpctl describe upstream time -o yaml"),
        ],
    ),
    (
        "create",
        &[
            (
                "An upstream, a server with its tools, and a token for it",
                "mcpctl create upstream docs --url https://docs.example/mcp",
            ),
            ("", "mcpctl create server dev --tool 'docs/*'"),
            ("", "mcpctl create token laptop --server dev"),
        ],
    ),
    (
        "create upstream",
        &[
            (
                "A server with a URL",
                "mcpctl create upstream docs --url https://docs.example/mcp --bearer-file token",
            ),
            ("A command is exposed instead", "mcpctl expose --register time -- uvx mcp-server-time"),
        ],
    ),
    (
        "create server",
        &[
            (
                "All tools of one upstream, and one of another",
                "mcpctl create server dev --tool 'time/*' --tool git/git_status",
            ),
            ("One tool under another name", "mcpctl create server dev --tool time/get_current_time=now"),
        ],
    ),
    (
        "create token",
        &[
            ("All of a server", "mcpctl create token laptop --server dev"),
            ("Some tools, for 90 days", "mcpctl create token ci --server dev --tool 'time_*' --expires 90d"),
            (
                "For a workload, by its client certificate",
                "mcpctl create token agent --server dev --certificate spiffe://example.org/ns/prod/sa/agent",
            ),
            (
                "From one network, in office hours, and not too much",
                "mcpctl create token ci --server dev --from 10.0.0.0/8 --window 'Mon-Fri 08:00-18:00 Europe/Berlin' --rate 5/s --quota '10000/month per tool'",
            ),
        ],
    ),
    (
        "create tool",
        &[(
            "A tool that its upstream does not list",
            "mcpctl create tool time/hidden --definition @tool.json",
        )],
    ),
    (
        "create resource",
        &[(
            "A resource that its upstream does not list",
            "mcpctl create resource files/file:///a --definition @resource.json",
        )],
    ),
    (
        "create prompt",
        &[(
            "A prompt that its upstream does not list",
            "mcpctl create prompt docs/review --definition @prompt.json",
        )],
    ),
    (
        "create join-token",
        &[
            ("For one edge within an hour", "mcpctl create join-token"),
            ("For any number of edges", "mcpctl create join-token --max-uses 0 --ttl 30d"),
        ],
    ),
    (
        "edit",
        &[
            ("In the editor of VISUAL or EDITOR, or else vi", "mcpctl edit server dev"),
            ("An upstream; secrets are not shown, and stay", "mcpctl edit upstream time"),
        ],
    ),
    (
        "update",
        &[
            ("Another URL", "mcpctl update upstream docs --url https://docs2.example/mcp"),
            ("A label on all of a team", "mcpctl update upstream -l team=core --label tier=1"),
            ("Several at once", "mcpctl update upstream docs time --disabled"),
        ],
    ),
    (
        "update upstream",
        &[
            ("Another URL", "mcpctl update upstream docs --url https://docs2.example/mcp"),
            (
                "One header more, and one less",
                "mcpctl update upstream docs --header X-Team=core --header X-Old-",
            ),
            ("Without a credential", "mcpctl update upstream docs --clear credential"),
        ],
    ),
    ("update server", &[("Other members", "mcpctl update server dev --tool 'time/*' --tool 'docs/*'")]),
    ("update token", &[("Other tools", "mcpctl update token ci --tool time_get_current_time")]),
    (
        "update tool",
        &[
            ("Out of service", "mcpctl update tool time/get_current_time --disabled"),
            ("In service again", "mcpctl update tool time/get_current_time --disabled=false"),
            (
                "Another description than its upstream has",
                "mcpctl update tool time/get_current_time --definition @tool.json",
            ),
        ],
    ),
    (
        "update resource",
        &[
            ("Out of service", "mcpctl update resource files/file:///a --disabled"),
            ("In service again", "mcpctl update resource files/file:///a --disabled=false"),
        ],
    ),
    (
        "update prompt",
        &[
            ("Out of service", "mcpctl update prompt docs/review --disabled"),
            ("In service again", "mcpctl update prompt docs/review --disabled=false"),
        ],
    ),
    (
        "wait",
        &[
            ("Until an upstream answers", "mcpctl wait upstream time --for state=ready --timeout 2m"),
            ("Until every edge has a server", "mcpctl wait server dev --for synced"),
            ("Until a field has a value", "mcpctl wait upstream time --for jsonpath='{.status.toolCount}'=2"),
            ("Until tokens are gone", "mcpctl wait token laptop ci --for deleted"),
            ("Until every edge has what is in files", "mcpctl wait -f team/ --for synced"),
            ("Until all upstreams of a team answer", "mcpctl wait upstreams -l team=core --for state=ready"),
        ],
    ),
    (
        "delete",
        &[
            ("Two tokens", "mcpctl delete token laptop ci"),
            ("An upstream that servers refer to", "mcpctl delete upstream time --force"),
            ("All of a team, after a question", "mcpctl delete tokens -l team=core"),
            ("What is left of files, in a script", "mcpctl delete -f team/ --ignore-not-found --yes"),
        ],
    ),
    (
        "revoke",
        &[
            ("On every edge within a second", "mcpctl revoke token laptop"),
            ("Several at once", "mcpctl revoke token laptop ci"),
            ("All API keys of a service account", "mcpctl revoke api-key ci/-"),
            ("Wherever somebody is signed in", "mcpctl revoke session users/ann@example.org/sessions/-"),
        ],
    ),
    ("refresh", &[("Fetch its catalogue now", "mcpctl refresh upstream time")]),
    (
        "probe",
        &[
            ("A URL, before it is registered", "mcpctl probe https://docs.example/mcp"),
            ("An upstream", "mcpctl probe time"),
        ],
    ),
    ("lint", &[("What all upstreams should mend", "mcpctl lint")]),
    (
        "apply",
        &[
            ("Every file in a folder", "mcpctl apply -f team/"),
            ("What would change", "mcpctl apply -f team.yaml --dry-run"),
            ("Files of a pattern, in a set of their own", "mcpctl apply -f 'team/*.yaml' --set team"),
            ("From another program", "mcpctl export | mcpctl apply -f -"),
            (
                "JSON, one document after the other",
                "mcpctl get servers -o json | jq '.[]' | mcpctl apply -f -",
            ),
        ],
    ),
    (
        "diff",
        &[
            ("What apply would change", "mcpctl diff -f team/"),
            ("What apply --prune would, of a set", "mcpctl diff -f team/ --set team --prune"),
        ],
    ),
    (
        "explain",
        &[
            ("The kinds", "mcpctl explain"),
            ("A part of one", "mcpctl explain upstream.credential"),
            ("All fields of one", "mcpctl explain servers --recursive"),
            ("A file to begin with", "mcpctl explain upstream --example > upstream.yaml"),
        ],
    ),
    ("schema", &[("For an editor", "mcpctl schema --write trunkline.json")]),
    (
        "export",
        &[
            ("Everything, for apply here", "mcpctl export > all.yaml"),
            (
                "For another gateway, with variables for the secrets",
                "mcpctl export --secrets-from-env > all.yaml",
            ),
        ],
    ),
    (
        "top",
        &[
            ("Upstreams, those called most first", "mcpctl top"),
            ("Tokens, again and again", "mcpctl top tokens -w"),
        ],
    ),
    (
        "usage",
        &[
            ("The calls of a week", "mcpctl usage --since 7d"),
            ("What nobody has used for a month", "mcpctl usage --unused --since 30d"),
        ],
    ),
    (
        "call",
        &[
            ("The tools and their arguments", "mcpctl call dev"),
            ("One of them", "mcpctl call dev get_current_time timezone=UTC"),
            ("With arguments from a file", "mcpctl call dev get_current_time --args @arguments.json"),
            ("What a tool takes", "mcpctl call dev get_current_time --help"),
            ("With images into a folder", "mcpctl call dev plot --save pictures"),
            (
                "With a bearer that you were given",
                "mcpctl call dev get_current_time timezone=UTC --bearer-file bearer",
            ),
        ],
    ),
    (
        "read",
        &[
            ("The resources", "mcpctl read dev"),
            ("One of them, into a file", "mcpctl read dev files+file:///a > a"),
        ],
    ),
    (
        "prompt",
        &[
            ("The prompts and their arguments", "mcpctl prompt dev"),
            ("One of them", "mcpctl prompt dev docs_review style=short"),
        ],
    ),
    ("ping", &[("Whether it answers, and how fast", "mcpctl ping dev")]),
    (
        "client-config",
        &[
            ("What to paste into a host's file", "mcpctl client-config dev --for cursor"),
            ("Into the host's own file", "mcpctl client-config dev --for claude-desktop --write"),
            (
                "Into that of a project",
                "mcpctl client-config dev --for vscode --write --file .vscode/mcp.json",
            ),
            ("Out of it again", "mcpctl client-config dev --for claude-desktop --remove"),
            ("The hosts of this machine", "mcpctl client-config --list"),
        ],
    ),
    (
        "expose",
        &[
            (
                "A command as an upstream of the gateway",
                "mcpctl expose --register time -- uvx mcp-server-time",
            ),
            (
                "On a laptop that the gateway cannot reach",
                "mcpctl expose --register time --connect -- uvx mcp-server-time",
            ),
        ],
    ),
    ("connect", &[("What a host runs that speaks only stdio", "mcpctl connect dev")]),
    (
        "import",
        &[
            ("What would be imported", "mcpctl import claude_desktop_config.json --dry-run"),
            ("One server of a file", "mcpctl import ~/.cursor/mcp.json --only time"),
            (
                "One of two of the same name, under another",
                "mcpctl import ~/.claude.json --only projects./srv/app.mcpServers.db --as app-db",
            ),
            ("Those of Codex, after a look at what changes", "mcpctl import ~/.codex/config.toml --replace"),
        ],
    ),
    (
        "config",
        &[("The contexts", "mcpctl config get-contexts"), ("Another one", "mcpctl config use-context prod")],
    ),
    ("config get-contexts", &[("Names alone", "mcpctl config get-contexts -o name")]),
    ("config current-context", &[("Its name", "mcpctl config current-context")]),
    ("config use-context", &[("Another gateway from now on", "mcpctl config use-context prod")]),
    (
        "config set-context",
        &[
            (
                "A gateway",
                "mcpctl config set-context prod --control https://control.example:4445 --edge https://mcp.example --admin-token-file admin-token",
            ),
            ("Without the admin token", "mcpctl config set-context prod --clear admin-token"),
        ],
    ),
    ("config view", &[("All gateways, as they are kept", "mcpctl config view")]),
    ("config rename-context", &[("Another name", "mcpctl config rename-context prod production")]),
    ("config delete-context", &[("A gateway that is gone", "mcpctl config delete-context old")]),
    (
        "config set-bearer",
        &[
            ("Asked for, and not shown", "mcpctl config set-bearer laptop --server dev"),
            ("From a file", "mcpctl config set-bearer --file bearer"),
        ],
    ),
    (
        "config delete-bearer",
        &[("One that is of no use any more", "mcpctl config delete-bearer old-laptop --yes")],
    ),
    ("config get-bearer", &[("For a program", "mcpctl config get-bearer laptop")]),
    (
        "doctor",
        &[
            ("What works between here and the tools, and what does not", "mcpctl doctor"),
            ("For a program", "mcpctl doctor -o json"),
        ],
    ),
    (
        "completion",
        &[
            ("In bash, for this session", "source <(mcpctl completion bash)"),
            ("In fish", "mcpctl completion fish | source"),
        ],
    ),
    (
        "man",
        &[
            ("The page of mcpctl", "mcpctl man | man -l -"),
            ("A page for every command", "mcpctl man --write ~/.local/share/man/man1"),
        ],
    ),
];

/// All of them.
fn all() -> impl Iterator<Item = &'static Examples> {
    EXAMPLES.iter().chain(PEOPLE)
}

/// The examples of a command.
pub fn of(path: &str) -> Option<&'static [(&'static str, &'static str)]> {
    all().find(|(known, _)| *known == path).map(|(_, examples)| *examples)
}

/// Adds the examples to the help of every command.
pub fn add(mut command: Command) -> Command {
    for (path, examples) in all() {
        let words: Vec<_> = path.split(' ').collect();
        command = at(command, &words, &render(examples));
    }
    command
}

fn at(command: Command, path: &[&str], text: &str) -> Command {
    match path {
        [] => command.after_help(text.to_owned()),
        [first, rest @ ..] => command.mut_subcommand(first, |inner| at(inner, rest, text)),
    }
}

fn render(examples: &[(&str, &str)]) -> String {
    let lines = examples.iter().map(|(what, line)| match *what {
        "" => format!("  {line}\n"),
        what => format!("  # {what}\n  {line}\n"),
    });
    format!("Examples:\n{}", lines.collect::<String>())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;
    use crate::args::Args;
    use crate::complete::line::split;

    #[test]
    fn every_example_is_read() {
        for (path, examples) in all() {
            assert!(examples.iter().all(|(_, line)| line.contains("mcpctl ")), "{path}");
            assert!(!examples.is_empty(), "{path}");
            for line in examples.iter().flat_map(|(_, line)| line.split(" | ")) {
                // What belongs to the shell stands around it.
                let Some(start) = line.find("mcpctl ") else { continue };
                let line = line[start..].split(" > ").next().unwrap_or_default().trim_end_matches(')');
                let read = Args::command().try_get_matches_from(split(line).0);
                assert!(read.is_ok(), "{line}: {}", read.unwrap_err());
            }
        }
    }

    #[test]
    fn every_command_has_examples() {
        fn check(command: &Command, path: &str, missing: &mut Vec<String>) {
            for inner in command.get_subcommands().filter(|inner| !inner.is_hide_set()) {
                let path = format!("{path} {}", inner.get_name());
                if of(path.trim()).is_none() {
                    missing.push(path.trim().to_owned());
                }
                check(inner, &path, missing);
            }
        }
        let mut missing = Vec::new();
        check(&Args::command(), "", &mut missing);
        missing.retain(|path| !matches!(path.as_str(), "version" | "options"));
        assert!(missing.is_empty(), "without examples: {missing:?}");
    }
}
