//! The S3 tier against a real S3 server on loopback (moto, from PyPI, in a virtual environment): sharing, and errors that
//! say what to do. One test, since the endpoint is a variable of the process.
#[path = "common/pages.rs"]
mod pages;
#[allow(dead_code, reason = "each test program uses a part")]
#[path = "common/servers.rs"]
mod servers;

use kvick::kv::tier::s3::S3Store;
use kvick::kv::tier::{RealClock, Tiers};
use pages::{fingerprint, hits, keep};
use std::sync::Arc;
use std::time::Duration;

/// Generous: a busy machine must not look like a dead server, and a dead one refuses at once.
const TIMEOUT: Duration = Duration::from_secs(20);

fn engine(address: &str, model: &str) -> Tiers {
    let mut tiers = Tiers::new(fingerprint(model), None, Arc::new(RealClock::default()));
    tiers.push(Box::new(S3Store::open(address, &fingerprint(model), TIMEOUT).unwrap()));
    tiers
}

fn refusal(address: &str) -> String {
    S3Store::open(address, &fingerprint("m"), TIMEOUT)
        .err()
        .unwrap_or_else(|| panic!("{address} was opened"))
        .to_string()
}

#[test]
fn engines_share_pages_and_errors_say_what_to_do() {
    let port = servers::free_port();
    let server = servers::s3(port);
    servers::create_bucket(port, "pages");
    let (a, b, other) = (engine("s3://pages/x", "m"), engine("s3://pages/x", "m"), engine("s3://pages/x", "n"));
    assert_eq!(keep(&a, fingerprint("m"), 0..40), 40);
    assert_eq!(hits(&b, fingerprint("m"), 0..40), 40, "from another engine");
    assert_eq!(hits(&b, fingerprint("m"), 40..44), 0, "not there is a miss");
    assert_eq!(b.counters()[0].failed, 0, "and no failure");
    assert_eq!(hits(&other, fingerprint("n"), 0..4), 0);
    assert_eq!(hits(&engine("s3://pages/y", "m"), fingerprint("m"), 0..4), 0, "another prefix");

    let missing = refusal("s3://nobucket/x");
    assert!(missing.contains("no such bucket") && missing.contains("create"), "{missing}");
    for bad in ["pages", "s3://", "s3:///x"] {
        assert!(refusal(bad).contains("s3://bucket"), "{bad}");
    }

    drop(server);
    for _ in 0..6 {
        assert_eq!(hits(&b, fingerprint("m"), 0..2), 0, "a dead server served");
    }
    assert!(b.counters()[0].left_alone > 0, "the breaker never opened");
    let dead = refusal("s3://pages/x");
    assert!(dead.contains("AWS_ENDPOINT") && !dead.contains("a-secret"), "{dead}");
}
