//! Types of an expression, and what can never be as it is written. Arguments are of any type unless a shape says more.
//!
//! It must not know tools, nor where shapes come from.

use std::cmp::Ordering;

use super::numbers;
use super::shape::{Constant, Kinds, Shape};
use super::syntax::{Expr, Node, Operator, Variable};
use crate::text::quoted;

/// Something that cannot be meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Issue {
    /// Where in the text: the byte.
    pub(super) at: usize,
    /// What is wrong.
    pub(super) what: What,
}

/// What is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum What {
    /// The types do not fit, or it is always the same.
    Never(String),
    /// There is no such argument; there are these.
    Missing {
        name: String,
        known: Vec<String>,
        /// Whether the expression asks whether it is there.
        guarded: bool,
    },
}

/// What an expression can come to.
#[derive(Debug, Clone)]
struct Type<'a> {
    kinds: Kinds,
    /// The values that it can have, where they are few.
    values: Option<Vec<Constant>>,
    /// Where it comes from arguments: their shape.
    shape: Option<&'a Shape>,
    items: Option<Box<Type<'a>>>,
    /// Whether its type is known when it is there only.
    dynamic: bool,
}

/// What `caller.kind` can be.
pub(super) const CALLER_KINDS: [&str; 3] = ["token", "user", "service_account"];
/// Values that are looked at together at most.
const MAX_PAIRS: usize = 4_096;
/// Names that are told of at most.
const MAX_NAMES: usize = 12;
/// Characters of values that are told of at most.
const MAX_SHOWN: usize = 400;
/// What there is no more to be said about than that it is anything.
static ANYTHING: Shape =
    Shape { kinds: Kinds::ALL, values: None, members: None, required: Vec::new(), items: None };

/// Looks at an expression with arguments of a shape.
pub(super) fn check<'a>(expression: &'a Expr, arguments: &'a Shape) -> Vec<Issue> {
    let mut asked = Vec::new();
    names_asked_for(expression, &mut asked);
    let mut checker = Checker { arguments, asked, item: None, issues: Vec::new() };
    let found = checker.look(expression);
    checker.want(expression.at, &found, Kinds::BOOL, "a rule is true or false");
    checker.issues
}

/// The first argument that an expression reads without asking anywhere whether it is there, though it need not be.
pub(super) fn optional<'a>(expression: &'a Expr, arguments: &Shape) -> Option<&'a str> {
    let mut asked = Vec::new();
    names_asked_for(expression, &mut asked);
    let members = arguments.members.as_ref()?;
    let may_be_missing = |name: &str| {
        members.contains_key(name) && !arguments.required.iter().any(|required| required == name)
    };
    first_read(expression, &|name| may_be_missing(name) && !asked.contains(&name))
}

/// The first argument that an expression reads and of which this is true.
fn first_read<'a>(expression: &'a Expr, is_it: &dyn Fn(&str) -> bool) -> Option<&'a str> {
    let named = match &expression.node {
        Node::Member(of, name) if is_arguments(of) => Some(name.as_str()),
        Node::Index(of, index) if is_arguments(of) => match &index.node {
            Node::Text(name) => Some(name.as_str()),
            _ => None,
        },
        _ => None,
    };
    let here = named.filter(|name| is_it(name));
    here.or_else(|| expression.parts().into_iter().find_map(|part| first_read(part, is_it)))
}

fn is_arguments(of: &Expr) -> bool {
    matches!(of.node, Node::Variable(Variable::Arguments))
}

/// Names of members of which an expression asks whether they are there.
fn names_asked_for<'a>(expression: &'a Expr, found: &mut Vec<&'a str>) {
    match &expression.node {
        Node::Has(_, name) => found.push(name),
        Node::Binary(Operator::In, name, _) => {
            if let Node::Text(name) = &name.node {
                found.push(name);
            }
        }
        _ => {}
    }
    expression.parts().into_iter().for_each(|part| names_asked_for(part, found));
}

struct Checker<'a> {
    arguments: &'a Shape,
    asked: Vec<&'a str>,
    item: Option<Type<'a>>,
    issues: Vec<Issue>,
}

