//! Broadcast and echo with tokio-tungstenite.
//!
//! Tuned as its documentation advises for many connections: 4 KiB read buffers instead of 128 KiB, and frames written
//! together where several wait. `--as-it-comes` leaves the buffers as they are.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::process::ExitCode;
use std::sync::Arc;
use std::task::Poll;

use bytes::Bytes;
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt as _, StreamExt as _};
use rival_common::{BATCH_MESSAGES_MAX, ECHO, Item, Options, Room, Rooms, Sender};
use tokio::net::TcpStream;
use tokio::sync::mpsc::Receiver;
use tokio_tungstenite::tungstenite::handshake::server::{Request, Response};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, accept_hdr_async_with_config};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const READ_BUFFER_BYTES: usize = 4096;

type Socket = WebSocketStream<TcpStream>;

fn main() -> ExitCode {
    rival_common::run(|stream, rooms, options| {
        // A connection's error ends that connection.
        tokio::spawn(async move {
            let _ = serve(stream, rooms, options).await;
        });
    })
}

async fn serve(stream: TcpStream, rooms: Arc<Rooms>, options: Options) -> Result<(), Error> {
    let mut config = WebSocketConfig::default();
    if !options.as_it_comes {
        config = config.read_buffer_size(READ_BUFFER_BYTES);
    }
    let mut path = String::new();
    #[expect(clippy::result_large_err, reason = "the library says what a callback returns")]
    let look = |request: &Request, response: Response| {
        path = request.uri().path().to_owned();
        Ok(response)
    };
    let socket = accept_hdr_async_with_config(stream, look, Some(config)).await?;
    if path == ECHO {
        return echo(socket).await;
    }
    let room = rooms.room(&path);
    let (sink, stream) = socket.split();
    let (sender, queue) = rival_common::queue();
    room.join(sender.clone());
    tokio::spawn(async move {
        let _ = write(sink, queue).await;
    });
    let outcome = read(stream, &room, &sender).await;
    // However it ended, the other task ends too.
    let _ = sender.send(Item::Close(Bytes::new())).await;
    outcome
}

async fn echo(mut socket: Socket) -> Result<(), Error> {
    while let Some(message) = next_or_flush(&mut socket).await? {
        if message.is_text() || message.is_binary() {
            socket.feed(message).await?;
        }
    }
    Ok(())
}

/// The next message. What was fed is flushed before it is waited for.
async fn next_or_flush(socket: &mut Socket) -> Result<Option<Message>, Error> {
    let now = {
        let mut next = pin!(socket.next());
        poll_fn(|context| Poll::Ready(next.as_mut().poll(context))).await
    };
    if let Poll::Ready(message) = now {
        return message.transpose();
    }
    socket.flush().await?;
    socket.next().await.transpose()
}

/// Says to all what comes from one.
async fn read(mut stream: SplitStream<Socket>, room: &Room, sender: &Sender) -> Result<(), Error> {
    while let Some(message) = stream.next().await {
        match message? {
            Message::Text(text) => room.say(Item::Text(text.into())).await,
            Message::Binary(bytes) => room.say(Item::Binary(bytes)).await,
            // The library has the answer ready; it goes out with the next flush, which this brings about.
            Message::Ping(_) => drop(sender.send(Item::Pong(Bytes::new())).await),
            Message::Close(_) => return Ok(()),
            Message::Pong(_) | Message::Frame(_) => {}
        }
    }
    Ok(())
}

/// Writes what waits for one, as much of it at once as there is.
async fn write(mut sink: SplitSink<Socket, Message>, mut queue: Receiver<Item>) -> Result<(), Error> {
    let mut batch = Vec::new();
    loop {
        if queue.recv_many(&mut batch, BATCH_MESSAGES_MAX).await == 0 {
            return Ok(());
        }
        for item in batch.drain(..) {
            match item {
                // Every message of text was one when it came.
                Item::Text(text) => match text.try_into() {
                    Ok(text) => sink.feed(Message::Text(text)).await?,
                    Err(_) => return Err(Error::ConnectionClosed),
                },
                Item::Binary(bytes) => sink.feed(Message::Binary(bytes)).await?,
                Item::Pong(_) => {}
                Item::Close(_) => return sink.close().await,
            }
        }
        sink.flush().await?;
    }
}
