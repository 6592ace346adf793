//! Parses the text of a filter into an expression whose paths exist and whose values fit.

use prost_reflect::{Cardinality, Kind, MessageDescriptor};

use super::{Comparator, Expression, MAX_FILTER_BYTES, Step, eval};
use crate::domain::nearest::near_field;

const MAX_DEPTH: usize = 32;

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    Word(String),
    Text(String),
    Comparator(Comparator),
    Open,
    Close,
    Dot,
    Minus,
}

struct Parser<'a> {
    tokens: Vec<Token>,
    next: usize,
    depth: usize,
    descriptor: &'a MessageDescriptor,
}

pub(super) fn parse(text: &str, descriptor: &MessageDescriptor) -> Result<Expression, String> {
    if text.len() > MAX_FILTER_BYTES {
        return Err(format!("has {} bytes; the maximum is {MAX_FILTER_BYTES}", text.len()));
    }
    let mut parser = Parser { tokens: tokens(text)?, next: 0, depth: 0, descriptor };
    if parser.tokens.is_empty() {
        return Ok(Expression::All(Vec::new()));
    }
    let expression = parser.expression()?;
    if parser.peek().is_some() {
        return Err("has a `)` without a `(`".to_owned());
    }
    Ok(expression)
}

/// What may have been meant by a field that a message does not have: one of that name in a message within it, or one whose
/// name is nearly the same.
fn meant(message: &MessageDescriptor, name: &str) -> String {
    let within = message.fields().find_map(|field| match field.kind() {
        Kind::Message(inner) if field.cardinality() != Cardinality::Repeated => {
            inner.get_field_by_name(name).map(|inner| format!("{}.{}", field.name(), inner.name()))
        }
        _ => None,
    });
    within.map_or_else(|| near_field(message, name), |path| format!("; did you mean `{path}`?"))
}

fn tokens(text: &str) -> Result<Vec<Token>, String> {
    let mut tokens = Vec::new();
    let mut characters = text.chars().peekable();
    while let Some(c) = characters.next() {
        let mut followed = |next: char| characters.next_if_eq(&next).is_some();
        let token = match c {
            c if c.is_whitespace() => continue,
            '(' => Token::Open,
            ')' => Token::Close,
            '.' => Token::Dot,
            ':' => Token::Comparator(Comparator::Has),
            '=' => Token::Comparator(Comparator::Equal),
            '!' if followed('=') => Token::Comparator(Comparator::NotEqual),
            '<' if followed('=') => Token::Comparator(Comparator::LessOrEqual),
            '<' => Token::Comparator(Comparator::Less),
            '>' if followed('=') => Token::Comparator(Comparator::GreaterOrEqual),
            '>' => Token::Comparator(Comparator::Greater),
            '"' | '\'' => Token::Text(quoted(c, &mut characters)?),
            '-' if !matches!(tokens.last(), Some(Token::Comparator(_) | Token::Dot)) => Token::Minus,
            c if is_word(c) => {
                let mut word = String::from(c);
                // A value such as 2026-11-20T00:00:00Z or 1.5 is one word; a path is words and dots.
                let value = matches!(tokens.last(), Some(Token::Comparator(_)));
                while let Some(c) = characters.next_if(|c| is_word(*c) || (value && matches!(c, '.' | ':'))) {
                    word.push(c);
                }
                Token::Word(word)
            }
            c => return Err(format!("has an unexpected `{c}`; put texts in quotes")),
        };
        tokens.push(token);
    }
    Ok(tokens)
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '_' | '-' | '*' | '/' | '+' | '~' | '%' | '@')
}

fn quoted(quote: char, characters: &mut impl Iterator<Item = char>) -> Result<String, String> {
    let mut text = String::new();
    while let Some(c) = characters.next() {
        match c {
            c if c == quote => return Ok(text),
            '\\' => text.extend(characters.next()),
            c => text.push(c),
        }
    }
    Err(format!("has an unclosed {quote}"))
}

