//! Users and service accounts: `create`, `update`, `disable` and `enable` of them, and `reset-password`.

use prost_reflect::DynamicMessage;
use serde_json::{Map, Value, json};

use crate::commands::each::each;
use crate::commands::{Invocation, people};
use crate::control_client::ControlClient;
use crate::error::{Error, Exit, Result};
use crate::kinds::Kind;
use crate::output;
use crate::parse::to_the_second;
use crate::reflection;
use crate::selection;
use crate::shell::quoted;

/// What somebody new is.
#[derive(Debug, clap::Args)]
pub struct NewUser {
    /// Email addresses to sign in with
    #[arg(value_name = "EMAIL", required = true)]
    emails: Vec<String>,
    /// The person's name
    #[arg(long, value_name = "TEXT")]
    title: Option<String>,
    #[command(flatten)]
    roles: Roles,
}

/// What a new service account is.
#[derive(Debug, clap::Args)]
pub struct NewServiceAccount {
    /// Name of the service account
    name: String,
    /// What it is for
    #[arg(long, value_name = "TEXT")]
    title: Option<String>,
    /// User who answers for it; '' for nobody [default: whoever creates it]
    #[arg(long, value_name = "EMAIL")]
    owner: Option<String>,
    #[command(flatten)]
    roles: Roles,
}

/// The roles that somebody has at once.
#[derive(Debug, clap::Args)]
struct Roles {
    /// Role to give at once, such as developer: everywhere, or in the team of --team; repeatable
    #[arg(long = "role", value_name = "NAME")]
    roles: Vec<String>,
    /// Team that they become a member of; of a service account, that it belongs to
    #[arg(long, value_name = "NAME")]
    team: Option<String>,
}

impl Roles {
    fn team(&self) -> String {
        self.team.as_deref().map(|team| in_collection("teams", team)).unwrap_or_default()
    }

    fn bindings(&self) -> Value {
        let binding = |role: &String| json!({ "role": in_collection("roles", role), "team": self.team() });
        self.roles.iter().map(binding).collect()
    }
}

/// The fields of a user that can be changed.
#[derive(Debug, clap::Args)]
pub struct UserChanges {
    /// Email address or name of the user
    name: String,
    /// Email address to sign in with from now on
    #[arg(long, value_name = "EMAIL")]
    email: Option<String>,
    /// The person's name
    #[arg(long, value_name = "TEXT")]
    title: Option<String>,
    /// Whether they must choose another password before anything else
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    must_change_password: Option<bool>,
}

/// The fields of a service account that can be changed.
#[derive(Debug, clap::Args)]
pub struct ServiceAccountChanges {
    /// Name of the service account
    name: String,
    /// What it is for
    #[arg(long, value_name = "TEXT")]
    title: Option<String>,
    /// User who answers for it
    #[arg(long, value_name = "EMAIL")]
    owner: Option<String>,
    /// Team that it belongs to; empty: none
    #[arg(long, value_name = "NAME")]
    team: Option<String>,
}

/// Arguments of `disable` and `enable`.
#[derive(Debug, clap::Args)]
pub struct StateArgs {
    /// Kind: user or service-account
    #[arg(value_parser = ["user", "users", "service-account", "service-accounts", "sa"], hide_possible_values = true)]
    kind: String,
    /// Names; of users, their email addresses
    #[arg(value_name = "NAME", required = true)]
    names: Vec<String>,
}

/// Arguments of `reset-password`.
#[derive(Debug, clap::Args)]
pub struct ResetArgs {
    /// Email address or name of the user
    user: String,
}

/// Creates users, and shows the link by which each chooses a password.
pub async fn create_user(invocation: &Invocation, new: NewUser) -> Result {
    if new.title.is_some() && new.emails.len() > 1 {
        return Err(Error::usage("--title is the name of one person; create them one at a time with it"));
    }
    let (kind, client) = (Kind::from_word("user"), invocation.client().await?);
    each(&new.emails, async |email| {
        let user = json!({ "email": email, "title": new.title.as_deref().unwrap_or_default(), "bindings": new.roles.bindings() });
        let request = json!({ "user": user, "team": new.roles.team() });
        let answer = client.call(&kind.method("Create"), request).await;
        // Here it is an argument.
        let answer = answer.map_err(|error| error.calling("user.email", "EMAIL").in_options())?;
        let done = format!("{} created", text_in(&answer, "user", "name"));
        show_link(invocation, &client, &answer, &done)
    })
    .await
}

