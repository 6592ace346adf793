//! The command line: `mcpctl <verb> <kind> [name]`. Each verb's own arguments are in its file.

use std::path::PathBuf;
use std::time::Duration;

use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand};

use crate::bridge;
use crate::client;
use crate::commands;
use crate::error::{EXIT_CODES, Error, Exit, Result, mistake};
use crate::examples;
use crate::groups;
use crate::joined;
use crate::output::{self, Format, sections};
use crate::parse;

/// Manage Trunkline, the MCP gateway.
#[derive(Debug, Parser)]
#[command(name = "mcpctl", version, after_long_help = EXIT_CODES, after_help = "Run `mcpctl options` for the options that every command takes, and `mcpctl --help` for the exit codes.")]
#[command(propagate_version = false)]
pub struct Args {
    #[command(flatten)]
    pub global: GlobalArgs,
    #[command(subcommand)]
    pub command: Command,
}

/// Returns the command line with the examples in its help.
pub fn command() -> clap::Command {
    command_at(None)
}

/// The same, for a terminal of this width.
fn command_at(width: Option<usize>) -> clap::Command {
    groups::add(examples::add(Args::command()), width)
}

/// Reads the command line of this process, or says what is wrong with it and exits.
pub fn parse() -> Args {
    let words: Vec<_> = std::env::args_os().collect();
    let matches = joined::matches(&|| command_at(sections::width()), &words);
    let args = matches.and_then(|matches| Args::from_arg_matches(&matches));
    args.unwrap_or_else(|error| {
        if !mistake::is_one(&error) {
            error.exit();
        }
        let words: Vec<_> = words.iter().skip(1).map(|word| word.to_string_lossy().into_owned()).collect();
        output::eprint_error(mistake::told(&error, &command(), &words));
        std::process::exit(Exit::Usage as i32);
    })
}

/// The variables behind [`GlobalArgs`]. They are read by hand: clap would write an option into every usage whose variable is set.
pub const VARIABLES: [&str; 3] = ["MCPCTL_CONFIG", "MCPCTL_CONTEXT", "TRUNKLINE_TIMEOUT"];

/// The flags that every command takes.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Global options")]
pub struct GlobalArgs {
    /// Context file [default: ~/.config/trunkline/mcpctl.yaml, and that of `mcpctl dev`] [env: MCPCTL_CONFIG]
    #[arg(long, global = true, hide_short_help = true, hide_long_help = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Context to use instead of the current one [env: MCPCTL_CONTEXT]
    #[arg(long, global = true, hide_short_help = true, hide_long_help = true, value_name = "NAME")]
    pub context: Option<String>,
    /// Output format, such as wide, json or yaml; `mcpctl options` lists all
    #[arg(short, long, global = true, value_parser = Format::parser(), value_name = "FORMAT", hide_possible_values = true)]
    pub output: Option<Format>,
    /// Time to wait for a response, or to go on with -w, such as 500ms, 30s or 5m [default: 30s] [env: TRUNKLINE_TIMEOUT]
    #[arg(long, global = true, hide_short_help = true, hide_long_help = true, value_name = "DURATION", value_parser = parse::duration)]
    pub timeout: Option<Duration>,
}

