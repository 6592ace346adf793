//! `mcpctl import FILE`: imports the servers of another MCP host.
//!
//! Servers with a URL become upstreams. Servers that are commands run only with `--expose`; without it, the commands to run
//! are printed. What cannot be imported is named, and takes nothing else along.

mod entry;
pub mod file;
mod jsonc;
mod mcp_remote;
mod places;
mod text;
pub mod transport;
mod variables;

use std::io::Read as _;
use std::path::{Path, PathBuf};

use futures_util::future::join_all;
use serde_json::json;

use crate::bridge::child::Program;
use crate::bridge::expose::{self, Eras, Running, Settings};
use crate::commands::Invocation;
use crate::commands::expose::{StopSignal, register_as};
use crate::control_client::ControlClient;
use crate::error::{Error, Exit, Result};
use crate::kinds::Kind;
use crate::output::{eprint, print};
use crate::reflection;
use file::{EntryState, HostEntry, HostServer};
use transport::Transport;

/// Arguments of `import`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Configuration file of any MCP host, as JSON or YAML, such as claude_desktop_config.json, .mcp.json, ~/.claude.json,
    /// .cursor/mcp.json, .vscode/mcp.json, .gemini/settings.json or opencode.json; - is stdin
    file: PathBuf,
    /// Import only this server; repeatable
    #[arg(long, value_name = "NAME")]
    only: Vec<String>,
    /// Run the servers that are commands and register them, until this process ends
    #[arg(long)]
    expose: bool,
    /// Print what would be imported without storing it
    #[arg(long)]
    dry_run: bool,
}

/// Runs `import`.
pub async fn run(invocation: &Invocation, args: Args) -> Result {
    let entries = chosen(&args)?;
    let mut skipped = Skipped::default();
    for name in &args.only {
        if entries.iter().all(|entry| entry.key != *name) {
            skipped.add(name, "there is none of this name");
        }
    }
    let mut commands = Vec::new();
    for entry in entries {
        match entry.state {
            EntryState::Server(server) => {
                let command = import(invocation, &args, server, &mut skipped).await?;
                commands.extend(command);
            }
            EntryState::Off => eprint(format!("server {}: left out, since it is disabled", entry.key)),
            EntryState::Unusable(reason) => skipped.add(&entry.key, &reason),
        }
    }
    if args.expose && !args.dry_run {
        run_all(invocation, commands, &mut skipped).await?;
    } else {
        print_commands(&commands)?;
    }
    skipped.into_result()
}

/// The servers that were not imported.
#[derive(Debug, Default)]
struct Skipped(Vec<String>);

impl Skipped {
    fn add(&mut self, server: &str, reason: &str) {
        eprint(format!("server {server}: skipped: {reason}"));
        self.0.push(server.to_owned());
    }

    fn into_result(self) -> Result {
        if self.0.is_empty() {
            return Ok(());
        }
        Err(Error::failure(format!("not imported: {}", self.0.join(", "))))
    }
}

