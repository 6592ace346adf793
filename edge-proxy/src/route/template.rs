//! Matching of URIs against URI templates (RFC 6570). It must not know resources.

/// Longer URIs match no template: matching takes time in proportion to the product of both lengths.
const MAX_URI: usize = 8 << 10;

/// A part of a template.
#[derive(Debug, Clone, Copy)]
enum Part<'a> {
    /// Literal text.
    Literal(&'a str),
    /// Characters up to one of these.
    UpTo(&'static [u8]),
    /// Nothing, or this character and what follows up to one of these.
    Led(u8, &'static [u8]),
}

/// Returns whether `template` could have produced `uri`.
pub(super) fn matches(template: &str, uri: &str) -> bool {
    if uri.len() > MAX_URI {
        return false;
    }
    let Some(parts) = parse(template) else { return template == uri };
    run(&parts, uri.as_bytes())
}

fn parse(mut template: &str) -> Option<Vec<Part<'_>>> {
    let mut parts = Vec::new();
    while let Some(open) = template.find('{') {
        let close = open + template[open..].find('}')?;
        parts.push(Part::Literal(&template[..open]));
        parts.push(expression(&template[open + 1..close]));
        template = &template[close + 1..];
    }
    parts.push(Part::Literal(template));
    Some(parts)
}

fn expression(inner: &str) -> Part<'static> {
    match inner.as_bytes().first() {
        Some(b'+') => Part::UpTo(b""),
        Some(b'#') => Part::Led(b'#', b""),
        Some(b'.') => Part::Led(b'.', b"/?#"),
        Some(b'/') => Part::Led(b'/', b"?#"),
        Some(b';') => Part::Led(b';', b"/?#"),
        Some(b'?') => Part::Led(b'?', b"#"),
        Some(b'&') => Part::Led(b'&', b"#"),
        _ => Part::UpTo(b"/?#"),
    }
}

/// Computes the positions of `uri` that can be reached after each part: no backtracking, so no exponential time.
fn run(parts: &[Part<'_>], uri: &[u8]) -> bool {
    let mut reached = vec![false; uri.len() + 1];
    reached[0] = true;
    for part in parts {
        reached = step(*part, &reached, uri);
    }
    reached[uri.len()]
}

fn step(part: Part<'_>, from: &[bool], uri: &[u8]) -> Vec<bool> {
    let mut to = vec![false; from.len()];
    // Whether a run of characters that began at a reached position continues here.
    let mut running = false;
    for (at, reached) in from.iter().enumerate() {
        let next = uri.get(at);
        match part {
            Part::Literal(text) => {
                if *reached && uri[at..].starts_with(text.as_bytes()) {
                    to[at + text.len()] = true;
                }
            }
            Part::UpTo(stops) => {
                to[at] |= running;
                running = (running || *reached) && next.is_some_and(|byte| !stops.contains(byte));
            }
            Part::Led(lead, stops) => {
                to[at] |= running || *reached;
                running = (*reached && next == Some(&lead))
                    || (running && next.is_some_and(|byte| !stops.contains(byte)));
            }
        }
    }
    to
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn templates_match_what_they_produce() {
        for (template, uri, expected) in [
            ("test://template/{id}/data", "test://template/1/data", true),
            ("test://template/{id}/data", "test://template//data", false),
            ("test://template/{id}/data", "test://template/1/2/data", false),
            ("file:///{+path}", "file:///a/b/c", true),
            ("file:///{+path}", "file:///", false),
            ("x://a{?q,r}", "x://a", true),
            ("x://a{?q,r}", "x://a?q=1&r=2", true),
            ("x://a{?q,r}", "x://aq=1", false),
            ("x://a{/b*}", "x://a/b/c", true),
            ("x://{a}-{b}", "x://1-2-3", true),
            ("x://{a}{b}", "x://ab", true),
            ("x://{broken", "x://{broken", true),
            ("x://plain", "x://plain", true),
            ("x://plain", "x://plainer", false),
        ] {
            assert_eq!(matches(template, uri), expected, "{template} {uri}");
        }
    }

    proptest! {
        #[test]
        fn any_filling_matches(a in "[a-z0-9%._~-]{1,8}", b in "[a-z0-9/]{1,8}") {
            let uri = format!("s://{a}/x/{b}");
            prop_assert!(matches("s://{a}/x/{+b}", &uri), "{uri}");
        }

        #[test]
        fn nothing_panics(template in "[a{}?/+#é]{0,12}", uri in "[a?/#é]{0,12}") {
            let _ = matches(&template, &uri);
        }
    }
}
