//! Offers of subprotocols and extensions: what is agreed was offered, and what is malformed is seen.

use moongate_wire::head::{Fields, parse};
use moongate_wire::negotiate::negotiate as agree;
use moongate_wire::protocol::{Protocol, Subprotocol};
use moongate_wire::scan::{HeadLimits, Scanner};

use crate::source::Source;

const ENABLED: [Subprotocol; 3] = [enabled("chat.v2"), enabled("mqtt"), enabled("a")];

const fn enabled(name: &'static str) -> Subprotocol {
    Subprotocol { name, protocol: Protocol::V1 }
}

/// Lines of two fields: one that begins with an odd byte offers extensions, any other subprotocols.
pub fn negotiate(data: &[u8]) {
    let mut source = Source::new(data);
    let deflate = source.below(2) == 1;
    let mut request = b"GET / HTTP/1.1\r\nHost: a\r\n".to_vec();
    let (mut extensions, mut subprotocols) = (Vec::new(), Vec::new());
    for line in source.rest().split(|byte| *byte == b'\n') {
        let Some((first, value)) = line.split_first() else { continue };
        let (name, values) = match first % 2 {
            1 => ("Sec-WebSocket-Extensions: ", &mut extensions),
            _ => ("Sec-WebSocket-Protocol: ", &mut subprotocols),
        };
        values.push(value);
        request.extend_from_slice(name.as_bytes());
        request.extend_from_slice(value);
        request.extend_from_slice(b"\r\n");
    }
    request.extend_from_slice(b"\r\n");
    // A value that no field can have never comes so far.
    let Ok(Some(length)) = Scanner::default().scan(&request, &HeadLimits::default()) else { return };
    if length < request.len() {
        return;
    }
    let mut fields = Fields::new();
    let Ok(head) = parse(&mut request, &mut fields) else { return };

    let offers = (!extensions.is_empty()).then(|| reference_offers(&extensions));
    let protocols = (!subprotocols.is_empty()).then(|| reference_protocols(&subprotocols));
    let agreed = agree(&head, &ENABLED, deflate);
    let well_formed = offers != Some(None) && protocols != Some(None);
    assert_eq!(agreed.is_ok(), well_formed, "B21, B23: {agreed:?}");
    let Ok(agreed) = agreed else { return };

    let protocols = protocols.flatten().unwrap_or_default();
    let first = protocols.iter().find(|name| ENABLED.iter().any(|known| known.name == **name));
    assert_eq!(agreed.subprotocol.map(|spoken| spoken.name), first.map(String::as_str), "C3");

    let offers = offers.flatten().unwrap_or_default();
    // Nothing said in a subprotocol is compressed.
    let deflate = deflate && first.is_none();
    let accepted = offers.iter().filter(|_| deflate).find_map(Offer::window);
    assert_eq!(agreed.deflate.map(|agreed| agreed.window_bits), accepted.map(|(bits, _)| bits), "C4");
    let (Some(agreed), Some((bits, named))) = (agreed.deflate, accepted) else { return };
    let answer = reference_offers(&[agreed.answer().as_bytes()]).expect("the answer is well formed");
    let window = ("server_max_window_bits".to_owned(), Some(bits.to_string()));
    let flags = ["server_no_context_takeover", "client_no_context_takeover"];
    let flags = flags.into_iter().map(|name| (name.to_owned(), None));
    let parameters = flags.chain(named.then_some(window)).collect();
    assert_eq!(answer, [Offer { name: "permessage-deflate".to_owned(), parameters }], "G2 to G4");
}

/// An extension as it is offered: its name, and its parameters with their values.
#[derive(PartialEq, Eq, Debug)]
struct Offer {
    name: String,
    parameters: Vec<(String, Option<String>)>,
}

impl Offer {
    /// The server's window in bits if this can be accepted, and whether it was named (RFC 7692 §7.1).
    fn window(&self) -> Option<(u8, bool)> {
        let mut window = None;
        for (index, (name, value)) in self.parameters.iter().enumerate() {
            if self.name != "permessage-deflate"
                || self.parameters[..index].iter().any(|(before, _)| before == name)
            {
                return None;
            }
            let bits = value.as_deref().map(|value| (8..=15).find(|bits: &u8| bits.to_string() == value));
            match (name.as_str(), bits) {
                ("server_no_context_takeover" | "client_no_context_takeover", None) => {}
                ("server_max_window_bits", Some(Some(bits))) => window = Some(bits),
                ("client_max_window_bits", None | Some(Some(_))) => {}
                _ => return None,
            }
        }
        let fine = self.name == "permessage-deflate" && window != Some(8);
        fine.then_some((window.unwrap_or(15), window.is_some()))
    }
}

/// One or more names, none twice (RFC 6455 §4.1).
fn reference_protocols(values: &[&[u8]]) -> Option<Vec<String>> {
    let mut names = Vec::new();
    for member in values.iter().flat_map(|value| value.split(|byte| *byte == b',')) {
        let member = member.trim_ascii();
        if member.is_empty() {
            continue;
        }
        let name = String::from_utf8(member.to_vec()).ok()?;
        if !name.bytes().all(is_token) || names.contains(&name) {
            return None;
        }
        names.push(name);
    }
    (!names.is_empty()).then_some(names)
}

/// RFC 6455 §9.1, by tokens: a word, a quoted word, or one of `,` `;` `=`. None if it is no list of extensions.
fn reference_offers(values: &[&[u8]]) -> Option<Vec<Offer>> {
    let mut offers = Vec::new();
    for value in values {
        let tokens = tokens(value)?;
        for member in tokens.split(|token| *token == Token::Mark(b',')) {
            if member.is_empty() {
                continue;
            }
            let mut parts = member.split(|token| *token == Token::Mark(b';'));
            let Some([Token::Word(name)]) = parts.next() else { return None };
            let parameters = parts.map(|part| match part {
                [Token::Word(name)] => Some((name.clone(), None)),
                [Token::Word(name), Token::Mark(b'='), Token::Word(value) | Token::Quoted(value)] => {
                    Some((name.clone(), Some(value.clone())))
                }
                _ => None,
            });
            offers.push(Offer { name: name.clone(), parameters: parameters.collect::<Option<_>>()? });
        }
    }
    (!offers.is_empty()).then_some(offers)
}

#[derive(PartialEq, Eq, Debug)]
enum Token {
    Word(String),
    Quoted(String),
    Mark(u8),
}

fn tokens(value: &[u8]) -> Option<Vec<Token>> {
    let mut tokens = Vec::new();
    let mut bytes = value.iter().copied().peekable();
    while let Some(byte) = bytes.next() {
        match byte {
            b' ' | b'\t' => {}
            b',' | b';' | b'=' => tokens.push(Token::Mark(byte)),
            b'"' => {
                let mut word = String::new();
                loop {
                    let byte = match bytes.next()? {
                        b'"' => break,
                        b'\\' => bytes.next()?,
                        byte => byte,
                    };
                    word.push(char::from(byte));
                }
                if word.is_empty() || !word.bytes().all(is_token) {
                    return None;
                }
                tokens.push(Token::Quoted(word));
            }
            _ if is_token(byte) => {
                let mut word = String::from(char::from(byte));
                while let Some(byte) = bytes.next_if(|byte| is_token(*byte)) {
                    word.push(char::from(byte));
                }
                tokens.push(Token::Word(word));
            }
            _ => return None,
        }
    }
    Some(tokens)
}

fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}
