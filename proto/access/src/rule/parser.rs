//! Words to an expression, by binding powers (Pratt). It must not know types, nor what an expression comes to.

use super::lexer::{MAX_NESTED, Word, tokens};
use super::program::ProgramError;
use super::syntax::{Expr, Node, Operator, Variable};
use crate::text::{nearest, quoted};

/// Nodes that an expression may have.
const MAX_NODES: usize = 1_000;
/// Items that a list may have.
pub(super) const MAX_ITEMS: usize = 256;
/// Bytes of an expression.
const MAX_BYTES: usize = 4_096;

/// What an expression begins with, where that is not a value.
const VARIABLES: [&str; 7] = ["args", "caller", "method", "now", "server", "source", "tool"];
/// Words that CEL keeps to itself.
const RESERVED: [&str; 18] = [
    "as",
    "break",
    "const",
    "continue",
    "else",
    "for",
    "function",
    "if",
    "import",
    "let",
    "loop",
    "package",
    "namespace",
    "return",
    "var",
    "void",
    "while",
    "in",
];

pub(super) struct Parser<'a> {
    pub(super) text: &'a str,
    tokens: Vec<(Word, usize)>,
    next: usize,
    nested: usize,
    nodes: usize,
    /// What `all` or `exists` calls an item, inside of it.
    pub(super) item: Option<String>,
}

pub(super) type Parsed<T = Expr> = Result<T, ProgramError>;

/// Reads an expression.
pub(super) fn parse(text: &str) -> Parsed {
    if text.len() > MAX_BYTES {
        return Err(ProgramError::at(text, 0, format!("it has more than {MAX_BYTES} bytes")));
    }
    let mut parser = Parser { text, tokens: tokens(text)?, next: 0, nested: 0, nodes: 0, item: None };
    let found = parser.expression()?;
    match parser.peek() {
        Word::End => Ok(found),
        _ => parser.refuse(format!("{} is not expected here{}", parser.shown(), parser.meant())),
    }
}

