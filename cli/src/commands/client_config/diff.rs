//! The difference that a change of a file makes, line by line, without the secrets around it. Pure.

use similar::{ChangeTag, TextDiff};

/// Renders the lines that go and come, each with its number. Lines that only get a comma are left out, since they are of others and
/// may hold secrets; bearers are shown as `…`, unless `shows_bearer`.
pub(super) fn render(before: &str, after: &str, shows_bearer: bool) -> String {
    let diff = TextDiff::from_lines(before, after);
    let changes: Vec<_> = diff.iter_all_changes().filter(|change| change.tag() != ChangeTag::Equal).collect();
    let lines =
        |tag| changes.iter().filter(move |change| change.tag() == tag).map(|change| bare(change.value()));
    let (gone, come): (Vec<_>, Vec<_>) =
        (lines(ChangeTag::Delete).collect(), lines(ChangeTag::Insert).collect());
    let mut text = String::new();
    for change in &changes {
        let line = bare(change.value());
        let (sign, number, others) = match change.tag() {
            ChangeTag::Delete => ('-', change.old_index(), &come),
            _ => ('+', change.new_index(), &gone),
        };
        if others.iter().any(|other| same_but_comma(other, line)) {
            continue;
        }
        let line = if shows_bearer && sign == '+' { line.to_owned() } else { without_bearer(line) };
        text.push_str(&format!("{sign}{:>5}  {line}\n", number.unwrap_or_default() + 1));
    }
    text
}

fn bare(line: &str) -> &str {
    line.trim_end_matches(['\n', '\r'])
}

fn same_but_comma(one: &str, other: &str) -> bool {
    one.strip_suffix(',') == Some(other) || other.strip_suffix(',') == Some(one)
}

/// A line with `…` in the place of a bearer; a reference to a variable is none.
fn without_bearer(line: &str) -> String {
    let Some((before, rest)) = line.split_once("Bearer ") else { return line.to_owned() };
    let end = rest.find(['"', '\'', ' ']).unwrap_or(rest.len());
    if rest.starts_with('$') || end < 16 {
        return line.to_owned();
    }
    format!("{before}Bearer …{}", &rest[end..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_changes_is_shown_and_no_bearer() {
        let before = "{\n  \"key\": \"s3cret\"\n}\n";
        let after = "{\n  \"key\": \"s3cret\",\n  \"a\": \"Bearer eyJhbGciOiJFZERTQSJ9.x.y\",\n  \"b\": \"Bearer ${TRUNKLINE_TOKEN}\"\n}\n";
        assert_eq!(
            render(before, after, false),
            "+    3    \"a\": \"Bearer …\",\n+    4    \"b\": \"Bearer ${TRUNKLINE_TOKEN}\"\n"
        );
        assert!(render(before, after, true).contains("eyJhbGciOiJFZERTQSJ9.x.y"));
        assert!(render(after, before, true).contains("-    3    \"a\": \"Bearer …\""));
        assert_eq!(render(after, after, true), "");
    }
}
