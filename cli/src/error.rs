//! Errors for the person at the terminal: one line that says what happened and what to do, and an exit code.
//!
//! Errors are shown to people; secrets must never reach them.

use tonic::{Code, Status};
use tonic_types::StatusExt as _;

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
  0  done
  1  failed
  2  wrong use: the command line or a file it names
  3  not found
  4  refused: no permission, or an edge refused the change
  5  the tool answered with an error
  6  conflict: exists already, changed meanwhile, or still referred to
  7  nobody answers, or not in time
`mcpctl diff` is like diff: 0 same, 1 different, 2 trouble.";

/// An error, ready to be shown.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    /// The exit code of the process.
    pub exit: Exit,
    message: String,
}

/// The result of a command.
pub type Result<T = ()> = std::result::Result<T, Error>;

impl Error {
    /// Creates an error with an exit code.
    pub fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: message.into() }
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

    /// Describes an error response of the control plane at `target`.
    pub fn from_status(status: &Status, target: &str) -> Self {
        let mut message = one_line(status.message());
        for violation in status.get_details_bad_request().iter().flat_map(|b| &b.field_violations) {
            if !message.contains(&violation.description) {
                message.push_str(&format!("; {}: {}", violation.field, one_line(&violation.description)));
            }
        }
        let (exit, hint) = exit_and_hint(status.code(), target);
        if message.is_empty() {
            let reason = status.get_details_error_info().map(|info| info.reason);
            message = reason.unwrap_or_else(|| format!("{:?}", status.code()));
        }
        if !hint.is_empty() {
            message = format!("{message}; {hint}");
        }
        Self::new(exit, message)
    }
}

impl From<std::io::Error> for Error {
    fn from(error: std::io::Error) -> Self {
        Self::failure(error.to_string())
    }
}

/// Returns the exit code for a gRPC code, and advice.
fn exit_and_hint(code: Code, target: &str) -> (Exit, String) {
    match code {
        Code::NotFound => (Exit::NotFound, "`mcpctl get` lists what exists".into()),
        Code::InvalidArgument | Code::OutOfRange => (Exit::Usage, String::new()),
        Code::Unauthenticated => (
            Exit::Refused,
            format!("{target} does not know this admin token: set it with `mcpctl config set-context`"),
        ),
        Code::PermissionDenied => (Exit::Refused, String::new()),
        Code::AlreadyExists => (Exit::Conflict, "`mcpctl update` or `mcpctl apply` changes it".into()),
        Code::Aborted => (Exit::Conflict, "read it again, and repeat".into()),
        Code::FailedPrecondition => (Exit::Conflict, String::new()),
        Code::Unavailable => {
            (Exit::Unavailable, format!("is the control plane at {target} running? `mcpctl dev` starts one"))
        }
        Code::DeadlineExceeded | Code::Cancelled => {
            (Exit::Unavailable, format!("{target} took too long: try again, or with a longer --timeout"))
        }
        Code::Unimplemented => (Exit::Failure, format!("{target} is not a control plane of this version")),
        Code::ResourceExhausted => (Exit::Failure, "try again later, or ask for less".into()),
        _ => (Exit::Failure, String::new()),
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
    fn an_absent_control_plane_says_how_to_start_one() {
        let error = Error::from_status(&Status::unavailable("connection refused"), "http://127.0.0.1:4445");
        assert_eq!(error.exit, Exit::Unavailable);
        assert_eq!(
            error.to_string(),
            "connection refused; is the control plane at http://127.0.0.1:4445 running? `mcpctl dev` starts one"
        );
    }
}
