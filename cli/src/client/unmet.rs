//! A condition of a token that does not hold, as an edge tells it.

use std::fmt;

use mcp::client::ClientError;
use mcp::json;
use mcp::method::Method;
use serde_json::Value;

use crate::client::caller::{BearerSource, Caller, claims};
use crate::client::session::{EdgeServer, Inquiry};
use crate::client::signature;
use crate::error::{Error, Exit};
use crate::shell::quoted;

/// What an edge says where a condition or a limit of a token refuses.
const CODE: i64 = -31012;
/// The reasons of conditions, which hold for whatever a token is used for.
const OF_CONDITIONS: [&str; 3] = ["not_yet_valid", "address_not_allowed", "outside_time_window"];

/// The reason for which a call waits for somebody.
const AWAITED: &str = "approval_needed";
/// The reasons for which a call waits for somebody, or that somebody gave: the edge says what to do.
const OF_APPROVALS: [&str; 3] = [AWAITED, "approval_denied", "too_many_approvals"];

/// What `access check` is asked where nothing is known of the request: whether its maker may call the server at all.
pub(super) const AT_ALL: &str = "--method tools/list";
/// Longer arguments are not repeated.
const MAX_ARGUMENTS: usize = 300;

/// Why an edge refuses a token that it knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unmet {
    message: String,
    reason: String,
    /// Whether somebody is asked to approve the call.
    is_asked_for: bool,
}

impl fmt::Display for Unmet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.message, self.reason)
    }
}

impl Unmet {
    /// Reads it in an error; `None` where that is about something else.
    pub fn of(error: &ClientError) -> Option<Self> {
        let ClientError::Unauthorized { told: Some(told), .. } = error else { return None };
        let ClientError::Rpc { code: CODE, message, data, .. } = &**told else { return None };
        let data: Value = serde_json::from_str(data.as_deref()?).ok()?;
        let reason = printable::line(data["reason"].as_str()?).into_owned();
        let is_asked_for = data["approval"].is_string();
        Some(Self { message: printable::line(message).into_owned(), reason, is_asked_for })
    }

    /// What is said of a call that waits for somebody who approves it; `None` where it waits for nobody.
    pub fn awaited(&self) -> Option<&str> {
        (self.is_asked_for && self.reason == AWAITED).then_some(self.message.as_str())
    }

    /// Whether another token may be let in where this one is not.
    pub fn is_of_condition(&self) -> bool {
        OF_CONDITIONS.contains(&self.reason.as_str())
    }
}

/// Whether the body of a refusal says that a condition does not hold.
pub fn is_by_condition(body: &[u8]) -> bool {
    let answer: Value = serde_json::from_slice(body).unwrap_or_default();
    let reason = answer["error"]["data"]["reason"].as_str();
    answer["error"]["code"] == CODE && reason.is_some_and(|reason| OF_CONDITIONS.contains(&reason))
}

impl EdgeServer {
    /// Says which condition does not hold, and how to see why: what `access check` is asked.
    pub(super) fn refused(&self, unmet: &Unmet, caller: &Caller, question: &str) -> Error {
        let advice = match OF_APPROVALS.contains(&unmet.reason.as_str()) {
            true => String::new(),
            false => format!("; {}", self.advice_on_unmet(unmet, caller, question)),
        };
        Error::new(Exit::Refused, format!("the edge at {} refused {caller}: {unmet}{advice}", self.edge))
    }

    fn advice_on_unmet(&self, unmet: &Unmet, caller: &Caller, question: &str) -> String {
        if !self.is_managed() {
            return "ask whoever gave you the bearer where and when it may be used".to_owned();
        }
        let from = if unmet.reason == "address_not_allowed" { " --from ADDRESS" } else { "" };
        let token = token_of(caller).map(|token| format!(" --token {token}")).unwrap_or_default();
        format!("run `mcpctl access check{token} --server {} {question}{from}` to see why", self.name)
    }
}

/// What `access check` is asked about a request: rules look at what it names, and at its arguments.
pub(super) fn question(inquiry: &Inquiry<'_>) -> String {
    let (flag, member) = match inquiry.method {
        Method::ToolsCall => ("--tool", "name"),
        Method::ResourcesRead => ("--resource", "uri"),
        Method::PromptsGet => ("--prompt", "name"),
        _ => return AT_ALL.to_owned(),
    };
    let [target, arguments] = json::members(inquiry.params, [member, "arguments"]).unwrap_or_default();
    let Some(target) = target.and_then(signature::readable) else { return AT_ALL.to_owned() };
    let arguments = arguments.map(|given| format!(" --args {}", shown(given))).unwrap_or_default();
    format!("{flag} {}{arguments}", quoted(&target))
}

