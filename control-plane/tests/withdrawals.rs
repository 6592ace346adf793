//! What edges learn of people: grants, ceilings and what was withdrawn, read from the stream as an edge would, on both databases.
#![allow(clippy::unwrap_used, reason = "a failed expectation is a failed test")]

#[macro_use]
#[path = "support/database.rs"]
mod database;
#[path = "support/control.rs"]
mod control;
#[path = "support/edge_end.rs"]
mod edge_end;

use std::collections::BTreeSet;

use control::{Control, upstream_at};
use database::Database;
use edge_end::{EdgeEnd, Held, holds};
use prost::Message;
use trunkline::TypeTable as _;
use trunkline::admin::v1::bulk_service_client::BulkServiceClient;
use trunkline::admin::v1::{ApplyResourcesRequest, Manifest, manifest};
use trunkline::common::v1::{Meta, Visibility};
use trunkline::edge::v1 as edge;
use trunkline::edge::v1::StreamType;
use trunkline::identity::v1::role_service_client::RoleServiceClient;
use trunkline::identity::v1::team_service_client::TeamServiceClient;
use trunkline::identity::v1::token_service_client::TokenServiceClient;
use trunkline::identity::v1::{
    AddMemberRequest, BindRoleRequest, Binding, Conditions, CreateRoleRequest, CreateTeamRequest,
    CreateTokenRequest, DeleteTeamRequest, InviteMemberRequest, Member, RemoveMemberRequest, Role, Scope,
    Team, Token, UnbindRoleRequest, UpdateRoleRequest,
};
use trunkline::registry::v1::{Server, Tool};
use trunkline_control_plane::domain::KindRules;
use trunkline_control_plane::rights::grant_id;
use trunkline_control_plane::snapshot::{Owner, Projector};
use trunkline_control_plane::store::withdrawals::{WithdrawalRow, Withdrawn};
use trunkline_control_plane::store::{Row, Store};

suite! {
    a_member_who_is_removed_is_withdrawn_on_edges,
    a_role_that_is_unbound_is_withdrawn_and_one_that_is_still_held_is_not,
    a_token_of_a_person_is_bounded_by_what_they_may_do,
    a_token_with_conditions_says_nothing_to_edges_of_before,
    servers_say_whose_they_are,
    grants_are_of_teams_and_of_roles_in_use,
    everything_that_was_lost_is_lost_below_the_next_epoch,
    what_was_lost_long_ago_is_forgotten_under_one_revision,
    a_withdrawal_does_not_wait_behind_a_large_import,
}

const ANN: &str = "users/ann@example.org";
/// Nobody listens there.
const NOWHERE: &str = "http://127.0.0.1:9/mcp";

/// A control plane on a database, and an edge.
struct Fleet {
    control: Control,
    edge: EdgeEnd,
    store: Store,
}

impl Fleet {
    async fn start(database: &Database) -> Self {
        let url = database.url().to_owned();
        let control = Control::start_with(|config| config.database_url = Some(url.into())).await;
        let credential = control.enrol("e1").await;
        let edge = EdgeEnd::connect(&control.channel, "e1", &credential, Held::new()).await.unwrap();
        Self { control, edge, store: database.open().await }
    }

    /// A team with Ann in it. Answers the grant id of the team.
    async fn team_of_ann(&self) -> String {
        let team = self.create_team("core", None).await;
        let request = InviteMemberRequest {
            team: "teams/core".to_owned(),
            email: "ann@example.org".to_owned(),
            member: None,
        };
        let mut teams = TeamServiceClient::new(self.control.channel.clone());
        teams.invite_member(self.control.admin(request)).await.unwrap();
        grant_id::of(&team.meta.unwrap().uid)
    }

    async fn create_team(&self, id: &str, scope: Option<Scope>) -> Team {
        let team = Some(Team { scope, ..Team::default() });
        let request = CreateTeamRequest { team_id: id.to_owned(), team, ..Default::default() };
        let mut teams = TeamServiceClient::new(self.control.channel.clone());
        teams.create_team(self.control.admin(request)).await.unwrap().into_inner().team.unwrap()
    }

