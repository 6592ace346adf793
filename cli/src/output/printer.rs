//! Prints resources in the format that was asked for: all at once, or one change after the other.

use std::collections::BTreeMap;
use std::io::IsTerminal as _;

use prost_reflect::DynamicMessage;
use serde_json::Value;
use serde_yaml_ng::Mapping;
use time::OffsetDateTime;

use super::format::{CustomColumn, Format};
use super::grid::{Grid, Layout};
use super::path::text;
use super::table::{self, Cell, Column};
use super::{documents, name_line, to_value, yaml};
use crate::error::{Error, Result};
use crate::kinds::Kind;
use crate::reflection;

/// Resources of one kind.
#[derive(Debug)]
pub struct Found {
    pub kind: &'static Kind,
    pub items: Vec<DynamicMessage>,
}

/// How resources are printed.
#[derive(Debug)]
pub struct Printer {
    format: Format,
    headers: bool,
    /// The width of the terminal, if there is one.
    width: Option<u16>,
    /// The columns of the rows that were printed before.
    layout: Option<Layout>,
    /// Whether tables have a column with all labels.
    with_labels: bool,
    /// The labels that have a column of their own.
    labels: Vec<String>,
    /// A column of what is known beside resources, by their names.
    beside: Option<(&'static str, BTreeMap<String, String>)>,
}

/// The column of all labels.
const LABELS: Column = Column("LABELS", "meta.labels", Cell::Pairs);

impl Printer {
    /// Makes a printer to stdout. `headers`: tables have titles.
    pub fn new(format: Format, headers: bool) -> Self {
        let width = terminal_width();
        Self { format, headers, width, layout: None, with_labels: false, labels: Vec::new(), beside: None }
    }

    /// The same, with labels in tables: all in one column, and some in columns of their own.
    pub fn with_labels(self, all: bool, labels: Vec<String>) -> Self {
        Self { with_labels: all, labels, ..self }
    }

    /// Adds a column of what is known beside resources, by their names.
    pub fn add_beside(&mut self, title: &'static str, cells: BTreeMap<String, String>) {
        self.beside = Some((title, cells));
    }

    /// Renders resources of one kind or several. `single`: exactly one was requested by name.
    pub fn render(&self, found: &[Found], single: bool) -> Result<String> {
        match &self.format {
            Format::Table | Format::Wide => Ok(self.tables(found)),
            Format::Name => Ok(each(found, |_, item| name_line(&reflection::text(item, "name"))).concat()),
            Format::Columns(columns) => Ok(self.grid_alone(&custom(columns, &each(found, value)))),
            Format::Template(template) => Ok(template.render(each(found, value), single)),
            Format::Json | Format::Yaml => documents(each(found, document), single, &self.format),
        }
    }

    /// Where there are several kinds, names are full.
    fn tables(&self, found: &[Found]) -> String {
        let several = found.len() > 1;
        let shown = found.iter().filter(|group| !several || !group.items.is_empty());
        let tables = shown.map(|group| self.grid_alone(&self.grid(group, several)));
        tables.collect::<Vec<_>>().join("\n")
    }

    fn grid(&self, group: &Found, full_names: bool) -> Grid {
        self.grid_at(group, full_names, OffsetDateTime::now_utc())
    }

    fn grid_at(&self, group: &Found, full_names: bool, now: OffsetDateTime) -> Grid {
        let mut columns: Vec<_> = match &self.format {
            Format::Wide => group.kind.columns.iter().chain(group.kind.wide).collect(),
            _ => group.kind.columns.iter().collect(),
        };
        if self.with_labels && !columns.iter().any(|column| column.0 == LABELS.0) {
            columns.push(&LABELS);
        }
        let mut grid = table::grid(&columns, &group.items, full_names, now);
        for key in &self.labels {
            grid.add(key.to_uppercase(), group.items.iter().map(|item| reflection::label(item, key)));
        }
        if let Some((title, cells)) = &self.beside {
            let cell = |item| cells.get(&reflection::text(item, "name")).cloned().unwrap_or_default();
            grid.add((*title).to_owned(), group.items.iter().map(cell));
        }
        grid
    }

    fn grid_alone(&self, grid: &Grid) -> String {
        grid.render(self.headers, self.width)
    }

