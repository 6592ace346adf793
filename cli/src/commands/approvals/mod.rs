//! `mcpctl approvals`: calls that rules hold back, and what somebody else decides about them.

mod shown;

use std::io::IsTerminal as _;
use std::time::Duration;

use clap::{Subcommand, ValueEnum};
use prost_reflect::DynamicMessage;
use serde_json::{Value, json};
use time::OffsetDateTime;

use crate::commands::Invocation;
use crate::commands::each::each;
use crate::commands::watching::{self, Absence};
use crate::control_client::ControlClient;
use crate::error::{Error, Exit, Result};
use crate::kinds::Kind;
use crate::output::{self, Format};
use crate::reflection;
use crate::selection;

const SERVICE: &str = "trunkline.policy.v1.ApprovalService";
/// Approvals that are asked for at a time.
const PAGE: u32 = 1_000;
/// Between two looks.
const INTERVAL: Duration = Duration::from_secs(2);
/// Approvals that are still shown after they were decided about.
const MAX_GONE: usize = 20;
/// Where the names of approvals begin.
const APPROVALS: &str = "approvals/";
/// Characters of an id.
const ID: usize = 32;

/// Arguments of `approvals`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// List calls that wait for approval, of others and your own
    List(ListArgs),
    /// Show all of one, with the arguments of the call
    Show(ShowArgs),
    /// Approve calls as they are: each may be made once
    Approve(DecideArgs),
    /// Deny calls, your own too; one that is approved and not made yet, too
    Deny(DecideArgs),
}

#[derive(Debug, clap::Args)]
struct ListArgs {
    /// Only those in this state
    #[arg(long, value_enum, default_value = "pending", ignore_case = true)]
    state: ListedState,
    /// Only calls of this server
    #[arg(long, value_name = "NAME")]
    server: Option<String>,
    /// Keep running, for --timeout if that is given, and tell what comes and what is decided: shown anew on a terminal; elsewhere what is
    /// new or has changed is appended, with -o json as a line each
    #[arg(short, long)]
    watch: bool,
}

#[derive(Debug, clap::Args)]
struct ShowArgs {
    /// Id of the approval, or how it begins
    id: String,
}

#[derive(Debug, clap::Args)]
struct DecideArgs {
    /// Ids of the approvals, or how they begin; where one cannot be decided about, the others are
    #[arg(value_name = "ID", required = true)]
    ids: Vec<String>,
    /// Why; the caller is told it where the call is denied
    #[arg(long, value_name = "TEXT")]
    comment: Option<String>,
}

/// The states that are listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum ListedState {
    /// Nobody has decided.
    Pending,
    /// The call may be made, once.
    Approved,
    /// The call is refused.
    Denied,
    /// The call was made.
    Used,
    /// Its time is over.
    Expired,
    /// All of these.
    All,
}

/// Runs `approvals`.
pub async fn run(invocation: &Invocation, args: Args) -> Result {
    match args.verb {
        Verb::List(args) => list(invocation, args).await,
        Verb::Show(args) => show(invocation, &args.id).await,
        Verb::Approve(args) => decide(invocation, args, "APPROVED").await,
        Verb::Deny(args) => decide(invocation, args, "DENIED").await,
    }
}

impl ListArgs {
    fn request(&self) -> Result<Value> {
        let state = match self.state {
            ListedState::All => "UNSPECIFIED".to_owned(),
            one => format!("{one:?}").to_uppercase(),
        };
        let server = self.server.as_ref().map(|word| selection::name_of(Kind::from_word("server"), word));
        Ok(json!({
            "state": format!("APPROVAL_STATE_{state}"),
            "server": server.transpose()?.unwrap_or_default(),
        }))
    }
}

async fn list(invocation: &Invocation, args: ListArgs) -> Result {
    let request = args.request()?;
    let client = invocation.client().await?;
    let found = all(&client, &request).await?;
    let says_nothing = found.is_empty() && invocation.format().is_for_people();
    if says_nothing {
        output::eprint(match args.state {
            ListedState::Pending => "no calls wait for approval; --state all lists those that did",
            _ => "no approvals",
        });
    }
    if args.watch {
        return watching::until_over(invocation, watch(invocation, &client, &request, found)).await;
    }
    if says_nothing {
        return Ok(());
    }
    output::print(&render(&found, invocation.format())?)
}

