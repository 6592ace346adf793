//! The context file: gateways and their credentials, like `KUBECONFIG` for kubectl.
//!
//! It is the only file of the program that holds secrets, and only its owner can read it (0600).

pub mod kept;

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use mcp::border::text_without_mark;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Exit, Result};
use crate::suggest::did_you_mean;

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

/// A gateway and the credentials for it.
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
    /// Saved bearers, by the token's id.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tokens: BTreeMap<String, SavedToken>,
}

/// A saved bearer.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SavedToken {
    pub bearer: Secret,
    /// The servers that the token may call, by id, or `*`.
    #[serde(default)]
    pub servers: Vec<String>,
    /// Patterns of the tools that it might use when it was saved. `None` is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tools: Option<Vec<String>>,
    /// The same of resources.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<Vec<String>>,
    /// The same of prompts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompts: Option<Vec<String>>,
    /// When it was made (RFC 3339).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
}

impl Contexts {
    /// Adds what other contexts have and these do not.
    fn add(&mut self, others: Self) {
        for (name, other) in others.contexts {
            match self.contexts.get_mut(&name) {
                Some(context) => context.add(other),
                None => drop(self.contexts.insert(name, other)),
            }
        }
        self.current_context = self.current_context.take().or(others.current_context);
    }
}

impl Context {
    fn add(&mut self, other: Self) {
        for (name, token) in other.tokens {
            self.tokens.entry(name).or_insert(token);
        }
        self.control = self.control.take().or(other.control);
        self.edge = self.edge.take().or(other.edge);
        self.ca_file = self.ca_file.take().or(other.ca_file);
        if self.admin_token.is_none() && self.admin_token_file.is_none() {
            (self.admin_token, self.admin_token_file) = (other.admin_token, other.admin_token_file);
        }
    }

    /// Returns the control plane's URL, or an error that says how to set it.
    pub fn control_url(&self) -> Result<&str> {
        self.control.as_deref().ok_or_else(|| no_context("control plane", "--control http://127.0.0.1:4445"))
    }

    /// Returns the edge's URL without a trailing slash, or an error that says how to set it.
    pub fn edge_url(&self) -> Result<&str> {
        let edge = self.edge.as_deref().ok_or_else(|| no_context("edge", "--edge http://127.0.0.1:4444"))?;
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

    /// Returns a saved token, which is one of those in `file`.
    pub fn saved_token(&self, name: &str, file: &Path) -> Result<(&str, &SavedToken)> {
        let name = name.strip_prefix("tokens/").unwrap_or(name);
        self.tokens.get_key_value(name).map(|(name, token)| (name.as_str(), token)).ok_or_else(|| {
            let hint = did_you_mean(name, self.tokens.keys().map(String::as_str));
            Error::not_found(format!(
                "no bearer of token {name} is saved in {}{hint}; bearers are shown only once, by `mcpctl create token`; \
                 save one that you have with `mcpctl config set-bearer {name}`",
                file.display()
            ))
        })
    }
}

fn no_context(what: &str, flag: &str) -> Error {
    Error::usage(format!(
        "no {what} is configured; start one with `mcpctl dev` and set MCPCTL_CONFIG to its mcpctl.yaml, \
         or run `mcpctl config set-context NAME {flag}`"
    ))
}

/// Symbolic links that lead to one another at most.
const MAX_LINKS: usize = 40;

/// The path of the context file, and the context that was named on the command line.
#[derive(Debug, Clone)]
pub struct ContextFile {
    path: PathBuf,
    named: Option<String>,
}

impl ContextFile {
    /// Locates the file: `--config`, else the user's own, else that of a `mcpctl dev` in the default folder.
    pub fn locate(config: Option<PathBuf>, named: Option<String>) -> Self {
        let path = config.unwrap_or_else(|| {
            let own = config_home().join("trunkline/mcpctl.yaml");
            let dev = data_home().join("trunkline/mcpctl.yaml");
            if !own.exists() && dev.exists() { dev } else { own }
        });
        Self { path, named }
    }

