//! The flags that set fields of a team or a role, shared by `create` and `update`.

use serde_json::Value;

use crate::commands::fields::{Fields, KeyChange, text};
use crate::parse;

/// Fields of a team.
#[derive(Debug, Default, clap::Args)]
#[group(skip)]
pub struct TeamFlags {
    /// Server that its members may call beside the team's own, or * for all; repeatable
    #[arg(long = "server", value_name = "NAME")]
    servers: Vec<String>,
    /// Tools that they may call, by exposed name; * matches any characters; repeatable [default: *]
    #[arg(long = "tool", value_name = "GLOB")]
    tools: Vec<String>,
    /// Resources that they may read, by exposed URI; repeatable [default: *]
    #[arg(long = "resource", value_name = "GLOB")]
    resources: Vec<String>,
    /// Prompts that they may get, by exposed name; repeatable [default: *]
    #[arg(long = "prompt", value_name = "GLOB")]
    prompts: Vec<String>,
    /// Display name
    #[arg(long)]
    title: Option<String>,
    /// Description
    #[arg(long)]
    description: Option<String>,
    /// Label; repeatable. An update keeps the others, and KEY- takes one out
    #[arg(long = "label", value_name = "KEY=VALUE|KEY-", value_parser = parse::pair_or_removal)]
    labels: Vec<KeyChange>,
}

impl TeamFlags {
    /// Returns the given fields.
    pub fn fields(&self) -> Fields {
        let mut fields = Fields::default();
        fields.set_scope(&self.servers, self.globs());
        fields.set("title", text(&self.title)).set("description", text(&self.description));
        fields.set_map("meta.labels", &self.labels);
        fields
    }

    /// Returns the given fields; a new team with a scope has everything that it does not narrow.
    pub fn fields_for_creation(&self) -> Fields {
        let mut fields = self.fields();
        if fields.body.contains_key("scope") {
            fields.fill_scope(self.globs());
        }
        fields
    }

    fn globs(&self) -> [&[String]; 3] {
        [&self.tools, &self.resources, &self.prompts]
    }
}

/// Fields of a role.
#[derive(Debug, Default, clap::Args)]
#[group(skip)]
pub struct RoleFlags {
    /// Permission that it holds, such as servers.write; repeatable
    #[arg(long = "permission", value_name = "NAME")]
    permissions: Vec<String>,
    /// Display name
    #[arg(long)]
    title: Option<String>,
    /// Description
    #[arg(long)]
    description: Option<String>,
    /// Label; repeatable. An update keeps the others, and KEY- takes one out
    #[arg(long = "label", value_name = "KEY=VALUE|KEY-", value_parser = parse::pair_or_removal)]
    labels: Vec<KeyChange>,
}

impl RoleFlags {
    /// Returns the given fields.
    pub fn fields(&self) -> Fields {
        let mut fields = Fields::default();
        fields.set_list("permissions", &self.permissions, |word| Value::String(word.clone()));
        fields.set("title", text(&self.title)).set("description", text(&self.description));
        fields.set_map("meta.labels", &self.labels);
        fields
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_new_team_is_narrow_only_where_that_is_said() {
        assert!(!TeamFlags::default().fields_for_creation().body.contains_key("scope"));
        let flags =
            TeamFlags { servers: vec!["dev".into()], tools: vec!["a_*".into()], ..TeamFlags::default() };
        let scope = &flags.fields_for_creation().body["scope"];
        assert_eq!(
            scope,
            &json!({ "servers": ["servers/dev"], "tools": ["a_*"], "resources": ["*"], "prompts": ["*"] })
        );
        assert_eq!(flags.fields().mask, ["scope.servers", "scope.tools"]);
    }

    #[test]
    fn permissions_are_a_list() {
        let flags = RoleFlags { permissions: vec!["servers.call".into()], ..RoleFlags::default() };
        assert_eq!(flags.fields().body["permissions"], json!(["servers.call"]));
    }
}
