//! `mcpctl import FILE`: imports the servers of another MCP host.
//!
//! Servers with a URL become upstreams. Servers that are commands run only with `--expose`; without it, the commands to run
//! are printed. What cannot be imported is named, and takes nothing else along; what exists is not touched without `--replace`.

mod entry;
pub mod file;
mod inputs;
pub(super) mod jsonc;
mod mcp_remote;
mod places;
mod remote;
mod run;
mod secrets;
mod text;
pub mod transport;
mod variables;

use std::io::{IsTerminal as _, Read as _};
use std::path::{Path, PathBuf};

use crate::commands::Invocation;
use crate::commands::register::patiently;
use crate::commands::upstream;
use crate::error::{Error, Exit, Result};
use crate::output::{eprint, print};
use crate::parse;
use file::{Asked, EntryState, HostEntry, HostServer};
use inputs::Inputs;
use transport::Transport;

/// Arguments of `import`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Configuration file of any MCP host, as JSON, YAML or TOML, such as claude_desktop_config.json, .mcp.json, ~/.claude.json,
    /// .cursor/mcp.json, .vscode/mcp.json, .gemini/settings.json, .codex/config.toml or opencode.json; - is stdin
    file: PathBuf,
    /// Import only this server, or those of this place in the file, such as projects./srv/app.mcpServers; repeatable
    #[arg(long, value_name = "NAME|PLACE")]
    only: Vec<String>,
    /// Name of the upstream, where --only leaves one server [default: that of the server]
    #[arg(long = "as", value_name = "NAME", requires = "only", value_parser = parse::id)]
    id: Option<String>,
    /// Run the servers that are commands and register them, until this process ends
    #[arg(long)]
    expose: bool,
    /// Change upstreams that exist and differ, after showing how; without it they are skipped
    #[arg(long)]
    replace: bool,
    /// Change them without a question
    #[arg(short, long, requires = "replace")]
    yes: bool,
    /// Do not wait until it is known whether the upstreams work
    #[arg(long)]
    no_wait: bool,
    /// Print what would be imported without storing it
    #[arg(long)]
    dry_run: bool,
}

impl Args {
    fn is_stdin(&self) -> bool {
        self.file.as_os_str() == "-"
    }
}

/// A server that can be stored or run: its variables have values.
struct Resolved {
    server: HostServer,
    transport: Transport,
}

/// Runs `import`.
pub async fn run(invocation: &Invocation, args: Args) -> Result {
    let (mut entries, mut inputs) = chosen(invocation, &args)?;
    let mut trouble = Trouble::default();
    for name in &args.only {
        if entries.iter().all(|entry| !entry.is_meant(name)) {
            trouble.skipped(name, "there is none of this name");
        }
    }
    if let Some(id) = &args.id {
        rename(&mut entries, id)?;
    }
    let (mut remotes, mut commands, mut printed) = (Vec::new(), Vec::new(), Vec::new());
    for entry in entries {
        let server = match entry.state {
            EntryState::Server(server) => server,
            EntryState::LeftOut(why) => {
                eprint(format!("server {}: left out, since {why}", entry.key));
                continue;
            }
            EntryState::Unusable(reason) => {
                trouble.skipped(&entry.key, &reason);
                continue;
            }
        };
        for note in &server.notes {
            eprint(format!("server {}: {note}", server.key));
        }
        let is_command = matches!(server.transport, Transport::Stdio { .. });
        if is_command && (!args.expose || args.dry_run) {
            // It keeps its variables, and is printed with them.
            printed.push(server);
            continue;
        }
        match inputs.resolve(&server)? {
            Ok(transport) if is_command => commands.push(Resolved { server, transport }),
            Ok(transport) => remotes.push(Resolved { server, transport }),
            Err(unresolved) => trouble.skipped(&server.key, &unresolved.to_string()),
        }
    }
    if args.expose && !args.dry_run && !remotes.is_empty() {
        patiently("import", async || invocation.client().await).await?;
    }
    remote::import(invocation, &args, remotes, &mut trouble).await?;
    print_commands(&printed)?;
    if !commands.is_empty() {
        run::run_all(invocation, &args, commands, &mut trouble).await?;
    }
    trouble.into_result()
}

/// The servers that were not imported, and those that were and do not work.
#[derive(Debug, Default)]
struct Trouble {
    skipped: Vec<String>,
    broken: Vec<String>,
}

