//! What all handlers share: the settings, the way to the clerk, and what is counted.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use moongate_wire::refusal::Reason;
use tokio::sync::{Notify, Semaphore, mpsc, oneshot};

use crate::clerk::Request;
use crate::problem::Problem;
use crate::tally::Tally;
use crate::{Config, Limits};

/// Shared by the whole thread.
pub(crate) struct State {
    pub(crate) config: Config,
    pub(crate) shards: usize,
    pub(crate) started: Instant,
    pub(crate) tally: Tally,
    /// As many permits as bytes may be held by messages that are being published.
    pub(crate) publish_bytes: Arc<Semaphore>,
    /// As many permits as connections may be open.
    pub(crate) connections: Arc<Semaphore>,
    /// Told when the clerk is to begin the drain.
    pub(crate) drain: Notify,
    draining: AtomicBool,
    requests: mpsc::Sender<Request>,
}

impl State {
    /// The shared state, and the clerk's end of its queue.
    pub(crate) fn new(config: Config, shards: usize) -> (State, mpsc::Receiver<Request>) {
        let limits = config.limits;
        let (requests, queue) = mpsc::channel(limits.requests_max.max(1));
        let publish_bytes = limits.publish_bytes_max.max(config.message_bytes_max);
        let state = State {
            shards,
            started: Instant::now(),
            tally: Tally::default(),
            publish_bytes: Arc::new(Semaphore::new(publish_bytes.min(u32::MAX as usize))),
            connections: Arc::new(Semaphore::new(limits.connections_max.max(1))),
            drain: Notify::new(),
            draining: AtomicBool::new(false),
            requests,
            config,
        };
        (state, queue)
    }

    pub(crate) fn limits(&self) -> &Limits {
        &self.config.limits
    }

    /// Readiness goes false, and the clerk begins the drain. False if that has already happened.
    pub(crate) fn begin_drain(&self) -> bool {
        let first = !self.draining.swap(true, Ordering::Relaxed);
        if first {
            self.drain.notify_one();
        }
        first
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// Hands the clerk a request and waits for its reply. The clerk always replies, unless it has ended.
    pub(crate) async fn ask<T>(
        &self,
        request: impl FnOnce(oneshot::Sender<T>) -> Request,
    ) -> Result<T, Problem> {
        let (reply, answer) = oneshot::channel();
        match self.requests.try_send(request(reply)) {
            Ok(()) => answer.await.map_err(|_| Reason::Draining.into()),
            Err(mpsc::error::TrySendError::Full(_)) => Err(Reason::Busy.into()),
            Err(mpsc::error::TrySendError::Closed(_)) => Err(Reason::Draining.into()),
        }
    }

    /// Hands the clerk something that has no reply, waiting for room. False if it has ended.
    pub(crate) async fn tell(&self, request: Request) -> bool {
        self.requests.send(request).await.is_ok()
    }

    /// Requests that the clerk has not taken yet.
    pub(crate) fn queue_depth(&self) -> usize {
        self.requests.max_capacity() - self.requests.capacity()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::rounds::SnapshotRequest;

    fn state(requests_max: usize) -> (State, mpsc::Receiver<Request>) {
        let limits = Limits { requests_max, ..Limits::default() };
        let driver = crate::Driver { name: "none", reason: String::new() };
        let (token, origins, hosts) = (None, vec![], vec![]);
        State::new(Config { token, origins, hosts, message_bytes_max: 1, limits, driver }, 1)
    }

    fn anything(reply: oneshot::Sender<crate::rounds::Census>) -> Request {
        Request::Snapshots(SnapshotRequest { age_max: Duration::ZERO, reply })
    }

    #[tokio::test]
    async fn a_full_queue_refuses_at_once() {
        let (state, mut queue) = state(1);
        let mut first = Box::pin(state.ask(anything));
        tokio::select! {
            biased;
            _ = &mut first => panic!("nobody has replied"),
            () = std::future::ready(()) => {}
        }
        assert_eq!(state.queue_depth(), 1);
        assert_eq!(state.ask(anything).await.unwrap_err().label(), "busy");
        let Ok(Request::Snapshots(request)) = queue.try_recv() else { panic!("the first is there") };
        let _ = request.reply.send(Arc::new([None]));
        assert_eq!(first.await.unwrap().len(), 1);
    }

    #[tokio::test]
    async fn without_a_clerk_the_process_is_ending() {
        let (state, mut queue) = state(4);
        let mut first = Box::pin(state.ask(anything));
        tokio::select! {
            biased;
            _ = &mut first => panic!("nobody has replied"),
            () = std::future::ready(()) => {}
        }
        drop(queue.try_recv());
        assert_eq!(first.await.unwrap_err().label(), "draining");
        drop(queue);
        assert_eq!(state.ask(anything).await.unwrap_err().label(), "draining");
    }
}
