//! Matching of URIs against URI templates (RFC 6570). It must not know resources.

use std::borrow::Cow;
use std::cmp::Reverse;
use std::collections::HashSet;

use super::{CanonicalUri, NotCanonical, check_after};

/// Longer URIs match no template: matching takes time in proportion to the product of both lengths.
const MAX_URI: usize = 8 << 10;

/// A URI template (RFC 6570). A text that is none, such as one with a brace that is not closed, produces only itself.
#[derive(Debug, Clone)]
pub struct UriTemplate<'a> {
    parts: Vec<Part<'a>>,
}

/// A part of a template.
#[derive(Debug, Clone)]
enum Part<'a> {
    /// Literal text.
    Literal(Cow<'a, str>),
    /// Characters up to one of these.
    UpTo(&'static [u8]),
    /// Nothing, or this character and what follows up to one of these.
    Led(u8, &'static [u8]),
}

/// A position of a template, in the finest division.
#[derive(Debug, Clone, Copy)]
enum Element {
    /// This byte.
    Byte(u8),
    /// This byte and the run that follows, or neither.
    Lead(u8),
    /// Any number of bytes that are none of these.
    Run(&'static [u8]),
}

impl Element {
    /// Returns how many elements are passed over where it stands for nothing.
    fn skip(&self) -> Option<usize> {
        match self {
            Self::Byte(_) => None,
            Self::Lead(_) => Some(2),
            Self::Run(_) => Some(1),
        }
    }

    /// Returns how many elements a byte of it leads on.
    fn advance(&self) -> usize {
        usize::from(!matches!(self, Self::Run(_)))
    }

    /// Returns whether a byte can be of both.
    fn meets(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Run(_), Self::Run(_)) => true,
            (Self::Run(stops), Self::Byte(byte) | Self::Lead(byte))
            | (Self::Byte(byte) | Self::Lead(byte), Self::Run(stops)) => !stops.contains(byte),
            (Self::Byte(one) | Self::Lead(one), Self::Byte(other) | Self::Lead(other)) => one == other,
        }
    }
}

impl<'a> UriTemplate<'a> {
    /// Reads a template.
    pub fn new(text: &'a str) -> Self {
        Self { parts: parse(text).unwrap_or_else(|| vec![Part::Literal(text.into())]) }
    }

    /// The template without the text that it was read from, to be kept.
    pub fn into_owned(self) -> UriTemplate<'static> {
        UriTemplate { parts: self.parts.into_iter().map(Part::into_owned).collect() }
    }

    /// Returns how many steps it takes at most to match `uri` once: the product of both lengths.
    pub fn steps(&self, uri: &str) -> usize {
        if uri.len() > MAX_URI { 0 } else { self.parts.len() * (uri.len() + 1) }
    }

    /// Returns `uri` if the template could have produced it; an error if it could, but not in canonical form. What the
    /// template says before its first variable may be spelled as it is, but for dot segments.
    pub fn uri(&self, uri: &str) -> Option<Result<CanonicalUri, NotCanonical>> {
        if !self.matches(uri) {
            return None;
        }
        let checked = self.check_produced(uri).and_then(|()| self.check_query(uri));
        Some(checked.map(|()| CanonicalUri(uri.into())))
    }

    /// Returns whether the template could have produced `uri`, canonical or not.
    pub fn matches(&self, uri: &str) -> bool {
        if uri.len() > MAX_URI || !uri.starts_with(self.fixed()) {
            return false;
        }
        // The positions of `uri` that can be reached after each part: no backtracking, so no exponential time.
        let mut reached = vec![false; uri.len() + 1];
        reached[0] = true;
        for part in &self.parts {
            reached = part.step(&reached, uri.as_bytes()).0;
        }
        reached[uri.len()]
    }

    /// Returns whether the template could produce a URI that begins with `start` and ends with `end`. Where it is not
    /// known, it could.
    pub fn may_produce(&self, start: &str, end: &str) -> bool {
        let fixed = self.fixed();
        if start.len() > MAX_URI || !(start.starts_with(fixed) || fixed.starts_with(start)) {
            return false;
        }
        let last = self.parts.last().map_or("", |part| part.literal());
        if !last.ends_with(end) && !end.ends_with(last) {
            return false;
        }
        let mut reached = vec![false; start.len() + 1];
        reached[0] = true;
        for part in &self.parts {
            let (next, goes_on) = part.step(&reached, start.as_bytes());
            if goes_on || reached[start.len()] {
                return true;
            }
            reached = next;
        }
        reached[start.len()]
    }

    /// Returns whether both could have produced the same URI, canonical or not. Each comparison takes from `steps`; where
    /// they do not suffice to know, both could.
    pub fn overlaps(&self, other: &Self, steps: &mut usize) -> bool {
        let (mine, its) = (self.elements(), other.elements());
        let (fixed, other_fixed) = (self.fixed(), other.fixed());
        if !fixed.starts_with(other_fixed) && !other_fixed.starts_with(fixed) {
            *steps = steps.saturating_sub(1);
            return false;
        }
        // The pairs of positions that one text leads to in both templates.
        let mut seen = HashSet::from([(0, 0)]);
        let mut open = vec![(0, 0)];
        while let Some((at, other_at)) = open.pop() {
            if (at, other_at) == (mine.len(), its.len()) || *steps == 0 {
                return true;
            }
            *steps -= 1;
            let (element, other_element) = (mine.get(at), its.get(other_at));
            let skipped = element.and_then(Element::skip).map(|by| (at + by, other_at));
            let other_skipped = other_element.and_then(Element::skip).map(|by| (at, other_at + by));
            let both = element.zip(other_element).filter(|(one, other)| one.meets(other));
            let both = both.map(|(one, other)| (at + one.advance(), other_at + other.advance()));
            let next = [skipped, other_skipped, both].into_iter().flatten();
            open.extend(next.filter(|pair| seen.insert(*pair)));
        }
        false
    }

    /// Takes the template apart byte by byte.
    fn elements(&self) -> Vec<Element> {
        let elements = |part: &Part<'_>| -> Vec<Element> {
            match part {
                Part::Literal(text) => text.bytes().map(Element::Byte).collect(),
                Part::UpTo(stops) => vec![Element::Run(stops)],
                Part::Led(lead, stops) => vec![Element::Lead(*lead), Element::Run(stops)],
            }
        };
        self.parts.iter().flat_map(elements).collect()
    }

    /// Returns why none of its URIs is canonical, if what the template says itself is the reason.
    pub fn check(&self) -> Result<(), NotCanonical> {
        let text: String =
            self.parts.iter().map(|part| if part.is_literal() { part.literal() } else { "x" }).collect();
        self.check_produced(&text)
    }

    /// Checks that the template could also have produced the URI without a query or fragment that it does not spell out:
    /// to servers that ignore them, `secret.txt?.md` is not what `{+name}.md` stands for.
    fn check_query(&self, uri: &str) -> Result<(), NotCanonical> {
        let spelled_out = |delimiter: char| self.parts.iter().any(|part| part.literal().contains(delimiter));
        let produced = ['?', '#'].into_iter().filter(|delimiter| !spelled_out(*delimiter));
        let end = produced.filter_map(|delimiter| uri.find(delimiter)).min();
        if end.is_none_or(|end| self.matches(&uri[..end])) { Ok(()) } else { Err(NotCanonical::Query) }
    }

    fn check_produced(&self, uri: &str) -> Result<(), NotCanonical> {
        if self.parts.iter().all(Part::is_literal) { Ok(()) } else { check_after(uri, self.fixed().len()) }
    }

    /// A key by which the more specific one of two templates is less: it says more before its first variable, then in
    /// all, and then has fewer variables that take slashes.
    pub fn generality(&self) -> (Reverse<usize>, Reverse<usize>, usize) {
        let literal = self.parts.iter().map(|part| part.literal().len()).sum();
        let wide = self.parts.iter().filter(|part| part.takes_slashes()).count();
        (Reverse(self.fixed().len()), Reverse(literal), wide)
    }

    /// The text before the first variable, with which every URI begins that it could have produced.
    pub fn fixed(&self) -> &str {
        self.parts.first().map_or("", |part| part.literal())
    }
}

