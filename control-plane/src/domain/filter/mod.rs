//! Filters of lists: a subset of AIP-160. It knows nothing of where the resources come from.
//!
//! ```text
//! filter      = [ expression ] ;
//! expression  = factor , { [ "AND" ] , factor } ;
//! factor      = term , { "OR" , term } ;              (* OR binds tighter than AND, as in AIP-160 *)
//! term        = [ "NOT" | "-" ] , simple ;
//! simple      = "(" , expression , ")" | restriction ;
//! restriction = path , comparator , value | value ;
//! comparator  = "=" | "!=" | "<" | "<=" | ">" | ">=" | ":" ;
//! path        = word , { "." , ( word | string ) } ;
//! value       = word | string ;                       (* string: in double or single quotes, `\` escapes *)
//! ```
//!
//! A path names a field by its name in the contract or in files, and an enum value may be its short word; `labels.team` is short for `meta.labels.team`, and
//! `annotations.…` likewise. Where it goes through a list, one element that holds is enough. On texts `=`
//! takes `*` for any characters, and `:` means "contains", whatever the capitals. `path:*` asks whether the
//! field is set. Times are compared as RFC 3339, durations as `90s`. A bare word that is the path of a
//! boolean field stands for `path = true`; any other is looked for in the name and the texts people read.

mod eval;
mod parse;

use prost_reflect::{DynamicMessage, FieldDescriptor, MessageDescriptor};

use super::Violations;

/// The longest filter.
pub const MAX_FILTER_BYTES: usize = 2_048;

/// A filter that fits a message.
#[derive(Debug, Clone)]
pub struct Filter {
    root: Expression,
}

#[derive(Debug, Clone)]
enum Expression {
    All(Vec<Expression>),
    Any(Vec<Expression>),
    Not(Box<Expression>),
    Compare { path: Vec<Step>, comparator: Comparator, value: String },
    Word(String),
}

#[derive(Debug, Clone)]
enum Step {
    Field(FieldDescriptor),
    Key(String),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Comparator {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    Has,
}

impl Filter {
    /// Reads a filter for messages of a kind.
    pub fn parse(text: &str, descriptor: &MessageDescriptor) -> Result<Self, Violations> {
        let root = parse::parse(text, descriptor).map_err(|error| {
            let mut violations = Violations::default();
            violations.add("filter", error);
            violations
        })?;
        Ok(Self { root })
    }

    /// Tells whether every message passes.
    pub fn is_empty(&self) -> bool {
        matches!(&self.root, Expression::All(parts) if parts.is_empty())
    }

    /// Tells whether a message passes. Bare words are looked for in `texts`.
    pub fn matches(&self, message: &DynamicMessage, texts: &[&str]) -> bool {
        eval::holds(&self.root, message, texts)
    }

    /// Tells whether it asks for one of these fields.
    pub fn mentions(&self, fields: &[&str]) -> bool {
        mentions(&self.root, fields)
    }

    /// Labels that every message that passes must carry: what a database can look for by an index.
    pub fn labels(&self) -> Vec<(String, String)> {
        let parts = match &self.root {
            Expression::All(parts) => parts.as_slice(),
            other => std::slice::from_ref(other),
        };
        parts.iter().filter_map(label).collect()
    }
}

fn mentions(expression: &Expression, fields: &[&str]) -> bool {
    match expression {
        Expression::All(parts) | Expression::Any(parts) => parts.iter().any(|part| mentions(part, fields)),
        Expression::Not(part) => mentions(part, fields),
        Expression::Compare { path, .. } => {
            matches!(path.first(), Some(Step::Field(field)) if fields.contains(&field.name()))
        }
        Expression::Word(_) => false,
    }
}

fn label(expression: &Expression) -> Option<(String, String)> {
    let Expression::Compare { path, comparator: Comparator::Equal, value } = expression else { return None };
    match path.as_slice() {
        [Step::Field(meta), Step::Field(labels), Step::Key(key)]
            if meta.name() == "meta" && labels.name() == "labels" && !value.contains('*') =>
        {
            Some((key.clone(), value.clone()))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests;
