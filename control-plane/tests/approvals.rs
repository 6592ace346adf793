//! Approvals over a socket, on both databases: what edges ask, who sees and who decides, and that nobody does about their own.
#![allow(clippy::unwrap_used, reason = "a failed expectation is a failed test")]

#[macro_use]
#[path = "support/database.rs"]
mod database;
#[path = "support/api.rs"]
mod api;
#[path = "support/approvals.rs"]
mod approvals;

use std::collections::BTreeSet;

use approvals::{APPROVALS, Office};
use database::Database;
use http::StatusCode;
use serde_json::{Value, json};

suite! {
    a_call_waits_until_somebody_else_approves_it_and_is_made_once,
    who_may_decide_sees_and_so_does_who_called,
    nobody_approves_their_own_and_may_deny_it,
    whoever_made_a_token_or_gave_it_away_approves_none_of_its_calls,
    who_may_decide_nothing_takes_back_their_own,
    calls_of_who_is_gone_end_at_once,
    too_many_of_one_person_are_refused,
    whoever_had_the_token_when_it_was_asked_does_not_decide_either,
    what_an_edge_says_is_held_against_the_registry,
    what_is_no_call_is_refused,
    too_many_that_wait_are_refused,
    a_list_has_pages_and_only_what_one_sees,
    what_is_done_is_recorded_with_it,
    a_page_says_how_far_it_is,
    decisions_are_checked,
    what_an_edge_did_not_use_it_gives_back,
    a_call_goes_on_once_with_each_round,
}

async fn a_call_waits_until_somebody_else_approves_it_and_is_made_once(database: Database) {
    let office = Office::open(&database).await;
    let call = office.call_of("tokens/ci").await;
    let asked = office.used(&call).await;
    assert_eq!(asked["approval"]["state"], "APPROVAL_STATE_PENDING");
    let name = asked["approval"]["name"].as_str().unwrap().to_owned();
    assert_eq!(asked["url"], format!("https://trunkline.example.org/{name}"));
    assert_eq!(asked["approval"]["argumentsJson"], Value::Null, "an edge has them");
    assert_eq!(
        office.used(&call).await["approval"]["name"],
        name.as_str(),
        "it waits, however often it is made"
    );

    let approved = office.decide("max", &name, "APPROVED", "").await.unwrap();
    assert_eq!(approved["approval"]["decidedBy"], "serviceAccounts/max");
    let used = office.used(&call).await;
    assert_eq!(
        (&used["approval"]["name"], &used["approval"]["state"]),
        (&json!(name), &json!("APPROVAL_STATE_USED"))
    );
    let next = office.used(&call).await;
    assert_ne!(next["approval"]["name"], name.as_str());
    assert_eq!(next["approval"]["state"], "APPROVAL_STATE_PENDING");

    let next = next["approval"]["name"].as_str().unwrap().to_owned();
    office.decide("max", &next, "DENIED", "Not on a Friday.").await.unwrap();
    let denied = office.used(&call).await;
    assert_eq!(
        (&denied["approval"]["state"], &denied["approval"]["comment"]),
        (&json!("APPROVAL_STATE_DENIED"), &json!("Not on a Friday."))
    );
    // The same with other arguments is another call.
    let mut other = call.clone();
    other["argumentsJson"] = r#"{"path":"/other"}"#.into();
    assert_eq!(office.used(&other).await["approval"]["state"], "APPROVAL_STATE_PENDING");
}

