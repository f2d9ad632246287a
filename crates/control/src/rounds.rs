//! Questions to all shards at once: what they counted, and which topics there are.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use moongate_hub::{Snapshot, TopicInfo, TopicsPage};
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::roll::Roll;

/// What each shard counted; none of one that did not answer in time.
pub(crate) type Census = Arc<[Option<Snapshot>]>;

/// Asks for what all shards counted.
pub(crate) struct SnapshotRequest {
    /// How old the answer may be.
    pub(crate) age_max: Duration,
    pub(crate) reply: oneshot::Sender<Census>,
}

/// The shards' snapshots. Whoever asks while a round is under way shares its answer, so that shards are asked at most
/// once at a time however many ask here.
pub(crate) struct Snapshots {
    roll: Roll,
    timeout: Duration,
    deadline: Option<Instant>,
    gathered: Vec<Option<Snapshot>>,
    waiters: Vec<oneshot::Sender<Census>>,
    /// The last complete answer, and since when it is known.
    last: Option<(Instant, Census)>,
}

impl Snapshots {
    pub(crate) fn new(shards: usize, timeout: Duration) -> Snapshots {
        Snapshots {
            roll: Roll::new(shards),
            timeout,
            deadline: None,
            gathered: vec![None; shards],
            waiters: Vec::new(),
            last: None,
        }
    }

    pub(crate) fn take(&mut self, request: SnapshotRequest) {
        if let Some((since, census)) = &self.last
            && since.elapsed() < request.age_max
        {
            // A handler that has gone needs no answer; so everywhere here.
            let _ = request.reply.send(Arc::clone(census));
            return;
        }
        self.waiters.push(request.reply);
        if self.deadline.is_none() {
            self.deadline = Some(Instant::now() + self.timeout);
            self.roll.begin();
        }
    }

    /// When the round under way ends, complete or not.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// Whether `shard` is to be asked now.
    pub(crate) fn wants(&self, shard: usize) -> bool {
        self.roll.to_ask(shard).is_some()
    }

    pub(crate) fn asked(&mut self, shard: usize) {
        self.roll.asked(shard);
    }

    pub(crate) fn answered(&mut self, shard: usize, snapshot: Snapshot) {
        if !self.roll.answered(shard, None) {
            return;
        }
        self.gathered[shard] = Some(snapshot);
        if self.roll.is_complete() {
            let census = self.finish();
            self.last = Some((Instant::now(), census));
        }
    }

    pub(crate) fn expire(&mut self, now: Instant) {
        if self.deadline.is_some_and(|deadline| deadline <= now) {
            self.finish();
        }
    }

    fn finish(&mut self) -> Census {
        self.roll.end();
        self.deadline = None;
        let census: Census = self.gathered.iter_mut().map(Option::take).collect();
        for waiter in self.waiters.drain(..) {
            let _ = waiter.send(Arc::clone(&census));
        }
        census
    }
}

/// Which part of the list of topics.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Page {
    /// Only names after this one, bytewise.
    pub(crate) after: Option<String>,
    /// At most so many.
    pub(crate) limit: usize,
}

/// Asks for a part of the list of topics.
pub(crate) struct ListRequest {
    pub(crate) page: Page,
    pub(crate) reply: oneshot::Sender<Result<Listing, Unlisted>>,
}

/// Why there is no list.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Unlisted {
    /// Too many lists wait already.
    Busy,
    /// These shards did not answer in time.
    Silent(String),
}

/// A part of the list of topics, sorted by name.
#[derive(PartialEq, Eq, Debug, Default)]
pub(crate) struct Listing {
    pub(crate) topics: BTreeMap<Box<str>, Seen>,
    /// Whether there are topics after the last of these.
    pub(crate) more: bool,
}

/// What all shards together know of a topic.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Seen {
    pub(crate) subscribers: u64,
    /// Epoch and last offset; none if its home has not listed it.
    pub(crate) home: Option<(u64, u64)>,
}

impl Listing {
    /// Adds what one shard knows of a topic. A name that falls out for being too far back can never come in again,
    /// because the last of the names kept only moves forward; so the sums of those kept are whole.
    fn add(&mut self, info: &TopicInfo, page: &Page) {
        let name = info.name.as_str();
        if page.after.as_deref().is_some_and(|after| name <= after) {
            return;
        }
        if !self.topics.contains_key(name) {
            self.topics.insert(name.into(), Seen::default());
            if self.topics.len() > page.limit {
                self.topics.pop_last();
                self.more = true;
            }
        }
        if let Some(seen) = self.topics.get_mut(name) {
            seen.subscribers += info.subscribers;
            seen.home = seen.home.or(info.home);
        }
    }
}

/// Lists of topics, one at a time, because shards answer without saying whom.
pub(crate) struct Lists {
    roll: Roll,
    timeout: Duration,
    waiting_max: usize,
    current: Option<Current>,
    waiting: VecDeque<(Instant, ListRequest)>,
}

struct Current {
    deadline: Instant,
    request: ListRequest,
    listing: Listing,
}

impl Lists {
    pub(crate) fn new(shards: usize, timeout: Duration, waiting_max: usize) -> Lists {
        Lists { roll: Roll::new(shards), timeout, waiting_max, current: None, waiting: VecDeque::new() }
    }

    pub(crate) fn take(&mut self, request: ListRequest) {
        if self.waiting.len() >= self.waiting_max {
            let _ = request.reply.send(Err(Unlisted::Busy));
            return;
        }
        self.waiting.push_back((Instant::now() + self.timeout, request));
        self.begin();
    }

