//! The URIs that a server's resources and templates have taken: what leads to one upstream is not given to another that
//! came later. Pure.
//!
//! It must not know members, nor which entry is older: it is asked from the oldest to the youngest.

use std::collections::BTreeMap;
use std::ops::Bound;

use mcp::uri::UriTemplate;

/// Comparisons that one server may cost. Past them, what may overlap counts as overlapping.
const MAX_STEPS: usize = 4_000_000;
/// Comparisons that two templates may cost.
const MAX_PAIR_STEPS: usize = 50_000;

/// The resources and templates that are exposed so far.
#[derive(Debug)]
pub(super) struct TakenUris<'a> {
    /// The templates, by upstream.
    upstreams: BTreeMap<&'a str, Family<'a>>,
    /// The upstream and the resource name of each URI.
    uris: BTreeMap<String, (&'a str, &'a str)>,
    steps: usize,
}

/// The templates of one upstream.
#[derive(Debug)]
struct Family<'a> {
    /// What all of them begin with.
    head: String,
    templates: Vec<Taken<'a>>,
}

#[derive(Debug)]
struct Taken<'a> {
    exposed: String,
    /// The resource name.
    entry: &'a str,
}

impl Default for TakenUris<'_> {
    fn default() -> Self {
        Self { upstreams: BTreeMap::new(), uris: BTreeMap::new(), steps: MAX_STEPS }
    }
}

impl<'a> TakenUris<'a> {
    /// Takes one URI. `entry` is the resource name.
    pub(super) fn take_uri(&mut self, upstream: &'a str, exposed: &str, entry: &'a str) {
        self.uris.insert(exposed.to_owned(), (upstream, entry));
    }

    /// Takes the URIs of a template. `entry` is its resource name.
    pub(super) fn take_template(&mut self, upstream: &'a str, exposed: &str, entry: &'a str) {
        let taken = Taken { exposed: exposed.to_owned(), entry };
        match self.upstreams.get_mut(upstream) {
            Some(family) => {
                let common = common(&family.head, head(exposed));
                family.head.truncate(common);
                family.templates.push(taken);
            }
            None => {
                let family = Family { head: head(exposed).to_owned(), templates: vec![taken] };
                self.upstreams.insert(upstream, family);
            }
        }
    }

    /// Returns the resource or template of another upstream that has taken the exposed URI, or URIs of the exposed template.
    pub(super) fn owner(&mut self, upstream: &str, exposed: &str, template: bool) -> Option<&'a str> {
        let Self { upstreams, uris, steps } = self;
        let own_head = if template { head(exposed) } else { exposed };
        let others = upstreams.iter().filter(|(id, family)| **id != upstream && meet(&family.head, own_head));
        let mut taken = others.flat_map(|(_, family)| &family.templates);
        let older =
            taken.find(|taken| takes(taken, exposed, own_head, template, steps)).map(|taken| taken.entry);
        if older.is_some() || !template {
            return older;
        }
        let in_reach = uris
            .range::<str, _>((Bound::Included(own_head), Bound::Unbounded))
            .take_while(|(uri, _)| uri.starts_with(own_head));
        let mut others = in_reach.filter(|(_, (id, _))| *id != upstream);
        let own = UriTemplate::new(exposed);
        others.find(|(uri, _)| leads_to(&own, uri, steps)).map(|(_, (_, entry))| *entry)
    }
}

fn leads_to(template: &UriTemplate<'_>, uri: &str, steps: &mut usize) -> bool {
    *steps = steps.saturating_sub(uri.len());
    *steps == 0 || template.matches(uri)
}

fn takes(taken: &Taken<'_>, exposed: &str, own_head: &str, template: bool, steps: &mut usize) -> bool {
    *steps = steps.saturating_sub(1);
    if !meet(head(&taken.exposed), own_head) {
        return false;
    }
    if *steps == 0 {
        return true;
    }
    let older = UriTemplate::new(&taken.exposed);
    if template {
        let granted = (*steps).min(MAX_PAIR_STEPS);
        let mut left = granted;
        let overlaps = older.overlaps(&UriTemplate::new(exposed), &mut left);
        *steps -= granted - left;
        return overlaps;
    }
    leads_to(&older, exposed, steps)
}

/// The text of a template before its first brace.
fn head(template: &str) -> &str {
    template.split('{').next().unwrap_or(template)
}

/// Returns whether a URI may begin with both.
fn meet(one: &str, other: &str) -> bool {
    one.starts_with(other) || other.starts_with(one)
}

/// Returns how many bytes two texts have in common at their beginning, in whole characters.
fn common(one: &str, other: &str) -> usize {
    let same = one.char_indices().zip(other.chars()).find(|((_, a), b)| a != b);
    same.map_or(one.len().min(other.len()), |((at, _), _)| at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_leads_to_one_upstream_is_not_given_to_another() {
        let mut taken = TakenUris::default();
        taken.take_template("old", "file:///{+path}", "old/files");
        taken.take_template("old", "db://users/{id}", "old/users");
        taken.take_uri("old", "note://a/1", "old/note");
        for (upstream, exposed, template, expected) in [
            ("new", "file:///secrets/{+p}", true, Some("old/files")),
            ("new", "file:///public/readme", false, Some("old/files")),
            ("new", "db://users/1", false, Some("old/users")),
            ("new", "db://users/{id}/posts", true, None),
            ("new", "memo://{id}", true, None),
            ("new", "note://{+path}", true, Some("old/note")),
            ("new", "note://a/{id}", true, Some("old/note")),
            ("new", "note://b/{id}", true, None),
            ("new", "note://a/2", false, None),
            ("old", "note://{+path}", true, None),
            ("new", "memo://1", false, None),
            ("old", "file:///secrets/{+p}", true, None),
            ("old", "file:///public/readme", false, None),
        ] {
            assert_eq!(taken.owner(upstream, exposed, template), expected, "{upstream} {exposed}");
        }
    }

    #[test]
    fn many_templates_cost_a_bounded_time() {
        let mut taken = TakenUris::default();
        let long = "{a}x".repeat(400);
        for number in 0..100 {
            taken.take_template("old", &format!("x:{long}{number}/"), "old/one");
        }
        let mut left_out = 0;
        for number in 0..100 {
            left_out += usize::from(taken.owner("new", &format!("x:{long}{number}?"), true).is_some());
        }
        assert!(left_out > 0, "past the bound, what may overlap counts as overlapping");
        assert_eq!(taken.owner("new", "y:{v}", true), None, "what cannot overlap never does");
    }
}
