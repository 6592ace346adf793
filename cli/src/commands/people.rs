//! Users and service accounts as people call them: users also by the address that they sign in with, which may be another one than
//! that in their name.

use prost_reflect::DynamicMessage;
use serde_json::{Map, json};

use crate::commands::get;
use crate::control_client::ControlClient;
use crate::error::{Error, Exit};
use crate::kinds::Kind;
use crate::reflection;

/// The full name of a user or service account, which is told by its `@`.
pub fn principal(word: &str) -> String {
    match (word.contains('/'), word.contains('@')) {
        (true, _) => word.to_owned(),
        (false, true) => format!("users/{word}"),
        (false, false) => format!("serviceAccounts/{word}"),
    }
}

/// Whom a word means: whoever has that name, or else signs in with that address.
pub async fn meant(client: &ControlClient, word: &str) -> String {
    let (name, kind) = (principal(word), Kind::from_word("user"));
    if !name.starts_with("users/") {
        return name;
    }
    // Addresses are the same in all capitals, and names have none.
    let name = name.to_lowercase();
    match client.call(&kind.method("Get"), json!({ "name": name })).await {
        Err(error) => by_address(client, &name, &error).await.unwrap_or(name),
        Ok(_) => name,
    }
}

/// The name of who signs in with the address in a name that does not exist, as far as the caller sees people.
pub async fn by_address(client: &ControlClient, name: &str, error: &Error) -> Option<String> {
    let address = name.strip_prefix("users/").filter(|address| address.contains('@'))?;
    if error.exit != Exit::NotFound {
        return None;
    }
    let request =
        [("pageSize".to_owned(), 1_000.into()), ("search".to_owned(), address.to_lowercase().into())];
    let request = Map::from_iter(request);
    let users = get::all_pages(client, Kind::from_word("user"), request).await.ok()?;
    let has_address = |user: &&DynamicMessage| reflection::text(user, "email").eq_ignore_ascii_case(address);
    users.iter().find(has_address).map(|user| reflection::text(user, "name"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_are_named_by_their_addresses() {
        assert_eq!(principal("ann@example.org"), "users/ann@example.org");
        assert_eq!(principal("ci"), "serviceAccounts/ci");
        assert_eq!(principal("serviceAccounts/ci"), "serviceAccounts/ci");
    }
}
