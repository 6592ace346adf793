//! What users and service accounts have: API keys and sessions. `create api-key`, `get api-keys`, `get sessions`, and `revoke` of both.

use std::time::Duration;

use prost_reflect::DynamicMessage;
use serde_json::{Value, json};
use time::OffsetDateTime;

use crate::commands::Invocation;
use crate::commands::each::each;
use crate::commands::people::{self, principal};
use crate::commands::users::in_collection;
use crate::control_client::ControlClient;
use crate::error::{Error, Exit, Result};
use crate::output::table::{Cell, Column, grid};
use crate::output::{self, Format};
use crate::parse::{self, Expiry};
use crate::reflection;

const KEYS: &str = "trunkline.identity.v1.ServiceAccountService";
const SESSIONS: &str = "trunkline.identity.v1.SessionService";

const KEY_COLUMNS: [Column; 7] = [
    Column("NAME", "name", Cell::Text),
    Column("STATE", "state", Cell::Enum("API_KEY_STATE_")),
    Column("TITLE", "title", Cell::Text),
    Column("ROLE", "role", Cell::Id),
    Column("EXPIRES", "expireTime", Cell::Until),
    Column("LAST USED", "lastUseTime", Cell::Age),
    Column("FROM", "lastUseAddress", Cell::Text),
];
const SESSION_COLUMNS: [Column; 7] = [
    Column("NAME", "name", Cell::Text),
    Column("CURRENT", "current", Cell::Text),
    Column("BY", "method", Cell::Enum("SIGN_IN_METHOD_")),
    Column("WITH", "agent", Cell::Text),
    Column("FROM", "address", Cell::Text),
    Column("LAST USED", "lastUseTime", Cell::Age),
    Column("ENDS", "expireTime", Cell::Until),
];

/// What somebody has several of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Belonging {
    ApiKey,
    Session,
}

/// What a new API key is.
#[derive(Debug, clap::Args)]
pub struct NewApiKey {
    /// Whose key: the name of a service account, or the email address of a user [default: whoever creates it]
    principal: Option<String>,
    /// What it is for
    #[arg(long, value_name = "TEXT")]
    title: Option<String>,
    /// Role that it may use at most, such as viewer [default: all that its owner may do]
    #[arg(long, value_name = "NAME")]
    role: Option<String>,
    /// Expiry: a duration such as 30d, a time such as 2027-01-31T12:00:00Z or 2027-01-31, or never [default: 90d]
    #[arg(long, value_name = "WHEN", value_parser = parse::expiry)]
    expires: Option<Expiry>,
}

impl Belonging {
    /// Finds out that a word of the command line means API keys or sessions.
    pub fn of_word(word: &str) -> Option<Self> {
        match word.to_lowercase().as_str() {
            "api-key" | "api-keys" | "apikeys" => Some(Self::ApiKey),
            "session" | "sessions" => Some(Self::Session),
            _ => None,
        }
    }

