//! Changes of files that people have written.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

const AT: &str = "mcpServers";

fn change<'a>(at: &'a str, entry: Option<&'a Value>) -> EntryChange<'a> {
    EntryChange { at, name: "dev", entry, input: None }
}

/// Puts an entry into a file.
fn put(syntax: Syntax, at: &str, text: &str, entry: &Value) -> String {
    apply(syntax, text, &change(at, Some(entry))).unwrap_or_else(|why| panic!("{why}:\n{text}"))
}

/// Takes it away.
fn take(syntax: Syntax, at: &str, text: &str) -> String {
    apply(syntax, text, &change(at, None)).unwrap_or_else(|why| panic!("{why}:\n{text}"))
}

fn entry() -> Value {
    json!({ "url": "http://e/servers/dev/mcp", "headers": { "Authorization": "Bearer ${T}" } })
}

#[test]
fn json_gets_an_entry_where_it_belongs_and_stays_as_it_was() {
    let short = json!({ "url": "u" });
    let new = "\"dev\": {\n      \"url\": \"u\"\n    }";
    for (before, after) in [
        ("", format!("{{\n  \"mcpServers\": {{\n    {new}\n  }}\n}}\n")),
        ("\n", format!("{{\n  \"mcpServers\": {{\n    {new}\n  }}\n}}\n")),
        ("// mine\n", format!("// mine\n{{\n  \"mcpServers\": {{\n    {new}\n  }}\n}}\n")),
        ("{}\n", format!("{{\n  \"mcpServers\": {{\n    {new}\n  }}\n}}\n")),
        (
            "{\n  // servers\n  \"mcpServers\": {\n    // none yet\n  }\n}",
            format!("{{\n  // servers\n  \"mcpServers\": {{\n    // none yet\n    {new}\n  }}\n}}"),
        ),
        (
            "{\n  \"mcpServers\": {\n    \"a\": {} // first, and\n    // last\n  },\n}",
            format!(
                "{{\n  \"mcpServers\": {{\n    \"a\": {{}}, // first, and\n    // last\n    {new}\n  }},\n}}"
            ),
        ),
        (
            "{\n  \"mcpServers\": {\n    \"a\": {},\n  },\n}",
            format!("{{\n  \"mcpServers\": {{\n    \"a\": {{}},\n    {new},\n  }},\n}}"),
        ),
        (
            "{\n  \"mcpServers\": null, \"b\": 1\n}",
            "{\n  \"mcpServers\": {\n    \"dev\": {\n      \"url\": \"u\"\n    }\n  }, \"b\": 1\n}"
                .to_owned(),
        ),
        ("{\"b\":1}", "{\"b\":1, \"mcpServers\": {\"dev\":{\"url\":\"u\"}}}".to_owned()),
        ("{\"mcpServers\":{},\"b\":1}", "{\"mcpServers\":{\"dev\": {\"url\":\"u\"}},\"b\":1}".to_owned()),
        (
            "{\n\t\"x\": 1,\n\t\"mcpServers\": {}\n}",
            "{\n\t\"x\": 1,\n\t\"mcpServers\": {\n\t\t\"dev\": {\n\t\t\t\"url\": \"u\"\n\t\t}\n\t}\n}"
                .to_owned(),
        ),
    ] {
        let changed = put(Syntax::Jsonc, AT, before, &short);
        assert_eq!(changed, after, "{before}");
        assert_eq!(put(Syntax::Jsonc, AT, &changed, &short), changed);
    }
}

#[test]
fn json_loses_an_entry_and_nothing_else() {
    for (before, after) in [
        ("{\"mcpServers\": {\"a\": 1, \"dev\": {}}}", "{\"mcpServers\": {\"a\": 1}}"),
        ("{\"mcpServers\": {\"dev\": {}, \"a\": 1}}", "{\"mcpServers\": {\"a\": 1}}"),
        ("{\"mcpServers\": {\"dev\": {}}}", "{\"mcpServers\": {}}"),
        (
            "{\"mcpServers\": {\n  \"a\": 1, // one\n  // before\n  \"dev\": {}\n  // after\n}}",
            "{\"mcpServers\": {\n  \"a\": 1 // one\n  // before\n  // after\n}}",
        ),
        (
            "{\"mcpServers\": {\n  \"dev\": {}, // of ours\n  \"a\": 1,\n}}",
            "{\"mcpServers\": {\n  // of ours\n  \"a\": 1,\n}}",
        ),
        ("{\"mcpServers\": null}", "{\"mcpServers\": null}"),
        ("{}", "{}"),
        ("", ""),
    ] {
        assert_eq!(take(Syntax::Jsonc, AT, before), after, "{before}");
    }
}

