//! `mcpctl config`: contexts, and the bearers saved in them.

use std::path::PathBuf;

use clap::Subcommand;

use crate::commands::Invocation;
use crate::commands::fields::read_text;
use crate::context::Secret;
use crate::error::{Error, Result};
use crate::output::{self, Format, table};

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
                check_known(contexts.contexts.contains_key(&name), &name)?;
                contexts.current_context = Some(name.clone());
                Ok(())
            })?;
            output::eprint(format!("context {name} is the current context"));
            Ok(())
        }
        Action::DeleteContext { name } => {
            invocation.context_file.edit(|contexts| {
                check_known(contexts.contexts.remove(&name).is_some(), &name)?;
                contexts.current_context.take_if(|current| *current == name);
                Ok(())
            })?;
            output::eprint(format!("context {name} deleted"));
            Ok(())
        }
        Action::GetBearer { name } => {
            output::print(invocation.context()?.token_for("", Some(&name))?.1.bearer.expose())
        }
        Action::SetContext { name, control, edge, admin_token_file, ca_file } => {
            for url in [&control, &edge].into_iter().flatten() {
                check_url(url)?;
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

fn check_known(known: bool, name: &str) -> Result {
    if known {
        Ok(())
    } else {
        Err(Error::not_found(format!(
            "context {name} does not exist; run `mcpctl config get-contexts` to list contexts"
        )))
    }
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
    match invocation.format() {
        Format::Name => return output::print(&names().map(|name| name + "\n").collect::<String>()),
        Format::Json => return output::print(&output::json(&names().collect::<Vec<_>>())?),
        Format::Yaml => return output::print(&output::yaml(&names().collect::<Vec<_>>())?),
        Format::Table => {}
    }
    let rows = contexts.contexts.iter().map(|(name, context)| {
        let mark = if current.as_ref() == Some(name) { "*" } else { "" };
        let url = |url: &Option<String>| url.clone().unwrap_or_default();
        let tokens = context.tokens.keys().cloned().collect::<Vec<_>>().join(",");
        vec![name.clone(), mark.to_owned(), url(&context.control), url(&context.edge), tokens]
    });
    let titles = ["NAME", "CURRENT", "CONTROL PLANE", "EDGE", "SAVED TOKENS"].map(str::to_owned).to_vec();
    output::print(&table::render_rows(titles, rows))
}
