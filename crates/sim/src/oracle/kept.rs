//! What a topic must have kept for who came back.

use std::collections::BTreeMap;
use std::time::Duration;

use moongate_io::Time;

use super::{MessageId, Oracle, Session};

/// What every topic keeps for who comes back, at least.
#[derive(Copy, Clone, Debug)]
pub struct Keeps {
    /// How many messages.
    pub messages: u64,
    /// How many bytes of payloads.
    pub bytes: usize,
    /// For how long.
    pub ttl: Duration,
    /// How many bytes of it, as they are written for a subscriber, are told again.
    pub replayed_bytes: usize,
    /// How long a payload may be.
    pub message_bytes: usize,
}

/// Offsets of an epoch that a subscriber does not get, from and to, and when it knew.
type Lack = ((u64, u64, u64), Time);

/// A message is written in no more than this many times its bytes, as a line of an event for every one of them, ...
pub(super) const WRITTEN_TIMES: usize = 8;
/// ... and so many more around it.
pub(super) const WRITTEN_AROUND: usize = 512;

impl Oracle {
    /// Who comes back is not without what was kept for it.
    ///
    /// Not judged is a world in which messages were dropped: a subscriber that an outbox drops messages of is told so in
    /// the same words as one for which they were not kept, or not at all. Nor one in which memory is short: then what is
    /// kept goes, and when is not for others to see.
    pub(super) fn judge_kept(&self, settled: bool, faults: &mut Vec<String>) {
        let Some(keeps) = self.keeps else { return };
        for (index, session) in self.sessions.iter().enumerate() {
            let lacks = self.silently(session).chain(self.of_all_kept(session, settled));
            for ((epoch, from, to), at) in lacks.chain(session.gaps.iter().copied()) {
                if let Some((offset, id)) = self.kept(session, (epoch, from, to), keeps, at) {
                    faults.push(format!(
                        "session {index} lacks offsets {from} to {to}, though {offset}, message {id}, was kept at {at:?}"
                    ));
                }
            }
        }
    }

    /// What somebody lacks who is told of no gaps, where it came back.
    fn silently<'a>(&'a self, session: &'a Session) -> impl Iterator<Item = Lack> + 'a {
        let breaks = session.breaks.iter().filter(|_| session.silent);
        breaks.filter_map(|(at, when)| {
            let (before, behind) = (session.heard.get(at.checked_sub(1)?)?, session.heard.get(*at)?);
            let (before, behind) = (self.messages[*before].place?, self.messages[*behind].place?);
            // Of a topic that was forgotten meanwhile, all that is kept is heard.
            let from = if before.0 == behind.0 { before.1 + 1 } else { 1 };
            Some(((behind.0, from, behind.1 - 1), *when))
        })
    }

    /// What somebody lacks who asked for all that is kept.
    fn of_all_kept(&self, session: &Session, settled: bool) -> Option<Lack> {
        let (at, until) = session.all_kept?;
        let first = session.heard.first().and_then(|first| self.messages[*first].place);
        let (epoch, to) = match (until, first) {
            (Some(until), Some(first)) => (until.0, until.1.min(first.1 - 1)),
            (None, Some(first)) => (first.0, first.1 - 1),
            // It has heard nothing: perhaps there was nothing, perhaps it went before that.
            (Some(until), None) if settled && !session.ended => until,
            (_, None) => return None,
        };
        Some(((epoch, 1, to), at))
    }

    /// A message between those offsets that its topic must still have kept at that time, if nobody is left out of it.
    fn kept(
        &self,
        session: &Session,
        (epoch, from, to): (u64, u64, u64),
        keeps: Keeps,
        at: Time,
    ) -> Option<(u64, MessageId)> {
        if from > to {
            return None;
        }
        // The topic's home had answered by then, so what was said later came later.
        let place = |offset| (session.topic.clone(), (epoch, offset));
        let known = self.places.range(place(from)..=place(u64::MAX));
        let known = known.filter(|(_, id)| self.messages[**id].said_at <= at);
        let known: BTreeMap<u64, MessageId> = known.map(|((_, (_, offset)), id)| (*offset, *id)).collect();
        let newest = *known.last_key_value()?.0;
        let behind = self.may_be_behind(&session.topic, at);
        let written = |length: usize| length * WRITTEN_TIMES + WRITTEN_AROUND;
        let (mut messages, mut bytes, mut written_bytes) =
            (behind as u64, behind * keeps.message_bytes, behind * written(keeps.message_bytes));
        let mut lacked = None;
        for offset in (from..=newest).rev() {
            let id = known.get(&offset).copied();
            let length = id.map_or(keeps.message_bytes, |id| self.messages[id].payload.len());
            messages += 1;
            bytes += length;
            written_bytes += written(length);
            if messages > keeps.messages || bytes > keeps.bytes || written_bytes > keeps.replayed_bytes {
                break;
            }
            let is_lacked = |id: &MessageId| {
                let message = &self.messages[*id];
                offset <= to && message.said_at + keeps.ttl > at && !session.may_lack(message)
            };
            lacked = id.filter(is_lacked).map(|id| (offset, id)).or(lacked);
        }
        lacked
    }

    /// How many messages that were said by then may stand behind the last of which anybody knows the place: as many as
    /// nobody knows the place of, but for those that stand between others.
    fn may_be_behind(&self, topic: &str, at: Time) -> usize {
        let said = self.messages.iter().filter(|message| message.topic == topic && message.said_at <= at);
        let unknown = said.filter(|message| message.place.is_none()).count();
        let mut last: BTreeMap<u64, (u64, u64)> = BTreeMap::new();
        for ((_, (epoch, offset)), id) in
            self.places.range((topic.to_owned(), (0, 0))..).take_while(|((other, _), _)| other == topic)
        {
            if self.messages[*id].said_at <= at {
                let (newest, known) = last.entry(*epoch).or_default();
                *newest = (*newest).max(*offset);
                *known += 1;
            }
        }
        let between: u64 = last.values().map(|(newest, known)| newest - known).sum();
        unknown.saturating_sub(between as usize)
    }
}