    /// Begins the next list, if none is under way.
    fn begin(&mut self) {
        if self.current.is_none()
            && let Some((deadline, request)) = self.waiting.pop_front()
        {
            self.roll.begin();
            self.current = Some(Current { deadline, request, listing: Listing::default() });
        }
    }

    /// When the list under way ends, complete or not.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.current.as_ref().map(|current| current.deadline)
    }

    /// From which cursor on `shard` is to be asked now.
    pub(crate) fn wants(&self, shard: usize) -> Option<u64> {
        self.roll.to_ask(shard)
    }

    pub(crate) fn asked(&mut self, shard: usize) {
        self.roll.asked(shard);
    }

    pub(crate) fn answered(&mut self, shard: usize, part: TopicsPage) {
        if !self.roll.answered(shard, part.next) {
            return;
        }
        if let Some(current) = &mut self.current {
            for info in &part.topics {
                current.listing.add(info, &current.request.page);
            }
        }
        if self.roll.is_complete()
            && let Some(Current { request, listing, .. }) = self.current.take()
        {
            let _ = request.reply.send(Ok(listing));
            self.begin();
        }
    }

    /// Ends lists that are overdue, or that nobody waits for any more.
    pub(crate) fn expire(&mut self, now: Instant) {
        while let Some(current) = &self.current
            && (current.deadline <= now || current.request.reply.is_closed())
        {
            let silent = Unlisted::Silent(self.roll.silent());
            self.roll.end();
            if let Some(current) = self.current.take() {
                let _ = current.request.reply.send(Err(silent));
            }
            self.begin();
        }
    }
}

#[cfg(test)]
mod tests {
    use moongate_hub::HashKey;

    use super::*;

    fn info(name: &str, subscribers: u64, home: Option<(u64, u64)>) -> TopicInfo {
        TopicInfo { name: HashKey::new([3; 16]).name(name), subscribers, home }
    }

    #[test]
    fn shards_lists_are_merged_sorted_and_bounded() {
        type Row<'a> = (&'a str, u64, Option<(u64, u64)>);
        let check = |after: Option<&str>, limit, expect: &[Row<'_>], more| {
            let page = Page { after: after.map(str::to_owned), limit };
            let mut listing = Listing::default();
            for info in [
                info("m", 2, None),
                info("z", 1, Some((9, 1))),
                info("a", 0, Some((7, 4))),
                info("m", 0, Some((8, 0))),
                info("a", 3, None),
                info("B", 1, Some((6, 2))),
                info("z", 5, None),
            ] {
                listing.add(&info, &page);
            }
            let got: Vec<_> =
                listing.topics.iter().map(|(name, seen)| (&**name, seen.subscribers, seen.home)).collect();
            assert_eq!((got.as_slice(), listing.more), (expect, more), "after {after:?}, limit {limit}");
        };
        let (big, a, m, z) =
            (("B", 1, Some((6, 2))), ("a", 3, Some((7, 4))), ("m", 2, Some((8, 0))), ("z", 6, Some((9, 1))));
        check(None, 10, &[big, a, m, z], false);
        check(None, 4, &[big, a, m, z], false);
        check(None, 2, &[big, a], true);
        check(Some("a"), 1, &[m], true);
        check(Some("a"), 2, &[m, z], false);
        check(Some("z"), 2, &[], false);
    }

    #[tokio::test]
    async fn those_who_ask_meanwhile_share_one_answer() {
        let mut snapshots = Snapshots::new(2, Duration::from_secs(1));
        let ask = |snapshots: &mut Snapshots, age_max| {
            let (reply, answer) = oneshot::channel();
            snapshots.take(SnapshotRequest { age_max, reply });
            answer
        };
        let first = ask(&mut snapshots, Duration::ZERO);
        snapshots.asked(0);
        snapshots.asked(1);
        snapshots.answered(1, Snapshot::default());
        let second = ask(&mut snapshots, Duration::ZERO);
        assert!(!snapshots.wants(0) && !snapshots.wants(1));
        snapshots.answered(0, Snapshot::default());
        let (first, second) = (first.await.unwrap(), second.await.unwrap());
        assert!(Arc::ptr_eq(&first, &second));
        assert!(first.iter().all(Option::is_some));

        let recent = ask(&mut snapshots, Duration::from_secs(60)).await.unwrap();
        assert!(Arc::ptr_eq(&first, &recent), "young enough");
        let _anew = ask(&mut snapshots, Duration::ZERO);
        assert!(snapshots.wants(0) && snapshots.wants(1));
    }

    #[tokio::test]
    async fn a_silent_shard_ends_a_round_late_and_not_complete() {
        let mut snapshots = Snapshots::new(2, Duration::from_secs(1));
        let (reply, answer) = oneshot::channel();
        snapshots.take(SnapshotRequest { age_max: Duration::ZERO, reply });
        snapshots.asked(0);
        snapshots.asked(1);
        snapshots.answered(0, Snapshot::default());
        snapshots.expire(Instant::now());
        assert!(snapshots.deadline().is_some());
        snapshots.expire(Instant::now() + Duration::from_secs(1));
        let census = answer.await.unwrap();
        assert_eq!([census[0].is_some(), census[1].is_some()], [true, false]);
        assert!(snapshots.deadline().is_none());
    }
}
