//! What was found, for people. Pure.

use crate::output::sections::{MIN_BESIDE, hang};

/// How far a text is indented that has no room beside its name.
const BELOW: usize = 6;
/// The words that advice begins with.
const ADVISING: [&str; 14] = [
    "ask ",
    "run ",
    "check ",
    "see ",
    "set ",
    "use ",
    "retry",
    "try ",
    "to trust ",
    "start ",
    "mend ",
    "allow ",
    "create ",
    "add ",
];

/// How it stands with what was looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    Ok,
    /// It works, and something is not as it should be.
    Warn,
    /// It does not work.
    Fail,
    /// Whoever asks may not look at it.
    Skip,
}

impl Outcome {
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Fail => "fail",
            Self::Skip => "skip",
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

    /// Something that the caller may not see.
    pub(super) fn skip(name: &'static str, text: impl Into<String>) -> Self {
        Self { outcome: Outcome::Skip, ..Self::ok(name, text) }
    }

    /// A failure. What to do is what the error says last, or else `advice`.
    pub(super) fn error(name: &'static str, error: impl ToString, advice: &str) -> Self {
        let error = error.to_string();
        match advice_in(&error) {
            Some((text, said)) => Self::fail(name, text, said),
            None => Self::fail(name, error, advice),
        }
    }
}

/// Splits an error into what happened, and what to do: behind its last semicolon, or the command in parentheses at its end.
fn advice_in(error: &str) -> Option<(String, String)> {
    if let Some((text, command)) = error.strip_suffix("`)").and_then(|start| start.rsplit_once(" (`")) {
        return Some((text.to_owned(), format!("run `{command}`")));
    }
    let (text, advice) = error.rsplit_once("; ")?;
    let is_advice = ADVISING.iter().any(|word| advice.starts_with(word));
    is_advice.then(|| (text.to_owned(), advice.to_owned()))
}

/// A line for each, and one for what to do, folded to a width if there is one.
pub(super) fn render(checks: &[Check], columns: Option<usize>) -> String {
    let width = checks.iter().map(|check| check.name.len()).max().unwrap_or_default();
    let mut text = String::new();
    for Check { name, outcome, text: found, advice } in checks {
        let head = format!("{:<4}  {name:<width$}  ", outcome.word());
        let beside = head.len();
        let is_narrow = columns.is_some_and(|columns| columns < beside + MIN_BESIDE);
        let (first, rest) = if is_narrow { (BELOW, BELOW) } else { (beside, beside) };
        let found = hang(&printable::line(found), first, rest, columns);
        match is_narrow {
            true => text.push_str(&format!("{}\n{found}", head.trim_end())),
            false => text.push_str(&format!("{head}{}", found.get(beside..).unwrap_or("\n"))),
        }
        if let Some(advice) = advice {
            text.push_str(&hang(&format!("-> {}", printable::line(advice)), first, rest + 3, columns));
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
            Check::error("edges", "none answers", "start one"),
        ];
        assert_eq!(
            render(&checks, None),
            "ok    clock        the same as here\nwarn  certificate  ends in 3 days\\nsoon\n\
             \x20                  -> renew it\nfail  edges        none answers\n                   -> start one\n"
        );
    }

    #[test]
    fn an_error_is_split_into_what_happened_and_what_to_do() {
        for (error, text, advice) in [
            (
                "it is away: refused; check that it is running",
                "it is away: refused",
                "check that it is running",
            ),
            (
                "no edge is there: a web server (`mcpctl x`)",
                "no edge is there: a web server",
                "run `mcpctl x`",
            ),
            ("it ended; nobody knows why", "it ended; nobody knows why", "ask"),
        ] {
            assert_eq!(Check::error("edge", error, "ask"), Check::fail("edge", text, advice));
        }
    }

    #[test]
    fn lines_are_folded_to_the_terminal() {
        let checks = [Check::warn("edges", "one two three four five six seven", "mend it")];
        let wide = "warn  edges  one two three four five\n             six seven\n             -> mend it\n";
        assert_eq!(render(&checks, Some(38)), wide);
        let narrow = "warn  edges\n      one two three\n      four five six\n      seven\n      -> mend it\n";
        assert_eq!(render(&checks, Some(20)), narrow);
    }
}
