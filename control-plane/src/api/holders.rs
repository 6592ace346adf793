//! Who may make a request, page by page: tokens first, then service accounts and people, each by name.
//!
//! It must not know how a decision is made.

use access::decide::{Decision, Reason, Request, decide};
use access::world::{Entry, Family, Server, Token, World};
use tonic::Code;
use trunkline::common::v1::Permission;
use trunkline::policy::v1::{Holder, WhoCanRequest, WhoCanResponse};

use super::crud::check_name;
use super::policy::{HIDDEN, WITH_TARGET, held, names, read_address, read_arguments, read_target, read_time};
use super::rpc::{Call, Rpc};
use crate::domain::{Kind, Violations, page};
use crate::error::Error;
use crate::rights::Rights;
use crate::snapshot::Published;
use crate::store::principals::{Principal, PrincipalPage};

/// Principals that are looked at for one page: it may hold less than was asked for, and be followed by another.
const MAX_LOOKED_AT: usize = 2_000;
/// Decisions that are made for one page.
const MAX_DECISIONS: usize = 200_000;
/// Principals that are read at a time.
const CHUNK: i64 = 500;
const TOKENS: &str = "tokens/";
/// What is said in the place of a rule whose team does not exist for the caller.
const HIDDEN_RULE: &str = "a rule of a team that does not exist for you";
/// The principals beside tokens, in the order of their names.
const PEOPLE: [&str; 2] = ["serviceAccounts/", "users/"];

/// A page that is being filled.
struct HolderPage {
    request: Request,
    world: World,
    /// What of the server may be meant, where nothing is named that could be.
    things: Option<Vec<(Family, Entry)>>,
    /// Whether the time is asked about, and not only what may be at some time.
    has_time: bool,
    size: usize,
    holders: Vec<Holder>,
    /// How many of them do not exist for the caller.
    unseen: usize,
    looked_at: usize,
    decisions: usize,
    /// The last one that was looked at.
    last: String,
}

impl Rpc for WhoCanRequest {
    type Response = WhoCanResponse;

    async fn run(self, call: &Call<'_>) -> Result<Self::Response, Error> {
        let (request, size, query_hash, after) = read(&self, call)?;
        call.find(Kind::Server, &request.server).await?;
        let snapshot = call.registry.snapshot();
        let published = Published::read(&snapshot);
        let has_time = self.time.is_some();
        let mut page = HolderPage::about(request, &published, has_time)?;
        page.size = size;
        page.last.clone_from(&after);
        let is_full =
            page.add_tokens(call, &published, &after).await? || page.add_people(call, &after).await?;
        let next_page_token =
            if is_full { call.registry.seal(query_hash, 0, &page.last)? } else { String::new() };
        let unseen_count = i32::try_from(page.unseen).unwrap_or(i32::MAX);
        Ok(WhoCanResponse {
            holders: call.masked_holders(page.holders).await?,
            next_page_token,
            unseen_count,
        })
    }
}

/// What is asked: the request without a principal, the size of the page, what its token is sealed with, and where it begins.
fn read(asked: &WhoCanRequest, call: &Call<'_>) -> Result<(Request, usize, Vec<u8>, String), Error> {
    check_name(Kind::Server, &asked.server)?;
    let mut violations = Violations::default();
    let (method, target) = read_target(&asked.method, &asked.target, &mut violations);
    let size = page::size(asked.page_size).map_err(|error| violations.add("page_size", error));
    let address = read_address(&asked.from, &mut violations);
    let now_s = read_time(asked.time.as_ref(), &mut violations);
    let at = asked.time.as_ref().map(|_| now_s);
    let arguments = read_arguments(&asked.arguments_json, asked.has_arguments, &mut violations);
    let query = format!("{method} {address:?} {at:?} {arguments:?} {}", asked.target);
    let query_hash = page::query_hash(Kind::Server, &asked.server, &query, "who can", &call.caller.uid);
    let after = call.registry.open(&asked.page_token, &query_hash);
    let after = after.map_err(|error| violations.add("page_token", error));
    let (true, Ok(size), Ok(after)) = (violations.is_empty(), size, after) else {
        return Err(Error::invalid(violations));
    };
    let server = asked.server.clone();
    // What is not said is not known: rules that look at it are told as conditions.
    let (at_any_time, from_anywhere) = (at.is_none(), address.is_none());
    let request = Request {
        server,
        method,
        target,
        address,
        now_s,
        arguments,
        at_any_time,
        from_anywhere,
        ..Request::default()
    };
    Ok((request, size, query_hash, after.map(|(_, name)| name).unwrap_or_default()))
}

