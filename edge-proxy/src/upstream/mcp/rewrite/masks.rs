//! Takes away from the messages of a call what rules mask. What is known to be harmless is kept, member by member; the rest is left out,
//! and what cannot be read is not passed on. It must not know eras: it looks at messages as the upstream wrote them.

use std::borrow::Cow;

use access::rule::{FieldPath, Reached};
use bytes::Bytes;
use mcp::cut::{self, Cut};
use mcp::error as codes;
use mcp::json::{self, JsonError};
use mcp::message::{Envelope, Kind};
use mcp::meta;
use mcp::method::Method;

use super::responses::code_of;
use crate::error::Fault;
use crate::policy::Masks;
use crate::upstream::mcp::malformed;

/// What stands in the place of a value.
const MASKED: &str = r#""[masked]""#;
/// Comparisons of names with steps of paths in one value, some 50 ms: what takes more is not passed on.
const MAX_STEPS: usize = 8 << 20;
/// Members of results, and of tasks in them, that tell nothing of what the tool returned: numbers, words and times.
const PLAIN: [&str; 13] = [
    "isError",
    "resultType",
    "requestState",
    "taskId",
    "status",
    "createdAt",
    "lastUpdatedAt",
    "ttl",
    "ttlMs",
    "pollInterval",
    "pollIntervalMs",
    "cacheScope",
    "nextCursor",
];
/// What the protocol itself says in the metadata of results and notifications.
const OWN_META: [&str; 3] = [meta::RELATED_TASK, meta::SERVER_INFO, meta::SUBSCRIPTION_ID];
/// What annotations of content say to clients.
const ANNOTATIONS: [&str; 3] = ["audience", "priority", "lastModified"];

/// A message of a call without what is masked of its result; `None` for one that is for nobody then.
pub(in crate::upstream::mcp) fn take_away(message: &Bytes, masks: &Masks) -> Result<Option<Bytes>, Fault> {
    let envelope = Envelope::parse(message).map_err(malformed)?;
    let masker = Masker::new(masks);
    match envelope.kind() {
        // What a client is asked is no result.
        Kind::Request => Ok(Some(message.clone())),
        Kind::Notification => notification(&envelope).map_err(malformed),
        Kind::Response => match (envelope.error, envelope.result) {
            (Some(error), _) => Ok(Some(response(envelope.id, "error", &masker.error(error)?))),
            (None, Some(result)) => Ok(Some(response(envelope.id, "result", &masker.result(result)?))),
            (None, None) => Ok(Some(message.clone())),
        },
    }
}

/// A task as a notification tells it, with its result or error, without what is masked of them.
pub fn task_without(task: &str, masks: &Masks) -> Result<String, Fault> {
    Masker::new(masks).result(task)
}

