//! Continues a text, printing it as it comes: `cargo run --release --example generate -- "The capital of France is"`.
use kvick::{Engine, EngineConfig, Request};
use std::io::Write;

fn main() -> anyhow::Result<()> {
    let prompt = std::env::args().nth(1).unwrap_or_else(|| "The capital of France is".into());
    let engine = Engine::load(EngineConfig::new("smollm2-135m"))?;
    let mut stream = engine.submit(Request { max_tokens: 16, ..Request::text(&prompt) })?;
    print!("{prompt}");
    while let Some(text) = stream.next_text()? {
        print!("{text}");
        std::io::stdout().flush()?;
    }
    println!();
    Ok(())
}
