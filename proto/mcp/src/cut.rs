//! Values of JSON text that are replaced by where they stand, in one pass and without recursion; every other byte stays as it was.
//!
//! It must not know who says which they are.

use crate::json::{JsonError, key_text};
use crate::scan::{MAX_DEPTH, Scanner};

/// What becomes of a member or an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut<P> {
    /// It stays as it is, with all that is in it.
    No,
    /// It is replaced.
    Whole,
    /// It stays, and what is in it is looked at from this place.
    Within(P),
}

/// `json` with `replacement` in the place of every value that `judge` says so of. `judge` is told the place of what a member or an item
/// is in, its name if it is a member, and whether it is an array or an object itself.
///
/// # Errors
/// When `json` is not one JSON text, or nests too deep.
pub fn cut<P>(
    json: &str,
    start: P,
    replacement: &str,
    judge: impl FnMut(&P, Option<&str>, bool) -> Cut<P>,
) -> Result<String, JsonError> {
    let mut cutter = Cutter { json, replacement, out: String::new(), copied: 0, open: Vec::new() };
    let mut scanner = Scanner::new(json);
    scanner.space();
    cutter.run(&mut scanner, start, judge)?;
    scanner.end().map_err(|stop| scanner.error(stop))?;
    cutter.out.push_str(&json[cutter.copied..]);
    Ok(cutter.out)
}

struct Cutter<'a, P> {
    json: &'a str,
    replacement: &'a str,
    out: String,
    /// So much of the text is in `out`, or was replaced.
    copied: usize,
    /// The arrays and objects around, each with its place and how it ends.
    open: Vec<(P, u8)>,
}

