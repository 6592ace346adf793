//! What to do where the two sides of a connection do not trust each other: by which command, or which variable. Pure.

use super::{Context, environment};
use crate::shell::quoted;

impl Context {
    /// What to do so that an authority is trusted.
    pub fn advice_on_trust(&self) -> String {
        match self.name.as_str() {
            "" => format!("to trust it, set {} to the file of its authority", environment::CA_FILE),
            name => format!("to trust it, run `mcpctl config set-context {} --ca-file FILE`", quoted(name)),
        }
    }

    /// What to do so that an edge which wants a client certificate is shown one.
    pub fn advice_on_certificate(&self) -> String {
        if let Some(path) = &self.client_cert {
            return format!(
                "check that an authority of its --client-ca signed {}, and that it is valid",
                path.display()
            );
        }
        match self.name.as_str() {
            "" => format!(
                "set {} and {} to the files of one",
                environment::CLIENT_CERT,
                environment::CLIENT_KEY
            ),
            name => format!(
                "set one with `mcpctl config set-context {} --client-cert FILE --client-key FILE`",
                quoted(name)
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_context_is_named_and_without_one_the_variable() {
        let named = Context { name: "prod".to_owned(), ..Context::default() };
        let given = Context::default();
        let shown = Context { client_cert: Some("agent.pem".into()), ..given.clone() };
        assert_eq!(
            [&named, &given].map(Context::advice_on_trust),
            [
                "to trust it, run `mcpctl config set-context prod --ca-file FILE`",
                "to trust it, set MCPCTL_CA_FILE to the file of its authority",
            ]
        );
        assert_eq!(
            [&named, &given, &shown].map(Context::advice_on_certificate),
            [
                "set one with `mcpctl config set-context prod --client-cert FILE --client-key FILE`",
                "set MCPCTL_CLIENT_CERT and MCPCTL_CLIENT_KEY to the files of one",
                "check that an authority of its --client-ca signed agent.pem, and that it is valid",
            ]
        );
    }
}
