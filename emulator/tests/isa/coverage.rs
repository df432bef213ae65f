//! Every row of the op table is used by a case of this suite or by a golden program.

use crate::{approx, atomics, bits, compare, convert, float, half, integer, memory, moves, tensor, warp};
use kvick_emulator::check::Checks;
use kvick_emulator::exec::{Program, operation_names};
use kvick_emulator::gpu::{DeviceSpec, Gpu};
use kvick_emulator::ptx;
use std::collections::HashSet;

/// All kernels of the suite.
fn kernels() -> Vec<String> {
    let families = [
        integer::cases(),
        bits::cases(),
        float::cases(),
        half::cases(),
        approx::cases(),
        atomics::cases(),
        convert::cases(),
        compare::cases(),
        moves::cases(),
    ];
    let mut all: Vec<String> = families.iter().flatten().map(|case| case.ptx()).collect();
    all.extend([warp::kernels(), tensor::kernels(), memory::kernels()].concat());
    for folder in ["pass", "fail"] {
        let folder = format!("{}/tests/{folder}", env!("CARGO_MANIFEST_DIR"));
        for entry in std::fs::read_dir(folder).expect("the folder of golden programs") {
            let path = entry.expect("an entry").path();
            if path.extension().is_some_and(|e| e == "ptx") {
                all.push(std::fs::read_to_string(path).expect("a golden program"));
            }
        }
    }
    all
}

/// Adds the rows that a program uses; some golden programs are not to be loaded.
fn used(gpu: &Gpu, text: &str, rows: &mut HashSet<&'static str>) {
    let Ok(module) = ptx::parse(text) else { return };
    let Ok(program) = Program::load(&module, gpu.memory(), gpu.spec()) else { return };
    for function in module.functions.iter().filter(|f| f.entry) {
        let kernel = program.kernel(&function.name).expect("an entry");
        rows.extend(program.operations(kernel));
    }
}

#[test]
fn every_row_of_the_op_table_is_covered() {
    let gpu = crate::harness::gpu();
    let checks = Checks::parse("all").expect("known checks");
    let checked = Gpu::with_checks(DeviceSpec::A100, 1, 64 << 20, checks, None).expect("an emulated GPU");
    let mut rows = HashSet::new();
    for text in kernels() {
        used(&gpu, &text, &mut rows);
        if text.contains("bar.warp.sync") {
            // Has the rows that only code with checks has.
            used(&checked, &text, &mut rows);
        }
    }
    let missing: Vec<&str> = operation_names().filter(|name| !rows.contains(name)).collect();
    assert!(missing.is_empty(), "rows of the op table without a case: {}", missing.join(", "));
}