impl<P> Cutter<'_, P> {
    fn run(
        &mut self,
        scanner: &mut Scanner<'_>,
        start: P,
        mut judge: impl FnMut(&P, Option<&str>, bool) -> Cut<P>,
    ) -> Result<(), JsonError> {
        self.go_into(scanner, start)?;
        while let Some((place, close)) = self.open.last() {
            let name = match close {
                b'}' => Some(scanner.key().map_err(|stop| scanner.error(stop))?),
                _ => None,
            };
            let name = name.map(key_text);
            let holds_more = matches!(scanner.peek(), Some(b'{' | b'['));
            match judge(place, name.as_deref(), holds_more) {
                Cut::Within(place) if holds_more => {
                    if self.go_into(scanner, place)? {
                        continue;
                    }
                }
                Cut::No | Cut::Within(_) => drop(scanner.value().map_err(|stop| scanner.error(stop))?),
                Cut::Whole => self.replace(scanner)?,
            }
            self.close(scanner)?;
        }
        Ok(())
    }

    /// Steps into an array or object. Answers whether anything is in it; what is none of them is stepped over.
    fn go_into(&mut self, scanner: &mut Scanner<'_>, place: P) -> Result<bool, JsonError> {
        let (open, close) = match scanner.peek() {
            Some(b'{') => (b'{', b'}'),
            Some(b'[') => (b'[', b']'),
            _ => return scanner.value().map(|_| false).map_err(|stop| scanner.error(stop)),
        };
        if self.open.len() == MAX_DEPTH {
            return Err(JsonError::Depth { at: scanner.at() });
        }
        let is_any = scanner.first(open, close, "a value").map_err(|stop| scanner.error(stop))?;
        if is_any {
            self.open.push((place, close));
        }
        Ok(is_any)
    }

    fn replace(&mut self, scanner: &mut Scanner<'_>) -> Result<(), JsonError> {
        let start = scanner.at();
        scanner.value().map_err(|stop| scanner.error(stop))?;
        self.out.push_str(&self.json[self.copied..start]);
        self.out.push_str(self.replacement);
        self.copied = scanner.at();
        Ok(())
    }

    /// Steps over what follows a value, out of all that ends there.
    fn close(&mut self, scanner: &mut Scanner<'_>) -> Result<(), JsonError> {
        while let Some((_, close)) = self.open.last() {
            let names = if *close == b'}' { "',' or '}'" } else { "',' or ']'" };
            if scanner.further(*close, names).map_err(|stop| scanner.error(stop))? {
                return Ok(());
            }
            self.open.pop();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Takes away members of a name, at any depth.
    fn without(json: &str, name: &str) -> Result<String, JsonError> {
        cut(json, (), "0", |(), member, _| if member == Some(name) { Cut::Whole } else { Cut::Within(()) })
    }

    #[test]
    fn what_is_named_is_replaced_and_every_other_byte_stays() {
        for (json, expected) in [
            (r#"{"a":1,"b":2}"#, r#"{"a":0,"b":2}"#),
            (
                r#" { "b" : [ 1e400 , { "a" : {"a":1} } , [] , {} ] } "#,
                r#" { "b" : [ 1e400 , { "a" : 0 } , [] , {} ] } "#,
            ),
            (r#"{"\u0061":"x","a":[1],"A":2}"#, r#"{"\u0061":0,"a":0,"A":2}"#),
            (r#"["a",{"b":"a"}]"#, r#"["a",{"b":"a"}]"#),
            ("\"a\"", "\"a\""),
            ("1", "1"),
            ("[[[]],{}]", "[[[]],{}]"),
        ] {
            assert_eq!(without(json, "a").as_deref(), Ok(expected), "{json}");
        }
        for wrong in ["", "{", "[1", "{\"b\":1}}", "[1,]", "{\"b\" 1}", "{\"a\":}", "[1}", "nul", "[1] 2"] {
            assert!(matches!(without(wrong, "a"), Err(JsonError::Syntax { .. })), "{wrong}");
        }
        let deep = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
        assert!(without(&deep(1_024), "a").is_ok());
        assert!(matches!(without(&deep(1_025), "a"), Err(JsonError::Depth { .. })));
    }

    #[test]
    fn what_is_not_gone_into_stays() {
        let only = |json: &str| {
            cut(json, 0, "0", |depth, name, _| match (depth, name) {
                (1, Some("a")) => Cut::Whole,
                (0, Some("b")) | (0, None) => Cut::Within(1),
                _ => Cut::No,
            })
        };
        assert_eq!(
            only(r#"{"a":1,"b":{"a":1,"b":{"a":1}},"c":{"a":1}}"#).unwrap(),
            r#"{"a":1,"b":{"a":0,"b":{"a":1}},"c":{"a":1}}"#
        );
        assert_eq!(only(r#"[{"a":1},2]"#).unwrap(), r#"[{"a":0},2]"#);
    }

    fn some_json() -> impl Strategy<Value = serde_json::Value> {
        let leaf = prop_oneof![
            Just(serde_json::Value::Null),
            any::<bool>().prop_map(serde_json::Value::from),
            any::<i64>().prop_map(serde_json::Value::from),
            "\\PC{0,6}".prop_map(serde_json::Value::from),
        ];
        leaf.prop_recursive(5, 40, 5, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..5).prop_map(serde_json::Value::from),
                proptest::collection::btree_map("[ab\"\\\\]{1,2}", inner, 0..5)
                    .prop_map(|members| members.into_iter().collect()),
            ]
        })
    }

    /// The same in the plainest way.
    fn plainly(value: &mut serde_json::Value) {
        match value {
            serde_json::Value::Array(items) => items.iter_mut().for_each(plainly),
            serde_json::Value::Object(members) => members
                .iter_mut()
                .for_each(|(name, value)| if name == "a" { *value = 0.into() } else { plainly(value) }),
            _ => {}
        }
    }

    proptest! {
        #[test]
        fn it_does_what_is_done_to_a_tree(mut value in some_json(), is_pretty: bool) {
            let text = if is_pretty { serde_json::to_string_pretty(&value) } else { serde_json::to_string(&value) }.unwrap();
            let cut = without(&text, "a").unwrap();
            plainly(&mut value);
            prop_assert_eq!(serde_json::from_str::<serde_json::Value>(&cut).unwrap(), value);
            prop_assert_eq!(without(&text, "c").unwrap(), text);
        }

        #[test]
        fn no_text_makes_it_fail(text in "\\PC{0,60}|[\\[\\]{}:,\"a1 ]{0,40}") {
            let mut elements = 0;
            let is_json = crate::json::each_element::<JsonError>(&format!("[{text}]"), |_| { elements += 1; Ok(()) }).is_ok();
            prop_assert_eq!(without(&text, "a").is_ok(), is_json && elements == 1);
        }
    }
}
