//! Percentiles against exact ones, and bytes against what was written.

use proptest::prelude::*;

use crate::sink::history::bucket::{Bucket, Values, place, raw};
use crate::sink::history::code;
use crate::sink::history::sketch::{self, BINS, Sketch, TINY};

fn values() -> impl Strategy<Value = Vec<f64>> {
    // From tiny to huge, of both signs, equal ones and zero.
    let value = prop_oneof![
        4 => (-300.0..300.0_f64).prop_map(|e| 10_f64.powf(e / 30.0)),
        2 => -100.0..100.0_f64,
        1 => Just(0.0),
        1 => Just(42.0),
        1 => (-300.0..300.0_f64).prop_map(|e| -(10_f64.powf(e))),
    ];
    proptest::collection::vec(value, 1..400)
}

fn close(told: f64, exact: f64, error: f64) -> bool {
    (told - exact).abs() <= exact.abs() * (error + 1e-9) + TINY
}

fn bucket(values: &[f64], step: u32) -> Bucket {
    let mut bucket = Bucket::default();
    for value in values {
        bucket.add(*value, raw(step));
    }
    bucket
}

proptest! {
    #[test]
    fn a_sketch_is_within_its_stated_error(values in values()) {
        let mut sketch = Sketch::default();
        for value in &values {
            sketch.add(*value);
        }
        let mut sorted = values;
        sorted.sort_by(f64::total_cmp);
        prop_assert_eq!(sketch.count(), sorted.len() as u64);
        prop_assert!(sketch.minus.len() + sketch.plus.len() <= BINS);
        for q in [0.0, 0.01, 0.25, 0.5, 0.9, 0.95, 0.99, 1.0] {
            let place = place(q, sketch.count());
            let (told, exact) = (sketch.at(place), sorted[usize::try_from(place).unwrap()]);
            prop_assert!(close(told, exact, sketch.error()), "{q}: {told} {exact} {}", sketch.error());
        }
    }

    #[test]
    fn a_rollup_of_rollups_is_the_rollup_of_all(
        values in values(),
        cuts in proptest::collection::vec(1..20_usize, 1..60),
        step in prop_oneof![Just(60_u32), Just(3_600)],
    ) {
        let whole = bucket(&values, step);
        let (mut rolled, mut rest, mut middle) = (Bucket::default(), values.as_slice(), Bucket::default());
        for (i, cut) in cuts.into_iter().cycle().enumerate() {
            if rest.is_empty() { break }
            let (some, more) = rest.split_at(cut.min(rest.len()));
            middle.merge(&bucket(some, 10), raw(60));
            if i % 3 == 2 {
                rolled.merge(&std::mem::take(&mut middle), raw(step));
            }
            rest = more;
        }
        rolled.merge(&middle, raw(step));
        prop_assert_eq!(rolled.count, whole.count);
        prop_assert_eq!((rolled.min, rolled.max), (whole.min, whole.max));
        let size: f64 = values.iter().map(|value| value.abs()).sum();
        prop_assert!((rolled.sum - whole.sum).abs() <= size * 1e-12);
        // Not only close: the same bins, in whatever order they were merged.
        match (&rolled.values, &whole.values) {
            (Values::Sketch(a), Values::Sketch(b)) => prop_assert_eq!(a, b),
            (Values::Raw(a), Values::Raw(b)) => prop_assert_eq!(a, b),
            // Parts of more than the coarse level keeps were sketches already.
            (a, b) => prop_assert!(false, "{:?} {:?}", a, b),
        }
    }

    #[test]
    fn what_is_written_is_read(values in values(), step in prop_oneof![Just(60_u32), Just(900)]) {
        let one = bucket(&values, step);
        prop_assert_eq!(code::read(&code::one(&one)), Some(one.clone()));
        let other = bucket(&values[..1], step);
        let packed = code::pack([(3, &one), (4, &other), (359, &one)].into_iter());
        prop_assert_eq!(code::unpack(&packed), [(3, one.clone()), (4, other), (359, one)]);
    }

    #[test]
    fn damaged_bytes_are_no_bucket_or_another(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
        if let Some(bucket) = code::read(&bytes) {
            let _ = bucket.summary();
        }
        let packed = miniz_oxide::deflate::compress_to_vec(&bytes, 1);
        let _ = (code::unpack(&bytes), code::unpack(&packed).len());
    }
}

#[test]
fn the_stated_errors_are_those_of_the_documentation() {
    let errors: Vec<_> =
        (0..4).map(|level| (sketch::error(level) * 1000.0).round() / 10.0).collect();
    assert_eq!(errors, [1.0, 2.0, 4.0, 8.0]);
    // One decade of values stays within 2 %.
    let mut decade = Sketch::default();
    (100..1000).for_each(|value| decade.add(f64::from(value)));
    assert!(decade.error() < 0.021, "{}", decade.error());
}

#[test]
fn percentiles_are_riemanns() {
    let bucket = bucket(&[9.0, 1.0, 5.0, 3.0, 0.0, 7.0, 2.0, 8.0, 4.0, 6.0], 10);
    let summary = bucket.summary();
    assert_eq!((summary.p50, summary.p95, summary.p99), (5.0, 9.0, 9.0));
    assert_eq!((summary.min, summary.max, summary.mean, summary.count), (0.0, 9.0, 4.5, 10));
}