    /// Whether what is printed of a resource is another than it was; what an upstream is asked again and again is no news in a row.
    pub fn shows_change(&self, kind: &'static Kind, [old, new]: [&DynamicMessage; 2]) -> bool {
        let now = OffsetDateTime::now_utc();
        let cells = |item: &DynamicMessage| match &self.format {
            Format::Columns(columns) => custom(columns, &[value(kind, item)]).render(false, None),
            Format::Template(template) => template.render(vec![value(kind, item)], false),
            _ => self.grid_at(&Found { kind, items: vec![item.clone()] }, true, now).render(false, None),
        };
        match &self.format {
            // A document has all of it, and a name has nothing but says that there is something.
            Format::Json | Format::Yaml | Format::Name => true,
            _ => cells(old) != cells(new),
        }
    }

    /// Renders resources that are there at first, or have changed: one document or row each.
    pub fn render_changes(&mut self, changed: &Found) -> Result<String> {
        let grid = match &self.format {
            Format::Table | Format::Wide => self.grid(changed, false),
            Format::Columns(columns) => custom(columns, &each(std::slice::from_ref(changed), value)),
            _ => return changed.items.iter().map(|item| self.render_change(changed.kind, item)).collect(),
        };
        let first = self.layout.is_none();
        let layout = self.layout.get_or_insert_with(|| Layout::of(&grid, self.headers));
        layout.grow(&grid, self.headers);
        Ok(layout.render(&grid, self.headers && first, self.width))
    }

    fn render_change(&self, kind: &'static Kind, item: &DynamicMessage) -> Result<String> {
        match &self.format {
            Format::Json => line(&document(kind, item)),
            Format::Yaml => Ok(format!("---\n{}", yaml(&document(kind, item))?)),
            Format::Template(template) => Ok(template.render(vec![value(kind, item)], false)),
            _ => Ok(name_line(&reflection::text(item, "name"))),
        }
    }