/// Creates a service account.
pub async fn create_service_account(invocation: &Invocation, new: NewServiceAccount) -> Result {
    let kind = Kind::from_word("service-account");
    let account = json!({
        "title": new.title.unwrap_or_default(),
        "owner": new.owner.as_deref().map(|owner| in_collection("users", owner)).unwrap_or_default(),
        "team": new.roles.team(),
        "bindings": new.roles.bindings(),
    });
    let id = new.name.strip_prefix("serviceAccounts/").unwrap_or(&new.name);
    let request = json!({ "serviceAccountId": id, "serviceAccount": account });
    let client = invocation.client().await?;
    if new.owner.as_deref() == Some("") {
        check_may_disown(&client).await?;
    }
    let mut answer = client.call(&kind.method("Create"), request).await.map_err(Error::in_options)?;
    // Whoever creates it answers for it, unless they say otherwise then.
    if new.owner.as_deref() == Some("") {
        let name = text_in(&answer, &kind.field(), "name");
        answer = send(&client, kind, json!({ "name": name, "owner": "" }), "owner").await?;
    }
    show(invocation, kind, &answer, "created")
}

/// Refuses before anything is made what would be refused once it is: that nobody answers for a service account.
async fn check_may_disown(client: &ControlClient) -> Result {
    const NEEDED: &str = "people.write";
    let caller = client.call("trunkline.identity.v1.SessionService/GetCaller", json!({})).await?;
    let held = &reflection::to_json(&caller)["permissions"];
    if held.as_array().is_some_and(|held| held.iter().any(|held| held == NEEDED)) {
        return Ok(());
    }
    let text = format!(
        "--owner '' takes the permission {NEEDED} everywhere, which the caller does not have; without --owner you answer for it yourself"
    );
    Err(Error::new(Exit::Refused, text))
}

/// Changes fields of a user.
pub async fn update_user(invocation: &Invocation, changes: UserChanges, etag: Option<String>) -> Result {
    let fields = [
        ("email", changes.email.map(Value::from)),
        ("title", changes.title.map(Value::from)),
        ("mustChangePassword", changes.must_change_password.map(Value::from)),
    ];
    update(invocation, "user", &changes.name, fields, etag).await
}

/// Changes fields of a service account.
pub async fn update_service_account(
    invocation: &Invocation,
    changes: ServiceAccountChanges,
    etag: Option<String>,
) -> Result {
    let owner = changes.owner.as_deref().map(|owner| in_collection("users", owner));
    let team = changes.team.as_deref().map(|team| in_collection("teams", team));
    let fields = [
        ("title", changes.title.map(Value::from)),
        ("owner", owner.map(Value::from)),
        ("team", team.map(Value::from)),
    ];
    update(invocation, "service-account", &changes.name, fields, etag).await
}

async fn update<const N: usize>(
    invocation: &Invocation,
    kind: &str,
    name: &str,
    fields: [(&str, Option<Value>); N],
    etag: Option<String>,
) -> Result {
    let kind = Kind::from_word(kind);
    let name = selection::name_of(kind, name)?;
    let given = fields.into_iter().filter_map(|(field, value)| Some((field.to_owned(), value?)));
    let given: Vec<_> = given.collect();
    if given.is_empty() {
        let text = format!("no changes given; run `mcpctl update {} --help` for the flags", kind.singular);
        return Err(Error::usage(text));
    }
    let mask = given.iter().map(|(field, _)| field.as_str()).collect::<Vec<_>>().join(",");
    let client = invocation.client().await?;
    let name = people::meant(&client, &name).await;
    let mut body = Map::from_iter([("name".to_owned(), Value::from(name))]);
    body.extend(given);
    body.extend(etag.map(|etag| ("etag".to_owned(), etag.into())));
    let answer = send(&client, kind, Value::Object(body), &mask).await?;
    show(invocation, kind, &answer, "updated")
}

async fn send(client: &ControlClient, kind: &Kind, body: Value, mask: &str) -> Result<DynamicMessage> {
    let field = field_of(kind);
    let answer = client.call(&kind.method("Update"), json!({ field: body, "updateMask": mask })).await;
    answer.map_err(Error::in_options)
}

/// The field of a request that holds it, in JSON.
fn field_of(kind: &Kind) -> &'static str {
    if kind.name == "User" { "user" } else { "serviceAccount" }
}

