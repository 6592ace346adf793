//! `mcpctl config set-bearer` and `delete-bearer`: bearers that somebody was given. What is no bearer is refused, and the edge is
//! asked once what it makes of one; it may be away.

use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use time::OffsetDateTime;

use crate::ask;
use crate::client::acceptance::Acceptance;
use crate::client::bearer_form;
use crate::client::caller::{self, BearerSource, Caller};
use crate::commands::Invocation;
use crate::commands::fields::read_text;
use crate::confirm::confirm;
use crate::context::{Context, SavedToken, Secret};
use crate::error::{Error, Exit, Result};
use crate::kinds::short_name;
use crate::output::eprint;
use crate::parse::short_duration;

/// Time for the answer of the edge.
const PATIENCE: Duration = Duration::from_secs(5);
/// What is asked for with a bearer that is for every server. It need not exist.
const ANY_SERVER: &str = "any";

/// A bearer to save.
pub struct NewBearer {
    /// The name to save it under.
    pub name: Option<String>,
    /// Where it is read.
    pub file: Option<PathBuf>,
    /// The servers that it may call, or `*`.
    pub servers: Vec<String>,
    /// Whether it takes the place of another.
    pub replace: bool,
}

/// Saves a bearer in the current context. One that is there under this name is kept, unless it is to be replaced: bearers
/// are shown only once.
pub async fn set(invocation: &Invocation, given: NewBearer) -> Result {
    // Nobody is asked for what cannot be saved.
    let context = invocation.context_file.existing()?;
    let bearer = read(invocation, given.file.as_deref())?;
    let told = || caller::claims(&bearer)?["sub"].as_str()?.strip_prefix("tokens/").map(str::to_owned);
    let name = given.name.map(|name| short_name(&name)).or_else(told).ok_or_else(|| {
        Error::usage("the bearer does not say of which token it is; run `mcpctl config set-bearer NAME`")
    })?;
    let name = caller::checked_name(name)?;
    let path = invocation.context_file.path();
    let is_another = context.tokens.get(&name).is_some_and(|earlier| earlier.bearer != bearer);
    if is_another && !given.replace {
        return Err(Error::new(
            Exit::Conflict,
            format!(
                "another bearer of token {name} is saved in {}; add --replace to replace it",
                path.display()
            ),
        ));
    }
    let servers: Vec<_> = given.servers.iter().map(|server| short_name(server)).collect();
    let source = BearerSource::Saved { name: name.clone(), file: path.to_owned() };
    warn(&context, &Caller { bearer: bearer.clone(), source }, &name, &servers).await;
    let reach = match servers.iter().any(|server| server == "*") {
        true => "every server; name those that it may call with --server".to_owned(),
        false => servers.join(", "),
    };
    let token = SavedToken { bearer, servers, ..SavedToken::default() };
    invocation.context_file.save_token(&name, token)?;
    eprint(format!("bearer of token {name} saved in {} for {reach}", path.display()));
    Ok(())
}

/// Reads a bearer, and refuses what is none.
fn read(invocation: &Invocation, file: Option<&Path>) -> Result<Secret> {
    let is_asked = file.is_none() && std::io::stdin().is_terminal();
    let (text, place) = match file {
        Some(path) => (read_text(path)?, path.display().to_string()),
        None if is_asked => (ask::secret("Bearer: ")?, "the answer".to_owned()),
        None => (read_text(Path::new("-"))?, "stdin".to_owned()),
    };
    let bearer = caller::checked(&text, &place)?;
    let contexts = invocation.context_file.read()?.contexts;
    let admin: Vec<_> =
        contexts.values().filter_map(|context| context.admin_bearer().ok().flatten()).collect();
    match bearer_form::instead(&bearer, &admin) {
        Some(what) => Err(Error::usage(format!("{place} contains no bearer: {what}"))),
        None => Ok(bearer),
    }
}

/// Says why a bearer will not work, as far as it says so itself and the edge is there to ask.
async fn warn(context: &Context, caller: &Caller, name: &str, servers: &[String]) {
    let left = bearer_form::expiry(&caller.bearer).map(|end| end - OffsetDateTime::now_utc());
    match left {
        Some(left) if left.is_negative() => {
            return eprint(format!(
                "warning: the bearer of token {name} expired {} ago",
                short_duration(-left)
            ));
        }
        Some(left) => eprint(format!("the bearer of token {name} expires in {}", short_duration(left))),
        None => {}
    }
    let Some(edge) = &context.edge else { return };
    let named = servers.iter().find(|server| *server != "*");
    let server = named.map_or(ANY_SERVER, String::as_str);
    match (Acceptance::at(context, server, caller, PATIENCE).await, named) {
        (Acceptance::Rejected(_), _) => eprint(format!(
            "warning: the edge at {edge} rejects the bearer of token {name}: it is revoked or expired, or of another gateway"
        )),
        (Acceptance::Hidden, Some(server)) => {
            eprint(format!("warning: server {server} does not exist, or token {name} may not call it"));
        }
        (Acceptance::Unknown(error), _) => {
            eprint(format!("warning: whether the bearer of token {name} is valid is not known: {error}"));
        }
        (Acceptance::Opened | Acceptance::Hidden | Acceptance::Unmet(_), _) => {}
    }
}

/// Deletes saved bearers: all of them, or none.
pub fn delete(invocation: &Invocation, names: &[String], yes: bool) -> Result {
    let file = &invocation.context_file;
    let context = file.current()?;
    let found = names.iter().map(|name| Ok(context.saved_token(name, file.path())?.0.to_owned()));
    let found: Vec<String> = found.collect::<Result<_>>()?;
    confirm(&format!("the bearer of {} may be the only copy", found.join(", ")), yes)?;
    for name in found {
        file.forget_token(&name)?;
        eprint(format!("bearer of token {name} deleted from {}", file.path().display()));
    }
    Ok(())
}
