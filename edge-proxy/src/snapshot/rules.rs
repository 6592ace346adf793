//! The rules of a server: what they come to before there is a request, for each entry, and what they come to for one.
//!
//! It must not know requests of clients, nor how rules are read.

use std::sync::OnceLock;

use access::rule::{Caller, Effect, Fact, Facts, Needs, OwnFacts, Rule, Rules, Target, Verdict};
use mcp::method::Method;
use mcp::uri::{CanonicalUri, resolves_elsewhere};

use super::{Entry, Fingerprint, List, Positions, Server};

/// The rules of a server that has any.
#[derive(Debug)]
pub struct ServerRules {
    rules: Rules,
    /// Those that refuse whatever it is that is called.
    sweeping: Rules,
    needs: Needs,
    /// A hash of all of them.
    fingerprint: u128,
    /// The patterns of all of them.
    patterns: usize,
    /// True if what they come to for arguments depends on the address or the time as well.
    mix_facts: bool,
    /// True if what they take away from results depends on arguments.
    masks_by_arguments: bool,
    /// True if some are of a team, and so look at what upstreams say themselves.
    look_at_own: bool,
    /// What is known beforehand, where that is the same for every caller.
    for_everybody: OnceLock<KnownBefore>,
}

/// What rules come to before there is a request.
#[derive(Debug)]
pub(super) struct KnownBefore {
    /// The entries that they do not refuse whatever the request is like, by list.
    pub(super) open: [Positions; 4],
    /// Those of them of which it depends on the request, or with whose use something goes.
    pub(super) conditional: [Positions; 4],
    /// The lists all of whose entries they refuse, those to come included.
    pub(super) emptied: [bool; 4],
}

/// What a request says of an entry, beside who sends it.
#[derive(Debug, Clone, Copy)]
pub struct RuledUse<'a> {
    /// Who calls.
    pub caller: &'a Caller,
    /// The method.
    pub method: Method,
    /// The list that the entry is in.
    pub list: List,
    /// The entry.
    pub entry: &'a Entry,
    /// Of a template: the URI that it produces. `Absent`: the template itself is used.
    pub produced: Fact<&'a CanonicalUri>,
    /// The name or URI that the upstream knows it by; where one is produced, that.
    pub original: &'a str,
    /// The URI as it was before `ui://` was kept.
    pub former: Option<&'a CanonicalUri>,
}

/// The facts of a request that rules look at.
#[derive(Debug, Clone, Copy, Default)]
pub struct RuledFacts<'a> {
    /// The raw arguments.
    pub arguments: Fact<&'a [u8]>,
    /// The address of the client.
    pub source: Fact<std::net::IpAddr>,
    /// Seconds since the Unix epoch.
    pub now: Option<u64>,
}

impl ServerRules {
    /// Makes rules ready. `None` if there are none.
    pub fn new(rules: &[Rule]) -> Option<ServerRules> {
        if rules.is_empty() {
            return None;
        }
        let is_sweeping = |rule: &&Rule| {
            let alone = Rules::compile(std::slice::from_ref(*rule));
            let refuses = may_refuse(rule) || alone.unusable().next().is_some();
            let needs = alone.needs();
            refuses && rule.tools.is_empty() && !needs.tool && !needs.request()
        };
        let sweeping: Vec<Rule> = rules.iter().filter(is_sweeping).cloned().collect();
        let compiled = Rules::compile(rules);
        Some(ServerRules {
            needs: compiled.needs(),
            sweeping: Rules::compile(&sweeping),
            fingerprint: fingerprint(rules),
            patterns: rules.iter().map(|rule| rule.tools.len() + 1).sum(),
            mix_facts: mix_facts(rules),
            masks_by_arguments: rules.iter().any(|rule| rule.effect == Effect::Mask && needs(rule).arguments),
            look_at_own: rules.iter().any(Rule::is_of_team),
            rules: compiled,
            for_everybody: OnceLock::new(),
        })
    }

    /// Those that cannot be read, and so refuse what they cover: which, and why.
    pub fn unusable(&self) -> impl Iterator<Item = (&Rule, &str)> {
        self.rules.unusable()
    }

    /// Whether they look at who calls.
    pub fn need_caller(&self) -> bool {
        self.needs.caller
    }

    /// Whether they look at arguments.
    pub fn need_arguments(&self) -> bool {
        self.needs.arguments
    }

    /// Whether what they come to for arguments may depend on the address or the time as well.
    pub fn mix_facts(&self) -> bool {
        self.mix_facts
    }

    /// Whether what they take away from results depends on arguments.
    pub fn mask_by_arguments(&self) -> bool {
        self.masks_by_arguments
    }

