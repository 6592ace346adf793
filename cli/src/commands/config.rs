//! `mcpctl config`: contexts, and the bearers saved in them.

use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};

use clap::Subcommand;

use crate::ask;
use crate::client::caller;
use crate::commands::Invocation;
use crate::commands::fields::read_text;
use crate::confirm::confirm;
use crate::context::{Context, Contexts, SavedToken, Secret};
use crate::error::{Error, Exit, Result, tls};
use crate::kinds::short_name;
use crate::output::{self, Format, table};
use crate::suggest::did_you_mean;

/// Arguments of `config`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// List contexts
    GetContexts,
    /// Print the name of the current context
    CurrentContext,
    /// Set the current context
    UseContext {
        /// Name of the context
        name: String,
    },
    /// Create or change a context; the first one becomes the current context
    SetContext {
        /// Name of the context
        name: String,
        /// URL of the control plane, such as http://127.0.0.1:4445
        #[arg(long, value_name = "URL")]
        control: Option<String>,
        /// URL of the edge, such as http://127.0.0.1:4444
        #[arg(long, value_name = "URL")]
        edge: Option<String>,
        /// File with the admin token; - reads the token from stdin and saves it in the context
        #[arg(long, value_name = "FILE")]
        admin_token_file: Option<PathBuf>,
        /// Certificates (PEM) to trust in addition to those of the system
        #[arg(long, value_name = "FILE")]
        ca_file: Option<PathBuf>,
    },
    /// Delete a context and the bearers saved in it
    DeleteContext {
        /// Name of the context
        name: String,
        /// Delete the bearers saved in it without a question
        #[arg(short, long)]
        yes: bool,
    },
    /// Save a bearer that you were given, for `call`, `connect` and `client-config`
    SetBearer {
        /// Name to save it under [default: the name of its token]
        name: Option<String>,
        /// File with the bearer; - reads stdin [default: asked for on a terminal, else stdin]
        #[arg(long, value_name = "FILE")]
        file: Option<PathBuf>,
        /// Server that it may call, or * for all; repeatable
        #[arg(long = "server", value_name = "NAME", default_value = "*")]
        servers: Vec<String>,
        /// Replace the bearer that is saved under this name
        #[arg(long)]
        replace: bool,
    },
    /// Print a saved bearer
    GetBearer {
        /// Name of the token
        name: String,
    },
}

/// Runs `config`.
pub fn run(invocation: &Invocation, args: Args) -> Result {
    match args.action {
        Action::GetContexts => get_contexts(invocation),
        Action::CurrentContext => {
            let name = invocation.context_file.current_name(&invocation.context_file.read()?);
            output::print(&name.ok_or_else(|| {
                Error::not_found("no current context is set; run `mcpctl config use-context NAME` to set one")
            })?)
        }
        Action::UseContext { name } => {
            invocation.context_file.edit(|contexts| {
                check_known(contexts, &name)?;
                contexts.current_context = Some(name.clone());
                Ok(())
            })?;
            output::eprint(format!("context {name} is the current context"));
            Ok(())
        }
        Action::DeleteContext { name, yes } => {
            confirm_loss(&name, invocation.context_file.read()?.contexts.get(&name), yes)?;
            invocation.context_file.edit(|contexts| {
                check_known(contexts, &name)?;
                contexts.contexts.remove(&name);
                contexts.current_context.take_if(|current| *current == name);
                Ok(())
            })?;
            output::eprint(format!("context {name} deleted"));
            Ok(())
        }
        Action::GetBearer { name } => {
            let file = invocation.context_file.path();
            output::print(invocation.context()?.saved_token(&name, file)?.1.bearer.expose())
        }
        Action::SetBearer { name, file, servers, replace } => {
            set_bearer(invocation, name, file.as_deref(), &servers, replace)
        }
        Action::SetContext { name, control, edge, admin_token_file, ca_file } => {
            let is_nothing = control.is_none() && edge.is_none() && admin_token_file.is_none();
            if is_nothing && ca_file.is_none() {
                return Err(Error::usage(format!(
                    "nothing to set in context {name}; give --control, --edge, --admin-token-file or --ca-file"
                )));
            }
            for url in [&control, &edge].into_iter().flatten() {
                check_url(url)?;
            }
            let ca_file = ca_file.map(std::path::absolute).transpose()?;
            if let Some(path) = &ca_file {
                tls::read_certificates(path)?;
            }
            let from_stdin = admin_token_file.as_ref().is_some_and(|path| path.as_os_str() == "-");
            let token = admin_token_file.as_deref().filter(|_| from_stdin).map(read_text).transpose()?;
            let exists = invocation.context_file.edit(|contexts| {
                let exists = contexts.contexts.contains_key(&name);
                let context = contexts.contexts.entry(name.clone()).or_default();
                context.control = control.or(context.control.take());
                context.edge = edge.or(context.edge.take());
                context.ca_file = ca_file.or(context.ca_file.take());
                if let Some(token) = token {
                    (context.admin_token, context.admin_token_file) = (Some(Secret::new(token)), None);
                } else if let Some(path) = admin_token_file {
                    let path = std::path::absolute(path)?;
                    (context.admin_token, context.admin_token_file) = (None, Some(path));
                }
                contexts.current_context.get_or_insert_with(|| name.clone());
                Ok(exists)
            })?;
            output::eprint(format!("context {name} {}", if exists { "updated" } else { "created" }));
            Ok(())
        }
    }
}

