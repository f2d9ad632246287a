//! From settings to a gateway that is ready, and on to its end.
//!
//! The order matters: whatever can fail for a reason that a person can put right fails before the first connection is
//! accepted, with that reason; and the ready line comes only when every shard accepts and the control listener listens.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::Duration;

use moongate_control::{Control, ControlBell, Outcome};
use moongate_gate::Shard;
use moongate_hub::{Bell, HashKey, Mesh, ShardPort};
use moongate_io::Driver;
use moongate_sys::{
    BindError, Choice, DriverKind, Epoll, EventBell, Listener, NoDriver, SetupError, TokioUring, Uring,
    choose, machine,
};
use tracing::{error, info, warn};

use crate::log;
use crate::plan::{Limit, Machine, Plan};
use crate::rooms;
use crate::settings::{Anonymous, Loaded, Settings};

/// How long a shard that was told to stop may take to leave its loop. It has no connections left by then.
const STOP_TIMEOUT: Duration = Duration::from_secs(2);

/// Why the gateway could not start, and what to do about it.
#[derive(Debug)]
pub(crate) struct Failure(String);

impl fmt::Display for Failure {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

/// Says what a failure was about.
fn failed<E: fmt::Display>(doing: &str) -> impl Fn(E) -> Failure {
    move |error| Failure(format!("{doing}: {error}"))
}

/// Runs the gateway until it is told to stop.
pub(crate) fn run(loaded: &Loaded) -> ExitCode {
    log::start(&loaded.settings);
    die_with_any_thread();
    match serve(loaded) {
        Ok(Outcome::Drained) => ExitCode::SUCCESS,
        Ok(cut) => std::process::exit(cut.exit_code()),
        Err(failure) => {
            error!(target: log::ALWAYS, "cannot start: {failure}");
            ExitCode::FAILURE
        }
    }
}

/// A panic is one of our own invariants broken: the process ends at once and loudly, for a gateway that has lost a shard
/// looks alive and is not. The release profile aborts anyway; this holds for every other one.
fn die_with_any_thread() {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        report(panic);
        std::process::abort();
    }));
}

fn serve(loaded: &Loaded) -> Result<Outcome, Failure> {
    let settings = &loaded.settings;
    say_settings(loaded);
    let choice = choose(settings.driver).map_err(no_driver(settings))?;
    say_choice(&choice);
    if let Err(error) = machine::keep_pages_small() {
        tracing::warn!(%error, "huge pages stay on: an idle connection costs more memory than it need");
    }
    let (files_before, files_max) =
        machine::raise_open_files().map_err(failed("raising the limit of open files"))?;
    let machine = Machine::ask(files_max).map_err(failed("asking what the machine gives"))?;
    let plan =
        Plan::new(settings, &machine, choice.kind).map_err(|too_small| Failure(too_small.to_string()))?;
    info!(
        kernel = machine::kernel_release(),
        cpus = machine.cpus.len(),
        open_files = files_max,
        open_files_before = files_before,
        memory = machine.memory_bytes,
        "the machine gives"
    );
    say_plan(settings, &plan);

    let (addresses, listeners) = listen(settings, &plan)?;
    let control_listener = settings.control.map(listen_for_control).transpose()?;
    let control_address = match &control_listener {
        Some(listener) => listener.local_addr().map_err(failed("the control listener"))?.to_string(),
        None => "off".to_owned(),
    };

    let bells: Vec<EventBell> = (0..plan.shards())
        .map(|_| EventBell::new())
        .collect::<Result<_, _>>()
        .map_err(failed("making a bell"))?;
    let control_bell = ControlBell::new();
    let dyn_bells = bells.iter().map(|bell| Arc::new(bell.clone()) as Arc<dyn Bell>).collect();
    let key = HashKey::new(machine::random_key());
    let mesh = Mesh::new(dyn_bells, Arc::new(control_bell.clone()), plan.lane_entries, key);
    // From here on a signal waits until the gateway is ready, and then ends it properly.
    let mut control =
        Control::new(rooms::control(settings, &choice), control_listener, mesh.control, control_bell)
            .map_err(failed("the control thread"))?;

    let routes = Arc::new(settings.routes());
    let upstreams = control.watch(routes.names(), settings.upstream_refresh);
    let gate = rooms::gate(settings, &plan, &routes, upstreams);
    let stopped = start_shards(settings, &plan, choice.kind, &gate, mesh.shards, listeners, bells)?;
    let listen = addresses.iter().map(SocketAddr::to_string).collect::<Vec<_>>().join(",");
    info!(target: log::ALWAYS, %listen, control = %control_address, "ready");
    if routes.has_page() {
        info!("open http://{}/ in a browser", reachable(addresses[0]));
    }

    let outcome = control.run();
    if outcome == Outcome::Drained {
        wait_for_shards(&stopped, plan.shards());
        info!("stopped");
    }
    Ok(outcome)
}

