//! The driver is a judge too: whoever breaks its contract is told so, with the seed.

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use moongate_io::{Bytes, Chain, ConnId, Driver, Event, ListenerId, Segment};
use moongate_sim::driver::{DriverPlan, SimDriver};
use moongate_sim::net::{Due, Net};
use moongate_sim::rng::Rng;

const SEED: u64 = 77;

/// A driver with one connection.
fn connected() -> (SimDriver, ConnId) {
    let net = Rc::new(RefCell::new(Net::new(1, Duration::from_secs(5), Rng::new(SEED))));
    let plan = DriverPlan { slots: 4, buffers: 2, buffer_size: 8, short_sends: 0, split_reads: 0, late: 0 };
    let mut driver = SimDriver::new(SEED, 0, plan, Rc::clone(&net), Arc::default(), Rng::new(SEED));
    driver.listen(ListenerId(0));
    let wire = net.borrow_mut().connect(0, 100, (0, 0));
    assert_eq!(net.borrow_mut().pop_due(), Some(Due::Arrival(wire)));
    net.borrow_mut().arrive(wire);
    match wait(&mut driver).as_slice() {
        [Event::Accepted { conn, .. }] => (driver, *conn),
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
    check("names 0.0, which is closed", |driver, conn| {
        driver.close(conn);
        assert!(matches!(wait(driver).as_slice(), [Event::Closed { .. }]));
        driver.pause(conn);
    });
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
