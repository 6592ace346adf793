//! Functions that an expression may call, and how each is written. It must not know what they come to.

use jiff::tz::TimeZone;

use super::lexer::Word;
use super::parser::{Parsed, Parser};
use super::syntax::{Clock, Expr, Node, TextTest};
use crate::address::AddressRange;
use crate::text::quoted;
use crate::window::read_zone;

/// Functions of CEL that are outside the subset.
const OUTSIDE: [&str; 36] = [
    "bool",
    "bytes",
    "double",
    "duration",
    "dyn",
    "exists_one",
    "existsOne",
    "filter",
    "getDate",
    "getDayOfMonth",
    "getDayOfYear",
    "getFullYear",
    "getMilliseconds",
    "getMinutes",
    "getMonth",
    "getSeconds",
    "int",
    "join",
    "lastIndexOf",
    "indexOf",
    "map",
    "matches",
    "replace",
    "split",
    "string",
    "substring",
    "timestamp",
    "transformList",
    "transformMap",
    "trim",
    "type",
    "uint",
    "upperAscii",
    "charAt",
    "format",
    "ip",
];
const FUNCTIONS: &str = "has, size, startsWith, endsWith, contains, lowerAscii, all, exists";

impl Parser<'_> {
    /// What is called by name alone, after its bracket.
    pub(super) fn function(&mut self, name: &str, at: usize) -> Parsed {
        match name {
            "has" => self.has(at),
            "size" => {
                let of = self.expression()?;
                self.expect(")")?;
                self.make(at, Node::Size(Box::new(of)))
            }
            _ => self.refuse_at(at, no_function(name)),
        }
    }

    fn has(&mut self, at: usize) -> Parsed {
        let of = self.expression()?;
        self.expect(")")?;
        match of.node {
            Node::Member(of, name) => self.make(at, Node::Has(of, name)),
            _ => self.refuse_at(at, "has asks for a member of args, as has(args.path)"),
        }
    }

    /// What is called of a value, after its bracket.
    pub(super) fn method(&mut self, of: Expr, name: &str, at: usize) -> Parsed {
        let test = match name {
            "startsWith" => TextTest::StartsWith,
            "endsWith" => TextTest::EndsWith,
            "contains" => TextTest::Contains,
            "all" | "exists" => return self.each(of, name == "all", at),
            "size" | "lowerAscii" => {
                self.expect(")")?;
                let of = Box::new(of);
                return self.make(at, if name == "size" { Node::Size(of) } else { Node::Lower(of) });
            }
            "inRange" => return self.refuse_at(at, "inRange is of source.ip alone"),
            "getDayOfWeek" | "getHours" => return self.refuse_at(at, format!("{name} is of now alone")),
            _ => return self.refuse_at(at, no_function(name)),
        };
        let other = self.expression()?;
        self.expect(")")?;
        self.make(at, Node::TextTest(test, Box::new(of), Box::new(other)))
    }

    fn each(&mut self, of: Expr, all: bool, at: usize) -> Parsed {
        if self.item.is_some() {
            return self.refuse_at(at, "all and exists within each other are not supported");
        }
        let name_at = self.position();
        let name = self.selector()?;
        if super::parser::is_reserved(&name) {
            return self.refuse_at(name_at, format!("{name} is a word that CEL keeps to itself"));
        }
        self.expect(",")?;
        self.item = Some(name);
        let body = self.expression();
        self.item = None;
        let body = body?;
        self.expect(")")?;
        self.make(at, Node::Each(all, Box::new(of), Box::new(body)))
    }

    /// `source.ip.inRange("10.0.0.0/8")`, from after `source`.
    pub(super) fn source(&mut self) -> Parsed {
        const USE: &str = "write source.ip.inRange(\"10.0.0.0/8\")";
        for word in ["ip", "inRange"] {
            let found = self.takes(".") && matches!(self.peek(), Word::Name(name) if name == word);
            if !found {
                return self.refuse(USE);
            }
            self.selector()?;
        }
        self.expect("(")?;
        let at = self.position();
        let Some(text) = self.text_literal() else {
            return self.refuse(format!("a range that is no string is not supported; {USE}"));
        };
        let range: AddressRange = match text.parse() {
            Ok(range) => range,
            Err(error) => return self.refuse_at(at, format!("{error}")),
        };
        self.expect(")")?;
        self.make(at, Node::InRange(range))
    }

    /// `now.getHours("Europe/Berlin")`, from after `now`.
    pub(super) fn clock(&mut self) -> Parsed {
        const USE: &str = "write now.getHours(\"Europe/Berlin\") or now.getDayOfWeek(\"Europe/Berlin\")";
        if !self.takes(".") {
            return self.refuse(USE);
        }
        let at = self.position();
        let clock = match self.selector()?.as_str() {
            "getHours" => Clock::Hours,
            "getDayOfWeek" => Clock::DayOfWeek,
            name if OUTSIDE.contains(&name) => return self.refuse_at(at, no_function(name)),
            _ => return self.refuse_at(at, USE),
        };
        self.expect("(")?;
        let at = self.position();
        let zone = match self.text_literal() {
            None if self.takes(")") => return self.make(at, Node::Clock(clock, TimeZone::UTC)),
            None => return self.refuse(format!("a time zone that is no string is not supported; {USE}")),
            Some(text) => read_zone(&text).or_else(|error| self.refuse_at(at, error.to_string()))?,
        };
        self.expect(")")?;
        self.make(at, Node::Clock(clock, zone))
    }

    fn text_literal(&mut self) -> Option<String> {
        let Word::Text(text) = self.peek().clone() else { return None };
        self.skip_one();
        Some(text)
    }
}

fn no_function(name: &str) -> String {
    match OUTSIDE.contains(&name) {
        true => format!("{name} is not supported; there are {FUNCTIONS}"),
        false => format!("there is no function {}; there are {FUNCTIONS}", quoted(name)),
    }
}
