//! Guests of a few instructions, in 64-bit mode behind page tables of their
//! own. Each works on the same data and sends its result, 8 bytes, out of a
//! port; then it halts.
//!
//! The machine code is assembled by hand; what each must come to is worked out
//! again by the tests. How a processor is put into 64-bit mode: AMD64
//! Architecture Programmer's Manual, volume 2, chapter 14.

use kvm_bindings::{
    CpuId, KVM_MAX_CPUID_ENTRIES, kvm_regs, kvm_segment, kvm_userspace_memory_region,
};
use kvm_ioctls::{Kvm, VcpuExit, VcpuFd};

use super::{KvmResult, Outcome, Trial};

/// What a guest is made of.
struct Guest {
    name: &'static str,
    code: &'static [&'static [u8]],
    result: u64,
    offered: fn(&CpuId) -> bool,
    wide: bool,
}

const GUESTS: [Guest; 4] = [
    Guest {
        name: "64-bit",
        code: &[BASE],
        result: 0xf40c_cf7a_bbd7_c1b0,
        offered: |_| true,
        wide: false,
    },
    Guest {
        name: "BMI2",
        code: &[BMI2],
        result: 0x15f4_510c_e175_a237,
        // andn is of the first set; no processor has only the second.
        offered: |cpuid| bit(cpuid, 7, Register::Ebx, 3) && bit(cpuid, 7, Register::Ebx, 8),
        wide: false,
    },
    Guest {
        name: "AVX",
        code: &[WIDE, AVX],
        result: 0x2144_410d_0ef4_9877,
        offered: avx,
        wide: true,
    },
    Guest {
        name: "AVX2",
        code: &[WIDE, AVX2],
        result: 0x000d_ef1b_97a6_b239,
        offered: |cpuid| avx(cpuid) && bit(cpuid, 7, Register::Ebx, 5),
        wide: true,
    },
];

/// movabs, imul, `xor [rsi]`, push, pop, a store and a load, lea, SSE2's paddq.
const BASE: &[u8] = &[
    0x48, 0xb8, 0xef, 0xcd, 0xab, 0x89, 0x67, 0x45, 0x23, 0x01, // mov rax, 0x123456789abcdef
    0x48, 0xbb, 0x15, 0x7c, 0x4a, 0x7f, 0xb9, 0x79, 0x37, 0x9e, // mov rbx, 0x9e3779b97f4a7c15
    0x48, 0x0f, 0xaf, 0xc3, // imul rax, rbx
    0x48, 0x33, 0x06, // xor rax, [rsi]
    0x50, 0x59, // push rax; pop rcx
    0x48, 0x89, 0x8e, 0x00, 0x01, 0x00, 0x00, // mov [rsi+0x100], rcx
    0x48, 0x8b, 0x86, 0x00, 0x01, 0x00, 0x00, // mov rax, [rsi+0x100]
    0x48, 0x8d, 0x04, 0x40, // lea rax, [rax+rax*2]
    0x66, 0x48, 0x0f, 0x6e, 0xc0, // movq xmm0, rax
    0x66, 0x0f, 0xd4, 0xc0, // paddq xmm0, xmm0
    0x66, 0x48, 0x0f, 0x7e, 0xc0, // movq rax, xmm0
];

const BMI2: &[u8] = &[
    0x48, 0x8b, 0x06, // mov rax, [rsi]
    0x48, 0x8b, 0x5e, 0x08, // mov rbx, [rsi+8]
    0xb9, 0x07, 0x00, 0x00, 0x00, // mov ecx, 7
    0xc4, 0xe2, 0xf1, 0xf7, 0xd0, // shlx rdx, rax, rcx
    0xc4, 0xe2, 0xe0, 0xf2, 0xfa, // andn rdi, rbx, rdx
    0xc4, 0xe3, 0xfb, 0xf0, 0xc7, 0x0d, // rorx rax, rdi, 13
    0xc4, 0x62, 0xb3, 0xf6, 0xc3, // mulx r8, r9, rbx
    0x4c, 0x01, 0xc0, // add rax, r8
    0x4c, 0x31, 0xc8, // xor rax, r9
];

