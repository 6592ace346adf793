//! What a context saves of the credentials of people and clients. Pure.

use serde::{Deserialize, Serialize};

use super::Secret;

/// A saved session.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SavedSession {
    pub secret: Secret,
    /// Who is signed in, such as `users/ann@example.org`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub principal: Option<String>,
    /// When it ends (RFC 3339).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<String>,
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

impl SavedToken {
    /// Whether the token may call a server.
    pub fn may_call(&self, server: &str) -> bool {
        self.servers.iter().any(|one| one == server || one == "*")
    }
}
