//! `mcpctl keys list|rotate`: all keys of the installation, what needs each, and new ones.

use std::time::Duration;

use clap::{Subcommand, ValueEnum};
use prost_reflect::DynamicMessage;
use serde_json::{Value, json};

use crate::commands::Invocation;
use crate::control_client::ControlClient;
use crate::error::Result;
use crate::output::progress::Spinner;
use crate::output::table::render_rows;
use crate::output::{self, Format};
use crate::parse;
use crate::reflection;

/// Between two looks while it is waited.
const LOOK: Duration = Duration::from_secs(2);

/// Arguments of `keys`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List all keys, and what needs each
    List,
    /// Make new keys; old ones are deleted when nothing needs them
    Rotate {
        /// Keys to replace
        #[arg(value_enum, default_value = "all", ignore_case = true)]
        purpose: Purpose,
        /// Wait until the new keys are used, and nothing is stored any more that is sealed with old ones
        #[arg(long)]
        wait: bool,
    },
}

/// What keys are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Purpose {
    /// Seal secrets and other keys in the database.
    Data,
    /// Sign bearers and the credentials of edges.
    Signing,
    /// Seal what edges give to clients.
    Sealing,
    /// All of these.
    All,
}

/// Runs `keys`.
pub async fn run(invocation: &Invocation, args: Args) -> Result {
    let client = invocation.client().await?;
    match args.command {
        Command::List => {
            let answer = client.call("trunkline.identity.v1.KeyService/ListKeys", json!({})).await?;
            show(invocation, &answer)
        }
        Command::Rotate { purpose, wait } => {
            let purposes = match purpose {
                Purpose::All => json!([]),
                one => json!([format!("KEY_PURPOSE_{one:?}").to_uppercase()]),
            };
            let method = "trunkline.identity.v1.KeyService/RotateKeys";
            let mut answer = client.call(method, json!({ "purposes": purposes })).await?;
            if wait {
                answer = settled(&client, purpose, answer).await?;
            }
            show(invocation, &answer)?;
            for line in advice(&keys(&answer), purpose) {
                output::eprint(line);
            }
            Ok(())
        }
    }
}

/// Waits until the keys are in use that were made, and nothing is stored that is sealed with others.
async fn settled(
    client: &ControlClient,
    purpose: Purpose,
    mut answer: DynamicMessage,
) -> Result<DynamicMessage> {
    let _spinner = Spinner::start("waiting until the new keys are used");
    while !is_settled(&keys(&answer), purpose) {
        tokio::time::sleep(LOOK).await;
        answer = client.call("trunkline.identity.v1.KeyService/ListKeys", json!({})).await?;
    }
    Ok(answer)
}

fn is_settled(keys: &[Value], purpose: Purpose) -> bool {
    let unsettled = |key: &&Value| {
        let is_stored = |need: &Value| matches!(text(&need["what"]), "secrets" | "keys");
        state(key) == "pending" || (state(key) == "retiring" && needs(key).any(is_stored))
    };
    !keys.iter().filter(|key| is_of(key, purpose)).any(|key| unsettled(&key))
}

/// What is still to happen before nothing needs old keys.
fn advice(keys: &[Value], wanted: Purpose) -> Vec<String> {
    let mut lines = Vec::new();
    let of = || keys.iter().filter(|key| is_of(key, wanted));
    if of().any(|key| state(key) == "pending") {
        lines.push("the new keys are used within two minutes, when all edges know them".to_owned());
    }
    for key in of().filter(|key| state(key) == "retiring") {
        // Keys of different purposes may have one number.
        let (purpose, id) = (purpose(key), printable::line(text(&key["id"])));
        let named: Vec<&str> = needs(key).flat_map(|need| items(&need["names"])).map(text).collect();
        let ends = needs(key).map(|need| text(&need["untilTime"])).max().unwrap_or_default();
        lines.push(match (named.is_empty(), ends.is_empty()) {
            (false, _) => {
                let named = named.iter().map(|name| name.trim_start_matches("tokens/")).collect::<Vec<_>>().join(" ");
                let named = printable::line(&named);
                format!("{purpose} key {id} is needed until these tokens, which have no end, are issued anew or revoked: {named}")
            }
            (true, false) => format!("{purpose} key {id} is needed by nothing after {}", parse::to_the_second(ends)),
            (true, true) if needs(key).next().is_none() => format!("{purpose} key {id} is needed by nothing, and is deleted soon"),
            (true, true) => format!("what {purpose} key {id} seals is being sealed with the new one"),
        });
    }
    lines
}

fn show(invocation: &Invocation, answer: &DynamicMessage) -> Result {
    let keys = keys(answer);
    let format = invocation.format();
    let titles = ["ID", "PURPOSE", "STATE", "CREATED", "NEEDED BY"].map(str::to_owned).to_vec();
    let row = |key: &Value| -> Vec<String> {
        let created = match text(&key["createTime"]) {
            "" => "-".to_owned(),
            time => parse::to_the_second(time),
        };
        let cells = [text(&key["id"]).to_owned(), purpose(key), state(key), created, needed_by(key)];
        cells.iter().map(|cell| printable::line(cell).to_string()).collect()
    };
    let people = || render_rows(titles.clone(), keys.iter().map(row));
    output::print(&match format {
        Format::Name => keys.iter().map(|key| output::name_line(text(&key["id"]))).collect::<String>(),
        format => output::message(answer, format, people)?,
    })
}

