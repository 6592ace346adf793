//! Takes away from the messages of a call what rules mask. What is known to be harmless is kept, member by member; the rest is left out,
//! and what cannot be read is not passed on. It must not know eras: it looks at messages as the upstream wrote them.

use std::borrow::Cow;
use std::cell::Cell;

use access::rule::{FieldPath, Reached};
use bytes::Bytes;
use mcp::canonical::canonical;
use mcp::cut::{self, Cut};
use mcp::error as codes;
use mcp::json::{self, JsonError};
use mcp::message::{Envelope, Kind};
use mcp::meta;
use mcp::method::Method;

use super::plain_members::{is_annotation, is_plain};
use super::responses::code_of;
use crate::error::Fault;
use crate::policy::Masks;
use crate::upstream::mcp::malformed;

/// What stands in the place of a value.
const MASKED: &str = r#""[masked]""#;
/// Comparisons of names with steps of paths in one message, some 50 ms: what takes more is not passed on.
const MAX_STEPS: usize = 8 << 20;
/// Members of what the protocol's own errors say more of: what a client is asked, and what it lacks.
const OWN_DATA: [&str; 2] = ["elicitations", "requiredCapabilities"];
/// What is told of a task.
const OF_TASKS: [&str; 8] =
    ["taskId", "status", "createdAt", "lastUpdatedAt", "ttl", "ttlMs", "pollInterval", "pollIntervalMs"];
/// Where a result or a task says that it asks something, and how.
const ASKING: &str = r#""input_required""#;

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
    let told: &[&str] = match method {
        Method::Progress => &["progressToken", "progress", "total"],
        Method::Cancelled => &["requestId"],
        Method::TasksStatus => &OF_TASKS,
        Method::ElicitationComplete => &["elicitationId"],
        _ => return Ok(None),
    };
    let mut kept = Members::default();
    for (name, value) in members_of(envelope.params.unwrap_or("{}"))? {
        match &*name {
            meta::META => kept.add_object(meta::META, &own_meta(value)?),
            name if told.contains(&name) && is_plain(name, value) => kept.add(name, value),
            _ => {}
        }
    }
    let text = format!(r#"{{"jsonrpc":"2.0","method":"{}","params":{}}}"#, method.as_str(), kept.object());
    Ok(Some(text.into()))
}

/// What the protocol itself says in the metadata of results and notifications: what they belong to.
fn own_meta(raw: &str) -> Result<Members, JsonError> {
    let mut kept = Members::default();
    for (name, value) in members_of(object_of(raw))? {
        match &*name {
            meta::RELATED_TASK => {
                kept.add_object(
                    meta::RELATED_TASK,
                    &some_of(value, |name, value| name == "taskId" && is_plain(name, value))?,
                );
            }
            meta::SUBSCRIPTION_ID if is_plain("requestId", value) => kept.add(meta::SUBSCRIPTION_ID, value),
            _ => {}
        }
    }
    Ok(kept)
}

/// Masks of one call.
struct Masker<'a> {
    paths: Vec<&'a FieldPath>,
    /// The id of the first rule, as it is told.
    rule: &'a str,
    /// Comparisons so far, in all values of the message.
    steps: Cell<usize>,
}

impl<'a> Masker<'a> {
    fn new(masks: &'a Masks) -> Self {
        let paths = masks.iter().flat_map(|mask| &mask.fields).collect();
        let rule = masks.iter().next().map_or("", |mask| &*mask.rule);
        Self { paths, rule: rule.rsplit('/').next().unwrap_or_default(), steps: Cell::new(0) }
    }

    /// A result, or a task: what it holds of the tool's result is masked, and what nobody knows is left out.
    fn result(&self, result: &str) -> Result<String, Fault> {
        self.members_of(result, true)
    }

