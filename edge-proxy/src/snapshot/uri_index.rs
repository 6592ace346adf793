//! The resources and templates of a server by what URIs begin with, and by what their upstreams call them: a URI is looked
//! up without comparing it with every entry.
//!
//! It must not know who may use what.

use std::collections::HashMap;
use std::iter::successors;

use mcp::uri::naming;

use super::{Entry, Table};

/// Where the URIs of a server lead, and come from.
#[derive(Debug, Default)]
pub struct UriIndex {
    /// What templates say before their first variable, in the order of their bytes.
    starts: Box<[Start]>,
    /// By the uid of the upstream.
    upstreams: HashMap<Box<str>, UpstreamNames>,
}

/// What one or more templates say before their first variable.
#[derive(Debug)]
struct Start {
    text: Box<str>,
    /// The position of the longest other start that this one begins with.
    shorter: Option<usize>,
    /// The positions of the templates, the more specific ones first, and the earlier of two that are as specific.
    templates: Vec<usize>,
}

/// The names under which a server exposes the resources of one upstream.
#[derive(Debug, Default)]
pub struct UpstreamNames {
    /// The prefixes of its resources, each once.
    pub prefixes: Vec<Box<str>>,
    /// The prefixes of its templates, each once.
    pub template_prefixes: Vec<Box<str>>,
    /// The positions of resources that are exposed as something else than their own URI after their prefix, by that URI.
    aliases: HashMap<Box<str>, Vec<usize>>,
}

impl UriIndex {
    /// Indexes the resources and templates of a server.
    pub fn new(resources: &Table, templates: &Table) -> UriIndex {
        let mut upstreams: HashMap<Box<str>, UpstreamNames> = HashMap::new();
        for (at, entry) in resources.entries.iter().enumerate() {
            let names = names(&mut upstreams, &entry.upstream.uid);
            add(&mut names.prefixes, &entry.uri_prefix);
            if !naming::is_exposed(&entry.uri_prefix, &entry.original, &entry.exposed) {
                names.aliases.entry(entry.original.clone()).or_default().push(at);
            }
        }
        for entry in &templates.entries {
            add(&mut names(&mut upstreams, &entry.upstream.uid).template_prefixes, &entry.uri_prefix);
        }
        UriIndex { starts: starts(templates), upstreams }
    }

    /// The names of the resources of the upstream with this uid; `None` where it has neither resources nor templates.
    pub fn upstream(&self, uid: &str) -> Option<&UpstreamNames> {
        self.upstreams.get(uid)
    }

    /// Returns the positions of the templates that say before their first variable what `uri` begins with, the more
    /// specific ones first. No other template could have produced it.
    pub fn templates(&self, uri: &str) -> impl Iterator<Item = usize> {
        successors(self.longest_start(uri), |start| self.shorter(start))
            .flat_map(|start| start.templates.iter().copied())
    }

    /// Finds the longest start of `uri`. Of the starts before it in order, the last one is it or begins with it.
    fn longest_start(&self, uri: &str) -> Option<&Start> {
        let after = self.starts.partition_point(|start| *start.text <= *uri);
        let last = self.starts.get(after.checked_sub(1)?)?;
        let common = last.text.bytes().zip(uri.bytes()).take_while(|(one, other)| one == other).count();
        successors(Some(last), |start| self.shorter(start)).find(|start| start.text.len() <= common)
    }

    fn shorter(&self, start: &Start) -> Option<&Start> {
        self.starts.get(start.shorter?)
    }
}

impl UpstreamNames {
    /// Returns the positions of resources that are exposed as something else than `original` after their prefix.
    pub fn aliases(&self, original: &str) -> &[usize] {
        self.aliases.get(original).map_or(&[], Vec::as_slice)
    }
}

fn names<'a>(upstreams: &'a mut HashMap<Box<str>, UpstreamNames>, uid: &str) -> &'a mut UpstreamNames {
    if !upstreams.contains_key(uid) {
        upstreams.insert(uid.into(), UpstreamNames::default());
    }
    upstreams.entry(uid.into()).or_default()
}

fn add(prefixes: &mut Vec<Box<str>>, prefix: &str) {
    if !prefixes.iter().any(|known| **known == *prefix) {
        prefixes.push(prefix.into());
    }
}

/// Groups templates by what they say before their first variable.
fn starts(templates: &Table) -> Box<[Start]> {
    let fixed = |entry: &Entry| entry.template.as_ref().map(|template| Box::from(template.fixed()));
    let mut groups: HashMap<Box<str>, Vec<usize>> = HashMap::new();
    for (at, entry) in templates.entries.iter().enumerate() {
        if let Some(text) = fixed(entry) {
            groups.entry(text).or_default().push(at);
        }
    }
    let generality =
        |at: &usize| templates.entries[*at].template.as_ref().map(|template| template.generality());
    let mut starts: Vec<Start> = groups
        .into_iter()
        .map(|(text, mut templates)| {
            templates.sort_by_cached_key(generality);
            Start { text, shorter: None, templates }
        })
        .collect();
    starts.sort_unstable_by(|one, other| one.text.cmp(&other.text));
    for at in 1..starts.len() {
        // What the one before begins with, or that itself: nothing between them could begin it.
        let mut shorter = Some(at - 1);
        while let Some(before) = shorter.filter(|before| !starts[at].text.starts_with(&*starts[*before].text))
        {
            shorter = starts[before].shorter;
        }
        starts[at].shorter = shorter;
    }
    starts.into()
}
