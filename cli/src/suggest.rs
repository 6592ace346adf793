//! Did you mean: the known name that is nearest to a word. Pure.

/// Below this likeness a name is another one, and no slip of the fingers.
const ALIKE: f32 = 0.6;

/// Returns the name that is most like a word, if one is. Case, `_` and `-` do not count.
pub fn nearest<'a>(word: &str, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let plain = |text: &str| text.to_lowercase().replace(['_', '-'], "");
    let word = plain(word);
    let likeness = |name: &&str| similar::TextDiff::from_chars(&plain(name), &word).ratio();
    let rated = names.into_iter().map(|name| (likeness(&name), name));
    rated.filter(|(ratio, _)| *ratio > ALIKE).max_by(|(a, _), (b, _)| a.total_cmp(b)).map(|(_, name)| name)
}

/// Returns `; did you mean NAME?` where a name is like a word, and nothing otherwise.
pub fn did_you_mean<'a>(word: &str, names: impl IntoIterator<Item = &'a str>) -> String {
    match nearest(word, names).filter(|name| *name != word) {
        Some(name) => format!("; did you mean {}?", printable::line(name)),
        None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_is_recognised_and_another_word_is_not() {
        let names = ["time", "timer", "git", "get_current_time"];
        for (word, name) in [
            ("tme", Some("time")),
            ("Time", Some("time")),
            ("getCurentTime", Some("get_current_time")),
            ("zoo", None),
        ] {
            assert_eq!(nearest(word, names), name, "{word}");
        }
        assert_eq!(did_you_mean("gti", names), "; did you mean git?");
        assert_eq!(did_you_mean("zoo", names), "");
    }
}
