//! The bytes of buckets. What is read back may be damaged: every length is
//! bounded by what is there, and nothing is believed that makes no sense.

use super::bucket::{Bucket, Values};
use super::sketch::Sketch;

/// The most that one block is unpacked to.
const UNPACKED: usize = 1 << 20;

/// A number, seven bits a byte.
fn number(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        #[allow(clippy::cast_possible_truncation, reason = "seven bits")]
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    #[allow(clippy::cast_possible_truncation, reason = "seven bits")]
    out.push(value as u8);
}

/// A double, given the one before: the bytes in the middle that differ, after
/// one that says how many are left out before and after.
fn double(out: &mut Vec<u8>, before: &mut u64, value: f64) {
    let bits = value.to_bits();
    let bytes = (bits ^ *before).to_be_bytes();
    *before = bits;
    let lead = bytes.iter().take_while(|b| **b == 0).count();
    let trail = bytes[lead..].iter().rev().take_while(|b| **b == 0).count();
    #[allow(clippy::cast_possible_truncation, reason = "at most 8")]
    out.push((lead << 4 | trail) as u8);
    out.extend_from_slice(&bytes[lead..8 - trail]);
}

fn zigzag(value: i32) -> u64 {
    u64::from((value.cast_unsigned() << 1) ^ (value >> 31).cast_unsigned())
}

/// Adds a bucket.
pub fn write(out: &mut Vec<u8>, bucket: &Bucket) {
    let mut before = 0;
    match &bucket.values {
        Values::Raw(values) => {
            out.push(0);
            number(out, values.len() as u64);
            for value in values {
                double(out, &mut before, *value);
            }
        }
        Values::Sketch(sketch) => {
            out.push(1 + sketch.level);
            number(out, bucket.count);
            for value in [bucket.min, bucket.max, bucket.sum] {
                double(out, &mut before, value);
            }
            number(out, u64::from(sketch.zero));
            for bins in [&sketch.minus, &sketch.plus] {
                number(out, bins.len() as u64);
                let mut last = 0_i32;
                for (i, (key, _)) in bins.iter().enumerate() {
                    let gap = key.wrapping_sub(last);
                    number(
                        out,
                        if i == 0 { zigzag(gap) } else { u64::from(gap.cast_unsigned()) - 1 },
                    );
                    last = *key;
                }
                for (_, count) in bins {
                    number(out, u64::from(*count));
                }
            }
        }
    }
}

/// A bucket's bytes.
pub fn one(bucket: &Bucket) -> Box<[u8]> {
    let mut out = Vec::with_capacity(64);
    write(&mut out, bucket);
    out.into_boxed_slice()
}

/// What is left to read.
struct Bytes<'a>(&'a [u8]);

impl Bytes<'_> {
    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    fn number(&mut self) -> Option<u64> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f).checked_shl(shift)?;
            if byte < 0x80 {
                return Some(value);
            }
        }
        None
    }

    fn small(&mut self) -> Option<u32> {
        self.number()?.try_into().ok()
    }

    /// A length of things of a byte at least.
    fn length(&mut self) -> Option<usize> {
        let length = usize::try_from(self.number()?).ok()?;
        (length <= self.0.len()).then_some(length)
    }

    fn double(&mut self, before: &mut u64) -> Option<f64> {
        let about = self.byte()?;
        let (lead, trail) = (usize::from(about >> 4), usize::from(about & 0xf));
        let length = 8_usize.checked_sub(lead)?.checked_sub(trail)?;
        let (some, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        let mut bytes = [0; 8];
        bytes[lead..lead + length].copy_from_slice(some);
        *before ^= u64::from_be_bytes(bytes);
        Some(f64::from_bits(*before)).filter(|value| value.is_finite())
    }

    fn bins(&mut self) -> Option<Vec<(i32, u32)>> {
        let length = self.length()?;
        let mut bins = Vec::with_capacity(length);
        let mut last = 0_i32;
        for i in 0..length {
            let by = self.small()?;
            last = if i == 0 {
                (by >> 1).cast_signed() ^ -((by & 1).cast_signed())
            } else {
                last.checked_add_unsigned(by)?.checked_add(1)?
            };
            bins.push((last, 0));
        }
        for (_, count) in &mut bins {
            *count = self.small()?;
        }
        Some(bins)
    }

    fn bucket(&mut self) -> Option<Bucket> {
        let mut before = 0;
        let kind = self.byte()?;
        let Some(level) = kind.checked_sub(1) else {
            let length = self.length()?;
            let mut bucket = Bucket::default();
            for _ in 0..length {
                bucket.add(self.double(&mut before)?, usize::MAX);
            }
            return Some(bucket);
        };
        let count = self.number()?;
        let min = self.double(&mut before)?;
        let max = self.double(&mut before)?;
        let sum = self.double(&mut before)?;
        let zero = self.small()?;
        let (minus, plus) = (self.bins()?, self.bins()?);
        let sketch = Sketch { level: level.min(31), zero, minus, plus };
        let fine = min <= max && count > 0 && level < 32;
        fine.then(|| Bucket { count, min, max, sum, values: Values::Sketch(Box::new(sketch)) })
    }
}

/// A bucket back from its bytes.
pub fn read(bytes: &[u8]) -> Option<Bucket> {
    let mut bytes = Bytes(bytes);
    let bucket = bytes.bucket()?;
    bytes.0.is_empty().then_some(bucket)
}

/// Many buckets of one series and level, with their place in the block.
pub fn pack<'a>(buckets: impl Iterator<Item = (u32, &'a Bucket)>) -> Vec<u8> {
    let mut out = Vec::new();
    let mut next = 0_u32;
    for (place, bucket) in buckets {
        number(&mut out, u64::from(place.saturating_sub(next)));
        next = place.saturating_add(1);
        write(&mut out, bucket);
    }
    miniz_oxide::deflate::compress_to_vec(&out, 6)
}

/// What [`pack`] was given; as far as it can be read.
pub fn unpack(bytes: &[u8]) -> Vec<(u32, Bucket)> {
    let Ok(plain) = miniz_oxide::inflate::decompress_to_vec_with_limit(bytes, UNPACKED) else {
        return Vec::new();
    };
    let mut bytes = Bytes(&plain);
    let (mut all, mut next) = (Vec::new(), 0_u32);
    while !bytes.0.is_empty() {
        let Some(place) = bytes.small().and_then(|gap| next.checked_add(gap)) else { break };
        let Some(bucket) = bytes.bucket() else { break };
        next = place.saturating_add(1);
        all.push((place, bucket));
    }
    all
}
