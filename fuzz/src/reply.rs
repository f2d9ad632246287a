//! Answers, read back with a parser that is not ours.

/// A complete answer, as a client understands it.
pub(crate) struct Reply {
    pub(crate) status: u16,
    fields: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Reply {
    /// Reads `bytes`, all of which are one answer. What breaks HTTP panics.
    pub(crate) fn read(bytes: &[u8]) -> Reply {
        let mut fields = [httparse::EMPTY_HEADER; 32];
        let mut response = httparse::Response::new(&mut fields);
        let parsed =
            response.parse(bytes).unwrap_or_else(|error| panic!("{error}: {}", bytes.escape_ascii()));
        let httparse::Status::Complete(length) = parsed else { panic!("cut: {}", bytes.escape_ascii()) };
        let (head, body) = bytes.split_at(length);
        check_lines(head);
        let fields: Vec<_> = response
            .headers
            .iter()
            .map(|field| {
                let value = str::from_utf8(field.value).expect("we write text");
                (field.name.to_ascii_lowercase(), value.to_owned())
            })
            .collect();
        for (index, (name, _)) in fields.iter().enumerate() {
            assert!(!fields[..index].iter().any(|(before, _)| before == name), "{name} twice");
        }
        assert_eq!(response.version, Some(1));
        Reply { status: response.code.expect("it is complete"), fields, body: body.to_vec() }
    }

    /// The value of the one field `name`.
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|field| field.0.eq_ignore_ascii_case(name)).map(|field| field.1.as_str())
    }

    /// How many fields there are.
    pub(crate) fn fields(&self) -> usize {
        self.fields.len()
    }

    /// What every answer has that ends the connection: its end is where it says, and it says that it is the last.
    pub(crate) fn check_last(&self, head_only: bool) {
        let connection = self.field("Connection").expect("every answer says what becomes of the connection");
        assert!(connection.split(", ").any(|option| option == "close"), "B30: {connection}");
        assert_eq!(connection.contains("Upgrade"), self.field("Upgrade").is_some());
        assert_eq!(self.field("Transfer-Encoding"), None);
        assert!(self.field("Date").is_some_and(|date| date.len() == 29 && date.ends_with(" GMT")), "A34");
        if self.status == 204 {
            assert_eq!((self.field("Content-Length"), self.body.len()), (None, 0), "A33");
            return;
        }
        let length = self.field("Content-Length").expect("it has a length");
        let expect = if head_only { "0".to_owned() } else { length.to_owned() };
        assert_eq!(expect, self.body.len().to_string(), "A33: Content-Length is true");
        if self.field("Content-Type") == Some("application/problem+json") && !head_only {
            let problem: serde_json::Value = serde_json::from_slice(&self.body).expect("a problem is JSON");
            assert_eq!(problem["status"], self.status);
            assert!(problem["hint"].as_str().is_some_and(|hint| !hint.is_empty()));
        }
    }
}

/// Lines end in CRLF, and neither byte is anywhere else.
fn check_lines(head: &[u8]) {
    for (at, byte) in head.iter().enumerate() {
        match byte {
            b'\r' => assert_eq!(head.get(at + 1), Some(&b'\n'), "CR alone"),
            b'\n' => assert!(at > 0 && head[at - 1] == b'\r', "LF alone"),
            _ => assert!((0x20..0x7f).contains(byte), "{byte:#x} in an answer's head"),
        }
    }
}
