//! A WebSocket's conversation: frames in, messages to the hub, replies out.

use moongate_hub::{Kind, Patience, Published, Rejection};
use moongate_io::{Bytes, ConnId};
use moongate_wire::frame::{self, Fault, Item, Limits};

use crate::conn::{Mode, Place, Speaking, Stalled};
use crate::core::{Core, Want, token};
use crate::counts::End;
use crate::forms::hub_kind;

/// Why a message was not taken: a close code, and the words that tell a person what to do.
pub(crate) struct Unwelcome {
    pub(crate) end: End,
    pub(crate) code: u16,
    pub(crate) reason: &'static str,
}

impl From<Fault> for Unwelcome {
    fn from(Fault { code, reason }: Fault) -> Unwelcome {
        Unwelcome { end: End::of_fault(code), code, reason }
    }
}

const MAY_ONLY_LISTEN: Unwelcome = Unwelcome {
    end: End::NotAllowed,
    code: 1008,
    reason: "this connection may only listen; the operator can set MOONGATE_ANONYMOUS=publish",
};

const TOPICS_FULL: Unwelcome =
    Unwelcome { end: End::Overload, code: 1013, reason: "too many topics; try again later" };

impl Core {
    /// Frames, as many as came in. Messages go to the hub at once: it collects them until the end of the tick.
    pub(crate) fn read_frames(&mut self, id: ConnId, mut speaking: Speaking, mut bytes: &mut [u8]) -> Mode {
        if speaking.awaits_pong {
            // What is due next counts from here, not from the end of the pong's time.
            self.wheel.set(id.slot(), self.after(self.config.ping_interval));
        }
        speaking.hears(self.now_millis());
        if let Some(stalled) = &mut speaking.stalled {
            stalled.rest.extend_from_slice(bytes);
            return Mode::Speaking(speaking);
        }
        let mut echoes = std::mem::take(&mut self.scratch);
        let limits = Limits { deflate: speaking.deflate.is_some(), ..self.frame_limits };
        let ended = loop {
            if bytes.is_empty() {
                break None;
            }
            // What has arrived already may be many times the window: it waits as well.
            if self.must_wait(id, &speaking) {
                speaking.stalled = Some(Box::new(Stalled::behind(None, bytes)));
                break None;
            }
            let step = match speaking.decoder.step(bytes, &limits) {
                Ok(step) => step,
                Err(fault) => break Some(Ended::Unwelcome(fault.into())),
            };
            let consumed = step.consumed;
            let stalled = match step.item {
                Some(item) => self.heard(id, &mut speaking, item, &mut echoes),
                None => Ok(None),
            };
            let rest = &mut std::mem::take(&mut bytes)[consumed..];
            match stalled {
                Ok(None) => bytes = rest,
                Ok(message) => {
                    speaking.stalled = Some(Box::new(Stalled::behind(message, rest)));
                    break None;
                }
                Err(ended) => break Some(ended),
            }
        };
        self.push_echoes(id, &mut echoes);
        self.scratch = echoes;
        match ended {
            None => self.go_on(id, speaking),
            Some(ended) => self.end_conversation(id, speaking, ended),
        }
    }

    /// Acts on one message or control frame. A compressed message that has to wait to be inflated comes back.
    fn heard(
        &mut self,
        id: ConnId,
        speaking: &mut Speaking,
        item: Item<'_>,
        echoes: &mut Vec<u8>,
    ) -> Result<Option<(Kind, Vec<u8>)>, Ended> {
        let said = match item {
            Item::Text(text) => self.said(id, speaking, Kind::Text, &text, echoes),
            Item::Binary(payload) => self.said(id, speaking, Kind::Binary, &payload, echoes),
            Item::Compressed(kind, payload) => {
                let kind = hub_kind(kind);
                let inflated = self.inflate_now(id, speaking, (kind, &payload), echoes)?;
                return Ok((!inflated).then(|| (kind, payload.into_owned())));
            }
            Item::Ping(payload) => {
                self.pong(id, &payload, echoes);
                Ok(())
            }
            Item::Close(close) => {
                let mut reply = Vec::new();
                frame::reply_to_close(&close, &mut reply);
                return Err(Ended::Closed(reply));
            }
            Item::Pong => Ok(()),
        };
        said.map(|()| None).map_err(Ended::Unwelcome)
    }

    pub(crate) fn said(
        &mut self,
        id: ConnId,
        speaking: &mut Speaking,
        kind: Kind,
        payload: &[u8],
        echoes: &mut Vec<u8>,
    ) -> Result<(), Unwelcome> {
        let (subscription, window) = match &mut speaking.place {
            Place::Topic { subscription, window } => (*subscription, window),
            Place::Echo => {
                self.counts.echoed += 1;
                self.hub.encoder().echo(kind, payload, speaking.deflate, echoes);
                return Ok(());
            }
            Place::Session(session) => {
                return self.told(id, session, (kind, payload), echoes);
            }
        };
        if !self.config.policy.may_publish {
            return Err(MAY_ONLY_LISTEN);
        }
        // A subscription ends only with its connection's conversation.
        let Some(name) = self.hub.subscribed_name(subscription) else { return Err(TOPICS_FULL) };
        match self.hub.publish(token(id), &name, kind, payload, Patience::Waits, None) {
            Published::Pending => {
                *window = window.saturating_add(payload.len() as u32);
                Ok(())
            }
            Published::Rejected(Rejection::TopicsFull) => Err(TOPICS_FULL),
            Published::Rejected(Rejection::Busy) => unreachable!("who waits is not turned away"),
        }
    }

