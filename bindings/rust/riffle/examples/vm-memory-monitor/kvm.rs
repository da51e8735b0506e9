// SPDX-License-Identifier: Apache-2.0
//! As much of KVM as the example needs, by ioctl(2); a monitor of yours would use kvm-ioctls.
use std::{
    fs::{File, OpenOptions},
    io,
    mem::size_of,
    os::unix::io::{AsRawFd, FromRawFd},
    ptr, slice,
};

use riffle::Registers;

// linux/kvm.h
const KVM_CREATE_VM: u64 = 0xae01;
const KVM_GET_VCPU_MMAP_SIZE: u64 = 0xae04;
const KVM_GET_SUPPORTED_CPUID: u64 = 0xc008ae05;
const KVM_CREATE_VCPU: u64 = 0xae41;
const KVM_SET_USER_MEMORY_REGION: u64 = 0x4020ae46;
const KVM_SET_TSS_ADDR: u64 = 0xae47;
const KVM_CREATE_IRQCHIP: u64 = 0xae60;
const KVM_CREATE_PIT2: u64 = 0x4040ae77;
const KVM_RUN: u64 = 0xae80;
const KVM_SET_REGS: u64 = 0x4090ae82;
const KVM_GET_SREGS: u64 = 0x8138ae83;
const KVM_SET_SREGS: u64 = 0x4138ae84;
const KVM_SET_CPUID2: u64 = 0x4008ae90;
const KVM_EXIT_IO: u32 = 2;
const KVM_EXIT_MMIO: u32 = 6;
const EXIT_REASON_AT: usize = 8;
const EXIT_AT: usize = 32;

#[repr(C)]
struct MemoryRegion {
    slot: u32,
    flags: u32,
    guest_phys_addr: u64,
    memory_size: u64,
    userspace_addr: u64,
}

#[repr(C)]
struct PitConfig {
    flags: u32,
    pad: [u32; 15],
}

#[repr(C)]
#[derive(Clone, Copy, Default)]
struct CpuidEntry {
    function: u32,
    index: u32,
    flags: u32,
    eax: u32,
    ebx: u32,
    ecx: u32,
    edx: u32,
    padding: [u32; 3],
}

#[repr(C)]
struct Cpuid {
    nent: u32,
    padding: u32,
    entries: [CpuidEntry; 256],
}

#[repr(C)]
#[derive(Default)]
struct Regs {
    rax: u64,
    rbx: u64,
    rcx: u64,
    rdx: u64,
    rsi: u64,
    rdi: u64,
    rsp: u64,
    rbp: u64,
    r8_to_r15: [u64; 8],
    rip: u64,
    rflags: u64,
}

#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Segment {
    base: u64,
    limit: u32,
    selector: u16,
    type_: u8,
    present: u8,
    dpl: u8,
    db: u8,
    s: u8,
    l: u8,
    g: u8,
    avl: u8,
    unusable: u8,
    padding: u8,
}

#[repr(C)]
#[derive(Default)]
struct Table {
    base: u64,
    limit: u16,
    padding: [u16; 3],
}

#[repr(C)]
#[derive(Default)]
struct Sregs {
    cs: Segment,
    ds: Segment,
    es: Segment,
    fs: Segment,
    gs: Segment,
    ss: Segment,
    tr: Segment,
    ldt: Segment,
    gdt: Table,
    idt: Table,
    cr0: u64,
    cr2: u64,
    cr3: u64,
    cr4: u64,
    cr8: u64,
    efer: u64,
    apic_base: u64,
    interrupt_bitmap: [u64; 4],
}

/// # Safety
/// `argument` is what the request takes.
unsafe fn ioctl(fd: &File, request: u64, argument: u64) -> io::Result<i32> {
    match libc::ioctl(fd.as_raw_fd(), request as _, argument) {
        -1 => Err(io::Error::last_os_error()),
        result => Ok(result),
    }
}

fn address_of<T>(value: &mut T) -> u64 {
    value as *mut T as u64
}

/// One VM, with the interrupt controllers and the timer that KVM emulates.
pub struct Vm {
    kvm: File,
    fd: File,
}

impl Vm {
    pub fn new() -> io::Result<Self> {
        let kvm = OpenOptions::new().read(true).write(true).open("/dev/kvm")?;
        let mut pit = PitConfig { flags: 1, pad: [0; 15] }; // answers port 0x61 as well
                                                            // Safety: each argument is what linux/kvm.h says; the descriptor is the VM's alone.
        unsafe {
            let fd = File::from_raw_fd(ioctl(&kvm, KVM_CREATE_VM, 0)?);
            ioctl(&fd, KVM_SET_TSS_ADDR, 0xfffbd000)?;
            ioctl(&fd, KVM_CREATE_IRQCHIP, 0)?;
            ioctl(&fd, KVM_CREATE_PIT2, address_of(&mut pit))?;
            Ok(Vm { kvm, fd })
        }
    }

    /// # Safety
    /// The memory is mapped as long as the VM lives.
    pub unsafe fn add_memory(&mut self, slot: u32, address: u64, bytes: u64, host: *mut u8) -> io::Result<()> {
        let mut region =
            MemoryRegion { slot, flags: 0, guest_phys_addr: address, memory_size: bytes, userspace_addr: host as u64 };
        ioctl(&self.fd, KVM_SET_USER_MEMORY_REGION, address_of(&mut region)).map(drop)
    }

