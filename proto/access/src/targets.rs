//! What a request names of a server, and whether a pattern of a scope fits it. It must not know who asks.

use crate::decide::Request;
use crate::rule::{Fact, OwnFacts, Target};
use crate::world::{Entry, Family, Server};

/// Something of a server that a request may mean.
#[derive(Debug)]
pub(crate) struct Exposed<'a> {
    entry: &'a Entry,
    /// The URI that the entry, a template, produces.
    produced: Option<String>,
    is_template: bool,
}

impl Exposed<'_> {
    /// What rules are about. Before there is a request it is not known what a template produces.
    pub(crate) fn target(&self, is_requested: bool) -> Target<'_> {
        let produced = match &self.produced {
            Some(uri) if is_requested => Fact::Is(uri.as_str()),
            None if is_requested => Fact::Absent,
            _ if self.is_template => Fact::Later,
            _ => Fact::Absent,
        };
        let Entry { name, former, leads_out, upstream, read_only, destructive, own } = self.entry;
        Target {
            name,
            former: former.as_deref(),
            leads_out: *leads_out,
            produced,
            upstream,
            read_only: *read_only,
            destructive: *destructive,
            own: OwnFacts {
                name: &own.name,
                leads_out: own.leads_out,
                produced: &own.produced,
                read_only: own.read_only,
                destructive: own.destructive,
            },
        }
    }
}

/// The family of what a request names. `None`: it names nothing.
pub(crate) fn family(server: &Server, request: &Request) -> Option<Family> {
    let target = request.target.as_deref()?;
    match request.method.as_str() {
        "tools/call" => Some(Family::Tools),
        "prompts/get" => Some(Family::Prompts),
        "resources/read" | "resources/subscribe" | "resources/unsubscribe" => Some(Family::Resources),
        "completion/complete" if server.prompts.iter().any(|entry| entry.name == target) => {
            Some(Family::Prompts)
        }
        "completion/complete" => Some(Family::Resources),
        _ => None,
    }
}

/// What a server has of this name: the entry of it, and the templates that produce it.
pub(crate) fn exposed<'a>(
    server: &'a Server,
    family: Family,
    target: &str,
    templates: &[String],
) -> Vec<Exposed<'a>> {
    let named = |entries: &'a [Entry]| entries.iter().filter(move |entry| is_named(entry, target));
    let listed = |entry| Exposed { entry, produced: None, is_template: false };
    let template = |entry| Exposed { is_template: true, ..listed(entry) };
    match family {
        Family::Tools => named(&server.tools).map(listed).collect(),
        Family::Prompts => named(&server.prompts).map(listed).collect(),
        Family::Resources => {
            let producing = server.templates.iter().filter(|entry| templates.contains(&entry.name));
            let produced =
                producing.map(|entry| Exposed { produced: Some(target.to_owned()), ..template(entry) });
            let templates = named(&server.templates).map(template);
            named(&server.resources).map(listed).chain(templates).chain(produced).collect()
        }
    }
}

fn is_named(entry: &Entry, target: &str) -> bool {
    entry.name == target || entry.former.as_deref() == Some(target)
}

/// Whether a pattern fits something: its name, or the URI that it produces.
pub(crate) fn fits(pattern: &str, exposed: &Exposed<'_>) -> bool {
    let Exposed { entry, produced, .. } = exposed;
    if pattern == "*" {
        return true;
    }
    let led_out = glob::is_pattern(pattern) && entry.leads_out;
    let names = [Some(entry.name.as_str()), entry.former.as_deref()];
    let by_name = !led_out && names.into_iter().flatten().any(|name| glob::matches(pattern, name));
    by_name || produced.as_deref().is_some_and(|uri| fits_uri(pattern, uri))
}

/// A pattern without a query or fragment must fit what stands before those as well, since servers may ignore the rest.
fn fits_uri(pattern: &str, uri: &str) -> bool {
    glob::matches(pattern, uri) && glob::matches(pattern, without_ignored(pattern, uri))
}

/// A URI without what servers may ignore, if the pattern does not speak of it: the query and the fragment.
pub(crate) fn without_ignored<'a>(pattern: &str, uri: &'a str) -> &'a str {
    let ignored = ['?', '#'].into_iter().filter(|delimiter| !pattern.contains(*delimiter));
    let end = ignored.filter_map(|delimiter| uri.find(delimiter)).min().unwrap_or(uri.len());
    &uri[..end]
}