    /// Answers a ping with the same payload, after the echoes that came before it.
    fn pong(&mut self, id: ConnId, payload: &[u8], echoes: &mut Vec<u8>) {
        self.push_echoes(id, echoes);
        frame::encode(frame::Opcode::Pong, payload, echoes);
        self.hub.outboxes.push_pong(id.slot(), echoes, &self.meter);
        echoes.clear();
    }

    pub(crate) fn push_echoes(&mut self, id: ConnId, echoes: &mut Vec<u8>) {
        if !echoes.is_empty() {
            self.hub.outboxes.push(id.slot(), Bytes::own(&echoes[..], &self.meter));
            echoes.clear();
        }
    }

    pub(crate) fn end_conversation(&mut self, id: ConnId, speaking: Speaking, ended: Ended) -> Mode {
        match ended {
            Ended::Closed(reply) => {
                self.counts.ended(End::Peer);
                self.end_speaking(id, speaking, |out| out.extend_from_slice(&reply))
            }
            Ended::Unwelcome(Unwelcome { end, code, reason }) => {
                self.counts.ended(end);
                self.end_speaking(id, speaking, |out| frame::encode_close(code, reason, out))
            }
        }
    }

    /// Whether it is not to be read from now: something waits for its turn, or too much is on its way, be it to its
    /// topic's home or back to itself.
    fn is_full(&self, id: ConnId, speaking: &Speaking) -> bool {
        let echoes = matches!(speaking.place, Place::Echo) && self.hub.outboxes.past_half(id.slot());
        speaking.stalled.is_some() || echoes || self.must_wait(id, speaking)
    }

    /// Whether what it says next has to wait: as much is on its way to topics' homes as may be, or in a session to itself.
    pub(crate) fn must_wait(&self, id: ConnId, speaking: &Speaking) -> bool {
        match &speaking.place {
            Place::Topic { window, .. } => *window > self.config.publish_window_bytes,
            Place::Echo => false,
            Place::Session(session) => {
                session.window > self.config.publish_window_bytes || self.session_is_full(id, session)
            }
        }
    }

    fn go_on(&mut self, id: ConnId, mut speaking: Speaking) -> Mode {
        if self.is_full(id, &speaking) && !speaking.paused {
            speaking.paused = true;
            self.counts.paused += 1;
            self.wants.push(Want::Pause(id));
        }
        Mode::Speaking(speaking)
    }

    /// Publishes have their place. Says, beside the mode, whether the peer had ended and all it said was looked at.
    pub(crate) fn widen_window(&mut self, id: ConnId, mut speaking: Speaking, bytes: u32) -> (Mode, bool) {
        speaking.place.widen(bytes);
        let has_room = speaking.place.window() <= self.config.publish_window_bytes / 2;
        if !has_room || !self.session_has_room(id, &speaking.place) {
            return (Mode::Speaking(speaking), false);
        }
        match speaking.stalled.take() {
            Some(mut stalled) if stalled.message.is_none() => {
                let mode = self.read_frames(id, speaking, &mut stalled.rest);
                (self.read_again(id, mode), stalled.peer_ended)
            }
            stalled => {
                speaking.stalled = stalled;
                (self.read_again(id, Mode::Speaking(speaking)), false)
            }
        }
    }

    /// Something does not wait any more: it is read from again, unless something else speaks against it.
    pub(crate) fn read_again(&mut self, id: ConnId, mode: Mode) -> Mode {
        match mode {
            Mode::Speaking(mut speaking) if speaking.paused && !self.is_full(id, &speaking) => {
                self.resume(id, &mut speaking);
                Mode::Speaking(speaking)
            }
            other => other,
        }
    }

    fn resume(&mut self, id: ConnId, speaking: &mut Speaking) {
        speaking.paused = false;
        // It could not be heard while it was paused.
        speaking.hears(self.now_millis());
        self.wants.push(Want::Resume(id));
    }

    /// Says Close and nothing after it (RFC 6455 §5.5.1, §7.1.7).
    pub(crate) fn end_speaking(
        &mut self,
        id: ConnId,
        speaking: Speaking,
        close: impl FnOnce(&mut Vec<u8>),
    ) -> Mode {
        let mut words = Vec::new();
        close(&mut words);
        self.hub.outboxes.push_last(id.slot(), Bytes::own(words, &self.meter));
        self.leave_modes_topic(id, &Mode::Speaking(speaking));
        self.flush_and_end(id, false)
    }
}

/// Why reading frames ended.
pub(crate) enum Ended {
    /// The peer said Close; this is the answer.
    Closed(Vec<u8>),
    Unwelcome(Unwelcome),
}
