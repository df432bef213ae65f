//! Writes one exported function for each name of the driver API.

use std::fmt::Write;
use std::path::PathBuf;
use std::{env, fs};

const SYMBOLS: &str = "../src/driver/symbols.txt";

fn main() {
    println!("cargo::rerun-if-changed={SYMBOLS}");
    println!("cargo::rerun-if-changed=build.rs");
    let names = fs::read_to_string(SYMBOLS).expect("the emulator's symbol list is beside this crate");
    let mut text = String::from("exports! {\n");
    for (index, name) in names.lines().enumerate() {
        writeln!(text, "    {name} = {index};").expect("writing to a string");
    }
    writeln!(text, "}}\nconst COUNT: usize = {};", names.lines().count()).expect("as above");
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    fs::write(out.join("exports.rs"), text).expect("OUT_DIR is writable");
}
