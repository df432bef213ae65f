//! The engine's kernels under the checks of the emulated GPU: no races in shared memory, no read of what nobody wrote, no
//! memory left behind; and native code against its handlers. Runs over the tiny checkpoints: several prompts in one
//! batch, prefill and decode.
#![cfg(feature = "cli")]
mod common;

use common::program::{Program, Run};
use std::path::Path;

const PROMPTS: [&str; 3] = ["The quick brown fox jumps over it.", "ab", "?"];

/// A run of the program on the emulated GPU with a checkpoint, and with a setting of the emulator.
fn run(command: &str, model: &str, kv_dtype: &str, options: &[&str], (name, value): (&str, &str)) -> Run {
    let program = Program::new();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tiny").join(model);
    let path = path.to_str().unwrap();
    let mut args = vec![command, "--model", path, "--device", "emulator", "--kv-dtype", kv_dtype, "--json"];
    if kv_dtype == "bf16" {
        args.extend(["--dtype", "bf16"]);
    }
    args.extend(options);
    let mut command = program.command(&args);
    Run::of(command.env(name, value).env("KVICK_EMU_BUDGET", "100000000").output().unwrap())
}

fn generate(model: &str, kv_dtype: &str, setting: (&str, &str)) -> Run {
    let mut options = vec!["--max-tokens", "6"];
    options.extend(PROMPTS);
    run("generate", model, kv_dtype, &options, setting)
}

#[test]
fn kernels_pass_the_checks() {
    for (model, kv_dtype) in [("llama", "f16"), ("gemma3", "f16"), ("llama", "int8"), ("gemma3", "fp8")] {
        let plain = generate(model, kv_dtype, ("KVICK_EMU_CHECK", "")).json();
        assert_eq!(plain.len(), PROMPTS.len(), "{model} {kv_dtype}");
        let checked = generate(model, kv_dtype, ("KVICK_EMU_CHECK", "all"));
        // Whatever a check finds is reported there.
        assert!(!checked.stderr.contains("emulated GPU:"), "{model} {kv_dtype}: {}", checked.stderr);
        assert_eq!(checked.json(), plain, "{model} {kv_dtype}");
    }
}

/// Pages on their way out and back, int4 and codes.
#[test]
fn packing_passes_the_checks() {
    let program = Program::new();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tiny/llama");
    let text = program.path("text.txt");
    std::fs::write(&text, "The quick brown fox jumps over the lazy dog. ".repeat(4)).unwrap();
    for packing in ["int4", "k=int8,v=fp8"] {
        let run = |checks: &str| {
            let mut args = vec!["perplexity", "--model", path.to_str().unwrap(), "--text", text.to_str().unwrap()];
            args.extend(["--device", "emulator", "--chunk", "48", "--kv-packing", packing, "--json"]);
            let mut command = program.command(&args);
            Run::of(command.env("KVICK_EMU_CHECK", checks).env("KVICK_EMU_BUDGET", "100000000").output().unwrap())
        };
        let plain = run("").json();
        assert!(plain[0]["k_loss"]["overall"].as_f64().unwrap() > 0.0, "{packing}: {plain:?}");
        let checked = run("all");
        assert!(!checked.stderr.contains("emulated GPU:"), "{packing}: {}", checked.stderr);
        assert_eq!(checked.json(), plain, "{packing}");
    }
}

#[test]
fn an_unknown_check_is_an_error() {
    generate("llama", "f16", ("KVICK_EMU_CHECK", "rase")).fails(1, &["KVICK_EMU_CHECK", "race, init, leak"]);
}

#[test]
fn native_code_says_and_counts_what_the_handlers_do() {
    const NATIVE: &str = "KVICK_EMU_NATIVE";
    for (model, kv_dtype) in [("llama", "f16"), ("gemma3", "bf16"), ("llama", "fp8"), ("gemma3", "int8")] {
        let [native, handlers] = ["1", "0"].map(|on| generate(model, kv_dtype, (NATIVE, on)).json());
        assert_eq!(native, handlers, "{model} {kv_dtype}");
        // Instructions, bytes and sectors of every kernel.
        let work = |on| {
            let run = run("bench", model, kv_dtype, &["--prompt-tokens", "40", "--tokens", "2"], (NATIVE, on));
            run.json()[0]["kernels"].clone()
        };
        let counted = work("1");
        assert!(counted.as_array().is_some_and(|kernels| kernels.len() > 4), "{model} {kv_dtype}: {counted}");
        assert_eq!(counted, work("0"), "{model} {kv_dtype}");
    }
    generate("llama", "f16", (NATIVE, "yes")).fails(1, &[NATIVE, "0 or 1"]);
}
