//! `mcpctl add|remove member`, `invite` and `get members`: who is in a team; `bind|unbind role`: who has a role.

use clap::Subcommand;
use prost_reflect::DynamicMessage;
use serde_json::{Value, json};
use time::OffsetDateTime;

use crate::commands::each::each;
use crate::commands::people::{self, principal};
use crate::commands::{Invocation, left_behind, rollout, users};
use crate::control_client::ControlClient;
use crate::error::{Error, Exit, Result};
use crate::kinds::Kind;
use crate::output::table::{Cell, Column, grid};
use crate::output::{self, Format};
use crate::reflection;
use crate::shell::quoted;

/// The words for the members of a team where the kind of resource is given.
const WORDS: [&str; 2] = ["members", "member"];
/// The permission to see everybody.
const SEES: &str = "people.read";
/// How many members are asked for at once.
const PAGE: i32 = 1_000;

const COLUMNS: [Column; 6] = [
    Column("NAME", "principal", Cell::Text),
    Column("OWNER", "owner", Cell::Text),
    Column("ROLE", "role", Cell::Id),
    Column("BOUND", "bound", Cell::Text),
    Column("AGE", "createTime", Cell::Age),
    Column("ADDED BY", "addedBy", Cell::Text),
];

/// Arguments of `add`.
#[derive(Debug, clap::Args)]
pub struct AddArgs {
    #[command(subcommand)]
    target: Add,
}

#[derive(Debug, Subcommand)]
enum Add {
    /// Put users or service accounts into a team, or change what they are in it
    Member {
        /// Name of the team
        team: String,
        /// Who: email addresses, names of service accounts, or full names such as users/ann@example.org
        #[arg(required = true)]
        who: Vec<String>,
        #[command(flatten)]
        terms: Terms,
    },
}

/// Arguments of `remove`.
#[derive(Debug, clap::Args)]
pub struct RemoveArgs {
    #[command(subcommand)]
    target: Remove,
}

#[derive(Debug, Subcommand)]
enum Remove {
    /// Take users or service accounts out of a team, on every edge, with the roles that they were given there
    Member {
        /// Name of the team
        team: String,
        /// Who: email addresses, names of service accounts, or full names such as users/ann@example.org
        #[arg(required = true)]
        who: Vec<String>,
        /// Remove also the last owner, after whom only an administrator looks after the team
        #[arg(long)]
        force: bool,
    },
}

/// Arguments of `invite`.
#[derive(Debug, clap::Args)]
pub struct InviteArgs {
    /// Name of the team
    team: String,
    /// Email address of somebody who is no user yet
    email: String,
    #[command(flatten)]
    terms: Terms,
}

/// What somebody is in a team.
#[derive(Debug, clap::Args)]
struct Terms {
    /// They own the team: they add and remove its members
    #[arg(long)]
    owner: bool,
    /// Role that they have in the team [default: developer, or team-owner for owners]
    #[arg(long, value_name = "ROLE")]
    role: Option<String>,
}

/// Arguments of `bind`.
#[derive(Debug, clap::Args)]
pub struct BindArgs {
    #[command(subcommand)]
    target: Bound,
}

/// Arguments of `unbind`.
#[derive(Debug, clap::Args)]
pub struct UnbindArgs {
    #[command(subcommand)]
    target: Unbound,
}

#[derive(Debug, Subcommand)]
enum Bound {
    /// Give a role to users or service accounts
    Role(Binding),
}

#[derive(Debug, Subcommand)]
enum Unbound {
    /// Take a role from users or service accounts, on every edge
    Role(Binding),
}

#[derive(Debug, clap::Args)]
struct Binding {
    /// Name of the role
    role: String,
    /// Who: email addresses, names of service accounts, or full names such as users/ann@example.org
    #[arg(required = true)]
    who: Vec<String>,
    /// Team in which they have it [default: everywhere]
    #[arg(long, value_name = "TEAM")]
    team: Option<String>,
}

/// Whether a word of the command line means the members of a team.
pub fn are_meant(word: &str) -> bool {
    WORDS.contains(&word.to_lowercase().as_str())
}

fn team_name(word: &str) -> Result<String> {
    Kind::from_word("team").full_name(word)
}

impl Terms {
    fn member(&self, who: &str) -> Result<Value> {
        let role = self.role.as_ref().map(|role| Kind::from_word("role").full_name(role)).transpose()?;
        Ok(json!({ "principal": who, "owner": self.owner, "role": role.unwrap_or_default() }))
    }
}

