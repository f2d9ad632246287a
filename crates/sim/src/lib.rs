//! A seeded, virtual-time driver and a world of clients, for tests.
