//! `mcpctl import FILE`: what another MCP host is configured with.
//!
//! Servers that are reached by URL become upstreams. Servers that are commands are never run unless `--expose` says
//! so; without it the commands that would are printed.

pub mod file;

use std::path::PathBuf;

use serde_json::json;

use crate::bridge::child::Program;
use crate::bridge::expose::{self, Eras, Running, Settings};
use crate::commands::Session;
use crate::commands::expose::{Stop, register_as};
use crate::contract;
use crate::error::{Error, Result};
use crate::nouns::Noun;
use crate::output::{out, say};
use file::{Entry, How};

/// Arguments of `import`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// claude_desktop_config.json, .mcp.json, .cursor/mcp.json, .vscode/mcp.json …
    file: PathBuf,
    /// Only this server; may be repeated
    #[arg(long, value_name = "NAME")]
    only: Vec<String>,
    /// Run the servers that are commands, here and now, and register them; ends them when it ends
    #[arg(long)]
    expose: bool,
    /// Only say what would be done
    #[arg(long)]
    dry_run: bool,
}

/// Runs `import`.
pub async fn run(session: &Session, args: Args) -> Result {
    let text = std::fs::read_to_string(&args.file)
        .map_err(|error| Error::usage(format!("{}: {error}", args.file.display())))?;
    let mut entries =
        file::parse(&text).map_err(|why| Error::usage(format!("{}: {why}", args.file.display())))?;
    entries.retain(|entry| args.only.is_empty() || args.only.contains(&entry.key));
    if entries.is_empty() {
        return Err(Error::not_found(format!("{}: no such server in it", args.file.display())));
    }
    let mut commands = Vec::new();
    for entry in entries {
        match &entry.how {
            How::Remote { .. } if args.dry_run => out(&format!("{} would become an upstream", entry.id))?,
            How::Remote { .. } => remote(session, &entry).await?,
            How::Command { .. } => commands.push(entry),
        }
    }
    if args.expose && !args.dry_run {
        return run_all(session, commands).await;
    }
    print(&commands)
}

async fn remote(session: &Session, entry: &Entry) -> Result {
    let How::Remote { url, headers } = &entry.how else { return Ok(()) };
    let noun = Noun::of_word("upstream");
    let mut upstream = json!({ "name": noun.full_name(&entry.id)?, "http": { "url": url } });
    let mut mask = "http.url".to_owned();
    if let Some(credential) = file::credential(headers) {
        upstream["credential"] = credential;
        mask.push_str(",credential");
    }
    let request = json!({ "upstream": upstream, "updateMask": mask, "allowMissing": true });
    let answer = session.client().await?.call(&noun.method("Update"), request).await?;
    let item = contract::part(&answer, noun.singular)
        .ok_or_else(|| Error::failure("the answer holds no upstream"))?;
    out(&format!("{} imported", contract::text(&item, "name")))
}

/// The commands that a person would run. Values of variables may be secret: they are named, and not shown.
fn print(commands: &[Entry]) -> Result {
    if commands.is_empty() {
        return Ok(());
    }
    say("these servers are commands; nothing was run. With --expose they are, or run them yourself:");
    for entry in commands {
        out(&file::command_line(entry))?;
    }
    if commands.iter().any(|entry| matches!(&entry.how, How::Command { env, .. } if !env.is_empty())) {
        say("set the variables they name first, as the file has them");
    }
    Ok(())
}

async fn run_all(session: &Session, commands: Vec<Entry>) -> Result {
    let mut stop = Stop::new()?;
    let mut running = Vec::new();
    let served = tokio::select! {
        served = start_all(session, commands, &mut running) => served,
        () = stop.wait() => Ok(()),
    };
    if served.is_ok() && !running.is_empty() {
        say("all are running; Ctrl-C ends them");
        stop.wait().await;
    }
    for one in running {
        one.stop().await;
    }
    served
}

async fn start_all(session: &Session, commands: Vec<Entry>, running: &mut Vec<Running>) -> Result {
    for entry in commands {
        let How::Command { command, env } = entry.how else { continue };
        say(format!("[{}] running {}", entry.id, command.join(" ")));
        let mut program = Program::new(command.into_iter().map(Into::into).collect(), Some(entry.id.clone()));
        program.env = env;
        if !program.exists() {
            say(format!("[{}] is left out: no such command", entry.id));
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
        say(format!("[{}] {who}, offered at {url}", entry.id));
        register_as(session, &entry.id, &url).await?;
    }
    Ok(())
}
