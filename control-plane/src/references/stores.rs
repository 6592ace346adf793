//! The stores that are open, what of them may be referred to, and what of that belongs to a team.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use trunkline::registry::v1::SecretReference;
use trunkline::registry::v1::secret_reference::Source as Written;
use url::Url;
use zeroize::Zeroizing;

use super::document::Document;
use super::kubernetes::Cluster;
use super::vault::KvEngines;
use super::{files, requests};
use crate::config::{SecretOptions, option_variables};
use crate::domain::secret_reference::is_plain;

/// How often is looked whether a file changed.
const FILES: Duration = Duration::from_secs(2);
/// Where the engine is mounted of which nothing else is said.
const MOUNT: &str = "secret";

/// What is read at once: all secrets that are in one place are read together.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Source {
    /// A variable.
    Env(String),
    /// A file, by its path below the folder.
    File(String),
    /// A secret of Vault.
    Vault {
        /// Where its engine is mounted.
        mount: String,
        /// Where it is in the engine.
        path: String,
    },
    /// A Secret of Kubernetes.
    Kubernetes(String),
}

impl Source {
    /// Tells whether it is asked for over a network.
    pub(super) fn is_remote(&self) -> bool {
        matches!(self, Self::Vault { .. } | Self::Kubernetes(_))
    }

    /// The pause until one that is not remote is read again. `None`: it cannot change.
    pub(super) fn pause(&self) -> Option<Duration> {
        matches!(self, Self::File(_)).then_some(FILES)
    }
}

/// Where a reference leads.
#[derive(Debug)]
pub(super) struct Place<'a> {
    pub(super) source: Source,
    /// What is to be taken of what is read there. Empty: all of it.
    pub(super) key: &'a str,
}

/// The stores that are open.
#[derive(Debug)]
pub struct Stores {
    env_prefix: String,
    /// Variables that are never referred to.
    options: BTreeSet<String>,
    folder: Option<PathBuf>,
    vault: Option<(KvEngines, String)>,
    kubernetes: Option<(Cluster, String)>,
}

/// A store cannot be opened as it was configured.
#[derive(Debug, thiserror::Error)]
pub enum UnusableStore {
    /// A file cannot be read.
    #[error("{option} {}: {source}", .path.display())]
    Unreadable {
        /// The option that names it.
        option: &'static str,
        /// The file.
        path: PathBuf,
        /// The reason.
        source: std::io::Error,
    },
    /// A certificate cannot be used.
    #[error("{option}: the authorities of the certificate cannot be used")]
    Authorities {
        /// The option that names them.
        option: &'static str,
    },
    /// It is not known where the API is.
    #[error(
        "--secret-kubernetes: KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT are not set; outside of a cluster give --secret-kubernetes-api"
    )]
    NoApi,
}

impl Stores {
    /// Opens what the options say.
    pub fn open(options: &SecretOptions) -> Result<Self, UnusableStore> {
        Ok(Self {
            env_prefix: options.secret_env_prefix.clone(),
            options: option_variables().into_iter().collect(),
            folder: options.secret_dir.clone(),
            vault: open_vault(options)?,
            kubernetes: options.secret_kubernetes.then(|| open_kubernetes(options)).transpose()?,
        })
    }

