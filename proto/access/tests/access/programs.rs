//! Programs of rules: what they come to by the definition of CEL, and what is refused, where.

use access::rule::{Caller, Fact, Facts, Program, Target};
use proptest::prelude::*;

/// Friday, 4 December 2026, 09:00 UTC.
const FRIDAY: i64 = 1_796_374_800;

/// What a program comes to: `true`, `false`, `later`, or `error`.
fn run(text: &str, arguments: Fact<&[u8]>, seen: bool) -> String {
    let program = Program::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
    let teams = ["core", "web"].map(str::to_owned).to_vec();
    let caller = Caller { name: "ci".into(), kind: "token".into(), teams };
    let target = Target {
        name: "dev_write",
        upstream: "files",
        read_only: false,
        destructive: true,
        produced: Fact::Absent,
        ..Target::default()
    };
    let source = if seen { Fact::Is([10, 1, 2, 3].into()) } else { Fact::Later };
    let now_s = seen.then_some(FRIDAY);
    let facts =
        Facts { caller: &caller, server: "dev", target, method: "tools/call", arguments, source, now_s };
    match program.run(&facts) {
        None => "later".to_owned(),
        Some(Ok(value)) => value.to_string(),
        Some(Err(_)) => "error".to_owned(),
    }
}

fn with(text: &str, arguments: &str) -> String {
    run(text, Fact::Is(arguments.as_bytes()), true)
}

const ARGUMENTS: &str = r#"{"path":"/srv/a","n":5,"x":1.5,"on":true,"none":null,"list":["a","b"],"sizes":[1,2,30],
    "deep":{"a":{"b":"c"}},"e\u0073c":"\u00e9\ud83d\ude00","big":9007199254740993,"empty":[],"with-dash":"d"}"#;

