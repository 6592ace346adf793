//! What an expression is made of. It must not know how it was written, nor what it comes to.

use jiff::tz::TimeZone;

use crate::address::AddressRange;

/// An expression, and where it stands in its text.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Expr {
    pub(super) at: usize,
    /// How deep it goes.
    pub(super) deep: usize,
    pub(super) node: Node,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Node {
    Null,
    Bool(bool),
    Int(i64),
    Double(f64),
    Text(String),
    List(Vec<Expr>),
    Variable(Variable),
    /// What `all` or `exists` goes through.
    Item,
    Member(Box<Expr>, String),
    Index(Box<Expr>, Box<Expr>),
    Has(Box<Expr>, String),
    Not(Box<Expr>),
    Negative(Box<Expr>),
    /// `&&` of all of them if `true`, otherwise `||`.
    Logic(bool, Vec<Expr>),
    Binary(Operator, Box<Expr>, Box<Expr>),
    Choice(Box<[Expr; 3]>),
    Size(Box<Expr>),
    Lower(Box<Expr>),
    TextTest(TextTest, Box<Expr>, Box<Expr>),
    /// `all` of a list if `true`, otherwise `exists`.
    Each(bool, Box<Expr>, Box<Expr>),
    InRange(AddressRange),
    Clock(Clock, TimeZone),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Variable {
    CallerName,
    CallerKind,
    CallerTeams,
    Server,
    ToolName,
    ToolUpstream,
    ToolReadOnly,
    ToolDestructive,
    Method,
    Arguments,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operator {
    Equal,
    Unequal,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    In,
    Add,
    Subtract,
    Multiply,
    Divide,
    Remainder,
}

/// What is asked of two strings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TextTest {
    StartsWith,
    EndsWith,
    Contains,
}

/// What is asked of `now`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Clock {
    DayOfWeek,
    Hours,
}

impl TextTest {
    pub(super) fn holds(self, of: &str, other: &str) -> bool {
        match self {
            Self::StartsWith => of.starts_with(other),
            Self::EndsWith => of.ends_with(other),
            Self::Contains => of.contains(other),
        }
    }
}

impl Operator {
    pub(super) const fn sign(self) -> &'static str {
        match self {
            Self::Equal => "==",
            Self::Unequal => "!=",
            Self::Less => "<",
            Self::LessOrEqual => "<=",
            Self::Greater => ">",
            Self::GreaterOrEqual => ">=",
            Self::In => "in",
            Self::Add => "+",
            Self::Subtract => "-",
            Self::Multiply => "*",
            Self::Divide => "/",
            Self::Remainder => "%",
        }
    }
}

impl Expr {
    /// The expressions that it is made of.
    pub(super) fn parts(&self) -> Vec<&Self> {
        match &self.node {
            Node::Member(of, _) | Node::Has(of, _) | Node::Not(of) | Node::Negative(of) => vec![of],
            Node::Size(of) | Node::Lower(of) => vec![of],
            Node::Index(a, b) | Node::Binary(_, a, b) | Node::TextTest(_, a, b) | Node::Each(_, a, b) => {
                vec![a, b]
            }
            Node::List(all) | Node::Logic(_, all) => all.iter().collect(),
            Node::Choice(all) => all.iter().collect(),
            _ => Vec::new(),
        }
    }
}