    /// vCPU 0: the CPU that KVM offers, under a hypervisor.
    pub fn create_vcpu(&self) -> io::Result<Vcpu> {
        let mut cpuid = Cpuid { nent: 256, padding: 0, entries: [CpuidEntry::default(); 256] };
        // Safety: as above; struct kvm_run is as long as KVM says, and mapped until the vCPU is dropped.
        unsafe {
            ioctl(&self.kvm, KVM_GET_SUPPORTED_CPUID, address_of(&mut cpuid))?;
            for entry in &mut cpuid.entries[..(cpuid.nent as usize).min(256)] {
                match entry.function {
                    1 => {
                        entry.ebx &= 0xffff;
                        entry.ecx |= 1 << 31 | 1 << 24; // hypervisor; APIC timer by TSC deadline
                    }
                    0xb => entry.edx = 0,
                    _ => (),
                }
            }
            let fd = File::from_raw_fd(ioctl(&self.fd, KVM_CREATE_VCPU, 0)?);
            ioctl(&fd, KVM_SET_CPUID2, address_of(&mut cpuid))?;
            let bytes = ioctl(&self.kvm, KVM_GET_VCPU_MMAP_SIZE, 0)? as usize;
            let protection = libc::PROT_READ | libc::PROT_WRITE;
            let run = libc::mmap(ptr::null_mut(), bytes, protection, libc::MAP_SHARED, fd.as_raw_fd(), 0);
            if run == libc::MAP_FAILED {
                return Err(io::Error::last_os_error());
            }
            Ok(Vcpu { fd, run: run.cast(), bytes })
        }
    }
}

/// An access to a port: `size` bytes, once or several times.
pub struct Io<'v> {
    pub port: u16,
    pub size: usize,
    pub is_write: bool,
    pub data: &'v mut [u8],
}

/// Why the guest stopped.
pub enum Exit<'v> {
    Io(Io<'v>),
    Mmio { data: &'v mut [u8], is_write: bool },
    Other(u32),
}

pub struct Vcpu {
    fd: File,
    run: *mut u8,
    bytes: usize,
}

fn flat(selector: u16, code: bool) -> Segment {
    Segment {
        limit: 0xffff_ffff,
        selector,
        type_: if code { 11 } else { 3 },
        present: 1,
        s: 1,
        g: 1,
        l: code as u8,
        db: !code as u8,
        ..Default::default()
    }
}

impl Vcpu {
    /// What riffle's boot tables ask for, in KVM's words.
    pub fn enter_at(&mut self, r: &Registers) -> io::Result<()> {
        let mut regs = Regs { rip: r.rip, rsi: r.rsi, rsp: r.rsp, rflags: r.rflags, ..Default::default() };
        let mut sregs = Sregs::default();
        let data = flat(r.ds, false);
        // Safety: as above.
        unsafe {
            ioctl(&self.fd, KVM_GET_SREGS, address_of(&mut sregs))?;
            sregs.cs = flat(r.cs, true);
            (sregs.ds, sregs.es, sregs.fs, sregs.gs, sregs.ss) = (data, data, data, data, data);
            sregs.gdt = Table { base: r.gdt_address, limit: r.gdt_bytes - 1, padding: [0; 3] };
            (sregs.cr0, sregs.cr3, sregs.cr4, sregs.efer) = (r.cr0, r.cr3, r.cr4, r.efer);
            ioctl(&self.fd, KVM_SET_SREGS, address_of(&mut sregs))?;
            ioctl(&self.fd, KVM_SET_REGS, address_of(&mut regs)).map(drop)
        }
    }

    /// # Safety
    /// A `T` lies at this offset of struct kvm_run.
    unsafe fn field<T: Copy>(&self, at: usize) -> T {
        assert!(at + size_of::<T>() <= self.bytes);
        ptr::read_unaligned(self.run.add(at).cast())
    }

    pub fn run(&mut self) -> io::Result<Exit<'_>> {
        // Safety: struct kvm_run's fields lie where linux/kvm.h puts them, and KVM writes them only while it runs.
        unsafe {
            while let Err(error) = ioctl(&self.fd, KVM_RUN, 0) {
                if error.kind() != io::ErrorKind::Interrupted {
                    return Err(error);
                }
            }
            match self.field::<u32>(EXIT_REASON_AT) {
                KVM_EXIT_IO => {
                    let size = self.field::<u8>(EXIT_AT + 1) as usize;
                    let bytes = size * self.field::<u32>(EXIT_AT + 4) as usize;
                    let at = self.field::<u64>(EXIT_AT + 8) as usize;
                    assert!(at + bytes <= self.bytes);
                    Ok(Exit::Io(Io {
                        port: self.field(EXIT_AT + 2),
                        size,
                        is_write: self.field::<u8>(EXIT_AT) == 1,
                        data: slice::from_raw_parts_mut(self.run.add(at), bytes),
                    }))
                }
                KVM_EXIT_MMIO => Ok(Exit::Mmio {
                    data: slice::from_raw_parts_mut(self.run.add(EXIT_AT + 8), 8),
                    is_write: self.field::<u8>(EXIT_AT + 20) != 0,
                }),
                other => Ok(Exit::Other(other)),
            }
        }
    }
}

impl Drop for Vcpu {
    fn drop(&mut self) {
        // Safety: mapped with this length, and nothing borrows it any more.
        unsafe { libc::munmap(self.run.cast(), self.bytes) };
    }
}
