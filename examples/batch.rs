//! Several threads share one engine: their requests run as one batch, and each gets its own answer.
use kvick::{Engine, EngineConfig, Request, Sampling};

fn main() -> anyhow::Result<()> {
    let engine = Engine::load(EngineConfig::new("smollm2-135m"))?;
    let prompts = ["The capital of France is", "Two plus two is", "The sky is"];
    std::thread::scope(|scope| {
        let ask = |prompt: &str| {
            let sampling = Sampling { temperature: 0.7, top_p: 0.9, seed: Some(1), ..Sampling::default() };
            engine.complete(Request { max_tokens: 8, sampling, ..Request::text(prompt) })
        };
        let threads = prompts.map(|prompt| (prompt, scope.spawn(move || ask(prompt))));
        for (prompt, thread) in threads {
            let done = thread.join().map_err(|_| anyhow::anyhow!("a thread ended early"))??;
            println!("{prompt}{} [{}]", done.text, done.reason.as_str());
        }
        Ok(())
    })
}
