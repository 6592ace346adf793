//! The words of an expression, each with where it stands. It must not know what they mean together.

use super::program::ProgramError;
use crate::text::quoted;

/// A word.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Word {
    Name(String),
    Int(i64),
    /// 2 to the 63: only a minus before it makes it a number.
    IntLimit,
    Double(f64),
    Text(String),
    /// An operator, or a bracket.
    Sign(&'static str),
    End,
}

/// Signs, the longer before those that they begin with.
const SIGNS: [&str; 24] = [
    "&&", "||", "==", "!=", "<=", ">=", "<", ">", "!", "+", "-", "*", "/", "%", "?", ":", ".", ",", "(", ")",
    "[", "]", "{", "}",
];
/// How deep brackets may be, which is told before anything goes down into them.
pub(super) const MAX_NESTED: usize = 32;

pub(super) struct Lexer<'a> {
    text: &'a str,
    at: usize,
    tokens: Vec<(Word, usize)>,
}

type Found<T> = Result<T, ProgramError>;

/// Reads all words of a text.
pub(super) fn tokens(text: &str) -> Found<Vec<(Word, usize)>> {
    let mut lexer = Lexer { text, at: 0, tokens: Vec::new() };
    lexer.skip();
    while lexer.at < text.len() {
        let at = lexer.at;
        let token = lexer.token()?;
        lexer.tokens.push((token, at));
        lexer.skip();
    }
    lexer.tokens.push((Word::End, text.len()));
    shallow(text, &lexer.tokens)?;
    Ok(lexer.tokens)
}

fn shallow(text: &str, tokens: &[(Word, usize)]) -> Found<()> {
    let mut deep = 0_usize;
    for (token, at) in tokens {
        match token {
            Word::Sign("(" | "[" | "{") => deep += 1,
            Word::Sign(")" | "]" | "}") => deep = deep.saturating_sub(1),
            _ => {}
        }
        if deep > MAX_NESTED {
            return Err(ProgramError::at(
                text,
                *at,
                format!("brackets are nested more than {MAX_NESTED} deep"),
            ));
        }
    }
    Ok(())
}

impl<'a> Lexer<'a> {
    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn peek(&self, ahead: usize) -> u8 {
        self.text.as_bytes().get(self.at + ahead).copied().unwrap_or(0)
    }

    fn refuse<T>(&self, at: usize, text: impl Into<String>) -> Found<T> {
        Err(ProgramError::at(self.text, at, text))
    }

    /// Goes past white space and comments.
    fn skip(&mut self) {
        loop {
            let rest = self.rest();
            let blank = rest.len() - rest.trim_start_matches(['\t', '\n', '\u{c}', '\r', ' ']).len();
            let comment = &rest[blank..];
            self.at += blank;
            match comment.starts_with("//") {
                true => self.at += comment.find('\n').unwrap_or(comment.len()),
                false => return,
            }
        }
    }

    fn token(&mut self) -> Found<Word> {
        let digit_follows = self.peek(1).is_ascii_digit();
        match self.peek(0) {
            b'0'..=b'9' => self.number(),
            b'.' if digit_follows && !self.follows_a_value() => self.number(),
            b'"' | b'\'' => self.string(false),
            b'r' | b'R' if matches!(self.peek(1), b'"' | b'\'') => {
                self.at += 1;
                self.string(true)
            }
            b'b' | b'B' if matches!(self.peek(1), b'"' | b'\'') => {
                self.refuse(self.at, "bytes are not supported")
            }
            b'a'..=b'z' | b'A'..=b'Z' | b'_' => Ok(Word::Name(self.name().to_owned())),
            _ => self.sign(),
        }
    }

    /// After a value a dot is a member's, even where a digit follows.
    fn follows_a_value(&self) -> bool {
        let value = |token: &Word| !matches!(token, Word::Sign(sign) if !matches!(*sign, ")" | "]"));
        self.tokens.last().is_some_and(|(token, _)| value(token))
    }