impl Parser<'_> {
    pub(super) fn peek(&self) -> &Word {
        self.tokens.get(self.next).map_or(&Word::End, |(token, _)| token)
    }

    pub(super) fn position(&self) -> usize {
        self.tokens.get(self.next).map_or(self.text.len(), |(_, at)| *at)
    }

    pub(super) fn skip_one(&mut self) {
        self.next += 1;
    }

    /// Takes a sign if it is next.
    pub(super) fn takes(&mut self, sign: &str) -> bool {
        let found = matches!(self.peek(), Word::Sign(next) if *next == sign);
        self.next += usize::from(found);
        found
    }

    pub(super) fn expect(&mut self, sign: &str) -> Parsed<()> {
        match self.takes(sign) {
            true => Ok(()),
            false => {
                self.refuse(format!("{sign} is expected here, and not {}{}", self.shown(), self.meant()))
            }
        }
    }

    /// What to write instead of the next word, where that is an operator elsewhere.
    fn meant(&self) -> String {
        let Word::Name(name) = self.peek() else { return String::new() };
        match operator_of(name) {
            Some(sign) => format!("; write {sign}"),
            None => String::new(),
        }
    }

    pub(super) fn refuse<T>(&self, text: impl Into<String>) -> Parsed<T> {
        self.refuse_at(self.position(), text)
    }

    pub(super) fn refuse_at<T>(&self, at: usize, text: impl Into<String>) -> Parsed<T> {
        Err(ProgramError::at(self.text, at, text))
    }

    /// The next word, for people.
    fn shown(&self) -> String {
        match self.peek() {
            Word::End => "the end".to_owned(),
            Word::Name(name) => quoted(name),
            Word::Sign(sign) => (*sign).to_owned(),
            Word::Text(_) => "a string".to_owned(),
            Word::Int(_) | Word::IntLimit | Word::Double(_) => "a number".to_owned(),
        }
    }

    pub(super) fn make(&mut self, at: usize, node: Node) -> Parsed {
        let mut made = Expr { at, deep: 0, node };
        made.deep = 1 + made.parts().iter().map(|part| part.deep).max().unwrap_or(0);
        self.nodes += 1;
        if self.nodes > MAX_NODES {
            return self.refuse_at(at, format!("the expression has more than {MAX_NODES} parts"));
        }
        if made.deep > MAX_NESTED {
            return self.too_deep(at);
        }
        Ok(made)
    }

    fn too_deep<T>(&self, at: usize) -> Parsed<T> {
        self.refuse_at(at, format!("the expression is nested more than {MAX_NESTED} deep"))
    }

    pub(super) fn expression(&mut self) -> Parsed {
        if self.nested == MAX_NESTED {
            return self.too_deep(self.position());
        }
        self.nested += 1;
        let found = self.choice();
        self.nested -= 1;
        found
    }

    fn choice(&mut self) -> Parsed {
        let condition = self.binary(1)?;
        let at = self.position();
        if !self.takes("?") {
            return Ok(condition);
        }
        let then = self.binary(1)?;
        self.expect(":")?;
        let otherwise = self.expression()?;
        self.make(at, Node::Choice(Box::new([condition, then, otherwise])))
    }

    /// Operators that bind at least so much.
    fn binary(&mut self, least: u8) -> Parsed {
        let mut left = self.unary()?;
        while let Some((binding, operator)) = self.operator().filter(|(binding, _)| *binding >= least) {
            let at = self.position();
            self.next += 1;
            let right = self.binary(binding + 1)?;
            left = match operator {
                Infix::Logic(all) => self.logic(at, all, left, right)?,
                Infix::Of(operator) => {
                    self.make(at, Node::Binary(operator, Box::new(left), Box::new(right)))?
                }
            };
        }
        Ok(left)
    }

    fn operator(&self) -> Option<(u8, Infix)> {
        let of = |binding, operator| Some((binding, Infix::Of(operator)));
        match self.peek() {
            Word::Sign("||") => Some((1, Infix::Logic(false))),
            Word::Sign("&&") => Some((2, Infix::Logic(true))),
            Word::Sign("==") => of(3, Operator::Equal),
            Word::Sign("!=") => of(3, Operator::Unequal),
            Word::Sign("<") => of(3, Operator::Less),
            Word::Sign("<=") => of(3, Operator::LessOrEqual),
            Word::Sign(">") => of(3, Operator::Greater),
            Word::Sign(">=") => of(3, Operator::GreaterOrEqual),
            Word::Name(name) if name == "in" => of(3, Operator::In),
            Word::Sign("+") => of(4, Operator::Add),
            Word::Sign("-") => of(4, Operator::Subtract),
            Word::Sign("*") => of(5, Operator::Multiply),
            Word::Sign("/") => of(5, Operator::Divide),
            Word::Sign("%") => of(5, Operator::Remainder),
            _ => None,
        }
    }

    /// A row of the same operator is one node, so that long rows are not deep.
    fn logic(&mut self, at: usize, all: bool, left: Expr, right: Expr) -> Parsed {
        let (at, mut parts) = match left {
            Expr { at, node: Node::Logic(same, parts), .. } if same == all => (at, parts),
            other => (at, vec![other]),
        };
        parts.push(right);
        self.make(at, Node::Logic(all, parts))
    }

    /// `!` and `-`, of which CEL allows rows, but no mixture.
    fn unary(&mut self) -> Parsed {
        let mut signs = Vec::new();
        while let Word::Sign(sign @ ("!" | "-")) = *self.peek() {
            if signs.len() == MAX_NESTED {
                return self.too_deep(self.position());
            }
            if signs.first().is_some_and(|(first, _)| *first != sign) {
                return self.refuse(format!("{sign} is not expected here; write brackets before it"));
            }
            signs.push((sign, self.position()));
            self.next += 1;
        }
        let literal = signs.last().filter(|(sign, _)| *sign == "-").copied();
        let mut found = match (literal, self.peek().clone()) {
            (Some((_, at)), Word::Int(number)) => self.negated(&mut signs, at, number.wrapping_neg())?,
            (Some((_, at)), Word::IntLimit) => self.negated(&mut signs, at, i64::MIN)?,
            _ => self.primary()?,
        };
        found = self.suffixes(found)?;
        for (sign, at) in signs.into_iter().rev() {
            let of = Box::new(found);
            found = self.make(at, if sign == "!" { Node::Not(of) } else { Node::Negative(of) })?;
        }
        Ok(found)
    }

    fn negated(&mut self, signs: &mut Vec<(&'static str, usize)>, at: usize, number: i64) -> Parsed {
        signs.pop();
        self.next += 1;
        self.make(at, Node::Int(number))
    }

    fn suffixes(&mut self, mut found: Expr) -> Parsed {
        loop {
            if self.takes("[") {
                if self.takes("?") {
                    return self.refuse("optional members are not supported; write has(args.name)");
                }
                let at = self.position();
                let index = self.expression()?;
                self.expect("]")?;
                found = self.make(at, Node::Index(Box::new(found), Box::new(index)))?;
            } else if self.takes(".") {
                let at = self.position();
                let name = self.selector()?;
                found = match self.takes("(") {
                    true => self.method(found, &name, at)?,
                    false => self.make(at, Node::Member(Box::new(found), name))?,
                };
            } else if matches!(self.peek(), Word::Sign("{")) {
                return self.refuse("messages and maps are not supported");
            } else {
                return Ok(found);
            }
        }
    }

    /// The name after a dot.
    pub(super) fn selector(&mut self) -> Parsed<String> {
        match self.peek().clone() {
            Word::Name(name) if !matches!(name.as_str(), "in" | "true" | "false" | "null") => {
                self.next += 1;
                Ok(name)
            }
            Word::Sign("?") => self.refuse("optional members are not supported; write has(args.name)"),
            _ => self.refuse(format!("a name is expected here, and not {}", self.shown())),
        }
    }

    fn primary(&mut self) -> Parsed {
        let at = self.position();
        match self.peek().clone() {
            Word::Name(name) => {
                self.next += 1;
                self.named(at, &name)
            }
            Word::Sign("(") => {
                self.next += 1;
                let found = self.expression()?;
                self.expect(")")?;
                Ok(found)
            }
            Word::Sign("[") => {
                self.next += 1;
                self.list(at)
            }
            Word::Sign("{") => self.refuse("messages and maps are not supported"),
            Word::Sign(".") => self.refuse("names that begin with a dot are not supported"),
            Word::IntLimit => self.refuse("this number is too large"),
            Word::Int(number) => self.literal(at, Node::Int(number)),
            Word::Double(number) => self.literal(at, Node::Double(number)),
            Word::Text(text) => self.literal(at, Node::Text(text)),
            Word::Sign(_) | Word::End => {
                self.refuse(format!("a value is expected here, and not {}", self.shown()))
            }
        }
    }

    fn literal(&mut self, at: usize, node: Node) -> Parsed {
        self.next += 1;
        self.make(at, node)
    }

    fn list(&mut self, at: usize) -> Parsed {
        let mut items = Vec::new();
        while !self.takes("]") {
            if items.len() == MAX_ITEMS {
                return self.refuse(format!("the list has more than {MAX_ITEMS} items"));
            }
            items.push(self.expression()?);
            if !matches!(self.peek(), Word::Sign("]")) {
                self.expect(",")?;
            }
        }
        self.make(at, Node::List(items))
    }

    fn named(&mut self, at: usize, name: &str) -> Parsed {
        if self.takes("(") {
            return self.function(name, at);
        }
        if self.item.as_deref() == Some(name) {
            return self.make(at, Node::Item);
        }
        let node = match name {
            "true" => Node::Bool(true),
            "false" => Node::Bool(false),
            "null" => Node::Null,
            "args" => Node::Variable(Variable::Arguments),
            "method" => Node::Variable(Variable::Method),
            "server" => Node::Variable(Variable::Server),
            "caller" => self.part(&[
                ("name", Variable::CallerName),
                ("kind", Variable::CallerKind),
                ("teams", Variable::CallerTeams),
            ])?,
            "tool" => self.part(&[
                ("name", Variable::ToolName),
                ("upstream", Variable::ToolUpstream),
                ("read_only", Variable::ToolReadOnly),
                ("destructive", Variable::ToolDestructive),
            ])?,
            "source" => return self.source(),
            "now" => return self.clock(),
            _ => return self.refuse_at(at, unknown(name)),
        };
        self.make(at, node)
    }

    /// A part of what is never whole.
    fn part(&mut self, parts: &[(&str, Variable)]) -> Parsed<Node> {
        self.expect(".")?;
        let at = self.position();
        let name = self.selector()?;
        let names = || parts.iter().map(|(name, _)| *name);
        match parts.iter().find(|(known, _)| *known == name) {
            Some((_, variable)) => Ok(Node::Variable(*variable)),
            None => {
                let known = names().collect::<Vec<_>>().join(", ");
                self.refuse_at(at, format!("there is no {}; there are {known}", quoted(&name)))
            }
        }
    }
}

enum Infix {
    Logic(bool),
    Of(Operator),
}

/// Whether nothing may be called so.
pub(super) fn is_reserved(name: &str) -> bool {
    RESERVED.contains(&name)
}

/// The sign of what other languages write as a word.
fn operator_of(name: &str) -> Option<&'static str> {
    match name.to_ascii_lowercase().as_str() {
        "and" => Some("&&"),
        "or" => Some("||"),
        "not" => Some("!"),
        _ => None,
    }
}

fn unknown(name: &str) -> String {
    if let Some(sign) = operator_of(name) {
        return format!("there is no {}; write {sign}", quoted(name));
    }
    if is_reserved(name) {
        return format!("{name} is a word that CEL keeps to itself");
    }
    match nearest(name, VARIABLES) {
        Some(near) => format!("there is no {}; did you mean {near}?", quoted(name)),
        None => format!("there is no {}; there are {}", quoted(name), VARIABLES.join(", ")),
    }
}
