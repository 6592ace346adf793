//! Which gateway, and with which credentials: the context file, as `KUBECONFIG` is for kubectl.
//!
//! It is the only file of the program that holds secrets, and is written for its owner alone (0600).

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::{Error, Exit, Result};

/// A secret that shows itself only when asked to.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Wraps a secret.
    pub fn new(secret: impl Into<String>) -> Self {
        Self(secret.into())
    }

    /// The secret itself.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

/// The context file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Contexts {
    /// Which context is used when none is named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub current_context: Option<String>,
    /// The contexts, by name.
    #[serde(default)]
    pub contexts: BTreeMap<String, Context>,
}

/// One gateway.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Context {
    /// URL of the control plane, such as `http://127.0.0.1:4445`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub control: Option<String>,
    /// URL of the edge, or of the load balancer before the edges, such as `http://127.0.0.1:4444`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub edge: Option<String>,
    /// The admin token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub admin_token: Option<Secret>,
    /// A file that holds the admin token, instead of `admin_token`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub admin_token_file: Option<PathBuf>,
    /// Certificates (PEM) to trust besides those of the system.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<PathBuf>,
    /// Bearers of tokens that were created from here, by the token's id.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tokens: BTreeMap<String, SavedToken>,
}

/// A bearer that `create token` kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SavedToken {
    /// The bearer.
    pub bearer: Secret,
    /// The servers it was made for, by id, or `*`.
    #[serde(default)]
    pub servers: Vec<String>,
}

impl Context {
    /// The control plane's URL, or what to do about its absence.
    pub fn control_url(&self) -> Result<&str> {
        self.control.as_deref().ok_or_else(|| no_context("control plane", "--control http://127.0.0.1:4445"))
    }

    /// The edge's URL without a slash at its end, or what to do about its absence.
    pub fn edge_url(&self) -> Result<&str> {
        let edge = self.edge.as_deref().ok_or_else(|| no_context("edge", "--edge http://127.0.0.1:4444"))?;
        Ok(edge.trim_end_matches('/'))
    }

    /// Where an MCP client finds a server.
    pub fn server_url(&self, server: &str) -> Result<String> {
        Ok(format!("{}/servers/{server}/mcp", self.edge_url()?))
    }

    /// The admin token, from the context or from the file it names.
    pub fn admin_bearer(&self) -> Result<Option<Secret>> {
        let Some(path) = &self.admin_token_file else { return Ok(self.admin_token.clone()) };
        let text = std::fs::read_to_string(path)
            .map_err(|error| Error::usage(format!("admin token: {}: {error}", path.display())))?;
        Ok(Some(Secret::new(text.trim())))
    }

    /// The saved token for a server: the one named, else the only or first one made for it.
    pub fn token_for(&self, server: &str, named: Option<&str>) -> Result<(&str, &SavedToken)> {
        if let Some(name) = named {
            let name = name.strip_prefix("tokens/").unwrap_or(name);
            return self.tokens.get_key_value(name).map(|(n, t)| (n.as_str(), t)).ok_or_else(|| {
                Error::not_found(format!(
                    "no bearer of token {name} is saved here: bearers are shown once, by `mcpctl create token`"
                ))
            });
        }
        let fits = |token: &SavedToken| token.servers.iter().any(|s| s == server || s == "*");
        self.tokens.iter().find(|(_, token)| fits(token)).map(|(n, t)| (n.as_str(), t)).ok_or_else(|| {
            Error::not_found(format!(
                "no token for server {server} is saved here: `mcpctl create token NAME --server {server}` makes one"
            ))
        })
    }
}

fn no_context(what: &str, flag: &str) -> Error {
    Error::usage(format!(
        "no {what} is configured: start one with `mcpctl dev` and point MCPCTL_CONFIG at its mcpctl.yaml, \
         or run `mcpctl config set-context NAME {flag}`"
    ))
}

/// The context file's place, and which of its contexts is meant.
#[derive(Debug, Clone)]
pub struct ContextFile {
    path: PathBuf,
    named: Option<String>,
}

impl ContextFile {
    /// The file named by `--config`, else the user's own, else the one of a `mcpctl dev` in the default folder.
    pub fn locate(config: Option<PathBuf>, named: Option<String>) -> Self {
        let path = config.unwrap_or_else(|| {
            let own = config_home().join("trunkline/mcpctl.yaml");
            let dev = data_home().join("trunkline/mcpctl.yaml");
            if !own.exists() && dev.exists() { dev } else { own }
        });
        Self { path, named }
    }

