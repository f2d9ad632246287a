//! The HTTP server: connections, bounded in number and time, and which handler answers what.
//!
//! No state of a connection is without an end. An idle one and one whose head drips in end after `head_timeout`, a
//! body after `body_timeout`, the wait for shards after their timeouts; and one whose client does not read ends with its
//! age, `connection_age_max` and as long as a request may take.

use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State as Shared};
use axum::http::HeaderValue;
use axum::http::header::X_CONTENT_TYPE_OPTIONS;
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
use axum::routing::{get, post};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use moongate_wire::refusal::{Reason, Refusal};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::time::{sleep, timeout};
use tracing::{debug, info, warn};

use crate::guard::guard;
use crate::problem::{Problem, Refused};
use crate::state::State;
use crate::throttle::Throttle;
use crate::{Config, Limits, health, metrics, topics};

/// How long accepting rests after an error, which is most often that too many files are open.
const ACCEPT_REST: Duration = Duration::from_millis(100);

/// How much of a refused request's path is logged, in bytes.
const LOGGED_PATH_BYTES_MAX: usize = 256;

/// The smallest bound on a head that hyper takes.
const HEAD_BYTES_MIN: usize = 8192;

/// A connection's two addresses.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Ends {
    pub(crate) local: SocketAddr,
    pub(crate) peer: SocketAddr,
}

/// Takes over a listener that the binary has bound. Must be called inside a runtime.
pub(crate) fn adopt(listener: std::net::TcpListener, config: &Config) -> io::Result<TcpListener> {
    let address = listener.local_addr()?;
    if !address.ip().to_canonical().is_loopback() && config.token.is_none() {
        let why = format!("{address} is not on loopback, so MOONGATE_CONTROL needs MOONGATE_CONTROL_TOKEN");
        return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
    }
    listener.set_nonblocking(true)?;
    TcpListener::from_std(listener)
}

/// The server at work.
pub(crate) struct Server {
    state: Arc<State>,
    end: watch::Sender<bool>,
}

impl Server {
    /// Starts to accept, in the background.
    pub(crate) fn start(listener: TcpListener, state: Arc<State>) -> Server {
        let (end, ended) = watch::channel(false);
        tokio::spawn(accept(listener, Arc::clone(&state), ended));
        Server { state, end }
    }

    /// Ends every connection after the answer in progress, and returns when the last has ended.
    pub(crate) async fn end(self) {
        let limits = self.state.limits();
        // Fails when nobody listens any more; then there is nothing to end.
        let _ = self.end.send(true);
        let all = u32::try_from(limits.connections_max.max(1)).unwrap_or(u32::MAX);
        let idle = self.state.connections.acquire_many(all);
        // Each has cut itself off by then; the timeout is there so that this does not depend on it.
        let _ = timeout(limits.close_timeout * 2, idle).await;
    }
}

async fn accept(listener: TcpListener, state: Arc<State>, mut ended: watch::Receiver<bool>) {
    let service = TowerToHyperService::new(routes(&state));
    let mut failing = false;
    loop {
        let next = async {
            let connection = listener.accept().await?;
            // One that is one too many waits here, and those after it in the kernel's backlog.
            let permit = Arc::clone(&state.connections).acquire_owned().await.map_err(io::Error::other)?;
            Ok::<_, io::Error>((connection, permit))
        };
        let next = tokio::select! {
            next = next => next,
            _ = ended.wait_for(|ended| *ended) => return,
        };
        match next {
            Ok(((stream, peer), permit)) => {
                if std::mem::take(&mut failing) {
                    info!("accepting on the control listener again");
                }
                tokio::spawn(serve(stream, peer, service.clone(), Arc::clone(&state), ended.clone(), permit));
            }
            Err(error) => {
                // Until it works again once is enough: it is tried ten times a second.
                if !std::mem::replace(&mut failing, true) {
                    let hint =
                        "if files are short, raise the limit (ulimit -n) or lower MOONGATE_CONNECTIONS_MAX";
                    warn!(%error, hint, "accepting on the control listener");
                }
                sleep(ACCEPT_REST).await;
            }
        }
    }
}

