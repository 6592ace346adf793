//! The context file: gateways and their credentials, like `KUBECONFIG` for kubectl.
//!
//! It is the only file of the program that holds secrets, and only its owner can read it (0600).

mod advice;
mod both;
pub mod environment;
mod homes;
mod private_file;
mod saved;
mod unreadable;

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use mcp::border::text_without_mark;
use serde::{Deserialize, Serialize};

use self::both::Both;
use self::homes::config_home;
pub use self::homes::{cache_home, data_home};
use self::private_file::{folder_of, open_private, replace_private};
pub use self::saved::{SavedSession, SavedToken};
use crate::error::{Error, Exit, Result};
use crate::shell::quoted;
use crate::suggest::did_you_mean;

/// The context of `mcpctl dev`.
pub const DEV: &str = "dev";

/// A secret that `Debug` does not print.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    pub fn new(secret: impl Into<String>) -> Self {
        Self(secret.into())
    }

    /// Returns the secret.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

/// The content of the context file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Contexts {
    /// The context to use when none is named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub current_context: Option<String>,
    /// The contexts, by name.
    #[serde(default)]
    pub contexts: BTreeMap<String, Context>,
}

impl Contexts {
    /// Takes a context out, with its name.
    fn take(&mut self, name: String) -> Option<Context> {
        let context = self.contexts.remove(&name)?;
        Some(Context { name, ..context })
    }
}

/// A gateway and the credentials for it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Context {
    /// The name that it has in its file, if it comes from one.
    #[serde(skip)]
    pub name: String,
    /// URL of the control plane, such as `http://127.0.0.1:4445`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub control: Option<String>,
    /// URLs of further control planes of the same gateway, for when the first is away.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub other_controls: Vec<String>,
    /// URL of the edge, or of the load balancer before the edges, such as `http://127.0.0.1:4444`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub edge: Option<String>,
    /// The admin token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub admin_token: Option<Secret>,
    /// A file that holds the admin token, instead of `admin_token`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub admin_token_file: Option<PathBuf>,
    /// Where somebody is signed in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<SavedSession>,
    /// What this device is known by when somebody signs in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<Secret>,
    /// Certificates (PEM) to trust besides those of the system.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<PathBuf>,
    /// A certificate (PEM) that edges are shown which ask for one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_cert: Option<PathBuf>,
    /// Its key (PEM).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_key: Option<PathBuf>,
    /// Saved bearers, by the token's id.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tokens: BTreeMap<String, SavedToken>,
}

impl Context {
    /// Whether it is of a `mcpctl dev` on this machine.
    pub fn is_of_dev(&self) -> bool {
        let url = self.control.as_deref().and_then(|url| url::Url::parse(url).ok());
        self.name == DEV && url.is_some_and(|url| mcp::endpoint::is_loopback(&url))
    }

    /// Returns the control plane's URL, or an error that says how to set it.
    pub fn control_url(&self) -> Result<&str> {
        self.control.as_deref().ok_or_else(|| {
            no_context("control plane", "--control http://127.0.0.1:4445", environment::CONTROL)
        })
    }

    /// Returns the edge's URL without a trailing slash, or an error that says how to set it.
    pub fn edge_url(&self) -> Result<&str> {
        let edge = self.edge.as_deref();
        let edge =
            edge.ok_or_else(|| no_context("edge", "--edge http://127.0.0.1:4444", environment::EDGE))?;
        Ok(edge.trim_end_matches('/'))
    }

    /// Returns the Streamable HTTP URL of a server.
    pub fn server_url(&self, server: &str) -> Result<String> {
        Ok(format!("{}/servers/{server}/mcp", self.edge_url()?))
    }

    /// Returns the admin token from the context, or from the file that the context names.
    pub fn admin_bearer(&self) -> Result<Option<Secret>> {
        let Some(path) = &self.admin_token_file else { return Ok(self.admin_token.clone()) };
        let text = std::fs::read_to_string(path).map_err(|error| {
            Error::usage(format!("cannot read the admin token: {}: {error}", path.display()))
        })?;
        Ok(Some(Secret::new(text_without_mark(&text).trim())))
    }

