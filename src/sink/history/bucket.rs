//! What is known of one span of time.

use super::sketch::Sketch;

/// Values that are kept as they are; more become a sketch. Twelve come in a
/// minute when hostd looks every five seconds.
pub const RAW: usize = 16;
/// The same from [`SKETCHED`] on.
pub const RAW_COARSE: usize = 8;
/// Seconds of a bucket from which on sketches are the rule.
pub const SKETCHED: u32 = 900;

/// Which values there were.
#[derive(Debug, Clone, PartialEq)]
pub enum Values {
    /// All of them, in their order.
    Raw(Vec<f64>),
    /// Roughly.
    Sketch(Box<Sketch>),
}

/// A count, its extremes and sum (exact), and its values.
#[derive(Debug, Clone, PartialEq)]
pub struct Bucket {
    /// How many.
    pub count: u64,
    /// The smallest.
    pub min: f64,
    /// The largest.
    pub max: f64,
    /// All together.
    pub sum: f64,
    /// Which.
    pub values: Values,
}

/// What is told of a bucket.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Summary {
    /// The smallest.
    pub min: f64,
    /// The largest.
    pub max: f64,
    /// The mean.
    pub mean: f64,
    /// How many.
    pub count: u64,
    /// Half are not larger.
    pub p50: f64,
    /// 95 % are not larger.
    pub p95: f64,
    /// 99 % are not larger.
    pub p99: f64,
    /// By how much of its value a percentile may be off; 0 when it is exact.
    pub error: f64,
}

impl Default for Bucket {
    fn default() -> Self {
        Self {
            count: 0,
            min: f64::INFINITY,
            max: f64::NEG_INFINITY,
            sum: 0.0,
            values: Values::Raw(Vec::new()),
        }
    }
}

/// How many values a bucket of so many seconds keeps as they are.
pub fn raw(step: u32) -> usize {
    if step < SKETCHED { RAW } else { RAW_COARSE }
}

impl Bucket {
    /// Adds a finite value; beyond `raw` values they become a sketch.
    pub fn add(&mut self, value: f64, raw: usize) {
        self.count += 1;
        self.min = self.min.min(value);
        self.max = self.max.max(value);
        self.sum = (self.sum + value).clamp(f64::MIN, f64::MAX);
        match &mut self.values {
            Values::Raw(values) => values.push(value),
            Values::Sketch(sketch) => sketch.add(value),
        }
        self.bound(raw);
    }

    /// Adds all of another.
    pub fn merge(&mut self, other: &Self, raw: usize) {
        self.count = self.count.saturating_add(other.count);
        self.min = self.min.min(other.min);
        self.max = self.max.max(other.max);
        self.sum = (self.sum + other.sum).clamp(f64::MIN, f64::MAX);
        match (&mut self.values, &other.values) {
            (Values::Raw(values), Values::Raw(more)) => values.extend_from_slice(more),
            (Values::Sketch(sketch), Values::Raw(more)) => {
                for value in more {
                    sketch.add(*value);
                }
            }
            (Values::Sketch(sketch), Values::Sketch(more)) => sketch.merge(more),
            (Values::Raw(values), Values::Sketch(more)) => {
                let mut sketch = more.clone();
                for value in values.iter() {
                    sketch.add(*value);
                }
                self.values = Values::Sketch(sketch);
            }
        }
        self.bound(raw);
    }

    fn bound(&mut self, raw: usize) {
        if let Values::Raw(values) = &self.values
            && values.len() > raw
        {
            let mut sketch = Box::<Sketch>::default();
            for value in values {
                sketch.add(*value);
            }
            self.values = Values::Sketch(sketch);
        }
    }

    /// Percentiles: of n values in order, that at ⌊q·n⌋, as Riemann takes it.
    pub fn summary(&self) -> Summary {
        let sorted = match &self.values {
            Values::Raw(values) => {
                let mut sorted = values.clone();
                sorted.sort_by(f64::total_cmp);
                sorted
            }
            Values::Sketch(_) => Vec::new(),
        };
        let at = |q: f64| {
            let place = place(q, self.count);
            let value = match &self.values {
                Values::Raw(_) => {
                    let at = usize::try_from(place).unwrap_or(usize::MAX);
                    sorted.get(at).or(sorted.last()).copied().unwrap_or_default()
                }
                Values::Sketch(sketch) => sketch.at(place),
            };
            if self.count > 0 { value.max(self.min).min(self.max) } else { 0.0 }
        };
        let error = match &self.values {
            Values::Raw(_) => 0.0,
            Values::Sketch(sketch) => sketch.error(),
        };
        if self.count == 0 {
            return Summary::default();
        }
        // Not beyond its ends, whatever rounding did to the sum.
        let mean = (self.sum / self.count as f64).max(self.min).min(self.max);
        let (min, max, count) = (self.min, self.max, self.count);
        Summary { min, max, mean, count, p50: at(0.5), p95: at(0.95), p99: at(0.99), error }
    }
}

/// Where a quantile is among `count` values in order.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 0 and count")]
pub fn place(q: f64, count: u64) -> u64 {
    ((q * count as f64) as u64).min(count.saturating_sub(1))
}