impl<'a> Type<'a> {
    fn of(kinds: Kinds) -> Self {
        Self { kinds, values: None, shape: None, items: None, dynamic: false }
    }

    fn one(value: Constant) -> Self {
        Self { values: Some(vec![value.clone()]), ..Self::of(value.kind()) }
    }

    fn word(words: &[&str]) -> Self {
        let values = words.iter().map(|word| Constant::Text((*word).to_owned())).collect();
        Self { values: Some(values), ..Self::of(Kinds::TEXT) }
    }

    fn shaped(shape: &'a Shape) -> Self {
        Self {
            kinds: shape.kinds,
            values: shape.values.clone(),
            shape: Some(shape),
            items: None,
            dynamic: true,
        }
    }

    fn anything() -> Self {
        Self::shaped(&ANYTHING)
    }

    fn item(&self) -> Self {
        match (&self.items, self.shape) {
            (Some(items), _) => (**items).clone(),
            (None, Some(Shape { items: Some(items), .. })) => Self::shaped(items),
            _ => Self::anything(),
        }
    }

    /// Kinds that it is compared as.
    fn compared(&self) -> Kinds {
        if self.dynamic { self.kinds.with_all_numbers() } else { self.kinds }
    }
}

impl<'a> Checker<'a> {
    fn never(&mut self, at: usize, text: impl Into<String>) {
        self.issues.push(Issue { at, what: What::Never(text.into()) });
    }

    /// What must be of these kinds.
    fn want(&mut self, at: usize, found: &Type<'a>, kinds: Kinds, why: &str) {
        if found.kinds.and(kinds).is_empty() {
            self.never(at, format!("{why}, and this is {}", found.kinds.shown()));
        }
    }