impl Trouble {
    fn skipped(&mut self, server: &str, reason: &str) {
        eprint(format!("server {server}: skipped: {reason}"));
        self.skipped.push(server.to_owned());
    }

    /// A server that is stored all the same.
    fn broken(&mut self, server: &str, id: &str, reason: &str) {
        let reason = upstream::with_retry(reason, id);
        eprint(format!("server {server}: stored as upstream {id}, but it does not work: {reason}"));
        self.broken.push(server.to_owned());
    }

    /// Skips a server that was refused. What every other would meet, too, ends the import.
    fn skip_if_refused(&mut self, server: &str, error: Error) -> Result {
        if matches!(error.exit, Exit::Refused | Exit::Unavailable) {
            return Err(error);
        }
        self.skipped(server, &error.to_string());
        Ok(())
    }

    fn into_result(self) -> Result {
        let Self { skipped, broken } = self;
        let said = [("not imported", skipped), ("stored, but not working", broken)];
        let said: Vec<_> = said
            .iter()
            .filter(|(_, servers)| !servers.is_empty())
            .map(|(what, servers)| format!("{what}: {}", servers.join(", ")))
            .collect();
        if said.is_empty() { Ok(()) } else { Err(Error::failure(said.join("; "))) }
    }
}

/// Gives the one server that was asked for another id.
fn rename(entries: &mut [HostEntry], id: &str) -> Result {
    let names: Vec<_> = entries.iter().map(|entry| entry.key.clone()).collect();
    match entries {
        [HostEntry { state: EntryState::Server(server), .. }] => {
            id.clone_into(&mut server.id);
            Ok(())
        }
        [_] => Ok(()),
        _ => Err(Error::usage(format!(
            "--as {id} is one name, and --only leaves {} servers: {}; name one of them by its place, such as mcpServers.NAME",
            names.len(),
            names.join(", ")
        ))),
    }
}

/// Reads the entries that were asked for, and what the host asks its user for.
fn chosen(invocation: &Invocation, args: &Args) -> Result<(Vec<HostEntry>, Inputs)> {
    let wrong = |why: String| Error::usage(format!("{}: {why}", args.file.display()));
    let value = text::decode(&bytes(&args.file)?).and_then(|text| text::parse(&text)).map_err(wrong)?;
    let edge = invocation.context().ok().and_then(|context| Some(context.edge_url().ok()?.to_owned()));
    let asked = Asked { only: &args.only, is_gemini: is_gemini(&args.file), edge: edge.as_deref() };
    let entries = file::parse(&value, asked).map_err(wrong)?;
    if entries.is_empty() {
        return Err(Error::not_found(format!("{} contains no matching server", args.file.display())));
    }
    let is_asked = !args.is_stdin() && std::io::stdin().is_terminal() && std::io::stderr().is_terminal();
    Ok((entries, Inputs::new(&value, is_asked)))
}

fn bytes(path: &Path) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let read = match path.to_str() {
        Some("-") => std::io::stdin().read_to_end(&mut bytes).map(|_| bytes),
        _ => std::fs::read(path),
    };
    read.map_err(|error| Error::usage(format!("cannot read {}: {error}", path.display())))
}

/// Whether a file is one of Gemini CLI: its settings, or the manifest of an extension.
fn is_gemini(path: &Path) -> bool {
    path.components().any(|part| part.as_os_str() == ".gemini")
        || path.file_name().is_some_and(|name| name == "gemini-extension.json")
}

/// Prints the commands to run.
fn print_commands(commands: &[HostServer]) -> Result {
    if commands.is_empty() {
        return Ok(());
    }
    eprint("These servers are commands and were not run. Run them yourself, or use --expose:");
    let mut hidden = Vec::new();
    for entry in commands {
        print(&entry.transport.command_line(&entry.id))?;
        hidden.extend(entry.transport.hidden());
    }
    if !hidden.is_empty() {
        eprint(format!("Secrets among the arguments are printed as variables: {}.", hidden.join(", ")));
    }
    let has_variables =
        |entry: &HostServer| matches!(&entry.transport, Transport::Stdio { env, .. } if !env.is_empty());
    if !hidden.is_empty() || commands.iter().any(has_variables) {
        eprint("Set the variables first, to their values in the file or in the environment of its host.");
    }
    Ok(())
}
