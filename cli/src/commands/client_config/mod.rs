//! `mcpctl client-config SERVER --for HOST`: the configuration of an MCP host, or a program; printed, or written into the
//! host's own file.
//!
//! Bearers are shown only with `--show-bearer`. Entries refer to a variable or to an input of the host where its file can; the
//! others run `mcpctl connect`, which reads the bearer from the context file.

mod diff;
mod form;
mod host_file;
mod hosts;
mod listing;
pub mod ours;
mod places;
mod programs;
mod snippet;
mod splice;
mod write;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::client::acceptance::Acceptance;
use crate::client::access::{session_of, signed_in};
use crate::client::caller::{VARIABLE, saved};
use crate::client::standing::nonexistent;
use crate::client::token_states::without_ended;
use crate::commands::Invocation;
use crate::context::{Context, SavedToken};
use crate::error::{Error, Result};
use crate::output::{self, Format};
use form::FormFlags;
use hosts::{Host, HostSpec, names};
use places::Machine;
use snippet::{Parts, Snippet};

/// Time for the answer of the edge.
const PATIENCE: Duration = Duration::from_secs(5);

/// Arguments of `client-config`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Name of the server
    #[arg(required_unless_present = "list")]
    server: Option<String>,
    /// Host or library to configure
    #[arg(long = "for", value_enum, value_name = "HOST", required_unless_present = "list")]
    host: Option<Host>,
    /// Name of the entry in the host's file [default: that of the server]
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    #[command(flatten)]
    form: FormFlags,
    /// List the hosts of this machine with their files, and the entries in them that lead to Trunkline
    #[arg(long, conflicts_with_all = ["server", "name", "token", "show_bearer", "via", "transport", "variable", "write", "remove"])]
    list: bool,
    #[command(flatten)]
    file: FileFlags,
}

/// The flags that change the file of a host.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "The host's file")]
struct FileFlags {
    /// Write the entry into the host's own file; a copy of the file is kept beside it
    #[arg(long, conflicts_with = "remove")]
    write: bool,
    /// Remove the entry from the host's own file
    #[arg(long, conflicts_with_all = ["token", "show_bearer", "via", "transport", "variable", "replace"])]
    remove: bool,
    /// File to change, such as that of a project [default: that of the host on this system]
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Replace an entry of this name that does not lead to Trunkline
    #[arg(long, requires = "write")]
    replace: bool,
    /// Print the difference without making it
    #[arg(long)]
    dry_run: bool,
}

/// Runs `client-config`.
pub async fn run(invocation: &Invocation, args: Args) -> Result {
    args.file.check()?;
    let (Some(server), Some(host)) = (&args.server, args.host) else {
        return listing::run(invocation, args.host.map(|host| args.form.meant(host)));
    };
    let server = server.strip_prefix("servers/").unwrap_or(server);
    if host == Host::Claude && args.file.changes() {
        return Err(Error::usage(
            "claude is the name of two hosts, each with a file of its own; say --for claude-desktop or --for claude-code",
        ));
    }
    let host = args.form.meant(host);
    match host.spec() {
        Some(spec) if args.file.remove => {
            let name = args.name.as_deref().unwrap_or(server);
            write::remove(spec, &args.file, name, edge(invocation)?.as_deref())
        }
        Some(spec) => for_host(invocation, &args, server, spec).await,
        None => program(invocation, &args, server, host).await,
    }
}

impl FileFlags {
    fn changes(&self) -> bool {
        self.write || self.remove
    }

    fn check(&self) -> Result {
        let alone = [("--file", self.file.is_some()), ("--dry-run", self.dry_run)];
        match alone.into_iter().find(|(_, given)| *given && !self.changes()) {
            Some((flag, _)) => Err(Error::usage(format!(
                "{flag} has no effect without --write or --remove; add one of them"
            ))),
            None => Ok(()),
        }
    }
}

/// Prints the entry for a host, or writes it.
async fn for_host(invocation: &Invocation, args: &Args, server: &str, spec: &'static HostSpec) -> Result {
    let mut form = args.form.form(spec)?;
    let found = ChosenToken::of(invocation, server, args.form.token.as_deref()).await?;
    let context = &found.context;
    let (token, kept) = match found.token() {
        Some(found) => found,
        None => {
            form = args.form.by_command(spec).ok_or_else(|| found.none(invocation, server))?;
            ("", &found.nobodys)
        }
    };
    let contexts = invocation.context_file.read()?;
    let current = invocation.context_file.current_name(&contexts);
    let url = form.wire.address(&context.server_url(server)?);
    let program = program_path();
    let parts = Parts {
        server,
        name: args.name.as_deref().unwrap_or(server),
        url: &url,
        token,
        is_named: found.is_named,
        bearer: form.shows_bearer.then(|| kept.bearer.expose()),
        variable: args.form.variable.as_deref().unwrap_or(VARIABLE),
        config: invocation.context_file.path(),
        context: current.as_deref(),
        program: &program,
    };
    let snippet = Snippet::new(spec, form, parts)?;
    if args.file.write {
        return write::write(spec, &args.file, &snippet, context.edge_url().ok());
    }
    output::print(&match invocation.format() {
        Format::Table | Format::Wide => snippet.render()?,
        Format::Name => output::name_line(parts.name),
        format => output::value(&snippet.document(), format, String::new)?,
    })?;
    output::eprint(format!("Save this in {}, or add --write. {}", spec.place, snippet.advice()));
    Ok(())
}

