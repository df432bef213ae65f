//! Runs grids: workers take blocks, blocks run their warps, warps run groups of lanes that are at one place.
mod block;
mod grid;
mod report;
mod warp;

pub use grid::launch;