    /// Returns what is sent to the control plane: an API key of the environment, the session, or else the admin token. A session that has
    /// ended does not give way to the admin token: who signed in means to be that person.
    pub fn control_bearer(&self) -> Result<Option<Secret>> {
        match (environment::api_key(), &self.session) {
            (Some(key), _) => Ok(Some(key)),
            (None, Some(session)) => Ok(Some(session.secret.clone())),
            (None, None) => self.admin_bearer(),
        }
    }

    /// Whether it has an admin token, beside whoever is signed in.
    pub fn has_admin_token(&self) -> bool {
        self.admin_token.is_some() || self.admin_token_file.is_some()
    }

    /// Returns a saved token, which is one of those in `file`.
    pub fn saved_token(&self, name: &str, file: &Path) -> Result<(&str, &SavedToken)> {
        let name = name.strip_prefix("tokens/").unwrap_or(name);
        self.tokens.get_key_value(name).map(|(name, token)| (name.as_str(), token)).ok_or_else(|| {
            let hint = did_you_mean(name, self.tokens.keys().map(String::as_str));
            Error::not_found(format!(
                "no bearer of token {name} is saved in {}{hint}; bearers are shown only once, by `mcpctl create token`; \
                 save one that you have with `mcpctl config set-bearer {}`",
                file.display(),
                quoted(name)
            ))
        })
    }
}

fn no_context(what: &str, flag: &str, variable: &str) -> Error {
    Error::usage(format!(
        "no {what} is configured; start one with `mcpctl dev` and set MCPCTL_CONFIG to its mcpctl.yaml, \
         run `mcpctl config set-context NAME {flag}`, or set {variable}"
    ))
}

/// Symbolic links that lead to one another at most.
const MAX_LINKS: usize = 40;

/// Where contexts are, and the one that was named on the command line.
#[derive(Debug, Clone)]
pub struct ContextFile {
    path: PathBuf,
    /// The file of `mcpctl dev`, whose contexts are known as well.
    beneath: Option<PathBuf>,
    named: Option<String>,
    /// The gateway of the environment, which is used where no context is named.
    given: Option<Context>,
}

impl ContextFile {
    /// Locates the file: `--config`, else the user's own, with that of a `mcpctl dev` in the default folder beneath it.
    pub fn locate(config: Option<PathBuf>, named: Option<String>) -> Self {
        if let Some(path) = config {
            return Self { path, beneath: None, named, given: None };
        }
        let path = config_home().join("trunkline/mcpctl.yaml");
        let dev = data_home().join("trunkline/mcpctl.yaml");
        let beneath = (dev != path && dev.exists()).then_some(dev);
        Self { path, beneath, named, given: None }
    }

    /// The same, with the gateway of the environment where no context is named.
    pub fn or_of_environment(self) -> Self {
        let given = if self.named.is_none() { environment::gateway() } else { None };
        Self { given, ..self }
    }

    /// Returns the gateway of the environment, if that is used.
    pub fn given(&self) -> Option<&Context> {
        self.given.as_ref()
    }

    /// Returns the path of the file that the context to use is in, or would be.
    pub fn path(&self) -> &Path {
        match &self.beneath {
            Some(dev) if self.is_beneath() => dev,
            _ => &self.path,
        }
    }

    /// Whether the context to use is in the file of `mcpctl dev`.
    fn is_beneath(&self) -> bool {
        let both = self.both();
        let named = |both: Both| {
            let name = self.current_name(&both.merged())?;
            Some(both.is_beneath(&name))
        };
        both.ok().and_then(named).unwrap_or_else(|| !self.path.exists())
    }

    /// Whether a context is in the file of `mcpctl dev`, and in no other.
    pub fn is_in_file_of_dev(&self, name: &str) -> Result<bool> {
        Ok(self.both()?.is_beneath(name))
    }

    /// Reads the contexts. A missing file is empty.
    pub fn read(&self) -> Result<Contexts> {
        Ok(self.both()?.merged())
    }

    fn both(&self) -> Result<Both> {
        let dev = self.beneath.as_deref().map(read_contexts).transpose()?.unwrap_or_default();
        Ok(Both { own: read_contexts(&self.path)?, dev })
    }

    /// Returns the name of the context to use.
    pub fn current_name(&self, contexts: &Contexts) -> Option<String> {
        self.named.clone().or_else(|| contexts.current_context.clone())
    }

