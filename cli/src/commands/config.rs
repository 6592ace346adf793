//! `mcpctl config`: contexts, and the bearers saved in them.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Subcommand;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::commands::bearers::NewBearer;
use crate::commands::fields::read_text;
use crate::commands::{Invocation, bearers, contexts, login};
use crate::confirm::confirm;
use crate::context::{Context, Contexts, Secret};
use crate::error::{Error, Result, tls};
use crate::kinds::short_name;
use crate::output::{self, Format, table};
use crate::parse;
use crate::suggest::did_you_mean;

/// Time to sign out where a context is deleted.
const SIGN_OUT: Duration = Duration::from_secs(5);

/// Arguments of `config`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

/// What can be taken out of a context.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum ContextPart {
    /// The admin token: only whoever is signed in counts then.
    AdminToken,
    /// The certificates to trust.
    CaFile,
    /// The client certificate, and its key.
    ClientCert,
    /// The URL of the edge.
    Edge,
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
        #[arg(value_parser = parse::word)]
        name: String,
        /// URL of the control plane, such as http://127.0.0.1:4445; repeatable: the next one is used where the first is away
        #[arg(long, value_name = "URL")]
        control: Vec<String>,
        /// URL of the edge, such as http://127.0.0.1:4444
        #[arg(long, value_name = "URL")]
        edge: Option<String>,
        /// File with the admin token; - reads the token from stdin and saves it in the context
        #[arg(long, value_name = "FILE")]
        admin_token_file: Option<PathBuf>,
        /// Certificates (PEM) to trust in addition to those of the system
        #[arg(long, value_name = "FILE")]
        ca_file: Option<PathBuf>,
        /// Certificate (PEM) that edges are shown which ask for one
        #[arg(long, value_name = "FILE", requires = "client_key")]
        client_cert: Option<PathBuf>,
        /// Its key (PEM)
        #[arg(long, value_name = "FILE", requires = "client_cert")]
        client_key: Option<PathBuf>,
        /// Take something out of the context; repeatable
        #[arg(long, value_enum, value_name = "WHAT")]
        clear: Vec<ContextPart>,
    },
    /// Show the context file, without its secrets
    View,
    /// Give a context another name
    RenameContext {
        /// Name of the context
        name: String,
        /// The name that it gets
        #[arg(value_parser = parse::word)]
        new_name: String,
    },
    /// Delete a context and the bearers saved in it; whoever is signed in there is signed out
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
    /// Delete saved bearers, such as those that are expired; the tokens themselves stay
    DeleteBearer {
        /// Names of the tokens
        #[arg(value_name = "NAME", required = true)]
        names: Vec<String>,
        /// Delete them without a question
        #[arg(short, long)]
        yes: bool,
    },
    /// Print a saved bearer
    GetBearer {
        /// Name of the token
        name: String,
    },
}

/// Runs `config`.
pub async fn run(invocation: &Invocation, args: Args) -> Result {
    if let Some(verb) = args.action.without_formats().filter(|_| invocation.format.is_some()) {
        return Err(Error::usage(format!("config {verb} has no output formats; leave -o out")));
    }
    match args.action {
        Action::GetContexts => get_contexts(invocation),
        Action::View => contexts::view(invocation),
        Action::RenameContext { name, new_name } => contexts::rename(invocation, &name, &new_name),
        Action::CurrentContext => {
            let contexts = invocation.context_file.read()?;
            let name =
                invocation.context_file.current_name(&contexts).ok_or_else(|| none_current(&contexts))?;
            output::print(&output::value(&name, invocation.format(), || name.clone())?)
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
        Action::DeleteContext { name, yes } => delete_context(invocation, &name, yes).await,
        Action::GetBearer { name } => {
            let context = invocation.context()?;
            let bearer = context.saved_token(&name, invocation.context_file.path())?.1.bearer.expose();
            output::print(&output::value(&bearer, invocation.format(), || bearer.to_owned())?)
        }
        Action::DeleteBearer { names, yes } => bearers::delete(invocation, &names, yes),
        Action::SetBearer { name, file, servers, replace } => {
            bearers::set(invocation, NewBearer { name, file, servers, replace }).await
        }
        Action::SetContext {
            name,
            control,
            edge,
            admin_token_file,
            ca_file,
            client_cert,
            client_key,
            clear,
        } => {
            let identity = client_cert.zip(client_key);
            set_context(
                invocation,
                &name,
                Given { control, edge, admin_token_file, ca_file, identity, clear },
            )
        }
    }
}

impl Action {
    /// Returns the verb of an action that prints nothing in formats.
    fn without_formats(&self) -> Option<&'static str> {
        match self {
            Self::GetContexts | Self::CurrentContext | Self::View | Self::GetBearer { .. } => None,
            Self::RenameContext { .. } => Some("rename-context"),
            Self::UseContext { .. } => Some("use-context"),
            Self::SetContext { .. } => Some("set-context"),
            Self::DeleteContext { .. } => Some("delete-context"),
            Self::SetBearer { .. } => Some("set-bearer"),
            Self::DeleteBearer { .. } => Some("delete-bearer"),
        }
    }
}