/// Turns the wide registers on.
const WIDE: &[u8] = &[
    0x31, 0xc9, // xor ecx, ecx
    0x31, 0xd2, // xor edx, edx
    0xb8, 0x07, 0x00, 0x00, 0x00, // mov eax, 7
    0x0f, 0x01, 0xd1, // xsetbv
];

const AVX: &[u8] = &[
    0xc5, 0xfc, 0x10, 0x06, // vmovups ymm0, [rsi]
    0xc5, 0xfc, 0x10, 0x4e, 0x20, // vmovups ymm1, [rsi+32]
    0xc5, 0xfc, 0x57, 0xd1, // vxorps ymm2, ymm0, ymm1
    0xc4, 0xe3, 0x7d, 0x19, 0xd3, 0x01, // vextractf128 xmm3, ymm2, 1
    0xc5, 0xe9, 0xfe, 0xe3, // vpaddd xmm4, xmm2, xmm3
    0xc4, 0xe1, 0xf9, 0x7e, 0xe0, // vmovq rax, xmm4
    0xc4, 0xe3, 0xf9, 0x16, 0xe3, 0x01, // vpextrq rbx, xmm4, 1
    0x48, 0x31, 0xd8, // xor rax, rbx
];

const AVX2: &[u8] = &[
    0xc5, 0xfe, 0x6f, 0x06, // vmovdqu ymm0, [rsi]
    0xc5, 0xfe, 0x6f, 0x4e, 0x20, // vmovdqu ymm1, [rsi+32]
    0xc5, 0xfd, 0xfe, 0xd1, // vpaddd ymm2, ymm0, ymm1
    0xc5, 0xed, 0xef, 0xd8, // vpxor ymm3, ymm2, ymm0
    0xc4, 0xe3, 0x7d, 0x39, 0xdc, 0x01, // vextracti128 xmm4, ymm3, 1
    0xc5, 0xd9, 0xef, 0xeb, // vpxor xmm5, xmm4, xmm3
    0xc4, 0xe1, 0xf9, 0x7e, 0xe8, // vmovq rax, xmm5
    0xc4, 0xe3, 0xf9, 0x16, 0xeb, 0x01, // vpextrq rbx, xmm5, 1
    0x48, 0x31, 0xd8, // xor rax, rbx
];

/// Sends rax in two halves and halts.
const END: &[u8] = &[
    0xe7, 0x80, // out 0x80, eax
    0x48, 0xc1, 0xe8, 0x20, // shr rax, 32
    0xe7, 0x80, // out 0x80, eax
    0xf4, // hlt
];

/// What rsi points to: the first digits of pi.
const DATA: [u64; 8] = [
    0x243f_6a88_85a3_08d3,
    0x1319_8a2e_0370_7344,
    0xa409_3822_299f_31d0,
    0x082e_fa98_ec4e_6c89,
    0x4528_21e6_38d0_1377,
    0xbe54_66cf_34e9_0c6c,
    0xc0ac_29b7_c97c_50dd,
    0x3f84_d5b5_b547_0917,
];

const PORT: u16 = 0x80;
/// Where things lie in the guest's memory.
const TABLES: [usize; 4] = [0x1000, 0x2000, 0x3000, 0x6000];
const CODE: usize = 0x4000;
const PLACE: usize = 0x5000;
const STACK: u64 = 0xf000;
const SIZE: usize = 0x1_0000;
/// More exits than two halves and a halt need, signals included.
const EXITS: usize = 64;

#[derive(Clone, Copy)]
enum Register {
    Ebx,
    Ecx,
}

/// A bit of what KVM offers guests, in subleaf 0.
fn bit(cpuid: &CpuId, leaf: u32, register: Register, number: u32) -> bool {
    cpuid.as_slice().iter().any(|entry| {
        let value = match register {
            Register::Ebx => entry.ebx,
            Register::Ecx => entry.ecx,
        };
        entry.function == leaf && entry.index == 0 && value >> number & 1 == 1
    })
}

