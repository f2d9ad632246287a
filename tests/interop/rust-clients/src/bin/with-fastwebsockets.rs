//! fastwebsockets' client, in two halves: a frame read in part would be lost if writing interrupted it.

use bytes::Bytes;
use fastwebsockets::{
    FragmentCollectorRead, Frame, OpCode, Payload, WebSocketError, WebSocketWrite, handshake,
};
use http_body_util::Empty;
use hyper::Request;
use rust_clients::{Kind, Order, arguments, orders, say};
use tokio::io::AsyncWrite;
use tokio::net::TcpStream;
use tokio::sync::mpsc;

/// hyper wants to start a task for the connection.
struct Executor;

impl<F: Future<Output: Send> + Send + 'static> hyper::rt::Executor<F> for Executor {
    fn execute(&self, future: F) {
        tokio::spawn(future);
    }
}

fn frame(order: Order) -> Frame<'static> {
    let opcode = |kind| match kind {
        Kind::Text => OpCode::Text,
        Kind::Binary => OpCode::Binary,
    };
    let new = |fin, opcode, data| Frame::new(fin, opcode, None, Payload::Owned(data));
    match order {
        Order::Message(kind, data) => new(true, opcode(kind), data),
        Order::First(kind, data) => new(false, opcode(kind), data),
        Order::Part(data) => new(false, OpCode::Continuation, data),
        Order::Last(data) => new(true, OpCode::Continuation, data),
        Order::Ping(data) => new(true, OpCode::Ping, data),
        Order::Close(Some(code), reason) => Frame::close(code, &reason),
        Order::Close(None, _) => Frame::close_raw(Payload::Owned(Vec::new())),
    }
}

/// Until a Close has gone out: nothing may follow it (RFC 6455 §5.5.1).
async fn write<W: AsyncWrite + Unpin>(
    mut socket: WebSocketWrite<W>,
    mut frames: mpsc::UnboundedReceiver<Frame<'static>>,
) {
    while let Some(frame) = frames.recv().await {
        let last = frame.opcode == OpCode::Close;
        socket.write_frame(frame).await.expect("it can be written");
        if last {
            // Kept open: the server is the one to end the connection (RFC 6455 §7.1.1).
            return std::future::pending().await;
        }
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let (url, origin) = arguments();
    let (host, path) = url.trim_start_matches("ws://").split_once('/').expect("a path");
    let stream = TcpStream::connect(host).await.expect("somebody listens");
    let request = Request::get(format!("/{path}"))
        .header("Host", host)
        .header("Upgrade", "websocket")
        .header("Connection", "upgrade")
        .header("Sec-WebSocket-Key", handshake::generate_key())
        .header("Sec-WebSocket-Version", "13");
    let request = match origin {
        Some(origin) => request.header("Origin", origin),
        None => request,
    };
    let request = request.body(Empty::<Bytes>::new()).expect("a request");
    let socket = match handshake::client(&Executor, request, stream).await {
        Ok((socket, _)) => socket,
        Err(WebSocketError::InvalidStatusCode(status)) => return say("refused", Some(status), &[]),
        Err(error) => return say("error", None, error.to_string().as_bytes()),
    };
    say("open", None, &[]);
    let (mut read, write_half) = socket.split(tokio::io::split);
    // Answered below, so that they are seen.
    read.set_auto_pong(false);
    let mut read = FragmentCollectorRead::new(read);

    let (sender, frames) = mpsc::unbounded_channel();
    tokio::spawn(write(write_half, frames));
    let mut orders = orders();
    let ordered = sender.clone();
    tokio::spawn(async move {
        while let Some(order) = orders.recv().await {
            let _ = ordered.send(frame(order));
        }
    });
    let mut answer = |frame| std::future::ready(sender.send(frame));
    loop {
        let frame = match read.read_frame(&mut answer).await {
            Ok(frame) => frame,
            Err(error) => return say("error", None, error.to_string().as_bytes()),
        };
        match frame.opcode {
            OpCode::Text => say("text", None, &frame.payload),
            OpCode::Binary => say("binary", None, &frame.payload),
            OpCode::Ping => {
                say("pinged", None, &frame.payload);
                let _ = sender.send(Frame::pong(Payload::Owned(frame.payload.to_vec())));
            }
            OpCode::Pong => say("pong", None, &frame.payload),
            OpCode::Close => {
                let (code, reason) = match &frame.payload[..] {
                    [high, low, reason @ ..] => (u16::from_be_bytes([*high, *low]), reason),
                    _ => (1005, &[][..]),
                };
                say("close", Some(code), reason);
                // Lets the answer out, and waits for the server to end the connection.
                while read.read_frame(&mut answer).await.is_ok() {}
                return;
            }
            OpCode::Continuation => unreachable!("collected"),
        }
    }
}
