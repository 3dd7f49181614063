//! Config space: no bytes make the capability lists run in circles, or lead
//! out of the bytes.
#![no_main]

use hostd::pci::acs;
use hostd::pci::config_space::{CONVENTIONAL, WHOLE, capability, extended, parse};
use hostd::pci::fake_config::FakeConfig;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _ = acs::judge(parse(bytes));
    // The same bytes over a sound config space get further than alone.
    let mut whole = FakeConfig::endpoint().acs(0x5f, 0x1d).bytes();
    for (to, from) in whole.iter_mut().zip(bytes) {
        *to = *from;
    }
    let _ = acs::judge(parse(&whole));
    for id in 0..=u8::MAX {
        assert!(capability(&whole, id).is_none_or(|at| (0x40..CONVENTIONAL).contains(&at)));
        assert!(extended(&whole, id.into()).is_none_or(|at| (CONVENTIONAL..WHOLE).contains(&at)));
    }
});
