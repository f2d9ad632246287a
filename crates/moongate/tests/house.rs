//! The rules of the house, checked with every test run: who may depend on whom, where `unsafe` may stand, that files
//! stay readable, and that links in the documentation lead somewhere.

use std::fs;
use std::path::{Path, PathBuf};

/// Which of our crates each crate may know. `tests` may know more: those are dev-dependencies.
const MAY_KNOW: [(&str, &[&str]); 12] = [
    ("crates/wire", &[]),
    ("crates/io", &[]),
    ("crates/lane", &[]),
    ("crates/sys", &["io"]),
    ("crates/hub", &["io", "lane"]),
    ("crates/gate", &["hub", "wire", "io"]),
    ("crates/control", &["hub", "lane", "wire"]),
    ("crates/moongate", &["control", "gate", "hub", "io", "lane", "sys", "wire"]),
    ("crates/sim", &["gate", "hub", "io", "lane", "wire"]),
    ("benches", &["gate", "hub", "io", "lane", "wire"]),
    ("fuzz", &["hub", "io", "wire"]),
    ("loadtest", &["wire"]),
];

/// Crates that must not know what drives them.
const DRIVEN: [&str; 6] =
    ["crates/gate", "crates/hub", "crates/io", "crates/wire", "crates/lane", "crates/control"];

/// The words, in small letters, by which they would show that they do.
const DRIVERS: [&str; 8] =
    ["uring", "io_uring", "iouring", "tokio_uring", "tokiouring", "epoll", "driverkind", "moongate_sys"];

/// Crates that may contain `unsafe`.
const MAY_BE_UNSAFE: [&str; 2] = ["crates/sys", "crates/lane"];

/// A file longer than this wants to be two.
const FILE_LINES_MAX: usize = 700;

/// The one that may not be two, and how long it may be. A page loads the client with one request and one `import`, people
/// copy it as one file, and nothing between it and them joins several into one.
const ONE_FILE: (&str, usize) = ("clients/js/moongate.js", 900);

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Every file below `folder` whose name ends with `.extension`; what is built or installed there is left out.
fn files(folder: &Path, extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
        let path = entry.expect("a folder can be read").path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_dir() && name != "target" && name != "node_modules" && !name.starts_with('.') {
            found.extend(files(&path, extension));
        } else if path.extension().is_some_and(|found| found == extension) {
            found.push(path);
        }
    }
    found
}

/// The names, without `moongate-`, of our crates that a manifest's `[dependencies]` name.
fn known(manifest: &str) -> Vec<&str> {
    let section = manifest.split("[dependencies]").nth(1).unwrap_or_default();
    let section = section.split("\n[").next().unwrap_or_default();
    let names = section.lines().filter_map(|line| line.strip_prefix("moongate-"));
    names.map(|line| line.split(['.', ' ', '=']).next().unwrap_or_default()).collect()
}

#[test]
fn crates_know_only_whom_they_may() {
    let mut members: Vec<String> = vec!["benches".into(), "fuzz".into(), "loadtest".into()];
    for entry in fs::read_dir(root().join("crates")).expect("there are crates") {
        members.push(format!("crates/{}", entry.expect("readable").file_name().to_string_lossy()));
    }
    for member in members {
        let (_, allowed) =
            MAY_KNOW.iter().find(|(name, _)| *name == member).unwrap_or_else(|| panic!("{member}: new?"));
        for name in known(&read(&root().join(&member).join("Cargo.toml"))) {
            assert!(allowed.contains(&name), "{member} must not depend on moongate-{name}");
        }
    }
}

#[test]
fn what_is_driven_does_not_know_by_what() {
    for room in DRIVEN {
        for path in files(&root().join(room), "rs") {
            for (index, line) in read(&path).lines().enumerate() {
                let name = names_a_driver(line);
                assert!(name.is_none(), "{}:{}: knows of {name:?}", path.display(), index + 1);
            }
        }
    }
}

/// The driver that a line names, in its comments too. Words like "during" name none.
fn names_a_driver(line: &str) -> Option<&str> {
    let mut words = line.split(|letter: char| !letter.is_alphanumeric() && letter != '_');
    words.find(|word| DRIVERS.contains(&word.to_lowercase().as_str()))
}

#[test]
fn a_driver_is_seen_by_its_name() {
    for line in [
        "if kind == DriverKind::Uring {",
        "the io_uring",
        "use moongate_sys::Epoll;",
        "TokioUring",
        "epoll(7)",
    ] {
        assert!(names_a_driver(line).is_some(), "{line}");
    }
    for line in ["during the tick", "measuring", "D: Driver", "driver.wait()"] {
        assert_eq!(names_a_driver(line), None);
    }
}

#[test]
fn the_manifest_reader_sees_dependencies() {
    let manifest = "[dependencies]\nmoongate-io.workspace = true\nmoongate-hub = { path = \"x\" }\n\
                    serde = \"1\"\n\n[dev-dependencies]\nmoongate-sys.workspace = true\n";
    assert_eq!(known(manifest), ["io", "hub"]);
}

#[test]
fn unsafe_code_stays_in_its_rooms() {
    for path in files(&root(), "rs") {
        let place = path.strip_prefix(root()).expect("below the root");
        if MAY_BE_UNSAFE.iter().any(|room| place.starts_with(room)) {
            continue;
        }
        // The lint denies it in every crate that takes the workspace's lints; this sees the ones that would not.
        for (index, line) in read(&path).lines().enumerate() {
            let code = line.split("//").next().unwrap_or_default();
            let words = ["unsafe", "allow(unsafe"].iter().zip([&[" {", " fn", " impl"][..], &["_code"]]);
            let mut words = words.flat_map(|(word, ends)| ends.iter().map(move |end| format!("{word}{end}")));
            let found = !code.contains('"') && words.any(|word| code.contains(&word));
            assert!(!found, "{}:{}: unsafe", place.display(), index + 1);
        }
    }
}

#[test]
fn every_crate_takes_lints() {
    for (member, _) in MAY_KNOW {
        let manifest = read(&root().join(member).join("Cargo.toml"));
        let own = MAY_BE_UNSAFE.contains(&member) && manifest.contains("[lints.rust]");
        assert!(own || manifest.contains("[lints]\nworkspace = true"), "{member} has no lints");
    }
}

#[test]
fn files_stay_readable() {
    for path in ["rs", "py", "js"].iter().flat_map(|extension| files(&root(), extension)) {
        let lines = read(&path).lines().count();
        let most = if path.ends_with(ONE_FILE.0) { ONE_FILE.1 } else { FILE_LINES_MAX };
        assert!(lines <= most, "{} has {lines} lines: split it by topic", path.display());
    }
}

#[test]
fn the_packaged_client_has_the_licences() {
    for name in ["LICENSE-MIT", "LICENSE-APACHE"] {
        let ours = read(&root().join(name));
        assert_eq!(read(&root().join("clients/js").join(name)), ours, "clients/js/{name} is another");
    }
}

#[test]
fn links_in_the_documentation_lead_somewhere() {
    for path in files(&root(), "md") {
        let text = read(&path);
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let file = link.split('#').next().unwrap_or_default();
            if file.is_empty() || link.contains("://") {
                continue;
            }
            let target = path.parent().expect("a file is in a folder").join(file);
            assert!(target.exists(), "{}: the link to {link} leads nowhere", path.display());
        }
    }
}
