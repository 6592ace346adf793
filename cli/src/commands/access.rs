//! `mcpctl access`: whether a request is allowed, and why; who may make one; and which permissions there are.

use clap::Subcommand;
use prost_reflect::DynamicMessage;
use serde_json::{Map, Value, json};

use crate::client::standing;
use crate::commands::Invocation;
use crate::control_client::ControlClient;
use crate::error::{Error, Exit, Result};
use crate::output::{self, Format, table};
use crate::parse::{self, Expiry};
use crate::reflection;
use crate::suggest::nearest;

const SERVICE: &str = "trunkline.policy.v1.PolicyService";
/// Those who are asked for at a time.
const PAGE: u32 = 1_000;
/// The reason of a decision about what a server does not expose.
const UNKNOWN_TARGET: &str = "unknown_target";

/// Arguments of `access`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    question: Question,
}

#[derive(Debug, Subcommand)]
enum Question {
    /// Decide about one request as an edge would, and say why; exits with 0 (allowed), 4 (denied), or 1 (it depends on the arguments
    /// or the address, and --args or --from is not given)
    Check(Box<CheckArgs>),
    /// List who may use something of a server
    WhoCan(WhoCanArgs),
    /// List the permissions that roles can hold
    Permissions,
}

#[derive(Debug, clap::Args)]
struct CheckArgs {
    /// Token that makes the request; without one, a user or a service account: you
    #[arg(long, value_name = "NAME", conflicts_with_all = ["user", "service_account"])]
    token: Option<String>,
    /// User who makes it
    #[arg(long, value_name = "NAME", conflicts_with = "service_account")]
    user: Option<String>,
    /// Service account that makes it
    #[arg(long, value_name = "NAME")]
    service_account: Option<String>,
    /// Server that it is made to
    #[arg(long, value_name = "NAME")]
    server: String,
    /// Tool to call, by exposed name
    #[arg(long, value_name = "NAME", conflicts_with_all = ["resource", "prompt"])]
    tool: Option<String>,
    /// Resource to read, by exposed URI
    #[arg(long, value_name = "URI", conflicts_with = "prompt")]
    resource: Option<String>,
    /// Prompt to get, by exposed name
    #[arg(long, value_name = "NAME")]
    prompt: Option<String>,
    /// Method [default: tools/call, resources/read or prompts/get, by what is named]
    #[arg(long, value_name = "METHOD")]
    method: Option<String>,
    /// Arguments of the call, as JSON, or null for none; without this, rules that read arguments leave open what they say
    #[arg(long, value_name = "JSON", value_parser = json_text)]
    args: Option<String>,
    /// Address of the client; without one, no range of addresses of a token allows it, and rules that read it leave open what they say
    #[arg(long, value_name = "ADDRESS")]
    from: Option<String>,
    /// Time of the request: such as 2027-01-31T12:00:00Z, 2027-01-31, or 2h from now [default: now]
    #[arg(long, value_name = "WHEN", value_parser = parse::moment)]
    at: Option<Expiry>,
}

#[derive(Debug, clap::Args)]
struct WhoCanArgs {
    /// What is done
    #[arg(value_enum)]
    verb: Verb,
    /// What it is done to, by exposed name or URI; a server alone: to anything of it
    #[arg(value_name = "SERVER[/NAME]")]
    target: String,
    /// Only who may do it with these arguments, as JSON, or null for none [default: who may with any]
    #[arg(long, value_name = "JSON", value_parser = json_text)]
    args: Option<String>,
    /// Only who may do it from this address [default: wherever tokens may be used; rules that read it are told as WHEN]
    #[arg(long, value_name = "ADDRESS")]
    from: Option<String>,
    /// Only who may do it at this time: such as 2027-01-31T12:00:00Z, 2027-01-31, or 2h from now [default: whenever tokens may be used;
    /// rules that read it are told as WHEN]
    #[arg(long, value_name = "WHEN", value_parser = parse::moment)]
    at: Option<Expiry>,
}

/// What is done to a target.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Verb {
    /// Call a tool
    Call,
    /// Read a resource
    Read,
    /// Get a prompt
    Get,
    /// See which tools a server has
    List,
}

impl Verb {
    fn method(self) -> &'static str {
        match self {
            Self::Call => "tools/call",
            Self::Read => "resources/read",
            Self::Get => "prompts/get",
            Self::List => "tools/list",
        }
    }
}

