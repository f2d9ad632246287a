//! The page: what is added to it in turn, between a head and an end.

use std::fmt::Write as _;

use super::STYLE;
use super::svg::escape;
use crate::document::{Origin, date};
use crate::host::Program;
use crate::output::size;

const PAGE_STYLE: &str = include_str!("page.css");

/// A page as it grows.
#[derive(Default)]
pub(super) struct Page {
    title: Option<String>,
    body: String,
    /// Every chart, with a name that a file may have.
    pub(super) charts: Vec<(String, String)>,
}

impl Page {
    /// Begins a part; the first gives the page its title.
    pub(super) fn title(&mut self, title: &str) {
        let level = if self.title.is_some() { "h2" } else { "h1" };
        self.title.get_or_insert_with(|| title.to_owned());
        self.element(level, title);
    }

    pub(super) fn heading(&mut self, heading: &str) {
        self.element("h2", heading);
    }

    pub(super) fn soft(&mut self, text: &str) {
        let text = escape(text);
        self.add(&format!("<p class=\"soft\">{text}</p>"));
    }

    /// Says whether something is as it must be.
    pub(super) fn verdict(&mut self, good: bool, text: &str) {
        let (class, text) = (if good { "good" } else { "bad" }, escape(text));
        self.add(&format!("<p class=\"{class}\">{text}</p>"));
    }

    pub(super) fn notes(&mut self, notes: &[String]) {
        if notes.is_empty() {
            return;
        }
        let items: String = notes.iter().map(|note| format!("<li>{}</li>", escape(note))).collect();
        self.add(&format!("<ul class=\"notes\">{items}</ul>"));
    }

    /// Figures that are to be seen first, each with what it is.
    pub(super) fn tiles(&mut self, tiles: &[(String, String)]) {
        let mut all = String::new();
        for (figure, what) in tiles {
            // Writing to a string does not fail.
            let _ = write!(all, "<div><b>{}</b><span>{}</span></div>", escape(figure), escape(what));
        }
        self.add(&format!("<div class=\"tiles\">{all}</div>"));
    }

    /// A chart, if there is one, with a heading; `name` begins the name of its file.
    pub(super) fn chart(&mut self, heading: &str, name: &str, chart: Option<String>) {
        let Some(chart) = chart else { return };
        self.element("h3", heading);
        self.add(&chart);
        let stem = file_name(name);
        let taken = |name: &str| self.charts.iter().any(|(other, _)| other == name);
        let numbered = (2..).map(|number| format!("{stem}-{number}"));
        let name = [stem.clone()].into_iter().chain(numbered).find(|name| !taken(name));
        self.charts.extend(name.map(|name| (name, chart)));
    }

    /// A table; its first column, or two, name what the others are about.
    pub(super) fn table(&mut self, head: &[&str], rows: &[Vec<String>]) {
        let class = if head.get(1) == Some(&"variant") { " class=\"two\"" } else { "" };
        let cells = |tag: &str, cells: &mut dyn Iterator<Item = &str>| -> String {
            cells.map(|cell| format!("<{tag}>{}</{tag}>", escape(cell))).collect()
        };
        let head = cells("th", &mut head.iter().copied());
        let rows = rows.iter().map(|row| cells("td", &mut row.iter().map(String::as_str)));
        let rows: String = rows.map(|row| format!("<tr>{row}</tr>\n")).collect();
        self.add(&format!("<div class=\"scroll\"><table{class}><tr>{head}</tr>\n{rows}</table></div>"));
    }

    /// A table of names and values.
    pub(super) fn facts(&mut self, facts: &[(&str, String)]) {
        let row = |(name, value): &(&str, String)| {
            format!("<tr><th>{}</th><td>{}</td></tr>\n", escape(name), escape(value))
        };
        let rows: String = facts.iter().map(row).collect();
        self.add(&format!("<table class=\"facts\">{rows}</table>"));
    }

