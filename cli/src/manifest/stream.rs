//! JSON values that follow one another, as `jq` prints them: no YAML as a whole, each of them is. Pure.

use serde::de::IgnoredAny;

/// A part of a text that is YAML.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct YamlPart<'a> {
    pub(super) text: &'a str,
    /// The lines before it.
    pub(super) before: usize,
}

/// Parts a text after each JSON value that another follows. What is none, or is broken, is left whole.
pub(super) fn parts(text: &str) -> Vec<YamlPart<'_>> {
    let (mut parts, mut start, mut before) = (Vec::new(), 0, 0);
    if begins(text) {
        let mut values = serde_json::Deserializer::from_str(text).into_iter::<IgnoredAny>();
        while let Some(Ok(_)) = values.next() {
            let end = values.byte_offset();
            if !begins(&text[end..]) {
                break;
            }
            let value = &text[start..end];
            parts.push(YamlPart { text: value, before });
            before += value.matches('\n').count();
            start = end;
        }
    }
    parts.push(YamlPart { text: &text[start..], before });
    parts
}

/// Whether a list or a mapping comes next.
fn begins(text: &str) -> bool {
    text.trim_start().starts_with(['{', '['])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    fn check(text: &str, expected: &[(&str, usize)]) {
        let parts: Vec<_> = parts(text).iter().map(|part| (part.text, part.before)).collect();
        assert_eq!(parts, expected, "{text:?}");
    }

    #[test]
    fn values_are_parted_and_anything_else_is_whole() {
        check("{\"a\": 1}\n{\"b\": 2}\n", &[("{\"a\": 1}", 0), ("\n{\"b\": 2}\n", 0)]);
        check("\n{\n}\n\n[\n1]{}", &[("\n{\n}", 0), ("\n\n[\n1]", 2), ("{}", 5)]);
        for whole in ["{}\n", "{a: 1}\n{b: 2}", "a: {}\n", "", "[1]\n---\n[2]", "{\"a\":", "[{}] x", "1 2"] {
            check(whole, &[(whole, 0)]);
        }
        check("{}\n{\"a\"\n{}", &[("{}", 0), ("\n{\"a\"\n{}", 0)]);
        check("{}\n{}\n---\na: 1\n", &[("{}", 0), ("\n{}\n---\na: 1\n", 0)]);
    }

    proptest! {
        #[test]
        fn nothing_is_lost_and_every_value_is_found(numbers in prop::collection::vec(0..9_usize, 1..5), pretty in any::<bool>()) {
            let value = |number: &usize| {
                let value: Value = (0..*number).map(|at| (format!("k{at}"), Value::from("{\"}"))).collect();
                if pretty { format!("{value:#}\n") } else { format!("{value}\n") }
            };
            let text: String = numbers.iter().map(value).collect();
            let found = parts(&text);
            prop_assert_eq!(found.len(), numbers.len());
            prop_assert_eq!(found.iter().map(|part| part.text).collect::<String>(), text);
        }

        #[test]
        fn no_text_is_too_odd(text in "[{}\\[\\]\"a:,1 \n]{0,24}") {
            prop_assert_eq!(parts(&text).iter().map(|part| part.text).collect::<String>(), text);
        }
    }
}