    /// Returns the context to use; an empty one if no context is configured.
    pub fn current(&self) -> Result<Context> {
        if let Some(given) = &self.given {
            return Ok(given.clone());
        }
        let mut contexts = self.read()?;
        let name = self.chosen(&contexts)?;
        Ok(name.and_then(|name| contexts.take(name)).unwrap_or_default())
    }

    /// Returns the context to use, or an error where there is none yet.
    pub fn existing(&self) -> Result<Context> {
        self.refuse_to_save()?;
        let mut contexts = self.read()?;
        let name = self.chosen(&contexts)?;
        name.and_then(|name| contexts.take(name)).ok_or_else(|| self.none())
    }

    /// Returns the name of the context to use, which exists. `None`: no context is configured.
    fn chosen(&self, contexts: &Contexts) -> Result<Option<String>> {
        let Some(name) = self.current_name(contexts) else {
            return if contexts.contexts.is_empty() { Ok(None) } else { Err(self.none_current(contexts)) };
        };
        if contexts.contexts.contains_key(&name) {
            return Ok(Some(name));
        }
        Err(Error::not_found(format!(
            "context {name} does not exist in {}{}; run `mcpctl config get-contexts` to list contexts",
            self.path().display(),
            did_you_mean(&name, contexts.contexts.keys().map(String::as_str)),
        )))
    }

    /// The error where there are contexts, and none of them is the current one.
    pub fn none_current(&self, contexts: &Contexts) -> Error {
        let names: Vec<_> = contexts.contexts.keys().map(String::as_str).collect();
        Error::usage(format!(
            "no context of {} is the current one; run `mcpctl config use-context NAME` ({})",
            self.path().display(),
            names.join(", ")
        ))
    }

    /// The error where something is to be saved for a gateway, and none is known.
    fn none(&self) -> Error {
        Error::usage(format!(
            "no context in {}; run `mcpctl config set-context NAME --control URL --edge URL` first",
            self.path().display()
        ))
    }

    /// Changes the contexts under a lock, and replaces atomically what differs. New ones are the user's own.
    pub fn edit<T>(&self, change: impl FnOnce(&mut Contexts) -> Result<T>) -> Result<T> {
        locked(self.beneath.as_ref().unwrap_or(&self.path), |_| {
            let before = self.both()?;
            let mut contexts = before.merged();
            let value = change(&mut contexts)?;
            let now = before.apart(contexts);
            match &self.beneath {
                None => write_contexts(&target_of(&self.path), &now.own)?,
                Some(dev) => {
                    if now.own != before.own {
                        self.write_own(&before.own, &now.own)?;
                    }
                    if now.dev != before.dev {
                        write_contexts(&target_of(dev), &now.dev)?;
                    }
                }
            }
            Ok(value)
        })
    }

    /// Writes the user's own file where the other is locked. Who names it by `--config` does not lock that one.
    fn write_own(&self, before: &Contexts, now: &Contexts) -> Result {
        locked(&self.path, |path| match read_contexts(path)? == *before {
            true => write_contexts(path, now),
            false => Err(Error::new(
                Exit::Conflict,
                format!("{} was changed meanwhile; run this again", self.path.display()),
            )),
        })
    }

    /// Saves a token's bearer in the current context.
    pub fn save_token(&self, name: &str, token: SavedToken) -> Result {
        self.edit_current(|context| {
            context.tokens.insert(name.to_owned(), token);
        })
    }

    /// Saves the bearer of a token that was made just now. One that was handed over and is saved under its name is kept under
    /// another, which is returned: nobody can read it again.
    pub fn save_new_token(&self, name: &str, token: SavedToken) -> Result<Option<String>> {
        let mut kept = None;
        self.edit_current(|context| {
            let earlier = context.tokens.insert(name.to_owned(), token);
            if let Some(earlier) = earlier.filter(|earlier| earlier.created.is_none()) {
                let mut names = (2..).map(|n| format!("{name}-{n}"));
                let free = names.find(|name| !context.tokens.contains_key(name)).unwrap_or_default();
                context.tokens.insert(free.clone(), earlier);
                kept = Some(free);
            }
        })?;
        Ok(kept)
    }