    fn columns(self) -> &'static [Column] {
        match self {
            Self::ApiKey => &KEY_COLUMNS,
            Self::Session => &SESSION_COLUMNS,
        }
    }

    fn words(self) -> &'static str {
        match self {
            Self::ApiKey => "API keys",
            Self::Session => "sessions",
        }
    }

    /// The error where they are to be deleted.
    pub fn not_deleted(self) -> Error {
        let how = match self {
            Self::ApiKey => "mcpctl revoke api-key OWNER/KEY",
            Self::Session => "mcpctl revoke session USER/sessions/SESSION",
        };
        Error::usage(format!("{} are revoked, not deleted: `{how}`", self.words()))
    }

    /// All of one principal. Empty: of the caller.
    async fn of(self, client: &ControlClient, parent: &str) -> Result<Vec<DynamicMessage>> {
        let (method, field) = match self {
            Self::ApiKey => (format!("{KEYS}/ListApiKeys"), "api_keys"),
            Self::Session => {
                let answer =
                    client.call(&format!("{SESSIONS}/ListSessions"), json!({ "parent": parent })).await?;
                return Ok(reflection::submessages(&answer, "sessions"));
            }
        };
        let (mut found, mut token) = (Vec::new(), String::new());
        loop {
            let request = json!({ "parent": parent, "pageSize": 1_000, "pageToken": token });
            let page = client.call(&method, request).await?;
            found.extend(reflection::submessages(&page, field));
            token = reflection::text(&page, "next_page_token");
            if token.is_empty() {
                return Ok(found);
            }
        }
    }

    /// Prints those of these principals, or those of the caller.
    pub async fn show(self, invocation: &Invocation, principals: &[String], headers: bool) -> Result {
        let client = invocation.client().await?;
        let mut found = Vec::new();
        match principals {
            [] => found = self.of(&client, "").await?,
            principals => {
                for word in principals {
                    found.extend(self.of(&client, &people::meant(&client, word).await).await?);
                }
            }
        }
        let format = invocation.format();
        let names = || found.iter().map(|item| output::name_line(&reflection::text(item, "name"))).collect();
        let table = || {
            let columns: Vec<_> = self.columns().iter().collect();
            grid(&columns, &found, false, OffsetDateTime::now_utc()).render(headers, None)
        };
        output::print(&match format {
            Format::Name => names(),
            format => {
                let fields: Vec<_> = found.iter().map(reflection::fields).collect();
                output::value(&fields, format, table)?
            }
        })?;
        if found.is_empty() && matches!(format, Format::Table | Format::Wide) {
            output::eprint(self.nothing(principals));
        }
        Ok(())
    }

    /// Says that there are none. Whoever names nobody asks for their own.
    fn nothing(self, principals: &[String]) -> String {
        match self {
            Self::ApiKey if principals.is_empty() => {
                "you have no API keys; `mcpctl get api-keys SERVICE-ACCOUNT` lists those of one".to_owned()
            }
            _ => format!("no {} found", self.words()),
        }
    }

    /// Ends those of these names.
    pub async fn revoke(self, invocation: &Invocation, names: &[String]) -> Result {
        let client = invocation.client().await?;
        match self {
            Self::ApiKey => each(names, async |word| revoke_keys(&client, word).await).await,
            Self::Session => {
                let method = format!("{SESSIONS}/RevokeSession");
                each(names, async |name| {
                    client.call(&method, json!({ "name": name })).await?;
                    output::print(&format!("{name} revoked"))
                })
                .await
            }
        }
    }
}

/// Revokes a key, or all of somebody.
async fn revoke_keys(client: &ControlClient, word: &str) -> Result {
    let own = match word.contains('/') {
        true => String::new(),
        false => {
            let caller = client.call(&format!("{SESSIONS}/GetCaller"), json!({})).await?;
            reflection::text(&caller, "principal")
        }
    };
    let name = key_name(word, &own);
    let names = match name.strip_suffix("/keys/-") {
        Some(owner) => {
            let keys = Belonging::ApiKey.of(client, owner).await?;
            keys.iter().map(|key| reflection::text(key, "name")).collect()
        }
        None => vec![name],
    };
    if names.is_empty() {
        output::eprint("there are no API keys; nothing was revoked");
    }
    each(&names, async |name| {
        let revoked = client.call(&format!("{KEYS}/RevokeApiKey"), json!({ "name": name })).await;
        revoked.map_err(|error| if error.exit == Exit::NotFound { no_key(name) } else { error })?;
        output::print(&format!("{name} revoked"))
    })
    .await
}

/// The error where there is no such key: that of a service account is named with it.
fn no_key(name: &str) -> Error {
    let (owner, key) = name.split_once("/keys/").unwrap_or((name, ""));
    let listed = match owner.strip_prefix("serviceAccounts/") {
        Some(account) => format!("`mcpctl get api-keys {account}` lists those of it"),
        None => "`mcpctl get api-keys` lists your own, and `mcpctl get api-keys SERVICE-ACCOUNT` those of one, which are named \
                 SERVICE-ACCOUNT/KEY"
            .to_owned(),
    };
    Error::not_found(format!("{owner} has no API key {key}; {listed}"))
}