/// Runs `access`. Returns the exit code.
pub async fn run(invocation: &Invocation, args: Args) -> Result<u8> {
    match args.question {
        Question::Check(args) => check(invocation, *args).await,
        Question::WhoCan(args) => who_can(invocation, args).await.map(|()| 0),
        Question::Permissions => permissions(invocation).await.map(|()| 0),
    }
}

async fn check(invocation: &Invocation, args: CheckArgs) -> Result<u8> {
    let request = args.request()?;
    let client = invocation.client().await?;
    let answer =
        client.call(&format!("{SERVICE}/ExplainAccess"), request).await.map_err(Error::in_options)?;
    let decision = reflection::submessage(&answer, "decision")
        .ok_or_else(|| Error::failure("the response contains no decision"))?;
    let told = reflection::to_json(&decision);
    output::print(&output::message(&decision, invocation.format(), || in_words(&told))?)?;
    if told["reason"] == UNKNOWN_TARGET
        && let Some(tool) = &args.tool
        && let Some(hint) = tool_that_was_meant(&client, &args.server, tool).await
    {
        output::eprint(hint);
    }
    Ok(exit_code(&told))
}

/// What depends on what is not given is no permission: a script must not take it for one.
fn exit_code(decision: &Value) -> u8 {
    match (decision["allowed"] == true, unknown(decision)) {
        (true, None) => 0,
        (true, Some(_)) => Exit::Failure as u8,
        (false, _) => Exit::Refused as u8,
    }
}

/// What is not given on which a decision depends, and the options that give it.
fn unknown(decision: &Value) -> Option<(&'static str, &'static str)> {
    match ["dependsOnArguments", "dependsOnAddress"].map(|field| decision[field] == true) {
        [false, false] => None,
        [true, false] => Some(("the arguments", "--args")),
        [false, true] => Some(("the address", "--from")),
        [true, true] => Some(("the arguments and the address", "--args and --from")),
    }
}

impl CheckArgs {
    fn request(&self) -> Result<Value> {
        let named =
            [("tools/call", &self.tool), ("resources/read", &self.resource), ("prompts/get", &self.prompt)];
        let named = named.into_iter().find_map(|(method, name)| Some((method, name.clone()?)));
        if named.is_none() && self.method.is_none() {
            return Err(Error::usage(
                "nothing is named that could be used; give --tool, --resource or --prompt, or --method such as tools/list",
            ));
        }
        let (method, target) =
            named.map_or_else(Default::default, |(method, target)| (method.to_owned(), target));
        let mut request = Map::new();
        let full = |collection: &str, name: &String| qualified(collection, name);
        let token = self.token.as_ref().map(|name| full("tokens", name));
        let user = self.user.as_ref().map(|name| full("users", name));
        let account = self.service_account.as_ref().map(|name| full("serviceAccounts", name));
        let at = self.at.and_then(|at| at.timestamp(time::OffsetDateTime::now_utc()));
        for (field, value) in [
            ("principal", token.or(user).or(account)),
            ("server", Some(full("servers", &self.server))),
            ("method", Some(self.method.clone().unwrap_or(method))),
            ("target", Some(target)),
            ("from", self.from.clone()),
            ("time", at),
        ] {
            request.extend(value.map(|value| (field.to_owned(), Value::String(value))));
        }
        // As they were typed: what two readers take for different things is refused.
        if let Some(arguments) = &self.args {
            request.insert("argumentsJson".to_owned(), arguments.as_str().into());
            request.insert("hasArguments".to_owned(), true.into());
        }
        Ok(Value::Object(request))
    }
}

/// Text that is JSON, as it is.
fn json_text(text: &str) -> std::result::Result<String, String> {
    match serde_json::from_str::<serde::de::IgnoredAny>(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(error) => {
            Err(format!("this is no JSON: {error}; write an object such as '{{\"path\": \"/srv\"}}'"))
        }
    }
}

fn qualified(collection: &str, name: &str) -> String {
    let id = name.strip_prefix(collection).and_then(|rest| rest.strip_prefix('/')).unwrap_or(name);
    format!("{collection}/{id}")
}

