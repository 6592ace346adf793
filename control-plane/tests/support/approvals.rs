//! A control plane with a server whose rule holds calls back, an edge, and people who call, decide, or may not know of it.
#![allow(dead_code, reason = "each test file uses its part")]

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::StatusCode;
use serde_json::{Value, json};
use trunkline_control_plane::config::Config;

use crate::api::Api;
use crate::database::Database;

pub(crate) const APPROVALS: &str = "policy.v1.ApprovalService";
const TOKENS: &str = "identity.v1.TokenService";
const TEAMS: &str = "identity.v1.TeamService";
const ACCOUNTS: &str = "identity.v1.ServiceAccountService";
const USERS: &str = "identity.v1.UserService";

pub(crate) struct Office {
    pub(crate) api: Api,
    /// The `authorization` of each.
    who: BTreeMap<&'static str, String>,
    edge: String,
}

impl Office {
    /// The server `dev` is of the team `core`, of which `ann`, `max` and `owner` are owners. Ann answers for `bot` and `bot2`, and owns the
    /// token `ci`; `of-bot` is a token of `bot`, and `of-nobody` of nobody. `eve` owns another team.
    pub(crate) async fn open(database: &Database) -> Self {
        Self::open_with(database, |_| ()).await
    }

    pub(crate) async fn open_with(database: &Database, change: impl FnOnce(&mut Config)) -> Self {
        let url = database.url().to_owned();
        let api = Api::start_with(|config| {
            config.database_url = Some(url.into());
            config.approvals.approval_url = "https://trunkline.example.org".parse().ok();
            change(config);
        })
        .await;
        let admin = format!("Bearer {}", api.admin);
        let mut office = Self { api, who: BTreeMap::from([("admin", admin)]), edge: String::new() };
        office.furnish().await;
        office.people().await;
        office.edge = office.enrol().await;
        office
    }

    async fn furnish(&self) {
        let api = &self.api;
        api.upstream("fs").await;
        let public = json!({"upstream": {"name": "upstreams/fs", "meta": {"visibility": "VISIBILITY_PUBLIC"}}, "updateMask": "meta.visibility"});
        api.ok("registry.v1.UpstreamService/UpdateUpstream", public).await;
        api.tool("fs", "delete").await;
        let deletes = json!({"id": "deletes", "effect": "RULE_EFFECT_APPROVE", "tools": ["fs_*"], "reason": "Deletes are looked at."});
        let never = json!({"id": "never", "effect": "RULE_EFFECT_DENY", "tools": ["fs_never"]});
        let writes =
            json!({"id": "writes", "effect": "RULE_EFFECT_APPROVE", "reason": "Writes are looked at."});
        for team in ["core", "else"] {
            let team = json!({"teamId": team, "team": {"rules": [writes]}});
            api.ok(&format!("{TEAMS}/CreateTeam"), team).await;
        }
        let of_team = json!({"team": "teams/core", "visibility": "VISIBILITY_TEAM"});
        let members = json!([{"match": "fs/*"}]);
        api.server("dev", json!({"tools": members, "rules": [deletes, never], "meta": of_team})).await;
        api.server("alone", json!({"tools": members, "rules": [deletes]})).await;
    }

    async fn people(&mut self) {
        let user = json!({"user": {"email": "ann@example.org"}});
        let invited = self.api.raw(&format!("{USERS}/CreateUser"), &user.to_string()).await.1;
        let link = json!({"secret": invited["link"]["secret"], "password": "correct horse battery"});
        let signed_in = self.api.raw("identity.v1.SessionService/RedeemLink", &link.to_string()).await.1;
        self.who.insert("ann", format!("Bearer {}", signed_in["secret"].as_str().unwrap()));
        let ann = "users/ann@example.org";
        self.join("core", ann, true).await;
        for (id, owner, team, is_owner) in [
            ("max", "", "core", true),
            ("owner", "", "core", true),
            ("bot", ann, "core", true),
            ("bot2", ann, "core", true),
            ("dev", "", "core", false),
            ("eve", "", "else", true),
            ("auditor", "", "", false),
            ("nobody", "", "", false),
        ] {
            let bindings = if id == "auditor" { json!([{"role": "roles/auditor"}]) } else { json!([]) };
            let account =
                json!({"serviceAccountId": id, "serviceAccount": {"owner": owner, "bindings": bindings}});
            self.api.ok(&format!("{ACCOUNTS}/CreateServiceAccount"), account).await;
            let name = format!("serviceAccounts/{id}");
            if !team.is_empty() {
                self.join(team, &name, is_owner).await;
            }
            let key = self.key("admin", json!({"parent": name})).await;
            self.who.insert(id, key);
        }
        let key = self.key("ann", json!({"parent": ann})).await;
        self.who.insert("ann-key", key);
        let limited = self.key("ann", json!({"parent": ann, "role": "roles/viewer"})).await;
        self.who.insert("ann-limited", limited);
        for (who, id) in [("ann", "ci"), ("bot", "of-bot"), ("admin", "of-nobody")] {
            let token = json!({"tokenId": id, "token": {"scope": {"servers": ["servers/dev"]}}});
            let (status, made) = self.call(who, &format!("{TOKENS}/CreateToken"), token).await;
            assert_eq!(status, StatusCode::OK, "{made}");
        }
    }

