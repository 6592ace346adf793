//! Arguments that are repeated in headers: what `x-mcp-header` in a tool's schema asks for.

use std::borrow::Cow;
use std::collections::HashSet;

use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::{Map, Value};

use super::PARAM_PREFIX;
use super::value::{ValueError, decode_value, encode_value};
use crate::json::{self, JsonError};

/// The annotation of a property.
const ANNOTATION: &str = "x-mcp-header";

/// An argument that is mirrored into a header (`x-mcp-header`, revision 2026-07-28).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MirroredParam {
    /// What follows `Mcp-Param-`.
    pub header: String,
    /// The way from the root of the arguments to the value, by property names.
    pub path: Vec<String>,
}

/// Arguments and headers that do not match.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MirrorError {
    /// The schema is not JSON.
    #[error("the schema is not JSON")]
    Schema,
    /// An annotation that no `properties` lead to.
    #[error("x-mcp-header is not reachable through `properties` alone")]
    Unreachable,
    /// The annotation is not the name of a header.
    #[error("x-mcp-header of property {0:?} is not a header name")]
    Name(String),
    /// Two annotations name one header.
    #[error("x-mcp-header {0:?} is repeated")]
    Repeated(String),
    /// The annotated property is not a string, an integer or a boolean.
    #[error("property {0:?} has x-mcp-header and is not of type string, integer or boolean")]
    Type(String),
    /// The arguments are not a JSON object, or an argument is there twice.
    #[error("arguments: {0}")]
    Arguments(#[from] JsonError),
    /// An argument that is to be mirrored is an array or an object.
    #[error("argument {0:?} must be a string, an integer or a boolean")]
    Argument(String),
    /// The body has the argument and the header is missing.
    #[error("header Mcp-Param-{0} is missing")]
    Missing(String),
    /// The header is there and the body does not have the argument, or the header is there twice.
    #[error("header Mcp-Param-{0} is not expected")]
    Unwanted(String),
    /// The header says something else than the body.
    #[error("header Mcp-Param-{0} does not match the body")]
    Mismatch(String),
    /// The header cannot be read.
    #[error("header Mcp-Param-{0}: {1}")]
    Value(String, ValueError),
}

/// The arguments that a tool's input schema wants mirrored.
///
/// # Errors
/// When an annotation breaks the rules: such a tool must not be offered over HTTP.
pub fn mirrored_params(schema_json: &str) -> Result<Vec<MirroredParam>, MirrorError> {
    // Most schemas have none. An escaped spelling of the keyword is still found below.
    let absent = |word: &str| memchr::memmem::find(schema_json.as_bytes(), word.as_bytes()).is_none();
    if absent(ANNOTATION) && absent("\\u") {
        return Ok(Vec::new());
    }
    let schema: Value = serde_json::from_str(schema_json).map_err(|_| MirrorError::Schema)?;
    let mut found = Found::default();
    walk(&schema, Some(&mut Vec::new()), &mut found)?;
    Ok(found.params)
}

/// The arguments that were found so far.
#[derive(Default)]
struct Found {
    params: Vec<MirroredParam>,
    /// Their headers in lower case.
    headers: HashSet<String>,
}

/// Looks at a schema and what is in it. `path` is `None` where `properties` alone do not lead.
fn walk(schema: &Value, mut path: Option<&mut Vec<String>>, found: &mut Found) -> Result<(), MirrorError> {
    let members = match schema {
        Value::Object(members) => members,
        Value::Array(schemas) => return schemas.iter().try_for_each(|s| walk(s, None, found)),
        _ => return Ok(()),
    };
    for (keyword, value) in members {
        match keyword.as_str() {
            ANNOTATION => annotated(members, value, path.as_deref(), found)?,
            "properties" => properties(value, path.as_deref_mut(), found)?,
            "$defs" | "definitions" | "dependentSchemas" | "patternProperties" => {
                properties(value, None, found)?;
            }
            // Instances, not schemas.
            "default" | "const" | "enum" | "examples" => {}
            _ => walk(value, None, found)?,
        }
    }
    Ok(())
}

/// Looks at the schemas of a map from names to schemas.
fn properties(map: &Value, mut path: Option<&mut Vec<String>>, found: &mut Found) -> Result<(), MirrorError> {
    for (name, schema) in map.as_object().into_iter().flatten() {
        let Some(path) = path.as_deref_mut() else {
            walk(schema, None, found)?;
            continue;
        };
        path.push(name.clone());
        walk(schema, Some(path), found)?;
        path.pop();
    }
    Ok(())
}

/// Adds one annotation, checked.
fn annotated(
    schema: &Map<String, Value>,
    annotation: &Value,
    path: Option<&Vec<String>>,
    found: &mut Found,
) -> Result<(), MirrorError> {
    let path = path.filter(|path| !path.is_empty()).ok_or(MirrorError::Unreachable)?;
    let property = || path.join(".");
    let header =
        annotation.as_str().filter(|name| is_token(name)).ok_or_else(|| MirrorError::Name(property()))?;
    if !matches!(schema.get("type").and_then(Value::as_str), Some("string" | "integer" | "boolean")) {
        return Err(MirrorError::Type(property()));
    }
    if !found.headers.insert(header.to_ascii_lowercase()) {
        return Err(MirrorError::Repeated(header.to_owned()));
    }
    found.params.push(MirroredParam { header: header.to_owned(), path: path.clone() });
    Ok(())
}

