//! The guests, tried as bytes.

use super::*;

/// What the instructions come to, worked out in plain arithmetic.
#[allow(clippy::cast_possible_truncation, reason = "halves are meant")]
fn worked_out(name: &str) -> u64 {
    let halves = |x: u64, y: u64, f: fn(u32, u32) -> u32| {
        let part = |n: u32| u64::from(f((x >> n) as u32, (y >> n) as u32)) << n;
        part(0) | part(32)
    };
    let add = |x, y| halves(x, y, u32::wrapping_add);
    let d = DATA;
    match name {
        "64-bit" => {
            let x = 0x0123_4567_89ab_cdef_u64.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ d[0];
            x.wrapping_mul(3).wrapping_mul(2)
        }
        "BMI2" => {
            let rdx = d[0] << 7;
            let rax = (!d[1] & rdx).rotate_right(13);
            let wide = u128::from(rdx) * u128::from(d[1]);
            rax.wrapping_add((wide >> 64) as u64) ^ wide as u64
        }
        "AVX" => {
            let x = |n: usize| d[n] ^ d[n + 4];
            add(x(0), x(2)) ^ add(x(1), x(3))
        }
        "AVX2" => {
            let x = |n: usize| add(d[n], d[n + 4]) ^ d[n];
            (0..4).fold(0, |all, n| all ^ x(n))
        }
        other => panic!("{other}"),
    }
}

#[test]
fn the_results_are_what_the_instructions_come_to() {
    for guest in &GUESTS {
        assert_eq!(guest.result, worked_out(guest.name), "{}", guest.name);
    }
}

#[test]
fn everything_has_its_place() {
    for guest in &GUESTS {
        let memory = Memory::fill(guest);
        let word = |at: usize| u64::from_le_bytes(memory.0[at..at + 8].try_into().unwrap());
        // The walk that the processor makes for the code's page.
        assert_eq!(word(TABLES[0]) & !0xfff, TABLES[1] as u64);
        assert_eq!(word(TABLES[1]) & !0xfff, TABLES[2] as u64);
        assert_eq!(word(TABLES[2]) & !0xfff, TABLES[3] as u64);
        assert_eq!(word(TABLES[3] + 8 * (CODE >> 12)) & !0xfff, CODE as u64);
        assert!(memory.0[CODE..PLACE].ends_with(&[0; 64]), "{}", guest.name);
        assert_eq!(word(PLACE), DATA[0]);
    }
}