/// XSAVE and AVX.
fn avx(cpuid: &CpuId) -> bool {
    bit(cpuid, 1, Register::Ecx, 26) && bit(cpuid, 1, Register::Ecx, 28)
}

/// Tries all guests, each in a VM of its own.
pub(super) fn try_all(kvm: &Kvm) -> Vec<Trial> {
    let cpuid = kvm.get_supported_cpuid(KVM_MAX_CPUID_ENTRIES);
    let outcome = |guest: &Guest| match &cpuid {
        Err(error) => {
            let why = format!("KVM does not say what it offers guests: {error}");
            Outcome::Failed { why }
        }
        Ok(cpuid) if !(guest.offered)(cpuid) => Outcome::NotOffered,
        Ok(cpuid) => {
            let ran = run(kvm, cpuid, guest);
            let no = |error| Err(format!("the kernel refused to make the VM: {error}"));
            match ran.unwrap_or_else(no) {
                Ok(result) if result == guest.result => Outcome::Ran,
                Ok(result) => Outcome::Failed {
                    why: format!("it computed {result:#x} instead of {:#x}", guest.result),
                },
                Err(why) => Outcome::Failed { why },
            }
        }
    };
    let one = |guest: &Guest| Trial { name: guest.name.to_owned(), outcome: outcome(guest) };
    GUESTS.iter().map(one).collect()
}

/// The guest's memory: as pages, because KVM takes whole ones.
#[repr(C, align(4096))]
struct Memory([u8; SIZE]);

impl Memory {
    fn put(&mut self, at: usize, bytes: &[u8]) {
        if let Some(place) = self.0.get_mut(at..at + bytes.len()) {
            place.copy_from_slice(bytes);
        }
    }

    #[allow(clippy::large_stack_arrays, reason = "64 KiB, once; a vector is not page-aligned")]
    fn fill(guest: &Guest) -> Box<Self> {
        const PRESENT_WRITABLE: u64 = 3;
        let mut memory = Box::new(Self([0; SIZE]));
        for pair in TABLES.windows(2) {
            if let [table, next] = *pair {
                memory.put(table, &(next as u64 | PRESENT_WRITABLE).to_le_bytes());
            }
        }
        for page in 0..SIZE / 4096 {
            let entry = (page << 12) as u64 | PRESENT_WRITABLE;
            memory.put(TABLES[3] + 8 * page, &entry.to_le_bytes());
        }
        memory.put(CODE, &[guest.code.concat(), END.to_vec()].concat());
        memory.put(PLACE, &DATA.map(u64::to_le_bytes).concat());
        memory
    }
}

/// Runs a guest: its result, or how it ended otherwise.
fn run(kvm: &Kvm, cpuid: &CpuId, guest: &Guest) -> KvmResult<Result<u64, String>> {
    // Before the VM, so that it outlives it.
    let mut memory = Memory::fill(guest);
    let vm = kvm.create_vm()?;
    // Intel's processors want three pages for themselves, wherever they are not in the way.
    vm.set_tss_address(0xfffb_d000)?;
    let region = kvm_userspace_memory_region {
        slot: 0,
        flags: 0,
        guest_phys_addr: 0,
        memory_size: SIZE as u64,
        userspace_addr: (&raw mut *memory) as u64,
    };
    #[allow(
        unsafe_code,
        reason = "the region is the whole of `memory`: page-aligned, alive until after the VM and \
                  its processor are closed, and not looked at or moved by us in between"
    )]
    // SAFETY: as the reason says.
    unsafe {
        vm.set_user_memory_region(region)?;
    }
    let mut vcpu = vm.create_vcpu(0)?;
    // First: it decides which bits the registers may have.
    vcpu.set_cpuid2(cpuid)?;
    into_64_bit(&vcpu, guest.wide)?;
    let ended = until_halt(&mut vcpu);
    drop((vcpu, vm));
    drop(memory);
    Ok(ended)
}

