//! Virtual servers with their entries resolved; entries that are equal exist once.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use bytes::Bytes;
use mcp::entry::List;
use mcp::revision::Era;
use mcp::uri::UriTemplate;
use trunkline::edge::v1 as wire;
use trunkline::edge::v1::StreamType;

use super::super::{Entry, Fingerprint, Server, ServerRules, Table, ToolFacts, Upstream, UriIndex};
use super::accepted::{Accepted, AcceptedResources};
use super::mentions::{ExposedUris, may_mention};
use super::unusable::Unusable;
use super::upstreams::UpstreamCache;
use super::{ByName, Changed, MissingReference, decode, definition, rules, upstream_of};

/// The built servers by name, and every entry by the fingerprint of what it was built from.
#[derive(Debug, Default)]
pub(super) struct ServerCache {
    built: ByName<Built>,
    entries: HashMap<u128, Arc<Entry>>,
}

#[derive(Debug)]
struct Built {
    server: Arc<Server>,
    /// Names of all upstreams that its entries mention, those that are not here included.
    mentions: HashSet<Box<str>>,
    missing: Vec<MissingReference>,
}

/// Missing references that are reported for each server.
const MAX_MISSING: usize = 10;

impl ServerCache {
    /// Builds what changed. Returns whether anything did.
    pub(super) fn update(
        &mut self,
        accepted: &AcceptedResources,
        changed: &Changed,
        upstreams: &UpstreamCache,
        unusable: &mut Unusable,
    ) -> bool {
        let gone = changed.servers.iter().filter(|name| accepted.get(StreamType::Server, name).is_none());
        gone.for_each(|name| unusable.note(StreamType::Server, name, Vec::new()));
        let before = self.built.len();
        self.built.retain(|name, built| {
            !changed.servers.contains(name) && built.mentions.is_disjoint(&changed.upstreams)
        });
        let mut changed_any = self.built.len() != before;
        for (name, resource) in accepted.of(StreamType::Server) {
            if !self.built.contains_key(name) {
                let built = Assembly::new(accepted, upstreams, &mut self.entries).server(&decode(resource));
                let problems = rules::problems(built.server.rules.as_deref());
                unusable.note(StreamType::Server, name, problems);
                self.built.insert(name.into(), built);
                changed_any = true;
            }
        }
        if changed_any {
            self.entries.retain(|_, entry| Arc::strong_count(entry) > 1);
        }
        changed_any
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Arc<Server>> {
        self.built.values().map(|built| &built.server)
    }

    pub(super) fn missing(&self) -> impl Iterator<Item = &MissingReference> {
        self.built.values().flat_map(|built| &built.missing)
    }
}

/// One server while it is being built.
struct Assembly<'a> {
    accepted: &'a AcceptedResources,
    upstreams: &'a UpstreamCache,
    entries: &'a mut HashMap<u128, Arc<Entry>>,
    used: BTreeMap<Box<str>, Arc<Upstream>>,
    mentions: HashSet<Box<str>>,
    missing: Vec<MissingReference>,
    uris: ExposedUris,
}

impl<'a> Assembly<'a> {
    fn new(
        accepted: &'a AcceptedResources,
        upstreams: &'a UpstreamCache,
        entries: &'a mut HashMap<u128, Arc<Entry>>,
    ) -> Self {
        let (used, mentions, missing) = (BTreeMap::new(), HashSet::new(), Vec::new());
        Assembly { accepted, upstreams, entries, used, mentions, missing, uris: ExposedUris::default() }
    }

