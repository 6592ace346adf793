//! What nobody means by a rule is told where it stands, and what names nothing that there is.

use std::collections::HashSet;

use access::rule::{Known, Program};

/// What is told to who writes it in a rule of `servers/files` about two methods.
fn told(text: &str, server: &str) -> String {
    let program = Program::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
    let known = Known { server, methods: &["tools/call", "prompts/get"] };
    program.vain(known).map(|error| error.to_string()).unwrap_or_default()
}

#[test]
fn what_nobody_means_is_told_where_it_stands() {
    for (text, expected) in [
        (
            "caller.name == 'users/bob@example.org'",
            "column 13: this is always false: the name of who calls has no /; write \"bob@example.org\"",
        ),
        (
            "'tokens/ci' != caller.name",
            "column 13: this is always true: the name of who calls has no /; write \"ci\"",
        ),
        (
            "caller.name in ['ann', 'users/bob']",
            "column 24: this is never so: the name of who calls has no /; write \"bob\"",
        ),
        (
            "caller.name.startsWith('users/')",
            "column 13: this is always false: the name of who calls has no /",
        ),
        (
            "!('teams/core' in caller.teams)",
            "column 3: this is always false: the id of a team has no /; write \"core\"",
        ),
        (
            "caller.teams.exists(t, t == 'teams/core')",
            "column 26: this is always false: the id of a team has no /; write \"core\"",
        ),
        (
            "caller.teams[0] == 'teams/core'",
            "column 17: this is always false: the id of a team has no /; write \"core\"",
        ),
        (
            "caller.kind in ['user', 'robot']",
            "column 25: this is never so: it is one of \"token\", \"user\", \"service_account\"",
        ),
        (
            "method == 'tool/call'",
            "column 8: this is always false: it is one of \"tools/call\", \"prompts/get\"; did you mean tools/call?",
        ),
        (
            "method in ['tools/call', 'tools/list']",
            "column 26: this is never so: it is one of \"tools/call\", \"prompts/get\"",
        ),
        (
            "tool.upstream == 'upstreams/git'",
            "column 15: this is always false: the id of an upstream has no /; write \"git\"",
        ),
        (
            "args.path.lowerAscii().startsWith('/Etc/')",
            "column 24: this is always false: it has no capital letters any more; write \"/etc/\"",
        ),
        ("size(args.l) < 0", "column 14: this is always false: it is 0 or more"),
        ("server == 'filez'", "column 8: this is always false: it is \"files\""),
        ("server in ['filez', 'dev']", "column 12: this is never so: it is \"files\""),
        (
            "now.getDayOfWeek('Europe/Berlin') == 7",
            "column 35: this is always false: it is 0 (Sunday) to 6 (Saturday)",
        ),
        ("now.getDayOfWeek() in [6, 7]", "column 27: this is never so: it is 0 (Sunday) to 6 (Saturday)"),
        ("now.getHours() > 24", "column 16: this is always false: it is 0 to 23"),
        ("24 > now.getHours()", "column 4: this is always true: it is 0 to 23"),
        ("now.getHours() < 0 || tool.read_only", "column 16: this is always false: it is 0 to 23"),
        ("tool.read_only && now.getHours() != -1", "column 34: this is always true: it is 0 to 23"),
        (
            "false",
            "column 1: this is always false, whatever is called; leave it out, or `when` empty for always",
        ),
        (
            "tool.read_only || !(1 + 1 > 2)",
            "column 19: this is always true, whatever is called; leave it out, or `when` empty for always",
        ),
        ("1 / 0 > 1", "column 7: this can never be decided: a number is too large, or is divided by zero"),
        (
            "caller.kind.startsWith('users')",
            "column 13: this is always false: it is one of \"token\", \"user\", \"service_account\"; did you mean user?",
        ),
        (
            "caller.kind.lowerAscii() == 'service-account'",
            "column 26: this is always false: it is one of \"token\", \"user\", \"service_account\"; did you mean service_account?",
        ),
        (
            "method.startsWith('tool/')",
            "column 8: this is always false: it is one of \"tools/call\", \"prompts/get\"",
        ),
        ("server.contains('/dev')", "column 8: this is always false: it is \"files\""),
        (
            "caller.teams == ['core', 'teams/core']",
            "column 26: this is never so: the id of a team has no /; write \"core\"",
        ),
        (
            "'Core' in caller.teams",
            "column 1: this is always false: the id of a team has no capital letters; write \"core\"",
        ),
        (
            "tool.upstream == 'CRM'",
            "column 15: this is always false: the id of an upstream has no capital letters; write \"crm\"",
        ),
        (
            "caller.kind == 'user' && caller.kind == 'token'",
            "column 38: this is never so beside what stands before it",
        ),
        (
            "now.getHours() > 8 && tool.read_only && 8 > now.getHours()",
            "column 43: this is never so beside what stands before it",
        ),
        // What may come to either.
        ("now.getHours('UTC') > 8 && now.getHours('Europe/Berlin') < 8 && now.getHours('UTC') < 10", ""),
        ("caller.kind == 'user' || caller.kind == 'token' && caller.kind != 'user'", ""),
        ("caller.kind.startsWith('service') && method.endsWith('/call') && caller.teams == ['core']", ""),
        ("tool.name == 'A/b' && tool.name != 'x' && tool.name.startsWith('A')", ""),
        ("args.force == true && caller.name == 'ann' && 'core' in caller.teams", ""),
        ("caller.teams.all(t, t.startsWith('c')) && args.l.exists(x, x == 'a/b')", ""),
        ("server == 'files' && method == 'tools/call' && server in ['files', 'dev']", ""),
        ("now.getHours() < 23 && now.getHours() > 0 && 9 <= now.getHours()", ""),
        ("now.getDayOfWeek() in [0, 6] || now.getDayOfWeek() != 3", ""),
        ("now.getDayOfWeek() == args.day || tool.name == 'a/b' || args.hour > 24", ""),
        ("args.path.lowerAscii() == '/ä/Ä' && size(args.path) > 0 && size(args.l) != 0", ""),
        ("tool.read_only ? true : args.path == 'x'", ""),
    ] {
        let expected = if expected.is_empty() { String::new() } else { format!("line 1, {expected}") };
        assert_eq!(told(text, "files"), expected, "{text}");
    }
    assert_eq!(
        told("server == 'servers/files'", ""),
        "line 1, column 8: this is always false: the id of a server has no /; write \"files\""
    );
    assert_eq!(told("server == 'filez'", ""), "", "a rule of a team is one of several servers");
}

#[test]
fn a_program_that_names_nothing_that_there_is_is_known() {
    let names = HashSet::from(["files_read", "files_write"]);
    for (text, expected) in [
        ("tool.name == 'files_raed'", true),
        ("'files_raed' == tool.name && args.path == 'x'", true),
        ("tool.name in ['files_raed', 'x']", true),
        ("tool.name.startsWith('fils_') || tool.name == 'x'", true),
        ("tool.name == 'files_read'", false),
        ("tool.name in ['files_raed', 'files_read']", false),
        ("tool.name in ['files_raed', args.path]", false),
        ("tool.name == 'files_raed' || tool.read_only", false),
        ("tool.name != 'files_raed' && !(tool.name == 'files_raed')", false),
        ("tool.name.endsWith('_read')", false),
        ("tool.upstream == 'x'", false),
    ] {
        assert_eq!(Program::parse(text).unwrap().names_none_of(&names), expected, "{text}");
    }
}