    /// Brings what is saved of a token's scope up to date, if it is that very token whose bearer is saved.
    pub fn refresh_token(&self, name: &str, now: &SavedToken) -> Result {
        let renewed = |saved: &SavedToken| SavedToken { bearer: saved.bearer.clone(), ..now.clone() };
        let is_old = |saved: &SavedToken| saved.created == now.created && *saved != renewed(saved);
        if !self.current()?.tokens.get(name).is_some_and(is_old) {
            return Ok(());
        }
        self.edit_current(|context| {
            context.tokens.entry(name.to_owned()).and_modify(|saved| *saved = renewed(saved));
        })
    }

    /// Removes a token's bearer.
    pub fn forget_token(&self, name: &str) -> Result {
        if self.current()?.tokens.contains_key(name) {
            self.edit_current(|context| {
                context.tokens.remove(name);
            })?;
        }
        Ok(())
    }

    /// Saves the session of who has signed in, in the current context.
    pub fn save_session(&self, session: SavedSession, device: Secret) -> Result {
        self.edit_current(|context| {
            context.session = Some(session);
            if !device.expose().is_empty() {
                context.device = Some(device);
            }
        })
    }

    /// Removes the session of the current context. This device stays known.
    pub fn forget_session(&self) -> Result {
        self.edit_current(|context| context.session = None)
    }

    /// Nothing is saved of a gateway that variables name: there is no context for it.
    fn refuse_to_save(&self) -> Result {
        match self.given {
            Some(_) => Err(Error::usage(format!(
                "{} or {} is set, and nothing is saved for that gateway; unset it, or name a context with --context",
                environment::CONTROL,
                environment::EDGE
            ))),
            None => Ok(()),
        }
    }

    fn edit_current(&self, change: impl FnOnce(&mut Context)) -> Result {
        self.refuse_to_save()?;
        self.edit(|contexts| {
            let name = self.chosen(contexts)?;
            let context = name.and_then(|name| contexts.contexts.get_mut(&name));
            change(context.ok_or_else(|| self.none())?);
            Ok(())
        })
    }
}

/// Does something to a file while no other command does: to what it leads to, where it is a symbolic link.
fn locked<T>(path: &Path, action: impl FnOnce(&Path) -> Result<T>) -> Result<T> {
    let target = target_of(path);
    for path in [path, &target] {
        let folder = folder_of(path);
        std::fs::create_dir_all(folder)
            .map_err(|e| Error::failure(format!("cannot create {}: {e}", folder.display())))?;
    }
    if std::fs::metadata(&target).is_ok_and(|found| !found.is_file()) {
        let path = target.display();
        return Err(Error::usage(format!(
            "{path} is no regular file; name another with --config or MCPCTL_CONFIG"
        )));
    }
    // Beside the file itself: those who come by different links must meet.
    let lock = open_private(&target.with_extension("yaml.lock"))
        .map_err(|e| Error::failure(format!("cannot lock {}: {e}", target.display())))?;
    lock.lock()?;
    action(&target)
}

/// Returns the file that is written: where a path is a symbolic link, what it leads to, whether that exists or not.
fn target_of(path: &Path) -> PathBuf {
    let mut path = path.to_owned();
    for _ in 0..MAX_LINKS {
        let Ok(next) = std::fs::read_link(&path) else { break };
        path = folder_of(&path).join(next);
    }
    path
}

fn write_contexts(path: &Path, contexts: &Contexts) -> Result {
    let text = serde_yaml_ng::to_string(contexts).map_err(|e| Error::failure(e.to_string()))?;
    replace_private(path, &text).map_err(|e| Error::failure(format!("cannot write {}: {e}", path.display())))
}

fn read_contexts(path: &Path) -> Result<Contexts> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Contexts::default()),
        Err(error) => return Err(Error::usage(format!("cannot read {}: {error}", path.display()))),
    };
    serde_yaml_ng::from_str(text_without_mark(&text)).map_err(|error| {
        let place = error.location().map_or(String::new(), |at| format!(" line {}", at.line()));
        let what = unreadable::what(&error.to_string());
        Error::usage(format!(
            "{}{place}: {what}; mend that there, since the file may hold bearers: `mcpctl config set-context` makes such files",
            path.display()
        ))
    })
}

#[cfg(test)]
mod tests;
