//! The string literals of Rust sources that are texts for people. It must not know what they are used for.

/// A string literal of a source.
pub(crate) struct Literal {
    /// Its value, with escapes and `{placeholders}` as written.
    pub(crate) text: String,
    /// The code before it, back to the last statement or block.
    pub(crate) before: String,
}

impl Literal {
    /// Returns whether the text is for people: several words, and no reason for the compiler.
    pub(crate) fn is_message(&self) -> bool {
        const INTERNAL: [&str; 4] = ["reason =", ".expect(", "panic!(", "concat!("];
        let is_internal = INTERNAL.iter().any(|call| self.before.trim_end().ends_with(call));
        let is_json = self.text.starts_with('{') && self.text.contains("\":");
        let words = self.text.split([' ', '\n']).filter(|word| word.chars().any(char::is_alphabetic));
        words.count() > 1 && !is_internal && !is_json
    }

    /// Returns whether the text is the message of an error type.
    pub(crate) fn is_error(&self) -> bool {
        self.before.contains("#[error(")
    }

    /// Returns whether the text goes to the log.
    pub(crate) fn is_log(&self) -> bool {
        self.before.contains("tracing::")
    }
}

/// Finds the string literals of a source, without comments, byte strings and characters.
pub(crate) fn literals(source: &str) -> Vec<Literal> {
    let mut found = Vec::new();
    let (mut at, mut statement) = (0, 0);
    while let Some(next) = source[at..].chars().next() {
        let rest = &source[at..];
        let is_word = source[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_');
        if rest.starts_with("//") {
            at += rest.find('\n').unwrap_or(rest.len());
        } else if let Some(hashes) = raw_start(rest).filter(|_| !is_word || source[..at].ends_with('b')) {
            let (open, close) = (hashes + 2, format!("\"{}", "#".repeat(hashes)));
            let length = rest[open..].find(&close).unwrap_or(rest.len() - open);
            push(&mut found, source, statement, at, &rest[open..open + length]);
            at += open + length + close.len();
        } else if next == '"' {
            let length = string_length(&rest[1..]);
            push(&mut found, source, statement, at, &rest[1..=length]);
            at += length + 2;
        } else if next == '\'' {
            at += character_length(rest);
        } else {
            at += next.len_utf8();
            if matches!(next, ';' | '{' | '}') {
                statement = at;
            }
        }
    }
    found
}

fn push(found: &mut Vec<Literal>, source: &str, statement: usize, at: usize, text: &str) {
    let before = &source[statement..at];
    if !before.ends_with('b') {
        // A backslash at the end of a line joins it with the next one.
        let mut lines = text.split("\\\n");
        let first = lines.next().unwrap_or_default().to_owned();
        let text = lines.fold(first, |text, line| text + line.trim_start());
        found.push(Literal {
            text: text.replace("\\\"", "\"").replace("\\n", "\n"),
            before: before.to_owned(),
        });
    }
}

/// Returns the number of `#` of a raw string that starts here.
fn raw_start(rest: &str) -> Option<usize> {
    let after = rest.strip_prefix('r')?;
    let hashes = after.len() - after.trim_start_matches('#').len();
    after[hashes..].starts_with('"').then_some(hashes)
}

fn string_length(rest: &str) -> usize {
    let mut escaped = false;
    for (at, byte) in rest.bytes().enumerate() {
        match byte {
            b'"' if !escaped => return at,
            b'\\' => escaped = !escaped,
            _ => escaped = false,
        }
    }
    rest.len()
}

/// Returns the length of a character literal, or of a quote that starts a lifetime.
fn character_length(rest: &str) -> usize {
    let mut characters = rest[1..].char_indices();
    match (characters.next(), characters.next()) {
        (Some((_, '\\')), _) => rest[3..].find('\'').map_or(1, |end| end + 4),
        (Some(_), Some((end, '\''))) => end + 2,
        _ => 1,
    }
}
