//! What can go wrong for the person at the terminal: one line that says what to do next, and an exit code.
//!
//! Everything here is meant to be read by people; secrets never reach it.

use tonic::{Code, Status};
use tonic_types::StatusExt as _;

/// The exit codes of `mcpctl`, as `--help` lists them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Something failed that no other code names.
    Failure = 1,
    /// The command line, or a file it names, is wrong.
    Usage = 2,
    /// What was named does not exist.
    NotFound = 3,
    /// Not allowed, or an edge refused the change.
    Refused = 4,
    /// The tool answered, and its answer says that it failed.
    ToolError = 5,
    /// It exists already, was changed meanwhile, or is still referred to.
    Conflict = 6,
    /// Nobody answers, or not in time.
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

/// A failure, ready to be shown.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    /// With what the process ends.
    pub exit: Exit,
    message: String,
}

/// What every command returns.
pub type Result<T = ()> = std::result::Result<T, Error>;

impl Error {
    /// A failure of this kind.
    pub fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: message.into() }
    }

    /// Something failed.
    pub fn failure(message: impl Into<String>) -> Self {
        Self::new(Exit::Failure, message)
    }

    /// The command line, or a file, is wrong.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, message)
    }

    /// It does not exist.
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(Exit::NotFound, message)
    }

    /// What the control plane at `target` answered.
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

/// The exit code of a gRPC code, and what to try next.
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
