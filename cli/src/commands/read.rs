//! `mcpctl read SERVER [URI]`: reads a resource of a server through the edge, or lists them.

use std::io::{IsTerminal as _, Write as _};

use mcp::json::{self, JsonError, quote};
use mcp::method::Method;

use crate::client::caller::Wanted;
use crate::client::conversation::Conversation;
use crate::client::media::{MediaFlags, MediaPrinter, Medium};
use crate::client::session::{EdgeSession, SessionFlags};
use crate::client::{answer, signature};
use crate::commands::Invocation;
use crate::error::{Error, Result};
use crate::output;
use crate::output::progress::Spinner;

const MAX_RESOURCES: usize = 100_000;

/// Arguments of `read`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Name of the server
    server: String,
    /// URI of the resource as clients see it [default: list all]
    uri: Option<String>,
    #[command(flatten)]
    media: MediaFlags,
    #[command(flatten)]
    session: SessionFlags,
}

/// Runs `read`.
pub async fn run(invocation: &Invocation, args: Args) -> Result {
    let Some(uri) = &args.uri else { return list(invocation, &args).await };
    let spinner = Spinner::start(format!("reading {uri}"));
    let session = EdgeSession::open(invocation, &args.server, &args.session, Wanted::Resource(uri)).await?;
    let params = format!(r#"{{"uri":{}}}"#, quote(uri));
    let mut conversation = Conversation::beside(&spinner);
    let result = session.request("resources/read", &params, &[], &mut conversation).await;
    drop(spinner);
    let (result, printer) =
        (result?, MediaPrinter::new(&args.media, uri.rsplit('/').next().unwrap_or_default()));
    if invocation.format().is_for_people() {
        return print(&result, &printer);
    }
    answer::print(invocation, &result, str::to_owned)?;
    parts(&result)?
        .iter()
        .filter_map(|part| Medium::of_resource(part))
        .try_for_each(|medium| printer.save_beside(&medium))
}

async fn list(invocation: &Invocation, args: &Args) -> Result {
    let session = EdgeSession::open(invocation, &args.server, &args.session, Wanted::Anything).await?;
    let mut definitions = Vec::new();
    for method in [Method::ResourcesList, Method::ResourcesTemplatesList] {
        definitions.extend(session.list_if_offered(method, MAX_RESOURCES).await?);
    }
    session.mcp.close().await;
    if definitions.is_empty() {
        output::eprint(format!(
            "server {} has no resources that {} may read",
            session.server.name, session.caller
        ));
    }
    answer::print_list(invocation, &definitions, address, |definition| {
        let [name, text] = json::members(definition, ["name", "description"]).unwrap_or_default();
        let said = [signature::first_line(name), signature::first_line(text)];
        let said: Vec<_> = said.into_iter().filter(|text| !text.is_empty()).collect();
        (printable::line(&address(definition)).into_owned(), said.join(": "))
    })
}

fn address(definition: &str) -> String {
    let [uri, template] = json::members(definition, ["uri", "uriTemplate"]).unwrap_or_default();
    signature::text(uri.or(template))
}

/// The contents of a resource, raw.
fn parts(result: &str) -> Result<Vec<String>> {
    let [contents] = json::members(result, ["contents"]).unwrap_or_default();
    let mut parts = Vec::new();
    let read = json::each_element(contents.unwrap_or("[]"), |raw| {
        parts.push(raw.to_owned());
        Ok::<(), JsonError>(())
    });
    read.map_err(|error| Error::failure(format!("the result cannot be read: {error}; use -o json")))?;
    Ok(parts)
}

/// Prints the contents of a resource: texts safely on a terminal, and everything byte for byte elsewhere.
fn print(result: &str, printer: &MediaPrinter<'_>) -> Result {
    for part in parts(result)? {
        match Medium::of_resource(&part) {
            Some(medium) if printer.saves() || std::io::stdout().is_terminal() => printer.print(&medium)?,
            Some(medium) => print_bytes(&medium.bytes()?)?,
            None => {
                let [text] = json::members(&part, ["text"]).unwrap_or_default();
                output::print_content(&signature::text(text))?;
            }
        }
    }
    Ok(())
}

fn print_bytes(bytes: &[u8]) -> Result {
    let mut stdout = std::io::stdout().lock();
    match stdout.write_all(bytes).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}
