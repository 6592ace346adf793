//! Options of programs, and the variables behind them: an empty variable is none, and an error about a value that came from
//! a variable names it.
//!
//! It must not know what an option is for.

use std::ffi::{OsStr, OsString};
use std::net::{SocketAddr, ToSocketAddrs as _};

use clap::builder::Resettable;
use clap::error::{ContextKind, ContextValue};
use clap::{Arg, ArgMatches, Command, Error, Parser};

/// Variables that say something when they are empty, or are refused then: in silence, another secret or another database would
/// be taken, or more be open than was meant.
const KEPT_EMPTY: [&str; 5] = [
    "TRUNKLINE_ADMIN_TOKEN",
    "TRUNKLINE_MASTER_KEY",
    "TRUNKLINE_DATABASE_URL",
    "TRUNKLINE_EDGE_SIBLING_LISTEN",
    "TRUNKLINE_EGRESS_ALLOW",
];

/// Reads the command line of this process, or says what is wrong with it and exits.
pub fn parse<P: Parser>() -> P {
    parse_from(std::env::args_os()).unwrap_or_else(|error| error.exit())
}

/// Reads a command line, the name of the program first.
pub fn parse_from<P: Parser>(words: impl IntoIterator<Item = OsString>) -> Result<P, Error> {
    P::from_arg_matches(&matches(P::command(), words)?)
}

/// The same, without making anything of it.
pub fn matches(command: Command, words: impl IntoIterator<Item = OsString>) -> Result<ArgMatches, Error> {
    let words: Vec<OsString> = words.into_iter().collect();
    let mut command = without_empty_variables(command);
    let matches = command.try_get_matches_from_mut(&words);
    matches.map_err(|error| with_variable(error, &command, &words))
}

fn without_empty_variables(command: Command) -> Command {
    let command = command.mut_args(|arg| if is_empty(&arg) { arg.env(Resettable::Reset) } else { arg });
    command.mut_subcommands(without_empty_variables)
}

fn is_empty(arg: &Arg) -> bool {
    let variable = arg.get_env().filter(|name| !KEPT_EMPTY.iter().any(|kept| name == kept));
    variable.and_then(std::env::var_os).is_some_and(|value| value.is_empty())
}

/// Says of which variable a wrong value is, where nobody has typed the option.
fn with_variable(mut error: Error, command: &Command, words: &[OsString]) -> Error {
    let Some(ContextValue::String(option)) = error.get(ContextKind::InvalidArg).cloned() else {
        return error;
    };
    let Some(arg) = find(command, &option, words).filter(|arg| !is_typed(arg, words)) else { return error };
    if let Some(variable) = arg.get_env().filter(|name| std::env::var_os(name).is_some()) {
        let named = format!("{option} (from {})", variable.to_string_lossy());
        error.insert(ContextKind::InvalidArg, ContextValue::String(named));
    }
    error
}

/// Finds an option in a command, or in the one below it that is run.
fn find<'a>(command: &'a Command, option: &str, words: &[OsString]) -> Option<&'a Arg> {
    let long = option.strip_prefix("--")?.split([' ', '=']).next();
    let own = command.get_arguments().find(|arg| arg.get_long() == long);
    let mut run = command.get_subcommands().filter(|below| words.iter().any(|word| word == below.get_name()));
    own.or_else(|| run.find_map(|below| find(below, option, words)))
}

fn is_typed(arg: &Arg, words: &[OsString]) -> bool {
    let Some(long) = arg.get_long().map(|long| format!("--{long}")) else { return true };
    let is_it = |word: &OsStr| {
        word.to_string_lossy()
            .strip_prefix(&long)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('='))
    };
    words.iter().any(|word| is_it(word))
}

/// Reads an address to listen on: `127.0.0.1:4445`, or a name that is looked up, as in `localhost:4445`.
pub fn address(text: &str) -> Result<SocketAddr, String> {
    if let Ok(address) = text.parse() {
        return Ok(address);
    }
    let named = text.rsplit_once(':').filter(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok());
    if named.is_none() {
        return Err("give an IP address or a name, and a port, as in 127.0.0.1:4445".to_owned());
    }
    let found = text.to_socket_addrs().map_err(|error| format!("{error}; give an IP address and a port"))?;
    let found: Vec<_> = found.collect();
    let first = found.iter().find(|address| address.is_ipv4()).or(found.first());
    first.copied().ok_or_else(|| "the name has no address; give an IP address and a port".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Parser)]
    struct Program {
        /// Of a variable that is always there, and never a number.
        #[arg(long, env = "CARGO_PKG_NAME")]
        number: Option<u16>,
        #[command(subcommand)]
        verb: Option<Verb>,
    }

    #[derive(Debug, clap::Subcommand)]
    enum Verb {
        Run {
            /// The same, below.
            #[arg(short, long, env = "CARGO_PKG_NAME")]
            count: u16,
        },
    }

    fn error(words: &[&str]) -> String {
        let words = words.iter().map(OsString::from);
        parse_from::<Program>(words).unwrap_err().to_string()
    }

    #[test]
    fn a_wrong_value_is_named_by_where_it_came_from() {
        let said = error(&["program"]);
        assert!(
            said.contains("invalid value 'startup' for '--number <NUMBER> (from CARGO_PKG_NAME)'"),
            "{said}"
        );
        let said = error(&["program", "--number", "7", "run"]);
        assert!(said.contains("for '--count <COUNT> (from CARGO_PKG_NAME)'"), "{said}");
        for words in [["program", "--number=x"].as_slice(), &["program", "--number", "x"]] {
            let said = error(words);
            assert!(said.contains("invalid value 'x' for '--number <NUMBER>': "), "{said}");
        }
        assert_eq!(
            parse_from::<Program>(["program", "--number", "7"].map(OsString::from)).unwrap().number,
            Some(7)
        );
    }

    #[test]
    fn addresses_have_names_too() {
        assert_eq!(address("[::1]:80"), Ok("[::1]:80".parse().unwrap()));
        assert_eq!(address("localhost:4445"), Ok("127.0.0.1:4445".parse().unwrap()));
        for wrong in ["", "4445", ":4445", "localhost", "localhost:", "localhost:http", "127.0.0.1"] {
            let said = address(wrong).unwrap_err();
            assert_eq!(said, "give an IP address or a name, and a port, as in 127.0.0.1:4445", "{wrong}");
        }
    }
}