/// A decision for people: whether, what was looked at, and what would turn it.
fn in_words(decision: &Value) -> String {
    let text = |of: &Value, field: &str| of[field].as_str().unwrap_or_default().to_owned();
    let list = |field: &str| decision[field].as_array().map(Vec::as_slice).unwrap_or_default();
    let revision = text(decision, "revision");
    let is_allowed = decision["allowed"] == true;
    let head = match unknown(decision) {
        Some((unknown, options)) if is_allowed => {
            let hint = format!("give {options} to decide about a call");
            format!("it depends on {unknown} (revision {revision}): {}; {hint}\n", text(decision, "text"))
        }
        _ if is_allowed => format!("allowed (revision {revision}): {}\n", text(decision, "text")),
        _ => format!(
            "denied: {} (revision {revision}): {}\n",
            text(decision, "reason"),
            text(decision, "text")
        ),
    };
    let titles = ["LOOKED AT", "FIELD", "SAYS", "HOLDS"].map(str::to_owned).to_vec();
    let grounds = list("grounds").iter().map(|ground| {
        vec![text(ground, "resource"), text(ground, "field"), text(ground, "text"), holds(ground)]
    });
    let mut said = head + &table::render_rows(titles, grounds);
    let limits: Vec<_> = list("limits").iter().filter_map(Value::as_str).collect();
    if is_allowed && !limits.is_empty() {
        said += &format!("as long as these are not used up: {}\n", limits.join(", "));
    }
    for remedy in list("remedies") {
        let (command, change) = (text(remedy, "command"), text(remedy, "change"));
        said += &match command.is_empty() {
            true => {
                format!("to allow it: {} {}: {change}\n", text(remedy, "resource"), text(remedy, "field"))
            }
            false => format!("to allow it: {command}\n"),
        };
    }
    said
}

/// Whether what was looked at speaks for the request. Of a rule it is said what it does: its condition may be true, and refuse.
fn holds(ground: &Value) -> String {
    let text = |field: &str| ground[field].as_str().unwrap_or_default();
    let (is_rule, note) = (text("field").starts_with("rules"), text("note"));
    let goes_with_it = is_rule && (note.starts_with("masks ") || note.starts_with("needs an approval "));
    match (ground["holds"] == true, note.is_empty()) {
        _ if goes_with_it => note.to_owned(),
        (true, true) if is_rule => "does not refuse".to_owned(),
        (true, true) => "yes".to_owned(),
        (true, false) if is_rule => "depends".to_owned(),
        (true, false) => note.to_owned(),
        (false, is_bare) => {
            let said = if is_rule { "refuses" } else { "no" };
            if is_bare { said.to_owned() } else { format!("{said}: {note}") }
        }
    }
}

async fn who_can(invocation: &Invocation, args: WhoCanArgs) -> Result {
    let request = args.request()?;
    let client = invocation.client().await?;
    let (holders, unseen) = all_holders(&client, request).await?;
    let rows: Vec<Value> = holders.iter().map(reflection::to_json).collect();
    let answer = reflection::message("trunkline.policy.v1.WhoCanResponse");
    let answer = reflection::from_json(answer, json!({ "holders": rows, "unseenCount": unseen }))?;
    let is_for_people = invocation.format.as_ref().is_none_or(Format::is_for_people);
    if !rows.is_empty() || !is_for_people {
        output::print(&output::message(&answer, invocation.format(), || holders_table(&rows))?)?;
    }
    if is_for_people {
        match (rows.is_empty(), unseen) {
            (true, 0) => output::eprint("nobody can"),
            (true, unseen) => output::eprint(format!("{unseen} can whom you may not see")),
            (false, 0) => {}
            (false, unseen) => output::eprint(format!("and {unseen} whom you may not see")),
        }
    }
    Ok(())
}

impl WhoCanArgs {
    fn request(&self) -> Result<Value> {
        let place = self.target.strip_prefix("servers/").unwrap_or(&self.target);
        let (server, target) =
            place.split_once('/').map_or((place, None), |(server, target)| (server, Some(target)));
        if server.is_empty() || target == Some("") {
            return Err(Error::usage(format!(
                "invalid target {:?}; use SERVER or SERVER/NAME, such as dev/get_current_time",
                self.target
            )));
        }
        if matches!(self.verb, Verb::List) && target.is_some() {
            return Err(Error::usage(format!("`list` is of a whole server; use `list {server}`")));
        }
        let at = self.at.and_then(|at| at.timestamp(time::OffsetDateTime::now_utc()));
        let mut request = json!({
            "server": qualified("servers", server), "method": self.verb.method(),
            "target": target.unwrap_or_default(), "from": self.from.as_deref().unwrap_or_default(), "pageSize": PAGE,
        });
        if let Some(at) = at {
            request["time"] = at.into();
        }
        if let Some(arguments) = &self.args {
            request["argumentsJson"] = arguments.as_str().into();
            request["hasArguments"] = true.into();
        }
        Ok(request)
    }
}

