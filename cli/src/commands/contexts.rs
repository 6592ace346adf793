//! The context file as a whole: `mcpctl config view`, which shows no secret, and `mcpctl config rename-context`.

use crate::commands::Invocation;
use crate::commands::config::check_known;
use crate::context::{Contexts, Secret};
use crate::error::{Error, Exit, Result};
use crate::output::{self, Format};

/// What stands in the place of a secret.
const REDACTED: &str = "REDACTED";

/// Runs `config view`.
pub fn view(invocation: &Invocation) -> Result {
    let contexts = without_secrets(invocation.context_file.read()?);
    match &invocation.format {
        None | Some(Format::Table | Format::Wide) => output::print(&output::yaml(&contexts)?),
        Some(format) => output::print(&output::value(&contexts, format, String::new)?),
    }
}

fn without_secrets(mut contexts: Contexts) -> Contexts {
    for context in contexts.contexts.values_mut() {
        let bearers = context.tokens.values_mut().map(|token| &mut token.bearer);
        let session = context.session.iter_mut().map(|session| &mut session.secret);
        for secret in bearers.chain(session).chain(&mut context.admin_token).chain(&mut context.device) {
            *secret = Secret::new(REDACTED);
        }
    }
    contexts
}

/// Runs `config rename-context`.
pub fn rename(invocation: &Invocation, old: &str, new: &str) -> Result {
    if invocation.context_file.is_in_file_of_dev(old)? {
        return Err(Error::usage(format!(
            "`mcpctl dev` makes context {old} anew at each start, so that it keeps its name; make another beside it with \
             `mcpctl config set-context {new} --control URL --edge URL`"
        )));
    }
    invocation.context_file.edit(|contexts| {
        check_known(contexts, old)?;
        if contexts.contexts.contains_key(new) {
            return Err(Error::new(
                Exit::Conflict,
                format!("context {new} exists already; take another name, or run `mcpctl config delete-context {new}`"),
            ));
        }
        let context = contexts.contexts.remove(old).unwrap_or_default();
        contexts.contexts.insert(new.to_owned(), context);
        if contexts.current_context.as_deref() == Some(old) {
            contexts.current_context = Some(new.to_owned());
        }
        Ok(())
    })?;
    output::eprint(format!(
        "context {old} is called {new} now; where a host or a script names it, as MCPCTL_CONTEXT, change that, too"
    ));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_secret_is_shown() {
        let text = "contexts:\n  a:\n    adminToken: s3cret\n    session: {secret: s3cret}\n    device: s3cret\n    tokens: {t: {bearer: s3cret, servers: ['*']}}\n";
        let shown = output::yaml(&without_secrets(serde_yaml_ng::from_str(text).unwrap())).unwrap();
        assert!(!shown.contains("s3cret") && shown.matches(REDACTED).count() == 4, "{shown}");
    }
}