/// What differs from the defaults, and what a person probably did not mean.
fn say_settings(loaded: &Loaded) {
    info!(version = env!("CARGO_PKG_VERSION"), "starting");
    for (name, text) in &loaded.differing {
        info!("not the default: {name}={text}");
    }
    for warning in &loaded.warnings {
        warn!("{warning}");
    }
}

/// What to do besides what the driver's own reason says.
fn no_driver(settings: &Settings) -> impl Fn(NoDriver) -> Failure {
    let advice = match settings.driver {
        Some(_) => "; or let MOONGATE_DRIVER=auto take another (`moongate drivers` shows which can run here)",
        None => "",
    };
    move |error| Failure(format!("MOONGATE_DRIVER: {error}{advice}"))
}

/// Which driver it is, why, and what would bring a better one.
fn say_choice(choice: &Choice) {
    for (kind, missing) in &choice.passed_over {
        warn!("the driver {kind} cannot run here: {missing}");
    }
    info!(driver = choice.kind.name(), reason = choice.reason, lacks = choice.kind.lacks(), "the driver");
}

fn say_plan(settings: &Settings, plan: &Plan) {
    info!(
        shards = plan.shards(),
        pinned = plan.is_pinned(),
        connections_max_per_shard = plan.connections_max,
        memory_bytes_max_per_shard = plan.memory_bytes_max,
        "dividing it"
    );
    info!(
        anonymous_may_publish = settings.anonymous() == Anonymous::Publish,
        on_loopback_only = settings.on_loopback_only(),
        "serving"
    );
    for line in settings.routes().describe() {
        info!("route: {line}");
    }
    for route in settings.routes_gone() {
        info!("not served any more, since MOONGATE_ROUTES is set and does not have it: {route}");
    }
    let Some(limit) = plan.lowered_by else { return };
    let advice = match limit {
        Limit::OpenFiles => {
            "raise the hard limit of open files (ulimit -Hn, LimitNOFILE= in systemd) or MOONGATE_SHARDS"
        }
        Limit::SharedFiles => {
            "raise the hard limit of open files (ulimit -Hn, LimitNOFILE= in systemd): with this driver every connection \
             is one, and all shards share it"
        }
        Limit::Ring => "that is the kernel's limit for one ring; raise MOONGATE_SHARDS",
    };
    let (wanted, possible) = (settings.connections_max, plan.connections_max as usize * plan.shards());
    warn!("MOONGATE_CONNECTIONS_MAX is {wanted}, but no more than {possible} are possible here: {advice}");
}

/// An address that leads to a listener on `address` from this machine, also if that is all of its addresses.
fn reachable(mut address: SocketAddr) -> SocketAddr {
    match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => address.set_ip(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(ip) if ip.is_unspecified() => address.set_ip(Ipv6Addr::LOCALHOST.into()),
        _ => {}
    }
    address
}

