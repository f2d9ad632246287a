//! The program as a shell sees it: exit codes, and what goes to which stream.

use std::process::{Command, Output};

/// Runs the program with nothing but these settings in its environment.
fn run(arguments: &[&str], settings: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_moongate"));
    command.env_clear().args(arguments);
    command.envs(settings.iter().map(|(name, text)| (format!("MOONGATE_{name}"), text)));
    command.output().expect("the program runs")
}

fn check(arguments: &[&str], settings: &[(&str, &str)], code: i32, stdout: &str, stderr: &str) {
    let output = run(arguments, settings);
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(code), "{arguments:?} {settings:?}: {out}{err}");
    assert_eq!((out.as_ref(), err.as_ref()), (stdout, stderr), "{arguments:?} {settings:?}");
}

const RIGHT: &str = "\
The settings are right. These are the routes, of which the first that matches decides:
  /healthz   health
  /readyz    ready
  /topics/*  topics subprotocols=moongate.v1,wamp.2.json
  /connect   connect subprotocols=moongate.v1,wamp.2.json
  /echo      echo
  /          page
";

#[test]
fn check_with_right_settings() {
    check(&["check"], &[], 0, RIGHT, "");
    check(
        &["check", "--strict"],
        &[("LISTEN", "127.0.0.1:0"), ("PORT", "tcp://10.0.0.1:8080")],
        0,
        RIGHT,
        "",
    );
}

#[test]
fn check_with_wrong_settings_says_all_of_them() {
    let expect = "error: MOONGATE_HEAD_TIMEOUT: saw \"3\", wants a duration from 100ms to 10m, such as 1500ms, 30s or 5m\n\
                  error: MOONGATE_PIN: saw \"x\", wants on or off\n";
    let settings = [("PIN", "x"), ("HEAD_TIMEOUT", "3")];
    check(&["check"], &settings, 2, "", expect);
    check(&["check", "--strict"], &settings, 2, "", expect);
    // Neither does it start.
    check(&["run"], &settings, 2, "", expect);
    check(&[], &settings, 2, "", expect);
}

#[test]
fn an_unknown_name_is_an_error_only_where_that_is_asked_for() {
    let settings = [("LISTN", "hunter2")];
    let text = "MOONGATE_LISTN is not a setting; the nearest is MOONGATE_LISTEN\n";
    check(&["check"], &settings, 0, RIGHT, &format!("warning: {text}"));
    check(&["check", "--strict"], &settings, 2, "", &format!("error: {text}"));
}

#[test]
fn no_secret_is_ever_written() {
    let settings = [
        ("CONTROL_TOKEN", "hunter2"),
        ("CONTROL", "127.0.0.1:0"),
        // TEST-NET-1 (RFC 5737) is nobody's, so the start ends there, after everything was said.
        ("LISTEN", "192.0.2.1:0"),
        ("LOG", "trace"),
    ];
    for format in ["text", "json"] {
        let mut settings = settings.to_vec();
        settings.push(("LOG_FORMAT", format));
        let output = run(&[], &settings);
        let log = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{log}");
        assert!(log.contains("cannot start") && log.contains("MOONGATE_CONTROL_TOKEN"), "{log}");
        assert!(!log.contains("hunter2"), "{log}");
    }
}

#[test]
fn help_lists_every_setting_and_the_verbs() {
    let output = run(&["--help"], &[]);
    let help = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success()
            && help.contains("MOONGATE_RECV_BUFFER_SIZE [2KiB]")
            && help.contains("check")
    );
    let version = run(&["--version"], &[]);
    assert_eq!(String::from_utf8_lossy(&version.stdout), format!("moongate {}\n", env!("CARGO_PKG_VERSION")));
}
