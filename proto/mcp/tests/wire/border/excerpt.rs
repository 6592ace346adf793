use mcp::border::without_mark;
use mcp::secrets::Secrets;

use proptest::prelude::*;

/// Characters of what is quoted, at most.
const MAX_EXCERPT: usize = 80;

fn excerpt(source: &[u8], at: usize) -> Box<str> {
    Secrets::default().quote(source, at)
}

#[test]
fn what_is_quoted_is_cut_and_cannot_act() {
    let long = "x".repeat(200);
    for (source, at, shown) in [
        (&b"ping - 2026"[..], 0, "ping - 2026".to_owned()),
        (b"", 7, String::new()),
        (b"\x1b[2Jcleared\nlines", 0, "\\u{1b}[2Jcleared\\nlines".to_owned()),
        ("a\u{202e}b".as_bytes(), 1, "a\\u{202e}b".to_owned()),
        (b"caf\xe9 au lait", 3, "caf\u{fffd} au lait".to_owned()),
        (long.as_bytes(), 0, format!("{}…", "x".repeat(MAX_EXCERPT))),
        (long.as_bytes(), 100, format!("…{}…", "x".repeat(MAX_EXCERPT))),
        (long.as_bytes(), 200, format!("…{}", "x".repeat(MAX_EXCERPT / 2))),
        ("é".repeat(100).as_bytes(), 41, format!("…{}…", "é".repeat(MAX_EXCERPT))),
    ] {
        assert_eq!(*excerpt(source, at), *shown, "{at}");
    }
}

#[test]
fn a_mark_is_taken_off_the_start_once() {
    for (text, rest) in [
        (&b"\xef\xbb\xbf{}"[..], &b"{}"[..]),
        (b"{}", b"{}"),
        (b"\xef\xbb", b"\xef\xbb"),
        (b"\xef\xbb\xbf\xef\xbb\xbf", b"\xef\xbb\xbf"),
        (b" \xef\xbb\xbf", b" \xef\xbb\xbf"),
    ] {
        assert_eq!(without_mark(text), rest);
    }
}

/// A cut within a secret would leave its beginning, which nobody recognises any more.
#[test]
fn no_part_of_a_secret_is_left_at_the_cut() {
    let secret = "sk-live-0123456789abcdef0123456789abcdef";
    let mut secrets = Secrets::default();
    secrets.add(secret.as_bytes());
    for before in 0..2 * MAX_EXCERPT {
        for at in [0, before, before + 5, before + secret.len()] {
            let source = format!("{}{secret} and more of it", ".".repeat(before));
            let shown = secrets.quote(source.as_bytes(), at);
            let leaks = (4..=secret.len()).any(|length| shown.contains(&secret[..length]));
            assert!(!leaks && !shown.contains("cdef"), "{before} {at} {shown}");
        }
    }
    let long = format!("{}{secret}{}", "x".repeat(70 << 10), "y".repeat(70 << 10));
    assert!(secrets.quote(long.as_bytes(), 70 << 10).contains("[redacted]"));
}

proptest! {
    #[test]
    fn excerpts_are_bounded_and_hold_the_place(
        source in prop_oneof![".{0,300}".prop_map(String::into_bytes), prop::collection::vec(any::<u8>(), 0..300)],
        at in any::<prop::sample::Index>(),
    ) {
        let at = at.index(source.len() + 1);
        let shown = excerpt(&source, at);
        prop_assert!(!printable::has_hidden(&shown), "{shown}");
        // The longest escape is `\u{10ffff}`.
        prop_assert!(shown.chars().count() <= 10 * MAX_EXCERPT + 2);
    }
}