/// Everybody who can, page by page, and how many there are who are not told.
async fn all_holders(client: &ControlClient, mut request: Value) -> Result<(Vec<DynamicMessage>, i64)> {
    let (mut holders, mut unseen) = (Vec::new(), 0);
    loop {
        let page =
            client.call(&format!("{SERVICE}/WhoCan"), request.clone()).await.map_err(Error::in_options)?;
        holders.extend(reflection::submessages(&page, "holders"));
        unseen += reflection::number(&page, "unseen_count");
        match reflection::text(&page, "next_page_token") {
            next if next.is_empty() => return Ok((holders, unseen)),
            next => request["pageToken"] = next.into(),
        }
    }
}

fn holders_table(holders: &[Value]) -> String {
    let titles = ["PRINCIPAL", "THROUGH", "WHEN"].map(str::to_owned).to_vec();
    let rows = holders.iter().map(|holder| {
        let text = |field: &str| holder[field].as_str().unwrap_or_default().to_owned();
        let conditions = holder["conditions"].as_array().into_iter().flatten().filter_map(Value::as_str);
        vec![text("principal"), text("through"), conditions.collect::<Vec<_>>().join(", ")]
    });
    table::render_rows(titles, rows)
}

/// Names the tool that was perhaps meant: `call` takes what its upstream calls it, too, and a decision is about what clients see.
async fn tool_that_was_meant(client: &ControlClient, server: &str, word: &str) -> Option<String> {
    let server = server.strip_prefix("servers/").unwrap_or(server);
    // Who may not see what there is is told of the decision alone.
    let entries = standing::exposed_as(client, server).await.ok()?;
    let tools: Vec<_> = entries.iter().filter(|entry| reflection::text(entry, "kind") == "tool").collect();
    let own = |entry: &DynamicMessage| standing::is_own(&reflection::text(entry, "target"), word);
    let named = |entry: &DynamicMessage| reflection::text(entry, "exposed_name");
    let renamed: Vec<_> = tools.iter().filter(|entry| own(entry)).map(|entry| named(entry)).collect();
    if !renamed.is_empty() {
        return Some(format!("did you mean {}?", renamed.join(" or ")));
    }
    let names: Vec<_> = tools.iter().map(|entry| named(entry)).collect();
    nearest(word, names.iter().map(String::as_str)).map(|name| format!("did you mean {name}?"))
}

