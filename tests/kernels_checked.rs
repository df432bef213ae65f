//! The engine's kernels under the checks of the emulated GPU: no races in shared memory, no read of what nobody wrote, no
//! memory left behind. A run over the tiny model: several prompts in one batch, prefill and decode.
mod common;

use common::program::{Program, Run};

const PROMPTS: [&str; 3] = ["ABCDEFGHIJKLMNOP", "QRS", "A"];

/// A run of the program on the emulated GPU with `KVICK_EMU_CHECK` set to `checks`.
fn generate(program: &Program, checks: &str) -> Run {
    let mut args = vec!["generate", "--model", "tiny.gguf", "--device", "emulator", "--max-tokens", "8", "--json"];
    args.extend(PROMPTS);
    let mut command = program.command(&args);
    Run::of(command.env("KVICK_EMU_CHECK", checks).env("KVICK_EMU_BUDGET", "100000000").output().unwrap())
}

#[test]
fn kernels_pass_the_checks() {
    let program = Program::new();
    let plain = generate(&program, "").json();
    assert_eq!(plain.len(), PROMPTS.len());
    for checks in ["race", "init", "leak"] {
        let checked = generate(&program, checks);
        // Whatever a check finds is reported there.
        assert!(!checked.stderr.contains("emulated GPU:"), "{checks}: {}", checked.stderr);
        assert_eq!(checked.json(), plain, "{checks}");
    }
}

#[test]
fn an_unknown_check_is_an_error() {
    generate(&Program::new(), "rase").fails(1, &["KVICK_EMU_CHECK", "race, init, leak"]);
}