    fn look(&mut self, expression: &Expr) -> Type<'a> {
        let at = expression.at;
        match &expression.node {
            Node::Null => Type::one(Constant::Null),
            Node::Bool(value) => Type::one(Constant::Bool(*value)),
            Node::Int(value) => Type::one(Constant::Int(*value)),
            Node::Double(value) => Type::one(Constant::Double(*value)),
            Node::Text(value) => Type::one(Constant::Text(value.clone())),
            Node::List(items) => self.list(items),
            Node::Variable(variable) => self.variable(*variable),
            Node::Item => self.item.clone().unwrap_or_else(Type::anything),
            Node::Member(of, name) => self.member(at, of, name),
            Node::Has(of, name) => {
                self.member(at, of, name);
                Type::of(Kinds::BOOL)
            }
            Node::Index(of, index) => self.index(at, of, index),
            Node::Not(of) => self.truth(of),
            Node::Negative(of) => self.negative(at, of),
            Node::Logic(_, parts) => {
                parts.iter().for_each(|part| drop(self.truth(part)));
                Type::of(Kinds::BOOL)
            }
            Node::Binary(operator, left, right) => self.binary(at, *operator, left, right),
            Node::Choice(parts) => self.choice(at, parts),
            Node::Size(of) => {
                let found = self.look(of);
                self.want(at, &found, Kinds::TEXT.or(Kinds::LIST), "size is of a string or a list");
                Type::of(Kinds::INT)
            }
            Node::Lower(of) => {
                self.text(at, of);
                Type::of(Kinds::TEXT)
            }
            Node::TextTest(_, of, other) => {
                self.text(at, of);
                self.text(other.at, other);
                Type::of(Kinds::BOOL)
            }
            Node::Each(_, of, body) => self.each(at, of, body),
            Node::InRange(_) => Type::of(Kinds::BOOL),
            Node::Clock(..) => Type::of(Kinds::INT),
        }
    }

    fn variable(&self, variable: Variable) -> Type<'a> {
        match variable {
            Variable::CallerKind => Type::word(&CALLER_KINDS),
            Variable::CallerTeams => {
                Type { items: Some(Box::new(Type::of(Kinds::TEXT))), ..Type::of(Kinds::LIST) }
            }
            Variable::ToolReadOnly | Variable::ToolDestructive => Type::of(Kinds::BOOL),
            Variable::Arguments => Type { kinds: Kinds::MAP, ..Type::shaped(self.arguments) },
            Variable::CallerName
            | Variable::Server
            | Variable::ToolName
            | Variable::ToolUpstream
            | Variable::Method => Type::of(Kinds::TEXT),
        }
    }

    fn truth(&mut self, of: &Expr) -> Type<'a> {
        let found = self.look(of);
        self.want(of.at, &found, Kinds::BOOL, "true or false is expected here");
        Type::of(Kinds::BOOL)
    }

    fn text(&mut self, at: usize, of: &Expr) {
        let found = self.look(of);
        self.want(at, &found, Kinds::TEXT, "a string is expected here");
    }

    fn list(&mut self, items: &[Expr]) -> Type<'a> {
        let found: Vec<_> = items.iter().map(|item| self.look(item)).collect();
        let values = found.iter().map(|item| item.values.clone()).collect::<Option<Vec<_>>>();
        let items = Type {
            kinds: found.iter().fold(Kinds::NONE, |all, item| all.or(item.kinds)),
            values: values.map(|values| values.concat()),
            shape: None,
            items: None,
            dynamic: found.iter().any(|item| item.dynamic),
        };
        Type { items: Some(Box::new(items)), ..Type::of(Kinds::LIST) }
    }

    fn member(&mut self, at: usize, of: &Expr, name: &str) -> Type<'a> {
        let found = self.look(of);
        if found.kinds.and(Kinds::MAP).is_empty() {
            self.never(at, format!("only an object has members, and this is {}", found.kinds.shown()));
            return Type::anything();
        }
        self.named(at, &found, name)
    }

    fn named(&mut self, at: usize, of: &Type<'a>, name: &str) -> Type<'a> {
        let Some(Shape { members: Some(members), .. }) = of.shape else { return Type::anything() };
        match members.get(name) {
            Some(shape) => Type::shaped(shape),
            None => {
                let known = members.keys().take(MAX_NAMES).map(|name| shown(name)).collect();
                let guarded = self.asked.contains(&name);
                let what = What::Missing { name: name.to_owned(), known, guarded };
                self.issues.push(Issue { at, what });
                Type::anything()
            }
        }
    }

    fn index(&mut self, at: usize, of: &Expr, index: &Expr) -> Type<'a> {
        let (found, by) = (self.look(of), self.look(index));
        let is_list = found.kinds.and(Kinds::LIST).and(by.kinds.and(Kinds::INT).list_if_any());
        let is_map = found.kinds.and(Kinds::MAP).and(by.kinds.and(Kinds::TEXT).map_if_any());
        match (&index.node, is_list.is_empty(), is_map.is_empty()) {
            (_, true, true) => {
                self.never(at, "a list has items by number, an object has members by name");
                Type::anything()
            }
            (Node::Text(name), true, false) => self.named(at, &found, name),
            (_, false, true) => found.item(),
            _ => Type::anything(),
        }
    }

    fn negative(&mut self, at: usize, of: &Expr) -> Type<'a> {
        let found = self.look(of);
        self.want(at, &found, Kinds::NUMBER, "a number is expected here");
        Type { kinds: found.kinds.and(Kinds::NUMBER), values: None, shape: None, items: None, ..found }
    }

    fn choice(&mut self, at: usize, parts: &[Expr; 3]) -> Type<'a> {
        self.truth(&parts[0]);
        let (then, otherwise) = (self.look(&parts[1]), self.look(&parts[2]));
        let dynamic = then.dynamic || otherwise.dynamic;
        if !dynamic && then.kinds != otherwise.kinds {
            self.never(at, "both values of ? : must be of one type");
        }
        let values = then.values.zip(otherwise.values).map(|(then, otherwise)| [then, otherwise].concat());
        Type { dynamic, values, ..Type::of(then.kinds.or(otherwise.kinds)) }
    }

    fn each(&mut self, at: usize, of: &Expr, body: &Expr) -> Type<'a> {
        let found = self.look(of);
        self.want(at, &found, Kinds::LIST, "all and exists are of a list");
        self.item = Some(found.item());
        self.truth(body);
        self.item = None;
        Type::of(Kinds::BOOL)
    }

    fn binary(&mut self, at: usize, operator: Operator, left: &Expr, right: &Expr) -> Type<'a> {
        let (a, b) = (self.look(left), self.look(right));
        match operator {
            Operator::Equal | Operator::Unequal => self.equality(at, operator, &a, &b),
            Operator::In => self.within(at, &a, &b, left),
            Operator::Less | Operator::LessOrEqual | Operator::Greater | Operator::GreaterOrEqual => {
                self.order(at, operator, &a, &b);
            }
            _ => return self.arithmetic(at, operator, &a, &b),
        }
        Type::of(Kinds::BOOL)
    }

    fn equality(&mut self, at: usize, operator: Operator, a: &Type<'a>, b: &Type<'a>) {
        let both = a.compared().and(b.compared());
        if both.is_empty() {
            let always = operator == Operator::Unequal;
            return self.never(at, unlike(always, a, b));
        }
        if both == Kinds::MAP {
            return self.never(at, "objects are not compared; compare their members");
        }
        self.constant(at, operator, a, b);
    }

    fn within(&mut self, at: usize, a: &Type<'a>, b: &Type<'a>, left: &Expr) {
        self.want(at, b, Kinds::LIST.or(Kinds::MAP), "in asks a list or an object");
        if b.kinds == Kinds::MAP {
            self.want(at, a, Kinds::TEXT, "members of an object have strings for names");
            if let Node::Text(name) = &left.node {
                self.named(left.at, b, name);
            }
            return;
        }
        let items = b.item();
        if b.kinds == Kinds::LIST {
            if a.compared().and(items.compared()).is_empty() {
                return self.never(at, unlike(false, a, &items));
            }
            let pairs = a.values.as_ref().zip(items.values.as_ref());
            let none = |(a, items): (&Vec<Constant>, &Vec<Constant>)| {
                a.len() * items.len() <= MAX_PAIRS && !a.iter().any(|a| items.iter().any(|b| equal(a, b)))
            };
            if pairs.is_some_and(none) {
                self.never(at, format!("this is always false: {}", listed(a)));
            }
        }
    }

    fn order(&mut self, at: usize, operator: Operator, a: &Type<'a>, b: &Type<'a>) {
        let ordered = Kinds::NUMBER.or(Kinds::TEXT).or(Kinds::BOOL);
        let both = a.compared().and(b.compared());
        if both.and(ordered).is_empty() {
            let (a, b) = (a.kinds.shown(), b.kinds.shown());
            return self.never(at, format!("{} does not compare {a} and {b}", operator.sign()));
        }
        self.constant(at, operator, a, b);
    }

    /// Whether all values that there can be come to the same.
    fn constant(&mut self, at: usize, operator: Operator, a: &Type<'a>, b: &Type<'a>) {
        let (Some(left), Some(right)) = (&a.values, &b.values) else { return };
        if left.len() * right.len() > MAX_PAIRS {
            return;
        }
        let pairs = left.iter().flat_map(|a| right.iter().map(move |b| (a, b)));
        let mut found = pairs.map(|(a, b)| holds(operator, a, b));
        let Some(first) = found.next() else { return };
        if found.all(|other| other == first) {
            let about = if left.len() >= right.len() { listed(a) } else { listed(b) };
            self.never(at, format!("this is always {first}: {about}"));
        }
    }

    fn arithmetic(&mut self, at: usize, operator: Operator, a: &Type<'a>, b: &Type<'a>) -> Type<'a> {
        let takes = match operator {
            Operator::Add => Kinds::NUMBER.or(Kinds::TEXT),
            Operator::Remainder => Kinds::INT,
            _ => Kinds::NUMBER,
        };
        let kinds = a.kinds.and(b.kinds).and(takes);
        if kinds.is_empty() {
            let (a, b) = (a.kinds, b.kinds);
            let of_numbers = !a.and(Kinds::NUMBER).is_empty() && !b.and(Kinds::NUMBER).is_empty();
            let text = match (of_numbers, operator) {
                (true, Operator::Remainder) => "% is of whole numbers".to_owned(),
                (true, _) => "whole numbers and numbers with a fraction do not mix; write 1.0".to_owned(),
                (false, _) => format!("{} does not take {} and {}", operator.sign(), a.shown(), b.shown()),
            };
            self.never(at, text);
            return Type::anything();
        }
        Type { dynamic: a.dynamic || b.dynamic, ..Type::of(kinds) }
    }
}