    async fn remove_ann(&self) {
        let request =
            RemoveMemberRequest { team: "teams/core".to_owned(), principal: ANN.to_owned(), force: true };
        let mut teams = TeamServiceClient::new(self.control.channel.clone());
        teams.remove_member(self.control.admin(request)).await.unwrap();
    }

    async fn bind(&self, role: &str, team: &str) {
        let binding = Some(Binding { role: role.to_owned(), team: team.to_owned() });
        let request = BindRoleRequest { principal: ANN.to_owned(), binding };
        let mut roles = RoleServiceClient::new(self.control.channel.clone());
        roles.bind_role(self.control.admin(request)).await.unwrap();
    }

    async fn unbind(&self, role: &str, team: &str) {
        let binding = Some(Binding { role: role.to_owned(), team: team.to_owned() });
        let request = UnbindRoleRequest { principal: ANN.to_owned(), binding };
        let mut roles = RoleServiceClient::new(self.control.channel.clone());
        roles.unbind_role(self.control.admin(request)).await.unwrap();
    }

    async fn create_token(&self, id: &str, meta: Meta, conditions: Option<Conditions>) {
        let scope = Scope { servers: vec!["*".to_owned()], tools: vec!["*".to_owned()], ..Scope::default() };
        let token = Token { meta: Some(meta), scope: Some(scope), conditions, ..Token::default() };
        let request =
            CreateTokenRequest { token_id: id.to_owned(), token: Some(token), ..Default::default() };
        let mut tokens = TokenServiceClient::new(self.control.channel.clone());
        tokens.create_token(self.control.admin(request)).await.unwrap();
    }

    async fn uid_of_ann(&self) -> String {
        self.store.standings_named(&[ANN]).await.unwrap().remove(0).rights.uid
    }

    async fn until_token(&mut self, name: &str, is_so: impl Fn(&edge::Token) -> bool) -> edge::Token {
        self.edge.until(|held| read(held, StreamType::Token, name).is_some_and(|token| is_so(&token))).await;
        read(&self.edge.held, StreamType::Token, name).unwrap()
    }

    async fn until_withdrawal(&mut self, is_so: impl Fn(&edge::Withdrawal) -> bool) -> edge::Withdrawal {
        let name = format!("withdrawals/{}", self.uid_of_ann().await);
        let lost = |held: &Held| read(held, StreamType::Withdrawal, &name);
        self.edge.until(|held| lost(held).is_some_and(|lost| is_so(&lost))).await;
        lost(&self.edge.held).unwrap()
    }
}

/// What an edge holds of a name.
fn read<M: Message + Default>(held: &Held, kind: StreamType, name: &str) -> Option<M> {
    let (_, body) = held.get(&(kind, name.to_owned()))?;
    Some(M::decode(body.as_slice()).unwrap())
}

fn built_in(role: &str) -> String {
    grant_id::of(&format!("built-in:{role}"))
}

fn pair(role: &str, team: &str) -> edge::GrantPair {
    edge::GrantPair { role: role.to_owned(), team: team.to_owned() }
}

fn sorted(mut pairs: Vec<edge::GrantPair>) -> Vec<edge::GrantPair> {
    pairs.sort_by(|one, other| (&one.role, &one.team).cmp(&(&other.role, &other.team)));
    pairs
}

fn owned(owner: &str, team: &str, visibility: Visibility) -> Meta {
    Meta { owner: owner.to_owned(), team: team.to_owned(), visibility: visibility.into(), ..Meta::default() }
}