#[test]
fn json_keeps_the_comments_within_an_entry_that_changes() {
    let before = "{\"mcpServers\": {\n  \"dev\": {\n    // how\n    \"url\": \"old\", // where\n    \"type\": \"sse\",\n    \"own\": true\n  }\n}}";
    let new = json!({ "url": "new", "own": true, "headers": { "A": "b" } });
    assert_eq!(
        put(Syntax::Jsonc, AT, before, &new),
        "{\"mcpServers\": {\n  \"dev\": {\n    // how\n    \"url\": \"new\", // where\n    \"own\": true,\n    \"headers\": {\n      \"A\": \"b\"\n    }\n  }\n}}"
    );
}

#[test]
fn an_input_comes_and_goes_with_its_entry() {
    let (entry, input) = (json!({ "url": "u" }), json!({ "id": "trunkline-dev" }));
    let with = |entry, input| EntryChange {
        at: "servers",
        name: "dev",
        entry,
        input: Some(("trunkline-dev", input)),
    };
    let before =
        "{\n  \"inputs\": [\n    {\"id\": \"x\"} // x\n  ],\n  \"servers\": {\n    \"a\": {}\n  }\n}\n";
    let after = apply(Syntax::Jsonc, before, &with(Some(&entry), Some(&input))).unwrap();
    assert_eq!(
        after,
        "{\n  \"inputs\": [\n    {\"id\": \"x\"}, // x\n    {\n      \"id\": \"trunkline-dev\"\n    }\n  ],\n  \"servers\": {\n    \"a\": {},\n    \"dev\": {\n      \"url\": \"u\"\n    }\n  }\n}\n"
    );
    assert_eq!(apply(Syntax::Jsonc, &after, &with(None, None)).unwrap(), before);
    let new = apply(Syntax::Jsonc, "", &with(Some(&entry), Some(&input))).unwrap();
    assert_eq!(read(Syntax::Jsonc, &new).unwrap(), json!({ "servers": { "dev": entry }, "inputs": [input] }));
    let odd = apply(Syntax::Jsonc, "{\"inputs\": {}}", &with(Some(&entry), Some(&input)));
    assert_eq!(odd.unwrap_err(), "`inputs` is no list");
}

#[test]
fn what_is_broken_or_something_else_is_refused_and_not_quoted() {
    let new = entry();
    for (syntax, text, error) in [
        (Syntax::Jsonc, "{\"a\": s3cret}", "it is no JSON: expected value at line 1 column 7"),
        (Syntax::Jsonc, "[1]", "it is no object"),
        (Syntax::Jsonc, "{\"mcpServers\": [1]}", "`mcpServers` holds no servers"),
        (Syntax::Toml, "a = 1\nb = \"s3cret", "it is no TOML: "),
        (Syntax::Toml, "mcpServers = 5", "`mcpServers` holds no servers"),
        (
            Syntax::Toml,
            "mcpServers = { a = {} }",
            "it is written in a way that cannot be changed without a risk for the rest of it",
        ),
        (
            Syntax::Toml,
            "[mcpServers]\ndev.url = \"u\"",
            "write the entry as a table of its own, [mcpServers.dev]",
        ),
        (Syntax::Yaml, "a: s3cret: b", "it is no YAML at line 1"),
        (Syntax::Yaml, "- a", "it is no object"),
        (Syntax::Yaml, "mcpServers: [a]", "`mcpServers` holds no servers"),
        (Syntax::Yaml, "a: 1\n---\nb: 2\n", "it is no YAML"),
    ] {
        let said = apply(syntax, text, &change(AT, Some(&new))).unwrap_err();
        assert!(said.starts_with(error) && !said.contains("s3cret"), "{text}: {said}");
    }
}

