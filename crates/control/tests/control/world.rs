//! A control thread with real hubs behind it, each on a thread of its own, and a client that speaks plain HTTP.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use moongate_control::{Config, Control, ControlBell, Driver, Limits, Outcome};
use moongate_hub::{
    Bell, Command, Encode, Form, HashKey, HistoryLimits, Hub, Kind, Mesh, Message, OutboxLimits,
    OutboxPolicy, ShardPort, Snapshot, Start, Subscribed,
};
use moongate_io::{ConnId, Meter, Time};

/// How long a test waits for anything before it fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// What subscribers heard: kind and payload.
pub(crate) type Heard = Arc<Mutex<Vec<(Kind, Vec<u8>)>>>;

/// How the world behind the control thread is to be.
pub(crate) struct Plan {
    pub(crate) config: Config,
    pub(crate) shards: usize,
    pub(crate) lane_capacity: usize,
    /// Shards that never look at their lanes.
    pub(crate) deaf: Vec<usize>,
    /// Who listens to what: shard and topic.
    pub(crate) subscriptions: Vec<(usize, &'static str)>,
    pub(crate) topics_max: usize,
}

impl Default for Plan {
    fn default() -> Plan {
        let config = Config {
            token: None,
            origins: vec![],
            hosts: vec![],
            message_bytes_max: 1000,
            limits: Limits::default(),
            driver: Driver { name: "none", reason: "\"nothing\" to drive".into() },
        };
        Plan { config, shards: 2, lane_capacity: 64, deaf: vec![], subscriptions: vec![], topics_max: 1000 }
    }
}

pub(crate) struct World {
    pub(crate) address: SocketAddr,
    pub(crate) heard: Heard,
    pub(crate) control: JoinHandle<Outcome>,
    pub(crate) shards: Vec<JoinHandle<()>>,
    /// Whether the shards have no connections left, once they drain.
    pub(crate) empty: Arc<AtomicBool>,
    /// Whether the shards are busy with something else.
    pub(crate) stalled: Arc<AtomicBool>,
}

/// Starts everything. It ends with the process, or by a signal.
pub(crate) fn start(plan: Plan) -> World {
    let gongs: Vec<Arc<Gong>> = (0..plan.shards).map(|_| Arc::default()).collect();
    let bells = gongs.iter().map(|gong| Arc::clone(gong) as Arc<dyn Bell>).collect();
    let bell = ControlBell::new();
    let key = HashKey::new([5; 16]);
    let mesh = Mesh::new(bells, Arc::new(bell.clone()), plan.lane_capacity, key);
    let heard = Heard::default();
    let (empty, stalled) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicBool::new(false)));
    let mut shards = vec![];
    for (port, gong) in mesh.shards.into_iter().zip(gongs) {
        let shard = port.me();
        if plan.deaf.contains(&shard) {
            // Its ends of the lanes stay where they are, and nobody reads them.
            std::mem::forget(port);
            continue;
        }
        let topics: Vec<_> =
            plan.subscriptions.iter().filter(|(at, _)| *at == shard).map(|(_, topic)| *topic).collect();
        let shard = Shard {
            heard: Arc::clone(&heard),
            empty: Arc::clone(&empty),
            stalled: Arc::clone(&stalled),
            topics_max: plan.topics_max,
        };
        shards.push(thread::spawn(move || shard.live(port, &gong, &topics)));
    }
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let control = Control::new(plan.config, Some(listener), mesh.control, bell).unwrap();
    let control = thread::spawn(move || control.run());
    World { address, heard, control, shards, empty, stalled }
}

/// A shard without a ring: its hub, and a tick.
struct Shard {
    heard: Heard,
    empty: Arc<AtomicBool>,
    stalled: Arc<AtomicBool>,
    topics_max: usize,
}

impl Shard {
    fn live(self, port: ShardPort, gong: &Gong, topics: &[&str]) {
        let Shard { heard, empty, stalled, topics_max } = self;
        let outbox = OutboxLimits {
            outbox_bytes_max: 1 << 20,
            policy: OutboxPolicy::Cut,
            slow_reader_timeout: Duration::from_millis(200),
        };
        let config = moongate_hub::Config {
            topics_max,
            topic_linger: Duration::from_secs(60),
            history: HistoryLimits::OFF,
            outbox,
        };
        let mut hub = Hub::new(&config, Recorder(heard), port, Meter::default(), 77);
        let mut draining = false;
        for (slot, topic) in topics.iter().enumerate() {
            hub.outboxes.open(slot as u32);
            let name = hub.name(topic);
            let (Subscribed::Now(_) | Subscribed::Later(_)) =
                hub.subscribe(ConnId::new(slot as u32, 0), name, Form(0), Start::Now);
        }
        loop {
            while stalled.load(Ordering::Relaxed) {
                thread::sleep(Duration::from_millis(1));
            }
            hub.begin(Time::ZERO);
            while hub.exchange(16) {}
            hub.seal();
            while let Some(command) = hub.next_command() {
                match command {
                    Command::Snapshot => {
                        let mut snapshot = Snapshot::default();
                        hub.survey(&mut snapshot);
                        hub.report(snapshot);
                    }
                    Command::Drain => {
                        hub.announced(topics.len());
                        draining = true;
                    }
                    Command::Leave | Command::Upstreams(_) => {}
                    Command::Stop => return,
                }
            }
            if draining && empty.load(Ordering::Relaxed) {
                draining = false;
                hub.drained();
            }
            hub.finish();
            if hub.park() {
                gong.wait(Duration::from_millis(5));
                hub.unpark();
            }
        }
    }
}