async fn a_member_who_is_removed_is_withdrawn_on_edges(database: Database) {
    let mut fleet = Fleet::start(&database).await;
    let core = fleet.team_of_ann().await;
    fleet.edge.until(|held| holds(held, StreamType::Grant, "teams/core")).await;
    assert!(!fleet.edge.held.keys().any(|(kind, _)| *kind == StreamType::Withdrawal), "nothing is lost yet");
    fleet.remove_ann().await;
    let lost = fleet.until_withdrawal(|_| true).await;
    assert_eq!((lost.uid.clone(), lost.epoch), (fleet.uid_of_ann().await, 0));
    let expected = edge::WithdrawnPair { epoch: 1, pair: Some(pair(&built_in("developer"), &core)) };
    assert_eq!(lost.pairs, [expected]);

    // Who is in it again has bearers of this epoch, and loses it at the next.
    let member = Member { principal: ANN.to_owned(), owner: true, ..Member::default() };
    let request = AddMemberRequest { team: "teams/core".to_owned(), member: Some(member) };
    let mut teams = TeamServiceClient::new(fleet.control.channel.clone());
    teams.add_member(fleet.control.admin(request)).await.unwrap();
    fleet.remove_ann().await;
    let lost = fleet.until_withdrawal(|lost| lost.pairs.len() == 2).await;
    let epochs: BTreeSet<_> =
        lost.pairs.iter().map(|lost| (lost.epoch, lost.pair.clone().unwrap().role)).collect();
    assert_eq!(epochs, [(1, built_in("developer")), (2, built_in("team-owner"))].into());
}

async fn a_role_that_is_unbound_is_withdrawn_and_one_that_is_still_held_is_not(database: Database) {
    let mut fleet = Fleet::start(&database).await;
    let core = fleet.team_of_ann().await;
    // She has the role twice: by her membership, and by a binding.
    fleet.bind("roles/developer", "teams/core").await;
    fleet.bind("roles/auditor", "").await;
    fleet.unbind("roles/developer", "teams/core").await;
    fleet.unbind("roles/auditor", "").await;
    let lost = fleet.until_withdrawal(|_| true).await;
    let expected = edge::WithdrawnPair { epoch: 1, pair: Some(pair(&built_in("auditor"), "")) };
    assert_eq!(lost.pairs, [expected], "the epoch says how much was lost");
    assert_ne!(core, "");
}

async fn a_token_of_a_person_is_bounded_by_what_they_may_do(database: Database) {
    let mut fleet = Fleet::start(&database).await;
    let core = fleet.team_of_ann().await;
    fleet.create_token("hers", owned(ANN, "", Visibility::Unspecified), None).await;
    fleet.create_token("teams", owned("", "teams/core", Visibility::Unspecified), None).await;
    fleet.create_token("plain", Meta::default(), None).await;
    let hers = fleet.until_token("tokens/hers", |_| true).await;
    assert_eq!((hers.servers.len(), hers.tools.len()), (0, 0), "an edge of before allows nothing");
    let access = hers.access.unwrap();
    assert_eq!((access.servers, access.suspended), (vec!["*".to_owned()], false));
    let ceiling = access.ceiling.unwrap();
    assert_eq!(ceiling.owner_uid, fleet.uid_of_ann().await);
    assert_eq!(ceiling.pairs, [pair(&built_in("developer"), &core)]);
    let plain = fleet.until_token("tokens/plain", |_| true).await;
    assert_eq!((plain.servers.len(), plain.access), (1, None));

    // More rights raise it, and fewer lower it, without a write of the token.
    fleet.bind("roles/administrator", "").await;
    let pairs = |token: &edge::Token| token.access.clone().unwrap().ceiling.unwrap().pairs;
    let raised = fleet.until_token("tokens/hers", |token| pairs(token).len() == 2).await;
    let expected = sorted(vec![pair(&built_in("developer"), &core), pair(&built_in("administrator"), "")]);
    assert_eq!(pairs(&raised), expected);
    fleet.unbind("roles/administrator", "").await;
    fleet.until_token("tokens/hers", |token| pairs(token).len() == 1).await;
    fleet.remove_ann().await;
    fleet.until_token("tokens/hers", |token| pairs(token).is_empty()).await;

    // The team's own outlives its members, and keeps the team from being deleted: another one of that name would have it.
    let teams = fleet.until_token("tokens/teams", |_| true).await.access.unwrap();
    let ceiling = edge::Ceiling { owner_uid: String::new(), pairs: vec![pair("", &core)] };
    assert_eq!((teams.ceiling, teams.suspended), (Some(ceiling), false));
    let request = DeleteTeamRequest { name: "teams/core".to_owned(), force: true, ..Default::default() };
    let mut client = TeamServiceClient::new(fleet.control.channel.clone());
    let refused = client.delete_team(fleet.control.admin(request)).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::FailedPrecondition, "{refused:?}");
    assert!(refused.message().starts_with("teams/core has tokens/teams; "), "{refused:?}");

    // Whose owner is disabled is suspended, and no longer when they are not.
    for (state, suspended) in [(3, true), (2, false)] {
        database.run(&format!("update principals set state = {state}")).await;
        let mut tx = fleet.store.write().await.unwrap();
        tx.touch_principal(&fleet.uid_of_ann().await).await.unwrap();
        tx.commit().await.unwrap();
        fleet.until_token("tokens/hers", |token| token.access.clone().unwrap().suspended == suspended).await;
    }
}