    fn server(mut self, message: &wire::Server) -> Built {
        let (rules, exposed) = (rules::of(message), rules::Exposed::of(message));
        let resources = self.table(&message.name, Part::Resource, exposed.resources);
        let resource_templates = self.table(&message.name, Part::Template, exposed.resource_templates);
        // What tools and prompts mention.
        self.uris = ExposedUris::new(&resources, &resource_templates);
        let tools = self.table(&message.name, Part::Tool, exposed.tools);
        let prompts = self.table(&message.name, Part::Prompt, exposed.prompts);
        let upstreams: Vec<Arc<Upstream>> = self.used.into_values().collect();
        let ruled_by = rules.as_ref().map(ServerRules::fingerprint);
        let mut uris = resources.entries.iter().chain(&resource_templates.entries);
        let server = Server {
            renames_uris: uris.any(|entry| entry.exposed != entry.original),
            name: message.name.as_str().into(),
            id: message.name.trim_start_matches("servers/").into(),
            uid: message.uid.as_str().into(),
            owner_uid: message.owner_uid.as_str().into(),
            team_gid: message.team_gid.as_str().into(),
            public: message.public,
            title: message.title.as_str().into(),
            instructions: message.instructions.as_str().into(),
            tools_generation: generation(ruled_by, &[&tools], &upstreams, |u| u.generations().tools),
            resources_generation: generation(ruled_by, &[&resources, &resource_templates], &upstreams, |u| {
                u.generations().resources
            }),
            prompts_generation: generation(ruled_by, &[&prompts], &upstreams, |u| u.generations().prompts),
            rules: rules.map(Box::new),
            tools,
            uris: UriIndex::new(&resources, &resource_templates),
            resources,
            resource_templates,
            prompts,
            upstreams,
        };
        Built { server: Arc::new(server), mentions: self.mentions, missing: self.missing }
    }

    fn table(&mut self, server: &str, part: Part, entries: &[wire::Entry]) -> Table {
        let mut resolved = Vec::with_capacity(entries.len());
        for entry in entries {
            match self.entry(part, entry) {
                Some(entry) => resolved.push(entry),
                None if self.missing.len() < MAX_MISSING => {
                    self.missing.push(MissingReference {
                        from: server.into(),
                        to: Some(entry.target.as_str().into()),
                    });
                }
                None => {}
            }
        }
        Table::new(resolved)
    }

    fn entry(&mut self, part: Part, message: &wire::Entry) -> Option<Arc<Entry>> {
        let upstream_name = upstream_of(&message.target);
        if !self.mentions.contains(upstream_name) {
            self.mentions.insert(upstream_name.into());
        }
        let upstream = self.upstreams.get(upstream_name)?;
        let target = self.accepted.get(part.kind(), &message.target)?;
        let mentions = matches!(part, Part::Tool | Part::Prompt)
            && (may_mention(&target.body) || may_mention(message.overrides_json.as_bytes()));
        let uris = if mentions { self.uris.fingerprint(upstream) } else { 0 };
        let key = entry_key(part, message, target, upstream, uris);
        let entry = match self.entries.get(&key) {
            Some(entry) => Arc::clone(entry),
            None => {
                let uris = Some(&self.uris).filter(|_| uris != 0);
                let entry = Arc::new(resolve(part, message, target, upstream, uris)?);
                self.entries.insert(key, Arc::clone(&entry));
                entry
            }
        };
        if !self.used.contains_key(upstream_name) {
            self.used.insert(upstream_name.into(), Arc::clone(upstream));
        }
        Some(entry)
    }
}

/// The four kinds of entry.
#[derive(Debug, Clone, Copy)]
enum Part {
    Tool,
    Resource,
    Template,
    Prompt,
}

impl Part {
    fn kind(self) -> StreamType {
        match self {
            Part::Tool => StreamType::Tool,
            Part::Resource | Part::Template => StreamType::Resource,
            Part::Prompt => StreamType::Prompt,
        }
    }

    /// The list that it is in.
    fn list(self) -> List {
        match self {
            Part::Tool => List::Tools,
            Part::Resource => List::Resources,
            Part::Template => List::Templates,
            Part::Prompt => List::Prompts,
        }
    }

    /// The member of a definition that names it.
    fn key(self) -> &'static str {
        match self {
            Part::Tool | Part::Prompt => "name",
            Part::Resource => "uri",
            Part::Template => "uriTemplate",
        }
    }

    /// Reads the upstream's own name for it, and the definition. Returns `None` where a template is meant and a
    /// resource found, or the other way round.
    fn read(self, accepted: &Accepted) -> Option<(String, String)> {
        let (original, definition) = match self {
            Part::Tool => {
                let tool: wire::Tool = decode(accepted);
                (tool.tool_name, tool.definition_json)
            }
            Part::Resource => {
                let resource: wire::Resource = decode(accepted);
                (resource.uri, resource.definition_json)
            }
            Part::Template => {
                let resource: wire::Resource = decode(accepted);
                (resource.uri_template, resource.definition_json)
            }
            Part::Prompt => {
                let prompt: wire::Prompt = decode(accepted);
                (prompt.prompt_name, prompt.definition_json)
            }
        };
        (!original.is_empty()).then_some((original, definition))
    }
}