    /// Text as it is, of a fixed width.
    pub(super) fn code(&mut self, text: &str) {
        let text = escape(text);
        self.add(&format!("<pre>{text}</pre>"));
    }

    /// Adds what `tell` does, hidden until it is asked for.
    pub(super) fn folded(&mut self, summary: &str, tell: impl FnOnce(&mut Page)) {
        let summary = escape(summary);
        self.add(&format!("<details><summary>{summary}</summary>"));
        tell(self);
        self.add("</details>");
    }

    fn element(&mut self, tag: &str, text: &str) {
        let text = escape(text);
        self.add(&format!("<{tag}>{text}</{tag}>"));
    }

    fn add(&mut self, html: &str) {
        self.body.push_str(html);
        self.body.push('\n');
    }

    /// The whole page.
    pub(super) fn finish(&self) -> String {
        let title = escape(self.title.as_deref().unwrap_or("moongate-load"));
        let body = &self.body;
        format!(
            "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n\
             <meta name=\"viewport\" content=\"width=device-width\">\n<title>{title}</title>\n\
             <style>\n{STYLE}{PAGE_STYLE}</style>\n{body}</html>\n"
        )
    }
}

/// `name` with nothing but letters, digits and hyphens.
fn file_name(name: &str) -> String {
    let words = name.split(|letter: char| !letter.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    words.collect::<Vec<_>>().join("-").to_ascii_lowercase()
}

/// Where and when something was measured.
pub(super) fn origin_facts(origin: &Origin) -> Vec<(&'static str, String)> {
    let machine = &origin.machine;
    let kind = if machine.virtual_machine { ", in a virtual machine" } else { "" };
    let governor =
        machine.governor.as_ref().map(|governor| format!(", governor {governor}")).unwrap_or_default();
    vec![
        ("date", origin.date.replace('T', " ").replace('Z', " UTC")),
        ("processor", format!("{} × {}{governor}{kind}", machine.processors, machine.processor)),
        ("memory", size(machine.memory as f64)),
        ("system", format!("{}, {}, {}", machine.kernel, machine.architecture, machine.system)),
        ("tool", format!("moongate-load {}", origin.tool)),
    ]
}

/// Which program a server is.
pub(super) fn program(program: &Program) -> String {
    let built = program.built.map(|built| format!(", file of {}", date(built))).unwrap_or_default();
    format!("{} (pid {}{built})", program.command.join(" "), program.pid)
}

/// A command line that a shell takes as it was meant.
pub(super) fn shell(words: &[String]) -> String {
    let plain = |letter: char| letter.is_ascii_alphanumeric() || "-_./:=,+@%{}".contains(letter);
    let quoted = words.iter().map(|word| {
        if !word.is_empty() && word.chars().all(plain) {
            word.clone()
        } else {
            format!("'{}'", word.replace('\'', r"'\''"))
        }
    });
    quoted.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn charts_get_names_that_files_may_have() {
        let mut page = Page::default();
        for name in ["fan-out 128 B / 100", "fan-out: 128 B, 100", "echo"] {
            page.chart("a chart", name, Some("<svg></svg>".to_owned()));
        }
        page.chart("nothing", "nothing", None);
        let names: Vec<&str> = page.charts.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["fan-out-128-b-100", "fan-out-128-b-100-2", "echo"]);
    }

    #[test]
    fn commands_can_be_repeated() {
        let words = ["moongate-load", "echo", "--path", "/a b", "it's", ""].map(str::to_owned);
        assert_eq!(shell(&words), r"moongate-load echo --path '/a b' 'it'\''s' ''");
    }

    #[test]
    fn what_is_told_is_text() {
        let mut page = Page::default();
        page.title("<one>");
        page.title("two");
        page.table(&["a&b"], &[vec!["<td>".to_owned()]]);
        let html = page.finish();
        for part in ["<h1>&lt;one&gt;</h1>", "<h2>two</h2>", "<th>a&amp;b</th>", "<td>&lt;td&gt;</td>"] {
            assert!(html.contains(part), "{html}");
        }
    }
}
