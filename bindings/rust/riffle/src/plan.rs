// SPDX-License-Identifier: Apache-2.0
//! A prepared kernel, opened and checked: what every boot starts from.
use std::{fmt, os::raw::c_char, pin::Pin};

use riffle_sys as sys;

use crate::{
    error::{call, Result},
    source::Source,
};

/// A checked plan and the source that its kernel is read from. Read-only: one serves any number of threads and guests.
pub struct Plan {
    raw: Pin<Box<sys::riffle_plan>>,
    source: Source,
}

// Safety: after it has been opened nothing changes a plan (riffle/riffle.h, "Threads").
unsafe impl Send for Plan {}
unsafe impl Sync for Plan {}

type Open = unsafe extern "C" fn(
    *mut sys::riffle_plan,
    *const sys::riffle_source,
    *mut sys::riffle_error,
) -> std::os::raw::c_int;

/// A text of the header, which is NUL-terminated within its bytes.
fn text(bytes: &[c_char]) -> &str {
    // Safety: c_char and u8 have one representation.
    let bytes: &[u8] = unsafe { std::slice::from_raw_parts(bytes.as_ptr().cast(), bytes.len()) };
    let end = bytes.iter().position(|&b| b == 0).unwrap_or(bytes.len());
    std::str::from_utf8(&bytes[..end]).unwrap_or("")
}

impl Plan {
    fn open_by(open: Open, source: Source) -> Result<Self> {
        let mut raw = Box::pin(sys::riffle_plan::init());
        // Safety: the plan is initialised, the source valid for the call.
        call(|error| unsafe { open(&mut *raw, source.raw(), error) })?;
        Ok(Plan { raw, source })
    }

    /// Reads the plan from its source, once, and checks it.
    pub fn open(source: Source) -> Result<Self> {
        Self::open_by(sys::riffle_plan_open, source)
    }

    /// The same without the part for shuffling, which is most of it: for [`Mode::Kaslr`](crate::Mode::Kaslr) at most.
    pub fn open_base(source: Source) -> Result<Self> {
        Self::open_by(sys::riffle_plan_open_base, source)
    }

    /// Is this the beginning of a prepared kernel? 8 bytes are enough.
    pub fn is_prepared(start: &[u8]) -> bool {
        // Safety: reads no more than it is told there is.
        unsafe { sys::riffle_plan_is_prepared(start.as_ptr().cast(), start.len()) != 0 }
    }

    /// The kernel's own bytes from `image_offset` on as they were linked.
    pub fn read(&self, image_offset: u64, buffer: &mut [u8]) -> Result<()> {
        // Safety: the buffer is as long as said.
        call(|error| unsafe {
            let to = buffer.as_mut_ptr().cast();
            sys::riffle_plan_read(self.raw(), self.source.raw(), image_offset, to, buffer.len(), error)
        })
    }

    /// The file's header (riffle/format.h).
    pub fn header(&self) -> &sys::riffle_header {
        // Safety: an open plan has one, for as long as it is open.
        unsafe { &*self.raw.header }
    }

    /// The kernel's version, `6.1.0-...`; empty when it does not tell.
    pub fn kernel_version(&self) -> &str {
        text(&self.header().kernel_version)
    }

    /// How many pieces can be shuffled; 0 when none can, or the plan was opened without that part.
    pub fn chunks(&self) -> u32 {
        self.raw.chunk_count
    }

    /// Why this kernel cannot be shuffled, in words; empty when it can.
    pub fn no_shuffle(&self) -> &str {
        text(&self.header().no_shuffle)
    }

    /// How many blocks the kernel's sections are in that can slide apart; 0 when they cannot, or the plan was opened without
    /// that part.
    pub fn blocks(&self) -> u32 {
        self.raw.block_count
    }

    /// By how many bytes slides make the kernel longer, at most.
    pub fn slides_most(&self) -> u32 {
        self.raw.slide_max
    }

    /// Why this kernel's sections cannot slide apart, in words; empty when they can.
    pub fn no_slides(&self) -> &str {
        match text(&self.header().no_slides) {
            "" => self.no_shuffle(),
            why => why,
        }
    }

    pub(crate) fn raw(&self) -> &sys::riffle_plan {
        &self.raw
    }

    pub(crate) fn source(&self) -> &Source {
        &self.source
    }
}

impl Drop for Plan {
    fn drop(&mut self) {
        // Safety: opened by riffle_plan_open(), and no reference into it is left.
        unsafe { sys::riffle_plan_close(&mut *self.raw) }
    }
}

impl fmt::Debug for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Plan").field("kernel_version", &self.kernel_version()).finish_non_exhaustive()
    }
}