/// Shows what there is, and then what becomes of it, until nobody reads any more.
async fn watch(
    invocation: &Invocation,
    client: &ControlClient,
    request: &Value,
    mut found: Vec<DynamicMessage>,
) -> Result {
    let is_table = matches!(invocation.format(), Format::Table | Format::Wide);
    let in_place = is_table && std::io::stdout().is_terminal();
    let (mut absence, mut seen) = (Absence::default(), Vec::new());
    let mut is_first = true;
    loop {
        let news = changed(&seen, &found);
        let is_shown = in_place || !news.is_empty();
        let shown = match in_place {
            true => output::print_anew(&in_place_table(&found, invocation.format())?).map(|()| true),
            false if is_shown => {
                output::print_while_open(&render_changes(&news, invocation.format(), is_first)?)
            }
            false => Ok(true),
        };
        if !shown? {
            return Ok(());
        }
        is_first &= !is_shown;
        seen = found;
        found = loop {
            tokio::time::sleep(INTERVAL).await;
            if let Some(found) = absence.pass(look(client, request, &seen).await)? {
                break found;
            }
        };
    }
}

/// Those that match now, and after them, as they are now, the last that did and do so no more: what became of them is what somebody
/// waits for.
async fn look(
    client: &ControlClient,
    request: &Value,
    seen: &[DynamicMessage],
) -> Result<Vec<DynamicMessage>> {
    let mut found = all(client, request).await?;
    let is_listed = |one: &DynamicMessage| found.iter().any(|listed| name(listed) == name(one));
    let gone: Vec<_> = seen.iter().filter(|one| !is_listed(one)).take(MAX_GONE).collect();
    for one in gone {
        if !shown::is_open(one) {
            found.push(one.clone());
            continue;
        }
        let answer = client.call(&format!("{SERVICE}/GetApproval"), json!({ "name": name(one) })).await;
        match answer {
            Ok(answer) => found.push(approval(&answer)?),
            // It was deleted, or is not to be seen any more.
            Err(error) if error.exit == Exit::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(found)
}

/// Those that were not seen before as they are.
fn changed(seen: &[DynamicMessage], found: &[DynamicMessage]) -> Vec<DynamicMessage> {
    found.iter().filter(|one| !seen.contains(one)).cloned().collect()
}

fn in_place_table(found: &[DynamicMessage], format: &Format) -> Result<String> {
    match found {
        [] => Ok("no calls wait for approval\n".to_owned()),
        found => render(found, format),
    }
}

/// Renders what has changed: rows, a line of JSON or a document each. Titles come once.
fn render_changes(changed: &[DynamicMessage], format: &Format, is_first: bool) -> Result<String> {
    match format {
        Format::Table | Format::Wide => {
            let table = render(changed, format)?;
            let rows = table.split_once('\n').map_or("", |(_, rows)| rows);
            Ok(if is_first { table } else { rows.to_owned() })
        }
        Format::Json => changed.iter().map(json_line).collect(),
        Format::Yaml => {
            let documents = changed.iter().map(|one| output::message(one, format, String::new));
            Ok(documents.collect::<Result<Vec<_>>>()?.iter().map(|text| format!("---\n{text}")).collect())
        }
        _ => render(changed, format),
    }
}

fn json_line(approval: &DynamicMessage) -> Result<String> {
    let text = serde_json::to_string(&reflection::fields(approval));
    let text = text.map_err(|error| Error::failure(error.to_string()))?;
    Ok(printable::json(&text).into_owned() + "\n")
}

fn name(approval: &DynamicMessage) -> String {
    reflection::text(approval, "name")
}

/// All that match, the newest first.
async fn all(client: &ControlClient, request: &Value) -> Result<Vec<DynamicMessage>> {
    let (mut found, mut request) = (Vec::new(), request.clone());
    request["pageSize"] = PAGE.into();
    loop {
        let page = client.call(&format!("{SERVICE}/ListApprovals"), request.clone()).await?;
        found.extend(reflection::submessages(&page, "approvals"));
        let next = reflection::text(&page, "next_page_token");
        if next.is_empty() {
            return Ok(found);
        }
        request["pageToken"] = next.into();
    }
}

fn render(found: &[DynamicMessage], format: &Format) -> Result<String> {
    match format {
        Format::Table | Format::Wide => {
            Ok(shown::table(found, *format == Format::Wide, OffsetDateTime::now_utc()))
        }
        Format::Name => {
            Ok(found.iter().map(|one| output::name_line(&reflection::text(one, "name"))).collect())
        }
        Format::Template(_) | Format::Columns(_) => {
            let values: Vec<_> = found.iter().map(reflection::to_queried_json).collect();
            output::value(&values, format, String::new)
        }
        _ => output::documents(found.iter().map(reflection::fields).collect(), false, format),
    }
}

async fn show(invocation: &Invocation, word: &str) -> Result {
    let client = invocation.client().await?;
    let name = meant(&client, word).await?;
    let answer = client.call(&format!("{SERVICE}/GetApproval"), json!({ "name": name })).await?;
    let approval = approval(&answer)?;
    let now = OffsetDateTime::now_utc();
    output::print(&output::message(&approval, invocation.format(), || shown::in_full(&approval, now))?)
}

async fn decide(invocation: &Invocation, args: DecideArgs, decision: &str) -> Result {
    let client = invocation.client().await?;
    let comment = args.comment.unwrap_or_default();
    each(&args.ids, async |word| {
        let request = json!({
            "name": meant(&client, word).await?,
            "decision": format!("APPROVAL_STATE_{decision}"),
            "comment": comment,
        });
        let answer = client.call(&format!("{SERVICE}/DecideApproval"), request).await;
        let approval = approval(&answer.map_err(|error| error.calling("comment", "--comment"))?)?;
        match &invocation.format {
            Some(format) => output::print(&render_one(&approval, format)?),
            None => output::print(&shown::decided(&approval)),
        }
    })
    .await
}

fn render_one(approval: &DynamicMessage, format: &Format) -> Result<String> {
    match format {
        Format::Table | Format::Wide | Format::Name => render(std::slice::from_ref(approval), format),
        _ => output::message(approval, format, String::new),
    }
}

fn approval(answer: &DynamicMessage) -> Result<DynamicMessage> {
    reflection::submessage(answer, "approval")
        .ok_or_else(|| Error::failure("the response contains no approval"))
}

/// The name of the approval whose id begins as somebody wrote it.
async fn meant(client: &ControlClient, word: &str) -> Result<String> {
    let begun = word.strip_prefix(APPROVALS).unwrap_or(word).to_ascii_lowercase();
    if begun.is_empty() || !begun.bytes().all(|byte| byte.is_ascii_hexdigit()) || begun.len() > ID {
        return Err(Error::usage(format!(
            "{word:?} is no id of an approval, nor how one begins; `mcpctl approvals list` shows those that wait"
        )));
    }
    if begun.len() == ID {
        return Ok(format!("{APPROVALS}{begun}"));
    }
    let found = all(client, &json!({})).await?;
    let names: Vec<String> = found.iter().map(|one| reflection::text(one, "name")).collect();
    one_of(&begun, names)
}

/// The one of these names whose id begins so.
fn one_of(begun: &str, names: Vec<String>) -> Result<String> {
    let begins = |name: &String| name.strip_prefix(APPROVALS).is_some_and(|id| id.starts_with(begun));
    let mut found: Vec<String> = names.into_iter().filter(begins).collect();
    match (found.pop(), found.len()) {
        (Some(name), 0) => Ok(name),
        (None, _) => Err(Error::not_found(format!(
            "no approval begins with {begun}; `mcpctl approvals list --state all` shows what there is"
        ))),
        (Some(_), others) => {
            Err(Error::usage(format!("{} approvals begin with {begun}; write more of the id", others + 1)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_shortened_to_what_is_no_other() {
        let names = || ["abc1", "abd2", "b"].map(|id| format!("{APPROVALS}{id}")).to_vec();
        assert_eq!(one_of("abc", names()).unwrap(), "approvals/abc1");
        assert_eq!(one_of("b", names()).unwrap(), "approvals/b");
        let told = |begun: &str| one_of(begun, names()).unwrap_err().to_string();
        assert_eq!(told("ab"), "2 approvals begin with ab; write more of the id");
        assert_eq!(
            told("c"),
            "no approval begins with c; `mcpctl approvals list --state all` shows what there is"
        );
    }

    fn approval(id: &str, state: &str) -> DynamicMessage {
        let json = json!({"name": format!("approvals/{id}"), "state": format!("APPROVAL_STATE_{state}")});
        reflection::from_json(reflection::message("trunkline.policy.v1.Approval"), json).unwrap()
    }

    #[test]
    fn what_has_changed_is_a_line_each() {
        let seen = [approval("a", "PENDING"), approval("b", "PENDING")];
        let found = [approval("c", "PENDING"), approval("a", "PENDING"), approval("b", "DENIED")];
        let changed = changed(&seen, &found);
        assert_eq!(
            render_changes(&changed, &Format::Json, false).unwrap(),
            "{\"name\":\"approvals/c\",\"state\":\"pending\"}\n{\"name\":\"approvals/b\",\"state\":\"denied\"}\n"
        );
        let rows = render_changes(&changed, &Format::Table, false).unwrap();
        assert_eq!(rows.lines().count(), 2, "{rows}");
        let table = render_changes(&changed, &Format::Table, true).unwrap();
        assert_eq!(table.lines().count(), 3, "{table}");
        assert!(in_place_table(&[], &Format::Table).unwrap().starts_with("no calls wait"));
    }

    #[test]
    fn those_of_a_state_and_a_server_are_asked_for() {
        let args =
            |state, server: Option<&str>| ListArgs { state, server: server.map(str::to_owned), watch: false };
        assert_eq!(
            args(ListedState::Pending, Some("dev")).request().unwrap(),
            json!({"state": "APPROVAL_STATE_PENDING", "server": "servers/dev"})
        );
        assert_eq!(
            args(ListedState::All, None).request().unwrap(),
            json!({"state": "APPROVAL_STATE_UNSPECIFIED", "server": ""})
        );
    }
}
