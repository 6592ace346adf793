//! Which resources a command is about: `KIND NAME…`, `KIND/NAME…`, `KIND,KIND` or `all`, with names in every spelling
//! that an output has. Pure.

use crate::error::{Error, Result};
use crate::kinds::{KINDS, Kind};
use crate::suggest::did_you_mean;

/// What `all` stands for: the kinds that people make. Catalogues are asked for by their kind.
const ALL: [&str; 5] = ["upstreams", "servers", "tokens", "edges", "join-tokens"];

/// What `get all` lists besides.
const OF_PEOPLE: [&str; 4] = ["teams", "roles", "users", "service-accounts"];

/// How the kinds end in the error of an unknown one.
const OR_ALL: &str = ", or all";

/// All that the words of a command line name, in their order.
#[derive(Debug, Clone, Default)]
pub struct Selection(Vec<Selected>);

/// What they name of one kind.
#[derive(Debug, Clone)]
pub struct Selected {
    pub kind: &'static Kind,
    /// Short or full names, and upstreams for their whole catalogues. Without any, all of the kind are meant.
    pub names: Vec<String>,
}

impl Selection {
    /// Reads the first word of a command line and the words after it.
    pub fn parse(first: &str, more: &[String]) -> Result<Self> {
        let mut selection = Self::default();
        if first.contains('/') {
            for word in std::iter::once(first).chain(more.iter().map(String::as_str)) {
                let (kind, name) = kind_and_name(word)?;
                selection.group(kind).add(name);
            }
            return Ok(selection);
        }
        if first.split(',').any(|word| word == "all") && !more.is_empty() {
            return Err(Error::usage("`all` takes no names; name a kind to get resources by name"));
        }
        for word in first.split(',').filter(|word| !word.is_empty()) {
            for kind in kinds(word)? {
                let group = selection.group(kind);
                more.iter().for_each(|name| group.add(name.clone()));
            }
        }
        if selection.0.is_empty() { Err(unknown(first)) } else { Ok(selection) }
    }

    /// What is named, one element a kind.
    pub fn groups(&self) -> &[Selected] {
        &self.0
    }

    /// Whether it is what `all` stands for.
    pub fn is_all(&self) -> bool {
        let are_whole = self.0.iter().all(|group| group.names.is_empty());
        let kinds = self.0.iter().map(|group| group.kind.name);
        are_whole && kinds.eq(ALL.map(|word| Kind::from_word(word).name))
    }

    /// The same with all that is about people, where it is what `all` stands for; of that what `keeps` says.
    pub fn with_people(mut self, keeps: impl Fn(&Kind) -> bool) -> Self {
        if self.is_all() {
            for word in OF_PEOPLE {
                self.group(Kind::from_word(word));
            }
            self.0.retain(|group| keeps(group.kind));
        }
        self
    }

    /// Whether exactly one resource is named.
    pub fn is_single(&self) -> bool {
        matches!(&*self.0, [Selected { kind, names }] if matches!(&**names, [name] if !is_upstream(kind, name)))
    }

    /// Whether any resource is named, and not only kinds and catalogues.
    pub fn names_resources(&self) -> bool {
        let named = |group: &Selected| group.names.iter().any(|name| !is_upstream(group.kind, name));
        self.0.iter().any(named)
    }

    /// Returns all that is named, by full name.
    pub fn resources(&self) -> Result<Vec<(&'static Kind, String)>> {
        let mut resources = Vec::new();
        for Selected { kind, names } in &self.0 {
            if names.is_empty() {
                return Err(Error::usage(format!("name the {} that are meant", kind.words())));
            }
            for name in names {
                resources.push((*kind, kind.full_name(name)?));
            }
        }
        Ok(resources)
    }

    /// Returns the one resource that is named, by full name.
    pub fn one(&self) -> Result<(&'static Kind, String)> {
        match <[_; 1]>::try_from(self.resources()?) {
            Ok([resource]) => Ok(resource),
            Err(named) => Err(Error::usage(format!("{} resources are named; name one", named.len()))),
        }
    }

    fn group(&mut self, kind: &'static Kind) -> &mut Selected {
        let known = self.0.iter().position(|group| group.kind.name == kind.name);
        let at = known.unwrap_or_else(|| {
            self.0.push(Selected { kind, names: Vec::new() });
            self.0.len() - 1
        });
        &mut self.0[at]
    }
}

impl Selected {
    /// Adds a name, unless it is there in one spelling or another.
    fn add(&mut self, name: String) {
        let full = |name: &str| self.kind.full_name(name).unwrap_or_else(|_| name.to_owned());
        let wanted = full(&name);
        if !self.names.iter().any(|known| full(known) == wanted) {
            self.names.push(name);
        }
    }
}

