//! Whether a schema compiles, as far as that can be told without doubt. SDKs for TypeScript up to 1.x compile the output schema of
//! every tool that is listed (JSON Schema draft-07, patterns of ECMAScript with the flag `u`), and lose the whole list for one
//! that does not. It must not know what becomes of such a schema.

use super::Members;
use crate::json;

/// Deeper schemas are not looked into.
const MAX_DEPTH: usize = 64;
/// How often a schema may be read, and how many bytes of it in all; the rest is taken to compile. Parts are read anew for whatever
/// is in them, and for each reference to them.
const MAX_READINGS: usize = 32;
const MAX_READ: usize = 2 << 20;

const TYPES: [&str; 7] = ["string", "number", "integer", "boolean", "object", "array", "null"];

/// What the value of a keyword must be.
enum Value {
    Number,
    Object,
    List,
    /// A list with something in it.
    Values,
    Schema,
    /// A schema, or a list of them.
    Items,
    Schemas,
    Map,
    /// The same, under patterns.
    Patterns,
    Pattern,
    Type,
    Reference,
}

/// Whether no keyword of a schema, given raw, keeps it from being compiled.
pub(super) fn compiles(schema: &str) -> bool {
    let has_names = ["\"$id\"", "\"$anchor\""].iter().any(|name| schema.contains(name));
    let left = schema.len().saturating_mul(MAX_READINGS).min(MAX_READ.max(schema.len()));
    let mut compiler = Compiler { root: schema, has_names, left };
    compiler.schema(schema, 0)
}

struct Compiler<'s> {
    root: &'s str,
    /// Whether parts have names of their own: then nobody can tell at a glance where a reference leads.
    has_names: bool,
    /// Bytes that may still be read.
    left: usize,
}

impl Compiler<'_> {
    /// Takes what is read from what may be. Returns whether it may be read.
    fn may_read(&mut self, raw: &str) -> bool {
        let left = self.left.checked_sub(raw.len());
        self.left = left.unwrap_or(0);
        left.is_some()
    }

    fn schema(&mut self, raw: &str, depth: usize) -> bool {
        if depth > MAX_DEPTH || matches!(raw, "true" | "false") || !self.may_read(raw) {
            return true;
        }
        if !raw.starts_with('{') {
            return false;
        }
        let Ok(members) = Members::read(raw) else { return false };
        let has = |name: &str| members.0.iter().any(|(key, _)| key == name);
        if has("nullable") && !has("type") {
            return false;
        }
        members
            .0
            .iter()
            .all(|(key, value)| keyword(key).is_none_or(|kind| self.value(&kind, value, depth + 1)))
    }

    fn value(&mut self, kind: &Value, raw: &str, depth: usize) -> bool {
        if !self.may_read(raw) {
            return true;
        }
        match kind {
            Value::Number => raw.starts_with(|first: char| first == '-' || first.is_ascii_digit()),
            Value::Object => raw.starts_with('{'),
            Value::List => raw.starts_with('['),
            Value::Values => elements(raw).is_some_and(|values| !values.is_empty()),
            Value::Schema => self.schema(raw, depth),
            Value::Items if raw.starts_with('[') => self.value(&Value::Schemas, raw, depth),
            Value::Items => self.schema(raw, depth),
            Value::Schemas => {
                elements(raw).is_some_and(|schemas| schemas.iter().all(|schema| self.schema(schema, depth)))
            }
            Value::Map => self.map(raw, depth, |_| true),
            Value::Patterns => self.map(raw, depth, is_pattern),
            Value::Pattern => json::string(raw).is_ok_and(|pattern| is_pattern(&pattern)),
            Value::Type if raw.starts_with('[') => {
                elements(raw).is_some_and(|types| types.iter().all(|kind| is_type(kind)))
            }
            Value::Type => is_type(raw),
            Value::Reference => json::string(raw).is_ok_and(|reference| self.leads_somewhere(&reference)),
        }
    }

    fn map(&mut self, raw: &str, depth: usize, is_key: impl Fn(&str) -> bool) -> bool {
        raw.starts_with('{')
            && Members::read(raw).is_ok_and(|members| {
                members.0.iter().all(|(key, schema)| is_key(key) && self.schema(schema, depth))
            })
    }

    /// Whether a reference leads to a part of the schema.
    fn leads_somewhere(&mut self, reference: &str) -> bool {
        if self.has_names || reference.starts_with("http://json-schema.org/") {
            return true;
        }
        match reference.strip_prefix('#') {
            Some("") => true,
            // Escaped as in a URL.
            Some(pointer) if pointer.contains('%') => true,
            Some(pointer) => pointer.starts_with('/') && self.has_part(pointer),
            None => false,
        }
    }

    /// Whether a pointer leads to a part of the schema (RFC 6901), or it takes too long to tell.
    fn has_part(&mut self, pointer: &str) -> bool {
        let mut value = self.root;
        for token in pointer.split('/').skip(1) {
            if !self.may_read(value) {
                return true;
            }
            let Some(found) = member(value, &token.replace("~1", "/").replace("~0", "~")) else {
                return false;
            };
            value = found;
        }
        true
    }
}

