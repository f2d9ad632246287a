//! The lines in which clients speak: `tests/e2e/clients/README.md` has the words.

use std::io::BufRead;

use tokio::sync::mpsc;

/// What a message is made of.
#[derive(Copy, Clone, Debug)]
pub enum Kind {
    Text,
    Binary,
}

/// A line on standard input.
#[derive(Debug)]
pub enum Order {
    Message(Kind, Vec<u8>),
    First(Kind, Vec<u8>),
    Part(Vec<u8>),
    Last(Vec<u8>),
    Ping(Vec<u8>),
    Close(Option<u16>, Vec<u8>),
}

impl Order {
    fn parse(line: &str) -> Order {
        let words: Vec<&str> = line.split(' ').collect();
        match words[..] {
            ["text", data] => Order::Message(Kind::Text, of_hex(data)),
            ["binary", data] => Order::Message(Kind::Binary, of_hex(data)),
            ["text-part", data] => Order::First(Kind::Text, of_hex(data)),
            ["binary-part", data] => Order::First(Kind::Binary, of_hex(data)),
            ["part", data] => Order::Part(of_hex(data)),
            ["last", data] => Order::Last(of_hex(data)),
            ["ping", data] => Order::Ping(of_hex(data)),
            ["close", "0", _] => Order::Close(None, Vec::new()),
            ["close", code, reason] => Order::Close(Some(code.parse().expect("a code")), of_hex(reason)),
            _ => panic!("no such order: {line:?}"),
        }
    }
}

/// Every order as it comes. The thread that reads them ends with standard input.
pub fn orders() -> mpsc::UnboundedReceiver<Order> {
    let (sender, receiver) = mpsc::unbounded_channel();
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines() {
            if sender.send(Order::parse(&line.expect("standard input can be read"))).is_err() {
                return;
            }
        }
        // Nothing more is ordered, and the connection goes on: whoever started this ends it.
        std::mem::forget(sender);
    });
    receiver
}

/// The URL, and the origin to claim if there is one.
pub fn arguments() -> (String, Option<String>) {
    let mut arguments = std::env::args().skip(1);
    let url = arguments.next().expect("a URL");
    let origin = arguments.find_map(|option| option.strip_prefix("origin=").map(str::to_owned));
    (url, origin)
}

/// One line on standard output: a word, a number if there is one, and bytes.
pub fn say(word: &str, number: Option<u16>, bytes: &[u8]) {
    let number = number.map(|number| format!("{number} ")).unwrap_or_default();
    println!("{word} {number}{}", to_hex(bytes));
}

fn to_hex(bytes: &[u8]) -> String {
    if bytes.is_empty() {
        return "-".to_owned();
    }
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn of_hex(word: &str) -> Vec<u8> {
    if word == "-" {
        return Vec::new();
    }
    let digit = |at| u8::from_str_radix(&word[at..at + 2], 16).expect("hexadecimal");
    (0..word.len()).step_by(2).map(digit).collect()
}