impl Kinds {
    const fn list_if_any(self) -> Self {
        if self.is_empty() { Self::NONE } else { Self::LIST }
    }

    const fn map_if_any(self) -> Self {
        if self.is_empty() { Self::NONE } else { Self::MAP }
    }
}

fn unlike(always: bool, a: &Type<'_>, b: &Type<'_>) -> String {
    let is_number = |of: &Type<'_>| !of.kinds.is_empty() && of.kinds.and(Kinds::NUMBER) == of.kinds;
    if is_number(a) && is_number(b) {
        return "whole numbers and numbers with a fraction are not compared as literals; write 1.0"
            .to_owned();
    }
    format!("this is always {always}: {} is never {}", a.kinds.shown(), b.kinds.shown())
}

/// The values of a type, for people.
fn listed(of: &Type<'_>) -> String {
    let values = of.values.as_deref().unwrap_or_default();
    let shown = values.iter().take(MAX_NAMES).map(Constant::shown).collect::<Vec<_>>().join(", ");
    let shown = match shown.char_indices().nth(MAX_SHOWN) {
        Some((end, _)) => format!("{}…", &shown[..end]),
        None => shown,
    };
    match values.len() {
        1 => format!("it is {shown}"),
        0..=MAX_NAMES => format!("it is one of {shown}"),
        _ => format!("it is one of {shown}, …"),
    }
}

