//! `mcpctl import FILE`: imports the servers of another MCP host.
//!
//! Servers with a URL become upstreams. Servers that are commands run only with `--expose`; without it, the commands to run
//! are printed.

pub mod file;
mod jsonc;
mod variables;

use std::path::{Path, PathBuf};

use mcp::border::without_mark;
use serde_json::json;

use crate::bridge::child::Program;
use crate::bridge::expose::{self, Eras, Running, Settings};
use crate::commands::Invocation;
use crate::commands::expose::{StopSignal, register_as};
use crate::error::{Error, Result};
use crate::kinds::Kind;
use crate::output::{eprint, print};
use crate::reflection;
use file::{HostServer, Transport};

/// Arguments of `import`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Configuration file, such as claude_desktop_config.json, .mcp.json, .cursor/mcp.json or .vscode/mcp.json
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
    let text = read(&args.file)?;
    let mut entries =
        file::parse(&text).map_err(|why| Error::usage(format!("{}: {why}", args.file.display())))?;
    entries.retain(|entry| args.only.is_empty() || args.only.contains(&entry.key));
    if entries.is_empty() {
        return Err(Error::not_found(format!("{} contains no matching server", args.file.display())));
    }
    let mut skipped = Vec::new();
    let mut commands = Vec::new();
    for entry in entries {
        // A command that is only printed keeps its variables.
        if matches!(entry.transport, Transport::Stdio { .. }) && (args.dry_run || !args.expose) {
            commands.push(entry);
            continue;
        }
        let key = entry.key.clone();
        match entry.resolve(&|name| std::env::var(name).ok()) {
            Err(unresolved) => {
                eprint(format!("server {key}: skipped: {unresolved}"));
                skipped.push(key);
            }
            Ok(entry) => match entry.transport {
                Transport::Http { .. } if args.dry_run => print(&format!("{} imported (dry run)", entry.id))?,
                Transport::Http { .. } => remote(invocation, &entry).await?,
                Transport::Stdio { .. } => commands.push(entry),
            },
        }
    }
    if args.expose && !args.dry_run {
        run_all(invocation, commands).await?;
    } else {
        print_commands(&commands)?;
    }
    if skipped.is_empty() {
        Ok(())
    } else {
        Err(Error::failure(format!("not imported: {}", skipped.join(", "))))
    }
}

/// Reads a configuration file as text, without a byte order mark.
fn read(path: &Path) -> Result<String> {
    let bytes = std::fs::read(path)
        .map_err(|error| Error::usage(format!("cannot read {}: {error}", path.display())))?;
    let wrong = |why: &str| Error::usage(format!("{}: {why}", path.display()));
    if bytes.starts_with(b"\xff\xfe") || bytes.starts_with(b"\xfe\xff") {
        return Err(wrong("it is UTF-16, as PowerShell writes it; save it as UTF-8"));
    }
    let text = std::str::from_utf8(without_mark(&bytes))
        .map_err(|error| wrong(&format!("it is not UTF-8 from byte {} on", error.valid_up_to())))?;
    Ok(text.to_owned())
}

async fn remote(invocation: &Invocation, entry: &HostServer) -> Result {
    let Transport::Http { url, headers } = &entry.transport else { return Ok(()) };
    let kind = Kind::from_word("upstream");
    let mut upstream = json!({ "name": kind.full_name(&entry.id)?, "http": { "url": url } });
    let mut mask = "http.url".to_owned();
    if let Some(credential) = file::credential(headers) {
        upstream["credential"] = credential;
        mask.push_str(",credential");
    }
    let request = json!({ "upstream": upstream, "updateMask": mask, "allowMissing": true });
    let answer = invocation.client().await?.call(&kind.method("Update"), request).await?;
    let item = reflection::submessage(&answer, kind.singular)
        .ok_or_else(|| Error::failure("the response contains no upstream"))?;
    print(&format!("{} imported", reflection::text(&item, "name")))
}

/// Prints the commands to run.
fn print_commands(commands: &[HostServer]) -> Result {
    if commands.is_empty() {
        return Ok(());
    }
    eprint("These servers are commands and were not run. Run them yourself, or use --expose:");
    for entry in commands {
        print(&file::command_line(entry))?;
    }
    if commands
        .iter()
        .any(|entry| matches!(&entry.transport, Transport::Stdio { env, .. } if !env.is_empty()))
    {
        eprint("Set the variables first, to their values in the file or in the environment of its host.");
    }
    Ok(())
}

async fn run_all(invocation: &Invocation, commands: Vec<HostServer>) -> Result {
    let mut stop = StopSignal::new()?;
    let mut running = Vec::new();
    let served = tokio::select! {
        served = start_all(invocation, commands, &mut running) => served,
        () = stop.wait() => Ok(()),
    };
    if served.is_ok() && !running.is_empty() {
        eprint("All servers are running. Press Ctrl-C to stop them.");
        stop.wait().await;
    }
    for one in running {
        one.stop().await;
    }
    served
}

async fn start_all(invocation: &Invocation, commands: Vec<HostServer>, running: &mut Vec<Running>) -> Result {
    for entry in commands {
        let Transport::Stdio { command, env } = entry.transport else { continue };
        eprint(format!("[{}] running {}", entry.id, command.join(" ")));
        let mut program = Program::new(command.into_iter().map(Into::into).collect(), Some(entry.id.clone()));
        program.env = env;
        if !program.exists() {
            eprint(format!("[{}] skipped: command not found", entry.id));
            continue;
        }
        let settings = Settings {
            listen: Some(([127, 0, 0, 1], 0).into()),
            hosts: Vec::new(),
            restart: true,
            start_timeout: std::time::Duration::from_secs(120),
            eras: Eras::Auto,
            env_from_headers: Vec::new(),
        };
        let one = expose::start(program, settings).await?;
        running.push(one);
        let Some(one) = running.last() else { continue };
        let who = one.ready().await?;
        let url = one.url().unwrap_or_default();
        eprint(format!("[{}] {who}; listening at {url}", entry.id));
        register_as(invocation, &entry.id, &url).await?;
    }
    Ok(())
}