/// Returns the full name of a resource of this kind, which may be written with its kind, as `-o name` prints it.
pub fn name_of(kind: &Kind, word: &str) -> Result<String> {
    match kind_and_name(word) {
        Ok((same, name)) if same.name == kind.name => kind.full_name(&name).or_else(|_| kind.full_name(word)),
        Ok((other, _)) if !kind.catalogued => Err(Error::usage(format!(
            "{word} is one of the {}, and no {}; name resources of one kind at a time",
            other.words(),
            kind.singular
        ))),
        _ => kind.full_name(word),
    }
}

/// Returns whether a name is that of an upstream, and so stands for its whole catalogue.
pub fn is_upstream(kind: &Kind, name: &str) -> bool {
    kind.catalogued && !name.strip_prefix("upstreams/").unwrap_or(name).contains('/')
}

/// Splits `upstreams/time`, `tool/time/now` or `upstreams/time/tools/now`.
fn kind_and_name(word: &str) -> Result<(&'static Kind, String)> {
    let Some((kind, name)) = word.split_once('/') else {
        return Err(Error::usage(format!(
            "{word:?} has no kind; write KIND/NAME for every resource, or KIND NAME…"
        )));
    };
    let kind = Kind::find(kind).ok_or_else(|| unknown(kind))?;
    if name.is_empty() {
        return Err(Error::usage(format!("{word:?} has no name after its kind")));
    }
    let parts = (kind.name == "Upstream").then(|| name.split_once('/')).flatten();
    let Some((upstream, rest)) = parts else { return Ok((kind, name.to_owned())) };
    let (collection, id) = rest.split_once('/').unwrap_or((rest, ""));
    match Kind::find(collection).filter(|kind| kind.catalogued) {
        Some(kind) if id.is_empty() => Ok((kind, upstream.to_owned())),
        // As full names have it, where a `/` of an id is encoded.
        Some(kind) if !id.contains('/') => {
            Ok((kind, format!("upstreams/{upstream}/{}/{id}", kind.collection())))
        }
        Some(kind) => Ok((kind, format!("{upstream}/{id}"))),
        None => Err(Error::usage(format!(
            "{word:?} is no name; entries of a catalogue are upstreams/UPSTREAM/tools/NAME, or tools/UPSTREAM/NAME"
        ))),
    }
}

fn kinds(word: &str) -> Result<Vec<&'static Kind>> {
    if word == "all" {
        return Ok(ALL.map(Kind::from_word).to_vec());
    }
    Kind::find(word).map(|kind| vec![kind]).ok_or_else(|| unknown(word))
}

/// Where to find what is no kind of its own.
fn elsewhere(word: &str) -> Option<&'static str> {
    match word.to_ascii_lowercase().as_str() {
        "approval" | "approvals" => Some("see `mcpctl approvals list`, and `mcpctl approvals show ID`"),
        "rule" | "rules" => Some(
            "rules stand in servers and teams: see `mcpctl describe server NAME` and `mcpctl describe team NAME`",
        ),
        "audit" | "records" => Some("see `mcpctl audit`"),
        _ => None,
    }
}

fn unknown(word: &str) -> Error {
    let words = KINDS.iter().flat_map(|kind| [kind.singular, kind.plural]);
    let hint = elsewhere(word).map_or_else(|| did_you_mean(word, words), |hint| format!("; {hint}"));
    let known = KINDS.iter().map(|kind| kind.plural).collect::<Vec<_>>().join(", ");
    Error::usage(format!("unknown kind {word:?}; expected {known}{OR_ALL}{hint}"))
}

