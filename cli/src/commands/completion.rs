//! `mcpctl completion SHELL`: what makes a shell complete the commands of this program.

use std::io::IsTerminal as _;

use crate::complete;
use crate::error::Result;
use crate::output;

/// Arguments of `completion`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Shell to complete for
    #[arg(value_enum)]
    shell: Shell,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Shell {
    Bash,
    Zsh,
    Fish,
    #[value(alias = "pwsh")]
    Powershell,
    Elvish,
}

impl Shell {
    fn name(self) -> &'static str {
        match self {
            Self::Bash => "bash",
            Self::Zsh => "zsh",
            Self::Fish => "fish",
            Self::Powershell => "powershell",
            Self::Elvish => "elvish",
        }
    }

    /// Returns the file that the shell reads when it starts, and the line that belongs there.
    fn installation(self) -> (&'static str, &'static str) {
        match self {
            Self::Bash => ("~/.bashrc", "source <(mcpctl completion bash)"),
            Self::Zsh => ("~/.zshrc, after compinit", "source <(mcpctl completion zsh)"),
            Self::Fish => ("~/.config/fish/completions/mcpctl.fish", "mcpctl completion fish | source"),
            Self::Powershell => ("$PROFILE", "mcpctl completion powershell | Out-String | Invoke-Expression"),
            Self::Elvish => ("~/.config/elvish/rc.elv", "eval (mcpctl completion elvish | slurp)"),
        }
    }
}

/// Runs `completion`.
pub fn run(args: Args) -> Result {
    let script = complete::registration(args.shell.name())?;
    let (file, line) = args.shell.installation();
    // The first line is read by zsh, if the script is a file of its own.
    let (first, rest) = match script.split_once('\n') {
        Some((first, rest)) if first.starts_with("#compdef") => (format!("{first}\n"), rest),
        _ => (String::new(), script.as_str()),
    };
    output::print(&format!("{first}# To have it in every shell, add to {file}:\n#   {line}\n{rest}"))?;
    if std::io::stdout().is_terminal() {
        output::eprint(format!("To have it in every shell, add to {file}:\n{line}"));
    }
    Ok(())
}