    /// Returns how many bytes they compare at most to tell whether they cover a URI.
    pub fn glob_steps(&self, uri: &str) -> usize {
        // With what stands before a query, and under a former name and that at the upstream.
        self.patterns.saturating_mul(6).saturating_mul(uri.len() + 1)
    }

    /// Returns how many steps it takes at most to tell what they come to for entries whose names take so many to be compared with a
    /// pattern.
    pub(super) fn steps(&self, of_names: usize) -> usize {
        self.patterns.saturating_mul(6).saturating_mul(of_names)
    }

    /// Whether what they come to may change with time alone.
    pub fn need_time(&self) -> bool {
        self.needs.now
    }

    /// A hash of all of them, equal on every edge.
    pub(super) fn fingerprint(&self) -> u128 {
        self.fingerprint
    }

    /// What they come to for a use of an entry of this server, as far as `facts` tell.
    pub fn decide(&self, server: &Server, used: RuledUse<'_>, facts: RuledFacts<'_>) -> Verdict<'_> {
        let former = used.entry.former();
        let name = match used.produced {
            Fact::Later => Fact::Later,
            Fact::Absent => Fact::Absent,
            Fact::Is(uri) => Fact::Is(uri.as_str()),
        };
        let by_name = self.decide_as(server, used, facts, (former.as_deref(), name));
        let (Some(uri), false) = (used.former, matches!(by_name, Verdict::Denied(_))) else { return by_name };
        match self.decide_as(server, used, facts, (former.as_deref(), Fact::Is(uri.as_str()))) {
            Verdict::Allowed(_) => by_name,
            by_former => by_former,
        }
    }

    fn decide_as(
        &self,
        server: &Server,
        used: RuledUse<'_>,
        facts: RuledFacts<'_>,
        (former, produced): (Option<&str>, Fact<&str>),
    ) -> Verdict<'_> {
        let target = target(used, former, produced);
        self.rules.decide(&all_facts(server, used.caller, used.method, target, facts))
    }

    /// What they come to before there is a request of `caller`.
    pub(super) fn known_before(&self, server: &Server, caller: &Caller) -> KnownBefore {
        let found = List::ALL.map(|list| self.known_of(server, caller, list));
        let [tools, resources, templates, prompts] = found;
        let emptied = List::ALL.map(|list| self.is_emptied(server, caller, list));
        KnownBefore {
            open: [tools.0, resources.0, templates.0, prompts.0],
            conditional: [tools.1, resources.1, templates.1, prompts.1],
            emptied,
        }
    }

    /// What they come to before there is a request, of anybody. To be asked where they do not look at who calls.
    pub(super) fn known_for_everybody(&self, server: &Server) -> &KnownBefore {
        self.for_everybody.get_or_init(|| self.known_before(server, &Caller::default()))
    }

    /// The entries of a list that they do not refuse, and those of which it depends.
    fn known_of(&self, server: &Server, caller: &Caller, list: List) -> (Positions, Positions) {
        let entries = &server.table(list).entries;
        let (mut open, mut conditional) = (Positions::none(entries.len()), Positions::none(entries.len()));
        let method = used_by(list);
        let facts = RuledFacts { arguments: later_arguments(method), ..RuledFacts::default() };
        for (position, entry) in entries.iter().enumerate() {
            let original = &*entry.original;
            let used =
                RuledUse { caller, method, list, entry, produced: Fact::Later, original, former: None };
            match self.decide(server, used, facts) {
                Verdict::Denied(_) => continue,
                Verdict::Depends(_) => conditional.insert(position),
                // A call must be looked at for what goes with it.
                Verdict::Allowed(with) if !with.is_empty() => conditional.insert(position),
                Verdict::Allowed(_) => {}
            }
            open.insert(position);
        }
        (open, conditional)
    }

    fn is_emptied(&self, server: &Server, caller: &Caller, list: List) -> bool {
        let facts = all_facts(server, caller, used_by(list), Target::default(), RuledFacts::default());
        matches!(self.sweeping.decide(&facts), Verdict::Denied(_))
    }

    /// A hash of what an arguments' decision about an entry was made by, equal on every edge; to know later whether it would be made
    /// by the same.
    pub fn judged_by(&self, used: RuledUse<'_>) -> u128 {
        let mut hash = Fingerprint::new().part(&self.fingerprint.to_le_bytes());
        if self.needs.caller {
            let Caller { name, kind, teams } = used.caller;
            hash = [name, kind].into_iter().chain(teams).fold(hash, |hash, text| hash.part(text.as_bytes()));
        }
        if self.needs.tool {
            let (read_only, destructive) = hints(used.list, used.entry);
            let hints = u64::from(read_only) << 1 | u64::from(destructive);
            hash = hash.part(used.entry.upstream.id.as_bytes()).number(hints);
        }
        if self.look_at_own {
            let (read_only, destructive) = own_hints(used.list, used.entry);
            let hints = u64::from(read_only) << 1 | u64::from(destructive);
            hash = [&*used.entry.upstream.id, used.original]
                .into_iter()
                .fold(hash, |hash, text| hash.part(text.as_bytes()))
                .number(hints);
        }
        hash.finish()
    }
}

