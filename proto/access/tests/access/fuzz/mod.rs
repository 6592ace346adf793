//! The checks of the fuzz targets in `fuzz/`, each tried here on noise and on what is nearly right.

mod conditions;
mod rules;

use proptest::prelude::*;

proptest! {
    #[test]
    fn conditions(text in prop_oneof![
        "\\PC{0,80}",
        "(Mon|sun|daily)[,-]?(Tue)? [0-9]{1,2}:[0-9]{2}-[0-9]{1,2}:[0-9]{2} (UTC|Europe/Berlin|Etc/GMT[+-][0-9]{1,2})",
        "[0-9]{1,3}(\\.[0-9]{1,3}){3}(/[0-9]{1,3})?|[0-9a-f:]{2,20}(/[0-9]{1,3})?",
        "[0-9]{1,20}/(s|min|hour|day|month)( per (server|tool))?",
        "(tools|resources|prompts|\\*)/(call|list|\\*|templates/list)",
    ]) {
        conditions::check(&text);
    }

    #[test]
    fn rules(
        text in prop_oneof![
            "\\PC{0,200}",
            some_program(),
            "[(!\\[.a-z'\"0-9&|=<>?:+*/%,-]{0,400}",
        ],
        arguments in prop_oneof!["\\PC{0,80}", some_json()],
    ) {
        rules::check(&text, arguments.as_bytes());
    }
}

/// Programs that are nearly right.
fn some_program() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        "(args\\.(a|b|l)|args\\['a'\\]|args\\.l\\[[0-2]\\]|caller\\.(name|teams)|tool\\.(name|read_only))",
        "(true|false|null|[0-9]{1,3}|1\\.5|'a'|[\\[]1, 2[\\]]|now\\.getHours\\(\\)|source\\.ip\\.inRange\\('::1'\\))",
    ];
    leaf.prop_recursive(6, 40, 3, |inner| {
        let pair = (inner.clone(), inner.clone());
        prop_oneof![
            (pair.clone(), "(==|!=|<|<=|>|>=|in|\\+|-|\\*|/|%|&&|\\|\\|)")
                .prop_map(|((a, b), sign)| format!("{a} {sign} {b}")),
            inner.clone().prop_map(|a| format!("!({a})")),
            inner.clone().prop_map(|a| format!("has({a})")),
            inner.clone().prop_map(|a| format!("size({a})")),
            pair.clone().prop_map(|(a, b)| format!("({a}).startsWith({b})")),
            pair.clone().prop_map(|(a, b)| format!("args.l.all(x, x == {a} || {b})")),
            (pair, inner).prop_map(|((a, b), c)| format!("({a}) ? {b} : {c}")),
        ]
    })
}

/// Arguments, some of them not what they should be.
fn some_json() -> impl Strategy<Value = String> {
    let value = "(null|true|-?[0-9]{1,18}(\\.[0-9]{1,3})?(e[0-9]{1,3})?|\"(a|\\\\u00e9|\\\\ud800|\\\\n)\"|[\\[](1,\"a\")?[\\]]|[{]\"a\":1[}])";
    proptest::collection::vec(("[abAl]", value), 0..4).prop_map(|members| {
        let members: Vec<_> = members.iter().map(|(name, value)| format!("\"{name}\":{value}")).collect();
        format!("{{{}}}", members.join(","))
    })
}
