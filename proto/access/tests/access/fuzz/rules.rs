//! No text makes the reader of a rule fail, no arguments make a rule fail, and no refusal is long.

use access::rule::{Caller, Fact, Facts, Known, Program, Target};

/// Bytes of a refusal, whatever was written.
const MAX_REFUSAL: usize = 1_024;

pub(crate) fn check(text: &str, arguments: &[u8]) {
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
    let caller = Caller { name: "ci".into(), kind: "token".into(), teams: vec!["core".into()] };
    let facts = Facts {
        caller: &caller,
        server: "dev",
        target: Target { name: "dev_write", produced: Fact::Absent, ..Target::default() },
        method: "tools/call",
        arguments: Fact::Is(arguments),
        source: Fact::Is([10, 1, 2, 3].into()),
        now_s: Some(1_796_374_800),
    };
    let found = program.run(&facts);
    assert!(found.is_some(), "nothing is left open where all is known");
    let later = Facts { arguments: Fact::Later, source: Fact::Later, now_s: None, ..facts };
    // What was settled without a request is so with every request, unless it costs too much then.
    if let (Some(Ok(before)), Some(Ok(after))) = (program.run(&later), found) {
        assert_eq!(before, after);
    }
}
