//! What an expression comes to, within a number of steps. It must not know rules, nor how an expression was written.

use std::borrow::Cow;
use std::cmp::Ordering;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::facts::{Fact, Facts};
use super::json::{self, Json};
use super::numbers;
use super::parser::MAX_ITEMS;
use super::syntax::{Clock, Expr, Node, Operator, TextTest, Variable};

/// Steps that all the programs of a decision may take.
const MAX_STEPS: usize = 10_000;
/// Bytes that they may look at: some hundredths of a second, for which others of the thread wait.
const MAX_BYTES: usize = 16 << 20;
const DAY: i64 = 86_400;
/// Bytes that an item of a list costs beside its own.
const BYTES_OF_ITEM: usize = 64;

#[derive(Debug, Clone)]
enum Value<'a> {
    Null,
    Bool(bool),
    Int(i64),
    Double(f64),
    Text(Cow<'a, str>),
    List(Vec<Value<'a>>),
    Names(&'a [String]),
    /// A list of the arguments.
    Items(&'a [u8]),
    /// An object of the arguments.
    Object(&'a [u8]),
}

/// Why there is no value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stop {
    /// It depends on what is known later.
    Later,
    /// It takes too much: nothing makes up for it.
    Spent(&'static str),
    /// It is an error, for which `&&` and `||` can make up.
    Error(&'static str),
}

type Found<T> = Result<T, Stop>;

const STEPS: Stop = Stop::Spent("it takes too many steps");
const TYPES: Stop = Stop::Error("a value is of a type that this does not take");
const UNLIKE: Stop =
    Stop::Error("values of different types are compared, which readers may take for each other");
const NO_MEMBER: Stop = Stop::Error("an argument that it reads is missing");
const NO_ARGUMENTS: Stop = Stop::Error("the call has no arguments");
const OVERFLOW: Stop = Stop::Error("a number is too large, or is divided by zero");

/// What the programs of one decision share: what they may still do, and what one has found of the arguments already.
#[derive(Debug)]
pub(super) struct Work<'a> {
    steps: usize,
    bytes: usize,
    /// The arguments, once they were looked at.
    object: Option<Found<&'a [u8]>>,
    /// Members of the arguments that were looked for.
    members: Vec<(&'a str, Found<Option<&'a [u8]>>)>,
}

impl Default for Work<'_> {
    fn default() -> Self {
        Self { steps: MAX_STEPS, bytes: MAX_BYTES, object: None, members: Vec::new() }
    }
}

/// Whether an expression is true.
pub(super) fn truth<'a>(expression: &'a Expr, facts: &Facts<'a>, work: &mut Work<'a>) -> Found<bool> {
    Machine { facts: *facts, work, item: None }.bool(expression)
}

struct Machine<'a, 'w> {
    facts: Facts<'a>,
    work: &'w mut Work<'a>,
    /// What `all` or `exists` is at.
    item: Option<Value<'a>>,
}

impl<'a> Value<'a> {
    fn read(bytes: &'a [u8]) -> Found<Self> {
        json::read(bytes).map(Self::from).map_err(Stop::Error)
    }

    fn text(text: &'a str) -> Self {
        Self::Text(Cow::Borrowed(text))
    }

    /// What a copy of it takes.
    fn bytes(&self) -> usize {
        match self {
            Self::Text(Cow::Owned(text)) => text.len(),
            Self::List(items) => items.iter().map(|item| BYTES_OF_ITEM + item.bytes()).sum(),
            _ => 0,
        }
    }
}

impl<'a> From<Json<'a>> for Value<'a> {
    fn from(json: Json<'a>) -> Self {
        match json {
            Json::Null => Self::Null,
            Json::Bool(value) => Self::Bool(value),
            Json::Int(value) => Self::Int(value),
            Json::Double(value) => Self::Double(value),
            Json::Text(value) => Self::Text(value),
            Json::List(bytes) => Self::Items(bytes),
            Json::Map(bytes) => Self::Object(bytes),
        }
    }
}

impl<'a> Machine<'a, '_> {
    fn step(&mut self, bytes: usize) -> Found<()> {
        let Work { steps, bytes: left, .. } = &mut *self.work;
        *steps = steps.checked_sub(1).ok_or(STEPS)?;
        *left = left.checked_sub(bytes).ok_or(STEPS)?;
        Ok(())
    }

    fn bool(&mut self, expression: &'a Expr) -> Found<bool> {
        match self.value(expression)? {
            Value::Bool(value) => Ok(value),
            _ => Err(Stop::Error("a value is neither true nor false")),
        }
    }

    fn text(&mut self, expression: &'a Expr) -> Found<Cow<'a, str>> {
        match self.value(expression)? {
            Value::Text(value) => Ok(value),
            _ => Err(Stop::Error("a value is no string")),
        }
    }

    fn value(&mut self, expression: &'a Expr) -> Found<Value<'a>> {
        self.step(0)?;
        match &expression.node {
            Node::Null => Ok(Value::Null),
            Node::Bool(value) => Ok(Value::Bool(*value)),
            Node::Int(value) => Ok(Value::Int(*value)),
            Node::Double(value) => Ok(Value::Double(*value)),
            Node::Text(value) => Ok(Value::text(value)),
            Node::List(items) => {
                items.iter().map(|item| self.value(item)).collect::<Found<_>>().map(Value::List)
            }
            Node::Variable(variable) => self.variable(*variable),
            Node::Item => {
                self.step(self.item.as_ref().map_or(0, Value::bytes))?;
                self.item.clone().ok_or(TYPES)
            }
            Node::Member(of, name) => {
                let found = self.named(of, name)?.ok_or(NO_MEMBER)?;
                self.read(found)
            }
            Node::Has(of, name) => Ok(Value::Bool(self.named(of, name)?.is_some())),
            Node::Index(of, index) => self.index(of, index),
            Node::Not(of) => Ok(Value::Bool(!self.bool(of)?)),
            Node::Negative(of) => match self.value(of)? {
                Value::Int(value) => value.checked_neg().map(Value::Int).ok_or(OVERFLOW),
                Value::Double(value) => Ok(Value::Double(-value)),
                _ => Err(TYPES),
            },
            Node::Logic(all, parts) => {
                let mut row = Row::new(*all);
                for part in parts {
                    if row.ends_with(self.bool(part))? {
                        break;
                    }
                }
                row.found()
            }
            Node::Binary(operator, left, right) => {
                let (left, right) = (self.value(left)?, self.value(right)?);
                self.binary(*operator, left, right)
            }
            Node::Choice(parts) => {
                let chosen = if self.bool(&parts[0])? { &parts[1] } else { &parts[2] };
                self.value(chosen)
            }
            Node::Size(of) => self.size(of),
            Node::Lower(of) => {
                let text = self.text(of)?;
                self.step(text.len())?;
                Ok(Value::Text(text.to_ascii_lowercase().into()))
            }
            Node::TextTest(test, of, other) => self.text_test(*test, of, other),
            Node::Each(all, of, body) => self.each(*all, of, body),
            Node::InRange(range) => match self.facts.source {
                Fact::Later => Err(Stop::Later),
                Fact::Absent => Err(Stop::Error("the address of the client is not known")),
                Fact::Is(address) => Ok(Value::Bool(range.contains(address))),
            },
            Node::Clock(clock, zone) => self.clock(*clock, zone),
        }
    }

    fn variable(&mut self, variable: Variable) -> Found<Value<'a>> {
        let Facts { caller, server, target, method, .. } = self.facts;
        Ok(match variable {
            Variable::CallerName => Value::text(&caller.name),
            Variable::CallerKind => Value::text(&caller.kind),
            Variable::CallerTeams => Value::Names(&caller.teams),
            Variable::Server => Value::text(server),
            Variable::ToolName => match target.produced {
                Fact::Later => return Err(Stop::Later),
                Fact::Absent => Value::text(target.name),
                Fact::Is(uri) => Value::text(uri),
            },
            Variable::ToolUpstream => Value::text(target.upstream),
            Variable::ToolReadOnly => Value::Bool(target.read_only),
            Variable::ToolDestructive => Value::Bool(target.destructive),
            Variable::Method => Value::text(method),
            Variable::Arguments => {
                let known = match self.work.object {
                    Some(known) => known,
                    None => self.arguments(),
                };
                self.work.object = Some(known);
                Value::Object(known?)
            }
        })
    }

    /// The arguments, which must be one object.
    fn arguments(&mut self) -> Found<&'a [u8]> {
        let bytes = match self.facts.arguments {
            Fact::Later => return Err(Stop::Later),
            Fact::Absent => return Err(NO_ARGUMENTS),
            Fact::Is(bytes) => bytes,
        };
        self.step(bytes.len())?;
        match json::value(bytes).map_err(Stop::Error)? {
            Json::Map(object) => Ok(object),
            _ => Err(NO_ARGUMENTS),
        }
    }

    /// A member by its name, which is looked for once where it is one of the arguments themselves.
    fn named(&mut self, of: &'a Expr, name: &'a str) -> Found<Option<&'a [u8]>> {
        let is_argument = matches!(of.node, Node::Variable(Variable::Arguments));
        let of = self.value(of)?;
        if let Some((_, known)) = self.work.members.iter().find(|(known, _)| is_argument && *known == name) {
            return *known;
        }
        let found = self.member(&of, name);
        if is_argument && !matches!(found, Err(Stop::Spent(_))) {
            self.work.members.push((name, found));
        }
        found
    }

    fn read(&mut self, bytes: &'a [u8]) -> Found<Value<'a>> {
        self.step(bytes.len())?;
        Value::read(bytes)
    }

    fn member(&mut self, of: &Value<'a>, name: &str) -> Found<Option<&'a [u8]>> {
        let Value::Object(bytes) = of else { return Err(TYPES) };
        self.step(bytes.len())?;
        json::member(bytes, name).map_err(Stop::Error)
    }

    fn index(&mut self, of: &'a Expr, index: &'a Expr) -> Found<Value<'a>> {
        let of = self.value(of)?;
        match self.value(index)? {
            Value::Text(name) => {
                let found = self.member(&of, &name)?.ok_or(NO_MEMBER)?;
                self.read(found)
            }
            Value::Int(at) => {
                let at = usize::try_from(at).map_err(|_| NO_MEMBER)?;
                self.items(of)?.into_iter().nth(at).ok_or(NO_MEMBER)
            }
            _ => Err(TYPES),
        }
    }

    /// The items of a list.
    fn items(&mut self, list: Value<'a>) -> Found<Vec<Value<'a>>> {
        match list {
            Value::List(items) => Ok(items),
            Value::Names(names) if names.len() <= MAX_ITEMS => {
                Ok(names.iter().map(|name| Value::text(name)).collect())
            }
            Value::Items(bytes) => {
                self.step(bytes.len())?;
                let items = json::items(bytes, MAX_ITEMS).map_err(Stop::Error)?;
                let items = items.ok_or(Stop::Spent("a list of the arguments has more than 256 items"))?;
                self.step(items.len().saturating_mul(BYTES_OF_ITEM))?;
                items.into_iter().map(|item| self.read(item)).collect()
            }
            Value::Names(_) => Err(Stop::Spent("the caller is in more than 256 teams")),
            _ => Err(TYPES),
        }
    }

    fn size(&mut self, of: &'a Expr) -> Found<Value<'a>> {
        let found = match self.value(of)? {
            Value::Text(text) => {
                self.step(text.len())?;
                text.chars().count()
            }
            list => self.items(list)?.len(),
        };
        i64::try_from(found).map(Value::Int).map_err(|_| OVERFLOW)
    }

    fn text_test(&mut self, test: TextTest, of: &'a Expr, other: &'a Expr) -> Found<Value<'a>> {
        let (of, other) = (self.text(of)?, self.text(other)?);
        self.step(of.len() + other.len())?;
        Ok(Value::Bool(test.holds(&of, &other)))
    }

    fn each(&mut self, all: bool, of: &'a Expr, body: &'a Expr) -> Found<Value<'a>> {
        let list = self.value(of)?;
        let mut row = Row::new(all);
        for item in self.items(list)? {
            self.item = Some(item);
            if row.ends_with(self.bool(body))? {
                break;
            }
        }
        self.item = None;
        row.found()
    }

    fn clock(&self, clock: Clock, zone: &TimeZone) -> Found<Value<'a>> {
        let now = Timestamp::from_second(self.facts.now_s.ok_or(Stop::Later)?).map_err(|_| OVERFLOW)?;
        let local = now.as_second() + i64::from(zone.to_offset(now).seconds());
        Ok(Value::Int(match clock {
            // 1970 began on a Thursday, the fourth day after a Sunday.
            Clock::DayOfWeek => (local.div_euclid(DAY) + 4).rem_euclid(7),
            Clock::Hours => local.rem_euclid(DAY) / 3_600,
        }))
    }

    fn binary(&mut self, operator: Operator, left: Value<'a>, right: Value<'a>) -> Found<Value<'a>> {
        let ordered = |found: Option<Ordering>, is: fn(Ordering) -> bool| Value::Bool(found.is_some_and(is));
        Ok(match operator {
            Operator::Equal => Value::Bool(self.equal(left, right)?),
            Operator::Unequal => Value::Bool(!self.equal(left, right)?),
            Operator::In => Value::Bool(self.within(left, right)?),
            Operator::Less => ordered(self.order(&left, &right)?, Ordering::is_lt),
            Operator::LessOrEqual => ordered(self.order(&left, &right)?, Ordering::is_le),
            Operator::Greater => ordered(self.order(&left, &right)?, Ordering::is_gt),
            Operator::GreaterOrEqual => ordered(self.order(&left, &right)?, Ordering::is_ge),
            Operator::Add
            | Operator::Subtract
            | Operator::Multiply
            | Operator::Divide
            | Operator::Remainder => self.arithmetic(operator, left, right)?,
        })
    }

    /// Values of different types are not compared: a server that reads `"5"` as 5 would get past what refuses 5. `null` is no other value.
    fn equal(&mut self, left: Value<'a>, right: Value<'a>) -> Found<bool> {
        use Value::{Bool, Double, Int, Items, List, Names, Null, Object, Text};
        self.step(0)?;
        match (left, right) {
            (Null, Null) => Ok(true),
            (Bool(a), Bool(b)) => Ok(a == b),
            (Text(a), Text(b)) => {
                self.step(a.len().min(b.len()))?;
                Ok(a == b)
            }
            (a @ (Int(_) | Double(_)), b @ (Int(_) | Double(_))) => {
                Ok(self.order(&a, &b)? == Some(Ordering::Equal))
            }
            (a @ (List(_) | Names(_) | Items(_)), b @ (List(_) | Names(_) | Items(_))) => {
                let (a, b) = (self.items(a)?, self.items(b)?);
                let mut row = Row::new(true);
                for (a, b) in a.iter().zip(&b).filter(|_| a.len() == b.len()) {
                    if row.ends_with(self.equal(a.clone(), b.clone()))? {
                        break;
                    }
                }
                Ok(a.len() == b.len() && row.truth()?)
            }
            (Object(_), Object(_)) => Err(Stop::Error("objects are not compared")),
            (Null, _) | (_, Null) => Ok(false),
            _ => Err(UNLIKE),
        }
    }

    fn within(&mut self, value: Value<'a>, within: Value<'a>) -> Found<bool> {
        if matches!(within, Value::Object(_)) {
            let Value::Text(name) = value else { return Err(TYPES) };
            return Ok(self.member(&within, &name)?.is_some());
        }
        let mut row = Row::new(false);
        for item in self.items(within)? {
            self.step(value.bytes())?;
            if row.ends_with(self.equal(value.clone(), item))? {
                break;
            }
        }
        row.truth()
    }

    /// How two values of one type compare. `None`: one of them is no number.
    fn order(&mut self, left: &Value<'a>, right: &Value<'a>) -> Found<Option<Ordering>> {
        match (left, right) {
            (Value::Int(a), Value::Int(b)) => Ok(Some(a.cmp(b))),
            (Value::Double(a), Value::Double(b)) => Ok(a.partial_cmp(b)),
            (Value::Int(a), Value::Double(b)) => Ok(numbers::compare(*a, *b)),
            (Value::Double(a), Value::Int(b)) => Ok(numbers::compare(*b, *a).map(Ordering::reverse)),
            (Value::Bool(a), Value::Bool(b)) => Ok(Some(a.cmp(b))),
            (Value::Text(a), Value::Text(b)) => {
                self.step(a.len().min(b.len()))?;
                Ok(Some(a.cmp(b)))
            }
            _ => Err(TYPES),
        }
    }

    fn arithmetic(&mut self, operator: Operator, left: Value<'a>, right: Value<'a>) -> Found<Value<'a>> {
        match (left, right) {
            (Value::Int(a), Value::Int(b)) => whole(operator, a, b).map(Value::Int),
            (Value::Double(a), Value::Double(b)) => fractional(operator, a, b).map(Value::Double),
            (Value::Text(a), Value::Text(b)) if operator == Operator::Add => {
                self.step(a.len() + b.len())?;
                Ok(Value::Text((a.into_owned() + &*b).into()))
            }
            _ => Err(TYPES),
        }
    }
}