#[test]
fn programs_come_to_what_cel_says() {
    for (text, expected) in [
        // Literals, and which operators bind first.
        ("true", "true"),
        ("!true", "false"),
        ("!!true", "true"),
        ("1 + 2 * 3 == 7", "true"),
        ("(1 + 2) * 3 == 9", "true"),
        ("10 - 2 - 3 == 5", "true"),
        ("7 / 2 == 3 && -7 / 2 == -3 && 7 % 3 == 1 && -7 % 3 == -1", "true"),
        ("7.0 / 2.0 == 3.5", "true"),
        ("args.n < 9 == true", "true"),
        ("true || false && false", "true"),
        ("false ? false : true", "true"),
        ("true ? false : true ? true : true", "false"),
        ("-9223372036854775808 + 0 < 9223372036854775807", "true"),
        ("[0x1F] == [31]", "true"),
        ("[1e3, .5] == [1000.0, 0.5]", "true"),
        (r#"['a', "\x41\u0042\103", r"\n"] == ["a", 'ABC', '\\n']"#, "true"),
        ("'a' + '' < 'b' && 'Z' + '' < 'a' && tool.read_only < true", "true"),
        ("size('é😀') in [1, 2,] && !(size('abc') in [1, 2])", "true"),
        ("[1, 2] == [1, 2] && [1, 2] != [2, 1]", "true"),
        ("size('é😀') == 2 && 'abc'.size() == 3 && size([1, 2]) == 2", "true"),
        ("'Ab'.lowerAscii() == 'ab' && 'ÀB'.lowerAscii() == 'Àb'", "true"),
        ("'abc'.contains('b') && 'abc'.startsWith('a') && 'abc'.endsWith('c')", "true"),
        ("'a' + 'b' == 'ab' // and a comment", "true"),
        // Variables.
        ("caller.name == 'ci' && caller.kind == 'token' && 'core' in caller.teams", "true"),
        ("server == 'dev' && tool.name == 'dev_write' && tool.upstream == 'files'", "true"),
        ("tool.destructive && !tool.read_only && method == 'tools/call'", "true"),
        ("source.ip.inRange('10.0.0.0/8')", "true"),
        ("source.ip.inRange('192.0.2.0/24')", "false"),
        ("now.getDayOfWeek() == 5 && now.getHours() == 9", "true"),
        ("now.getHours('Europe/Berlin') == 10 && now.getHours('America/New_York') == 4", "true"),
        // Arguments.
        ("args.path.startsWith('/srv/')", "true"),
        ("args['path'] == '/srv/a' && args['with-dash'] == 'd' && 'with-dash' in args", "true"),
        ("args.deep.a.b == 'c' && has(args.deep.a.b) && !has(args.deep.x)", "true"),
        ("args.n == 5 && args.n + 1 == 6 && args.n < 5.5 && args.x == 1.5 && args.n == 5.0", "true"),
        ("args.on && args.none == null && args.list[1] == 'b'", "true"),
        ("args.esc == 'é😀' && size(args.esc) == 2", "true"),
        ("args.list.all(x, x in ['a', 'b']) && args.list.exists(x, x == 'b')", "true"),
        ("args.empty.all(x, x == 1) && !args.empty.exists(x, x == 1)", "true"),
        ("args.sizes.exists(args, args == 30)", "true"),
        ("args.list == ['a', 'b'] && size(args.list) == 2", "true"),
        // Values of different types are neither compared nor ordered, but for null.
        ("args.path == args.n", "error"),
        ("args.path != args.n", "error"),
        ("args.path < args.n", "error"),
        ("args.path == args.n || true", "true"),
        ("args.n == true || args.on == 1", "error"),
        ("args.n in ['5'] || args.n in ['a', 'b']", "error"),
        ("args.n in ['5', 5] && 'a' in args.list", "true"),
        ("args.n in ['5', 6]", "error"),
        ("1 in args.list || 'a' in args.sizes", "error"),
        ("args.list == args.path || args.list == args.deep", "error"),
        ("args.list == ['a', 2]", "error"),
        ("args.list == ['b', 2] || args.list == ['a']", "false"),
        ("args.deep == 'c'", "error"),
        ("args.n == null || args.none == 5 || args.none == 'null' || args.deep == null", "false"),
        ("args.none != 5 && args.n != null && !(args.none in [1, 'a', true])", "true"),
        ("args.n + args.x > 1.0", "error"),
        ("args.n", "error"),
        // Errors, and what makes up for them.
        ("args.gone == 1", "error"),
        ("!has(args.gone) || args.gone == 1", "true"),
        ("has(args.gone.deeper)", "error"),
        ("args.gone == 1 || true", "true"),
        ("true || args.gone == 1", "true"),
        ("args.gone == 1 && false", "false"),
        ("args.gone == 1 && true", "error"),
        ("args.gone == 1 || false", "error"),
        ("args.n && false", "false"),
        ("(args.gone == 1) ? true : true", "error"),
        ("true ? true : args.gone == 1", "true"),
        ("args.sizes.exists(x, 10 / (x - 1) == 10)", "true"),
        ("args.sizes.all(x, 10 / (x - 1) == 10)", "false"),
        ("args.list[2] == 'c'", "error"),
        ("args.list[-1] == 'c'", "error"),
        ("1 / (args.n - 5) == 1", "error"),
        ("args.n * 9223372036854775807 > 0", "error"),
        ("args.deep == args.deep", "error"),
        // Numbers that not every reader keeps.
        ("args.big > 1", "error"),
        ("args.big > 1 || true", "true"),
    ] {
        assert_eq!(with(text, ARGUMENTS), expected, "{text}");
    }
}

#[test]
fn what_readers_may_take_for_different_things_decides_nothing() {
    for (arguments, expected) in [
        (r#"{"path":"/srv"}"#, "true"),
        (r#" { "other" : {"path":"/etc","path":[1,{"x":"]"}]} , "path" : "/srv" } "#, "true"),
        (r#"{"p\u0061th":"\/srv"}"#, "true"),
        (r#"{"path":"/srv","path":"/srv"}"#, "error"),
        (r#"{"path":"/srv","p\u0061th":"/etc"}"#, "error"),
        (r#"{"path":"/srv","Path":"/etc"}"#, "error"),
        (r#"{"PATH":"/srv"}"#, "error"),
        ("{}", "error"),
        ("null", "error"),
        ("[]", "error"),
        (r#"[{"path":"/srv"}]"#, "error"),
        ("", "error"),
        (r#"{"path":"/srv"} {}"#, "error"),
        (r#"{"path":"/srv""#, "error"),
        (r#"{"path":"/srv",}"#, "error"),
        (r#"{"path" "/srv"}"#, "error"),
        (r#"{"path":"\ud800"}"#, "error"),
        (r#"{"path":"\x"}"#, "error"),
        (r#"{"path":{"a":[}]}"#, "error"),
    ] {
        assert_eq!(with("args.path == '/srv'", arguments), expected, "{arguments}");
    }
    assert_eq!(with("has(args.user)", r#"{"uſer":1}"#), "error", "a letter that some readers fold");
    assert_eq!(with("has(args.path)", r#"{"PATH":1}"#), "error");
    assert_eq!(with("has(args.path)", r#"{"paths":1}"#), "false");
    assert_eq!(run("has(args.path)", Fact::Absent, true), "error");
    assert_eq!(
        with(
            "args.path == '/srv'",
            &format!("{{\"path\":\"/srv\",\"x\":{}1{}}}", "[".repeat(200), "]".repeat(200))
        ),
        "error"
    );
    for (number, expected) in [
        ("1", "true"),
        ("1.0", "true"),
        ("10e-1", "true"),
        ("01", "error"),
        ("1.", "error"),
        ("+1", "error"),
        ("1.00000000000000000001", "error"),
        ("9007199254740991", "false"),
        ("-9007199254740991", "false"),
        ("9007199254740991.0", "false"),
        // What some readers make of 2 to the 53 plus 1, too.
        ("9007199254740992", "error"),
        ("-9007199254740992", "error"),
        ("9007199254740992.0", "error"),
        ("9007199254740993", "error"),
        ("-9007199254740993", "error"),
        ("1e300", "error"),
        ("1e-400", "error"),
        ("0e-400", "false"),
        ("NaN", "error"),
        // What a lax server makes 1 of.
        (r#""1""#, "error"),
        ("true", "error"),
        ("[1]", "error"),
        (r#"{"n":1}"#, "error"),
        ("null", "false"),
        ("tru", "error"),
    ] {
        assert_eq!(with("args.n == 1", &format!("{{\"n\":{number}}}")), expected, "{number}");
    }
}

#[test]
fn what_is_known_later_leaves_open_what_depends_on_it() {
    for (text, expected) in [
        ("tool.destructive", "true"),
        ("tool.read_only && args.path == 'x'", "false"),
        ("args.path == 'x' && tool.read_only", "false"),
        ("tool.destructive || source.ip.inRange('10.0.0.0/8')", "true"),
        ("args.path == 'x' || tool.read_only", "later"),
        ("now.getHours() < 9", "later"),
        ("has(args.x)", "later"),
        ("caller.teams[5] == 'x' && args.path == 'x'", "later"),
        ("caller.teams[5] == 'x'", "error"),
        ("args.path == 'x' ? true : true", "later"),
    ] {
        assert_eq!(run(text, Fact::Later, false), expected, "{text}");
    }
}

#[test]
fn too_much_work_decides_nothing_and_nothing_makes_up_for_it() {
    let long = format!("{{\"list\":[{}0]}}", "1,".repeat(256));
    assert_eq!(with("args.list.all(x, x < 2)", &long), "error");
    assert_eq!(with("args.list.all(x, x < 2) || true", &long), "error");
    assert_eq!(with("true || args.list.all(x, x < 2)", &long), "true");
    let fits = format!("{{\"list\":[{}0]}}", "1,".repeat(255));
    assert_eq!(with("args.list.all(x, x < 2)", &fits), "true");
    let body = vec!["x < 2"; 20].join(" && ");
    assert_eq!(with(&format!("args.list.all(x, {body})"), &fits), "error", "more than 10,000 steps");
    let large = format!("{{\"a\":1,\"text\":\"{}\"}}", "x".repeat(1 << 20));
    assert_eq!(with(&vec!["args.a == 1"; 60].join(" && "), &large), "true", "it is looked for once");
    let often = vec!["!args.text.contains('y')"; 60].join(" && ");
    assert_eq!(with("!args.text.contains('y')", &large), "true");
    assert_eq!(with(&often, &large), "error", "more than 16 MiB");
}

#[test]
fn what_is_outside_is_refused_where_it_stands() {
    for (text, expected) in [
        ("", "line 1, column 1: a value is expected here, and not the end"),
        ("args.path = 1", "line 1, column 11: = is no operator; write =="),
        ("true &&\n  arg.x == 1", "line 2, column 3: there is no \"arg\"; did you mean args?"),
        (
            "'é' == user",
            "line 1, column 8: there is no \"user\"; there are args, caller, method, now, server, source, tool",
        ),
        (
            "args.path.matches('x')",
            "line 1, column 11: matches is not supported; there are has, size, startsWith, endsWith, contains, lowerAscii, all, exists",
        ),
        (
            "args.path.startswith('x')",
            "line 1, column 11: there is no function \"startswith\"; there are has, size, startsWith, endsWith, contains, lowerAscii, all, exists",
        ),
        (
            "args.l.map(x, x)",
            "line 1, column 8: map is not supported; there are has, size, startsWith, endsWith, contains, lowerAscii, all, exists",
        ),
        (
            "args.l.all(x, x.exists(y, y))",
            "line 1, column 17: all and exists within each other are not supported",
        ),
        ("caller.email == 'x'", "line 1, column 8: there is no \"email\"; there are name, kind, teams"),
        ("caller == 'x'", "line 1, column 8: . is expected here, and not =="),
        ("source.ip == '10.0.0.1'", "line 1, column 11: write source.ip.inRange(\"10.0.0.0/8\")"),
        (
            "source.ip.inRange('10.0.0.1/8')",
            "line 1, column 19: \"10.0.0.1/8\" has bits set beyond its prefix; write 10.0.0.0/8 for the network, or 10.0.0.1 for the one address",
        ),
        (
            "source.ip.inRange(args.x)",
            "line 1, column 19: a range that is no string is not supported; write source.ip.inRange(\"10.0.0.0/8\")",
        ),
        (
            "now.getHours('Berlin') < 1",
            "line 1, column 14: \"Berlin\" is no time zone; did you mean Europe/Berlin?",
        ),
        (
            "now.getMinutes() < 1",
            "line 1, column 5: getMinutes is not supported; there are has, size, startsWith, endsWith, contains, lowerAscii, all, exists",
        ),
        (
            "now > 1",
            "line 1, column 5: write now.getHours(\"Europe/Berlin\") or now.getDayOfWeek(\"Europe/Berlin\")",
        ),
        ("{'a': 1} == 1", "line 1, column 1: messages and maps are not supported"),
        ("b'x' == 'x'", "line 1, column 1: bytes are not supported"),
        ("1u == 1", "line 1, column 1: this is no number; unsigned numbers are not supported"),
        ("'''x''' == 'x'", "line 1, column 1: strings in triple quotes are not supported"),
        ("'x", "line 1, column 1: this string has no end"),
        ("'\\q' == 'q'", "line 1, column 2: this is no escape; write \\\\ for a backslash"),
        ("true true", "line 1, column 6: \"true\" is not expected here"),
        ("tool.read_only and true", "line 1, column 16: \"and\" is not expected here; write &&"),
        ("(tool.read_only OR true)", "line 1, column 17: ) is expected here, and not \"OR\"; write ||"),
        ("not tool.read_only", "line 1, column 1: there is no \"not\"; write !"),
        ("(true", "line 1, column 6: ) is expected here, and not the end"),
        ("has(args)", "line 1, column 1: has asks for a member of args, as has(args.path)"),
        ("args.?x == 1", "line 1, column 6: optional members are not supported; write has(args.name)"),
        ("if == 1", "line 1, column 1: if is a word that CEL keeps to itself"),
        ("9223372036854775808 == 1", "line 1, column 1: this number is too large"),
        ("!-1 == 1", "line 1, column 2: - is not expected here; write brackets before it"),
        // Types.
        ("1", "line 1, column 1: a rule is true or false, and this is a number"),
        ("'a' && true", "line 1, column 1: true or false is expected here, and this is a string"),
        ("'a' == 1", "line 1, column 5: this is always false: a string is never a number"),
        ("'a' != 1", "line 1, column 5: this is always true: a string is never a number"),
        (
            "1 == 1.0",
            "line 1, column 3: whole numbers and numbers with a fraction are not compared as literals; write 1.0",
        ),
        (
            "1 + 1.0 > 1.0",
            "line 1, column 3: whole numbers and numbers with a fraction do not mix; write 1.0",
        ),
        ("1 == 1", "line 1, column 3: this is always true: it is 1"),
        (
            "caller.kind == 'robot'",
            "line 1, column 13: this is always false: it is one of \"token\", \"user\", \"service_account\"",
        ),
        (
            "caller.kind in ['robot']",
            "line 1, column 13: this is always false: it is one of \"token\", \"user\", \"service_account\"",
        ),
        ("tool.name > 5", "line 1, column 11: > does not compare a string and a number"),
        (
            "size(tool.read_only) == 1",
            "line 1, column 1: size is of a string or a list, and this is true or false",
        ),
        ("tool.name.all(x, true)", "line 1, column 11: all and exists are of a list, and this is a string"),
        ("tool.name.x == 1", "line 1, column 11: only an object has members, and this is a string"),
        ("args == args", "line 1, column 6: objects are not compared; compare their members"),
        ("true ? 1 : 'a'", "line 1, column 6: both values of ? : must be of one type"),
        ("1.5 % 2.0 == 1.0", "line 1, column 5: % is of whole numbers"),
    ] {
        let found = Program::parse(text).err().map(|error| error.to_string()).unwrap_or_default();
        assert_eq!(found, expected, "{text}");
    }
}

#[test]
fn what_is_too_long_or_too_deep_is_refused() {
    let refused = |text: &str| Program::parse(text).unwrap_err().text;
    assert_eq!(refused(&format!("true{}", " ".repeat(4_096))), "it has more than 4096 bytes");
    for text in ["(", "!", "[", "-", "a.", "args.a", "args", "1+", "true?", "has(", "\u{1f600}", "((((!"] {
        let repeated = text.repeat(4_096 / text.len());
        assert!(refused(&repeated).len() < 200, "{text}");
    }
    let nested = |depth: usize| format!("{}true{}", "(".repeat(depth), ")".repeat(depth));
    assert!(Program::parse(&nested(31)).is_ok());
    assert_eq!(refused(&nested(33)), "brackets are nested more than 32 deep");
    assert_eq!(
        refused(&format!("args{} == 1", ".a".repeat(40))),
        "the expression is nested more than 32 deep"
    );
    assert_eq!(refused(&format!("{}true", "!".repeat(40))), "the expression is nested more than 32 deep");
    let row = |length: usize| vec!["tool.read_only"; length].join("||");
    assert!(Program::parse(&row(200)).is_ok(), "a long row is not deep");
    let items = |count: usize| format!("1 in [{}args.n]", "1,".repeat(count - 1));
    assert!(Program::parse(&items(256)).is_ok());
    assert_eq!(refused(&items(257)), "the list has more than 256 items");
    let list = format!("[{}1]", "1,".repeat(220));
    assert_eq!(
        refused(&format!("[{list},{list},{list},{list},{list}] == []")),
        "the expression has more than 1000 parts"
    );
}

#[test]
fn a_program_says_what_it_needs() {
    let needs = |text: &str| {
        let found = Program::parse(text).unwrap().needs();
        [found.caller, found.tool, found.arguments, found.source, found.now]
    };
    assert_eq!(needs("true"), [false; 5]);
    assert_eq!(needs("caller.name == 'x' && tool.name == 'x'"), [true, true, false, false, false]);
    assert_eq!(needs("args.l.all(x, source.ip.inRange('::1'))"), [false, false, true, true, false]);
    assert_eq!(needs("now.getHours() in [1, 2]"), [false, false, false, false, true]);
}

/// Whether a number is decided about, spelled so.
fn is_kept(number: &str) -> bool {
    let arguments = format!("{{\"n\":{number}}}");
    run("args.n == 0 || args.n != 0", Fact::Is(arguments.as_bytes()), true) == "true"
}

#[test]
fn numbers_that_a_double_does_not_keep_are_not_decided_about() {
    for kept in [
        "5.0",
        "0.1",
        "1.10",
        "-0.5e1",
        "5E-324",
        "0.30000000000000004",
        "9007199254740991",
        "0.0e999",
        "1e0015",
    ] {
        assert!(is_kept(kept), "{kept}");
    }
    for other in [
        "5.0000000000000001",
        "0.1000000000000000055511151231257827",
        "4.9406564584124654e-324",
        "1e-999",
        "9007199254740992",
        "9007199254740992.0",
        "9007199254740991.5000000001",
        "1e99999999999999999999",
    ] {
        assert!(!is_kept(other), "{other}");
    }
}

proptest! {
    /// The spelling of a double is kept, however many zeros there are around it, and one with another digit far behind is another number.
    #[test]
    fn a_double_is_kept_as_it_is_spelled_and_nothing_beside_it(bits: u64, zeros in 0_usize..30) {
        let number = f64::from_bits(bits);
        prop_assume!(number != 0.0 && number.abs() < 9_007_199_254_740_992.0);
        prop_assert!(is_kept(&format!("{number:?}")), "{number:?}");
        let spelled = format!("{number:e}");
        let (digits, exponent) = spelled.split_once('e').unwrap();
        let point = if digits.contains('.') { "" } else { "." };
        let padded = format!("{digits}{point}{}e{exponent}", "0".repeat(zeros + 1));
        prop_assert!(is_kept(&padded), "{padded}");
        let beside = format!("{digits}{point}{}1e{exponent}", "0".repeat(zeros + 17));
        prop_assert!(!is_kept(&beside), "{beside}");
    }

    /// A spelling of up to 15 digits names one double and no other.
    #[test]
    fn fifteen_digits_are_always_kept(whole in 0_u64..1_000_000_000, fraction in 0_u32..1_000_000) {
        let spelled = format!("{whole}.{fraction:06}");
        prop_assert!(is_kept(&spelled), "{spelled}");
    }
}