    /// Where the file is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads the file; an absent one is empty.
    pub fn read(&self) -> Result<Contexts> {
        let text = match std::fs::read_to_string(&self.path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Contexts::default()),
            Err(error) => return Err(Error::usage(format!("{}: {error}", self.path.display()))),
        };
        // Without the parser's own words: they may quote a secret.
        serde_yaml_ng::from_str(&text).map_err(|error| {
            let place = error.location().map_or(String::new(), |at| format!(" line {}", at.line()));
            Error::usage(format!(
                "{}{place}: not a context file of this version; fix it or move it away",
                self.path.display()
            ))
        })
    }

    /// The name of the context that is meant.
    pub fn current_name(&self, contexts: &Contexts) -> Option<String> {
        self.named.clone().or_else(|| contexts.current_context.clone())
    }

    /// The context that is meant; an empty one where nothing is configured at all.
    pub fn current(&self) -> Result<Context> {
        let contexts = self.read()?;
        let Some(name) = self.current_name(&contexts) else { return Ok(Context::default()) };
        contexts.contexts.get(&name).cloned().ok_or_else(|| {
            Error::new(
                Exit::NotFound,
                format!("context {name} is not in {}: see `mcpctl config get-contexts`", self.path.display()),
            )
        })
    }

    /// Changes the file under a lock, and puts it in place in one step.
    pub fn edit<T>(&self, change: impl FnOnce(&mut Contexts) -> Result<T>) -> Result<T> {
        let folder = self.path.parent().unwrap_or(Path::new("."));
        std::fs::create_dir_all(folder).map_err(|e| Error::failure(format!("{}: {e}", folder.display())))?;
        let lock = open_private(&self.path.with_extension("yaml.lock"))?;
        lock.lock()?;
        let mut contexts = self.read()?;
        let value = change(&mut contexts)?;
        let text = serde_yaml_ng::to_string(&contexts).map_err(|e| Error::failure(e.to_string()))?;
        let temporary = self.path.with_extension(format!("yaml.{}", std::process::id()));
        let mut file = open_private(&temporary)?;
        file.set_len(0)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&temporary, &self.path)?;
        Ok(value)
    }

    /// Keeps a token's bearer in the current context.
    pub fn save_token(&self, name: &str, token: SavedToken) -> Result {
        self.edit_current(|context| {
            context.tokens.insert(name.to_owned(), token);
        })
    }

    /// Forgets a token's bearer.
    pub fn forget_token(&self, name: &str) -> Result {
        if self.current()?.tokens.contains_key(name) {
            self.edit_current(|context| {
                context.tokens.remove(name);
            })?;
        }
        Ok(())
    }

    fn edit_current(&self, change: impl FnOnce(&mut Context)) -> Result {
        self.edit(|contexts| {
            let name = self.current_name(contexts).unwrap_or_else(|| "default".into());
            change(contexts.contexts.entry(name.clone()).or_default());
            contexts.current_context.get_or_insert(name);
            Ok(())
        })
    }
}

/// Opens a file that only its owner may read.
fn open_private(path: &Path) -> Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path).map_err(|error| Error::failure(format!("{}: {error}", path.display())))
}

/// Where this user's data belongs (`$XDG_DATA_HOME`, else `~/.local/share`).
pub fn data_home() -> PathBuf {
    home("XDG_DATA_HOME", ".local/share")
}

fn config_home() -> PathBuf {
    home("XDG_CONFIG_HOME", ".config")
}

fn home(variable: &str, otherwise: &str) -> PathBuf {
    match std::env::var_os(variable).filter(|value| !value.is_empty()) {
        Some(path) => path.into(),
        None => std::env::home_dir().unwrap_or_default().join(otherwise),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store() -> (tempfile::TempDir, ContextFile) {
        let folder = tempfile::tempdir().unwrap();
        let store = ContextFile { path: folder.path().join("new/mcpctl.yaml"), named: None };
        (folder, store)
    }

    #[test]
    fn a_saved_token_is_found_by_server_and_the_file_is_private() {
        use std::os::unix::fs::PermissionsExt as _;
        let (_folder, store) = store();
        let token = SavedToken { bearer: Secret::new("s3cret"), servers: vec!["dev".into()] };
        store.save_token("laptop", token.clone()).unwrap();
        let context = store.current().unwrap();
        assert_eq!(context.token_for("dev", None).unwrap(), ("laptop", &token));
        assert_eq!(context.token_for("other", None).unwrap_err().exit, Exit::NotFound);
        assert_eq!(std::fs::metadata(store.path()).unwrap().permissions().mode() & 0o777, 0o600);
        store.forget_token("laptop").unwrap();
        assert!(store.current().unwrap().tokens.is_empty());
    }

    #[test]
    fn an_unknown_key_is_refused_without_quoting_the_file() {
        let (_folder, store) = store();
        store.edit(|_| Ok(())).unwrap();
        std::fs::write(store.path(), "contexts: {a: {bearer: s3cret}}\n").unwrap();
        let error = store.read().unwrap_err().to_string();
        assert!(!error.contains("s3cret") && error.contains("mcpctl.yaml"), "{error}");
    }

    #[test]
    fn debug_shows_no_secret() {
        assert_eq!(format!("{:?}", Secret::new("s3cret")), "…");
    }
}