/// A name as it is, unless it needs quotes.
fn shown(name: &str) -> String {
    let is_plain = name.chars().all(|c| c.is_ascii_alphanumeric() || "_-.".contains(c));
    if is_plain && !name.is_empty() && name.len() <= 64 { name.to_owned() } else { quoted(name) }
}

fn equal(a: &Constant, b: &Constant) -> bool {
    order(a, b) == Some(Ordering::Equal)
}

/// How two values compare. `None`: they do not.
fn order(a: &Constant, b: &Constant) -> Option<Ordering> {
    match (a, b) {
        (Constant::Null, Constant::Null) => Some(Ordering::Equal),
        (Constant::Bool(a), Constant::Bool(b)) => Some(a.cmp(b)),
        (Constant::Text(a), Constant::Text(b)) => Some(a.cmp(b)),
        (Constant::Int(a), Constant::Int(b)) => Some(a.cmp(b)),
        (Constant::Double(a), Constant::Double(b)) => a.partial_cmp(b),
        (Constant::Int(a), Constant::Double(b)) => numbers::compare(*a, *b),
        (Constant::Double(a), Constant::Int(b)) => numbers::compare(*b, *a).map(Ordering::reverse),
        _ => None,
    }
}

pub(super) fn holds(operator: Operator, a: &Constant, b: &Constant) -> bool {
    let found = order(a, b);
    match operator {
        Operator::Unequal => found != Some(Ordering::Equal),
        Operator::Less => found == Some(Ordering::Less),
        Operator::LessOrEqual => matches!(found, Some(Ordering::Less | Ordering::Equal)),
        Operator::Greater => found == Some(Ordering::Greater),
        Operator::GreaterOrEqual => matches!(found, Some(Ordering::Greater | Ordering::Equal)),
        _ => found == Some(Ordering::Equal),
    }
}

impl Issue {
    /// What is wrong, about `tool dev_read`. Empty: about none.
    pub(super) fn text(&self, tool: &str) -> String {
        match &self.what {
            What::Never(text) if tool.is_empty() => text.clone(),
            What::Never(text) => format!("{text} ({tool})"),
            What::Missing { name, known, .. } => {
                let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
                format!("{tool} has no argument {}; it has {known}", shown(name))
            }
        }
    }

    /// Whether the other is about the same place.
    #[must_use]
    pub const fn stands_with(&self, other: &Self) -> bool {
        self.at == other.at
    }

    /// Whether one tool is enough for it: the rule could never be decided about that tool.
    #[must_use]
    pub const fn is_for_each(&self) -> bool {
        matches!(self.what, What::Missing { guarded: false, .. })
    }
}
