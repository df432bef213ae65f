//! Writes the forwarder (a shared object with the driver's soname whose every function jumps through a table), links
//! it, and writes the list of the driver's function names for `driver/symbols.rs`.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

const SYMBOLS: &str = "src/driver/symbols.txt";

fn main() {
    println!("cargo::rerun-if-changed={SYMBOLS}");
    println!("cargo::rerun-if-changed=build.rs");
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    let text = fs::read_to_string(SYMBOLS).expect("the symbol list is part of the crate");
    let names: Vec<&str> = text.lines().collect();
    fs::write(out.join("symbols.rs"), rust_list(&names)).expect("OUT_DIR is writable");
    let library = out.join("forwarder.so");
    match env::var("CARGO_CFG_TARGET_ARCH").as_deref() {
        Ok(arch @ ("x86_64" | "aarch64")) if env::var("CARGO_CFG_TARGET_OS").as_deref() == Ok("linux") => {
            link(&assembly(&names, arch), &out, &library);
        }
        // Nothing to embed: `install` says that this system is not supported.
        _ => fs::write(&library, []).expect("OUT_DIR is writable"),
    }
}

fn rust_list(names: &[&str]) -> String {
    let mut text = format!("pub const NAMES: [&str; {}] = [\n", names.len());
    for name in names {
        writeln!(text, "    {name:?},").expect("writing to a string");
    }
    writeln!(text, "];\nconst STUBS: [unsafe extern \"C\" fn() -> u32; {}] = [", names.len()).expect("as above");
    for index in 0..names.len() {
        writeln!(text, "    stub::<{index}>,").expect("as above");
    }
    text + "];\n"
}

/// One jump through `kvick_forwarder_table` for each name.
fn assembly(names: &[&str], arch: &str) -> String {
    let mut text = String::from(".text\n");
    for (index, name) in names.iter().enumerate() {
        let slot = format!("kvick_table+{}", 8 * index);
        let jump = match arch {
            "x86_64" => format!("jmp *{slot}(%rip)"),
            _ => format!("adrp x16, {slot}\n ldr x16, [x16, :lo12:{slot}]\n br x16"),
        };
        writeln!(
            text,
            ".globl {name}\n.type {name}, %function\n.p2align 4\n{name}:\n {jump}\n.size {name}, . - {name}"
        )
        .expect("writing to a string");
    }
    let bytes = 8 * names.len();
    // The local name keeps the jumps inside the object; the global one is for dlsym.
    write!(
        text,
        ".bss\n.p2align 4\n.globl kvick_forwarder_table\n.type kvick_forwarder_table, %object\n\
         .size kvick_forwarder_table, {bytes}\nkvick_forwarder_table:\nkvick_table:\n .zero {bytes}\n\
         .section .note.GNU-stack,\"\",%progbits\n"
    )
    .expect("writing to a string");
    text
}

fn link(assembly: &str, out: &Path, library: &Path) {
    let source = out.join("forwarder.s");
    fs::write(&source, assembly).expect("OUT_DIR is writable");
    let compiler = cc::Build::new().opt_level(0).get_compiler();
    let mut command: Command = compiler.to_command();
    command.args(["-shared", "-nostdlib", "-Wl,-soname,libcuda.so", "-Wl,--build-id=none", "-o"]);
    command.arg(library).arg(&source);
    match command.status() {
        Ok(status) if status.success() => {}
        outcome => panic!("could not link the forwarder ({outcome:?}): install a C compiler, or set CC to one"),
    }
}