    async fn join(&self, team: &str, who: &str, is_owner: bool) {
        let member =
            json!({"team": format!("teams/{team}"), "member": {"principal": who, "owner": is_owner}});
        self.api.ok(&format!("{TEAMS}/AddMember"), member).await;
    }

    pub(crate) async fn leave(&self, team: &str, who: &str) {
        let member = json!({"team": format!("teams/{team}"), "principal": who});
        self.api.ok(&format!("{TEAMS}/RemoveMember"), member).await;
    }

    async fn key(&self, who: &str, request: Value) -> String {
        let (status, made) = self.call(who, &format!("{ACCOUNTS}/CreateApiKey"), request).await;
        assert_eq!(status, StatusCode::OK, "{made}");
        format!("Bearer {}", made["secret"].as_str().unwrap())
    }

    async fn enrol(&self) -> String {
        let made =
            self.api.raw("discovery.v1.EnrollmentService/CreateJoinToken", r#"{"maxUses": 1}"#).await.1;
        let enrol = json!({"joinToken": made["joinToken"], "edgeId": "e1"});
        let edge = self.api.raw("discovery.v1.EnrollmentService/EnrollEdge", &enrol.to_string()).await.1;
        format!("Bearer {}", edge["credential"].as_str().unwrap())
    }

    pub(crate) async fn call(&self, who: &str, rpc: &str, request: Value) -> (StatusCode, Value) {
        self.api.raw_as(&self.who[who], rpc, &request.to_string()).await
    }

    /// Calls an rpc of approvals.
    pub(crate) async fn ask(&self, who: &str, rpc: &str, request: Value) -> (StatusCode, Value) {
        self.call(who, &format!("{APPROVALS}/{rpc}"), request).await
    }

    /// The answer, or the reason why not.
    pub(crate) async fn decide(
        &self,
        who: &str,
        name: &str,
        decision: &str,
        comment: &str,
    ) -> Result<Value, String> {
        let request =
            json!({"name": name, "decision": format!("APPROVAL_STATE_{decision}"), "comment": comment});
        let (status, answer) = self.ask(who, "DecideApproval", request).await;
        let reason = answer["details"][0]["reason"].as_str().unwrap_or("?").to_owned();
        if status == StatusCode::OK { Ok(answer) } else { Err(reason) }
    }

    /// What an edge is answered that is about to make a call.
    pub(crate) async fn edge_asks(&self, call: &Value) -> (StatusCode, Value) {
        self.edge_tells("UseApproval", call).await
    }

    /// Calls an rpc of approvals as an edge.
    pub(crate) async fn edge_tells(&self, rpc: &str, request: &Value) -> (StatusCode, Value) {
        self.api.raw_as(&self.edge, &format!("{APPROVALS}/{rpc}"), &request.to_string()).await
    }

    pub(crate) async fn used(&self, call: &Value) -> Value {
        let (status, answer) = self.edge_asks(call).await;
        assert_eq!(status, StatusCode::OK, "{answer}");
        answer
    }

    pub(crate) async fn refused(&self, call: &Value) -> String {
        let (status, answer) = self.edge_asks(call).await;
        assert_ne!(status, StatusCode::OK, "{answer}");
        answer["details"][0]["reason"].as_str().unwrap_or("?").to_owned()
    }

    /// A call of a tool of `dev` by somebody, as an edge knows it.
    pub(crate) async fn call_of(&self, principal: &str) -> Value {
        json!({
            "principal": principal,
            "principalUid": self.uid(principal).await,
            "server": "servers/dev",
            "serverUid": self.uid("servers/dev").await,
            "tool": "fs_delete",
            "target": "upstreams/fs/tools/delete",
            "upstreamUid": self.uid("upstreams/fs").await,
            "definition": STANDARD.encode([7; 32]),
            "argumentsJson": r#"{"path":"/srv"}"#,
            "rule": "servers/dev/rules/deletes",
            "address": "192.0.2.7",
        })
    }

    pub(crate) async fn uid(&self, name: &str) -> String {
        let (rpc, field) = match name.split_once('/').unwrap().0 {
            "tokens" => (format!("{TOKENS}/GetToken"), "token"),
            "users" => (format!("{USERS}/GetUser"), "user"),
            "serviceAccounts" => (format!("{ACCOUNTS}/GetServiceAccount"), "serviceAccount"),
            "servers" => ("registry.v1.ServerService/GetServer".to_owned(), "server"),
            _ => ("registry.v1.UpstreamService/GetUpstream".to_owned(), "upstream"),
        };
        let found = self.api.raw(&rpc, &json!({"name": name}).to_string()).await.1;
        let found = &found[field];
        let uid = found["meta"]["uid"].as_str().or(found["uid"].as_str());
        uid.unwrap_or_else(|| panic!("{name}: {found}")).to_owned()
    }

    /// A page: its status, its policy and its text.
    pub(crate) async fn page(&self, path: &str) -> (u16, String, String) {
        let answer = reqwest::get(format!("http://{}/{path}", self.api.addr)).await.unwrap();
        let policies: Vec<_> = answer.headers().get_all("content-security-policy").iter().collect();
        let policy = policies.iter().map(|value| value.to_str().unwrap()).collect::<Vec<_>>().join("; ");
        (answer.status().as_u16(), policy, answer.text().await.unwrap())
    }
}
