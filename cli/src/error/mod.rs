//! Errors for the person at the terminal: one line that says what happened and what to do, and an exit code.
//!
//! Errors are shown to people; secrets must never reach them.

mod habits;
pub mod mistake;
mod options;
pub mod tls;

use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::shell::quoted;

/// The exit codes of `mcpctl`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// A failure that no other code names.
    Failure = 1,
    /// An error in the command line or in a file that it names.
    Usage = 2,
    /// A name that does not exist.
    NotFound = 3,
    /// No permission, or a change that an edge refused.
    Refused = 4,
    /// A tool that reported an error.
    ToolError = 5,
    /// A resource that exists already, was changed meanwhile or is still in use.
    Conflict = 6,
    /// No answer, or none in time.
    Unavailable = 7,
}

/// The table of exit codes, for `--help`.
pub const EXIT_CODES: &str = "\
Exit codes:
  0  success
  1  failure
  2  usage error: in the command line or in a file that it names
  3  not found
  4  refused: no permission, or an edge refused the change
  5  the tool reported an error
  6  conflict: the resource exists already, was changed meanwhile or is still in use
  7  unavailable: no response, or none in time
The exit codes of `mcpctl diff` are those of diff: 0 no differences, 1 differences, 2 error.";

/// The reason where a control plane is there, and its database is not.
const DATABASE: &str = "STORE_UNAVAILABLE";

/// The reason where the caller lacks a permission.
const DENIED: &str = "PERMISSION_DENIED";

/// An error, ready to be shown.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    /// The exit code of the process.
    pub exit: Exit,
    message: String,
    /// Whether it may pass without anything being mended here: nobody answered, or not in time.
    pub is_temporary: bool,
    /// What the control plane says to machines, if it has refused something.
    pub refusal: Option<Box<Refusal>>,
}

/// A refusal of the control plane.
#[derive(Debug, Default)]
pub struct Refusal {
    /// Such as `ETAG_MISMATCH`.
    pub reason: String,
    /// The resource that it is about, if it is about one.
    pub name: String,
    /// The etag that it has, if it is about a lost race; empty: the resource does not exist any more.
    pub etag: String,
    /// Its identity, if another one was sent.
    pub uid: String,
    /// The fields that are wrong, and why each is.
    pub violations: Vec<(String, String)>,
}

/// The result of a command.
pub type Result<T = ()> = std::result::Result<T, Error>;

impl Error {
    /// Creates an error with an exit code.
    pub fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: message.into(), is_temporary: false, refusal: None }
    }

    /// Creates a general failure.
    pub fn failure(message: impl Into<String>) -> Self {
        Self::new(Exit::Failure, message)
    }

    /// Creates an error about the command line or a file.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, message)
    }

    /// Creates an error about something that does not exist.
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(Exit::NotFound, message)
    }

    /// Whether the caller may not do this. What is asked for beside something else is left out then.
    pub fn is_denied(&self) -> bool {
        self.refusal.as_ref().is_some_and(|refusal| refusal.reason == DENIED)
    }

    /// Adds what else can be done about it.
    pub fn or(mut self, advice: &str) -> Self {
        self.message.push_str(&format!(", or {advice}"));
        self
    }

    /// Describes an error response of the control plane at `target`.
    pub fn from_status(status: &Status, target: &str) -> Self {
        let mut message = in_flags(&one_line(&quoted_set(status)));
        for violation in status.get_details_bad_request().iter().flat_map(|b| &b.field_violations) {
            let description = in_flags(&one_line(&violation.description));
            if !message.contains(&description) {
                message.push_str(&format!("; {}: {description}", violation.field));
            }
        }
        if message.is_empty() {
            let reason = status.get_details_error_info().map(|info| info.reason);
            message = reason.unwrap_or_else(|| status.code().to_string());
        }
        let is_database = status.get_details_error_info().is_some_and(|info| info.reason == DATABASE);
        let (exit, message) = match is_database {
            _ if says_more(status) => (Exit::Refused, message),
            true => (Exit::Unavailable, format!("{message}; mend that at {target}, and retry")),
            false => exit_and_message(status.code(), message, target),
        };
        let is_temporary =
            matches!(status.code(), Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled);
        Self { is_temporary, refusal: Some(Box::new(refusal(status))), ..Self::new(exit, message) }
    }
}

/// Reasons of refusals to people whose texts say what to do.
const SAYS_MORE: [&str; 7] = [
    "SESSION_INVALID",
    "API_KEY_INVALID",
    "SIGN_IN_REFUSED",
    "LINK_INVALID",
    "TOO_MANY_SIGN_INS",
    "INSECURE_TRANSPORT",
    "NO_SESSION",
];

/// Tells whether a refusal says itself what to do about it.
pub fn says_more(status: &Status) -> bool {
    let info = status.get_details_error_info();
    info.is_some_and(|info| SAYS_MORE.contains(&info.reason.as_str()))
}

fn refusal(status: &Status) -> Refusal {
    let details = status.get_error_details();
    let info = details.error_info();
    let fact = |key: &str| info.and_then(|info| info.metadata.get(key).cloned()).unwrap_or_default();
    let violations = details.bad_request().into_iter().flat_map(|request| &request.field_violations);
    Refusal {
        reason: info.map(|info| info.reason.clone()).unwrap_or_default(),
        name: fact("name"),
        etag: fact("etag"),
        uid: fact("uid"),
        violations: violations
            .map(|one| (one.field.clone(), in_flags(&one_line(&one.description))))
            .collect(),
    }
}

impl From<std::io::Error> for Error {
    fn from(error: std::io::Error) -> Self {
        Self::failure(error.to_string())
    }
}

