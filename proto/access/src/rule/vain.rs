//! What nobody means by a rule, though its types fit: comparisons with what is never there, and parts that look at nothing of a call.
//!
//! Who writes such a rule is told. An edge that has one takes it as it stands. It must not know where rules are kept.

use std::collections::HashSet;

use super::check::{CALLER_KINDS, Issue, What, holds};
use super::eval::{Stop, Work, truth};
use super::facts::{Caller, Fact, Facts, Target};
use super::shape::Constant;
use super::syntax::{Clock, Expr, Node, Operator, TextTest, Variable};
use crate::text::{nearest, quoted};

/// What is known where a rule is written.
#[derive(Debug, Clone, Copy, Default)]
pub struct Known<'a> {
    /// The id of the server whose rule it is. Empty: it is of several.
    pub server: &'a str,
    /// The methods that it covers. Empty: that is not known.
    pub methods: &'a [&'a str],
}

/// What a value can be.
enum Domain<'a> {
    /// One of these.
    Words(Vec<&'a str>),
    /// The id of this, in which there is no `/` and no capital letter.
    Id(&'static str),
    /// A whole number from 0 to this.
    UpTo(i64),
    /// A text without capital letters of ASCII.
    Lower,
}

const TEAM: Domain<'static> = Domain::Id("the id of a team");
const SATURDAY: i64 = 6;
const LAST_HOUR: i64 = 23;

/// The first that nobody means.
pub(super) fn find(expression: &Expr, known: Known<'_>) -> Option<Issue> {
    Search { known, of_teams: false }.truth(expression)
}

#[derive(Clone, Copy)]
struct Search<'a> {
    known: Known<'a>,
    /// Whether `all` or `exists` is at a team of the caller.
    of_teams: bool,
}

impl<'a> Search<'a> {
    /// In what is taken for true or false.
    fn truth(self, of: &Expr) -> Option<Issue> {
        constant(of).or_else(|| self.value(of))
    }

    fn value(self, of: &Expr) -> Option<Issue> {
        let here = match &of.node {
            Node::Binary(Operator::In, value, list) => self.within(value, list),
            Node::Binary(operator, left, right) => self.comparison(of.at, *operator, left, right),
            Node::TextTest(test, text, other) => self.text_test(of.at, *test, text, other),
            _ => None,
        };
        here.or_else(|| self.parts(of)).or_else(|| self.contradiction(of))
    }

    fn parts(self, of: &Expr) -> Option<Issue> {
        match &of.node {
            Node::Not(part) => self.truth(part),
            Node::Logic(_, parts) => parts.iter().find_map(|part| self.truth(part)),
            Node::Choice(parts) => {
                self.truth(&parts[0]).or_else(|| parts[1..].iter().find_map(|part| self.value(part)))
            }
            Node::Each(_, list, body) => {
                let inside = Self { of_teams: is_teams(list), ..self };
                self.value(list).or_else(|| inside.truth(body))
            }
            _ => of.parts().into_iter().find_map(|part| self.value(part)),
        }
    }

    fn comparison(self, at: usize, operator: Operator, left: &Expr, right: &Expr) -> Option<Issue> {
        let teams = [(left, right), (right, left)].into_iter().find(|(side, _)| is_teams(side));
        if let Some((_, Expr { node: Node::List(items), .. })) = teams {
            return TEAM.lacks_one_of(items);
        }
        match (self.domain(left), self.domain(right)) {
            (Some(domain), None) => domain.against(at, operator, &literal(right)?),
            (None, Some(domain)) => domain.against(at, turned(operator), &literal(left)?),
            _ => None,
        }
    }

    /// `in`: each value of a list that is written out must be there at times, and so must one that is looked for among teams.
    fn within(self, value: &Expr, list: &Expr) -> Option<Issue> {
        if is_teams(list) {
            return TEAM.against(value.at, Operator::Equal, &literal(value)?);
        }
        let (Some(domain), Node::List(items)) = (self.domain(value), &list.node) else { return None };
        let fits = |item: &Expr| literal(item).is_none_or(|value| domain.has(&value));
        // One list of servers may stand in the rules of each of them.
        if matches!(value.node, Node::Variable(Variable::Server)) && items.iter().any(fits) {
            return None;
        }
        domain.lacks_one_of(items)
    }

    fn text_test(self, at: usize, test: TextTest, text: &Expr, other: &Expr) -> Option<Issue> {
        let (domain, value) = (self.domain(text)?, literal(other)?);
        match (&domain, &value) {
            (Domain::Words(words), Constant::Text(part)) => {
                let may_hold = words.iter().any(|word| test.holds(word, part));
                (!may_hold).then(|| issue(at, format!("this is always false: {}", domain.shown(&value))))
            }
            // What a whole text cannot have, no part of it has.
            (Domain::Id(_) | Domain::Lower, _) => domain.against(at, Operator::Equal, &value),
            _ => None,
        }
    }

