//! Counters become rates between two rounds.

/// What a counter of 64 bits has risen by; nothing where it was counted from
/// the start again.
pub fn rise(before: u64, now: u64) -> Option<u64> {
    now.checked_sub(before)
}

/// The same of a counter that the kernel keeps in 32 bits, such as the
/// milliseconds of `/proc/diskstats`: it goes on after its end.
pub fn rise32(before: u64, now: u64) -> Option<u64> {
    const END: u64 = 1 << 32;
    // From the upper half to the lower one in a round: nothing else does that.
    let wrapped = (END / 2..END).contains(&before) && now < END / 2;
    if wrapped { Some(now + END - before) } else { now.checked_sub(before) }
}

/// How much a second.
pub fn per_second(rise: u64, seconds: f64) -> f64 {
    rise as f64 / seconds
}

/// A number of bytes a second for people.
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "within what a number of bytes can be"
)]
pub fn bytes(per_second: f64) -> String {
    // Beyond what a number of bytes can be nobody reads it.
    let whole = crate::base::Bytes(per_second.clamp(0.0, 1e18) as u64);
    format!("{whole}/s")
}

/// A fraction as a percentage for people.
pub fn percent(fraction: f64) -> String {
    format!("{:.0} %", fraction * 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn counters_that_start_again_and_go_round() {
        assert_eq!((rise(5, 9), rise(9, 5)), (Some(4), None));
        assert_eq!(rise32(u64::from(u32::MAX) - 1, 3), Some(5));
        assert_eq!((rise32(100, 3), rise32(3, 100)), (None, Some(97)));
        assert_eq!((bytes(1536.0 * 1024.0).as_str(), percent(0.071).as_str()), ("1.5M/s", "7 %"));
    }

    proptest! {
        #[test]
        fn never_panics(a: u64, b: u64, c: f64) {
            let _ = (rise(a, b), rise32(a, b), bytes(c), percent(c));
        }
    }
}
