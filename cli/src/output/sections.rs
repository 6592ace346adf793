//! Descriptions: sections of labelled lines, aligned, and wrapped to the width of the terminal. Pure but for [`width`].

use comfy_table::{ContentArrangement, Table, presets};
use rustix::termios::tcgetwinsize;

/// Less room than this beside a label, and the text goes below it.
pub const MIN_BESIDE: usize = 24;
/// How far lines are indented below their heading.
const INDENT: usize = 2;
/// How far what is below a line is indented further.
const BELOW: usize = 4;

/// Lines that belong together.
#[derive(Debug, Default)]
pub struct Section {
    title: String,
    lines: Vec<Line>,
}

#[derive(Debug)]
enum Line {
    /// A label, and a text beside it.
    Field(String, String),
    /// A line, and a text below it.
    Item(String, String),
}

impl Section {
    /// Begins a section; the first of a description has no title.
    pub fn new(title: impl Into<String>) -> Self {
        Self { title: title.into(), lines: Vec::new() }
    }

    /// Adds a text with a label, unless it is empty. Its lines stay lines.
    pub fn field(&mut self, label: &str, text: impl Into<String>) -> &mut Self {
        let text = text.into().trim().to_owned();
        if !text.is_empty() {
            self.lines.push(Line::Field(format!("{}:", printable::line(label)), text));
        }
        self
    }

    /// Adds one line for each text, with the label before the first.
    pub fn list(&mut self, label: &str, texts: impl IntoIterator<Item = String>) -> &mut Self {
        self.field(label, texts.into_iter().collect::<Vec<_>>().join("\n"))
    }

    /// Adds a line with a text below it.
    pub fn item(&mut self, line: impl Into<String>, below: impl Into<String>) -> &mut Self {
        self.lines.push(Line::Item(line.into(), below.into()));
        self
    }

    fn render(&self, width: Option<usize>) -> String {
        let indent = if self.title.is_empty() { 0 } else { INDENT };
        let labels = self.lines.iter().filter_map(|line| match line {
            Line::Field(label, _) => Some(label.chars().count()),
            Line::Item(..) => None,
        });
        let beside = indent + labels.max().unwrap_or_default() + 2;
        let is_narrow = width.is_some_and(|width| width < beside + MIN_BESIDE);
        let mut text = String::new();
        if !self.title.is_empty() {
            text = hang(&self.title, 0, 0, width);
        }
        for line in &self.lines {
            text += &match line {
                Line::Field(label, value) if is_narrow => {
                    hang(label, indent, indent, width) + &hang(value, indent + BELOW, indent + BELOW, width)
                }
                Line::Field(label, value) => beside_label(label, &hang(value, beside, beside, width), indent),
                Line::Item(line, below) => {
                    let below_indent = indent + BELOW;
                    hang(line, indent, below_indent, width) + &hang(below, below_indent, below_indent, width)
                }
            };
        }
        text
    }
}

/// Renders sections with empty lines between them. Those without lines are left out; without a width nothing is wrapped.
pub fn render(sections: &[Section], width: Option<usize>) -> String {
    let shown = sections.iter().filter(|section| !section.lines.is_empty());
    shown.map(|section| section.render(width)).collect::<Vec<_>>().join("\n")
}

/// The columns of the terminal that is printed to; `None` where it is none.
pub fn width() -> Option<usize> {
    tcgetwinsize(std::io::stdout()).ok().map(|size| usize::from(size.ws_col)).filter(|columns| *columns > 0)
}

/// Writes a label into the space before the first line.
fn beside_label(label: &str, text: &str, indent: usize) -> String {
    let taken = indent + label.chars().count();
    format!("{:indent$}{label}{}", "", text.get(taken..).unwrap_or_default())
}

/// Indents a text, and wraps it: its first line by `first`, all others by `rest`.
pub fn hang(text: &str, first: usize, rest: usize, width: Option<usize>) -> String {
    let mut hung = String::new();
    for line in text.trim_end().lines() {
        let line = printable::line(line.trim_end());
        let room = width.map(|width| width.saturating_sub(first.max(rest)).max(1));
        for part in wrapped(&line, room) {
            let indent = if hung.is_empty() { first } else { rest };
            hung += format!("{:indent$}{part}", "").trim_end();
            hung.push('\n');
        }
    }
    hung
}

/// Breaks a line between words; words that are too long for the room are broken, too.
fn wrapped(line: &str, room: Option<usize>) -> Vec<String> {
    let Some(room) = room.filter(|room| line.len() > *room) else { return vec![line.to_owned()] };
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
    table.set_width(u16::try_from(room).unwrap_or(u16::MAX)).add_row([line]);
    if let Some(column) = table.column_mut(0) {
        column.set_padding((0, 0));
    }
    table.lines().collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sections() -> [Section; 3] {
        let mut head = Section::new("");
        head.field("Name", "upstreams/time")
            .field("Title", "")
            .list("Labels", ["a=1", "b=2"].map(str::to_owned));
        head.field("Description", "It tells the time, in every zone\nthat there is.\u{1b}[2J");
        let mut tools = Section::new("Tools (1)");
        tools.item("now(timezone: string, format: string)", "The time now, in a time zone of one's choice.");
        [head, Section::new("Nothing"), tools]
    }

    #[test]
    fn it_is_aligned_where_there_is_room() {
        let expected = "\
Name:         upstreams/time
Labels:       a=1
              b=2
Description:  It tells the time, in every zone
              that there is.\\u{1b}[2J

Tools (1)
  now(timezone: string, format: string)
      The time now, in a time zone of one's choice.
";
        assert_eq!(render(&sections(), None), expected);
        assert_eq!(render(&sections(), Some(200)), expected);
    }

    #[test]
    fn it_is_wrapped_where_there_is_little() {
        let expected = "\
Name:         upstreams/time
Labels:       a=1
              b=2
Description:  It tells the time, in
              every zone
              that there is.\\u{1b}[2J

Tools (1)
  now(timezone: string, format:
      string)
      The time now, in a time zone of
      one's choice.
";
        assert_eq!(render(&sections(), Some(38)), expected);
        let expected = "\
Name:
    upstreams/time
Labels:
    a=1
    b=2
Description:
    It tells the
    time, in every
    zone
    that there
    is.\\u{1b}[2J

Tools (1)
  now(timezone:
      string,
      format:
      string)
      The time now,
      in a time zone
      of one's
      choice.
";
        assert_eq!(render(&sections(), Some(20)), expected);
    }

    proptest! {
        #[test]
        fn no_line_is_wider_than_the_terminal_and_no_letter_is_lost(text in "[a-z ]{0,80}", columns in 30_usize..90) {
            let mut section = Section::new("T");
            section.field("Label", &text).item(text.clone(), text.clone());
            let shown = render(&[section], Some(columns));
            prop_assert!(shown.lines().all(|line| line.chars().count() <= columns), "{shown}");
            let letters = |text: &str| text.chars().filter(char::is_ascii_lowercase).count();
            let label = if text.trim().is_empty() { 0 } else { letters("Label:") };
            prop_assert_eq!(letters(&shown), 3 * letters(&text) + label);
        }
    }
}