    /// Returns the path of the file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads the file. A missing file is empty.
    pub fn read(&self) -> Result<Contexts> {
        read_contexts(&self.path)
    }

    /// Returns the file that is written: where the path is a symbolic link, what it leads to, whether that exists or not.
    fn target(&self) -> PathBuf {
        let mut path = self.path.clone();
        for _ in 0..MAX_LINKS {
            let Ok(next) = std::fs::read_link(&path) else { break };
            path = folder_of(&path).join(next);
        }
        path
    }

    /// Returns the name of the context to use.
    pub fn current_name(&self, contexts: &Contexts) -> Option<String> {
        self.named.clone().or_else(|| contexts.current_context.clone())
    }

    /// Returns the context to use; an empty one if no context is configured.
    pub fn current(&self) -> Result<Context> {
        let contexts = self.read()?;
        let Some(name) = self.current_name(&contexts) else {
            return if contexts.contexts.is_empty() {
                Ok(Context::default())
            } else {
                Err(self.none_current(&contexts))
            };
        };
        contexts.contexts.get(&name).cloned().ok_or_else(|| {
            Error::new(
                Exit::NotFound,
                format!(
                    "context {name} does not exist in {}{}; run `mcpctl config get-contexts` to list contexts",
                    self.path.display(),
                    did_you_mean(&name, contexts.contexts.keys().map(String::as_str)),
                ),
            )
        })
    }

    fn none_current(&self, contexts: &Contexts) -> Error {
        let names: Vec<_> = contexts.contexts.keys().map(String::as_str).collect();
        Error::usage(format!(
            "no context of {} is the current one; run `mcpctl config use-context NAME` ({})",
            self.path.display(),
            names.join(", ")
        ))
    }

    /// Changes the file under a lock, and replaces it atomically.
    pub fn edit<T>(&self, change: impl FnOnce(&mut Contexts) -> Result<T>) -> Result<T> {
        self.locked(|path| {
            let mut contexts = read_contexts(path)?;
            let value = change(&mut contexts)?;
            let text = serde_yaml_ng::to_string(&contexts).map_err(|e| Error::failure(e.to_string()))?;
            replace_private(path, &text)
                .map_err(|e| Error::failure(format!("cannot write {}: {e}", path.display())))?;
            Ok(value)
        })
    }

