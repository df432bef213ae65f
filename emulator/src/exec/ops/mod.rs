//! Handlers that are more than a function of each lane.
pub mod access;
pub mod atomic;
pub mod barrier;
pub mod bulk;
pub mod compare;
pub mod control;
pub mod copy;
pub mod halves;
pub mod host;
pub mod matrix;
pub mod mbarrier;
pub mod shared;
pub mod special;
pub mod warp;
pub mod watch;
pub mod words;
