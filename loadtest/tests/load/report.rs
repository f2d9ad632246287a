//! Reports of what was run.

use std::fs;
use std::process::Command;

use crate::server::{Mischief, start};
use crate::{Said, TOOL, load, load_wrong};

#[test]
fn a_run_and_its_document_make_the_same_page() {
    let directory = std::env::temp_dir().join(format!("moongate-load-report-{}", std::process::id()));
    fs::create_dir_all(&directory).expect("a directory");
    let name = |file: &str| directory.join(file).to_str().expect("a plain name").to_owned();
    let (json, at_once, later) = (name("run.json"), name("at-once.html"), name("later.html"));
    let options = format!("--json {json} --html {at_once} --server-version 1.2.3");
    load(start(Mischief::Nothing), &format!("fanout --subscribers 5 --count 500 {options}")).expect(0, &[]);

    let mut tool = Command::new(TOOL);
    tool.args(["report", &json, "--html", &later, "--svg", &name("charts")]);
    Said::new(tool.output().expect("the tool runs")).expect(0, &[]);
    let page = fs::read_to_string(&later).expect("it was written");
    assert_eq!(fs::read_to_string(&at_once).expect("it was written"), page);
    for part in ["Verified: all 3000 deliveries", "1.2.3", "5 subscribers", "<svg "] {
        assert!(page.contains(part), "no {part:?} in {page}");
    }
    let chart = fs::read_to_string(name("charts/latency.svg")).expect("it was written");
    assert!(chart.starts_with("<svg ") && chart.contains("99.9 %"), "{chart}");

    load_wrong(start(Mischief::Lose), &format!("fanout --subscribers 5 --count 50 --html {at_once}"))
        .expect(1, &[]);
    let page = fs::read_to_string(&at_once).expect("it was written");
    assert!(page.contains("Failed: 1 lost") && page.contains("lost: 1 messages at receiver"), "{page}");
    fs::remove_dir_all(&directory).expect("it is there");
}

#[test]
fn a_report_says_what_it_cannot_read() {
    let missing = Command::new(TOOL).args(["report", "/nowhere/run.json", "--html", "/nowhere/x"]).output();
    Said::new(missing.expect("the tool runs")).expect(2, &["/nowhere/run.json", "No such file"]);
    let no_output = Command::new(TOOL).args(["report", "run.json"]).output();
    Said::new(no_output.expect("the tool runs")).expect(2, &["--html"]);
}
