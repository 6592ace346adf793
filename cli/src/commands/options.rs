//! `mcpctl options`: the options that every command takes, and the variables. The help of a command leaves them out.

use clap::Command;

use crate::client::caller;
use crate::context::environment::{API_KEY, CA_FILE, CLIENT_CERT, CLIENT_KEY, CONTROL, EDGE};
use crate::error::Result;
use crate::output;

/// The variables that stand for no option, and what each holds.
const VARIABLES: [(&str, &str); 7] = [
    (
        CONTROL,
        "URL of the control plane, used with no context file where no context is named; several are separated by commas",
    ),
    (EDGE, "URL of the edge, likewise"),
    (CA_FILE, "File of certificates (PEM) to trust for these two, besides those of the system"),
    (CLIENT_CERT, "File of a certificate (PEM) that such an edge is shown which asks for one"),
    (CLIENT_KEY, "File of its key (PEM)"),
    (API_KEY, "API key for the control plane, used instead of whoever is signed in and of the admin token"),
    (caller::VARIABLE, "Bearer for servers, used instead of saved tokens"),
];

/// Runs `options`.
pub fn run() -> Result {
    output::print(&render(&crate::args::command()))
}

/// Renders the variables.
fn variables() -> String {
    let lines = VARIABLES.iter().map(|(name, what)| format!("\n  {name}\n          {what}\n"));
    format!("\nVariables of the environment:\n{}", lines.collect::<String>())
}

/// Renders the global options of a command, and the variables.
pub fn render(command: &Command) -> String {
    let mut text = String::from("Every command takes these options:\n");
    for arg in command.get_arguments().filter(|arg| arg.is_global_set()) {
        let short = arg.get_short().map_or(String::from("    "), |short| format!("-{short}, "));
        let value = arg.get_value_names().unwrap_or_default().join(" ");
        let name = arg.get_long().unwrap_or_default();
        let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
        let variable = arg.get_env().map(|name| format!(" [env: {}]", name.display())).unwrap_or_default();
        text.push_str(&format!("\n  {short}--{name} <{value}>\n          {help}{variable}\n"));
        for value in arg.get_possible_values() {
            let meaning = value.get_help().map(ToString::to_string).unwrap_or_default();
            text.push_str(&format!("            {:<17} {meaning}\n", value.get_name()));
        }
    }
    text + &variables()
}