    fn name(&mut self) -> &'a str {
        let rest = &self.text[self.at..];
        let is_end = |c: char| !(c.is_ascii_alphanumeric() || c == '_');
        let length = rest.find(is_end).unwrap_or(rest.len());
        self.at += length;
        &rest[..length]
    }

    fn sign(&mut self) -> Found<Word> {
        let rest = self.rest();
        if let Some(sign) = SIGNS.into_iter().find(|sign| rest.starts_with(sign)) {
            self.at += sign.len();
            return Ok(Word::Sign(sign));
        }
        let found = rest.chars().next().map(String::from).unwrap_or_default();
        let text = match found.as_str() {
            "=" => "= is no operator; write ==".to_owned(),
            "&" => "& is no operator; write &&".to_owned(),
            "|" => "| is no operator; write ||".to_owned(),
            "`" => "names in backticks are not supported; write args[\"the-name\"]".to_owned(),
            _ => format!("{} means nothing here", quoted(&found)),
        };
        self.refuse(self.at, text)
    }

    fn number(&mut self) -> Found<Word> {
        let at = self.at;
        if self.peek(0) == b'0' && matches!(self.peek(1), b'x' | b'X') {
            self.at += 2;
            let digits = self.name().to_owned();
            return self.whole(at, &digits, 16);
        }
        self.digits();
        let mut is_whole = true;
        if self.peek(0) == b'.' && self.peek(1).is_ascii_digit() {
            (self.at, is_whole) = (self.at + 1, false);
            self.digits();
        }
        let signed = usize::from(matches!(self.peek(1), b'+' | b'-'));
        if matches!(self.peek(0), b'e' | b'E') && self.peek(1 + signed).is_ascii_digit() {
            (self.at, is_whole) = (self.at + 1 + signed, false);
            self.digits();
        }
        let end = self.at;
        if !self.name().is_empty() {
            let text = "this is no number; unsigned numbers are not supported";
            return self.refuse(at, text);
        }
        let digits = &self.text[at..end];
        match digits.parse::<f64>() {
            _ if is_whole => self.whole(at, digits, 10),
            Ok(number) if number.is_finite() => Ok(Word::Double(number)),
            _ => self.refuse(at, "this number is too large"),
        }
    }

    fn digits(&mut self) {
        while self.peek(0).is_ascii_digit() {
            self.at += 1;
        }
    }

    fn whole(&self, at: usize, digits: &str, radix: u32) -> Found<Word> {
        if digits.is_empty() || !digits.chars().all(|digit| digit.is_digit(radix)) {
            return self.refuse(at, "this is no number; unsigned numbers are not supported");
        }
        match (u64::from_str_radix(digits, radix), i64::from_str_radix(digits, radix)) {
            (_, Ok(number)) => Ok(Word::Int(number)),
            (Ok(number), _) if number == 1 << 63 => Ok(Word::IntLimit),
            _ => self.refuse(at, "this number is too large"),
        }
    }

    fn string(&mut self, raw: bool) -> Found<Word> {
        let (at, quote) = (self.at, self.peek(0));
        if self.peek(1) == quote && self.peek(2) == quote {
            return self.refuse(at, "strings in triple quotes are not supported");
        }
        self.at += 1;
        let mut found = String::new();
        loop {
            let Some(next) = self.rest().chars().next().filter(|next| !matches!(next, '\n' | '\r')) else {
                return self.refuse(at, "this string has no end");
            };
            self.at += next.len_utf8();
            match next {
                '\\' if !raw => found.push(self.escape()?),
                _ if u32::from(next) == u32::from(quote) => return Ok(Word::Text(found)),
                _ => found.push(next),
            }
        }
    }

    /// What stands for a character, after the backslash.
    fn escape(&mut self) -> Found<char> {
        let (at, kind) = (self.at - 1, self.peek(0));
        let simple = match kind {
            b'a' => '\u{7}',
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'v' => '\u{b}',
            b'\\' | b'?' | b'"' | b'\'' | b'`' => char::from(kind),
            b'x' | b'X' => return self.coded(at, 1, 2, 16),
            b'u' => return self.coded(at, 1, 4, 16),
            b'U' => return self.coded(at, 1, 8, 16),
            b'0'..=b'3' => return self.coded(at, 0, 3, 8),
            _ => return self.refuse(at, "this is no escape; write \\\\ for a backslash"),
        };
        self.at += 1;
        Ok(simple)
    }

    fn coded(&mut self, at: usize, before: usize, length: usize, radix: u32) -> Found<char> {
        let from = self.at + before;
        let digits = self
            .text
            .get(from..from + length)
            .filter(|digits| digits.bytes().all(|b| b.is_ascii_alphanumeric()));
        let code = digits.and_then(|digits| u32::from_str_radix(digits, radix).ok());
        match code.and_then(char::from_u32) {
            Some(found) => {
                self.at = from + length;
                Ok(found)
            }
            None => self.refuse(at, "this is no escape of a character"),
        }
    }
}