async fn who_may_decide_sees_and_so_does_who_called(database: Database) {
    let office = Office::open(&database).await;
    let asked = office.used(&office.call_of("tokens/ci").await).await;
    let name = asked["approval"]["name"].as_str().unwrap().to_owned();
    // Ann owns the token.
    for (who, sees) in [
        ("admin", true),
        ("max", true),
        ("owner", true),
        ("ann", true),
        ("ann-key", true),
        ("ann-limited", false),
        ("bot", true),
        ("dev", false),
        ("eve", false),
        ("auditor", false),
        ("nobody", false),
    ] {
        let (status, found) = office.ask(who, "GetApproval", json!({"name": name})).await;
        let (_, listed) = office.ask(who, "ListApprovals", json!({})).await;
        let listed: Vec<&Value> = listed["approvals"].as_array().into_iter().flatten().collect();
        if sees {
            assert_eq!(status, StatusCode::OK, "{who}: {found}");
            assert_eq!(found["approval"]["argumentsJson"], r#"{"path":"/srv"}"#, "{who}");
            assert_eq!(listed, [&found["approval"]], "{who}: lists and one by one are the same");
        } else {
            assert_eq!(status, StatusCode::NOT_FOUND, "{who}: {found}");
            let never = format!("approvals/{}", "0".repeat(32));
            let (_, other) = office.ask(who, "GetApproval", json!({"name": never})).await;
            let same = other.to_string().replace(&never, &name);
            assert_eq!(found.to_string(), same, "{who}: as what never was");
            assert!(listed.is_empty(), "{who}: {listed:?}");
        }
        let decided = office.decide(who, &name, "DENIED", "").await;
        let expected = match who {
            // Each may, and none is the first twice; ann and who she answers for take back what is theirs.
            "admin" | "max" | "owner" | "ann" | "ann-key" | "bot" => None,
            "eve" => Some("RESOURCE_NOT_FOUND"),
            _ => Some("PERMISSION_DENIED"),
        };
        match (expected, decided) {
            (Some(reason), Err(refused)) => assert_eq!(refused, reason, "{who}"),
            (None, Ok(decided)) => {
                assert_eq!(decided["approval"]["state"], "APPROVAL_STATE_DENIED", "{who}");
                let again =
                    format!("update approvals set state = 1, decided_by = '' where id = '{}'", &name[10..]);
                database.run(&again).await;
            }
            (_, decided) => panic!("{who}: {decided:?}"),
        }
    }
}

async fn nobody_approves_their_own_and_may_deny_it(database: Database) {
    let office = Office::open(&database).await;
    let own = ["ann", "ann-key", "bot", "bot2"];
    for (principal, refused) in [
        // A token of hers; herself; what she answers for; and a token of that.
        ("tokens/ci", own.as_slice()),
        ("users/ann@example.org", &own),
        ("serviceAccounts/bot", &own),
        ("tokens/of-bot", &own),
        // Of nobody whom she answers for.
        ("serviceAccounts/max", &["max"]),
        ("tokens/of-nobody", &[]),
    ] {
        let asked = office.used(&office.call_of(principal).await).await;
        let name =
            asked["approval"]["name"].as_str().unwrap_or_else(|| panic!("{principal}: {asked}")).to_owned();
        for who in refused {
            let refused = office.decide(who, &name, "APPROVED", "").await;
            assert_eq!(refused, Err("OWN_CALL".to_owned()), "{who} about {principal}");
        }
        let (_, found) = office.ask("admin", "GetApproval", json!({"name": name})).await;
        assert_eq!(found["approval"]["state"], "APPROVAL_STATE_PENDING");
        for who in ["ann", "bot", "max", "admin"].iter().filter(|who| !refused.contains(who)) {
            office
                .decide(who, &name, "APPROVED", "")
                .await
                .unwrap_or_else(|error| panic!("{who} about {principal}: {error}"));
            database
                .run(&format!("update approvals set state = 1, decided_by = '' where id = '{}'", &name[10..]))
                .await;
        }
    }
}

async fn whoever_had_the_token_when_it_was_asked_does_not_decide_either(database: Database) {
    let office = Office::open(&database).await;
    let asked = office.used(&office.call_of("tokens/ci").await).await;
    let name = asked["approval"]["name"].as_str().unwrap().to_owned();
    let token = json!({"token": {"name": "tokens/ci", "meta": {"owner": "serviceAccounts/max"}}, "updateMask": "meta.owner"});
    office.api.ok("identity.v1.TokenService/UpdateToken", token).await;
    for who in ["ann", "bot", "max"] {
        assert_eq!(office.decide(who, &name, "APPROVED", "").await, Err("OWN_CALL".to_owned()), "{who}");
    }
    office.decide("owner", &name, "APPROVED", "").await.unwrap();
}

/// Waits again, whatever was decided.
async fn reopen(database: &Database, name: &str) {
    let again = format!("update approvals set state = 1, decided_by = '' where id = '{}'", &name[10..]);
    database.run(&again).await;
}

async fn whoever_made_a_token_or_gave_it_away_approves_none_of_its_calls(database: Database) {
    const TOKENS: &str = "identity.v1.TokenService";
    let office = Office::open(&database).await;
    let of_team = json!({"team": "teams/core", "visibility": "VISIBILITY_TEAM"});
    let scope = json!({"servers": ["servers/dev"]});
    let create = |id: &str| json!({"tokenId": id, "token": {"scope": scope, "meta": of_team}});
    for (who, id) in [("ann", "by-ann"), ("bot", "by-bot"), ("max", "by-max"), ("admin", "by-admin")] {
        let (status, made) = office.call(who, &format!("{TOKENS}/CreateToken"), create(id)).await;
        assert_eq!(status, StatusCode::OK, "{who}: {made}");
    }
    // Her own, which she hands to the team before it calls.
    let to_team = json!({"token": {"name": "tokens/ci", "meta": {"owner": "", "team": "teams/core", "visibility": "VISIBILITY_TEAM"}},
        "updateMask": "meta.owner,meta.team,meta.visibility"});
    let (status, given) = office.call("ann", &format!("{TOKENS}/UpdateToken"), to_team).await;
    assert_eq!(status, StatusCode::OK, "{given}");
    // What the administrator's bearer takes from max is a token that max had.
    let own = json!({"tokenId": "had", "token": {"scope": scope, "meta": {"owner": "serviceAccounts/max"}}});
    office.api.ok(&format!("{TOKENS}/CreateToken"), own).await;
    let to_owner = json!({"token": {"name": "tokens/had", "meta": {"owner": "serviceAccounts/owner"}}, "updateMask": "meta.owner"});
    office.api.ok(&format!("{TOKENS}/UpdateToken"), to_owner).await;

    let hers = ["ann", "ann-key", "bot", "bot2"].as_slice();
    for (token, refused) in [
        ("tokens/by-ann", hers),
        ("tokens/by-bot", hers),
        ("tokens/ci", hers),
        ("tokens/by-max", &["max"]),
        ("tokens/had", &["max", "owner"]),
        ("tokens/by-admin", &[]),
    ] {
        let asked = office.used(&office.call_of(token).await).await;
        let name =
            asked["approval"]["name"].as_str().unwrap_or_else(|| panic!("{token}: {asked}")).to_owned();
        for who in ["ann", "ann-key", "bot", "bot2", "max", "owner", "admin"] {
            let decided = office.decide(who, &name, "APPROVED", "").await;
            let reason = decided.as_ref().err().cloned();
            let expected = refused.contains(&who).then(|| "OWN_CALL".to_owned());
            assert_eq!(reason, expected, "{who} about {token}: {decided:?}");
            reopen(&database, &name).await;
        }
        for who in refused {
            let denied = office.decide(who, &name, "DENIED", "").await;
            assert!(denied.is_ok(), "{who} about {token}: {denied:?}");
            reopen(&database, &name).await;
        }
    }
}

async fn who_may_decide_nothing_takes_back_their_own(database: Database) {
    let office = Office::open(&database).await;
    // A plain developer, who decides nothing.
    let call = office.call_of("serviceAccounts/dev").await;
    let name = office.used(&call).await["approval"]["name"].as_str().unwrap().to_owned();
    let other = office.used(&office.call_of("serviceAccounts/max").await).await;
    let other = other["approval"]["name"].as_str().unwrap().to_owned();
    assert_eq!(office.decide("dev", &name, "APPROVED", "").await, Err("OWN_CALL".to_owned()));
    let denied = office.decide("dev", &name, "DENIED", "A mistake.").await.unwrap();
    assert_eq!(
        (&denied["approval"]["state"], &denied["approval"]["decidedBy"]),
        (&json!("APPROVAL_STATE_DENIED"), &json!("serviceAccounts/dev"))
    );
    // What is not theirs is refused as what is nowhere.
    let never = format!("approvals/{}", "0".repeat(32));
    for name in [&other, &never] {
        assert_eq!(office.decide("dev", name, "DENIED", "").await, Err("PERMISSION_DENIED".to_owned()));
    }
}

async fn calls_of_who_is_gone_end_at_once(database: Database) {
    let office = Office::open(&database).await;
    for (principal, rpc, request) in [
        ("tokens/ci", "identity.v1.TokenService/RevokeToken", json!({"name": "tokens/ci"})),
        ("tokens/of-nobody", "identity.v1.TokenService/DeleteToken", json!({"name": "tokens/of-nobody"})),
        (
            "serviceAccounts/dev",
            "identity.v1.ServiceAccountService/DeleteServiceAccount",
            json!({"name": "serviceAccounts/dev"}),
        ),
    ] {
        let mut call = office.call_of(principal).await;
        let waiting = office.used(&call).await["approval"]["name"].as_str().unwrap().to_owned();
        call["argumentsJson"] = "{}".into();
        let approved = office.used(&call).await["approval"]["name"].as_str().unwrap().to_owned();
        office.decide("max", &approved, "APPROVED", "").await.unwrap();
        office.api.ok(rpc, request).await;
        for name in [&waiting, &approved] {
            let (_, found) = office.ask("admin", "GetApproval", json!({"name": name})).await;
            assert_eq!(found["approval"]["state"], "APPROVAL_STATE_EXPIRED", "{principal}");
            let decide = json!({"name": name, "decision": "APPROVAL_STATE_APPROVED"});
            let (status, refused) = office.ask("max", "DecideApproval", decide).await;
            let text = format!(
                "{name} is of {principal}, which is gone or may call nothing any more; nothing is left to decide"
            );
            assert_eq!((status, &refused["message"]), (StatusCode::BAD_REQUEST, &json!(text)));
            assert_eq!(refused["details"][0]["reason"], "APPROVAL_OVER");
        }
        assert_eq!(office.refused(&call).await, "CALL_NOT_KNOWN");
    }
    // Who is disabled may come back; until then nobody decides.
    let asked = office.used(&office.call_of("serviceAccounts/max").await).await;
    let name = asked["approval"]["name"].as_str().unwrap();
    let approved = office.used(&office.call_of("tokens/of-bot").await).await["approval"]["name"].clone();
    office.decide("max", approved.as_str().unwrap(), "APPROVED", "").await.unwrap();
    let disable = json!({"serviceAccount": {"name": "serviceAccounts/max", "disabled": true}, "updateMask": "disabled"});
    office.api.ok("identity.v1.ServiceAccountService/UpdateServiceAccount", disable).await;
    assert_eq!(office.decide("owner", name, "APPROVED", "").await, Err("APPROVAL_OVER".to_owned()));
    // Nothing that they approved is made any more.
    let (_, found) = office.ask("admin", "GetApproval", json!({"name": approved})).await;
    assert_eq!(found["approval"]["state"], "APPROVAL_STATE_EXPIRED");
    let again = office.used(&office.call_of("tokens/of-bot").await).await;
    assert_eq!(again["approval"]["state"], "APPROVAL_STATE_PENDING");
}

async fn too_many_of_one_person_are_refused(database: Database) {
    let office = Office::open(&database).await;
    // Of all of these ann is the maker, owner or who answers.
    let call = office.call_of("tokens/ci").await;
    office.used(&call).await;
    let copies: Vec<String> = (1..200).map(|number| format!("({number})")).collect();
    let many = format!(
        "insert into approvals select a.id || n.n, a.digest || n.n, a.state, 'other' || n.n, a.owner_uid, a.answerable_uid, a.server, \
         a.server_uid, a.body, a.created, a.expires, a.decided, a.decided_by, a.comment, a.used, a.told, a.tell_after, a.tries, a.rounds \
         from approvals a cross join (select column1 as n from (values {}) v) n",
        copies.join(", ")
    );
    database.run(&many).await;
    for principal in ["tokens/ci", "tokens/of-bot"] {
        let mut call = office.call_of(principal).await;
        call["argumentsJson"] = "{}".into();
        let (status, refused) = office.edge_asks(&call).await;
        assert_eq!(
            (status, &refused["details"][0]["reason"], &refused["message"]),
            (
                StatusCode::TOO_MANY_REQUESTS,
                &json!("TOO_MANY_APPROVALS"),
                &json!(
                    "200 calls wait for approval already of what one of those owns, answers for or made whose call it is; no more can"
                )
            ),
            "{principal}"
        );
    }
    office.used(&office.call_of("serviceAccounts/max").await).await;
}

async fn what_an_edge_says_is_held_against_the_registry(database: Database) {
    let office = Office::open(&database).await;
    let call = office.call_of("tokens/ci").await;
    let of_max = office.call_of("serviceAccounts/max").await;
    for (field, value) in [
        ("principal", json!("tokens/nobody")),
        ("principal", json!("users/ann@example.org")),
        ("principalUid", of_max["principalUid"].clone()),
        ("server", json!("servers/other")),
        ("serverUid", json!("x")),
        ("upstreamUid", json!("x")),
        ("target", json!("upstreams/other/tools/delete")),
        ("rule", json!("servers/dev/rules/other")),
        // One that refuses holds nothing back.
        ("rule", json!("servers/dev/rules/never")),
        ("rule", json!("servers/other/rules/deletes")),
        ("rule", json!("teams/else/rules/writes")),
        ("rule", json!("deletes")),
    ] {
        let mut lie = call.clone();
        lie[field] = value.clone();
        assert_eq!(office.refused(&lie).await, "CALL_NOT_KNOWN", "{field} {value}");
    }
    let mut of_team = call.clone();
    of_team["rule"] = "teams/core/rules/writes".into();
    of_team["reason"] = "What an edge says.".into();
    let asked = office.used(&of_team).await;
    assert_eq!(asked["approval"]["reason"], "Writes are looked at.", "as the rule says it here");
    // Who is disabled calls nothing.
    let disable = json!({"serviceAccount": {"name": "serviceAccounts/max", "disabled": true}, "updateMask": "disabled"});
    office.api.ok("identity.v1.ServiceAccountService/UpdateServiceAccount", disable).await;
    assert_eq!(office.refused(&of_max).await, "CALL_NOT_KNOWN");
}

async fn what_is_no_call_is_refused(database: Database) {
    let office = Office::open(&database).await;
    let call = office.call_of("tokens/ci").await;
    for (field, value) in [
        ("argumentsJson", json!(r#"{"path":"/a","path":"/b"}"#)),
        ("argumentsJson", json!("[]")),
        ("argumentsJson", json!(format!(r#"{{"a":"{}"}}"#, "x".repeat(64 << 10)))),
        ("definition", json!("AAAA")),
        ("principalUid", json!("")),
        ("tool", json!("x".repeat(2_049))),
        ("address", json!("somewhere")),
    ] {
        let mut bad = call.clone();
        bad[field] = value.clone();
        assert_eq!(office.refused(&bad).await, "INVALID_FIELD", "{field}");
    }
    let (_, listed) = office.ask("admin", "ListApprovals", json!({})).await;
    assert_eq!(listed, json!({}));
}

async fn too_many_that_wait_are_refused(database: Database) {
    let office = Office::open(&database).await;
    let mut call = office.call_of("tokens/ci").await;
    for number in 0..20 {
        call["argumentsJson"] = json!({"number": number}).to_string().into();
        office.used(&call).await;
    }
    call["argumentsJson"] = r#"{"number":20}"#.into();
    let (status, refused) = office.edge_asks(&call).await;
    assert_eq!(status, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(refused["code"], "RESOURCE_EXHAUSTED");
    assert_eq!(refused["details"][0]["reason"], "TOO_MANY_APPROVALS");
    office.used(&office.call_of("serviceAccounts/max").await).await;
}

async fn a_list_has_pages_and_only_what_one_sees(database: Database) {
    let office = Office::open(&database).await;
    for principal in ["tokens/ci", "serviceAccounts/max", "tokens/of-bot", "tokens/of-nobody"] {
        for number in 0..3 {
            let mut call = office.call_of(principal).await;
            call["argumentsJson"] = json!({"number": number}).to_string().into();
            office.used(&call).await;
        }
    }
    // Another server, which is in no team.
    let mut other = office.call_of("tokens/of-nobody").await;
    other["server"] = "servers/alone".into();
    other["serverUid"] = office.uid("servers/alone").await.into();
    other["rule"] = "servers/alone/rules/deletes".into();
    office.used(&other).await;
    let callers = async |who: &str, request: Value| {
        let mut found = Vec::new();
        let mut request = request;
        loop {
            let (status, page) = office.ask(who, "ListApprovals", request.clone()).await;
            assert_eq!(status, StatusCode::OK, "{page}");
            let approvals = page["approvals"].as_array().unwrap();
            assert!(!approvals.is_empty() && approvals.len() <= 5, "{page}");
            found.extend(approvals.iter().map(|one| one["principal"].as_str().unwrap().to_owned()));
            match page["nextPageToken"].as_str().unwrap_or_default() {
                "" => return found,
                next => request["pageToken"] = next.into(),
            }
        }
    };
    let all = callers("admin", json!({"pageSize": 5})).await;
    assert_eq!(all.len(), 13);
    assert_eq!(all[0], "tokens/of-nobody", "the newest first");
    assert_eq!(callers("max", json!({"pageSize": 5})).await.len(), 12);
    let own: BTreeSet<String> = callers("bot", json!({"pageSize": 5})).await.into_iter().collect();
    assert_eq!(own.len(), 4, "who decides sees all of the server: {own:?}");
    // Who decides nowhere sees what is theirs alone.
    office.leave("core", "serviceAccounts/bot").await;
    let own: BTreeSet<String> = callers("bot", json!({"pageSize": 2})).await.into_iter().collect();
    assert_eq!(own, BTreeSet::from(["tokens/of-bot".to_owned()]));
    assert_eq!(callers("admin", json!({"pageSize": 5, "server": "servers/alone"})).await.len(), 1);
    let (_, none) = office.ask("admin", "ListApprovals", json!({"state": "APPROVAL_STATE_DENIED"})).await;
    assert_eq!(none, json!({}));
    // What is over is over, whether or not somebody has written it down.
    database.run("update approvals set expires = 1").await;
    let (_, none) = office.ask("admin", "ListApprovals", json!({"state": "APPROVAL_STATE_PENDING"})).await;
    assert_eq!(none, json!({}));
    assert_eq!(callers("admin", json!({"pageSize": 5, "state": "APPROVAL_STATE_EXPIRED"})).await.len(), 13);
    for bad in [json!({"pageToken": "x"}), json!({"pageSize": -1}), json!({"server": "dev"})] {
        let (status, _) = office.ask("admin", "ListApprovals", bad.clone()).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{bad}");
    }
}

async fn what_is_done_is_recorded_with_it(database: Database) {
    let office = Office::open(&database).await;
    let call = office.call_of("tokens/ci").await;
    let asked = office.used(&call).await;
    let (name, digest) = (asked["approval"]["name"].clone(), asked["approval"]["digest"].clone());
    office.decide("max", name.as_str().unwrap(), "APPROVED", "Once.").await.unwrap();
    office.used(&call).await;
    let filter = json!({"filter": {"resource": name}});
    let records = office.api.raw("admin.v1.AuditService/ListAuditRecords", &filter.to_string()).await.1;
    let records: Vec<&Value> = records["records"].as_array().unwrap().iter().rev().collect();
    let text = |record: &Value, key: &str| record[key].as_str().unwrap_or_default().to_owned();
    let told: Vec<_> =
        records.iter().map(|record| (text(record, "actor"), text(record, "through"))).collect();
    let (caller, edge) = ("tokens/ci".to_owned(), "edges/e1".to_owned());
    assert_eq!(told[0], (caller.clone(), edge.clone()));
    assert_eq!(told[1].0, "serviceAccounts/max");
    assert_eq!(told[2], (caller, edge));
    let after: Vec<Value> =
        records.iter().map(|record| serde_json::from_str(&text(record, "afterJson")).unwrap()).collect();
    for (after, state) in after.iter().zip(["pending", "approved", "used"]) {
        assert_eq!(after["state"], state);
        assert_eq!((&after["digest"], &after["rule"]), (&digest, &json!("servers/dev/rules/deletes")));
        assert!(!after.to_string().contains("/srv"), "of arguments only the digest: {after}");
    }
    assert_eq!(after[1]["comment"], "Once.");
    assert_eq!(records.len(), 3);
    // What was refused is recorded as refusals are.
    let mut other = call;
    other["argumentsJson"] = "{}".into();
    let asked = office.used(&other).await;
    let name = asked["approval"]["name"].as_str().unwrap();
    assert_eq!(office.decide("ann", name, "APPROVED", "").await, Err("OWN_CALL".to_owned()));
}

async fn a_page_says_how_far_it_is(database: Database) {
    let office = Office::open(&database).await;
    let call = office.call_of("tokens/ci").await;
    let name = office.used(&call).await["approval"]["name"].as_str().unwrap().to_owned();
    let never = office.page(&format!("approvals/{}", "0".repeat(32))).await;
    assert_eq!(never.0, 404);
    assert_eq!(office.page("approvals/x").await, never);
    let waiting = office.page(&name).await;
    assert_eq!(waiting.0, 200);
    assert_eq!(waiting.1, "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'");
    assert!(waiting.2.contains("<h1>Waiting for approval</h1>"), "{}", waiting.2);
    for told in ["/srv", "delete", "tokens/ci", "servers/dev", "ann"] {
        assert!(!waiting.2.contains(told), "{told}: {}", waiting.2);
    }
    office.decide("max", &name, "APPROVED", "").await.unwrap();
    assert!(office.page(&name).await.2.contains("<h1>Approved</h1>"));
    office.used(&call).await;
    assert!(office.page(&name).await.2.contains("<h1>Done</h1>"));
    let next = office.used(&call).await["approval"]["name"].as_str().unwrap().to_owned();
    office.decide("max", &next, "DENIED", "A reason.").await.unwrap();
    let denied = office.page(&next).await.2;
    assert!(denied.contains("<h1>Denied</h1>") && !denied.contains("A reason."), "{denied}");
    database.run(&format!("update approvals set state = 1, expires = 1 where id = '{}'", &name[10..])).await;
    assert_eq!(office.page(&name).await, never, "what is over never was");
}

async fn decisions_are_checked(database: Database) {
    let office = Office::open(&database).await;
    let name = office.used(&office.call_of("tokens/ci").await).await["approval"]["name"]
        .as_str()
        .unwrap()
        .to_owned();
    for (name, decision, comment) in [
        (name.as_str(), "PENDING", String::new()),
        (&name, "USED", String::new()),
        (&name, "UNSPECIFIED", String::new()),
        (&name, "APPROVED", "x".repeat(501)),
        (&name, "APPROVED", "\u{1b}[2J".to_owned()),
        ("servers/dev", "APPROVED", String::new()),
    ] {
        assert_eq!(
            office.decide("max", name, decision, &comment).await,
            Err("INVALID_FIELD".to_owned()),
            "{decision}"
        );
    }
    for (word, status) in [("approve", "MALFORMED_JSON"), ("pending", "INVALID_FIELD")] {
        let (_, refused) = office.ask("max", "DecideApproval", json!({"name": name, "decision": word})).await;
        assert_eq!(refused["details"][0]["reason"], status);
        let text = refused.to_string();
        assert!(text.contains("APPROVAL_STATE_APPROVED") && text.contains("APPROVAL_STATE_DENIED"), "{text}");
        assert!(!text.contains("expired"), "{text}");
    }
    let approved = office.decide("max", &name, "APPROVED", "Good.").await.unwrap();
    for comment in ["Good.", "", "Other."] {
        let again = office.decide("max", &name, "APPROVED", comment).await.unwrap();
        assert_eq!(again, approved, "said twice, it is done once");
    }
    let by_other = json!({"name": name, "decision": "APPROVAL_STATE_APPROVED"});
    let (_, refused) = office.ask("owner", "DecideApproval", by_other).await;
    assert_eq!(refused["details"][0]["reason"], "APPROVAL_OVER");
    let text = refused["message"].as_str().unwrap();
    let until = approved["approval"]["expireTime"].as_str().unwrap();
    let told = format!(
        "{name} is approved already, by serviceAccounts/max; it can be denied until {}",
        &until[..19]
    );
    assert_eq!(text, format!("{told}Z"));
    let (_, found) = office.ask("max", "GetApproval", json!({"name": name})).await;
    assert_eq!(found["approval"]["decidedBy"], "serviceAccounts/max");
    assert_eq!(APPROVALS, "policy.v1.ApprovalService");
}

async fn what_an_edge_did_not_use_it_gives_back(database: Database) {
    let office = Office::open(&database).await;
    let call = office.call_of("tokens/ci").await;
    let name = office.used(&call).await["approval"]["name"].clone();
    office.decide("max", name.as_str().unwrap(), "APPROVED", "").await.unwrap();
    let used = office.used(&call).await["approval"].clone();
    let back = json!({"name": name, "useTime": used["useTime"]});
    let (status, answer) = office.edge_tells("ReturnApproval", &back).await;
    let returned = &answer["approval"];
    assert_eq!(
        (status.as_u16(), &returned["state"], &returned["useTime"], &returned["argumentsJson"]),
        (200, &json!("APPROVAL_STATE_APPROVED"), &Value::Null, &Value::Null)
    );
    assert_eq!(office.used(&call).await["approval"]["state"], "APPROVAL_STATE_USED", "the next one is made");
    // It is another use, and told as it is.
    let (_, answer) = office.edge_tells("ReturnApproval", &back).await;
    assert_eq!(answer["approval"]["state"], "APPROVAL_STATE_USED");
    let filter = json!({"filter": {"resource": name, "action": "ReturnApproval"}});
    let records = office.api.raw("admin.v1.AuditService/ListAuditRecords", &filter.to_string()).await.1;
    let records = records["records"].as_array().unwrap();
    assert_eq!((records.len(), &records[0]["through"]), (1, &json!("edges/e1")));

    for (bad, status) in [
        (json!({"name": name}), 400),
        (json!({"name": "x", "useTime": used["useTime"]}), 400),
        (json!({"name": format!("approvals/{}", "0".repeat(32)), "useTime": used["useTime"]}), 404),
    ] {
        assert_eq!(office.edge_tells("ReturnApproval", &bad).await.0.as_u16(), status, "{bad}");
    }
    assert_eq!(office.ask("max", "ReturnApproval", back).await.0.as_u16(), 401, "edges alone do so");
}

async fn a_call_goes_on_once_with_each_round(database: Database) {
    let office = Office::open(&database).await;
    let call = office.call_of("tokens/ci").await;
    let name = office.used(&call).await["approval"]["name"].clone();
    let going_on = async |round: i64| {
        let (status, answer) =
            office.edge_tells("ContinueApproval", &json!({"name": name, "round": round.to_string()})).await;
        assert_eq!(status.as_u16(), 200, "{answer}");
        answer["first"].as_bool().unwrap_or_default()
    };
    assert!(!going_on(1).await, "it waits");
    office.decide("max", name.as_str().unwrap(), "APPROVED", "").await.unwrap();
    assert!(!going_on(1).await, "it has not begun");
    assert_eq!(office.used(&call).await["approval"]["state"], "APPROVAL_STATE_USED");
    let rounds = [(1, true), (1, false), (2, true), (1, false), (2, false), (3, true)];
    for (round, first) in rounds {
        assert_eq!(going_on(round).await, first, "{round}");
    }
    let unknown = format!("approvals/{}", "0".repeat(32));
    for (bad, status) in [
        (json!({"name": name}), 400),
        (json!({"name": "x", "round": 1}), 400),
        (json!({"name": unknown, "round": 1}), 404),
    ] {
        assert_eq!(office.edge_tells("ContinueApproval", &bad).await.0.as_u16(), status, "{bad}");
    }
    let one = json!({"name": name, "round": 9});
    assert_eq!(office.ask("max", "ContinueApproval", one).await.0.as_u16(), 401, "edges alone do so");
}
