//! Whether the process is alive, and whether it is to be sent traffic.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State as Shared;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use moongate_wire::refusal::Reason;
use serde::Serialize;

use crate::Driver;
use crate::clerk::Request;
use crate::problem::{Cause, Problem};
use crate::rounds::{Census, SnapshotRequest};
use crate::state::State;

/// How long it counts that all shards have answered: health may be asked for without a token, and must not be a way
/// to keep shards busy.
const ANSWERED_AGE_MAX: Duration = Duration::from_millis(500);

#[derive(Serialize)]
struct Health<'a> {
    status: &'a str,
    driver: &'a str,
    reason: &'a str,
}

/// The process is up, and what drives it. Asks nobody, so that a slow shard is no reason to kill it.
pub(crate) async fn healthz(Shared(state): Shared<Arc<State>>) -> Response {
    let Driver { name: driver, reason } = &state.config.driver;
    let health = Health { status: "ok", driver, reason };
    json(serde_json::to_string(&health).expect("text is always JSON") + "\n")
}

/// 200 while new connections are welcome: not draining, and every shard answers.
pub(crate) async fn readyz(Shared(state): Shared<Arc<State>>) -> Result<Response, Problem> {
    if state.is_draining() {
        return Err(Reason::Draining.into());
    }
    let census =
        state.ask(|reply| Request::Snapshots(SnapshotRequest { age_max: ANSWERED_AGE_MAX, reply })).await?;
    match silent(&census) {
        None => Ok(json(format!("{{\"status\":\"ready\",\"shards\":{}}}\n", census.len()))),
        Some(shards) => Err(silence(&shards)),
    }
}

/// Shards that did not answer, as a person reads them.
fn silent(census: &Census) -> Option<String> {
    let silent = census.iter().enumerate().filter(|(_, snapshot)| snapshot.is_none());
    let silent: Vec<String> = silent.map(|(shard, _)| shard.to_string()).collect();
    (!silent.is_empty()).then(|| silent.join(", "))
}

/// The refusal that names the shards which did not answer.
pub(crate) fn silence(shards: &str) -> Problem {
    Problem::Own(Cause::ShardsSilent, format!("These shards did not answer in time: {shards}.").into())
}

/// 200 with a JSON body that is not to be kept.
pub(crate) fn json(body: String) -> Response {
    ([(CONTENT_TYPE, "application/json"), (CACHE_CONTROL, "no-store")], body).into_response()
}
