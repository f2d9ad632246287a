//! The table as text: for `moongate --help` and for `docs/config.md`.

use std::fmt::Write as _;

use super::table::{GROUPS, Setting};
use super::{FILE_SUFFIX, PREFIX};

/// How wide a line of help may be, in characters.
const HELP_WIDTH: usize = 100;

/// How far the description of a setting is indented in help.
const HELP_INDENT: &str = "          ";

/// The settings as the second half of `moongate --help`.
pub(crate) fn help() -> String {
    let mut out = String::from("Settings are environment variables; an empty one counts as unset.\n");
    for group in GROUPS {
        write_into(&mut out, format_args!("\n{}:\n", group.title));
        for setting in group.settings {
            write_into(&mut out, format_args!("  {}\n", title(setting)));
            let description = format!("{} Wants {}.", setting.doc.replace('`', ""), setting.kind.wants());
            wrap(&description, &mut out);
        }
    }
    out.push_str(
        "\nExit status: 0 after a drain, 1 when it could not start, 2 when a setting is wrong, and 128 plus the\n\
         signal's number when a second signal ended it at once.\n",
    );
    out
}

/// The whole of `docs/config.md`.
pub(crate) fn markdown() -> String {
    let mut out = String::from(MARKDOWN_HEAD);
    for group in GROUPS {
        write_into(&mut out, format_args!("\n## {}\n\n", group.title));
        out.push_str("| setting | default | what it does | wants |\n|---|---|---|---|\n");
        for setting in group.settings {
            markdown_row(setting, &mut out);
        }
    }
    out.push_str(MARKDOWN_TAIL);
    out
}

const MARKDOWN_HEAD: &str = "\
<!-- Generated from the table in crates/moongate/src/settings/table.rs by `moongate settings-doc`: edit that. -->

# Settings

Every setting is an environment variable, read once at start. An empty one counts as unset.

* **Sizes** are bytes, or take a unit: `65536`, `64KiB` (1024), `64kB` (1000), `1MiB`, `1GiB`.
* **Durations** are a whole number and a unit: `250ms`, `30s`, `5m`, `1h`.
* **Numbers** may be grouped: `100_000`.
* **Switches** are `on` or `off`; `true`, `false`, `1` and `0` will do.
* **Lists** are separated by commas.

`moongate check` reads them, says everything that is wrong with them at once, and exits with 2 if there is anything.
A name that begins with `MOONGATE_` and is not listed here is a warning with the nearest right one, and an error for
`moongate check --strict`. The names that Kubernetes injects for a service called moongate (`MOONGATE_SERVICE_HOST`,
`MOONGATE_SERVICE_PORT`, `MOONGATE_PORT`, `MOONGATE_PORT_8080_TCP` and the like) are ignored.
";

const MARKDOWN_TAIL: &str = "
## Files

A secret or a table of routes can stand in a file instead: the setting's twin with `_FILE` at the end, such as
`MOONGATE_CONTROL_TOKEN_FILE`, names it. A newline at the file's end does not count. Setting both is an error. Secrets
appear in no log and in no error.
";

fn markdown_row(setting: &Setting, out: &mut String) {
    let default = if setting.default.is_empty() { String::new() } else { format!("`{}`", setting.default) };
    let doc = cell(setting.doc);
    let wants = cell(&setting.kind.wants());
    let twin = if setting.kind.has_twin() { "<br>or its `_FILE` twin" } else { "" };
    write_into(out, format_args!("| `{PREFIX}{}`{twin} | {default} | {doc} | {wants} |\n", setting.name));
}

/// `text` so that it stays within its cell and `*` stays a star.
fn cell(text: &str) -> String {
    let mut out = String::new();
    let mut in_code = false;
    for letter in text.chars() {
        in_code ^= letter == '`';
        if letter == '|' || (letter == '*' && !in_code) {
            out.push('\\');
        }
        out.push(letter);
    }
    out
}

/// A setting's name in help, with its default.
fn title(setting: &Setting) -> String {
    let twin = match setting.kind.has_twin() {
        true => format!(", {PREFIX}{}{FILE_SUFFIX}", setting.name),
        false => String::new(),
    };
    let default = if setting.default.is_empty() { "unset" } else { setting.default };
    format!("{PREFIX}{}{twin} [{default}]", setting.name)
}

/// Appends `text` in indented lines of at most [`HELP_WIDTH`] characters.
fn wrap(text: &str, out: &mut String) {
    let mut width = 0;
    for word in text.split_whitespace() {
        if width == 0 || width + 1 + word.chars().count() > HELP_WIDTH {
            if width != 0 {
                out.push('\n');
            }
            out.push_str(HELP_INDENT);
            width = HELP_INDENT.len();
        } else {
            out.push(' ');
            width += 1;
        }
        out.push_str(word);
        width += word.chars().count();
    }
    out.push('\n');
}

/// Writing into a string cannot fail.
fn write_into(out: &mut String, text: std::fmt::Arguments<'_>) {
    let _ = out.write_fmt(text);
}

#[cfg(test)]
mod tests {
    use super::super::table;
    use super::*;

    #[test]
    fn every_setting_is_in_help_and_in_the_document() {
        let (help, markdown) = (help(), markdown());
        for setting in table::all() {
            let name = format!("{PREFIX}{}", setting.name);
            assert!(help.contains(&format!("  {name}")), "{name} is missing in --help");
            assert!(markdown.contains(&format!("| `{name}`")), "{name} is missing in docs/config.md");
        }
        assert!(help.contains("MOONGATE_CONTROL_TOKEN_FILE"));
    }

    #[test]
    fn help_fits_its_width() {
        for line in help().lines() {
            assert!(line.chars().count() <= HELP_WIDTH, "{line}");
        }
    }

    #[test]
    fn the_document_is_not_stale() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/config.md");
        let stored = std::fs::read_to_string(path).unwrap_or_default();
        assert!(
            stored == markdown(),
            "docs/config.md is stale; renew it with: cargo run -q -p moongate -- settings-doc > docs/config.md"
        );
    }
}