async fn a_token_with_conditions_says_nothing_to_edges_of_before(database: Database) {
    let mut fleet = Fleet::start(&database).await;
    let conditions = Conditions {
        methods: vec!["tools/call".to_owned()],
        from: vec!["10.0.0.0/8".to_owned()],
        windows: vec!["Mon-Fri 08:00-18:00 Europe/Berlin".to_owned()],
        rates: vec!["5/s".to_owned()],
        quotas: vec!["100/day per tool".to_owned()],
        not_before: Some(prost_types::Timestamp { seconds: 1_700_000_000, nanos: 0 }),
    };
    fleet.create_token("ci", Meta::default(), Some(conditions.clone())).await;
    let token = fleet.until_token("tokens/ci", |_| true).await;
    let before = [&token.servers, &token.tools, &token.resources, &token.prompts];
    assert!(before.iter().all(|list| list.is_empty()), "{token:?}");
    let access = token.access.unwrap();
    assert_eq!(
        (access.methods, access.from, access.windows),
        (conditions.methods, conditions.from, conditions.windows)
    );
    assert_eq!((access.not_before, access.ceiling, access.suspended), (conditions.not_before, None, false));
    let limit = |id: &str, text: &str| edge::Limit { id: id.to_owned(), text: text.to_owned() };
    assert_eq!(access.limits, [limit("r0", "5/s"), limit("q0", "100/day per tool")]);
}

async fn servers_say_whose_they_are(database: Database) {
    let mut fleet = Fleet::start(&database).await;
    let core = fleet.team_of_ann().await;
    for (id, meta) in [
        ("hers", owned(ANN, "", Visibility::Unspecified)),
        ("private", owned(ANN, "teams/core", Visibility::Private)),
        ("shared", owned("", "teams/core", Visibility::Unspecified)),
        ("public", owned(ANN, "teams/core", Visibility::Public)),
        ("plain", Meta::default()),
    ] {
        fleet.control.server(id, Server { meta: Some(meta), ..Server::default() }).await;
    }
    fleet.edge.until(|held| holds(held, StreamType::Server, "servers/plain")).await;
    let ann = fleet.uid_of_ann().await;
    let of = |id: &str| {
        let name = format!("servers/{id}");
        let server: edge::Server = read(&fleet.edge.held, StreamType::Server, &name).unwrap();
        (server.owner_uid, server.team_gid, server.public)
    };
    let none = String::new;
    assert_eq!(of("hers"), (ann.clone(), none(), false));
    assert_eq!(of("private"), (ann.clone(), none(), false));
    assert_eq!(of("shared"), (none(), core.clone(), false));
    assert_eq!(of("public"), (ann, core, true));
    assert_eq!(of("plain"), (none(), none(), false));
}