/// What needs a key: `12 credentials, 3 tokens until 2027-01-04T00:00:00Z`.
fn needed_by(key: &Value) -> String {
    let one = |need: &Value| {
        let what = match text(&need["what"]) {
            // Whole credentials are sealed, also those that only say where their secret is.
            "secrets" => "credentials",
            what => what,
        };
        let what = match text(&need["count"]) {
            "" | "0" => what.to_owned(),
            "1" => format!("1 {}", what.replacen("s ", " ", 1).trim_end_matches('s')),
            count => format!("{count} {what}"),
        };
        let until = match text(&need["untilTime"]) {
            "" => String::new(),
            time => format!(" until {}", parse::to_the_second(time)),
        };
        format!("{what}{until}")
    };
    let needs: Vec<_> = needs(key).map(one).collect();
    if needs.is_empty() { "nothing".to_owned() } else { needs.join(", ") }
}

fn keys(answer: &DynamicMessage) -> Vec<Value> {
    reflection::submessages(answer, "keys").iter().map(reflection::to_json).collect()
}

fn is_of(key: &Value, wanted: Purpose) -> bool {
    match wanted {
        Purpose::All => true,
        one => purpose(key) == format!("{one:?}").to_lowercase(),
    }
}

fn purpose(key: &Value) -> String {
    text(&key["purpose"]).trim_start_matches("KEY_PURPOSE_").to_lowercase()
}

fn state(key: &Value) -> String {
    text(&key["state"]).trim_start_matches("KEY_STATE_").to_lowercase()
}

fn needs(key: &Value) -> impl Iterator<Item = &Value> {
    items(&key["needs"])
}

fn items(list: &Value) -> impl Iterator<Item = &Value> {
    list.as_array().into_iter().flatten()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(id: &str, purpose: &str, state: &str, needs: Value) -> Value {
        json!({
            "id": id, "purpose": format!("KEY_PURPOSE_{purpose}"), "state": format!("KEY_STATE_{state}"), "needs": needs
        })
    }

    #[test]
    fn what_needs_a_key_is_said() {
        let needs = json!([
            {"what": "secrets", "count": "12"}, {"what": "tokens", "count": "3", "untilTime": "2027-01-04T00:00:00Z"},
            {"what": "bearers of people", "untilTime": "2026-12-01T10:00:00Z"}
        ]);
        assert_eq!(
            needed_by(&key("1", "DATA", "ACTIVE", needs)),
            "12 credentials, 3 tokens until 2027-01-04T00:00:00Z, bearers of people until 2026-12-01T10:00:00Z"
        );
        assert_eq!(needed_by(&key("1", "DATA", "ACTIVE", json!([]))), "nothing");
        let one = json!([{"what": "secrets", "count": "1"}, {"what": "tokens without an end", "count": "1"}]);
        assert_eq!(needed_by(&key("1", "DATA", "ACTIVE", one)), "1 credential, 1 token without an end");
    }

    #[test]
    fn it_is_settled_when_nothing_is_stored_under_an_old_key() {
        let secrets = json!([{"what": "secrets", "count": "1"}]);
        let pages = json!([{"what": "pages of lists", "untilTime": "2026-12-01T10:00:00Z"}]);
        for (keys, expected) in [
            (
                vec![key("2", "DATA", "PENDING", json!([])), key("1", "DATA", "ACTIVE", secrets.clone())],
                false,
            ),
            (
                vec![key("2", "DATA", "ACTIVE", json!([])), key("1", "DATA", "RETIRING", secrets.clone())],
                false,
            ),
            (
                vec![
                    key("2", "DATA", "ACTIVE", secrets.clone()),
                    key("1", "DATA", "RETIRING", pages.clone()),
                ],
                true,
            ),
            (vec![key("2", "SEALING", "PENDING", json!([]))], true),
        ] {
            assert_eq!(is_settled(&keys, Purpose::Data), expected, "{keys:?}");
        }
    }

    #[test]
    fn it_is_said_when_nothing_needs_an_old_key() {
        let of = |needs| advice(&[key("k", "SIGNING", "RETIRING", needs)], Purpose::Signing).join("; ");
        let endless =
            json!([{"what": "tokens without an end", "count": "2", "names": ["tokens/a", "tokens/b"]}]);
        assert_eq!(
            of(endless),
            "signing key k is needed until these tokens, which have no end, are issued anew or revoked: a b"
        );
        let ending = json!([{"what": "tokens", "untilTime": "2027-01-04T00:00:00Z"}, {"what": "x", "untilTime": "2026-01-04T00:00:00Z"}]);
        assert_eq!(of(ending), "signing key k is needed by nothing after 2027-01-04T00:00:00Z");
        assert_eq!(of(json!([])), "signing key k is needed by nothing, and is deleted soon");
        assert_eq!(advice(&[key("k", "DATA", "RETIRING", json!([]))], Purpose::Signing), [""; 0]);
    }
}
