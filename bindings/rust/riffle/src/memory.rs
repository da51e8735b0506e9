// SPDX-License-Identifier: Apache-2.0
//! The guest's memory: its RAM, with what of it is taken.
use std::marker::PhantomData;

use riffle_sys as sys;

/// Is told which guest-physical ranges have been written.
type Dirty<'m> = Box<dyn Fn(u64, u64) + Send + Sync + 'm>;

/// All of a guest's RAM, laid out as the monitor likes, and the ranges that a kernel may not be put on.
#[derive(Default)]
pub struct Memory<'m> {
    ram: Vec<sys::riffle_ram>,
    reserved: Vec<sys::riffle_range>,
    dirty: Option<Dirty<'m>>,
    _memory: PhantomData<&'m mut [u8]>,
}

// Safety: it borrows RAM exclusively, or as a GuestMemory that may be shared.
unsafe impl Send for Memory<'_> {}
unsafe impl Sync for Memory<'_> {}

impl<'m> Memory<'m> {
    /// No RAM yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a stretch of RAM at a guest-physical address. Both are multiples of 4 KiB, or later calls fail.
    pub fn add(&mut self, address: u64, bytes: &'m mut [u8]) -> &mut Self {
        // Safety: borrowed exclusively as long as this lives.
        unsafe { self.add_raw(address, bytes.as_mut_ptr(), bytes.len() as u64) }
    }

    /// Adds a stretch of RAM that is mapped at `host`.
    ///
    /// # Safety
    /// `bytes` bytes from `host` may be written as long as this lives; what else uses them bears their changing.
    pub unsafe fn add_raw(&mut self, address: u64, host: *mut u8, bytes: u64) -> &mut Self {
        self.ram.push(sys::riffle_ram { address, bytes, host: host.cast() });
        self
    }

    /// Reserves a range: no kernel is put on it. Let none depend on a layout.
    pub fn reserve(&mut self, address: u64, bytes: u64) -> &mut Self {
        self.reserved.push(sys::riffle_range { address, bytes });
        self
    }

    /// The RAM of a rust-vmm monitor. What is written is marked in each region's dirty bitmap.
    #[cfg(feature = "vm-memory")]
    pub fn from_guest_memory<M>(memory: &'m M) -> Result<Self, vm_memory::GuestMemoryError>
    where
        M: vm_memory::GuestMemory + Sync,
    {
        use vm_memory::{Address, GuestMemoryRegion};

        let mut this = Self::new();
        for region in memory.iter() {
            let slice = region.as_volatile_slice()?;
            // Safety: a region is mapped as long as its memory is borrowed, and its users expect it to change.
            unsafe { this.add_raw(region.start_addr().raw_value(), slice.as_ptr(), region.len()) };
        }
        this.dirty = Some(Box::new(move |address, bytes| mark_dirty(memory, address, bytes)));
        Ok(this)
    }

    pub(crate) fn ram(&self) -> &[sys::riffle_ram] {
        &self.ram
    }

    /// Valid as long as this is not changed.
    pub(crate) fn raw(&self) -> sys::riffle_memory {
        sys::riffle_memory {
            ram: self.ram.as_ptr(),
            ram_count: self.ram.len(),
            reserved: self.reserved.as_ptr(),
            reserved_count: self.reserved.len(),
            ..Default::default()
        }
    }

    pub(crate) fn written(&self, address: u64, bytes: u64) {
        if let Some(dirty) = &self.dirty {
            dirty(address, bytes)
        }
    }
}

#[cfg(feature = "vm-memory")]
fn mark_dirty<M: vm_memory::GuestMemory>(memory: &M, address: u64, bytes: u64) {
    use vm_memory::{bitmap::Bitmap, Address, GuestMemoryRegion};

    let end = address.saturating_add(bytes);
    for region in memory.iter() {
        let start = region.start_addr().raw_value();
        let (from, to) = (address.max(start), end.min(start.saturating_add(region.len())));
        if from < to {
            region.bitmap().mark_dirty((from - start) as usize, (to - from) as usize);
        }
    }
}