async fn grants_are_of_teams_and_of_roles_in_use(database: Database) {
    let mut fleet = Fleet::start(&database).await;
    let core = fleet.team_of_ann().await;
    let role = Role { permissions: vec!["servers.call".to_owned()], ..Role::default() };
    let request = CreateRoleRequest { role_id: "caller".to_owned(), role: Some(role), ..Default::default() };
    let mut roles = RoleServiceClient::new(fleet.control.channel.clone());
    let role = roles.create_role(fleet.control.admin(request)).await.unwrap().into_inner().role.unwrap();
    let scope = Scope { servers: vec!["*".to_owned()], tools: vec!["a_*".to_owned()], ..Scope::default() };
    fleet.create_team("narrow", Some(scope)).await;
    fleet.edge.until(|held| holds(held, StreamType::Grant, "teams/narrow")).await;
    let names = |held: &Held| -> Vec<String> {
        held.keys().filter(|(kind, _)| *kind == StreamType::Grant).map(|(_, name)| name.clone()).collect()
    };
    assert_eq!(
        names(&fleet.edge.held),
        ["roles/developer", "teams/core", "teams/narrow"],
        "nobody calls yet"
    );
    fleet.bind("roles/caller", "").await;
    fleet.edge.until(|held| holds(held, StreamType::Grant, "roles/caller")).await;

    let grant = |held: &Held, name: &str| read::<edge::Grant>(held, StreamType::Grant, name).unwrap();
    let caller = grant(&fleet.edge.held, "roles/caller");
    assert_eq!(caller.gid, grant_id::of(&role.meta.unwrap().uid));
    let calls = edge::RoleGrant { may_call: true, every_server: false };
    assert_eq!(caller.kind, Some(edge::grant::Kind::Role(calls)));
    let all = || vec!["*".to_owned()];
    let everything = edge::TeamGrant { servers: vec![], tools: all(), resources: all(), prompts: all() };
    let team = grant(&fleet.edge.held, "teams/core");
    assert_eq!((team.gid, team.kind), (core, Some(edge::grant::Kind::Team(everything))));
    let tools = vec!["a_*".to_owned()];
    let narrow = edge::TeamGrant { servers: all(), tools, resources: vec![], prompts: vec![] };
    assert_eq!(grant(&fleet.edge.held, "teams/narrow").kind, Some(edge::grant::Kind::Team(narrow)));

    // An edited role needs no withdrawal: its grant changes.
    let edited = Role {
        name: "roles/caller".to_owned(),
        permissions: vec!["registry.read".to_owned()],
        ..Role::default()
    };
    let request = UpdateRoleRequest { role: Some(edited), ..Default::default() };
    roles.update_role(fleet.control.admin(request)).await.unwrap();
    let silent = Some(edge::grant::Kind::Role(edge::RoleGrant { may_call: false, every_server: false }));
    fleet.edge.until(|held| grant(held, "roles/caller").kind == silent).await;
    fleet.unbind("roles/caller", "").await;
    fleet.edge.until(|held| !holds(held, StreamType::Grant, "roles/caller")).await;
}

async fn everything_that_was_lost_is_lost_below_the_next_epoch(database: Database) {
    let mut fleet = Fleet::start(&database).await;
    fleet.team_of_ann().await;
    fleet.remove_ann().await;
    fleet.until_withdrawal(|lost| lost.pairs.len() == 1).await;
    let mut tx = fleet.store.write().await.unwrap();
    tx.withdraw(&fleet.uid_of_ann().await, Withdrawn::All).await.unwrap();
    let revision = tx.commit().await.unwrap();
    let lost = fleet.until_withdrawal(|lost| lost.epoch > 0).await;
    assert_eq!((lost.epoch, lost.pairs), (2, vec![]), "all is more than a part");
    assert_eq!(fleet.store.principals_since(revision - 1).await.unwrap(), [ANN]);
    assert_eq!(fleet.store.principals_since(revision).await.unwrap(), [""; 0]);
}

