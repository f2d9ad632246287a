//! What only shows once all has been heard.

use std::collections::{BTreeMap, BTreeSet};

use super::{Message, MessageId, Oracle, Place, Promise, Session};

impl Oracle {
    /// Judges: everything that is wrong, the first that was noticed first.
    pub fn judge(&self, promise: Promise) -> Vec<String> {
        let mut faults = self.faults.clone();
        self.judge_gaps(promise, &mut faults);
        if promise.unbroken {
            // An outbox may drop what is told again.
            let misled = self.misled.iter();
            faults.extend(misled.map(|session| {
                format!("session {session} was told that nothing is missing, and then of a gap")
            }));
            self.judge_silent(&mut faults);
            self.judge_kept(promise.settled, &mut faults);
        }
        if promise.settled {
            self.judge_missed(promise, &mut faults);
        }
        if promise.settled && !promise.unbroken {
            self.judge_newest(&mut faults);
        }
        self.judge_order(&mut faults);
        faults
    }

    /// Those who lack nothing that they were not told of.
    fn knowing(&self, promise: Promise) -> impl Iterator<Item = (usize, &Session)> {
        let knows = move |session: &Session| promise.unbroken || session.is_told();
        self.sessions.iter().enumerate().filter(move |(_, session)| knows(session))
    }

    /// In what unbroken subscribers heard, a message has one successor and one predecessor, and the same for all.
    fn judge_gaps(&self, promise: Promise, faults: &mut Vec<String>) {
        let mut after: BTreeMap<MessageId, MessageId> = BTreeMap::new();
        let mut before: BTreeMap<MessageId, MessageId> = BTreeMap::new();
        for (index, session) in self.knowing(promise).filter(|(_, session)| !session.silent) {
            for [one, two] in session.unbroken() {
                if let Some(other) = after.insert(one, two).filter(|other| *other != two) {
                    faults.push(format!(
                        "after message {one} session {index} heard {two}, somebody else heard {other}"
                    ));
                }
                if let Some(other) = before.insert(two, one).filter(|other| *other != one) {
                    faults.push(format!(
                        "before message {two} session {index} heard {one}, somebody else heard {other}"
                    ));
                }
                let places = (self.messages[one].place, self.messages[two].place);
                if let (Some(first), Some(second)) = places
                    && second != (first.0, first.1 + 1)
                {
                    faults.push(format!("session {index} heard {second:?} right after {first:?}"));
                }
            }
        }
    }

    /// Between what a subscriber heard that is told of no gaps, nothing is but what it said itself.
    fn judge_silent(&self, faults: &mut Vec<String>) {
        for (index, session) in self.sessions.iter().enumerate().filter(|(_, session)| session.silent) {
            for [one, two] in session.unbroken() {
                let places = (self.messages[one].place, self.messages[two].place);
                let (Some(first), Some(second)) = places else { continue };
                if first.0 != second.0 {
                    faults.push(format!("session {index} heard {second:?} right after {first:?}"));
                    continue;
                }
                let lacks = |offset: &u64| !self.may_lack(session, (first.0, *offset));
                if let Some(lacked) = (first.1 + 1..second.1).find(lacks) {
                    faults.push(format!(
                        "session {index} heard {second:?} after {first:?}, and did not say offset {lacked} itself"
                    ));
                }
            }
        }
    }

    /// Whether a session lacks what is at `place` for having said it; with a place that nobody knows of, whether it may.
    fn may_lack(&self, session: &Session, place: Place) -> bool {
        match self.places.get(&(session.topic.clone(), place)) {
            Some(id) => session.may_lack(&self.messages[*id]),
            None => self.messages.iter().any(|message| {
                message.place.is_none() && message.topic == session.topic && session.may_lack(message)
            }),
        }
    }

    /// Whoever stayed has heard all that was said after it had joined.
    fn judge_missed(&self, promise: Promise, faults: &mut Vec<String>) {
        for (index, session) in self.knowing(promise).filter(|(_, session)| !session.ended) {
            let missed = self.messages.iter().enumerate().find(|(id, message)| {
                message.topic == session.topic
                    && (message.ordered || message.certain)
                    && message.said_at >= session.joined_at
                    && !session.seen.contains(id)
                    && !session.was_told(message)
                    && !session.may_lack(message)
            });
            if let Some((id, _)) = missed {
                let Message { said_at, place, ordered, .. } = &self.messages[id];
                let known = if *ordered { "ordered" } else { "certain to be ordered" };
                let (topic, joined_at, last) = (&session.topic, session.joined_at, session.heard.last());
                faults.push(format!(
                    "session {index}, which joined {topic} at {joined_at:?}, never heard message {id} of {said_at:?}, \
                     {known}, at {place:?}; its last was {last:?}"
                ));
            }
        }
    }

