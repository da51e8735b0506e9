// SPDX-License-Identifier: Apache-2.0
//! A minimal monitor on rust-vmm's vm-memory: boots a prepared kernel, its functions shuffled and its sections slid where it allows that.
//!
//!     riffle prepare /boot/vmlinuz-... -o kernel.riffle
//!     cargo run --features vm-memory --example vm-memory-monitor kernel.riffle [INITRD [COMMAND-LINE]]
//!
//! One vCPU, 256 MiB, a serial port that only prints, and a reset line.
mod kvm;

use std::{
    env,
    error::Error,
    fs::File,
    io::{Read, Write},
    process::exit,
};

use riffle::{LoadOptions, Machine, Memory, Mode, Plan, Randomise, Registers, Source};
use vm_memory::{Bytes, GuestAddress, GuestMemory, GuestMemoryMmap, GuestMemoryRegion};

const MIB: usize = 1 << 20;
const COM1: u16 = 0x3f8;
const RESET_PORT: u16 = 0x64;
const RESET_VALUE: u8 = 0xfe;

/// From a prepared kernel to guest memory and registers: all that the library does for a boot.
fn load(
    kernel: &str,
    initrd: Option<&str>,
    command_line: &str,
    guest: &GuestMemoryMmap,
) -> Result<Registers, Box<dyn Error>> {
    let plan = Plan::open(Source::from_file(File::open(kernel)?)?)?;
    let mut memory = Memory::from_guest_memory(guest)?;
    let mut machine = Machine {
        vcpus: 1,
        command_line: command_line.into(),
        reset_port: RESET_PORT,
        reset_value: RESET_VALUE,
        ..Default::default()
    };
    if let Some(file) = initrd {
        let mut bytes = Vec::new();
        File::open(file)?.read_to_end(&mut bytes)?;
        let address = machine.place_initrd(&memory, Some(&plan), bytes.len() as u64)?;
        guest.write_slice(&bytes, GuestAddress(address))?;
        machine.initrd = Some((address, bytes.len() as u64));
    }
    machine.reserve(&mut memory)?;
    let mode = if plan.chunks() > 0 { Mode::Fgkaslr } else { Mode::Kaslr };
    let how = Randomise { mode, slides: plan.blocks() > 0 };
    let layout = plan.draw(&memory, how)?;
    let loaded = plan.load(&layout, &mut memory, &LoadOptions { threads: 2, ..Default::default() })?;
    let registers = machine.write(&mut memory, &plan, &loaded)?;
    let slots = plan.slots(&memory, how)?;
    eprintln!(
        "vm-memory-monitor: {}: one of {} virtual and {} physical places, {} chunks, {} blocks",
        plan.kernel_version(),
        slots.virtual_,
        slots.physical,
        plan.chunks(),
        plan.blocks()
    );
    Ok(registers)
}

/// A UART that prints, a keyboard controller that resets; false when the guest asked for that.
fn handle_io(io: kvm::Io<'_>) -> bool {
    for data in io.data.chunks_exact_mut(io.size) {
        if io.is_write {
            if io.port == COM1 {
                let _ = std::io::stdout().write_all(&data[..1]);
            }
            if io.port == RESET_PORT && data[0] == RESET_VALUE {
                return false;
            }
        } else {
            data.fill(0xff);
            if io.port == COM1 + 5 {
                data[0] = 0x60; // transmitter empty
            } else if (io.port > COM1 && io.port < COM1 + 7) || io.port == RESET_PORT {
                data[0] = 0;
            }
        }
    }
    true
}

fn boot(arguments: &[String]) -> Result<(), Box<dyn Error>> {
    let guest = GuestMemoryMmap::<()>::from_ranges(&[(GuestAddress(0), 256 * MIB)])?;
    let mut vm = kvm::Vm::new()?;
    for (slot, region) in guest.iter().enumerate() {
        let host = guest.get_host_address(region.start_addr())?;
        // Safety: the memory outlives the VM.
        unsafe { vm.add_memory(slot as u32, region.start_addr().0, region.len(), host)? };
    }
    let command_line = arguments.get(2).map_or("console=ttyS0 reboot=k panic=-1 pci=off", String::as_str);
    let registers = load(&arguments[0], arguments.get(1).map(String::as_str), command_line, &guest)?;
    let mut vcpu = vm.create_vcpu()?;
    vcpu.enter_at(&registers)?;
    loop {
        match vcpu.run()? {
            kvm::Exit::Io(io) => {
                if !handle_io(io) {
                    return Ok(());
                }
            }
            kvm::Exit::Mmio { data, is_write } => {
                if !is_write {
                    data.fill(0xff) // no such device
                }
            }
            kvm::Exit::Other(reason) => return Err(format!("the guest died (KVM exit {reason})").into()),
        }
    }
}

fn main() {
    let arguments: Vec<String> = env::args().skip(1).collect();
    if arguments.is_empty() || arguments.len() > 3 {
        eprintln!("usage: vm-memory-monitor PREPARED-KERNEL [INITRD [COMMAND-LINE]]");
        exit(2);
    }
    if let Err(error) = boot(&arguments) {
        eprintln!("vm-memory-monitor: {}: {error}", arguments[0]);
        exit(1);
    }
}
