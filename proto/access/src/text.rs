//! Words for people: a text that somebody wrote, safe to show, the known word that is nearest to it, and times.

/// The text in quotes, cut where it is long, with escapes for what does not print.
pub(crate) fn quoted(text: &str) -> String {
    const SHOWN: usize = 60;
    match text.char_indices().nth(SHOWN) {
        None => format!("{text:?}"),
        Some((end, _)) => format!("{:?}…", &text[..end]),
    }
}

/// A time in seconds since 1970, as people read it.
pub(crate) fn time(seconds: i64) -> String {
    jiff::Timestamp::from_second(seconds).map_or_else(|_| seconds.to_string(), |time| time.to_string())
}

/// The known word that differs least, if it is near: case, and one letter in three, but no more than three, may differ.
pub(crate) fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word = word.to_ascii_lowercase();
    let near = known.into_iter().map(|name| (distance(&word, &name.to_ascii_lowercase()), name));
    let (distance, name) = near.min_by_key(|(distance, _)| *distance)?;
    (distance <= (word.len().max(3) / 3).min(3)).then_some(name)
}

/// How many letters must be added, removed or changed.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.chars().count()).collect();
    for (i, left) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, right) in b.chars().enumerate() {
            let change = diagonal + usize::from(left != right);
            diagonal = row[j + 1];
            row[j + 1] = change.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row.pop().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_print_is_escaped_and_what_is_long_is_cut() {
        assert_eq!(quoted("a\u{1b}[2J\u{202e}b"), r#""a\u{1b}[2J\u{202e}b""#);
        assert_eq!(quoted(&"é".repeat(61)), format!("\"{}\"…", "é".repeat(60)));
    }

    #[test]
    fn the_nearest_word_is_found_if_it_is_near() {
        assert_eq!(nearest("tool/call", ["ping", "tools/call", "tools/list"]), Some("tools/call"));
        assert_eq!(nearest("PING", ["ping", "tools/call"]), Some("ping"));
        assert_eq!(nearest("frobnicate", ["ping", "tools/call"]), None);
        assert_eq!(nearest("x", []), None);
        assert_eq!((distance("", "abc"), distance("abc", ""), distance("kitten", "sitting")), (3, 3, 3));
    }
}
