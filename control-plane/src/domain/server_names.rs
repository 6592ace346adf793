//! The names that virtual servers expose, looked through for what patterns match. They are worked out once for each server,
//! and kept for as long as the catalogue stays as it is, whoever asks: two thousand tokens may. It must not know tokens.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use mcp::uri::{UriTemplate, naming};
use trunkline::registry::v1::{Member, Server};

use super::members::{self, Exposed, Exposure, Target};
use super::{Catalogue, Kind, Steps};
use crate::rights::Rights;

/// Answers that are remembered of one kind of a server.
const MAX_ANSWERS: usize = 10_000;

/// The names of the servers that were asked for so far.
#[derive(Debug, Default)]
pub(super) struct KnownNames(Mutex<BTreeMap<String, Arc<ServerNames>>>);

impl KnownNames {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Arc<ServerNames>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Clone for KnownNames {
    fn clone(&self) -> Self {
        Self(Mutex::new(self.lock().clone()))
    }
}

/// What a server exposes, by name.
#[derive(Debug)]
pub struct ServerNames(Vec<(Kind, Names)>);

/// The names of one kind.
#[derive(Debug, Default)]
struct Names {
    /// Exposed names, or URIs and URI templates, in order.
    sorted: Vec<String>,
    /// The templates, whose URIs a pattern may match.
    templates: Vec<UriTemplate<'static>>,
    /// The ids of the upstreams behind it of which nothing is known.
    empty: BTreeSet<String>,
    /// The bytes of the names, and one more for each.
    bytes: usize,
    /// What was found for patterns, which many tokens share.
    answers: Mutex<HashMap<String, bool>>,
}

impl ServerNames {
    /// Tells whether something of the kind has a name, or a template a URI, that the pattern matches. `None`: that takes more steps
    /// than are left.
    pub fn matches(&self, kind: Kind, pattern: &str, steps: &mut Steps) -> Option<bool> {
        self.of(kind).map_or(Some(false), |names| names.matches(pattern, steps))
    }

    /// The ids of the upstreams behind it, as far as it exposes this kind, that have no entries at all.
    pub fn empty_upstreams(&self, kind: Kind) -> impl Iterator<Item = &str> {
        self.of(kind).into_iter().flat_map(|names| names.empty.iter().map(String::as_str))
    }

    fn of(&self, kind: Kind) -> Option<&Names> {
        self.0.iter().find(|(known, _)| *known == kind).map(|(_, names)| names)
    }

    fn read(server: &Server, catalogue: &Catalogue, steps: &mut Steps) -> Self {
        let exposure = members::evaluate(server, catalogue);
        // Where it takes more than are left it is kept for the next who asks.
        let _is_enough = steps.take(exposure.steps + exposure.entries.len());
        let lists = members::lists(server).into_iter();
        Self(lists.map(|(kind, list)| (kind, Names::read(kind, list, &exposure, catalogue))).collect())
    }
}

impl Names {
    fn read(kind: Kind, list: &[Member], exposure: &Exposure<'_>, catalogue: &Catalogue) -> Self {
        let mut names = Self { empty: empty(list, catalogue), ..Self::default() };
        for exposed in exposure.of(kind) {
            names.take(exposed, exposed.exposed_name.clone());
            let former = naming::former(&exposed.uri_prefix, &exposed.entry.own);
            former.into_iter().for_each(|former| names.take(exposed, former));
        }
        names.sorted.sort_unstable();
        names
    }

    fn take(&mut self, exposed: &Exposed<'_>, name: String) {
        if exposed.entry.template {
            self.templates.push(UriTemplate::new(&name).into_owned());
        }
        self.bytes += name.len() + 1;
        self.sorted.push(name);
    }

    fn matches(&self, pattern: &str, steps: &mut Steps) -> Option<bool> {
        if !glob::is_pattern(pattern) && self.templates.is_empty() {
            return steps.take(pattern.len()).then(|| self.has(pattern));
        }
        if let Some(answer) = self.answers().get(pattern) {
            return steps.take(pattern.len()).then_some(*answer);
        }
        if !steps.take(pattern.len() + glob::steps(pattern, 0) * self.bytes) {
            return None;
        }
        let found = self.has(pattern) || self.templates.iter().any(|template| may_match(pattern, template));
        let mut answers = self.answers();
        if answers.len() < MAX_ANSWERS {
            answers.insert(pattern.to_owned(), found);
        }
        Some(found)
    }

    fn answers(&self) -> MutexGuard<'_, HashMap<String, bool>> {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn has(&self, pattern: &str) -> bool {
        let Some((head, _)) = pattern.split_once('*') else {
            return self.sorted.binary_search_by(|name| name.as_str().cmp(pattern)).is_ok();
        };
        let start = self.sorted.partition_point(|name| name.as_str() < head);
        let mut in_reach = self.sorted[start..].iter().take_while(|name| name.starts_with(head));
        in_reach.any(|name| glob::matches(pattern, name))
    }
}

/// Tells whether a pattern may match a URI of a template, as edges do.
fn may_match(pattern: &str, template: &UriTemplate<'_>) -> bool {
    match (pattern.split_once('*'), pattern.rsplit_once('*')) {
        (Some((start, _)), Some((_, end))) => template.may_produce(start, end),
        _ => template.matches(pattern),
    }
}

