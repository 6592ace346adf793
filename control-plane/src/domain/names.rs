//! Resource names: `upstreams/time`, `upstreams/time/tools/get_current_time`, `servers/dev`, `tokens/laptop`.
//! It knows nothing of what the names stand for.

use std::borrow::Cow;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

use super::Kind;

/// The longest name, so that it fits into an index of every database.
pub const MAX_NAME_BYTES: usize = 2_048;

/// The longest id that somebody may choose.
const MAX_ID: usize = 63;

/// Everything but `[A-Za-z0-9._~-]`.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'.').remove(b'_').remove(b'~').remove(b'-');

/// The reason why a name is invalid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// It does not have the form.
    #[error("`{name}` is not of the form `{form}`{hint}")]
    Form {
        /// The text that was given.
        name: String,
        /// The form that was expected.
        form: String,
        /// What may have been meant.
        hint: String,
    },
    /// It is too long.
    #[error("the name has {0} bytes; the maximum is {MAX_NAME_BYTES}")]
    TooLong(usize),
    /// Its id is not one that may be chosen.
    #[error("{}", id_rule(.0))]
    Id(String),
    /// Its id is not in the one encoding that there is for it.
    #[error(
        "the id `{0}` is not percent-encoded correctly: encode every byte outside `[A-Za-z0-9._~-]`, in capital letters"
    )]
    Encoding(String),
}

/// The parts of a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Name<'a> {
    /// Its kind.
    pub kind: Kind,
    /// `upstreams/{upstream}` for entries of a catalogue, else empty.
    pub parent: &'a str,
    /// The last part, as it is in the name.
    pub id: &'a str,
}

/// Takes a name apart, and checks that it is the name of something of the kind.
pub fn parse(kind: Kind, name: &str) -> Result<Name<'_>, NameError> {
    if name.len() > MAX_NAME_BYTES {
        return Err(NameError::TooLong(name.len()));
    }
    let form = || NameError::Form { name: name.to_owned(), form: form(kind), hint: hint(kind, name) };
    let (head, id) = name.rsplit_once('/').ok_or_else(form)?;
    if !kind.in_catalogue() {
        return if head == kind.collection() {
            check_id(id).map(|()| Name { kind, parent: "", id })
        } else {
            Err(form())
        };
    }
    let (parent, collection) = head.rsplit_once('/').ok_or_else(form)?;
    if collection != kind.collection() {
        return Err(form());
    }
    parse(Kind::Upstream, parent).map_err(|_| form())?;
    decode_id(id)?;
    Ok(Name { kind, parent, id })
}

/// Returns the form of the kind's names.
pub fn form(kind: Kind) -> String {
    let collection = kind.collection();
    let singular = collection.trim_end_matches('s');
    if kind.in_catalogue() {
        format!("upstreams/{{upstream}}/{collection}/{{{singular}}}")
    } else {
        format!("{collection}/{{{singular}}}")
    }
}

/// Who writes an id alone means the name.
fn hint(kind: Kind, name: &str) -> String {
    let is_id = !kind.in_catalogue() && check_id(name).is_ok();
    if is_id { format!("; did you mean `{}/{name}`?", kind.collection()) } else { String::new() }
}

/// What an id may have, for one that has something else.
fn id_rule(given: &str) -> String {
    let near = near_id(given).map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
    let shown: String = given.chars().take(MAX_ID).collect();
    let cut = if shown.len() < given.len() { "…" } else { "" };
    format!(
        "`{shown}{cut}` cannot be an id: an id has lower-case letters, digits and `-`, begins with a letter, ends with a letter or \
         a digit, and has at most {MAX_ID} characters{near}"
    )
}

/// The id that is nearest to what was given. `None`: nothing of it can be in one.
fn near_id(given: &str) -> Option<String> {
    let plain = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
    let words: String = given.chars().map(plain).collect();
    let words = words.split('-').filter(|word| !word.is_empty()).collect::<Vec<_>>().join("-");
    let from_letter = words.trim_start_matches(|c: char| !c.is_ascii_lowercase());
    let id = from_letter.get(..MAX_ID).unwrap_or(from_letter).trim_end_matches('-');
    check_id(id).is_ok().then(|| id.to_owned())
}

/// Finds the kind of a name out.
pub fn kind_of(name: &str) -> Option<Kind> {
    Kind::ALL.iter().copied().find(|kind| parse(*kind, name).is_ok())
}

/// The name of the upstream with this id.
pub fn upstream(id: &str) -> String {
    format!("upstreams/{id}")
}

