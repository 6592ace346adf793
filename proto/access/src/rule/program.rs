//! A program: what was read of an expression, what it looks at, and what it comes to. It must not know rules.

use std::collections::HashSet;

use super::check::{Issue, check, optional};
use super::eval::{Stop, Work, truth};
use super::facts::Facts;
use super::parser::parse;
use super::shape::Shape;
use super::syntax::{Expr, Node, Variable};
use super::vain::{self, Known};

/// An expression that was read and is well typed.
#[derive(Debug, Clone, PartialEq)]
pub struct Program {
    text: Box<str>,
    root: Expr,
    needs: Needs,
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
        let root = parse(text)?;
        let program = Self { needs: needs(&root), text: text.into(), root };
        match program.issues(&Shape::default()).first() {
            Some(issue) => Err(program.error(issue, "")),
            None => Ok(program),
        }
    }

    /// What its truth depends on.
    #[must_use]
    pub const fn needs(&self) -> Needs {
        self.needs
    }

    /// What can never be meant, if arguments are of this shape.
    #[must_use]
    pub fn issues(&self, arguments: &Shape) -> Vec<Issue> {
        check(&self.root, arguments)
    }

    /// What can never be meant by who writes a rule, though it reads well: a comparison with what is never there, or a part that looks at
    /// nothing of a call. Edges take it as it stands.
    #[must_use]
    pub fn vain(&self, known: Known<'_>) -> Option<ProgramError> {
        vain::find(&self.root, known).map(|issue| self.error(&issue, ""))
    }

    /// The first argument that it reads without asking whether it is there, though it need not be: a call without it cannot be decided.
    #[must_use]
    pub fn optional(&self, arguments: &Shape) -> Option<&str> {
        optional(&self.root, arguments)
    }

    /// Whether it is false of whatever has one of these for `tool.name`.
    #[must_use]
    pub fn names_none_of(&self, names: &HashSet<&str>) -> bool {
        vain::names_none_of(&self.root, names)
    }

    /// An issue as people are told it, about `tool dev_read`.
    #[must_use]
    pub fn error(&self, issue: &Issue, tool: &str) -> ProgramError {
        ProgramError::at(&self.text, issue.at, issue.text(tool))
    }

    /// What it comes to. `None`: that depends on a fact that is known later.
    #[must_use]
    pub fn run(&self, facts: &Facts<'_>) -> Option<Result<bool, Unevaluable>> {
        self.run_within(facts, &mut Work::default())
    }

    /// The same, with what is left of the work of a decision.
    pub(super) fn run_within<'a>(
        &'a self,
        facts: &Facts<'a>,
        work: &mut Work<'a>,
    ) -> Option<Result<bool, Unevaluable>> {
        match truth(&self.root, facts, work) {
            Ok(value) => Some(Ok(value)),
            Err(Stop::Later) => None,
            Err(Stop::Error(why) | Stop::Spent(why)) => Some(Err(Unevaluable(why))),
        }
    }
}

impl ProgramError {
    /// About a byte of a text.
    pub(super) fn at(text: &str, byte: usize, what: impl Into<String>) -> Self {
        let before = text.get(..byte).unwrap_or(text);
        let line = before.rsplit('\n').next().unwrap_or_default();
        Self { line: 1 + before.matches('\n').count(), column: 1 + line.chars().count(), text: what.into() }
    }
}

fn needs(expression: &Expr) -> Needs {
    let of_parts = expression.parts().into_iter().fold(Needs::default(), |all, part| all.or(needs(part)));
    let none = Needs::default();
    of_parts.or(match &expression.node {
        Node::InRange(_) => Needs { source: true, ..none },
        Node::Clock(..) => Needs { now: true, ..none },
        Node::Variable(Variable::Arguments) => Needs { arguments: true, ..none },
        Node::Variable(Variable::CallerName | Variable::CallerKind | Variable::CallerTeams) => {
            Needs { caller: true, ..none }
        }
        Node::Variable(
            Variable::ToolName | Variable::ToolUpstream | Variable::ToolReadOnly | Variable::ToolDestructive,
        ) => Needs { tool: true, ..none },
        _ => none,
    })
}