impl GlobalArgs {
    /// Returns them with what the environment says where the command line says nothing.
    pub fn or_of_environment(self) -> Result<Self> {
        let [config, context, timeout] =
            VARIABLES.map(|name| std::env::var_os(name).filter(|value| !value.is_empty()));
        let timeout =
            timeout.filter(|_| self.timeout.is_none()).map(|text| parse::duration(&text.to_string_lossy()));
        let timeout = timeout.transpose().map_err(|why| Error::usage(format!("{}: {why}", VARIABLES[2])))?;
        Ok(Self {
            config: self.config.or(config.map(PathBuf::from)),
            context: self.context.or_else(|| context?.into_string().ok()),
            output: self.output,
            timeout: self.timeout.or(timeout),
        })
    }
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run a whole gateway in one process: control plane, edge and embedded storage
    ///
    /// All other options of the control plane and of the edge apply by their variables, such as TRUNKLINE_APPROVAL_TIMEOUT.
    Dev(commands::dev::Args),
    /// List resources, or get resources by name
    Get(commands::get::Args),
    /// Show the details of a resource
    Describe(commands::describe::Args),
    /// Create a resource
    Create(commands::create::Args),
    /// Change a resource in an editor
    Edit(commands::edit::Args),
    /// Update fields of a resource
    Update(commands::update::Args),
    /// Wait until resources are as they should be
    Wait(commands::wait::Args),
    /// Delete resources
    Delete(commands::delete::Args),
    /// Revoke tokens, API keys or join tokens permanently, or end sessions
    Revoke(commands::revoke::Args),
    /// Add members to a team
    Add(commands::teams::AddArgs),
    /// Remove members from a team
    Remove(commands::teams::RemoveArgs),
    /// Invite somebody who is no user yet into a team
    Invite(commands::teams::InviteArgs),
    /// Give somebody a role
    Bind(commands::teams::BindArgs),
    /// Take a role from somebody
    Unbind(commands::teams::UnbindArgs),
    /// Disable users or service accounts: nothing that is theirs lets anybody in
    Disable(commands::users::StateArgs),
    /// Enable users or service accounts that were disabled
    Enable(commands::users::StateArgs),
    /// Make a one-time link by which a user chooses another password
    ResetPassword(commands::users::ResetArgs),
    /// Sign in at the control plane, with a password or a one-time link
    Login(commands::login::Args),
    /// Sign out
    Logout(commands::login::LogoutArgs),
    /// Choose another password for yourself
    ChangePassword(commands::passwords::ChangeArgs),
    /// Show who the control plane takes you for, and what you may do
    Whoami,
    /// Probe an upstream and fetch its catalogue now
    Refresh(commands::upstream::RefreshArgs),
    /// Probe a URL or an upstream without storing anything
    Probe(commands::upstream::ProbeArgs),
    /// List what upstreams should mend; exits with 1 if there is anything
    Lint(commands::lint::Args),
    /// Apply resource files: all changes at one revision, or none
    ///
    /// A file is the whole resource: what it leaves out is reset to its default. Secrets stay.
    Apply(commands::apply::Args),
    /// Show the changes that `apply` would make; exits with 0 (none), 1 (some) or 2 (error)
    Diff(commands::apply::DiffArgs),
    /// Explain what files may hold: kinds, fields, types, defaults and limits
    #[command(alias = "api-resources")]
    Explain(commands::explain::Args),
    /// Print the JSON Schema of resource files, for editors
    Schema(commands::schema::Args),
    /// Export resources as files for `apply`
    Export(commands::export::Args),
    /// Ask whether a request is allowed and why, who may make one, and which permissions there are
    Access(commands::access::Args),
    /// Approve or deny calls that rules hold back
    Approvals(commands::approvals::Args),
    /// Show who changed what, who was refused what, and who signed in
    Audit(Box<commands::audit::Args>),
    /// Show the keys of the installation and what needs each, or make new ones
    Keys(commands::keys::Args),
    /// Show who is called how often, and how that ends
    Top(commands::top::Args),
    /// Show call counts
    Usage(commands::usage::Args),
    /// Call a tool of a server through the edge, or list its tools
    Call(commands::call::Args),
    /// Read a resource of a server through the edge, or list its resources
    Read(commands::read::Args),
    /// Get a prompt of a server through the edge, or list its prompts
    Prompt(commands::prompt::Args),
    /// Ask a server through the edge for a sign of life, as a client would
    Ping(commands::ping::Args),
    /// Print the configuration for an MCP host or program
    ClientConfig(commands::client_config::Args),
    /// Expose a stdio MCP server over HTTP, and supervise it
    Expose(commands::expose::Args),
    /// Connect an MCP host that speaks only stdio to a server of the edge
    Connect(commands::connect::Args),
    /// Import the servers that another MCP host is configured with
    Import(commands::import::Args),
    /// Manage contexts: gateways and their credentials
    Config(commands::config::Args),
    /// Check everything between here and the tools; exits with 1 if something fails
    Doctor(commands::doctor::Args),
    /// Print what makes a shell complete commands, names and values
    Completion(commands::completion::Args),
    /// Print the manual page, or write one for every command
    Man(commands::man::Args),
    /// Print the options that every command takes
    Options,
    /// Print the version
    Version,
    /// Supervise a command for `expose` (internal)
    #[command(hide = true)]
    Reap(bridge::reaper::Args),
    /// End by a signal, in the place of a command that has handled it (internal)
    #[command(hide = true)]
    EndBy(client::interruption::Args),
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_command_line_is_consistent() {
        super::command().debug_assert();
    }
}
