//! The command line.

use std::net::{Ipv4Addr, SocketAddr};
use std::str::FromStr;

pub(crate) const HELP: &str = "\
The floor: sends what is said on a path to all who opened it, by bare batched sends.

  floor [--listen ADDRESS] [--threads N] [--collect W --sends K] [--unsent-bytes BYTES]

  --listen ADDRESS      where; port 0 (the default, on 127.0.0.1) takes a free one. Printed at the start.
  --threads N           one ring each, on one port by SO_REUSEPORT; each on a CPU of its own if there are enough (1)
  --collect W           wait until W messages of a path have come; what stays incomplete goes out after a pause
  --sends K             and send them as K sends for each subscriber, such as 1 or 1.4 (1)
                        Without --collect all that has come by a turn of the loop goes out as one send each.
  --unsent-bytes BYTES  TCP_NOTSENT_LOWAT of each connection (131072, the gateway's default)

A path may say its own: /topics/{topic}?collect=16&sends=1.4. GET /metrics on the same address says what was sent so far.
";

/// When what was said is sent.
#[derive(Copy, Clone, PartialEq, Debug, Default)]
pub(crate) enum Pace {
    /// All that has come by a turn of the loop, as one send.
    #[default]
    Turn,
    /// So many messages, as so many sends on average.
    Collect { messages: usize, sends: f64 },
}

pub(crate) struct Options {
    pub(crate) listen: SocketAddr,
    pub(crate) threads: usize,
    pub(crate) pace: Pace,
    pub(crate) unsent_bytes: u32,
}

impl Options {
    /// `None`: help was asked for.
    pub(crate) fn parse(mut words: impl Iterator<Item = String>) -> Result<Option<Options>, String> {
        let mut options = Options {
            listen: (Ipv4Addr::LOCALHOST, 0).into(),
            threads: 1,
            pace: Pace::Turn,
            unsent_bytes: 128 * 1024,
        };
        let (mut collect, mut sends) = (None, None);
        while let Some(word) = words.next() {
            match word.as_str() {
                "-h" | "--help" => return Ok(None),
                "--listen" => options.listen = value(&word, words.next())?,
                "--threads" => options.threads = value(&word, words.next())?,
                "--collect" => collect = Some(value(&word, words.next())?),
                "--sends" => sends = Some(value(&word, words.next())?),
                "--unsent-bytes" => options.unsent_bytes = value(&word, words.next())?,
                _ => return Err(format!("what is {word}? See --help")),
            }
        }
        if !(1..=64).contains(&options.threads) {
            return Err(format!("--threads {}: it must be from 1 to 64", options.threads));
        }
        options.pace = match (collect, sends) {
            (None, None) => Pace::Turn,
            (None, Some(_)) => return Err("--sends needs --collect".to_owned()),
            (Some(messages), sends) => pace(messages, sends.unwrap_or(1.0))?,
        };
        Ok(Some(options))
    }
}

/// What a path's query says of its pace, if it says anything that makes sense.
pub(crate) fn pace_of(target: &str) -> Option<Pace> {
    let (_, query) = target.split_once('?')?;
    let value =
        |name: &str| query.split('&').filter_map(|pair| pair.split_once('=')).find(|pair| pair.0 == name);
    let messages = value("collect")?.1.parse().ok()?;
    let sends = value("sends").map_or(Ok(1.0), |(_, text)| text.parse()).ok()?;
    pace(messages, sends).ok()
}

fn pace(messages: usize, sends: f64) -> Result<Pace, String> {
    if messages == 0 || !(1.0..=messages as f64).contains(&sends) {
        return Err(format!(
            "--collect {messages} --sends {sends}: a window has from 1 send to one a message"
        ));
    }
    Ok(Pace::Collect { messages, sends })
}

fn value<T: FromStr>(option: &str, word: Option<String>) -> Result<T, String> {
    let word = word.ok_or_else(|| format!("{option} needs a value: see --help"))?;
    word.parse().map_err(|_| format!("{option} {word}: not what it takes; see --help"))
}
