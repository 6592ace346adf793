//! Secrets among the words of a command: passwords in URLs, and what stands behind `--token`, `API_KEY=` or `Authorization:`. Where a
//! command is shown, variables take their places. Pure; what is a secret is told by its name alone.

use super::variables::has_variables;

/// What the names of secrets end with, without `-` and `_`.
const ENDS: [&str; 12] = [
    "token",
    "password",
    "passwd",
    "passphrase",
    "pwd",
    "secret",
    "key",
    "credential",
    "credentials",
    "bearer",
    "authorization",
    "cookie",
];
/// Names of secrets that other names end with, too.
const NAMES: [&str; 2] = ["pass", "pat"];

/// The words of a command without its secrets.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Concealed {
    /// The words, with `${NAME}` in the places of secrets.
    pub(super) words: Vec<String>,
    /// The variables that are in them for that reason.
    pub(super) names: Vec<String>,
}

/// Hides the secrets of a command, whose environment may have one of them under a name already.
pub(super) fn concealed(command: &[String], env: &[(String, String)]) -> Concealed {
    let mut known = Known { env, given: Vec::new() };
    let (mut words, mut option) = (Vec::new(), None::<&str>);
    for word in command {
        let behind = option.take().filter(|_| !word.starts_with("--"));
        words.push(match behind {
            Some(option) => known.hide(option, word),
            None => known.within(word),
        });
        let is_option = word.starts_with('-') && is_name(word) && is_secret(word);
        option = is_option.then_some(word.as_str());
    }
    Concealed { words, names: known.given.into_iter().map(|(name, _)| name).collect() }
}

/// Whether a text holds no secret that is told by its form.
pub(super) fn is_harmless(text: &str) -> bool {
    Known { env: &[], given: Vec::new() }.within(text) == text
}

/// Whether it is a secret what has this name.
pub(super) fn is_secret(name: &str) -> bool {
    let plain: String = name.chars().filter(char::is_ascii_alphanumeric).collect();
    let plain = plain.to_ascii_lowercase();
    NAMES.contains(&plain.as_str()) || ENDS.iter().any(|end| plain.ends_with(end))
}

/// The variables that have names: those of the command, and those that secrets were given.
struct Known<'a> {
    env: &'a [(String, String)],
    given: Vec<(String, String)>,
}

impl Known<'_> {
    /// Hides a secret that has a name. A variable is none.
    fn hide(&mut self, name: &str, secret: &str) -> String {
        if secret.is_empty() || has_variables(secret) {
            return secret.to_owned();
        }
        let known = self.env.iter().chain(&self.given).find(|(_, value)| value == secret);
        if let Some((name, _)) = known {
            return format!("${{{name}}}");
        }
        let name = self.free(&as_variable(name));
        let variable = format!("${{{name}}}");
        self.given.push((name, secret.to_owned()));
        variable
    }

    fn free(&self, name: &str) -> String {
        let is_taken = |name: &String| self.env.iter().chain(&self.given).any(|(known, _)| known == name);
        let others = (2..).map(|n| format!("{name}_{n}"));
        std::iter::once(name.to_owned()).chain(others).find(|name| !is_taken(name)).unwrap_or_default()
    }

    /// Hides what is secret in a word.
    fn within(&mut self, word: &str) -> String {
        for separator in ['=', ':'] {
            if let Some((name, value)) = word.split_once(separator)
                && is_name(name)
                && !value.starts_with("//")
            {
                let blanks = &value[..value.len() - value.trim_start().len()];
                let value = value.trim_start();
                let value = if is_secret(name) { self.hide(name, value) } else { self.within(value) };
                return format!("{name}{separator}{blanks}{value}");
            }
        }
        match word.split_once("://") {
            Some((scheme, rest)) => format!("{scheme}://{}", self.in_url(scheme, rest)),
            None => word.to_owned(),
        }
    }

    /// Hides the password and the secrets of the query in what is behind the scheme of a URL.
    fn in_url(&mut self, scheme: &str, rest: &str) -> String {
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, rest) = rest.split_at(end);
        let authority = match authority.rsplit_once('@') {
            Some((user, host)) => match user.split_once(':') {
                Some((user, password)) => format!("{user}:{}@{host}", self.hide("password", password)),
                None if scheme.starts_with("http") => format!("{}@{host}", self.hide("token", user)),
                None => format!("{user}@{host}"),
            },
            None => authority.to_owned(),
        };
        let Some((path, query)) = rest.split_once('?') else { return authority + rest };
        let pairs: Vec<_> = query.split('&').map(|pair| self.in_query(pair)).collect();
        format!("{authority}{path}?{}", pairs.join("&"))
    }

    fn in_query(&mut self, pair: &str) -> String {
        match pair.split_once('=').filter(|(name, _)| is_secret(name)) {
            Some((name, value)) => format!("{name}={}", self.hide(name, value)),
            None => pair.to_owned(),
        }
    }
}

