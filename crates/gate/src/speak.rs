//! A WebSocket's conversation: frames in, messages to the hub, replies out.

use moongate_hub::{Kind, Published, Rejection};
use moongate_io::{Bytes, ConnId};
use moongate_wire::frame::{self, Item};

use crate::conn::{Mode, Place, Speaking};
use crate::core::{Core, Want, token};
use crate::counts::End;
use crate::forms::opcode;

/// Why a message was not taken: a close code, and the words that tell a person what to do.
struct Unwelcome {
    end: End,
    code: u16,
    reason: &'static str,
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
        speaking.hears(self.now_millis());
        let mut echoes = std::mem::take(&mut self.scratch);
        let ended = loop {
            if bytes.is_empty() {
                break None;
            }
            let step = match speaking.decoder.step(bytes, &self.frame_limits) {
                Ok(step) => step,
                Err(fault) => break Some(Ended::Fault(fault)),
            };
            let consumed = step.consumed;
            let said = match step.item {
                Some(Item::Text(text)) => {
                    let place = (speaking.place, &mut speaking.window);
                    self.said(id, place, Kind::Text, &text, &mut echoes)
                }
                Some(Item::Binary(payload)) => {
                    let place = (speaking.place, &mut speaking.window);
                    self.said(id, place, Kind::Binary, &payload, &mut echoes)
                }
                Some(Item::Ping(payload)) => {
                    self.pong(id, &payload, &mut echoes);
                    Ok(())
                }
                Some(Item::Close(close)) => {
                    let mut reply = Vec::new();
                    frame::reply_to_close(&close, &mut reply);
                    break Some(Ended::Closed(reply));
                }
                Some(Item::Pong) | None => Ok(()),
            };
            if let Err(unwelcome) = said {
                break Some(Ended::Unwelcome(unwelcome));
            }
            bytes = &mut std::mem::take(&mut bytes)[consumed..];
        };
        self.push_echoes(id, &mut echoes);
        self.scratch = echoes;
        match ended {
            None => self.go_on(id, speaking),
            Some(Ended::Closed(reply)) => {
                self.counts.ended(End::Peer);
                self.end_speaking(id, speaking, |out| out.extend_from_slice(&reply))
            }
            Some(Ended::Fault(fault)) => {
                self.counts.ended(End::of_fault(fault.code));
                self.end_speaking(id, speaking, |out| frame::encode_close(fault.code, fault.reason, out))
            }
            Some(Ended::Unwelcome(Unwelcome { end, code, reason })) => {
                self.counts.ended(end);
                self.end_speaking(id, speaking, |out| frame::encode_close(code, reason, out))
            }
        }
    }

    fn said(
        &mut self,
        id: ConnId,
        (place, window): (Place, &mut u32),
        kind: Kind,
        payload: &[u8],
        echoes: &mut Vec<u8>,
    ) -> Result<(), Unwelcome> {
        let Place::Topic(subscription) = place else {
            self.counts.echoed += 1;
            frame::encode(opcode(kind), payload, echoes);
            return Ok(());
        };
        if !self.config.policy.may_publish {
            return Err(MAY_ONLY_LISTEN);
        }
        // A subscription ends only with its connection's conversation.
        let Some(name) = self.hub.subscribed_name(subscription) else { return Err(TOPICS_FULL) };
        match self.hub.publish(token(id), &name, kind, payload) {
            Published::Ordered(_) => Ok(()),
            Published::Pending => {
                *window = window.saturating_add(payload.len() as u32);
                Ok(())
            }
            Published::Rejected(Rejection::TopicsFull) => Err(TOPICS_FULL),
        }
    }

    /// Answers a ping with the same payload, after the echoes that came before it.
    fn pong(&mut self, id: ConnId, payload: &[u8], echoes: &mut Vec<u8>) {
        self.push_echoes(id, echoes);
        frame::encode(frame::Opcode::Pong, payload, echoes);
        self.hub.outboxes.push_pong(id.slot(), Bytes::own(&echoes[..], &self.meter));
        echoes.clear();
    }

    fn push_echoes(&mut self, id: ConnId, echoes: &mut Vec<u8>) {
        if !echoes.is_empty() {
            self.hub.outboxes.push(id.slot(), Bytes::own(&echoes[..], &self.meter));
            echoes.clear();
        }
    }

    /// Stops reading from one that has too much on its way, be it to its topic's home or back to itself.
    fn go_on(&mut self, id: ConnId, mut speaking: Speaking) -> Mode {
        let full = match speaking.place {
            Place::Topic(_) => speaking.window > self.config.publish_window_bytes,
            Place::Echo => self.hub.outboxes.past_half(id.slot()),
        };
        if full && !speaking.paused {
            speaking.paused = true;
            self.counts.paused += 1;
            self.wants.push(Want::Pause(id));
        }
        Mode::Speaking(speaking)
    }

    pub(crate) fn widen_window(&mut self, id: ConnId, mut speaking: Speaking, bytes: u32) -> Mode {
        speaking.window = speaking.window.saturating_sub(bytes);
        if speaking.paused && speaking.window <= self.config.publish_window_bytes / 2 {
            self.resume(id, &mut speaking);
        }
        Mode::Speaking(speaking)
    }

    /// An echo has gone out: there may be room to read again.
    pub(crate) fn echo_went(&mut self, id: ConnId, mut speaking: Speaking) -> Mode {
        if speaking.paused && speaking.place == Place::Echo && !self.hub.outboxes.past_half(id.slot()) {
            self.resume(id, &mut speaking);
        }
        Mode::Speaking(speaking)
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
enum Ended {
    Closed(Vec<u8>),
    Fault(frame::Fault),
    Unwelcome(Unwelcome),
}
