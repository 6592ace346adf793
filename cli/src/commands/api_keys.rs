//! What users and service accounts have: API keys and sessions. `create api-key`, `get api-keys`, `get sessions`, and `revoke` of both.

use std::time::Duration;

use prost_reflect::DynamicMessage;
use serde_json::{Value, json};
use time::OffsetDateTime;

use crate::commands::Invocation;
use crate::commands::users::in_collection;
use crate::control_client::ControlClient;
use crate::error::{Error, Result};
use crate::output::table::{Cell, Column, grid};
use crate::output::{self, Format};
use crate::parse;
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
    /// Lifetime, such as 30d, or never [default: 90d]
    #[arg(long, value_name = "DURATION", value_parser = lifetime)]
    expires: Option<Lifetime>,
}

/// How long a key is valid.
#[derive(Debug, Clone, Copy)]
enum Lifetime {
    Ends(Duration),
    Never,
}

fn lifetime(text: &str) -> std::result::Result<Lifetime, String> {
    if text == "never" { Ok(Lifetime::Never) } else { parse::duration(text).map(Lifetime::Ends) }
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
                    found.extend(self.of(&client, &principal(word)).await?);
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
            output::eprint(format!("no {} found", self.words()));
        }
        Ok(())
    }

    /// Ends those of these names.
    pub async fn revoke(self, invocation: &Invocation, names: &[String]) -> Result {
        let client = invocation.client().await?;
        let method = match self {
            Self::ApiKey => format!("{KEYS}/RevokeApiKey"),
            Self::Session => format!("{SESSIONS}/RevokeSession"),
        };
        for name in names {
            client.call(&method, json!({ "name": name })).await?;
            output::print(&format!("{name} revoked"))?;
        }
        Ok(())
    }
}

/// Creates an API key, and shows it.
pub async fn create(invocation: &Invocation, new: NewApiKey) -> Result {
    let mut request = json!({
        "parent": new.principal.as_deref().map(principal).unwrap_or_default(),
        "title": new.title.unwrap_or_default(),
        "role": new.role.as_deref().map(|role| in_collection("roles", role)).unwrap_or_default(),
    });
    match new.expires {
        Some(Lifetime::Ends(lifetime)) => request["lifetime"] = parse::proto_duration(lifetime).into(),
        Some(Lifetime::Never) => request["neverExpires"] = Value::Bool(true),
        None => {}
    }
    let answer = invocation.client().await?.call(&format!("{KEYS}/CreateApiKey"), request).await?;
    if let Some(format) = &invocation.format {
        return output::print(&output::message(&answer, format, String::new)?);
    }
    let key = reflection::submessage(&answer, "api_key")
        .ok_or_else(|| Error::failure("the response contains no key"))?;
    output::eprint(format!("{} created. The API key is shown only once:", reflection::text(&key, "name")));
    output::print(&reflection::text(&answer, "secret"))
}

/// The full name of a user or service account, which is told by its `@`.
pub fn principal(word: &str) -> String {
    if word.contains('/') {
        return word.to_owned();
    }
    in_collection(if word.contains('@') { "users" } else { "serviceAccounts" }, word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_principal_is_a_user_where_it_is_an_address() {
        assert_eq!(principal("ann@example.org"), "users/ann@example.org");
        assert_eq!(principal("ci"), "serviceAccounts/ci");
        assert_eq!(principal("serviceAccounts/ci"), "serviceAccounts/ci");
    }
}
