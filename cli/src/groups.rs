//! The commands in the help of `mcpctl`, by what they are for.

use std::fmt::Write as _;

use clap::Command;

use crate::output::sections::hang;

/// What is before a command, and after the longest name of one.
const INDENT: &str = "  ";

/// The groups in the order of the help, and their commands.
const GROUPS: [(&str, &[&str]); 7] = [
    ("Commands to start with", &["dev", "expose", "import"]),
    (
        "Commands for the registry",
        &[
            "get", "describe", "create", "edit", "update", "delete", "revoke", "wait", "refresh", "probe",
            "lint",
        ],
    ),
    (
        "Commands for people",
        &[
            "login",
            "logout",
            "whoami",
            "change-password",
            "add",
            "remove",
            "invite",
            "bind",
            "unbind",
            "disable",
            "enable",
            "reset-password",
        ],
    ),
    ("Commands for files", &["apply", "diff", "export", "explain", "schema"]),
    ("Commands for clients and calls", &["client-config", "connect", "call", "read", "prompt", "ping"]),
    ("Commands for operation", &["doctor", "access", "approvals", "audit", "keys", "top", "usage"]),
    ("Commands for settings and help", &["config", "completion", "help", "options", "man", "version"]),
];

/// What `help` is for; clap adds it later.
const HELP: &str = "Print the help of a command";

/// Groups the commands in the help, whose lines are at most so wide.
pub fn add(command: Command, width: Option<usize>) -> Command {
    let groups = render(&command, width);
    command.help_template(format!(
        "{{about-with-newline}}\n{{usage-heading}} {{usage}}\n\n{groups}Options:\n{{options}}{{after-help}}"
    ))
}

fn render(command: &Command, width: Option<usize>) -> String {
    let longest = GROUPS.iter().flat_map(|(_, names)| *names).map(|name| name.len()).max();
    let beside = longest.unwrap_or_default() + 2 * INDENT.len();
    let mut text = String::new();
    for (title, names) in GROUPS {
        text += &format!("{title}:\n");
        for name in names {
            let about = command.find_subcommand(name).and_then(Command::get_about);
            let about = about.map_or_else(|| HELP.to_owned(), ToString::to_string);
            let about = hang(&about, beside, beside, width);
            let _ = write!(text, "{:<beside$}{}", format!("{INDENT}{name}"), about.trim_start());
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;
    use crate::args::Args;

    #[test]
    fn every_command_is_in_one_group() {
        let command = Args::command();
        let visible = command.get_subcommands().filter(|inner| !inner.is_hide_set());
        let mut names: Vec<_> = visible.map(Command::get_name).chain(["help"]).collect();
        let mut grouped: Vec<_> = GROUPS.iter().flat_map(|(_, names)| names.iter().copied()).collect();
        names.sort_unstable();
        grouped.sort_unstable();
        assert_eq!(grouped, names);
    }

    #[test]
    fn lines_are_no_wider_than_the_terminal() {
        for width in [60, 80] {
            let text = render(&Args::command(), Some(width));
            assert!(text.lines().all(|line| line.chars().count() <= width), "{text}");
        }
    }
}