/// Writes down what it is to encode, once per message and audience.
struct Recorder(Heard);

impl Encode for Recorder {
    fn encode(&mut self, _: Form, message: &Message<'_>, out: &mut Vec<u8>) {
        self.0.lock().unwrap().push((message.kind, message.payload.to_vec()));
        out.push(b'.');
    }
}

/// A bell that a thread without a ring can hear.
#[derive(Default)]
struct Gong {
    rung: Mutex<bool>,
    heard: Condvar,
}

impl Gong {
    fn wait(&self, patience: Duration) {
        let (mut rung, _) =
            self.heard.wait_timeout_while(self.rung.lock().unwrap(), patience, |rung| !*rung).unwrap();
        *rung = false;
    }
}

impl Bell for Gong {
    fn ring(&self) {
        *self.rung.lock().unwrap() = true;
        self.heard.notify_one();
    }
}

/// An HTTP answer, taken apart.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Answer {
    /// The value of a field, if it is there once.
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        let mut values = self.head.lines().skip(1).filter_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then_some(value.trim())
        });
        values.next().filter(|_| values.next().is_none())
    }

    /// The body as JSON.
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The name of the problem that the body describes, after checking its shape.
    pub(crate) fn problem(&self) -> String {
        assert_eq!(self.field("content-type"), Some("application/problem+json"), "{self:?}");
        let problem = self.json();
        assert_eq!(problem["status"], self.status, "{self:?}");
        for member in ["title", "detail", "hint"] {
            assert!(problem[member].as_str().is_some_and(|text| !text.is_empty()), "{member}: {self:?}");
        }
        let kind = problem["type"].as_str().and_then(|kind| kind.strip_prefix("urn:moongate:problem:"));
        kind.unwrap_or_else(|| panic!("{self:?}")).to_owned()
    }
}

impl World {
    /// A connection that is patient.
    pub(crate) fn connect(&self) -> TcpStream {
        connect(self.address)
    }

    /// Sends bytes on a connection of their own and reads the answer.
    pub(crate) fn send(&self, request: &[u8]) -> Answer {
        let mut stream = self.connect();
        stream.write_all(request).unwrap();
        read(&mut stream)
    }

    /// A `GET` from this machine.
    pub(crate) fn get(&self, target: &str) -> Answer {
        get(self.address, target)
    }

    /// A `POST` from this machine; `fields` are whole lines.
    pub(crate) fn post(&self, target: &str, fields: &str, body: &[u8]) -> Answer {
        self.send(&post(target, fields, body))
    }
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// A `GET` from this machine.
pub(crate) fn get(address: SocketAddr, target: &str) -> Answer {
    let mut stream = connect(address);
    let request = format!("GET {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    read(&mut stream)
}

/// A whole `POST` from this machine; `fields` are whole lines.
pub(crate) fn post(target: &str, fields: &str, body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let head = format!(
        "POST {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{fields}Content-Length: {length}\r\n\r\n"
    );
    [head.as_bytes(), body].concat()
}

/// Reads one answer that says its length.
pub(crate) fn read(stream: &mut TcpStream) -> Answer {
    let mut bytes = vec![];
    let end = loop {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break end + 4;
        }
        assert_eq!(take(stream, &mut bytes), 1, "cut short: {}", String::from_utf8_lossy(&bytes));
    };
    let head = String::from_utf8(bytes).unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let mut answer = Answer { status, head, body: String::new() };
    let length = answer.field("content-length").map_or(0, |length| length.parse().unwrap());
    let mut body = vec![];
    while body.len() < length {
        assert_eq!(take(stream, &mut body), 1, "cut short: {answer:?}");
    }
    assert_eq!(answer.head.len(), end);
    answer.body = String::from_utf8(body).unwrap();
    if length > 0 {
        assert_eq!(answer.field("x-content-type-options"), Some("nosniff"), "{answer:?}");
    }
    answer
}

fn take(stream: &mut TcpStream, bytes: &mut Vec<u8>) -> usize {
    let mut byte = [0];
    let count = stream.read(&mut byte).expect("the answer comes in time");
    bytes.extend_from_slice(&byte[..count]);
    count
}
