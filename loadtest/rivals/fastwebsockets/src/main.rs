//! Broadcast and echo with fastwebsockets, upgraded by hyper as its documentation has it.
//!
//! The connection is taken back from hyper after the upgrade, and frames are written together where several wait: the
//! library by itself makes one write of each.

use std::convert::Infallible;
use std::future::{Future as _, poll_fn};
use std::io::Cursor;
use std::pin::pin;
use std::process::ExitCode;
use std::sync::Arc;
use std::task::Poll;

use fastwebsockets::upgrade::upgrade;
use fastwebsockets::{
    Frame, OpCode, Payload, Role, WebSocketError, WebSocketRead, WebSocketWrite, after_handshake_split,
};
use http_body_util::Empty;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use rival_common::{BATCH_MESSAGES_MAX, Corked, ECHO, Item, Room, Rooms, Sender};
use tokio::io::{AsyncReadExt as _, Chain};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::mpsc::Receiver;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

type Reader = WebSocketRead<Chain<Cursor<Bytes>, OwnedReadHalf>>;
type Writer = WebSocketWrite<Corked<OwnedWriteHalf>>;

fn main() -> ExitCode {
    rival_common::run(|stream, rooms, _| {
        let service = service_fn(move |request| answer(request, Arc::clone(&rooms)));
        let connection =
            http1::Builder::new().serve_connection(TokioIo::new(stream), service).with_upgrades();
        // A connection's error ends that connection.
        tokio::spawn(async move {
            let _ = connection.await;
        });
    })
}

async fn answer(
    mut request: Request<Incoming>,
    rooms: Arc<Rooms>,
) -> Result<Response<Empty<Bytes>>, Infallible> {
    let Ok((response, upgraded)) = upgrade(&mut request) else {
        let mut refusal = Response::new(Empty::new());
        *refusal.status_mut() = StatusCode::BAD_REQUEST;
        return Ok(refusal);
    };
    let path = request.uri().path().to_owned();
    tokio::spawn(async move {
        let Ok(socket) = upgraded.await else { return };
        let Ok(parts) = socket.into_inner().into_inner().downcast::<TokioIo<TcpStream>>() else {
            unreachable!("that is what was served");
        };
        let (read, write) = parts.io.into_inner().into_split();
        // A copy: what hyper has read so far is a slice of its whole buffer, which would live as long.
        let read = Cursor::new(Bytes::copy_from_slice(&parts.read_buf)).chain(read);
        drop(parts.read_buf);
        let (reader, writer) = after_handshake_split(read, Corked::new(write), Role::Server);
        let _ = serve(reader, writer, &path, &rooms).await;
    });
    Ok(response)
}

async fn serve(mut reader: Reader, writer: Writer, path: &str, rooms: &Rooms) -> Result<(), WebSocketError> {
    reader.set_auto_close(false);
    reader.set_auto_pong(false);
    if path == ECHO {
        return echo(reader, writer).await;
    }
    let room = rooms.room(path);
    let (sender, queue) = rival_common::queue();
    room.join(sender.clone());
    tokio::spawn(async move {
        let _ = write(writer, queue).await;
    });
    let outcome = read(reader, &room, &sender).await;
    // However it ended, the other task ends too.
    let _ = sender.send(Item::Close(Bytes::new())).await;
    outcome
}

async fn next(reader: &mut Reader) -> Result<Frame<'_>, WebSocketError> {
    // Pings and goodbyes are answered here, so there is nothing that the library must send.
    reader.read_frame::<_, WebSocketError>(&mut |_| async { Ok(()) }).await
}

async fn echo(mut reader: Reader, mut writer: Writer) -> Result<(), WebSocketError> {
    loop {
        let frame = next_or_flush(&mut reader, &mut writer).await?;
        match frame.opcode {
            OpCode::Text | OpCode::Binary => {
                writer.write_frame(Frame::new(true, frame.opcode, None, frame.payload)).await?;
            }
            OpCode::Ping => writer.write_frame(Frame::pong(frame.payload)).await?,
            OpCode::Close => {
                writer.write_frame(Frame::close_raw(frame.payload)).await?;
                return writer.flush().await;
            }
            OpCode::Pong | OpCode::Continuation => {}
        }
    }
}

/// The next frame. What was written is flushed before it is waited for.
async fn next_or_flush<'a>(reader: &'a mut Reader, writer: &mut Writer) -> Result<Frame<'a>, WebSocketError> {
    let mut next = pin!(next(reader));
    let now = poll_fn(|context| Poll::Ready(next.as_mut().poll(context))).await;
    if let Poll::Ready(frame) = now {
        return frame;
    }
    writer.flush().await?;
    next.await
}

/// Says to all what comes from one.
async fn read(mut reader: Reader, room: &Room, sender: &Sender) -> Result<(), WebSocketError> {
    loop {
        let frame = next(&mut reader).await?;
        let payload = Bytes::from(Vec::from(frame.payload));
        match frame.opcode {
            OpCode::Text => room.say(Item::Text(payload)).await,
            OpCode::Binary => room.say(Item::Binary(payload)).await,
            // Who is gone needs no answer.
            OpCode::Ping => drop(sender.send(Item::Pong(payload)).await),
            OpCode::Close => {
                let _ = sender.send(Item::Close(payload)).await;
                return Ok(());
            }
            OpCode::Pong | OpCode::Continuation => {}
        }
    }
}

/// Writes what waits for one, as much of it at once as there is.
async fn write(mut writer: Writer, mut queue: Receiver<Item>) -> Result<(), WebSocketError> {
    let mut batch = Vec::new();
    loop {
        if queue.recv_many(&mut batch, BATCH_MESSAGES_MAX).await == 0 {
            return Ok(());
        }
        for item in batch.drain(..) {
            let (opcode, payload) = match &item {
                Item::Text(payload) => (OpCode::Text, payload),
                Item::Binary(payload) => (OpCode::Binary, payload),
                Item::Pong(payload) => (OpCode::Pong, payload),
                Item::Close(payload) => (OpCode::Close, payload),
            };
            writer.write_frame(Frame::new(true, opcode, None, Payload::Borrowed(payload))).await?;
            if opcode == OpCode::Close {
                return writer.flush().await;
            }
        }
        writer.flush().await?;
    }
}
