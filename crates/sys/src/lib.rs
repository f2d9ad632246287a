//! Drivers: rings, buffer rings, sockets, bells, pinning.
//!
//! [`Uring`] drives a shard's sockets through `io_uring`; [`bind`] makes the listeners it accepts on, [`EventBell`]
//! wakes it from another thread, [`probe`] says beforehand whether this kernel can carry it, and [`machine`] asks the
//! operating system what there is to work with. Nothing here knows what the bytes mean.

mod bell;
mod buffers;
mod chains;
mod clock;
mod epoll;
mod listener;
pub mod machine;
mod pool;
mod probe;
mod uring;

pub use bell::EventBell;
pub use epoll::{Epoll, EpollConfig};
pub use listener::{BindError, Listener, SocketOptions, bind};
pub use probe::{Feature, Missing, Probed, probe};
pub use uring::{SetupError, Uring, UringConfig};