/// Listens on every address, with one socket for each shard: where, and for each shard its listeners.
fn listen(settings: &Settings, plan: &Plan) -> Result<(Vec<SocketAddr>, Vec<Vec<Listener>>), Failure> {
    let options = rooms::sockets(settings);
    let mut addresses = Vec::new();
    let mut by_shard: Vec<Vec<Listener>> = (0..plan.shards()).map(|_| Vec::new()).collect();
    for &wanted in &settings.listen {
        let (address, listeners) =
            moongate_sys::bind(wanted, plan.shards(), settings.listen_shared, &options)
                .map_err(|error| cannot_listen("MOONGATE_LISTEN", &error, kind_of(&error)))?;
        addresses.push(address);
        for (of_shard, listener) in by_shard.iter_mut().zip(listeners) {
            of_shard.push(listener);
        }
    }
    Ok((addresses, by_shard))
}

fn listen_for_control(address: SocketAddr) -> Result<TcpListener, Failure> {
    TcpListener::bind(address).map_err(|error| {
        cannot_listen("MOONGATE_CONTROL", &format!("{address}: {error}"), Some(error.kind()))
    })
}

fn cannot_listen(setting: &str, error: &dyn fmt::Display, kind: Option<io::ErrorKind>) -> Failure {
    let advice = match kind {
        Some(io::ErrorKind::AddrInUse) if setting == "MOONGATE_LISTEN" => {
            "; end that one, listen elsewhere, or if both shall share it set MOONGATE_LISTEN_SHARED=on for both"
        }
        Some(io::ErrorKind::AddrInUse) => "; end that one, or listen elsewhere",
        Some(io::ErrorKind::AddrNotAvailable) => {
            "; listen on an address of this machine, or on 0.0.0.0 or [::] for all"
        }
        Some(io::ErrorKind::PermissionDenied) => {
            "; listen on a port from 1024 on, or give the program the capability CAP_NET_BIND_SERVICE"
        }
        _ => "",
    };
    Failure(format!("{setting}: {error}{advice}"))
}

fn kind_of(error: &BindError) -> Option<io::ErrorKind> {
    let source = std::error::Error::source(error)?;
    source.downcast_ref::<io::Error>().map(io::Error::kind)
}

/// Starts a thread for each shard and waits until all of them accept. What it returns hears from each when it has left
/// its loop.
fn start_shards(
    settings: &Settings,
    plan: &Plan,
    driver: DriverKind,
    gate: &moongate_gate::Config,
    ports: Vec<ShardPort>,
    listeners: Vec<Vec<Listener>>,
    bells: Vec<EventBell>,
) -> Result<Receiver<()>, Failure> {
    let (built_by, built) = mpsc::channel();
    let (stopped_by, stopped) = mpsc::channel();
    for (number, ((port, listeners), bell)) in ports.into_iter().zip(listeners).zip(bells).enumerate() {
        let uring = rooms::uring(settings, plan, number);
        let tokio_uring = rooms::tokio_uring(settings, plan, number);
        let epoll = rooms::epoll(settings, plan, number);
        let config = gate.clone();
        let (built_by, stopped_by) = (built_by.clone(), stopped_by.clone());
        thread::Builder::new()
            .name(format!("shard-{number}"))
            .spawn(move || {
                // The table of settings allows far fewer.
                let count = u16::try_from(listeners.len()).unwrap_or(u16::MAX);
                let run = Run { listeners: count, config, port, built: built_by };
                match driver {
                    DriverKind::Uring => run.on(Uring::new(&uring, listeners, &bell)),
                    DriverKind::TokioUring => run.on(TokioUring::new(&tokio_uring, listeners, &bell)),
                    DriverKind::Epoll => run.on(Epoll::new(&epoll, listeners, &bell)),
                }
                // Whoever listened may have ended already; then nobody waits for this.
                let _ = stopped_by.send(());
            })
            .map_err(failed("starting a shard's thread"))?;
    }
    for _ in 0..plan.shards() {
        let outcome =
            built.recv().expect("every shard says how it fared: one that panics takes the process along");
        outcome.map_err(|error| Failure(error.to_string()))?;
    }
    Ok(stopped)
}

