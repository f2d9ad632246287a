//! tokio-tungstenite's client.

use futures_util::{SinkExt, StreamExt};
use rust_clients::{Kind, Order, arguments, orders, say};
use tokio_tungstenite::connect_async;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::Frame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};
use tokio_tungstenite::tungstenite::{Error, Message};

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).expect("UTF-8")
}

fn message(order: Order) -> Message {
    let opcode = |kind| match kind {
        Kind::Text => OpCode::Data(Data::Text),
        Kind::Binary => OpCode::Data(Data::Binary),
    };
    match order {
        Order::Message(Kind::Text, data) => Message::text(text(data)),
        Order::Message(Kind::Binary, data) => Message::binary(data),
        Order::First(kind, data) => Message::Frame(Frame::message(data, opcode(kind), false)),
        Order::Part(data) => Message::Frame(Frame::message(data, OpCode::Data(Data::Continue), false)),
        Order::Last(data) => Message::Frame(Frame::message(data, OpCode::Data(Data::Continue), true)),
        Order::Ping(data) => Message::Ping(data.into()),
        Order::Close(code, reason) => {
            Message::Close(code.map(|code| CloseFrame { code: code.into(), reason: text(reason).into() }))
        }
    }
}

/// Says what came. The library answers pings and Closes itself.
fn hear(message: Message) {
    match message {
        Message::Text(text) => say("text", None, text.as_bytes()),
        Message::Binary(data) => say("binary", None, &data),
        Message::Ping(data) => say("pinged", None, &data),
        Message::Pong(data) => say("pong", None, &data),
        Message::Close(None) => say("close", Some(1005), &[]),
        Message::Close(Some(frame)) => say("close", Some(frame.code.into()), frame.reason.as_bytes()),
        Message::Frame(_) => unreachable!("never read as such"),
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let (url, origin) = arguments();
    let mut request = url.into_client_request().expect("a URL");
    if let Some(origin) = origin {
        request.headers_mut().insert("Origin", origin.parse().expect("an origin"));
    }
    let mut socket = match connect_async(request).await {
        Ok((socket, _)) => socket,
        Err(Error::Http(answer)) => {
            return say(
                "refused",
                Some(answer.status().as_u16()),
                answer.body().as_deref().unwrap_or_default(),
            );
        }
        Err(error) => return say("error", None, error.to_string().as_bytes()),
    };
    say("open", None, &[]);
    let mut orders = orders();
    loop {
        tokio::select! {
            Some(order) = orders.recv() => socket.send(message(order)).await.expect("it can be sent"),
            next = socket.next() => match next {
                Some(Ok(message)) => hear(message),
                Some(Err(error)) => return say("error", None, error.to_string().as_bytes()),
                None => return,
            },
        }
    }
}
