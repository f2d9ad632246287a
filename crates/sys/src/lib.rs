//! Drivers: rings, buffer rings, sockets, bells, pinning.
//!
//! [`Uring`] drives a shard's sockets through `io_uring`, [`Epoll`] where that is forbidden; [`choose`] says beforehand
//! which of them this machine can carry. [`bind`] makes the listeners they accept on, [`EventBell`] wakes them from another
//! thread, and [`machine`] asks the operating system what there is to work with. Nothing here knows what the bytes mean.

mod bell;
mod buffers;
mod chains;
mod choice;
mod clock;
mod epoll;
mod listener;
pub mod machine;
mod pool;
mod probe;
mod socket;
mod tokio_uring;
mod uring;

pub use crate::tokio_uring::{TokioUring, TokioUringConfig};
pub use bell::EventBell;
pub use choice::{Choice, DriverKind, NoDriver, choose};
pub use epoll::{Epoll, EpollConfig};
pub use listener::{BindError, Listener, bind};
pub use probe::{Feature, Missing, probe};
pub use socket::SocketOptions;
pub use uring::{SetupError, Uring, UringConfig};