/// A response with nothing else in it: members that nobody knows may say what is masked.
fn response(id: Option<&str>, member: &str, value: &str) -> Bytes {
    let id = id.map(|id| format!(r#""id":{id},"#)).unwrap_or_default();
    format!(r#"{{"jsonrpc":"2.0",{id}"{member}":{value}}}"#).into()
}

/// What is kept of a notification of a call: that something goes on, and not what is said of it.
fn notification(envelope: &Envelope<'_>) -> Result<Option<Bytes>, JsonError> {
    let Some(method) = envelope.method.as_deref().and_then(Method::parse) else { return Ok(None) };
    let plain: &[&str] = match method {
        Method::Progress => &["progressToken", "progress", "total"],
        Method::Cancelled => &["requestId"],
        Method::TasksStatus => &PLAIN,
        Method::ElicitationComplete => &["elicitationId"],
        _ => return Ok(None),
    };
    let mut kept = Members::default();
    for (name, value) in members_of(envelope.params.unwrap_or("{}"))? {
        match &*name {
            meta::META => kept.add_object(meta::META, value, &OWN_META)?,
            name if plain.contains(&name) && is_plain(value) => kept.add(name, value),
            _ => {}
        }
    }
    let text = format!(r#"{{"jsonrpc":"2.0","method":"{}","params":{}}}"#, method.as_str(), kept.object());
    Ok(Some(text.into()))
}

/// Masks of one call.
struct Masker<'a> {
    paths: Vec<&'a FieldPath>,
    /// The id of the first rule, as it is told.
    rule: &'a str,
}

impl<'a> Masker<'a> {
    fn new(masks: &'a Masks) -> Self {
        let paths = masks.iter().flat_map(|mask| &mask.fields).collect();
        let rule = masks.iter().next().map_or("", |mask| &*mask.rule);
        Self { paths, rule: rule.rsplit('/').next().unwrap_or_default() }
    }

    /// A result, or a task: what it holds of the tool's result is masked, and what nobody knows is left out.
    fn result(&self, result: &str) -> Result<String, Fault> {
        self.members_of(result, true)
    }

    fn members_of(&self, result: &str, is_outer: bool) -> Result<String, Fault> {
        let mut kept = Members::default();
        for (name, value) in members_of(result).map_err(malformed)? {
            self.member(&mut kept, &name, value, is_outer)?;
        }
        Ok(kept.object())
    }

    fn member(&self, kept: &mut Members, name: &str, value: &str, is_outer: bool) -> Result<(), Fault> {
        let value = match name {
            "content" => Cow::from(self.content(value)?),
            "structuredContent" => self.value(value)?.into(),
            // A task, and the result of one that is done.
            "task" | "result" if is_outer && value.starts_with('{') => self.members_of(value, false)?.into(),
            "error" if value.starts_with('{') => self.error(value)?.into(),
            // What a client is asked is no result.
            "inputRequests" => value.into(),
            meta::META => return kept.add_object(meta::META, value, &OWN_META).map_err(malformed),
            _ if PLAIN.contains(&name) && is_plain(value) => value.into(),
            _ => return Ok(()),
        };
        kept.add(name, &value);
        Ok(())
    }

    /// Blocks of content: text that is JSON is masked, and one block says that the others are left out.
    fn content(&self, content: &str) -> Result<String, Fault> {
        let mut found = Vec::new();
        if content.starts_with('[') {
            json::each_element::<JsonError>(content, |block| {
                found.push(block);
                Ok(())
            })
            .map_err(malformed)?;
        } else {
            found.push(content);
        }
        let (mut blocks, mut is_said) = (Vec::new(), false);
        for block in found {
            match self.block(block)? {
                Some(block) => blocks.push(block),
                None if is_said => {}
                None => {
                    is_said = true;
                    let text = json::quote(&format!("[left out by the rule {}]", self.rule));
                    blocks.push(format!(r#"{{"type":"text","text":{text}}}"#));
                }
            }
        }
        Ok(format!("[{}]", blocks.join(",")))
    }

    /// A block of content; `None` for one that is left out.
    fn block(&self, block: &str) -> Result<Option<String>, Fault> {
        if !block.starts_with('{') {
            return Ok(None);
        }
        let [kind, raw, annotations] =
            json::members(block, ["type", "text", "annotations"]).map_err(malformed)?;
        let (Some(r#""text""#), Some(raw)) = (kind, raw.filter(|raw| raw.starts_with('"'))) else {
            return Ok(None);
        };
        let Some(text) = json::string(raw).ok().filter(|text| is_container(text)) else { return Ok(None) };
        let text = match self.cut(&text) {
            Err(Stopped::NotJson) => return Ok(None),
            Err(Stopped::TooMuch) => return Err(too_much()),
            // What is not masked is passed on as it was spelled.
            Ok(masked) if masked == text => Cow::from(raw),
            Ok(masked) => json::quote(&masked).into(),
        };
        let mut kept = Members::default();
        kept.add("type", r#""text""#);
        kept.add("text", &text);
        kept.add_object("annotations", annotations.unwrap_or_default(), &ANNOTATIONS).map_err(malformed)?;
        Ok(Some(kept.object()))
    }

    /// Structured content. What is no object and no list has no members that could be told from each other.
    fn value(&self, value: &str) -> Result<String, Fault> {
        if !is_container(value) {
            return Ok(MASKED.to_owned());
        }
        self.cut(value).map_err(|stopped| match stopped {
            Stopped::TooMuch => too_much(),
            Stopped::NotJson => Fault::Malformed("its structured content cannot be read".to_owned()),
        })
    }

    /// JSON without the values at the end of a path.
    fn cut(&self, value: &str) -> Result<String, Stopped> {
        let start: Vec<(&FieldPath, Reached)> = self.paths.iter().map(|path| (*path, path.start())).collect();
        let mut steps = 0_usize;
        let cut = cut::cut(value, start, MASKED, |places, name, holds_more| {
            steps = places.iter().fold(steps, |steps, (path, _)| steps.saturating_add(path.depth()));
            if steps > MAX_STEPS {
                return Cut::Whole;
            }
            let mut next = places.iter().map(|(path, at)| (*path, path.enter(*at, name)));
            if next.clone().any(|(path, at)| path.ends(at)) {
                return Cut::Whole;
            }
            if !holds_more {
                return Cut::No;
            }
            let within: Vec<_> = next.by_ref().filter(|(_, at)| !at.is_nowhere()).collect();
            if within.is_empty() { Cut::No } else { Cut::Within(within) }
        });
        let cut = cut.map_err(|_| Stopped::NotJson)?;
        if steps > MAX_STEPS { Err(Stopped::TooMuch) } else { Ok(cut) }
    }

    /// An error: its words may quote what is masked.
    fn error(&self, error: &str) -> Result<String, Fault> {
        let code = code_of(error)?;
        let [data] = json::members(error, ["data"]).map_err(malformed)?;
        let is_of_protocol = matches!(code, codes::URL_ELICITATION_REQUIRED | codes::MISSING_CAPABILITY);
        let mut kept = Members::default();
        kept.add("code", &code.to_string());
        let told = format!("the message is left out by the rule {}", self.rule);
        kept.add("message", &json::quote(&told));
        if let Some(data) = data.filter(|_| is_of_protocol) {
            kept.add("data", data);
        }
        Ok(kept.object())
    }
}

/// Why a value could not be masked.
enum Stopped {
    NotJson,
    TooMuch,
}

fn too_much() -> Fault {
    Fault::Malformed("its result has more members than can be masked".to_owned())
}

/// Whether JSON text is an object or a list.
fn is_container(text: &str) -> bool {
    text.trim_ascii_start().starts_with(['{', '['])
}

fn is_plain(value: &str) -> bool {
    !value.starts_with(['{', '['])
}

/// The members of an object; one whose name is no text has none that is looked for.
fn members_of(object: &str) -> Result<Vec<(Cow<'_, str>, &str)>, JsonError> {
    let mut found = Vec::new();
    json::each_member(object, |key, value| {
        found.push((json::string(key).unwrap_or_default(), value));
        Ok(())
    })?;
    Ok(found)
}

/// Members of an object that is written.
#[derive(Default)]
struct Members(String);

impl Members {
    fn add(&mut self, name: &str, value: &str) {
        self.0.push_str(if self.0.is_empty() { "" } else { "," });
        self.0.push_str(&json::quote(name));
        self.0.push(':');
        self.0.push_str(value);
    }

    /// An object with these of its members alone, if it is one that has any.
    fn add_object(&mut self, name: &str, value: &str, names: &[&str]) -> Result<(), JsonError> {
        let mut kept = Self::default();
        let object = Some(value).filter(|value| value.starts_with('{')).unwrap_or("{}");
        for (key, value) in members_of(object)?.into_iter().filter(|(key, _)| names.contains(&&**key)) {
            kept.add(&key, value);
        }
        if !kept.0.is_empty() {
            self.add(name, &kept.object());
        }
        Ok(())
    }

    fn object(&self) -> String {
        format!("{{{}}}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    const LEFT_OUT: &str = r#"{"type":"text","text":"[left out by the rule people]"}"#;

    fn shown(message: &str, fields: &[&str]) -> Result<Option<String>, Fault> {
        let shown = take_away(&Bytes::from(message.to_owned()), &Masks::of_fields(fields))?;
        Ok(shown.map(|shown| String::from_utf8(shown.to_vec()).unwrap()))
    }

    fn of_result(result: &str) -> String {
        let message = format!(r#"{{"jsonrpc":"2.0","id":"a","debug":"ann@x","result":{result}}}"#);
        let shown = shown(&message, &["email", "people.*.iban"]).unwrap().unwrap();
        let inner = shown.strip_prefix(r#"{"jsonrpc":"2.0","id":"a","result":"#).unwrap();
        inner.strip_suffix('}').unwrap().to_owned()
    }

    #[test]
    fn masked_members_are_taken_away_and_what_nobody_knows_is_left_out() {
        for (result, expected) in [
            (
                r#"{"structuredContent":{"email":"ann@x","n": 1e400,"people":[{"iban":["DE"],"a":1}]},"isError":false}"#,
                r#"{"structuredContent":{"email":"[masked]","n": 1e400,"people":[{"iban":"[masked]","a":1}]},"isError":false}"#,
            ),
            (
                r#"{"content":[{"type":"text","text":"{\"\\u0065mail\":\"ann@x\",\"n\":1}","_meta":{"x":1},"annotations":{"priority":1.50,"x":2}}]}"#,
                r#"{"content":[{"type":"text","text":"{\"\\u0065mail\":\"[masked]\",\"n\":1}","annotations":{"priority":1.50}}]}"#,
            ),
            // What has nothing to mask is passed on as it was spelled.
            (
                r#"{"content":[{"type":"text","text":"[\u0031]"}]}"#,
                r#"{"content":[{"type":"text","text":"[\u0031]"}]}"#,
            ),
            (
                r#"{"content":[{"type":"text","text":"ann@x"},{"type":"image","data":"AA=="},7,{"type":"text","text":"{}"},{"type":"text","text":"{"}]}"#,
                &format!(r#"{{"content":[{LEFT_OUT},{{"type":"text","text":"{{}}"}}]}}"#),
            ),
            (r#"{"content":"ann@x"}"#, &format!(r#"{{"content":[{LEFT_OUT}]}}"#)),
            (r#"{"content":{"type":"text","text":"\ud800{}"}}"#, &format!(r#"{{"content":[{LEFT_OUT}]}}"#)),
            (r#"{"structuredContent":"ann@x"}"#, r#"{"structuredContent":"[masked]"}"#),
            (r#"{"toolResult":"ann@x","content":[]}"#, r#"{"content":[]}"#),
            (
                r#"{"_meta":{"x":"ann@x","io.modelcontextprotocol/related-task":{"taskId":"t"}},"content":[]}"#,
                r#"{"_meta":{"io.modelcontextprotocol/related-task":{"taskId":"t"}},"content":[]}"#,
            ),
            (
                r#"{"task":{"taskId":"t","status":"working","statusMessage":"ann@x","ttl":null}}"#,
                r#"{"task":{"taskId":"t","status":"working","ttl":null}}"#,
            ),
            (
                r#"{"resultType":"input_required","requestState":"s","inputRequests":{"q":{"method":"elicitation/create"}}}"#,
                r#"{"resultType":"input_required","requestState":"s","inputRequests":{"q":{"method":"elicitation/create"}}}"#,
            ),
            (
                r#"{"taskId":"t","status":"completed","result":{"content":[],"structuredContent":{"email":1},"result":{"email":1}}}"#,
                r#"{"taskId":"t","status":"completed","result":{"content":[],"structuredContent":{"email":"[masked]"}}}"#,
            ),
            (
                r#"{"taskId":"t","status":"failed","error":{"code":-32603,"message":"ann@x","data":1}}"#,
                r#"{"taskId":"t","status":"failed","error":{"code":-32603,"message":"the message is left out by the rule people"}}"#,
            ),
        ] {
            assert_eq!(of_result(result), expected);
            assert_eq!(of_result(expected), expected, "twice is as good as once");
        }
    }

    #[test]
    fn errors_and_notifications_say_nothing_that_may_be_masked() {
        let told = r#""message":"the message is left out by the rule people""#;
        let notification = |method: &str, params: &str| {
            format!(r#"{{"jsonrpc":"2.0","method":"notifications/{method}","params":{params}}}"#)
        };
        for (message, expected) in [
            (
                r#"{"jsonrpc":"2.0","id":1,"error":{"code":-32000,"message":"ann@x","data":{"a":1}}}"#
                    .to_owned(),
                Some(format!(r#"{{"jsonrpc":"2.0","id":1,"error":{{"code":-32000,{told}}}}}"#)),
            ),
            (
                r#"{"jsonrpc":"2.0","error":{"code":-32042,"message":"ann@x","data":{"elicitations":[]}}}"#
                    .to_owned(),
                Some(format!(
                    r#"{{"jsonrpc":"2.0","error":{{"code":-32042,{told},"data":{{"elicitations":[]}}}}}}"#
                )),
            ),
            (
                notification("progress", r#"{"progressToken":"t","progress":0.50,"message":"ann@x","x":1}"#),
                Some(notification("progress", r#"{"progressToken":"t","progress":0.50}"#)),
            ),
            (
                notification("cancelled", r#"{"requestId":1,"reason":"ann@x"}"#),
                Some(notification("cancelled", r#"{"requestId":1}"#)),
            ),
            (
                notification("tasks/status", r#"{"taskId":"t","status":"working","statusMessage":"ann@x"}"#),
                Some(notification("tasks/status", r#"{"taskId":"t","status":"working"}"#)),
            ),
            (notification("message", r#"{"level":"info","data":"ann@x"}"#), None),
            (notification("x/found", r#"{"email":"ann@x"}"#), None),
            (notification("resources/updated", r#"{"uri":"x:ann@x"}"#), None),
        ] {
            assert_eq!(shown(&message, &["email"]).unwrap(), expected);
        }
        let asked = r#"{"jsonrpc":"2.0","id":1,"method":"elicitation/create","params":{"message":"?"}}"#;
        assert_eq!(shown(asked, &["email"]).unwrap().as_deref(), Some(asked));
    }

    #[test]
    fn what_cannot_be_read_or_takes_too_long_is_not_passed_on() {
        let result = |result: &str| {
            let message = format!(r#"{{"jsonrpc":"2.0","id":1,"result":{result}}}"#);
            shown(&message, &["email"]).unwrap_err()
        };
        assert!(matches!(result(r#"{"content":[{"type":"text","type":"x"}]}"#), Fault::Malformed(_)));
        assert!(matches!(result(r#"{"task":[],"content":[1,]}"#), Fault::Malformed(_)));
        let fields: Vec<String> = (0..64).map(|nth| format!("{nth}.{}", ["**.a"; 15].join("."))).collect();
        let fields: Vec<&str> = fields.iter().map(String::as_str).collect();
        let many = format!("[{}]", ["{}"; 10_000].join(","));
        let message = format!(r#"{{"jsonrpc":"2.0","id":1,"result":{{"structuredContent":{many}}}}}"#);
        assert_eq!(shown(&message, &fields).unwrap_err(), too_much());
    }

    fn some_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<i64>().prop_map(Value::from),
            "\\PC{0,4}".prop_map(Value::from)
        ];
        leaf.prop_recursive(4, 30, 4, |inner| {
            let members = proptest::collection::btree_map("[ab]|secret", inner.clone(), 0..4);
            prop_oneof![
                proptest::collection::vec(inner, 0..4).prop_map(Value::from),
                members.prop_map(|members| members.into_iter().collect()),
            ]
        })
    }

    /// What `**.secret` takes away, in the plainest way.
    fn plainly(value: &mut Value) {
        match value {
            Value::Array(items) => items.iter_mut().for_each(plainly),
            Value::Object(members) => members.iter_mut().for_each(|(name, value)| match name.as_str() {
                "secret" => *value = json!("[masked]"),
                _ => plainly(value),
            }),
            _ => {}
        }
    }

    fn masked(value: &Value) -> Value {
        let mut value = value.clone();
        plainly(&mut value);
        value
    }

    proptest! {
        /// No value at a masked path leaves, wherever a result has it, and every other value stays.
        #[test]
        fn what_is_masked_does_not_leave(value in some_json(), more in some_json(), kind in "text|image|resource_link|", name in "[a-z]{1,8}|content|isError|_meta|task|result|error") {
            let text = serde_json::to_string_pretty(&value).unwrap();
            let result = json!({
                "structuredContent": value,
                "content": [{"type": "text", "text": text}, {"type": kind, "text": more.to_string(), "data": more}],
            });
            let mut odd = result.clone();
            odd[&name] = json!({"secret": "SECRET", "data": "SECRET", "code": 1, "message": "SECRET", "x": more});
            for (result, is_whole) in [(result, true), (odd, false)] {
                let message = json!({"jsonrpc": "2.0", "id": 1, "result": result}).to_string();
                let Ok(Some(shown)) = shown(&message, &["**.secret"]) else { continue };
                prop_assert!(!shown.contains("SECRET"), "{shown}");
                let shown: Value = serde_json::from_str(&shown).unwrap();
                let is_container = value.is_array() || value.is_object();
                if is_whole && is_container {
                    prop_assert_eq!(&shown["result"]["structuredContent"], &masked(&value));
                    let text = shown["result"]["content"][0]["text"].as_str().unwrap();
                    prop_assert_eq!(serde_json::from_str::<Value>(text).unwrap(), masked(&value));
                } else if is_whole {
                    prop_assert_eq!(&shown["result"]["structuredContent"], &json!("[masked]"));
                    prop_assert_eq!(&shown["result"]["content"][0]["text"], "[left out by the rule people]");
                }
            }
        }
    }
}