async fn what_was_lost_long_ago_is_forgotten_under_one_revision(database: Database) {
    let mut fleet = Fleet::start(&database).await;
    fleet.team_of_ann().await;
    fleet.bind("roles/auditor", "").await;
    fleet.bind("roles/viewer", "").await;
    fleet.unbind("roles/auditor", "").await;
    fleet.unbind("roles/viewer", "").await;
    fleet.until_withdrawal(|lost| lost.pairs.len() == 2).await;
    let mut tx = fleet.store.write().await.unwrap();
    assert_eq!(tx.forget_withdrawals().await.unwrap(), 0, "bearers may still say so");
    let before = tx.commit().await.unwrap();
    assert!(!fleet.store.has_old_withdrawals().await.unwrap());
    database.run("update withdrawals set expires = 1").await;
    assert!(fleet.store.has_old_withdrawals().await.unwrap());
    let mut tx = fleet.store.write().await.unwrap();
    assert_eq!(tx.forget_withdrawals().await.unwrap(), 2);
    assert_eq!(tx.commit().await.unwrap(), before + 1);
    let name = format!("withdrawals/{}", fleet.uid_of_ann().await);
    fleet.edge.until(|held| !holds(held, StreamType::Withdrawal, &name)).await;
}

/// Rights go before what is large: the edge has not even answered the first part of an import.
async fn a_withdrawal_does_not_wait_behind_a_large_import(database: Database) {
    const TOOLS: usize = 10_000;
    let mut fleet = Fleet::start(&database).await;
    fleet.team_of_ann().await;
    fleet.create_token("hers", owned(ANN, "", Visibility::Unspecified), None).await;
    fleet.control.upstream("up", upstream_at(NOWHERE), false).await;
    fleet.until_token("tokens/hers", |_| true).await;
    fleet.edge.until(|held| holds(held, StreamType::Upstream, "upstreams/up")).await;
    let text = "x".repeat(400);
    let tool = |number: usize| Manifest {
        resource: Some(manifest::Resource::Tool(Tool {
            name: format!("upstreams/up/tools/t{number}"),
            definition_json: format!(
                r#"{{"name":"t{number}","description":"{text}","inputSchema":{{"type":"object"}}}}"#
            ),
            ..Tool::default()
        })),
    };
    let request = ApplyResourcesRequest { manifests: (0..TOOLS).map(tool).collect(), ..Default::default() };
    let mut bulk = BulkServiceClient::new(fleet.control.channel.clone()).max_decoding_message_size(64 << 20);
    bulk.apply_resources(fleet.control.admin(request)).await.unwrap();

    // The first part of the import is on its way, and stays unanswered.
    let first = loop {
        let response = fleet.edge.next().await.unwrap().unwrap();
        if response.type_url == StreamType::Tool.url() {
            break response;
        }
        fleet.edge.take(response).await;
    };
    assert!((1..TOOLS).contains(&first.resources.len()), "{}", first.resources.len());
    fleet.remove_ann().await;
    let name = format!("withdrawals/{}", fleet.uid_of_ann().await);
    let is_bounded = |held: &Held| {
        let token: Option<edge::Token> = read(held, StreamType::Token, "tokens/hers");
        token.is_some_and(|token| token.access.unwrap().ceiling.unwrap().pairs.is_empty())
    };
    while !holds(&fleet.edge.held, StreamType::Withdrawal, &name) || !is_bounded(&fleet.edge.held) {
        let response = fleet.edge.next().await.unwrap().unwrap();
        assert_ne!(response.type_url, StreamType::Tool.url(), "nothing of it was answered");
        fleet.edge.take(response).await;
    }
    fleet.edge.take(first).await;
    let has_all = |held: &Held| held.keys().filter(|(kind, _)| *kind == StreamType::Tool).count() == TOOLS;
    fleet.edge.until(has_all).await;
}

