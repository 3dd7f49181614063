//! What the kernel knows of its clock: `adjtimex(2)`, asked and not set.

use std::io;

/// The clock's discipline.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Discipline {
    /// Somebody keeps it right: NTP or alike.
    pub synchronised: bool,
    /// Seconds that it is still off by, as far as is known.
    pub offset: f64,
    /// Seconds that it may be off by at most.
    pub max_error: f64,
}

/// Asks the kernel of the machine we run on.
#[allow(unsafe_code, reason = "libc has no safe form of it")]
pub fn read() -> io::Result<Discipline> {
    // SAFETY: `timex` holds integers only, for which zeros are values; `modes`
    // 0 asks and sets nothing; the kernel writes no more than the structure,
    // which lives on our stack until the call is over.
    let (state, told) = unsafe {
        let mut told: libc::timex = std::mem::zeroed();
        (libc::adjtimex(&raw mut told), told)
    };
    if state == -1 {
        return Err(io::Error::last_os_error());
    }
    let unit = if told.status & libc::STA_NANO == 0 { 1e-6 } else { 1e-9 };
    Ok(Discipline {
        synchronised: state != libc::TIME_ERROR && told.status & libc::STA_UNSYNC == 0,
        offset: told.offset as f64 * unit,
        max_error: told.maxerror as f64 * 1e-6,
    })
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_kernel_answers() {
        let told = super::read().unwrap();
        assert!(told.max_error >= 0.0 && told.offset.is_finite(), "{told:?}");
    }
}
