//! `kvick models` and `kvick pull`.
use super::output::{self, Progress};
use kvick::store;

#[derive(Debug, clap::Args)]
pub struct ListArgs {
    /// One JSON object for each model
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
pub struct PullArgs {
    /// A name (`kvick models`) or hf:owner/name[:file]
    name: String,
}

pub fn list(args: ListArgs) -> anyhow::Result<()> {
    let cache = store::cache_dir();
    for model in store::MODELS {
        let fetched = cache.as_ref().is_ok_and(|cache| model.is_fetched(cache));
        if args.json {
            output::json(&serde_json::json!({
                "name": model.name, "about": model.about, "licence": model.licence, "bytes": model.bytes,
                "fetched": fetched,
            }))?;
        } else {
            let state = if fetched { "fetched" } else { "" };
            let size = format!("{} MB", model.bytes / 1_000_000);
            output::line(format!("{:<14} {size:>7}  {state:<8} {} ({})", model.name, model.about, model.licence))?;
        }
    }
    Ok(())
}

pub fn pull(args: PullArgs) -> anyhow::Result<()> {
    let path = store::resolve(&args.name, &mut Progress::new())?;
    output::line(path.display())
}
