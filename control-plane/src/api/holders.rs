//! Who may make a request, page by page: tokens first, then service accounts and people, each by name.
//!
//! It must not know how a decision is made.

use access::decide::{Request, decide};
use access::world::World;
use tonic::Code;
use trunkline::common::v1::Permission;
use trunkline::policy::v1::{Holder, WhoCanRequest, WhoCanResponse};

use super::crud::check_name;
use super::policy::{HIDDEN, held, names, read_target};
use super::rpc::{Call, Rpc};
use crate::clock;
use crate::domain::{Kind, Violations, page};
use crate::error::Error;
use crate::snapshot::Published;
use crate::store::principals::{PrincipalPage, Visible};

/// Principals that are looked at for one page: it may hold less than was asked for, and be followed by another.
const MAX_LOOKED_AT: usize = 2_000;
/// Principals that are read at a time.
const CHUNK: i64 = 500;
const TOKENS: &str = "tokens/";
/// The principals beside tokens, in the order of their names.
const PEOPLE: [&str; 2] = ["serviceAccounts/", "users/"];

/// A page that is being filled.
struct HolderPage {
    request: Request,
    world: World,
    size: usize,
    holders: Vec<Holder>,
    looked_at: usize,
    /// The last one that was looked at.
    last: String,
}

impl Rpc for WhoCanRequest {
    type Response = WhoCanResponse;

    async fn run(self, call: &Call<'_>) -> Result<Self::Response, Error> {
        let (mut request, size, query_hash, after) = read(&self, call)?;
        call.find(Kind::Server, &request.server).await?;
        let snapshot = call.registry.snapshot();
        let published = Published::read(&snapshot);
        let mut world = published.grants();
        let Some(meant) = published.server(&request.server, request.target.as_deref()) else {
            return Err(Error::not_found(Kind::Server, &request.server));
        };
        request.templates = meant.templates;
        world.servers.insert(request.server.clone(), meant.server);
        let mut page =
            HolderPage { request, world, size, holders: Vec::new(), looked_at: 0, last: after.clone() };
        page.check_target()?;
        let is_full =
            page.add_tokens(call, &published, &after).await? || page.add_people(call, &after).await?;
        let next_page_token =
            if is_full { call.registry.seal(query_hash, 0, &page.last)? } else { String::new() };
        Ok(WhoCanResponse { holders: call.masked_holders(page.holders).await?, next_page_token })
    }
}

/// What is asked: the request without a principal, the size of the page, what its token is sealed with, and where it begins.
fn read(asked: &WhoCanRequest, call: &Call<'_>) -> Result<(Request, usize, Vec<u8>, String), Error> {
    check_name(Kind::Server, &asked.server)?;
    let mut violations = Violations::default();
    let (method, target) = read_target(&asked.method, &asked.target, &mut violations);
    let size = page::size(asked.page_size).map_err(|error| violations.add("page_size", error));
    let query = format!("{method} {}", asked.target);
    let query_hash = page::query_hash(Kind::Server, &asked.server, &query, "who can", &call.caller.uid);
    let after = call.registry.open(&asked.page_token, &query_hash);
    let after = after.map_err(|error| violations.add("page_token", error));
    let (true, Ok(size), Ok(after)) = (violations.is_empty(), size, after) else {
        return Err(Error::invalid(violations));
    };
    let now_s = clock::now_us() / 1_000_000;
    let request = Request { server: asked.server.clone(), method, target, now_s, ..Request::default() };
    Ok((request, size, query_hash, after.map(|(_, name)| name).unwrap_or_default()))
}

impl HolderPage {
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
            let conditions = token.described();
            self.world.tokens.insert(name.to_owned(), token.at_any_time());
            let through = self.look_at(name);
            let is_seen =
                through.is_some() && (call.caller.sees_all() || call.exists(Kind::Token, name).await?);
            if let Some(through) = through.filter(|_| is_seen) {
                self.holders.push(Holder { principal: name.to_owned(), through, conditions });
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
                let people = PrincipalPage {
                    prefix,
                    after: &after,
                    search: "",
                    only: call.seen_people(),
                    limit: CHUNK,
                };
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
                    if let Some(through) = self.look_at(name) {
                        let principal = name.clone();
                        self.holders.push(Holder { principal, through, conditions: Vec::new() });
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
        self.holders.len() >= self.size || self.looked_at >= MAX_LOOKED_AT
    }

    /// What lets somebody make the request. `None`: nothing.
    fn look_at(&mut self, name: &str) -> Option<String> {
        self.looked_at += 1;
        name.clone_into(&mut self.last);
        name.clone_into(&mut self.request.principal);
        let decision = decide(&self.world, &self.request);
        decision.allowed().then(|| decision.through.join(", "))
    }
}

impl Call<'_> {
    /// Whom the caller sees. `None`: everybody.
    fn seen_people(&self) -> Option<Visible<'_>> {
        if self.caller.everywhere().contains(Permission::PeopleRead) {
            return None;
        }
        let sees_in = |team: &&str| self.caller.in_team(team).contains(Permission::PeopleRead);
        let teams = self.caller.teams().iter().map(String::as_str).filter(sees_in).collect();
        Some(Visible { name: &self.caller.name, teams })
    }

    /// Takes out what names a role or a team that does not exist for the caller.
    async fn masked_holders(&self, mut holders: Vec<Holder>) -> Result<Vec<Holder>, Error> {
        if self.caller.sees_all() {
            return Ok(holders);
        }
        let texts: Vec<&str> = holders.iter().map(|holder| holder.through.as_str()).collect();
        let hidden = self.hidden(&texts).await?;
        for holder in holders.iter_mut().filter(|holder| names(&holder.through, &hidden)) {
            HIDDEN.clone_into(&mut holder.through);
        }
        Ok(holders)
    }
}
