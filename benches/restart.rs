//! How long a disk tier takes to be found again after a restart, with its bound; fails if it is missed.
//!
//! `cargo bench --no-default-features --features kv --bench restart`. Opening reads the table of slots and never the pages, so
//! the table counts: it has as many entries as for 10 GiB of the pages of a model of 135 million parameters (720 KiB each, two
//! records), over records of a few bytes.
use kvick::kv::policy::Kind;
use kvick::kv::tier::{DiskStore, Half, Manager, ManagerConfig, MemoryIo, Meta, RealClock, Tiers};
use kvick::kv::{Cache, Fingerprint, GroupConfig, integrity};
use std::path::Path;
use std::process::ExitCode;
use std::sync::{Arc, Mutex};
use std::time::Instant;

const PAGES: usize = (10 << 30) / (720 << 10);
const PROMPT_PAGES: usize = 64;
const PAGE_TOKENS: usize = 16;
const HALF_BYTES: usize = 64;
const BUDGET: u64 = 1 << 30;
const ROUNDS: usize = 7;
const MOST_SECONDS: f64 = 1.0;

fn cache() -> Cache {
    let groups = [GroupConfig { pages: 100, window: None }];
    Cache::new(fingerprint(), PAGE_TOKENS, &groups, 1000, || Kind::Kvick.build(100, None))
}

fn fingerprint() -> Fingerprint {
    Fingerprint::new([("bench", b"restart".as_slice())])
}

fn tiers(dir: &Path) -> Result<Tiers, Box<dyn std::error::Error>> {
    let mut tiers = Tiers::new(fingerprint(), None, Arc::new(RealClock::default()));
    tiers.push(Box::new(DiskStore::open(dir, BUDGET, &fingerprint())?));
    Ok(tiers)
}

/// Writes prompts of pages, each half a record.
fn fill(dir: &Path) -> Result<(), Box<dyn std::error::Error>> {
    let (tiers, cache) = (tiers(dir)?, cache());
    let payload = [7; HALF_BYTES];
    for page in 0..PAGES {
        let (prompt, index) = (page / PROMPT_PAGES, page % PROMPT_PAGES);
        let tokens: Vec<u32> = (0..((index + 1) * PAGE_TOKENS) as u32).map(|at| at + 7919 * prompt as u32).collect();
        let keys = cache.keys(b"", &tokens);
        let key = keys.key(index).ok_or("a key for each page")?;
        for half in Half::ALL {
            let (parent, tokens) = (keys.above(index), keys.page(index).to_vec());
            let (fingerprint, epoch, group, element) = (fingerprint(), keys.root().short(), 0, 1);
            let meta = Meta { fingerprint, key, parent, epoch, group, half, element, lossy: false, tokens };
            tiers.put(0, &meta, &payload, integrity::sum(&payload))?;
        }
    }
    Ok(())
}

/// Seconds until the tier can be asked for all of its pages.
fn reopen(dir: &Path) -> Result<f64, Box<dyn std::error::Error>> {
    let start = Instant::now();
    let mut cache = cache();
    let io = MemoryIo::new(Arc::new(Mutex::new(Vec::new())), 0, 1);
    let config = ManagerConfig::new(vec![[(1, HALF_BYTES); 2]]);
    let manager = Manager::new(&mut cache, Box::new(io), tiers(dir)?, config)?;
    let seconds = start.elapsed().as_secs_f64();
    match manager.report(&cache)[0].pages {
        PAGES => Ok(seconds),
        pages => Err(format!("{pages} of {PAGES} pages were found again").into()),
    }
}

fn main() -> ExitCode {
    let run = || -> Result<Vec<f64>, Box<dyn std::error::Error>> {
        let dir = tempfile::tempdir()?;
        fill(dir.path())?;
        (0..ROUNDS).map(|_| reopen(dir.path())).collect()
    };
    match run() {
        Ok(mut seconds) => {
            seconds.sort_by(f64::total_cmp);
            let (median, most) = (seconds[ROUNDS / 2], seconds[ROUNDS - 1]);
            println!("{PAGES} pages found again in {median:.3} s ({most:.3} s at most), bound {MOST_SECONDS} s");
            if median <= MOST_SECONDS { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
