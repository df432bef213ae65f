//! The comparison of the operations' tests must be able to fail.
#![cfg(feature = "engine")]
mod common;
use common::rng::Rng;
use common::tolerance::{EXACT, bound, compare};
use kvick::backend::Float;

#[test]
fn small_errors_pass_and_large_ones_do_not() {
    for float in [Float::F16, Float::BF16] {
        let expected = Rng::new(1).normals(1000, 2.0);
        let bound = bound(float, 576);
        assert_eq!(compare(&expected, &expected, bound), Ok(()));
        let scaled = |factor: f32| expected.iter().map(|x| x * factor).collect::<Vec<_>>();
        assert_eq!(compare(&scaled(1.0 + 2e-4), &expected, bound), Ok(()));
        assert!(compare(&scaled(1.02), &expected, bound).is_err(), "{float:?}: 2 % off everywhere");
        let mut one = expected.clone();
        one[500] += 0.2;
        assert!(compare(&one, &expected, bound).unwrap_err().contains("element 500"));
        one[500] = f32::NAN;
        assert!(compare(&one, &expected, bound).unwrap_err().contains("element 500"));
        one.pop();
        assert!(compare(&one, &expected, bound).is_err(), "{float:?}: an element is missing");
    }
    assert!(compare(&[1.0001], &[1.0], EXACT).is_err());
}
