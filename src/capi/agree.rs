//! Compiles only if the header and the definitions agree: an array's elements have one type, here that of a function pointer.
use super::header;

macro_rules! agree {
    ($($name:ident)*) => {
        $(const _: () = {
            let _ = [super::$name, header::$name];
        };)*
        /// Functions of the header.
        #[cfg(test)]
        const NAMES: &[&str] = &[$(stringify!($name)),*];
    };
}

agree! {
    kvick_engine_device
    kvick_engine_free
    kvick_engine_invalidate
    kvick_engine_notice
    kvick_engine_open
    kvick_last_error
    kvick_stream_cancel
    kvick_stream_free
    kvick_stream_next
    kvick_stream_result
    kvick_submit
    kvick_tokenize
    kvick_version
}

#[test]
fn every_function_of_the_header_is_compared() {
    let text = include_str!("../../include/kvick.h");
    let code = text.split("*/").filter_map(|part| part.split("/*").next()).collect::<String>();
    let name = |before: &str| before.rsplit(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap().to_string();
    let mut found: Vec<String> = code.split('(').map(name).filter(|n| n.starts_with("kvick_")).collect();
    found.sort();
    assert_eq!(found, NAMES);
}
