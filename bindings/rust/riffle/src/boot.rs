// SPDX-License-Identifier: Apache-2.0
//! What a kernel finds when it starts: zero page, tables, entry registers.
use std::{ffi::CString, ptr};

use riffle_sys as sys;

use crate::{
    error::{call, Error, Result},
    load::Loaded,
    memory::Memory,
    plan::Plan,
};

/// Registers of the first vCPU at the entry; those that it does not name are 0.
pub type Registers = sys::riffle_boot_registers;

/// A device that the ACPI tables announce.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// `LNRO0005` for virtio-mmio.
    pub hid: String,
    /// Guest-physical, not in RAM.
    pub address: u64,
    /// Not 0.
    pub bytes: u32,
    /// A pin of the IOAPIC: below 24.
    pub gsi: u32,
}

/// The machine as its monitor built it; riffle/boot.h says what each part means. `..Default::default()` leaves out what
/// there is not.
#[derive(Clone, Debug, Default)]
pub struct Machine {
    /// 1 to 32, with MP or ACPI tables.
    pub vcpus: u32,
    /// `sys::RIFFLE_MACHINE_*`
    pub flags: u32,
    /// `sys::RIFFLE_TABLES_*`; 0: all of them.
    pub tables: u32,
    /// The kernel's command line.
    pub command_line: String,
    /// Where the initrd is, by [`Machine::place_initrd`], and its bytes.
    pub initrd: Option<(u64, u64)>,
    /// Goes to setup_data; 32 bytes are what Linux expects.
    pub rng_seed: Vec<u8>,
    /// Announced by ACPI.
    pub devices: Vec<Device>,
    /// The monitor's own RSDP, without `RIFFLE_TABLES_ACPI`.
    pub rsdp_address: u64,
    /// ACPI's fixed registers; 0: hardware-reduced ACPI.
    pub pm_port: u16,
    /// ACPI's sleep control register; 0: none.
    pub sleep_control_port: u16,
    /// ACPI's reset register; 0: none.
    pub reset_port: u16,
    /// What the guest writes there.
    pub reset_value: u8,
    /// The generic event device's interrupt, with one of the two that follow; 0: none.
    pub event_gsi: u8,
    /// The VM generation id, which the monitor fills; 0: none.
    pub vmgenid_address: u32,
    /// The VMClock page, which the monitor fills; 0: none.
    pub vmclock_address: u32,
}

fn c_string(text: &str, field: &'static [u8]) -> Result<CString> {
    CString::new(text).map_err(|_| Error::new(sys::RIFFLE_ERR_ARGUMENT, 0, field, b"has a NUL in it\0"))
}

impl Machine {
    /// Calls `function` with this machine as the library wants it.
    fn with_raw<T>(&self, memory: &Memory<'_>, function: impl FnOnce(&sys::riffle_machine) -> T) -> Result<T> {
        let command_line = c_string(&self.command_line, b"command line\0")?;
        let hids = self.devices.iter().map(|d| c_string(&d.hid, b"device hid\0")).collect::<Result<Vec<_>>>()?;
        let devices: Vec<_> = self
            .devices
            .iter()
            .zip(&hids)
            .map(|(d, hid)| sys::riffle_boot_device {
                hid: hid.as_ptr(),
                address: d.address,
                bytes: d.bytes,
                gsi: d.gsi,
                ..Default::default()
            })
            .collect();
        let (initrd_address, initrd_bytes) = self.initrd.unwrap_or((0, 0));
        let raw = sys::riffle_machine {
            ram: memory.ram().as_ptr(),
            ram_count: memory.ram().len(),
            vcpus: self.vcpus,
            flags: self.flags,
            command_line: command_line.as_ptr(),
            initrd_address,
            initrd_bytes,
            rng_seed: if self.rng_seed.is_empty() { ptr::null() } else { self.rng_seed.as_ptr() },
            rng_seed_bytes: self.rng_seed.len(),
            devices: devices.as_ptr(),
            device_count: devices.len(),
            rsdp_address: self.rsdp_address,
            tables: self.tables,
            pm_port: self.pm_port,
            sleep_control_port: self.sleep_control_port,
            reset_port: self.reset_port,
            reset_value: self.reset_value,
            event_gsi: self.event_gsi,
            vmgenid_address: self.vmgenid_address,
            vmclock_address: self.vmclock_address,
            ..Default::default()
        };
        Ok(function(&raw))
    }

    /// Where an initrd of so many bytes goes; depends on sizes alone.
    pub fn place_initrd(&self, memory: &Memory<'_>, plan: Option<&Plan>, bytes: u64) -> Result<u64> {
        let mut address = 0;
        let plan = plan.map_or(ptr::null(), |p| p.raw() as *const _);
        self.with_raw(memory, |machine| {
            // Safety: all are valid for the call.
            call(|error| unsafe { sys::riffle_boot_place_initrd(&mut address, machine, plan, bytes, error) })
        })??;
        Ok(address)
    }

    /// Reserves what must survive until the kernel runs: the boot tables and the initrd. Before a layout is drawn.
    pub fn reserve(&self, memory: &mut Memory<'_>) -> Result<()> {
        let ranges = self.with_raw(memory, |machine| {
            let mut ranges = vec![sys::riffle_range::default(); 4];
            loop {
                // Safety: writes no more than there is room for.
                let needed = unsafe { sys::riffle_boot_reserved(machine, ranges.as_mut_ptr(), ranges.len()) };
                if needed <= ranges.len() {
                    ranges.truncate(needed);
                    return ranges;
                }
                ranges.resize(needed, Default::default());
            }
        })?;
        for range in ranges {
            memory.reserve(range.address, range.bytes);
        }
        Ok(())
    }

    /// Writes all that the kernel needs to start, below 1 MiB, and tells the registers to enter it with.
    pub fn write(&self, memory: &mut Memory<'_>, plan: &Plan, loaded: &Loaded) -> Result<Registers> {
        let mut registers = Registers::default();
        let result = self.with_raw(memory, |machine| {
            // Safety: all are valid for the call, and the memory is writable.
            call(|error| unsafe { sys::riffle_boot_write(&mut registers, machine, plan.raw(), loaded.raw(), error) })
        })?;
        memory.written(0, sys::RIFFLE_BOOT_LOW_END as u64);
        result.map(|()| registers)
    }
}

/// For a monitor with boot code of its own: the setup header for this kernel at this place, to be put at 0x1f1 of the zero
/// page. riffle/boot.h lists the fields that the monitor fills in then.
pub fn setup_header(plan: &Plan, loaded: &Loaded) -> Result<[u8; sys::RIFFLE_BOOT_SETUP_HEADER_BYTES as usize]> {
    let mut header = [0; sys::RIFFLE_BOOT_SETUP_HEADER_BYTES as usize];
    // Safety: the header has as many bytes as the library writes.
    call(|error| unsafe { sys::riffle_boot_setup_header(header.as_mut_ptr(), plan.raw(), loaded.raw(), error) })?;
    Ok(header)
}