#[test]
fn toml_gets_a_table_and_loses_it_again() {
    let new = json!({ "url": "u", "args": ["a b", "c"], "env": { "A.B": "x" }, "on": true, "n": 3 });
    let table = "[mcpServers.dev]\nargs = [\"a b\", \"c\"]\nenv = { \"A.B\" = \"x\" }\nn = 3\non = true\nurl = \"u\"\n";
    for (before, gap) in [
        ("", ""),
        ("model = \"x\" # c\n", "\n"),
        ("# c\n[mcpServers.a]\nurl = \"x\"\n\n[tui] # last\n", "\n"),
    ] {
        let after = put(Syntax::Toml, AT, before, &new);
        assert_eq!(after, format!("{before}{gap}{table}"));
        assert_eq!(put(Syntax::Toml, AT, &after, &new), after);
        assert_eq!(take(Syntax::Toml, AT, &after), before);
    }
    let before = "[mcpServers.dev] # ours\nurl = \"old\" # where\n\n# next\n[mcpServers.dev.env]\nA = \"b\"\n# end\n\n[mcpServers.z]\nurl = \"z\"\n";
    assert_eq!(
        put(Syntax::Toml, AT, before, &json!({ "url": "new" })),
        "[mcpServers.dev]\nurl = \"new\"\n\n# next\n# end\n\n[mcpServers.z]\nurl = \"z\"\n"
    );
    assert_eq!(take(Syntax::Toml, AT, before), "\n# next\n# end\n\n[mcpServers.z]\nurl = \"z\"\n");
    let line = "[mcpServers]\na = { url = \"x\" }\ndev = { url = \"old\" } # c\nz = { url = \"y\" }\n";
    assert_eq!(take(Syntax::Toml, AT, line), "[mcpServers]\na = { url = \"x\" }\nz = { url = \"y\" }\n");
}

#[test]
fn yaml_gets_lines_and_loses_them_again() {
    let new = json!({ "url": "u", "on": true });
    let block = "  dev:\n    on: true\n    url: u\n";
    for (before, after, without) in [
        ("", format!("mcpServers:\n{block}"), "mcpServers: {}\n"),
        ("# c\n", format!("# c\nmcpServers:\n{block}"), "# c\nmcpServers: {}\n"),
        (
            "a: 1 # c\n# end",
            format!("a: 1 # c\nmcpServers:\n{block}# end"),
            "a: 1 # c\nmcpServers: {}\n# end",
        ),
        ("mcpServers: # c\nb: 1\n", format!("mcpServers: # c\n{block}b: 1\n"), "mcpServers: {} # c\nb: 1\n"),
        (
            "mcpServers: {} # c\nb: 1\n",
            format!("mcpServers: # c\n{block}b: 1\n"),
            "mcpServers: {} # c\nb: 1\n",
        ),
        (
            "mcpServers:\n  a:\n    text: |\n      one\n      two\n\n  # of b\nb: 1\n",
            format!("mcpServers:\n  a:\n    text: |\n      one\n      two\n{block}\n  # of b\nb: 1\n"),
            "mcpServers:\n  a:\n    text: |\n      one\n      two\n\n  # of b\nb: 1\n",
        ),
        (
            "mcpServers:\n    a: {x: [1, 2]} # c\n",
            "mcpServers:\n    a: {x: [1, 2]} # c\n    dev:\n      on: true\n      url: u\n".to_owned(),
            "mcpServers:\n    a: {x: [1, 2]} # c\n",
        ),
        (
            "mcpServers: {a: 1}\n",
            "mcpServers: {a: 1, \"dev\": {\"on\":true,\"url\":\"u\"}}\n".to_owned(),
            "mcpServers: {a: 1}\n",
        ),
        (
            "---\na: é\n...\n",
            format!("---\na: é\nmcpServers:\n{block}...\n"),
            "---\na: é\nmcpServers: {}\n...\n",
        ),
    ] {
        let changed = put(Syntax::Yaml, AT, before, &new);
        assert_eq!(changed, after, "{before}");
        assert_eq!(put(Syntax::Yaml, AT, &changed, &new), changed);
        assert_eq!(take(Syntax::Yaml, AT, &changed), without, "{before}");
    }
    let before = "mcpServers:\n  dev: # ours\n    url: old\n  # z\n  z: 1\n";
    assert_eq!(put(Syntax::Yaml, AT, before, &new), format!("mcpServers:\n{block}  # z\n  z: 1\n"));
}