/// Returns the exit code for a gRPC code, and the message with advice.
fn exit_and_message(code: Code, message: String, target: &str) -> (Exit, String) {
    match code {
        // Whoever is asked whether they meant something else needs no list.
        Code::NotFound if message.ends_with('?') => (Exit::NotFound, message),
        Code::NotFound => (Exit::NotFound, format!("{message}; run `mcpctl get KIND` to list what exists")),
        Code::InvalidArgument | Code::OutOfRange => (Exit::Usage, message),
        Code::Unauthenticated => (
            Exit::Refused,
            format!(
                "the control plane at {target} rejected the admin token; set it with \
                 `mcpctl config set-context NAME --admin-token-file FILE`"
            ),
        ),
        Code::PermissionDenied => (Exit::Refused, message),
        Code::AlreadyExists => {
            (Exit::Conflict, format!("{message}; change it with `mcpctl update` or `mcpctl apply`"))
        }
        Code::Aborted | Code::FailedPrecondition => (Exit::Conflict, message),
        Code::Unavailable => (
            Exit::Unavailable,
            format!("the control plane at {target} is unavailable: {message}; check that it is running"),
        ),
        Code::DeadlineExceeded | Code::Cancelled => (
            Exit::Unavailable,
            format!("the control plane at {target} did not respond in time; retry, or raise --timeout"),
        ),
        Code::Unimplemented => {
            (Exit::Failure, format!("{message}; check that {target} is a control plane of this version"))
        }
        Code::ResourceExhausted => (Exit::Failure, format!("{message}; retry later, or request less")),
        _ => (Exit::Failure, message),
    }
}

/// Advice for callers of the API, and what it is on the command line.
const FLAGS: [(&str, &str); 5] = [
    ("set `force`", "add --force"),
    ("set `take_over`", "add --take-over"),
    ("set `apply_set` to", "add --set"),
    ("say who gets that with `transfer_to`", "say who gets that with --transfer-to"),
    ("transfer_to must", "--transfer-to must"),
];

fn in_flags(message: &str) -> String {
    FLAGS.iter().fold(message.to_owned(), |message, (field, flag)| message.replace(field, flag))
}

/// Quotes the set that the advice names, where a shell would take it apart.
fn quoted_set(status: &Status) -> String {
    let info = status.get_details_error_info();
    match info.as_ref().and_then(|info| info.metadata.get("other_set")) {
        Some(set) => {
            let advice = |set: &str| format!("set `apply_set` to {set} ");
            status.message().replace(&advice(set), &advice(&quoted(set)))
        }
        None => status.message().to_owned(),
    }
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use tonic_types::ErrorDetails;

    #[test]
    fn a_status_becomes_one_line_that_names_the_field() {
        let mut details = ErrorDetails::with_error_info("INVALID_URL", "trunkline.dev", []);
        details.add_bad_request_violation("upstream.http.url", "must be absolute");
        let status = Status::with_error_details(Code::InvalidArgument, "the upstream is\nnot valid", details);
        let error = Error::from_status(&status, "http://x");
        assert_eq!(error.exit, Exit::Usage);
        assert_eq!(error.to_string(), "the upstream is not valid; upstream.http.url: must be absolute");
    }

    #[test]
    fn advice_is_in_the_words_of_the_command_line() {
        let status = Status::failed_precondition("a is used by b; set `force` to delete it anyway");
        assert_eq!(
            Error::from_status(&status, "http://x").to_string(),
            "a is used by b; add --force to delete it anyway"
        );
        let status =
            Status::failed_precondition("set `apply_set` to one to change it, or set `take_over` to move it");
        assert_eq!(
            Error::from_status(&status, "http://x").to_string(),
            "add --set one to change it, or add --take-over to move it"
        );
    }

    #[test]
    fn a_control_plane_without_its_database_is_not_called_absent() {
        let details = ErrorDetails::with_error_info(DATABASE, "trunkline.dev", []);
        let text = "the control plane cannot reach its database (PostgreSQL at db:5432: connection refused)";
        let error =
            Error::from_status(&Status::with_error_details(Code::Unavailable, text, details), "http://x");
        assert_eq!(error.exit, Exit::Unavailable);
        assert_eq!(error.to_string(), format!("{text}; mend that at http://x, and retry"));
    }

    #[test]
    fn a_missing_permission_is_told_from_other_refusals() {
        let is_denied = |reason: &str| {
            let details = ErrorDetails::with_error_info(reason, "trunkline.dev", []);
            let status = Status::with_error_details(Code::PermissionDenied, "no", details);
            Error::from_status(&status, "http://x").is_denied()
        };
        assert!(is_denied(DENIED) && !is_denied("OWN_RIGHTS"));
    }

    #[test]
    fn advice_can_be_pasted() {
        let metadata = [("other_set".to_owned(), "de fault".to_owned())];
        let details = ErrorDetails::with_error_info("OTHER_SET", "trunkline.dev", metadata);
        let text = "set de fault has applied a; set `apply_set` to de fault to change them there";
        let status = Status::with_error_details(Code::FailedPrecondition, text, details);
        assert_eq!(
            Error::from_status(&status, "http://x").to_string(),
            "set de fault has applied a; add --set 'de fault' to change them there"
        );
    }

    #[test]
    fn an_absent_control_plane_says_what_to_do() {
        let error = Error::from_status(&Status::unavailable("connection refused"), "http://127.0.0.1:4445");
        assert!(error.exit == Exit::Unavailable && error.is_temporary);
        assert_eq!(
            error.or("start one with `mcpctl dev`").to_string(),
            "the control plane at http://127.0.0.1:4445 is unavailable: connection refused; check that it is running, or start one with `mcpctl dev`"
        );
    }
}