impl HolderPage {
    /// An empty page about a request.
    fn about(mut request: Request, published: &Published<'_>, has_time: bool) -> Result<Self, Error> {
        let mut world = published.grants();
        let Some(meant) = published.server(&request.server, request.target.as_deref()) else {
            return Err(Error::not_found(Kind::Server, &request.server));
        };
        request.templates = meant.templates;
        world.servers.insert(request.server.clone(), meant.server);
        let is_of_all = request.target.is_none() && WITH_TARGET.contains(&request.method.as_str());
        let whole = if is_of_all { published.whole_server(&request.server) } else { None };
        let things = whole.map(|whole| used_by(&request.method, whole));
        let page = Self {
            request,
            world,
            things,
            has_time,
            size: 0,
            holders: Vec::new(),
            unseen: 0,
            looked_at: 0,
            decisions: 0,
            last: String::new(),
        };
        page.check_target()?;
        Ok(page)
    }

    /// Nobody may use what is not there: that is a mistake of who asks.
    fn check_target(&self) -> Result<(), Error> {
        let Some(target) = &self.request.target else { return Ok(()) };
        let server = &self.world.servers[&self.request.server];
        let lists = [&server.tools, &server.resources, &server.templates, &server.prompts];
        if lists.into_iter().any(|list| !list.is_empty()) {
            return Ok(());
        }
        let text = format!("{} exposes no {target}", self.request.server);
        Err(Error::new(Code::NotFound, "TARGET_NOT_FOUND", text)
            .with("name", &self.request.server)
            .with("target", target))
    }

    /// Adds tokens. Returns whether the page is full, and there may be more.
    async fn add_tokens(
        &mut self,
        call: &Call<'_>,
        published: &Published<'_>,
        after: &str,
    ) -> Result<bool, Error> {
        if !after.is_empty() && !after.starts_with(TOKENS) {
            return Ok(false);
        }
        for (name, token) in published.tokens_after(after) {
            if self.is_full() {
                return Ok(true);
            }
            let mut conditions = token.described();
            self.world.tokens.insert(name.to_owned(), self.as_asked(token));
            if let Some((through, rules)) = self.look_at(name) {
                let is_seen = call.caller.sees_all() || call.exists(Kind::Token, name).await?;
                conditions.extend(rules);
                self.add(is_seen, Holder { principal: name.to_owned(), through, conditions });
            }
            self.world.tokens.clear();
        }
        Ok(false)
    }

    /// Adds service accounts and people. Returns whether the page is full, and there may be more.
    async fn add_people(&mut self, call: &Call<'_>, after: &str) -> Result<bool, Error> {
        for prefix in PEOPLE {
            if !after.starts_with(TOKENS) && !after.starts_with(prefix) && after > prefix {
                continue;
            }
            let mut after = if after.starts_with(prefix) { after.to_owned() } else { String::new() };
            loop {
                let people = PrincipalPage { prefix, after: &after, search: "", only: None, limit: CHUNK };
                let people = call.registry.store().principals(&people).await?;
                let names: Vec<&str> = people.iter().map(|person| person.name.as_str()).collect();
                let mut standings = call.registry.store().standings_named(&names).await?;
                standings.retain(|standing| !standing.is_disabled);
                standings.sort_by(|a, b| a.rights.name.cmp(&b.rights.name));
                for standing in &standings {
                    if self.is_full() {
                        return Ok(true);
                    }
                    let name = &standing.rights.name;
                    self.world.people.insert(name.clone(), held(&standing.rights));
                    if let Some((through, conditions)) = self.look_at(name) {
                        let principal = name.clone();
                        let person = people.iter().find(|person| person.name == *name);
                        let is_seen =
                            person.is_some_and(|person| call.sees_principal(person, &standing.rights));
                        self.add(is_seen, Holder { principal, through, conditions });
                    }
                    self.world.people.clear();
                }
                match people.last() {
                    Some(last) if people.len() >= usize::try_from(CHUNK).unwrap_or_default() => {
                        after.clone_from(&last.name);
                    }
                    _ => break,
                }
            }
        }
        Ok(false)
    }