    /// Where a reference leads, or why nowhere.
    pub(super) fn place<'a>(&self, reference: &'a SecretReference) -> Result<Place<'a>, String> {
        match &reference.source {
            None => Err("names no store".to_owned()),
            Some(Written::Env(env)) => Ok(Place { source: self.variable(&env.name)?, key: "" }),
            Some(Written::File(file)) => {
                if self.folder.is_none() {
                    return Err(closed("files", "--secret-dir"));
                }
                check_plain(&file.path)?;
                Ok(Place { source: Source::File(file.path.clone()), key: &file.key })
            }
            Some(Written::Vault(vault)) => {
                let mount = if vault.mount.is_empty() { MOUNT } else { &vault.mount };
                Ok(Place { source: self.secret_of_vault(mount, &vault.path)?, key: &vault.key })
            }
            Some(Written::Kubernetes(secret)) => Ok(Place {
                source: self.secret_of_kubernetes(&secret.name, &secret.namespace)?,
                key: &secret.key,
            }),
        }
    }

    fn variable(&self, name: &str) -> Result<Source, String> {
        let prefix = &self.env_prefix;
        if self.options.contains(name) {
            return Err("names an option of the control plane, to which nobody refers".to_owned());
        }
        match name.strip_prefix(prefix.as_str()) {
            Some(rest) if !rest.is_empty() => Ok(Source::Env(name.to_owned())),
            _ => Err(format!("names a variable that does not begin with {prefix} (--secret-env-prefix)")),
        }
    }

    fn secret_of_vault(&self, mount: &str, path: &str) -> Result<Source, String> {
        let Some((_, prefix)) = &self.vault else {
            return Err(closed("Vault", "--secret-vault-address"));
        };
        check_plain(mount)?;
        check_plain(path)?;
        match below(&format!("{mount}/{path}"), prefix) {
            Some(_) => Ok(Source::Vault { mount: mount.to_owned(), path: path.to_owned() }),
            None => Err(format!("leads to what is not below {prefix} (--secret-vault-prefix)")),
        }
    }

    fn secret_of_kubernetes(&self, name: &str, namespace: &str) -> Result<Source, String> {
        let Some((kubernetes, prefix)) = &self.kubernetes else {
            return Err(closed("Kubernetes", "--secret-kubernetes"));
        };
        let own = &kubernetes.namespace;
        if !namespace.is_empty() && namespace != own {
            return Err(format!("names another namespace than {own}, that of the control plane"));
        }
        check_plain(name)?;
        match name.strip_prefix(prefix.as_str()) {
            Some(rest) if !rest.is_empty() && !name.contains('/') => Ok(Source::Kubernetes(name.to_owned())),
            _ => {
                Err(format!("names a Secret that does not begin with {prefix} (--secret-kubernetes-prefix)"))
            }
        }
    }

    /// What a reference to a secret of a team must begin with, in its store: `team` is the id.
    pub fn of_team(&self, reference: &SecretReference, team: &str) -> String {
        match &reference.source {
            None | Some(Written::File(_)) => format!("teams/{team}/"),
            Some(Written::Env(_)) => format!("{}TEAMS_{}_", self.env_prefix, variable_part(team)),
            Some(Written::Vault(_)) => {
                let prefix = self.vault.as_ref().map(|(_, prefix)| prefix.as_str()).unwrap_or_default();
                format!("{prefix}/teams/{team}/")
            }
            Some(Written::Kubernetes(_)) => {
                let prefix = self.kubernetes.as_ref().map(|(_, prefix)| prefix.as_str()).unwrap_or_default();
                format!("{prefix}teams.{team}.")
            }
        }
    }

    /// Tells whether a reference leads to a secret of a team.
    pub fn is_of_team(&self, reference: &SecretReference, team: &str) -> bool {
        let beginning = self.of_team(reference, team);
        let Ok(Place { source, .. }) = self.place(reference) else { return false };
        let rest = match &source {
            // Two underscores are a hyphen of a team's id, so that the second belongs to another team.
            Source::Env(name) => name.strip_prefix(&beginning).filter(|rest| !rest.starts_with('_')),
            Source::File(path) => path.strip_prefix(&beginning),
            Source::Kubernetes(name) => name.strip_prefix(&beginning),
            Source::Vault { mount, path } => {
                return format!("{mount}/{path}")
                    .strip_prefix(&beginning)
                    .is_some_and(|rest| !rest.is_empty());
            }
        };
        rest.is_some_and(|rest| !rest.is_empty())
    }

    /// Reads a place.
    pub(super) async fn read(&self, source: &Source) -> Result<Document, String> {
        match source {
            Source::Env(name) => environment(name),
            Source::File(path) => {
                let folder = self.folder.clone().ok_or_else(|| closed("files", "--secret-dir"))?;
                let below = path.clone();
                let read = tokio::task::spawn_blocking(move || files::read(&folder, &below)).await;
                let read = read.unwrap_or_else(|_| Err("the file cannot be read".to_owned()));
                // Which it is, is what its reader looks for.
                read.map_err(|why| format!("{path}: {why}"))
            }
            Source::Vault { mount, path } => match &self.vault {
                Some((vault, _)) => vault.read(mount, path).await,
                None => Err(closed("Vault", "--secret-vault-address")),
            },
            Source::Kubernetes(name) => match &self.kubernetes {
                Some((kubernetes, _)) => kubernetes.read(name).await,
                None => Err(closed("Kubernetes", "--secret-kubernetes")),
            },
        }
    }
}