/// Runs `add`.
pub async fn add(invocation: &Invocation, args: AddArgs) -> Result {
    let Add::Member { team, who, terms } = args.target;
    let (client, full) = (invocation.client().await?, team_name(&team)?);
    each(&who, async |who| {
        let member = terms.member(&people::meant(&client, who).await)?;
        let answer = add_member(&client, &full, member).await?;
        show_member(invocation, &client, &answer, &full).await
    })
    .await
}

/// Refuses owners of a new team that do not exist, where the caller sees everybody.
pub async fn check_owners(invocation: &Invocation, owners: &[String]) -> Result {
    if owners.is_empty() {
        return Ok(());
    }
    let client = invocation.client().await?;
    if !sees_everybody(&client).await {
        return Ok(());
    }
    for owner in owners {
        let name = people::meant(&client, owner).await;
        let kind = Kind::of_resource(&name).filter(|kind| ["User", "ServiceAccount"].contains(&kind.name));
        if let Some(kind) = kind {
            client.call(&kind.method("Get"), json!({ "name": name })).await?;
        }
    }
    Ok(())
}

/// Whether who is not found does not exist.
async fn sees_everybody(client: &ControlClient) -> bool {
    let answer = client.call("trunkline.identity.v1.SessionService/GetCaller", json!({})).await;
    answer.is_ok_and(|caller| reflection::texts(&caller, "permissions").iter().any(|held| held == SEES))
}

/// Makes these the owners of a team that was just created. Of each who could not be added, it is said that the team is there.
pub async fn add_owners(invocation: &Invocation, team: &str, owners: &[String]) -> Result {
    if owners.is_empty() {
        return Ok(());
    }
    let (client, full) = (invocation.client().await?, team_name(team)?);
    each(owners, async |who| {
        let member = json!({ "principal": people::meant(&client, who).await, "owner": true });
        let added = add_member(&client, &full, member).await;
        added.map(drop).map_err(|error| not_added(team, who, &error))
    })
    .await
}

fn not_added(team: &str, who: &str, error: &Error) -> Error {
    let command = format!("mcpctl add member {} {} --owner", quoted(team), quoted(who));
    let text = format!("the team was created, and {} is not in it: {error}", principal(who));
    Error::new(error.exit, format!("{text}; when that is mended, run `{command}`"))
}

async fn add_member(client: &ControlClient, team: &str, member: Value) -> Result<DynamicMessage> {
    let request = json!({ "team": team, "member": member });
    client.call(&Kind::from_word("team").rpc("AddMember"), request).await
}

/// Runs `invite`.
pub async fn invite(invocation: &Invocation, args: InviteArgs) -> Result {
    let client = invocation.client().await?;
    let member = args.terms.member("")?;
    let request = json!({ "team": team_name(&args.team)?, "email": args.email, "member": member });
    let answer = client.call(&Kind::from_word("team").rpc("InviteMember"), request).await;
    let answer = answer.map_err(|error| args.explain(error).in_options())?;
    if let Some(format @ (Format::Json | Format::Yaml | Format::Template(_))) = &invocation.format {
        return output::print(&output::message(&answer, format, String::new)?);
    }
    users::say_link(invocation, &client, &answer, &format!("{} is invited", args.email))
}

impl InviteArgs {
    /// Says how a user is added who exists already.
    fn explain(&self, error: Error) -> Error {
        if error.exit != Exit::Conflict || !error.to_string().contains("is a user already") {
            return error;
        }
        let (team, email) = (quoted(&self.team), quoted(&self.email));
        let text = format!("{} is a user already; run `mcpctl add member {team} {email}`", self.email);
        Error::new(Exit::Conflict, text)
    }
}

async fn show_member(
    invocation: &Invocation,
    client: &ControlClient,
    answer: &DynamicMessage,
    team: &str,
) -> Result {
    let member = reflection::submessage(answer, "member")
        .ok_or_else(|| Error::failure("the response contains no member"))?;
    match &invocation.format {
        Some(format) => show(&[member], format, true, true),
        None => {
            let is_owner = reflection::to_json(&member)["owner"] == true;
            let what = if is_owner { "an owner" } else { "a member" };
            let who = reflection::text(&member, "principal");
            output::print(&format!("{who} is {what} of {team}"))?;
            if has_begun(client, &who).await {
                output::eprint(
                    "what runs for them already, such as `mcpctl connect`, has that within an hour, or at once when it is started again",
                );
            }
            Ok(())
        }
    }
}

/// Whether something may run for somebody: not for a user who never signed in, nor where it is not known.
async fn has_begun(client: &ControlClient, who: &str) -> bool {
    if !who.starts_with("users/") {
        return true;
    }
    let answer = client.call(&Kind::from_word("user").method("Get"), json!({ "name": who })).await;
    let user = answer.ok().and_then(|answer| reflection::submessage(&answer, "user"));
    user.is_some_and(|user| reflection::to_json(&user)["lastSignInTime"].is_string())
}

