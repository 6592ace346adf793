//! Explanations: what would turn a decision does.

use access::explain::{Explanation, explain};
use access::world::{Conditions, Token};
use proptest::prelude::*;

use super::decide::{FRIDAY, call, held, names, some_request, some_world, world};

fn told(explanation: &Explanation) -> Vec<[String; 4]> {
    let rows = explanation.remedies.iter();
    rows.map(|remedy| [remedy.resource().to_owned(), remedy.field(), remedy.text(), remedy.command.clone()])
        .collect()
}

#[test]
fn the_smallest_change_is_told_with_its_command() {
    let mut world = world();
    world.tokens.get_mut("tokens/ci").unwrap().scope.tools = names(&["dev_list"]);
    assert_eq!(
        told(&explain(&world, &call("tokens/ci", "dev_write"))),
        [[
            "tokens/ci",
            "scope.tools",
            "add dev_write",
            "mcpctl update token ci --tool dev_list --tool dev_write"
        ]]
    );
    assert_eq!(
        told(&explain(&world, &call("users/ann", "dev_write"))),
        [[
            "teams/core",
            "scope.tools",
            "add dev_write",
            "mcpctl update team core --tool dev_list --tool dev_write --resource '*' --prompt '*'"
        ]]
    );
    assert_eq!(
        told(&explain(&world, &call("users/eve", "dev_list"))),
        [
            ["teams/core", "members", "add users/eve", "mcpctl add member core eve"],
            [
                "teams/web",
                "scope.servers",
                "add servers/dev",
                "mcpctl update team web --server dev --tool '*' --resource '*' --prompt '*'"
            ]
        ]
    );
    for (who, tool) in [("tokens/ci", "dev_delete"), ("tokens/gone", "dev_list"), ("tokens/ci", "dev_list")] {
        assert_eq!(told(&explain(&world, &call(who, tool))), [[""; 4]; 0], "{who} {tool}");
    }
}

#[test]
fn several_conditions_of_a_token_are_changed_at_once() {
    let mut world = world();
    let token = world.tokens.get_mut("tokens/ci").unwrap();
    let conditions = Conditions {
        from: names(&["192.0.2.0/24"]),
        windows: names(&["Mon-Fri 08:00-18:00 Europe/Berlin", "Sun 10:00-11:00 UTC"]),
        limits: names(&["5/s", "10000/month per tool"]),
        ..Conditions::default()
    };
    *token = Token { conditions, ..token.clone() };
    let saturday = access::decide::Request { now_s: FRIDAY + 86_400, ..call("tokens/ci", "dev_write") };
    let found = explain(&world, &saturday);
    assert_eq!(found.limits, ["5/s", "10000/month per tool"]);
    assert_eq!(
        told(&found),
        [[
            "tokens/ci",
            "conditions.from, conditions.windows[0]",
            "add 10.1.2.3; replace it with Mon-Sat 08:00-18:00 Europe/Berlin",
            "mcpctl update token ci --from 192.0.2.0/24 --from 10.1.2.3 --window 'Mon-Sat 08:00-18:00 Europe/Berlin' \
             --window 'Sun 10:00-11:00 UTC'"
        ]]
    );
}

#[test]
fn a_ceiling_is_widened_where_its_owner_could_be() {
    let mut world = world();
    world.tokens.get_mut("tokens/ci").unwrap().ceiling =
        Some(held("users/eve", "u-eve", &[("roles/developer", "teams/web")]));
    let found = explain(&world, &call("tokens/ci", "dev_list"));
    assert_eq!(told(&found)[0], ["teams/core", "members", "add users/eve", "mcpctl add member core eve"]);
    world.tokens.get_mut("tokens/ci").unwrap().ceiling = None;
    world.tokens.get_mut("tokens/ci").unwrap().revoked = true;
    assert_eq!(explain(&world, &call("tokens/ci", "dev_list")).remedies, []);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn every_remedy_turns_the_decision(world in some_world(), request in some_request()) {
        let found = explain(&world, &request);
        prop_assert!(!found.decision.allowed() || found.remedies.is_empty());
        for remedy in &found.remedies {
            let mut changed = world.clone();
            remedy.changes.iter().for_each(|change| change.apply(&mut changed));
            prop_assert!(access::decide::decide(&changed, &request).allowed(), "{remedy:?}");
        }
    }
}