/// The method that uses entries of a list. What refuses it hides them.
pub fn used_by(list: List) -> Method {
    match list {
        List::Tools => Method::ToolsCall,
        List::Resources | List::ResourceTemplates => Method::ResourcesRead,
        List::Prompts => Method::PromptsGet,
    }
}

/// The arguments of a request by `method` that is to come: there are none where a method has none.
pub fn later_arguments(method: Method) -> Fact<&'static [u8]> {
    match method {
        Method::ToolsCall | Method::PromptsGet => Fact::Later,
        _ => Fact::Absent,
    }
}

fn needs(rule: &Rule) -> Needs {
    Rules::compile(std::slice::from_ref(rule)).needs()
}

/// Whether a rule that can be read may refuse a request for being true.
fn may_refuse(rule: &Rule) -> bool {
    matches!(rule.effect, Effect::Deny | Effect::Unknown)
}

/// Of rules that refuse each decides for itself; of those that allow, one that is true makes up for another that is not.
fn mix_facts(rules: &[Rule]) -> bool {
    let reads = |needs: Needs| (needs.arguments, needs.source || needs.now);
    let allowing = rules.iter().filter(|rule| rule.effect == Effect::Allow);
    let allowing = allowing.map(needs).fold(Needs::default(), Needs::or);
    let refusing = rules.iter().filter(|rule| may_refuse(rule)).map(needs);
    refusing.chain([allowing]).any(|needs| reads(needs) == (true, true))
}

fn fingerprint(rules: &[Rule]) -> u128 {
    let texts = |hash: Fingerprint, texts: &[String]| {
        texts.iter().fold(hash.number(texts.len() as u64), |hash, text| hash.part(text.as_bytes()))
    };
    let add = |hash: Fingerprint, rule: &Rule| {
        let Rule { id: _, effect, tools, methods, when, reason: _, fields } = rule;
        let hash = texts(texts(hash.number(*effect as u64), tools), methods);
        let hash = hash.part(when.as_bytes());
        // Handles of calls that began under rules without any are good still.
        if fields.is_empty() { hash } else { texts(hash, fields) }
    };
    rules.iter().fold(Fingerprint::new(), add).finish()
}

fn all_facts<'a>(
    server: &'a Server,
    caller: &'a Caller,
    method: Method,
    target: Target<'a>,
    facts: RuledFacts<'a>,
) -> Facts<'a> {
    let RuledFacts { arguments, source, now } = facts;
    let now_s = now.map(|now| i64::try_from(now).unwrap_or(i64::MAX));
    Facts { caller, server: &server.id, target, method: method.as_str(), arguments, source, now_s }
}

fn target<'a>(used: RuledUse<'a>, former: Option<&'a str>, produced: Fact<&'a str>) -> Target<'a> {
    let RuledUse { list, entry, original, .. } = used;
    let is_uri = matches!(list, List::Resources | List::ResourceTemplates);
    let names = [Some(&*entry.exposed), former];
    let (read_only, destructive) = hints(list, entry);
    let by_itself = own_hints(list, entry);
    Target {
        name: &entry.exposed,
        former,
        leads_out: is_uri && names.into_iter().flatten().any(resolves_elsewhere),
        produced: if list == List::ResourceTemplates { produced } else { Fact::Absent },
        upstream: &entry.upstream.id,
        read_only,
        destructive,
        own: OwnFacts {
            name: &entry.original,
            leads_out: is_uri && resolves_elsewhere(&entry.original),
            produced: original,
            read_only: by_itself.0,
            destructive: by_itself.1,
        },
    }
}

/// What an entry says it does, as clients are shown it.
fn hints(list: List, entry: &Entry) -> (bool, bool) {
    of_hints(list, entry.tool.hints)
}

/// What its upstream says that it does.
fn own_hints(list: List, entry: &Entry) -> (bool, bool) {
    of_hints(list, entry.tool.own_hints)
}

fn of_hints(list: List, [read_only, destructive]: [Option<bool>; 2]) -> (bool, bool) {
    match list {
        List::Tools => Target::hints(read_only, destructive),
        List::Resources | List::ResourceTemplates | List::Prompts => (true, false),
    }
}
