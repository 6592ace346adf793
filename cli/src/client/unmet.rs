//! A condition of a token that does not hold, as an edge tells it: the client of MCP keeps only the status of a refusal, so the
//! edge is asked once more for its words.

use std::time::Duration;

use http::{StatusCode, header};
use mcp::client::{ClientError, Reach};
use mcp::endpoint::is_loopback;
use mcp::header::{ACCEPT_BOTH, JSON};
use serde_json::Value;

use crate::client::caller::{BearerSource, Caller, claims};
use crate::client::session::EdgeServer;
use crate::error::{Error, Exit};

/// What an edge says where a condition or a limit of a token refuses.
const CODE: i64 = -31012;
/// The reasons of conditions, which hold for whatever a token is used for.
const OF_CONDITIONS: [&str; 3] = ["not_yet_valid", "address_not_allowed", "outside_time_window"];
/// What is asked: a condition is looked at before anything else is.
const QUESTION: &str = r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#;
/// Time for the answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// The longest body that is looked at.
const MAX_BODY_BYTES: usize = 4096;

/// Why an edge refuses a token that it knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unmet {
    message: String,
    reason: String,
}

impl Unmet {
    /// Reads it in the body of a refusal; `None` where that says something else.
    fn read(body: &str) -> Option<Self> {
        let answer: Value = serde_json::from_str(body).ok()?;
        let error = &answer["error"];
        let text = |value: &Value| value.as_str().map(|text| printable::line(text).into_owned());
        let (message, reason) = (text(&error["message"])?, text(&error["data"]["reason"])?);
        (error["code"] == CODE).then_some(Self { message, reason })
    }

    /// Whether another token may be let in where this one is not.
    pub fn is_of_condition(&self) -> bool {
        OF_CONDITIONS.contains(&self.reason.as_str())
    }
}

impl EdgeServer {
    /// Finds out which condition of a caller's token a refusal is about; `None` where it is about none.
    pub(super) async fn unmet(&self, error: &ClientError, caller: &Caller) -> Option<Unmet> {
        if !matches!(error, ClientError::Unauthorized { status: 403, .. }) {
            return None;
        }
        let mut client = reqwest::Client::builder().http1_only().timeout(PATIENCE);
        if let Reach::Trusting(authorities) = &self.endpoint.reach {
            client = client.tls_certs_merge(reqwest::Certificate::from_pem_bundle(authorities).ok()?);
        }
        if is_loopback(&self.endpoint.url) {
            client = client.no_proxy();
        }
        let client = client.redirect(reqwest::redirect::Policy::none()).build().ok()?;
        let question = client
            .post(self.endpoint.url.clone())
            .header(header::AUTHORIZATION, caller.authorization().ok()?)
            .header(header::CONTENT_TYPE, JSON)
            .header(header::ACCEPT, ACCEPT_BOTH)
            .body(QUESTION);
        let mut answer = question.send().await.ok()?;
        if answer.status() != StatusCode::FORBIDDEN {
            return None;
        }
        let mut body = Vec::new();
        while body.len() < MAX_BODY_BYTES
            && let Ok(Some(chunk)) = answer.chunk().await
        {
            body.extend_from_slice(&chunk);
        }
        Unmet::read(&String::from_utf8_lossy(&body))
    }

    /// Says which condition does not hold, and how to see why.
    pub(super) fn refused(&self, unmet: &Unmet, caller: &Caller) -> Error {
        let Unmet { message, reason } = unmet;
        Error::new(
            Exit::Refused,
            format!(
                "the edge at {} refused {caller}: {message} ({reason}); {}",
                self.edge,
                self.advice_on_unmet(unmet, caller)
            ),
        )
    }

    fn advice_on_unmet(&self, unmet: &Unmet, caller: &Caller) -> String {
        if !self.is_managed() {
            return "ask whoever gave you the bearer where and when it may be used".to_owned();
        }
        let from = if unmet.reason == "address_not_allowed" { " --from ADDRESS" } else { "" };
        let token = token_of(caller).map(|token| format!(" --token {token}")).unwrap_or_default();
        format!("run `mcpctl access check{token} --server {}{from}` to see why", self.name)
    }
}

/// The token whose bearer somebody presents, where that is known.
fn token_of(caller: &Caller) -> Option<String> {
    if matches!(caller.source, BearerSource::SignedIn(_)) {
        return None;
    }
    let told = claims(&caller.bearer).and_then(|claims| Some(claims["sub"].as_str()?.to_owned()));
    let told = told.and_then(|name| Some(printable::line(name.strip_prefix("tokens/")?).into_owned()));
    match &caller.source {
        BearerSource::Saved { name, .. } => Some(told.unwrap_or_else(|| name.clone())),
        _ => told,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::context::{Context, Secret};

    const BODY: &str = r#"{"jsonrpc":"2.0","id":1,"error":{"code":-31012,"message":"this token may not be used from this address",
        "data":{"reason":"address_not_allowed"}}}"#;

    fn of_context(control: Option<&str>) -> String {
        let context = Context {
            control: control.map(str::to_owned),
            edge: Some("http://127.0.0.1:4444".to_owned()),
            ..Context::default()
        };
        let server = EdgeServer::of(&context, "dev", PATIENCE).unwrap();
        let source = BearerSource::Saved { name: "ci".to_owned(), file: "FILE".into() };
        let caller = Caller { bearer: Secret::new("s3cret"), source };
        server.refused(&Unmet::read(BODY).unwrap(), &caller).to_string()
    }

    #[test]
    fn a_condition_is_told_and_how_to_see_why() {
        let told = "the edge at http://127.0.0.1:4444 refused token ci (saved in FILE): this token may not be used from this \
                    address (address_not_allowed); ";
        assert_eq!(
            of_context(Some("http://127.0.0.1:4445")),
            format!("{told}run `mcpctl access check --token ci --server dev --from ADDRESS` to see why")
        );
        assert_eq!(
            of_context(None),
            format!("{told}ask whoever gave you the bearer where and when it may be used")
        );
    }

    #[test]
    fn only_conditions_let_others_try() {
        assert!(Unmet::read(BODY).unwrap().is_of_condition());
        let limit = BODY.replace("address_not_allowed", "quota_exceeded");
        assert!(!Unmet::read(&limit).unwrap().is_of_condition());
        let host = r#"{"error":{"code":-31003,"message":"no","data":{"reason":"host_not_allowed"}}}"#;
        for other in [host, "Forbidden", "{}", r#"{"error":{"code":-31012,"message":"no"}}"#] {
            assert_eq!(Unmet::read(other), None, "{other}");
        }
    }
}
