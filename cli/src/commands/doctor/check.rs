//! What was found, for people. Pure.

/// How it stands with what was looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    Ok,
    /// It works, and something is not as it should be.
    Warn,
    /// It does not work.
    Fail,
}

impl Outcome {
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Fail => "fail",
        }
    }
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Check {
    pub(super) name: &'static str,
    pub(super) outcome: Outcome,
    pub(super) text: String,
    /// What to do, where something is to be done.
    pub(super) advice: Option<String>,
}

impl Check {
    pub(super) fn ok(name: &'static str, text: impl Into<String>) -> Self {
        Self { name, outcome: Outcome::Ok, text: text.into(), advice: None }
    }

    pub(super) fn warn(name: &'static str, text: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { name, outcome: Outcome::Warn, text: text.into(), advice: Some(advice.into()) }
    }

    pub(super) fn fail(name: &'static str, text: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { outcome: Outcome::Fail, ..Self::warn(name, text, advice) }
    }

    /// A failure of which the error says what to do.
    pub(super) fn error(name: &'static str, error: impl ToString) -> Self {
        Self { name, outcome: Outcome::Fail, text: error.to_string(), advice: None }
    }
}

/// A line for each, and one for what to do.
pub(super) fn render(checks: &[Check]) -> String {
    let width = checks.iter().map(|check| check.name.len()).max().unwrap_or_default();
    let mut text = String::new();
    for Check { name, outcome, text: found, advice } in checks {
        text.push_str(&format!("{:<4}  {name:<width$}  {}\n", outcome.word(), printable::line(found)));
        if let Some(advice) = advice {
            text.push_str(&format!("      {:<width$}  -> {}\n", "", printable::line(advice)));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_check_is_a_line_and_its_advice_another() {
        let checks = [
            Check::ok("clock", "the same as here"),
            Check::warn("certificate", "ends in 3 days\nsoon", "renew it"),
            Check::error("edges", "none"),
        ];
        assert_eq!(
            render(&checks),
            "ok    clock        the same as here\nwarn  certificate  ends in 3 days\\nsoon\n\
             \x20                  -> renew it\nfail  edges        none\n"
        );
    }
}