/// The upstreams that members look at, and that have no entries of any kind.
fn empty(list: &[Member], catalogue: &Catalogue) -> BTreeSet<String> {
    let targets: BTreeSet<&str> = list
        .iter()
        .filter_map(|member| Target::parse(&member.r#match))
        .map(|target| target.upstream)
        .collect();
    let upstreams = targets.into_iter().flat_map(|target| catalogue.upstreams(target));
    upstreams.filter(|upstream| upstream.is_empty()).map(|upstream| upstream.id.clone()).collect()
}

impl Catalogue {
    /// The names that servers expose: of each one that is named here and exists for the viewer, and with `*` of every such one.
    /// Where no step is left, those that were found before.
    pub fn names_of(&self, servers: &[String], viewer: &Rights, steps: &mut Steps) -> Vec<Arc<ServerNames>> {
        let exists = |server: &&str| viewer.sees_all() || self.has_server(server, viewer);
        let mut found = Vec::new();
        let mut add = |server: &str| {
            if steps.take(1) {
                found.extend(self.names_of_one(server, steps));
            }
        };
        match servers.iter().any(|server| server == "*") {
            true => self.servers().filter(exists).for_each(&mut add),
            false => servers.iter().map(String::as_str).filter(exists).for_each(&mut add),
        }
        found
    }

    fn names_of_one(&self, server: &str, steps: &mut Steps) -> Option<Arc<ServerNames>> {
        if let Some(names) = self.known_names().lock().get(server) {
            return Some(names.clone());
        }
        // Nobody else waits meanwhile: at worst, two of them do the same.
        let names = Arc::new(ServerNames::read(self.server(server)?, self, steps));
        self.known_names().lock().insert(server.to_owned(), names.clone());
        Some(names)
    }
}

#[cfg(test)]
mod tests {
    use trunkline::registry::v1::{Resource, Tool, Upstream};

    use super::*;
    use crate::domain::names;

    fn server(tools: &[(&str, &str)], resources: &[&str]) -> Server {
        let member = |text: &str, alias: &str| Member {
            r#match: text.to_owned(),
            alias: alias.to_owned(),
            ..Member::default()
        };
        Server {
            name: "servers/s".to_owned(),
            tools: tools.iter().map(|(text, alias)| member(text, alias)).collect(),
            resources: resources.iter().map(|text| member(text, "")).collect(),
            ..Server::default()
        }
    }

    fn catalogue(server: &Server) -> Catalogue {
        let mut catalogue = Catalogue::default();
        for id in ["mine", "new"] {
            catalogue.put_upstream(&Upstream { name: names::upstream(id), ..Upstream::default() });
        }
        for own in ["add", "plus", "add_all"] {
            catalogue.put_tool(&Tool { name: names::entry(Kind::Tool, "mine", own), ..Tool::default() });
        }
        for own in ["ui://w/1", "file:///{+path}"] {
            let template = if own.contains('{') { own.to_owned() } else { String::new() };
            let name = names::entry(Kind::Resource, "mine", own);
            catalogue.put_resource(&Resource { name, uri_template: template, ..Resource::default() });
        }
        catalogue.put_server(server);
        catalogue
    }

    fn names(catalogue: &Catalogue) -> Arc<ServerNames> {
        catalogue.names_of(&["servers/s".to_owned()], &Rights::administrator(), &mut plenty()).pop().unwrap()
    }

    fn plenty() -> Steps {
        Steps::new(1_000_000)
    }

    #[test]
    fn patterns_match_what_clients_see() {
        let server = server(&[("mine/plus", "total"), ("mine/*", "")], &["mine/*"]);
        let catalogue = catalogue(&server);
        let names = names(&catalogue);
        for (pattern, expected) in [
            ("total", true),
            ("mine_add", true),
            ("mine_add*", true),
            ("*_all", true),
            ("m*d*l", true),
            ("plus", false),
            ("mine_plus", false),
            ("mine_a", false),
            ("mine_adds*", false),
            ("*_none", false),
        ] {
            for time in ["first", "second"] {
                let found = names.matches(Kind::Tool, pattern, &mut plenty());
                assert_eq!(found, Some(expected), "{pattern}, the {time} time");
            }
        }
        for (pattern, expected) in [
            ("ui://mine/w/1", true),
            ("mine+ui://w/*", true),
            ("mine+file:///{+path}", true),
            ("mine+file:///a/b.txt", true),
            ("mine+file:///a/*", true),
            ("file:///a/*", false),
            ("mine+db://*", false),
        ] {
            assert_eq!(names.matches(Kind::Resource, pattern, &mut plenty()), Some(expected), "{pattern}");
        }
        assert_eq!(names.matches(Kind::Prompt, "*", &mut plenty()), Some(false));
        assert_eq!(names.matches(Kind::Tool, "mine_*x*", &mut Steps::new(20)), None, "that takes more");
    }

    #[test]
    fn upstreams_without_entries_are_named_where_a_member_looks_at_them() {
        let catalogue = catalogue(&server(&[("new/x", ""), ("mine/add", "")], &["mine/*"]));
        let empty = |kind| names(&catalogue).empty_upstreams(kind).map(str::to_owned).collect::<Vec<_>>();
        assert_eq!((empty(Kind::Tool), empty(Kind::Resource)), (vec!["new".to_owned()], Vec::new()));
    }

    #[test]
    fn names_are_read_anew_when_the_catalogue_changes_and_not_before() {
        let mut catalogue = catalogue(&server(&[("mine/*", "")], &[]));
        let first = names(&catalogue);
        assert!(Arc::ptr_eq(&first, &names(&catalogue)), "nothing was done twice");
        catalogue.put_server(&server(&[("mine/plus", "total")], &[]));
        assert_eq!(names(&catalogue).matches(Kind::Tool, "total", &mut plenty()), Some(true));
        catalogue.remove(Kind::Tool, &names::entry(Kind::Tool, "mine", "plus"));
        assert_eq!(names(&catalogue).matches(Kind::Tool, "total", &mut plenty()), Some(false));
        catalogue.remove(Kind::Server, "servers/s");
        let all = ["*".to_owned()];
        assert!(catalogue.names_of(&all, &Rights::administrator(), &mut plenty()).is_empty());
    }
}