fn closed(store: &str, option: &str) -> String {
    format!("leads to {store}, which the control plane was started without ({option})")
}

fn check_plain(path: &str) -> Result<(), String> {
    if is_plain(path) { Ok(()) } else { Err("has a path that is not plain".to_owned()) }
}

/// What of a path is below another.
fn below<'a>(path: &'a str, prefix: &str) -> Option<&'a str> {
    path.strip_prefix(prefix)?.strip_prefix('/')
}

/// The id of a team within the name of a variable: each underscore that ends it is single, and each in it is double, so that no team
/// has what is another's.
fn variable_part(team: &str) -> String {
    team.replace('-', "__").to_ascii_uppercase()
}

fn environment(name: &str) -> Result<Document, String> {
    match std::env::var(name) {
        Ok(value) => Ok(Document::Text(Zeroizing::new(value))),
        Err(std::env::VarError::NotPresent) => {
            Err(format!("{name} is not set at the control plane; set it and restart the control plane"))
        }
        Err(std::env::VarError::NotUnicode(_)) => Err(format!(
            "{name} is no UTF-8 text at the control plane; mend it and restart the control plane"
        )),
    }
}

fn open_vault(options: &SecretOptions) -> Result<Option<(KvEngines, String)>, UnusableStore> {
    const OPTION: &str = "--secret-vault-ca";
    let (Some(address), Some(token_file), Some(prefix)) =
        (&options.secret_vault_address, &options.secret_vault_token_file, &options.secret_vault_prefix)
    else {
        return Ok(None);
    };
    let authorities = options.secret_vault_ca.as_deref().map(|path| read(OPTION, path)).transpose()?;
    let client = requests::client(authorities.as_deref());
    let client = client.map_err(|_| UnusableStore::Authorities { option: OPTION })?;
    let vault = KvEngines { client, address: address.clone(), token_file: token_file.clone() };
    Ok(Some((vault, prefix.clone())))
}

fn open_kubernetes(options: &SecretOptions) -> Result<(Cluster, String), UnusableStore> {
    const OPTION: &str = "--secret-kubernetes-account";
    let account = &options.secret_kubernetes_account;
    let namespace = read(OPTION, &account.join("namespace"))?;
    let authorities = match read(OPTION, &account.join("ca.crt")) {
        Ok(pem) => Some(pem),
        Err(UnusableStore::Unreadable { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
            None
        }
        Err(error) => return Err(error),
    };
    let client = requests::client(authorities.as_deref());
    let kubernetes = Cluster {
        client: client.map_err(|_| UnusableStore::Authorities { option: OPTION })?,
        api: options.secret_kubernetes_api.clone().or_else(api_of_cluster).ok_or(UnusableStore::NoApi)?,
        token_file: account.join("token"),
        namespace: String::from_utf8_lossy(&namespace).trim().to_owned(),
    };
    Ok((kubernetes, options.secret_kubernetes_prefix.clone()))
}

fn read(option: &'static str, path: &Path) -> Result<Vec<u8>, UnusableStore> {
    std::fs::read(path).map_err(|source| UnusableStore::Unreadable { option, path: path.to_owned(), source })
}

/// Where the API is, as a cluster says it to its containers.
fn api_of_cluster() -> Option<Url> {
    let host = std::env::var("KUBERNETES_SERVICE_HOST").ok()?;
    let port = std::env::var("KUBERNETES_SERVICE_PORT").ok()?;
    let host = if host.contains(':') { format!("[{host}]") } else { host };
    Url::parse(&format!("https://{host}:{port}")).ok()
}
