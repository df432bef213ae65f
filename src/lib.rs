//! kvick