    /// Whoever stayed and is told nothing of what a policy drops has heard the newest message, if it hears no other topic on
    /// its connection and it is known which that is.
    fn judge_newest(&self, faults: &mut Vec<String>) {
        let plain = |session: &&Session| !session.ended && !session.silent && !session.is_told();
        for (index, session) in self.sessions.iter().enumerate().filter(|(_, session)| plain(session)) {
            let said = self.messages.iter().enumerate().filter(|(_, message)| {
                message.topic == session.topic && message.said_at >= session.joined_at
            });
            let places: Option<BTreeMap<Place, MessageId>> =
                said.map(|(id, message)| Some((message.place?, id))).collect();
            let Some((newest, id)) = places.as_ref().and_then(BTreeMap::last_key_value) else { continue };
            let one_epoch = places.iter().flatten().all(|(place, _)| place.0 == newest.0);
            if one_epoch && !session.seen.contains(id) {
                let topic = &session.topic;
                faults.push(format!("session {index} never heard message {id}, the newest of {topic}"));
            }
        }
    }

    /// There is one order that fits what everybody heard, every place that is known and what one person said after
    /// something else: a graph without a cycle.
    fn judge_order(&self, faults: &mut Vec<String>) {
        let mut next: BTreeMap<MessageId, BTreeSet<MessageId>> = BTreeMap::new();
        for session in &self.sessions {
            for pair in session.heard.windows(2) {
                next.entry(pair[0]).or_default().insert(pair[1]);
            }
        }
        let known: Vec<_> = self.places.iter().collect();
        for pair in known.windows(2) {
            let (((topic, one), from), ((other, two), to)) = (pair[0], pair[1]);
            if topic == other && one.0 == two.0 {
                next.entry(*from).or_default().insert(*to);
            }
        }
        let mut latest = BTreeMap::new();
        for (id, message) in self.messages.iter().enumerate().filter(|(_, message)| message.ordered) {
            let Some(by) = message.by else { continue };
            if let Some(before) = latest.insert((by, &message.topic), id) {
                next.entry(before).or_default().insert(id);
            }
        }
        let mut waits_for = vec![0_usize; self.messages.len()];
        for to in next.values().flatten() {
            waits_for[*to] += 1;
        }
        let mut ready: Vec<MessageId> = (0..waits_for.len()).filter(|id| waits_for[*id] == 0).collect();
        let mut sorted = 0;
        while let Some(id) = ready.pop() {
            sorted += 1;
            for to in next.get(&id).into_iter().flatten() {
                waits_for[*to] -= 1;
                if waits_for[*to] == 0 {
                    ready.push(*to);
                }
            }
        }
        if sorted < waits_for.len() {
            let stuck: Vec<_> = (0..waits_for.len()).filter(|id| waits_for[*id] > 0).take(8).collect();
            faults.push(format!("no order fits what was heard, among others of messages {stuck:?}"));
        }
    }

    /// How many messages somebody was left out of, between two that it heard.
    pub(super) fn left_out(&self) -> usize {
        let silent = self.sessions.iter().filter(|session| session.silent);
        silent
            .map(|session| session.unbroken().map(|pair| self.left_out_between(session, pair)).sum::<usize>())
            .sum()
    }

    fn left_out_between(&self, session: &Session, [one, two]: [MessageId; 2]) -> usize {
        let (Some(first), Some(second)) = (self.messages[one].place, self.messages[two].place) else {
            return 0;
        };
        let lacking = (first.1 + 1..second.1).filter(|offset| self.may_lack(session, (first.0, *offset)));
        if first.0 == second.0 { lacking.count() } else { 0 }
    }
}

impl Session {
    /// Whether it is told of all that it does not get: it is shown places, as those are who are.
    fn is_told(&self) -> bool {
        !self.silent && self.last_place.is_some()
    }

    /// What it heard one after the other, without a break that it was told of.
    fn unbroken(&self) -> impl Iterator<Item = [MessageId; 2]> {
        let pairs = self.heard.windows(2).enumerate();
        pairs.filter(|(at, _)| !self.breaks.contains_key(&(at + 1))).map(|(_, pair)| [pair[0], pair[1]])
    }
}
