//! The real models of the tests.
use std::path::PathBuf;

/// Path of `smollm2` or `gemma3`: `$KVICK_MODELS/NAME.gguf`.
pub fn path(name: &str) -> PathBuf {
    let folder =
        std::env::var_os("KVICK_MODELS").expect("KVICK_MODELS names a folder with smollm2.gguf and gemma3.gguf");
    let path = PathBuf::from(folder).join(format!("{name}.gguf"));
    assert!(path.is_file(), "{} is missing", path.display());
    path
}