/// Reads the entries that were asked for.
fn chosen(args: &Args) -> Result<Vec<HostEntry>> {
    let wrong = |why: String| Error::usage(format!("{}: {why}", args.file.display()));
    let value = text::decode(&bytes(&args.file)?).and_then(|text| text::parse(&text)).map_err(wrong)?;
    let mut entries = file::parse(&value, is_gemini(&args.file)).map_err(wrong)?;
    entries.retain(|entry| args.only.is_empty() || args.only.contains(&entry.key));
    if entries.is_empty() {
        return Err(Error::not_found(format!("{} contains no matching server", args.file.display())));
    }
    Ok(entries)
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

/// Imports one server, or returns it if it is a command.
async fn import(
    invocation: &Invocation,
    args: &Args,
    mut server: HostServer,
    skipped: &mut Skipped,
) -> Result<Option<HostServer>> {
    for note in &server.notes {
        eprint(format!("server {}: {note}", server.key));
    }
    // A command keeps its variables until it runs, and is printed with them.
    let Transport::Http { .. } = &server.transport else { return Ok(Some(server)) };
    match resolved(&server.transport) {
        Ok(resolved) => server.transport = resolved,
        Err(unresolved) => {
            skipped.add(&server.key, &unresolved.to_string());
            return Ok(None);
        }
    }
    if args.dry_run {
        print(&format!("{} imported (dry run)", server.id))?;
    } else {
        let client = invocation.client().await?;
        skip_if_refused(&server.key, remote(&client, &server).await, skipped)?;
    }
    Ok(None)
}

/// Replaces variables by their values in this environment.
fn resolved(transport: &Transport) -> Result<Transport> {
    let resolved = transport.resolve(&|name| std::env::var(name).ok());
    resolved.map_err(|unresolved| Error::failure(unresolved.to_string()))
}

/// Skips a server that was refused. What every other would meet, too, ends the import.
fn skip_if_refused(server: &str, outcome: Result, skipped: &mut Skipped) -> Result {
    match outcome {
        Err(error) if matches!(error.exit, Exit::Refused | Exit::Unavailable) => Err(error),
        Err(error) => {
            skipped.add(server, &error.to_string());
            Ok(())
        }
        Ok(()) => Ok(()),
    }
}

async fn remote(client: &ControlClient, server: &HostServer) -> Result {
    let Transport::Http { url, headers } = &server.transport else { return Ok(()) };
    let kind = Kind::from_word("upstream");
    let name = kind.full_name(&server.id)?;
    let mut upstream = json!({ "name": name, "http": { "url": url } });
    let mut mask = "http.url".to_owned();
    if let Some(credential) = transport::credential(headers) {
        upstream["credential"] = credential;
        mask.push_str(",credential");
    }
    let exists = client.call(&kind.method("Get"), json!({ "name": name })).await.is_ok();
    let request = json!({ "upstream": upstream, "updateMask": mask, "allowMissing": true });
    let answer = client.call(&kind.method("Update"), request).await?;
    let item = reflection::submessage(&answer, kind.singular)
        .ok_or_else(|| Error::failure("the response contains no upstream"))?;
    let replaced = if exists { "; it was there already, and is changed" } else { "" };
    print(&format!("{} imported{replaced}", reflection::text(&item, "name")))
}

/// Prints the commands to run.
fn print_commands(commands: &[HostServer]) -> Result {
    if commands.is_empty() {
        return Ok(());
    }
    eprint("These servers are commands and were not run. Run them yourself, or use --expose:");
    for entry in commands {
        print(&entry.transport.command_line(&entry.id))?;
    }
    if commands
        .iter()
        .any(|entry| matches!(&entry.transport, Transport::Stdio { env, .. } if !env.is_empty()))
    {
        eprint("Set the variables first, to their values in the file or in the environment of its host.");
    }
    Ok(())
}

/// A command that runs and is to be offered.
struct Started {
    server: String,
    id: String,
    running: Running,
}

async fn run_all(invocation: &Invocation, commands: Vec<HostServer>, skipped: &mut Skipped) -> Result {
    let mut stop = StopSignal::new()?;
    let mut started = Vec::new();
    let offered = tokio::select! {
        offered = offer_all(invocation, commands, &mut started, skipped) => Some(offered),
        () = stop.wait() => None,
    };
    if matches!(offered, Some(Ok(()))) && !started.is_empty() {
        let all = if skipped.0.is_empty() { "All servers" } else { "All other servers" };
        eprint(format!("{all} are running. Press Ctrl-C to stop them."));
        stop.wait().await;
    }
    join_all(started.into_iter().map(|one| one.running.stop())).await;
    offered.unwrap_or(Ok(()))
}

/// Starts the commands, and registers each when it is ready: none waits for another. Those that cannot be offered are
/// stopped.
async fn offer_all(
    invocation: &Invocation,
    commands: Vec<HostServer>,
    started: &mut Vec<Started>,
    skipped: &mut Skipped,
) -> Result {
    for server in commands {
        let key = server.key.clone();
        let one = start(server).await;
        skip_if_refused(&key, one.map(|one| started.extend(one)), skipped)?;
    }
    let offers = join_all(started.iter().map(|one| offer(invocation, one))).await;
    let (mut refused, mut outcome) = (Vec::new(), Ok(()));
    for (one, offered) in std::mem::take(started).into_iter().zip(offers) {
        if offered.is_ok() {
            started.push(one);
            continue;
        }
        outcome = outcome.and(skip_if_refused(&one.server, offered, skipped));
        refused.push(one.running.stop());
    }
    join_all(refused).await;
    outcome
}

/// Runs a command.
async fn start(server: HostServer) -> Result<Option<Started>> {
    let Transport::Stdio { command: named, .. } = &server.transport else { return Ok(None) };
    let Transport::Stdio { command, env } = resolved(&server.transport)? else { return Ok(None) };
    eprint(format!("[{}] running {}", server.id, transport::shell_words(named)));
    let mut program = Program::new(command.into_iter().map(Into::into).collect(), Some(server.id.clone()));
    program.env = env;
    if !program.exists() {
        return Err(Error::not_found("command not found"));
    }
    let settings = Settings {
        listen: Some(([127, 0, 0, 1], 0).into()),
        hosts: Vec::new(),
        origins: Vec::new(),
        restart: true,
        start_timeout: std::time::Duration::from_secs(120),
        eras: Eras::Auto,
        env_from_headers: Vec::new(),
    };
    let running = expose::start(program, settings).await?;
    Ok(Some(Started { server: server.key, id: server.id, running }))
}

async fn offer(invocation: &Invocation, one: &Started) -> Result {
    let (id, who) = (&one.id, one.running.ready().await?);
    let url = one.running.url().unwrap_or_default();
    eprint(format!("[{id}] {who}; listening at {url}"));
    register_as(invocation, id, &url).await
}
