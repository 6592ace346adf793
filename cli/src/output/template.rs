//! Templates for documents: those of `-o jsonpath` as in kubectl, and as much of `-o go-template` as lists and their fields
//! need. Pure.
//!
//! A template that speaks of `items` is for the whole list, `{"kind": "List", "items": […]}`; any other one is for each
//! resource, a line each.

use serde_json::{Value, json};

use super::path::{FieldPath, Misread, text};

/// What is understood besides text.
const GO: &str = "understood are {{.a.b}}, {{range .items}}…{{end}} and {{\"text\"}}";

/// A template that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template(Vec<Piece>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Text(String),
    Field(FieldPath),
    Range(FieldPath, Vec<Piece>),
}

/// What is between braces, or outside; and how many characters are before it.
enum Token<'a> {
    Text(&'a str),
    Action(usize, &'a str),
}

impl Template {
    /// Reads a template of kubectl: `{.name}{"\n"}`, or a path alone.
    pub fn jsonpath(source: &str) -> Result<Self, Misread> {
        if !source.contains('{') && source.starts_with(['.', '$', '@', '[']) {
            return Ok(Self(vec![Piece::Field(FieldPath::parse(source)?)]));
        }
        let read = |at, action: &str| FieldPath::parse(action).map_err(|error| error.after(at));
        build(tokens(source, "{", "}")?, &read, &str::to_owned)
    }

    /// Reads a template of Go, as far as that is possible.
    pub fn go(source: &str) -> Result<Self, Misread> {
        let read = |at, action: &str| {
            let is_path = action.starts_with(['.', '$'])
                && !action.contains(|c: char| c.is_whitespace() || "|([".contains(c));
            match is_path {
                true => FieldPath::parse(action).map_err(|error| error.after(at)),
                false => Err(Misread::new(at, format!("`{action}` is not supported ({GO})"))),
            }
        };
        build(tokens(source, "{{", "}}")?, &read, &unescape)
    }

    /// Renders it for resources. `single`: exactly one was requested by name.
    pub fn render(&self, documents: Vec<Value>, single: bool) -> String {
        if !single && self.is_for_lists() {
            return self.render_one(&json!({ "kind": "List", "items": documents }));
        }
        let line = |document: &Value| {
            let text = self.render_one(document);
            if single || text.ends_with('\n') { text } else { text + "\n" }
        };
        documents.iter().map(line).collect()
    }

    fn render_one(&self, document: &Value) -> String {
        let mut out = String::new();
        render(&self.0, document, document, &mut out);
        out
    }

    fn is_for_lists(&self) -> bool {
        self.0.iter().any(|piece| match piece {
            Piece::Text(_) => false,
            Piece::Field(path) | Piece::Range(path, _) => path.first_name() == Some("items"),
        })
    }
}

fn render(pieces: &[Piece], here: &Value, root: &Value, out: &mut String) {
    for piece in pieces {
        match piece {
            Piece::Text(text) => out.push_str(text),
            Piece::Field(path) => {
                let values = path.values(here, root);
                out.push_str(&values.into_iter().map(text).collect::<Vec<_>>().join(" "));
            }
            Piece::Range(path, inner) => match &*path.values(here, root) {
                [Value::Array(items)] => items.iter().for_each(|item| render(inner, item, root, out)),
                items => items.iter().for_each(|item| render(inner, item, root, out)),
            },
        }
    }
}

/// Splits a template into text and what is between braces.
fn tokens<'a>(source: &'a str, open: &str, close: &str) -> Result<Vec<Token<'a>>, Misread> {
    let (mut tokens, mut rest, mut at) = (Vec::new(), source, 0);
    while let Some(start) = rest.find(open) {
        tokens.push(Token::Text(&rest[..start]));
        at += rest[..start].chars().count();
        let inner = &rest[start + open.len()..];
        let end = end_of_action(inner, close);
        let end = end.ok_or_else(|| Misread::new(at, format!("`{open}` is not closed")))?;
        tokens.push(Token::Action(at + open.len(), &inner[..end]));
        at += open.len() + inner[..end].chars().count() + close.len();
        rest = &inner[end + close.len()..];
    }
    tokens.push(Token::Text(rest));
    Ok(tokens)
}

