// SPDX-License-Identifier: Apache-2.0
//! Where the kernel goes, and in which order its functions lie.
use std::{
    fmt, io,
    os::raw::{c_int, c_void},
    panic::{catch_unwind, AssertUnwindSafe},
    ptr, slice,
};

use riffle_sys as sys;

use crate::{
    error::{call, Result},
    memory::Memory,
    plan::Plan,
};

/// How much is randomised; each mode includes those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mode {
    /// At its link addresses.
    Off,
    /// The physical base alone.
    Physical,
    /// Physical and virtual base.
    Kaslr,
    /// And the order of the kernel's functions.
    Fgkaslr,
}

impl Mode {
    fn raw(self) -> sys::riffle_mode {
        match self {
            Mode::Off => sys::RIFFLE_MODE_OFF,
            Mode::Physical => sys::RIFFLE_MODE_PHYSICAL,
            Mode::Kaslr => sys::RIFFLE_MODE_KASLR,
            Mode::Fgkaslr => sys::RIFFLE_MODE_FGKASLR,
        }
    }
}

/// What a layout randomises: a mode, and whether the kernel's sections also slide apart. A mode alone is one without slides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Randomise {
    /// From [`Mode::Kaslr`] up with slides.
    pub mode: Mode,
    /// Needs a plan with [`Plan::blocks`].
    pub slides: bool,
}

impl From<Mode> for Randomise {
    fn from(mode: Mode) -> Self {
        Randomise { mode, slides: false }
    }
}

/// From how many equally likely places a layout is drawn; this may be logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slots {
    /// Places in guest memory.
    pub physical: u64,
    /// Places in the kernel's address window; 1 when its virtual base is not randomised.
    pub virtual_: u64,
}

/// One layout, drawn for one guest; wiped when it is dropped.
pub struct Layout {
    raw: sys::riffle_layout,
    order: Vec<u16>,
}

// Safety: the pointer in it is to its own vector; after the draw it is read alone.
unsafe impl Send for Layout {}
unsafe impl Sync for Layout {}

type Fill<'f> = &'f mut dyn FnMut(&mut [u8]) -> io::Result<()>;

unsafe extern "C" fn fill(opaque: *mut c_void, buffer: *mut c_void, bytes: usize) -> c_int {
    let fill = &mut *opaque.cast::<Fill<'_>>();
    ptr::write_bytes(buffer.cast::<u8>(), 0, bytes);
    let buffer = slice::from_raw_parts_mut(buffer.cast(), bytes);
    matches!(catch_unwind(AssertUnwindSafe(|| fill(buffer))), Ok(Ok(()))).then_some(0).unwrap_or(-1)
}

impl Plan {
    /// Counts the places that [`Plan::draw`] draws from. Orders and gaps are not among them.
    pub fn slots(&self, memory: &Memory<'_>, how: impl Into<Randomise>) -> Result<Slots> {
        let how = how.into();
        let count = if how.slides { sys::riffle_layout_slots_slid } else { sys::riffle_layout_slots };
        let mut slots = sys::riffle_slots::default();
        // Safety: all are valid for the call.
        call(|error| unsafe { count(&mut slots, self.raw(), &memory.raw(), how.mode.raw(), error) })?;
        Ok(Slots { physical: slots.physical, virtual_: slots.virtual_ })
    }

    /// Draws one layout from the operating system's randomness.
    pub fn draw(&self, memory: &Memory<'_>, how: impl Into<Randomise>) -> Result<Layout> {
        self.draw_by(memory, how.into(), ptr::null())
    }

    /// Draws one from `fill`, whose bytes must be unpredictable for the guest.
    pub fn draw_from(
        &self,
        memory: &Memory<'_>,
        how: impl Into<Randomise>,
        mut fill_from: impl FnMut(&mut [u8]) -> io::Result<()>,
    ) -> Result<Layout> {
        let mut from: Fill<'_> = &mut fill_from;
        let random =
            sys::riffle_random { fill: Some(fill), opaque: (&mut from as *mut Fill<'_>).cast(), ..Default::default() };
        self.draw_by(memory, how.into(), &random)
    }

    fn draw_by(&self, memory: &Memory<'_>, how: Randomise, random: *const sys::riffle_random) -> Result<Layout> {
        let places = if how.mode == Mode::Fgkaslr { self.chunks() } else { 0 };
        let mut layout = Layout { raw: Default::default(), order: vec![0; places as usize] };
        if places > 0 {
            layout.raw.order = layout.order.as_mut_ptr();
            layout.raw.order_count = places;
        }
        if how.slides {
            // none would mean a layout without slides: let the library say why it refuses
            self.slots(memory, how)?;
            layout.raw.slide_count = self.blocks();
        }
        // Safety: the order is as long as said, and stays where it is when the layout is moved.
        call(|error| unsafe {
            sys::riffle_layout_draw(&mut layout.raw, self.raw(), &memory.raw(), how.mode.raw(), random, error)
        })?;
        Ok(layout)
    }
}

impl Layout {
    /// Guest-physical address of the kernel's first byte.
    pub fn physical_base(&self) -> u64 {
        self.raw.physical_base
    }

    /// Its virtual address.
    pub fn virtual_base(&self) -> u64 {
        self.raw.virtual_base
    }

    /// Which chunk comes at which place; empty unless functions are shuffled.
    pub fn order(&self) -> &[u16] {
        &self.order
    }

    /// How far each of the plan's blocks moves in addition to the bases; empty unless sections slide apart.
    pub fn slides(&self) -> &[u32] {
        &self.raw.slide[..self.raw.slide_count as usize]
    }

    pub(crate) fn raw(&self) -> &sys::riffle_layout {
        &self.raw
    }

    pub(crate) fn is_shuffled(&self) -> bool {
        self.raw.mode == sys::RIFFLE_MODE_FGKASLR
    }
}

impl Drop for Layout {
    fn drop(&mut self) {
        // Safety: the order is still there.
        unsafe { sys::riffle_layout_wipe(&mut self.raw) }
    }
}

impl fmt::Debug for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Layout").finish_non_exhaustive()
    }
}
