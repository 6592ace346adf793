//! The flags that set fields of a token, shared by `create` and `update`.

use serde_json::Value;

use crate::commands::fields::{Fields, KeyChange, OwnerFlags, text};
use crate::parse::{self, Expiry};

/// Fields of a token.
#[derive(Debug, Default, clap::Args)]
#[group(skip)]
pub struct TokenFlags {
    /// Server that the token may call, or * for all; repeatable
    #[arg(long = "server", value_name = "NAME")]
    pub servers: Vec<String>,
    /// Tools that it may call, by exposed name; * matches any characters; repeatable
    #[arg(long = "tool", value_name = "GLOB")]
    tools: Vec<String>,
    /// Resources that it may read, by exposed URI; repeatable
    #[arg(long = "resource", value_name = "GLOB")]
    resources: Vec<String>,
    /// Prompts that it may get, by exposed name; repeatable
    #[arg(long = "prompt", value_name = "GLOB")]
    prompts: Vec<String>,
    /// Expiry: a duration such as 90d, a time such as 2027-01-31T12:00:00Z or 2027-01-31, or never
    #[arg(long, value_name = "WHEN", value_parser = parse::expiry)]
    expires: Option<Expiry>,
    /// Description
    #[arg(long)]
    description: Option<String>,
    /// Identity of a client certificate by which edges know it without a bearer: spiffe://…, dns:NAME or cn:NAME; repeatable
    #[arg(long = "certificate", value_name = "IDENTITY")]
    certificates: Vec<String>,
    /// Label; repeatable. An update keeps the others, and KEY- takes one out
    #[arg(long = "label", value_name = "KEY=VALUE|KEY-", value_parser = parse::pair_or_removal)]
    labels: Vec<KeyChange>,
    #[command(flatten)]
    ownership: OwnerFlags,
    #[command(flatten)]
    conditions: ConditionFlags,
}

/// What must hold beside the scope of a token.
#[derive(Debug, Default, clap::Args)]
#[command(next_help_heading = "Conditions of the token")]
#[group(skip)]
struct ConditionFlags {
    /// Method that it may use, such as tools/call or 'resources/*'; repeatable [default: all]
    #[arg(long = "method", value_name = "GLOB")]
    methods: Vec<String>,
    /// Addresses of clients, such as 10.1.2.3, 10.0.0.0/8 or 2001:db8::/32; repeatable [default: any]
    #[arg(long, value_name = "ADDRESS|CIDR")]
    from: Vec<String>,
    /// Weekly time in which it is valid, such as 'Mon-Fri 08:00-18:00 Europe/Berlin' or 'daily 22:00-06:00 UTC'; repeatable
    /// [default: always]
    #[arg(long = "window", value_name = "DAYS TIMES ZONE")]
    windows: Vec<String>,
    /// How fast it may call, such as 5/s, 100/min or '5/s per tool'; repeatable
    #[arg(long = "rate", value_name = "N/UNIT")]
    rates: Vec<String>,
    /// How much it may call, such as 50/hour, '200/day per server' or '10000/month per tool'; repeatable
    #[arg(long = "quota", value_name = "N/PERIOD")]
    quotas: Vec<String>,
    /// Begin: a time such as 2027-01-31T12:00:00Z or 2027-01-31, or a duration from now such as 2h
    #[arg(long, value_name = "WHEN", value_parser = parse::moment)]
    not_before: Option<Expiry>,
    /// Piece of work that it is for
    #[arg(long)]
    purpose: Option<String>,
}

impl ConditionFlags {
    fn add_to(&self, fields: &mut Fields) {
        let word = |word: &String| Value::String(word.clone());
        for (path, words) in [
            ("conditions.methods", &self.methods),
            ("conditions.from", &self.from),
            ("conditions.windows", &self.windows),
            ("conditions.rates", &self.rates),
            ("conditions.quotas", &self.quotas),
        ] {
            fields.set_list(path, words, word);
        }
        let begin = self.not_before.and_then(|begin| begin.timestamp(time::OffsetDateTime::now_utc()));
        fields.set("conditions.notBefore", begin.map(Value::String)).set("purpose", text(&self.purpose));
    }
}

impl TokenFlags {
    /// Returns the given fields.
    pub fn fields(&self) -> Fields {
        let mut fields = Fields::default();
        fields.set_scope(&self.servers, self.globs());
        fields.set("description", text(&self.description)).set_map("meta.labels", &self.labels);
        fields.set_list("certificates", &self.certificates, |identity| Value::String(identity.clone()));
        self.ownership.set(&mut fields);
        let end = |expires: Expiry| {
            expires.timestamp(time::OffsetDateTime::now_utc()).map_or(Value::Null, Value::String)
        };
        fields.set("expireTime", self.expires.map(end));
        self.conditions.add_to(&mut fields);
        fields
    }

    /// Returns the given fields; a new token without narrower globs may use everything on its servers.
    pub fn fields_for_creation(&self) -> Fields {
        let mut fields = self.fields();
        fields.fill_scope(self.globs());
        fields
    }

    fn globs(&self) -> [&[String]; 3] {
        [&self.tools, &self.resources, &self.prompts]
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn conditions_become_lists_of_their_own() {
        let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        let conditions = ConditionFlags {
            from: words(&["10.0.0.0/8", "::1"]),
            rates: words(&["5/s"]),
            not_before: Some(parse::moment("2026-12-01").unwrap()),
            purpose: Some("nightly".into()),
            ..ConditionFlags::default()
        };
        let fields = TokenFlags { conditions, ..TokenFlags::default() }.fields();
        let expected = json!({"conditions": {"from": ["10.0.0.0/8", "::1"], "rates": ["5/s"], "notBefore": "2026-12-01T00:00:00Z"},
            "purpose": "nightly"});
        assert_eq!(Value::Object(fields.body), expected);
        assert_eq!(fields.mask, ["conditions.from", "conditions.rates", "conditions.notBefore", "purpose"]);
    }

    #[test]
    fn a_new_token_may_do_everything_on_its_servers() {
        let flags =
            TokenFlags { servers: vec!["dev".into()], tools: vec!["time_*".into()], ..TokenFlags::default() };
        let expected = json!({"scope": {"servers": ["servers/dev"], "tools": ["time_*"], "resources": ["*"], "prompts": ["*"]}});
        assert_eq!(Value::Object(flags.fields_for_creation().body), expected);
        assert_eq!(flags.fields().mask, ["scope.servers", "scope.tools"]);
    }
}