/// The name by which the identity of a client certificate is kept among what resources refer to.
pub fn certificate(identity: &str) -> String {
    format!("certificates/{identity}")
}

/// The id of a name: its last part.
pub fn id(name: &str) -> &str {
    name.rsplit_once('/').map_or(name, |(_, id)| id)
}

/// The id of the upstream that a name of an upstream, or of an entry of its catalogue, speaks of.
pub fn upstream_id(name: &str) -> Option<&str> {
    name.strip_prefix("upstreams/").map(|rest| rest.split_once('/').map_or(rest, |(id, _)| id))
}

/// The name of an entry of a catalogue, from the upstream's id and the entry's own name, URI or URI template.
pub fn entry(kind: Kind, upstream_id: &str, own: &str) -> String {
    format!("upstreams/{upstream_id}/{}/{}", kind.collection(), encode_id(own))
}

/// Percent-encodes an entry's own name as an id.
pub fn encode_id(own: &str) -> Cow<'_, str> {
    utf8_percent_encode(own, ENCODED).into()
}

/// The entry's own name that an id stands for. There is one id for each.
pub fn decode_id(id: &str) -> Result<Cow<'_, str>, NameError> {
    let bad = || NameError::Encoding(id.to_owned());
    let own = percent_decode_str(id).decode_utf8().map_err(|_| bad())?;
    if own.is_empty() || encode_id(&own) != id {
        return Err(bad());
    }
    Ok(own)
}

/// Checks an id that somebody chose: `[a-z]([a-z0-9-]{0,61}[a-z0-9])?`.
pub fn check_id(id: &str) -> Result<(), NameError> {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let good = match id.as_bytes() {
        [first] => first.is_ascii_lowercase(),
        [first, middle @ .., last] => {
            first.is_ascii_lowercase()
                && middle.len() <= 61
                && middle.iter().all(|byte| plain(*byte) || *byte == b'-')
                && plain(*last)
        }
        [] => false,
    };
    if good { Ok(()) } else { Err(NameError::Id(id.to_owned())) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn ids_are_checked() {
        for good in ["a", "a1", "my-server", &format!("a{}", "b".repeat(62))] {
            assert_eq!(check_id(good), Ok(()), "{good}");
        }
        for bad in ["", "1a", "a-", "-a", "A", "a_b", "a.b", "é", &format!("a{}", "b".repeat(63))] {
            assert!(check_id(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_cannot_be_an_id_is_told_with_what_can() {
        for (given, near) in [
            ("TIME", Some("time")),
            ("my_server", Some("my-server")),
            ("1st tool", Some("st-tool")),
            ("-a--b-", Some("a-b")),
            ("2024", None),
            ("é", None),
            ("", None),
        ] {
            assert_eq!(near_id(given).as_deref(), near, "{given}");
        }
        assert_eq!(near_id(&"x-".repeat(80)).map(|id| id.len()), Some(63));
        let text = check_id("TIME").unwrap_err().to_string();
        assert!(
            text.starts_with("`TIME` cannot be an id: ") && text.ends_with("; did you mean `time`?"),
            "{text}"
        );
        let text = parse(Kind::Server, "dev").unwrap_err().to_string();
        assert_eq!(text, "`dev` is not of the form `servers/{server}`; did you mean `servers/dev`?");
    }

    #[test]
    fn names_are_taken_apart() {
        let name = parse(Kind::Tool, "upstreams/time/tools/get_current_time").unwrap();
        assert_eq!((name.parent, name.id), ("upstreams/time", "get_current_time"));
        assert_eq!(parse(Kind::Server, "servers/dev").unwrap().id, "dev");
        for bad in [
            "tools/x",
            "upstreams/time/prompts/x",
            "upstreams/T/tools/x",
            "upstreams/t/tools/a b",
            "upstreams/t/tools/%2f",
        ] {
            assert!(parse(Kind::Tool, bad).is_err(), "{bad}");
        }
        assert_eq!(kind_of("upstreams/t/resources/file%3A%2F%2F%2Fx"), Some(Kind::Resource));
        assert_eq!(upstream_id("upstreams/t/tools/x"), Some("t"));
    }

    proptest! {
        #[test]
        fn ids_stand_for_one_name(own in ".{1,60}") {
            let name = entry(Kind::Resource, "up", &own);
            let parsed = parse(Kind::Resource, &name).unwrap();
            prop_assert_eq!(decode_id(parsed.id).unwrap(), own);
        }
    }
}