impl Parser<'_> {
    fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.next)
    }

    fn take(&mut self) -> Option<Token> {
        let token = self.tokens.get(self.next).cloned();
        self.next += 1;
        token
    }

    fn take_word(&mut self, word: &str) -> bool {
        let found = matches!(self.peek(), Some(Token::Word(next)) if next == word);
        self.next += usize::from(found);
        found
    }

    fn expression(&mut self) -> Result<Expression, String> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(format!("is nested more than {MAX_DEPTH} deep"));
        }
        let mut parts = vec![self.factor()?];
        while !matches!(self.peek(), None | Some(Token::Close)) {
            self.take_word("AND");
            parts.push(self.factor()?);
        }
        self.depth -= 1;
        Ok(if parts.len() == 1 { parts.remove(0) } else { Expression::All(parts) })
    }

    fn factor(&mut self) -> Result<Expression, String> {
        let mut parts = vec![self.term()?];
        while self.take_word("OR") {
            parts.push(self.term()?);
        }
        Ok(if parts.len() == 1 { parts.remove(0) } else { Expression::Any(parts) })
    }

    fn term(&mut self) -> Result<Expression, String> {
        if self.take_word("NOT") || self.peek() == Some(&Token::Minus) {
            self.next += usize::from(self.peek() == Some(&Token::Minus));
            return Ok(Expression::Not(Box::new(self.simple()?)));
        }
        self.simple()
    }

    fn simple(&mut self) -> Result<Expression, String> {
        match self.take() {
            Some(Token::Open) => {
                let inner = self.expression()?;
                if self.take() == Some(Token::Close) {
                    Ok(inner)
                } else {
                    Err("has an unclosed `(`".to_owned())
                }
            }
            Some(Token::Text(text)) => Ok(Expression::Word(text)),
            Some(Token::Word(word)) if !matches!(word.as_str(), "AND" | "OR" | "NOT") => {
                self.restriction(word)
            }
            Some(Token::Word(word)) => Err(format!("has `{word}` where a condition is expected")),
            Some(_) => Err("has an operator where a condition is expected".to_owned()),
            None => Err("ends where a condition is expected".to_owned()),
        }
    }

    fn restriction(&mut self, first: String) -> Result<Expression, String> {
        let mut words = vec![first];
        while self.peek() == Some(&Token::Dot) {
            self.next += 1;
            match self.take() {
                Some(Token::Word(word) | Token::Text(word)) => words.push(word),
                _ => return Err(format!("has nothing after `{}.`", words.join("."))),
            }
        }
        let Some(Token::Comparator(comparator)) = self.peek().cloned() else { return self.bare(&words) };
        self.next += 1;
        let value = match self.take() {
            Some(Token::Word(value) | Token::Text(value)) => value,
            _ => return Err(format!("has no value for `{}`", words.join("."))),
        };
        let path = self.path(&words)?;
        eval::check(&path, comparator, &value).map_err(|error| format!("`{}` {error}", words.join(".")))?;
        Ok(Expression::Compare { path, comparator, value })
    }

    fn bare(&self, words: &[String]) -> Result<Expression, String> {
        match self.path(words) {
            Ok(path) if matches!(path.last(), Some(Step::Field(field)) if field.kind() == Kind::Bool) => {
                Ok(Expression::Compare { path, comparator: Comparator::Equal, value: "true".to_owned() })
            }
            _ => Ok(Expression::Word(words.join("."))),
        }
    }

    fn path(&self, words: &[String]) -> Result<Vec<Step>, String> {
        let short = matches!(words[0].as_str(), "labels" | "annotations");
        let names = short.then_some("meta").into_iter().chain(words.iter().map(String::as_str));
        let mut steps: Vec<Step> = Vec::new();
        let mut message = Some(self.descriptor.clone());
        let mut names = names.peekable();
        while let Some(name) = names.next() {
            let unknown =
                |hint: &str| format!("names the field `{}`, which does not exist{hint}", words.join("."));
            let message_of_it = message.take().ok_or_else(|| unknown(""))?;
            let field = message_of_it
                .get_field_by_name(name)
                .or_else(|| message_of_it.get_field_by_json_name(name))
                .ok_or_else(|| unknown(&meant(&message_of_it, name)))?;
            let (map, kind) = (field.is_map(), field.kind());
            steps.push(Step::Field(field));
            if map {
                let key: Vec<&str> = names.by_ref().collect();
                if !key.is_empty() {
                    steps.push(Step::Key(key.join(".")));
                }
            } else if let Kind::Message(inner) = kind {
                message = Some(inner);
            }
        }
        Ok(steps)
    }
}
