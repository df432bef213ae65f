//! Warps, barriers, atomics, asynchronous copies and grids, with one worker thread and with two.
mod probes;

use kvick_emulator::exec::Launch;
use probes::{Arg, Device, Random};

/// Runs a test on one and on two worker threads.
fn each(f: impl Fn(&Device)) {
    for threads in [1, 2] {
        f(&Device::new(include_str!("probes/sync.ptx"), threads));
    }
}

#[test]
fn a_lock_within_a_warp_makes_progress() {
    each(|d| {
        let (lock, counter) = (d.put(&[0i32]), d.put(&[0i32]));
        d.must("lock_within_a_warp", 6, 96, &[Arg::Ptr(lock), Arg::Ptr(counter)]);
        assert_eq!(d.get::<i32>(counter, 1), [6 * 96]);
    });
}

#[test]
fn blocks_may_wait_for_later_blocks() {
    each(|d| {
        let n = 40;
        let mut flags = vec![0i32; n + 1];
        flags[0] = 1;
        let order = d.put(&vec![-1i32; n]);
        d.must("ring", n as u32, 32, &[Arg::Ptr(d.put(&flags)), Arg::Ptr(order)]);
        let want: Vec<i32> = (0..n as i32).rev().collect();
        assert_eq!(d.get::<i32>(order, n), want);
    });
}

#[test]
fn a_grid_synchronises() {
    each(|d| {
        let (blocks, threads, rounds) = (12u32, 64u32, 5);
        let n = (blocks * threads) as usize;
        let mut cells: Vec<i32> = (0..n as i32).map(|i| i * i % 101).collect();
        let (device, out) = (d.put(&cells), d.put(&vec![0i32; n]));
        let config = Launch { grid: [blocks, 1, 1], block: [threads, 1, 1], cooperative: true, ..Launch::default() };
        d.launch("grid_sync", config, &[Arg::Ptr(device), Arg::Ptr(out), Arg::Int(rounds)]).unwrap();
        for _ in 0..rounds {
            cells = (0..n).map(|i| cells[(i + 1) % n] + 1).collect();
        }
        assert_eq!(d.get::<i32>(out, n), cells);
    });
}

#[test]
fn shuffles_votes_matches_and_reductions() {
    each(|d| {
        let mut random = Random(3);
        let v: Vec<i32> = (0..64).map(|_| (random.bits() % 100) as i32).collect();
        let out = d.put(&[0i32; 64]);
        d.must("warp_tricks", 1, 64, &[Arg::Ptr(d.put(&v)), Arg::Ptr(out)]);
        for (i, got) in d.get::<i32>(out, 64).into_iter().enumerate() {
            let (warp, lane) = (&v[i / 32 * 32..][..32], i % 32);
            let sum: i32 = warp[..=lane].iter().sum();
            let even = warp.iter().filter(|x| **x % 2 == 0).count() as i32;
            let part = if lane < 16 { warp[..16].iter().sum() } else { *warp[16..].iter().max().unwrap() };
            let same = warp.iter().filter(|x| **x % 5 == warp[lane] % 5).count() as i32;
            let rotated = warp[lane / 8 * 8 + (lane % 8 + 1) % 8];
            assert_eq!(got, sum + 1000 * even + 100_000 * (part & 1023) + same * 7 + rotated * 3, "lane {i}");
        }
    });
}

#[test]
fn producers_and_consumers_meet_at_named_barriers() {
    each(|d| {
        let out = d.put(&[0i32; 256]);
        d.must("named_barriers", 1, 128, &[Arg::Ptr(out)]);
        let want: Vec<i32> = (0..256).map(|i| 100 * (i / 64) + i % 64).collect();
        assert_eq!(d.get::<i32>(out, 256), want);
    });
}

#[test]
fn barriers_reduce_predicates() {
    each(|d| {
        let mut v: Vec<i32> = (0..96).collect();
        v[5] = 3;
        let out = d.put(&[0i32; 96]);
        d.must("block_votes", 1, 96, &[Arg::Ptr(d.put(&v)), Arg::Ptr(out)]);
        let want = v.iter().filter(|x| **x > 10).count() as i32 * 100 + 10 + 1;
        assert_eq!(d.get::<i32>(out, 96), [want; 96]);
    });
}

#[test]
fn asynchronous_copies_arrive_at_the_wait_and_not_before() {
    each(|d| {
        let tiles = 5;
        let v: Vec<f32> = (0..tiles * 128).map(|i| i as f32).collect();
        let out = d.put(&[0f32; 32]);
        d.must("async_pipeline", 1, 32, &[Arg::Ptr(d.put(&v)), Arg::Ptr(out), Arg::Int(tiles)]);
        for (i, got) in d.get::<f32>(out, 32).into_iter().enumerate() {
            let want: f32 = (0..tiles as usize).flat_map(|t| &v[t * 128 + i * 4..][..4]).sum();
            assert_eq!(got, want, "lane {i}");
        }
        let v: Vec<i32> = (100..132).collect();
        let out = d.put(&[0i32; 64]);
        d.must("async_too_early", 1, 32, &[Arg::Ptr(d.put(&v)), Arg::Ptr(out)]);
        let got = d.get::<i32>(out, 64);
        assert_eq!((&got[..32], &got[32..]), (&[-1; 32][..], &v[..]));
    });
}

#[test]
fn atomics_of_every_kind() {
    each(|d| {
        let (f, x, l) = (d.put(&[0f32]), d.put(&[0f64]), d.put(&[0u64]));
        let i = d.put(&[0i32, -5, 5, 0, 0, 0, 0]);
        d.must("atomics", 7, 64, &[Arg::Ptr(f), Arg::Ptr(x), Arg::Ptr(i), Arg::Ptr(l)]);
        let n = 7 * 64;
        assert_eq!(d.get::<f32>(f, 1), [n as f32 * 0.5]);
        assert_eq!(d.get::<f64>(x, 1), [f64::from(n) * 0.25]);
        assert_eq!(d.get::<u64>(l, 1), [(n as u64 - 1) << 33]);
        let xor = (0..n).fold(0, |a, b| a ^ b);
        assert_eq!(d.get::<i32>(i, 7), [n, n - 1, 1 - n, xor, n % 7, -1, 7 * (63 * 64 / 2)]);
        assert_eq!(d.counters("atomics").barriers, 14);
    });
}