/// Runs `disable` and `enable`.
pub async fn set_state(invocation: &Invocation, args: StateArgs, is_enabled: bool) -> Result {
    let kind = Kind::from_word(&args.kind);
    let names = args.names.iter().map(|name| selection::name_of(kind, name));
    let names: Vec<String> = names.collect::<Result<_>>()?;
    let (client, done) = (invocation.client().await?, if is_enabled { "enabled" } else { "disabled" });
    each(&names, async |name| {
        let name = people::meant(&client, name).await;
        let answer = if kind.name == "User" {
            let verb = if is_enabled { "Enable" } else { "Disable" };
            client.call(&kind.method(verb), json!({ "name": name })).await?
        } else {
            let body = json!({ "name": name, "disabled": !is_enabled });
            send(&client, kind, body, "disabled").await?
        };
        show(invocation, kind, &answer, done)
    })
    .await
}

/// Runs `reset-password`.
pub async fn reset_password(invocation: &Invocation, args: ResetArgs) -> Result {
    let kind = Kind::from_word("user");
    let name = selection::name_of(kind, &args.user)?;
    let method = format!("{}/ResetPassword", kind.service);
    let client = invocation.client().await?;
    let name = people::meant(&client, &name).await;
    let answer = client.call(&method, json!({ "name": name })).await?;
    show_link(invocation, &client, &answer, &format!("{name} can choose another password"))
}

fn show_link(invocation: &Invocation, client: &ControlClient, answer: &DynamicMessage, done: &str) -> Result {
    if let Some(format) = &invocation.format {
        return output::print(&output::message(answer, format, String::new)?);
    }
    say_link(invocation, client, answer, done)
}

/// Prints the secret of a link, alone in its line, and says beside it what they type who get it.
pub fn say_link(
    invocation: &Invocation,
    client: &ControlClient,
    answer: &DynamicMessage,
    done: &str,
) -> Result {
    let link = reflection::submessage(answer, "link").map(|link| reflection::to_json(&link));
    let end = link.as_ref().and_then(|link| link["expireTime"].as_str()).map(to_the_second);
    let until = end.map(|end| format!(" until {end}")).unwrap_or_default();
    let context = invocation.context()?;
    let edge = context.edge.map(|edge| format!(" --edge {}", quoted(&edge)));
    // Where it is here says nothing of where it will be there.
    let (file, whose) = match context.ca_file.is_some() {
        true => (" --ca-file FILE", ", where FILE is the certificate that you give them"),
        false => ("", ""),
    };
    output::eprint(format!(
        "{done}. With this link, good once{until} and shown only once, they run `mcpctl config set-context NAME --control {}{}{file} && \
         mcpctl login --link LINK`{whose}:",
        quoted(client.target()),
        edge.unwrap_or_default()
    ));
    output::print(&text_in(answer, "link", "secret"))
}

fn show(invocation: &Invocation, kind: &Kind, answer: &DynamicMessage, done: &str) -> Result {
    let item = reflection::submessage(answer, &kind.field())
        .ok_or_else(|| Error::failure(format!("the response contains no {}", kind.singular)))?;
    match &invocation.format {
        Some(format) => output::print(&output::resources(kind, std::slice::from_ref(&item), true, format)?),
        None => output::print(&format!("{} {done}", reflection::text(&item, "name"))),
    }
}

fn text_in(answer: &DynamicMessage, field: &str, inner: &str) -> String {
    reflection::submessage(answer, field).map(|message| reflection::text(&message, inner)).unwrap_or_default()
}

/// The full name of what is named with or without its collection. Empty stays empty: nothing.
pub fn in_collection(collection: &str, word: &str) -> String {
    match word {
        "" => String::new(),
        word if word.starts_with(&format!("{collection}/")) => word.to_owned(),
        word => format!("{collection}/{word}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_may_come_with_their_collection_or_without() {
        for (word, full) in [("core", "teams/core"), ("teams/core", "teams/core"), ("", "")] {
            assert_eq!(in_collection("teams", word), full);
        }
    }

    #[test]
    fn roles_are_bound_in_the_team_that_is_given() {
        let roles =
            |team: Option<&str>| Roles { roles: vec!["developer".to_owned()], team: team.map(str::to_owned) };
        assert_eq!(roles(None).bindings(), json!([{ "role": "roles/developer", "team": "" }]));
        assert_eq!(
            roles(Some("core")).bindings(),
            json!([{ "role": "roles/developer", "team": "teams/core" }])
        );
    }
}