fn member<'a>(value: &'a str, name: &str) -> Option<&'a str> {
    if value.starts_with('[') {
        return elements(value)?.get(name.parse::<usize>().ok()?).copied();
    }
    let [found] = json::members(value, [name]).ok()?;
    found
}

fn keyword(key: &str) -> Option<Value> {
    Some(match key {
        "minimum" | "maximum" | "exclusiveMinimum" | "exclusiveMaximum" | "multipleOf" | "minLength"
        | "maxLength" | "minItems" | "maxItems" | "minProperties" | "maxProperties" => Value::Number,
        "required" => Value::List,
        "dependencies" => Value::Object,
        "enum" => Value::Values,
        "additionalProperties"
        | "additionalItems"
        | "contains"
        | "not"
        | "if"
        | "then"
        | "else"
        | "propertyNames" => Value::Schema,
        "items" => Value::Items,
        "allOf" | "anyOf" | "oneOf" => Value::Schemas,
        // Definitions are compiled where they are referred to.
        "properties" => Value::Map,
        "patternProperties" => Value::Patterns,
        "pattern" => Value::Pattern,
        "type" => Value::Type,
        "$ref" => Value::Reference,
        _ => return None,
    })
}

fn is_type(raw: &str) -> bool {
    json::string(raw).is_ok_and(|kind| TYPES.contains(&&*kind))
}

fn elements(raw: &str) -> Option<Vec<&str>> {
    let mut elements = Vec::new();
    let read = json::each_element(raw, |element| {
        elements.push(element);
        Ok::<_, json::JsonError>(())
    });
    (raw.starts_with('[') && read.is_ok()).then_some(elements)
}

/// Whether a text may be a pattern of ECMAScript with the flag `u`: groups and classes are closed, and escapes are known ones.
fn is_pattern(text: &str) -> bool {
    let (mut depth, mut in_class) = (0_usize, false);
    let mut rest = text.chars();
    while let Some(letter) = rest.next() {
        match letter {
            '\\' => {
                let Some(escaped) = rest.next() else { return false };
                if !(r"dDwWsSbBfnrtvcxukpP^$\.*+?()[]{}|/0123456789".contains(escaped)
                    || in_class && escaped == '-')
                {
                    return false;
                }
            }
            ']' if !in_class => return false,
            ']' => in_class = false,
            '[' => in_class = true,
            _ if in_class => {}
            '(' => {
                depth += 1;
                let mut ahead = rest.clone();
                if ahead.next() == Some('?') && !matches!(ahead.next(), Some(':' | '=' | '!' | '<')) {
                    return false;
                }
            }
            ')' if depth == 0 => return false,
            ')' => depth -= 1,
            _ => {}
        }
    }
    depth == 0 && !in_class
}