    /// Comparisons of the same, one beside the other, of which no value meets all.
    fn contradiction(self, of: &Expr) -> Option<Issue> {
        let Node::Logic(true, parts) = &of.node else { return None };
        let compared: Vec<_> = parts.iter().filter_map(compared).collect();
        compared.iter().enumerate().find_map(|(index, (part, of, ..))| {
            let same: Vec<_> =
                compared[..=index].iter().filter(|(_, other, ..)| other.node == of.node).collect();
            let values = match self.domain(of) {
                Some(Domain::UpTo(last)) => (0..=last).map(Constant::Int).collect(),
                _ => vec![same.iter().find(|(_, _, operator, _)| *operator == Operator::Equal)?.3.clone()],
            };
            let meets_all =
                |value: &Constant| same.iter().all(|(_, _, operator, other)| holds(*operator, value, other));
            let text = "this is never so beside what stands before it";
            (!values.iter().any(meets_all)).then(|| issue(part.at, text.to_owned()))
        })
    }

    /// What an expression can be, where that is little.
    fn domain(self, of: &Expr) -> Option<Domain<'a>> {
        Some(match &of.node {
            Node::Clock(Clock::DayOfWeek, _) => Domain::UpTo(SATURDAY),
            Node::Clock(Clock::Hours, _) => Domain::UpTo(LAST_HOUR),
            Node::Variable(Variable::CallerName) => Domain::Id("the name of who calls"),
            Node::Variable(Variable::CallerKind) => Domain::Words(CALLER_KINDS.to_vec()),
            Node::Variable(Variable::Server) if !self.known.server.is_empty() => {
                Domain::Words(vec![self.known.server])
            }
            Node::Variable(Variable::Method) if !self.known.methods.is_empty() => {
                Domain::Words(self.known.methods.to_vec())
            }
            Node::Variable(Variable::Server) => Domain::Id("the id of a server"),
            Node::Variable(Variable::ToolUpstream) => Domain::Id("the id of an upstream"),
            Node::Size(_) => Domain::UpTo(i64::MAX),
            Node::Lower(of) => match self.domain(of) {
                Some(Domain::Words(words)) if words.iter().all(|word| is_lower(word)) => Domain::Words(words),
                Some(Domain::Id(of)) => Domain::Id(of),
                _ => Domain::Lower,
            },
            Node::Item if self.of_teams => TEAM,
            Node::Index(of, _) if is_teams(of) => TEAM,
            _ => return None,
        })
    }
}

impl Domain<'_> {
    fn has(&self, value: &Constant) -> bool {
        match (self, value) {
            (Self::Words(words), Constant::Text(text)) => words.contains(&text.as_str()),
            (Self::Id(_), Constant::Text(text)) => !text.contains('/') && is_lower(text),
            (Self::UpTo(last), Constant::Int(number)) => (0..=*last).contains(number),
            (Self::Lower, Constant::Text(text)) => is_lower(text),
            _ => false,
        }
    }

    /// The first of a list that it never is.
    fn lacks_one_of(&self, items: &[Expr]) -> Option<Issue> {
        items.iter().find_map(|item| {
            let value = literal(item).filter(|value| !self.has(value))?;
            Some(issue(item.at, format!("this is never so: {}", self.shown(&value))))
        })
    }

    /// A comparison that always comes to the same. What is always so because there is one server, or one method, is no mistake.
    fn against(&self, at: usize, operator: Operator, value: &Constant) -> Option<Issue> {
        use Operator::{Equal, Greater, GreaterOrEqual, Less, LessOrEqual, Unequal};
        let always = match (self, operator) {
            (_, Equal) if !self.has(value) => false,
            (_, Unequal) if !self.has(value) => true,
            (Self::UpTo(last), Less | LessOrEqual | Greater | GreaterOrEqual) => {
                // What is so at both ends is so between them.
                let [first, last] = [0, *last].map(|end| holds(operator, &Constant::Int(end), value));
                if first == last { first } else { return None }
            }
            _ => return None,
        };
        Some(issue(at, format!("this is always {always}: {}", self.shown(value))))
    }

    /// What there is instead of a value.
    fn shown(&self, value: &Constant) -> String {
        let text = if let Constant::Text(text) = value { text.as_str() } else { "" };
        match self {
            Self::UpTo(SATURDAY) => "it is 0 (Sunday) to 6 (Saturday)".to_owned(),
            Self::UpTo(i64::MAX) => "it is 0 or more".to_owned(),
            Self::UpTo(last) => format!("it is 0 to {last}"),
            Self::Lower => {
                format!("it has no capital letters any more; write {}", quoted(&text.to_ascii_lowercase()))
            }
            Self::Words(words) => {
                let shown = words.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(", ");
                let near = nearest(text, words.iter().copied()).filter(|_| words.len() > 1);
                let hint = near.map(|near| format!("; did you mean {near}?")).unwrap_or_default();
                let of = if words.len() > 1 { "one of " } else { "" };
                format!("it is {of}{shown}{hint}")
            }
            Self::Id(of) if !text.contains('/') => {
                format!("{of} has no capital letters; write {}", quoted(&text.to_ascii_lowercase()))
            }
            Self::Id(of) => match text.rsplit('/').next() {
                Some(id) if !id.is_empty() => format!("{of} has no /; write {}", quoted(id)),
                _ => format!("{of} has no /"),
            },
        }
    }
}

