//! Text in lines of a width. Pure.

/// Breaks a text into lines of at most `width` characters, each after an indent. Paragraphs stay apart, and words stay whole.
pub fn wrap(text: &str, indent: usize, width: usize) -> String {
    let mut lines = String::new();
    for (index, paragraph) in text.split("\n\n").enumerate() {
        if index > 0 {
            lines.push('\n');
        }
        let mut line = String::new();
        for word in paragraph.split_whitespace() {
            let length = indent + line.chars().count() + 1 + word.chars().count();
            if !line.is_empty() && length > width {
                push_line(&mut lines, indent, &line);
                line.clear();
            }
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
        push_line(&mut lines, indent, &line);
    }
    lines
}

fn push_line(lines: &mut String, indent: usize, line: &str) {
    lines.push_str(&" ".repeat(indent));
    lines.push_str(line);
    lines.push('\n');
}

#[cfg(test)]
mod tests {
    use super::wrap;

    #[test]
    fn words_stay_whole_and_lines_fit() {
        assert_eq!(wrap("one two three", 2, 9), "  one two\n  three\n");
        assert_eq!(wrap("one\n\ntwo", 0, 80), "one\n\ntwo\n");
        assert_eq!(wrap("longer-than-that a", 2, 8), "  longer-than-that\n  a\n");
    }
}
