//! No text makes the reader of a rule fail, no arguments make a rule fail, and no refusal is long.

use access::rule::{Caller, Effect, Fact, Facts, FieldPath, Known, Program, Rule, Rules, Target, Verdict};

/// Bytes of a refusal, whatever was written.
const MAX_REFUSAL: usize = 1_024;

pub(crate) fn check(text: &str, arguments: &[u8]) {
    path(text);
    obligations(text, arguments);
    let program = match Program::parse(text) {
        Ok(program) => program,
        Err(refusal) => {
            assert!(refusal.to_string().len() <= MAX_REFUSAL);
            assert!(refusal.line >= 1 && refusal.column >= 1);
            return;
        }
    };
    if let Some(told) = program.vain(Known { server: "dev", methods: &["tools/call"] }) {
        assert!(told.to_string().len() <= MAX_REFUSAL);
    }
    let caller = caller();
    let facts = facts(&caller, arguments);
    let found = program.run(&facts);
    assert!(found.is_some(), "nothing is left open where all is known");
    let later = Facts { arguments: Fact::Later, source: Fact::Later, now_s: None, ..facts };
    // What was settled without a request is so with every request, unless it costs too much then.
    if let (Some(Ok(before)), Some(Ok(after))) = (program.run(&later), found) {
        assert_eq!(before, after);
    }
}

fn caller() -> Caller {
    Caller { name: "ci".into(), kind: "token".into(), teams: vec!["core".into()] }
}

fn facts<'a>(caller: &'a Caller, arguments: &'a [u8]) -> Facts<'a> {
    Facts {
        caller,
        server: "dev",
        target: Target { name: "dev_write", produced: Fact::Absent, ..Target::default() },
        method: "tools/call",
        arguments: Fact::Is(arguments),
        source: Fact::Is([10, 1, 2, 3].into()),
        now_s: Some(1_796_374_800),
    }
}

/// A path of a mask leads from where it begins, or it is refused in short.
fn path(text: &str) {
    match FieldPath::parse(text) {
        Err(refusal) => assert!(refusal.to_string().len() <= MAX_REFUSAL + text.len()),
        Ok(path) => {
            assert!(!path.start().is_nowhere() && !path.ends(path.start()));
            let names = text.split('.').filter(|name| *name != "**");
            assert!(path.ends(names.fold(path.start(), |at, name| path.enter(at, Some(name)))));
        }
    }
}

/// What masks, or holds back, is decided of every call: it goes with the call, it does not, or the call is refused.
fn obligations(when: &str, arguments: &[u8]) {
    let rule = |effect, fields: &[&str]| Rule {
        effect,
        when: when.to_owned(),
        fields: fields.iter().map(|field| (*field).to_owned()).collect(),
        ..Rule::default()
    };
    let rules = Rules::compile(&[rule(Effect::Mask, &["a", "**.b"]), rule(Effect::Approve, &[])]);
    let caller = caller();
    let alone = |effect| Rules::compile(&[rule(effect, &["a"])]);
    let denied = matches!(alone(Effect::Deny).decide(&facts(&caller, arguments)), Verdict::Denied(_));
    match rules.decide(&facts(&caller, arguments)) {
        Verdict::Depends(_) => panic!("nothing is left open where all is known"),
        Verdict::Denied(refusal) => assert!(refusal.error.is_some()),
        Verdict::Allowed(with) => {
            assert!(!with.is_open);
            assert_eq!((with.masks.len(), with.approval.is_some()), (usize::from(denied), denied));
        }
    }
}