/// Creates an API key, and shows it.
pub async fn create(invocation: &Invocation, new: NewApiKey) -> Result {
    let client = invocation.client().await?;
    let parent = match new.principal.as_deref() {
        Some(whose) => people::meant(&client, whose).await,
        None => String::new(),
    };
    let mut request = json!({
        "parent": parent,
        "title": new.title.unwrap_or_default(),
        "role": new.role.as_deref().map(|role| in_collection("roles", role)).unwrap_or_default(),
    });
    match new.expires.map(|expires| expires.lifetime(OffsetDateTime::now_utc())) {
        Some(Some(Duration::ZERO)) => return Err(Error::usage("--expires is in the past")),
        Some(Some(lifetime)) => request["lifetime"] = parse::proto_duration(lifetime).into(),
        Some(None) => request["neverExpires"] = Value::Bool(true),
        None => {}
    }
    let answer = client.call(&format!("{KEYS}/CreateApiKey"), request).await?;
    if let Some(format) = &invocation.format {
        return output::print(&output::message(&answer, format, String::new)?);
    }
    let key = reflection::submessage(&answer, "api_key")
        .ok_or_else(|| Error::failure("the response contains no key"))?;
    output::eprint(format!("{} created. The API key is shown only once:", reflection::text(&key, "name")));
    output::print(&reflection::text(&answer, "secret"))
}

/// The full name of a key of `own`, or of whom a word names: `ci/KEY`, or `KEY`.
fn key_name(word: &str, own: &str) -> String {
    match word.rsplit_once('/') {
        _ if word.contains("/keys/") => word.to_owned(),
        Some((owner, key)) => format!("{}/keys/{key}", principal(owner)),
        None => format!("{own}/keys/{word}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_finds_no_key_is_told_where_they_are() {
        assert_eq!(
            no_key("serviceAccounts/ci/keys/4cb4").to_string(),
            "serviceAccounts/ci has no API key 4cb4; `mcpctl get api-keys ci` lists those of it"
        );
        let own = no_key("users/ann@example.org/keys/deploy").to_string();
        assert!(
            own.starts_with(
                "users/ann@example.org has no API key deploy; `mcpctl get api-keys` lists your own"
            ),
            "{own}"
        );
        assert!(Belonging::ApiKey.nothing(&[]).contains("`mcpctl get api-keys SERVICE-ACCOUNT`"));
        assert_eq!(Belonging::ApiKey.nothing(&["ci".to_owned()]), "no API keys found");
    }

    #[test]
    fn a_key_may_be_named_by_whose_it_is() {
        for (word, name) in [
            ("4cb4", "users/ann/keys/4cb4"),
            ("ci/4cb4", "serviceAccounts/ci/keys/4cb4"),
            ("bob@example.org/-", "users/bob@example.org/keys/-"),
            ("users/bob@example.org/keys/4cb4", "users/bob@example.org/keys/4cb4"),
            ("serviceAccounts/ci/4cb4", "serviceAccounts/ci/keys/4cb4"),
        ] {
            assert_eq!(key_name(word, "users/ann"), name);
        }
    }

    #[test]
    fn a_lifetime_may_end_on_a_day() {
        let now = time::macros::datetime!(2027-01-01 00:00 UTC);
        let lifetime = |text: &str| parse::expiry(text).unwrap().lifetime(now);
        assert_eq!(lifetime("2027-01-31"), Some(Duration::from_secs(30 * 86_400)));
        assert_eq!(lifetime("2026-01-31"), Some(Duration::ZERO));
        assert_eq!((lifetime("30d"), lifetime("never")), (Some(Duration::from_secs(30 * 86_400)), None));
    }
}