/// Asks where bearers would be lost, which are shown only once.
fn confirm_loss(name: &str, context: Option<&Context>, yes: bool) -> Result {
    let Some(context) = context.filter(|context| !context.tokens.is_empty()) else { return Ok(()) };
    let tokens = context.tokens.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
    confirm(&format!("context {name} holds the only copy of the bearers of {tokens}"), yes)
}

/// Saves a bearer in the current context. One that is there under this name is kept, unless it is to be replaced: bearers
/// are shown only once.
fn set_bearer(
    invocation: &Invocation,
    name: Option<String>,
    file: Option<&Path>,
    servers: &[String],
    replace: bool,
) -> Result {
    let is_asked = file.is_none() && std::io::stdin().is_terminal();
    let (text, place) = match file {
        Some(path) => (read_text(path)?, path.display().to_string()),
        None if is_asked => (ask::secret("Bearer: ")?, "the answer".to_owned()),
        None => (read_text(Path::new("-"))?, "stdin".to_owned()),
    };
    let bearer = caller::checked(&text, &place)?;
    let told = || caller::claims(&bearer)?["sub"].as_str()?.strip_prefix("tokens/").map(str::to_owned);
    let name = name.map(|name| short_name(&name)).or_else(told).ok_or_else(|| {
        Error::usage("the bearer does not say of which token it is; run `mcpctl config set-bearer NAME`")
    })?;
    let path = invocation.context_file.path();
    let earlier = invocation.context()?.tokens.remove(&name);
    if !replace && earlier.is_some_and(|earlier| earlier.bearer != bearer) {
        return Err(Error::new(
            Exit::Conflict,
            format!(
                "another bearer of token {name} is saved in {}; add --replace to replace it",
                path.display()
            ),
        ));
    }
    let servers = servers.iter().map(|server| short_name(server)).collect();
    let token = SavedToken { bearer, servers, ..SavedToken::default() };
    invocation.context_file.save_token(&name, token)?;
    output::eprint(format!("bearer of token {name} saved in {}", path.display()));
    Ok(())
}

fn check_known(contexts: &Contexts, name: &str) -> Result {
    if contexts.contexts.contains_key(name) {
        return Ok(());
    }
    let hint = did_you_mean(name, contexts.contexts.keys().map(String::as_str));
    Err(Error::not_found(format!(
        "context {name} does not exist{hint}; run `mcpctl config get-contexts` to list contexts"
    )))
}

fn check_url(url: &str) -> Result {
    match url::Url::parse(url) {
        Ok(parsed) if matches!(parsed.scheme(), "http" | "https") && parsed.has_host() => Ok(()),
        _ => Err(Error::usage(format!("{url:?} is not an http or https URL"))),
    }
}

fn get_contexts(invocation: &Invocation) -> Result {
    let contexts = invocation.context_file.read()?;
    let current = invocation.context_file.current_name(&contexts);
    let names = || contexts.contexts.keys().cloned();
    if invocation.format() == Format::Name {
        return output::print(&names().map(|name| output::name_line(&name)).collect::<String>());
    }
    let names: Vec<_> = names().collect();
    let rows = contexts.contexts.iter().map(|(name, context)| {
        let mark = if current.as_ref() == Some(name) { "*" } else { "" };
        let url = |url: &Option<String>| url.clone().unwrap_or_default();
        let tokens = context.tokens.keys().cloned().collect::<Vec<_>>().join(",");
        vec![name.clone(), mark.to_owned(), url(&context.control), url(&context.edge), tokens]
    });
    let titles = ["NAME", "CURRENT", "CONTROL PLANE", "EDGE", "SAVED TOKENS"].map(str::to_owned).to_vec();
    output::print(&output::value(&names, invocation.format(), || table::render_rows(titles, rows))?)
}
