//! Which driver: what there is, what can run here, and which it is to be.

use std::fmt;

use crate::epoll;
use crate::probe::{self, Missing};
use crate::tokio_uring;

/// A way of talking to the kernel.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum DriverKind {
    /// [`crate::Uring`].
    Uring,
    /// [`crate::TokioUring`].
    TokioUring,
    /// [`crate::Epoll`].
    Epoll,
}

impl DriverKind {
    /// All of them, the best first.
    pub const ALL: [DriverKind; 3] = [DriverKind::Uring, DriverKind::TokioUring, DriverKind::Epoll];

    /// What it is called.
    pub const fn name(self) -> &'static str {
        match self {
            DriverKind::Uring => "uring",
            DriverKind::TokioUring => "tokio-uring",
            DriverKind::Epoll => "epoll",
        }
    }

    /// What it lacks beside the best one.
    pub const fn lacks(self) -> &'static str {
        match self {
            DriverKind::Uring => "nothing",
            DriverKind::TokioUring => {
                "multishot receive and buffer rings, so an idle connection costs some hundred bytes more; direct \
                 descriptors, so every connection is an open file"
            }
            DriverKind::Epoll => {
                "a ring, so every read, send and accept is a system call of its own; direct descriptors, so every \
                 connection is an open file"
            }
        }
    }

    /// Whether every connection is one of the process's open files. If not, the limit of open files holds for each
    /// shard by itself.
    pub const fn opens_files(self) -> bool {
        match self {
            DriverKind::Uring => false,
            DriverKind::TokioUring | DriverKind::Epoll => true,
        }
    }

    /// Tries whether it can run here (N9).
    ///
    /// # Errors
    /// What it misses, why, and what to do about it.
    pub fn probe(self) -> Result<(), Missing> {
        match self {
            DriverKind::Uring => probe::probe(),
            DriverKind::TokioUring => tokio_uring::probe(),
            DriverKind::Epoll => epoll::probe(),
        }
    }
}

impl fmt::Display for DriverKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// The driver it is to be.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Choice {
    /// Which.
    pub kind: DriverKind,
    /// Why, in a few words.
    pub reason: String,
    /// Better ones that cannot run here.
    pub passed_over: Vec<(DriverKind, Missing)>,
}

/// Why there is no driver to run with; its text says what to do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NoDriver(Vec<(DriverKind, Missing)>);

impl fmt::Display for NoDriver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (kind, missing)) in self.0.iter().enumerate() {
            let separator = if index == 0 { "" } else { "; " };
            write!(f, "{separator}the driver {kind} cannot run here: {missing}")?;
        }
        Ok(())
    }
}

impl std::error::Error for NoDriver {}

/// Takes the driver that is asked for, or the best that can run here.
///
/// # Errors
/// The one asked for cannot run here, or none can.
pub fn choose(wanted: Option<DriverKind>) -> Result<Choice, NoDriver> {
    choose_by(wanted, DriverKind::probe)
}

fn choose_by(
    wanted: Option<DriverKind>,
    probe: impl Fn(DriverKind) -> Result<(), Missing>,
) -> Result<Choice, NoDriver> {
    if let Some(kind) = wanted {
        probe(kind).map_err(|missing| NoDriver(vec![(kind, missing)]))?;
        return Ok(Choice { kind, reason: "asked for".into(), passed_over: Vec::new() });
    }
    let mut passed_over: Vec<(DriverKind, Missing)> = Vec::new();
    for kind in DriverKind::ALL {
        match probe(kind) {
            Ok(()) => return Ok(Choice { kind, reason: reason(&passed_over), passed_over }),
            Err(missing) => passed_over.push((kind, missing)),
        }
    }
    Err(NoDriver(passed_over))
}

fn reason(passed_over: &[(DriverKind, Missing)]) -> String {
    let causes: Vec<String> =
        passed_over.iter().map(|(kind, missing)| format!("{kind}: {}", missing.cause())).collect();
    if causes.is_empty() { "the best there is, and it can run here".into() } else { causes.join("; ") }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;
    use crate::probe::Feature;

    /// Chooses where `broken` drivers cannot run.
    fn choose_without(broken: &[DriverKind], wanted: Option<DriverKind>) -> Result<Choice, NoDriver> {
        choose_by(wanted, |kind| match broken.contains(&kind) {
            true => Err(Missing::new(Feature::Ring, &io::Error::from_raw_os_error(libc::EPERM))),
            false => Ok(()),
        })
    }

    #[test]
    fn n9_the_best_that_can_run_is_chosen() {
        let check = |broken: &[DriverKind], expect| {
            let choice = choose_without(broken, None).expect("one is left");
            assert_eq!(choice.kind, expect);
            for kind in broken {
                assert!(
                    choice.reason.contains(&format!("{kind}: the kernel does not give us")),
                    "{choice:?}"
                );
            }
            assert_eq!(choice.passed_over.len(), broken.len());
        };
        check(&[], DriverKind::Uring);
        check(&[DriverKind::Uring], DriverKind::TokioUring);
        check(&[DriverKind::Uring, DriverKind::TokioUring], DriverKind::Epoll);
    }

    #[test]
    fn n9_what_is_asked_for_is_taken_or_refused() {
        for kind in DriverKind::ALL {
            let choice = choose_without(&[], Some(kind)).expect("nothing is broken");
            assert_eq!((choice.kind, choice.reason.as_str()), (kind, "asked for"));
            let refused = choose_without(&[kind], Some(kind)).expect_err("no other is taken instead");
            let text = refused.to_string();
            assert!(text.starts_with(&format!("the driver {kind} cannot run here: ")), "{text}");
        }
    }

    #[test]
    fn n9_where_none_can_run_every_reason_is_told() {
        let text = choose_without(&DriverKind::ALL, None).expect_err("none is left").to_string();
        assert!(DriverKind::ALL.iter().all(|kind| text.contains(&format!("the driver {kind}"))), "{text}");
    }

    #[test]
    fn every_driver_can_run_here() {
        for kind in DriverKind::ALL {
            kind.probe().unwrap_or_else(|missing| panic!("{kind}: {missing}"));
        }
    }
}