fn parse(mut template: &str) -> Option<Vec<Part<'_>>> {
    let mut parts = Vec::new();
    while let Some(open) = template.find('{') {
        let close = open + template[open..].find('}')?;
        parts.push(Part::Literal(template[..open].into()));
        parts.push(expression(&template[open + 1..close]));
        template = &template[close + 1..];
    }
    parts.push(Part::Literal(template.into()));
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

impl Part<'_> {
    fn into_owned(self) -> Part<'static> {
        match self {
            Self::Literal(text) => Part::Literal(Cow::Owned(text.into_owned())),
            Self::UpTo(stops) => Part::UpTo(stops),
            Self::Led(lead, stops) => Part::Led(lead, stops),
        }
    }

    fn literal(&self) -> &str {
        match self {
            Self::Literal(text) => text,
            Self::UpTo(_) | Self::Led(..) => "",
        }
    }

    fn is_literal(&self) -> bool {
        matches!(self, Self::Literal(_))
    }

    fn takes_slashes(&self) -> bool {
        match self {
            Self::Literal(_) => false,
            Self::UpTo(stops) | Self::Led(_, stops) => !stops.contains(&b'/'),
        }
    }

    /// Computes the positions of `uri` that are reached after this part, and whether the part could go on behind its end.
    fn step(&self, from: &[bool], uri: &[u8]) -> (Vec<bool>, bool) {
        let mut to = vec![false; from.len()];
        // Whether a run of characters that began at a reached position continues here.
        let (mut running, mut goes_on) = (false, false);
        for (at, reached) in from.iter().enumerate() {
            let next = uri.get(at);
            match self {
                Self::Literal(text) => {
                    if *reached && uri[at..].starts_with(text.as_bytes()) {
                        to[at + text.len()] = true;
                    }
                    goes_on |= *reached && text.as_bytes().starts_with(&uri[at..]);
                }
                // A variable may be empty, or undefined (RFC 6570 §3.2.1).
                Self::UpTo(stops) => {
                    running |= *reached;
                    to[at] |= running;
                    goes_on |= running && next.is_none();
                    running &= next.is_some_and(|byte| !stops.contains(byte));
                }
                Self::Led(lead, stops) => {
                    to[at] |= running || *reached;
                    goes_on |= to[at] && next.is_none();
                    running = (*reached && next == Some(lead))
                        || (running && next.is_some_and(|byte| !stops.contains(byte)));
                }
            }
        }
        (to, goes_on)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn matches(template: &str, uri: &str) -> bool {
        UriTemplate::new(template).matches(uri)
    }

    #[test]
    fn templates_match_what_they_produce() {
        for (template, uri, expected) in [
            ("test://template/{id}/data", "test://template/1/data", true),
            ("test://template/{id}/data", "test://template//data", true),
            ("test://template/{id}/data", "test://template/1/2/data", false),
            ("file:///{+path}", "file:///a/b/c", true),
            ("file:///{+path}", "file:///", true),
            ("file:///{+path}", "file://", false),
            ("x://a{?q,r}", "x://a", true),
            ("x://a{?q,r}", "x://a?q=1&r=2", true),
            ("x://a{?q,r}", "x://aq=1", false),
            ("x://a{/b*}", "x://a/b/c", true),
            ("x://{a}-{b}", "x://1-2-3", true),
            ("x://{a}{b}", "x://ab", true),
            ("x://{a}{b}", "x://", true),
            ("x://{broken", "x://{broken", true),
            ("x://plain", "x://plain", true),
            ("x://plain", "x://plainer", false),
        ] {
            assert_eq!(matches(template, uri), expected, "{template} {uri}");
        }
    }

    #[test]
    fn what_a_template_may_produce_is_known_from_its_start_and_end() {
        for (template, start, end, expected) in [
            ("file:///{+path}", "file:///public/", "", true),
            ("file:///{+path}", "file", "", true),
            ("file:///{+path}", "", ".md", true),
            ("file:///{+path}", "memo:", "", false),
            ("x:{v}", "x:a/", "", false),
            ("x:{v}/b", "x:a/", "", true),
            ("x:{v}/b", "x:", "/b", true),
            ("x:{v}/b", "x:", "c", false),
            ("x:{v}/b", "x:", "c/b", true),
            ("x:a{?q}", "x:a?", "", true),
            ("x:a{?q}", "x:ab", "", false),
            ("x:plain", "x:pl", "in", true),
            ("x:plain", "x:pls", "", false),
        ] {
            assert_eq!(
                UriTemplate::new(template).may_produce(start, end),
                expected,
                "{template} {start}*{end}"
            );
        }
    }

    #[test]
    fn the_more_specific_of_two_templates_comes_first() {
        let mut templates = ["x:{+v}", "x:{v}", "x:{v}/data", "x:a{v}", "x:ab", "{+any}"];
        templates.sort_by_key(|template| UriTemplate::new(template).generality());
        assert_eq!(templates, ["x:ab", "x:a{v}", "x:{v}/data", "x:{v}", "x:{+v}", "{+any}"]);
    }

    #[test]
    fn templates_overlap_where_both_produce_a_uri() {
        for (one, other, expected) in [
            ("file:///{+path}", "file:///secrets/{+p}", true),
            ("file:///{+path}", "memo://{id}", false),
            ("db://users/{id}", "db://users/{id}/posts", false),
            ("db://users/{+id}", "db://users/{id}/posts", true),
            ("db://{table}/1", "db://users/{id}", true),
            ("x:{v}/a", "x:{v}/b", false),
            ("x:{+v}a", "x:b{+v}", true),
            ("x:a{?q}", "x:a", true),
            ("x:a{?q}", "x:a?q=1", true),
            ("x:a{?q}", "x:a/{v}", false),
            ("x:a{/b*}", "x:a{?q}", true),
            ("{+any}", "x:plain", true),
            ("x:{broken", "x:{v}", true),
        ] {
            let (one, other) = (UriTemplate::new(one), UriTemplate::new(other));
            for (one, other) in [(&one, &other), (&other, &one)] {
                assert_eq!(one.overlaps(other, &mut 10_000), expected, "{one:?} {other:?}");
            }
        }
        let one = UriTemplate::new("x:{v}/a");
        assert!(one.overlaps(&UriTemplate::new("x:{v}/b"), &mut 3), "what is not known may be");
    }

    proptest! {
        #[test]
        fn templates_that_match_the_same_uri_overlap(
            templates in prop::array::uniform2("[ab]{0,2}(\\{[+?/]?v\\}[ab/]{0,2}){0,2}"),
            uri in "[ab/?]{0,6}",
        ) {
            let [one, other] = templates.each_ref().map(|text| UriTemplate::new(text));
            if one.matches(&uri) && other.matches(&uri) {
                prop_assert!(one.overlaps(&other, &mut 100_000));
            }
        }

        #[test]
        fn any_filling_matches(a in "[a-z0-9%._~-]{0,8}", b in "[a-z0-9/]{0,8}") {
            let uri = format!("s://{a}/x/{b}");
            prop_assert!(matches("s://{a}/x/{+b}", &uri), "{uri}");
        }

        #[test]
        fn what_is_produced_may_be_produced(
            template in "[ab]{0,2}(\\{[+?/]?v\\}[ab/]{0,2}){0,2}",
            uri in "[ab/?]{0,6}",
            [start, end] in any::<[prop::sample::Index; 2]>(),
        ) {
            let template = UriTemplate::new(&template);
            if template.matches(&uri) {
                let (start, end) = (start.index(uri.len() + 1), end.index(uri.len() + 1));
                prop_assert!(template.may_produce(&uri[..start], &uri[end..]));
            }
        }

        #[test]
        fn what_is_kept_is_the_same_and_begins_as_it_says(template in "[ab]{0,2}(\\{[+?/]?v\\}[ab/]{0,2}){0,2}", uri in "[ab/?]{0,6}") {
            let kept = UriTemplate::new(&template).into_owned();
            prop_assert_eq!(kept.matches(&uri), matches(&template, &uri));
            prop_assert!(!kept.matches(&uri) || uri.starts_with(kept.fixed()));
        }

        #[test]
        fn nothing_panics(template in "[a{}?/+#é]{0,12}", uri in "[a?/#é%]{0,12}") {
            let template = UriTemplate::new(&template);
            let _ = (template.uri(&uri), template.may_produce(&uri, &uri), template.check());
        }
    }
}