    /// Does something to the file while no other command does.
    fn locked<T>(&self, action: impl FnOnce(&Path) -> Result<T>) -> Result<T> {
        let target = self.target();
        for path in [&self.path, &target] {
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

    /// Removes a token's bearer.
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

fn read_contexts(path: &Path) -> Result<Contexts> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Contexts::default()),
        Err(error) => return Err(Error::usage(format!("cannot read {}: {error}", path.display()))),
    };
    // The parser's own message is left out, because it may quote a secret.
    serde_yaml_ng::from_str(&text).map_err(|error| {
        let place = error.location().map_or(String::new(), |at| format!(" line {}", at.line()));
        Error::usage(format!("{}{place}: invalid context file; correct or remove it", path.display()))
    })
}

/// Brings what was renamed in the folder of a file to disk.
fn sync_folder(path: &Path) -> std::io::Result<()> {
    File::open(folder_of(path))?.sync_all()
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Replaces a file by one that only its owner can read, or leaves it as it is.
fn replace_private(path: &Path, text: &str) -> std::io::Result<()> {
    let temporary = path.with_extension(format!("yaml.{}", std::process::id()));
    let write = || {
        let mut file = open_private(&temporary)?;
        file.set_len(0)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&temporary, path)
    };
    write().inspect_err(|_| _ = std::fs::remove_file(&temporary))?;
    sync_folder(path)
}

/// Opens a file that only its owner can read.
fn open_private(path: &Path) -> std::io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

/// Returns the user's data folder (`$XDG_DATA_HOME`, else `~/.local/share`).
pub fn data_home() -> PathBuf {
    home("XDG_DATA_HOME", ".local/share")
}

/// Returns the user's folder for what can be made again (`$XDG_CACHE_HOME`, else `~/.cache`).
pub fn cache_home() -> PathBuf {
    home("XDG_CACHE_HOME", ".cache")
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
    fn a_saved_token_is_found_by_name_and_the_file_is_private() {
        use std::os::unix::fs::PermissionsExt as _;
        let (_folder, store) = store();
        let token = SavedToken { bearer: Secret::new("s3cret"), ..SavedToken::default() };
        store.save_token("laptop", token.clone()).unwrap();
        let context = store.current().unwrap();
        assert_eq!(context.saved_token("tokens/laptop", store.path()).unwrap(), ("laptop", &token));
        let error = context.saved_token("laptp", store.path()).unwrap_err();
        assert_eq!(error.exit, Exit::NotFound);
        assert!(error.to_string().contains("did you mean laptop?"), "{error}");
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
    fn a_bearer_that_was_handed_over_is_kept_beside_a_new_one() {
        let (_folder, store) = store();
        let token = |bearer: &str, created: Option<&str>| SavedToken {
            bearer: Secret::new(bearer),
            created: created.map(str::to_owned),
            ..SavedToken::default()
        };
        store.save_token("gift", token("handed over", None)).unwrap();
        let kept = store.save_new_token("gift", token("made", Some("2026-11-30T00:00:00Z"))).unwrap();
        assert_eq!(kept.as_deref(), Some("gift-2"));
        assert_eq!(store.save_new_token("gift", token("again", Some("2026-11-30T00:00:01Z"))).unwrap(), None);
        let tokens = store.current().unwrap().tokens;
        let bearers: Vec<_> =
            tokens.iter().map(|(name, saved)| (name.as_str(), saved.bearer.clone())).collect();
        assert_eq!(bearers, [("gift", Secret::new("again")), ("gift-2", Secret::new("handed over"))]);
    }

    #[test]
    fn what_is_no_file_is_not_replaced_by_one() {
        let (_folder, store) = store();
        let target = store.path().with_file_name("pipe.yaml");
        std::fs::create_dir_all(&target).unwrap();
        std::os::unix::fs::symlink(&target, store.path()).unwrap();
        let error = store.save_token("laptop", SavedToken::default()).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("{} is no regular file; name another with --config or MCPCTL_CONFIG", target.display())
        );
        assert!(target.is_dir());
    }

    #[test]
    fn those_who_come_by_different_links_wait_for_each_other() {
        let (folder, store) = store();
        let link = folder.path().join("link.yaml");
        std::os::unix::fs::symlink(store.path(), &link).unwrap();
        let linked = ContextFile { path: link, ..store.clone() };
        let save = |file: &ContextFile, prefix: &str| {
            for n in 0..20 {
                file.save_token(&format!("{prefix}{n}"), SavedToken::default()).unwrap();
            }
        };
        std::thread::scope(|scope| {
            scope.spawn(|| save(&store, "direct"));
            scope.spawn(|| save(&linked, "linked"));
        });
        assert_eq!(store.current().unwrap().tokens.len(), 40);
    }

    #[test]
    fn files_may_begin_with_a_byte_order_mark() {
        let (folder, store) = store();
        let path = folder.path().join("admin-token");
        std::fs::write(&path, "\u{feff}s3cret\r\n").unwrap();
        let context = Context { admin_token_file: Some(path), ..Context::default() };
        assert_eq!(context.admin_bearer().unwrap(), Some(Secret::new("s3cret")));
        store.edit(|_| Ok(())).unwrap();
        let text = std::fs::read_to_string(store.path()).unwrap();
        std::fs::write(store.path(), format!("\u{feff}{text}")).unwrap();
        store.read().unwrap();
    }

    #[test]
    fn debug_shows_no_secret() {
        assert_eq!(format!("{:?}", Secret::new("s3cret")), "…");
    }
}