/// Finds the brace that closes an action. One in quotes does not.
fn end_of_action(text: &str, close: &str) -> Option<usize> {
    let (mut quote, mut escaped) = (None, false);
    for (at, c) in text.char_indices() {
        match (quote, c) {
            _ if escaped => escaped = false,
            (_, '\\') => escaped = true,
            (Some(open), c) if c == open => quote = None,
            (Some(_), _) => {}
            (None, '\'' | '"') => quote = Some(c),
            (None, _) if text[at..].starts_with(close) => return Some(at),
            _ => {}
        }
    }
    None
}

/// Reads a path that is at some character.
type ReadPath<'a> = &'a dyn Fn(usize, &str) -> Result<FieldPath, Misread>;

/// Builds the pieces. `read` reads a path, `text` what is outside braces.
fn build(
    tokens: Vec<Token<'_>>,
    read: ReadPath<'_>,
    text: &impl Fn(&str) -> String,
) -> Result<Template, Misread> {
    let mut builder = Builder { read, open: Vec::new(), pieces: Vec::new() };
    for token in tokens {
        match token {
            Token::Text("") => {}
            Token::Text(outside) => builder.pieces.push(Piece::Text(text(outside))),
            Token::Action(at, action) => {
                let inner = action.trim_start();
                builder.action(at + spaces(action), inner.trim_end())?;
            }
        }
    }
    match builder.open.pop() {
        Some((at, _, _)) => Err(Misread::new(at, "`range` has no `end`")),
        None => Ok(Template(builder.pieces)),
    }
}

/// A template of which a part was read.
struct Builder<'a> {
    read: ReadPath<'a>,
    /// The ranges that are not at their end: where they begin, over what they go, and the pieces before them.
    open: Vec<(usize, FieldPath, Vec<Piece>)>,
    pieces: Vec<Piece>,
}

impl Builder<'_> {
    fn action(&mut self, at: usize, action: &str) -> Result<(), Misread> {
        let range = action.strip_prefix("range").filter(|rest| rest.starts_with(char::is_whitespace));
        if let Some(path) = range {
            let path = (self.read)(at + "range".len() + spaces(path), path.trim_start())?;
            self.open.push((at, path, std::mem::take(&mut self.pieces)));
        } else if action == "end" {
            let (_, path, outer) = self.open.pop().ok_or_else(|| Misread::new(at, "`end` ends nothing"))?;
            let inner = std::mem::replace(&mut self.pieces, outer);
            self.pieces.push(Piece::Range(path, inner));
        } else if let Some(quoted) = unquote(action) {
            self.pieces.push(Piece::Text(quoted));
        } else if action.is_empty() {
            return Err(Misread::new(at, "nothing is between the braces"));
        } else {
            self.pieces.push(Piece::Field((self.read)(at, action)?));
        }
        Ok(())
    }
}

/// Counts the spaces at the beginning.
fn spaces(text: &str) -> usize {
    text.chars().take_while(|c| c.is_whitespace()).count()
}

/// Returns what is between quotes.
fn unquote(action: &str) -> Option<String> {
    let quote = action.chars().next().filter(|c| ['"', '\''].contains(c))?;
    let inner = action.strip_prefix(quote)?.strip_suffix(quote)?;
    (!is_closed_early(inner, quote)).then(|| unescape(inner))
}

fn is_closed_early(inner: &str, quote: char) -> bool {
    let mut escaped = false;
    inner.chars().any(|c| {
        let closes = c == quote && !escaped;
        escaped = c == '\\' && !escaped;
        closes
    })
}

