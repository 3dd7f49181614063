//! Percentiles that stay right when they are merged: a `DDSketch` (Masson, Rim
//! and Lee, VLDB 2019) whose bins are few and sparse, with the collapse of
//! `UDDSketch` (Epicoco et al., 2020).
//!
//! Values fall into bins whose bounds grow by a factor, so that the middle of a
//! bin is off by 1 % of the value at most. When there are more than
//! [`BINS`] bins, neighbours are joined and the error doubles: 2 %, 4 %, 8 %,
//! for all percentiles alike. The crate `sketches-ddsketch` keeps 2 KiB of
//! bins for each and does not let them be stored; a few hundred series have
//! two open ones each.

/// Bins before neighbours are joined.
pub const BINS: usize = 64;
/// The relative error of the first level.
pub const ALPHA: f64 = 0.01;
/// Below this a value counts as zero.
pub const TINY: f64 = 1e-12;
/// At this level all that a double can be falls into fewer than [`BINS`] bins.
const LAST: u8 = 12;

/// How often which values were seen, roughly.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Sketch {
    /// How often neighbours were joined.
    pub(super) level: u8,
    /// Values of which nothing but zero is known.
    pub(super) zero: u32,
    /// Bin and count of negative values, by the size of the value.
    pub(super) minus: Vec<(i32, u32)>,
    /// The same of positive values.
    pub(super) plus: Vec<(i32, u32)>,
}

/// ln of the factor between the bounds of a bin.
fn ln_gamma(level: u8) -> f64 {
    let gamma = (1.0 + ALPHA) / (1.0 - ALPHA);
    gamma.ln() * f64::from(1_u32 << level.min(LAST))
}

/// The relative error of a level.
pub fn error(level: u8) -> f64 {
    let gamma = ln_gamma(level).exp();
    if gamma.is_finite() { (gamma - 1.0) / (gamma + 1.0) } else { 1.0 }
}

/// The bin of a positive value: (γ^(k−1), γ^k].
#[allow(clippy::cast_possible_truncation, reason = "a logarithm of a double is small")]
fn key(value: f64, level: u8) -> i32 {
    // Through the first level, so that joining later gives the same bin.
    let mut key = (value.ln() / ln_gamma(0)).ceil() as i32;
    for _ in 0..level {
        key = up(key);
    }
    key
}

/// The bin one level up: of 2j−1 and 2j it is j.
fn up(key: i32) -> i32 {
    key.div_euclid(2) + key.rem_euclid(2)
}

fn middle(key: i32, level: u8) -> f64 {
    let ln = ln_gamma(level);
    // 2γ^k / (γ+1), as logarithms.
    (std::f64::consts::LN_2 + f64::from(key) * ln - ln.exp().ln_1p()).exp()
}

fn put(bins: &mut Vec<(i32, u32)>, key: i32, count: u32) {
    match bins.binary_search_by_key(&key, |(key, _)| *key) {
        Ok(at) => bins[at].1 = bins[at].1.saturating_add(count),
        Err(at) => bins.insert(at, (key, count)),
    }
}

impl Sketch {
    /// Adds a finite value.
    pub fn add(&mut self, value: f64) {
        let (level, size) = (self.level, value.abs());
        if size < TINY {
            self.zero = self.zero.saturating_add(1);
        } else if value < 0.0 {
            put(&mut self.minus, key(size, level), 1);
        } else {
            put(&mut self.plus, key(size, level), 1);
        }
        self.bound();
    }

    /// Adds all that another has seen.
    pub fn merge(&mut self, other: &Self) {
        while self.level < other.level {
            self.join();
        }
        self.zero = self.zero.saturating_add(other.zero);
        let lift = |key: i32| (other.level..self.level).fold(key, |key, _| up(key));
        let (minus, plus) = (&mut self.minus, &mut self.plus);
        for (key, count) in &other.minus {
            put(minus, lift(*key), *count);
        }
        for (key, count) in &other.plus {
            put(plus, lift(*key), *count);
        }
        self.bound();
    }

    fn bound(&mut self) {
        while self.minus.len() + self.plus.len() > BINS && self.level < LAST {
            self.join();
        }
    }

    /// Joins neighbours.
    fn join(&mut self) {
        self.level += 1;
        for bins in [&mut self.minus, &mut self.plus] {
            let mut joined: Vec<(i32, u32)> = Vec::with_capacity(bins.len() / 2 + 1);
            for (key, count) in bins.iter() {
                let key = up(*key);
                match joined.last_mut() {
                    Some((last, sum)) if *last == key => *sum = sum.saturating_add(*count),
                    _ => joined.push((key, *count)),
                }
            }
            *bins = joined;
        }
    }

    /// How many values were added.
    pub fn count(&self) -> u64 {
        let sum =
            |bins: &[(i32, u32)]| bins.iter().map(|(_, count)| u64::from(*count)).sum::<u64>();
        u64::from(self.zero) + sum(&self.minus) + sum(&self.plus)
    }

    /// The value at a place in the sorted sequence, from 0.
    pub fn at(&self, place: u64) -> f64 {
        let mut left = place;
        for (key, count) in self.minus.iter().rev() {
            match left.checked_sub(u64::from(*count)) {
                Some(rest) => left = rest,
                None => return -middle(*key, self.level),
            }
        }
        match left.checked_sub(u64::from(self.zero)) {
            Some(rest) => left = rest,
            None => return 0.0,
        }
        for (key, count) in &self.plus {
            match left.checked_sub(u64::from(*count)) {
                Some(rest) => left = rest,
                None => return middle(*key, self.level),
            }
        }
        self.plus.last().map_or(0.0, |(key, _)| middle(*key, self.level))
    }

    /// The relative error of what [`at`](Self::at) tells.
    pub fn error(&self) -> f64 {
        error(self.level)
    }
}