/// Hashes all that an entry is built from. A kept entry keeps its upstream alive, so the upstream's address stands for
/// its content, as `uris` does for the names of its URIs.
fn entry_key(
    part: Part,
    message: &wire::Entry,
    target: &Accepted,
    upstream: &Arc<Upstream>,
    uris: u128,
) -> u128 {
    Fingerprint::new()
        .part(&uris.to_le_bytes())
        .number(part as u64)
        .number(Arc::as_ptr(upstream) as u64)
        .part(target.version.as_bytes())
        .part(message.target.as_bytes())
        .part(message.exposed_name.as_bytes())
        .part(message.overrides_json.as_bytes())
        .part(message.uri_prefix.as_bytes())
        .finish()
}

fn resolve(
    part: Part,
    message: &wire::Entry,
    target: &Accepted,
    upstream: &Arc<Upstream>,
    uris: Option<&ExposedUris>,
) -> Option<Entry> {
    let (original, definition) = part.read(target)?;
    let exposed = message.exposed_name.as_str();
    let overridden = matches!(part, Part::Tool) && !message.overrides_json.is_empty();
    let own_hints = overridden.then(|| definition::hints(&definition));
    let unchanged = exposed == original && message.overrides_json.is_empty();
    let definition = match unchanged {
        true => Bytes::from(definition),
        false => definition::rewrite(&definition, part.key(), exposed, &message.overrides_json).ok()?,
    };
    let definition = match uris {
        Some(uris) => uris.translate(upstream, definition),
        None => definition,
    };
    let tool = match (part, std::str::from_utf8(&definition)) {
        (Part::Tool, Ok(text)) => {
            let facts = definition::tool_facts(text, upstream.makes_tasks());
            ToolFacts { own_hints: own_hints.unwrap_or(facts.hints), ..facts }
        }
        _ => ToolFacts::default(),
    };
    let [legacy, modern] =
        [Era::Legacy, Era::Modern].map(|era| definition::fitted(part.list(), era, definition.clone()));
    let withheld = [legacy.is_none(), modern.is_none()];
    let (legacy, modern) = (legacy.unwrap_or_default(), modern.unwrap_or_default());
    let is_template = matches!(part, Part::Template);
    Some(Entry {
        template: is_template.then(|| Box::new(UriTemplate::new(exposed).into_owned())),
        exposed: exposed.into(),
        original: original.into(),
        target: message.target.as_str().into(),
        upstream: Arc::clone(upstream),
        uri_prefix: message.uri_prefix.as_str().into(),
        fingerprint: Fingerprint::new()
            .part(&modern)
            .part(&legacy)
            .number(upstream.side_for(Era::Legacy).map_or(0, |era| era as u64 + 1))
            .number(upstream.side_for(Era::Modern).map_or(0, |era| era as u64 + 1))
            .finish(),
        legacy_definition: (legacy != modern).then_some(legacy),
        definition: modern,
        withheld,
        tool,
    })
}

/// Hashes what clients see of these tables under rules of this hash, and the changes that the upstreams announced of them.
fn generation(
    ruled_by: Option<u128>,
    tables: &[&Table],
    upstreams: &[Arc<Upstream>],
    announced: fn(&Upstream) -> i64,
) -> u64 {
    let entries = tables.iter().flat_map(|table| &table.entries);
    let ruled = ruled_by.iter().fold(Fingerprint::new(), |f, rules| f.part(&rules.to_le_bytes()));
    let seen = entries.fold(ruled, |f, entry| f.part(&entry.fingerprint.to_le_bytes()));
    let all = upstreams.iter().fold(seen, |f, upstream| {
        f.part(upstream.name.as_bytes()).number(announced(upstream).cast_unsigned())
    });
    all.finish_short()
}
