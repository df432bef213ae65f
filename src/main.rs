//! The `kvick` program.
fn main() {}