/// What looks at nothing of a call is the same for all.
fn constant(of: &Expr) -> Option<Issue> {
    if looks_at_something(of) {
        return None;
    }
    let caller = Caller::default();
    let facts = Facts {
        caller: &caller,
        server: "",
        target: Target::default(),
        method: "",
        arguments: Fact::Absent,
        source: Fact::Absent,
        now_s: None,
    };
    let text = match truth(of, &facts, &mut Work::default()) {
        Ok(value) => {
            format!("this is always {value}, whatever is called; leave it out, or `when` empty for always")
        }
        Err(Stop::Error(why) | Stop::Spent(why)) => format!("this can never be decided: {why}"),
        Err(Stop::Later) => return None,
    };
    Some(issue(of.at, text))
}

fn looks_at_something(of: &Expr) -> bool {
    let here = matches!(of.node, Node::Variable(_) | Node::Item | Node::InRange(_) | Node::Clock(..));
    here || of.parts().into_iter().any(looks_at_something)
}

fn is_teams(of: &Expr) -> bool {
    matches!(of.node, Node::Variable(Variable::CallerTeams))
}

fn is_lower(text: &str) -> bool {
    !text.contains(|c: char| c.is_ascii_uppercase())
}

/// A comparison, what is compared in it, how, and with what, where that says all of itself: a variable, or a part of the time.
fn compared(of: &Expr) -> Option<(&Expr, &Expr, Operator, Constant)> {
    let Node::Binary(operator, left, right) = &of.node else { return None };
    let is_simple = |of: &Expr| match &of.node {
        Node::Variable(variable) => !matches!(variable, Variable::Arguments | Variable::CallerTeams),
        node => matches!(node, Node::Clock(..)),
    };
    match (literal(left), literal(right)) {
        (None, Some(value)) if is_simple(left) => Some((of, left, *operator, value)),
        (Some(value), None) if is_simple(right) => Some((of, right, turned(*operator), value)),
        _ => None,
    }
}

fn literal(of: &Expr) -> Option<Constant> {
    match &of.node {
        Node::Text(text) => Some(Constant::Text(text.clone())),
        Node::Int(number) => Some(Constant::Int(*number)),
        _ => None,
    }
}

/// The same comparison with its sides changed.
const fn turned(operator: Operator) -> Operator {
    match operator {
        Operator::Less => Operator::Greater,
        Operator::LessOrEqual => Operator::GreaterOrEqual,
        Operator::Greater => Operator::Less,
        Operator::GreaterOrEqual => Operator::LessOrEqual,
        same => same,
    }
}

fn issue(at: usize, text: String) -> Issue {
    Issue { at, what: What::Never(text) }
}

/// Whether an expression is false of whatever has one of these for `tool.name`, as far as that is certain without anything else.
pub(super) fn names_none_of(of: &Expr, names: &HashSet<&str>) -> bool {
    let is_named = |text: &Expr| matches!(&text.node, Node::Text(text) if names.contains(text.as_str()));
    let is_other = |text: &Expr| matches!(text.node, Node::Text(_)) && !is_named(text);
    match &of.node {
        Node::Logic(true, parts) => parts.iter().any(|part| names_none_of(part, names)),
        Node::Logic(false, parts) => parts.iter().all(|part| names_none_of(part, names)),
        Node::Binary(Operator::Equal, a, b) => (is_name(a) && is_other(b)) || (is_name(b) && is_other(a)),
        Node::Binary(Operator::In, name, list) => {
            matches!(&list.node, Node::List(items) if is_name(name) && items.iter().all(is_other))
        }
        Node::TextTest(test, name, other) => is_name(name) && fits_none(*test, other, names),
        _ => false,
    }
}

fn is_name(of: &Expr) -> bool {
    matches!(of.node, Node::Variable(Variable::ToolName))
}

fn fits_none(test: TextTest, other: &Expr, names: &HashSet<&str>) -> bool {
    let Node::Text(other) = &other.node else { return false };
    !names.iter().any(|name| test.holds(name, other))
}
