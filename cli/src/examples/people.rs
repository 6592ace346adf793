//! The examples of commands that are about people, and about what they may do.

use super::Examples;

pub(super) const PEOPLE: &[Examples] = &[
    (
        "create user",
        &[
            ("Somebody who makes servers everywhere", "mcpctl create user ann@example.org --role developer"),
            ("A member of a team", "mcpctl create user bob@example.org --team core"),
        ],
    ),
    (
        "create service-account",
        &[("A program that only looks", "mcpctl create service-account ci --role viewer")],
    ),
    (
        "create api-key",
        &[
            ("Of a service account, for 30 days", "mcpctl create api-key ci --expires 30d"),
            ("Of your own, which only reads", "mcpctl create api-key --role viewer"),
        ],
    ),
    (
        "create team",
        &[
            ("A team with an owner", "mcpctl create team core --owner ann@example.org"),
            (
                "One that may call a server of others as well, and not every tool",
                "mcpctl create team data --server dev --tool 'time_*'",
            ),
        ],
    ),
    (
        "create role",
        &[(
            "What only calls servers",
            "mcpctl create role caller --permission registry.read --permission servers.call",
        )],
    ),
    ("update user", &[("Another address", "mcpctl update user ann@example.org --email ann@example.com")]),
    (
        "update service-account",
        &[("Somebody else answers for it", "mcpctl update service-account ci --owner bob@example.org")],
    ),
    (
        "update team",
        &[("What its members may call", "mcpctl update team data --tool 'time_*' --tool 'notes_*'")],
    ),
    ("update role", &[("Other permissions", "mcpctl update role caller --permission servers.call")]),
    ("add", &[("Somebody into a team", "mcpctl add member core ann@example.org")]),
    (
        "add member",
        &[
            ("As developers", "mcpctl add member core bob@example.org eve@example.org"),
            ("As one who looks after it", "mcpctl add member core ann@example.org --owner"),
            ("A service account that only reads", "mcpctl add member core ci --role viewer"),
        ],
    ),
    ("remove", &[("Somebody from a team", "mcpctl remove member core bob@example.org")]),
    ("remove member", &[("On every edge within a second", "mcpctl remove member core bob@example.org")]),
    ("invite", &[("Somebody new", "mcpctl invite core eve@example.org")]),
    ("bind", &[("A role everywhere", "mcpctl bind role auditor ann@example.org")]),
    (
        "bind role",
        &[
            ("Everywhere", "mcpctl bind role auditor ann@example.org"),
            ("In one team", "mcpctl bind role viewer ci --team core"),
        ],
    ),
    ("unbind", &[("A role of everywhere", "mcpctl unbind role auditor ann@example.org")]),
    (
        "unbind role",
        &[
            ("Everywhere", "mcpctl unbind role auditor ann@example.org"),
            ("In one team", "mcpctl unbind role viewer ci --team core"),
        ],
    ),
    (
        "disable",
        &[
            ("Somebody who leaves", "mcpctl disable user ann@example.org"),
            ("A program", "mcpctl disable service-account ci"),
        ],
    ),
    ("enable", &[("Somebody who returns", "mcpctl enable user ann@example.org")]),
    ("reset-password", &[("For who has forgotten it", "mcpctl reset-password ann@example.org")]),
    (
        "login",
        &[
            ("With a password", "mcpctl login --email ann@example.org"),
            ("With a link that you were given", "mcpctl login --link tll_SECRET"),
        ],
    ),
    (
        "logout",
        &[("Sign out of the current context", "mcpctl logout"), ("On every device", "mcpctl logout --all")],
    ),
    (
        "change-password",
        &[
            ("On a terminal", "mcpctl change-password"),
            ("In a script", "mcpctl change-password --password-file old --new-password-file new"),
        ],
    ),
    ("whoami", &[("Who you are there, and what you may do", "mcpctl whoami")]),
    (
        "access",
        &[
            (
                "Whether a token may call a tool, and why",
                "mcpctl access check --token ci --server dev --tool get_current_time",
            ),
            ("Who may call it", "mcpctl access who-can call dev/get_current_time"),
        ],
    ),
    (
        "access check",
        &[
            (
                "A token, from an address and at a time",
                "mcpctl access check --token ci --server dev --tool get_current_time --from 10.1.2.3 --at 2027-01-31T12:00:00Z",
            ),
            (
                "A call with arguments, which rules look at",
                "mcpctl access check --token ci --server dev --tool get_current_time --args '{\"timezone\": \"Europe/Berlin\"}'",
            ),
            ("A person", "mcpctl access check --user ann@example.org --server dev --tool get_current_time"),
            ("Yourself, about a list", "mcpctl access check --server dev --method tools/list"),
        ],
    ),
    (
        "access who-can",
        &[
            ("Call a tool", "mcpctl access who-can call dev/get_current_time"),
            ("Read a resource", "mcpctl access who-can read dev/memo://a"),
        ],
    ),
    ("access permissions", &[("What roles can hold", "mcpctl access permissions")]),
    (
        "approvals",
        &[
            ("What waits for somebody to decide", "mcpctl approvals list"),
            ("Let one call be made, once", "mcpctl approvals approve 4cb41c"),
        ],
    ),
    (
        "approvals list",
        &[
            ("What waits for somebody to decide", "mcpctl approvals list"),
            ("As it comes", "mcpctl approvals list --watch"),
            ("What became of the calls of a server", "mcpctl approvals list --server dev --state all"),
        ],
    ),
    ("approvals show", &[("A call, with its arguments", "mcpctl approvals show 4cb41c")]),
    ("approvals approve", &[("Let one call be made, once", "mcpctl approvals approve 4cb41c")]),
    (
        "approvals deny",
        &[("And say why", "mcpctl approvals deny 4cb41c --comment 'That table is still in use.'")],
    ),
    (
        "audit",
        &[
            ("The last changes and refusals", "mcpctl audit"),
            ("What somebody changed today", "mcpctl audit --actor ann@example.org --kind change --since 1d"),
            ("What happened to a server", "mcpctl audit --resource servers/dev"),
            ("As it comes", "mcpctl audit --follow"),
        ],
    ),
    ("audit show", &[("What one change was", "mcpctl audit show 42")]),
    ("audit verify", &[("Whether it is what was written", "mcpctl audit verify")]),
    ("audit export", &[("Into a file", "mcpctl audit export --since 30d > audit.jsonl")]),
    ("keys", &[("All keys, and what needs each", "mcpctl keys list")]),
    ("keys list", &[("All keys, and what needs each", "mcpctl keys list")]),
    (
        "keys rotate",
        &[
            ("All but the master key", "mcpctl keys rotate"),
            ("Until nothing stored is sealed with the old one", "mcpctl keys rotate data --wait"),
        ],
    ),
];
