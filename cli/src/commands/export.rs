//! `mcpctl export [KIND…]`: prints resources, without secrets, as files that `apply` reads.

use crate::commands::Invocation;
use crate::confirm;
use crate::error::Result;
use crate::kinds::{KINDS, Kind};
use crate::manifest;
use crate::output::{self, Format};
use crate::parse;
use crate::reflection;

/// Arguments of `export`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Kinds to export: upstreams, servers, tools, resources, prompts or tokens [default: all except the catalogue]
    #[arg(value_parser = Kind::parser_of_files(), hide_possible_values = true)]
    kinds: Vec<&'static Kind>,
    /// Refer to a variable, as {fromEnv: NAME}, in the place of each secret, for apply on another gateway
    #[arg(long)]
    secrets_from_env: bool,
}

/// Runs `export`.
pub async fn run(invocation: &Invocation, args: Args) -> Result {
    let format = invocation.format.as_ref().unwrap_or(&Format::Yaml);
    // What does not fit is refused before anything is asked for.
    output::documents(Vec::new(), false, format)?;
    let client = invocation.client().await?;
    let kinds: Vec<_> = args.kinds.iter().map(|kind| kind.name).collect();
    let request = serde_json::json!({ "kinds": kinds });
    let mut stream = client.stream("trunkline.admin.v1.BulkService/ExportResources", request).await?;
    let (mut documents, mut left_out, mut variables) = (Vec::new(), Vec::new(), Vec::new());
    let mut revision = 0;
    while let Some(answer) = stream.message().await.map_err(|status| client.explain(&status))? {
        revision = reflection::number(&answer, "revision");
        left_out.extend(reflection::texts(&answer, "left_out"));
        let Some(manifest) = reflection::submessage(&answer, "manifest") else { continue };
        let found =
            KINDS.iter().find_map(|kind| Some((kind, reflection::submessage(&manifest, kind.manifest?)?)));
        if let Some((kind, resource)) = found {
            let mut document = manifest::desired(kind, &resource);
            if args.secrets_from_env {
                variables.extend(manifest::refer_to_secrets(kind, &mut document));
            }
            documents.push(document);
        }
    }
    let count = documents.len();
    output::print(&output::documents(documents, false, format)?)?;
    let exported = confirm::resources(count);
    output::eprint(format!("exported {exported} at revision {revision}, without secrets"));
    if !variables.is_empty() {
        output::eprint(format!("set these variables for apply: {}", variables.join(", ")));
    }
    if !left_out.is_empty() {
        let tokens = parse::counted(left_out.len(), "token");
        output::eprint(format!(
            "left out {tokens} that nobody can use any more, since applying them elsewhere would bring them back: {}",
            left_out.join(", ")
        ));
    }
    Ok(())
}