async fn permissions(invocation: &Invocation) -> Result {
    let client = invocation.client().await?;
    let answer = client.call("trunkline.identity.v1.RoleService/ListPermissions", json!({})).await?;
    let people = || {
        let titles = ["PERMISSION", "DESCRIPTION"].map(str::to_owned).to_vec();
        let rows = reflection::submessages(&answer, "permissions").into_iter();
        let row = |permission: DynamicMessage| {
            ["name", "description"].map(|field| reflection::text(&permission, field)).to_vec()
        };
        table::render_rows(titles, rows.map(row))
    };
    output::print(&output::message(&answer, invocation.format(), people)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_decision_is_told_with_what_was_looked_at() {
        let decision = json!({
            "allowed": false, "reason": "outside_time_window", "text": "tokens/ci is not valid at this time of the week", "revision": "1842",
            "grounds": [
                {"resource": "tokens/ci", "field": "expireTime", "text": "2027-01-01T00:00:00Z", "holds": true},
                {"resource": "tokens/ci", "field": "conditions.windows[0]", "text": "Mon-Fri 08:00-18:00 Europe/Berlin", "holds": false, "note": "Sat 10:00"},
            ],
            "remedies": [
                {"resource": "tokens/ci", "command": "mcpctl update token ci --window 'Mon-Sat 08:00-18:00 Europe/Berlin'"},
                {"resource": "teams/core", "field": "scope.tools", "change": "add dev_write"},
            ],
        });
        let told =
            "denied: outside_time_window (revision 1842): tokens/ci is not valid at this time of the week
LOOKED AT  FIELD                  SAYS                               HOLDS
tokens/ci  expireTime             2027-01-01T00:00:00Z               yes
tokens/ci  conditions.windows[0]  Mon-Fri 08:00-18:00 Europe/Berlin  no: Sat 10:00
to allow it: mcpctl update token ci --window 'Mon-Sat 08:00-18:00 Europe/Berlin'
to allow it: teams/core scope.tools: add dev_write
";
        assert_eq!(in_words(&decision), told);
        let allowed = json!({"allowed": true, "text": "tokens/ci may use dev_write at servers/dev", "revision": "2",
            "grounds": [{"resource": "tokens/ci", "field": "scope.tools[0]", "text": "*", "holds": true}], "limits": ["5/s"]});
        let told = "allowed (revision 2): tokens/ci may use dev_write at servers/dev
LOOKED AT  FIELD           SAYS  HOLDS
tokens/ci  scope.tools[0]  *     yes
as long as these are not used up: 5/s
";
        assert_eq!(in_words(&allowed), told);
    }

    #[test]
    fn who_can_is_asked_of_a_server_or_of_something_of_it() {
        let asked = |verb: Verb, target: &str| {
            let (target, from) = (target.to_owned(), Some("10.1.2.3".to_owned()));
            let args = WhoCanArgs { verb, target, args: None, from, at: None };
            args.request().map(|request| {
                (request["method"].clone(), request["server"].clone(), request["target"].clone())
            })
        };
        let (dev, none) = (json!("servers/dev"), json!(""));
        assert_eq!(asked(Verb::Call, "dev").unwrap(), (json!("tools/call"), dev.clone(), none.clone()));
        assert_eq!(
            asked(Verb::Read, "servers/dev/docs://a/b").unwrap(),
            (json!("resources/read"), dev.clone(), json!("docs://a/b"))
        );
        assert_eq!(asked(Verb::List, "dev").unwrap(), (json!("tools/list"), dev, none));
        for (verb, target) in
            [(Verb::Call, ""), (Verb::Call, "dev/"), (Verb::Get, "/x"), (Verb::List, "dev/x")]
        {
            assert!(asked(verb, target).is_err(), "{target}");
        }
    }

    #[test]
    fn what_depends_on_arguments_is_told_so() {
        let open = json!({"allowed": true, "dependsOnArguments": true, "revision": "3",
            "text": "tokens/ci may use dev_write at servers/dev, depending on the arguments",
            "grounds": [{"resource": "servers/dev", "field": "rules[0]", "text": "deny etc when args.path == '/etc'", "holds": true,
                "note": "it depends on what the request brings"}]});
        let told = "it depends on the arguments (revision 3): tokens/ci may use dev_write at servers/dev, depending on the arguments; give --args to decide about a call
LOOKED AT    FIELD     SAYS                               HOLDS
servers/dev  rules[0]  deny etc when args.path == '/etc'  depends
";
        assert_eq!(in_words(&open), told);
        for (arguments, address, told) in [
            (
                false,
                true,
                "it depends on the address (revision 3): may; give --from to decide about a call\n",
            ),
            (
                true,
                true,
                "it depends on the arguments and the address (revision 3): may; give --args and --from to decide about a call\n",
            ),
        ] {
            let open = json!({"allowed": true, "dependsOnArguments": arguments, "dependsOnAddress": address, "revision": "3", "text": "may"});
            assert!(in_words(&open).starts_with(told), "{}", in_words(&open));
            assert_eq!(exit_code(&open), 1);
        }
        let code = |allowed: bool, depends: bool| {
            exit_code(&json!({"allowed": allowed, "dependsOnArguments": depends}))
        };
        assert_eq!([code(true, false), code(true, true), code(false, false)], [0, 1, 4]);
        assert!(json_text("{\"a\":1,\"a\":2}").is_ok(), "as it was typed");
        assert!(json_text("{a:1}").is_err());
    }

    #[test]
    fn of_a_rule_it_is_said_what_it_does() {
        for (field, is_for, note, told) in [
            ("rules[0]", true, "", "does not refuse"),
            ("rules[0]", false, "", "refuses"),
            ("rules[1]", false, "ask who is on call", "refuses: ask who is on call"),
            ("rules[1]", true, "masks email", "masks email"),
            ("rules[1]", false, "needs an approval by the rule a: b", "needs an approval by the rule a: b"),
            // Of one that does not exist for who asks.
            ("rules", true, "it depends on what the request brings", "depends"),
            ("rules", true, "masks some of the result", "masks some of the result"),
            ("rules", false, "needs an approval by a rule", "needs an approval by a rule"),
            ("rules", false, "", "refuses"),
            ("conditions.from[0]", true, "", "yes"),
            ("conditions.from[0]", false, "the client is 127.0.0.1", "no: the client is 127.0.0.1"),
        ] {
            assert_eq!(holds(&json!({"field": field, "holds": is_for, "note": note})), told);
        }
    }

    #[test]
    fn names_are_whole_or_short() {
        for (collection, name, full) in [
            ("tokens", "ci", "tokens/ci"),
            ("tokens", "tokens/ci", "tokens/ci"),
            ("users", "ann@example.org", "users/ann@example.org"),
            ("servers", "servers/dev", "servers/dev"),
        ] {
            assert_eq!(qualified(collection, name), full);
        }
    }
}
