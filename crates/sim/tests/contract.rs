//! The driver is a judge too: whoever breaks its contract is told so, with the seed.

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use moongate_io::{
    Bytes, Chain, ConnId, ConnectFault, Driver, Event, Inbound, ListenerId, Remote, Segment, Ticket,
};
use moongate_sim::driver::{DriverPlan, SimDriver};
use moongate_sim::net::{Due, Endpoint, Manner, Net};
use moongate_sim::rng::Rng;

const SEED: u64 = 77;

/// A driver with one connection.
fn connected() -> (SimDriver, ConnId) {
    let (_, driver, conn) = world();
    (driver, conn)
}

fn world() -> (Rc<RefCell<Net>>, SimDriver, ConnId) {
    let net = Rc::new(RefCell::new(Net::new(1, Duration::from_secs(5), Rng::new(SEED))));
    let plan = DriverPlan { slots: 4, buffers: 2, buffer_size: 8, short_sends: 0, split_reads: 0, late: 0 };
    let mut driver = SimDriver::new(SEED, 0, plan, Rc::clone(&net), Arc::default(), Rng::new(SEED));
    driver.listen(ListenerId(0));
    let wire = net.borrow_mut().connect(0, 100, (0, 0));
    assert_eq!(net.borrow_mut().pop_due(), Some(Due::Arrival(wire)));
    net.borrow_mut().arrive(wire);
    match wait(&mut driver).as_slice() {
        [Event::Accepted { conn, .. }] => (net, driver, *conn),
        other => panic!("expected an accept: {other:?}"),
    }
}

fn wait(driver: &mut SimDriver) -> Vec<Event> {
    let mut events = Vec::new();
    driver.wait(Some(Duration::ZERO), 100, &mut events);
    events
}

fn chain(text: &'static str) -> Chain {
    Chain::One(Segment::whole(Bytes::fixed(text.as_bytes())))
}

fn check(expect: &str, breach: impl FnOnce(&mut SimDriver, ConnId)) {
    let (mut driver, conn) = connected();
    let panic = catch_unwind(AssertUnwindSafe(|| breach(&mut driver, conn))).expect_err(expect);
    let text = panic.downcast_ref::<String>().cloned().unwrap_or_default();
    assert!(text.starts_with("seed 77: ") && text.contains(expect), "{expect}: {text}");
}

#[test]
fn every_breach_is_told() {
    check("a second send in flight", |driver, conn| {
        driver.send(conn, chain("a"));
        driver.send(conn, chain("b"));
    });
    check("an empty chain", |driver, conn| driver.send(conn, chain("")));
    check("a send after close", |driver, conn| {
        driver.close(conn);
        driver.send(conn, chain("a"));
    });
    check("a send after shutdown_write", |driver, conn| {
        driver.shutdown_write(conn);
        driver.send(conn, chain("a"));
    });
    check("Ticket(3) names two attempts", |driver, _| {
        let remote = Remote::Unix("/run/app".into());
        driver.connect(Ticket(3), &remote);
        driver.connect(Ticket(3), &remote);
    });
    check("names 0.0, which is closed", |driver, conn| {
        driver.close(conn);
        assert!(matches!(wait(driver).as_slice(), [Event::Closed { .. }]));
        driver.pause(conn);
    });
}

/// What comes of connecting to somewhere of this manner, and when.
fn connect(manner: Manner, cancel: bool) -> (Result<ConnId, ConnectFault>, usize, Duration) {
    let net = Rc::new(RefCell::new(Net::new(1, Duration::from_secs(5), Rng::new(SEED))));
    let remote = Remote::Tcp("10.1.0.1:80".parse().expect("an address"));
    net.borrow_mut().serve(remote.clone(), Endpoint { manner, window: 100, delay: (3, 9) });
    let plan = DriverPlan { slots: 1, buffers: 2, buffer_size: 8, short_sends: 0, split_reads: 0, late: 50 };
    let mut driver = SimDriver::new(SEED, 0, plan, Rc::clone(&net), Arc::default(), Rng::new(SEED));
    driver.connect(Ticket(5), &remote);
    if cancel {
        driver.cancel_connect(Ticket(5));
    }
    let start = net.borrow().now;
    loop {
        let events = wait(&mut driver);
        let now = net.borrow().now;
        if let [Event::Connected { ticket, outcome }] = events[..] {
            assert_eq!(ticket, Ticket(5));
            assert!(wait(&mut driver).is_empty(), "an attempt is told of once");
            let calls = net.borrow_mut().take_calls().len();
            return (outcome, calls, now.since(start));
        }
        assert!(events.is_empty() && driver.check_home().is_err());
        let next = net.borrow().next_due().expect("something is due");
        net.borrow_mut().now = next;
        while net.borrow_mut().pop_due().is_some() {}
    }
}

#[test]
fn what_meets_who_connects() {
    let (outcome, calls, _) = connect(Manner::Accepts, false);
    assert!(outcome.is_ok() && calls == 1);
    assert_eq!(connect(Manner::Refuses, false).0, Err(ConnectFault::Refused));
    assert_eq!(connect(Manner::Missing, false).0, Err(ConnectFault::NotFound));
    let (outcome, calls, took) = connect(Manner::Silent, false);
    assert_eq!((outcome, calls), (Err(ConnectFault::TimedOut), 0));
    assert!(took > Duration::from_secs(100));
    for manner in [Manner::Accepts, Manner::Refuses, Manner::Silent] {
        let (outcome, _, took) = connect(manner, true);
        assert_eq!(outcome, Err(ConnectFault::Cancelled));
        assert!(took < Duration::from_secs(1));
    }
}

#[test]
fn kept_bytes_hold_their_buffer_until_they_go() {
    let (net, mut driver, conn) = world();
    driver.recv(conn);
    net.borrow_mut().say(0, b"kept");
    let (mut kept, mut tries) = (None, 0);
    while kept.is_none() {
        let next = net.borrow().next_due().unwrap_or(net.borrow().now);
        net.borrow_mut().now = next;
        let due = || net.borrow_mut().pop_due();
        while let Some(due) = due() {
            if due == Due::Up(0) {
                net.borrow_mut().land_up(0);
            }
        }
        for event in wait(&mut driver) {
            let Event::Received { inbound: Inbound::Bytes(lease), .. } = event else { panic!("{event:?}") };
            let mut lease = Some(lease);
            while let Some(next) = lease.take() {
                match driver.keep(next) {
                    Ok(bytes) => kept = Some(bytes),
                    Err(refused) => lease = Some(refused),
                }
                tries += 1;
                assert!(tries < 100, "it is kept some time");
            }
        }
    }
    assert_eq!(kept.as_ref().map(Bytes::as_slice), Some(&b"kept"[..]));
    assert_eq!(driver.counters().buffers_free, 1);
    drop(kept);
    wait(&mut driver);
    assert_eq!(driver.counters().buffers_free, 2);
}

#[test]
fn what_has_not_come_home_is_missed() {
    let (mut driver, conn) = connected();
    assert!(driver.check_home().is_err(), "a connection is open");
    driver.send(conn, chain("a"));
    driver.abort(conn);
    let events = wait(&mut driver);
    let events: Vec<_> = events.into_iter().chain(wait(&mut driver)).collect();
    assert!(matches!(events.as_slice(), [Event::Sent { .. }, Event::Closed { .. }]), "{events:?}");
    assert_eq!(driver.check_home(), Ok(()));
}
