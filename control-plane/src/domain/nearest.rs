//! Did you mean: the known name that is nearest to one that is not known. Pure.

use prost_reflect::MessageDescriptor;

/// Names that are longer are not compared.
const MAX_CHARACTERS: usize = 256;

/// The name that differs from `word` by few slips of the fingers, where there is one. Case does not count.
pub fn nearest<'a>(word: &str, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let plain = |text: &str| text.to_lowercase().chars().collect::<Vec<_>>();
    let word = plain(word);
    if word.len() > MAX_CHARACTERS {
        return None;
    }
    let close = |name: &&str| word.len().abs_diff(name.chars().count()) <= allowed(&word);
    let rated = names.into_iter().filter(close).map(|name| (slips(&word, &plain(name)), name));
    rated.filter(|(slips, _)| *slips <= allowed(&word)).min_by_key(|(slips, _)| *slips).map(|(_, name)| name)
}

/// What to say of a field that a message does not have: the one that may have been meant.
pub fn near_field(message: &MessageDescriptor, name: &str) -> String {
    let fields: Vec<_> = message.fields().map(|field| field.name().to_owned()).collect();
    let near = nearest(name, fields.iter().map(String::as_str));
    near.map(|near| format!("; did you mean `{near}`?")).unwrap_or_default()
}

/// The slips after which a word is still the same one.
fn allowed(word: &[char]) -> usize {
    // One in three letters: more would make short names alike.
    (word.len() / 3).min(3)
}

/// The letters that are missing, added, different or in the place of their neighbour (optimal string alignment).
fn slips(a: &[char], b: &[char]) -> usize {
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 0..a.len() {
        let mut row = vec![i + 1];
        for j in 0..b.len() {
            let same = usize::from(a[i] != b[j]);
            let mut least = (row[j] + 1).min(last[j + 1] + 1).min(last[j] + same);
            if i > 0 && j > 0 && a[i] == b[j - 1] && a[i - 1] == b[j] {
                least = least.min(before[j - 1] + 1);
            }
            row.push(least);
        }
        before = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_slip_is_recognised_and_another_word_is_not() {
        let names = ["time", "timer", "git", "everything", "everything-else"];
        for (word, name) in [
            ("tme", Some("time")),
            ("Time", Some("time")),
            ("gti", Some("git")),
            ("evrything", Some("everything")),
            ("zoo", None),
            ("", None),
        ] {
            assert_eq!(nearest(word, names), name, "{word}");
        }
    }

    proptest! {
        #[test]
        fn slips_are_symmetric_and_no_more_than_letters(a in "[ab]{0,8}", b in "[ab]{0,8}") {
            let (a, b): (Vec<_>, Vec<_>) = (a.chars().collect(), b.chars().collect());
            prop_assert_eq!(slips(&a, &b), slips(&b, &a));
            prop_assert!(slips(&a, &b) <= a.len().max(b.len()));
            prop_assert_eq!(slips(&a, &b) == 0, a == b);
        }
    }
}
