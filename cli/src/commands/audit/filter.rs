//! Which records are looked for.

use serde_json::{Map, Value};
use time::OffsetDateTime;

use crate::parse::{self, Expiry};

/// What records must match.
#[derive(Debug, clap::Args)]
pub(super) struct FilterArgs {
    /// Only what this principal did, such as users/ann@example.org or tokens/ci
    #[arg(long, value_name = "NAME")]
    actor: Option<String>,
    /// Only this rpc or method, such as CreateServer or tools/call
    #[arg(long, value_name = "NAME")]
    action: Option<String>,
    /// Only what was done to this, or to what is under it, such as servers/dev
    #[arg(long, value_name = "NAME")]
    resource: Option<String>,
    /// Only records of this kind
    #[arg(long, value_enum)]
    kind: Option<RecordKind>,
    /// Only what was refused for this reason
    #[arg(long, value_name = "REASON")]
    reason: Option<String>,
    /// Only since then: such as 1h or 7d ago, or 2027-01-31T12:00:00Z
    #[arg(long, value_name = "WHEN", value_parser = since)]
    since: Option<String>,
    /// Only before then: the same
    #[arg(long, value_name = "WHEN", value_parser = since)]
    until: Option<String>,
}

/// What a record is about.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum RecordKind {
    /// What was created, changed or deleted
    Change,
    /// What somebody was refused
    Refusal,
    /// Who signed in, or tried to
    SignIn,
    /// Calls of servers, at edges that record them
    Call,
    /// Records that are missing
    Gap,
}

impl RecordKind {
    fn name(self) -> &'static str {
        match self {
            Self::Change => "AUDIT_KIND_CHANGE",
            Self::Refusal => "AUDIT_KIND_REFUSAL",
            Self::SignIn => "AUDIT_KIND_SIGN_IN",
            Self::Call => "AUDIT_KIND_CALL",
            Self::Gap => "AUDIT_KIND_GAP",
        }
    }
}

impl FilterArgs {
    /// The filter in proto-JSON.
    pub(super) fn to_json(&self) -> Value {
        let kind = self.kind.map(|kind| kind.name().to_owned());
        let fields = [
            ("actor", self.actor.as_deref().map(principal)),
            ("action", self.action.clone()),
            ("resource", self.resource.clone()),
            ("kind", kind),
            ("reason", self.reason.clone()),
            ("startTime", self.since.clone()),
            ("endTime", self.until.clone()),
        ];
        let fields = fields.into_iter().filter_map(|(field, value)| Some((field.to_owned(), value?.into())));
        Value::Object(fields.collect::<Map<_, _>>())
    }
}

/// The name of a principal: what looks like an address is of a user.
fn principal(name: &str) -> String {
    if name.contains('@') && !name.contains('/') { format!("users/{name}") } else { name.to_owned() }
}

/// Reads a time, or how long ago it was, as proto-JSON has it.
fn since(text: &str) -> Result<String, String> {
    since_at(text, OffsetDateTime::now_utc())
}

fn since_at(text: &str, now: OffsetDateTime) -> Result<String, String> {
    let ago = parse::duration(text).ok().and_then(|ago| now.checked_sub(time::Duration::try_from(ago).ok()?));
    let at = match ago {
        Some(at) => Some(Expiry::At(at)),
        None => parse::moment(text).ok(),
    };
    at.and_then(|at| at.timestamp(now)).ok_or_else(|| {
        format!("{text:?} is not a time; use a time such as 2027-01-31T12:00:00Z, a day such as 2027-01-31, or a duration such as 2h ago")
    })
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    #[test]
    fn times_are_past() {
        let now = datetime!(2027-01-31 12:00 UTC);
        assert_eq!(since_at("2h", now).unwrap(), "2027-01-31T10:00:00Z");
        assert_eq!(since_at("2027-01-01T00:00:00Z", now).unwrap(), "2027-01-01T00:00:00Z");
        assert!(since_at("never", now).is_err() && since_at("soon", now).is_err());
    }

    #[test]
    fn an_address_is_of_a_user() {
        assert_eq!(principal("ann@example.org"), "users/ann@example.org");
        assert_eq!(principal("tokens/ci"), "tokens/ci");
    }
}