    fn members_of(&self, result: &str, is_outer: bool) -> Result<String, Fault> {
        let mut kept = Members::default();
        let [kind, status, structured] =
            json::members(result, ["resultType", "status", "structuredContent"]).map_err(malformed)?;
        let asks = kind == Some(ASKING) || status == Some(ASKING);
        let structured = structured.map(|raw| Structured::of(self, raw)).transpose()?;
        for (name, value) in members_of(result).map_err(malformed)? {
            let value = match &*name {
                "content" => Cow::from(self.content(value, structured.as_ref())?),
                "structuredContent" => {
                    structured.as_ref().map_or(MASKED, |structured| &structured.masked).into()
                }
                // A task, and the result of one that is done.
                "task" | "result" if is_outer && value.starts_with('{') => {
                    self.members_of(value, false)?.into()
                }
                "error" if value.starts_with('{') => self.error(value)?.into(),
                // What a client is asked is no result.
                "inputRequests" if asks => value.into(),
                "requestState" if !asks => continue,
                meta::META => {
                    kept.add_object(meta::META, &own_meta(value).map_err(malformed)?);
                    continue;
                }
                name if is_plain(name, value) => value.into(),
                _ => continue,
            };
            kept.add(&name, &value);
        }
        Ok(kept.object())
    }

    /// Blocks of content: text that is JSON is masked, and one block says that the others are left out. Beside structured content text tells
    /// the same, or a part of it that no path begins at: that is left out, and what the structured content shows stands for it.
    fn content(&self, content: &str, structured: Option<&Structured>) -> Result<String, Fault> {
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
        let (mut blocks, mut is_said, mut is_shown) = (Vec::new(), false, structured.is_none());
        for block in found {
            let shown = match self.block(block, structured)? {
                Block::Shown(shown) => {
                    is_shown = true;
                    Some(shown)
                }
                Block::PartOf(structured) if !is_shown => {
                    is_shown = true;
                    Some(text_block(&structured.masked))
                }
                Block::PartOf(_) => None,
                Block::LeftOut if is_said => None,
                Block::LeftOut => {
                    is_said = true;
                    Some(text_block(&self.left_out()))
                }
            };
            blocks.extend(shown);
        }
        Ok(format!("[{}]", blocks.join(",")))
    }

    /// What stands in the place of what is left out.
    fn left_out(&self) -> String {
        format!("[left out by the rule {}]", self.rule)
    }

