//! `mcpctl options`: the options that every command takes. The help of a command leaves them out.

use clap::Command;

use crate::error::Result;
use crate::output;

/// Runs `options`.
pub fn run() -> Result {
    output::print(&render(&crate::args::command()))
}

/// Renders the global options of a command.
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
    text
}