fn whole(operator: Operator, a: i64, b: i64) -> Found<i64> {
    let found = match operator {
        Operator::Add => a.checked_add(b),
        Operator::Subtract => a.checked_sub(b),
        Operator::Multiply => a.checked_mul(b),
        Operator::Divide => a.checked_div(b),
        Operator::Remainder => a.checked_rem(b),
        _ => return Err(TYPES),
    };
    found.ok_or(OVERFLOW)
}

fn fractional(operator: Operator, a: f64, b: f64) -> Found<f64> {
    match operator {
        Operator::Add => Ok(a + b),
        Operator::Subtract => Ok(a - b),
        Operator::Multiply => Ok(a * b),
        Operator::Divide => Ok(a / b),
        _ => Err(TYPES),
    }
}

/// A row of truths, of which one can decide for all, whatever the others are: `false` of `&&`, `true` of `||`.
struct Row {
    all: bool,
    decided: bool,
    later: bool,
    error: Option<&'static str>,
}

impl Row {
    const fn new(all: bool) -> Self {
        Self { all, decided: false, later: false, error: None }
    }

    /// Takes one more. Whether it decides.
    fn ends_with(&mut self, found: Found<bool>) -> Found<bool> {
        match found {
            Ok(value) => self.decided = value != self.all,
            Err(Stop::Later) => self.later = true,
            Err(Stop::Error(error)) => self.error = self.error.or(Some(error)),
            Err(spent @ Stop::Spent(_)) => return Err(spent),
        }
        Ok(self.decided)
    }

    fn truth(&self) -> Found<bool> {
        match (self.decided, self.later, self.error) {
            (true, ..) => Ok(!self.all),
            (_, true, _) => Err(Stop::Later),
            (_, _, Some(error)) => Err(Stop::Error(error)),
            _ => Ok(self.all),
        }
    }

    fn found<'a>(&self) -> Found<Value<'a>> {
        self.truth().map(Value::Bool)
    }
}