/// Replaces `\n`, `\t`, `\r` and escaped signs.
fn unescape(text: &str) -> String {
    let (mut out, mut characters) = (String::new(), text.chars());
    while let Some(c) = characters.next() {
        let escaped = if c == '\\' { characters.next() } else { None };
        match escaped {
            None => out.push(c),
            Some('n') => out.push('\n'),
            Some('t') => out.push('\t'),
            Some('r') => out.push('\r'),
            Some(sign @ ('\\' | '"' | '\'')) => out.push(sign),
            Some(other) => out.extend([c, other]),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn documents() -> Vec<Value> {
        vec![
            json!({"name": "a", "tools": ["x", "y"], "meta": {"labels": {"team": "core"}}, "n": 1}),
            json!({"name": "b", "tools": [], "n": 2}),
        ]
    }

    fn jsonpath(template: &str, expected: &str) {
        let read = Template::jsonpath(template).unwrap_or_else(|error| panic!("{template}: {error}"));
        assert_eq!(read.render(documents(), false), expected, "{template}");
    }

    fn go(template: &str, expected: &str) {
        let read = Template::go(template).unwrap_or_else(|error| panic!("{template}: {error}"));
        assert_eq!(read.render(documents(), false), expected, "{template}");
    }

    #[test]
    fn templates_of_kubectl() {
        jsonpath("{.items[*].name}", "a b");
        jsonpath("{range .items[*]}{.name}{'\\t'}{.n}{\"\\n\"}{end}", "a\t1\nb\t2\n");
        jsonpath("{range .items[*]}{.name}:{range .tools[*]} {@}{end};{end}", "a: x y;b:;");
        jsonpath("{range .items}{.name}{end}", "ab");
        jsonpath("{.items[?(@.name==\"b\")].n}", "2");
        jsonpath("{.items[*].labels.team}!", "core!");
        jsonpath("{range .items[*]}{$.kind} {end}", "List List ");
        jsonpath("{\"}\"}{.items[0].tools}", "}[\"x\",\"y\"]");
    }

    #[test]
    fn a_template_without_items_is_for_each() {
        jsonpath("{.name}", "a\nb\n");
        jsonpath(".name", "a\nb\n");
        jsonpath("{.name}{'\\n'}", "a\nb\n");
        jsonpath("name {.name}, label {.labels.team}", "name a, label core\nname b, label \n");
        go("{{.name}}", "a\nb\n");
        go("{{.name}}\\t{{.n}}\\n", "a\t1\nb\t2\n");
        let single = Template::jsonpath("{.name}").unwrap();
        assert_eq!(single.render(documents()[..1].to_vec(), true), "a");
        assert_eq!(single.render(Vec::new(), false), "");
    }

    #[test]
    fn templates_of_go() {
        go("{{range .items}}{{.name}}{{\"\\n\"}}{{end}}", "a\nb\n");
        go("{{ range .items }}{{ range .tools }}[{{ . }}]{{ end }}{{ end }}{{ $.kind }}", "[x][y]List");
    }

    #[test]
    fn what_is_not_understood_is_said_with_its_place() {
        let said = |template: &str| Template::jsonpath(template).unwrap_err().to_string();
        assert_eq!(said("a{.name"), "`{` is not closed at character 2");
        assert_eq!(said("{.items[}"), "`[` is not closed at character 8");
        assert_eq!(said("ä{range .items[*]}{.name}"), "`range` has no `end` at character 3");
        assert_eq!(said("{end}"), "`end` ends nothing at character 2");
        assert_eq!(said("{}"), "nothing is between the braces at character 2");
        assert_eq!(said("{range  .a[}{end}"), "`[` is not closed at character 11");
        let said = |template: &str| Template::go(template).unwrap_err().to_string();
        for (template, action, at) in [
            ("{{if .a}}b{{end}}", "if .a", 3),
            ("{{.a | len}}", ".a | len", 3),
            ("a{{- .b}}", "- .b", 4),
            ("{{printf \"%s\" .a}}", "printf \"%s\" .a", 3),
            ("{{range $i, $e := .items}}{{end}}", "$i, $e := .items", 9),
        ] {
            let expected = format!("`{action}` is not supported ({GO}) at character {at}");
            assert_eq!(said(template), expected, "{template}");
        }
    }

    proptest! {
        #[test]
        fn no_text_is_too_odd(template in "([{}.'\"\\\\ ]|range|end|items|\\PC){0,24}") {
            for read in [Template::jsonpath(&template), Template::go(&template)].into_iter().flatten() {
                read.render(documents(), false);
            }
        }

        #[test]
        fn text_comes_back_as_it_is(text in "[^{]{0,24}", quoted in "\\PC{0,12}") {
            prop_assume!(!text.starts_with(['.', '$', '@', '[']));
            let template = format!("{text}{{{}}}", Value::from(quoted.as_str()));
            let read = Template::jsonpath(&template).unwrap();
            prop_assert_eq!(read.render(vec![Value::Null], true), format!("{text}{quoted}"));
        }
    }
}
