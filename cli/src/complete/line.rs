//! The words that were typed so far, and what they are. Pure, but for where they come from.

use clap::{Arg, Command};

/// What bash passes: the line up to the cursor.
pub const BASH_LINE: &str = "_MCPCTL_LINE";

/// Returns the words up to the cursor, the last of which is to be completed; `None` where no shell asks.
pub fn typed() -> Option<Vec<String>> {
    std::env::var_os(super::VARIABLE).filter(|shell| !shell.is_empty())?;
    let mut words: Vec<_> = std::env::args_os().map(|word| word.to_string_lossy().into_owned()).collect();
    let start = words.iter().position(|word| word == "--")? + 1;
    words.drain(..start);
    if let Ok(line) = std::env::var(BASH_LINE) {
        return Some(split(&line).0);
    }
    let last: Option<usize> = std::env::var("_CLAP_COMPLETE_INDEX").ok().and_then(|index| index.parse().ok());
    if let Some(last) = last {
        words.resize(last + 1, String::new());
    }
    (!words.is_empty()).then_some(words)
}

/// Splits a line as a shell does, as far as a line needs it that is not complete. Returns the words, the last of which is
/// empty after a space, and whether that one is within quotes.
pub fn split(line: &str) -> (Vec<String>, bool) {
    let (mut words, mut word, mut quote, mut has_begun) = (Vec::new(), String::new(), None, false);
    let mut letters = line.chars();
    while let Some(letter) = letters.next() {
        match (quote, letter) {
            (None, ' ' | '\t' | '\n') => {
                words.extend(has_begun.then(|| std::mem::take(&mut word)));
                has_begun = false;
                continue;
            }
            (None, '\'' | '"') => quote = Some(letter),
            (Some(open), letter) if open == letter => quote = None,
            (None | Some('"'), '\\') => word.extend(letters.next()),
            (_, letter) => word.push(letter),
        }
        has_begun = true;
    }
    words.push(word);
    (words, quote.is_some())
}

/// A command line that is not complete.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct TypedLine {
    /// The commands.
    pub path: Vec<String>,
    /// The options with a value, by the id of the argument.
    options: Vec<(String, String)>,
    positionals: Vec<String>,
    /// Whether the word that is completed begins as an option does.
    pub is_option: bool,
}

impl TypedLine {
    /// Reads all words but the last one, which is to be completed.
    pub fn read(command: &Command, words: &[String]) -> Self {
        let is_option = words.last().is_some_and(|word| word.starts_with('-'));
        let mut line = Self { is_option, ..Self::default() };
        let globals: Vec<_> = command.get_arguments().filter(|arg| arg.is_global_set()).collect();
        let mut command = command;
        let mut words = words.iter().skip(1).take(words.len().saturating_sub(2));
        while let Some(word) = words.next() {
            if let Some(inner) = command.find_subcommand(word).filter(|_| line.positionals.is_empty()) {
                line.path.push(inner.get_name().to_owned());
                command = inner;
            } else if word.starts_with('-') && word.len() > 1 {
                let (flag, value) = word.split_once('=').unzip();
                let flag = flag.unwrap_or(word);
                let own = command.get_arguments().chain(globals.iter().copied());
                let Some(arg) = own.into_iter().find(|arg| is_called(arg, flag)) else { continue };
                if takes_value(arg) {
                    let value = value.or_else(|| words.next().map(String::as_str)).unwrap_or_default();
                    line.options.push((arg.get_id().to_string(), value.to_owned()));
                }
            } else {
                line.positionals.push(word.clone());
            }
        }
        line
    }

    /// Returns the value of an option; the last one that was given.
    pub fn option(&self, id: &str) -> Option<&str> {
        self.options(id).last()
    }

    /// Returns all values of an option.
    pub fn options(&self, id: &str) -> impl Iterator<Item = &str> {
        self.options.iter().filter(move |(known, _)| known == id).map(|(_, value)| value.as_str())
    }

    /// Returns a positional argument by its place.
    pub fn positional(&self, index: usize) -> Option<&str> {
        self.positionals.get(index).map(String::as_str)
    }
}

fn is_called(arg: &Arg, flag: &str) -> bool {
    let long = arg.get_long().is_some_and(|long| flag.strip_prefix("--") == Some(long));
    long || arg.get_short().is_some_and(|short| flag == format!("-{short}"))
}

fn takes_value(arg: &Arg) -> bool {
    arg.get_action().takes_values() && !arg.is_require_equals_set()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_split_as_shells_do() {
        for (line, words, is_quoted) in [
            ("mcpctl get ", &["mcpctl", "get", ""][..], false),
            ("mcpctl  call\tdev", &["mcpctl", "call", "dev"], false),
            (r#"a 'b c' "d \" e"f \'g h\ i"#, &["a", "b c", "d \" ef", "'g", "h i"], false),
            ("a 'b c", &["a", "b c"], true),
            ("a ''", &["a", ""], false),
        ] {
            let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
            assert_eq!(split(line), (words, is_quoted), "{line}");
        }
    }

    #[test]
    fn words_are_commands_options_and_names() {
        let read = |line: &str| TypedLine::read(&crate::args::command(), &split(line).0);
        let line =
            read("mcpctl --context prod get --watch -o json tools time/now --filter=a --order-by x y z");
        assert_eq!(line.path, ["get"]);
        assert_eq!((line.option("context"), line.option("filter")), (Some("prod"), Some("a")));
        assert_eq!((line.positional(0), line.positional(1)), (Some("tools"), Some("time/now")));
        // The last word is the one that is completed.
        assert_eq!((line.positional(2), line.positional(3)), (Some("y"), None));
        let line = read("mcpctl create token a --server dev --server prod --tool ");
        assert_eq!(line.path, ["create", "token"]);
        assert_eq!(line.options("servers").collect::<Vec<_>>(), ["dev", "prod"]);
        // A server may be called like a command.
        assert_eq!(read("mcpctl call get x").positional(0), Some("get"));
        assert_eq!(read("mcpctl"), TypedLine::default());
    }
}