    fn is_full(&self) -> bool {
        self.holders.len() >= self.size || self.looked_at >= MAX_LOOKED_AT || self.decisions >= MAX_DECISIONS
    }

    /// A token where and when it is asked about: what is not asked about is as it must be.
    fn as_asked(&self, mut token: Token) -> Token {
        if self.request.address.is_none() {
            token.conditions.from.clear();
        }
        if !self.has_time {
            token.conditions.windows.clear();
            token.conditions.not_before_s = None;
        }
        token
    }

    fn add(&mut self, is_seen: bool, holder: Holder) {
        match is_seen {
            true => self.holders.push(holder),
            false => self.unseen += 1,
        }
    }

    /// What lets somebody make the request, and the rules on which that depends. `None`: nothing.
    fn look_at(&mut self, name: &str) -> Option<(String, Vec<String>)> {
        self.looked_at += 1;
        name.clone_into(&mut self.last);
        name.clone_into(&mut self.request.principal);
        let decision = self.decision();
        let rule = |id: &String| match id.rsplit_once("/rules/") {
            Some((of, rule)) => format!("rule {rule} of {of}"),
            None => format!("rule {id}"),
        };
        let rules = decision.open.iter().map(rule).collect();
        decision.granted().then(|| (decision.through.join(", "), rules))
    }

    /// The decision about the request; where nothing is named, the first one that allows something of the server.
    fn decision(&mut self) -> Decision {
        self.decisions += 1;
        let mut decision = decide(&self.world, &self.request);
        let Some(things) = self.things.as_ref().filter(|_| decision.granted()) else { return decision };
        decision.refused = Some(Reason::UnknownTarget);
        for (family, entry) in things {
            let Some(server) = self.world.servers.get_mut(&self.request.server) else { break };
            let list = match family {
                Family::Tools => &mut server.tools,
                Family::Resources => &mut server.resources,
                Family::Prompts => &mut server.prompts,
            };
            *list = vec![entry.clone()];
            self.decisions += 1;
            decision =
                decide(&self.world, &Request { target: Some(entry.name.clone()), ..self.request.clone() });
            if decision.granted() {
                break;
            }
        }
        decision
    }
}

/// What of a server requests of a method may mean.
fn used_by(method: &str, server: Server) -> Vec<(Family, Entry)> {
    let with = |family: Family, entries: Vec<Entry>| entries.into_iter().map(move |entry| (family, entry));
    let (tools, prompts) = (with(Family::Tools, server.tools), with(Family::Prompts, server.prompts));
    let resources = with(Family::Resources, [server.resources, server.templates].concat());
    match method {
        "tools/call" => tools.collect(),
        "prompts/get" => prompts.collect(),
        "completion/complete" => prompts.chain(resources).collect(),
        _ => resources.collect(),
    }
}

impl Call<'_> {
    /// Whether the caller sees somebody: themselves, what they answer for, and who has to do with a team in which they see people.
    fn sees_principal(&self, person: &Principal, rights: &Rights) -> bool {
        let sees_in_team =
            !person.team.is_empty() && self.caller.in_team(&person.team).contains(Permission::PeopleRead);
        let is_theirs = [&person.name, &person.owner].contains(&&self.caller.name);
        is_theirs || sees_in_team || self.sees_person(rights)
    }

    /// Takes out what names a role or a team that does not exist for the caller.
    async fn masked_holders(&self, mut holders: Vec<Holder>) -> Result<Vec<Holder>, Error> {
        if self.caller.sees_all() {
            return Ok(holders);
        }
        let conditions = holders.iter().flat_map(|holder| &holder.conditions);
        let texts = holders.iter().map(|holder| &holder.through).chain(conditions);
        let texts: Vec<&str> = texts.map(String::as_str).collect();
        let hidden = self.hidden(&texts).await?;
        let conditions = holders.iter_mut().flat_map(|holder| &mut holder.conditions);
        for condition in conditions.filter(|condition| names(condition, &hidden)) {
            HIDDEN_RULE.clone_into(condition);
        }
        for holder in holders.iter_mut().filter(|holder| names(&holder.through, &hidden)) {
            HIDDEN.clone_into(&mut holder.through);
        }
        Ok(holders)
    }
}
