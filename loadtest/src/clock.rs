//! Time: the monotonic clock, which all processes of one run share, and a timer that is exact to the microsecond.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use rustix::time::{
    ClockId, Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, clock_gettime,
    timerfd_create, timerfd_settime,
};

/// Nanoseconds of a second.
pub(crate) const SECOND: u64 = 1_000_000_000;

/// Nanoseconds of the monotonic clock, the same in every process.
pub(crate) fn now() -> u64 {
    nanos(clock_gettime(ClockId::Monotonic))
}

/// Nanoseconds that the calling thread has computed.
pub(crate) fn thread_cpu() -> u64 {
    nanos(clock_gettime(ClockId::ThreadCPUTime))
}

fn nanos(time: Timespec) -> u64 {
    time.tv_sec as u64 * SECOND + time.tv_nsec as u64
}

/// Wakes a poll at a given time. The poll's own timeout counts in milliseconds, which is too coarse for a send rate.
pub(crate) struct Timer {
    fd: OwnedFd,
    set: Option<u64>,
}

impl Timer {
    pub(crate) fn new() -> io::Result<Timer> {
        let fd = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC)?;
        Ok(Timer { fd, set: None })
    }

    pub(crate) fn raw(&self) -> RawFd {
        self.fd.as_raw_fd()
    }

    /// Goes off at `due`, even if that is past; never, if there is none.
    pub(crate) fn set(&mut self, due: Option<u64>) -> io::Result<()> {
        if due == self.set {
            return Ok(());
        }
        let zero = Timespec { tv_sec: 0, tv_nsec: 0 };
        // All zero would disarm it.
        let at = due.map_or(zero, |due| Timespec {
            tv_sec: (due / SECOND) as i64,
            tv_nsec: (due % SECOND).max(1) as i64,
        });
        timerfd_settime(
            &self.fd,
            TimerfdTimerFlags::ABSTIME,
            &Itimerspec { it_interval: zero, it_value: at },
        )?;
        self.set = due;
        Ok(())
    }
}