async fn serve(
    stream: TcpStream,
    peer: SocketAddr,
    service: TowerToHyperService<Router>,
    state: Arc<State>,
    mut ended: watch::Receiver<bool>,
    _permit: OwnedSemaphorePermit,
) {
    // It fails when the peer has gone already.
    let Ok(local) = stream.local_addr() else { return };
    // Answers are written whole, so there is nothing to wait for. Failing costs latency only.
    let _ = stream.set_nodelay(true);
    let ends = Ends { local, peer };
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(ends);
        service.call(request)
    });
    let limits = state.limits();
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head_timeout)
        .max_buf_size(limits.head_bytes_max.max(HEAD_BYTES_MIN))
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    let outcome = tokio::select! {
        outcome = &mut connection => outcome,
        grace = time_to_end(&mut ended, limits) => {
            connection.as_mut().graceful_shutdown();
            timeout(grace, connection).await.unwrap_or(Ok(()))
        }
    };
    if let Err(error) = outcome {
        debug!(%peer, %error, "control connection");
    }
}

/// Waits until a connection is to end; returns how long the request in progress may still take.
async fn time_to_end(ended: &mut watch::Receiver<bool>, limits: &Limits) -> Duration {
    match timeout(limits.connection_age_max, ended.wait_for(|ended| *ended)).await {
        // An error means that the server has gone, which is an end too.
        Ok(_) => limits.close_timeout,
        Err(_) => limits.body_timeout + limits.publish_timeout.max(limits.list_timeout),
    }
}

/// What is answered where.
fn routes(state: &Arc<State>) -> Router {
    Router::new()
        .route("/healthz", get(health::healthz))
        .route("/readyz", get(health::readyz))
        .route("/metrics", get(metrics::metrics))
        .route("/topics", get(topics::list))
        .route("/topics/", post(topics::publish))
        .route("/topics/{*name}", post(topics::publish))
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(from_fn_with_state(Arc::clone(state), guard))
        .layer(from_fn_with_state((Arc::clone(state), Arc::new(Throttle::default())), record))
        .with_state(Arc::clone(state))
}

async fn not_found() -> Problem {
    let hint = "The control listener has /topics, /topics/<name> (POST), /metrics, /healthz and /readyz. \
                WebSockets and event streams are on the addresses of MOONGATE_LISTEN.";
    Refusal::new(Reason::NotFound).hint(hint).into()
}

async fn method_not_allowed() -> Problem {
    let hint = "Here POST publishes on /topics/<name> and GET reads everything else. To listen to a topic, open \
                it on an address of MOONGATE_LISTEN.";
    Refusal::new(Reason::MethodNotAllowed).hint(hint).into()
}

/// Sees every answer: keeps browsers from taking it for a script, and counts and logs it if it is a refusal.
async fn record(
    Shared((state, throttle)): Shared<(Arc<State>, Arc<Throttle>)>,
    request: Request,
    next: Next,
) -> Response {
    let peer = request.extensions().get::<Ends>().map(|ends| ends.peer);
    let method = request.method().clone();
    let uri = request.uri().clone();
    let mut response = next.run(request).await;
    response.headers_mut().insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if let Some(Refused(reason)) = response.extensions().get::<Refused>() {
        state.tally.refusals.add(reason);
        if let Some(suppressed) = throttle.pass() {
            let status = response.status().as_u16();
            // The path alone, and not all of a long one: a query may carry what does not belong into a log.
            let path = &uri.path()[..uri.path().floor_char_boundary(LOGGED_PATH_BYTES_MAX)];
            let peer = peer.map(tracing::field::display);
            warn!(peer, %method, path, status, reason, suppressed, "refused");
        }
    }
    response
}
