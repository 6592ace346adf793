//! Members of virtual servers as the command line spells them: `time/get_current_time`, or `time/get_current_time=now` where
//! clients see another name. What is written here is read here. Pure.

use serde_json::{Value, json};

use crate::error::{Error, Result};

/// The lists of members, and the flags that give them.
pub const LISTS: [(&str, &str); 3] =
    [("tools", "--tool"), ("resources", "--resource"), ("prompts", "--prompt")];

/// Reads a member of a list. An empty alias says that there is none; without one nothing is said of it.
pub fn read(list: &str, word: &str) -> Result<Value> {
    let flag = LISTS.iter().find(|(known, _)| *known == list).map_or("", |(_, flag)| flag);
    if let Some((name, alias)) = word.rsplit_once(" as ").filter(|(name, alias)| is_alias_said(name, alias)) {
        return Err(Error::usage(format!(
            "{flag} '{word}' matches nothing; to have {name} named {alias}, write {flag} {name}={alias}"
        )));
    }
    let Some((name, alias)) = parts(list, word) else { return Ok(json!({ "match": word })) };
    let why = if name.contains('*') {
        format!("names many {alias}; only one can have that name, so write it out without `*`")
    } else if has_query(list, name) && !alias.is_empty() {
        "can be read in two ways; write `=` behind it if all of it is the URI, and give an alias to a URI with a query in a file"
            .to_owned()
    } else {
        return Ok(json!({ "match": name, "alias": alias }));
    };
    Err(Error::usage(format!("{flag} '{word}' {why}")))
}

fn is_alias_said(name: &str, alias: &str) -> bool {
    name.contains('/') && !name.contains('*') && !alias.is_empty() && !alias.contains([' ', '*'])
}

fn has_query(list: &str, name: &str) -> bool {
    list == "resources" && name.contains('?')
}

/// The name and the alias of a member that says something of an alias.
fn parts<'a>(list: &str, word: &'a str) -> Option<(&'a str, &'a str)> {
    // URIs have `=` of their own: only one that another URI follows begins an alias.
    let whole = word.strip_suffix('=').filter(|uri| before_uri(uri).is_some()).map(|uri| (uri, ""));
    let (name, alias) = match list {
        "resources" => whole.or_else(|| before_uri(word))?,
        _ => word.rsplit_once('=').filter(|(_, alias)| !alias.contains('*'))?,
    };
    let is_pattern = name.contains('*') && (alias.is_empty() || has_query(list, name));
    (!is_pattern).then_some((name, alias))
}

/// Splits before the last `=` that a URI follows.
fn before_uri(word: &str) -> Option<(&str, &str)> {
    let mut places = word.rmatch_indices('=').map(|(at, _)| (&word[..at], &word[at + 1..]));
    places.find(|(_, rest)| {
        let scheme = rest.split_once(':').map_or("", |(scheme, _)| scheme);
        let is_scheme = |byte: u8| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte);
        let begins = scheme.starts_with(|first: char| first.is_ascii_alphabetic());
        begins && scheme.bytes().all(is_scheme) && !rest.contains('*')
    })
}

/// Writes a member of a list as its flag takes it.
pub fn written(list: &str, member: &Value) -> String {
    let text = |field: &str| member[field].as_str().unwrap_or_default();
    let (name, alias) = (text("match"), text("alias"));
    match alias.is_empty() && parts(list, name).is_none() {
        true => name.to_owned(),
        false => format!("{name}={alias}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(list: &str, word: &str) -> std::result::Result<(String, Option<String>), String> {
        let member = read(list, word).map_err(|error| error.to_string())?;
        let text = |field: &str| member[field].as_str().map(str::to_owned);
        Ok((text("match").unwrap_or_default(), text("alias")))
    }

    #[test]
    fn a_name_and_its_alias_go_there_and_back() {
        for (list, word, name, alias) in [
            ("tools", "time/now", "time/now", None),
            ("tools", "time/*", "time/*", None),
            ("tools", "time/get_current_time=now", "time/get_current_time", Some("now")),
            ("prompts", "docs/review=look", "docs/review", Some("look")),
            ("tools", "odd/a=b=c", "odd/a=b", Some("c")),
            ("tools", "odd/a=b=", "odd/a=b", Some("")),
            ("tools", "odd/a=*", "odd/a=*", None),
            ("tools", "odd/*=", "odd/*=", None),
            ("resources", "docs/note://*?to=x://b", "docs/note://*?to=x://b", None),
            ("resources", "docs/note://a", "docs/note://a", None),
            ("resources", "docs/note://a?q=1", "docs/note://a?q=1", None),
            ("resources", "docs/data:x;base64,aGk==", "docs/data:x;base64,aGk==", None),
            ("resources", "docs/note://a=memo://b?x=1", "docs/note://a", Some("memo://b?x=1")),
            ("resources", "docs/note://a?to=x://b=", "docs/note://a?to=x://b", Some("")),
        ] {
            let read = check(list, word).unwrap();
            assert_eq!(read, (name.to_owned(), alias.map(str::to_owned)), "{word}");
            assert_eq!(written(list, &json!({ "match": name, "alias": alias })), word);
        }
    }

    #[test]
    fn what_is_meant_otherwise_is_refused() {
        for (list, word, why) in [
            (
                "tools",
                "mine/add as plus",
                "--tool 'mine/add as plus' matches nothing; to have mine/add named plus, write --tool mine/add=plus",
            ),
            (
                "tools",
                "time/*=now",
                "--tool 'time/*=now' names many now; only one can have that name, so write it out without `*`",
            ),
            (
                "resources",
                "docs/note://a?to=x://b",
                "--resource 'docs/note://a?to=x://b' can be read in two ways; write `=` behind it if all of it is the URI, and \
                 give an alias to a URI with a query in a file",
            ),
        ] {
            assert_eq!(check(list, word), Err(why.to_owned()));
        }
        assert!(check("tools", "odd/as good as it gets").is_ok());
    }
}