    fn block<'s>(&self, block: &str, structured: Option<&'s Structured>) -> Result<Block<'s>, Fault> {
        if !block.starts_with('{') {
            return Ok(Block::LeftOut);
        }
        let [kind, raw, annotations] =
            json::members(block, ["type", "text", "annotations"]).map_err(malformed)?;
        let (Some(r#""text""#), Some(raw)) = (kind, raw.filter(|raw| raw.starts_with('"'))) else {
            return Ok(Block::LeftOut);
        };
        let text = json::string(raw).unwrap_or_default();
        // What was masked before, as results of tasks are that an edge fetches itself, stays as it is.
        if text == self.left_out() {
            return Ok(Block::LeftOut);
        }
        if let Some(structured) = structured.filter(|structured| !structured.is(&text)) {
            let stands_for_it = is_container(&structured.masked);
            return Ok(if stands_for_it { Block::PartOf(structured) } else { Block::LeftOut });
        }
        if !is_container(&text) {
            return Ok(Block::LeftOut);
        }
        let text = match self.cut(&text) {
            Err(Stopped::NotJson) => return Ok(Block::LeftOut),
            Err(Stopped::TooMuch) => return Err(too_much()),
            // What is not masked is passed on as it was spelled.
            Ok(masked) if masked == text => Cow::from(raw),
            Ok(masked) => json::quote(&masked).into(),
        };
        let mut kept = Members::default();
        kept.add("type", r#""text""#);
        kept.add("text", &text);
        let annotations = some_of(annotations.unwrap_or_default(), is_annotation).map_err(malformed)?;
        kept.add_object("annotations", &annotations);
        Ok(Block::Shown(kept.object()))
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
        let cut = cut::cut(value, start, MASKED, |places, name, holds_more| {
            let steps =
                places.iter().map(|(path, _)| path.depth()).fold(self.steps.get(), usize::saturating_add);
            self.steps.set(steps);
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
        if self.steps.get() > MAX_STEPS { Err(Stopped::TooMuch) } else { Ok(cut) }
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
            let data = some_of(data, |name, _| OWN_DATA.contains(&name)).map_err(malformed)?;
            kept.add_object("data", &data);
        }
        Ok(kept.object())
    }
}

/// Structured content.
struct Structured {
    /// The one text that all spellings of it have. `None`: it has none, and so no text is the same.
    canonical: Option<String>,
    /// What is shown of it.
    masked: String,
}

impl Structured {
    fn of(masker: &Masker<'_>, raw: &str) -> Result<Self, Fault> {
        Ok(Self { canonical: canonical(raw).ok(), masked: masker.value(raw)? })
    }

    /// Whether a text is the same.
    fn is(&self, text: &str) -> bool {
        self.canonical.is_some() && canonical(text).ok() == self.canonical
    }
}

/// What becomes of a block of content.
enum Block<'s> {
    Shown(String),
    /// It is text that tells a part of structured content, or something else.
    PartOf(&'s Structured),
    LeftOut,
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

fn text_block(text: &str) -> String {
    format!(r#"{{"type":"text","text":{}}}"#, json::quote(text))
}

/// A value if it is an object, else one without members.
fn object_of(raw: &str) -> &str {
    if raw.starts_with('{') { raw } else { "{}" }
}

/// The members of an object that are kept.
fn some_of(raw: &str, is_kept: impl Fn(&str, &str) -> bool) -> Result<Members, JsonError> {
    let mut kept = Members::default();
    for (name, value) in members_of(object_of(raw))? {
        if is_kept(&name, value) {
            kept.add(&name, value);
        }
    }
    Ok(kept)
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

    /// Adds an object, if it has members.
    fn add_object(&mut self, name: &str, object: &Self) {
        if !object.0.is_empty() {
            self.add(name, &object.object());
        }
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
            // What is asked is told where something is asked.
            (
                r#"{"resultType":"complete","requestState":"ann@x","inputRequests":{"email":"ann@x"}}"#,
                r#"{"resultType":"complete"}"#,
            ),
            // The protocol's members hold what the protocol says.
            (
                r#"{"isError":"ann@x","resultType":"ann@x","ttl":"ann@x","nextCursor":"ann@x","_meta":{"io.modelcontextprotocol/serverInfo":{"name":"ann@x"},"io.modelcontextprotocol/related-task":{"taskId":"t","x":"ann@x"}}}"#,
                r#"{"_meta":{"io.modelcontextprotocol/related-task":{"taskId":"t"}}}"#,
            ),
            (
                r#"{"content":[{"type":"text","text":"[1]","annotations":{"audience":["ann@x"],"priority":"ann@x","lastModified":"ann@x"}}]}"#,
                r#"{"content":[{"type":"text","text":"[1]"}]}"#,
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
    fn text_beside_structured_content_shows_the_same() {
        for (result, expected) in [
            (
                r#"{"content":[{"type":"text","text":"{\"email\": \"ann@x\"}"},{"type":"text","text":"{\"email\": \"bob@x\"}"},{"type":"image"},{"type":"text","text":"2"}],"structuredContent":{"result":[{"email":"ann@x"}],"email":2}}"#,
                &*format!(
                    r#"{{"content":[{{"type":"text","text":"{{\"result\":[{{\"email\":\"ann@x\"}}],\"email\":\"[masked]\"}}"}},{LEFT_OUT}],"structuredContent":{{"result":[{{"email":"ann@x"}}],"email":"[masked]"}}}}"#
                ),
            ),
            (
                r#"{"content":[{"type":"text","text":"{ \"a\": 1, \"email\": 2 }"},{"type":"text","text":"x"}],"structuredContent":{"email":2,"a":1}}"#,
                r#"{"content":[{"type":"text","text":"{ \"a\": 1, \"email\": \"[masked]\" }"}],"structuredContent":{"email":"[masked]","a":1}}"#,
            ),
            (
                r#"{"content":[{"type":"text","text":"ann@x"}],"structuredContent":"ann@x"}"#,
                &*format!(r#"{{"content":[{LEFT_OUT}],"structuredContent":"[masked]"}}"#),
            ),
        ] {
            assert_eq!(of_result(result), expected);
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
                r#"{"jsonrpc":"2.0","error":{"code":-32042,"message":"ann@x","data":{"elicitations":[],"email":"ann@x"}}}"#
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
        let some = format!("[{}]", ["{}"; 1_000].join(","));
        let blocks = vec![json!({"type": "text", "text": some}); 10];
        let blocks = json!({"jsonrpc": "2.0", "id": 1, "result": {"content": blocks}}).to_string();
        assert_eq!(shown(&blocks, &fields).unwrap_err(), too_much(), "all of a message together");
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
