//! Patterns in which `*` stands for any characters, none and `/` included, and everything else for itself. There is no escape.

/// Tells whether a text has a `*`.
#[inline]
pub fn is_pattern(text: &str) -> bool {
    text.contains('*')
}

/// Tells whether `pattern` matches the whole of `text`. Takes [`steps`] at most, up to a constant factor.
#[inline]
pub fn matches(pattern: &str, text: &str) -> bool {
    let Some((head, mut rest)) = pattern.split_once('*') else { return pattern == text };
    let Some(mut text) = text.strip_prefix(head) else { return false };
    while let Some((part, after)) = rest.split_once('*') {
        // Preparing to look for something takes time in proportion to its length.
        if part.len() > text.len() {
            return false;
        }
        let Some(at) = text.find(part) else { return false };
        text = &text[at + part.len()..];
        rest = after;
    }
    text.ends_with(rest)
}

/// The bytes that [`matches`] looks at, at most, in a text of so many: all of them for each `*`, and once more.
#[inline]
pub fn steps(pattern: &str, text_bytes: usize) -> usize {
    let stars = pattern.bytes().filter(|byte| *byte == b'*').count();
    (stars + 1) * (text_bytes + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_the_text_for_each_part() {
        assert_eq!((steps("a", 9), steps("*", 9), steps("a*b*c", 9)), (10, 20, 30));
        assert_eq!(steps(&"a".repeat(2_000), 9), 10, "what is longer than the text is not looked for");
    }
    use proptest::prelude::*;

    #[test]
    fn stars_stand_for_any_characters() {
        for (pattern, text, expected) in [
            ("", "", true),
            ("", "a", false),
            ("a", "", false),
            ("A", "a", false),
            ("*", "", true),
            ("*", "anything/at:all", true),
            ("time_*", "time_now", true),
            ("time_*", "time_", true),
            ("time_*", "tim_now", false),
            ("*_now", "time_now", true),
            ("*_now", "time_now_", false),
            ("*b*", "abc", true),
            ("a*b*c", "a1b2c", true),
            ("a*b*c", "abc", true),
            ("a*b*c", "acb", false),
            ("a*a", "a", false),
            ("ab*ba", "aba", false),
            ("*aa", "aaa", true),
            ("a?c", "abc", false),
            ("**", "x", true),
        ] {
            assert_eq!(matches(pattern, text), expected, "{pattern} on {text}");
        }
    }

    /// The definition, as slow as it is plain.
    fn plainly(pattern: &[u8], text: &[u8]) -> bool {
        match pattern.split_first() {
            None => text.is_empty(),
            Some((b'*', rest)) => (0..=text.len()).any(|taken| plainly(rest, &text[taken..])),
            Some((byte, rest)) => {
                text.split_first().is_some_and(|(first, text)| first == byte && plainly(rest, text))
            }
        }
    }

    proptest! {
        #[test]
        fn agrees_with_the_definition(pattern in "[ab*é]{0,8}", text in "[abé]{0,10}") {
            prop_assert_eq!(matches(&pattern, &text), plainly(pattern.as_bytes(), text.as_bytes()));
        }
    }
}
