//! Credentials of principals: sessions, API keys and the administrator's bearer, and what their holders may do.
//!
//! It must not know which rpcs there are.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tonic::Code;
use trunkline::identity::v1::Role;

use crate::auth::admin::{AdminToken, token_hash};
use crate::auth::{api_key, session};
use crate::clock;
use crate::domain::Kind;
use crate::error::Error;
use crate::rights::Rights;
use crate::rights::permission_set::PermissionSet;
use crate::rights::roles;
use crate::store::Store;

/// What was found out about a credential is believed for so long, while nothing changes in the registry.
const REMEMBERED: Duration = Duration::from_secs(1);
/// So many credentials are remembered at most.
const MOST_REMEMBERED: usize = 10_000;

/// Finds out whose a credential is.
#[derive(Debug)]
pub struct Credentials {
    store: Store,
    admin: AdminToken,
    revisions: watch::Receiver<i64>,
    remembered: Mutex<HashMap<String, Remembered>>,
}

/// What was found out about a credential.
#[derive(Debug)]
struct Remembered {
    rights: Arc<Rights>,
    /// The revision at which it was so.
    revision: i64,
    until: Instant,
}

impl Credentials {
    /// The credentials of this database, and the administrator's bearer.
    pub fn new(store: &Store, admin: AdminToken) -> Self {
        Self { store: store.clone(), admin, revisions: store.revisions(), remembered: Mutex::default() }
    }

    /// Finds out what the holder of a bearer may do, who calls from `address`.
    pub(super) async fn rights(
        &self,
        bearer: Option<&str>,
        address: Option<IpAddr>,
    ) -> Result<Arc<Rights>, Error> {
        let bearer = bearer.unwrap_or_default();
        if self.admin.matches(bearer) {
            return Ok(Rights::administrator());
        }
        let is_session = bearer.starts_with(session::PREFIX);
        if !is_session && !bearer.starts_with(api_key::PREFIX) {
            return Err(unknown_bearer(bearer.is_empty()));
        }
        let (hash, revision) = (token_hash(bearer), *self.revisions.borrow());
        if let Some(rights) = self.recall(&hash, revision) {
            return Ok(rights);
        }
        let rights = Arc::new(match is_session {
            true => self.session(&hash).await?.ok_or_else(session_ended)?,
            false => self.api_key(bearer, address).await?.ok_or_else(key_refused)?,
        });
        self.remember(hash, revision, rights.clone());
        Ok(rights)
    }

    /// Forgets what was found out, because something ended that is in no revision.
    pub(super) fn forget(&self) {
        self.lock().clear();
    }

    async fn session(&self, hash: &str) -> Result<Option<Rights>, Error> {
        let now_us = clock::now_us();
        let session = self.store.session(hash).await?;
        let Some(session) = session.filter(|session| session::is_in_force(session, now_us)) else {
            return Ok(None);
        };
        let Some(mut rights) = self.store.rights_of(&session.uid, None).await? else { return Ok(None) };
        rights.through = format!("{}/sessions/{}", rights.name, session.id);
        rights.end_us = Some(session.expire_us);
        rights.must_change_password = self.store.password(&session.uid).await?.must_change;
        if now_us - session.seen_us >= clock::duration_us(session::NOTED) {
            let store = self.store.clone();
            note(async move { store.touch_session(&session.hash, now_us).await });
        }
        Ok(Some(rights))
    }

    async fn api_key(&self, bearer: &str, address: Option<IpAddr>) -> Result<Option<Rights>, Error> {
        let now_us = clock::now_us();
        let Some(id) = api_key::id_of(bearer) else { return Ok(None) };
        let key = self.store.api_key(id).await?;
        let is_good = |key: &crate::store::api_keys::ApiKeyRow| {
            api_key::matches(bearer, &key.hash) && (key.expire_us == 0 || now_us < key.expire_us)
        };
        let Some(key) = key.filter(is_good) else { return Ok(None) };
        let cap = cap(&self.store, &key.role).await?;
        let Some(mut rights) = self.store.rights_of(&key.uid, cap).await? else { return Ok(None) };
        rights.through = format!("{}/keys/{}", rights.name, key.id);
        rights.end_us = Some(key.expire_us).filter(|end_us| *end_us != 0);
        rights.is_limited = !key.role.is_empty();
        if now_us - key.seen_us >= clock::duration_us(session::NOTED) {
            let store = self.store.clone();
            let address = address.map(|address| address.to_string()).unwrap_or_default();
            note(async move { store.touch_api_key(&key.id, now_us, &address).await });
        }
        Ok(Some(rights))
    }

    fn recall(&self, hash: &str, revision: i64) -> Option<Arc<Rights>> {
        let remembered = self.lock();
        let found = remembered.get(hash)?;
        (found.revision == revision && Instant::now() < found.until).then(|| found.rights.clone())
    }

    fn remember(&self, hash: String, revision: i64, rights: Arc<Rights>) {
        let mut remembered = self.lock();
        if remembered.len() >= MOST_REMEMBERED {
            remembered.clear();
        }
        remembered.insert(hash, Remembered { rights, revision, until: Instant::now() + REMEMBERED });
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Remembered>> {
        self.remembered.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a role lets do at most. Empty: `None`, anything. One that is gone lets nothing be done.
pub(super) async fn cap(store: &Store, role: &str) -> Result<Option<PermissionSet>, Error> {
    if role.is_empty() {
        return Ok(None);
    }
    if let Some(permissions) = roles::permissions_of(role) {
        return Ok(Some(permissions));
    }
    let row = store.get(Kind::Role, role).await?;
    let role: Option<Role> = row.map(|row| row.message()).transpose()?;
    Ok(Some(role.map(|role| roles::permissions_named(&role.permissions)).unwrap_or_default()))
}

/// Writes down when something was used, without making the request wait for it.
fn note(write: impl Future<Output = Result<(), crate::store::StoreError>> + Send + 'static) {
    tokio::spawn(async move {
        if let Err(error) = write.await {
            tracing::debug!(%error, "cannot note that a credential was used");
        }
    });
}

fn unknown_bearer(is_empty: bool) -> Error {
    let (reason, text) = match is_empty {
        false => (
            "ADMIN_INVALID",
            "the bearer is no session, no API key and not the administrator's token of this control plane",
        ),
        true => (
            "ADMIN_REQUIRED",
            "a credential is required: send a session, an API key or the administrator's token as `authorization: Bearer`",
        ),
    };
    Error::new(Code::Unauthenticated, reason, text)
}

pub(super) fn session_ended() -> Error {
    let text = "the session has ended; sign in again with `mcpctl login`";
    Error::new(Code::Unauthenticated, "SESSION_INVALID", text)
}

pub(super) fn key_refused() -> Error {
    let text = "the API key is unknown, revoked or expired, or whose it is was disabled";
    Error::new(Code::Unauthenticated, "API_KEY_INVALID", text)
}