    /// Renders that a resource is gone; `None` where a row or a name could not say so.
    pub fn render_deletion(&self, kind: &Kind, name: &str) -> Result<Option<String>> {
        let members: [(&str, serde_yaml_ng::Value); 3] =
            [("kind", kind.name.into()), ("name", name.into()), ("deleted", true.into())];
        let gone: Mapping = members.into_iter().map(|(key, value)| (key.into(), value)).collect();
        match &self.format {
            Format::Json => line(&gone).map(Some),
            Format::Yaml => Ok(Some(format!("---\n{}", yaml(&gone)?))),
            Format::Template(template) => Ok(Some(template.render(vec![to_value(&gone)?], false))),
            _ => Ok(None),
        }
    }
}

fn terminal_width() -> Option<u16> {
    let stdout = std::io::stdout();
    let size = stdout.is_terminal().then(|| rustix::termios::tcgetwinsize(&stdout).ok()).flatten()?;
    Some(size.ws_col).filter(|columns| *columns > 0)
}

fn each<T>(found: &[Found], one: impl Fn(&'static Kind, &DynamicMessage) -> T) -> Vec<T> {
    found.iter().flat_map(|group| group.items.iter().map(|item| one(group.kind, item))).collect()
}

fn document(kind: &'static Kind, item: &DynamicMessage) -> Mapping {
    reflection::document(kind.name, item)
}

fn value(kind: &'static Kind, item: &DynamicMessage) -> Value {
    let mut value = reflection::to_queried_json(item);
    value["kind"] = kind.name.into();
    value
}

/// Renders JSON in one line.
fn line(value: &impl serde::Serialize) -> Result<String> {
    let text = serde_json::to_string(value).map_err(|error| Error::failure(error.to_string()))?;
    Ok(printable::json(&text).into_owned() + "\n")
}

/// Makes a table of columns that were asked for. What is absent or empty is `<none>`, as in kubectl.
pub(super) fn custom(columns: &[CustomColumn], values: &[Value]) -> Grid {
    let titles = columns.iter().map(|column| column.title.clone()).collect();
    let cell = |column: &CustomColumn, value: &Value| match &*column.path.values(value, value) {
        [] | [Value::Null] => "<none>".to_owned(),
        [Value::String(text)] if text.is_empty() => "<none>".to_owned(),
        found => found.iter().map(|found| text(found)).collect::<Vec<_>>().join(","),
    };
    Grid::new(titles, values.iter().map(|value| columns.iter().map(|column| cell(column, value)).collect()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn found(items: Value) -> Found {
        let kind = Kind::from_word("upstreams");
        let read =
            |item: &Value| reflection::from_json(reflection::message(kind.message), item.clone()).unwrap();
        Found { kind, items: items.as_array().unwrap().iter().map(read).collect() }
    }

    fn printer(format: &str) -> Printer {
        let command = clap::Command::new("test").arg(clap::Arg::new("o").value_parser(Format::parser()));
        let matches = command.try_get_matches_from(["test", format]).unwrap();
        Printer::new(matches.get_one::<Format>("o").unwrap().clone(), true)
    }

    fn two() -> Found {
        found(json!([
            {"name": "upstreams/a", "http": {"url": "http://a"}, "meta": {"labels": {"team": "core"}}},
            {"name": "upstreams/b", "http": {"url": "http://b"}}
        ]))
    }

    #[test]
    fn columns_that_were_asked_for() {
        assert_eq!(
            printer("custom-columns=NAME:.name,TEAM:.labels.team").render(&[two()], false).unwrap(),
            "NAME         TEAM\nupstreams/a  core\nupstreams/b  <none>\n"
        );
        assert_eq!(
            printer("custom-columns=OFF:.disabled,TITLE:.title,MADE:.meta.createTime")
                .render(&[two()], false)
                .unwrap(),
            "OFF    TITLE   MADE\nfalse  <none>  <none>\nfalse  <none>  <none>\n"
        );
        let plain = Printer { headers: false, ..printer("custom-columns=URL:.http.url") };
        assert_eq!(plain.render(&[two()], false).unwrap(), "http://a\nhttp://b\n");
    }

    #[test]
    fn labels_are_columns_where_they_are_asked_for() {
        let shown = |all: bool, labels: &[&str]| {
            let labels = labels.iter().map(|label| (*label).to_owned()).collect();
            printer("table").with_labels(all, labels).render(&[two()], false).unwrap()
        };
        assert_eq!(
            shown(true, &["team", "none"]),
            "NAME  TOOLS  RESOURCES  PROMPTS  URL       LABELS     TEAM\n\
             a     0      0          0        http://a  team=core  core\n\
             b     0      0          0        http://b\n"
        );
    }

    #[test]
    fn several_kinds_have_full_names() {
        let none = Found { kind: Kind::from_word("servers"), items: Vec::new() };
        let text = printer("table").render(&[two(), none], false).unwrap();
        let names: Vec<_> = text.lines().map(|line| line.split(' ').next().unwrap()).collect();
        assert_eq!(names, ["NAME", "upstreams/a", "upstreams/b"]);
        let documents = printer("json").render(&[two(), two()], false).unwrap();
        assert_eq!(serde_json::from_str::<Value>(&documents).unwrap().as_array().unwrap().len(), 4);
    }

    #[test]
    fn changes_are_documents_of_their_own() {
        for (format, change, deletion) in [
            (
                "json",
                "{\"kind\":\"Upstream\",\"name\":\"upstreams/b\"}\n",
                Some("{\"kind\":\"Upstream\",\"name\":\"upstreams/b\",\"deleted\":true}\n"),
            ),
            (
                "yaml",
                "---\nkind: Upstream\nname: upstreams/b\n",
                Some("---\nkind: Upstream\nname: upstreams/b\ndeleted: true\n"),
            ),
            ("jsonpath={.name} {.deleted}", "upstreams/b \n", Some("upstreams/b true\n")),
            ("name", "upstreams/b\n", None),
        ] {
            let mut printer = printer(format);
            let changed = found(json!([{ "name": "upstreams/b" }]));
            assert_eq!(printer.render_changes(&changed).unwrap(), change);
            let gone = printer.render_deletion(changed.kind, "upstreams/b").unwrap();
            assert_eq!(gone.as_deref(), deletion);
        }
    }

    #[test]
    fn a_change_is_one_that_can_be_seen() {
        let upstream = |count: i32, reason: &str| {
            let status = json!({"reason": reason, "events": [{"count": count}]});
            found(json!([{"name": "upstreams/a", "status": status}])).items.remove(0)
        };
        let (once, again, other) = (upstream(1, "refused"), upstream(2, "refused"), upstream(3, "HTTP 500"));
        let kind = Kind::from_word("upstreams");
        for (format, is_seen_again) in [
            ("table", false),
            ("wide", false),
            ("jsonpath={.status.reason}", false),
            ("json", true),
            ("name", true),
        ] {
            let printer = printer(format);
            assert_eq!(printer.shows_change(kind, [&once, &again]), is_seen_again, "{format}");
            assert!(printer.shows_change(kind, [&again, &other]), "{format}");
        }
    }

    #[test]
    fn rows_that_follow_keep_their_columns() {
        let mut printer = printer("table");
        let first = printer.render_changes(&two()).unwrap();
        let titles = first.lines().next().unwrap();
        let at = titles.find("REASON").expect("columns that are empty now may be filled later");
        let why = json!([{"name": "upstreams/c", "status": {"reason": "refused"}}]);
        let row = printer.render_changes(&found(why)).unwrap();
        assert_eq!((row.lines().count(), row.find("refused")), (1, Some(at)), "{titles}\n{row}");
    }
}
