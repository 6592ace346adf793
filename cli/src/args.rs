//! The command line: `mcpctl <verb> <kind> [name]`. Each verb's own arguments are in its file.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, Subcommand};

use crate::bridge;
use crate::commands;
use crate::error::EXIT_CODES;
use crate::output::Format;
use crate::parse;

/// Drives Trunkline, the MCP gateway.
#[derive(Debug, Parser)]
#[command(name = "mcpctl", version, after_long_help = EXIT_CODES, after_help = "`mcpctl --help` lists the exit codes.")]
#[command(propagate_version = false, disable_help_subcommand = true)]
pub struct Args {
    #[command(flatten)]
    pub global: GlobalArgs,
    #[command(subcommand)]
    pub command: Command,
}

/// The flags that every command takes.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Global options")]
pub struct GlobalArgs {
    /// The context file [default: ~/.config/trunkline/mcpctl.yaml, else the one of `mcpctl dev`]
    #[arg(long, env = "MCPCTL_CONFIG", hide_env_values = true, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The context to use, instead of the file's current one
    #[arg(long, env = "MCPCTL_CONTEXT", hide_env_values = true, global = true, value_name = "NAME")]
    pub context: Option<String>,
    /// The form of what is printed on stdout
    #[arg(short, long, global = true, value_enum, value_name = "FORMAT")]
    pub output: Option<Format>,
    /// How long to wait for an answer, such as 500ms, 30s, 5m [default: 30s]
    #[arg(long, env = "TRUNKLINE_TIMEOUT", hide_env_values = true, global = true, value_name = "DURATION", value_parser = parse::duration)]
    pub timeout: Option<Duration>,
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run a whole gateway in this process: control plane, edge, embedded storage
    Dev(commands::dev::Args),
    /// Show resources as a table, JSON, YAML or names
    Get(commands::get::Args),
    /// Show one resource with all that belongs to it
    Describe(commands::describe::Args),
    /// Create a resource
    Create(commands::create::Args),
    /// Change fields of a resource
    Update(commands::update::Args),
    /// Delete resources
    Delete(commands::delete::Args),
    /// Revoke a token, for ever
    Revoke(commands::revoke::Args),
    /// Probe an upstream and fetch its catalogue, now
    Refresh(commands::upstream::RefreshArgs),
    /// Ask a URL or an upstream who it is, and store nothing
    Probe(commands::upstream::ProbeArgs),
    /// Make the gateway agree with files of resources: all at one revision, or nothing
    Apply(commands::apply::Args),
    /// Show what `apply` would change; exits with 0 (same), 1 (different) or 2 (trouble)
    Diff(commands::apply::DiffArgs),
    /// Print resources as files that `apply` reads
    Export(commands::export::Args),
    /// Show how often what was called
    Usage(commands::usage::Args),
    /// Call a tool of a server, through the edge
    Call(commands::call::Args),
    /// Print what to paste into an MCP host or program
    ClientConfig(commands::client_config::Args),
    /// Offer a stdio MCP server over Streamable HTTP, supervised
    Expose(commands::expose::Args),
    /// Offer a server of the edge over stdio, for hosts that speak nothing else
    Connect(commands::connect::Args),
    /// Take over what another MCP host is configured with
    Import(commands::import::Args),
    /// Contexts: which gateway the commands talk to
    Config(commands::config::Args),
    /// Print a completion script for a shell
    Completion(commands::completion::Args),
    /// Print the version
    Version,
    /// Stand between `expose` and its command
    #[command(hide = true)]
    Reap(bridge::reaper::Args),
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Args::command().debug_assert();
    }

    #[test]
    fn help_of_every_verb() {
        let mut command = Args::command().term_width(100);
        command.build();
        let mut text = command.render_long_help().to_string();
        for verb in command.get_subcommands_mut().filter(|verb| !verb.is_hide_set()) {
            // The global options are in the first help page already.
            let help = verb.render_help().to_string();
            let own = help.split("\nGlobal options:").next().unwrap_or_default().trim_end();
            text.push_str(&format!("\n==== {}\n{own}\n", verb.get_name()));
        }
        insta::assert_snapshot!(text);
    }
}