/// The life of a shard's thread.
struct Run {
    listeners: u16,
    config: moongate_gate::Config,
    port: ShardPort,
    built: Sender<Result<(), SetupError>>,
}

impl Run {
    /// Runs the shard on `driver`, which was built on this thread because it belongs to it.
    fn on<D: Driver>(self, driver: Result<D, SetupError>) {
        match driver {
            Ok(driver) => {
                let mut shard = Shard::new(driver, self.listeners, self.config, self.port);
                let _ = self.built.send(Ok(()));
                shard.run();
            }
            Err(error) => {
                let _ = self.built.send(Err(error));
            }
        }
    }
}

/// After a drain every shard is told to stop and has nothing left to do.
fn wait_for_shards(stopped: &Receiver<()>, shards: usize) {
    for _ in 0..shards {
        if stopped.recv_timeout(STOP_TIMEOUT).is_err() {
            warn!("a shard did not stop in time; ending without it");
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_that_cannot_be_says_what_to_do() {
        let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = taken.local_addr().expect("its address");
        let mut settings = Settings::defaults();
        settings.listen = vec![address];
        let machine = Machine { cpus: vec![0], parallelism: 1, files_max: 1024, memory_bytes: 1 << 30 };
        let plan = Plan::new(&settings, &machine, DriverKind::Uring).expect("enough files");

        let failure = listen(&settings, &plan).expect_err("somebody listens there").to_string();
        assert!(
            failure.starts_with("MOONGATE_LISTEN: ") && failure.contains(&address.to_string()),
            "{failure}"
        );
        assert!(failure.contains("MOONGATE_LISTEN_SHARED=on"), "{failure}");

        let failure = listen_for_control(address).expect_err("somebody listens there").to_string();
        assert!(failure.starts_with(&format!("MOONGATE_CONTROL: {address}: ")), "{failure}");
        assert!(failure.ends_with("; end that one, or listen elsewhere"), "{failure}");

        // TEST-NET-1 (RFC 5737) is nobody's.
        let elsewhere = listen_for_control("192.0.2.1:9".parse().expect("an address")).expect_err("not ours");
        assert!(elsewhere.to_string().contains("an address of this machine"), "{elsewhere}");
    }

    #[test]
    fn a_browser_is_sent_where_it_can_go() {
        let check = |listener: &str, expect: &str| {
            assert_eq!(reachable(listener.parse().expect("an address")).to_string(), expect);
        };
        check("127.0.0.1:8080", "127.0.0.1:8080");
        check("192.0.2.1:80", "192.0.2.1:80");
        check("0.0.0.0:8080", "127.0.0.1:8080");
        check("[::]:8080", "[::1]:8080");
    }

    #[test]
    fn every_shard_gets_a_socket_for_every_address() {
        let listen_on = ["127.0.0.1:0", "127.0.0.2:0"].map(|address| address.parse().expect("an address"));
        let mut settings = Settings::defaults();
        (settings.listen, settings.shards) = (listen_on.to_vec(), Some(3));
        let machine = Machine { cpus: vec![0], parallelism: 1, files_max: 1024, memory_bytes: 1 << 30 };
        let plan = Plan::new(&settings, &machine, DriverKind::Uring).expect("enough files");
        let (addresses, by_shard) = listen(&settings, &plan).expect("free ports");
        assert_eq!(addresses.len(), 2);
        assert!(addresses.iter().all(|address| address.port() != 0));
        for listeners in &by_shard {
            assert_eq!(listeners.iter().map(Listener::address).collect::<Vec<_>>(), addresses);
        }
        assert_eq!(by_shard.len(), 3);
    }
}
