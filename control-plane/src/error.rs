//! Every error that leaves the control plane, and the only place where one becomes a gRPC status.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use inbound::LineLimit;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};
use trunkline::common::v1::Permission;

use crate::domain::{Kind, Violations};
use crate::rights::permission_set;
use crate::store::{StoreError, is_unusable};
use crate::sync::RefreshError;

/// The domain of every `ErrorInfo`.
pub const DOMAIN: &str = "trunkline.dev";

/// Anybody who enrols without a token causes such lines while the database does not respond.
static FAILURES: LineLimit<String> = LineLimit::new();

/// An error as its reader meets it: a canonical code, a reason for machines, a sentence for people.
#[derive(Debug)]
pub struct Error(Box<Contents>);

/// In a box, so that a `Result` of it stays small.
#[derive(Debug)]
struct Contents {
    code: Code,
    reason: &'static str,
    message: String,
    metadata: BTreeMap<String, String>,
    violations: Violations,
    retry_after: Option<Duration>,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    /// An error of any kind.
    pub fn new(code: Code, reason: &'static str, message: impl Into<String>) -> Self {
        Self(Box::new(Contents {
            code,
            reason,
            message: message.into(),
            metadata: BTreeMap::new(),
            violations: Violations::default(),
            retry_after: None,
            source: None,
        }))
    }

    /// Adds a fact for machines. Whatever the message interpolates belongs here too.
    #[must_use]
    pub fn with(mut self, key: &str, value: impl Into<String>) -> Self {
        self.0.metadata.insert(key.to_owned(), value.into());
        self
    }

    /// Says that the same request may succeed after this time.
    #[must_use]
    pub fn retry_after(mut self, time: Duration) -> Self {
        self.0.retry_after = Some(time);
        self
    }

    /// Fields that are wrong, all of them.
    pub fn invalid(violations: Violations) -> Self {
        Self::broken(Code::InvalidArgument, "INVALID_FIELD", violations)
    }

    /// Fields that are wrong for a reason of their own.
    pub fn broken(code: Code, reason: &'static str, violations: Violations) -> Self {
        let list: Vec<String> = violations
            .clone()
            .into_vec()
            .into_iter()
            .map(|v| format!("{} {}", v.field, v.description))
            .collect();
        let mut error = Self::new(code, reason, list.join("; "));
        error.0.violations = violations;
        error
    }

    /// One field that is wrong.
    pub fn field(field: &str, description: impl Into<String>) -> Self {
        let mut violations = Violations::default();
        violations.add(field, description);
        Self::invalid(violations)
    }

    /// There is no such resource.
    pub fn not_found(kind: Kind, name: &str) -> Self {
        Self::new(Code::NotFound, "RESOURCE_NOT_FOUND", format!("{name} does not exist"))
            .with("kind", kind.as_str())
            .with("name", name)
    }

    /// The caller lacks a permission.
    pub fn lacks(permission: Permission) -> Self {
        let needed = permission_set::name(permission);
        Self::new(
            Code::PermissionDenied,
            "PERMISSION_DENIED",
            format!("this takes {needed}, which the caller does not have"),
        )
        .with("permission", needed)
    }

    /// The caller sees a resource, and may not do this to it.
    pub fn denied(permission: Permission, name: &str) -> Self {
        let needed = permission_set::name(permission);
        let text = format!("{name} is not yours to change: that takes {needed}, as its owner or in its team");
        Self::new(Code::PermissionDenied, "PERMISSION_DENIED", text)
            .with("permission", needed)
            .with("name", name)
    }

    /// Nothing that the caller can change: it is logged here, once, and told without detail.
    pub fn internal(source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        let source = source.into();
        if let Some(times) = FAILURES.count(source.to_string()) {
            tracing::error!(error = %source, times, "internal error");
        }
        let mut error = Self::new(Code::Internal, "INTERNAL", "internal error; see the log for details");
        error.0.source = Some(source);
        error
    }

    /// The canonical code.
    pub fn code(&self) -> Code {
        self.0.code
    }

    /// The reason for machines.
    pub fn reason(&self) -> &'static str {
        self.0.reason
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source.as_deref().map(|source| source as &(dyn std::error::Error + 'static))
    }
}

impl From<StoreError> for Error {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Database(
                sqlx::Error::PoolTimedOut | sqlx::Error::Io(_) | sqlx::Error::PoolClosed,
            ) => {
                if let Some(times) = FAILURES.count(error.to_string()) {
                    tracing::warn!(%error, times, "the database does not respond");
                }
                Self::new(
                    Code::Unavailable,
                    "STORE_UNAVAILABLE",
                    "the database of the control plane does not respond",
                )
            }
            StoreError::Database(sqlx::Error::Database(cause)) if is_unusable(&*cause) => {
                if let Some(times) = FAILURES.count(cause.to_string()) {
                    tracing::error!(error = %cause, times, "the database cannot be used");
                }
                let message = format!("the control plane cannot use its database: {}", cause.message());
                Self::new(Code::Unavailable, "STORE_UNAVAILABLE", message)
            }
            StoreError::AuditUnavailable(cause) => {
                if let Some(times) = FAILURES.count(cause.clone()) {
                    tracing::error!(error = cause, times, "refused a change that cannot be recorded");
                }
                let text = "nothing was changed, because the audit log cannot be written; see the log of the control plane";
                Self::new(Code::Unavailable, "AUDIT_UNAVAILABLE", text)
            }
            error => Self::internal(error),
        }
    }
}

impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Self {
        StoreError::from(error).into()
    }
}

impl From<RefreshError> for Error {
    fn from(error: RefreshError) -> Self {
        let text = error.to_string();
        match error {
            RefreshError::NotFound(name) => Self::not_found(Kind::Upstream, &name),
            RefreshError::Disabled(name) => {
                Self::new(Code::FailedPrecondition, "UPSTREAM_DISABLED", text).with("name", name)
            }
            RefreshError::Away(name) => {
                Self::new(Code::FailedPrecondition, "UPSTREAM_AWAY", text).with("name", name)
            }
            RefreshError::Overtaken(name) => {
                Self::new(Code::Aborted, "UPSTREAM_CHANGED", text).with("name", name)
            }
            RefreshError::Store(error) => error.into(),
        }
    }
}

impl From<Error> for Status {
    fn from(Error(error): Error) -> Self {
        let metadata: std::collections::HashMap<_, _> = error.metadata.into_iter().collect();
        let mut details = ErrorDetails::with_error_info(error.reason, DOMAIN, metadata);
        if !error.violations.is_empty() {
            details.set_bad_request(Vec::new());
            for violation in error.violations.into_vec() {
                details.add_bad_request_violation(violation.field, violation.description);
            }
        }
        if error.retry_after.is_some() {
            details.set_retry_info(error.retry_after);
        }
        Self::with_error_details(error.code, error.message, details)
    }
}