fn row(message: &impl KindRules, uid: &str, revision: i64) -> Row {
    let mut spec = message.clone();
    spec.set_name(String::new());
    Row {
        kind: kind_of(message),
        name: message.name().to_owned(),
        uid: uid.to_owned(),
        revision,
        create_us: 1,
        update_us: 1,
        deleted: false,
        apply_set: String::new(),
        ownership: message.ownership(),
        body: spec.encode_to_vec(),
        status: Vec::new(),
    }
}

fn kind_of<K: KindRules>(_: &K) -> trunkline_control_plane::domain::Kind {
    K::KIND
}

/// Ten thousand people in five hundred teams, a fifth of them with a token: what a change of one of them costs.
#[test]
fn a_change_of_one_person_projects_what_is_theirs_and_no_more() {
    const TEAMS: usize = 500;
    const TOKENS: usize = 2_000;
    const PEOPLE: usize = 10_000;
    let team = |number: usize| format!("teams/t{}", number % TEAMS);
    let person = |number: usize| format!("users/p{number}@example.org");
    let owner = |number: usize, roles: &[&str]| Owner {
        uid: format!("uid-{number}"),
        is_disabled: false,
        grants: roles.iter().map(|role| ((*role).to_owned(), team(number))).collect(),
        teams: None,
    };
    let mut projector = Projector::default();
    for number in 0..TEAMS {
        let team = Team { name: team(number), ..Team::default() };
        projector.apply(&row(&team, &format!("team-{number}"), 1)).unwrap();
    }
    for number in 0..TOKENS {
        let meta = Some(owned(&person(number), "", Visibility::Unspecified));
        let token = Token { name: format!("tokens/k{number}"), meta, ..Token::default() };
        projector.apply(&row(&token, &format!("token-{number}"), 1)).unwrap();
    }
    let everybody: Vec<String> = (0..PEOPLE).map(person).collect();
    let wanted = projector.wanted_owners(&everybody);
    assert_eq!(wanted.len(), TOKENS, "who owns nothing is not read");
    for number in 0..TOKENS {
        projector.put_owner(1, &person(number), Some(owner(number, &["roles/developer"])));
    }
    projector.put_roles_in_use(1, ["roles/developer".to_owned()].into());
    let snapshot = projector.snapshot(1);
    assert_eq!(snapshot.items[StreamType::Grant].len(), TEAMS + 1);
    assert_eq!(projector.projected(), (TEAMS + TOKENS + 1) as u64);
    assert!(projector.wanted_owners(&everybody[TOKENS..]).is_empty());

    let mut cost = |change: &dyn Fn(&mut Projector)| {
        let before = projector.projected();
        change(&mut projector);
        projector.snapshot(2);
        projector.projected() - before
    };
    let mine = person(7);
    let same = |projector: &mut Projector| {
        projector.put_owner(2, &mine, Some(owner(7, &["roles/developer"])));
    };
    assert_eq!(cost(&same), 0);
    let other = |projector: &mut Projector| {
        projector.put_owner(2, &mine, Some(owner(7, &["roles/viewer"])));
    };
    assert_eq!(cost(&other), 1, "their token");
    let lost = |projector: &mut Projector| {
        let lost =
            WithdrawalRow { uid: "uid-7".to_owned(), epoch: 1, role: String::new(), team: String::new() };
        projector.put_withdrawals(2, vec![lost], false);
    };
    assert_eq!(cost(&lost), 1, "what they lost");
    let gone = |projector: &mut Projector| {
        let tombstone = Row {
            deleted: true,
            body: Vec::new(),
            ..row(&Team { name: team(7), ..Team::default() }, "team-7", 2)
        };
        projector.apply(&tombstone).unwrap();
    };
    assert_eq!(cost(&gone), (TOKENS / TEAMS) as u64, "the tokens of those in the team");
    let used = |projector: &mut Projector| {
        projector.put_roles_in_use(2, ["roles/developer".to_owned(), "roles/viewer".to_owned()].into());
    };
    assert_eq!(cost(&used), 1, "the role that is new");
}
