//! Text of others, made safe for terminals and logs: what does not print is written as an escape.
//!
//! Names, descriptions and messages come from upstreams, edges and files that nobody here wrote. Raw, they can clear a
//! screen, forge a line of a table or of a log, or show a name in another order than its letters have. It must not know
//! where a text comes from, nor where it is printed.

#[cfg(feature = "logs")]
pub mod logs;

use std::borrow::Cow;
use std::fmt::Write as _;

/// Makes a text of several lines safe: line feeds and tabs stay, CR LF becomes a line feed, and every other character
/// that does not print is escaped, as `\u{1b}`.
pub fn text(text: &str) -> Cow<'_, str> {
    escape(text, |c, next, out| match c {
        '\n' | '\t' => out.push(c),
        '\r' if next == Some('\n') => {}
        _ => escape_rust(c, out),
    })
}

/// Makes a text safe as a part of one line: line feeds and tabs are escaped too, as `\n` and `\t`.
pub fn line(text: &str) -> Cow<'_, str> {
    escape(text, |c, _, out| escape_rust(c, out))
}

/// Makes a JSON text safe without changing its value: within strings, characters that do not print become `\u001b`.
///
/// Outside of strings JSON has no such characters but line feeds, carriage returns and tabs, which stay.
pub fn json(text: &str) -> Cow<'_, str> {
    escape(text, |c, _, out| match c {
        '\n' | '\t' | '\r' => out.push(c),
        _ => escape_json(c, out),
    })
}

/// Makes the double-quoted strings of a YAML text safe without changing their values; such a string must not hold line
/// feeds. YAML has no surrogates: beyond the first plane it writes `\U000e0041` (YAML 1.2.2, section 5.7).
pub fn yaml_strings(text: &str) -> Cow<'_, str> {
    escape(text, |c, _, out| match u32::from(c) {
        code @ 0x1_0000.. => {
            // Writing to a String does not fail.
            let _ = write!(out, "\\U{code:08x}");
        }
        _ => escape_json(c, out),
    })
}

/// Returns whether a text holds a character that [`text`] escapes.
pub fn has_hidden(text: &str) -> bool {
    matches!(self::text(text), Cow::Owned(_))
}

/// Writes `text`, with each character that does not print as `write` says; it is given the character that follows too.
fn escape(text: &str, write: impl Fn(char, Option<char>, &mut String)) -> Cow<'_, str> {
    if text.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    let (mut before, mut rest) = (None, text.chars());
    while let Some(c) = rest.next() {
        let next = rest.clone().next();
        let joins = is_joiner(c) && is_joined(before) && is_joined(next);
        if is_hidden(c) && !joins {
            write(c, next, &mut out)
        } else {
            out.push(c)
        }
        before = Some(c);
    }
    if out == text { Cow::Borrowed(text) } else { Cow::Owned(out) }
}

/// Returns whether a character shows nothing, moves the cursor, or changes the order in which others are shown.
fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(c,
            // Soft hyphen, and marks, embeddings, overrides and isolates of the bidirectional algorithm (UAX #9).
            '\u{ad}' | '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
            // Zero width, line and paragraph separators, invisible operators, deprecated format characters.
            | '\u{180e}' | '\u{200b}' | '\u{2028}' | '\u{2029}' | '\u{2060}'..='\u{2065}' | '\u{206a}'..='\u{206f}'
            | '\u{feff}' | '\u{fff9}'..='\u{fffb}'
            // Tags and supplementary variation selectors, which can carry a text that only machines read.
            | '\u{e0000}'..='\u{e0fff}')
        || is_joiner(c)
}

/// The zero-width joiner and non-joiner: emoji, Indic scripts and Persian need them between their letters.
fn is_joiner(c: char) -> bool {
    matches!(c, '\u{200c}' | '\u{200d}')
}

fn is_joined(neighbour: Option<char>) -> bool {
    neighbour.is_some_and(|c| !c.is_ascii() && !is_hidden(c))
}

fn escape_rust(c: char, out: &mut String) {
    match c {
        '\n' => out.push_str("\\n"),
        '\t' => out.push_str("\\t"),
        '\r' => out.push_str("\\r"),
        // Writing to a String does not fail.
        _ => {
            let _ = write!(out, "\\u{{{:x}}}", u32::from(c));
        }
    }
}

fn escape_json(c: char, out: &mut String) {
    for unit in c.encode_utf16(&mut [0; 2]) {
        // Writing to a String does not fail.
        let _ = write!(out, "\\u{unit:04x}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_prints_stays_as_it_is() {
        for plain in
            ["", "plain", "größer\u{301}", "数据", "a\tb\nc", "👩\u{200d}💻", "می\u{200c}خواهم", "❤\u{fe0f}"]
        {
            assert!(matches!(text(plain), Cow::Borrowed(_)), "{plain:?}");
            assert!(!has_hidden(plain));
        }
    }

    #[test]
    fn what_does_not_print_is_escaped() {
        for (raw, shown) in [
            ("\u{1b}[2J", "\\u{1b}[2J"),
            ("\u{1b}]0;title\u{7}", "\\u{1b}]0;title\\u{7}"),
            ("\u{9b}2J", "\\u{9b}2J"),
            ("shown\rover", "shown\\rover"),
            ("a\r\nb", "a\nb"),
            ("x\u{202e}gpj.exe", "x\\u{202e}gpj.exe"),
            ("ad\u{200b}min", "ad\\u{200b}min"),
            ("ad\u{200d}min", "ad\\u{200d}min"),
            ("\u{200d}👩", "\\u{200d}👩"),
            ("\u{e0041}", "\\u{e0041}"),
            ("\u{7f}\0", "\\u{7f}\\u{0}"),
        ] {
            assert_eq!(text(raw), shown, "{raw:?}");
            assert!(has_hidden(raw));
        }
        assert_eq!(line("one\ntwo\tthree\r\n"), "one\\ntwo\\tthree\\r\\n");
    }

    #[test]
    fn json_keeps_its_value() {
        let value =
            serde_json::json!({"\u{202e}k": ["\u{1b}[2J", "\u{9b}", "\u{e0041}", "a\u{200d}b\r\n\u{7f}"]});
        let raw = serde_json::to_string_pretty(&value).unwrap();
        let shown = json(&raw);
        assert!(!has_hidden(&shown), "{shown}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&shown).unwrap(), value);
    }

    proptest! {
        #[test]
        fn nothing_hidden_is_left(raw in any::<String>()) {
            let (text, line) = (text(&raw), line(&raw));
            prop_assert!(!has_hidden(&text));
            prop_assert!(!line.chars().any(char::is_control));
            prop_assert_eq!(super::line(&line), &*line, "escaping again changes nothing");
        }

        #[test]
        fn json_is_exact(raw in any::<String>()) {
            let value = serde_json::Value::String(raw);
            let read: serde_json::Value = serde_json::from_str(&json(&value.to_string())).unwrap();
            prop_assert_eq!(read, value);
        }
    }
}