/// Arguments as they are to be typed. What is long, or has several lines, came from a file.
fn shown(arguments: &str) -> String {
    match arguments.len() > MAX_ARGUMENTS || arguments.contains(['\n', '\r']) {
        true => "JSON".to_owned(),
        false => quoted(&printable::json(arguments)),
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

    fn refusal(code: i64, data: Option<&str>) -> ClientError {
        let message = "this token may not be used from this address".to_owned();
        let told = ClientError::Rpc { code, message, data: data.map(str::to_owned), status: 403 };
        ClientError::Unauthorized {
            status: 403,
            www_authenticate: None,
            wants_bearer: false,
            told: Some(Box::new(told)),
        }
    }

    fn unmet(reason: &str) -> Unmet {
        Unmet::of(&refusal(CODE, Some(&format!(r#"{{"reason":"{reason}"}}"#)))).unwrap()
    }

    fn of_context(control: Option<&str>) -> String {
        let context = Context {
            control: control.map(str::to_owned),
            edge: Some("http://127.0.0.1:4444".to_owned()),
            ..Context::default()
        };
        let server = EdgeServer::of(&context, "dev", std::time::Duration::from_secs(5)).unwrap();
        let source = BearerSource::Saved { name: "ci".to_owned(), file: "FILE".into() };
        let caller = Caller { bearer: Secret::new("s3cret"), source };
        server.refused(&unmet("address_not_allowed"), &caller, AT_ALL).to_string()
    }

    #[test]
    fn a_condition_is_told_and_how_to_see_why() {
        let told = "the edge at http://127.0.0.1:4444 refused token ci (saved in FILE): this token may not be used from this \
                    address (address_not_allowed); ";
        assert_eq!(
            of_context(Some("http://127.0.0.1:4445")),
            format!(
                "{told}run `mcpctl access check --token ci --server dev --method tools/list --from ADDRESS` to see why"
            )
        );
        assert_eq!(
            of_context(None),
            format!("{told}ask whoever gave you the bearer where and when it may be used")
        );
    }

    #[test]
    fn a_call_that_waits_for_approval_is_told_what_the_edge_says_of_it() {
        let context = Context { edge: Some("http://127.0.0.1:4444".to_owned()), ..Context::default() };
        let server = EdgeServer::of(&context, "dev", std::time::Duration::from_secs(5)).unwrap();
        let caller = Caller { bearer: Secret::new("s3cret"), source: BearerSource::Environment("T") };
        let told = server.refused(&unmet("approval_needed"), &caller, AT_ALL);
        let text = format!(
            "the edge at http://127.0.0.1:4444 refused {caller}: this token may not be used from this address (approval_needed)"
        );
        assert_eq!((told.exit, told.to_string()), (Exit::Refused, text));
    }

    #[test]
    fn only_what_somebody_is_asked_for_is_awaited() {
        let awaited = |reason: &str, approval: &str| {
            let data = format!(r#"{{"reason":"{reason}"{approval}}}"#);
            Unmet::of(&refusal(CODE, Some(&data))).unwrap().awaited().map(str::to_owned)
        };
        let approval = r#","approval":"approvals/a1""#;
        let told = "this token may not be used from this address";
        assert_eq!(awaited("approval_needed", approval).as_deref(), Some(told));
        assert_eq!(awaited("approval_needed", ""), None, "no control plane was asked");
        assert_eq!(awaited("approval_denied", approval), None);
    }

    #[test]
    fn what_is_asked_is_about_the_request_that_was_refused() {
        let asked = |method: Method, params: &str| question(&Inquiry::reading(method, params));
        let call = r#"{"name":"files_read","arguments":{"path":"/etc"},"_meta":{}}"#;
        assert_eq!(asked(Method::ToolsCall, call), r#"--tool files_read --args '{"path":"/etc"}'"#);
        let read = r#"{"uri":"docs://a b"}"#;
        assert_eq!(asked(Method::ResourcesRead, read), "--resource 'docs://a b'");
        let long = format!(r#"{{"name":"x","arguments":{{"text":"{}"}}}}"#, "a".repeat(MAX_ARGUMENTS));
        assert_eq!(asked(Method::ToolsCall, &long), "--tool x --args JSON");
        assert_eq!(asked(Method::ToolsList, "{}"), AT_ALL);
    }

    #[test]
    fn only_conditions_let_others_try() {
        assert!(unmet("address_not_allowed").is_of_condition());
        assert!(!unmet("quota_exceeded").is_of_condition());
        let host = refusal(-31003, Some(r#"{"reason":"host_not_allowed"}"#));
        let body = |code: i64| {
            format!(r#"{{"error":{{"code":{code},"message":"","data":{{"reason":"not_yet_valid"}}}}}}"#)
        };
        assert!(is_by_condition(body(CODE).as_bytes()) && !is_by_condition(body(-31003).as_bytes()));
        for other in [host, refusal(CODE, None), refusal(CODE, Some("{}")), ClientError::Unsupported] {
            assert_eq!(Unmet::of(&other), None, "{other:?}");
        }
    }
}