/// Whether a text is the name of an option, a variable or a header.
fn is_name(text: &str) -> bool {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    text.chars().any(|c| c.is_ascii_alphabetic()) && text.chars().all(is_part)
}

/// The name of a variable that is like another name.
fn as_variable(name: &str) -> String {
    let name = name.trim_start_matches('-').to_ascii_uppercase();
    let name: String = name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
    if name.starts_with(|c: char| c.is_ascii_digit()) { format!("_{name}") } else { name }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(command: &str, env: &[(&str, &str)]) -> (String, String) {
        let words: Vec<_> = command.split(' ').map(|word| word.replace('~', " ")).collect();
        let env: Vec<_> = env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let Concealed { words, names } = concealed(&words, &env);
        (words.join(" "), names.join(" "))
    }

    #[test]
    fn secrets_become_variables_and_nothing_else_does() {
        for (command, expected, names) in [
            (
                "pg --url postgres://u:pw@h:5/db?x=1",
                "pg --url postgres://u:${PASSWORD}@h:5/db?x=1",
                "PASSWORD",
            ),
            ("x --db=postgres://u:pw@h/d", "x --db=postgres://u:${PASSWORD}@h/d", "PASSWORD"),
            ("x https://t0k@h/mcp", "x https://${TOKEN}@h/mcp", "TOKEN"),
            ("x https://h/mcp?a=b&api_key=k", "x https://h/mcp?a=b&api_key=${API_KEY}", "API_KEY"),
            ("x --token t --verbose", "x --token ${TOKEN} --verbose", "TOKEN"),
            ("x --api-key=k --password --fast", "x --api-key=${API_KEY} --password --fast", "API_KEY"),
            (
                "docker run -e GITHUB_TOKEN=g -e MODE=a i",
                "docker run -e GITHUB_TOKEN=${GITHUB_TOKEN} -e MODE=a i",
                "GITHUB_TOKEN",
            ),
            (
                "x --header Authorization:~Bearer~t",
                "x --header Authorization: ${AUTHORIZATION}",
                "AUTHORIZATION",
            ),
            ("x --header=X-Api-Key:k", "x --header=X-Api-Key:${X_API_KEY}", "X_API_KEY"),
            ("x --token t --key k --key t", "x --token ${TOKEN} --key ${KEY} --key ${TOKEN}", "TOKEN KEY"),
            ("x --token a --token b", "x --token ${TOKEN} --token ${TOKEN_2}", "TOKEN TOKEN_2"),
            ("x --token ${T} --key=${K:-d}", "x --token ${T} --key=${K:-d}", ""),
            (
                "npx -y @s/server /srv/me --port 80 postgres://u@h/d http://h:1/@a",
                "npx -y @s/server /srv/me --port 80 postgres://u@h/d http://h:1/@a",
                "",
            ),
        ] {
            assert_eq!(shown(command, &[]), (expected.to_owned(), names.to_owned()), "{command}");
        }
        let env = [("KEY", "k"), ("TOKEN", "other")];
        let expected = ("x --api-key ${KEY} --token ${TOKEN_2}".to_owned(), "TOKEN_2".to_owned());
        assert_eq!(shown("x --api-key k --token t", &env), expected);
        assert!(is_harmless("http://h/x") && !is_harmless("redis://:pw@h"));
    }
}