fn none_current(contexts: &Contexts) -> Error {
    let names: Vec<_> = contexts.contexts.keys().map(String::as_str).collect();
    let names = if names.is_empty() { String::new() } else { format!(" ({})", names.join(", ")) };
    Error::not_found(format!(
        "no current context is set; run `mcpctl config use-context NAME` to set one{names}"
    ))
}

/// Deletes a context, and ends the session that is saved in it: nobody can end it afterwards but by its name.
async fn delete_context(invocation: &Invocation, name: &str, yes: bool) -> Result {
    let context = invocation.context_file.read()?.contexts.get(name).cloned();
    confirm_loss(name, context.as_ref(), yes)?;
    invocation.context_file.edit(|contexts| {
        check_known(contexts, name)?;
        contexts.contexts.remove(name);
        contexts.current_context.take_if(|current| current == name);
        Ok(())
    })?;
    output::eprint(format!("context {name} deleted"));
    if let Some(context) = &context {
        login::sign_out_of(context, invocation.timeout().min(SIGN_OUT)).await;
    }
    Ok(())
}

/// What `set-context` sets.
struct Given {
    control: Vec<String>,
    edge: Option<String>,
    admin_token_file: Option<PathBuf>,
    ca_file: Option<PathBuf>,
    /// A certificate and its key.
    identity: Option<(PathBuf, PathBuf)>,
    clear: Vec<ContextPart>,
}

impl Given {
    /// Refuses what could not work.
    fn check(&self, name: &str) -> Result {
        let is_nothing = self.control.is_empty() && self.edge.is_none() && self.admin_token_file.is_none();
        let has_no_files = self.ca_file.is_none() && self.identity.is_none();
        if is_nothing && has_no_files && self.clear.is_empty() {
            return Err(Error::usage(format!(
                "nothing to set in context {name}; give --control, --edge, --admin-token-file, --ca-file, --client-cert or --clear"
            )));
        }
        let both = [
            (ContextPart::AdminToken, "--admin-token-file", self.admin_token_file.is_some()),
            (ContextPart::CaFile, "--ca-file", self.ca_file.is_some()),
            (ContextPart::ClientCert, "--client-cert", self.identity.is_some()),
            (ContextPart::Edge, "--edge", self.edge.is_some()),
        ];
        if let Some((_, flag, _)) = both.iter().find(|(part, _, given)| *given && self.clear.contains(part)) {
            return Err(Error::usage(format!("{flag} sets what --clear takes out; give one of them")));
        }
        self.control.iter().try_for_each(|url| check_url("--control", url))?;
        self.edge.iter().try_for_each(|url| check_url("--edge", url))?;
        self.ca_file.as_deref().map_or(Ok(()), |path| tls::read_certificates(path).map(drop))?;
        self.identity
            .as_ref()
            .map_or(Ok(()), |(certificate, key)| tls::read_identity(certificate, key).map(drop))
    }
}

impl ContextPart {
    fn take_out_of(self, context: &mut Context) {
        match self {
            Self::AdminToken => (context.admin_token, context.admin_token_file) = (None, None),
            Self::CaFile => context.ca_file = None,
            Self::ClientCert => (context.client_cert, context.client_key) = (None, None),
            Self::Edge => context.edge = None,
        }
    }
}

fn set_context(invocation: &Invocation, name: &str, given: Given) -> Result {
    given.check(name)?;
    let Given { control, edge, admin_token_file, ca_file, identity, clear } = given;
    let ca_file = ca_file.map(std::path::absolute).transpose()?;
    let (client_cert, client_key) = identity.unzip();
    let client_cert = client_cert.map(std::path::absolute).transpose()?;
    let client_key = client_key.map(std::path::absolute).transpose()?;
    let token = admin_token_file.as_deref().map(admin_token).transpose()?;
    // Of a file its place is saved, so that its token can be replaced; of stdin the token.
    let admin_token_file = admin_token_file.filter(|path| path.as_os_str() != "-");
    let admin_token_file = admin_token_file.map(std::path::absolute).transpose()?;
    let (exists, current) = invocation.context_file.edit(|contexts| {
        let exists = contexts.contexts.contains_key(name);
        let context = contexts.contexts.entry(name.to_owned()).or_default();
        let mut controls = control.into_iter();
        if let Some(first) = controls.next() {
            (context.control, context.other_controls) = (Some(first), controls.collect());
        }
        context.edge = edge.or(context.edge.take());
        context.ca_file = ca_file.or(context.ca_file.take());
        context.client_cert = client_cert.or(context.client_cert.take());
        context.client_key = client_key.or(context.client_key.take());
        if admin_token_file.is_some() {
            (context.admin_token, context.admin_token_file) = (None, admin_token_file);
        } else if token.is_some() {
            (context.admin_token, context.admin_token_file) = (token, None);
        }
        clear.iter().for_each(|part| part.take_out_of(context));
        let current = contexts.current_context.get_or_insert_with(|| name.to_owned());
        Ok((exists, current.clone()))
    })?;
    output::eprint(format!("context {name} {}", if exists { "updated" } else { "created" }));
    if !exists && current != name {
        output::eprint(format!(
            "the current context is still {current}; `mcpctl config use-context {name}` changes that"
        ));
    }
    Ok(())
}