/// Prints a program.
async fn program(invocation: &Invocation, args: &Args, server: &str, host: Host) -> Result {
    let wire = args.form.program(host)?;
    let others = [
        ("--write", args.file.write),
        ("--remove", args.file.remove),
        ("--name", args.name.is_some()),
        ("--output", *invocation.format() != Format::Table),
    ];
    if let Some((flag, _)) = others.into_iter().find(|(_, given)| *given) {
        let (host, hosts) = (host.name(), names(|_| true));
        return Err(Error::usage(format!(
            "{flag} has no effect on {host}, which is no host with a file but a library; it has one on {hosts}"
        )));
    }
    let found = ChosenToken::of(invocation, server, args.form.token.as_deref()).await?;
    let (token, kept) = found.token().ok_or_else(|| found.none(invocation, server))?;
    let context = &found.context;
    let url = wire.address(&context.server_url(server)?);
    let variable = args.form.variable.as_deref().unwrap_or(VARIABLE);
    let bearer = args.form.show_bearer.then(|| kept.bearer.expose());
    let text = programs::render(host, wire, &url, bearer, variable);
    output::print(&text.ok_or_else(|| Error::usage(format!("{} is not known here", host.name())))?)?;
    output::eprint(programs::advice(host, token, bearer.is_some(), variable));
    Ok(())
}

/// The saved token for a server, or who calls without one.
struct ChosenToken {
    context: Context,
    /// The name that it is saved under. `None`: no saved token may call the server, and somebody is signed in.
    name: Option<String>,
    /// Whether `mcpctl connect` would not choose it by itself, or it was named.
    is_named: bool,
    /// What is known of no token.
    nobodys: SavedToken,
}

impl ChosenToken {
    /// Finds it. That there is no such server is said, and is an error where no token may call it.
    async fn of(invocation: &Invocation, server: &str, named: Option<&str>) -> Result<Self> {
        let context = invocation.context()?;
        let (context, bound) = without_ended(invocation, context, server, named).await;
        let file = invocation.context_file.path();
        let first = saved(&context, file, server, named).map(|(name, _)| name.to_owned());
        let calls_as_themselves = first.is_err() && named.is_none() && session_of(&context).is_some();
        match nonexistent(invocation, server).await {
            // Of a server that is not theirs to see, only the edge knows whether they may call it.
            Some(_) if calls_as_themselves && opens(invocation, &context, server).await => {}
            Some(why) if first.is_err() => return Err(why),
            Some(why) => output::eprint(format!("warning: {why}")),
            None => {}
        }
        let first = match first {
            Err(error) if !calls_as_themselves => return Err(error),
            first => first.ok(),
        };
        let name = match named {
            None => first.clone().map(|first| unbound(&context, file, server, &bound).unwrap_or(first)),
            Some(_) => first.clone(),
        };
        if let Some((name, bounds)) = name.as_ref().and_then(|name| bound.get_key_value(name)) {
            output::eprint(format!("warning: token {name} may be used only {bounds}; --token names another"));
        }
        let is_named = named.is_some() || name != first;
        Ok(Self { context, name, is_named, nobodys: SavedToken::default() })
    }

    fn token(&self) -> Option<(&str, &SavedToken)> {
        let (name, token) = self.context.tokens.get_key_value(self.name.as_deref()?)?;
        Some((name, token))
    }

    /// The error where a token is needed.
    fn none(&self, invocation: &Invocation, server: &str) -> Error {
        let error = saved(&self.context, invocation.context_file.path(), server, None).err();
        let error = error.unwrap_or_else(|| Error::not_found("no token is saved"));
        error.or(&format!("have a host that runs commands run `mcpctl connect {server}`, which calls as you"))
    }
}

/// Whether the edge opens a server for whoever is signed in.
async fn opens(invocation: &Invocation, context: &Context, server: &str) -> bool {
    match signed_in(invocation, context).await {
        Ok(Some(caller)) => {
            let patience = invocation.timeout().min(PATIENCE);
            matches!(Acceptance::at(context, server, &caller, patience).await, Acceptance::Opened)
        }
        _ => false,
    }
}

/// The first saved token for a server that no condition binds.
fn unbound(context: &Context, file: &Path, server: &str, bound: &BTreeMap<String, String>) -> Option<String> {
    let mut free = context.clone();
    free.tokens.retain(|name, _| !bound.contains_key(name));
    saved(&free, file, server, None).ok().map(|(name, _)| name.to_owned())
}

/// The entries in the files of hosts that lead to Trunkline, as texts.
pub fn own_entries(invocation: &Invocation) -> Vec<String> {
    listing::texts(edge(invocation).ok().flatten().as_deref())
}

/// The URL of the edge, if there is one.
fn edge(invocation: &Invocation) -> Result<Option<String>> {
    Ok(invocation.context()?.edge_url().ok().map(str::to_owned))
}

/// Does something with what hosts see of this machine.
fn with_machine<T>(action: impl FnOnce(&Machine<'_>) -> T) -> T {
    let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let home = std::env::home_dir().unwrap_or_default();
    action(&Machine { system: places::system(), home, variable: &variable })
}

/// Where this program is: as it is found on the PATH, where a later version will be, too; else where it runs from.
fn program_path() -> PathBuf {
    let own = std::env::current_exe().unwrap_or_else(|_| "mcpctl".into());
    let Some(name) = own.file_name() else { return own };
    let same = |path: &PathBuf| is_same_file(path, &own);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).filter(|folder| folder.is_absolute());
    let found = folders.map(|folder| folder.join(name)).find(same);
    found.unwrap_or(own)
}

fn is_same_file(one: &Path, other: &Path) -> bool {
    matches!((one.canonicalize(), other.canonicalize()), (Ok(one), Ok(other)) if one == other)
}

#[cfg(test)]
mod tests;