fn into_64_bit(vcpu: &VcpuFd, wide: bool) -> KvmResult<()> {
    const OSXSAVE: u64 = 1 << 18;
    let segment = |selector, type_, l, db| kvm_segment {
        limit: 0xffff_ffff,
        selector,
        type_,
        present: 1,
        s: 1,
        g: 1,
        l,
        db,
        ..kvm_segment::default()
    };
    let mut sregs = vcpu.get_sregs()?;
    sregs.cs = segment(8, 0xb, 1, 0);
    let data = segment(16, 3, 0, 1);
    (sregs.ds, sregs.es, sregs.ss) = (data, data, data);
    (sregs.fs, sregs.gs) = (data, data);
    sregs.cr3 = TABLES[0] as u64;
    // PAE, OSFXSR, OSXMMEXCPT.
    sregs.cr4 = 0x620 | if wide { OSXSAVE } else { 0 };
    // PG, WP, NE, ET, MP, PE.
    sregs.cr0 = 0x8001_0033;
    // LMA, LME.
    sregs.efer = 0x500;
    vcpu.set_sregs(&sregs)?;
    vcpu.set_regs(&kvm_regs {
        rip: CODE as u64,
        rsi: PLACE as u64,
        rsp: STACK,
        rflags: 2,
        ..kvm_regs::default()
    })
}

/// Lets the guest run until it halts; what it has sent.
fn until_halt(vcpu: &mut VcpuFd) -> Result<u64, String> {
    let mut sent: Vec<u8> = Vec::new();
    for _ in 0..EXITS {
        let exit = match vcpu.run() {
            Err(error) if matches!(error.errno(), libc::EINTR | libc::EAGAIN) => continue,
            Err(error) => Err(format!("KVM_RUN failed: {error}")),
            Ok(VcpuExit::IoOut(PORT, bytes)) => {
                sent.extend(bytes.iter().take(8));
                continue;
            }
            Ok(VcpuExit::Hlt) => Ok(()),
            Ok(VcpuExit::InternalError) => Err(String::new()),
            Ok(VcpuExit::Shutdown) => {
                Err("it ended in a triple fault (KVM_EXIT_SHUTDOWN)".to_owned())
            }
            Ok(VcpuExit::FailEntry(reason, _)) => Err(format!(
                "the processor refused to enter it (KVM_EXIT_FAIL_ENTRY, reason {reason:#x})"
            )),
            Ok(other) => {
                let other: String = format!("{other:?}").chars().take(60).collect();
                Err(format!("it stopped with {other}, which it should not"))
            }
        };
        return match exit {
            Ok(()) => <[u8; 8]>::try_from(sent.as_slice())
                .map(u64::from_le_bytes)
                .map_err(|_| format!("it halted after {} of 8 bytes of its result", sent.len())),
            Err(why) if why.is_empty() => Err(format!("{}{}", internal(vcpu), place(vcpu))),
            Err(why) => Err(format!("{why}{}", place(vcpu))),
        };
    }
    Err(format!("it did not halt within {EXITS} exits"))
}

/// What KVM says about an error of its own (`linux/kvm.h`, `KVM_INTERNAL_ERROR_*`).
fn internal(vcpu: &mut VcpuFd) -> String {
    let run = vcpu.get_kvm_run();
    #[allow(unsafe_code, reason = "a union's plain numbers; the exit reason says which part holds")]
    // SAFETY: every bit pattern is a number, and the kernel has filled this
    // part for KVM_EXIT_INTERNAL_ERROR.
    let suberror = unsafe { run.__bindgen_anon_1.internal.suberror };
    let words = match suberror {
        1 => "the kernel could not emulate an instruction",
        2 => "two exceptions at once",
        3 => "an event could not be delivered",
        4 => "an exit of the processor that KVM does not know",
        _ => "no further reason",
    };
    format!("it died with KVM_EXIT_INTERNAL_ERROR, suberror {suberror}: {words}")
}

/// Where the guest stands.
fn place(vcpu: &VcpuFd) -> String {
    let rip = vcpu.get_regs().map(|regs| regs.rip).unwrap_or_default();
    let into = rip.wrapping_sub(CODE as u64);
    if into < 0x1000 { format!(" (byte {into} of its code)") } else { String::new() }
}

#[cfg(test)]
mod tests;