/// Reads the admin token, which must be there.
fn admin_token(path: &Path) -> Result<Secret> {
    let token = read_text(path)?;
    let place = if path.as_os_str() == "-" { "stdin".to_owned() } else { path.display().to_string() };
    match token.trim() {
        "" => Err(Error::usage(format!("--admin-token-file: {place} holds no token"))),
        token => Ok(Secret::new(token)),
    }
}

/// Asks where bearers would be lost, which are shown only once.
fn confirm_loss(name: &str, context: Option<&Context>, yes: bool) -> Result {
    let Some(context) = context.filter(|context| !context.tokens.is_empty()) else { return Ok(()) };
    let tokens = context.tokens.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
    confirm(&format!("context {name} holds the only copy of the bearers of {tokens}"), yes)
}

pub(super) fn check_known(contexts: &Contexts, name: &str) -> Result {
    if contexts.contexts.contains_key(name) {
        return Ok(());
    }
    let hint = did_you_mean(name, contexts.contexts.keys().map(String::as_str));
    Err(Error::not_found(format!(
        "context {name} does not exist{hint}; run `mcpctl config get-contexts` to list contexts"
    )))
}

/// Refuses a URL that is of no gateway, or has parts that would have no effect.
fn check_url(option: &str, text: &str) -> Result {
    let url = url::Url::parse(text).ok();
    let url = url.filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
    let url = url.ok_or_else(|| Error::usage(format!("{text:?} is not an http or https URL")))?;
    let refused = |why: &str| Err(Error::usage(format!("{option} {text}: {why}")));
    if !url.username().is_empty() || url.password().is_some() {
        // Not shown: it may hold a password.
        return Err(Error::usage(format!(
            "{option}: the URL has a user name or a password, which is not used; give the admin token by --admin-token-file"
        )));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return refused("leave out what follows ? or #");
    }
    match text.find("/servers/") {
        Some(end) => {
            refused(&format!("that is the URL of a server; give that of the gateway, {}", &text[..end]))
        }
        None => Ok(()),
    }
}

fn get_contexts(invocation: &Invocation) -> Result {
    let contexts = invocation.context_file.read()?;
    let current = invocation.context_file.current_name(&contexts);
    let names = || contexts.contexts.keys().cloned();
    if *invocation.format() == Format::Name {
        return output::print(&names().map(|name| output::name_line(&name)).collect::<String>());
    }
    let names: Vec<_> = names().collect();
    let rows = contexts.contexts.iter().map(|(name, context)| {
        let mark = if current.as_ref() == Some(name) { "*" } else { "" };
        let url = |url: &Option<String>| url.clone().unwrap_or_default();
        let controls: Vec<_> = context.control.iter().chain(&context.other_controls).cloned().collect();
        let tokens = context.tokens.keys().cloned().collect::<Vec<_>>().join(",");
        vec![name.clone(), mark.to_owned(), controls.join(","), url(&context.edge), who(context), tokens]
    });
    let titles = ["NAME", "CURRENT", "CONTROL PLANE", "EDGE", "SIGNED IN", "SAVED TOKENS"];
    let titles = titles.map(str::to_owned).to_vec();
    output::print(&output::value(&names, invocation.format(), || table::render_rows(titles, rows))?)
}

/// Who is signed in in a context, as far as the file knows.
fn who(context: &Context) -> String {
    let Some(session) = &context.session else { return String::new() };
    let who = session.principal.as_deref().map_or_else(|| "somebody".to_owned(), short_name);
    let end = session.expires.as_deref().and_then(|end| OffsetDateTime::parse(end, &Rfc3339).ok());
    match end.is_some_and(|end| end <= OffsetDateTime::now_utc()) {
        true => format!("{who} (ended)"),
        false => who,
    }
}
