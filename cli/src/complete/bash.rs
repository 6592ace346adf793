//! The side of bash. It breaks words at `=` and `:` as well and passes the pieces, so the whole line is passed along, and it
//! gets back what it replaces: the piece.

use std::ffi::OsString;
use std::io::{Error, Write};
use std::path::Path;

use clap::Command;
use clap_complete::engine::complete;
use clap_complete::env::EnvCompleter;

use super::line::{BASH_LINE, split};

/// What bash passes: the piece that it replaces.
const PIECE: &str = "_MCPCTL_WORD";

const SCRIPT: &str = r#"_mcpctl() {
    local line
    COMPREPLY=()
    while IFS= read -r line; do
        COMPREPLY+=("$line")
    done < <(%VARIABLE%=bash %LINE%="${COMP_LINE:0:COMP_POINT}" %PIECE%="$2" %PROGRAM% -- mcpctl 2>/dev/null)
    if [[ "${COMPREPLY[0]-}" == *[=/:] ]]; then
        compopt -o nospace 2>/dev/null
    fi
}
complete -o nosort -o bashdefault -F _mcpctl %BIN% 2>/dev/null || complete -o bashdefault -F _mcpctl %BIN%
"#;

pub(super) struct Bash;

impl EnvCompleter for Bash {
    fn name(&self) -> &'static str {
        "bash"
    }

    fn is(&self, name: &str) -> bool {
        name == self.name()
    }

    fn write_registration(
        &self,
        variable: &str,
        _name: &str,
        bin: &str,
        completer: &str,
        into: &mut dyn Write,
    ) -> Result<(), Error> {
        let program = format!("'{}'", completer.replace('\'', r"'\''"));
        let values = [
            ("%VARIABLE%", variable),
            ("%LINE%", BASH_LINE),
            ("%PIECE%", PIECE),
            ("%PROGRAM%", &program),
            ("%BIN%", bin),
        ];
        let script =
            values.iter().fold(SCRIPT.to_owned(), |script, (name, value)| script.replace(name, value));
        into.write_all(script.as_bytes())
    }

    fn write_complete(
        &self,
        command: &mut Command,
        words: Vec<OsString>,
        folder: Option<&Path>,
        into: &mut dyn Write,
    ) -> Result<(), Error> {
        let (_, is_quoted) = split(&std::env::var(BASH_LINE).unwrap_or_default());
        let piece = std::env::var(PIECE).unwrap_or_default();
        let whole = words.last().map(|word| word.to_string_lossy().into_owned()).unwrap_or_default();
        let last = words.len().saturating_sub(1);
        for candidate in complete(command, words, last, folder)? {
            let value = candidate.get_value().to_string_lossy();
            let value = replacement(&value, &whole, &piece);
            writeln!(into, "{}", if is_quoted { value.to_owned() } else { escaped(value) })?;
        }
        Ok(())
    }
}

/// What stands in the place of the piece, so that the word becomes the value.
fn replacement<'v>(value: &'v str, whole: &str, piece: &str) -> &'v str {
    let before = whole.strip_suffix(piece).unwrap_or_default();
    value.strip_prefix(before).unwrap_or(value)
}

/// Escapes what bash would take for something else.
fn escaped(value: &str) -> String {
    let is_plain = |letter: char| letter.is_alphanumeric() || "_-./:=,@%+~^".contains(letter);
    let escape = |letter: char| match is_plain(letter) {
        true => letter.to_string(),
        false => format!("\\{letter}"),
    };
    value.chars().map(escape).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_piece_is_replaced_by_the_rest_of_the_value() {
        for (value, whole, piece, expected) in [
            ("time", "ti", "ti", "time"),
            ("timezone=UTC", "timezone=U", "U", "UTC"),
            ("timezone=UTC", "timezone=", "", "UTC"),
            ("--context=dev", "--context=d", "d", "dev"),
            ("files+file:///a", "files+file:", "", "///a"),
            ("a b", "'a", "'a", "a b"),
        ] {
            assert_eq!(replacement(value, whole, piece), expected, "{whole}");
        }
        assert_eq!(escaped("time/*"), r"time/\*");
        assert_eq!(escaped("it's a"), r"it\'s\ a");
    }
}
