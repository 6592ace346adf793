//! A program: what was read of an expression, what it looks at, and what it comes to. It must not know rules.

use super::facts::Facts;

/// An expression that was read and is well typed.
#[derive(Debug, Clone, PartialEq)]
pub struct Program {
    value: bool,
}

/// What the truth of a program depends on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Needs {
    /// `caller`.
    pub caller: bool,
    /// `tool`.
    pub tool: bool,
    /// `args`.
    pub arguments: bool,
    /// `source`.
    pub source: bool,
    /// `now`.
    pub now: bool,
}

/// Why a text is no program.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}, column {column}: {text}")]
pub struct ProgramError {
    /// The line, from 1.
    pub line: usize,
    /// The column, in characters, from 1.
    pub column: usize,
    /// What is wrong there, and what to do.
    pub text: String,
}

/// Why a program comes to nothing: a member is missing, types do not fit, it took too many steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Unevaluable(pub &'static str);

impl Needs {
    /// Whether it depends on what only a request tells: arguments, source or now.
    #[must_use]
    pub const fn request(self) -> bool {
        self.arguments || self.source || self.now
    }

    /// What either depends on.
    #[must_use]
    pub const fn or(self, other: Self) -> Self {
        Self {
            caller: self.caller || other.caller,
            tool: self.tool || other.tool,
            arguments: self.arguments || other.arguments,
            source: self.source || other.source,
            now: self.now || other.now,
        }
    }
}

impl Program {
    /// Reads a program.
    ///
    /// # Errors
    /// With where and why, where it is no program of the subset.
    pub fn parse(text: &str) -> Result<Self, ProgramError> {
        match text.trim() {
            "true" => Ok(Self { value: true }),
            "false" => Ok(Self { value: false }),
            _ => Err(ProgramError { line: 1, column: 1, text: "this is not supported".to_owned() }),
        }
    }

    /// What its truth depends on.
    #[must_use]
    pub fn needs(&self) -> Needs {
        Needs::default()
    }

    /// What it comes to. `None`: that depends on a fact that is known later.
    #[must_use]
    pub fn run(&self, _: &Facts<'_>) -> Option<Result<bool, Unevaluable>> {
        Some(Ok(self.value))
    }
}
