//! The instruction set, each instruction against an independent scalar model.
//!
//! A case is one instruction (or a short chain) with its operand registers, tuples of operand values and a model written
//! from the PTX specification in wide integers or `rustc_apfloat`, never with the emulator's own arithmetic. The harness
//! makes a kernel of it, runs every tuple in a lane of its own, under full and partial masks and with the destination
//! aliasing the first source, and compares bits. `coverage` checks that no row of the op table is without a case.

mod approx;
mod atomics;
mod bits;
mod compare;
mod convert;
mod coverage;

mod float;
mod half;
mod harness;
mod integer;
mod memory;
mod model;
mod moves;
mod tensor;

mod values;
mod warp;

use harness::run_all;

#[test]
fn integer_arithmetic() {
    run_all(integer::cases());
}

#[test]
fn bit_operations() {
    run_all(bits::cases());
}

#[test]
fn float_arithmetic() {
    run_all(float::cases());
}

#[test]
fn half_arithmetic() {
    run_all(half::cases());
}

#[test]
fn approximate_functions() {
    run_all(approx::cases());
}

#[test]
fn conversions() {
    run_all(convert::cases());
}

#[test]
fn comparisons() {
    run_all(compare::cases());
}

#[test]
fn moves_and_packs() {
    run_all(moves::cases());
}

#[test]
fn atomic_operations() {
    run_all(atomics::cases());
}