/// Writes JSON as people do, with `choices` for whatever may stand between two words.
struct Scribe {
    choices: std::vec::IntoIter<u8>,
    text: String,
}

impl Scribe {
    const GAPS: [&'static str; 10] =
        ["", " ", "", "\n", "\n  ", "\n\t", " /* , } */ ", " // \"{[,\n", "\n  // é ]\n    ", ""];

    fn choose(&mut self, of: u8) -> u8 {
        self.choices.next().unwrap_or_default() % of
    }

    fn gap(&mut self) {
        let gap = Self::GAPS[usize::from(self.choose(10))];
        self.text.push_str(gap);
    }

    fn items(&mut self, count: usize, mut item: impl FnMut(&mut Self, usize)) {
        for index in 0..count {
            self.gap();
            item(self, index);
            self.gap();
            if index + 1 < count || self.choose(3) == 0 {
                self.text.push(',');
            }
        }
        self.gap();
    }

    fn write(&mut self, value: &Value) {
        match value {
            Value::Object(map) => {
                self.text.push('{');
                let members: Vec<_> = map.iter().collect();
                self.items(members.len(), |scribe, index| {
                    scribe.text.push_str(&Value::from(members[index].0.as_str()).to_string());
                    scribe.gap();
                    scribe.text.push(':');
                    scribe.gap();
                    scribe.write(members[index].1);
                });
                self.text.push('}');
            }
            Value::Array(list) => {
                self.text.push('[');
                self.items(list.len(), |scribe, index| scribe.write(&list[index]));
                self.text.push(']');
            }
            other => self.text.push_str(&other.to_string()),
        }
    }
}

fn values() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i32>().prop_map(Value::from),
        r#"[a"\\é/*, {}\[\]]{0,6}"#.prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map("[a-c]|dev", inner, 0..4)
                .prop_map(|map| map.into_iter().collect::<Map<_, _>>().into()),
        ]
    })
}

/// A file with whatever it has, and with servers or without.
fn files() -> impl Strategy<Value = (Value, Vec<u8>)> {
    let map = || prop::collection::btree_map("[a-c]|dev", values(), 0..4);
    (map(), prop::option::of(map()), prop::collection::vec(any::<u8>(), 0..200)).prop_map(
        |(file, held, choices)| {
            let mut file: Map<_, _> = file.into_iter().collect();
            if let Some(held) = held {
                file.insert(AT.to_owned(), held.into_iter().collect::<Map<_, _>>().into());
            }
            (file.into(), choices)
        },
    )
}

/// What the comments of a text say, without commas.
fn comments(text: &str) -> String {
    let json = crate::commands::import::jsonc::to_json(text);
    let gone = text.bytes().zip(json.bytes()).filter(|(before, after)| before != after && *before != b',');
    String::from_utf8_lossy(&gone.map(|(before, _)| before).collect::<Vec<_>>()).into_owned()
}

fn is_subsequence(short: &str, long: &str) -> bool {
    let mut long = long.chars();
    short.chars().all(|wanted| long.any(|found| found == wanted))
}