/// RFC 9110 §5.6.2.
fn is_token(name: &str) -> bool {
    let tchar = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    !name.is_empty() && name.bytes().all(tchar)
}

/// The headers that mirror `args_json`, the arguments of a call. What is absent or null has none.
///
/// # Errors
/// When the arguments are not an object, or one that is to be mirrored is neither text nor number nor boolean.
pub fn mirror(
    args_json: &str,
    params: &[MirroredParam],
) -> Result<Vec<(HeaderName, HeaderValue)>, MirrorError> {
    let mut headers = Vec::with_capacity(params.len());
    for param in params {
        if let Some(text) = argument(args_json, param)? {
            headers.push((header_name(param)?, encode_value(text.as_str())));
        }
    }
    Ok(headers)
}

/// Checks that the `Mcp-Param-*` headers of `params` match the arguments in `args_json`.
///
/// # Errors
/// When one is missing, unwanted, repeated, unreadable or different.
pub fn verify(headers: &HeaderMap, args_json: &str, params: &[MirroredParam]) -> Result<(), MirrorError> {
    for param in params {
        let mut values = headers.get_all(header_name(param)?).iter();
        let name = || param.header.clone();
        match (argument(args_json, param)?, values.next()) {
            (None, None) => {}
            (None, Some(_)) => return Err(MirrorError::Unwanted(name())),
            (Some(_), None) => return Err(MirrorError::Missing(name())),
            (Some(body), Some(value)) => {
                let header = decode_value(value).map_err(|e| MirrorError::Value(name(), e))?;
                if !body.is(&header) {
                    return Err(MirrorError::Mismatch(name()));
                }
            }
        }
        if values.next().is_some() {
            return Err(MirrorError::Unwanted(name()));
        }
    }
    Ok(())
}

fn header_name(param: &MirroredParam) -> Result<HeaderName, MirrorError> {
    HeaderName::try_from(format!("{PARAM_PREFIX}{}", param.header))
        .map_err(|_| MirrorError::Name(param.path.join(".")))
}

/// Returns the text of an argument.
enum Argument<'a> {
    /// A string.
    Text(Cow<'a, str>),
    /// A boolean, or a number; whole ones in plain decimal digits.
    Literal(Cow<'a, str>),
}

impl Argument<'_> {
    /// As a header says it.
    fn as_str(&self) -> &str {
        match self {
            Self::Text(text) | Self::Literal(text) => text,
        }
    }

    /// Whether a header says the same; whole numbers may be written differently.
    fn is(&self, header: &str) -> bool {
        self.as_str() == header
            || matches!(self, Self::Literal(body) if whole_number(header).as_deref() == Some(body))
    }
}

/// `None` where the argument, or something on the way to it, is absent or null.
fn argument<'a>(args_json: &'a str, param: &MirroredParam) -> Result<Option<Argument<'a>>, MirrorError> {
    let mut raw = args_json;
    for name in &param.path {
        if !raw.trim_start().starts_with('{') {
            return Ok(None);
        }
        match json::members(raw, [name])? {
            [Some(value)] if value != "null" => raw = value,
            _ => return Ok(None),
        }
    }
    match raw.as_bytes().first() {
        Some(b'"') => Ok(Some(Argument::Text(json::string(raw)?))),
        Some(b'{' | b'[') | None => Err(MirrorError::Argument(param.path.join("."))),
        Some(_) => Ok(Some(Argument::Literal(whole_number(raw).map_or(Cow::Borrowed(raw), Cow::Owned)))),
    }
}

/// A number without fraction in plain decimal digits: `-0` as `0`, `5.0` as `5`, `1e2` as `100`.
///
/// `None` for everything else, and for exponents past what an `i128` holds.
fn whole_number(text: &str) -> Option<String> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let (mantissa, exponent) = match digits.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().ok()?),
        None => (digits, 0),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let all_digits = |part: &str| part.bytes().all(|b| b.is_ascii_digit());
    if whole.is_empty() || !all_digits(whole) || !all_digits(fraction) {
        return None;
    }
    let fraction = fraction.trim_end_matches('0');
    let shift = exponent.checked_sub(i32::try_from(fraction.len()).ok()?)?;
    let zeros = usize::try_from(shift).ok().filter(|zeros| *zeros <= 38);
    let significant = format!("{whole}{fraction}");
    let significant = significant.trim_start_matches('0');
    match (significant, zeros) {
        ("", _) => Some("0".to_owned()),
        (_, None) => None,
        (digits, Some(zeros)) => {
            let sign = if negative { "-" } else { "" };
            Some(format!("{sign}{digits}{}", "0".repeat(zeros)))
        }
    }
}