/// Runs `remove`.
pub async fn remove(invocation: &Invocation, args: RemoveArgs) -> Result {
    let Remove::Member { team, who, force } = args.target;
    let (client, team) = (invocation.client().await?, team_name(&team)?);
    let (method, mut revision) = (Kind::from_word("team").rpc("RemoveMember"), 0);
    let done = each(&who, async |who| {
        let who = people::meant(&client, who).await;
        let request = json!({ "team": team, "principal": who, "force": force });
        let answer = client.call(&method, request).await?;
        revision = revision.max(reflection::number(&answer, "revision"));
        output::print(&format!("{who} removed from {team}"))?;
        left_behind::say(&client, &who, Some(&team), &[]).await;
        Ok(())
    });
    let done = done.await;
    wait_for_end(invocation, &client, revision).await;
    done
}

/// Waits for the edges where anything was taken away.
async fn wait_for_end(invocation: &Invocation, client: &ControlClient, revision: i64) {
    if revision > 0 {
        rollout::wait_for_revocation(invocation, client, revision).await;
    }
}

impl Binding {
    fn request(&self, who: &str) -> Result<Value> {
        let team = self.team.as_deref().map(team_name).transpose()?.unwrap_or_default();
        let role = Kind::from_word("role").full_name(&self.role)?;
        Ok(json!({ "principal": who, "binding": { "role": role, "team": team } }))
    }

    fn place(&self) -> String {
        self.team.as_ref().map_or_else(|| "everywhere".to_owned(), |team| format!("in {team}"))
    }
}

/// Runs `bind`.
pub async fn bind(invocation: &Invocation, args: BindArgs) -> Result {
    let Bound::Role(binding) = args.target;
    let (client, method) = (invocation.client().await?, Kind::from_word("role").rpc("BindRole"));
    each(&binding.who, async |who| {
        let who = people::meant(&client, who).await;
        client.call(&method, binding.request(&who)?).await?;
        output::print(&format!("{who} has {} {}", binding.role, binding.place()))
    })
    .await
}

/// Runs `unbind`.
pub async fn unbind(invocation: &Invocation, args: UnbindArgs) -> Result {
    let Unbound::Role(binding) = args.target;
    let (client, mut revision) = (invocation.client().await?, 0);
    let method = Kind::from_word("role").rpc("UnbindRole");
    let done = each(&binding.who, async |who| {
        let who = people::meant(&client, who).await;
        let answer = client.call(&method, binding.request(&who)?).await?;
        revision = revision.max(reflection::number(&answer, "revision"));
        output::print(&format!("{who} no longer has {} {}", binding.role, binding.place()))
    });
    let done = done.await;
    wait_for_end(invocation, &client, revision).await;
    done
}

/// Prints the members of a team: `mcpctl get members TEAM`.
pub async fn show_members(invocation: &Invocation, teams: &[String], headers: bool) -> Result {
    let [team] = teams else {
        return Err(Error::usage("members are those of one team: `mcpctl get members TEAM`"));
    };
    let (client, team) = (invocation.client().await?, team_name(team)?);
    let method = Kind::from_word("team").rpc("ListMembers");
    let (mut members, mut page_token) = (Vec::new(), String::new());
    loop {
        let request = json!({ "team": team, "pageSize": PAGE, "pageToken": page_token });
        let answer = client.call(&method, request).await?;
        members.extend(reflection::submessages(&answer, "members"));
        page_token = reflection::text(&answer, "next_page_token");
        if page_token.is_empty() {
            break;
        }
    }
    show(&members, invocation.format(), headers, false)?;
    if members.is_empty() && matches!(invocation.format(), Format::Table | Format::Wide) {
        output::eprint(format!("nobody is in {team}; `mcpctl add member` adds somebody"));
    }
    Ok(())
}

fn show(members: &[DynamicMessage], format: &Format, headers: bool, is_one: bool) -> Result {
    let table = || {
        let columns: Vec<_> = COLUMNS.iter().collect();
        grid(&columns, members, false, OffsetDateTime::now_utc()).render(headers, None)
    };
    let names = || members.iter().map(|member| output::name_line(&reflection::text(member, "principal")));
    output::print(&match (format, members) {
        (Format::Name, _) => names().collect(),
        (format, [one]) if is_one => output::message(one, format, table)?,
        (format, _) => {
            output::value(&members.iter().map(reflection::fields).collect::<Vec<_>>(), format, table)?
        }
    })
}
