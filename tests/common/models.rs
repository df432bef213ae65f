//! The real models of the tests.
use std::path::PathBuf;

/// Path of `smollm2` or `gemma3`: `$KVICK_MODELS/NAME.gguf` if that is set, else the user's cache, fetched once.
pub fn path(name: &str) -> PathBuf {
    if let Some(folder) = std::env::var_os("KVICK_MODELS") {
        let path = PathBuf::from(folder).join(format!("{name}.gguf"));
        assert!(path.is_file(), "{} is missing", path.display());
        return path;
    }
    let known = match name {
        "smollm2" => "smollm2-135m",
        "gemma3" => "gemma3-270m",
        other => panic!("no model {other}"),
    };
    kvick::store::resolve(known, &mut ()).unwrap_or_else(|e| panic!("{known}: {e}"))
}
