//! The options that set the fields of a resource: an error about a field names what was typed. Pure.

use super::Error;

/// Fields of requests, without the resource that they are of and without the places in lists, and what sets them.
const OPTIONS: &[(&str, &str)] = &[
    ("http.url", "--url"),
    ("mcp.era_policy", "--era"),
    ("request_timeout", "--request-timeout"),
    ("refresh_interval", "--refresh-interval"),
    ("tools", "--tool"),
    ("resources", "--resource"),
    ("prompts", "--prompt"),
    ("tools.alias", "the alias of --tool"),
    ("resources.alias", "the alias of --resource"),
    ("prompts.alias", "the alias of --prompt"),
    ("tools.match", "--tool"),
    ("resources.match", "--resource"),
    ("prompts.match", "--prompt"),
    ("scope.servers", "--server"),
    ("scope.tools", "--tool"),
    ("scope.resources", "--resource"),
    ("scope.prompts", "--prompt"),
    ("expire_time", "--expires"),
    ("conditions.methods", "--method"),
    ("conditions.from", "--from"),
    ("conditions.not_before", "--not-before"),
    ("conditions.windows", "--window"),
    ("conditions.rates", "--rate"),
    ("conditions.quotas", "--quota"),
    ("purpose", "--purpose"),
    ("certificates", "--certificate"),
    ("definition_json", "--definition"),
    ("title", "--title"),
    ("description", "--description"),
    ("instructions", "--instructions"),
    ("meta.owner", "--owner"),
    ("meta.team", "--team"),
    ("meta.visibility", "--visibility"),
    ("email", "--email"),
    ("bindings.role", "--role"),
    ("bindings.team", "--team"),
    ("role", "--role"),
    ("owner", "--owner"),
    ("team", "--team"),
];

impl Error {
    /// The same error of `create` or `update`, with options in the place of the fields that they set.
    pub fn in_options(mut self) -> Self {
        for (field, _) in self.refusal.iter().flat_map(|refusal| &refusal.violations) {
            if let Some(option) = option_of(field) {
                self.message = self.message.replace(&format!("{field} "), &format!("{option} "));
            }
        }
        self.message = self.message.replace("`expire_time`", "--expires");
        self
    }

    /// The same error, with another word for the field that it begins with.
    pub fn calling(mut self, field: &str, word: &str) -> Self {
        if let Some(rest) = self.message.strip_prefix(&format!("{field} ")) {
            self.message = format!("{word} {rest}");
        }
        self
    }
}

/// What sets a field such as `server.tools[0].match`.
fn option_of(field: &str) -> Option<&'static str> {
    let path: String =
        field.split('[').map(|part| part.split_once(']').map_or(part, |(_, rest)| rest)).collect();
    let Some((_, path)) = path.split_once('.') else { return path.ends_with("_id").then_some("NAME") };
    if path.starts_with("meta.labels") {
        return Some("--label");
    }
    OPTIONS.iter().find(|(known, _)| *known == path).map(|(_, option)| *option)
}

#[cfg(test)]
mod tests {
    use tonic::{Code, Status};
    use tonic_types::{ErrorDetails, StatusExt as _};

    use super::*;

    #[test]
    fn fields_are_called_by_what_sets_them() {
        for (field, option) in [
            ("token_id", Some("NAME")),
            ("upstream.http.url", Some("--url")),
            ("server.tools[12].match", Some("--tool")),
            ("token.scope.servers[0]", Some("--server")),
            ("token.conditions.windows[1]", Some("--window")),
            ("server.meta.labels[\"a.b\"]", Some("--label")),
            ("server.meta.owner", Some("--owner")),
            ("server.tools[0].alias", Some("the alias of --tool")),
            ("server.tools[1]", Some("--tool")),
            ("user.email", Some("--email")),
            ("user.bindings[0].role", Some("--role")),
            ("parent", None),
        ] {
            assert_eq!(option_of(field), option, "{field}");
        }
    }

    #[test]
    fn a_field_may_have_a_word_of_its_own() {
        let calling = |text: &str| Error::usage(text).calling("email", "--email").to_string();
        assert_eq!(calling("email must be an email address"), "--email must be an email address");
        assert_eq!(calling("the email address is odd"), "the email address is odd");
    }

    #[test]
    fn the_other_field_of_an_error_is_an_option_too() {
        let error = Error::usage("--not-before must be before `expire_time`; it is never valid otherwise");
        assert_eq!(
            error.in_options().to_string(),
            "--not-before must be before --expires; it is never valid otherwise"
        );
    }

    #[test]
    fn an_error_names_what_was_typed() {
        let mut details = ErrorDetails::new();
        details.add_bad_request_violation("token_id", "`a\nb` cannot be an id");
        details.add_bad_request_violation("token.expire_time", "is in the past");
        let text = "token_id `a\nb` cannot be an id; token.expire_time is in the past";
        let status = Status::with_error_details(Code::InvalidArgument, text, details);
        assert_eq!(
            Error::from_status(&status, "http://x").in_options().to_string(),
            "NAME `a b` cannot be an id; --expires is in the past"
        );
    }
}
