//! The control thread over real connections, with real hubs behind it.

mod drain;
mod guard;
mod health;
mod limits;
mod topics;
mod world;