/// Names what `get` lists besides in the error of an unknown kind.
pub fn with_lists(error: Error, lists: &[&str]) -> Error {
    match error.to_string().split_once(OR_ALL) {
        Some((known, rest)) => Error::usage(format!("{known}, {}{OR_ALL}{rest}", lists.join(", "))),
        None => error,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::kinds::short_name;

    fn parse(line: &str) -> Result<Selection> {
        let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
        Selection::parse(&words[0], &words[1..])
    }

    fn named(line: &str) -> Vec<String> {
        let resources = parse(line).and_then(|selection| selection.resources());
        resources
            .unwrap_or_else(|error| panic!("{line}: {error}"))
            .into_iter()
            .map(|(_, name)| name)
            .collect()
    }

    #[test]
    fn every_spelling_names_the_same() {
        for line in ["upstream time", "up upstreams/time", "upstreams/time", "Upstream/time", "up/time"] {
            assert_eq!(named(line), ["upstreams/time"], "{line}");
            let selection = parse(line).unwrap();
            assert!(selection.is_single() && selection.names_resources(), "{line}");
        }
        for line in
            ["tool time/now", "tools/time/now", "upstreams/time/tools/now", "tools upstreams/time/tools/now"]
        {
            assert_eq!(named(line), ["upstreams/time/tools/now"], "{line}");
        }
        assert_eq!(named("joinTokens/1a join-token/1a jointokens/2b"), ["joinTokens/1a", "joinTokens/2b"]);
        assert_eq!(named("res/files/file:///a"), ["upstreams/files/resources/file%3A%2F%2F%2Fa"]);
        assert_eq!(named("upstreams/a servers/b upstreams/c"), ["upstreams/a", "upstreams/c", "servers/b"]);
        assert_eq!(named("upstreams,servers dev"), ["upstreams/dev", "servers/dev"]);
    }

    #[test]
    fn a_name_may_have_its_kind_before_it() {
        let named =
            |kind: &str, word: &str| name_of(Kind::from_word(kind), word).map_err(|error| error.to_string());
        for (kind, word, expected) in [
            ("upstream", "time", "upstreams/time"),
            ("upstream", "upstreams/time", "upstreams/time"),
            ("upstream", "up/time", "upstreams/time"),
            ("tool", "time/now", "upstreams/time/tools/now"),
            ("tool", "tool/time/now", "upstreams/time/tools/now"),
            ("tool", "upstreams/time/tools/now", "upstreams/time/tools/now"),
            ("tool", "up/now", "upstreams/up/tools/now"),
            ("tool", "tools/now", "upstreams/tools/tools/now"),
            ("join-token", "joinTokens/1a", "joinTokens/1a"),
        ] {
            assert_eq!(named(kind, word), Ok(expected.to_owned()), "{kind} {word}");
        }
        assert_eq!(
            named("upstream", "servers/dev"),
            Err("servers/dev is one of the servers, and no upstream; name resources of one kind at a time"
                .to_owned())
        );
    }

    #[test]
    fn kinds_and_catalogues_are_no_names() {
        let groups = |line: &str| -> Vec<(&str, Vec<String>)> {
            parse(line)
                .unwrap()
                .groups()
                .iter()
                .map(|group| (group.kind.plural, group.names.clone()))
                .collect()
        };
        assert_eq!(groups("upstreams,srv"), [("upstreams", vec![]), ("servers", vec![])]);
        assert_eq!(groups("all").len(), ALL.len());
        let is_all = |line: &str| parse(line).unwrap().is_all();
        assert!(is_all("all") && !is_all("upstreams,edges") && !is_all("upstreams"));
        assert_eq!(groups("upstreams/time/tools"), [("tools", vec!["time".to_owned()])]);
        for line in ["tools time", "tools/time", "upstreams", "all"] {
            let selection = parse(line).unwrap();
            assert!(!selection.is_single() && !selection.names_resources(), "{line}");
        }
        assert!(parse("upstreams").unwrap().resources().is_err());
    }

    #[test]
    fn what_is_meant_is_said() {
        let said = |line: &str| parse(line).map(drop).unwrap_err().to_string();
        assert_eq!(
            said("upsteams"),
            "unknown kind \"upsteams\"; expected upstreams, servers, tools, resources, prompts, tokens, teams, roles, edges, \
             join-tokens, users, service-accounts, or all; did you mean upstreams?"
        );
        assert!(
            said("approvals")
                .ends_with("or all; see `mcpctl approvals list`, and `mcpctl approvals show ID`")
        );
        assert!(
            said("rules").contains("; rules stand in servers and teams: see `mcpctl describe server NAME`")
        );
        let listed = with_lists(parse("bindings").unwrap_err(), &["sets", "members"]).to_string();
        assert!(listed.ends_with("service-accounts, sets, members, or all"), "{listed}");
        assert_eq!(said("all x"), "`all` takes no names; name a kind to get resources by name");
        assert_eq!(said("upstreams/"), "\"upstreams/\" has no name after its kind");
        assert_eq!(
            said("upstreams/a time"),
            "\"time\" has no kind; write KIND/NAME for every resource, or KIND NAME…"
        );
        assert!(said("upstreams/a/b").contains("is no name"));
        assert!(said(",").starts_with("unknown kind"));
        assert_eq!(
            parse("upstream a b").unwrap().one().unwrap_err().to_string(),
            "2 resources are named; name one"
        );
    }

    proptest! {
        #[test]
        fn names_that_are_printed_are_read(
            upstream in "[a-z][a-z0-9-]{0,8}",
            id in "\\PC{1,12}",
            which in 0..KINDS.len(),
        ) {
            let kind = &KINDS[which];
            let own = if kind.catalogued { format!("{upstream}/{id}") } else { upstream };
            let full = kind.full_name(&own).unwrap();
            let short = short_name(&full);
            for (first, more) in [
                (full.clone(), vec![]),
                (format!("{}/{short}", kind.singular), vec![]),
                (kind.plural.to_owned(), vec![full.clone()]),
                (kind.plural.to_owned(), vec![short]),
            ] {
                let (_, name) = Selection::parse(&first, &more).unwrap().one().unwrap();
                prop_assert_eq!(&name, &full, "{} {:?}", first, more);
            }
        }
    }
}