proptest! {
    #[test]
    fn any_json_takes_an_entry_and_gives_it_back((value, choices) in files()) {
        let mut scribe = Scribe { choices: choices.into_iter(), text: String::new() };
        scribe.gap();
        scribe.write(&value);
        scribe.gap();
        let before = scribe.text;
        prop_assert_eq!(&read(Syntax::Jsonc, &before).unwrap(), &value, "{}", before);
        let after = put(Syntax::Jsonc, AT, &before, &entry());
        let without = take(Syntax::Jsonc, AT, &after);
        if value[AT].get("dev").is_none() {
            let squeezed: String = before.split_whitespace().collect();
            prop_assert!(is_subsequence(&squeezed, &after), "{before}\n=>\n{after}");
            prop_assert_eq!(comments(&after), comments(&before), "{}", after);
            prop_assert_eq!(comments(&without), comments(&before), "{}", without);
        }
        let mut expected = value.clone();
        if expected[AT].is_null() {
            expected[AT] = json!({});
        }
        expected[AT].as_object_mut().unwrap().remove("dev");
        prop_assert_eq!(read(Syntax::Jsonc, &without).unwrap(), expected);
    }

    #[test]
    fn any_toml_takes_an_entry_and_gives_it_back(
        heads in prop::sample::subsequence(TOML_HEADS.to_vec(), 0..TOML_HEADS.len()),
        tables in prop::sample::subsequence(TOML_TABLES.to_vec(), 0..TOML_TABLES.len()).prop_shuffle(),
    ) {
        let before = heads.concat() + &tables.concat();
        let after = put(Syntax::Toml, AT, &before, &entry());
        prop_assert!(after.starts_with(&before));
        prop_assert_eq!(take(Syntax::Toml, AT, &after), before);
    }

    #[test]
    fn any_yaml_takes_an_entry_and_gives_it_back(
        before in prop::sample::subsequence(YAML.to_vec(), 0..YAML.len()).prop_shuffle(),
        held in prop::sample::subsequence(YAML_HELD.to_vec(), 1..YAML_HELD.len()).prop_shuffle(),
        behind in prop::sample::subsequence(YAML_MORE.to_vec(), 0..YAML_MORE.len()).prop_shuffle(),
    ) {
        let before = format!("{}mcpServers: # c\n{}{}", before.concat(), held.concat(), behind.concat());
        let after = put(Syntax::Yaml, AT, &before, &entry());
        let same = before.bytes().zip(after.bytes()).take_while(|(one, other)| one == other).count();
        prop_assert!(after.ends_with(&before[same..]), "{before}\n=>\n{after}");
        prop_assert_eq!(take(Syntax::Yaml, AT, &after), before);
    }
}

const TOML_HEADS: [&str; 5] =
    ["# c\n", "model = \"o\" # c\n", "\n\n", "list = [\n  1, # one\n  2,\n]\n", "a.b = '''\n[x]\n'''\n"];
const TOML_TABLES: [&str; 6] = [
    "[mcpServers.other] # c\ncommand = \"x\" # c\nargs = [\n  \"a\", # c\n]\n",
    "[mcpServers.more.env]\nA = \"b\"\n\n",
    "[[profiles]]\nname = \"x\"\n",
    "# before\n[tui]\n\n\ntheme = \"é\"\n# after\n",
    "[mcpServers.\"with space\"]\nurl = \"u\"\n",
    "\n# alone\n\n",
];
const YAML: [&str; 5] =
    ["# c\n", "A: 1 # c\n", "B:\n- 1\n- 2\n# é\n", "C: |\n  text: 5\n   more\n\n", "D: \"é # no\"\n"];
const YAML_HELD: [&str; 5] = [
    "  a:\n    x: 1 # c\n    y: [1,\n      2]\n",
    "  # of b\n  b: {x: 1}\n",
    "  c:\n    t: >\n      folded\n      text\n",
    "  d: null\n",
    "  'e f':\n    - 1\n    -   z: é\n\n",
];
const YAML_MORE: [&str; 4] = ["# end\n", "E: 'x'\n", "F:\n    g: 1\n", "\n\n"];

#[test]
fn an_empty_holder_is_taken_away_and_one_with_a_comment_is_not() {
    for (text, after) in [
        ("{\n  \"a\": 1,\n  \"mcpServers\": {\n  }\n}\n", "{\n  \"a\": 1\n}\n"),
        ("{\"mcpServers\": {}}", "{}"),
        ("{\"mcpServers\": {\"b\": {}}}", "{\"mcpServers\": {\"b\": {}}}"),
        ("{\"mcpServers\": {\n  // of mine\n}}", "{\"mcpServers\": {\n  // of mine\n}}"),
        ("{\"a\": 1}", "{\"a\": 1}"),
    ] {
        assert_eq!(without_holder(Syntax::Jsonc, text, "mcpServers"), after, "{text}");
    }
}
